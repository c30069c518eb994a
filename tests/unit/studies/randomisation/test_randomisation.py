"""The randomisation check: what is shuffled, in which order, what is compared, and that nothing shared is touched."""

from __future__ import annotations

import copy
import dataclasses
import sys
import threading

import pytest
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torchvision.models import get_model

import xai
from tests.conftest import make_tiny
from xai.errors import Cancelled, InputError, NotApplicableError
from xai.explain.call import attribute
from xai.models.classifier import Classifier, InputModel
from xai.models.hooks import ModuleState
from xai.studies.randomisation import stages as _weight_stages
from xai.studies.randomisation.stages import MOST, shuffle, weight_stages
from xai.studies.randomisation.study import randomisation_check
from xai.types import Run


def pixels(count: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def classifier_of(net: nn.Module, size: int = 64) -> Classifier:
    module = InputModel(net, (0.5,) * 3, (0.25,) * 3).eval().requires_grad_(False)
    return dataclasses.replace(make_tiny(), module=module, input_size=(size, size), _lock=threading.RLock(), _memo={})


# ---------------------------------------------------------------- stages


def test_stages_of_the_tiny_network_by_hand(tiny: Classifier) -> None:
    stages = weight_stages(tiny.module, tiny.input_size)
    norm = ("weight", "bias", "running_mean", "running_var")
    assert [(stage.name, stage.tensors) for stage in stages] == [
        ("conv1, bn1", ("conv1.weight", "conv1.bias", *(f"bn1.{name}" for name in norm))),
        ("conv2, bn2", ("conv2.weight", "conv2.bias", *(f"bn2.{name}" for name in norm))),
        ("fc", ("fc.weight", "fc.bias")),
    ]


@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        ("resnet18", "conv1, bn1", "fc", 6),
        ("vgg11", "features.0", "classifier", 9),
        ("densenet121", "features.conv0, features.norm0", "classifier", 9),
        ("mobilenet_v3_small", "features.0, features.1", "classifier", MOST),
        ("swin_t", "features.0", "head", 9),
    ],
)
def test_stages_of_known_networks(name: str, first: str, last: str, count: int) -> None:
    options = {"init_weights": False} if name == "vgg11" else {}
    classifier = classifier_of(get_model(name, num_classes=3, **options))
    before = ModuleState.of(classifier.module)
    stages = weight_stages(classifier.module, (64, 64))
    before.restore_and_check()
    assert (stages[0].name, stages[-1].name, len(stages)) == (first, last, count)
    named = [tensor for stage in stages for tensor in stage.tensors]
    expected = {name for name, tensor in classifier.module.net.state_dict().items() if tensor.is_floating_point()}
    assert len(named) == len(set(named))
    parameters = {name for name, _ in classifier.module.net.named_parameters()}
    assert parameters <= set(named) <= expected | {name for name, _ in classifier.module.net.named_buffers()}


def test_stages_follow_execution_and_not_the_order_of_definition() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 4, 1, 1))
            self.head = nn.Linear(4, 2)
            self.spare = nn.Linear(3, 3)
            self.body = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head((self.body(x) + self.token).mean((2, 3)))
            return logits

    stages = weight_stages(classifier_of(Backwards(), 8).module, (8, 8))
    assert [stage.name for stage in stages] == ["body", "head"]
    # what runs by itself nowhere goes with the first stage of what holds it
    assert set(stages[0].tensors) == {"token", "spare.weight", "spare.bias", "body.weight", "body.bias"}


def test_shuffling_permutes_entries_and_keeps_the_rest() -> None:
    tiny = make_tiny()
    before = {name: tensor.clone() for name, tensor in tiny.module.state_dict().items()}
    stage = weight_stages(tiny.module, (64, 64))[1]
    run = Run(seed=4)
    shuffle(tiny.module, stage, run)
    for name, tensor in tiny.module.state_dict().items():
        if name.removeprefix("net.") not in stage.tensors:
            assert torch.equal(tensor, before[name]), name
            continue
        order = torch.randperm(tensor.numel(), generator=run.generator("shuffle", name.removeprefix("net.")))
        expected = before[name].flatten()[order].view(tensor.shape)
        assert torch.equal(tensor, expected), name
        assert not torch.equal(tensor, before[name]), name
        assert torch.equal(tensor.flatten().sort().values, before[name].flatten().sort().values), name


def test_a_large_tensor_is_shuffled_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_weight_stages, "LARGE", 59)
    tiny = make_tiny()
    before = tiny.module.net.get_parameter("fc.weight").clone()  # (5,12): 60 entries
    shuffle(tiny.module, weight_stages(tiny.module, (64, 64))[-1], Run(seed=1))
    after = tiny.module.net.get_parameter("fc.weight")
    generator = Run(seed=1).generator("shuffle", "fc.weight")
    for row, old in zip(after, before, strict=True):
        assert torch.equal(row, old[torch.randperm(12, generator=generator)])


# ---------------------------------------------------------------- the check


