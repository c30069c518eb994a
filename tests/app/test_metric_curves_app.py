"""The metric curves page without a browser: its state, its work, its figures and files."""

from __future__ import annotations

import argparse
import json
import shlex
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from tests.app.conftest import OpenPage
from xai.commands import evaluate as command_line
from xai.data.archive import open_archive
from xai.errors import InputError
from xai.explain.call import attribute
from xai.metrics import curves as measured_curves
from xai.metrics import pictures_at
from xai.metrics.engine import rank_pixels, shuffles
from xai.models.classifier import Classifier
from xai.studies.faithfulness.measure import random_maps
from xai.studies.faithfulness.seen import Faithfulness, faithfulness
from xai.types import Run
from xai.ui.jobs import BOARD
from xai.ui.metric_curves import scrub as curves_scrub
from xai.ui.metric_curves import show as curves_show
from xai.ui.metric_curves import sight as curves_sight
from xai.ui.metric_curves import state as curves
from xai.ui.metric_curves import work as curves_work
from xai.ui.metric_curves.state import CurvesChoice, Terms
from xai.ui.metric_curves.work import OneFound, OneRequest, SetFound, SetRequest
from xai.ui.work import Held, Net, samples

TERMS = Terms(("gradcam",), "study")
TINY = Net("efficientnet_lite0", "random:7")
"""Stands for the tiny classifier in these tests."""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tiny: Classifier) -> None:
    """Nothing measured by another test, and a tiny network where `TINY` is asked for."""
    for name in ("_rows", "_parts", "_pixels"):
        monkeypatch.setattr(curves_sight, name, type(getattr(curves_sight, name))(500))
    load = Net.load
    monkeypatch.setattr(Net, "load", lambda net: tiny if net == TINY else load(net))


def some(*names: str) -> curves.Pictures:
    return curves.of_photos([samples()[name] for name in names or ("chelsea", "coffee")])


def found(terms: Terms = TERMS, pictures: curves.Pictures | None = None) -> SetFound:
    made = SetRequest(pictures or some(), (TINY,), "crop", terms, go=True).work(Run())
    assert isinstance(made, SetFound)
    return made


def packet_of(one: OneFound) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(one.data[:4], "little")
    return json.loads(one.data[4 : 4 + size]), one.data[4 + size :]


def test_what_the_page_measures_is_what_the_library_measures(tiny: Classifier) -> None:
    terms = Terms(("gradcam", "saliency"), "rise", "black", "#102030")
    mine = found(terms).result
    photos = [samples()[name].decoded() for name in ("chelsea", "coffee")]
    theirs = faithfulness([tiny], photos, terms.recipe())
    assert mine.methods("tiny (random:0)") == ("gradcam", "saliency", "random", "center", "edges")
    for method in mine.methods("tiny (random:0)"):
        for metric in ("insertion", "deletion", "drop"):
            a, b = (each.values("tiny (random:0)", method, metric) for each in (mine, theirs))
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_only_what_is_new_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[tuple[str, ...]] = []
    measured: list[tuple[str, tuple[str, ...]]] = []
    look, measure = curves_sight.look, curves_sight.measure

    def watched_look(classifier: Classifier, x: Any, recipe: Any, *rest: Any, **more: Any) -> Any:
        looked.append(recipe.methods)
        return look(classifier, x, recipe, *rest, **more)

    def watched_measure(seen: Any, recipe: Any, run: Any) -> Any:
        measured.append((recipe.protocol, recipe.methods))
        return measure(seen, recipe, run)

    monkeypatch.setattr(curves_sight, "look", watched_look)
    monkeypatch.setattr(curves_sight, "measure", watched_measure)
    found()
    assert measured == [("study", ("gradcam", "random", "center", "edges"))] * 2
    assert len(looked) == 8
    found()
    assert len(measured) == 2
    found(replace(TERMS, methods=("gradcam", "saliency")))
    assert measured[2:] == [("study", ("saliency",))] * 2
    found(replace(TERMS, protocol="rise"))
    assert len(looked) == 10  # saliency's two; another protocol explains nothing again
    found(pictures=some("chelsea", "coffee", "rocket"))
    assert measured[-1] == ("study", ("gradcam", "random", "center", "edges"))
    assert len(measured) == 7


