"""The audit with what people really have: masks that fit no image, tables with other files, networks that fail."""

from __future__ import annotations

import json
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.unit.studies.bias.test_bias import by_brightness, different_pictures, pictures
from xai import cli, settings
from xai.data import open_dataset
from xai.data.groups import groups_by, matched, table_of
from xai.data.spec import Item
from xai.errors import InputError, NotApplicableError, UnknownNameError
from xai.models.store import load_model
from xai.runs.files import RunFiles
from xai.settings import ASSETS
from xai.stats.intervals import Interval, less, wilson
from xai.studies.bias import own as bias_own
from xai.studies.bias.audit import audit, read_audit
from xai.studies.bias.findings import Audit, Group, Reliance
from xai.studies.bias.groups import FOLDERS, groups_in, groups_of, with_masks
from xai.studies.bias.mend import MendRequest, mend_own
from xai.studies.bias.own import OwnRequest, audit_own
from xai.studies.bias.run import BiasRequest, study_bias
from xai.studies.bias.subjects import of_items
from xai.studies.bias.train import Experiment
from xai.studies.bias.verdict import learned, verdict
from xai.types import Run


def white(path: Path, size: tuple[int, int] = (64, 64), level: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).save(path)
    return path


# --- masks ------------------------------------------------------------------------------------------------------------


def test_masks_are_found_by_name_and_what_fits_no_image_is_listed(tmp_path: Path) -> None:
    items = open_dataset(pictures(tmp_path)).items  # cat/dark/0.png ... dog/light/1.png
    flat = tmp_path / "flat"
    for name in ("cat/dark/0.png", "dark/1.png", "unknown.png", "again/cat/dark/0.bmp"):
        white(flat / name)
    found, told, problems = with_masks(items, flat)
    assert told == "masks for 1 of 8 images"
    assert [item.key for item in found if item.open_mask is not None] == ["cat/dark/0.png"]
    assert {each.key: each.reason for each in problems} == {
        "again/cat/dark/0.bmp": "mask left out: cat/dark/0.png has a mask already",
        "dark/1.png": "mask left out: 2 images are named so; lay masks out like the images",
        "unknown.png": "mask left out: no image's name",
    }
    with pytest.raises(InputError, match=r"holds no mask for any image; name each as its image\.$"):
        with_masks(items, white(tmp_path / "none" / "x.png").parent)
    with pytest.raises(InputError, match=r"^masks '/not/there' does not exist; give a folder or a zip of masks"):
        with_masks(items, "/not/there")


def test_masks_of_images_that_are_not_asked_about_are_no_misfits(tmp_path: Path) -> None:
    items = open_dataset(pictures(tmp_path)).items
    for item in items:
        white(tmp_path / "masks" / item.key)
    white(tmp_path / "masks" / "stray.png")
    _, told, problems = with_masks(items[:3], tmp_path / "masks", {item.key for item in items})
    assert told == "masks for 3 of 3 images"
    assert [each.key for each in problems] == ["stray.png"]


def test_a_name_that_two_images_of_the_data_have_is_not_clear_in_a_sample_of_it(tmp_path: Path) -> None:
    items = [replace(item, key=f"{kind}/1.png") for kind, item in
             zip(("cat", "dog"), open_dataset(pictures(tmp_path)).items, strict=False)]  # fmt: skip
    known = {item.key for item in items}
    with pytest.raises(InputError, match=r"holds no mask for any image"):
        with_masks(items[:1], white(tmp_path / "flat" / "1.png").parent, known)
    white(tmp_path / "flat" / "cat" / "1.png")
    found, _, problems = with_masks(items[:1], tmp_path / "flat", known)
    assert [each.reason for each in problems] == ["mask left out: 2 images are named so; lay masks out like the images"]
    assert found[0].open_mask is not None
    with pytest.raises(InputError, match=r"^g\.csv has no group for cat/1\.png; 2 images are called 1\.png: give its"):
        groups_in({"1.png": "a"}, items[:1], "g.csv", known)