def test_the_check_against_shuffling_by_hand() -> None:
    tiny, x, run = make_tiny(), pixels(), Run(seed=2)
    found = randomisation_check(tiny, x, "saliency", seed=2)
    assert found.stages == ("fc", "conv2, bn2", "conv1, bn1")
    target = tiny.predict(x).argmax(1)
    assert torch.equal(found.target, target)
    private = dataclasses.replace(tiny, module=copy.deepcopy(tiny.module), _lock=threading.RLock(), _memo={})
    maps = [xai.attribute(private, x, "saliency").maps()]
    for stage in reversed(weight_stages(private.module, (64, 64))):  # each adds to those before
        shuffle(private.module, stage, run)
        maps.append(xai.attribute(private, x, "saliency", targets=target).maps())
    assert torch.equal(found.maps, torch.stack(maps))
    for stage in range(3):
        for i in range(2):
            one, two = maps[stage + 1][i].double().numpy(), maps[0][i].double().numpy()
            rank = spearmanr(one.ravel(), two.ravel()).statistic
            assert float(found.spearman[stage, i]) == pytest.approx(rank, abs=1e-9)
            assert float(found.spearman_abs[stage, i]) == pytest.approx(rank, abs=1e-6)  # saliency has no sign
            alike = structural_similarity(
                one / one.max(), two / two.max(), data_range=1, gaussian_weights=True, use_sample_covariance=False
            )
            assert float(found.ssim[stage, i]) == pytest.approx(alike, abs=1e-5)
    probability = private.predict(x).softmax(1).gather(1, target[:, None])[:, 0]
    assert torch.allclose(found.probability[-1], probability)


def test_the_verdict_and_its_rule() -> None:
    tiny, x = make_tiny(), pixels()
    found = randomisation_check(tiny, x, "guided_backprop")
    upper = torch.stack([found.spearman[:2].mean(0), found.spearman_abs[:2].mean(0)])  # 2 of 3 stages
    assert torch.allclose(found.score, upper.amax(0))
    assert found.changes == (float(found.score.mean()) < 0.5)
    assert f"{float(upper[0].mean()):.2f} signed, {float(upper[1].mean()):.2f} in size" in found.verdict
    assert "in the upper 2 of 3 stages" in found.verdict
    assert found.verdict.startswith("Guided backprop: the map ")
    assert "Cascading randomisation from the logits down in 3 stages" in found.protocol.sentence
    assert found.protocol.settings["seed"] == 0


@pytest.mark.parametrize(
    ("method", "changes", "low", "high"),
    [("gradcam", True, -1, 0.4), ("edges", False, 1, 1), ("guided_backprop", False, 0.9, 1)],
)
def test_real_weights(lite0: Classifier, cat: Tensor, method: str, changes: bool, low: float, high: float) -> None:
    found = randomisation_check(lite0, cat, method)
    assert found.changes is changes
    assert low <= float(found.score[0]) <= high
    said = "changes when the weights are shuffled" if changes else "hardly depends on the weights"
    assert said in found.verdict
    assert len(found.stages) == 12
    assert found.stages[0] == "_fc"
    if method == "edges":
        assert torch.equal(found.maps, found.maps[:1].expand_as(found.maps))
        assert torch.equal(found.ssim, torch.ones_like(found.ssim))
    else:
        assert float(found.probability[0]) > 0.1
        assert float(found.probability[1]) < 0.05  # the class is forgotten after the first stage


def test_every_kind_of_method_sees_the_new_weights(tiny: Classifier) -> None:
    """A method that remembers something about a module's weights must not be fooled by that memory."""
    for method in ("lrp", "layercam", "smoothgrad", "occlusion"):
        found = randomisation_check(tiny, pixels(1), method)
        for stage in range(3):
            assert not torch.equal(found.maps[stage + 1], found.maps[stage]), (method, stage)


def test_the_shared_classifier_is_never_touched() -> None:
    tiny, x = make_tiny(), pixels()
    before = ModuleState.of(tiny.module)
    weights = {name: tensor.clone() for name, tensor in tiny.module.state_dict().items()}
    map_before = xai.attribute(tiny, x, "gradcam").values
    memo = dict(tiny._memo)
    fingerprint = tiny.fingerprint
    randomisation_check(tiny, x, "gradcam")
    with pytest.raises(Cancelled):
        randomisation_check(tiny, x, "gradcam", run=Run(cancelled=lambda: True))
    before.restore_and_check()
    assert all(torch.equal(weights[name], tensor) for name, tensor in tiny.module.state_dict().items())
    assert torch.equal(xai.attribute(tiny, x, "gradcam").values, map_before)
    assert tiny._memo == memo
    assert tiny.fingerprint == fingerprint


def test_others_may_explain_meanwhile() -> None:
    tiny, x = make_tiny(), pixels()
    expected = xai.attribute(tiny, x, "gradcam").values
    wrong: list[int] = []

    def meanwhile(done: int, total: int, note: str) -> None:
        thread = threading.Thread(
            target=lambda: wrong.extend(
                [] if torch.equal(xai.attribute(tiny, x, "gradcam").values, expected) else [done]
            )
        )
        thread.start()
        thread.join(10)
        assert not thread.is_alive()  # the lease is free while the copy is at work

    randomisation_check(tiny, x, "saliency", run=Run(on_progress=meanwhile))
    assert not wrong