def test_slow_work_waits_for_a_word_and_says_what_it_costs(monkeypatch: pytest.MonkeyPatch, tiny: Classifier) -> None:
    monkeypatch.setattr(curves_work, "FREE_PASSES", 0)
    monkeypatch.setattr(curves_work, "AUTO_SECONDS", 0.0)
    request = SetRequest(some(), (TINY,), "crop", TERMS)
    held = request.work(Run())
    assert isinstance(held, Held)
    # Two images; per image 3 + 0 + 0 + 0 passes to explain at least, two ends, and 4 methods x (2 x 3 + 1).
    assert held.cost.passes == TERMS.recipe().cost(tiny, 2)
    assert held.cost.passes >= 2 * (2 + 4 * 7)
    going = curves_work.going(request, {request.base}, lambda key: None)
    assert going.go
    assert isinstance(going.work(Run()), SetFound)
    assert not curves_work.going(request, set(), lambda key: None).go
    assert curves_work.going(request, set(), lambda key: key == going.key or None).go  # another session's word
    assert isinstance(request.work(Run()), SetFound)  # all is there: it costs nothing now


def test_a_stopped_run_keeps_what_it_had(tiny: Classifier) -> None:
    from xai.errors import Cancelled

    seen: list[str] = []

    def progress(done: int, total: int, note: str) -> None:
        seen.append(note)

    stop = Run(on_progress=progress, cancelled=lambda: any(note.startswith("coffee") for note in seen))
    request = SetRequest(some(), (TINY,), "crop", TERMS)
    with pytest.raises(Cancelled):
        request.work(stop)
    sight = list(request._sights({TINY: tiny}))
    assert sight[0].cost() == 0
    assert sight[1].cost() > 0


@pytest.mark.parametrize(("metric", "share"), [("insertion", 0.25), ("deletion", 0.5), ("deletion", 1.0)])
def test_the_scrubbers_packet_holds_the_librarys_pictures(tiny: Classifier, metric: str, share: float) -> None:
    pictures = some("chelsea")
    one = OneRequest(pictures.pieces[0], pictures, TINY, "crop", TERMS).work(Run())
    assert isinstance(one, OneFound)
    head, body = packet_of(one)
    x = tiny.preprocess(samples()["chelsea"].decoded())
    map_ = attribute(tiny, x, "gradcam").maps()[0]
    line = head["methods"][0]
    at, size = line["ranks"]
    ranks = np.frombuffer(body[at : at + size], "<u2").astype(int)
    assert (ranks == rank_pixels(map_, shuffles(x)[0]).numpy()).all()

    def picture(place: list[int]) -> np.ndarray:
        from io import BytesIO

        return np.asarray(Image.open(BytesIO(body[place[0] : place[0] + place[1]])))

    image, behind = picture(head["image"]), picture(head["metrics"][metric]["behind"])
    front, back = (image, behind) if metric == "insertion" else (behind, image)
    count = round(share * head["counts"][-1])
    mixed = np.where((ranks < count).reshape(64, 64, 1), front, back)
    exact = pictures_at(tiny, x, map_, [share], metric, "study")[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(mixed - exact).max() <= 0.51
    curve = found(pictures=pictures).result.curve("tiny (random:0)", "gradcam", metric)
    assert line[metric]["y"] == pytest.approx(curve.y[0].tolist())
    rival = head["methods"][-1]
    assert (rival["title"], rival["baseline"], rival["blank"]) == ("Random 16 × 16", True, "")
    drawn = random_maps(x, (16, 16), 0, 0)
    at, size = rival["ranks"]
    ranks = np.frombuffer(body[at : at + size], "<u2").astype(int)
    assert (ranks == rank_pixels(drawn, shuffles(x))[0].numpy()).all()
    alone = measured_curves(tiny, x, {"map": drawn}, "study").curves["map"][metric]
    assert rival[metric]["auc"] == pytest.approx(float(alone.auc), abs=1e-6)
    assert head["random"] is True
    assert head["metrics"]["deletion"]["up"] is True  # study 1 draws the drop


def test_what_a_score_cannot_tell_stands_under_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, list[Any]] = {"table": [], "caption": [], "warning": []}
    for name, kept in shown.items():
        monkeypatch.setattr(curves_show.st, name, lambda what, kept=kept, **kwargs: kept.append(what))
    made = found()
    curves_show.ranks(made)
    (rows,) = shown["table"]
    against = made.result.against("tiny (random:0)", "gradcam", "insertion")
    cell = next(row for row in rows if row[""] == "Grad-CAM")["Insertion against random"]
    assert cell.startswith(f"**{against.verdict}** (16 × 16): ")
    assert cell.endswith(f", p {against.paired.p_text}")
    assert "0.5" in against.paired.p_text  # two pictures: no p can be smaller
    assert "the smallest possible with 2 pairs" in cell or "0.5 at least: 2 pairs" in cell or against.paired.ties
    words = " ".join(shown["caption"])
    assert "each map against 3 random maps of its own resolution (16 x 16)" in words
    assert "Random is white noise" in words
    assert tuple(shown["warning"]) == (*made.result.without_order, *made.result.given_away)


