"""Timing side by side: repetitions interleaved (A B C A B C ...), medians, wall and processor time.

A shared machine's speed drifts; interleaving lets every candidate meet the same drift, so that ratios hold where
absolute times do not. On a CUDA device the work is finished before the clock is read.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Medians over the repetitions, in seconds: `wall` on the clock, `cpu` summed over the process's threads."""

    wall: float
    cpu: float

    def over(self, floor: Timing) -> float:
        """Wall time as a ratio to `floor`."""
        return self.wall / floor.wall

    def cpu_over(self, floor: Timing) -> float:
        """Processor time as a ratio to `floor`."""
        return self.cpu / floor.cpu


def synchronise() -> None:
    """Wait until the CUDA device has finished, where one is in use."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def once(work: Callable[[], object]) -> Timing:
    """One call of `work`, timed; the garbage of earlier calls is collected before, not during."""
    gc.collect()
    synchronise()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    synchronise()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(fns: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 1) -> dict[str, Timing]:
    """The median `Timing` of each of `fns` over `repeats` rounds, each round calling all of them in order.

    `warmup` rounds come first and are not counted. Raises `ValueError` for no repetition.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}; give at least 1.")
    for _ in range(warmup):
        for work in fns.values():
            work()
    taken: dict[str, list[Timing]] = {name: [] for name in fns}
    for _ in range(repeats):
        for name, work in fns.items():
            taken[name].append(once(work))
    return {
        name: Timing(statistics.median(t.wall for t in times), statistics.median(t.cpu for t in times))
        for name, times in taken.items()
    }
