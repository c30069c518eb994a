"""Folders and zips that are odd in their names or may not be read: everything is listed, nothing breaks."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from xai.data import open_dataset
from xai.data.call import dataset_stamp
from xai.errors import InputError


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (10, 20, 30)).save(path)


def locked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The folder called `name` may not be listed (a test may run as root, whom no permission stops)."""
    scandir = os.scandir

    def watched(path: str) -> object:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", watched)


def test_a_folder_that_may_not_be_listed_is_left_out_and_said(tmp_path, monkeypatch):
    for name in ("cat/1.png", "dog/1.png", "owl/1.png"):
        picture(tmp_path / name)
    locked(monkeypatch, "owl")
    data = open_dataset(tmp_path)
    assert data.classes == ("cat", "dog")
    assert [(p.key, p.reason) for p in data.problems] == [("owl", "cannot be read: Permission denied")]
    locked(monkeypatch, tmp_path.name)
    with pytest.raises(InputError, match=r" cannot be read: Permission denied; check its permissions\."):
        open_dataset(tmp_path)


def test_the_working_folder_has_its_own_name(tmp_path, monkeypatch):
    picture(tmp_path / "1.png")
    monkeypatch.chdir(tmp_path)
    assert open_dataset(".").name == tmp_path.name


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_names_that_are_no_text_are_written_out(tmp_path):
    picture(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / os.fsdecode(b"\xe9.png"))
    (tmp_path / os.fsdecode(b"\xff.txt")).write_text("x")
    data = open_dataset(tmp_path)
    assert [item.key for item in data.items] == ["\\xe9.png"]
    assert [problem.key for problem in data.problems] == ["\\xff.txt"]
    assert data.items[0].open().size == (8, 6)


def test_a_member_without_a_name_is_left_out(tmp_path):
    picture(tmp_path / "good.png")
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "good.png", "good.png")
        archive.writestr(".", b"x")
    data = open_dataset(path)
    assert [item.key for item in data.items] == ["good.png"]
    assert [(p.key, p.reason) for p in data.problems] == [(".", "it has no name")]


def test_a_single_picture_is_no_data_set_and_the_way_out_is_said(tmp_path):
    picture(tmp_path / "one.png")
    with pytest.raises(InputError, match=r"one\.png cannot be read as a zip .*; give a folder, or a zip of images"):
        open_dataset(tmp_path / "one.png")


def test_a_zip_that_lists_too_many_files_is_refused_while_it_is_read(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(50):
            archive.writestr(f"{number}.png", b"")
    made: list[str] = []

    class Counted(zipfile.ZipInfo):
        def __init__(self, filename: str) -> None:
            made.append(filename)
            super().__init__(filename)

    monkeypatch.setattr(zipfile, "ZipInfo", Counted)
    monkeypatch.setattr("xai.data.archive.MAX_LISTED", 3)
    with pytest.raises(
        InputError, match=r"many\.zip: it lists more than 3 files and folders; split it, or give a folder"
    ):
        open_dataset(tmp_path / "many.zip")
    assert len(made) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [("", r"^data '' does not exist; give a folder"), ("~nobody-of-this-name/x", r"^~nobody-of-this-name/x cannot be")],
)
def test_what_a_person_types_that_is_no_place_is_said(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_dataset(text)
    assert dataset_stamp("~nobody-of-this-name/x") == ()
