"""Data sets: labels from folder names, zips that mean harm, files that are broken, and reading ahead."""

import dataclasses
import io
import pickle
import stat
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from xai.data import SAMPLES, Item, imagenet_wnids, list_samples, open_dataset
from xai.data import archive as archive_module
from xai.data.loader import read_batches
from xai.errors import ImageError, InputError, UnknownNameError
from xai.models.spec import imagenet_labels


def png(colour: tuple[int, int, int] = (10, 20, 30), size: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def folder_of(root: Path, names: list[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png())
    return root


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def labels(data) -> dict[str, int | None]:
    return {item.key: item.label for item in data.items}


# --- layouts -----------------------------------------------------


def test_imagenet_v2_folders_are_class_indices_and_not_their_sorted_places(tmp_path):
    data = open_dataset(folder_of(tmp_path, ["10/a.png", "2/a.png", "281/a.png", "999/a.png"]))
    assert labels(data) == {"10/a.png": 10, "2/a.png": 2, "281/a.png": 281, "999/a.png": 999}
    assert data.layout == "class index"
    assert len(data.classes) == 1000
    # The trap: plain sorted folder order would number them 0 to 3, "10" before "2".
    assert sorted({item.label for item in data.items}) != [0, 1, 2, 3]
    assert data.class_map(imagenet_labels()) == tuple(range(1000))


def test_wordnet_ids_are_numbered_among_all_thousand(tmp_path):
    data = open_dataset(folder_of(tmp_path, ["n02123045/a.JPEG", "n01440764/a.JPEG"]))
    assert labels(data) == {"n01440764/a.JPEG": 0, "n02123045/a.JPEG": 281}
    assert imagenet_labels()[281] == "tabby"
    assert data.layout == "WordNet id"
    assert data.class_map(imagenet_labels()) == tuple(range(1000))
    assert data.class_map(("cat", "dog")) is None


def test_the_shipped_wordnet_ids_are_in_class_order():
    from torchvision.datasets.imagenette import Imagenette

    wnids = imagenet_wnids()
    assert len(set(wnids)) == 1000
    assert list(wnids) == sorted(wnids)
    for wnid, names in Imagenette._WNID_TO_CLASS.items():  # the ten that torchvision ships with their names
        assert imagenet_labels()[wnids.index(wnid)] in names


def test_class_folders_are_sorted_by_name_and_a_wrapping_folder_is_passed_through(tmp_path):
    data = open_dataset(folder_of(tmp_path, ["all/dog/x/1.png", "all/cat/1.png", "all/cat/2.PNG"]))
    assert data.classes == ("cat", "dog")
    assert labels(data) == {"all/cat/1.png": 0, "all/cat/2.PNG": 0, "all/dog/x/1.png": 1}
    assert data.counts == {"cat": 2, "dog": 1}
    assert data.sentence == "3 images, 2 classes (class folders)"


def test_class_folders_fit_a_classifier_whose_labels_have_their_names(tmp_path):
    data = open_dataset(folder_of(tmp_path, ["Golden_Retriever/1.png", "tabby/1.png"]))
    assert data.class_map(("tabby", "golden retriever")) == (1, 0)
    assert data.class_map(("tabby", "beagle")) is None


@pytest.mark.parametrize("names", [("1", "2", "3"), ("n01440764", "n01443537", "n02123045")])
def test_numbers_and_ids_fit_a_classifier_that_was_trained_on_such_folders(names, tmp_path):
    trained = open_dataset(folder_of(tmp_path / "all", [f"{name}/a.png" for name in names]))
    assert trained.used().classes == names

    def mapped(folders: Sequence[str], place: str) -> list[int] | None:
        data = open_dataset(folder_of(tmp_path / place, [f"{name}/a.png" for name in folders]))
        found = data.class_map(names)
        return None if found is None else [found[item.label] for item in data.items if item.label is not None]

    assert mapped(names, "same") == [0, 1, 2]
    assert mapped(names[:2], "fewer") == [0, 1]
    assert mapped(names[1:], "others") == [1, 2]
    other = "0" if names[0] == "1" else "n02123597"
    assert mapped((names[0], other), "odd") is None  # not as an index either: 0 is no folder that it was trained on
    assert mapped((other,), "none of them") is None


def test_numbers_fit_by_their_value_however_they_are_written(tmp_path):
    data = open_dataset(folder_of(tmp_path, ["1/a.png", "2/a.png"]))
    assert data.class_map(("01", "02", "03")) == (0, 0, 1)  # of 0, without images, nothing is said
    assert data.class_map(("3", "5")) is None
    assert data.class_map(("cat", "dog", "class 3")) == (0, 1, 2)  # no numbers: the folders are its indices


def test_classes_txt_sets_the_order(tmp_path):
    folder_of(tmp_path, ["cat/1.png", "dog/1.png"])
    (tmp_path / "classes.txt").write_text("dog\ncat\nowl\n")
    data = open_dataset(tmp_path)
    assert data.classes == ("dog", "cat", "owl")
    assert labels(data) == {"cat/1.png": 1, "dog/1.png": 0}
    (tmp_path / "classes.txt").write_text("dog\nowl\n")
    with pytest.raises(InputError, match=r"folder 'cat' is not in the list of classes; put classes\.txt"):
        open_dataset(tmp_path)


def test_an_id_outside_imagenet_asks_for_a_list_and_a_synset_mapping_gives_it(tmp_path):
    val = folder_of(tmp_path / "val", ["n00000001/1.png", "n02123045/1.png"])
    with pytest.raises(InputError, match=r"folder 'n00000001' is not in the list of classes"):
        open_dataset(val)
    (tmp_path / "LOC_synset_mapping.txt").write_text("n02123045 tabby, tabby cat\nn00000001 thing\n")
    assert labels(open_dataset(val)) == {"n00000001/1.png": 1, "n02123045/1.png": 0}


def test_the_flat_validation_folder_takes_its_labels_from_the_solution_file(tmp_path):
    val = folder_of(tmp_path / "val", ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"])
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\nILSVRC2012_val_00000001,n02123045 1 2 3 4 n02123045 5 6 7 8\n"
    )
    data = open_dataset(val)
    assert list(labels(data).values()) == [281, None]
    assert data.layout == "WordNet id"


def test_images_without_folders_have_no_labels(tmp_path):
    data = open_dataset(folder_of(tmp_path, ["b.png", "a.png"]))
    assert labels(data) == {"a.png": None, "b.png": None}
    assert data.layout == "unlabelled"
    assert data.classes == ()
    assert data.class_map(imagenet_labels()) is None
    # One folder of photographs inside a zip or a folder says nothing about classes either ...
    assert open_dataset(folder_of(tmp_path / "x", ["holiday/1.png"])).layout == "unlabelled"
    # ... unless its name is a class index.
    assert labels(open_dataset(folder_of(tmp_path / "y", ["281/deep/1.png"]))) == {"281/deep/1.png": 281}


def test_a_layout_can_be_insisted_on(tmp_path):
    folder_of(tmp_path, ["2/a.png", "10/a.png"])
    data = open_dataset(tmp_path, layout="class folders")
    assert data.classes == ("10", "2")
    with pytest.raises(InputError, match=r"layout 'wnid' is not known; use auto, class folders"):
        open_dataset(tmp_path, layout="wnid")


@pytest.mark.parametrize("around", ["", "mri/"])
def test_folders_called_train_and_test_divide_the_images_and_are_no_classes(around, tmp_path):
    names = [f"{around}{part}/{kind}/{part}.png" for part in ("Train", "valid", "Testing") for kind in ("cat", "dog")]
    folder_of(tmp_path / "f", [*names, f"{around}Testing/flat.png"])
    members = {name: png() for name in [*names, f"{around}Testing/flat.png"]}
    for place in (tmp_path / "f", zip_of(tmp_path / "z.zip", members)):
        data = open_dataset(place)
        assert data.classes == ("cat", "dog")
        assert {item.key: (item.label, item.part) for item in data.items} == {
            name: (int("dog" in name), {"Train": "train", "valid": "validation", "Testing": "test"}[Path(name).stem])
            for name in names
        }
        assert data.parts == {"train": 2, "validation": 2, "test": 2}
        assert data.sentence == (
            "6 images, 2 classes (class folders), divided by their folders (train 2, validation 2, test 2), "
            "1 file left out"
        )
        assert [(p.key, p.reason) for p in data.problems] == [(f"{around}Testing/flat.png", "not in a class folder")]


OTHER_PARTS = {
    "dev": "{part}/{label}/{n}.png train dev",
    "eval": "{part}/{label}/{n}.png Training Eval",
    "seg": "{part}/{label}/{n}.png seg_train seg_test",
    "seg twice, as in Kaggle's Intel images": "{part}/{part}/{label}/{n}.png seg_train seg_test",
    "dashes": "around/{part}/{label}/{n}.png my-data-train my-data-val",
    "images": "images/{part}/{label}/{n}.png train val",
    "below": "{label}/{part}/{n}.png train test",
    "below, around": "around/{label}/{part}/more/{n}.png train validation",
}


@pytest.mark.parametrize("how", OTHER_PARTS)
def test_other_ways_to_divide_images_by_folders_are_recognised(tmp_path, how):
    form, first, second = OTHER_PARTS[how].split()
    names = {
        form.format(part=part, label=label, n=n): (label, part)
        for part in (first, second)
        for label in ("cat", "dog")
        for n in range(2)
    }
    more = {"images": ["labels/train/cat/0.png"], "seg": ["seg_pred/0.png"]}.get(how, [])
    folder_of(tmp_path, [*names, *more])
    data = open_dataset(tmp_path)
    second_part = "test" if "test" in second else "validation"
    assert (data.classes, data.parts) == (("cat", "dog"), {"train": 4, second_part: 4})
    for item in data.items:
        label, part = names[item.key]
        assert (data.classes[item.label], item.part) == (label, "train" if part == first else second_part)
    assert "became" not in data.sentence


@pytest.mark.parametrize(
    ("names", "classes", "told"),
    [
        (["bullet_train/1.png", "blood_test/1.png"], ("blood_test", "bullet_train"), ""),
        (["seg_train/1.png", "seg_test/1.png"], ("seg_test", "seg_train"), "'seg_test' and 'seg_train' became classes"),
        (["bus/1.png", "train/1.png"], ("bus", "train"), "'train' became a class, not a part of a split"),
        (["cat/train/1.png", "cat/2.png", "dog/test/1.png"], ("cat", "dog"), ""),
        (["images/1.png", "dog/1.png"], ("dog", "images"), ""),
    ],
)
def test_names_like_those_of_parts_stay_classes_where_they_may_be_and_are_named(tmp_path, names, classes, told):
    data = open_dataset(folder_of(tmp_path, names))
    assert (data.classes, data.parts) == (classes, {})
    assert told in data.sentence
    assert ("became" in data.sentence) is bool(told)


def test_what_lies_beside_given_parts_is_listed_and_a_class_may_be_called_train(tmp_path):
    names = ["train/cat/1.png", "train/dog/1.png", "test/cat/2.png"]
    data = open_dataset(folder_of(tmp_path / "a", [*names, "samples/1.png", "cover.png"]))
    assert (data.classes, [item.key for item in data.items]) == (("cat", "dog"), sorted(names))
    assert {p.key: p.reason for p in data.problems} == dict.fromkeys(
        ("samples/1.png", "cover.png"), "beside the folders test, train"
    )
    vehicles = open_dataset(folder_of(tmp_path / "b", ["bus/1.png", "car/1.png", "train/1.png"]))
    assert (vehicles.classes, vehicles.parts) == (("bus", "car", "train"), {})
    one = open_dataset(folder_of(tmp_path / "c", ["train/cat/1.png", "train/dog/1.png"]))
    assert (one.classes, one.parts) == (("cat", "dog"), {})
    flat = open_dataset(folder_of(tmp_path / "d", ["train/1.png", "test/2.png"]))
    assert (flat.layout, flat.parts) == ("unlabelled", {"train": 1, "test": 1})


def test_hidden_files_are_told_and_what_a_system_leaves_behind_in_one_line(tmp_path):
    names = ["cat/1.png", "dog/1.png", "cat/.2.png", ".old/1.png", ".old/2.png"]
    folder_of(tmp_path / "f", names)
    for name in ("cat/.DS_Store", "dog/.DS_Store", "Thumbs.db", "cat/._1.png"):
        (tmp_path / "f" / name).write_bytes(b"x")
    members = {str(path.relative_to(tmp_path / "f")): path.read_bytes() for path in (tmp_path / "f").rglob("*.*")
               if path.is_file()}  # fmt: skip
    for place in (tmp_path / "f", zip_of(tmp_path / "z.zip", members)):
        data = open_dataset(place)
        assert len(data) == 2
        assert {p.key: p.reason for p in data.problems} == {
            "cat/.2.png": "hidden: its name begins with a dot",
            ".old/ (2 files)": "hidden: its name begins with a dot",
            ".DS_Store (2 files), ._*, Thumbs.db": "left behind by the operating system; no image",
        }


def test_a_class_may_have_a_colon_in_its_name(tmp_path):
    members = {"T1: with contrast/1.png": png(), "a:b/2.png": png(), "C:/3.png": png()}
    data = open_dataset(zip_of(tmp_path / "x.zip", members))
    assert data.classes == ("T1: with contrast", "a:b")
    assert [(p.key, p.reason) for p in data.problems] == [("C:/3.png", "its path leads outside the zip")]


def test_one_class_folder_says_that_there_is_only_one_class(tmp_path):
    for place in (folder_of(tmp_path / "f", ["brain/yes/1.png", "brain/yes/2.png"]),
                  zip_of(tmp_path / "z.zip", {"yes/1.png": png(), "yes/2.png": png()})):  # fmt: skip
        with pytest.raises(
            InputError, match=r"^there is only one class: all 2 images lie in the folder 'yes'; add a f"
        ):
            open_dataset(place).check_labels()


def test_what_cannot_be_used_is_listed_and_left_out(tmp_path):
    folder_of(tmp_path, ["cat/1.png", "dog/1.png", "loose.png"])
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "cat" / "empty.png").write_bytes(b"")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    data = open_dataset(tmp_path)
    assert {p.key: p.reason for p in data.problems} == {
        "cat/notes.txt": "not an image file",
        "cat/empty.png": "empty file",
        "loose.png": "not in a class folder",
        ".DS_Store": "left behind by the operating system; no image",
    }
    assert len(data) == 2
    assert data.sentence == "2 images, 2 classes (class folders), 4 files left out"
    one = dataclasses.replace(data, items=data.items[:1], problems=data.problems[:1])
    assert one.sentence == "1 image, 1 class (class folders), 1 file left out"


def test_refusals_say_what_to_do(tmp_path):
    with pytest.raises(
        InputError, match=r"data 'nowhere' does not exist; give a folder, a zip, or one of sample:photos"
    ):
        open_dataset("nowhere")
    with pytest.raises(UnknownNameError, match=r"sample 'photo' is not known; did you mean photos\?"):
        open_dataset("sample:photo")
    with pytest.raises(InputError, match=r"there is no image in it \(0 files\)"):
        open_dataset(tmp_path)
    (tmp_path / "not.zip").write_bytes(b"hello")
    with pytest.raises(InputError, match=r"not\.zip cannot be read as a zip"):
        open_dataset(tmp_path / "not.zip")


# --- zips --------------------------------------------------------


def test_a_zip_reads_like_the_folder_it_was_made_of(tmp_path):
    members = {"v2/10/a.png": png((1, 2, 3)), "v2/2/b.png": png((4, 5, 6)), "__MACOSX/v2/10/._a.png": b"x"}
    data = open_dataset(zip_of(tmp_path / "v2.zip", members))
    assert labels(data) == {"v2/10/a.png": 10, "v2/2/b.png": 2}
    assert [(p.key, p.reason) for p in data.problems] == [("__MACOSX", "left behind by the operating system; no image")]
    assert data.items[0].open().getpixel((0, 0)) == (1, 2, 3)
    again = pickle.loads(pickle.dumps(data.items[1]))
    assert again.open().getpixel((0, 0)) == (4, 5, 6)
    assert list(tmp_path.iterdir()) == [tmp_path / "v2.zip"]  # nothing is unpacked


def test_harmful_members_are_left_out_with_their_reason(tmp_path):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", png())
        archive.writestr("../../outside.png", png())
        archive.writestr("/etc/absolute.png", png())
        archive.writestr("C:/windows.png", png())
        archive.writestr("bomb.png", b"\0" * 4_000_000)
        archive.writestr("empty.png", b"")
        archive.writestr("inner.zip", b"PK")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    data = open_dataset(path)
    assert [item.key for item in data.items] == ["good.png"]
    reasons = {p.key: p.reason for p in data.problems}
    assert reasons.pop("bomb.png").startswith("unpacks to ")
    assert reasons == {
        "../../outside.png": "its path leads outside the zip",
        "/etc/absolute.png": "its path leads outside the zip",
        "C:/windows.png": "its path leads outside the zip",
        "empty.png": "empty file",
        "inner.zip": "not an image file",
        "link.png": "a link",
    }


def test_encrypted_and_repeated_members_are_left_out(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"a.png": png(), "b.png": png()})
    raw = bytearray(path.read_bytes())
    entry = raw.rfind(b"PK\x01\x02")  # b.png in the central directory: set its "encrypted" bit
    raw[entry + 8] |= 1
    path.write_bytes(bytes(raw))
    data = open_dataset(path)
    assert [(p.key, p.reason) for p in data.problems] == [("b.png", "encrypted")]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", png())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", png())
    assert [(p.key, p.reason) for p in open_dataset(path).problems] == [("a.png", "twice in the zip")]


