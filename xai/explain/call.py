"""`attribute`: checks the request, runs the explainer under the lease, wraps the result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from xai.errors import InputError, NotApplicableError
from xai.explain._spec import METHODS, Explainer, MethodSpec
from xai.models.classifier import Classifier
from xai.provenance import provenance
from xai.types import Attribution, Coverage, Explained, Run, class_indices


def list_methods() -> tuple[str, ...]:
    """Names of all methods, in the order in which pages and the terminal list them."""
    return METHODS.names()


def make_explainer(spec: MethodSpec, layer: str | None = None, **params: Any) -> Explainer:
    """The explainer of `spec` with its parameters; raises `InputError` for one that it does not have.

    A `layer` is ignored by methods that have none, so that one choice can serve a row of methods.
    """
    fields = getattr(spec.explainer, "__dataclass_fields__", {})
    unknown = [name for name in params if name not in fields]
    if unknown:
        names = ", ".join(fields) or "none"
        raise InputError(f"{spec.name} has no parameter {unknown[0]!r}; it has {names}.")
    if layer is not None and "layer" in fields:
        params["layer"] = layer
    return spec.explainer(**params)


def applicability(classifier: Classifier, method: str, layer: str | None = None, **params: Any) -> Coverage:
    """Does `method` apply to `classifier`: in full, with limits, or refused, with the reasons."""
    spec = METHODS.get(method)
    return spec.coverage(classifier, make_explainer(spec, layer, **params))


def attribute(
    classifier: Classifier,
    x: Tensor,
    method: str = "gradcam",
    targets: int | Sequence[int] | Tensor | None = None,
    layer: str | None = None,
    seed: int = 0,
    run: Run | None = None,
    **params: Any,
) -> Attribution:
    """Explain x (N,3,H,W) in [0, 1] by `method`; targets None explains the predicted class of each image.

    targets: one class for all images, or one an image. layer: a path for the methods that have one. params: the
    method's own parameters (see its dataclass). run: progress, cancel and seed; made from `seed` if not given.

    Raises `InputError` (bad x, target, parameter, layer), `NotApplicableError` (refused, with the reason), `Cancelled`.
    """
    spec = METHODS.get(method)
    explainer = make_explainer(spec, layer, **params)
    pixels = classifier.to_input(x)
    asked = None if targets is None else class_indices(targets)
    coverage = spec.coverage(classifier, explainer)
    _refuse(spec, classifier, coverage)
    run = dataclasses.replace(run or Run(seed=seed), device=classifier.device)
    if spec.uses_layer and getattr(explainer, "layer", None) is None:
        explainer = dataclasses.replace(explainer, layer=classifier.default_layer)  # type: ignore[type-var]
    start = time.perf_counter()
    with classifier.lease(run) as module, torch.enable_grad():  # the caller's `no_grad` is not ours
        found = explainer(module, pixels, asked, run)
    values = found.values.detach().float().cpu()
    seconds = time.perf_counter() - start
    return Attribution(
        method=method,
        values=values,
        logits=found.logits.detach().float().cpu(),
        target=found.target.detach().cpu(),
        input_size=(int(x.shape[-2]), int(x.shape[-1])),
        seconds=seconds,
        coverage=coverage,
        signed=bool(getattr(explainer, "signed", spec.signed)),
        from_lowest=spec.from_lowest,
        facts={**found.facts, "blank": [blank_reason(found, i) for i in range(len(values))]},
        provenance=provenance(classifier, "method", spec.name, explainer, run.seed),
    )


def check_applies(classifier: Classifier, method: str, layer: str | None = None) -> None:
    """Raise `NotApplicableError`, with the reason, where `attribute` would refuse the method."""
    _refuse(METHODS.get(method), classifier, applicability(classifier, method, layer))


def _refuse(spec: MethodSpec, classifier: Classifier, coverage: Coverage) -> None:
    if coverage.status == "refused":
        raise NotApplicableError(f"{spec.title} does not apply to {classifier.title}: {coverage.sentence}.")


def blank_reason(found: Explained, index: int) -> str:
    """ "" for a map that shows something; otherwise why it is blank."""
    value = found.values[index]
    if not bool(torch.isfinite(value).all()):
        return "The map holds values that are not finite: the gradient overflowed."
    if bool((value != 0).any()):
        return ""
    lowest = found.facts.get("lowest")
    if lowest is not None and lowest[index] < 0:
        return (
            "Blank because every contribution is negative: at this layer nothing speaks for this class "
            f"(before the ReLU the values run from {lowest[index]:.3g} to {found.facts['highest'][index]:.3g})."
        )
    return (
        "Blank because every value is exactly zero: the class score does not depend on this image here, or the image "
        "is as black as what the method compares it with."
    )
