"""What a page begins is the command that it shows, and the command takes it, in a folder of its own."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from tests.app.conftest import OpenPage
from xai.cli import parser
from xai.runs import control as run_control
from xai.runs.files import RunFiles

Begun = tuple[str, str, Callable[[AppTest, Path], None]]


def train(app: AppTest, data: Path) -> None:
    app.session_state["tl_form"] = True
    app.session_state["tlf_source"] = "server"
    app.session_state["tlf_path"] = str(data)
    app.session_state["tlf_epochs"] = 3
    app.session_state["tlf_augment"] = ["flip", "noise"]


def new_audit(app: AppTest, data: Path) -> None:
    app.session_state["ba_tabs"] = "New run"


def own_audit(app: AppTest, data: Path) -> None:
    app.session_state["ba_tabs"] = "Your own data"
    app.session_state["ba_own_data"] = str(data)


def generator(app: AppTest, data: Path) -> None:
    app.session_state["ga_data"] = str(data)


def augmentation(app: AppTest, data: Path) -> None:
    app.session_state["ga_arm_steps"] = 48


FORMS: dict[str, list[Begun]] = {
    "transfer_learning": [("train", "tlf_go", train)],
    "bias_audit": [("audit-bias", "ba_begin_own", own_audit), ("audit-bias", "ba_begin_study", new_audit)],
    "gan_augmentation": [("gan", "ga_train_go", generator), ("augment", "ga_augment_go", augmentation)],
}
"""For each page that begins runs: their kind, the button, and what is filled in."""


@pytest.mark.parametrize("slug", FORMS)
def test_what_is_begun_is_what_is_shown(
    slug: str, open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "my images"  # a space: the command must hold in a shell too
    for name in ("a", "b"):
        for group in ("x", "y"):
            (data / name / group).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (40, 40), (90 * number, 20, 20)).save(data / name / group / f"{number}.png")
    begun: list[tuple[list[str], Path]] = []
    monkeypatch.setattr(run_control, "start", lambda words, path: begun.append((list(words), path)))
    app = open_page(slug)
    for kind, button, fill in FORMS[slug]:
        fill(app, data)
        app.run()
        assert not app.exception
        shown = [each.value for each in app.code]
        app.button(key=button).click().run()
        assert not app.exception
        words, path = begun.pop()
        assert not begun
        assert any(shlex.split(command)[:-1] == ["python", "-m", "xai", *words, "--out"] for command in shown), shown
        assert path.parent == tmp_path / "runs"
        assert RunFiles(path).launch().kind == kind
        parsed = parser().parse_args([*words, "--out", str(path), "--resume"])
        assert (parsed.out, parsed.resume) == (path, True)
