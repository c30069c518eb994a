"""What an attack file registers: a frozen dataclass of parameters that is itself the attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from xai.models.classifier import InputModel
from xai.registry import Registry, Source
from xai.types import Run

Loss = Literal["cross-entropy", "margin"]


@dataclass(frozen=True, eq=False)
class Moved:
    """What an attack found: images (N,3,H,W) in the ball and the box, their logits (N,K), and where it saw no slope.

    saturated (N,) bool: at some step the cross-entropy was saturated and the margin was climbed in its place; blind
    (N,) bool: at some step the gradient of the loss that was climbed was exactly zero, so that nothing moved. None: at
    no image.
    """

    images: Tensor
    logits: Tensor
    saturated: Tensor | None = None
    blind: Tensor | None = None


@runtime_checkable
class Attack(Protocol):
    """Pixels in, pixels out, inside the ball and the box.

    A frozen dataclass of parameters. `module` is leased; x (N,3,H,W) in [0, 1]; label (N,) the class to move away
    from (untargeted) or towards (targeted); epsilon (N,) in pixel units of [0, 1]; group (N,) int: samples of one group
    share their random start, so that one image at many epsilons starts in one direction.
    """

    @property
    def norm(self) -> str:
        """ "linf" or "l2"."""
        ...

    @property
    def targeted(self) -> bool:
        """Whether `label` is the class to reach."""
        ...

    def __call__(self, module: InputModel, x: Tensor, label: Tensor, epsilon: Tensor, group: Tensor, run: Run) -> Moved:
        """The attacked images of `x`."""
        ...


@dataclass(frozen=True)
class AttackSpec:
    """An attack by name.

    passes(params): cost for one image in forward passes (forward + backward count 3), the look at the PNG included.
    """

    name: str
    title: str
    rank: int
    source: Source
    params: Callable[..., Attack]
    summary: str
    passes: Callable[[Attack], int]

    @property
    def iterative(self) -> bool:
        """Whether steps, step size and restarts are parameters of it."""
        return "steps" in getattr(self.params, "__dataclass_fields__", {})


ATTACKS: Registry[AttackSpec] = Registry("attack", "xai.attacks")
