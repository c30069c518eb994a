"""Going through a training's validation images: cells, filters, flips, maps on objects, export, the shipped run."""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.conftest import make_tiny
from xai.data import DataSet, Item
from xai.errors import Cancelled, ImageError, InputError, WeightsError
from xai.explain.call import attribute
from xai.models import load_model
from xai.models.classifier import Classifier
from xai.studies.transfer.result import TransferResult, load_result
from xai.studies.transfer.review import ORDERS, chosen, flips, inside, inside_run, packed, seen
from xai.studies.transfer.shipped import ALIKE, BRAIN, CHARACTERS, HEAD, command, network_of_run, pack
from xai.types import Run


def result(p: list[list[float]], labels: list[int], index: list[int] | None = None, data: str = "d") -> TransferResult:
    places = index or list(range(len(p)))
    table = pa.table(
        {
            "key": [f"k{place}.png" for place in places],
            "index": places,
            "fold": [1] * len(p),
            "label": labels,
            "probabilities": p,
        }
    )
    classes = ["no", "yes"] if len(p[0]) == 2 else ["a", "b", "c"]
    return TransferResult(Path("x"), {"data_fingerprint": data}, {"classes": classes}, (), table)


PAIR = result([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]], [0, 0, 1, 1])


def test_cells_by_hand() -> None:
    rows = seen(PAIR)
    assert [row.predicted for row in rows] == [0, 1, 0, 1]
    assert [row.kind for row in rows] == ["right", "false positive", "false negative", "right"]
    assert [row.confidence for row in rows] == [0.9, 0.6, 0.7, 0.8]
    assert [row.score for row in rows] == [0.1, 0.6, 0.3, 0.8]


def test_who_says_the_commonest_class_to_all_is_right_for_its_share() -> None:
    assert PAIR.commonest == 0.5
    assert result([[1, 0, 0]] * 5, [0, 2, 1, 2, 2]).commonest == 0.6


def test_the_threshold_moves_the_cells() -> None:
    assert [row.kind for row in seen(PAIR, 0.3)] == ["right", "false positive", "right", "right"]
    assert [row.confidence for row in seen(PAIR, 0.3)][2] == 0.3
    assert [row.predicted for row in seen(PAIR, 0.9)] == [0, 0, 0, 0]
    assert [row.predicted for row in seen(PAIR, 0)] == [1, 1, 1, 1]
    with pytest.raises(InputError, match=r"^threshold is 1\.5; give 0 to 1\.$"):
        seen(PAIR, 1.5)


def test_many_classes_have_no_false_positives_but_errors() -> None:
    rows = seen(result([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]], [1, 0]), 0.9)  # a threshold is for two classes
    assert [row.predicted for row in rows] == [1, 2]
    assert [row.kind for row in rows] == ["right", "wrong"]


def test_filters_and_orders() -> None:
    rows = seen(PAIR)
    assert [row.place for row in chosen(rows)] == [1, 2, 3, 0]
    assert [row.place for row in chosen(rows, order=ORDERS[1])] == [0, 3, 2, 1]
    assert [row.place for row in chosen(rows, order=ORDERS[2])] == [0, 1, 2, 3]
    assert [row.place for row in chosen(rows, label=0, predicted=1)] == [1]
    assert [row.place for row in chosen(rows, only="wrong")] == [1, 2]
    assert [row.place for row in chosen(rows, only="right", confidence=(0.85, 1))] == [0]
    with pytest.raises(InputError, match=r"^order 'x' is not known; use least sure first, surest first"):
        chosen(rows, order="x")
    with pytest.raises(InputError, match=r"^only is 'x'; use all, wrong or right\.$"):
        chosen(rows, only="x")


def test_flips_are_matched_by_image_and_not_by_row() -> None:
    one = result([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], [0, 0, 1], [5, 7, 9])
    other = result([[0.1, 0.9], [0.8, 0.2], [0.9, 0.1]], [1, 0, 0], [9, 5, 7])
    (flip,) = flips(one, other)
    assert (flip.index, flip.label) == (7, 0)
    assert not flip.first.correct
    assert flip.second.correct
    assert (flip.first.place, flip.second.place) == (1, 2)
    assert [each.index for each in flips(one, other, every=True)] == [5, 7, 9]
    with pytest.raises(InputError, match=r"^the two runs were trained on different images; compare runs on one"):
        flips(one, result([[0.1, 0.9]], [1], [5], "other"))
    with pytest.raises(InputError, match=r"^the two runs were validated on different images; train both with the"):
        flips(one, result([[0.1, 0.9]], [1], [6]))