def test_ranks_of_large_pictures_have_room() -> None:
    for pixels, kind in ((224 * 224, "u2"), (256 * 256, "u2"), (299 * 299, "u4")):
        assert curves_scrub.rank_kind(pixels) == kind


def test_bad_files_are_named_and_the_rest_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "some.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("coffee", "rocket"):
            archive.writestr(f"{name}.png", samples()[name].data)
        archive.writestr("broken.png", b"no picture")
    made = found(pictures=curves.of_dataset(open_archive(file), str(file), 10))
    assert made.result.images == ("coffee.png", "rocket.png")
    assert [problem.key for problem in made.result.problems] == ["broken.png"]
    only = tmp_path / "bad.zip"
    with zipfile.ZipFile(only, "w") as archive:
        archive.writestr("broken.png", b"no picture")
    with pytest.raises(InputError, match=r"no image could be read; the first: broken\.png"):
        found(pictures=curves.of_dataset(open_archive(only), str(only), 10))


def test_a_changed_file_is_another_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    file = tmp_path / "a.png"
    file.write_bytes(samples()["coffee"].data)
    choice = CurvesChoice(samples()["coffee"], methods=("gradcam",))
    curves.open_server(choice, str(tmp_path))
    before = choice.pictures().key
    assert choice.pictures().key == before
    file.write_bytes(samples()["rocket"].data)
    curves.open_server(choice, str(tmp_path))
    assert choice.pictures().key != before


def test_what_the_server_lacks_is_one_sentence_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    choice = curves.from_query({})
    curves.open_server(choice, str(tmp_path / "nowhere"))
    assert choice.problem.startswith(f"data '{tmp_path / 'nowhere'}' does not exist")
    curves.open_server(choice, "/nowhere/at/all")
    assert choice.problem.startswith("/nowhere/at/all is outside the folders that the pages may read")
    assert choice.source == "samples"
    curves.open_server(choice, "  ")
    assert choice.problem == "the path is empty; give a folder or a zip on the server."


def test_files_carry_the_protocol_in_every_row(tmp_path: Path) -> None:
    made = found()
    files = made.result
    lines = files.csv().decode().splitlines()
    assert len(lines) == 1 + 2 * 4
    assert all("higher is better (Study 1)" in line for line in lines[1:])
    (tmp_path / "rows.parquet").write_bytes(files.parquet("python -m xai evaluate"))
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table.schema.metadata[b"command"] == b"python -m xai evaluate"
    assert set(table["deletion_protocol"].to_pylist()) == {made.sentence("deletion")}
    assert table.num_rows == 8


def test_a_figure_says_direction_interval_protocol_and_random_weights() -> None:
    for protocol, deletion in (("study", "higher is better ↑"), ("rise", "lower is better ↓")):
        made = found(replace(TERMS, protocol=protocol))
        figure = curves_show.figure(made, "deletion", baselines=True)
        assert deletion in figure.layout.title.text
        assert "RANDOM WEIGHTS" in figure.layout.title.text
        words = figure.layout.annotations[0].text.replace("<br>", " ")
        assert "Mean of 2 pictures; the band is the bootstrap 95 % interval. Network: tiny (random:0)." in words
        assert made.sentence("deletion") in words
        assert figure.layout.xaxis.title.text == "pixels taken away, % of the picture"
        lines = {trace.name: trace for trace in figure.data if trace.name}
        assert list(lines) == ["Grad-CAM", "Random", "Centre", "Edges", "Random 16 × 16"]
        assert len({trace.line.dash for trace in lines.values()}) == 5
        assert len(figure.data) == 3 * 5  # each line with both edges of its band
        rival = made.result.rival_mean("tiny (random:0)", "gradcam", "deletion")
        assert list(lines["Random 16 × 16"].y) == pytest.approx(rival.band.mean.tolist())
        curve = made.result.curve("tiny (random:0)", "gradcam", "deletion")
        assert list(lines["Grad-CAM"].y) == pytest.approx(curve.y.double().mean(0).tolist())
        assert [t.name for t in curves_show.figure(made, "deletion", baselines=False).data if t.name] == ["Grad-CAM"]


