"""All steps of all images and maps in full batches on the device, masks made there from ranks."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from xai.models.batching import in_batches
from xai.models.classifier import Classifier
from xai.stats.similarity import is_constant
from xai.types import Run, pixel_digest

BATCH = {"cpu": 8}
"""Images a forward pass where it is not the usual number. On one CPU core EfficientNet-Lite0 takes 26 ms an image at 8
and 35 ms at 16, whose activations no longer fit the cache; ResNet50 takes the same at both."""


TIES = "seeded random order"
"""Protocol's word for how pixels of equal relevance are ordered."""


def shuffles(x: Tensor, seed: int = 0) -> Tensor:
    """The order in which tied pixels of each image are taken: x (N,3,H,W) -> (N,H*W) int64 on the CPU.

    A random permutation that depends on the seed and the image's pixels alone: it is the same on every device, in every
    batch and for every map of the image.
    """
    run, pixels = Run(seed=seed), x.shape[-2] * x.shape[-1]
    return torch.stack([torch.randperm(pixels, generator=run.generator("ties", pixel_digest(image))) for image in x])


def rank_pixels(maps: Tensor, shuffle: Tensor) -> Tensor:
    """Place of each pixel when pixels are sorted by relevance, highest first: (...,N,H,W) -> (...,N,H*W) int32.

    shuffle (N,H*W), see `shuffles`: pixels of equal relevance are taken in its order. By position they would be taken
    from the top of the picture down, and most of a rectified map is one tie.
    """
    flat = maps.flatten(-2)
    shuffle = shuffle.to(flat.device).expand(flat.shape)
    drawn = flat.gather(-1, shuffle).sort(dim=-1, descending=True, stable=True).indices
    order = shuffle.gather(-1, drawn)
    places = torch.arange(flat.shape[-1], device=flat.device, dtype=torch.int32).expand(flat.shape)
    return torch.empty_like(places.contiguous()).scatter_(-1, order, places)


def without_order(maps: Tensor, values: Tensor) -> Tensor:
    """values (...,N) or (...,N,S) with NaN for the maps (...,N,H,W) that put no pixel before another."""
    flat = is_constant(maps).to(values.device)
    return torch.where(flat[..., None] if values.dim() > flat.dim() else flat, math.nan, values)


@dataclass(frozen=True, eq=False)
class Mixer:
    """Makes the perturbed pictures: pixels ranked below a count come from one picture, the others from a second.

    pictures (P,N,H,W,C): the images and what stands for missing pixels, channels last. ranks (M,N,H*W) int32, one row
    a map. pairs (Q,2): for each metric, the picture of the ranked pixels and that of the rest. counts (S,) int32.
    """

    pictures: Tensor
    ranks: Tensor
    pairs: Tensor
    counts: Tensor

    def mix(self, metric: Tensor, map_: Tensor, image: Tensor, step: Tensor) -> Tensor:
        """The pictures (B,C,H,W), channels last in memory, for index vectors (B,) of each kind."""
        _, _, height, width, _ = self.pictures.shape
        first = self.ranks[map_, image] < self.counts[step][:, None]  # (B,H*W)
        front, back = self.pairs[metric].unbind(1)
        mixed = torch.where(first.view(-1, height, width, 1), self.pictures[front, image], self.pictures[back, image])
        return mixed.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Asker:
    """Asks a classifier for the probability of one class an image: full batches, lease by lease, nothing kept.

    precision "bf16" runs the network under autocast; probabilities are always at least float32.
    """

    classifier: Classifier
    precision: str = "float32"
    batch: int | None = None

    @property
    def size(self) -> int | None:
        """Images a forward pass; None is the device's usual number."""
        return self.batch or BATCH.get(self.classifier.device.type)

    def logits(self, x: Tensor, run: Run) -> Tensor:
        """x (B,3,H,W) -> (B,K), at least float32, on the device."""
        device = self.classifier.device.type
        low = self.precision == "bf16"
        # A lease a batch: other people's requests to the same network come in between.
        with (
            self.classifier.lease(run) as module,
            torch.no_grad(),
            torch.autocast(device, dtype=torch.bfloat16, enabled=low),
        ):
            logits: Tensor = module(x)
        return logits if logits.dtype == torch.float64 else logits.float()

    def all_logits(self, x: Tensor, run: Run, note: str = "") -> Tensor:
        """x (N,3,H,W) -> (N,K), in batches."""
        parts = in_batches(lambda start, stop: self.logits(x[start:stop], run), len(x), run, note, self.size)
        return torch.cat([part for _, _, part in parts])

    def interior(self, mixer: Mixer, target: Tensor, run: Run, note: str = "") -> Tensor:
        """Probability (Q,M,N,S-2) of `target` (N,) at every position but the first and last."""
        shape = (len(mixer.pairs), *mixer.ranks.shape[:2], len(mixer.counts) - 2)
        total = shape[0] * shape[1] * shape[2] * shape[3]
        device = mixer.ranks.device

        def work(start: int, stop: int) -> Tensor:
            jobs = torch.arange(start, stop, device=device)
            metric, map_, image, step = torch.unravel_index(jobs, shape)
            logits = self.logits(mixer.mix(metric, map_, image, step + 1), run)
            return self.chosen(logits, target[image])

        parts = [part for _, _, part in in_batches(work, total, run, note, self.size)]
        return torch.cat(parts).view(shape) if parts else torch.empty(shape, device=device)

    def chosen(self, logits: Tensor, target: Tensor) -> Tensor:
        """Probability of one class a row: (B,K), (B,) -> (B,)."""
        return self.classifier.output.probability(logits, target)


def within(run: Run, done: int, total: int | None = None) -> Run:
    """`run` for a part of larger work: what the part reports counts from `done`, out of `total` (None: as it says)."""

    def report(part: int, of: int, note: str) -> None:
        run.on_progress(done + part, of if total is None else total, note)

    return dataclasses.replace(run, on_progress=report)
