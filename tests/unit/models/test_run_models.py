"""The network of a run as everybody's classifier: `run:ID`, exported, and loaded elsewhere."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import xai
from tests.unit.training_helpers import pictures
from xai.cli import main
from xai.errors import InputError, StorageError, WeightsError
from xai.explain.spec import METHODS
from xai.models import load_exported, load_model
from xai.models.census import census
from xai.models.exported import export_network, find_network, list_networks, read_card, read_network, write_network
from xai.runs.control import list_runs
from xai.runs.files import Status
from xai.runs.folder import RunFolder
from xai.studies.transfer.taken import take_network
from xai.training import Recipe, build_network, fit
from xai.types import Run

CARD = {"data": "dots", "synthetic": True, "base": "random:0", "view": "whole", "accuracy": 0.75}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder of runs with one trained network, "spots": SimpleCNN under study 4's head."""
    home = tmp_path_factory.mktemp("runs")
    recipe = Recipe(epochs=2, batch=8, head="study4")
    network = build_network("simple_cnn", "random:0", ("no", "yes"), recipe)
    fit(network, pictures(16), pictures(8, seed=1), recipe, Run())
    write_network(home / "spots" / "artifacts", network.classifier("run:spots"), "study4", CARD)
    return home


@pytest.fixture(autouse=True)
def _home(runs, monkeypatch):
    monkeypatch.setenv("XAI_RUNS", str(runs))


def told(kind: type[Exception], *arguments, **more) -> str:
    with pytest.raises(kind) as caught:
        load_model(*arguments, device="cpu", **more)
    return str(caught.value)


def test_a_run_is_a_classifier_by_its_name_alone():
    found = load_model("run:spots", device="cpu")
    assert (found.name, found.weights, found.title) == ("simple_cnn", "run:spots", "SimpleCNN (run spots)")
    assert found.labels == ("no", "yes")
    assert found.default_layer == "features.10"
    assert found.input_size == (64, 64)
    assert {"trained on dots, synthetic images", "began with random weights (random:0)"} <= set(found.notes)
    assert "trained on whole pictures: look with view whole" in found.notes
    assert found.predict(torch.rand(2, 3, 64, 64)).shape == (2, 2)
    assert load_model("run:spots", device="cpu") is found
    assert load_model("simple_cnn", "run:spots", "cpu") is found
    assert census(found).counts["relu"] == 6  # four of the network, two of the head


def test_its_numbers_are_those_of_the_training(runs):
    state = load_file(runs / "spots" / "artifacts" / "model.safetensors")
    found = load_model("run:spots", device="cpu")
    own = found.module.net.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], state[name]) for name in own)
    assert found.fingerprint == read_card(runs / "spots" / "artifacts")["fingerprint"]


def test_a_folder_and_an_export_give_the_same_network(runs, tmp_path, monkeypatch):
    found = load_model("run:spots", device="cpu")
    file = export_network("spots", tmp_path / "spots.zip")
    with zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == ["card.md", "labels.txt", "model.json", "model.safetensors"]
        assert archive.read("labels.txt").decode().split() == ["no", "yes"]
        card = archive.read("card.md").decode()
    assert "Note: trained on dots, synthetic images." in card
    assert str(runs) not in card
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "elsewhere"))
    x = torch.rand(2, 3, 64, 64)
    for place in (file, runs / "spots", runs / "spots" / "artifacts"):
        other = load_exported(place, device="cpu")
        assert torch.equal(other.predict(x), found.predict(x))
        assert other.fingerprint == found.fingerprint
    assert load_model(f"run:{file}", device="cpu").weights == "run:spots.zip"
    assert load_exported(file, "cpu") is load_model(f"run:{file}", device="cpu")


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_explains_both_classes(name):
    found = load_model("run:spots", device="cpu")
    if METHODS.get(name).family == "attention":
        assert xai.applicability(found, name).status == "refused"
        return
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    maps = [xai.attribute(found, x, name, targets=torch.tensor([target])).maps() for target in (0, 1)]
    assert all(bool(each.isfinite().all()) for each in maps)
    # The two logits are each other's negative, so that Grad-CAM's positive part may be empty for one of them.
    if METHODS.get(name).family in ("gradient", "relevance") and name != "guided_gradcam":
        assert all(float(each.abs().sum()) > 0 for each in maps)


