"""How good are the samples? Every figure beside what real images and noise get, and with the name of its extractor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from xai.errors import InputError
from xai.gan.features import Extractor
from xai.gan.images import Shares
from xai.gan.quality import Kid, Manifold, frechet, kid, manifold, nearest
from xai.gan.watch import intra_class_distance, real_distance
from xai.stats.similarity import ranks
from xai.types import Run

MOST = 1000
"""Images of a set that are compared; more do not fit memory as all pairs, nor do they change the figures much."""


@dataclass(frozen=True)
class Distances:
    """One set of images against the held-out real ones, in one extractor's features."""

    kid: Kid
    fid: float
    manifold: Manifold
    n: int
    n_real: int


@dataclass(frozen=True)
class Copying:
    """Are samples nearer to the training images than fresh real images are?

    ratio: median distance of samples to their nearest training image, over that of held-out images; near 0 where
    samples are copies, about 1 where they are as far as new photographs. p: one-sided Mann-Whitney test that samples
    lie nearer; small means copying. Source: Meehan et al. 2020, https://arxiv.org/abs/2004.05675.
    """

    ratio: float
    samples: float
    held_out: float
    p: float
    n: int
    n_held_out: int
    measure: str

    @property
    def sentence(self) -> str:
        """What the figures say."""
        told = "nearer" if self.p < 0.05 and self.ratio < 1 else "no nearer"
        figures = f"ratio {self.ratio:.2f}, p = {self.p:.2g}"
        return f"samples lie {told} to the training images than held-out images do ({figures})"


def distances(images: Tensor, real: Tensor, seed: int = 0) -> Distances:
    """Features (N,D) of images against features (M,D) of real ones; of more than `MOST` so many, drawn by `seed`."""
    a, b = (_drawn(each, seed) for each in (images, real))
    return Distances(kid(a, b, seed), frechet(a, b), manifold(a, b), len(a), len(b))


def _drawn(features: Tensor, seed: int) -> Tensor:
    """At most `MOST` rows, in their order: the first ones of a data set would be those of its first classes."""
    order = torch.randperm(len(features), generator=Run(seed=seed).generator("judge", "drawn", len(features)))
    return features[order[:MOST].sort().values]


def copying(samples: Tensor, train: Tensor, held_out: Tensor, measure: str) -> Copying:
    """Nearest-neighbour distances to train (T,D) of samples (N,D) against those of held-out images (M,D)."""
    to_train, fresh = nearest(samples, train)[0], nearest(held_out, train)[0]
    p = nearer(to_train, fresh)
    middle, other = float(to_train.median()), float(fresh.median())
    if other == 0:
        raise InputError("held-out images equal training images; give data without doubles.")
    return Copying(middle / other, middle, other, p, len(samples), len(held_out), measure)


def nearer(a: Tensor, b: Tensor) -> float:
    """One-sided p of the Mann-Whitney test that values a (n,) tend to be smaller than b (m,): normal approximation with
    tie and continuity correction. Source: Mann & Whitney 1947. NaN where all values are equal.
    """
    n, m = len(a), len(b)
    together = torch.cat([a, b]).double()
    above = n * m + n * (n + 1) / 2 - float(ranks(together[None])[0][:n].sum())  # pairs in which b is the larger one
    counts = torch.unique(together, return_counts=True)[1].double()
    total = n + m
    tied = float((counts**3 - counts).sum()) / (total * (total - 1))
    variance = n * m / 12 * (total + 1 - tied)
    if variance <= 0:
        return math.nan
    z = (above - n * m / 2 - 0.5) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2)) / 2


@dataclass(frozen=True)
class Quality:
    """The whole judgement of one generator by one extractor.

    reference: real training images against held-out ones, noise: uniform noise against them; between these two a figure
    means something. pixel_ratio, feature_ratio: mean distance of two samples of a class over that of two real images,
    both over the classes that have two samples and two real images (of a very rare class few samples may have none).
    agreement: share of samples that the named classifier, trained on real images, gives the class they were asked for.
    """

    extractor: str
    extractor_sentence: str
    samples: Distances
    reference: Distances
    noise: Distances
    copying: Copying
    pixel_ratio: float
    feature_ratio: float
    by_class: Mapping[str, float]
    agreement: Mapping[str, Any] | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Samples, reference and noise as a table's rows."""
        found = []
        for name, each in (("samples", self.samples), ("real against real", self.reference), ("noise", self.noise)):
            m = each.manifold
            found.append(
                {
                    "images": name,
                    f"KID-{self.extractor} x 1000": each.kid.value,
                    "+-": each.kid.spread,
                    f"FID-{self.extractor}": each.fid,
                    "precision": m.precision,
                    "recall": m.recall,
                    "density": m.density,
                    "coverage": m.coverage,
                    "n": each.n,
                }
            )
        return found

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {**asdict(self), "copying_sentence": self.copying.sentence}


def judge(
    images: Tensor,
    labels: Tensor,
    shares: Shares,
    extractor: Extractor,
    run: Run | None = None,
    agreement: Mapping[str, Any] | None = None,
) -> Quality:
    """Samples (N,3,S,S) in [0, 1] with labels (N,) against the shares of the data that the generator was made from.

    The reference draws as many training images as there are samples, so that biased figures (FID) compare.
    """
    run = run or Run()
    train, held = shares.train, shares.held_out
    order = torch.randperm(len(train.images), generator=run.generator("judge", "reference"))
    noise = torch.rand(images.shape, generator=run.generator("judge", "noise"))
    of_samples, of_noise = extractor(images, run), extractor(noise, run)
    of_train, of_held = extractor(train.images, run), extractor(held.images, run)
    top = intra_class_distance(of_samples, labels, train.labels)
    bottom = intra_class_distance(of_train, train.labels, labels)
    return Quality(
        extractor.name,
        extractor.sentence,
        distances(of_samples, of_held, run.seed),
        distances(of_train[order[: len(images)]], of_held, run.seed),
        distances(of_noise, of_held, run.seed),
        copying(of_samples, of_train, of_held, f"Euclidean distance of {extractor.name} features"),
        intra_class_distance(images, labels, train.labels) / real_distance(train.images, train.labels, labels),
        top / bottom,
        _by_class(images, labels, shares),
        agreement,
    )


def _by_class(images: Tensor, labels: Tensor, shares: Shares) -> dict[str, float]:
    """Pixel distance ratio of each class that has two samples and two real images that differ."""
    train = shares.train
    found = {}
    for index, name in enumerate(train.classes or ("all",)):
        mine, theirs = labels == index, train.labels == index
        if int(mine.sum()) > 1 and int(theirs.sum()) > 1:
            real = intra_class_distance(train.images[theirs], train.labels[theirs])
            if real > 0:
                found[name] = intra_class_distance(images[mine], labels[mine]) / real
    return found
