"""A message never stays beside another choice than the one that it is about."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from tests.app.conftest import OpenPage
from xai.errors import XaiError
from xai.runs import control as run_control
from xai.ui.runs import plain


def warnings(app: AppTest) -> list[str]:
    assert not app.exception
    return [each.value for each in app.warning]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> str:
    """Every run is refused, with this sentence."""

    def refuse(words: object, path: object) -> None:
        raise XaiError("the disk is full; free some space.")

    monkeypatch.setattr(run_control, "start", refuse)
    return plain("the disk is full; free some space.")


@pytest.mark.parametrize(
    ("page", "state", "press", "field"),
    [
        ("transfer_learning", {"tl_form": True}, "tlf_go", "tlf_epochs"),
        ("gan_augmentation", {}, "ga_train_go", "ga_train_steps"),
        ("bias_audit", {"ba_tabs": "New run"}, "ba_begin_study", "ba_new_seed"),
    ],
)
def test_why_a_run_was_refused_goes_when_the_form_changes(
    open_page: OpenPage, refused: str, page: str, state: dict[str, object], press: str, field: str
) -> None:
    app = open_page(page)
    for name, value in state.items():
        app.session_state[name] = value
    app.run()
    app.button(key=press).click().run()
    assert refused in warnings(app)
    app.run()
    assert refused in warnings(app)  # as long as it is about what is shown
    app.number_input(key=field).set_value(17).run()
    assert refused not in warnings(app)
    app.run()
    assert refused not in warnings(app)
    app.button(key=press).click().run()
    assert refused in warnings(app)


def test_a_folder_without_images_is_not_said_to_be_so_beside_other_pictures(
    open_page: OpenPage, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    Image.new("RGB", (40, 40), (200, 90, 10)).save(good / "one.png")
    app = open_page("metric_curves", timeout=120, query={"method": "gradcam", "images": "chelsea"})
    app.button_group(key="cu_source").set_value("server").run()
    app.text_input(key="cu_path").set_value(str(good)).run()
    assert not any("no image in it" in each for each in warnings(app))
    app.text_input(key="cu_path").set_value(str(bad)).run()
    assert any("no image in it" in each for each in warnings(app))
    app.button_group(key="cu_source").set_value("samples").run()
    assert not any("no image in it" in each for each in warnings(app))
    app.button_group(key="cu_source").set_value("server").run()
    assert not any("no image in it" in each for each in warnings(app))


def test_a_bad_picture_is_not_spoken_of_beside_another_choice(open_page: OpenPage) -> None:
    app = open_page("method_comparison", timeout=120, query={"method": "center"})
    app.file_uploader(key="mc_upload_0").set_value(("bad.png", b"no picture", "image/png")).run()
    assert any("is not an image" in each for each in warnings(app))
    app.run()
    assert any("is not an image" in each for each in warnings(app))
    app.button_group(key="mc_view").set_value("whole").run()
    assert not any("is not an image" in each for each in warnings(app))
