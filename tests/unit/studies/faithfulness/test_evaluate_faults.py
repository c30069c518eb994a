"""Evaluations whose images, names, masks or maps are odd: the run ends well, and says what it left out and why."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

import xai
from tests.conftest import make_tiny
from xai.cli import main, parser
from xai.commands.evaluate import _request
from xai.data import Item
from xai.data.spec import DataSet
from xai.errors import InputError
from xai.metrics import precision_error
from xai.models.classifier import Classifier
from xai.runs.folder import RunFolder
from xai.runs.team import Team
from xai.studies.faithfulness import evaluate as module
from xai.studies.faithfulness import measure as _measure
from xai.studies.faithfulness.evaluate import Request, evaluate, open_results
from xai.studies.faithfulness.seen import Faithfulness, Recipe, faithfulness, measured, see
from xai.types import Run

TINY = "tiny (random:0)"
REASON = "The map holds values that are not finite: the gradient overflowed."
RECIPE = Recipe(methods=("gradcam", "saliency"), baselines=("random",), protocol="study")


@pytest.fixture(autouse=True)
def _tiny_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Classifier) -> None:
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "load_model", lambda name, weights, device: tiny)


def folder_of(root: Path, count: int = 3) -> Path:
    root.mkdir()
    generator = torch.Generator().manual_seed(2)
    for index in range(count):
        levels = torch.randint(0, 256, (64, 64, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(levels.numpy()).save(root / f"{index}.png")
    return root


def request_for(data: Path | str, recipe: Recipe = RECIPE, **more: Any) -> Request:
    return Request(str(data), (("tiny", "random:0"),), recipe, **more)


def overflowing(monkeypatch: pytest.MonkeyPatch, *places: int, value: float = math.nan, reason: str = REASON) -> None:
    """Saliency overflows on the images at these places of each batch, or has `value`; on all where none is given."""

    def broken(classifier: Classifier, x: torch.Tensor, name: str, *rest: Any, **more: Any) -> Any:
        found = xai.attribute(classifier, x, name, *rest, **more)
        if name != "saliency":
            return found
        values, blank = found.values.clone(), list(found.facts["blank"])
        for place in places or range(len(x)):
            values[place], blank[place] = value, reason
        return dataclasses.replace(found, values=values, facts={**found.facts, "blank": blank})

    monkeypatch.setattr(_measure, "attribute", broken)


# Maps that are not finite


def test_a_method_without_a_finite_map_is_left_out_and_the_run_ends_well(tmp_path, monkeypatch):
    overflowing(monkeypatch)
    found = evaluate(request_for(folder_of(tmp_path / "d")), tmp_path / "run", device="cpu")
    assert found is not None
    assert found.methods(TINY) == ("gradcam", "random")
    assert [(each.method, each.reason) for each in found.refused] == [("saliency", REASON)]
    assert found.table.num_rows == 9  # a row for each method, with why it holds nothing
    rows = [row for row in found.table.to_pylist() if row["method"] == "saliency"]
    assert [(row["insertion"], row["deletion_p"], row["blank"]) for row in rows] == [(None, None, REASON)] * 3
    again = open_results(tmp_path / "run")
    assert [each.method for each in again.refused] == ["saliency"]
    monkeypatch.setattr(module, "ERROR_IMAGES", 2)
    rough = dataclasses.replace(RECIPE, precision="bf16")
    assert evaluate(request_for(tmp_path / "d", rough), tmp_path / "rough", device="cpu") is not None


def test_where_no_map_is_finite_that_is_said(tmp_path, monkeypatch):
    overflowing(monkeypatch)
    recipe = Recipe(methods=("saliency",), baselines=(), protocol="study")
    with pytest.raises(InputError, match=rf"no map could be measured; saliency on tiny \(random:0\): {REASON}"):
        evaluate(request_for(folder_of(tmp_path / "d"), recipe), tmp_path / "run", device="cpu")


def test_an_image_without_a_finite_map_has_no_curve_and_counts_in_no_mean(tmp_path, monkeypatch):
    overflowing(monkeypatch, 1)
    found = evaluate(request_for(folder_of(tmp_path / "d")), tmp_path / "run", device="cpu")
    assert found is not None
    for metric in ("insertion", "deletion"):
        curve = found.curve(TINY, "saliency", metric)
        assert curve.y.isnan().any(1).tolist() == [False, True, False]
        assert curve.probability is not None
        assert bool(curve.probability[1].isnan().all())
        assert found.mean_curve(TINY, "saliency", metric).band.n == 2
    (line,) = RunFolder(tmp_path / "run").metrics()
    values = found.values(TINY, "saliency", "insertion")
    assert line["mean"]["saliency"]["insertion"] == pytest.approx(float(values[~values.isnan()].mean()))
    assert line["images"] == 3


BLANK = "Blank because every contribution is negative: at this layer nothing speaks for this class (-3 to -1)."


@pytest.mark.parametrize(
    ("value", "reason", "told"),
    [
        (0.0, BLANK, "Blank because every contribution is negative: at this layer nothing speaks for this class."),
        (0.4, "", "The map has one value everywhere: it puts no pixel before another."),
    ],
)
def test_a_map_without_an_order_has_no_score_and_is_counted_and_told(
    tmp_path, monkeypatch, capsys, value, reason, told
):
    overflowing(monkeypatch, 1, value=value, reason=reason)
    words = ["--method", "gradcam", "saliency", "--baseline", "random", "--protocol", "study", "--chunk", "3"]
    data, out = str(folder_of(tmp_path / "d")), tmp_path / "run"
    assert main(["evaluate", data, "--model", "tiny", "--weights", "random:0", *words, "--out", str(out)]) == 0
    sentence = f"Saliency has no order of pixels, and so no score, on 1 of 3 images: {told}"
    printed = capsys.readouterr()
    assert sentence in printed.err
    found = open_results(out)
    for metric in ("insertion", "deletion", "drop", "increase"):
        assert found.values(TINY, "saliency", metric).isnan().tolist() == [False, True, False]
        assert found.values(TINY, "gradcam", metric).isnan().tolist() == [False] * 3
    summary = RunFolder(out).summary()
    assert summary["without_order"] == [sentence]
    by_name = {each["method"]: each for each in summary["metrics"]["insertion"]["scores"]}
    assert {name: (each["n"], each["without_score"]) for name, each in by_name.items()} == {
        "gradcam": (3, 0),
        "saliency": (2, 1),
        "random": (3, 0),
    }


def test_a_method_whose_maps_are_all_blank_is_left_out_with_the_reason(tmp_path, monkeypatch):
    overflowing(monkeypatch, value=0.0, reason=BLANK)
    found = evaluate(request_for(folder_of(tmp_path / "d")), tmp_path / "run", device="cpu")
    assert found is not None
    assert [(each.method, each.reason) for each in found.refused] == [("saliency", BLANK)]


def test_a_map_that_only_speaks_against_the_class_has_curves_but_no_drop(tiny):
    seen, _ = see([tiny], [Image.new("RGB", (64, 64), (9 * i, 99, 30)) for i in range(2)], RECIPE)
    seen[0].maps["saliency"][:] = -1 - seen[0].maps["random"]
    found = measured(seen, RECIPE)
    (score,) = (each for each in found.scores("drop") if each.method == "saliency")
    assert (score.rank, score.missing, score.mean.n, score.against) == (None, 2, 0, None)
    assert found.mean(TINY, "saliency", "insertion").n == 2


def test_a_share_of_images_has_an_interval_that_is_not_empty(tiny):
    items = tuple(Item(str(i), 0, Image.new("RGB", (64, 64), (9 * i, 99, 30)).copy) for i in range(4))
    found = faithfulness([tiny], DataSet("d", "class folders", items, ("cat",)), RECIPE)
    for share in (found.correct(TINY), found.mean(TINY, "saliency", "increase")):
        assert share is not None
        count = round(share.mean * 4)
        peer = binomtest(count, 4).proportion_ci(method="wilson")
        assert (share.low, share.high) == pytest.approx((peer.low, peer.high), abs=1e-9)
        assert share.high - share.low > 0.4


def test_methods_that_share_no_image_are_not_compared(tiny):
    seen, _ = see([tiny], [Image.new("RGB", (64, 64), (9 * i, 99, 30)) for i in range(2)], RECIPE)
    seen[0].maps["gradcam"][0] = math.nan
    seen[0].maps["saliency"][1] = math.nan
    found = measured(seen, RECIPE)
    with pytest.raises(InputError, match=r"there is no image on which both gradcam and saliency have a score"):
        found.compare(TINY, "gradcam", "saliency", "insertion")


# Masks


def test_an_object_out_of_sight_has_no_score_and_the_others_keep_theirs(tiny):
    def masked(place: int, box: tuple[int, int, int, int]) -> Item:
        mask = Image.new("L", (64, 64))
        mask.paste(255, box)
        levels = torch.randint(0, 256, (64, 64, 3), generator=Run(seed=place).generator("levels"), dtype=torch.uint8)
        return Item(f"{place}", None, Image.fromarray(levels.numpy()).copy, open_mask=mask.copy)

    items = (masked(0, (10, 10, 50, 50)), masked(1, (0, 0, 0, 0)), masked(2, (20, 4, 60, 30)))
    found = faithfulness([tiny], DataSet("d", "unlabelled", items), RECIPE)
    for metric in ("energy", "pointing"):
        values = found.values(TINY, "saliency", metric)
        assert values.isnan().tolist() == [False, True, False]
        for place in (0, 2):
            alone = faithfulness([tiny], DataSet("d", "unlabelled", (items[place],)), RECIPE)
            assert float(values[place]) == pytest.approx(float(alone.values(TINY, "saliency", metric)), abs=1e-6)
    nothing = faithfulness([tiny], DataSet("d", "unlabelled", (items[1],)), RECIPE)
    assert nothing.metrics == ("insertion", "deletion", "drop", "increase")


# The protocol in rows, files and sentences


def test_every_row_tells_the_protocol_of_every_score(tmp_path):
    recipe = dataclasses.replace(RECIPE, insertion_substrate="black", deletion_substrate="#102030")
    evaluate(request_for(folder_of(tmp_path / "d"), recipe), tmp_path / "run", device="cpu")
    table = pq.read_table(tmp_path / "run" / "results.parquet")
    said = {name: set(table[f"{name}_protocol"].to_pylist()) for name in ("insertion", "deletion", "drop", "energy")}
    assert [text[:20] for text in said["insertion"]] == ["Insertion from black"]
    assert [text[:19] for text in said["deletion"]] == ["Deletion to #102030"]
    assert [text.startswith("max(0, y - y_masked) / y;") for text in said["drop"]] == [True]
    assert said["energy"] == {None}  # nothing was measured
    summary = RunFolder(tmp_path / "run").summary()
    assert set(summary["protocol"]) == {"insertion", "deletion", "drop", "increase"}
    assert {each["protocol"] for each in summary["metrics"]["drop"]["scores"]} == said["drop"]


def test_networks_of_different_sizes_each_say_their_steps(tiny):
    large = make_tiny(seed=1)
    preset = dataclasses.replace(large.preset, resize=90, crop=80)
    large = dataclasses.replace(large, name="large", input_size=(80, 80), preset=preset)
    recipe = Recipe(methods=("gradcam",), baselines=(), protocol="rise")
    found = faithfulness([tiny, large], [Image.new("RGB", (100, 90), (200, 90, 10))], recipe)
    sentence = found.sentence("insertion")
    assert "tiny (random:0): Insertion from blur, 512 pixels a step, 9 points" in sentence
    assert "large (random:1): Insertion from blur, 640 pixels a step, 11 points" in sentence
    assert found.sentence("drop").count("max(0, y - y_masked)") == 1


def test_bf16_is_judged_by_the_protocol_that_was_asked_for(tmp_path, tiny):
    recipe = Recipe(
        ("gradcam",), (), "study", insertion_substrate="black", deletion_substrate="#ffffff", precision="bf16"
    )
    data = folder_of(tmp_path / "d")
    evaluate(request_for(data, recipe), tmp_path / "run", device="cpu")
    told = RunFolder(tmp_path / "run").summary()["bf16_auc_error"]
    x = tiny.preprocess([Image.open(path) for path in sorted(data.iterdir())])
    maps = {"gradcam": xai.attribute(tiny, x, "gradcam").maps()}
    exact = precision_error(tiny, x, maps, "study", substrates={"insertion": "black", "deletion": "#ffffff"})
    assert told == {"images": 3, TINY: pytest.approx(exact, abs=1e-7)}
    assert exact != pytest.approx(precision_error(tiny, x, maps, "study"), abs=1e-6)


# Names, and what cannot work


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_names_that_are_no_text_or_have_line_ends_are_kept_apart(tmp_path):
    data = folder_of(tmp_path / "d", 1)
    (data / "0.png").rename(data / os.fsdecode(b"caf\xe9.png"))
    (data / "a\nb\tc.png").write_bytes(b"no picture")
    evaluate(request_for(data), tmp_path / "run", device="cpu")
    found = open_results(tmp_path / "run")
    assert found.images == ("caf\\xe9.png",)
    assert [problem.key for problem in found.problems] == ["a\nb\tc.png"]
    assert "not an image" in found.problems[0].reason


def test_where_all_images_are_bad_the_first_reason_is_said(tmp_path, capsys):
    data = tmp_path / "d"
    data.mkdir()
    (data / "x.png").write_bytes(b"no picture")
    assert main(["evaluate", str(data), "--out", str(tmp_path / "run"), "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert "no image was measured; every one of them was bad, or there was none (the first: x.png, x.png is not" in told


def test_an_unknown_view_is_no_fault_of_the_images(tmp_path):
    with pytest.raises(InputError, match=r"^view 'wide' is not known; use crop or whole\.$"):
        evaluate(request_for(folder_of(tmp_path / "d"), view="wide"), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_classifier_that_no_method_fits_is_refused_before_the_run_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "refusal", lambda classifier, name, recipe: f"{name} finds nothing to guide")
    with pytest.raises(InputError, match=r"no method applies to Tiny: gradcam finds nothing to guide; saliency"):
        evaluate(request_for(folder_of(tmp_path / "d")), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_labels_that_are_missing_are_said_before_the_run_begins(tmp_path, monkeypatch):
    items = tuple(Item(f"{i}.png", label, Image.new("RGB", (8, 8)).copy) for i, label in enumerate((0, None)))
    monkeypatch.setattr(module, "open_dataset", lambda data, layout: DataSet("some", "class folders", items, ("cat",)))
    with pytest.raises(InputError, match=r"target is label, but 1\.png of some has none; use target predicted\."):
        evaluate(request_for("some", Recipe(target="label")), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_synthetic_images_are_said(tmp_path, monkeypatch, capsys):
    words = ["evaluate", "sample:brain?size=64", "--images", "2", "--protocol", "study", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "run"), "--baseline"]) == 0
    assert "the images of brain?size=64 are synthetic." in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["synthetic"] is True


# Where it computes


def test_the_environments_device_holds_for_a_team_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for said, wanted in (("cpu", "cpu"), ("cuda:3", "cuda:3"), ("cuda", "cuda:2"), ("", "cuda:2")):
        monkeypatch.setenv("XAI_DEVICE", said)
        assert str(Team(2, 4, 2).device("auto")) == wanted
    assert str(Team(2, 4, 2).device("cuda")) == "cuda:2"
    assert str(Team(2, 4, 2).device("cuda:1")) == "cuda:1"
    assert str(Team().device("cuda")) == "cuda:0"


def test_one_weights_option_serves_all_classifiers():
    words = ["evaluate", "d", "--out", "r", "--model", "vgg16", "resnet50", "--weights", "random:0"]
    assert _request(parser().parse_args(words)).models == (("vgg16", "random:0"), ("resnet50", "random:0"))
    with pytest.raises(InputError, match=r"--weights has 3 values for 2 classifiers; give one, or one for each\."):
        _request(parser().parse_args([*words, "imagenet", "imagenet"]))


def test_whether_a_method_applies_is_asked_once(tiny, monkeypatch):
    asked: list[str] = []
    spec = _measure.METHODS.get("lrp")
    watched = dataclasses.replace(spec, coverage=lambda *rest: asked.append("lrp") or spec.coverage(*rest))
    monkeypatch.setattr(_measure.METHODS, "get", lambda name: watched)
    other = make_tiny(seed=5)
    for classifier in (other, other, make_tiny(seed=6)):
        assert _measure.refusal(classifier, "lrp", Recipe()) == ""
    assert len(asked) == 2


def test_the_result_of_nothing_is_refused():
    with pytest.raises(InputError, match=r"every one of them was bad, or there was none\."):
        Faithfulness(_measure.SCHEMA.empty_table(), RECIPE)