def test_masks_come_out_of_a_zip_with_a_folder_around_them_and_of_flat_files(tmp_path: Path) -> None:
    items = open_dataset(pictures(tmp_path)).items
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
        for item in items:
            archive.write(tmp_path / "masks" / item.key, f"my masks/{item.key}")
        archive.writestr("my masks/readme.txt", "hello")
    found, told, problems = with_masks(items, tmp_path / "masks.zip")
    assert told == "masks for 8 of 8 images"
    assert [(each.key, each.reason) for each in problems] == [("my masks/readme.txt", "not an image file")]
    assert np.asarray(found[0].open_mask().convert("L")).mean() == pytest.approx(255 * 1600 / 4096)  # type: ignore[misc]
    alone = [replace(item, key=f"cat/{index}.jpg") for index, item in enumerate(items)]
    for index in range(3):
        white(tmp_path / "loose" / f"{index}.png")
    assert with_masks(alone, tmp_path / "loose")[1:] == ("masks for 3 of 8 images", ())


def test_an_image_whose_mask_does_not_fit_is_kept_and_listed(tmp_path: Path) -> None:
    items = list(open_dataset(pictures(tmp_path)).items)
    outside = np.zeros((64, 128), np.uint8)
    outside[:, :20] = 255
    masks = {
        0: Image.new("L", (32, 32), 255),
        1: Image.new("L", (64, 64), 0),
        2: Image.fromarray(outside),
    }
    for place, mask in masks.items():
        items[place] = replace(items[place], open_mask=lambda mask=mask: mask)
    items[2] = replace(items[2], open=lambda: Image.new("RGB", (128, 64), "grey"))
    three = of_items(items[:3], [0, 0, 1], ["a", "b", "a"], "brightness", by_brightness(), Run())
    assert (three.how, three.swaps) == ("no mask fits its image", ())
    items[3] = replace(items[3], open_mask=lambda: Image.open(tmp_path / "masks" / items[3].key))
    found = of_items(items, [i.label or 0 for i in items], ["a", "b"] * 4, "brightness", by_brightness(), Run())
    assert len(found) == 8
    assert found.swaps[0].places.tolist() == [3]
    assert [each.reason for each in found.problems] == [
        "kept without its mask: its mask is 32 x 32, the image 64 x 64; give it the same size.",
        "kept without its mask: its mask is empty; paint what is to be recoloured white.",
        "kept without its mask: it lies outside what the network sees; use the view whole.",
    ]


# --- groups -----------------------------------------------------------------------------------------------------------


def test_images_that_do_not_fit_the_memory_are_refused_before_they_are_read(tmp_path: Path, monkeypatch) -> None:
    items = [replace(item, open=lambda: pytest.fail("it was read")) for item in open_dataset(pictures(tmp_path)).items]
    items[0] = replace(items[0], open_mask=lambda: pytest.fail("it was read"))
    side = by_brightness().input_size[0]
    need = 2 * 9 * 3 * side * side * 4  # 8 images and 1 that is recoloured, float32, twice while they are joined
    monkeypatch.setattr(settings, "free_memory", lambda: need - 1)
    with pytest.raises(
        InputError, match=r"^8 images at 64 x 64 px need 0\.0 GB of memory, of which 0\.0 GB are free; audit"
    ):
        of_items(items, [0] * 8, ["a"] * 8, "brightness", by_brightness(), Run())
    for enough in (need, None):
        monkeypatch.setattr(settings, "free_memory", lambda enough=enough: enough)
        with pytest.raises(pytest.fail.Exception, match="it was read"):
            of_items(items, [0] * 8, ["a"] * 8, "brightness", by_brightness(), Run())


