"""`attribute`: checks the request, runs the explainer under the lease, wraps the result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from xai.errors import InputError, NotApplicableError
from xai.explain.spec import METHODS, Explainer, MethodSpec
from xai.models.census import POOLS, census
from xai.models.classifier import Classifier
from xai.models.provenance import provenance
from xai.public import public
from xai.stats.similarity import TIE, is_constant
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


@public
def applicability(classifier: Classifier, method: str, layer: str | None = None, **params: Any) -> Coverage:
    """Does `method` apply to `classifier`: in full, with limits, or refused, with the reasons."""
    spec = METHODS.get(method)
    return spec.coverage(classifier, make_explainer(spec, layer, **params))


@public
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
    values, blank = without_rounding(found, values, without_slope(classifier, spec))
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
        output=classifier.output,
        facts={
            **found.facts,
            "blank": blank,
            "note": undecided(classifier, spec, found, asked is None, pixels),
        },
        provenance=provenance(classifier, "method", spec.name, explainer, run.seed),
    )


FAINT = "Blank because no value stands out from rounding: hiding or weighing parts of this picture changes nothing."

LEVEL = "Blank because every place has the same value, but for rounding."


def without_slope(classifier: Classifier, spec: MethodSpec) -> str:
    """Why every gradient of this network is zero, where the method takes gradients; else ""."""
    if not spec.by_gradient or not census(classifier).blocked:
        return ""
    return (
        f"Blank because {census(classifier).no_slope} lies on every way from the pixels to the score, so that every "
        "gradient is zero; choose a method without gradients, such as rise or occlusion."
    )


def without_rounding(found: Explained, values: Tensor, why_zero: str = "") -> tuple[Tensor, list[str]]:
    """The maps (N,...), and why each is blank; those that hold nothing but rounding become zero, or one value.

    why_zero: the reason of a map of exact zeros, where it is known.
    """
    flat = values.flatten(1)
    size = flat.abs().amax(1)
    faint = torch.zeros(len(values), dtype=torch.bool) if found.floor is None else size <= found.floor.float().cpu()
    level = is_constant(flat[:, None]) & (flat.amax(1) > flat.amin(1)) & ~faint
    each = (-1, *[1] * (values.dim() - 1))
    values = torch.where(faint.view(each), 0.0, values)
    values = torch.where(level.view(each), flat.mean(1).view(each), values)
    reasons = [blank_reason(found, index, why_zero) for index in range(len(flat))]
    for index in range(len(flat)):
        if level[index] or (faint[index] and size[index] > 0):
            reasons[index] = LEVEL if level[index] else FAINT
    return values, reasons


FLAT = 4
"""Side of the squares, in pixels, that count as flat where all their values are one."""

FLAT_SHARE = 0.05
"""Share of the picture from which such squares are worth a word."""


def undecided(classifier: Classifier, spec: MethodSpec, found: Explained, predicted: bool, pixels: Tensor) -> list[str]:
    """For each image what rounding decides in its map, after what the method itself says; "" where nothing.

    predicted: the target is the class with the largest logit, not one that was asked for.
    """
    notes = [[each] for each in found.facts.get("note", [""] * len(pixels))]
    if predicted and spec.per_class and found.logits.shape[1] > 1:
        best = found.logits.detach().cpu().double().topk(2, dim=1)
        for note, (first, second), (one, other) in zip(notes, best.values.tolist(), best.indices.tolist(), strict=True):
            if first - second <= TIE * max(abs(first), abs(second)):
                names = " and ".join(classifier.labels[index] for index in sorted((one, other)))
                note.append(f"Undecided: {names} have the same score, so rounding chose which of them is explained.")
    if spec.family in ("gradient", "relevance") and census(classifier).count(*POOLS):
        tiles = pixels.unfold(2, FLAT, FLAT).unfold(3, FLAT, FLAT).flatten(4)  # (N,3,h,w,FLAT^2)
        flat = ((tiles.amax(-1) - tiles.amin(-1)) <= TIE).all(1).flatten(1).float().mean(1)
        for note, share in zip(notes, flat.tolist(), strict=True):
            if share > FLAT_SHARE:
                note.append(
                    f"Undecided: the finest detail in the {100 * share:.0f} % of the picture that has one flat colour; "
                    "there max pooling has ties, and rounding chooses the pixel."
                )
    return [" ".join(filter(None, each)) for each in notes]


def check_applies(classifier: Classifier, method: str, layer: str | None = None) -> None:
    """Raise `NotApplicableError`, with the reason, where `attribute` would refuse the method."""
    _refuse(METHODS.get(method), classifier, applicability(classifier, method, layer))


def _refuse(spec: MethodSpec, classifier: Classifier, coverage: Coverage) -> None:
    if coverage.status == "refused":
        raise NotApplicableError(f"{spec.title} does not apply to {classifier.title}: {coverage.sentence}.")


def blank_reason(found: Explained, index: int, why_zero: str = "") -> str:
    """ "" for a map that shows something; otherwise why it is blank, `why_zero` where that is known for zeros."""
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
    return why_zero or (
        "Blank because every value is exactly zero: the class score does not depend on this image here, or the image "
        "is as black as what the method compares it with."
    )