def test_the_link_restores_the_choices() -> None:
    choice = curves.from_query({})
    assert curves.to_query(choice) == {}
    choice.picked, choice.methods = ("coffee", "rocket"), ("gradcam", "saliency")
    choice.nets, choice.protocol = (Net("vgg16", "random:0"), Net("resnet50")), "rise"
    choice.insertion, choice.deletion, choice.which, choice.view = "black", "#102030", 1, "whole"
    again = curves.from_query(curves.to_query(choice))
    for name in ("picked", "methods", "nets", "protocol", "insertion", "deletion", "which", "view", "problem"):
        assert getattr(again, name) == getattr(choice, name)


def test_a_link_opens_no_folder_by_itself(tmp_path: Path) -> None:
    choice = curves.from_query({"data": str(tmp_path)})
    assert (choice.path, choice.source, choice.whole, choice.problem) == (str(tmp_path), "samples", None, "")


def test_weights_in_a_file_stay_out_of_links_and_their_folder_out_of_figures() -> None:
    choice = curves.from_query({})
    choice.nets = (Net("vgg16", "file:/home/me/mine.pth"), Net("resnet50", "random:0"))
    assert curves.to_query(choice) == {"model": "vgg16,resnet50@random:0"}
    assert "--weights file:/home/me/mine.pth random:0" in curves.command(choice, choice.pictures())
    assert curves_show.shown("vgg16 (file:/home/me/mine.pth)") == "vgg16 (mine.pth)"
    assert curves_show.shown("vgg16 (random:0)") == "vgg16 (random:0)"


@pytest.mark.parametrize(
    ("name", "text"),
    [("images", "moon"), ("model", "vgg17"), ("method", "nocam"), ("protocol", "nice"), ("insertion", "pink"),
     ("which", "-1"), ("count", "x"), ("view", "up"), ("param.gradcam.nothing", "1")],
)  # fmt: skip
def test_what_a_link_asks_for_in_vain_is_said(name: str, text: str) -> None:
    choice = curves.from_query({name: text})
    assert choice.problem == f"The link asked for {name} {text!r}, which is not here; the rest was restored."
    assert (choice.picked, choice.protocol) == (tuple(samples()), "study")
    assert choice.methods == curves.first_methods()


def test_the_command_asks_for_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    for name in ("coffee", "rocket", "china"):
        (tmp_path / f"{name}.png").write_bytes(samples()[name].data)
    choice = curves.from_query(
        {
            "model": "vgg16@random:0,resnet50",
            "method": "smoothgrad,gradcam",
            "protocol": "rise-row",
            "deletion": "#102030",
        }
    )
    choice.params["smoothgrad"] = {"samples": 3}
    curves.open_server(choice, str(tmp_path))
    choice.count = 2
    parser = argparse.ArgumentParser()
    command_line.add_options(parser)
    words = shlex.split(curves.command(choice, choice.pictures()))
    assert words[:4] == ["python", "-m", "xai", "evaluate"]
    request = command_line._request(parser.parse_args(words[4:]))
    assert request.recipe == choice.terms.recipe()
    assert request.models == (("vgg16", "random:0"), ("resnet50", "imagenet"))
    assert (request.data, request.images, request.view) == (str(tmp_path), 2, "crop")
    drawn = choice.whole.sample(2) if choice.whole else None
    assert drawn is not None
    assert [item.key for item in drawn.items] == [piece.item.key for piece in choice.pictures().pieces]


