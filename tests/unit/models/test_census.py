"""The census counts each nonlinearity once, however it is written."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

from tests.conftest import make_tiny
from xai import load_model
from xai.models.census import Census, census
from xai.models.classifier import Classifier, InputModel


def classifier_of(net: nn.Module, size: int = 8) -> Classifier:
    module = InputModel(net, (0.5,) * 3, (0.5,) * 3).eval().requires_grad_(False)
    return dataclasses.replace(make_tiny(), module=module, input_size=(size, size), _lock=threading.RLock(), _memo={})


class Calls(nn.Module):
    """Applies one function to the pixels, so that the census holds nothing else."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(x.clone())  # type: ignore[operator]
        return result


FORMS = {
    "relu": [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        F.relu,
        F.relu_,
        torch.relu,
        torch.relu_,
        Tensor.relu,
        Tensor.relu_,
        nn.Threshold(0, 0),
        lambda x: F.threshold(x, threshold=0.0, value=0.0),
        lambda x: x.clamp(min=0),
        lambda x: x.clamp_min(0),
        lambda x: x.clamp_(0),
        lambda x: torch.clamp(x, 0, None),
    ],
    "relu6": [
        nn.ReLU6(),
        nn.ReLU6(inplace=True),
        F.relu6,
        nn.Hardtanh(0, 6),
        lambda x: F.hardtanh(x, 0.0, 6.0),
        lambda x: F.hardtanh_(x, 0.0, 6.0),
        lambda x: x.clamp(0, 6),
        lambda x: torch.clip(x, min=0, max=6),
    ],
    "hardtanh": [nn.Hardtanh(), lambda x: F.hardtanh(x, 0.0, 1.0)],
    "clamp": [lambda x: x.clamp(max=1), lambda x: x.clamp(-1, 1), lambda x: x.clamp_min(0.5)],
    "hardswish": [nn.Hardswish(), nn.Hardswish(inplace=True), F.hardswish],
    "silu": [nn.SiLU(), nn.SiLU(inplace=True), F.silu],
    "gelu": [nn.GELU(), F.gelu, lambda x: F.gelu(x, approximate="tanh")],
    "sigmoid": [nn.Sigmoid(), torch.sigmoid, Tensor.sigmoid_],
    "hardsigmoid": [nn.Hardsigmoid(), F.hardsigmoid],
    "tanh": [nn.Tanh(), F.tanh, torch.tanh, Tensor.tanh],
    "softmax": [nn.Softmax(1), lambda x: x.softmax(1), lambda x: F.log_softmax(x, 1)],
    "leaky_relu": [nn.LeakyReLU(), lambda x: F.leaky_relu(x, 0.2, True)],
    "elu": [nn.ELU(), F.elu],
    "prelu": [nn.PReLU()],
    "softplus": [nn.Softplus(), F.softplus],
    "max_pool2d": [
        nn.MaxPool2d(2),
        nn.MaxPool2d(2, return_indices=True),
        lambda x: F.max_pool2d(x, 2),
        lambda x: torch.max_pool2d(x, 2),
    ],
    "avg_pool2d": [nn.AvgPool2d(2), lambda x: F.avg_pool2d(x, 2)],
    "adaptive_avg_pool2d": [nn.AdaptiveAvgPool2d(1)],
    "add": [lambda x: x + x, lambda x: torch.add(x, x), lambda x: x.add_(x), lambda x: x.__iadd__(x)],
    "cat": [lambda x: torch.cat([x, x], 1), lambda x: torch.concat([x, x], 1)],
    "conv2d": [nn.Conv2d(3, 4, 1)],
    "linear": [nn.Linear(8, 4)],
    "batch_norm": [nn.BatchNorm2d(3)],
    "layer_norm": [nn.LayerNorm(8)],
    "attention": [lambda x: F.scaled_dot_product_attention(x, x, x)],
}


@pytest.mark.parametrize(("kind", "place"), [(kind, i) for kind, forms in FORMS.items() for i in range(len(forms))])
def test_every_form_counts_once(kind: str, place: int) -> None:
    assert dict(census(classifier_of(Calls(FORMS[kind][place]))).counts) == {kind: 1}


def test_attention_modules_are_counted_as_one() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y = x.flatten(1, 2)
            result: Tensor = self.inner(y, y, y)[0]
            return result

    assert dict(census(classifier_of(Attends())).counts) == {"attention": 1}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # worked out from the architectures, not from a run
        ("resnet50", {"relu": 49, "conv2d": 53, "batch_norm": 53, "add": 16, "linear": 1, "max_pool2d": 1}),
        ("googlenet", {"relu": 57, "conv2d": 57, "batch_norm": 57, "linear": 1, "max_pool2d": 13, "add": 0}),
        ("mobilenet_v3_large", {"relu": 19, "hardswish": 21, "hardsigmoid": 8, "add": 10, "mul": 8}),
        ("densenet121", {"relu": 121, "conv2d": 120, "batch_norm": 121, "avg_pool2d": 3}),
    ],
)
def test_known_networks(name: str, expected: dict[str, int]) -> None:
    found = census(load_model(name, weights="random:0", device="cpu"))
    assert {kind: found.count(kind) for kind in expected} == expected


def test_lite0(lite0: Classifier) -> None:
    found = census(lite0)
    # stem, head, one block without expansion (1), fifteen with (2 each)
    assert found.of(("relu", "relu6", "add")) == {"relu6": 33, "add": 9}
    assert found.activations == 33


def test_transformers() -> None:
    vit = census(classifier_of(get_model("vit_b_16", num_classes=3, image_size=32), size=32))
    assert vit.of(("gelu", "attention", "layer_norm")) == {"gelu": 12, "attention": 12, "layer_norm": 25}
    assert vit.count("relu", "relu6") == 0


def test_it_is_kept_with_the_classifier_and_frozen() -> None:
    tiny = make_tiny()
    first = census(tiny)
    assert census(tiny) is first
    assert dict(first.counts) == {
        "conv2d": 2, "batch_norm": 2, "relu": 2, "max_pool2d": 1, "mean": 1, "linear": 1
    }  # fmt: skip
    with pytest.raises(TypeError):
        first.counts["relu"] = 3  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.counts = {}  # type: ignore[misc]


def test_other_threads_are_not_counted() -> None:
    stop = threading.Event()

    def bystander() -> None:
        while not stop.is_set():
            F.relu(torch.zeros(3))

    thread = threading.Thread(target=bystander)
    thread.start()
    try:
        found = [dict(census(make_tiny()).counts) for _ in range(20)]
    finally:
        stop.set()
        thread.join()
    assert all(each["relu"] == 2 for each in found)


def test_a_failing_forward_leaves_no_mode_behind() -> None:
    def fail(x: Tensor) -> Tensor:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        census(classifier_of(Calls(fail)))
    assert torch.overrides._get_current_function_mode() is None
    assert Census({"relu": 2, "silu": 3, "sigmoid": 9}).activations == 5
