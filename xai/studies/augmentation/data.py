"""The pictures of the augmentation study: who may be trained on, who chooses, who tests, and what is generated.

The training pool is what the generators saw, so that real and generated images know the same; validation and test
images are what they did not see, which is checked and not taken on trust.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from torch import Tensor

from xai.data.drawn.synthetic import Drawing, render_arrays
from xai.data.spec import DataSet
from xai.data.split import stratified_split, subset
from xai.data.together import Together
from xai.errors import InputError
from xai.gan.images import Pictures, only_class, read_pictures, split_places
from xai.gan.sample import generate, truncated
from xai.gan.saved import Generator
from xai.training import Images
from xai.types import Run


@dataclass(frozen=True, eq=False)
class Sized(Images):
    """Images (N,3,S,S) that are enlarged to `side` when they are read, as a classifier sees them (bilinear)."""

    side: int = 0

    def read(self, batches: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """For each of `batches` its pixels (n,3,side,side) uint8."""
        for places in batches:
            yield enlarged(self.pixels[torch.as_tensor(places, dtype=torch.int64)], self.side)


def enlarged(pixels: Tensor, side: int) -> Tensor:
    """uint8 (N,3,S,S) -> (N,3,side,side) uint8, bilinear and antialiased; itself at its own size."""
    if not side or pixels.shape[-1] == side:
        return pixels
    made = F.interpolate(pixels.float(), (side, side), mode="bilinear", align_corners=False, antialias=True)
    return made.round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True, eq=False)
class Shares:
    """Real images at the study's size: `pool` to train on, `validation` to choose on, `test` to measure on.

    unseen: one sentence on what was checked about them and the generators.
    """

    pool: Pictures
    validation: Pictures
    test: Pictures
    unseen: str

    def masks(self, data: DataSet, places: Sequence[int]) -> Tensor | None:
        """The objects' masks (N,S,S) bool of test images at `places`; None where they are not all known."""
        by_key = {item.key: item for item in data.items}
        size = int(self.test.images.shape[-1])
        items = [by_key[self.test.keys[place]] for place in places]
        if all(isinstance(item.open, Drawing) for item in items):  # drawn at this size, as the images were
            drawn = render_arrays(dataclasses.replace(data, items=tuple(items)), size)
            return torch.from_numpy(drawn.masks)
        found = []
        for item in items:
            opened = item.open_mask
            if opened is None:
                return None
            mask = TF.resize(opened().convert("L"), [size], antialias=True)
            found.append(TF.pil_to_tensor(TF.center_crop(mask, [size, size]))[0] > 127)
        return torch.stack(found) if found else None


def read_shares(
    data: DataSet,
    generators: Sequence[Generator],
    size: int,
    share: float,
    split_seed: int,
    validation: float,
    run: Run,
) -> Shares:
    """The three shares of a data set. `share` and `split_seed` cut it where there is no generator that has.

    Raises `InputError` where `split_shares` does, where a generator was trained on other pixels, and where a test image
    is also a training image.
    """
    places = split_shares(data, generators, share, split_seed, validation)
    everything = read_pictures(data, tuple(range(len(data))), size, run)
    for made in generators:
        _check_seen(data, made, everything)
    pool, choosing, test = (_taken(everything, part) for part in places)
    _refuse_doubles(pool, choosing, test)
    return Shares(pool, choosing, test, _sentence(generators, pool, test) + _copies(len(data) - sum(map(len, places))))


def split_shares(
    data: DataSet, generators: Sequence[Generator], share: float, split_seed: int, validation: float
) -> tuple[list[int], list[int], list[int]]:
    """Places in `data` of the pool, the validation and the test images; no image is read.

    validation: share of the images outside the pool; folders called validation and test are taken as they are. An
    image that belongs together with one of the pool is in no share. Raises `InputError` where a generator was trained
    on other data, and where nothing is left to choose or to test by.
    """
    if generators:
        seen = sorted({place for made in generators for place in _seen(data, made)})
    else:
        seen = list(split_places(data, share, split_seed)[0])
    known = set(seen)
    shown = {data.items[place].together for place in known} - {""}
    rest = [place for place, item in enumerate(data.items) if place not in known and item.together not in shown]
    choosing, test = ([place for place in rest if data.items[place].part == part] for part in ("validation", "test"))
    if not (choosing and test):
        try:
            parts = stratified_split(subset(data, rest), validation, split_seed)
        except InputError as error:
            raise InputError(
                f"the images that no generator saw cannot be split for choosing and testing: {error}"
            ) from error
        choosing, test = ([rest[i] for i in part] for part in (parts.train, parts.validation))
    for name, part in (("training", seen), ("validation", choosing), ("test", test)):
        lacking = set(range(len(data.classes))) - {data.items[place].label for place in part}
        if lacking:
            raise InputError(
                f"class {data.classes[min(lacking)]!r} has no {name} image; give a generator that knows it."
            )
    return seen, choosing, test


def _sentence(generators: Sequence[Generator], pool: Pictures, test: Pictures) -> str:
    if not generators:
        return (
            f"None of the {len(test.keys)} test images equals a training or validation image, compared pixel by pixel."
        )
    return (
        f"No generator saw any of the {len(test.keys)} test images: its {len(pool.keys)} training images were read "
        "again and have the fingerprint that it was saved with; keys are disjoint, and no images of two shares are "
        "equal pixel by pixel."
    )


