"""The lease's check: whatever a call leaves behind in a shared network is named, and hooks and flags are put back."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

from xai.errors import ModuleStateError
from xai.models.hooks import ModuleState


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3)
        self.act = nn.ReLU()
        self.eval().requires_grad_(False)


def hook(net: Net) -> None:
    net.first.register_forward_hook(lambda *_: None)


def pre_hook(net: Net) -> None:
    net.norm.register_forward_pre_hook(lambda *_: None)


def backward_hook(net: Net) -> None:
    net.register_full_backward_hook(lambda *_: None)


def training(net: Net) -> None:
    net.norm.train()


def requires_grad(net: Net) -> None:
    net.first.bias.requires_grad_(True)


def grad(net: Net) -> None:
    net.first.bias.grad = torch.zeros(4)


def in_place(net: Net) -> None:
    net.norm.running_mean.add_(1)


def data(net: Net) -> None:
    net.first.weight.data = torch.zeros_like(net.first.weight)


def new_parameter(net: Net) -> None:
    net.second.weight = nn.Parameter(torch.zeros(4, 4, 3, 3), requires_grad=False)


def new_buffer(net: Net) -> None:
    net.norm.register_buffer("seen", torch.zeros(1))


def forward(net: Net) -> None:
    net.second.forward = lambda x: x


def in_place_flag(net: Net) -> None:
    net.act.inplace = True


def other_class(net: Net) -> None:
    net.act.__class__ = nn.ReLU6


def submodule(net: Net) -> None:
    net.second = nn.Identity()


def added(net: Net) -> None:
    net.add_module("third", nn.ReLU())


def swapped(net: Net) -> None:
    net.norm.weight, net.norm.bias = net.norm.bias, net.norm.weight


CHANGES: list[tuple[Callable[[Net], None], str]] = [
    (hook, "forward_hooks of first"),
    (pre_hook, "forward_pre_hooks of norm"),
    (backward_hook, "backward_hooks of the module"),
    (training, "training flag of norm"),
    (requires_grad, "requires_grad of first.bias"),
    (grad, "grad of first.bias"),
    (in_place, "values of norm.running_mean"),
    (data, "values of first.weight"),
    (new_parameter, "values of a tensor that was replaced"),
    (new_buffer, "parameters or buffers of norm"),
    (forward, "class, forward or in-place flag of second"),
    (in_place_flag, "class, forward or in-place flag of act"),
    (other_class, "class, forward or in-place flag of act"),
    (submodule, "submodules of the module"),
    (added, "submodules of the module"),
    (swapped, "parameters or buffers changed places"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES, ids=[change.__name__ for change, _ in CHANGES])
def test_every_change_is_named(change: Callable[[Net], None], words: str) -> None:
    net = Net()
    before = ModuleState.of(net)
    before.restore_and_check()
    change(net)
    with pytest.raises(ModuleStateError, match=rf"^a call changed the shared network: .*{re.escape(words)}"):
        before.restore_and_check()


@pytest.mark.parametrize(
    "change",
    [hook, pre_hook, backward_hook, training, requires_grad, grad, forward, in_place_flag, other_class],
)
def test_hooks_flags_and_gradients_are_put_back(change: Callable[[Net], None]) -> None:
    net = Net()
    own = net.first.register_forward_hook(lambda *_: None)
    before = ModuleState.of(net)
    change(net)
    with pytest.raises(ModuleStateError):
        before.restore_and_check()
    before.restore_and_check()
    assert list(net.first._forward_hooks) == [own.id]  # a hook that was there before stays


def test_a_gradient_that_was_there_before_is_no_change() -> None:
    net = Net()
    grad(net)
    ModuleState.of(net).restore_and_check()
    assert net.first.bias.grad is not None
