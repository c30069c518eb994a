"""One training step of generator and discriminator: the whole of what is trained, and its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from xai.devices import empty_cache, memory_format, out_of_memory
from xai.errors import InputError, XaiError
from xai.gan import ema
from xai.gan.diffaugment import augment, parse_policy
from xai.gan.features import Lite0Maps
from xai.gan.layers import still
from xai.gan.losses import class_loss, generator_loss, hinge_fake, hinge_real, reconstruction
from xai.gan.settings import GanSettings, build_discriminator, build_generator, build_perceptual
from xai.types import Run

Losses = dict[str, Tensor]

Drawn = tuple[Tensor, Tensor, int]
"""z (N,nz), y (N,) and the seed of the injected noise."""

LEAST = 2
"""Images that batch norm needs at a time."""

SETTLING = 8
"""Batches over which batch norm's statistics of the averaged generator are measured."""


class DiscriminatorLoss(nn.Module):
    """The discriminator's whole loss as one forward pass, so that a distributed wrapper sees one, not two.

    Real and generated images go through it separately: in one batch, batch norm would let each see the other's mean.
    """

    def __init__(self, net: nn.Module, settings: GanSettings, perceptual: Lite0Maps | None) -> None:
        super().__init__()
        self.net = net
        self.weight = settings.class_weight_d
        object.__setattr__(self, "_perceptual", perceptual)

    def forward(
        self, real: Tensor, y_real: Tensor, fake: Tensor, y_fake: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """real, fake: augmented images in [-1, 1]. The loss by its parts, and the mean logits."""
        corner = tuple(torch.randint(2, (2,), generator=generator).tolist())
        with parametrize.cached():  # one power iteration a step, not one a pass
            on_real = self.net(real, y_real, corner)
            on_fake = self.net(fake, y_fake)
        found = {
            "d_real": hinge_real(on_real.logits.float(), generator),
            "d_fake": hinge_fake(on_fake.logits.float(), generator),
            "logit_real": on_real.logits.detach().float().mean(),
            "logit_fake": on_fake.logits.detach().float().mean(),
        }
        if on_real.parts:
            pairs = [(a.float(), b.float()) for a, b in on_real.parts]
            found["reconstruction"] = reconstruction(pairs, self.__dict__["_perceptual"])
        if on_real.classes is not None:
            found["d_class"] = self.weight * class_loss(on_real.classes, y_real)
        return found


class Trainer:
    """Generator, discriminator, average and optimisers, and one step of them.

    Everything random in step n comes from `run.generator("gan", n, rank)`, so that a step does not depend on how the
    ones before it were run; a resumed training needs no state of random generators. counts: images of each class; the
    classes of what is generated are drawn in these proportions, as those of real batches are: else the discriminator
    could tell the two by their classes.
    """

    def __init__(
        self,
        settings: GanSettings,
        classes: int,
        run: Run,
        rank: int = 0,
        size: int = 1,
        precision: str = "float32",
        counts: Sequence[int] = (),
    ) -> None:
        if settings.batch % size or settings.batch // size < 2:
            raise InputError(
                f"batch {settings.batch} does not go over {size} processes; give a multiple, 2 each or more."
            )
        self.settings, self.classes, self.run = settings, classes, run
        self.rank, self.size, self.precision = rank, size, precision
        self.counts = torch.tensor(counts, dtype=torch.float64) if len(set(counts)) > 1 else None
        self.policy = parse_policy(settings.augment)
        self.done, self.parts = 0, 1
        seed = int(torch.randint(2**62, (1,), generator=run.generator("gan", "weights")))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # the layers' own initialisers draw from the global generator
            self.g = build_generator(settings, classes)
            self.d = build_discriminator(settings, classes, run.device)
        for net in (self.g, self.d):
            net.to(run.device).to(memory_format=memory_format(run.device))
            net.train()
        self.average = ema.averaged(self.g)
        betas = (settings.beta1, 0.999)
        self.opt_g = torch.optim.Adam(self.g.parameters(), settings.lr_g, betas, fused=True)
        self.opt_d = torch.optim.Adam(self.d.parameters(), settings.lr_d, betas, fused=True)
        loss: nn.Module = DiscriminatorLoss(self.d, settings, build_perceptual(settings, run.device))
        generate = self.g
        if size > 1:
            # buffers are each process's own; the trained parameters are what must agree
            loss, generate = (DistributedDataParallel(net, broadcast_buffers=False) for net in (loss, self.g))
        self._loss, self._generate = loss, generate

    def _half(self) -> AbstractContextManager[object]:
        if self.precision == "bf16":
            return torch.autocast(self.run.device.type, torch.bfloat16)
        return nullcontext()

    def draw(self, generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        """z (count,nz) and y (count,) on the device."""
        z = torch.randn(count, self.settings.nz, generator=generator)
        if self.counts is None:
            y = torch.randint(max(1, self.classes), (count,), generator=generator)
        else:
            y = torch.multinomial(self.counts, count, replacement=True, generator=generator)
        return z.to(self.run.device), y.to(self.run.device)

    def step(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """One step of both networks on this rank's share of a batch drawn from images (N,3,S,S) uint8, labels (N,).

        The losses as numbers. Where the batch does not fit the device it is learned in `parts`, the same sums; batch
        norm then sees a part at a time. Raises `XaiError` where a loss is not finite and where no part fits.
        """
        generator = self.run.generator("gan", self.done, self.rank)
        count = self.settings.batch // self.size
        places = torch.randint(len(images), (count,), generator=generator)
        real = images[places].to(self.run.device).float() / 127.5 - 1
        y_real = labels[places].to(self.run.device)
        if self.settings.flip:
            flipped = torch.rand(count, 1, 1, 1, generator=generator).to(real) < 0.5
            real = torch.where(flipped, real.flip(3), real)
        drawn = (*self.draw(generator, count), int(torch.randint(2**62, (1,), generator=generator)))
        kept: list[Tensor] = []  # what the generator drew for the discriminator serves for its own step, if it fits
        found = self._fitting(
            lambda cuts: self._train_discriminator(real, y_real, drawn, generator, cuts, kept), generator
        )
        found |= self._fitting(lambda cuts: self._train_generator(drawn, generator, cuts, kept), generator)
        self.done += 1
        ema.update(self.average, self.g, ema.decay_at(self.done, self.settings.ema))
        values = dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))
        wrong = [name for name, value in values.items() if not abs(value) < float("inf")]
        if wrong:
            raise XaiError(
                f"{wrong[0]} is {values[wrong[0]]} at step {self.done}: the training has diverged; start again with "
                "smaller learning rates."
            )
        return values

    def _fitting(self, work: Callable[[list[slice]], Losses], generator: torch.Generator) -> Losses:
        """`work` on the parts of the batch; where one does not fit the device's memory, again on twice as many."""
        count, before = self.settings.batch // self.size, generator.get_state()
        while True:
            ends = [count * part // self.parts for part in range(self.parts + 1)]
            try:
                return work([slice(start, stop) for start, stop in pairwise(ends)])
            except RuntimeError as error:
                if self.size > 1 or not out_of_memory(error):
                    raise
                if count // (2 * self.parts) < LEAST:
                    raise XaiError(
                        f"a batch of {count} images does not fit the memory of {self.run.device}, also not in parts of "
                        f"{count // self.parts}; use a smaller size, ngf or ndf."
                    ) from error
                self.parts *= 2
            generator.set_state(before)
            empty_cache(self.run.device)

    def _fake(self, drawn: Drawn, cut: slice) -> Tensor:
        """What the generator makes of a part of what was drawn."""
        z, y, seed = drawn
        noise = torch.Generator("cpu").manual_seed(seed + cut.start)
        with self._half():
            fake = self._generate(z[cut], y[cut], noise)
        return _last(fake.float())

    def _train_discriminator(
        self,
        real: Tensor,
        y_real: Tensor,
        drawn: Drawn,
        generator: torch.Generator,
        cuts: list[slice],
        kept: list[Tensor],
    ) -> Losses:
        kept.clear()
        self.opt_d.zero_grad(set_to_none=True)
        parts = []
        for cut in cuts:
            with torch.set_grad_enabled(len(cuts) == 1):
                fake = self._fake(drawn, cut)
            if len(cuts) == 1:
                kept.append(fake)
            seen = [_last(augment(each, self.policy, generator)) for each in (real[cut], fake.detach())]
            with self._half():
                found: Losses = self._loss(seen[0], y_real[cut], seen[1], drawn[1][cut], generator)
            losses = [value for name, value in found.items() if not name.startswith("logit")]
            parts.append(_learned(losses, found, len(real[cut]) / len(real)))
        self.opt_d.step()
        return _summed(parts)

    def _train_generator(
        self, drawn: Drawn, generator: torch.Generator, cuts: list[slice], kept: list[Tensor]
    ) -> Losses:
        if len(cuts) > 1:
            kept.clear()
        y = drawn[1]
        self.opt_g.zero_grad(set_to_none=True)
        self.d.requires_grad_(False)
        parts = []
        try:
            for cut in cuts:
                fake = kept[0] if kept else self._fake(drawn, cut)
                with still(self.d), parametrize.cached(), self._half():
                    judged = self.d(_last(augment(fake, self.policy, generator)), y[cut])
                found = {"g": generator_loss(judged.logits.float())}
                if judged.classes is not None:
                    found["g_class"] = self.settings.class_weight_g * class_loss(judged.classes, y[cut])
                parts.append(_learned(list(found.values()), found, len(y[cut]) / len(y)))
        finally:
            self.d.requires_grad_(True)
        self.opt_g.step()
        return _summed(parts)

    def ready(self) -> nn.Module:
        """The averaged generator as it is sampled and saved: see `ema.settled`."""
        generator = self.run.generator("gan", "settle")
        batches = [self.draw(generator, max(64, self.settings.batch)) for _ in range(SETTLING)]
        return ema.settled(self.average, batches)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs."""
        return {
            "step": self.done,
            "parts": self.parts,
            "generator": self.g.state_dict(),
            "discriminator": self.d.state_dict(),
            "average": self.average.state_dict(),
            "opt_g": self.opt_g.state_dict(),
            "opt_d": self.opt_d.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        self.g.load_state_dict(state["generator"])
        self.d.load_state_dict(state["discriminator"])
        self.average.load_state_dict(state["average"])
        self.opt_g.load_state_dict(state["opt_g"])
        self.opt_d.load_state_dict(state["opt_d"])
        self.done, self.parts = int(state["step"]), int(state.get("parts", 1))


def _learned(losses: Sequence[Tensor], found: Losses, share: float) -> Losses:
    """Backward through the sum of the losses of a part that is `share` of the batch; `found` as its share."""
    (share * torch.stack(list(losses)).sum()).backward()  # type: ignore[no-untyped-call]
    return {name: share * value.detach() for name, value in found.items()}


def _summed(parts: Sequence[Losses]) -> Losses:
    return {name: torch.stack([part[name] for part in parts]).sum() for name in parts[0]}


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=memory_format(x.device))
