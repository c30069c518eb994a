"""Guided Grad-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xai.errors import LayerError
from xai.explain._cam import cam_coverage, maps_at, off_the_way
from xai.explain._gradient import class_score, joined, pixel_slope, slope, targets_of
from xai.explain._guided import GuidedMode, Switch, guided_coverage
from xai.explain.gradcam import combine
from xai.explain.spec import METHODS, MethodSpec
from xai.models.batching import in_batches
from xai.models.classifier import Classifier, InputModel, find_layer
from xai.models.hooks import capture
from xai.params import Parameters
from xai.registry import Source
from xai.types import Coverage, Explained, Run


@dataclass(frozen=True)
class GuidedGradCAM(Parameters):
    """R = guided backprop * up(ReLU(sum_k alpha_k A_k)): (N,3,H,W) times Grad-CAM at `layer`, upsampled bilinearly.

    One forward serves both: its graph gives the plain gradient down to the layer for Grad-CAM, then the guided
    gradient down to the pixels. extension: as for guided backprop. layer None is the network's default layer.
    """

    layer: str | None = None
    extension: bool = False

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """x (N,3,H,W) in [0, 1] -> values (N,3,H,W), signed; facts: Grad-CAM's lowest and highest before its ReLU."""
        path = self.layer or ""
        find_layer(module.net, path)
        chosen_for = targets_of(target, len(x))

        def work(start: int, stop: int) -> tuple[tuple[Tensor, ...], list[str]]:
            switch = Switch()
            found = self._explain(module, path, x[start:stop], chosen_for(start, stop), switch)
            return found, switch.plainly(stop - start)

        parts = [found for _, _, found in in_batches(work, len(x), run, "guided Grad-CAM")]
        values, logits, chosen, lowest, highest = joined([found for found, _ in parts])
        notes = [each for _, notes in parts for each in notes]
        return Explained(
            values, logits, chosen, {"lowest": lowest.tolist(), "highest": highest.tolist(), "note": notes}
        )

    def _explain(
        self, module: InputModel, path: str, x: Tensor, target: Tensor | None, switch: Switch
    ) -> tuple[Tensor, ...]:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            with capture(module.net, [path], grad=True) as kept, GuidedMode(extension=self.extension, switch=switch):
                logits = module(x)
            if path not in kept:
                raise LayerError(f"layer {path!r} does not run in this network's forward; choose another layer.")
            activation = kept[path]
            maps = maps_at(module, path, activation.detach())
            score, chosen = class_score(logits, target)
        switch.on = False
        plain = slope(score, activation, keep=True)
        if plain is None:
            raise off_the_way(path)
        switch.on = True
        guided = pixel_slope(score, x)
        with torch.no_grad():
            signed = combine(maps, maps_at(module, path, plain), score.detach())
            cam = F.interpolate(signed.clamp(min=0)[:, None], x.shape[-2:], mode="bilinear", align_corners=False)
            return guided * cam, logits.detach(), chosen, signed.amin((1, 2)), signed.amax((1, 2))


def coverage(classifier: Classifier, explainer: Any) -> Coverage:
    """What guided backprop reaches, and that the layer gives maps."""
    cam, guided = cam_coverage(classifier, explainer), guided_coverage(classifier, explainer)
    for each in (cam, guided):
        if each.status == "refused":
            return each
    return Coverage(guided.status, guided.what, guided.done, guided.total, (*guided.limits, *cam.limits))


def passes(classifier: Classifier, explainer: Any) -> int:
    """One forward (1), one backward (2), and a second backward through the part above the layer (at most 1 more)."""
    del classifier, explainer
    return 4


METHODS.add(
    MethodSpec(
        name="guided_gradcam",
        title="Guided Grad-CAM",
        family="gradient",
        rank=33,
        source=Source("Selvaraju et al., Grad-CAM, ICCV 2017", "https://arxiv.org/abs/1610.02391"),
        explainer=GuidedGradCAM,
        summary="Guided backprop's fine structure, kept where Grad-CAM says that the class is.",
        signed=True,
        coverage=coverage,
        passes=passes,
        caution=(
            "Only the Grad-CAM factor depends much on the class; the fine lines come from guided backprop, which "
            "hardly does (Adebayo et al., Sanity Checks for Saliency Maps, 2018)."
        ),
    )
)
