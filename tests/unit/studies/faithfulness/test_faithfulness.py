"""Faithfulness of methods over images: rows, means, ranks, comparisons and flips, and Grad-CAM against random order."""

import dataclasses
import io
import math

import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import xai
from xai.data import Item, open_dataset
from xai.data.spec import DataSet
from xai.errors import Cancelled, InputError
from xai.metrics import curves, drop, energy, pointing
from xai.studies.faithfulness.measure import SCHEMA, SCORES, random_maps
from xai.studies.faithfulness.seen import (
    FIGURES_6_7,
    Faithfulness,
    Recipe,
    faithfulness,
    measured,
    rank_flips,
    see,
    with_protocol,
)
from xai.types import Run


def pictures(count: int) -> list[Image.Image]:
    generator = torch.Generator().manual_seed(5)
    levels = torch.randint(0, 256, (count, 64, 64, 3), generator=generator, dtype=torch.uint8)
    return [Image.fromarray(each.numpy()) for each in levels]


def square(image: Image.Image) -> Image.Image:
    mask = Image.new("L", image.size)
    mask.paste(255, (8, 8, 40, 40))
    return mask


def labelled(count: int = 5) -> DataSet:
    items = [
        Item(f"{place}.png", place % 2, image.copy, open_mask=lambda image=image: square(image))
        for place, image in enumerate(pictures(count))
    ]
    return DataSet("drawn", "class folders", tuple(items), ("dog", "bee"))


RECIPE = Recipe(methods=("gradcam", "saliency"), protocol="study", seed=3)


@pytest.fixture(scope="module")
def result(tiny):
    return faithfulness([tiny], labelled(10), RECIPE)


def test_one_row_for_each_image_and_method(result, tiny):
    table = result.table
    assert table.schema == SCHEMA
    assert table.num_rows == 10 * 5
    assert table["image"].to_pylist()[:6] == ["0.png"] * 5 + ["1.png"]
    assert table["method"].to_pylist()[:5] == ["gradcam", "saliency", "random", "center", "edges"]
    assert table["baseline"].to_pylist()[:5] == [False, False, True, True, True]
    assert set(table["network"].to_pylist()) == {"tiny (random:0)"}
    # The data set's classes are dog and bee, the classifier's third and first names but one: 3 and 1.
    assert table["label"].to_pylist()[:10:5] == [3, 1]
    assert table["label_name"].to_pylist()[:10:5] == ["dog", "bee"]
    x = tiny.preprocess(pictures(10))
    predicted = tiny.predict(x).argmax(1)
    assert table["predicted"].to_pylist()[::5] == predicted.tolist()
    assert table["correct"].to_pylist()[::5] == [int(p) == (3, 1)[i % 2] for i, p in enumerate(predicted)]


def test_the_numbers_are_those_of_the_metrics(result, tiny):
    x = tiny.preprocess(pictures(10))
    maps = xai.attribute(tiny, x, "saliency", seed=3).maps()
    found = curves(tiny, x, {"m": maps}, "study").curves["m"]
    for metric in ("insertion", "deletion"):
        values = result.values("tiny (random:0)", "saliency", metric)
        assert torch.allclose(values, found[metric].auc, rtol=0, atol=1e-6)
        curve = result.curve("tiny (random:0)", "saliency", metric)
        assert torch.allclose(curve.y, found[metric].y, rtol=0, atol=1e-6)
        assert torch.equal(curve.x, found[metric].x)
        assert curve.protocol == found[metric].protocol
    fall = drop(tiny, x, maps).values.double()
    assert torch.allclose(result.values("tiny (random:0)", "saliency", "drop"), fall, rtol=0, atol=1e-5)
    assert result.metrics == SCORES
    inside = result.values("tiny (random:0)", "saliency", "energy")
    assert torch.allclose(inside, energy(maps, _seen_mask(tiny)).values.double(), atol=1e-6)
    hits = result.values("tiny (random:0)", "saliency", "pointing")
    assert torch.allclose(hits, pointing(maps, _seen_mask(tiny)).values.double())


def _seen_mask(tiny) -> torch.Tensor:
    return tiny.preprocess(square(pictures(1)[0]).convert("RGB"))[0, 0] > 127 / 255


