"""What differs between kinds of devices: float64, memory layout, caches, random states, and how they run out of memory.

The kinds that are not the CPU are in `KINDS`; everything else asks the functions here and names no kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Kind:
    """What a kind of device can do.

    float64: whether it computes in double precision. channels_last: whether convolutions run in that memory format.
    """

    title: str
    float64: bool = True
    channels_last: bool = True


KINDS = {
    "cuda": Kind("CUDA"),
    # torch's batch norm gives wrong gradients there for channels_last maps (pytorch issue 175189), without an error.
    "mps": Kind("MPS", float64=False, channels_last=False),
}
"""Kinds of devices besides the CPU, by torch's name for them."""

CPU = Kind("CPU")


def kind_of(device: torch.device) -> Kind:
    """What the device can do."""
    return KINDS.get(device.type, CPU)


def exact_device(device: torch.device) -> torch.device:
    """Where float64 work on numbers of `device` is done: there, or on the CPU if the device has no float64."""
    return device if kind_of(device).float64 else torch.device("cpu")


def double(values: Tensor) -> Tensor:
    """`values` in float64, on `exact_device` of theirs."""
    return values.to(exact_device(values.device)).double()


def memory_format(device: torch.device) -> torch.memory_format:
    """How maps (N,C,H,W) lie in memory: channels_last, which is faster, where the device computes right in it."""
    return torch.channels_last if kind_of(device).channels_last else torch.contiguous_format


def empty_cache(device: torch.device) -> None:
    """Give back the memory that torch holds on the device without using it."""
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether the device ran out of memory. MPS raises a plain `RuntimeError` for it."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error)
    )


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Within it torch's global generators of the CPU and the device begin at `seed`; afterwards they are put back.

    Dropout draws from them, and so do the initialisers of layers.
    """
    own = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices=own, device_type="cuda" if not own else device.type):
        torch.manual_seed(seed)
        yield
