"""Whole folders under `torch.inference_mode()`: what is loaded and explained inside gives what it gives outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from xai.cli import main
from xai.runs.folder import RunFolder
from xai.studies.bias.own import OwnRequest, audit_own
from xai.studies.faithfulness.evaluate import Request, evaluate
from xai.studies.faithfulness.measure import Recipe as Measured
from xai.studies.transfer.request import TransferRequest
from xai.studies.transfer.train import train
from xai.training import Recipe

NET = ["--model", "simple_cnn", "--weights", "random:0", "--device", "cpu"]


def _evaluated(data: Path, out: Path) -> Any:
    recipe = Measured(("guided_backprop",), draws=1, protocol="study")
    found = evaluate(Request(str(data), (("simple_cnn", "random:0"),), recipe), out, device="cpu")
    assert found is not None
    return [
        {name: row[name] for name in ("image", "method", "insertion", "deletion")} for row in found.table.to_pylist()
    ]


def _trained(data: Path, out: Path) -> Any:
    train(TransferRequest(str(data), "simple_cnn", "random:0", Recipe(epochs=1, batch=2)), out, device="cpu")
    return {name: RunFolder.open(out).summary()[name] for name in ("accuracy", "loss")}


def _audited(data: Path, out: Path) -> Any:
    del data
    audit_own(OwnRequest("sample:pets?cats=2&dogs=2&pixels=48", "simple_cnn", "random:0"), out, device="cpu")
    return RunFolder.open(out).summary()["base"]["audit"]["rows"]


def _explained(data: Path, out: Path) -> Any:
    assert main(["explain", str(data), *NET, "--method", "gradcam", "saliency", "--out", str(out)]) == 0
    return {each.relative_to(out).as_posix(): each.read_bytes() for each in sorted(out.rglob("*.npy"))}


def _attacked(data: Path, out: Path) -> Any:
    assert main(["attack", str(data), *NET, "--epsilon", "0", "4", "--steps", "2", "--out", str(out)]) == 0
    return {name: facts["sha256"] for name, facts in json.loads((out / "manifest.json").read_text())["files"].items()}


@pytest.mark.parametrize("work", [_evaluated, _trained, _audited, _explained, _attacked])
def test_a_folder_in_inference_mode(work: Callable[[Path, Path], Any], tmp_path: Path, own_store: None) -> None:
    drawn = np.random.default_rng(0)
    for index in range(4):
        place = tmp_path / "data" / ("dark", "light")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((drawn.random((64, 64, 3)) * (80 + 100 * (index % 2))).astype("uint8")).save(
            place / f"{index}.png"
        )
    with torch.inference_mode():  # the network is loaded, and everything is done, inside
        inside = work(tmp_path / "data", tmp_path / "inside")
    assert inside
    assert work(tmp_path / "data", tmp_path / "outside") == inside  # with the network that was loaded inside