def test_means_ranks_and_comparisons(result):
    scores = result.scores("insertion")
    assert [score.method for score in scores] == ["gradcam", "saliency", "random", "center", "edges"]
    ordered = sorted(scores, key=lambda score: -score.mean.mean)
    assert [score.rank for score in ordered] == [1, 2, 3, 4, 5]
    for score in scores:
        values = result.values(score.network, score.method, "insertion")
        assert score.mean.mean == pytest.approx(float(values.mean()))
        assert score.mean.low <= score.mean.mean <= score.mean.high
        assert score.mean.n == 10
        assert (score.against is None) == score.baseline
    pair = result.compare("tiny (random:0)", "gradcam", "edges", "drop")
    a, b = (result.values("tiny (random:0)", name, "drop") for name in ("gradcam", "edges"))
    assert pair.wins == int((a < b).sum())  # a lower drop is better
    band = result.mean_curve("tiny (random:0)", "gradcam", "deletion")
    assert torch.allclose(band.band.mean, result.curve("tiny (random:0)", "gradcam", "deletion").y.double().mean(0))
    plain = result.mean_curve("tiny (random:0)", "gradcam", "deletion", plain=True)
    assert float(plain.band.mean[0]) > float(plain.band.mean[-1])
    assert float(band.band.mean[0]) == 0


def test_each_method_is_compared_with_random_maps_of_its_own_resolution(result, tiny):
    x = tiny.preprocess(pictures(10))
    grids = {name: result.grid("tiny (random:0)", name) for name in ("gradcam", "saliency")}
    assert grids == {"gradcam": tuple(xai.attribute(tiny, x, "gradcam").values.shape[-2:]), "saliency": (64, 64)}
    for name, grid in grids.items():
        rivals = {f"{draw}": random_maps(x, grid, draw, 3) for draw in range(3)}
        found = curves(tiny, x, rivals, "study", run=Run(seed=3)).curves
        for metric in ("insertion", "deletion"):
            against = result.against("tiny (random:0)", name, metric)
            assert (against.grid, against.draws, against.paired.difference.n) == (
                grid,
                3,
                10,
            )  # images count, not draws
            random = torch.stack([found[draw][metric].auc for draw in rivals]).mean(0)
            own = result.values("tiny (random:0)", name, metric)
            assert against.random.mean == pytest.approx(float(random.mean()), abs=1e-6)
            assert against.paired.difference.mean == pytest.approx(float((own - random).mean()), abs=1e-6)
            low, high = against.paired.difference.low, against.paired.difference.high
            assert against.better is (True if low > 0 else False if high < 0 else None)
            mean = result.rival_mean("tiny (random:0)", name, metric)
            y = torch.stack([found[draw][metric].y for draw in rivals]).double().mean((0, 1))
            assert torch.allclose(mean.band.mean, y, rtol=0, atol=1e-6)
    drops = torch.stack([drop(tiny, x, random_maps(x, (64, 64), draw, 3)).values for draw in range(3)]).mean(0)
    assert result.against("tiny (random:0)", "saliency", "drop").random.mean == pytest.approx(
        float(drops.mean()), abs=1e-5
    )
    assert result.coarse_rivals("tiny (random:0)") == ("gradcam",)  # the pixels' rival is the baseline "random"
    assert "against 3 random maps of its own resolution (16 x 16 and 64 x 64)" in result.about_random
    assert "losing to it there is weak evidence" in result.about_random


def test_a_random_map_is_a_random_grid_drawn_large_for_each_image():
    x = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    maps = random_maps(x, (7, 7), 0, 0)
    assert maps.shape == (2, 56, 56)
    cells = maps[:, 3::8, 3::8] + maps[:, 3::8, 4::8] + maps[:, 4::8, 3::8] + maps[:, 4::8, 4::8]  # around the centres
    # Bilinear values next to a centre lie within 1/16 cell of it: near the cell's own value, but for its neighbours.
    again = torch.nn.functional.interpolate(cells[:, None] / 4, (56, 56), mode="bilinear")[:, 0]
    assert float((maps - again).abs().max()) < 0.2
    assert float(maps.std()) > 0.15
    assert torch.equal(random_maps(x[1:], (7, 7), 0, 0)[0], maps[1])  # in another batch
    others = (random_maps(x, (7, 7), 1, 0), random_maps(x, (7, 7), 0, 1), maps.flip(0))
    assert all(float((maps - other).abs().mean()) > 0.1 for other in others)  # other draw, seed, image


