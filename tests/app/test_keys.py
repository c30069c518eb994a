"""No key of the session serves two things: seen by looking at every page, tab and state while the script runs."""

from __future__ import annotations

import shutil
import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from streamlit.runtime.state.session_state import SessionState
from streamlit.runtime.state.session_state_proxy import SessionStateProxy

from tests.app.conftest import ROOT, OpenPage
from tests.app.test_transfer_app import second_run
from xai.runs.files import Launch, Status
from xai.runs.folder import RunFolder
from xai.runs.locks import locked
from xai.studies.transfer.shipped import BRAIN
from xai.ui.adversarial_attack import forms as attack_forms
from xai.ui.bias_audit import state as bias

TABS: dict[str, tuple[str, tuple[str, ...]]] = {
    "home": ("", ()),
    "method_comparison": (
        "mc_tabs",
        ("Do they agree?", "Layer explorer", "Does the class matter?", "Do the weights matter?", "Save and share"),
    ),
    "adversarial_attack": ("aa_tabs", ("One picture", "Many pictures")),
    "metric_curves": ("cu_source", ("samples", "upload", "server")),
    "transfer_learning": (
        "tl_tabs",
        ("Curves", "Figures", "Review", "Flips between models", "Looks at the object?", "Curves"),
    ),
    "runs": ("", ()),
    "bias_audit": ("ba_tabs", ("Finding", "rho slider", "Mitigation", "Detector", "Your own data", "New run")),
    "gan_augmentation": ("", ()),
}
OPEN = {
    "method_comparison": {"mc_settings": True, "mc_presets": True},
    "transfer_learning": {"tl_form": True, "tl_take": True},
}
QUERY = {
    "method_comparison": {"method": "gradcam"},
    "metric_curves": {"method": "gradcam", "images": "chelsea"},
    "adversarial_attack": {"attack": "fgsm"},
}

LENT = {
    ("tl_threshold", "transfer_learning.py"),  # what the figures' slider says, the review follows
}
"""Keys of widgets that another module may read or set, with that module."""


class Uses:
    """Who registers a widget under each key, and whose code reads or sets it."""

    def __init__(self) -> None:
        self.widgets: dict[str, set[str]] = defaultdict(set)
        self.code: dict[str, set[frozenset[str]]] = defaultdict(set)

    def faults(self) -> list[str]:
        """Keys that serve two widgets, or a widget and a value of another module."""
        found = [f"{key} is the key of widgets at {sorted(at)}" for key, at in self.widgets.items() if len(at) > 1]
        for key, at in self.widgets.items():
            modules = {place.partition(":")[0] for place in at}
            for stack in self.code.get(key, ()):
                if stack and not stack & modules and not any((key, each) in LENT for each in stack):
                    found.append(f"{key} is the key of a widget at {sorted(at)}, and a value of {sorted(stack)}")
        return found


def places() -> list[str]:
    """The lines of the app that are being run, the innermost first."""
    frame, found = sys._getframe(2), []
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.parent in (ROOT / "xai" / "ui", ROOT / "pages") and file.name not in ("clicks.py", "shell.py"):
            found.append(f"{file.name}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return found


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> Uses:
    noted = Uses()
    register = SessionState.register_widget

    def registered(state: SessionState, metadata: Any, user_key: str | None) -> Any:
        if user_key and (at := places()):
            noted.widgets[user_key].add(at[0])
        return register(state, metadata, user_key)

    monkeypatch.setattr(SessionState, "register_widget", registered)
    for name in ("__getitem__", "__setitem__", "__delitem__"):
        before = getattr(SessionStateProxy, name)

        def touched(state: SessionStateProxy, key: str, *rest: Any, before: Any = before) -> Any:
            noted.code[str(key)].add(frozenset(place.partition(":")[0] for place in places()))
            return before(state, key, *rest)

        monkeypatch.setattr(SessionStateProxy, name, touched)
    return noted


def finished_runs(folder: Path) -> None:
    """A finished run of every kind that is shipped, and a training that did not finish."""
    second_run(folder / "train-1")
    RunFolder(folder / "train-1").set_launch(Launch("train", "Brain", ("train", "sample:brain"), asked=1.0))
    shutil.copytree(BRAIN, folder / "train-2")
    RunFolder(folder / "train-2").set_launch(Launch("train", "Failed", ("train", "sample:brain"), asked=2.0))
    RunFolder(folder / "train-2").set_status(Status("failed", 1, 3, error="the disk is full."))
    shutil.copytree(bias.SHIPPED, folder / "audit-1")
    RunFolder(folder / "audit-1").set_status(Status("done", 1, 1))


@pytest.mark.parametrize("page", TABS)
def test_every_key_serves_one_thing(
    open_page: OpenPage, uses: Uses, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attack_forms, "LONG_SECONDS", 0.0)  # a study would take minutes on a busy machine
    finished_runs(tmp_path / "runs")
    app = open_page("" if page == "home" else page, timeout=240, query=QUERY.get(page))
    key, tabs = TABS[page]
    for name, value in OPEN.get(page, {}).items():
        app.session_state[name] = value
    for tab in tabs:
        if page == "metric_curves":
            app.button_group(key=key).set_value(tab)
        else:
            app.session_state[key] = tab
        app.run()
        assert not app.exception
    assert uses.widgets
    assert uses.faults() == []


def test_a_run_that_learns_on_is_shown_after_its_images_were_looked_through(
    open_page: OpenPage, uses: Uses, tmp_path: Path
) -> None:
    finished_runs(tmp_path / "runs")
    folder = RunFolder(tmp_path / "runs" / "train-1")
    app = open_page("transfer_learning", timeout=120)
    app.session_state["tl_picked"] = "train-1"
    app.session_state["tl_tabs"] = "Review"
    app.run()
    app.selectbox(key="tl_said_train-1").set_value(1).run()
    app.session_state["tl_tabs"] = "Curves"
    folder.set_status(Status("running", 1, 3, "epoch 1"))
    with ExitStack() as held:
        held.enter_context(locked(folder.path / ".lock", 1.0))
        app.run()
        assert not app.exception
        assert [each for each in app.button if each.key == "tl_cancel_train-1"]
    assert uses.faults() == []


def test_the_test_sees_a_key_that_serves_two_things(uses: Uses) -> None:
    uses.widgets["a"] |= {"one.py:3", "two.py:4"}
    uses.widgets["b"].add("one.py:5")
    uses.code["b"] |= {frozenset({"one.py", "page.py"}), frozenset({"runs.py", "page.py"})}
    assert len(uses.faults()) == 2
