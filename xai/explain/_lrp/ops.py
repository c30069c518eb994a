"""What a recorded forward consists of, and the way of the relevance back through it.

A `Value` stands for one activation, an `Op` for one operation with the tensors its rule needs. `Tape.finish` merges
batch norms, finds what relevance reaches, and refuses where no rule is known there; `Tape.relevance` walks back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from xai.errors import NotApplicableError
from xai.explain._lrp.rules import (
    Dense,
    Geometry,
    Ledger,
    epsilon_rule,
    flat_rule,
    gamma_rule,
    norm_scale,
    positive_rule,
    shift_rule,
    signs,
    total,
)
from xai.explain._lrp.weights import Norm, Weights, WeightStore


class NoRuleError(NotApplicableError):
    """LRP does not apply to a network; `reason` is a clause without its full stop."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"LRP does not apply to this network: {reason}; choose another method.")
        self.reason = reason


FLAT, BOX, EPSILON, ZPLUS, GAMMA = "flat", "box", "epsilon", "z-plus", "gamma"
NEEDS_OUTPUT = (EPSILON, GAMMA)


@dataclass(frozen=True)
class Composite:
    """Which rule serves where: layers that see pixels, other convolutions, fully connected layers."""

    first: str
    conv: str
    dense: str


@dataclass(frozen=True)
class Rules:
    """A composite with its numbers, and the merged weights of the network it is applied to."""

    composite: Composite
    epsilon: float
    gamma: float
    store: WeightStore

    def rule_for(self, geometry: Geometry, first: bool) -> str:
        """The rule of a linear layer."""
        if first:
            return self.composite.first
        return self.composite.dense if isinstance(geometry, Dense) else self.composite.conv


@dataclass(eq=False)
class Value:
    """An activation: who made it and who uses it.

    signed: may be negative. gate: comes out of a sigmoid. bounds: for what depends on pixels by an affine map of each
    alone, what the pixel values 0 and 1 become, low and high, shaped as it; None behind the first layer.
    """

    maker: Op | None = None
    signed: bool = True
    gate: bool = False
    bounds: tuple[Tensor, Tensor] | None = None
    users: list[Op] = field(default_factory=list)
    relevance: Tensor | None = None

    def receive(self, relevance: Tensor) -> None:
        """Add what one user hands down."""
        self.relevance = relevance if self.relevance is None else self.relevance + relevance

    @property
    def clipped(self) -> bool:
        """True where a rectifier is the only user, so that nothing below zero has relevance."""
        return len(self.users) == 1 and isinstance(self.users[0], Pass) and self.users[0].kind in ("relu", "relu6")


@dataclass(eq=False)
class Op(ABC):
    """One operation. `down` turns the relevance of its output into that of its inputs."""

    inputs: tuple[Value, ...]
    output: Value = field(init=False, default_factory=Value)

    @abstractmethod
    def down(self, relevance: Tensor, rules: Rules, ledger: Ledger) -> Sequence[Tensor]:
        """Relevance of the output -> relevance of each of the inputs."""


@dataclass(eq=False)
class Linear(Op):
    """Convolution or fully connected layer, with the batch norm behind it once that is merged.

    x: its input. z: its output behind the batch norm, kept only where the rule asks for it, made again if it was not.
    """

    geometry: Geometry
    rule: str
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    z: Tensor | None
    norm: Norm | None = None

    def down(self, relevance: Tensor, rules: Rules, ledger: Ledger) -> Sequence[Tensor]:
        """By the layer's rule."""
        source, at, x = self.inputs[0], self.geometry, self.x
        w = rules.store.get(self.weight, self.bias, self.norm)
        if self.rule == FLAT and source.bounds is not None:
            low, high = source.bounds
            return (flat_rule(at, (high > low).to(relevance.dtype), w, relevance, ledger),)
        if self.rule == BOX and source.bounds is not None:
            low, high = source.bounds
            return (positive_rule(at, x - low, x - high, w, None, relevance, ledger),)
        if self.rule == ZPLUS:
            positive = None if w.bias is None else w.bias.clamp(min=0)
            return (positive_rule(at, *signs(x, source.signed), w, positive, relevance, ledger),)
        z = at.output(x, w) if self.z is None else self.z
        if self.rule == EPSILON:
            return (epsilon_rule(at, x, z, w, relevance, rules.epsilon, ledger),)
        clipped = self.output.clipped
        return (gamma_rule(at, x, z, w, relevance, rules.gamma, ledger, signed=source.signed, clipped=clipped),)


