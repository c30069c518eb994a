"""What a method file registers: a frozen dataclass of parameters that is itself the explainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from xai.models.classifier import Classifier, InputModel
from xai.registry import Registry, Source
from xai.types import Coverage, Explained, Run

CELL = "logits a cell of the layer"
PIXEL = "logits a pixel"
"""Units of `MethodSpec.unit` that several methods have."""

FAMILIES = ("cam", "gradient", "relevance", "perturbation", "attention", "baseline")


@runtime_checkable
class Explainer(Protocol):
    """Pixels in, signed relevance out.

    A frozen dataclass whose fields are the method's parameters: they feed the widget, the command-line option, the
    cache key and the manifest. `module` is leased; x (N,3,H,W) in [0, 1] on the module's device; target (N,) int64, or
    None for the predicted class of the same forward pass (use `resolve_target`).
    """

    def __call__(self, module: InputModel, x: Tensor, target: Tensor | None, run: Run) -> Explained:
        """The map of `x`."""
        ...


def full(classifier: Classifier, explainer: Any) -> Coverage:
    """Coverage of a method that applies to every network."""
    del classifier, explainer
    return Coverage("full")


def one_pass(classifier: Classifier, explainer: Any) -> int:
    """Cost of a method that is about one forward pass an image."""
    del classifier, explainer
    return 1


@dataclass(frozen=True)
class MethodSpec:
    """A method by name.

    explainer: the parameter dataclass. signed: whether negative values mean "against the class" (an explainer
    whose parameters decide that has a property `signed` of its own). per_class: whether
    the map depends on the class in theory. coverage(classifier, explainer): how far it applies; status "refused" with
    the reason in `limits` where it does not. passes(classifier, explainer): cost for one image in forward passes (a
    backward counts two). caution: a warning that belongs beside every map of this method.
    unit: what a value is in, where other methods' values are in the same ("logits a pixel"); "" for one of its own.
    from_lowest: values lie around a level that says nothing, so pictures start at the lowest value instead of zero.
    by_gradient: False for methods that take no gradient.
    """

    name: str
    title: str
    family: str
    rank: int
    source: Source
    explainer: Callable[..., Explainer]
    summary: str
    signed: bool = False
    per_class: bool = True
    coverage: Callable[[Classifier, Any], Coverage] = full
    passes: Callable[[Classifier, Any], int] = one_pass
    caution: str = ""
    from_lowest: bool = False
    by_gradient: bool = True
    unit: str = ""

    @property
    def scale_unit(self) -> str:
        """What its maps are measured in; maps in one unit can share a scale."""
        return self.unit or self.name

    @property
    def uses_layer(self) -> bool:
        """True for methods that explain at a layer of one's choice."""
        return "layer" in getattr(self.explainer, "__dataclass_fields__", {})


METHODS: Registry[MethodSpec] = Registry("method", "xai.explain")
