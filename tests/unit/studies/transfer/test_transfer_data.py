"""Which images a training takes: those that can be decoded, of every class, none in both parts unsaid."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.unit.transfer_helpers import RECIPE, request_for, two_brightnesses
from xai.data import open_dataset
from xai.data.split import stratified_split
from xai.errors import InputError
from xai.models.exported import read_card
from xai.runs.folder import RunFolder
from xai.studies.transfer.result import is_flattered, told_of_sides
from xai.studies.transfer.train import _Job, train


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
    with pytest.raises(
        InputError, match=r"^there is only one class: all 10 images lie in the folder 'no'; add a folder of "
    ):
        train(request_for(alone, layout="class folders"), tmp_path / "r", device="cpu")
    assert not (tmp_path / "r").exists()
    bad = copied(data, tmp_path / "bad")
    for path in (bad / "yes").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"^no image of class 'yes' can be decoded \(.*\); fix them\.$"):
        train(request_for(bad), tmp_path / "s", device="cpu")
    found = open_dataset(bad)
    kept = next(p for p in stratified_split(found, 0.8, RECIPE.seed).validation if "yes/" in found.items[p].key)
    shutil.copyfile(next((data / "no").iterdir()), bad / found.items[kept].key)
    with pytest.raises(InputError, match=r"^class 'yes' has 1 image, .* 8 cannot be decoded, such as yes/01\.png\.$"):
        train(request_for(bad), tmp_path / "of-now", device="cpu")
    with pytest.raises(InputError, match=r"^no training image of class 'yes' can be decoded \(.*\); fix them\.$"):
        train(request_for(bad), of_before(tmp_path / "t", bad), resume=True, device="cpu")
    rest = copied(data, tmp_path / "rest")
    for place in stratified_split(open_dataset(rest), 0.8, RECIPE.seed).validation:
        if "yes/" in (key := found.items[place].key):
            (rest / key).write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"^no validation image of class 'yes' can be decoded \(.*\); fix them\.$"):
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


def with_copies(place: Path) -> Path:
    """19 pictures of clouds in two classes, each once more: saved again as JPEG, or a little larger."""
    generator = torch.Generator().manual_seed(2)
    for number in range(19):
        coarse = torch.rand(1, 3, 6, 7, generator=generator)
        levels = torch.nn.functional.interpolate(coarse, (64, 70), mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0)
        picture = Image.fromarray((255 * levels).to(torch.uint8).numpy())
        folder = place / ("no", "yes")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{number:02}.png")
        if number % 2:
            picture.save(folder / f"again-{number:02}.jpg", quality=90)
        else:
            picture.resize((105, 96)).save(folder / f"again-{number:02}.png")
    return place


def test_copies_of_one_picture_stay_on_one_side_and_accuracy_is_told_with_and_without_them(tmp_path):
    twice = with_copies(tmp_path / "twice")
    few = replace(RECIPE, epochs=1)

    def names(keys):
        return {str(Path(key).with_suffix("")).replace("again-", "") for key in keys}

    found = train(request_for(twice, recipe=few), tmp_path / "r", device="cpu")
    assert found is not None
    keys = found.predictions["key"].to_pylist()
    rest = {item.key for item in open_dataset(twice).items} - set(keys)
    assert not names(keys) & names(rest)
    told = found.summary["copies"]
    assert (told["looked"], told["sets"], told["images"], told["repeated"], told["kept"]) == (
        True,
        19,
        38,
        0,
        "together",
    )
    # Each picture once: half of the validation images, with the accuracy of the first of each two.
    first = [row for row in found.predictions.to_pylist() if "again-" not in row["key"]]
    later = [row for row in found.predictions.to_pylist() if "again-" in row["key"]]
    assert told["without"]["images"] == len(keys) / 2 == len(first)
    assert told["without"]["accuracy"] in (sum(row["correct"] for row in rows) / len(first) for rows in (first, later))
    assert "19 pictures are there more than once (38 images); the copies of each are on one side of the split." in (
        told_of_sides(found.summary)
    )
    card = read_card(tmp_path / "r" / "artifacts")["card"]
    assert card["copies"] == {
        "looked": True,
        "images": 38,
        "repeated": 0,
        "without": told["without"],
        "test": None,
    }
    assert card["accuracy_interval"] == list(found.figures().intervals["accuracy"])
    # A run that an earlier version began, which did not know of copies, keeps its split when it goes on.
    (tmp_path / "r" / "together.json").unlink()
    again = train(request_for(twice, recipe=replace(few, epochs=2)), tmp_path / "r", resume=True, device="cpu")
    assert again is not None
    split = stratified_split(open_dataset(twice), 0.8, RECIPE.seed)
    assert again.predictions["key"].to_pylist() == [open_dataset(twice).items[place].key for place in split.validation]
    assert "Near-copies were not looked for" in told_of_sides(again.summary)[0]


def test_who_lets_copies_anywhere_is_told_how_much_they_flatter(tmp_path):
    twice = with_copies(tmp_path / "twice")
    few = replace(RECIPE, epochs=1)
    found = train(request_for(twice, recipe=few, copies="anywhere"), tmp_path / "r", device="cpu")
    assert found is not None
    split = stratified_split(open_dataset(twice), 0.8, RECIPE.seed)
    keys = [str(Path(item.key).with_suffix("")).replace("again-", "") for item in open_dataset(twice).items]
    learned = {keys[place] for place in split.train}
    repeated = sum(keys[place] in learned for place in split.validation)
    told = found.summary["copies"]
    assert found.summary["repeated"] == told["repeated"] == len(told["across"]) == repeated > 0
    lone = {keys[place] for place in split.validation} - learned
    assert (told["without"]["images"] if told["without"] else 0) == len(lone)
    sentences = told_of_sides(found.summary)
    assert (
        f"{repeated} of the validation images are copies of a training image (copies of one picture were let"
        in (sentences[0])
    )
    with pytest.raises(InputError, match=r"^copies is 'none'; use together or anywhere\.$"):
        train(request_for(twice, copies="none"), tmp_path / "s", device="cpu")


def test_groups_stay_on_one_side_in_splits_and_folds_and_the_run_keeps_them(data, tmp_path):
    clean = copied(data, tmp_path / "clean")
    table = tmp_path / "patients.csv"
    keys = [item.key for item in open_dataset(clean).items]
    patient = {key: f"p{int(Path(key).stem) // 4}" for key in keys}
    table.write_text("file,group\n" + "".join(f"some folder/{key},{patient[key]}\n" for key in keys), encoding="utf-8")
    few = replace(RECIPE, epochs=1)
    asked = request_for(clean, recipe=few, folds=2, groups=str(table))
    found = train(asked, tmp_path / "r", device="cpu")
    assert found is not None
    rows = found.predictions.to_pylist()
    sides = {patient[row["key"]]: {r["fold"] for r in rows if patient[r["key"]] == patient[row["key"]]} for row in rows}
    assert all(len(each) == 1 for each in sides.values())
    assert found.summary["groups"] == {
        "told": "groups from patients.csv, 19 of 19 lines matched: 19 of 19 images in 5 groups",
        "divided": 0,
    }
    assert "each is on one side" in told_of_sides(found.summary)[-1]
    table.unlink()
    more = train(replace(asked, recipe=replace(few, epochs=2)), tmp_path / "r", resume=True, device="cpu")
    assert more is not None
    assert more.predictions["key"].to_pylist() == found.predictions["key"].to_pylist()
    with pytest.raises(InputError, match=r"none of the 19 images has a group, such as no/00\.png; correct --groups\.$"):
        train(request_for(clean, groups="patient"), tmp_path / "s", device="cpu")
    assert not (tmp_path / "s").exists()


def test_folders_that_divide_the_images_are_used_as_they_are(data, tmp_path):
    place = tmp_path / "given"
    for number, path in enumerate(sorted(copied(data, tmp_path / "clean").glob("*/*.png"))):
        part = ("Train", "Train", "val", "test")[number % 4]
        (place / part / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place / part / path.parent.name / path.name)
    shutil.copyfile(next(place.glob("Train/no/*.png")), place / "val" / "no" / "copy.png")
    few = replace(RECIPE, epochs=1)
    found = train(request_for(place, recipe=few), tmp_path / "r", device="cpu")
    assert found is not None
    assert found.classes == ("no", "yes")
    assert {key.split("/")[0] for key in found.predictions["key"].to_pylist()} == {"val"}
    assert found.tested is not None
    assert {key.split("/")[0] for key in found.tested["key"].to_pylist()} == {"test"}
    parts = open_dataset(place).parts
    assert found.summary["images"] == {"training": parts["train"], "validation": parts["validation"]}
    right = found.tested["correct"].to_pylist()
    assert found.summary["test"]["accuracy"] == sum(right) / len(right)
    assert found.summary["test"]["images"] == parts["test"] == len(right)
    assert found.summary["protocol"]["validation"].startswith("the folders as they are given")
    assert found.summary["copies"]["across"] == ["val/no/copy.png"]
    assert "(the folders that were given divide them)" in told_of_sides(found.summary)[0]
    with pytest.raises(InputError, match=r"its folders divide the images already \(train \d+, validation \d+, test \d"):
        train(request_for(place, recipe=few, folds=3), tmp_path / "f", device="cpu")
    shutil.rmtree(place / "Train" / "yes")
    with pytest.raises(InputError, match=r"^class 'yes' has no image in the train folder; add some, or leave that cl"):
        train(request_for(place, recipe=few), tmp_path / "s", device="cpu")
    shutil.rmtree(place / "Train")
    with pytest.raises(InputError, match=r"^its folders give validation, test alone; training needs a folder train, "):
        train(request_for(place, recipe=few), tmp_path / "t", device="cpu")


@pytest.mark.parametrize(("of", "copy"), [("train", "test"), ("val", "test"), ("", "test"), ("train", "val")])
def test_copies_in_every_folder_that_was_given_are_counted(tmp_path, of, copy):
    place, generator = tmp_path / "given", torch.Generator().manual_seed(4)
    for number in range(18):
        coarse = torch.rand(1, 3, 6, 7, generator=generator)
        levels = torch.nn.functional.interpolate(coarse, (64, 70), mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0)
        folder = place / ("train", "val", "test")[number % 3] / ("no", "yes")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * levels).to(torch.uint8).numpy()).save(folder / f"{number:02}.png")
    source = next(iter(sorted((place / (of or copy) / "no").iterdir())))
    Image.open(source).save(place / copy / "no" / "again.jpg", quality=70)
    found = train(request_for(place, recipe=replace(RECIPE, epochs=1)), tmp_path / "r", device="cpu")
    assert found is not None
    told, said = found.summary["copies"], " ".join(told_of_sides(found.summary))
    card = read_card(tmp_path / "r" / "artifacts")["card"]["copies"]
    assert (told["sets"], told["images"]) == (1, 2)
    kept = [row for row in found.tested.to_pylist() if row["key"] != "test/no/again.jpg"]
    if of and copy == "test":
        seen = "training or validation"
        assert told["test"]["across"] == ["test/no/again.jpg"]
        assert told["test"]["without"]["images"] == len(kept) == 6
        assert told["test"]["without"]["accuracy"] == sum(row["correct"] for row in kept) / 6
        assert f"1 of the test images is a copy of a {seen} image (the folders that were given divide them)" in said
        assert re.search(r"Without copies, each picture once: accuracy \S+ \[.*\] on 6 test images\.", said)
        assert told["repeated"] == 0
    elif of:
        assert (told["across"], told["test"]["across"]) == (["val/no/again.jpg"], [])
        assert "1 of the validation images is a copy of a training image (the folders" in said
    assert card["test"] == told["test"]
    assert ("on one side" in said) is (not of)
    assert is_flattered(found.summary) is bool(of)
    file = tmp_path / "r" / "summary.json"
    for word, other in (('"kept": "given"', '"kept": "elsewhere"'), ('"repeated": ', '"repeated": null, "was": ')):
        kept = file.read_text(encoding="utf-8")
        assert word in kept
        file.write_text(kept.replace(word, other), encoding="utf-8")
        with pytest.raises(InputError, match="damaged"):
            RunFolder.open(tmp_path / "r").summary()
        file.write_text(kept, encoding="utf-8")


def test_an_epoch_chosen_by_validation_is_told(data, tmp_path):
    few = replace(RECIPE, epochs=1)
    clean = copied(data, tmp_path / "clean")
    found = train(request_for(clean, recipe=few), tmp_path / "r", device="cpu")
    assert found is not None
    assert found.summary["repeated"] == 0
    assert "chosen by these same images" not in found.summary["protocol"]["validation"]
    other = train(request_for(clean, recipe=replace(few, patience=2)), tmp_path / "s", device="cpu")
    assert other is not None
    assert "the epoch was chosen by these same images (lowest loss)" in other.summary["protocol"]["validation"]
