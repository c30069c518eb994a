"""Makes the command `count` known to processes that a test starts, and ends those that it leaves behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from xai.runs.control import Record, record
from xai.types import Run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

PATIENCE = 60.0
"""Seconds after which a run that a test waits for has hung."""


@contextmanager
def offered(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Path]:
    """`count` works in processes started within, their runs are in the folder given, and none outlives the block."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(HERE)]))
    monkeypatch.setenv("XAI_RUNS", str(folder / "runs"))
    monkeypatch.setenv("XAI_CACHE", str(folder / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        yield folder / "runs"
    finally:
        for path in (folder / "runs").glob("*/pid"):
            if record(path.parent).active:
                kill(path.parent)


def kill(path: Path) -> None:
    """End the process of a run as `kill -9` does."""
    with suppress(OSError, ValueError):
        os.kill(int((path / "pid").read_text()), signal.SIGKILL)


def wait_for(path: Path, reached: Callable[[Record], bool]) -> Record:
    """The run once it has come so far; fails where it has ended before, or hangs."""
    until = time.monotonic() + PATIENCE
    while not reached(found := record(path)):
        hung = not found.active or time.monotonic() > until
        assert not hung, f"{found.status}; {(path / 'log.txt').read_text()}"
        time.sleep(0.02)
    return found


def at(step: int) -> Callable[[Record], bool]:
    """Whether a run works, and has done so many steps."""
    return lambda found: found.status.state == "running" and found.status.done == step


def ended(found: Record) -> bool:
    return not found.active


def total(steps: int, seed: int = 0) -> float:
    """What `count` must arrive at, drawn at once."""
    generator = Run(seed=seed).generator("count")
    result = 0.0
    for _ in range(steps):
        result += float(torch.rand(1, generator=generator, dtype=torch.float64))
    return result