def test_same_seed_same_bytes() -> None:
    tiny, x = make_tiny(), pixels()
    first, again, other = (randomisation_check(tiny, x, "smoothgrad", seed=seed, samples=2) for seed in (1, 1, 2))
    assert torch.equal(first.maps, again.maps)
    assert torch.equal(first.spearman, again.spearman)
    assert not torch.equal(first.maps, other.maps)


def test_stages_of_ones_own() -> None:
    tiny, x = make_tiny(), pixels()
    found = randomisation_check(tiny, x, "saliency", targets=3, stages=["conv1", "fc.bias"])
    assert found.stages == ("conv1", "fc.bias")
    assert found.target.tolist() == [3, 3]
    assert found.maps.shape == (3, 2, 64, 64)
    assert found.spearman.shape == (2, 2)
    assert torch.equal(found.maps[2], found.maps[1])  # the logits' bias moves no gradient
    for stages, message in (
        (["conv9"], "stage 'conv9' has no weights in this network; give paths of its modules."),
        (["relu1"], "stage 'relu1' has no weights in this network; give paths of its modules."),
        ([], "stages is empty; give paths of modules, or None for the network's blocks."),
    ):
        with pytest.raises(InputError) as refused:
            randomisation_check(tiny, x, "saliency", stages=stages)
        assert str(refused.value) == message


def test_refusals_are_those_of_the_method() -> None:
    silu = classifier_of(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    )
    with pytest.raises(NotApplicableError, match="there is no ReLU"):
        randomisation_check(silu, pixels(), "guided_backprop")
    with pytest.raises(InputError, match="targets has 3 classes for 2 images"):
        randomisation_check(make_tiny(), pixels(), "saliency", targets=[1, 2, 3])


def test_progress_and_cancel() -> None:
    tiny, x, seen = make_tiny(), pixels(), list[tuple[int, int, str]]()
    randomisation_check(tiny, x, "smoothgrad", run=Run(on_progress=lambda *report: seen.append(report)))
    done = [report[0] for report in seen]
    assert done == sorted(done)
    assert {report[1] for report in seen} == {400}
    assert done[-1] == 400
    assert any(note.startswith("fc shuffled: SmoothGrad") for _, _, note in seen)
    count = [0]

    def cancelled() -> bool:
        count[0] += 1
        return count[0] > 6

    with pytest.raises(Cancelled):
        randomisation_check(tiny, x, "smoothgrad", run=Run(cancelled=cancelled))


class Fragile(nn.Module):
    """Two factors that cancel, until one of them is shuffled: then one channel overflows."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.tensor([1e30, 1e-30]))
        self.down = nn.Parameter(torch.tensor([1e-30, 1e30]))

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, :2] * self.up.view(1, 2, 1, 1) * self.down.view(1, 2, 1, 1)).square().mean((2, 3))


def test_a_map_that_overflowed_has_no_correlation() -> None:
    swaps = next(s for s in range(20) if torch.randperm(2, generator=Run(seed=s).generator("shuffle", "up"))[0] == 1)
    found = randomisation_check(classifier_of(Fragile()), pixels(), "saliency", targets=0, stages=["up"], seed=swaps)
    assert found.overflowed.tolist() == [[True, True]]
    assert found.maps[1].abs().max() == 0
    assert found.spearman.isnan().all()
    assert found.spearman_abs.isnan().all()
    assert found.ssim.isnan().all()
    assert found.score.isnan().all()
    assert found.changes is None
    assert found.verdict == (
        "Saliency: undecided. The trained network's map, or that of each of the upper 1 of 1 stages, is blank, and a "
        "blank map has no correlation."
    )


def test_a_blank_stage_is_left_out_and_told(tiny, monkeypatch) -> None:
    x = pixels(2)
    whole = randomisation_check(tiny, x, "saliency")
    calls = []

    def with_a_blank(classifier, *args, **kwargs):
        made = attribute(classifier, *args, **kwargs)
        calls.append(classifier)
        if len(calls) == 2:  # the first stage, of the first image
            values = made.values.clone()
            values[0] = 0
            return dataclasses.replace(made, values=values)
        return made

    monkeypatch.setattr(sys.modules["xai.studies.randomisation.study"], "attribute", with_a_blank)
    found = randomisation_check(tiny, x, "saliency")
    assert found.spearman[0].isnan().tolist() == [True, False]
    upper = (len(found.stages) + 1) // 2
    assert found.verdict.endswith(f" 1 of {2 * upper} comparisons there have a blank map and are left out.")
    rest = torch.stack([whole.spearman[1:upper, 0].mean(), whole.spearman_abs[1:upper, 0].mean()])
    assert float(found.score[0]) == pytest.approx(float(rest.amax()))
    assert float(found.score[1]) == pytest.approx(float(whole.score[1]))
