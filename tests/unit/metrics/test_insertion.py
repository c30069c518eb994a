"""Insertion and deletion: kernel, curves and AUC by hand, RISE's evaluation derived again, and what must be refused."""

import math
import sys
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

import xai
from xai.errors import Cancelled, InputError, UnknownNameError
from xai.metrics import PROTOCOLS, curves, deletion, insertion, picture_at, pictures_at, precision_error
from xai.metrics.engine import rank_pixels, shuffles
from xai.metrics.protocol import area
from xai.metrics.substrate import blur, rise_kernel, substrate
from xai.models.classifier import Classifier, InputModel, Preset
from xai.types import Run


class Linear(nn.Module):
    """logit_1 = gain * sum over pixels of weight * red, logit_0 = 0: the softmax is a sigmoid that one can work out."""

    def __init__(self, weight: Tensor, gain: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.gain = gain
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += len(x)
        score = self.gain * (x[:, 0] * self.weight).sum((1, 2))
        return torch.stack([torch.zeros_like(score), score], 1)


def linear_classifier(
    weight: Tensor, gain: float = 1.0, mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Classifier:
    module = InputModel(Linear(weight.double(), gain), mean, (1.0, 1.0, 1.0)).eval().double()
    size = (int(weight.shape[0]), int(weight.shape[1]))
    return Classifier(
        name="linear",
        title="Linear",
        module=module,
        labels=("other", "bright"),
        input_size=size,
        default_layer="",
        fingerprint="",
        device=torch.device("cpu"),
        weights="random:0",
        preset=Preset(mean=mean, std=(1.0, 1.0, 1.0), crop=size[0]),
    )


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- the kernel --------------------------------------------------


def test_the_kernel_is_rises_and_not_a_cut_gaussian():
    field = np.zeros((11, 11))
    field[5, 5] = 1
    kernel = rise_kernel()
    assert np.abs(kernel.numpy() - gaussian_filter(field, 5)).max() < 1e-17
    assert round(float(kernel[5, 5]), 5) == 0.00883
    assert round(float(kernel[0, 0]), 5) == 0.00774
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-15)


def test_the_blur_pads_with_the_mean_colour():
    x, mean, std = drawn(2, 3, 20, 17), torch.tensor([0.5, 0.4, 0.3]).double(), torch.tensor([0.2, 0.3, 0.1]).double()
    mean, std = mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)
    weight = torch.zeros(3, 3, 11, 11, dtype=torch.float64)  # the full kernel between like channels, as RISE builds it
    for channel in range(3):
        weight[channel, channel] = rise_kernel()
    normalised = F.conv2d((x - mean) / std, weight, padding=5)
    assert torch.allclose(blur(x, mean), normalised * std + mean, rtol=0, atol=1e-14)
    # A picture of the mean colour stays as it is up to the border; with black behind it the border would darken.
    assert torch.allclose(blur(mean.expand(1, 3, 30, 30), mean), mean.expand(1, 3, 30, 30), rtol=0, atol=1e-15)


def test_substrates_are_colours_in_pixel_space():
    x, mean = drawn(1, 3, 4, 4), torch.tensor([0.5, 0.25, 0.125]).double().view(1, 3, 1, 1)
    assert torch.equal(substrate("mean", x, mean), mean.expand_as(x))
    assert float(substrate("black", x, mean).abs().sum()) == 0
    assert substrate("#ff8000", x, mean)[0, :, 2, 3].tolist() == [1.0, 128 / 255, 0.0]
    with pytest.raises(
        InputError, match=r"substrate 'grey' is not known; use blur, mean, black, or a colour such as #80"
    ):
        substrate("grey", x, mean)


# --- ranks, positions and areas by hand --------------------------


def test_ties_are_taken_in_the_order_that_was_drawn():
    maps = torch.tensor([[[1.0, 3.0, 3.0], [0.0, 3.0, 1.0]]])
    # Drawn: 4, 5, 2, 0, 1, 3. Of the 3s that is 4, 2, 1, of the 1s 5, 0; the places of pixels 0 to 5 follow.
    assert rank_pixels(maps, torch.tensor([[4, 5, 2, 0, 1, 3]])).tolist() == [[4, 2, 1, 5, 0, 3]]
    assert rank_pixels(maps, torch.arange(6)[None]).tolist() == [[3, 0, 1, 5, 2, 4]]


