"""Several processes on one piece of work, as torchrun starts them; alone it is a team of one."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from xai.errors import InputError
from xai.settings import resolve_device

PATIENCE = timedelta(days=7)
"""How long processes wait for one another; one that dies ends the wait at once."""


@dataclass(frozen=True)
class Team:
    """Which of how many processes this is; alone it is 0 of 1."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @classmethod
    def of_environment(cls) -> Team:
        """As torchrun says in RANK, WORLD_SIZE and LOCAL_RANK."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        rank, size, local = (int(os.environ.get(name, default)) for name, default in zip(names, "010", strict=True))
        return cls(rank, size, local)

    def device(self, name: str) -> torch.device:
        """Where this process computes: of several on GPUs that nobody has numbered, each has its own."""
        said = (name == "auto" and os.environ.get("XAI_DEVICE")) or name
        chosen = resolve_device(name)
        own = self.size > 1 and chosen.type == "cuda" and said in ("auto", "cuda")
        return resolve_device(f"cuda:{self.local}") if own else chosen

    @contextmanager
    def together(self, backend: str = "gloo") -> Iterator[None]:
        """Within it the processes can wait for one another; with gloo no device is involved.

        They leave together: one that ended first would close the connections on which the others' threads still read.
        """
        if self.size == 1:
            yield
            return
        dist.init_process_group(backend, timeout=PATIENCE)
        try:
            yield
            self.wait()
        finally:
            dist.destroy_process_group()
            gc.collect()  # what is distributed holds the group's threads, which must not outlive the interpreter

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()

    def agree(self, refusal: str) -> None:
        """Raise `InputError` everywhere if rank 0 refuses ("" is no refusal); the others' word does not count."""
        shared = [refusal]
        if self.size > 1:
            dist.broadcast_object_list(shared, src=0)
        if shared[0]:
            raise InputError(str(shared[0]))