def test_what_does_not_fit_the_memory_is_refused_before_anything_is_trained_for_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(settings, "free_memory", lambda: 0)
    own = OwnRequest(str(different_pictures(tmp_path)), "simple_cnn")
    with pytest.raises(InputError, match=r"^4 images at 64 x 64 px need"):
        mend_own(MendRequest(own, 1, 1), tmp_path / "mended", device="cpu")
    with pytest.raises(InputError, match=r"^8 images at 64 x 64 px need .* else --per-group N\)\.$"):
        study_bias(BiasRequest(Experiment(cats=4, dogs=4, epochs=1), per_group=2), tmp_path / "drawn", device="cpu")
    assert not [*tmp_path.glob("*/checkpoints")]
    # An image of the generator has nine times its size: itself, and each of eight factors swapped.
    monkeypatch.setattr(settings, "free_memory", lambda: 2 * 9 * 8 * 3 * 64 * 64 * 4 - 1)
    with pytest.raises(InputError, match=r"^8 images at 64 x 64 px need"):
        audit_own(OwnRequest("sample:pets?cats=4&dogs=4", "simple_cnn", "random:0"), tmp_path / "own", device="cpu")


def test_a_method_that_does_not_apply_is_refused_before_images_are_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(bias_own, "of_items", lambda *_: pytest.fail("it was read"))
    own = OwnRequest(str(pictures(tmp_path)), "simple_cnn", "random:0", masks=str(tmp_path / "masks"))
    with pytest.raises(NotApplicableError, match=r"^Attention rollout does not apply to SimpleCNN: "):
        audit_own(replace(own, methods=("attention_rollout",)), tmp_path / "run", device="cpu")


def test_a_table_that_names_other_files_says_which(tmp_path: Path) -> None:
    items = open_dataset(pictures(tmp_path)).items
    lines = [f"{item.key},{item.key[:3]}" for item in items]
    extra = ["gone/1.png,a", "gone/2.png,a", "gone/3.png,a", "gone/4.png,a"]
    (tmp_path / "g.csv").write_text("\n".join(["file,group", *lines, *extra]), encoding="utf-8")
    told = groups_of(items, str(tmp_path / "g.csv"))[1]
    assert told == ("groups from g.csv, 8 of 12 lines matched (not: gone/1.png, gone/2.png, gone/3.png and 1 more)")
    part = [item for item in items if item.key.startswith(("cat/dark/0", "dog/dark/0"))]
    (tmp_path / "h.csv").write_text("\n".join(["file,group", *lines]), encoding="utf-8")
    assert groups_of(part, str(tmp_path / "h.csv"), known={i.key for i in items})[1] == (
        "groups from h.csv, 8 of 8 lines matched"
    )