def test_the_order_of_ties_depends_on_image_and_seed_alone():
    x = drawn(3, 3, 8, 8)
    found = shuffles(x)
    assert [sorted(each) for each in found.tolist()] == [list(range(64))] * 3
    assert torch.equal(shuffles(x[1:2].float())[0], found[1])  # another batch, another type
    assert torch.equal(shuffles(x), found)
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(shuffles(x, seed=1), found)


def test_a_tied_map_scores_on_average_as_all_orders_of_its_ties_do():
    # A 2 x 2 image whose first pixel comes first and whose other three tie: 3! orders, each worked out by itself.
    weight = torch.tensor([[0.5, 2.0], [-1.0, 3.0]])
    classifier = linear_classifier(weight, gain=1.5)
    x = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    x[0, 0] = 1.0
    maps = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    expected = []
    for order in permutations((1, 2, 3)):
        sums = np.cumsum([0.0, *(float(weight.flatten()[place]) for place in (0, *order))])
        p = [sigmoid(1.5 * value) for value in sums]
        expected.append((p[0] / 2 + p[2] + p[4] / 2) / 2)  # rise-row: two pixels a step
    aucs = [
        float(insertion(classifier, x, maps, "rise-row", 1, "black", run=Run(seed=seed)).auc[0]) for seed in range(300)
    ]
    assert {round(value, 9) for value in aucs} == {round(value, 9) for value in expected}
    assert np.mean(aucs) == pytest.approx(np.mean(expected), abs=4 * np.std(expected) / math.sqrt(300))
    # In the order of the pixels it was the first of them, far from the mean.
    assert abs(expected[0] - np.mean(expected)) > 8 * np.std(expected) / math.sqrt(300)


@pytest.mark.parametrize("value", [0.0, 0.7, -2.0])
def test_a_map_without_an_order_has_no_curve(tiny, value):
    x, maps = drawn(3, 3, 64, 64).float(), drawn(3, 64, 64, seed=1).float()
    whole = curves(tiny, x, {"map": maps}, "study")
    maps[1] = F.interpolate(torch.full((1, 1, 7, 7), value), (64, 64), mode="bilinear")[0, 0]  # equal but for rounding
    found = curves(tiny, x, {"map": maps}, "study")
    for metric in ("insertion", "deletion"):
        one, other = found.curves["map"][metric], whole.curves["map"][metric]
        assert one.auc.isnan().tolist() == [False, True, False]
        assert one.probability is not None
        assert one.y[1].isnan().all()
        assert one.probability[1].isnan().all()
        assert torch.equal(one.y[::2], other.y[::2])
    assert torch.equal(found.confidence, whole.confidence)


def test_positions_of_each_protocol_at_224():
    counts = {name: protocol.counts((224, 224)) for name, protocol in PROTOCOLS.items()}
    assert (len(counts["rise"]), counts["rise"][1]) == (29, 1792)
    assert (len(counts["rise-row"]), counts["rise-row"][1]) == (225, 224)
    assert counts["study"] == (0, 12544, 25088, 37632, 50176)
    assert {each[-1] for each in counts.values()} == {50176}


def test_the_last_step_is_shorter_where_the_rows_do_not_divide():
    assert PROTOCOLS["rise"].counts((20, 3)) == (0, 24, 48, 60)


def test_areas_by_hand():
    y = torch.tensor([0.1, 0.5, 0.7, 0.9])
    rise = area(y, (0, 24, 48, 60), PROTOCOLS["rise"])
    assert float(rise) == pytest.approx((0.1 + 0.5 + 0.7 + 0.9 - 0.05 - 0.45) / 3, abs=1e-7)
    study = area(torch.tensor([0.0, 0.2, 0.6, 0.8, 1.0]), (0, 4, 8, 12, 16), PROTOCOLS["study"])
    assert float(study) == pytest.approx(0.25 * (0.1 + 0.4 + 0.7 + 0.9), abs=1e-7)


