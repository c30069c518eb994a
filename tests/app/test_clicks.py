"""A field filled in and a button pressed in one go: the button acts on what the field holds."""

from __future__ import annotations

import io
import shlex
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from tests.app.conftest import OpenPage
from tests.app.test_transfer_app import second_run
from xai.errors import InputError
from xai.runs import control as run_control
from xai.runs.files import Launch
from xai.runs.folder import RunFolder
from xai.types import Run
from xai.ui import downloads
from xai.ui.metric_curves.work import SetRequest

Begun = list[tuple[str, ...]]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Begun:
    """The words of the runs that were begun; none of them runs."""
    words: Begun = []
    monkeypatch.setattr(run_control, "start", lambda each, path: words.append(tuple(each)))
    return words


@pytest.mark.parametrize(
    ("page", "state", "field", "value", "press", "option"),
    [
        ("transfer_learning", {"tl_form": True}, "tlf_epochs", 5, "tlf_go", ("--epochs", "5")),
        ("transfer_learning", {"tl_form": True}, "tlf_seed", 7, "tlf_go", ("--seed", "7")),
        ("gan_augmentation", {}, "ga_train_steps", 11, "ga_train_go", ("--steps", "11")),
        ("gan_augmentation", {}, "ga_train_seed", 4, "ga_train_go", ("--seed", "4")),
        ("gan_augmentation", {}, "ga_seeds", 2, "ga_augment_go", ("--seeds", "2")),
        ("gan_augmentation", {}, "ga_arm_steps", 24, "ga_augment_go", ("--steps", "24")),
        ("bias_audit", {"ba_tabs": "New run"}, "ba_new_seed", 9, "ba_begin_study", ("--seed", "9")),
        ("bias_audit", {"ba_tabs": "New run"}, "ba_new_epochs", 3, "ba_begin_study", ("--epochs", "3")),
        (
            "bias_audit",
            {"ba_tabs": "Your own data", "ba_own_mend": True},
            "ba_own_seeds",
            2,
            "ba_begin_own",
            ("--seeds", "2"),
        ),
    ],
)
def test_a_run_is_begun_with_the_number_that_was_typed_just_before(
    open_page: OpenPage,
    begun: Begun,
    page: str,
    state: dict[str, object],
    field: str,
    value: int,
    press: str,
    option: tuple[str, str],
) -> None:
    app = open_page(page)
    for name, chosen in state.items():
        app.session_state[name] = chosen
    app.run()
    app.number_input(key=field).set_value(value)
    app.button(key=press).click().run()
    assert not app.exception
    assert len(begun) == 1
    assert option in zip(begun[0], begun[0][1:], strict=False)
    command = shlex.join(["python", "-m", "xai", *begun[0], "--out"])
    assert any(each.value.startswith(command) for each in app.code)  # what is shown is what was begun
    app.run()
    assert len(begun) == 1


def test_a_title_typed_just_before_is_the_runs(
    open_page: OpenPage, begun: Begun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(run_control, "new_run", lambda kind, title: titles.append(title) or tmp_path / kind)
    app = open_page("transfer_learning")
    app.session_state["tl_form"] = True
    app.run()
    app.text_input(key="tlf_title_sample:brain_efficientnet_lite0").set_value("My own")
    app.button(key="tlf_go").click().run()
    assert titles == ["My own"]


def test_a_run_learns_on_to_the_epochs_typed_just_before(open_page: OpenPage, begun: Begun, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "train-1")
    second_run(folder.path)
    folder.set_launch(Launch("train", "Brain", ("train", "sample:brain", "--epochs", "2"), asked=1.0))
    app = open_page("transfer_learning")
    app.number_input(key="tl_more_train-1").set_value(4)
    app.button(key="tl_learn_on_train-1").click().run()
    assert not app.exception
    had = int(RunFolder(folder.path).summary()["recipe"]["epochs"])
    assert begun[0][begun[0].index("--epochs") + 1] == str(had + 4)


def test_what_can_no_longer_be_done_is_not_done_and_not_later_either(
    open_page: OpenPage, begun: Begun, tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    app = open_page("gan_augmentation")
    app.text_input(key="ga_data").set_value(str(tmp_path / "none"))
    app.button(key="ga_train_go").click().run()
    assert app.button(key="ga_train_go").disabled
    app.text_input(key="ga_data").set_value("sample:parts").run()
    assert not app.button(key="ga_train_go").disabled
    assert begun == []


def test_a_button_that_the_new_choice_takes_away_is_not_pressed_later(open_page: OpenPage, begun: Begun) -> None:
    app = open_page("transfer_learning")
    app.session_state["tl_form"] = True
    app.run()
    app.button_group(key="tlf_source").set_value("zip")
    app.button(key="tlf_go").click().run()
    assert not [each for each in app.button if each.key == "tlf_go"]
    app.button_group(key="tlf_source").set_value("samples").run()
    assert app.button(key="tlf_go")
    assert begun == []


def test_a_note_typed_just_before_another_image_is_opened_stays_and_is_in_the_exported_list(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Callable[[], bytes]] = {}
    monkeypatch.setattr(downloads.st, "download_button", lambda *args, key, **kwargs: made.update({key: args[1]}))
    app = open_page("transfer_learning", timeout=120)
    app.session_state["tl_tabs"] = "Review"
    app.run()
    field = next(each for each in app.text_input if each.label == "Note")
    field.set_value("a dark corner")
    next(each for each in app.button if each.label == "Explain").click().run()
    assert not app.exception
    assert next(each for each in app.text_input if each.label == "Note").key != field.key
    assert [note for _, note in app.session_state["tl_notes_shipped"].values()] == ["a dark corner"]
    with ThreadPoolExecutor() as pool:  # as Streamlit does it, where there is no session
        packed = pool.submit(made["tl_export"]).result()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert "a dark corner" in archive.read("review.csv").decode()


def test_as_many_pictures_are_measured_as_were_typed_just_before(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    work = SetRequest.work

    def noted(request: SetRequest, run: Run) -> object:
        if request.go:
            asked.append(len(request.pictures.pieces))
            raise InputError("enough seen.")
        return work(request, run)

    monkeypatch.setattr(SetRequest, "work", noted)
    for place in range(6):
        Image.new("RGB", (40, 40), (40 * place, 90, 10)).save(tmp_path / f"{place}.png")
    app = open_page("metric_curves", timeout=120, query={"protocol": "rise-row", "method": "gradcam"})
    app.button_group(key="cu_source").set_value("server").run()
    app.text_input(key="cu_path").set_value(str(tmp_path)).run()
    assert not app.exception
    app.number_input(key=f"cu_count_{tmp_path.name}").set_value(3)
    app.button(key="cu_go_every").click().run()
    assert not app.exception
    assert asked == [3]
