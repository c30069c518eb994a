"""SmoothGrad."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from xai.explain._gradient import logits_of, part_of, targets_of, weighted_gradients
from xai.explain.spec import METHODS, MethodSpec
from xai.models.classifier import Classifier, InputModel
from xai.params import Parameters
from xai.registry import Source
from xai.types import Explained, Run, resolve_target

MAX_SAMPLES = 1000
MAX_NOISE = 1.0


@dataclass(frozen=True)
class SmoothGrad(Parameters):
    """M = 1/n sum_k dy_c/dx at x + noise_k, noise_k normal with sigma = `noise` * (max x - min x) of each image.

    samples: n. Noisy pixels are not clamped, so that their mean stays x. All images of a batch share the drawn noise
    (scaled to each), so an image's map does not depend on the others. magnitude: False gives the signed mean gradient
    (N,3,H,W), the formula of the paper; True gives max over colours of |M|, (N,H,W), as the paper's figures show it.
    """

    samples: int = field(default=16, metadata={"min": 1, "max": MAX_SAMPLES})
    noise: float = field(default=0.15, metadata={"min": 0.0, "max": MAX_NOISE})
    magnitude: bool = False

    @property
    def signed(self) -> bool:
        """Whether negative values mean "against the class"."""
        return not self.magnitude

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,3,H,W) signed, or (N,H,W) not negative with `magnitude`."""
        count = len(x)
        asked = targets_of(target, count)(0, count)
        total = count * (self.samples + 1)
        logits = logits_of(module, x, part_of(run, 0, total), "SmoothGrad: prediction")
        chosen = resolve_target(logits, asked)
        sigma = self.noise * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))

        def noisy(sample: int, images: slice) -> Tensor:
            drawn = torch.randn(x.shape[1:], generator=run.generator("smoothgrad", sample)).to(x)
            return torch.addcmul(x[images], sigma[images], drawn)

        weights = [1 / self.samples] * self.samples
        gradient = weighted_gradients(module, noisy, weights, chosen, part_of(run, count, total), "SmoothGrad")
        return Explained(gradient.abs().amax(1) if self.magnitude else gradient, logits, chosen)


def passes(classifier: Classifier, explainer: Any) -> int:
    """Forward and backward a sample (3), and a forward for the prediction."""
    del classifier
    return 3 * int(explainer.samples) + 1


METHODS.add(
    MethodSpec(
        name="smoothgrad",
        title="SmoothGrad",
        family="gradient",
        rank=36,
        source=Source(
            "Smilkov et al., SmoothGrad: removing noise by adding noise, 2017", "https://arxiv.org/abs/1706.03825"
        ),
        explainer=SmoothGrad,
        summary="The gradient averaged over noisy copies of the image, which takes out its flicker.",
        signed=True,
        passes=passes,
    )
)