def test_a_two_by_two_image_worked_out_by_hand():
    # score = 2 * sum(red * weight), weights 1, -1 / 2, 0, red 1, 1 / 1, 0.5; black behind; steps of 2 pixels.
    classifier = linear_classifier(torch.tensor([[1.0, -1.0], [2.0, 0.0]]), gain=2.0)
    x = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    x[0, 0] = torch.tensor([[1.0, 1.0], [1.0, 0.5]])
    maps = torch.tensor([[[1.0, -1.0], [2.0, 0.0]]])  # order: (1,0), (0,0), (1,1), (0,1)
    up = insertion(classifier, x, maps, "rise-row", substrate="black")
    assert up.x.tolist() == [0.0, 0.5, 1.0]
    expected = [sigmoid(0), sigmoid(2 * (2 + 1)), sigmoid(2 * (2 + 1 - 1))]
    assert up.y[0].tolist() == pytest.approx(expected, abs=1e-15)
    assert float(up.auc[0]) == pytest.approx((expected[0] / 2 + expected[1] + expected[2] / 2) / 2, abs=1e-15)
    down = deletion(classifier, x, maps, "rise-row", substrate="black")
    expected = [sigmoid(4), sigmoid(2 * -1), sigmoid(0)]
    assert down.y[0].tolist() == pytest.approx(expected, abs=1e-15)
    assert (up.higher_is_better, down.higher_is_better) == (True, False)


def test_the_studys_deletion_is_a_relative_drop_and_keeps_the_plain_curve():
    classifier = linear_classifier(torch.tensor([[1.0, -1.0], [2.0, 0.0]]), gain=2.0)
    x = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    x[0, 0] = torch.tensor([[1.0, 1.0], [1.0, 0.5]])
    maps = torch.tensor([[[0.0, 3.0], [2.0, 1.0]]])  # order: (0,1), (1,0), (1,1), (0,0)
    down = deletion(classifier, x, maps, "study", substrate="black")
    p = [sigmoid(4), sigmoid(6), sigmoid(2), sigmoid(2), sigmoid(0)]
    assert down.probability is not None
    assert down.probability[0].tolist() == pytest.approx(p, abs=1e-15)
    drop = [max(0, p[0] - v) / p[0] for v in p]
    assert drop[1] == 0  # taking away what spoke against the class is no drop
    assert down.y[0].tolist() == pytest.approx(drop, abs=1e-15)
    assert float(down.auc[0]) == pytest.approx(0.25 * (drop[1] + drop[2] + drop[3] + drop[4] / 2), abs=1e-15)
    assert down.higher_is_better


# --- RISE's evaluation, derived again ----------------------------


