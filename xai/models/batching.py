"""Many forward passes in full batches; a batch that does not fit is halved, said, and the work goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from xai.devices import empty_cache, out_of_memory
from xai.params import check_between
from xai.types import Run

T = TypeVar("T")

DEFAULT_BATCH = {"cpu": 16, "cuda": 128}
"""Images a forward pass, by device type."""

MOST = {"cpu": 256}
"""Images that may go through a network together, by device type: on a CPU more take memory and no less time."""

MOST_ELSEWHERE = 4096
"""The same on devices that say when their memory is full; there a batch is halved."""


def check_batch(batch: int | None, device: torch.device) -> None:
    """Raise `InputError` for a batch of no image, or of more than fit; None, the device's usual batch, fits."""
    if batch is not None:
        check_between("batch", batch, 1, MOST.get(device.type, MOST_ELSEWHERE))


def in_batches(
    work: Callable[[int, int], T], total: int, run: Run, note: str = "", size: int | None = None
) -> Iterator[tuple[int, int, T]]:
    """Yield (start, stop, work(start, stop)) over 0..total in batches, reporting after each.

    `work` must be repeatable: where the device runs out of memory, the batch is halved and tried again; the progress
    note says so. Raises the device's error when a batch of one does not fit.
    """
    size = size or DEFAULT_BATCH.get(run.device.type, 16)
    start = 0
    while start < total:
        stop = min(start + size, total)
        try:
            result = work(start, stop)
        except RuntimeError as error:
            if stop - start == 1 or not out_of_memory(error):
                raise
            size = max(1, (stop - start) // 2)
            empty_cache(run.device)
            note = f"{note.split(' (')[0]} (batches of {size}: memory is short)"
            continue
        yield start, stop, result
        start = stop
        run.report(start, total, note)
