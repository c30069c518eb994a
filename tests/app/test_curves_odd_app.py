"""The metric curves page with odd input: what is dropped, networks of two sizes, maps that overflow, freed memory."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import zipfile
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from tests.app.conftest import OpenPage
from tests.conftest import make_tiny
from xai.data.call import open_dataset
from xai.errors import WeightsError
from xai.explain.call import attribute
from xai.models.classifier import Classifier
from xai.studies.faithfulness import measure as _measure
from xai.types import Run
from xai.ui import shell
from xai.ui.metric_curves import forms as curves_forms
from xai.ui.metric_curves import show as curves_show
from xai.ui.metric_curves import sight as curves_sight
from xai.ui.metric_curves import state as curves
from xai.ui.metric_curves.state import CurvesChoice, Terms
from xai.ui.metric_curves.work import OneFound, OneRequest, SetFound, SetRequest
from xai.ui.work import Net, Recent, samples

TERMS = Terms(("gradcam",), "study")
TINY, LARGE = Net("efficientnet_lite0", "random:7"), Net("googlenet", "random:8")


def large() -> Classifier:
    """A second tiny classifier that looks at 80 px."""
    made = make_tiny(seed=3)
    return dataclasses.replace(
        made, name="large", input_size=(80, 80), preset=dataclasses.replace(made.preset, resize=90, crop=80)
    )


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tiny: Classifier) -> None:
    """Nothing measured by another test, and tiny networks where `TINY` and `LARGE` are asked for."""
    for name in ("_rows", "_parts", "_pixels"):
        monkeypatch.setattr(curves_sight, name, type(getattr(curves_sight, name))(500))
    nets = {TINY: tiny, LARGE: large()}
    monkeypatch.setattr(Net, "load", lambda net: nets[net])


def some() -> curves.Pictures:
    return curves.of_photos([samples()[name] for name in ("chelsea", "coffee")])


def found(terms: Terms = TERMS, nets: tuple[Net, ...] = (TINY,), pictures: curves.Pictures | None = None) -> SetFound:
    made = SetRequest(pictures or some(), nets, "crop", terms, go=True).work(Run())
    assert isinstance(made, SetFound)
    return made


def head_of(made: object) -> dict[str, Any]:
    assert isinstance(made, OneFound)
    size = int.from_bytes(made.data[:4], "little")
    head: dict[str, Any] = json.loads(made.data[4 : 4 + size])
    return head


# What is dropped


@dataclass
class Dropped:
    """An uploaded file as Streamlit gives it."""

    name: str
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def getvalue(self) -> bytes:
        return self.data


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.png", data)
    return buffer.getvalue()


def dropping(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, *files: Dropped) -> CurvesChoice:
    """The choice after these files were dropped together."""
    monkeypatch.setenv("XAI_CACHE", str(tmp_path))
    monkeypatch.setattr(curves_forms.st, "session_state", {"place": list(files), "cu_turn": 0})
    choice = CurvesChoice(samples()["coffee"], picked=("coffee",), methods=("gradcam",))
    curves_forms._take(choice, "cu", "place")
    return choice


def test_a_zip_is_taken_alone_and_what_came_with_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    photo = samples()["rocket"].data
    mine = Dropped("mine.zip", zipped(a=photo))
    choice = dropping(
        monkeypatch, tmp_path, Dropped("x.png", photo), mine, Dropped("more.zip", zipped(b=photo, c=photo))
    )
    assert choice.whole is not None
    assert (choice.whole.name, len(choice.whole), choice.uploads) == ("mine", 1, ())
    assert choice.problem == (
        "Left out: more.zip: a zip is taken alone; drop this by itself. "
        "x.png: a zip is taken alone; drop this by itself."
    )


def test_a_bad_zip_changes_nothing_and_keeps_its_own_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    choice = dropping(monkeypatch, tmp_path, Dropped("notes.zip", b"only words"))
    assert (choice.source, choice.picked) == ("samples", ("coffee",))
    assert choice.problem == (
        "notes.zip: it cannot be read as a zip (File is not a zip file); give a folder, or a zip of images that is "
        "whole."
    )
    choice = dropping(monkeypatch, tmp_path, Dropped("empty.zip", zipped()))
    assert choice.problem.startswith("empty.zip: there is no image in it (0 files); give PNG")


def test_no_more_pictures_are_taken_than_are_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(curves_forms, "MOST_IMAGES", 2)
    files = [Dropped(f"{i}.png", samples()["rocket"].data) for i in range(4)]
    choice = dropping(monkeypatch, tmp_path, *files)
    assert [photo.name for photo in choice.uploads] == ["0.png", "1.png"]
    assert choice.problem == (
        "Left out: 2.png: at most 2 pictures are taken at once; put more of them into a zip. "
        "3.png: at most 2 pictures are taken at once; put more of them into a zip."
    )


# Figures


def test_networks_of_two_sizes_have_their_own_positions() -> None:
    made = found(Terms(("gradcam",), "rise"), (TINY, LARGE))
    figure = curves_show.figure(made, "insertion", baselines=False)
    lines = {trace.name: trace for trace in figure.data if trace.name}
    assert {name: len(line.x) for name, line in lines.items()} == {
        "Grad-CAM, tiny (random:0)": 9,
        "Grad-CAM, large (random:3)": 11,
    }
    assert all(len(trace.x) == len(trace.y) for trace in figure.data)
    assert all(line.x[-1] == 100 for line in lines.values())
    words = figure.layout.annotations[0].text.replace("<br>", " ")
    assert "512 pixels a step, 9 points" in words
    assert "640 pixels a step, 11 points" in words


def test_a_legend_of_many_lines_has_room_over_the_figure() -> None:
    few, many = (curves_show.figure(found(nets=(TINY, LARGE)), "insertion", each).layout for each in (False, True))
    lines = (2, 10)  # methods, baselines and random maps of two networks; one name a line: they are long
    for layout, count in zip((few, many), lines, strict=True):
        assert layout.legend.maxheight == 30 * count
        assert layout.margin.t >= layout.legend.maxheight + 40  # the title's own height
    assert many.height - few.height == many.margin.t - few.margin.t  # what is drawn stays as high


def test_drawn_pictures_are_marked_in_every_figure() -> None:
    pictures = curves.of_dataset(open_dataset("sample:brain?size=64"), "sample:brain?size=64", 2)
    made = found(pictures=pictures)
    assert "RANDOM WEIGHTS, SYNTHETIC IMAGES" in curves_show.figure(made, "deletion", True).layout.title.text
    head = head_of(OneRequest(pictures.pieces[0], pictures, TINY, "crop", TERMS).work(Run()))
    assert head["marks"] == ["random weights", "synthetic image"]
    photos = some()
    head = head_of(OneRequest(photos.pieces[0], photos, TINY, "crop", TERMS).work(Run()))
    assert head["marks"] == ["random weights"]
    assert "SYNTHETIC" not in curves_show.figure(found(), "deletion", True).layout.title.text


# Maps that are not finite


def test_a_method_that_overflows_is_left_out_and_the_others_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(classifier: Classifier, x: torch.Tensor, name: str, *rest: Any, **more: Any) -> Any:
        made = attribute(classifier, x, name, *rest, **more)
        return dataclasses.replace(made, values=made.values * math.nan) if name == "gradcam" else made

    monkeypatch.setattr(_measure, "attribute", broken)
    terms = Terms(("gradcam", "saliency"), "study")
    pictures = some()
    head = head_of(OneRequest(pictures.pieces[0], pictures, TINY, "crop", terms).work(Run()))
    assert [line["name"] for line in head["methods"]] == ["saliency", "random", "center", "edges"]
    made = found(terms)
    assert [each.method for each in made.result.refused] == ["gradcam"]
    assert "gradcam" not in made.result.methods("tiny (random:0)")


def test_the_scrubber_shows_every_note_of_a_map(monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(classifier: Classifier, x: torch.Tensor, name: str, *rest: Any, **more: Any) -> Any:
        made = attribute(classifier, x, name, *rest, **more)
        return dataclasses.replace(made, facts={**made.facts, "note": [f"Undecided: {name}."]})

    monkeypatch.setattr(_measure, "attribute", noted)
    terms = Terms(("gradcam", "eigencam"), "study")
    pictures = some()
    head = head_of(OneRequest(pictures.pieces[0], pictures, TINY, "crop", terms).work(Run()))
    notes = {line["name"]: line["note"] for line in head["methods"]}
    assert notes["gradcam"] == "Undecided: gradcam."
    assert notes["eigencam"] == "Undecided: eigencam."
    assert head["methods"][-1]["title"].startswith("Random ")  # a random map of a method's resolution has no note
    assert head["methods"][-1]["note"] == ""


def test_a_mean_over_fewer_pictures_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[list[dict[str, str]]] = []
    monkeypatch.setattr(curves_show.st, "table", lambda rows, **kwargs: tables.append(rows))
    monkeypatch.setattr(curves_show.st, "caption", lambda text: None)
    made = found()
    score = made.scores["drop"][0]
    one = dataclasses.replace(score, mean=dataclasses.replace(score.mean, n=1))
    curves_show.ranks(dataclasses.replace(made, scores={**made.scores, "drop": (one, *made.scores["drop"][1:])}))
    told = {row[""]: row["Average drop ↓"] for row in tables[0]}
    assert told["Grad-CAM"].endswith(" (n=1)")
    assert not any("n=" in text for name, text in told.items() if name != "Grad-CAM")


# Memory


def test_freeing_the_memory_forgets_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "unload_models", lambda: None)
    asked: list[str] = []
    measure = curves_sight.measure
    monkeypatch.setattr(curves_sight, "measure", lambda *rest: asked.append("") or measure(*rest))
    found()
    found()
    assert len(asked) == 2  # two pictures, once each
    other: Recent[int] = Recent(3)
    other.get("a", lambda: 1)
    shell._unload()
    assert other.get("a", lambda: 2) == 2
    found()
    assert len(asked) == 4


def test_what_could_not_be_made_is_made_by_the_next_who_asks() -> None:
    memory: Recent[int] = Recent(2)
    with pytest.raises(ZeroDivisionError):
        memory.get("a", lambda: 1 // 0)
    assert memory.get("a", lambda: 3) == 3


def test_freeing_the_memory_while_the_page_measures_loses_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = curves_sight.measure

    def interrupted(*rest: Any) -> Any:
        table = measure(*rest)
        Recent.forget_all()
        return table

    monkeypatch.setattr(curves_sight, "measure", interrupted)
    found()
    more = found(Terms(("gradcam", "saliency"), "study"))
    assert more.result.table.num_rows == 2 * 5


def test_the_protocol_of_every_score_stands_under_the_ranks() -> None:
    def script() -> None:
        from tests.app.test_curves_odd_app import found
        from xai.ui.metric_curves import show as curves_show

        curves_show.ranks(found())

    app = AppTest.from_function(script, default_timeout=60).run()
    assert not app.exception
    said = app.caption[0].value
    for words in ("Insertion from blur", "Deletion to mean", "max(0, y - y_masked) / y", "1 where y_masked > y"):
        assert words in said


def test_a_preset_stays_where_the_next_click_comes_before_it_is_drawn(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, tiny: Classifier
) -> None:
    """A browser that has not drawn the preset yet sends with the next click what its widgets held before it."""

    def load(net: Net) -> Classifier:
        if net != TINY:
            raise WeightsError("its weights cannot be had.")
        return tiny

    monkeypatch.setattr(Net, "load", load)
    query = {"images": "chelsea", "model": TINY.text, "method": "saliency", "protocol": "rise", "deletion": "black"}
    app = open_page("metric_curves", query=query)
    held = app._tree.get_widget_states()
    app.button(key="cu_preset").click().run()
    app._run(held)
    assert not app.exception
    kept: CurvesChoice = app.session_state["olhar_curves"]
    assert [net.name for net in kept.nets] == ["vgg16", "resnet50", "googlenet"]
    assert (kept.methods, kept.protocol, kept.deletion, kept.baselines) == (("gradcam",), "study", "", False)


def test_a_small_set_does_not_lessen_what_is_measured_of_the_next() -> None:
    def script() -> None:
        from dataclasses import replace

        from xai.data import open_dataset
        from xai.ui.metric_curves import forms as curves_forms
        from xai.ui.metric_curves import state as curves

        choice, photos = curves.current(), open_dataset("sample:photos")
        for many in (2, 4):
            choice.whole = replace(photos, name=str(many), items=photos.items[:many])
            curves_forms._said(choice, "cu")

    app = AppTest.from_function(script, default_timeout=60).run()
    assert [each.value for each in app.number_input] == [2, 4]
    app.number_input[1].set_value(3).run()
    assert app.session_state["olhar_curves"].count == 3
