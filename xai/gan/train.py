"""The training loop: steps, averaged losses, looks at the samples, checkpoints; where they go is the caller's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from xai.errors import InputError, XaiError
from xai.gan.features import Extractor, lite0
from xai.gan.images import Pictures, check_held_out, labels_like
from xai.gan.quality import kid_estimate
from xai.gan.sample import SHOWN, draw
from xai.gan.step import Trainer
from xai.gan.watch import collapse_warning, intra_class_distance, real_distance

SAVE_SECONDS = 60.0
"""Seconds between two checkpoints; one more is written when the training is stopped."""

LOOK_AT = 200
"""Samples that a look compares with real images."""


class Sink(Protocol):
    """Where a training writes to."""

    def metric(self, row: Mapping[str, Any]) -> None:
        """One line of figures."""
        ...

    def samples(self, step: int, images: Tensor, labels: Tensor) -> None:
        """Samples (N,3,S,S) in [0, 1] of the averaged generator, class by class."""
        ...

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """The whole state."""
        ...

    def log(self, text: str) -> None:
        """A sentence."""
        ...


@dataclass(frozen=True)
class Pace:
    """How often: losses are averaged over `log` steps, samples are looked at every `look` steps."""

    log: int = 20
    look: int = 500

    def __post_init__(self) -> None:
        """Raises `InputError` for less than one step."""
        for name in ("log", "look"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 step or more.")


class Training:
    """A trainer on its pictures, up to `steps` steps."""

    def __init__(self, trainer: Trainer, train: Pictures, held_out: Pictures, sink: Sink, pace: Pace) -> None:
        self.trainer, self.train, self.held_out, self.sink, self.pace = trainer, train, held_out, sink, pace
        self.sums: dict[str, float] = {}
        self.seconds = 0.0
        check_held_out(len(held_out.images))
        self._distance = real_distance(train.images, train.labels)
        self._held: Tensor | None = None

    def state(self) -> dict[str, Any]:
        """The trainer's, with the averages that are under way."""
        return {**self.trainer.state(), "sums": dict(self.sums), "seconds": self.seconds}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        self.trainer.load(state)
        self.sums, self.seconds = dict(state["sums"]), float(state["seconds"])

    def go(self, steps: int) -> None:
        """Train until step `steps`. A checkpoint is written now and then, when stopped, and at the end.

        Raises `Cancelled`, and `XaiError` where a loss is not finite: that step is in no checkpoint.
        """
        trainer, run = self.trainer, self.trainer.run
        saved = time.monotonic()
        whole = True
        try:
            while trainer.done < steps:
                run.report(trainer.done, steps, self._note())
                began, parts = time.perf_counter(), trainer.parts
                whole = False
                losses = trainer.step(self.train.images, self.train.labels)
                self.seconds += time.perf_counter() - began
                if trainer.parts > parts:
                    self.sink.log(
                        f"step {trainer.done}: a batch of {trainer.settings.batch} does not fit the memory of "
                        f"{run.device}; from here on it is learned in {trainer.parts} parts"
                    )
                self._count(losses)
                if trainer.done % self.pace.look == 0 or trainer.done == steps:
                    self.look()
                whole = True
                if time.monotonic() - saved > SAVE_SECONDS:
                    self.sink.checkpoint(self.state())
                    saved = time.monotonic()
        finally:
            if whole:  # a step that broke off left networks and optimisers between two states
                self.sink.checkpoint(self.state())
        run.report(steps, steps, self._note())

    def _note(self) -> str:
        rate = self.trainer.done * self.trainer.settings.batch / self.seconds if self.seconds else 0.0
        parts = self.trainer.parts
        short = f" (each batch in {parts} parts: memory is short)" if parts > 1 else ""
        return f"step {self.trainer.done:,}, {rate:.0f} images/s{short}"

    def _count(self, losses: Mapping[str, float]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        step = self.trainer.done
        if step % self.pace.log == 0:
            row = {name: total / self.pace.log for name, total in self.sums.items()}
            self.sink.metric({"kind": "loss", "step": step, **row})
            self.sums = {}

    def look(self) -> None:
        """Sample the averaged generator: a grid, how far apart a class's samples are, and KID; collapse is said."""
        trainer = self.trainer
        if trainer.rank > 0:
            return
        net = trainer.ready()
        count = max(1, trainer.classes)
        labels = labels_like(self.train.labels, max(LOOK_AT, SHOWN * count))
        like = len(labels)
        few = (SHOWN - torch.bincount(labels, minlength=count)).clamp(min=0)
        labels = torch.cat([labels, torch.arange(count).repeat_interleave(few)])  # rare classes are looked at, too
        z = torch.randn(len(labels), trainer.settings.nz, generator=trainer.run.generator("gan", "look"))
        images = draw(net, z, labels, trainer.run.device)
        order = torch.cat([torch.nonzero(labels == k)[:SHOWN, 0] for k in range(count)])
        self.sink.samples(trainer.done, images[order], labels[order])
        if not bool(torch.isfinite(images).all()):
            raise XaiError(f"the samples hold NaN at step {trainer.done}: the training has diverged.")
        ratio = intra_class_distance(images, labels, self.train.labels) / self._distance
        extract = lite0(trainer.run.device)
        kid = kid_estimate(extract(images[:like]), self._reference(extract))
        row = {"kind": "look", "step": trainer.done, "seconds": self.seconds, "distance_ratio": ratio, "kid": kid}
        self.sink.metric({**row, "kid_name": f"KID-{extract.name} x 1000, {like} samples"})
        warning = collapse_warning(ratio)
        if warning:
            self.sink.log(f"step {trainer.done}: {warning}")

    def _reference(self, extract: Extractor) -> Tensor:
        """Features of held-out images, which samples are compared with."""
        if self._held is None:
            order = torch.randperm(len(self.held_out.images), generator=torch.Generator().manual_seed(0))
            self._held = extract(self.held_out.images[order[: 2 * LOOK_AT]])
        return self._held
