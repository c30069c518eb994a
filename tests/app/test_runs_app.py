"""Runs in the pages without a browser: the list of all, what can be done there, and the panel of a page that trains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.delta_generator import DeltaGenerator
from streamlit.testing.v1 import AppTest

from tests.app.conftest import OpenPage
from tests.dummy.command import at, ended, offered, wait_for
from xai.cli import parser
from xai.errors import XaiError
from xai.runs import control as run_control
from xai.runs.control import new_run, record, start
from xai.runs.files import Launch, Status
from xai.runs.folder import RunFolder
from xai.ui.runs import plain, settings


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    with offered(monkeypatch, tmp_path) as place:
        yield place


def made(
    place: Path, name: str, state: str = "done", kind: str = "count", asked: float = 1e9, title: str = ""
) -> RunFolder:
    folder = RunFolder(place / name)
    folder.path.mkdir(parents=True)
    folder.set_launch(Launch(kind, title, ("count", "3"), asked=asked))
    folder.write("config.json", {"kind": kind, "steps": 3})
    folder.set_status(Status(state, 3, 3, "counting", "the counter broke" if state == "failed" else ""))
    return folder


def said(app: AppTest) -> str:
    return "\n".join(each.value for each in app.markdown)


def test_nothing_yet_offers_an_example_that_the_terminal_knows(open_page: OpenPage, monkeypatch) -> None:
    begun: list[tuple[str, ...]] = []
    monkeypatch.setattr(run_control, "start", lambda words, path: begun.append((*words, "--out", str(path))))
    app = open_page("runs")
    assert "Nothing has been run yet" in app.info[0].value
    app.button(key="runs_example").click().run()
    args = parser().parse_args(begun[0])
    assert (args.command, args.data, args.out.name[:9]) == ("evaluate", "sample:photos", "evaluate-")

    def refuse(words: object, path: object) -> None:
        raise XaiError("the disk of runs is full; free some space, and go on.")

    monkeypatch.setattr(run_control, "start", refuse)
    app.button(key="runs_example").click().run()
    assert app.warning[0].value == plain("the disk of runs is full; free some space, and go on.")


def test_every_run_with_its_state_and_what_can_be_done(open_page: OpenPage, runs: Path) -> None:
    made(runs, "a", title="A *star* run", asked=4e8)
    made(runs, "b", "failed", asked=3e8)
    made(runs, "c", "cancelled", kind="gan", asked=2e8)
    (made(runs, "d", asked=1e8).path / "status.json").write_text("{")
    app = open_page("runs")
    text = said(app)
    heads = [each.value for each in app.markdown if "-badge[" in each.value]
    assert [head.split("**")[1] for head in heads] == [r"A \*star\* run", "b", "c", "d"]
    for word, head in zip(("done", "failed", "cancelled", "damaged"), heads, strict=True):
        assert f" {word}]" in head
    assert "the counter broke" in text
    assert plain("status.json cannot be read: ") in text
    assert str(runs) not in text
    assert {each.label for each in app.expander} == {"Settings, command", "Settings, command, log"}  # no figures yet
    resumable = [run_id for run_id in "abcd" if f"runs_resume_{run_id}" in {each.key for each in app.button}]
    assert resumable == ["b", "c"]
    app.button_group(key="runs_kinds").set_value(["gan"]).run()
    assert [each.value.split("**")[1] for each in app.markdown if "-badge[" in each.value] == ["c"]


def test_a_damaged_summary_is_a_sentence(open_page: OpenPage, runs: Path) -> None:
    (made(runs, "a").path / "summary.json").write_text("{")
    app = open_page("runs")
    app.session_state["runs_details_a"] = True
    app.run()
    assert not app.exception
    assert any("summary" in each.value for each in app.warning)


def test_renaming_and_deleting(open_page: OpenPage, runs: Path) -> None:
    folder = made(runs, "a")
    app = open_page("runs")
    app.text_input(key="runs_title_a").set_value("Brain, VGG19")
    app.button(key="runs_save_a").click().run()
    assert folder.launch().title == "Brain, VGG19"
    assert "**Brain, VGG19**" in said(app)
    app.text_input(key="runs_title_a").set_value("  ")
    app.button(key="runs_save_a").click().run()
    assert app.warning[0].value == plain("the title has 0 characters; give 1 to 120.")
    app.button(key="runs_delete for good_a").click().run()
    assert not folder.path.exists()
    assert not app.exception
    assert "Nothing has been run yet" in app.info[0].value


def test_a_run_is_seen_cancelled_and_gone_on_with(open_page: OpenPage, runs: Path) -> None:
    path = new_run("count", "Numbers")
    start(["count", "3", "--hold-at", "1"], path)
    wait_for(path, at(1))
    app = open_page("runs")
    assert " running]" in said(app)
    other = open_page("runs")  # another session
    other.button(key=f"runs_cancel_{path.name}").click().run()
    wait_for(path, ended)
    app.run()
    assert " cancelled]" in said(app)
    (path / "go").touch()
    app.button(key=f"runs_resume_{path.name}").click().run()
    wait_for(path, ended)
    app.run()
    assert " done]" in said(app)
    assert record(path).status.done == 3


def page_with_panel() -> None:
    import streamlit as st

    from xai.ui.runs import panel

    picked = panel("count", "tl", lambda run: st.session_state.update(heard=run.id))
    st.text(f"picked {picked.id if picked else None}")


def test_the_panel_of_a_page_picks_finished_runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeltaGenerator, "page_link", lambda *args, **kwargs: None)  # this script has no other pages
    app = AppTest.from_function(page_with_panel).run()
    assert app.caption[0].value == "No run yet; what you begin appears here."
    for name, state, asked in (
        ("old", "done", 1.0),
        ("new", "done", 2.0),
        ("bad", "failed", 3.0),
        ("off", "cancelled", 4.0),
    ):
        made(runs, name, state, asked=asked)
    made(runs, "other", kind="gan", asked=9.0)
    app.run()
    assert not app.exception
    assert app.text[0].value == "picked new"
    assert "other" not in said(app)
    assert [each.key for each in app.button] == ["tl_resume_off", "tl_resume_bad"]
    app.selectbox(key="tl_picked").select("old").run()
    assert app.text[0].value == "picked old"
    assert app.session_state["heard"] == "old"
    run_control.delete("old")
    app.run()
    assert not app.exception
    assert app.text[0].value == "picked new"


def test_settings_are_told_flat() -> None:
    config = {"kind": "train", "models": [{"name": "vgg16"}, {"name": "vgg19"}], "recipe": {"lr": 1e-3, "layer": None}}
    assert settings(config | {"methods": ["a", "b"], "none": [], "seed": 0, "pretrained": True}) == [
        ("kind", "train"),
        ("models 1.name", "vgg16"),
        ("models 2.name", "vgg19"),
        ("recipe.lr", "0.001"),
        ("methods", "a, b"),
        ("seed", "0"),
        ("pretrained", "True"),
    ]


def test_what_a_run_under_way_has_measured_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_RUNS", str(tmp_path))
    for name, state, rows in (("a", "running", 2), ("b", "running", 0), ("c", "done", 2)):
        folder = RunFolder.create(tmp_path / name, {"kind": "evaluate", "recipe": {}})
        for epoch in range(rows):
            folder.metric({"epoch": epoch})
        folder.set_status(Status(state))
    monkeypatch.setattr(RunFolder, "busy", lambda self: self.path.name != "c")

    def script() -> None:
        import streamlit as st

        from xai.ui import runs

        runs.watched("evaluate", lambda run, rows: st.write(f"{run.id}: {len(rows)} epochs"))

    app = AppTest.from_function(script).run()
    assert not app.exception
    assert [each.value for each in app.markdown] == ["a: 2 epochs"]
