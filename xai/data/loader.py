"""Reading ahead: images decoded and preprocessed by worker processes or threads while the device works."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from xai.data.spec import Item, Problem
from xai.errors import XaiError
from xai.models.classifier import Classifier, InputModel, Preset
from xai.params import check_between

AHEAD = 2
"""Batches that wait decoded, for each worker."""

Levels = NDArray[np.uint8]
View = tuple[Preset, tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one batch, in order. `items` are those that could be decoded, `problems` the others.

    levels: by view (preset and input size), what a classifier with that view sees, (N,3,H,W) uint8. masks: by view,
    (N,H,W) bool, where every item has a mask.
    """

    index: int
    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    levels: Mapping[View, Levels]
    masks: Mapping[View, NDArray[np.bool_]]

    def pixels(self, classifier: Classifier) -> Tensor:
        """x (N,3,H,W) float32 in [0, 1], equal to `classifier.preprocess` of the images."""
        return torch.from_numpy(self.levels[view_of(classifier)]).float() / 255

    def mask(self, classifier: Classifier) -> Tensor | None:
        """The objects' masks (N,H,W) as the classifier sees them, or None where one is missing."""
        found = self.masks.get(view_of(classifier))
        return None if found is None else torch.from_numpy(found)


def view_of(classifier: Classifier) -> View:
    """What two classifiers share if they see the same pixels."""
    return classifier.preset, classifier.input_size


MOST_WORKERS = 64
"""Processes that may decode."""


def check_workers(workers: int | None) -> None:
    """Raise `InputError` for fewer than none or more than `MOST_WORKERS`; None, as many as fit the device, fits."""
    if workers is not None:
        check_between("workers", workers, 0, MOST_WORKERS)


def read_batches(
    items: Sequence[Item],
    batches: Sequence[Sequence[int]],
    classifiers: Sequence[Classifier],
    view: str = "crop",
    workers: int = 0,
) -> Iterator[Batch]:
    """For each of `batches` (positions in `items`), its images as each of `classifiers` sees them, in order.

    An image that cannot be decoded becomes a problem of its batch; the others go on. workers: processes that decode,
    each at most `AHEAD` batches ahead; 0 decodes in two threads of this process.
    """
    decoder = _Decoder(items, batches, classifiers, view)
    if workers == 0:
        return _in_threads(decoder)
    # An own generator: DataLoader would otherwise draw from torch's global one. Arrays, not tensors, come back, so that
    # no shared memory is needed, which containers keep small.
    loader: DataLoader[Any] = DataLoader(
        decoder,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
    )
    return iter(loader)


def _as_it_is(batch: Any) -> Any:
    return batch


class _Decoder(Dataset[Batch]):
    """Batch number -> Batch. Picklable: classifiers are kept without their networks."""

    def __init__(
        self, items: Sequence[Item], batches: Sequence[Sequence[int]], classifiers: Sequence[Classifier], view: str
    ) -> None:
        self.items = items
        self.batches = batches
        self.view = view
        self.sights = {view_of(each): _without_network(each) for each in classifiers}

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.join(index, [self.decode(place) for place in self.batches[index]])

    def decode(self, place: int) -> tuple[Item, dict[View, Levels], dict[View, Levels]] | Problem:
        """One image, and its mask if it has one, as every view sees it; or what is wrong with it."""
        item = self.items[place]
        try:
            image = item.open()
            masks = self._seen(item.open_mask().convert("RGB")) if item.open_mask else {}
            return item, self._seen(image), masks
        except XaiError as error:
            return Problem(item.key, str(error))

    def _seen(self, image: Image.Image) -> dict[View, Levels]:
        return {
            key: (sight.preprocess(image, self.view)[0] * 255).round().to(torch.uint8).numpy()
            for key, sight in self.sights.items()
        }

    def join(self, index: int, found: Sequence[Any]) -> Batch:
        """The batch of what `decode` gave."""
        good = [each for each in found if not isinstance(each, Problem)]
        levels = {key: np.stack([each[1][key] for each in good]) for key in self.sights} if good else {}
        masked = bool(good) and all(each[2] for each in good)
        masks = {key: np.stack([each[2][key][0] for each in good]) > 127 for key in self.sights} if masked else {}
        problems = tuple(each for each in found if isinstance(each, Problem))
        return Batch(index, tuple(each[0] for each in good), problems, levels, masks)


def _without_network(classifier: Classifier) -> Classifier:
    """A classifier that can only preprocess: light, and picklable for processes that are not forked."""
    preset = classifier.preset
    empty = InputModel(nn.Identity(), preset.mean, preset.std)
    return dataclasses.replace(classifier, module=empty, labels=(), _lock=None, _memo={})


def _in_threads(decoder: _Decoder) -> Iterator[Batch]:
    with ThreadPoolExecutor(2, thread_name_prefix="decode") as pool:
        waiting: deque[Any] = deque()
        try:
            for index in range(len(decoder) + AHEAD):
                if index < len(decoder):
                    waiting.append([pool.submit(decoder.decode, place) for place in decoder.batches[index]])
                if index >= AHEAD:
                    yield decoder.join(index - AHEAD, [each.result() for each in waiting.popleft()])
        finally:
            pool.shutdown(cancel_futures=True)