def plain_rise(classifier: Classifier, x: Tensor, map_: Tensor, mode: str, step: int) -> tuple[np.ndarray, float]:
    """One image and curve, a forward a step, in normalised space on the host, as RISE's evaluation is described."""
    module = classifier.module
    image = ((x - module.mean) / module.std)[0]
    kernel = gaussian_filter(np.pad([[1.0]], 5), 5)
    weight = torch.zeros(3, 3, 11, 11, dtype=x.dtype)
    for channel in range(3):
        weight[channel, channel] = torch.from_numpy(kernel)
    if mode == "deletion":
        start, finish = image.clone(), torch.zeros_like(image)
    else:
        start, finish = F.conv2d(image[None], weight, padding=5)[0], image.clone()
    total = image.shape[1] * image.shape[2]
    place = shuffles(x)[0].argsort().numpy()  # each pixel's place among those that it ties with
    order = np.lexsort((place, -map_.numpy().reshape(-1)))
    with torch.no_grad():
        chosen = int(module.net(image[None]).argmax())
        scores = []
        for done in range((total + step - 1) // step + 1):
            scores.append(float(module.net(start[None]).softmax(1)[0, chosen]))
            pixels = order[done * step : (done + 1) * step]
            start.view(3, -1)[:, pixels] = finish.view(3, -1)[:, pixels]
    values = np.array(scores)
    return values, float((values.sum() - values[0] / 2 - values[-1] / 2) / (len(values) - 1))


@pytest.mark.parametrize("protocol", ["rise", "rise-row"])
def test_curves_equal_a_plain_derivation_of_rise_in_float64(tiny64, protocol):
    x, maps = drawn(3, 3, 64, 64), drawn(3, 64, 64, seed=1)
    maps[1] = (maps[1] * 4).round()  # many ties
    step = 64 * (8 if protocol == "rise" else 1)
    found = curves(tiny64, x, {"map": maps}, protocol, batch=7).curves["map"]
    for metric in ("insertion", "deletion"):
        for index in range(3):
            y, auc = plain_rise(tiny64, x[index : index + 1], maps[index], metric, step)
            assert np.abs(found[metric].y[index].numpy() - y).max() < 1e-12
            assert float(found[metric].auc[index]) == pytest.approx(auc, abs=1e-12)


def test_curves_equal_a_plain_derivation_of_rise_on_a_real_network(lite0, cat):
    maps = xai.attribute(lite0, cat, "gradcam").maps()
    found = curves(lite0, cat, {"map": maps}, "rise").curves["map"]
    for metric in ("insertion", "deletion"):
        y, auc = plain_rise(lite0, cat, maps[0], metric, 1792)
        assert len(y) == 29
        assert np.abs(found[metric].y[0].numpy() - y).max() < 1e-5  # float32, other batch sizes
        assert float(found[metric].auc[0]) == pytest.approx(auc, abs=1e-6)


# --- many maps at once -------------------------------------------


def test_several_maps_give_the_curves_of_each_alone_and_share_their_ends():
    classifier = linear_classifier(drawn(8, 8) - 0.5, gain=3.0, mean=(0.4, 0.5, 0.6))
    x, one, two = drawn(5, 3, 8, 8), drawn(5, 8, 8, seed=1), drawn(5, 8, 8, seed=2)
    net = classifier.module.net
    both = curves(classifier, x, {"one": one, "two": two}, "rise-row", batch=13)
    # 5 whole and 5 blurred images, one picture of the mean colour, 2 maps x 2 metrics x 5 images x 7 inner positions.
    assert net.passes == both.passes == 5 + 5 + 1 + 2 * 2 * 5 * 7
    for name, maps in (("one", one), ("two", two)):
        for index in range(5):
            alone = insertion(classifier, x[index : index + 1], maps[index : index + 1], "rise-row")
            assert torch.allclose(both.curves[name]["insertion"].y[index], alone.y[0], rtol=0, atol=1e-12)
            alone = deletion(classifier, x[index : index + 1], maps[index : index + 1], "rise-row")
            assert torch.allclose(both.curves[name]["deletion"].y[index], alone.y[0], rtol=0, atol=1e-12)
    assert torch.equal(both.confidence, both.curves["one"]["insertion"].y[:, -1])
    assert torch.equal(both.confidence, both.curves["two"]["deletion"].y[:, 0])


def test_more_images_than_fit_in_a_group(monkeypatch, tiny):
    x, maps = drawn(5, 3, 64, 64).float(), drawn(5, 64, 64, seed=3).float()
    whole = insertion(tiny, x, maps, "study")
    seen: list[tuple[int, int]] = []
    monkeypatch.setitem(sys.modules["xai.metrics.curves"].GROUP, "cpu", 2)
    split = insertion(tiny, x, maps, "study", run=Run(on_progress=lambda d, t, n: seen.append((d, t))))
    assert torch.allclose(whole.y, split.y, rtol=0, atol=1e-6)
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)
    assert seen[-1] == (5 * 5, 5 * 5)  # 5 whole, 5 blurred, 3 inner positions each


def test_substrates_can_be_chosen_for_each_metric(tiny64):
    x, maps = drawn(2, 3, 64, 64), drawn(2, 64, 64, seed=1)
    mixed = curves(tiny64, x, {"m": maps}, "study", substrates={"insertion": "#804020", "deletion": "blur"}).curves["m"]
    only = insertion(tiny64, x, maps, "study", substrate="#804020")
    assert torch.allclose(mixed["insertion"].y, only.y, rtol=0, atol=1e-12)
    assert torch.allclose(mixed["deletion"].y, deletion(tiny64, x, maps, "study", substrate="blur").y, atol=1e-12)
    assert mixed["insertion"].protocol.settings["substrate"] == "#804020"
    assert not torch.equal(only.y, insertion(tiny64, x, maps, "study").y)


