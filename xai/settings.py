"""Where things are and on what they run; read from the environment once per call, never cached.

`XAI_DEVICE` (auto, cpu, cuda, cuda:N), `XAI_RUNS` (run folders, default `runs`), `XAI_CACHE` (default
`~/.cache/olhar`), `TORCH_HOME` (torchvision's own weight folder).
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from xai.errors import InputError

ASSETS = Path(__file__).resolve().parent.parent / "assets"

MAX_PIXELS = 64_000_000
"""Largest image, in pixels, that is decoded (width x height, checked before decoding)."""

MAX_UPLOAD_BYTES = 64 * 1024 * 1024
"""Largest single image file, in bytes."""


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """The device to run on: `auto` takes `XAI_DEVICE`, else CUDA where there is one, else the CPU.

    "cuda" is the current CUDA device, with its number. Raises `InputError` for a device that is not known or that this
    machine lacks; there is no silent fallback.
    """
    name, what = str(device), "device"
    if name == "auto" and os.environ.get("XAI_DEVICE"):
        name, what = os.environ["XAI_DEVICE"], "XAI_DEVICE"
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"{what} {name!r} is not known; use auto, cpu, cuda or cuda:N.") from error
    if chosen.type == "cpu":
        return torch.device("cpu")
    if chosen.type != "cuda":
        raise InputError(f"{what} {name!r} is not supported; use auto, cpu, cuda or cuda:N.")
    count = torch.cuda.device_count()
    if (chosen.index or 0) >= count:
        raise InputError(f"{what} {name!r} is not on this machine ({count} CUDA devices); use auto or cpu.")
    return torch.device("cuda", torch.cuda.current_device() if chosen.index is None else chosen.index)


def free_memory() -> int | None:
    """Bytes of main memory that the machine could still give; None where the system does not say (it is not Linux).

    A limit of this process's own, as a container has, is not looked at.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if found is None else 1024 * int(found)


def check_memory(need: int, what: str, instead: str) -> None:
    """Raise `InputError` where `what` needs more bytes of main memory than are free; instead: what to do then."""
    free = free_memory()
    if free is not None and need > free:
        raise InputError(
            f"{what} need {need / 2**30:.1f} GB of memory, of which {free / 2**30:.1f} GB are free; {instead}."
        )


def runs_dir() -> Path:
    """Folder of run folders (`XAI_RUNS`, default `runs` in the working directory)."""
    return Path(os.environ.get("XAI_RUNS") or "runs")


def cache_dir() -> Path:
    """Folder for what can be made again (`XAI_CACHE`, default `~/.cache/olhar`)."""
    return Path(os.environ.get("XAI_CACHE") or Path.home() / ".cache" / "olhar")


def weights_dir() -> Path:
    """torchvision's weight folder: `$TORCH_HOME/hub/checkpoints`."""
    return Path(torch.hub.get_dir()) / "checkpoints"