def test_two_sessions_share_one_measurement() -> None:
    request = SetRequest(some(), (TINY,), "crop", TERMS, go=True)
    again = SetRequest(some(), (TINY,), "crop", TERMS, go=True)
    jobs = [BOARD.submit(who, each.key, "t", each.work) for who, each in (("a", request), ("b", again))]
    assert jobs[0] is jobs[1]
    BOARD.release("a")
    BOARD.release("b")


def test_what_ends_while_the_page_looks_elsewhere_is_shown() -> None:
    def script() -> None:
        import threading
        import time

        import streamlit as st

        from xai.ui.live import Live
        from xai.ui.metric_curves import state as curves

        gate = threading.Event()
        live = Live(curves.current(), "late")
        live.work(("late", id(gate)), "late", lambda run: gate.wait(30), lambda job: st.text(f"shown: {job.state}"))
        send = live._send

        def late() -> None:  # the job ends after this round has shown what had ended
            gate.set()
            while any(task.job is not None and task.job.active for task in live.tasks):
                time.sleep(0.01)
            send()

        live._send = late  # type: ignore[method-assign]
        live.follow(st.empty())

    app = AppTest.from_function(script, default_timeout=60).run()
    assert not app.exception
    assert [each.value for each in app.text] == ["shown: done"]


def test_ranks_that_change_places_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = found(), found(replace(TERMS, protocol="rise"))
    said: list[str] = []
    tables: list[list[dict[str, str]]] = []
    monkeypatch.setattr(curves_show.st, "table", lambda rows, **kwargs: tables.append(rows))
    monkeypatch.setattr(curves_show.st, "warning", lambda text, **kwargs: said.append(text))
    monkeypatch.setattr(curves_show.st, "success", lambda text, **kwargs: said.append(text))
    results = {"study": one, "rise": two}
    curves_show.flips(results)
    rows = {row[""]: row for row in tables[0]}
    assert set(rows) == {f"{m}, {p}" for m in ("Insertion", "Deletion") for p in ("study", "rise")}
    for name, made in results.items():
        means = {
            m: made.result.mean("tiny (random:0)", m, "insertion").mean for m in made.result.methods("tiny (random:0)")
        }
        best = max(means, key=lambda m: means[m])
        title = {"gradcam": "Grad-CAM", "random": "Random", "center": "Centre", "edges": "Edges"}[best]
        assert rows[f"Insertion, {name}"][title] == "1"
    assert not {"–", "none", ""} & {cell for row in rows.values() for cell in row.values()}
    changed = _changes(one.result, two.result)
    assert said == [
        f"The ranking depends on the protocol: {changed} pair{'s' * (changed > 1)} of methods "
        f"change{'s' * (changed == 1)} places."
        if changed
        else "The ranking is the same by every protocol that is done."
    ]


def test_ranks_by_one_protocol_make_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(curves_show.st, "table", lambda *args, **kwargs: pytest.fail("a table of one protocol"))
    monkeypatch.setattr(curves_show.st, "caption", said.append)
    curves_show.flips({"study": found()})
    assert said == ["One protocol is done. Compute another one to see whether the ranks hold."]


def _changes(a: Faithfulness, b: Faithfulness) -> int:
    count = 0
    net = a.networks[0]
    for metric in ("insertion", "deletion"):
        means = [
            [(1 if r.better_up(metric) else -1) * float(r.values(net, m, metric).mean()) for m in r.methods(net)]
            for r in (a, b)
        ]
        n = len(means[0])
        count += sum((means[0][i] - means[0][j]) * (means[1][i] - means[1][j]) < 0 for i in range(n) for j in range(i))
    return count


def test_the_page_opens_with_curves(open_page: OpenPage, tmp_path: Path) -> None:
    app = open_page("metric_curves", timeout=240, query={"images": "chelsea,coffee", "method": "gradcam"})
    assert app.title[0].value == "Metric curves"
    assert len(app.table) == 2
    assert any("python -m xai evaluate" in each.value for each in app.code)
    ranks = app.table[0].value
    assert next(iter(ranks.iloc[:, 0])) in ("Grad-CAM", "Random", "Centre", "Edges")
    app.segmented_control(key="cu_source").set_value("server").run()
    nowhere = tmp_path / "nowhere"
    app.text_input(key="cu_path").set_value(str(nowhere)).run()
    assert not app.exception
    assert any(f"'{nowhere}' does not exist" in each.value for each in app.warning)
    assert any("nothing is written there" in each.value for each in app.caption)