def test_finished_networks_are_listed(runs):
    (runs / "unfinished").mkdir(exist_ok=True)
    broken = runs / "broken" / "artifacts"
    broken.mkdir(parents=True, exist_ok=True)
    (broken / "model.json").write_text("{")
    (found,) = list_networks()
    assert (found.id, found.architecture, found.labels) == ("spots", "simple_cnn", ("no", "yes"))
    assert (found.title, found.synthetic, found.random, found.accuracy) == ("SimpleCNN (run spots)", True, True, 0.75)


def test_pages_offer_it_and_links_open_nothing_else(runs, tmp_path):
    from xai.ui.nets import net_labels, net_names, net_title
    from xai.ui.work import Net, known_net

    assert net_names()[-1] == "run:spots"
    assert net_names(["run:gone"])[-1] == "run:gone"
    assert net_title("run:spots") == "SimpleCNN (run spots), synthetic images, began random"
    assert net_labels("run:spots") == ("no", "yes")
    assert known_net("run:spots") == Net("run:spots")
    assert Net("run:spots").load().weights == "run:spots"
    assert Net("run:spots").key.startswith("run:spots#")  # a run that learns on is another network
    assert (Net("vgg16").key, Net("run:gone").key) == ("vgg16", "run:gone")
    for text in (f"run:{runs / 'spots'}", "run:../spots", "vgg16@run:spots"):
        with pytest.raises(InputError, match=r"is not known|are not taken from a link"):
            known_net(text)


def test_each_network_of_a_run_with_folds_is_offered(runs, tmp_path, monkeypatch):
    from xai.ui.bias_audit.state import _from_here
    from xai.ui.nets import net_labels, net_names, net_title
    from xai.ui.work import Net, known_net

    monkeypatch.setenv("XAI_RUNS", str(tmp_path))
    source, home = load_model(f"run:{runs / 'spots'}", device="cpu"), tmp_path / "dots" / "artifacts"
    for fold in (2, 10, 1):
        write_network(home / (f"fold-{fold}" * (fold > 1)), source, "study4", {**CARD, "fold": f"{fold} of 10"})
    names = [name for name in net_names() if name.startswith("run:")]
    assert names == ["run:dots", "run:dots/fold-2", "run:dots/fold-10"]
    assert [net_title(name) for name in names] == [
        f"SimpleCNN (run dots, fold {fold} of 10), synthetic images, began random" for fold in (1, 2, 10)
    ]
    second = known_net("run:dots/fold-2")
    assert second == Net("run:dots/fold-2")
    assert second.load().title == "SimpleCNN (run dots, fold 2 of 10)"
    assert second.load().weights == "run:dots/fold-2"
    assert second.key.startswith("run:dots/fold-2#")
    assert net_labels("run:dots/fold-2") == ("no", "yes")
    with pytest.raises(InputError, match="is not known"):
        known_net("run:dots/fold-3")
    assert _from_here(RunFolder(tmp_path / "dots"), "run:dots/fold-2") == "run:dots/fold-2"
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "elsewhere"))
    assert load_model(f"run:{tmp_path / 'dots' / 'fold-2'}").title == "SimpleCNN (run dots, fold 2 of 10)"