def test_targets_are_the_predicted_classes_or_those_asked_for(tiny64):
    x, maps = drawn(3, 3, 64, 64), drawn(3, 64, 64, seed=1)
    logits = tiny64.predict(x).double()
    found = curves(tiny64, x, {"m": maps}, "study")
    assert torch.equal(found.target, logits.argmax(1))
    asked = insertion(tiny64, x, maps, "study", targets=[0, 1, 2])
    assert asked.y[:, -1].tolist() == pytest.approx(
        logits.softmax(1)[torch.arange(3), torch.arange(3)].tolist(), abs=1e-6
    )
    assert "class asked for" in asked.protocol.sentence


# --- faithfulness itself -----------------------------------------


def test_a_perfect_explanation_beats_every_baseline_in_every_protocol():
    weight = torch.zeros(32, 32)
    weight[4:11, 20:29] = 1.0  # the answer depends on these pixels alone
    classifier = linear_classifier(weight, gain=0.2, mean=(0.1, 0.1, 0.1))
    x = drawn(6, 3, 32, 32) * 0.3 + 0.7
    maps = {"perfect": weight.expand(6, 32, 32)}
    for name in ("random", "center", "edges"):
        maps[name] = xai.attribute(classifier, x.float(), name).maps()
    for protocol in PROTOCOLS:
        found = curves(classifier, x, maps, protocol).curves
        for metric in ("insertion", "deletion"):
            best = found["perfect"][metric]
            for name in ("random", "center", "edges"):
                gap = best.auc - found[name][metric].auc
                assert bool(((gap if best.higher_is_better else -gap) > 0).all()), (protocol, metric, name)


# --- the scrubber's pictures -------------------------------------


def test_the_pictures_are_those_that_the_network_was_shown(tiny64):
    x, map_ = drawn(3, 64, 64), drawn(64, 64, seed=2)
    for metric in ("insertion", "deletion"):
        curve = curves(tiny64, x[None], {"m": map_[None]}, "study", (metric,)).curves["m"][metric]
        assert curve.probability is not None
        shown = pictures_at(tiny64, x, map_, curve.x.tolist(), metric, "study")
        assert shown.shape == (5, 3, 64, 64)
        target = int(tiny64.predict(x[None]).argmax())
        with torch.no_grad():
            p = tiny64.module(shown).softmax(1)[:, target]
        assert torch.allclose(p, curve.probability[0], rtol=0, atol=1e-12)


def test_the_ends_of_the_scrubber():
    classifier = linear_classifier(drawn(8, 8), mean=(0.2, 0.3, 0.4))
    x, map_ = drawn(3, 8, 8), drawn(8, 8, seed=2)
    assert torch.equal(picture_at(classifier, x, map_, 0.0, "deletion"), x)
    assert torch.equal(picture_at(classifier, x, map_, 1.0, "insertion"), x)
    assert picture_at(classifier, x, map_, 1.0, "deletion")[:, 0, 0].tolist() == pytest.approx([0.2, 0.3, 0.4])
    quarter = picture_at(classifier, x, map_, 0.25, "deletion", substrate_name="black")
    assert int((quarter == 0).all(0).sum()) == 16
    assert bool((quarter[:, map_ >= map_.flatten().sort().values[48]] == 0).all())
    with pytest.raises(InputError, match=r"fraction is 1\.5; give a share of the pixels from 0 to 1\."):
        picture_at(classifier, x, map_, 1.5)


# --- precision, protocol, refusals -------------------------------