def test_methods_are_not_compared_where_nothing_was_drawn(tiny):
    found = faithfulness([tiny], pictures(2), dataclasses.replace(RECIPE, draws=0))
    assert [score.against for score in found.scores("insertion")] == [None] * 5
    assert found.about_random == ""
    with pytest.raises(InputError, match=r"draws is -1; give 0 to 100\."):
        Recipe(draws=-1)


def test_a_start_that_gives_the_class_away_is_told(tiny):
    flat = [Image.new("RGB", (64, 64), (200 * i, 99, 30)) for i in range(2)]  # blurred it is as it was
    found = faithfulness([tiny], flat, RECIPE)
    bare = found.bare("tiny (random:0)", "insertion")
    p = tiny.predict(tiny.preprocess(flat)).softmax(1).amax(1)
    assert bare.mean.mean == pytest.approx(float(p.mean()), abs=0.02)
    assert bare.given == 2
    assert found.given_away[0] == (
        f"Insertion starts at {bare.mean.mean:.2f} on average: the blurred image alone already gives the class away on "
        "2 of 2 images (at least half of the whole image's probability), so that the AUC hardly tells one order from "
        "another. Another substrate would."
    )
    kept = faithfulness([tiny], flat, dataclasses.replace(RECIPE, insertion_substrate="#00ff00"))
    start = kept.curve("tiny (random:0)", "random", "insertion").y[:, 0]
    assert kept.bare("tiny (random:0)", "insertion").given == int((start >= p / 2).sum())


def test_accuracy_is_told_where_labels_are_known(result, tiny):
    share = result.correct("tiny (random:0)")
    assert share is not None
    assert share.mean == pytest.approx(sum(result.table["correct"].to_pylist()[::5]) / 10)
    assert faithfulness([tiny], pictures(1), RECIPE).correct("tiny (random:0)") is None


def test_tables_go_out_as_parquet_and_csv(result):
    assert pq.read_table(io.BytesIO(result.parquet())).equals(result.table)
    read = pyarrow.csv.read_csv(io.BytesIO(result.csv()))
    assert read.num_rows == result.table.num_rows
    assert read["insertion"].to_pylist() == pytest.approx(result.table["insertion"].to_pylist())
    first = [float(v) for v in read["insertion_p"][0].as_py().split()]
    assert first == pytest.approx(result.table["insertion_p"][0].as_py(), rel=1e-5)


def test_protocols_switch_without_explaining_again_and_flips_are_found(tiny):
    seen, problems = see([tiny], pictures(6), RECIPE)
    one = measured(seen, RECIPE, problems)
    two = measured(seen, with_protocol(RECIPE, "rise"), problems)
    assert two.curve("tiny (random:0)", "gradcam", "insertion").x.shape == (9,)
    assert (one.better_up("deletion"), two.better_up("deletion")) == (True, False)
    for metric in ("insertion", "deletion"):
        flips = rank_flips(one, two, metric)
        expected = set()
        names = one.methods("tiny (random:0)")
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                gap = [each.mean("tiny (random:0)", a, metric).mean for each in (one, two)]
                rest = [each.mean("tiny (random:0)", b, metric).mean for each in (one, two)]
                sign = -1 if metric == "deletion" else 1
                if (gap[0] - rest[0]) * sign * (gap[1] - rest[1]) < 0:
                    expected.add(frozenset((a, b)))
        assert {frozenset((flip.first, flip.second)) for flip in flips} == expected
    assert rank_flips(one, one) == ()
    # Turned upside down, every pair changes places.
    place = two.table.schema.get_field_index("insertion")
    upside = two.table.set_column(place, two.table.schema.field(place), pc.subtract(1.0, one.table["insertion"]))
    flips = rank_flips(one, Faithfulness(upside, two.recipe), "insertion")
    assert len(flips) == 10
    best = min(one.scores("insertion"), key=lambda score: score.rank)
    assert {best.method} == {flip.first for flip in flips if best.method in (flip.first, flip.second)}
    assert all("by Study 1, behind it by RISE, as evaluated." in flip.sentence for flip in flips)


