"""Folders as people download them: class folders twice, and classes without images."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from xai.data import DataSet, open_dataset


def folder_of(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    return root


def labels(data: DataSet) -> dict[str, int | None]:
    return {item.key: item.label for item in data.items}


def test_a_second_copy_of_the_class_folders_is_left_out_and_listed(tmp_path):
    """Kaggle's brain MRI zip holds yes, no, and brain_tumor_dataset with both once more."""
    names = ["yes/1.png", "no/1.png", "copy/yes/1.png", "copy/no/1.png"]
    for root in (tmp_path / "flat", tmp_path / "wrapped" / "inner"):
        folder_of(root, names)
    for place in (tmp_path / "flat", tmp_path / "wrapped"):
        data = open_dataset(place)
        assert data.classes == ("no", "yes")
        assert len(data) == 2
        assert {(problem.key.split("/")[-2], problem.reason) for problem in data.problems} == {
            ("yes", "a second copy of the class folders beside it"),
            ("no", "a second copy of the class folders beside it"),
        }
    groups = open_dataset(folder_of(tmp_path / "g", ["cat/dark/1.png", "cat/light/1.png", "dog/dark/1.png"]))
    assert (groups.classes, len(groups)) == (("cat", "dog"), 3)  # groups inside classes are no copy


def test_the_whole_archive_of_the_simpsons_works_as_it_is(tmp_path):
    """Kaggle's archive: the class folders, once more under their folder's own name, and flat test images beside it."""
    classes = [f"simpsons_dataset/{name}/pic_{i}.png" for name in ("bart_simpson", "lisa_simpson") for i in range(2)]
    again = [f"simpsons_dataset/{name}" for name in classes]
    beside = ["kaggle_simpson_testset/kaggle_simpson_testset/bart_simpson_0.png", "characters_illustration.png"]
    data = open_dataset(folder_of(tmp_path / "whole", [*classes, *again, *beside]))
    assert labels(data) == {name: int("lisa" in name) for name in classes}
    assert data.classes == ("bart_simpson", "lisa_simpson")
    assert {problem.key: problem.reason for problem in data.problems} == {
        **dict.fromkeys(again, "a second copy of the class folders beside it"),
        **dict.fromkeys(beside, "beside the class folders in simpsons_dataset"),
    }
    same = open_dataset(folder_of(tmp_path / "same", ["cat/cat/1.png", "cat/kitten/1.png", "dog/dog/1.png"]))
    assert same.classes == ("cat", "dog")  # a group that is called like its class is no archive


def test_classes_without_images_are_left_away_for_training(tmp_path):
    data = open_dataset(folder_of(tmp_path, ["n02123045/1.png", "n02123045/2.png", "n01440764/1.png"]))
    assert len(data.classes) == 1000
    used = data.used()
    assert used.classes == ("n01440764", "n02123045")
    assert labels(used) == {"n01440764/1.png": 0, "n02123045/1.png": 1, "n02123045/2.png": 1}
    assert used.used() is used