def test_flips_among_three_runs_name_who_is_right() -> None:
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    runs = [result([a, b, c, right], [0, 0, 0, 0]) for a, b, c in ((right,) * 3, (right, wrong, right), (wrong,) * 3)]
    found = flips(*runs)
    assert [(flip.index, [row.correct for row in flip.rows], flip.right) for flip in found] == [
        (0, [True, True, False], 2),
        (1, [True, False, False], 1),
        (2, [True, True, False], 2),
    ]
    assert [flip.right for flip in flips(*runs, every=True)] == [2, 1, 2, 3]
    with pytest.raises(InputError, match=r"^there is 1 run; give two or more to compare\.$"):
        flips(runs[0])
    with pytest.raises(
        InputError, match=r"^the 3 runs were validated on different images; train all with the same seed"
    ):
        flips(*runs[:2], result([right], [0], [9]))


def drawn(level: int, corner: int) -> Item:
    """A picture with a brighter square whose mask is known; corner 0 or 32."""

    def picture() -> Image.Image:
        image = Image.new("RGB", (64, 64), (level, 40, 90))
        image.paste((220, 200, 60), (corner, corner, corner + 32, corner + 32))
        return image

    def mask() -> Image.Image:
        made = Image.new("L", (64, 64))
        made.paste(255, (corner, corner, corner + 32, corner + 32))
        return made

    return Item(f"{level}/{corner}.png", 0, picture, open_mask=mask)


def empty() -> Image.Image:
    return Image.new("L", (64, 64))


def test_share_inside_is_worked_out_from_the_maps_themselves() -> None:
    tiny = make_tiny()
    items = [drawn(10, 0), drawn(90, 32), Item("none.png", 0, drawn(5, 0).open)]
    found = inside(tiny, items, "gradcam", "whole")
    assert found.keys == ("10/0.png", "90/32.png")
    for place in range(2):
        x = tiny.preprocess(items[place].open(), "whole")
        positive = attribute(tiny, x, "gradcam").maps()[0].clamp(min=0).double().numpy()
        corner = (0, 32)[place]
        mask = np.zeros((64, 64), bool)
        mask[corner : corner + 32, corner : corner + 32] = True
        expected = positive[mask].sum() / positive.sum() if positive.sum() else 0.25
        assert float(found.share[place]) == pytest.approx(expected, abs=1e-6)
        assert float(found.chance[place]) == pytest.approx(0.25)
    assert found.above.mean == pytest.approx(float((found.share - found.chance).mean()))
    assert found.above.n == 2
    assert "share of the map's positive mass inside the object's mask" in found.protocol
    with pytest.raises(InputError, match=r"^none of these images has a mask; choose a data set whose objects are"):
        inside(tiny, items[2:])
    with pytest.raises(Cancelled):
        inside(tiny, items, run=Run(cancelled=lambda: True))


def test_a_run_is_measured_over_its_folds_each_by_its_own_network() -> None:
    """Four images in two folds: every one by the network that validated it; those without an object are passed over."""
    items = [drawn(10, 0), drawn(90, 32), drawn(40, 0), Item("none.png", 1, drawn(5, 0).open, open_mask=empty)]
    table = pa.table(
        {
            "key": [item.key for item in items],
            "index": [0, 1, 2, 3],
            "fold": [1, 2, 1, 2],
            "label": [0, 0, 0, 1],
            "probabilities": [[0.9, 0.1]] * 4,
        }
    )
    found = TransferResult(Path("x"), {"data_fingerprint": "d", "view": "whole"}, {"classes": ["a", "b"]}, (), table)
    networks = {1: make_tiny(seed=1), 2: make_tiny(seed=2)}
    asked: list[int] = []

    def network(fold: int) -> Classifier:
        asked.append(fold)
        return networks[fold]

    whole = inside_run(found, items, network, "gradcam", 10)
    assert asked == [1, 2]
    parts = [inside(networks[1], [items[0], items[2]], view="whole"), inside(networks[2], [items[1]], view="whole")]
    assert whole.keys == parts[0].keys + parts[1].keys
    assert whole.share.tolist() == [*parts[0].share.tolist(), *parts[1].share.tolist()]
    assert inside_run(found, items, network, fold=2).keys == ("90/32.png",)
    assert len(inside_run(found, items, network, count=2).keys) == 2
    with pytest.raises(InputError, match=r"^none of these images has a mask"):
        inside_run(found, items, network, fold=3)


def test_a_picture_that_is_gone_does_not_stop_the_export() -> None:
    def gone() -> Image.Image:
        raise ImageError("it is gone.")

    items = (replace(drawn(0, 0), key="k0.png"), replace(drawn(1, 0), key="k1.png", open=gone))
    data = DataSet("made", "class folders", items, ("no", "yes"))
    archive = zipfile.ZipFile(io.BytesIO(packed(seen(PAIR)[:2], data, ("no", "yes"), {}, {})))
    rows = list(csv.DictReader(archive.read("review.csv").decode().splitlines()))
    assert [row["picture"] for row in rows] == ["pictures/k0.png", "missing: it is gone."]
    assert archive.namelist() == ["pictures/k0.png", "review.csv"]