def test_the_whole_is_cut_into_chunks_that_change_nothing(tiny, monkeypatch):
    whole = faithfulness([tiny], pictures(5), RECIPE)
    monkeypatch.setattr("xai.studies.faithfulness.seen.CHUNK", 2)
    parts = faithfulness([tiny], pictures(5), RECIPE)
    assert parts.images == whole.images == tuple(f"image {n}" for n in range(1, 6))
    for method in whole.methods("tiny (random:0)"):
        a, b = (each.values("tiny (random:0)", method, "insertion") for each in (whole, parts))
        assert torch.allclose(a, b, rtol=0, atol=1e-6)


def test_bad_images_are_listed_and_the_rest_goes_on(tiny, tmp_path):
    pictures(1)[0].save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    pictures(2)[1].save(tmp_path / "c.png")
    found = faithfulness([tiny], open_dataset(tmp_path), RECIPE)
    assert found.images == ("a.png", "c.png")
    assert [problem.key for problem in found.problems] == ["b.png"]
    assert found.table["index"].to_pylist()[::5] == [0, 2]
    (tmp_path / "a.png").unlink()
    (tmp_path / "c.png").unlink()
    with pytest.raises(InputError, match=r"no image was measured; every one of them was bad"):
        faithfulness([tiny], open_dataset(tmp_path), RECIPE)


def test_a_map_that_overflows_has_no_score(tiny):
    seen, _ = see([tiny], pictures(3), RECIPE)
    seen[0].maps["gradcam"][1] = math.nan
    found = measured(seen, RECIPE)
    assert found.values("tiny (random:0)", "gradcam", "insertion").isnan().tolist() == [False, True, False]
    assert found.mean("tiny (random:0)", "gradcam", "insertion").n == 2
    assert found.compare("tiny (random:0)", "gradcam", "random", "insertion").difference.n == 2


def test_labels_can_be_explained_instead(tiny):
    found = faithfulness([tiny], labelled(4), Recipe(("saliency",), protocol="study", target="label", baselines=()))
    assert found.table["target"].to_pylist() == [3, 1, 3, 1]
    assert "class asked for" in found.curve("tiny (random:0)", "saliency", "insertion").protocol.sentence
    with pytest.raises(InputError, match=r"target is label, but images without a label are among them"):
        faithfulness([tiny], pictures(2), Recipe(target="label"))


def test_progress_and_cancel(tiny):
    seen: list[tuple[int, int]] = []
    images = pictures(3)
    explained, _ = see([tiny], images, RECIPE)
    measured(explained, RECIPE, run=Run(on_progress=lambda done, total, note: seen.append((done, total))))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert all(done <= total for done, total in seen)
    with pytest.raises(Cancelled):
        faithfulness([tiny], images, RECIPE, run=Run(cancelled=lambda: True))


def test_refusals(tiny):
    with pytest.raises(InputError, match=r"the classifier tiny \(random:0\) is given twice; give each once\."):
        faithfulness([tiny, tiny], pictures(1))
    with pytest.raises(InputError, match=r"there is no image to measure; give at least one\."):
        faithfulness([tiny], [])
    with pytest.raises(InputError, match=r"there is no method to measure; give at least one\."):
        Recipe(methods=())
    with pytest.raises(InputError, match=r"target 'truth' is not known; use predicted or label\."):
        Recipe(target="truth")
    found = faithfulness([tiny], pictures(1), Recipe(protocol="study", baselines=()))
    with pytest.raises(InputError, match=r"lrp on tiny was not measured; there is gradcam on tiny"):
        found.values("tiny", "lrp", "insertion")


def test_figures_6_and_7_are_the_studys():
    assert FIGURES_6_7["models"] == ("vgg16", "resnet50", "googlenet")
    assert FIGURES_6_7["recipe"].methods == ("gradcam",)
    assert FIGURES_6_7["recipe"].protocol == "study"


def test_gradcam_beats_random_order_on_the_shipped_photographs(lite0):
    recipe = Recipe(methods=("gradcam",), baselines=("random",), protocol="study")
    found = faithfulness([lite0], open_dataset("sample:photos"), recipe)
    for metric in ("insertion", "drop"):
        pair = found.compare("efficientnet_lite0", "gradcam", "random", metric)
        better = pair.difference if found.better_up(metric) else None
        assert pair.wins == pair.difference.n >= 5
        assert pair.difference.low > 0 if better else pair.difference.high < 0
    assert found.scores("insertion")[0].rank == 1