def test_a_table_of_a_folder_fits_its_zip_which_has_a_folder_around_everything(tmp_path: Path) -> None:
    root = pictures(tmp_path)
    inside = open_dataset(root).items
    lines = [f"{item.key},{item.key.split('/')[1]}" for item in inside]
    (tmp_path / "g.csv").write_text("\n".join(["file,group", *lines]), encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for item in inside:
            archive.write(root / item.key, f"my pets/{item.key}")
    zipped = open_dataset(tmp_path / "pets.zip").items
    expected = ("dark", "dark", "light", "light") * 2
    for items in (inside, zipped):
        assert groups_of(items, str(tmp_path / "g.csv")) == (expected, "groups from g.csv, 8 of 8 lines matched")
    around = {f"/data/my pets/{line.split(',')[0]}": line.split(",")[1] for line in lines}
    assert groups_in(around, inside, "g.csv") == (expected, "groups from g.csv, 8 of 8 lines matched")
    # A line that could mean two images means neither, and a whole path goes before the end of one.
    assert matched({"1.png": "x", "a/1.png": "y"}, ["a/1.png", "b/a/1.png"], "g") == {"a/1.png": "a/1.png"}
    assert matched({"x.png": "x", "cat/x.png": "y"}, ["d/cat/x.png"], "g") == {"d/cat/x.png": "cat/x.png"}


def test_groups_of_a_split_come_from_a_pattern_or_a_table_and_say_how_many_images_have_one(tmp_path: Path) -> None:
    items = open_dataset(pictures(tmp_path)).items
    groups, told = groups_by(items[:6], r"(dark|light)/0")
    assert groups == ("dark", "", "light", "", "dark", "")
    assert told == (
        "groups from the file names by '(dark|light)/0': 3 of 6 images in 2 groups; the other 3 stand alone"
    )
    (tmp_path / "g.csv").write_text("file,group\ncat/dark/0.png,p1\ngone.png,p2\n", encoding="utf-8")
    groups, told = groups_by(items, str(tmp_path / "g.csv"))
    assert groups == ("p1", *[""] * 7)
    assert told == (
        "groups from g.csv, 1 of 2 lines matched (not: gone.png): 1 of 8 images in 1 group; the other 7 stand alone"
    )
    with pytest.raises(InputError, match=r"by 'patient': none of the 8 images has a group, such as cat/dark/0\.png; "):
        groups_by(items, "patient")
    with pytest.raises(InputError, match=r"^groups 'patient\(' is no regular expression \(.*\); give one such as "):
        groups_by(items, "patient(")


def test_a_table_that_contradicts_itself_or_is_not_clear_is_refused(tmp_path: Path) -> None:
    items = open_dataset(pictures(tmp_path)).items
    with pytest.raises(InputError, match=r"^g\.csv has two groups for cat/dark/0\.png: a and b; keep one line\.$"):
        table_of("file,group\ncat/dark/0.png,a\ncat/dark/0.png,b\n", "g.csv")
    with pytest.raises(InputError, match=r"^g\.csv has no group for cat/dark/0\.png; 4 images are called 0\.png: give"):
        groups_in({"0.png": "a"}, items, "g.csv")
    with pytest.raises(InputError, match=r"has the columns file;group; it needs file and group, with a comma between"):
        table_of("file;group\n0.png;a\n", "g.csv")
    with pytest.raises(InputError, match=r"^g\.csv has no group for cat/dark/0\.png; add a line"):
        groups_in({}, items, "g.csv")


@pytest.mark.parametrize("order", [1, -1])
def test_two_lines_of_a_table_that_mean_one_image_are_refused_where_their_groups_differ(tmp_path, order) -> None:
    items = open_dataset(pictures(tmp_path)).items
    other = [f"{item.key},{item.key[:3]}" for item in items if item.key != "cat/dark/0.png"]
    lines = ["old/cat/dark/0.png,a", "new/my/cat/dark/0.png,b"]

    def table(*more: str) -> str:
        place = tmp_path / "g.csv"
        place.write_text("\n".join(["file,group", *other, *[*lines, *more][::order]]), encoding="utf-8")
        return str(place)

    told = (
        r"^g\.csv has two lines for cat/dark/0\.png: \S+ with the group [ab] and \S+ with the group [ab]; keep one\.$"
    )
    for ask in (groups_by, groups_of):
        with pytest.raises(InputError, match=told) as refused:
            ask(items, table())
        assert all(line.split(",")[0] in str(refused.value) for line in lines)
        assert ask(items, table("cat/dark/0.png,c", "0.png,d"))[0][0] == "c"  # what has more of the path counts
    lines[1] = "new/cat/dark/0.png,a"
    assert groups_by(items, table())[0][0] == "a"


def test_a_regular_expression_that_takes_too_long_is_stopped_and_others_go_on_meanwhile() -> None:
    items = [Item("a" * 40 + "!.png", 0, Image.Image)]
    begun, turns = time.monotonic(), 0
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(groups_by, items, "(a+)+$")
        while not asked.done():
            time.sleep(0.01)
            turns += 1
        with pytest.raises(InputError, match=r"^groups '\(a\+\)\+\$' takes longer than 5 s on 1 name; give a simpler"):
            asked.result()
    assert time.monotonic() - begun < 60
    assert turns > 50
    for how in ("a{99999999999}", "(" * 150 + ")" * 50):
        with pytest.raises(InputError, match=r"^groups '.*' is no regular expression \(.*\); give one such as"):
            groups_by(items, how)
    with pytest.raises(InputError, match=r"^groups is a regular expression of 201 characters; give at most 200\.$"):
        groups_by(items, "a" * 201)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            'file,group\n0.png,a\n1.png,"b\n2.png,c\n',
            r"^g\.csv cannot be read as a CSV \(.*\); is a quotation mark left",
        ),
        ("file,group\n0.png,a\n1.png\n", r"^g\.csv has a line with the file 1\.png and nothing after it; add a comma"),
        (
            "file,group\na,b.png,p1\n",
            r"^g\.csv has a line with more values than columns \(a,b\.png,\.\.\.\); put a value",
        ),
    ],
)
def test_a_line_of_a_table_that_cannot_be_understood_is_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        table_of(text, "g.csv")
    assert table_of('file,group\r\n"a,b.png",p1\r\n0.png,\r\n', "g.csv") == {"a,b.png": "p1", "0.png": ""}