def test_too_many_members_and_too_much_in_all_are_refused(tmp_path, monkeypatch):
    path = zip_of(tmp_path / "x.zip", {"a.png": png(), "b.png": png()})
    monkeypatch.setattr(archive_module, "MAX_MEMBERS", 1)
    with pytest.raises(InputError, match=r"x\.zip: it has 2 files, more than 1; split it"):
        open_dataset(path)
    monkeypatch.undo()
    monkeypatch.setattr(archive_module, "MAX_TOTAL_BYTES", 100)
    with pytest.raises(InputError, match=r"x\.zip: it unpacks to 0 GB, more than 0 GB"):
        open_dataset(path)


def test_a_size_that_lies_does_not_read_past_itself(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"a.png": png(), "liar.png": b"\x89PNG" + b"\0" * 100_000})
    raw = bytearray(path.read_bytes())
    entry = raw.rfind(b"PK\x01\x02")
    raw[entry + 24 : entry + 28] = struct.pack("<I", 10)  # claims to unpack to 10 bytes
    path.write_bytes(bytes(raw))
    data = open_dataset(path)
    with pytest.raises(ImageError, match=r"liar\.png|image"):
        data.items[1].open()


def test_a_damaged_member_is_an_image_error_when_read(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"a.png": png(), "b.png": b"no image at all"})
    data = open_dataset(path)
    with pytest.raises(ImageError):
        data.items[1].open()
    path.unlink()
    with pytest.raises(ImageError, match=r"a\.png cannot be read out of x\.zip"):
        data.items[0].open()


