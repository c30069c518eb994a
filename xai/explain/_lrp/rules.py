"""Relevance rules: how the relevance of a layer's outputs is handed to its inputs.

With contributions c_ij = a_i w_ij of input i to output j, z_j = sum_i c_ij + b_j, v+ = max(v, 0), v- = min(v, 0), and a
stabiliser e that takes the sign of its denominator:

    epsilon   R_i = sum_j c_ij R_j / (z_j + e)                      with e = `epsilon` times the rms of z
    z-plus    R_i = sum_j c+_ij R_j / (sum_i c+_ij + b+_j + e)      (alpha 1, beta 0)
    gamma     R_i = sum_j (c_ij + gamma c+_ij) R_j / (z_j + gamma (sum_i c+_ij + b+_j) + e)   where z_j >= 0,
              with c-_ij and b-_j in place of c+_ij and b+_j where z_j < 0
    flat      R_i = sum_j m_i R_j / (sum_i m_i + e)                 m_i = 1 for a pixel, 0 for padding
    z-box     R_i = sum_j q_ij R_j / (sum_i q_ij + e)               q_ij = (a_i - l_i) w+_ij + (a_i - h_i) w-_ij,
              where l_i and h_i are what the pixel values 0 and 1 have become in front of the layer
    shift     R_i = u+ R / (u+ + t+ + e) where u + t >= 0, the same with u-, t- elsewhere: y = u + t, u the part that
              depends on the image and t a constant (a batch norm that cannot be merged, an added constant)
    norm      R_i = a_i R / (sum_i a_i + e)                         sums and average pools

e is 1e-6 times the rms of the denominators (gamma: of z) of that image and layer, so that networks with tiny
activations are explained as well as others; at least 1e-30, so that 0 / 0 is 0. Every rule tells a `Ledger` what it did
not hand on: sum(R) + biases + stabilisers = score. An output that nothing contributes to loses its relevance to the
stabiliser.

Sources: Bach et al., PLoS ONE 2015 (epsilon, alpha-beta); Montavon et al., Pattern Recognition 2017 (z-plus, z-box);
Lapuschkin et al., Nature Communications 2019 (flat); Montavon et al., Explainable AI 2019 (gamma); Andeol et al. 2021
(gamma for signed inputs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from xai.devices import exact_device
from xai.explain._lrp.weights import Weights

STABILISER = 1e-6
"""Share of a denominator's rms that is added to it."""
TINY = 1e-30
"""Least stabiliser."""


class Ledger:
    """Relevance that left the network on its way down, per image (N,): into biases, and into stabilisers."""

    def __init__(self, count: int, device: torch.device) -> None:
        self.bias = torch.zeros(count, dtype=torch.float64, device=exact_device(device))
        self.stabiliser = torch.zeros_like(self.bias)

    def book(self, bias: Tensor | None, stabiliser: Tensor | None) -> None:
        """Add (N,) to each."""
        if bias is not None:
            self.bias += bias.to(self.bias.device)
        if stabiliser is not None:
            self.stabiliser += stabiliser.to(self.bias.device)


def total(t: Tensor) -> Tensor:
    """Sum over everything but the images: (N,...) -> (N,)."""
    return t.sum(tuple(range(1, t.dim())))


def stabiliser(d: Tensor, share: float = STABILISER) -> Tensor:
    """share * rms of d, per image, at least `TINY`: (N,1,...)."""
    dims = tuple(range(1, d.dim()))
    norm: Tensor = torch.linalg.vector_norm(d, dim=dims, keepdim=True)
    size = (d.numel() / d.shape[0]) ** 0.5
    return norm.mul(share / size).clamp_(min=TINY)


