"""Which images a training takes: those that can be decoded, of every class, none in both parts unsaid."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.unit.transfer_helpers import RECIPE, request_for, two_brightnesses
from xai.data import open_dataset
from xai.data.split import stratified_split
from xai.errors import InputError
from xai.models.exported import read_card
from xai.runs import RunFolder
from xai.studies.transfer import _Job, train


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "runs"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return two_brightnesses(tmp_path_factory.mktemp("data"))


def copied(data: Path, place: Path, *left_out: str) -> Path:
    """The pictures without the broken one and those whose names are given."""
    for name in sorted(path.relative_to(data) for path in data.glob("*/*.png")):
        if str(name) not in (*left_out, "yes/19.png"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / name, place / name)
    return place


def test_a_class_that_is_alone_or_cannot_be_read_is_refused(data, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(data / "no", alone / "no")
    with pytest.raises(InputError, match=r"^all images are of one class, 'no'; give a folder for each of two or more"):
        train(request_for(alone, layout="class folders"), tmp_path / "r", device="cpu")
    assert not (tmp_path / "r").exists()
    bad = copied(data, tmp_path / "bad")
    for path in (bad / "yes").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"^no image of class 'yes' can be decoded \(.*\); mend them\.$"):
        train(request_for(bad), tmp_path / "s", device="cpu")
    found = open_dataset(bad)
    kept = next(p for p in stratified_split(found, 0.8, RECIPE.seed).validation if "yes/" in found.items[p].key)
    shutil.copyfile(next((data / "no").iterdir()), bad / found.items[kept].key)
    with pytest.raises(InputError, match=r"^class 'yes' has 1 image, .* 8 cannot be decoded, such as yes/01\.png\.$"):
        train(request_for(bad), tmp_path / "of-now", device="cpu")
    with pytest.raises(InputError, match=r"^no training image of class 'yes' can be decoded \(.*\); mend them\.$"):
        train(request_for(bad), of_before(tmp_path / "t", bad), resume=True, device="cpu")
    rest = copied(data, tmp_path / "rest")
    for place in stratified_split(open_dataset(rest), 0.8, RECIPE.seed).validation:
        if "yes/" in (key := found.items[place].key):
            (rest / key).write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"^no validation image of class 'yes' can be decoded \(.*\); mend them\.$"):
        train(request_for(rest), of_before(tmp_path / "u", rest), resume=True, device="cpu")


def of_before(out: Path, data: Path, **changes) -> Path:
    """A run that an earlier version, whose splits were of all files, has begun to work on."""
    RunFolder.create(out, _Job.of(request_for(data, **changes), out, torch.device("cpu"), 0).config())
    (out / "checkpoints").mkdir()
    return out


def test_a_file_that_cannot_be_decoded_has_no_place_in_the_split(data, tmp_path):
    few = replace(RECIPE, epochs=1)
    bad = copied(data, tmp_path / "bad")
    lost = [open_dataset(bad).items[place].key for place in stratified_split(open_dataset(bad), 0.5, 1).validation][:5]
    for key in lost:
        (bad / key).write_bytes(b"\0" * (bad / key).stat().st_size)
    half = request_for(bad, split=0.5, recipe=few)
    clean = copied(data, tmp_path / "clean", *lost)
    expected = stratified_split(open_dataset(clean), 0.5, 1)
    found = train(half, tmp_path / "r", device="cpu")
    assert found is not None
    keys = found.predictions["key"].to_pylist()
    assert keys == [open_dataset(clean).items[place].key for place in expected.validation]
    assert found.summary["images"] == {"training": 7, "validation": 7}
    assert [item.key for item in found.items()] == keys
    # What can be decoded later is in neither part, and what no longer can be leaves the others where they were.
    shutil.copyfile(data / lost[0], bad / lost[0])
    (bad / keys[0]).write_bytes(b"\0" * (bad / keys[0]).stat().st_size)
    more = train(replace(half, recipe=replace(few, epochs=2)), tmp_path / "r", resume=True, device="cpu")
    assert more is not None
    assert more.predictions["key"].to_pylist() == keys[1:]
    assert more.summary["images"] == {"training": 7, "validation": 6}
    assert more.summary["data_sentence"].startswith("13 images, 2 classes")
    assert {each["key"] for each in more.summary["left_out"]} == {*lost, keys[0]}
    assert read_card(tmp_path / "r" / "artifacts")["card"]["left_out"] == 6
    before = train(half, of_before(tmp_path / "s", bad, split=0.5, recipe=few), resume=True, device="cpu")
    assert before is not None
    listed = open_dataset(bad).items
    validated = [listed[place].key for place in stratified_split(open_dataset(bad), 0.5, 1).validation]
    assert before.predictions["key"].to_pylist() == [key for key in validated if key not in (*lost[1:], keys[0])]


def test_pictures_in_both_parts_and_an_epoch_chosen_by_validation_are_told(data, tmp_path):
    twice = copied(data, tmp_path / "twice")
    for path in sorted(twice.glob("*/*.png")):
        shutil.copyfile(path, path.with_name(f"again-{path.name}"))
    few = replace(RECIPE, epochs=1)
    found = train(request_for(twice, recipe=few), tmp_path / "r", device="cpu")
    assert found is not None
    split = stratified_split(open_dataset(twice), 0.8, RECIPE.seed)
    keys = [item.key.replace("again-", "") for item in open_dataset(twice).items]
    learned = {keys[place] for place in split.train}
    assert found.summary["repeated"] == sum(keys[place] in learned for place in split.validation) > 0
    assert "very pixels of a training image" in found.summary["protocol"]["repeated"]
    assert "chosen by these same images" not in found.summary["protocol"]["validation"]
    clean = copied(data, tmp_path / "clean")
    other = train(request_for(clean, recipe=replace(few, patience=2)), tmp_path / "s", device="cpu")
    assert other is not None
    assert other.summary["repeated"] == 0
    assert "the epoch was chosen by these same images (lowest loss)" in other.summary["protocol"]["validation"]
