"""For the tests of LRP: small networks, and an own derivation of their relevance from matrices of contributions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai.explain.lrp import COMPOSITES, LRP
from xai.models.classifier import Classifier, InputModel
from xai.types import Explained, Run

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
E = 1e-6


# Networks ---------------------------------------------------------------------------------------------------------


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, biases and running statistics drawn from `seed`: no zero that could hide a fault."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if not tensor.is_floating_point():
                continue
            drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            if name == "running_var" or (name == "weight" and isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)):
                drawn = 0.3 + drawn.abs()
            elif tensor.dim() > 1:
                drawn = drawn * (2 / tensor[0].numel()) ** 0.5
            else:
                drawn = drawn * 0.3
            tensor.data.copy_(drawn)
    return net


def wrapped(net: nn.Module, dtype: torch.dtype = torch.float64) -> InputModel:
    """`net` behind the normalisation, frozen, in eval mode."""
    return InputModel(net, MEAN, STD).to(dtype=dtype).eval().requires_grad_(False)


def classifier_of(net: nn.Module, size: int, dtype: torch.dtype = torch.float32) -> Classifier:
    return Classifier(
        name="own",
        title="Own",
        module=wrapped(net, dtype),
        labels=("a", "b"),
        input_size=(size, size),
        default_layer="",
        fingerprint="",
        device=torch.device("cpu"),
        weights="random:0",
    )


def pixels(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


class Plain(nn.Module):
    """conv-bn-relu-maxpool, depthwise conv-bn-relu6, conv with a bias, average pool, linear-bn-relu, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4, eps=0.1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.bn2 = nn.BatchNorm2d(4)
        self.conv3 = nn.Conv2d(4, 6, 2)
        self.fc1 = nn.Linear(6, 5)
        self.bn3 = nn.BatchNorm1d(5)
        self.fc2 = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.relu6(self.bn2(self.conv2(x)))
        x = F.avg_pool2d(self.conv3(x), 2)
        return self.fc2(F.relu(self.bn3(self.fc1(x.flatten(1)))))


class Residual(nn.Module):
    """A skip whose sum is not rectified, a linear bottleneck before it (signed inputs and outputs), global average."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.expand = nn.Conv2d(4, 8, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.project = nn.Conv2d(8, 4, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 6, 3)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.bn2(self.project(F.hardswish(self.bn1(self.expand(x)))))
        y += x
        return self.fc(F.relu_(self.head(y)).mean((2, 3)))


class Dense(nn.Module):
    """DenseNet's order: concatenation, batch norm, ReLU, convolution; a last batch norm and a functional ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(3)
        self.conv1 = nn.Conv2d(3, 2, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.conv1(F.relu(self.norm1(x), inplace=True))], 1)
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.norm2(x), inplace=True), 1).flatten(1))


class Gated(nn.Module):
    """Squeeze-and-excitation with a hardsigmoid; with `frozen`, the gate is a constant tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.squeeze = nn.Conv2d(4, 2, 1)
        self.excite = nn.Conv2d(2, 4, 1)
        self.head = nn.Conv2d(4, 5, 3)
        self.fc = nn.Linear(5, 3)
        self.frozen: Tensor | None = None

    def gate(self, x: Tensor) -> Tensor:
        return F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = (self.gate(x) if self.frozen is None else self.frozen) * x
        return self.fc(F.relu(self.head(x)).mean((2, 3)))


NETS: dict[str, Callable[[], nn.Module]] = {"plain": Plain, "residual": Residual, "dense": Dense, "gated": Gated}


def explain(module: InputModel, x: Tensor, target: int | None = None, **params: Any) -> Explained:
    chosen = None if target is None else torch.full((len(x),), target)
    return LRP(**params)(module, x, chosen, Run())


def unaccounted(found: Explained) -> list[float]:
    facts = found.facts
    parts = zip(facts["ratio"], facts["bias_share"], facts["stabiliser_share"], strict=True)
    return [abs(sum(part) - 1) for part in parts]


# An own derivation: one image, matrices of contributions --------------------------------------------------------


def matrix(layer: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """(W (J,I), b (J,)) of an affine `layer` on inputs of `shape`, by sending each unit vector through it."""
    count = int(torch.tensor(shape).prod())
    zero = layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
    columns = layer(torch.eye(count, dtype=torch.float64).view(count, *shape)).flatten(1) - zero
    return columns.T.contiguous(), zero


def divide(
    q: Tensor,
    constant: Tensor,
    relevance: Tensor,
    sign: Tensor | None = None,
    e: float = E,
    scale: Tensor | None = None,
) -> Tensor:
    """R_i = sum_j q_ji R_j / (sum_i q_ji + constant_j +- e rms); scale: what the rms is of, if not of that sum."""
    d = q.sum(1) + constant
    sign = torch.ones_like(d) if sign is None else sign
    return (relevance / (d + sign * e * (d if scale is None else scale).square().mean().sqrt())) @ q


def by_matrix(
    rule: str, w: Tensor, b: Tensor, a: Tensor, relevance: Tensor, epsilon: float = E, gamma: float = 0.25
) -> Tensor:
    """One layer's rule from its matrix: a (I,), relevance (J,) -> (I,)."""
    c = w * a
    z = c.sum(1) + b
    sign = torch.where(z < 0, -1.0, 1.0).double()
    if rule == "epsilon":
        return divide(c, b, relevance, sign, epsilon)
    if rule == "z-plus":
        return divide(c.clamp(min=0), b.clamp(min=0), relevance)
    assert rule == "gamma"
    same = (c * sign[:, None]).clamp(min=0) * sign[:, None]
    return divide(c + gamma * same, b + gamma * (b * sign).clamp(min=0) * sign, relevance, sign, scale=z)