class Geometry(Protocol):
    """A linear map of activations by given weights, its transpose, and where its channels are."""

    def output(self, x: Tensor, w: Weights) -> Tensor:
        """The layer's output, bias included."""
        ...

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """sum_i x_i w_ij, without a bias."""
        ...

    def back(self, s: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """sum_j w_ij s_j, shaped as x."""
        ...

    def per_channel(self, s: Tensor) -> Tensor:
        """s summed over everything but images and output channels: (N,D)."""
        ...

    def spread(self, bias: Tensor) -> Tensor:
        """bias (D,) so that it broadcasts over the outputs."""
        ...

    def flat(self, relevance: Tensor, inside: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The flat rule: (relevance of the inputs, relevance kept by the stabiliser (N,))."""
        ...


class Dense:
    """Fully connected: x (N,...,C), weight (D,C)."""

    def output(self, x: Tensor, w: Weights) -> Tensor:
        """(N,...,C) -> (N,...,D)."""
        return F.linear(x, w.weight, w.bias)

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """(N,...,C) -> (N,...,D)."""
        return F.linear(x, weight)

    def back(self, s: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """(N,...,D) -> (N,...,C)."""
        del x
        return s @ weight

    def per_channel(self, s: Tensor) -> Tensor:
        """(N,...,D) -> (N,D)."""
        return s.sum(tuple(range(1, s.dim() - 1))) if s.dim() > 2 else s

    def spread(self, bias: Tensor) -> Tensor:
        """(D,) as it is: channels come last."""
        return bias

    def flat(self, relevance: Tensor, inside: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Every input that is a pixel gets the same share of every output."""
        del weight
        d = inside.sum(-1, keepdim=True)
        e = stabiliser(d)
        s = relevance.sum(-1, keepdim=True) / (d + e)
        return s * inside, total(s) * e.flatten()


@dataclass(frozen=True)
class Conv:
    """Convolution: x (N,C,H,W), weight (D,C/groups,k,k)."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def output(self, x: Tensor, w: Weights) -> Tensor:
        """(N,C,H,W) -> (N,D,h,w)."""
        return F.conv2d(x, w.weight, w.bias, self.stride, self.padding, self.dilation, self.groups)

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """(N,C,H,W) -> (N,D,h,w)."""
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def back(self, s: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """(N,D,h,w) -> (N,C,H,W)."""
        found: Tensor = torch.ops.aten.convolution_backward(
            s,
            x,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,  # not transposed
            (0, 0),
            self.groups,
            (True, False, False),  # the gradient of the input alone
        )[0]
        return found

    def per_channel(self, s: Tensor) -> Tensor:
        """(N,D,h,w) -> (N,D)."""
        return s.sum((2, 3))

    def spread(self, bias: Tensor) -> Tensor:
        """(D,) -> (D,1,1)."""
        return bias[:, None, None]

    def flat(self, relevance: Tensor, inside: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Every pixel under the kernel gets the same share, so one channel of ones does for all of a group."""
        ones = weight.new_ones(self.groups, 1, *weight.shape[2:])
        n, _, *size = relevance.shape
        pixels = inside.reshape(n, self.groups, -1, *inside.shape[2:]).sum(2)  # (N,G,H,W)
        d = self.forward(pixels, ones)
        e = stabiliser(d)
        s = relevance.reshape(n, self.groups, -1, *size).sum(2) / (d + e)  # (N,G,h,w)
        shares = self.back(s, ones, pixels)  # (N,G,H,W)
        return shares.repeat_interleave(weight.shape[1], 1) * inside, total(s) * e.flatten()


def signs(x: Tensor, signed: bool) -> tuple[Tensor, Tensor | None]:
    """(x+, x-), or (x, None) where nothing is negative."""
    return (x.clamp(min=0), x.clamp(max=0)) if signed else (x, None)


def epsilon_rule(
    geometry: Geometry, x: Tensor, z: Tensor, w: Weights, relevance: Tensor, epsilon: float, ledger: Ledger
) -> Tensor:
    """The epsilon rule; z is the layer's output. One pass back."""
    s = relevance / (z + torch.copysign(stabiliser(z, epsilon), z))
    bias = None if w.bias is None else geometry.per_channel(s) @ w.bias
    ledger.book(bias, total(torch.addcmul(relevance, s, z, value=-1)))
    return geometry.back(s, w.weight, x).mul_(x)


def positive_rule(
    geometry: Geometry,
    up: Tensor,
    down: Tensor | None,
    w: Weights,
    bias: Tensor | None,
    relevance: Tensor,
    ledger: Ledger,
) -> Tensor:
    """Relevance along positive contributions: of `up` >= 0 by positive weights, of `down` <= 0 by negative ones.

    z-plus with up = a+, down = a-, bias = b+ (one pass forward and one back where no input is negative, else two of
    each); z-box with up = a - l, down = a - h and no bias.
    """
    negative = None if down is None else w.negative
    d = geometry.forward(up, w.positive)
    if down is not None and negative is not None:
        d += geometry.forward(down, negative)
    if bias is not None:
        d += geometry.spread(bias)
    e = stabiliser(d)
    s = torch.div(relevance, d.add_(e), out=d)
    each = geometry.per_channel(s)
    ledger.book(None if bias is None else each @ bias, each.sum(1) * e.flatten())
    shared = geometry.back(s, w.positive, up).mul_(up)
    if down is not None and negative is not None:
        shared.addcmul_(geometry.back(s, negative, down), down)
    return shared


def gamma_rule(
    geometry: Geometry,
    x: Tensor,
    z: Tensor,
    w: Weights,
    relevance: Tensor,
    gamma: float,
    ledger: Ledger,
    *,
    signed: bool,
    clipped: bool,
) -> Tensor:
    """The gamma rule. signed: x has negative values. clipped: a rectifier follows, so that z < 0 has no relevance.

    With p = sum_i c+_ij + b+_j, the sum on the side of the output is q = p - z-, and |d| = |z| + gamma q + e is never
    zero. Sums over negative contributions are differences of all and the positive ones, so that there are one pass
    forward (two with signed x), and one (clipped) to three (signed x and outputs) back.
    """
    up, down = signs(x, signed)
    d = geometry.forward(up, w.positive)
    if down is not None:
        d += geometry.forward(down, w.negative)
    if w.bias is not None:
        d += geometry.spread(w.bias.clamp(min=0))
    e = stabiliser(z)
    if clipped:
        d.mul_(gamma).add_(z.clamp(min=0)).add_(e)
    else:
        d.sub_(z.clamp(max=0)).mul_(gamma).add_(z.abs()).add_(e)
    t = torch.div(relevance, d, out=d)
    s = t if clipped else torch.copysign(torch.ones_like(z), z).mul_(t)  # R / d with its sign
    below = None if clipped else (s - t).mul_(0.5)  # the part of s where z < 0
    _book_gamma(geometry, t, s, w, gamma, e.flatten(), ledger)
    # x (A + B) + gamma x+ (B + E) + gamma x- (A - E): A, B from s where z >= 0 and z < 0 by w, E from t by w+
    if down is None and below is None:
        return geometry.back(t, torch.add(w.weight, w.positive, alpha=gamma), x).mul_(x)
    cross = geometry.back(t, w.positive, x)
    if down is None and below is not None:
        return geometry.back(s.add_(below, alpha=gamma), w.weight, x).add_(cross, alpha=gamma).mul_(x)
    both = geometry.back(s, w.weight, x)
    low = torch.zeros_like(both) if below is None else geometry.back(below, w.weight, x)
    shared = (both * x).addcmul_(up, low + cross, value=gamma)
    return shared if down is None else shared.addcmul_(down, both - low - cross, value=gamma)


def _book_gamma(geometry: Geometry, t: Tensor, s: Tensor, w: Weights, gamma: float, e: Tensor, ledger: Ledger) -> None:
    sizes = geometry.per_channel(t)
    bias = None
    if w.bias is not None:
        each = sizes if s is t else geometry.per_channel(s)
        above, below = (each + sizes) / 2, (each - sizes) / 2
        bias = each @ w.bias + gamma * (above @ w.bias.clamp(min=0) + below @ w.bias.clamp(max=0))
    ledger.book(bias, sizes.sum(1) * e)


def flat_rule(geometry: Geometry, inside: Tensor, w: Weights, relevance: Tensor, ledger: Ledger) -> Tensor:
    """The flat rule; inside (N,C,...) is 1 for what comes from a pixel and 0 for padding."""
    shared, lost = geometry.flat(relevance, inside, w.weight)
    ledger.book(None, lost)
    return shared


def shift_rule(out: Tensor, shift: Tensor, relevance: Tensor, ledger: Ledger, *, clipped: bool) -> Tensor:
    """The shift rule for out = u + shift, shift broadcasting. clipped: a rectifier follows."""
    if clipped:
        return _shift_above(out, shift, relevance, ledger)
    above = relevance * (out >= 0)
    return _shift_above(out, shift, above, ledger) + _shift_above(-out, -shift, relevance - above, ledger)


def _shift_above(out: Tensor, shift: Tensor, relevance: Tensor, ledger: Ledger) -> Tensor:
    part, constant = (out - shift).clamp_(min=0), shift.clamp(min=0)
    d = part + constant
    e = stabiliser(d)
    s = torch.div(relevance, d.add_(e), out=d)
    ledger.book(_inner(s, constant), total(s) * e.flatten())
    return part.mul_(s)


def _inner(s: Tensor, t: Tensor) -> Tensor:
    """sum over each image of s t, (N,): per channel where t has one value a channel, (C,1,1)."""
    if t.dim() == 3 and t.shape[1:] == (1, 1) and s.dim() == 4:
        return s.sum((2, 3)) @ t[:, 0, 0]
    return total(s * t)


def norm_scale(out: Tensor, relevance: Tensor, ledger: Ledger) -> Tensor:
    """R / (out + e) of the norm rule."""
    s = relevance / (out + torch.copysign(stabiliser(out), out))
    ledger.book(None, total(torch.addcmul(relevance, s, out, value=-1)))
    return s
