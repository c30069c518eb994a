"""The bias audit on one's own images: pairs with both maps, masks that are dropped, a box on a photograph."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.app.conftest import OpenPage
from tests.app.test_bias_audit_app import WEIGHTS, tab
from tests.unit.studies.bias.test_bias import different_pictures, with_background
from xai.data.pets import PetImage, balanced_pets
from xai.errors import InputError
from xai.runs import control as run_control
from xai.runs.files import Launch
from xai.runs.folder import RunFolder
from xai.stats.intervals import Interval
from xai.studies.bias.mend import MendRequest, mend_own
from xai.studies.bias.own import OwnRequest, audit_own
from xai.ui.bias_audit.forms import packed
from xai.ui.bias_audit.parts import number
from xai.ui.bias_audit.photo import percents
from xai.ui.bias_audit.state import _columns, _counted, _from_here, signed
from xai.ui.nets import net_names
from xai.ui.work import Recent


def mine(folder: Path) -> Path:
    """cat/light ... dog/dark, one wide picture each, and fur masks of all but one; one mask fits no image."""
    for index, pet in enumerate(balanced_pets(1, "fur", 1)):
        wide = Image.new("RGB", (120, 96), "grey")
        wide.paste(PetImage(pet, 96)(), (12, 0))
        path = folder / "mine" / pet.species / pet.fur / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        wide.save(path)
        mask = Image.new("L", (120, 96), 0)
        mask.paste(PetImage(pet, 96, "fur")(), (12, 0))
        (folder / "masks").mkdir(exist_ok=True)
        mask.save(folder / "masks" / f"{index if index else 'other'}.png")
    return folder


def test_own_images_stand_beside_their_recoloured_selves(open_page: OpenPage, tmp_path: Path) -> None:
    mine(tmp_path)
    request = OwnRequest(str(tmp_path / "mine"), "simple_cnn", f"file:{WEIGHTS}", masks=str(tmp_path / "masks"))
    audit_own(request, tmp_path / "runs" / "mine", device="cpu")
    app = open_page("bias_audit")
    assert any("masks for 3 of 4 images" in each.value for each in app.markdown)
    assert "none of them seen in training" not in " ".join(each.value for each in app.caption)
    assert any("recoloured inside its mask" in each.value for each in app.caption)
    told = [each.value for each in app.markdown if each.value.endswith((":red[flips]", ":green[stays]"))]
    assert len(told) == 2  # every second of the three that have a mask
    assert all("→" in each for each in told)
    (table,) = [each.value for each in app.dataframe if list(each.value.columns) == ["file", "why"]]
    assert table.to_dict("records") == [{"file": "other.png", "why": "mask left out: no image's name"}]


def test_images_are_found_from_where_the_command_was_said(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine(tmp_path)
    for each in (WEIGHTS, WEIGHTS.with_suffix(".txt")):
        shutil.copy(each, tmp_path / f"net{each.suffix}")
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        own = OwnRequest("mine", "simple_cnn", "file:net.safetensors", masks="masks")
        audit_own(own, Path("runs/mine"), device="cpu")
    RunFolder(tmp_path / "runs" / "mine").set_launch(Launch("audit-bias", cwd=str(tmp_path)))
    app = open_page("bias_audit")
    assert not [each.value for each in (*app.warning, *app.error)]
    assert any("recoloured inside its mask" in each.value for each in app.caption)
    folder = RunFolder(tmp_path / "runs" / "mine")
    assert _from_here(folder, "run:other/net") == f"run:{tmp_path / 'other/net'}"
    assert [_from_here(folder, said) for said in ("run:mine", "imagenet")] == ["run:mine", "imagenet"]


def test_what_was_begun_is_shown_when_it_is_done(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(words: Sequence[str], path: Path) -> None:
        raise InputError("no room")

    monkeypatch.setattr(run_control, "start", refuse)
    mine(tmp_path)
    request = OwnRequest(str(tmp_path / "mine"), "simple_cnn", f"file:{WEIGHTS}", masks=str(tmp_path / "masks"))
    audit_own(request, tmp_path / "runs" / "mine", device="cpu")
    app = tab(open_page("bias_audit"), "New run")
    assert app.session_state["ba_picked"] == "mine"
    app.toggle(key="ba_shipped").set_value(True).run()
    app.button(key="ba_begin_study").click().run()
    assert [each.value for each in app.warning] == ["no room"]
    [refused] = [each for each in (tmp_path / "runs").iterdir() if each.name != "mine"]
    shutil.rmtree(refused)
    monkeypatch.setattr(run_control, "start", lambda words, path: None)
    app.button(key="ba_begin_study").click().run()
    assert not app.warning
    [begun] = [each for each in (tmp_path / "runs").iterdir() if each.name != "mine"]
    shutil.copytree(tmp_path / "runs" / "mine", begun, dirs_exist_ok=True)
    app.run()
    assert app.session_state["ba_picked"] == begun.name
    assert not app.toggle(key="ba_shipped").value


def test_drawn_pets_as_own_data_have_their_gallery_and_pairs(open_page: OpenPage, tmp_path: Path) -> None:
    request = OwnRequest("sample:pets?cats=12&dogs=12&rho=0.7", "simple_cnn", f"file:{WEIGHTS}")
    audit_own(request, tmp_path / "runs" / "drawn", device="cpu")
    app = open_page("bias_audit")
    assert any(each.value in ("Dark cats", "Light dogs") for each in app.markdown)
    assert any("with the factor swapped and every other pixel equal" in each.value for each in app.caption)


def test_random_weights_are_marked(open_page: OpenPage, tmp_path: Path) -> None:
    audit_own(OwnRequest("sample:pets?cats=2&dogs=2", "simple_cnn", "random:0"), tmp_path / "runs" / "r", device="cpu")
    app = open_page("bias_audit")
    assert any("random weights" in each.value and "drawn images" in each.value for each in app.markdown)


def test_what_counts_as_the_answer_of_independent_sigmoids_is_told(open_page: OpenPage, tmp_path: Path) -> None:
    request = OwnRequest("sample:pets?cats=2&dogs=2", "simple_cnn", f"file:{WEIGHTS}?output=sigmoid")
    audit_own(request, tmp_path / "runs" / "s", device="cpu")
    said = "the class of the largest probability counts as the answer, also where none reaches 0.5"
    assert any(said in each.value.replace("\\", "") for each in open_page("bias_audit").caption)


def test_masks_are_dropped_as_files(open_page: OpenPage, tmp_path: Path) -> None:
    mine(tmp_path)
    files = [(path.name, path.read_bytes()) for path in sorted((tmp_path / "masks").iterdir())]
    app = tab(open_page("bias_audit"), "Your own data")
    app.text_input(key="ba_own_data").set_value(str(tmp_path / "mine")).run()
    app.file_uploader(key="ba_own_masks_files").set_value([(*each, "image/png") for each in files]).run()
    assert not app.exception, [each.message for each in app.exception]
    assert any(each.value == "masks for 3 of 4 images" for each in app.caption)
    assert any("--masks" in each.value for each in app.code)
    assert any(list(each.value.columns) == ["file", "why"] for each in app.dataframe)
    assert packed(files) == packed(files[::-1])
    app.file_uploader(key="ba_own_zip").set_value(("none.zip", b"no zip", "application/zip")).run()
    assert not app.exception
    assert any(each.value.startswith("none\\.zip") for each in app.warning)
    app = tab(tab(app, "Finding"), "Your own data")
    assert any(each.value.startswith("none\\.zip") for each in app.warning)  # the uploader forgets, the form does not
    with zipfile.ZipFile(io.BytesIO(packed([*files, ("../x/1.png", b"again")]))) as archive:
        assert len(set(archive.namelist())) == 5
    assert packed([("masks.zip", b"zip")]) == b"zip"


@pytest.mark.parametrize(
    ("box", "taken"),
    [
        ([0.104, 0.2, 0.5, 0.9], ((10, 50), (20, 90))),
        ([-1, 0, 2, 1], ((0, 100), (0, 100))),
        ([0.5, 0.2, 0.5, 0.9], None),
        ("left", None),
        ([0, 1, "x", 1], None),
        (None, None),
    ],
)
def test_a_box_from_the_browser_is_checked(box: object, taken: object) -> None:
    assert percents(box) == taken


def test_of_one_image_no_interval_is_told() -> None:
    one = Interval(0.5, float("nan"), float("nan"), 1)
    assert (number(one), signed(one)) == ("0.50 (1 image)", "+50.0 points (1 image)")
    assert _columns(one, "reliance") == {"reliance": 0.5}
    assert (_counted(one), _counted(Interval(0.5, 0.4, 0.6, 9))) == ("1 image", "9 images, 95 % bootstrap")
    assert number(Interval(0.5, 0.4, 0.6, 9)) == "0.50 [0.40, 0.60]"


def test_a_photograph_is_asked_twice_and_explained_twice(open_page: OpenPage) -> None:
    app = tab(open_page("bias_audit"), "Your own data")
    said = [each.value for each in app.markdown]
    assert any(each.startswith("As it is: ") for each in said)
    assert any(each.startswith("Recoloured: ") for each in said)
    app.slider(key="ba_across").set_value((50, 50)).run()
    assert not app.exception
    assert any("draw it larger" in each.value for each in app.warning)


def test_a_network_without_imagenet_weights_is_offered_where_it_can_be_used() -> None:
    assert "simple_cnn" not in net_names()
    assert "simple_cnn" in net_names(["simple_cnn"])


def test_own_images_are_mended_and_stand_side_by_side(open_page: OpenPage, tmp_path: Path) -> None:
    own = OwnRequest(str(different_pictures(tmp_path)), "simple_cnn", masks=str(tmp_path / "masks"))
    mend_own(MendRequest(own, seeds=1, epochs=1), tmp_path / "runs" / "mended", device="cpu")
    app = open_page("bias_audit")
    assert any("every audit on the other 4" in each.value for each in app.markdown)
    assert any(each.value.startswith("1 epoch, validation included, took ") for each in app.caption)
    app = tab(app, "Mitigation")
    (told,) = [each.value for each in app.markdown if "**Group weights**: worst group" in each.value]
    assert told.count("answers flip in ") == told.count("Grad-CAM on the object ") == 5
    (table,) = [each.value for each in app.dataframe if "training" in each.value.columns]
    assert len(table) == 5
    assert {"Grad-CAM on the object, beyond chance", "Grad-CAM on the background, beyond chance"} <= {*table.columns}
    app = tab(app, "Your own data")
    app.toggle(key="ba_own_mend").set_value(True).run()
    assert not app.exception
    said = "python -m xai audit-bias --data sample:pets --model simple_cnn --groups folders --mend --seeds 1 --out RUN"
    assert any(each.value == said for each in app.code)
    app.toggle(key="ba_own_given").set_value(True).run()
    assert any("--weights file:assets/bias" in each.value and "--mend" in each.value for each in app.code)
    assert not any("is only trained, not audited as it is" in each.value for each in app.caption)
    app.text_input(key="ba_own_weights_simple_cnn").set_value("imagenet").run()
    assert any("is only trained, not audited as it is" in each.value for each in app.caption)


def test_a_mended_networks_answer_is_right_by_its_own_order_of_the_classes(open_page: OpenPage, tmp_path: Path) -> None:
    data = different_pictures(tmp_path)
    shutil.rmtree(data / "dog/light")
    for index in range(2, 24):  # so that dark cats are shown to be what cats have less of than dogs
        for seed, group in ((100, "cat/light"), (200, "dog/dark")):
            shutil.copy(data / group / "0.png", data / group / f"{index}.png")
            with_background(data / group / f"{index}.png", seed + index)
    weights = shutil.copy(WEIGHTS, tmp_path / "given.safetensors")
    (tmp_path / "given.txt").write_text("dog\ncat\n", encoding="utf-8")  # the data counts cat, dog
    own = OwnRequest(str(data), "simple_cnn", f"file:{weights}")
    mend_own(MendRequest(own, seeds=1, epochs=1), tmp_path / "runs" / "mended", device="cpu")
    app = tab(open_page("bias_audit"), "Mitigation")
    marks = [each.value for each in app.markdown if each.value.startswith((":green[right: ", ":red[wrong: "))]
    assert len(marks) == 5
    assert all(each.startswith((":green[right: cat", ":red[wrong: dog")) for each in marks)
    Image.new("RGB", (64, 64)).save(data / "cat/light/5.png")
    Recent.forget_all()
    app.run()
    assert any("are not those that were audited" in each.value for each in app.warning)
    shutil.rmtree(data)
    Recent.forget_all()
    app.run()
    assert not app.exception
    assert any("does not exist" in each.value for each in app.warning)