def first_by_matrix(rule: str, layer: Callable[[Tensor], Tensor], ones: Tensor, x: Tensor, relevance: Tensor) -> Tensor:
    """The first layer's rule on pixels x (3,H,W). layer: with the normalisation. ones (J,I): 1 under a kernel."""
    w, b = matrix(layer, tuple(x.shape))
    a = x.flatten()
    if rule == "flat":
        return divide(ones, torch.zeros(len(ones)), relevance)
    if rule == "box":  # in pixels the bounds are 0 and 1
        return divide(a * w.clamp(min=0) + (a - 1) * w.clamp(max=0), torch.zeros(len(w)), relevance)
    mean, std = (torch.tensor(v, dtype=x.dtype).view(3, 1, 1).expand_as(x).flatten() for v in (MEAN, STD))
    return by_matrix(rule, w * std, b + w @ mean, (a - mean) / std, relevance)


def norm_by_hand(a: Tensor, out: Tensor, share: Tensor, relevance: Tensor) -> Tensor:
    """The norm rule: `share` (J,I) is how much of each input an output holds."""
    sign = torch.where(out < 0, -1.0, 1.0).double()
    return divide(share * a, torch.zeros(len(out)), relevance, sign)


def kernel_ones(conv: nn.Conv2d, shape: tuple[int, ...]) -> Tensor:
    ones = copy.deepcopy(conv)
    ones.weight.data.fill_(1)
    ones.bias = None
    return matrix(ones, shape)[0]


def plain_by_matrix(net: Plain, x: Tensor, target: int, composite: str) -> Tensor:
    """LRP of `Plain` for one image x (3,8,8), layer by layer."""
    how = COMPOSITES[composite]
    mean, std = (torch.tensor(v, dtype=x.dtype).view(3, 1, 1) for v in (MEAN, STD))
    conv1 = lambda t: net.bn1(net.conv1((t - mean) / std))  # noqa: E731
    conv2 = lambda t: net.bn2(net.conv2(t))  # noqa: E731
    fc1 = lambda t: net.bn3(net.fc1(t))  # noqa: E731
    a1 = F.relu(conv1(x[None]))
    a2, winners = F.max_pool2d(a1, 2, return_indices=True)
    a3 = F.relu6(conv2(a2))
    a4 = net.conv3(a3)
    a5 = F.avg_pool2d(a4, 2).flatten(1)
    a6 = F.relu(fc1(a5))
    logits = net.fc2(a6)
    r = F.one_hot(torch.tensor(target), 3) * logits[0]
    r = by_matrix(how.dense, *matrix(net.fc2, (5,)), a6.flatten(), r)
    r = by_matrix(how.dense, *matrix(fc1, (6,)), a5.flatten(), r)
    average = matrix(lambda t: F.avg_pool2d(t, 2), tuple(a4.shape[1:]))[0]
    r = norm_by_hand(a4.flatten(), a5.flatten(), average, r)
    r = by_matrix(how.conv, *matrix(net.conv3, tuple(a3.shape[1:])), a3.flatten(), r)
    r = by_matrix(how.conv, *matrix(conv2, tuple(a2.shape[1:])), a2.flatten(), r)
    r = torch.zeros(4, 64).double().scatter_add_(1, winners.flatten(2)[0], r.view(4, -1)).flatten()
    return first_by_matrix(how.first, conv1, kernel_ones(net.conv1, (3, 8, 8)), x, r).view(3, 8, 8)


