"""Frozen results and the `Run` that long work reports to. Results are CPU, detached, float32."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xai.errors import Cancelled, InputError
from xai.outputs import Output
from xai.words import counted


def _never() -> bool:
    return False


def _silent(done: int, total: int, note: str) -> None:
    del done, total, note


@dataclass(frozen=True, eq=False)
class Run:
    """What long work needs from its caller: a device, a seed, somewhere to report to, and a way to be stopped.

    `report(done, total, note)` raises `Cancelled` when `cancelled()` is true, so reporting often is being
    cancellable. Random numbers come from `generator(*names)`: a CPU generator that depends on the seed and the names
    alone, so results are the same on every device and in every thread.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    on_progress: Callable[[int, int, str], None] = _silent
    cancelled: Callable[[], bool] = _never

    def report(self, done: int, total: int, note: str = "") -> None:
        """Tell progress (`done` of `total` forward passes, images or steps) and stop here if cancelled."""
        self.check()
        self.on_progress(done, total, note)

    def check(self) -> None:
        """Raise `Cancelled` if the person asked to stop."""
        if self.cancelled():
            raise Cancelled("cancelled.")

    def part(self, done: int, weight: int, total: int, note: str = "") -> Run:
        """A run whose progress, from nothing to all, is `done` to `done + weight` of this one's `total`."""

        def on_progress(step: int, steps: int, what: str) -> None:
            self.on_progress(done + weight * min(step, steps) // max(steps, 1), total, what or note)

        return replace(self, on_progress=on_progress)

    def quiet(self) -> Run:
        """A run whose progress is not told: work within work that tells its own."""
        return replace(self, on_progress=_silent)

    def aside(self) -> Run:
        """A run whose progress is told, but counts for nothing: what comes before the work, at a pace of its own."""

        def on_progress(done: int, total: int, what: str) -> None:
            self.on_progress(0, 0, f"{what}: {done:,} of {total:,}")

        return replace(self, on_progress=on_progress)

    def generator(self, *names: object) -> torch.Generator:
        """A CPU generator seeded by (seed, names)."""
        text = "\x1f".join([str(self.seed), *map(str, names)])
        digest = hashlib.sha256(text.encode()).digest()
        return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def pixel_digest(image: Tensor) -> str:
    """SHA-256 over an image's pixels as float32 bytes: a name that is the same on every device and in every batch."""
    return hashlib.sha256(image.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class Explained:
    """What an explainer returns: signed relevance, with the logits of the same forward pass.

    values: (N,h,w) or (N,3,H,W), at the method's own resolution, nothing normalised for display.
    logits: (N,K). target: (N,) int64. facts: what the person should know, per image as a list of N, or one value.
    floor: (N,) what rounding alone may make of a map of zeros; a map that does not rise above it is blank.
    """

    values: Tensor
    logits: Tensor
    target: Tensor
    facts: Mapping[str, Any] = field(default_factory=dict)
    floor: Tensor | None = None


def rounding(size: Tensor, operations: float = 100.0) -> Tensor:
    """What rounding may make of a difference of numbers of this size: `operations` times their type's precision."""
    return operations * torch.finfo(size.dtype).eps * size.abs()


@dataclass(frozen=True)
class Coverage:
    """How far a method reaches into a network: `done` of `total` units of `what`; `limits` are sentences."""

    status: str  # "full", "limited" or "refused"
    what: str = ""
    done: int = 0
    total: int = 0
    limits: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """One line for a badge's tooltip, a report, or the terminal."""
        head = f"{self.done} of {self.total} {self.what}" if self.what else ""
        return "; ".join(part for part in (head, *self.limits) if part) or "applies in full"


def drawn_large(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (N,h,w) at `size` (H,W): bilinear, `align_corners=False`; as they are where they have that size."""
    if tuple(values.shape[-2:]) == size:
        return values
    return F.interpolate(values[:, None], size, mode="bilinear", align_corners=False)[:, 0]


@dataclass(frozen=True, eq=False)
class Attribution:
    """An explanation of N images by one method.

    values: (N,h,w) or (N,3,H,W) float32, signed, at the method's resolution. logits (N,K). target (N,) int64.
    seconds: wall time of the call. input_size: (H,W) of the network's input. facts: per method, JSON-able.
    from_lowest: zero means nothing on this method's scale, so that a picture starts at the lowest value.
    output: what the logits mean.
    """

    method: str
    values: Tensor
    logits: Tensor
    target: Tensor
    input_size: tuple[int, int]
    seconds: float
    coverage: Coverage
    signed: bool
    facts: Mapping[str, Any]
    provenance: Mapping[str, Any]
    from_lowest: bool = False
    output: Output = Output.SOFTMAX

    def maps(self) -> Tensor:
        """One signed value a pixel, (N,H,W) at the input size.

        Coarse maps are upsampled bilinearly (`align_corners=False`); colour channels are summed, which keeps the
        total relevance.
        """
        return drawn_large(self.values.sum(1) if self.values.dim() == 4 else self.values, self.input_size)

    def notice(self, index: int = 0) -> str:
        """What belongs beside the map of image `index`: why it is blank, what is undecided in it; "" where nothing."""
        said = (self.facts.get(name, [""] * len(self.values))[index] for name in ("blank", "note"))
        return " ".join(each for each in said if each)

    def probabilities(self) -> Tensor:
        """Probabilities of the classes, (N,K): the softmax or the sigmoids of the logits."""
        return self.output.probabilities(self.logits)


@dataclass(frozen=True)
class Protocol:
    """How a number was made: shown in figures and written to files beside the number."""

    name: str
    settings: Mapping[str, Any]
    sentence: str


@dataclass(frozen=True, eq=False)
class Curve:
    """N curves over shared positions: x (S,) in [0, 1], y (N,S), auc (N,).

    probability (N,S): where y is made from it, the plain probability of the class at each position.
    """

    metric: str
    x: Tensor
    y: Tensor
    auc: Tensor
    higher_is_better: bool
    protocol: Protocol
    probability: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Scores:
    """One number an image: values (N,), NaN where the metric has nothing to say; `facts` holds what went into them."""

    metric: str
    values: Tensor
    higher_is_better: bool
    protocol: Protocol
    facts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class AttackResult:
    """Clean and adversarial images (N,3,H,W) in [0, 1], and what changed.

    success (N,) bool: the network no longer decides for the target, or, where the attack is targeted, does so now, and
    that was not so before. For a softmax it decides for the class of the largest probability; for sigmoids for each
    class from probability 0.5 on. linf and l2 (N,) in [0, 1] pixel units; logits (N,K) before and after, and output
    what they mean. target (N,): the class left, or reached where the attack is targeted. levels (N,3,H,W) uint8: the
    adversarial image as PNG keeps it, inside the ball too; survives_png (N,) bool: the attack still succeeds after that
    rounding. already (N,) bool: the aim is reached before the attack (a label to leave that the network does not decide
    for, or a class to reach that it does), so that there is nothing to succeed at. saturated, blind (N,) bool: at some
    step the margin stood in for a saturated cross-entropy; at some step the gradient was exactly zero, so that failing
    says nothing about the network.
    """

    attack: str
    clean: Tensor
    adversarial: Tensor
    success: Tensor
    linf: Tensor
    l2: Tensor
    logits_before: Tensor
    logits_after: Tensor
    target: Tensor
    epsilon: Tensor
    provenance: Mapping[str, Any]
    levels: Tensor
    survives_png: Tensor
    already: Tensor
    saturated: Tensor
    blind: Tensor
    output: Output = Output.SOFTMAX


def resolve_target(logits: Tensor, target: Tensor | None) -> Tensor:
    """Target classes (N,) int64 on the logits' device: those asked for, or the predicted ones (of the largest logit).

    Raises `InputError` where a class index is outside 0..K-1 or the number of targets is not N.
    """
    if target is None:
        return logits.detach().argmax(-1)
    target = one_each(target, logits.shape[0]).to(device=logits.device)
    low, high = int(target.min()), int(target.max())
    if low < 0 or high >= logits.shape[1]:
        raise InputError(
            f"target class {low if low < 0 else high} does not exist; this classifier has 0 to {logits.shape[1] - 1}."
        )
    return target


def one_each(target: Tensor, count: int) -> Tensor:
    """`target` as (count,) int64, one class for all or one an image; raises `InputError` for another number of them."""
    target = target.to(torch.int64)
    if target.dim() == 0:
        target = target.expand(count)
    if target.shape != (count,):
        raise InputError(
            f"targets has {counted(target.numel(), 'class', 'classes')} for "
            f"{counted(count, 'image')}; give one per image."
        )
    return target


def class_indices(targets: int | Sequence[int] | Tensor, name: str = "targets") -> Tensor:
    """Class indices as a tensor, 0-dimensional for one class; raises `InputError` for what is no whole number."""
    try:
        found = targets if isinstance(targets, Tensor) else torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)  # of floating point, which is refused as well
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise InputError(f"{name} is {targets!r}; give the index of a class, or of one an image.")
    return found
