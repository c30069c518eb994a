"""Pictures for a generator: a data set's training share in memory, the held-out share apart, and who is in which."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import torch
import torchvision.transforms.functional as TF
from torch import Tensor

from xai.data.drawn.synthetic import Drawing, render_arrays
from xai.data.spec import DataSet, Item
from xai.data.split import given_split, stratified_split, unseen
from xai.errors import ImageError, InputError
from xai.settings import check_memory
from xai.types import Run
from xai.words import counted

SHARE = 0.7
"""Share of each class that a generator may see; the study's 70/30."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images (N,3,S,S) uint8 with labels (N,) int64 and their keys in the data set, in its order.

    enlarged: how many of them were smaller than S.
    """

    images: Tensor
    labels: Tensor
    keys: tuple[str, ...]
    classes: tuple[str, ...]
    enlarged: int = 0

    @property
    def fingerprint(self) -> str:
        """16 hex digits over pixels, labels and keys."""
        total = hashlib.sha256("\n".join(self.keys).encode(errors="surrogateescape"))
        for tensor in (self.images, self.labels):
            total.update(tensor.contiguous().numpy().tobytes())
        return total.hexdigest()[:16]

    @property
    def counts(self) -> list[int]:
        """How many images each class has."""
        return torch.bincount(self.labels, minlength=len(self.classes)).tolist()

    def pixels(self) -> Tensor:
        """(N,3,S,S) float32 in [0, 1]."""
        return self.images.float() / 255


@dataclass(frozen=True, eq=False)
class Shares:
    """What the generator is trained on, and what it never sees."""

    train: Pictures
    held_out: Pictures

    def unlabelled(self) -> Shares:
        """The same images as one class, as a generator has them that is told none, in an order drawn once for all.

        Distances within a class are of its first images; in the data's order those are all of the first class.
        """
        if len(self.train.classes) == 1:
            return self
        return Shares(_unlabelled(self.train), _unlabelled(self.held_out))


def _unlabelled(part: Pictures) -> Pictures:
    order = torch.randperm(len(part.keys), generator=torch.Generator().manual_seed(0))
    keys = tuple(part.keys[place] for place in order.tolist())
    return dataclasses.replace(
        part, images=part.images[order], labels=torch.zeros_like(part.labels), keys=keys, classes=()
    )


def read_pictures(
    data: DataSet, places: tuple[int, ...], size: int, run: Run, note: str = "reading images"
) -> Pictures:
    """The images at `places`, the short side resized to `size` (bilinear, antialiased), the middle cut out.

    Generated ones are drawn at that size instead. Raises `InputError` where one cannot be read: a training must know
    what it is trained on; and before any is read where they do not fit the memory.
    """
    items = [data.items[place] for place in places]
    need = 2 * len(items) * 3 * size * size  # bytes, and once more while they are joined
    check_memory(need, f"{counted(len(items), 'image')} at {size} x {size} px", "give fewer, or a smaller size")
    labels = torch.tensor([0 if item.label is None else item.label for item in items], dtype=torch.int64)
    keys = tuple(item.key for item in items)
    if all(isinstance(item.open, Drawing) for item in items):
        drawn = render_arrays(data, size, places, run).images
        return Pictures(torch.from_numpy(drawn).permute(0, 3, 1, 2).contiguous(), labels, keys, data.classes)
    images, enlarged = [], 0
    for done, item in enumerate(items):
        image, small = _one(item, size)
        images.append(image)
        enlarged += small
        run.report(done + 1, len(items), note)
    return Pictures(torch.stack(images), labels, keys, data.classes, enlarged)


def _one(item: Item, size: int) -> tuple[Tensor, bool]:
    """The pixels, and whether the image was smaller than that."""
    try:
        image = item.open()
    except ImageError as error:
        raise InputError(f"{item.key} cannot be read: {error} Take it out of the data and start again.") from error
    resized = TF.resize(image.convert("RGB"), [size], antialias=True)
    return TF.pil_to_tensor(TF.center_crop(resized, [size, size])), min(image.size) < size


def split_places(data: DataSet, share: float = SHARE, seed: int = 0) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(training, held-out) positions: `share` of each class, drawn by `seed`; without labels, of all images.

    Folders called train, validation and test are taken as they are, the last two together as held out, without those
    that belong together with a training image; else images that belong together stay on one side. The augmentation
    study takes the same split, so that none of its test images was ever seen by the generator. Raises `InputError` for
    a share or a class that cannot be split.
    """
    given = given_split(data)
    if given is not None:
        return given.train, unseen(data, given.train, sorted((*given.validation, *given.test)))
    if data.classes:
        split = stratified_split(data, share, seed)
        return split.train, split.validation
    if not 0 < share < 1 or len(data) < 2:
        raise InputError(
            f"{counted(len(data), 'image')} cannot be split with a share of {share:g}; give 2 or more, and "
            "a share between 0 and 1."
        )
    if any(item.together for item in data.items):
        one = dataclasses.replace(data, items=tuple(dataclasses.replace(each, label=0) for each in data.items))
        split = stratified_split(dataclasses.replace(one, classes=("all",)), share, seed)
        return split.train, split.validation
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()
    count = min(max(1, int(share * len(data) + 0.5)), len(data) - 1)
    return tuple(sorted(order[:count])), tuple(sorted(order[count:]))


def check_held_out(count: int) -> None:
    """Raise `InputError` where too few images are held out for samples to be judged by."""
    if count < 2:
        raise InputError(
            f"{counted(count, 'image is', 'images are')} held out, too few to judge samples by; give more images "
            "or a smaller share."
        )


def only_class(data: DataSet, name: str) -> DataSet:
    """The images of one class alone, as a data set of that class; all of them for "". Raises `InputError`."""
    if not name:
        return data
    if name not in data.classes:
        raise InputError(f"class {name!r} is not in {data.name}; it has {', '.join(data.classes) or 'none'}.")
    index = data.classes.index(name)
    items = tuple(dataclasses.replace(item, label=0) for item in data.items if item.label == index)
    return dataclasses.replace(data, items=items, classes=(name,))


def read_shares(data: DataSet, size: int, run: Run, share: float = SHARE, seed: int = 0) -> Shares:
    """Both shares of the data set at `size`; see `split_places`."""
    train, held = split_places(data, share, seed)
    total = len(data)
    return Shares(
        read_pictures(data, train, size, run.part(0, len(train), total), "reading images"),
        read_pictures(data, held, size, run.part(len(train), len(held), total), "reading images"),
    )


def labels_like(train: Tensor, count: int) -> Tensor:
    """`count` labels in the proportions of those of the training images (N,), dealt out evenly.

    Each place goes to the class that is furthest behind its share, of equal ones the first: classes of one size come in
    turn. Otherwise a rare class would be as frequent among the samples as any, which every distance to real images
    would charge the generator for.
    """
    sizes = torch.bincount(train).tolist()
    dealt = [0] * len(sizes)
    labels = []
    for place in range(1, count + 1):
        behind = [size * place - had * len(train) for size, had in zip(sizes, dealt, strict=True)]
        labels.append(behind.index(max(behind)))
        dealt[labels[-1]] += 1
    return torch.tensor(labels, dtype=torch.int64)
