"""A disk that is full: each page says so in one sentence, and nothing half-written is left."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from tests.app.test_bias_audit_app import tab
from tests.full_disk import full

OCTETS = "application/octet-stream"


def _zip(root: str = "") -> bytes:
    sink, picture = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (40, 40), "teal").save(picture, "PNG")
    with zipfile.ZipFile(sink, "w") as archive:
        for name in ("cat/1.png", "dog/2.png"):
            archive.writestr(root + name, picture.getvalue())
    return sink.getvalue()


def _told(app: AppTest) -> str:
    """All that the page says; no exception is among it."""
    assert not app.exception, [each.message for each in app.exception]
    return "\n".join(each.value for each in (*app.warning, *app.error, *app.info, *app.caption, *app.markdown))


def _left(folder: Path) -> list[Path]:
    """What is there below a folder, without the empty folders of runs and cache."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".launch"]


UPLOADS = {
    "method_comparison": ("mc_weights_efficientnet_lite0_file", "mine.pth", b"weights"),
    "metric_curves": ("cu_upload_0", "mine.zip", _zip()),
    "transfer_learning": ("tlf_upload_zip", "mine.zip", _zip()),
    "bias_audit": ("ba_own_zip", "mine.zip", _zip()),
    "gan_augmentation": ("ga_zip", "mine.zip", _zip()),
}


@pytest.mark.parametrize("page", UPLOADS)
def test_an_upload_that_finds_no_room_is_told_in_one_sentence(page: str, open_page, tmp_path: Path) -> None:
    key, name, data = UPLOADS[page]
    app = open_page(page, timeout=240)
    if page == "bias_audit":
        tab(app, "Your own data")
    for place, value in {"tl_form": True, "tlf_source": "zip", "cu_source": "upload", "mc_settings": True}.items():
        app.session_state[place] = value
    app.run()
    with full(tmp_path):
        uploader = app.file_uploader(key=key)
        many = uploader.proto.multiple_files
        uploader.set_value([(name, data, OCTETS)] if many else (name, data, OCTETS)).run()
        told = _told(app)
    assert "is full; free some space" in told
    assert "OSError" not in told
    assert _left(tmp_path) == []


def test_a_run_that_finds_no_room_is_told_and_leaves_no_folder(open_page, tmp_path: Path) -> None:
    app = open_page("runs")
    with full(tmp_path):
        app.button(key="runs_example").click().run()
        assert "is full; free some space" in _told(app)
    assert _left(tmp_path) == []
    assert [each for each in (tmp_path / "runs").glob("*") if not each.name.startswith(".")] == []