def test_bf16_is_an_option_whose_error_is_told(lite0, cat):
    maps = {"gradcam": xai.attribute(lite0, cat, "gradcam").maps()}
    error = precision_error(lite0, cat, maps, "study")
    assert set(error) == {"insertion", "deletion"}
    assert all(0 < value < 0.05 for value in error.values())
    rough = insertion(lite0, cat, maps["gradcam"], "study", precision="bf16")
    assert rough.protocol.settings["precision"] == "bf16"
    assert "bf16" in rough.protocol.sentence


def test_the_protocol_travels_with_the_curve(tiny):
    x, maps = drawn(1, 3, 64, 64).float(), drawn(1, 64, 64).float()
    rise, study = deletion(tiny, x, maps, "rise").protocol, deletion(tiny, x, maps, "study").protocol
    assert (rise.name, rise.settings["pixels_a_step"], rise.settings["points"]) == ("rise", 512, 9)
    assert rise.sentence == (
        "Deletion to mean, 512 pixels a step, 9 points; p(t), p = softmax of the class predicted on the clean image; "
        "lower is better (RISE, as evaluated). Pixels of equal relevance in random order, drawn by the seed; a "
        "constant map has no score."
    )
    assert rise.settings["ties"] == "seeded random order"
    assert study.settings["fractions"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert (rise.settings["higher_is_better"], study.settings["higher_is_better"]) == (False, True)


def test_refusals_say_what_to_do(tiny):
    x, maps = drawn(2, 3, 64, 64).float(), drawn(2, 64, 64).float()
    with pytest.raises(UnknownNameError, match=r"protocol 'rice' is not known; use study, rise, rise-row\."):
        insertion(tiny, x, maps, "rice")
    with pytest.raises(
        InputError, match=r"maps has shape \(2, 16, 16\) for images \(2, 3, 64, 64\); give \(2, 64, 64\)"
    ):
        insertion(tiny, x, maps[:, :16, :16])
    with pytest.raises(InputError, match=r"maps holds values that are not finite"):
        insertion(tiny, x, maps / 0)
    with pytest.raises(InputError, match=r"precision 'fp8' is not known; use float32 or bf16\."):
        insertion(tiny, x, maps, precision="fp8")
    with pytest.raises(InputError, match=r"targets has 3 classes for 2 images; give one per image\."):
        insertion(tiny, x, maps, targets=[0, 1, 2])
    with pytest.raises(InputError, match=r"target class 5 does not exist; this classifier has 0 to 4\."):
        insertion(tiny, x, maps, targets=5)
    with pytest.raises(InputError, match=r"metric 'drop' is no curve; use insertion or deletion\."):
        curves(tiny, x, {"m": maps}, metrics=("drop",))
    with pytest.raises(InputError, match=r"there is no map to measure"):
        curves(tiny, x, {})


def test_it_can_be_cancelled_and_leaves_the_network_as_it_was(tiny):
    x, maps = drawn(2, 3, 64, 64).float(), drawn(2, 64, 64).float()
    calls = []
    run = Run(cancelled=lambda: len(calls) > 2, on_progress=lambda *a: calls.append(a))
    with tiny.lease() as module:
        before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(Cancelled):
        insertion(tiny, x, maps, "rise-row", run=run)
    with tiny.lease() as module:
        assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
        assert not any(m._forward_hooks for m in module.modules())


def test_a_class_of_no_probability_has_no_drop():
    classifier = linear_classifier(torch.ones(2, 2), gain=4000.0)
    maps = torch.arange(4.0).view(1, 2, 2)
    curve = deletion(classifier, torch.ones(1, 3, 2, 2, dtype=torch.float64), maps, "study", targets=0)
    assert float(curve.y.abs().max()) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_curves_on_a_gpu_are_those_of_the_cpu():
    x, maps = drawn(5, 3, 224, 224).float(), drawn(5, 224, 224, seed=1).float()
    on_cpu, on_gpu = (
        curves(xai.load_model("efficientnet_lite0", device=device), x, {"m": maps}, "study")
        for device in ("cpu", "cuda")
    )
    for metric in ("insertion", "deletion"):
        one, two = on_cpu.curves["m"][metric], on_gpu.curves["m"][metric]
        assert two.y.device.type == "cpu"
        assert torch.allclose(one.y, two.y, rtol=0, atol=2e-3)  # TF32 convolutions
