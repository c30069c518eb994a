"""Distances between two sets of feature vectors: KID, FID, precision and recall, density and coverage.

Pure functions in float64 on features (N,D); who extracted the features is told by the caller beside every figure.

torchmetrics has KID and FID, and is what they are tested against, but not what computes them: its KID is a mean over
subsets alone, here the estimate on all images is wanted too; its FID takes the roots of the eigenvalues of a product of
covariances, which few images leave singular; precision, recall, density and coverage it does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xai.errors import InputError

SUBSETS = 100
"""Subsets over which KID's spread is measured."""

NEIGHBOURS = 5
"""k of precision, recall, density and coverage."""


@dataclass(frozen=True)
class Kid:
    """KID x 1000: the unbiased estimate on all images, and the standard deviation over subsets of `size`.

    value can be below 0, where the two sets are as alike as two draws of one. spread: None where no two subsets differ,
    since each holds all images, or all are alike.
    """

    value: float
    spread: float | None
    size: int
    subsets: int


@dataclass(frozen=True)
class Manifold:
    """precision: share of generated images within reach of real ones; recall: of real within reach of generated ones.

    density: how many real balls hold a generated image, over k; can exceed 1. coverage: share of real images that have
    a generated one within their reach. k: of the k-nearest-neighbour radius.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    k: int


def kid_estimate(generated: Tensor, real: Tensor) -> float:
    """KID x 1000 of features (N,D) and (M,D): the unbiased squared MMD with k(a, b) = (a.b / D + 1)^3.

    Source: Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401. Raises `InputError` for fewer than 2 in either.
    """
    a, b = _checked(generated, real)
    inner_a, inner_b = _kernel(a, a), _kernel(b, b)
    n, m = len(a), len(b)
    within = (inner_a.sum() - inner_a.trace()) / (n * (n - 1)) + (inner_b.sum() - inner_b.trace()) / (m * (m - 1))
    return 1000 * float(within - 2 * _kernel(a, b).mean())


def kid(generated: Tensor, real: Tensor, seed: int = 0, subsets: int = SUBSETS) -> Kid:
    """KID with its spread over `subsets` pairs of subsets, each of half the smaller set, drawn by `seed`."""
    a, b = _checked(generated, real)
    size = max(2, min(len(a), len(b)) // 2)
    if subsets < 2 or not (_differs(a, size) or _differs(b, size)):
        return Kid(kid_estimate(a, b), None, size, subsets)
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        mine = torch.randperm(len(a), generator=generator)[:size]
        theirs = torch.randperm(len(b), generator=generator)[:size]
        values.append(kid_estimate(a[mine], b[theirs]))
    return Kid(kid_estimate(a, b), float(torch.tensor(values, dtype=torch.float64).std()), size, subsets)


def _differs(x: Tensor, size: int) -> bool:
    """Whether two subsets of `size` rows of x can differ."""
    return len(x) > size and bool((x != x[:1]).any())


def frechet(generated: Tensor, real: Tensor) -> float:
    """Frechet distance of two Gaussians: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    The trace of the root is the sum of singular values of A B^T / sqrt((n-1)(m-1)), with A and B the centred features:
    exact however few images there are, and no root of a singular matrix. It is biased upwards on few images, so that
    values of different n do not compare. Source: Heusel et al. 2017, https://arxiv.org/abs/1706.08500.
    """
    a, b = _checked(generated, real)
    means = (a.mean(0) - b.mean(0)).square().sum()
    a, b = a - a.mean(0), b - b.mean(0)
    n, m = len(a) - 1, len(b) - 1
    root = torch.linalg.svdvals(a @ b.T).sum() / (n * m) ** 0.5
    return float(means + a.square().sum() / n + b.square().sum() / m - 2 * root)


def manifold(generated: Tensor, real: Tensor, k: int = NEIGHBOURS) -> Manifold:
    """Precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) of features.

    An image reaches as far as its k-th nearest neighbour in its own set. Sources: https://arxiv.org/abs/1904.06991,
    https://arxiv.org/abs/2002.09797. Raises `InputError` where a set has k images or fewer.
    """
    a, b = _checked(generated, real)
    if min(len(a), len(b)) <= k:
        raise InputError(f"there are {len(a)} generated and {len(b)} real images; give more than {k} of each.")
    reach_a, reach_b = _reach(a, k), _reach(b, k)
    between = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")  # (N generated, M real)
    in_real = between <= reach_b[None]
    return Manifold(
        precision=float(in_real.any(1).double().mean()),
        recall=float((between <= reach_a[:, None]).any(0).double().mean()),
        density=float(in_real.double().sum(1).mean() / k),
        coverage=float(in_real.any(0).double().mean()),
        k=k,
    )


def nearest(x: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of x (N,D) the distance to the nearest of `others` (M,D), and which it is."""
    a, b = _checked(x, others, least=1)
    distances, places = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    return distances, places


def _reach(x: Tensor, k: int) -> Tensor:
    """Distance of each row to its k-th nearest neighbour among the others."""
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.kthvalue(k + 1, dim=1).values  # the nearest is the row itself


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _checked(a: Tensor, b: Tensor, least: int = 2) -> tuple[Tensor, Tensor]:
    for name, each in (("generated", a), ("real", b)):
        if each.dim() != 2 or len(each) < least:
            raise InputError(
                f"the {name} features have shape {tuple(each.shape)}; give (images, features), {least} or more."
            )
        if not bool(torch.isfinite(each).all()):
            raise InputError(f"the {name} features hold values that are not finite; are the images?")
    if a.shape[1] != b.shape[1]:
        raise InputError(
            f"the features have {a.shape[1]} and {b.shape[1]} numbers an image; use one extractor for both."
        )
    return a.detach().cpu().double(), b.detach().cpu().double()