def test_empty_lines_and_dotted_paths_of_a_table_are_understood_and_other_encodings_refused(tmp_path: Path) -> None:
    items = open_dataset(pictures(tmp_path)).items
    lines = [f"./{item.key},{item.key[:3]}" for item in items]
    table = table_of("\n".join(["file,group", *lines, ",", ",,", " ,"]), "g.csv")
    found = groups_in(table, items, "g.csv")
    assert found == (tuple(item.key[:3] for item in items), "groups from g.csv, 8 of 8 lines matched")
    with pytest.raises(InputError, match=r"^g\.csv has a line with the group dark and no file; name the file, or "):
        table_of("\n".join(["file,group", *lines, ",dark"]), "g.csv")
    (tmp_path / "g.csv").write_text("\n".join(["file,group", *lines]), encoding="utf-16")
    with pytest.raises(InputError, match=r"^g\.csv is not text in UTF-8; save it as a CSV in UTF-8\.$"):
        groups_of(items, str(tmp_path / "g.csv"))


def test_a_table_whose_quotation_mark_is_left_open_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^g\.csv cannot be read as a CSV \(field larger .*\); is a quotation mark le"
    ):
        table_of("file,group\n" + '"0.png,a\n' + "1.png,b\n" * 20_000, "g.csv")


def test_folders_around_everything_are_no_groups(tmp_path: Path) -> None:
    items = open_dataset(pictures(tmp_path)).items
    around = [replace(item, key=f"pets/{item.key}") for item in items]
    assert groups_of(around, FOLDERS)[0] == groups_of(items, FOLDERS)[0] == ("dark", "dark", "light", "light") * 2
    deeper = [replace(item, key=item.key.replace(".png", "/a.png")) for item in around]
    assert groups_of(deeper, FOLDERS)[0] == ("dark", "dark", "light", "light") * 2
    bare = [replace(item, key=f"pets/{item.key[:3]}/{index}.png") for index, item in enumerate(items)]
    with pytest.raises(InputError, match=r"^pets/cat/0\.png lies in no group folder; use CLASS/GROUP/image, a CSV"):
        groups_of(bare, FOLDERS)
    tied = [item for item in around if item.key.startswith(("pets/cat/light", "pets/dog/dark"))]
    assert groups_of(tied, FOLDERS)[0] == ("light", "light", "dark", "dark")