# --- the data set itself -----------------------------------------


def test_every_sample_opens_and_names_its_source():
    assert list_samples()[0] == "photos"
    for spec in SAMPLES:
        assert spec.source.citation
        assert spec.source.link.startswith("https://")
    data = open_dataset("sample:photos")
    assert len(data) >= 5
    assert data.classes == ()
    assert data.items[0].open().mode == "RGB"


def test_a_drawn_sample_is_seeded_and_keeps_the_order(tmp_path):
    data = open_dataset(folder_of(tmp_path, [f"{index:02}.png" for index in range(20)]))
    keys = [item.key for item in data.sample(5, seed=1).items]
    assert keys == [item.key for item in data.sample(5, seed=1).items] == sorted(keys)
    assert keys != [item.key for item in data.sample(5, seed=2).items]
    assert data.sample(20) is data
    with pytest.raises(InputError, match=r"the number of images is 0; give 1 or more\."):
        data.sample(0)


def test_the_fingerprint_sees_another_file_another_size_and_another_label(tmp_path):
    first = open_dataset(folder_of(tmp_path / "a", ["1/x.png", "2/x.png"])).fingerprint
    assert first == open_dataset(folder_of(tmp_path / "b", ["1/x.png", "2/x.png"])).fingerprint
    assert first != open_dataset(folder_of(tmp_path / "c", ["1/x.png", "3/x.png"])).fingerprint
    (tmp_path / "b" / "1" / "x.png").write_bytes(png() + bytes(1))
    assert first != open_dataset(tmp_path / "b").fingerprint
    assert first != open_dataset(tmp_path / "a", layout="class folders").fingerprint


