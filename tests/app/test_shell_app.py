"""The frame around the pages: a page change is kept, whatever the run before it still writes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from xai.ui import shell

ENTRY = """
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx
from xai.ui import shell
from xai.ui.shell import Page

late = st.session_state.get("late")
if late:  # a run that was stopped as it began again by `st.rerun` writes its own page into the session's note
    get_script_run_ctx().pages_manager.set_script_intent(late, "")
shell.run({"": [Page("leaves/first.py", "First", ":material/home:", default=True),
                Page("leaves/second.py", "Second", ":material/bolt:")]})
"""
PAGE = """
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

st.title("{title}")
st.session_state["{title}"] = get_script_run_ctx().page_script_hash
"""


@pytest.fixture
def app(tmp_path: Path) -> AppTest:
    """Two pages, each of which notes its own hash in the session."""
    (tmp_path / "leaves").mkdir()
    for title in ("First", "Second"):
        (tmp_path / "leaves" / f"{title.lower()}.py").write_text(PAGE.format(title=title), encoding="utf-8")
    entry = tmp_path / "entry.py"
    entry.write_text(ENTRY, encoding="utf-8")
    app = AppTest.from_file(str(entry), default_timeout=30).run()
    assert app.title[0].value == "First"
    return app


def test_a_page_change_outlasts_a_late_word_of_the_run_before(app: AppTest) -> None:
    app.switch_page("leaves/second.py").run()
    assert app.title[0].value == "Second"

    app.session_state["late"] = app.session_state["Second"]
    app.switch_page("leaves/first.py").run()
    assert app.title[0].value == "First"

    app.session_state["late"] = app.session_state["First"]
    app.switch_page("leaves/second.py").run()
    assert app.title[0].value == "Second"


@pytest.mark.parametrize(
    ("asked", "queue", "noted"),
    [("abc", [], ["abc"]), ("", [], []), ("abc", ["a fragment"], [])],
    ids=["a page", "an address opened first of all", "a fragment of the page before"],
)
def test_only_a_page_that_was_asked_for_is_noted(
    monkeypatch: pytest.MonkeyPatch, asked: str, queue: list[str], noted: list[str]
) -> None:
    notes: list[str] = []
    manager = SimpleNamespace(set_script_intent=lambda page, name: notes.append(page))
    request = SimpleNamespace(page_script_hash=asked, fragment_id_queue=queue)
    context = SimpleNamespace(script_requests=SimpleNamespace(_rerun_data=request), pages_manager=manager)
    monkeypatch.setattr(shell, "get_script_run_ctx", lambda: context)
    shell._asked()()
    assert notes == noted


def test_what_is_asked_for_meanwhile_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    manager = SimpleNamespace(set_script_intent=lambda page, name: notes.append(page))
    requests = SimpleNamespace(_rerun_data=SimpleNamespace(page_script_hash="new", fragment_id_queue=[]))
    context = SimpleNamespace(script_requests=requests, pages_manager=manager)
    monkeypatch.setattr(shell, "get_script_run_ctx", lambda: context)
    keep = shell._asked()
    requests._rerun_data = SimpleNamespace(page_script_hash="old", fragment_id_queue=["a fragment of it"])
    keep()
    assert notes == ["new"]


OTHER = SimpleNamespace(
    script_requests=SimpleNamespace(_rerun_data=SimpleNamespace(page_script_hash="abc")),
    pages_manager=SimpleNamespace(set_script_intent=lambda page: None),
)


@pytest.mark.parametrize("context", [None, SimpleNamespace(), SimpleNamespace(script_requests=None), OTHER])
def test_a_streamlit_that_hides_it_otherwise_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, context: SimpleNamespace | None
) -> None:
    monkeypatch.setattr(shell, "get_script_run_ctx", lambda: context)
    shell._asked()()