def test_brightness_passes_over_a_broken_image_and_the_audit_lists_it(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    (folder / "cat" / "dark" / "9.png").write_bytes(b"no picture")
    items = open_dataset(folder).items
    groups, _ = groups_of(items, "brightness")
    assert [group for item, group in zip(items, groups, strict=True) if item.key.endswith("9.png")] == [""]
    found = of_items(items, [i.label or 0 for i in items], groups, "brightness", by_brightness(), Run())
    assert (len(found), [each.key for each in found.problems]) == (8, ["cat/dark/9.png"])
    broken = [item for item in items if item.key.endswith("9.png")]
    with pytest.raises(InputError, match=r"^none of the 1 image can be decoded; the first is cat/dark/9\.png\.$"):
        groups_of(broken, "brightness")
    with pytest.raises(InputError, match=r"^all 2 images are of the group 'dark'; an audit compares at least two\.$"):
        groups_of([*broken, items[0]], "brightness")


def test_one_image_a_group_has_no_interval_where_there_is_none(tmp_path: Path) -> None:
    items: list[Item] = [replace(i) for i in open_dataset(pictures(tmp_path)).items if i.key.endswith("dark/0.png")]
    masked = with_masks(items, tmp_path / "masks")[0]
    own = of_items(masked[:1], [0], ["a"], "brightness", by_brightness(), Run())
    found = audit(by_brightness(), own)
    assert found.conflicting is None
    assert json.dumps(found.plain(), allow_nan=False)
    assert read_audit(found.plain()).reliance[0].flips.n == 1


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--groups", "x.csv"], "error: --groups is about one's own data; leave it out, or give --data."),
        (["--images", "3"], "error: --images is about one's own data; leave it out, or give --data."),
        (["--data", "sample:pets", "--cats", "3"], "error: --cats trains on drawn data; leave it out, or leave --data"),
        (["--data", "sample:pets", "--view", "all"], "error: view 'all' is not known; use crop or whole."),
        (["--method", "gradcan"], "error: method 'gradcan' is not known"),
        (["--data", "sample:pets", "--method", "gradcan"], "error: method 'gradcan' is not known"),
        (["--pixels", "9"], "error: pixels is 9; give 32 to 512."),
        (["--method", "attention_rollout"], "error: Attention rollout does not apply to SimpleCNN: "),
    ],
)
def test_options_that_would_be_passed_over_are_refused(tmp_path, capsys, words: list[str], said: str) -> None:
    assert cli.main(["audit-bias", *words, "--out", str(tmp_path / "run"), "--device", "cpu"]) == 2
    assert capsys.readouterr().err.startswith(said)
    assert not (tmp_path / "run").exists()


def test_a_method_is_checked_before_anything_is_trained() -> None:
    with pytest.raises(UnknownNameError):
        BiasRequest(methods=("gradcan",))
    with pytest.raises(UnknownNameError):
        OwnRequest("sample:pets", "simple_cnn", methods=("gradcan",))


