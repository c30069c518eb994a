"""Many forward passes in full batches; a batch that does not fit is halved, said, and the work goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from xai.types import Run

T = TypeVar("T")

DEFAULT_BATCH = {"cpu": 16, "cuda": 128}
"""Images a forward pass, by device type."""


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
        except torch.OutOfMemoryError:
            if stop - start == 1:
                raise
            size = max(1, (stop - start) // 2)
            torch.cuda.empty_cache()
            note = f"{note.split(' (')[0]} (batches of {size}: memory is short)"
            continue
        yield start, stop, result
        start = stop
        run.report(start, total, note)
