"""How alike two maps are, and where a map's mass lies. Batched: (N,H,W) in, (N,) out, float64 inside.

Maps without an order. A constant map puts no pixel before another, and a map without positive values has no mass that
could lie anywhere. What needs an order or a mass is then NaN: a correlation or an overlap of top pixels with a constant
map, the centroid of a map without positive values, its share inside a mask. `is_constant` tells which maps these are;
who takes a mean leaves them out and tells how many they were.

Second arguments may hold one map for N: (1,H,W) is compared with each.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from xai.devices import double, exact_device
from xai.errors import InputError
from xai.public import public

TIE = 1e-5
"""Values that differ by a smaller share of their size are equal but for rounding."""

WINDOWS = ("gaussian", "uniform")


@public
def is_constant(maps: Tensor) -> Tensor:
    """(...,H,W) -> (...) bool: all pixels have one value but for rounding, to within `TIE` of the largest."""
    low, high = torch.aminmax(maps.flatten(-2), dim=-1)
    size = torch.maximum(low.abs(), high.abs())
    return high - low <= TIE * size if maps.is_floating_point() else low == high


def ranks(values: Tensor) -> Tensor:
    """Ranks 1..D of each row of (N,D), float64; equal values share the average of their ranks."""
    ordered, order = values.sort(dim=1)
    place = torch.arange(values.shape[1], device=values.device).expand_as(order)
    border = ordered[:, 1:] != ordered[:, :-1]
    edge = torch.ones_like(ordered[:, :1], dtype=torch.bool)
    starts, ends = torch.cat([edge, border], 1), torch.cat([border, edge], 1)
    first = torch.where(starts, place, 0).cummax(1).values
    last = torch.where(ends, place, values.shape[1]).flip(1).cummin(1).values.flip(1)
    average = double(first + last) / 2 + 1
    return torch.empty_like(average).scatter_(1, order.to(average.device), average)


@public
def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation over the pixels of each pair of maps: (N,H,W) x 2 -> (N,) in [-1, 1].

    cov(a,b) / (std(a) std(b)); NaN where either is constant. Raises `InputError` for shapes that differ or values that
    are not finite.
    """
    one, two = _pair(a, b)
    return _correlation(one.flatten(1), two.flatten(1), _no_order(a, b))


@public
def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation, average ranks on ties: (N,H,W) x 2 -> (N,) in [-1, 1].

    Pearson's correlation of the ranks, as scipy.stats.spearmanr; NaN where either is constant. Source: Spearman, The
    proof and measurement of association between two things, 1904.
    """
    one, two = _pair(a, b)
    return _correlation(ranks(one.flatten(1)), ranks(two.flatten(1)), _no_order(a, b))


def _correlation(a: Tensor, b: Tensor, flat: Tensor) -> Tensor:
    # Scaled to at most 1 before squaring, so that maps of 1e-200 or 1e200 neither vanish nor overflow.
    a, b = (_centred(each) for each in (a, b))
    value = (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()
    return torch.where(flat, math.nan, value.clamp(-1, 1))


def _centred(rows: Tensor) -> Tensor:
    rows = rows - rows.mean(1, keepdim=True)
    scale = rows.abs().amax(1, keepdim=True)
    return rows / torch.where(scale > 0, scale, 1)


@public
def top_members(maps: Tensor, fraction: float) -> Tensor:
    """Membership (N,H,W) in [0, 1] of each pixel in the highest `fraction` of its map; see `topk_iou` for ties."""
    k = max(1, round(fraction * maps[0].numel()))
    return _members(maps.flatten(1), k).view_as(maps)


@public
def topk_iou(a: Tensor, b: Tensor, fraction: float) -> Tensor:
    """Intersection over union of the highest `fraction` of the pixels of each map: (N,H,W) x 2 -> (N,) in [0, 1].

    k = max(1, round(fraction H W)) pixels, highest (signed) values first. Pixels tied at the k-th value share the
    places that are left, each a member by (places / tied pixels), and IoU = sum min / sum max of the memberships: no
    dependence on the order of pixels, and the usual IoU where nothing is tied. NaN where either map is constant. Raises
    `InputError` for a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise InputError(f"fraction is {fraction}; give a share of the pixels above 0 and up to 1.")
    k = max(1, round(fraction * a[0].numel()))
    one, two = (_members(each.flatten(1), k) for each in _pair(a, b))
    shared = torch.minimum(one, two).sum(1) / torch.maximum(one, two).sum(1)
    return torch.where(_no_order(a, b), math.nan, shared)


def _members(rows: Tensor, k: int) -> Tensor:
    """Membership (N,D) in [0, 1] of the k highest; every row sums to k."""
    kth = rows.topk(k, dim=1).values[:, -1:]
    above, tied = double(rows > kth), double(rows == kth)
    return above + tied * (k - above.sum(1, keepdim=True)) / tied.sum(1, keepdim=True)