def dense_by_matrix(net: Dense, x: Tensor, target: int, composite: str) -> Tensor:
    """LRP of `Dense` for one image x (3,8,8)."""
    how = COMPOSITES[composite]
    mean, std = (torch.tensor(v, dtype=x.dtype).view(3, 1, 1) for v in (MEAN, STD))
    stem = lambda t: net.stem((t - mean) / std)  # noqa: E731
    a1 = stem(x[None])
    a2 = net.norm1(a1)
    a3 = net.conv1(F.relu(a2))
    a4 = torch.cat([a1, a3], 1)
    a5 = net.norm2(a4)
    a6 = F.relu(a5).mean((2, 3))
    logits = net.fc(a6)
    r = F.one_hot(torch.tensor(target), 3) * logits[0]
    r = by_matrix(how.dense, *matrix(net.fc, (5,)), a6.flatten(), r)
    r = norm_by_hand(F.relu(a5).flatten(), a6.flatten(), matrix(lambda t: t.mean((2, 3)), (5, 8, 8))[0], r)
    r = shift_by_hand(net.norm2, a4, a5, r)
    left, right = r[: 3 * 64], r[3 * 64 :]
    right = by_matrix(how.conv, *matrix(net.conv1, (3, 8, 8)), F.relu(a2).flatten(), right)
    r = left + shift_by_hand(net.norm1, a1, a2, right)
    return first_by_matrix(how.first, stem, kernel_ones(net.stem, (3, 8, 8)), x, r).view(3, 8, 8)


def shift_by_hand(norm: nn.BatchNorm2d, a: Tensor, out: Tensor, relevance: Tensor) -> Tensor:
    """A batch norm on its own: a, out (1,C,H,W); the parts of each sign of the output apart, each with its own e."""
    constant = norm(torch.zeros_like(a))
    part = out - constant
    found = torch.zeros_like(relevance)
    for sign in (1.0, -1.0):
        here = relevance * ((out >= 0) if sign > 0 else (out < 0)).flatten()
        u, t = ((sign * v).clamp(min=0).flatten() for v in (part, constant))
        found += u * here / (u + t + E * (u + t).square().mean().sqrt())
    return found


def residual_by_matrix(net: Residual, x: Tensor, target: int, composite: str) -> Tensor:
    """LRP of `Residual` for one image x (3,8,8)."""
    how = COMPOSITES[composite]
    mean, std = (torch.tensor(v, dtype=x.dtype).view(3, 1, 1) for v in (MEAN, STD))
    stem = lambda t: net.stem((t - mean) / std)  # noqa: E731
    expand = lambda t: net.bn1(net.expand(t))  # noqa: E731
    project = lambda t: net.bn2(net.project(t))  # noqa: E731
    a1 = stem(x[None])
    a2 = F.hardswish(expand(a1))
    a3 = project(a2)
    a4 = F.relu(net.head(a3 + a1))
    a5 = a4.mean((2, 3))
    logits = net.fc(a5)
    r = F.one_hot(torch.tensor(target), 3) * logits[0]
    r = by_matrix(how.dense, *matrix(net.fc, (6,)), a5.flatten(), r)
    r = norm_by_hand(a4.flatten(), a5.flatten(), matrix(lambda t: t.mean((2, 3)), (6, 6, 6))[0], r)
    r = by_matrix(how.conv, *matrix(net.head, (4, 8, 8)), (a3 + a1).flatten(), r)
    both = torch.cat([a3.flatten(), a1.flatten()])
    halves = norm_by_hand(both, (a3 + a1).flatten(), torch.eye(256, dtype=x.dtype).repeat(1, 2), r)
    r = by_matrix(how.conv, *matrix(project, (8, 8, 8)), a2.flatten(), halves[:256])
    r = halves[256:] + by_matrix(how.conv, *matrix(expand, (4, 8, 8)), a1.flatten(), r)
    return first_by_matrix(how.first, stem, kernel_ones(net.stem, (3, 8, 8)), x, r).view(3, 8, 8)


BY_MATRIX: dict[str, Callable[..., Tensor]] = {
    "plain": plain_by_matrix,
    "dense": dense_by_matrix,
    "residual": residual_by_matrix,
}