def test_the_export_holds_the_list_its_pictures_and_what_was_said() -> None:
    items = tuple(replace(drawn(place, 0), key=f"c/{place}.png") for place in range(4))
    data = DataSet("made", "class folders", items, ("no", "yes"), synthetic=True)
    notes = {"k1.png": ("background", "=1+1")}
    rows = seen(PAIR)[:2]
    archive = zipfile.ZipFile(io.BytesIO(packed(rows, data, ("no", "yes"), notes, {"run": "mine"})))
    lines = archive.read("review.csv").decode().splitlines()
    assert lines[0] == "# run: mine"
    table = list(csv.DictReader(lines[1:]))
    assert [row["kind"] for row in table] == ["right", "false positive"]
    assert table[1]["label"] == "no"
    assert table[1]["predicted"] == "yes"
    assert (table[1]["tag"], table[1]["note"]) == ("background", "'=1+1")  # no formula for a spreadsheet
    assert table[1]["synthetic"] == "True"
    picture = Image.open(io.BytesIO(archive.read(table[1]["picture"])))
    assert np.array_equal(np.asarray(picture), np.asarray(items[1].open()))
    assert "synthetic" in table[1]["picture"]


def test_the_shipped_run_is_whole_and_small(lite0) -> None:
    found = load_result(BRAIN)
    assert found.config["data"] == "sample:brain"
    assert (found.config["recipe"]["head"], found.config["recipe"]["epochs"]) == ("study4", 30)
    assert len(found.history) == 30
    assert found.summary["synthetic"]
    assert len(found.labels) == 51
    assert sum(path.stat().st_size for path in BRAIN.iterdir()) < 1_000_000
    items = found.items()  # refuses if the generator gives other images than those that it was trained on
    classifier = network_of_run(found, device="cpu")
    assert classifier.labels == ("no", "yes")
    for place in (0, 30):
        p = classifier.predict(classifier.preprocess(items[place].open())).softmax(1)[0]
        assert p.tolist() == pytest.approx(found.probabilities[place].tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("title", "name"), [("VGG16", "vgg16"), ("ResNet50", "resnet50"), ("DenseNet121", "densenet121")]
)
def test_study_3_is_shipped_with_its_marks_and_its_command(title: str, name: str) -> None:
    found = load_result(CHARACTERS[title])
    assert found.summary["synthetic"]
    assert found.summary["random_base"]
    assert len(found.items()) == len(found.labels) == 160  # refuses if the generator draws other pictures now
    assert found.figures().accuracy == pytest.approx(found.summary["accuracy"])
    assert found.summary["accuracy"] > 0.1 + 3 * (0.1 * 0.9 / 160) ** 0.5  # three deviations above chance
    assert command(found) == (
        f"python -m xai train sample:characters --model {name} --weights random:0 --head linear --epochs 60 "
        f"--learning-rate 0.01 --schedule cosine --out runs/characters-{name}"
    )
    others = [load_result(path) for path in CHARACTERS.values()]
    assert len(flips(*others, every=True)) == 160
    assert sum(path.stat().st_size for each in CHARACTERS.values() for path in each.iterdir()) < 2_000_000


def test_an_untrained_part_that_is_drawn_anew_must_give_the_answers_of_the_run() -> None:
    found = load_result(CHARACTERS["DenseNet121"])
    classifier = network_of_run(found, device="cpu")
    assert classifier.title == "DenseNet121, characters-densenet121"
    p = classifier.predict(classifier.preprocess(found.items()[0].open())).softmax(1)[0]
    assert p.tolist() == pytest.approx(found.probabilities[0].tolist(), abs=ALIKE)
    elsewhere = replace(found, config={**found.config, "base_fingerprint": "of another machine"})
    assert network_of_run(elsewhere, device="cpu").fingerprint == classifier.fingerprint
    answers = found.predictions.to_pylist()
    answers[0]["probabilities"] = answers[0]["probabilities"][1:] + answers[0]["probabilities"][:1]
    turned = pa.Table.from_pylist(answers)
    for changed in (replace(elsewhere, predictions=turned), replace(found, predictions=turned)):
        with pytest.raises(
            WeightsError, match=r"^DenseNet121 has other weights than the run characters-densenet121 be"
        ):
            network_of_run(changed, device="cpu")


def test_the_frozen_part_of_a_packed_run_is_held_once() -> None:
    found = load_result(CHARACTERS["DenseNet121"])
    trained, base = network_of_run(found, device="cpu"), load_model("densenet121", "random:0", "cpu")
    pairs = zip(trained.module.net.features.parameters(), base.module.net.features.parameters(), strict=True)
    assert all(one.data_ptr() == other.data_ptr() for one, other in pairs)
    assert trained.module.net.classifier.weight.shape == (10, 1024)
    assert base.module.net.classifier.weight.shape == (1000, 1024)


def test_only_a_frozen_run_is_packed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for path in BRAIN.iterdir():
        if path.name != HEAD:
            text = path.read_bytes()
            (run / path.name).write_bytes(text.replace(b'"trainable": "frozen"', b'"trainable": "all"'))
    with pytest.raises(InputError, match=r"^only a run with a frozen network and without folds can be packed; export"):
        pack(run, tmp_path / "out")