def test_an_exported_network_is_taken_in_as_a_run(runs, tmp_path, monkeypatch):
    file = export_network("spots", tmp_path / "my spots.zip")
    known = load_model("run:spots", device="cpu")
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "elsewhere"))
    path = take_network(file.read_bytes(), file.name)
    (found,) = list_networks()
    assert found.id == path.name
    assert load_model(f"run:{found.id}", device="cpu").fingerprint == known.fingerprint
    (run,) = list_runs()
    assert (run.kind, run.title, run.status.state, run.fault) == ("network", "my spots", "done", "")
    assert run.config["labels"] == ["no", "yes"]
    data = file.read_bytes()
    place = data.index(b"\x00", len(data) // 2)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", b" " * 10**6)
    for wrong, said in [
        (b"no zip", "my spots.zip has no model.json that can be read; train or export it again."),
        (data[:place] + b"\x01" + data[place + 1 :], "my spots.zip has no model.safetensors that can be read; train"),
        (packed.getvalue(), "my spots.zip: model.json unpacks to over 4 times the zip; it is not opened."),
    ]:
        with pytest.raises(WeightsError) as caught:
            take_network(wrong, "my spots.zip")
        assert str(caught.value).startswith(said)
    assert len(list_runs()) == 1
    odd = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(odd, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'"accuracy": 0.75', b'"accuracy": NaN'))
    assert take_network(odd.getvalue(), "odd.zip").is_dir()  # what a card says beyond what is checked does no harm
    kept = len(list_runs())

    def full(run: RunFolder, status: Status) -> None:
        raise StorageError("the disk is full.")

    monkeypatch.setattr(RunFolder, "set_status", full)
    with pytest.raises(StorageError):
        take_network(data, "my spots.zip")
    assert len(list_runs()) == kept  # no half of a run stays


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": "ab"},
        {"labels": ["no", "no"]},
        {"preprocessing": {"crop": float("inf")}},
        {"preprocessing": {"crop": 10**6}},
        {"preprocessing": {"resize": 0}},
        {"preprocessing": {"mean": [float("nan")] * 3}},
        {"parameters": None},
        {"architecture": ["simple_cnn"]},
        {"default_layer": None},
        {"default_layer": "nowhere"},
        None,
    ],
)
def test_a_card_that_no_network_can_have_is_refused(runs, tmp_path, changes):
    card = json.loads((runs / "spots" / "artifacts" / "model.json").read_text())
    for name, value in (changes or {}).items():
        card[name] = {**card[name], **value} if isinstance(value, dict) else value
    (tmp_path / "model.json").write_text("[" * 10**5 if changes is None else json.dumps(card))
    shutil.copy(runs / "spots" / "artifacts" / "model.safetensors", tmp_path)
    with pytest.raises(WeightsError, match=r"model\.json is damaged \(.*\); train or export it again\.$"):
        read_network(tmp_path)


def test_what_cannot_be_picked_is_said(runs, tmp_path):
    assert told(InputError, "run:nine") == f"run 'nine' does not exist in {runs}; `python -m xai runs` lists them."
    (runs / "unfinished").mkdir(exist_ok=True)
    assert told(InputError, "run:unfinished") == (
        f"{runs / 'unfinished'} holds no trained network yet; wait until the training is done, or resume it."
    )
    assert told(InputError, "run:spots", "random:0") == (
        "run:spots has its own weights, not 'random:0'; leave the weights out."
    )
    assert told(InputError, "vgg16", "run:spots") == (
        "weights 'run:spots' are of simple_cnn, not of vgg16; use --model run:spots."
    )
    assert told(InputError, "run:spots", labels=["a", "b", "c"]).startswith("there are 3 class names for 2 classes")
    with pytest.raises(InputError, match=r"is no \.zip; give a file name that ends in \.zip\."):
        export_network("spots", tmp_path / "spots.tar")


def test_damage_is_seen(runs, tmp_path):
    place = tmp_path / "copy"
    place.mkdir()
    source = find_network("spots")
    data = bytearray((source / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (place / "model.json").write_bytes((source / "model.json").read_bytes())
    assert "has no model.safetensors that can be read" in told(WeightsError, f"run:{place}")
    (place / "model.safetensors").write_bytes(data)
    assert "model.safetensors is damaged (its SHA-256 is not the card's)" in told(WeightsError, f"run:{place}")
    card = json.loads((source / "model.json").read_text())
    (place / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    (place / "model.json").write_text(json.dumps({**card, "labels": ["a", "b", "c"]}))
    assert "does not fit SimpleCNN with head study4: " in told(WeightsError, f"run:{place}")
    (place / "model.json").write_text(json.dumps({**card, "format": "other"}))
    assert "holds a network of another format" in told(WeightsError, f"run:{place}")


def test_commands_take_it_and_write_it_down_again(tmp_path, capsys):
    words = ["explain", "sample:chelsea", "--model", "run:spots", "--device", "cpu", "--out", str(tmp_path / "a")]
    assert main([*words, "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    (model,) = manifest["images"][0]["models"]
    assert (model["model"], model["weights"]) == ("simple_cnn", "run:spots")
    assert "--model simple_cnn --weights run:spots" in model["explanations"][0]["command"]
