"""What a person takes away makes the same maps again: the command in the terminal, the bundle from its manifest."""

from __future__ import annotations

import io
import json
import shlex
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from xai import load_model
from xai.cli import main
from xai.types import Run
from xai.ui.grids import ask
from xai.ui.method_comparison.export import bundle, command
from xai.ui.session import Choice, from_query
from xai.ui.work import Held, Net, Scene, Shown, explain, look

QUERY = {
    "image": "coffee",
    "view": "whole",
    "model": "efficientnet_lite0,mobilenet_v3_large@random:3",
    "method": "gradcam,smoothgrad",
    "param.smoothgrad.samples": "2",
    "param.smoothgrad.magnitude": "true",
    "target": "967",
    "opacity": "0.75",
    "colors": "turbo",
    "scale": "shared",
}


def explained(choice: Choice) -> list[Shown]:
    """Every method on every network, as the page's board does it."""
    found: list[Shown] = []
    for net in choice.nets:
        scene = Scene(choice.photo, choice.view, net)
        seen = look(scene, Run())
        for method in choice.methods:
            result = explain(ask(choice, scene, method, choice.layers.get(net.text), choice.target), seen, Run())
            assert not isinstance(result, Held)
            found.append(result)
    return found


@pytest.mark.parametrize("extra", [{}, {"layer.efficientnet_lite0": "_blocks.10"}], ids=["default layers", "own layer"])
def test_the_command_makes_the_same_arrays(
    extra: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    choice = from_query({**QUERY, **extra})
    assert choice.problem == ""
    made: list[np.ndarray] = []
    for line in command(choice).splitlines():
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "xai"]
        assert main(words[3:]) == 0
        folder = Path(words[-1])
        manifest = json.loads((folder / "manifest.json").read_text())
        (image,) = manifest["images"]
        assert manifest["look"] == {"colors": "turbo", "opacity": 0.75, "shared": True}
        for model in image["models"]:
            made += [np.load(folder / entry["files"]["array"]) for entry in model["explanations"]]
    wanted = [shown.attribution.values.numpy() for shown in explained(choice)]
    assert len(made) == len(wanted) == 4
    for one, two in zip(made, wanted, strict=True):
        assert one.squeeze() == pytest.approx(two.squeeze(), rel=1e-4, abs=1e-6)


def test_the_bundle_holds_every_finished_map() -> None:
    choice = from_query(QUERY)
    shown = explained(choice)
    archive = zipfile.ZipFile(io.BytesIO(bundle(choice, shown)))
    manifest = json.loads(archive.read("manifest.json"))
    assert manifest["command"] == command(choice)
    models = manifest["images"][0]["models"]
    assert [model["random"] for model in models] == [False, True]
    entries = [entry for model in models for entry in model["explanations"]]
    assert [entry["method"] for entry in entries] == ["gradcam", "smoothgrad"] * 2
    for entry, one in zip(entries, shown, strict=True):
        kept = np.load(io.BytesIO(archive.read(entry["files"]["array"])))
        assert kept.squeeze() == pytest.approx(one.attribution.values.numpy().squeeze())


def test_ones_own_weights_and_odd_names_stand_in_the_commands_as_they_must(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    state = load_model(device="cpu").module.net.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    choice = from_query({"method": "gradcam"})
    choice.nets = (Net("efficientnet_lite0", f"file:{path}"),)
    choice.photo = replace(choice.photo, name="-cat.png", sample="")
    archive = zipfile.ZipFile(io.BytesIO(bundle(choice, explained(choice))))
    manifest = json.loads(archive.read("manifest.json"))
    ((entry,),) = (model["explanations"] for model in manifest["images"][0]["models"])
    for line in (manifest["command"], entry["command"]):
        words = shlex.split(line)
        assert words[4] == "./-cat.png"
        assert words[words.index("--weights") + 1] == f"file:{path}"
