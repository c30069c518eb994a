"""Where things are and on what they run; read from the environment once per call, never cached.

`XAI_DEVICE` (auto, cpu, cuda, cuda:N, mps), `XAI_RUNS` (run folders, default `runs`), `XAI_CACHE` (default
`~/.cache/olhar`), `TORCH_HOME` (torchvision's own weight folder).
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from xai.devices import KINDS
from xai.errors import InputError

DEVICES = "auto, cpu, cuda, cuda:N or mps"
"""What a person can ask for."""

_INSTALLED = Path(__file__).resolve().parent / "_app"

HOME = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).resolve().parents[1]
"""Where the entry file, `pages/`, `assets/` and `.streamlit/` lie: in the installed package, else in the checkout."""

ASSETS = HOME / "assets"

MAX_PIXELS = 64_000_000
"""Largest image, in pixels, that is decoded (width x height, checked before decoding)."""

MAX_UPLOAD_BYTES = 64 * 1024 * 1024
"""Largest single image file, in bytes."""


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """The device to run on: `auto` takes `XAI_DEVICE`, else CUDA where there is one, else the CPU.

    "cuda" is the current CUDA device, with its number; "mps" is Apple's GPU. Raises `InputError` for a device that is
    not known or that this machine lacks; there is no silent fallback.
    """
    name, what = str(device), "device"
    if name == "auto" and os.environ.get("XAI_DEVICE"):
        name, what = os.environ["XAI_DEVICE"], "XAI_DEVICE"
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"{what} {name!r} is not known; use {DEVICES}.") from error
    if chosen.type == "cpu":
        return torch.device("cpu")
    if chosen.type not in KINDS:
        raise InputError(f"{what} {name!r} is not supported; use {DEVICES}.")
    count: int = torch.get_device_module(chosen).device_count()
    if (chosen.index or 0) >= count:
        title = KINDS[chosen.type].title
        raise InputError(f"{what} {name!r} is not on this machine ({count} {title} devices); use auto or cpu.")
    current = torch.cuda.current_device() if chosen.type == "cuda" else 0
    return torch.device(chosen.type, current if chosen.index is None else chosen.index)


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


def data_roots(loopback: bool) -> tuple[Path, ...]:
    """The folders below which the pages read what a visitor names, resolved.

    `XAI_DATA`, with `os.pathsep` between; without it the working directory, and the home folder where only this machine
    reaches the pages (loopback).
    """
    named = [each for each in os.environ.get("XAI_DATA", "").split(os.pathsep) if each.strip()]
    found = [Path(each).expanduser() for each in named] or [Path.cwd(), *([Path.home()] if loopback else [])]
    return tuple(dict.fromkeys(each.resolve() for each in found))


def upload_bounds() -> tuple[int, float]:
    """(bytes, seconds): how much of what was sent to the pages is kept, and for how long after it was used last.

    `XAI_UPLOADS`, "GB,DAYS", default "8,30". Raises `InputError` where it is written otherwise.
    """
    text = os.environ.get("XAI_UPLOADS") or "8,30"
    try:
        size, days = (float(each) for each in text.split(","))
    except ValueError:
        size = days = -1.0
    if not (0 <= size < 1e6 and 0 <= days < 1e6):
        raise InputError(f"XAI_UPLOADS is {text!r}; give gigabytes and days, such as 8,30.")
    return int(size * 2**30), days * 86400


def weights_dir() -> Path:
    """torchvision's weight folder: `$TORCH_HOME/hub/checkpoints`."""
    return Path(torch.hub.get_dir()) / "checkpoints"