@dataclass(eq=False)
class Shift(Op):
    """y = u + t: a constant t was added. A batch norm that cannot be merged leftwards is the same, per channel."""

    out: Tensor
    constant: Tensor

    def down(self, relevance: Tensor, rules: Rules, ledger: Ledger) -> Sequence[Tensor]:
        """By the shift rule."""
        return (shift_rule(self.out, self.constant, relevance, ledger, clipped=self.output.clipped),)


@dataclass(eq=False)
class BatchNorm(Op):
    """A batch norm; merged into the linear layer in front of it where it is that layer's only user.

    Elsewhere (DenseNet's stand in front of ReLU and convolution, behind a concatenation) it is y = u + t per channel,
    u = scale x. A rectifier keeps it from merging rightwards. The shift rule gives the constant t at most all of the
    relevance and never a negative share. On DenseNet121 with statistics from photographs the alternatives are worse:
    passing all of it on lets sum |R| grow to 15 times the score under epsilon-gamma-box, and out of float32's range
    under epsilon; u / (u + t), which may be far above 1, turns the sign of sum(R).
    """

    norm: Norm
    out: Tensor | None

    def down(self, relevance: Tensor, rules: Rules, ledger: Ledger) -> Sequence[Tensor]:
        """By the shift rule, with a constant a channel."""
        constant = self.norm.affine()[1]
        constant = constant.view(-1, *[1] * (relevance.dim() - 2))
        maker, out = self.inputs[0].maker, self.out
        if out is None and isinstance(maker, Linear):
            out = maker.geometry.output(maker.x, Weights.of(maker.weight, maker.bias, self.norm))
        assert out is not None  # only a norm behind a linear layer goes without
        return (shift_rule(out, constant, relevance, ledger, clipped=self.output.clipped),)

    def linear_before(self) -> Linear | None:
        """The layer that it can be merged into, as far as is known by now."""
        maker, users = self.inputs[0].maker, self.inputs[0].users
        if not isinstance(maker, Linear) or maker.norm is not None or users not in ([], [self]):
            return None
        return None if isinstance(maker.geometry, Dense) and maker.x.dim() != 2 else maker

    def keep(self, out: Tensor) -> None:
        """Keep the output only where it will be asked for: most norms will be merged, and then nobody asks."""
        linear = self.linear_before()
        if linear is not None:
            linear.z = None
        self.out = out if linear is None or linear.rule in NEEDS_OUTPUT else None


@dataclass(eq=False)
class Pass(Op):
    """Relevance passes unchanged: an activation with f(0) = 0, a factor that is held constant, normalised pixels.

    held: the factor, where it depends on the pixels (a gate); it gets no relevance.
    """

    kind: str
    held: tuple[Value, ...] = ()

    def down(self, relevance: Tensor, rules: Rules, ledger: Ledger) -> Sequence[Tensor]:
        """Unchanged."""
        return (relevance,)


@dataclass(eq=False)
class Route(Op):
    """Every output is one of the inputs: reshaping, slicing, concatenation, padding, max pooling (winner takes all).

    leaves, out: the inputs, and the output of a piece of graph over them alone. constants: it also holds values that
    do not depend on the image.
    """

    kind: str
    leaves: tuple[Tensor, ...]
    out: Tensor
    constants: bool = False

    def down(self, relevance: Tensor, rules: Rules, ledger: Ledger) -> Sequence[Tensor]:
        """To where each output came from; what falls on constants counts as absorbed by biases."""
        shared = torch.autograd.grad(self.out, self.leaves, relevance)
        if self.constants:
            ledger.book(total(relevance) - sum(total(part) for part in shared), None)
        return shared