# --- reading ahead --------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_what_each_classifier_would_make_of_the_images(workers, tiny, lite0):
    data = open_dataset("sample:photos")
    batches = list(read_batches(data.items, [(0, 1), (2,), (4, 3)], [tiny, lite0, tiny], workers=workers))
    assert [[item.key for item in batch.items] for batch in batches] == [
        [data.items[place].key for place in places] for places in [(0, 1), (2,), (4, 3)]
    ]
    assert len(batches[0].levels) == 2  # two classifiers see the same pixels
    for classifier in (tiny, lite0):
        expected = classifier.preprocess([item.open() for item in batches[2].items])
        assert torch.equal(batches[2].pixels(classifier), expected)
    assert batches[0].mask(tiny) is None


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_decoded_is_a_problem_of_its_batch(workers, tmp_path, tiny):
    folder_of(tmp_path, ["a.png", "c.png"])
    (tmp_path / "b.png").write_bytes(png()[:40])
    data = open_dataset(tmp_path)
    first, second = read_batches(data.items, [(0, 1), (2,)], [tiny], workers=workers)
    assert [item.key for item in first.items] == ["a.png"]
    assert first.pixels(tiny).shape == (1, 3, 64, 64)
    assert [problem.key for problem in first.problems] == ["b.png"]
    assert first.problems[0].reason
    assert [item.key for item in second.items] == ["c.png"]


