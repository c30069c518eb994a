"""Every command takes `--device`, and says in one sentence that the machine lacks the one that was asked for."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import CAT
from xai.cli import main, parser
from xai.gan.saved import SHIPPED
from xai.settings import DEVICES

WORDS = {
    "explain": [str(CAT)],
    "attack": [str(CAT)],
    "evaluate": ["sample:photos"],
    "train": ["sample:brain"],
    "audit-bias": [],
    "augment": ["sample:parts", "--generator", str(SHIPPED)],
    "gan train": ["sample:parts", "--size", "32", "--steps", "1"],
    "gan sample": [str(SHIPPED)],
    "gan interpolate": [str(SHIPPED)],
    "gan nearest": [str(SHIPPED)],
    "gan reconstruct": [str(SHIPPED)],
    "gan quality": [str(SHIPPED)],
}
"""The least that each command asks for, but for where it writes."""


def commands(each: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command by its name, those of `gan` too."""
    inner = [action for action in each._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield name.strip(), each
    for action in inner:
        for word, below in action.choices.items():
            yield from commands(below, f"{name} {word}")


def test_every_command_that_computes_is_tried() -> None:
    asking = {name: each.format_help() for name, each in commands(parser()) if "--device" in each.format_help()}
    assert asking.keys() == WORDS.keys()
    assert all(DEVICES in " ".join(text.split()) for text in asking.values())


@pytest.mark.parametrize("by_environment", [False, True], ids=["--device", "XAI_DEVICE"])
@pytest.mark.parametrize("name", WORDS)
def test_a_device_that_is_not_there(
    name: str, by_environment: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.mps, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    out = tmp_path / "out"
    words = [*name.split(), *WORDS[name], "--out", str(out)]
    if by_environment:
        monkeypatch.setenv("XAI_DEVICE", "mps")
        told = "XAI_DEVICE 'mps' is not on this machine (0 MPS devices); use auto or cpu."
    else:
        words += ["--device", "cuda"]
        told = "device 'cuda' is not on this machine (0 CUDA devices); use auto or cpu."
    assert main(words) == 2
    assert capsys.readouterr().err == f"error: {told}\n"
    assert not out.exists()
