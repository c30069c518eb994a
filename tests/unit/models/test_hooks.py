"""Looking inside: copies that later in-place operations do not reach, in this thread only, and nothing left behind."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai.errors import LayerError
from xai.models.hooks import capture, cut_at, look_at, resume_at


class InPlace(nn.Module):
    """A norm whose output a functional in-place ReLU rewrites, as DenseNet's norm5 and ResNet's bn3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.unused = nn.Identity()
        self.pair = Pair()
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.conv(x))
        F.relu_(out)
        first, second = self.pair(out)
        return self.fc((first + second).mean((2, 3)))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, 2 * x


class Twice(nn.Module):
    """One layer that runs twice: logits are the mean of w(w(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x)).mean((2, 3))


@pytest.fixture
def net() -> InPlace:
    generator = torch.Generator().manual_seed(0)
    made = InPlace().double().eval().requires_grad_(False)
    for tensor in made.parameters():
        tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
    return made


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def bare(net: nn.Module) -> bool:
    return not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())


def before_relu(net: InPlace, x: Tensor) -> Tensor:
    return net.norm(net.conv(x))


def test_capture_keeps_what_the_layer_gave_not_what_became_of_it(net: InPlace, x: Tensor) -> None:
    expected = before_relu(net, x)
    assert float(expected.min()) < 0
    with capture(net, ["norm", "conv"]) as kept:
        net(x)
    torch.testing.assert_close(kept["norm"], expected, rtol=0, atol=0)
    torch.testing.assert_close(kept["conv"], net.conv(x), rtol=0, atol=0)
    assert not kept["norm"].requires_grad
    assert bare(net)


def test_capture_with_grad_is_part_of_the_graph_and_unaltered(net: InPlace, x: Tensor) -> None:
    pixels = x.clone().requires_grad_()
    with capture(net, ["norm"], grad=True) as kept:
        logits = net(pixels)
    torch.testing.assert_close(kept["norm"].detach(), before_relu(net, x), rtol=0, atol=0)
    to_layer, to_pixels = torch.autograd.grad(logits[:, 2].sum(), [kept["norm"], pixels])
    # By hand: the logit is 3 * w . mean(relu(a)), so its gradient is 3 w / 36 where a > 0.
    expected = 3 * net.fc.weight[2].view(1, 4, 1, 1) / 36 * (before_relu(net, x) > 0)
    torch.testing.assert_close(to_layer, expected)
    assert float(to_pixels.abs().max()) > 0


def test_capture_of_a_missing_layer_sets_no_hook(net: InPlace) -> None:
    with (
        pytest.raises(LayerError, match=r"^layer 'nothing' is not in this network; choose another layer\.$"),
        capture(net, ["norm", "nothing"]),
    ):
        pass
    assert bare(net)


def test_capture_of_two_tensors_is_refused_and_cleaned_up(net: InPlace, x: Tensor) -> None:
    with (
        pytest.raises(LayerError, match=r"^layer 'pair' gives a tuple, not one tensor; choose another layer\.$"),
        capture(net, ["norm", "pair"]),
    ):
        net(x)
    assert bare(net)


def test_capture_leaves_other_threads_alone(net: InPlace, x: Tensor) -> None:
    with capture(net, ["norm"]) as kept:
        net(x)
        mine = kept["norm"].clone()
        thread = threading.Thread(target=lambda: net(x + 1))
        thread.start()
        thread.join()
        torch.testing.assert_close(kept["norm"], mine, rtol=0, atol=0)


def test_capture_of_a_crash_leaves_nothing(net: InPlace) -> None:
    with pytest.raises(RuntimeError), capture(net, ["norm"]):
        net(torch.rand(1, 5, 6, 6, dtype=torch.float64))
    assert bare(net)


def test_cut_gives_the_layer_its_logits_and_the_gradient_above(net: InPlace, x: Tensor) -> None:
    activation, logits = cut_at(net, net, "norm", x)
    torch.testing.assert_close(activation.detach(), before_relu(net, x), rtol=0, atol=0)
    torch.testing.assert_close(logits.detach(), net(x), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), activation)
    expected = 3 * net.fc.weight[1].view(1, 4, 1, 1) / 36 * (activation.detach() > 0)
    torch.testing.assert_close(gradient, expected)
    assert activation.is_leaf
    assert torch.is_grad_enabled()
    assert bare(net)


def test_cut_works_where_gradients_are_off_and_leaves_them_off(net: InPlace, x: Tensor) -> None:
    with torch.no_grad():
        activation, logits = cut_at(net, net, "norm", x)
        assert not torch.is_grad_enabled()
    assert torch.autograd.grad(logits[:, 0].sum(), activation)[0].shape == activation.shape


def test_cut_of_a_layer_that_runs_twice_is_at_its_last_run() -> None:
    net = Twice().double().requires_grad_(False)
    x = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    activation, logits = cut_at(net, net, "layer", x)
    torch.testing.assert_close(activation.detach(), net.layer(net.layer(x)))
    (gradient,) = torch.autograd.grad(logits[0, 0], activation)
    assert gradient[0, 0].flatten().tolist() == [0.25] * 4
    assert float(gradient[0, 1:].abs().max()) == 0


def test_cut_of_what_does_not_run_or_is_no_tensor_or_is_missing(net: InPlace, x: Tensor) -> None:
    with pytest.raises(LayerError, match=r"^layer 'unused' does not run in this network's forward; choose another"):
        cut_at(net, net, "unused", x)
    with pytest.raises(LayerError, match="gives a tuple, not one tensor"):
        cut_at(net, net, "pair", x)
    with pytest.raises(LayerError, match="layer 'gone' is not in this network"):
        cut_at(net, net, "gone", x)
    assert torch.is_grad_enabled()
    assert bare(net)


def test_cut_leaves_a_forward_of_another_thread_alone(net: InPlace, x: Tensor) -> None:
    """Another thread runs the network while the hook is set: its output is its own, without a graph."""
    expected = net(x + 1)
    found: list[Tensor] = []

    def beside(_module: nn.Module, _args: object) -> None:
        if not found:
            found.append(x)
            thread = threading.Thread(target=lambda: found.append(net(x + 1)))
            thread.start()
            thread.join()

    handle = net.pair.register_forward_pre_hook(beside)
    activation, _ = cut_at(net, net, "norm", x)
    handle.remove()
    assert not found[1].requires_grad
    torch.testing.assert_close(found[1], expected, rtol=0, atol=0)
    torch.testing.assert_close(activation.detach(), before_relu(net, x), rtol=0, atol=0)


def test_cut_after_a_crash_leaves_nothing(net: InPlace) -> None:
    with pytest.raises(RuntimeError):
        cut_at(net, net, "norm", torch.rand(1, 5, 6, 6, dtype=torch.float64))
    assert torch.is_grad_enabled()
    assert bare(net)


def test_looking_and_resuming_are_one_forward(net: InPlace, x: Tensor) -> None:
    activation, logits, runs = look_at(net, net, "norm", x)
    assert runs == 1
    torch.testing.assert_close(activation, before_relu(net, x), rtol=0, atol=0)
    torch.testing.assert_close(resume_at(net, net, "norm", x, activation.clone()), logits, rtol=0, atol=0)
    changed = resume_at(net, net, "norm", x[:1], torch.zeros(7, 4, 6, 6, dtype=torch.float64))
    torch.testing.assert_close(changed, net.fc.bias.expand(7, 5))  # nothing above zero: the bias alone
    assert bare(net)


def test_looking_at_a_layer_that_runs_twice() -> None:
    net = Twice().double().requires_grad_(False)
    x = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    activation, logits, runs = look_at(net, net, "layer", x)
    assert runs == 2
    torch.testing.assert_close(activation, net.layer(net.layer(x)))
    torch.testing.assert_close(resume_at(net, net, "layer", x, activation.clone(), runs), logits)
    first = resume_at(net, net, "layer", x, torch.zeros_like(x), 1)
    torch.testing.assert_close(first[0], net.layer.bias)