def _copies(count: int) -> str:
    if not count:
        return ""
    one = count == 1
    show = "image that shows" if one else "images that show"
    return f" {count} {show} the same picture as a training image {'is' if one else 'are'} left out."


def _seen(data: DataSet, made: Generator) -> list[int]:
    """Places in `data` of the images that a generator was trained on, by its word; raises where that was other data."""
    facts = made.facts
    only = str(facts.get("only", ""))
    part = only_class(data, only)
    places = [place for place, item in enumerate(data.items) if not only or data.classes[item.label or 0] == only]
    if facts.get("data_fingerprint") != part.fingerprint:
        raise InputError(
            f"the generator was trained on {facts.get('data_name') or 'data that it does not name'} (fingerprint "
            f"{facts.get('data_fingerprint') or 'unknown'}), not on {data.name} ({data.fingerprint}); whether it saw "
            "the test images cannot be told. Give the data set that it was trained on, with the same parameters."
        )
    train, _ = split_places(
        Together.of(facts).mark(part), float(facts.get("share", 0)), int(facts.get("split_seed", 0))
    )
    return [places[place] for place in train]


def _check_seen(data: DataSet, made: Generator, everything: Pictures) -> None:
    """Raise `InputError` where the images that a generator was trained on have changed since."""
    facts, found = made.facts, _seen(data, made)
    again = _taken(everything, found)
    if facts.get("only"):
        again = dataclasses.replace(again, labels=torch.zeros_like(again.labels))
    if again.fingerprint != facts.get("train_fingerprint"):
        raise InputError(
            f"the {len(found)} images that the generator should have seen have the fingerprint {again.fingerprint}, "
            f"not {facts.get('train_fingerprint') or 'one that it was saved with'}; the data has changed since, so "
            "which images it saw cannot be told. Train a generator anew."
        )


def _taken(everything: Pictures, places: Sequence[int]) -> Pictures:
    at = torch.as_tensor(list(places), dtype=torch.int64)
    keys = tuple(everything.keys[place] for place in places)
    return Pictures(everything.images[at], everything.labels[at], keys, everything.classes)


def _refuse_doubles(pool: Pictures, validation: Pictures, test: Pictures) -> None:
    shares = {"training": pool, "validation": validation, "test": test}
    seen = {
        name: {_digest(image): key for image, key in zip(each.images, each.keys, strict=True)}
        for name, each in shares.items()
    }
    for name, other in (("test", "training"), ("test", "validation"), ("validation", "training")):
        for digest, key in seen[name].items():
            if digest in seen[other]:
                raise InputError(
                    f"the {name} image {key} equals the {other} image {seen[other][digest]}, pixel by pixel; take one "
                    "of them out of the data and start again."
                )


def _digest(image: Tensor) -> bytes:
    return hashlib.sha256(image.numpy().tobytes()).digest()


def check_generators(generators: Sequence[Generator], classes: Sequence[str]) -> int:
    """The side of their images. Raises `InputError` where sizes differ, or classes are missing or unknown."""
    sizes = sorted({made.settings.size for made in generators})
    if len(sizes) > 1:
        raise InputError(f"the generators draw images of {sizes[0]} and {sizes[1]} px; give generators of one size.")
    known = {name for made in generators for name in made.names}
    missing = [name for name in classes if name not in known]
    if missing:
        raise InputError(
            f"no generator draws class {missing[0]!r}; give one that was trained with all classes, or one for each."
        )
    return sizes[0]


def real_share(pool: Pictures, percent: int, run: Run) -> Images:
    """`percent` of each class of the pool, drawn by the run's seed; smaller shares lie within larger ones."""
    chosen: list[int] = []
    for label in torch.unique(pool.labels).tolist():
        places = torch.nonzero(pool.labels == label)[:, 0]
        order = torch.randperm(len(places), generator=run.generator("real", label))
        count = max(1, int(len(places) * percent / 100 + 0.5))
        chosen += places[order[:count]].tolist()
    at = torch.tensor(sorted(chosen), dtype=torch.int64)
    return Images(pool.images[at], pool.labels[at])


def synthetic_labels(real: Tensor, count: int, run: Run) -> Tensor:
    """Labels of `count` generated images, in the proportions of the real ones; fewer are the beginning of more."""
    order = torch.cat(
        [torch.randperm(len(real), generator=run.generator("labels", turn)) for turn in range(-(-count // len(real)))]
    )
    return real[order[:count]]


def synthesise(
    generators: Sequence[Generator],
    classes: Sequence[str],
    labels: Tensor,
    truncation: float | None,
    run: Run,
) -> Images:
    """One generated image for each label; z is drawn by the run's seed, the same for the first n of any number."""
    of_class: Mapping[str, tuple[Generator, int]] = {
        name: (made, index) for made in reversed(generators) for index, name in enumerate(made.names)
    }
    width = max(made.settings.nz for made in generators)
    drawn = [torch.randn(width, generator=run.generator("z", place)) for place in range(len(labels))]
    z = truncated(torch.stack(drawn), truncation)
    size = generators[0].settings.size
    pixels = torch.empty(len(labels), 3, size, size, dtype=torch.uint8)
    for index, name in enumerate(classes):
        at = torch.nonzero(labels == index)[:, 0]
        made, own = of_class[name]
        if len(at):
            images = generate(made, z[at][:, : made.settings.nz], torch.full((len(at),), own), run)
            pixels[at] = (images * 255).round().to(torch.uint8)
    return Images(pixels, labels.clone())