@dataclass(eq=False)
class Share(Op):
    """A sum or an average: relevance in proportion to the contributions."""

    kind: str
    leaves: tuple[Tensor, ...]
    out: Tensor

    def down(self, relevance: Tensor, rules: Rules, ledger: Ledger) -> Sequence[Tensor]:
        """By the norm rule."""
        scaled = norm_scale(self.out.detach(), relevance, ledger)
        parts = torch.autograd.grad(self.out, self.leaves, scaled)
        return tuple(part * leaf.detach() for part, leaf in zip(parts, self.leaves, strict=True))


@dataclass(eq=False)
class Unknown(Op):
    """An operation without a rule; harmless as long as no relevance arrives (inside a gate that is held constant)."""

    title: str

    def down(self, relevance: Tensor, rules: Rules, ledger: Ledger) -> Sequence[Tensor]:
        """Refuses: what is reached by relevance is refused before it comes down."""
        raise NotApplicableError(f"LRP has no rule for {self.title}.")


@dataclass(frozen=True)
class Counts:
    """What a recorded forward has between the pixels and the logits.

    layers: those that relevance reaches, and all. norms: batch norms that are merged, and all. sums and concatenations
    that are split, gates that are held constant; activations that pass relevance, by kind. What runs in a branch whose
    result the logits do not use is not counted.
    """

    layers: tuple[int, int]
    norms: tuple[int, int]
    sums: int
    joins: int
    gates: int
    activations: Mapping[str, int]


class Tape:
    """The operations of one forward in order."""

    def __init__(self, pixels: Value) -> None:
        self.pixels = pixels
        self.ops: list[Op] = []

    def finish(self, logits: Value) -> Counts:
        """Merge batch norms; raise `NoRuleError` where relevance would reach what has no rule."""
        way = self._way(logits)
        norms = [op for op in self.ops if isinstance(op, BatchNorm)]
        merged = {op for op in norms if _merge(op)}
        self.ops = [op for op in self.ops if op not in merged]
        reached = self._reached(logits)
        unknown = Counter(op.title for op in reached if isinstance(op, Unknown))
        if unknown:
            raise NoRuleError(f"it has no rule for {', '.join(unknown)}")
        kinds = Counter(op.kind for op in reached if isinstance(op, Pass | Route | Share))
        return Counts(
            layers=(sum(isinstance(op, Linear) for op in reached), sum(isinstance(op, Linear) for op in way)),
            norms=(sum(op in merged for op in way), sum(isinstance(op, BatchNorm) for op in way)),
            sums=kinds["sum"],
            joins=kinds["cat"],
            gates=kinds["gate"],
            activations=Counter(op.kind for op in reached if isinstance(op, Pass) and op.kind not in ("gate", "scale")),
        )

    def _way(self, logits: Value) -> list[Op]:
        """The operations whose results the logits depend on, gates among them."""
        found: list[Op] = []
        wanted = {logits}
        for op in reversed(self.ops):
            if op.output in wanted:
                found.append(op)
                wanted.update(op.inputs, op.held if isinstance(op, Pass) else ())
        return found

    def _reached(self, logits: Value) -> list[Op]:
        reached: list[Op] = []
        wanted = {logits}
        for op in reversed(self.ops):
            if op.output in wanted:
                reached.append(op)
                wanted.update(op.inputs)
        if self.pixels not in wanted:
            raise NoRuleError("its logits do not depend on the pixels")
        return reached

    def relevance(self, logits: Value, start: Tensor, rules: Rules) -> tuple[Tensor, Ledger]:
        """Relevance (N,3,H,W) of the pixels, from `start` (N,K) at the logits; the tape is used up."""
        ledger = Ledger(len(start), start.device)
        logits.receive(start)
        while self.ops:
            op = self.ops.pop()
            arrived, op.output.relevance = op.output.relevance, None
            if arrived is not None:
                for value, part in zip(op.inputs, op.down(arrived, rules, ledger), strict=True):
                    value.receive(part)
        found = self.pixels.relevance
        assert found is not None  # `finish` saw that the pixels are reached
        return found, ledger


def _merge(op: BatchNorm) -> bool:
    linear = op.linear_before()
    if linear is None:
        return False
    linear.norm, linear.output, op.output.maker = op.norm, op.output, linear
    if linear.rule in NEEDS_OUTPUT:
        linear.z = op.out
    return True