@public
def ssim(a: Tensor, b: Tensor, data_range: float | Tensor, window: str = "gaussian") -> Tensor:
    """Mean structural similarity of each pair of maps: (N,H,W) x 2 -> (N,) in [-1, 1].

    (2 ma mb + C1)(2 cov + C2) / ((ma^2 + mb^2 + C1)(va + vb + C2)) in a sliding window, averaged over the windows that
    lie fully inside; C1 = (0.01 L)^2, C2 = (0.03 L)^2, L = data_range (one number, or one per image).

    window "gaussian": 11 x 11, sigma 1.5, population covariance, as in the paper (scikit-image with
    gaussian_weights=True, use_sample_covariance=False). "uniform": 7 x 7, sample covariance (scikit-image's default).
    Source: Wang et al., Image quality assessment: from error visibility to structural similarity, 2004.
    """
    a, b = _pair(a, b)
    kernel = _window(window).to(a.device)
    size = len(kernel)
    if min(a.shape[-2:]) < size:
        raise InputError(f"maps of {a.shape[1]} x {a.shape[2]} are smaller than the {size} x {size} window of ssim.")
    span = torch.as_tensor(data_range, dtype=torch.float64, device=a.device).reshape(-1, 1, 1)
    if not bool((span > 0).all()):
        raise InputError(f"data_range is {data_range}; give the span of the values, above 0.")
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    mean_a, mean_b, square_a, square_b, product = (_smooth(v, kernel) for v in (a, b, a * a, b * b, a * b))
    scale = size**2 / (size**2 - 1) if window == "uniform" else 1.0
    var_a, var_b = scale * (square_a - mean_a**2), scale * (square_b - mean_b**2)
    cov = scale * (product - mean_a * mean_b)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * cov + c2) / (var_a + var_b + c2)
    return (luminance * structure).mean((1, 2))


def _window(name: str) -> Tensor:
    """The separable window's weights along one axis, float64, sum 1."""
    if name == "uniform":
        return torch.full((7,), 1 / 7, dtype=torch.float64)
    if name == "gaussian":
        weights = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64) / 1.5) ** 2)
        return weights / weights.sum()
    raise InputError(f"window {name!r} is not known; use {' or '.join(WINDOWS)}.")


def _smooth(maps: Tensor, kernel: Tensor) -> Tensor:
    """Weighted mean in every full window: (N,H,W) -> (N,H-s+1,W-s+1)."""
    rows = F.conv2d(maps[:, None], kernel.view(1, 1, -1, 1))
    return F.conv2d(rows, kernel.view(1, 1, 1, -1))[:, 0]


@public
def centroid(maps: Tensor) -> Tensor:
    """Centre of mass of the positive part: (N,H,W) -> (N,2) as (row, column) in pixels, 0 at the first pixel's centre.

    Negative values (against the class) have no place in "where the network looks" and are left out. NaN for a map
    without positive values.
    """
    mass = _positive(maps)
    height, width = maps.shape[-2:]
    rows = torch.arange(height, dtype=mass.dtype, device=mass.device)
    columns = torch.arange(width, dtype=mass.dtype, device=mass.device)
    return torch.stack([(mass.sum(2) * rows).sum(1), (mass.sum(1) * columns).sum(1)], dim=1)


@public
def centroid_drift(a: Tensor, b: Tensor, unit: str = "diagonal") -> Tensor:
    """Distance between the centroids of two maps: (N,H,W) x 2 -> (N,).

    unit "diagonal": as a share of the longest distance there is, between the centres of opposite corner pixels,
    sqrt((H-1)^2 + (W-1)^2), so in [0, 1]. "pixels": in pixels.
    """
    if unit not in ("diagonal", "pixels"):
        raise InputError(f"unit {unit!r} is not known; use diagonal or pixels.")
    a, b = _pair(a, b)
    distance = (centroid(a) - centroid(b)).square().sum(1).sqrt()
    diagonal = math.hypot(a.shape[1] - 1, a.shape[2] - 1)
    return distance / max(diagonal, 1.0) if unit == "diagonal" else distance


@public
def energy_inside(maps: Tensor, mask: Tensor) -> Tensor:
    """Share of the positive mass inside `mask`: (N,H,W), mask bool or in [0, 1] (N,H,W), (1,H,W) or (H,W) -> (N,).

    sum(max(map, 0) * mask) / sum(max(map, 0)); NaN where a map has no positive value.
    Source: Wang et al., Score-CAM, CVPR 2020 (energy-based pointing game).
    """
    maps, mask = _pair(maps, mask if mask.dim() == 3 else mask[None])
    return (_positive(maps) * mask).sum((1, 2))


def _positive(maps: Tensor) -> Tensor:
    """The positive part, scaled to sum 1, in float64; NaN where there is none."""
    _check(maps)
    mass = double(maps).clamp(min=0)
    mass = mass / mass.amax((1, 2), keepdim=True)  # so that maps of 1e-200 or 1e200 neither vanish nor overflow
    return mass / mass.sum((1, 2), keepdim=True)


def _no_order(a: Tensor, b: Tensor) -> Tensor:
    """(N,) bool, where `_pair` puts them: one of the two maps, as they were given, is constant."""
    return (is_constant(a) | is_constant(b).to(a.device)).to(exact_device(a.device))


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 and of a's shape."""
    _check(a)
    _check(b)
    if b.shape[1:] != a.shape[1:] or b.shape[0] not in (1, a.shape[0]):
        raise InputError(f"maps of shape {tuple(a.shape)} and {tuple(b.shape)} do not compare; give equal shapes.")
    a = double(a)
    return a, double(b).to(a.device).expand(a.shape)


def _check(maps: Tensor) -> None:
    if maps.dim() != 3 or maps.numel() == 0:
        raise InputError(f"maps have shape {tuple(maps.shape)}; give (N, H, W).")
    if not bool(torch.isfinite(maps).all()):
        raise InputError("maps hold values that are not finite; leave out the maps that overflowed.")