def test_masks_are_seen_as_the_image_is(tiny):
    def picture() -> Image.Image:
        return Image.new("RGB", (128, 64))

    def mask() -> Image.Image:
        drawn = Image.new("L", (128, 64))
        drawn.paste(255, (64, 0, 128, 64))
        return drawn

    (batch,) = read_batches([Item("x", 0, picture, open_mask=mask)], [(0,)], [tiny])
    seen = batch.mask(tiny)
    assert seen is not None
    assert seen.shape == (1, 64, 64)
    assert float(seen.float().mean()) == pytest.approx(0.5, abs=0.02)
    assert not bool(seen[0, :, :30].any())
    (both,) = read_batches([Item("x", 0, picture, open_mask=mask), Item("y", 0, picture)], [(0, 1)], [tiny])
    assert both.mask(tiny) is None


def test_reading_ahead_stops_with_its_reader_and_is_bounded(tiny):
    opened: list[int] = []

    def item(index: int) -> Item:
        def picture() -> Image.Image:
            opened.append(index)
            return Image.new("RGB", (64, 64))

        return Item(str(index), None, picture)

    batches = read_batches([item(index) for index in range(50)], [(index,) for index in range(50)], [tiny])
    next(batches)
    batches.close()
    assert len(opened) <= 4


def test_worker_processes_leave_torchs_generator_alone(tiny):
    before = torch.random.get_rng_state()
    list(read_batches(open_dataset("sample:photos").items, [(0,)], [tiny], workers=1))
    assert torch.equal(before, torch.random.get_rng_state())