def test_drawn_data_stays_marked_with_groups_of_its_own_making(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    words = ["--data", "sample:pets?cats=2&dogs=2&pixels=48", "--weights", "random:0", "--groups", "brightness"]
    assert cli.main(["audit-bias", *words, "--device", "cpu", "--out", str(tmp_path / "run"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["base"]["audit"]
    assert found["synthetic"] is True
    assert [each["factor"] for each in found["reliance"]] == ["brightness"]


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_what_counts_as_the_answer_of_independent_sigmoids_is_told(tmp_path, capsys, output: str) -> None:
    weights = load_file(ASSETS / "bias" / "networks" / "fur-study-biased-s0.safetensors")
    weights["head.bias"] -= 0.9  # for some images both classes are improbable
    path = tmp_path / "net.safetensors"
    save_file(weights, path)
    path.with_suffix(".txt").write_text("cat\ndog\n")
    words = ["--data", "sample:pets?cats=6&dogs=6&pixels=96", "--weights", f"file:{path}", "--output", output]
    assert cli.main(["audit-bias", *words, "--device", "cpu", "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    classifier = load_model("simple_cnn", f"file:{path}?output={output}", "cpu")
    images = [item.open() for item in open_dataset("sample:pets?cats=6&dogs=6&pixels=96").items]
    logits = classifier.predict(classifier.preprocess(images))
    none = int((logits.amax(1) < 0).sum())
    assert 0 < none < len(images)
    said = (
        f"the class of the largest probability counts as the answer, also where none reaches 0.5 ({none} of 12 images)"
    )
    assert (said in told) == (output == "sigmoid")
    found = RunFiles(tmp_path / "run").summary()["base"]["audit"]
    assert (said in found["how"]) == (output == "sigmoid")
    assert [row["predicted"] for row in found["rows"]] == logits.argmax(1).tolist()


# --- the gap ----------------------------------------------------------------------------------------------------------


def test_the_gap_has_newcombes_interval_by_his_own_example() -> None:
    # Newcombe 1998, table II (a), method 10: 56/70 - 48/80 = 0.2, 95 % interval 0.0524 to 0.3339.
    found = less(wilson(56, 70), wilson(48, 80))
    assert (found.mean, found.n) == (pytest.approx(0.2), 150)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))
    # and (c): 6/7 - 2/7 = 0.5714, 0.0582 to 0.8062
    found = less(wilson(6, 7), wilson(2, 7))
    assert (found.low, found.high) == (pytest.approx(0.0582, abs=5e-5), pytest.approx(0.8062, abs=5e-5))


def test_a_network_that_has_learned_nothing_is_not_praised_for_relying_on_nothing() -> None:
    flat = Interval(0.0, -0.05, 0.05, 50)
    nothing = Reliance("fur", wilson(9, 50), 9, flat, flat)
    groups = (Group("cat", "dark", False, wilson(14, 25)), Group("dog", "dark", True, wilson(12, 25)))
    found = Audit("fur", 50, True, "", ("cat", "dog"), groups, None, None, (nothing,), (), "", (), {})
    assert not learned(found)
    assert verdict(found) == (
        "No clear reliance on fur colour: flips in 9 of 50 recoloured animals, but has not learned the task (right on "
        "26 of 50 images; one answer for all gets 50%); worst group: accuracy on dark dogs 48% (12 of 25)."
    )
    able = replace(found, groups=(replace(groups[0], accuracy=wilson(24, 25)), groups[1]))
    assert learned(able)
    assert "has not learned" not in verdict(able)
    unsure = replace(able, reliance=(replace(nothing, flips=wilson(40, 50), flipped=40),))
    assert "flips in 40 of 50 recoloured animals, by small shifts of unsure answers (reliance 0.00);" in verdict(unsure)
    four = [
        Group(a, b, (a == "cat") == (b == "light"), wilson(0, 25)) for a in ("cat", "dog") for b in ("light", "dark")
    ]
    by_colour = replace(found, groups=tuple(replace(g, accuracy=wilson(25 * g.aligned, 25)) for g in four))
    assert learned(by_colour)  # half of all images are right: those whose colour agrees


@pytest.mark.parametrize(
    ("flips", "said"),
    [
        (157, "Decides by fur colour: flips in 157 of 200 recoloured animals, by small shifts of unsure answers"),
        (56, "Leans on fur colour: flips in 56 of 200 recoloured animals, by small shifts of unsure answers"),
        (20, "No clear reliance on fur colour: flips in 20 of 200 recoloured animals; worst group: accuracy on"),
        (4, "Does not rely on fur colour: flips in 4 of 200 recoloured animals; worst group: accuracy on"),
    ],
)
def test_answers_that_flip_are_relied_on_however_unsure_they_are(flips: int, said: str) -> None:
    # Probabilities that move by 0.09 alone: of 200 answers 157 flip, [0.72, 0.84]; 56, [0.22, 0.35]; 20, [0.07, 0.15].
    small, smaller = Interval(0.09, 0.086, 0.094, 200), Interval(0.02, 0.01, 0.03, 200)
    cue = Reliance("fur", wilson(flips, 200), flips, small, small)
    shape = Reliance("shape", wilson(30, 200), 30, smaller, smaller)
    groups = (Group("cat", "dark", False, wilson(0, 50)), Group("cat", "light", True, wilson(50, 50)))
    groups += (Group("dog", "light", False, wilson(20, 50)), Group("dog", "dark", True, wilson(46, 50)))
    found = Audit("fur", 200, True, "", ("cat", "dog"), groups, None, None, (cue, shape), (), "", (), {})
    assert verdict(found).startswith(said)
    strong = replace(shape, score=Interval(0.7, 0.6, 0.8, 200))
    by_shape = verdict(replace(found, reliance=(cue, strong)))
    most = " although the reliance is 0.09 (on shape 0.70)" if flips == 157 else ""
    told = f"Decides by shape, not by fur colour: flips in {flips} of 200 recoloured animals{most}; worst group: acc"
    assert by_shape.startswith(told)


@pytest.mark.parametrize(
    ("flipped", "n", "ends", "said"),
    [  # Wilson: 1 of 1 [0.21, 1], 1 of 5 [0.04, 0.62], 1 of 40 [0.00, 0.13], 2 of 3 [0.21, 0.94]
        (
            1,
            1,
            (0.9, float("nan"), float("nan")),
            "Leans on brightness: flips in 1 of 1 recoloured images; accuracy on",
        ),
        (1, 5, (0.1, 0.0, 0.3), "Too few images to tell whether it relies on brightness: flips in 1 of 5 recoloured"),
        (1, 40, (0.1, 0.0, 0.3), "No clear reliance on brightness: flips in 1 of 40 recoloured images; worst group"),
        (2, 3, (0.67, 0.0, 1.0), "Leans on brightness: flips in 2 of 3 recoloured images; accuracy on"),
    ],
)
def test_few_images_make_no_sure_verdict(flipped: int, n: int, ends: tuple[float, float, float], said: str) -> None:
    score = Interval(*ends, n)
    cue = Reliance("brightness", wilson(flipped, n), flipped, score, score)
    groups = (Group("cat", "a", False, wilson(9, 10)), Group("dog", "b", True, wilson(10, 10)))
    found = Audit("brightness", 20, False, "", ("cat", "dog"), groups, None, None, (cue,), (), "", (), {})
    assert verdict(found).startswith(said)


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (
            (38, 41),
            "No difference between groups shown: 6.0 points between best and worst, plausible from -10.1 to 21.7;",
        ),
        ((20, 41), "Groups differ: 42.0 points between best and worst, plausible from 23.2 to 56.9;"),
    ],
)
def test_groups_differ_only_where_the_interval_leaves_out_zero(right: tuple[int, int], said: str) -> None:
    groups = tuple(Group("cat", value, True, wilson(n, 50)) for value, n in zip("ab", right, strict=True))
    found = Audit("group", 100, False, "", ("cat",), groups, None, None, (), (), "", (), {})
    assert verdict(found).startswith(said)
    assert f"accuracy on a cats {2 * right[0]}% ({right[0]} of 50). Without masks that fit" in verdict(found)


def test_the_best_and_the_worst_of_many_groups_are_picked() -> None:
    counts = (36, 40, 41, 42, 43, 46)  # alone, 46 against 36 of 50 differ; picked among six groups of chance they may
    assert less(wilson(46, 50), wilson(36, 50)).low > 0
    groups = tuple(Group("cat", str(place), True, wilson(n, 50)) for place, n in enumerate(counts))
    found = Audit("group", 300, False, "", ("cat",), groups, None, None, (), (), "", (), {})
    assert verdict(found).startswith("No difference between groups shown: 20.0 points between best and worst,")
    assert "picked among 6;" in verdict(found)


def test_shape_decides_alone_only_where_the_intervals_part() -> None:
    def relies(factor: str, mean: float, low: float, high: float) -> Reliance:
        ends = Interval(mean, low, high, 20)
        return Reliance(factor, wilson(1, 20), 1, ends, ends)

    groups = (Group("cat", "dark", False, wilson(9, 10)), Group("dog", "dark", True, wilson(10, 10)))
    shape = relies("shape", 0.7, 0.55, 0.85)
    for fur, said in (
        (relies("fur", 0.1, -0.1, 0.3), "Decides by shape, not by fur colour: "),
        (relies("fur", 0.3, -0.1, 0.7), "Decides by shape; whether by fur colour too is open: "),
    ):
        found = Audit("fur", 20, True, "", ("cat", "dog"), groups, None, None, (fur, shape), (), "", (), {})
        assert verdict(found).startswith(said)
