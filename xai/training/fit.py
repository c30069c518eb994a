"""The training loop: epochs that resume exactly, alone or in several processes.

Nothing random runs through from one epoch to the next: order, augmentation and dropout of an epoch come from (seed,
epoch) alone, for each process. So a run that goes on from the checkpoint after epoch n does what one that was never
stopped does, and what was lost of an epoch is done again the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from xai.devices import double, empty_cache, exact_device, out_of_memory, seeded
from xai.errors import InputError
from xai.models.heads import kernels
from xai.public import public
from xai.runs.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from xai.training.augment import augmented
from xai.training.features import Stored, precision_of, predict, stored_features, team, to_pixels
from xai.training.network import Network
from xai.training.pictures import Pictures
from xai.training.recipe import Recipe
from xai.types import Run

PASS, REST = 95, 5
"""Shares of the time, in percent, that progress gives to the frozen part's pass and to the head's epochs after it."""


@dataclass(frozen=True)
class Epoch:
    """One epoch. Training figures are means over its steps, while it learns and with dropout; validation's after it.

    Losses are cross-entropies (weighted as asked for), without the L2 term. seconds: of this epoch with its
    validation.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    learning_rate: float


@dataclass(frozen=True)
class History:
    """All epochs, also those before a resume. kept: the epoch whose weights the network has. stopped: ended early.

    feature_seconds: of computing the frozen part's features, in the last process that worked on it; 0 without.
    """

    epochs: tuple[Epoch, ...]
    kept: int
    stopped: bool
    feature_seconds: float


@public
def fit(
    network: Network,
    train: Pictures | Stored,
    validation: Pictures | Stored,
    recipe: Recipe,
    run: Run,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    weights: Tensor | None = None,
    stored: bool = True,
) -> History:
    """Train `network` in place on its device and give the history.

    checkpoint: written after every epoch; one that is there is gone on from, to `recipe.epochs` in all. on_epoch: told
    each new epoch, after its checkpoint. weights: (N,) factors of the training images' losses. stored: with a frozen
    part and no augmentation, compute its features once, so that every epoch costs the head alone; features that are
    there already (`stored_features`) can be given in place of pictures.

    Under torch.distributed each process takes its part of every batch; the result is that of one process, but for what
    is each process's own: numbers of dropout and augmentation, and statistics of batch norms that learn. Dropout draws
    from torch's global generator, which is put back. Raises `InputError` for labels or weights that do not fit and for
    a checkpoint of another recipe, and `Cancelled`: the epochs that were finished stay.
    """
    _check(network, train, validation, recipe, weights)
    begun = time.perf_counter()
    whole = run
    sources: tuple[Pictures | Stored, Pictures | Stored] = (train, validation)
    with_features = stored and recipe.features_do
    if with_features and not isinstance(train, Stored) and not isinstance(validation, Stored):
        share = PASS * len(train.labels) // (len(train.labels) + len(validation.labels))
        parts = (run.part(0, share, PASS + REST), run.part(share, PASS - share, PASS + REST))
        sources = (
            stored_features(network, train, parts[0], recipe.precision, "frozen part, training images"),
            stored_features(network, validation, parts[1], recipe.precision, "frozen part, validation images"),
        )
        whole = run.part(PASS, REST, PASS + REST)
    seconds = time.perf_counter() - begun if sources[0] is not train else 0.0
    loop = _Loop(network, *sources, recipe, whole, class_weights(train.labels.cpu(), network, recipe, weights))
    if checkpoint is not None and has_checkpoint(checkpoint):
        loop.restore(load_checkpoint(checkpoint).state)
    while len(loop.history) < recipe.epochs and not loop.stopped:
        epoch = loop.epoch(len(loop.history) + 1)
        if checkpoint is not None and team()[0] == 0:
            save_checkpoint(checkpoint, loop.state())
        if on_epoch is not None:
            on_epoch(epoch)
    kept = loop.keep_best()
    network.module.eval()
    return History(tuple(loop.history), kept, loop.stopped, seconds)


def class_weights(labels: Tensor, network: Network, recipe: Recipe, weights: Tensor | None = None) -> Tensor:
    """The factor of every training image's loss, (N,): its class's, N / (K n_k) if balanced, times its own."""
    factors = torch.ones(len(labels)) if weights is None else weights.float()
    if recipe.class_weights == "balanced":
        counts = torch.bincount(labels, minlength=len(network.labels))
        factors = factors * (len(labels) / (len(network.labels) * counts.clamp(min=1).float()))[labels]
    return factors


def _check(
    network: Network,
    train: Pictures | Stored,
    validation: Pictures | Stored,
    recipe: Recipe,
    weights: Tensor | None,
) -> None:
    if isinstance(train, Stored) != isinstance(validation, Stored) or (
        isinstance(train, Stored) and not recipe.features_do
    ):
        raise InputError("stored features are for both parts, a frozen part and no augmentation; give pictures.")
    for name, each in (("training", train), ("validation", validation)):
        if len(each.labels) == 0:
            raise InputError(f"there is no {name} image; split the data another way.")
        high = int(each.labels.max())
        if int(each.labels.min()) < 0 or high >= len(network.labels):
            raise InputError(f"a {name} label is {high}; the network has classes 0 to {len(network.labels) - 1}.")
    if weights is not None and (weights.shape != train.labels.shape or not bool((weights >= 0).all())):
        raise InputError(f"weights is {tuple(weights.shape)}; give one number, 0 or more, for each training image.")


class _Loop:
    """The state of one training: network, optimiser and history, and the steps that change them."""

    def __init__(
        self,
        network: Network,
        train: Pictures | Stored,
        validation: Pictures | Stored,
        recipe: Recipe,
        run: Run,
        weights: Tensor,
    ) -> None:
        self.network, self.train, self.validation, self.recipe, self.run = network, train, validation, recipe, run
        self.device = network.base.device
        self.weights = weights
        self.history: list[Epoch] = []
        self.best: dict[str, Any] | None = None
        self.parts = 1
        learned = [each for each in network.module.parameters() if each.requires_grad]
        # Fused: one call for all parameters; a head's step is otherwise mostly the cost of calling.
        self.optimizer = torch.optim.AdamW(
            learned, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.learner: nn.Module = network.head_module if isinstance(train, Stored) else network.module
        if team()[1] > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            self.learner = DistributedDataParallel(self.learner, device_ids=devices)

    @property
    def stopped(self) -> bool:
        """Whether patience has run out."""
        waited = len(self.history) - self._best_epoch()
        return 0 < self.recipe.patience <= waited

    def _best_epoch(self) -> int:
        losses = [each.validation_loss for each in self.history]
        return 1 + losses.index(min(losses)) if losses else 0

    def epoch(self, number: int) -> Epoch:
        """Learn for one epoch, then validate."""
        begun = time.perf_counter()
        rate = self.recipe.rate(number)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rank, size = team()
        order = torch.randperm(len(self.train.labels), generator=self.run.generator("order", number)).tolist()
        step = self.recipe.batch
        batches = [order[start : start + step] for start in range(0, len(order), step)]
        mine = [batch[rank::size] or batch[:1] for batch in batches]
        self.network.learning()
        exact = exact_device(self.device)
        sums = torch.zeros(4, dtype=torch.float64, device=exact)  # loss, weight, right answers, images
        # Dropout draws from torch's global generators: those of (seed, epoch, process).
        with seeded(self.device, self.run.generator("dropout", number, rank).initial_seed()):
            changes = self.run.generator("augmentation", number, rank)
            for index, x in enumerate(self.train.read(mine)):
                sums += self._step(x, mine[index], batches[index], changes, idle=rank >= len(batches[index]))
                done = (number - 1) * len(batches) + index + 1
                self.run.report(done, self.recipe.epochs * len(batches), self._note(number))
        if size > 1:
            dist.all_reduce(sums)
        loss, weight, right, images = sums.tolist()
        validated = self._validate()
        _finite(loss + validated[0], number)
        found = Epoch(number, loss / weight, right / images, *validated, time.perf_counter() - begun, rate)
        self.history.append(found)
        if self.recipe.patience and self._best_epoch() == number:
            self.best = {"epoch": number, "network": self.network.state()}
        return found

    def _note(self, number: int) -> str:
        before = f", validation accuracy {self.history[-1].validation_accuracy:.3f}" if self.history else ""
        short = f" (each batch in {self.parts} parts: memory is short)" if self.parts > 1 else ""
        return f"epoch {number} of {self.recipe.epochs}{before}{short}"

    def _step(
        self, x: Tensor, places: Sequence[int], batch: Sequence[int], changes: torch.Generator, idle: bool
    ) -> Tensor:
        """One step of Adam; the sums of this process. A batch that does not fit is learned in parts, the same sum."""
        y = self.train.labels[places].to(self.device)
        w = self.weights[places].to(self.device) * (0.0 if idle else 1.0)
        total = float(self.weights[list(batch)].sum()) or 1.0
        if not isinstance(self.train, Stored):
            x = augmented(to_pixels(x, self.device), self.recipe.augment, changes)
        while True:
            self.optimizer.zero_grad()
            try:
                sums = torch.zeros(4, dtype=torch.float64, device=exact_device(self.device))
                for part in range(self.parts):
                    cut = slice(part * len(x) // self.parts, (part + 1) * len(x) // self.parts)
                    if cut.start < cut.stop:
                        sums += self._backward(x[cut], y[cut], w[cut], total, first=part == 0)
                break
            except RuntimeError as error:
                if self.parts >= len(x) or team()[1] > 1 or not out_of_memory(error):
                    raise
                self.parts *= 2
                empty_cache(self.device)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return sums

    def _backward(self, x: Tensor, y: Tensor, w: Tensor, total: float, first: bool) -> Tensor:
        with precision_of(self.recipe.precision, self.device):
            logits = self.learner(x).float()
        losses = F.cross_entropy(logits, y, reduction="none") * w
        loss = losses.sum() * (team()[1] / total)  # the processes' gradients are averaged
        if first and self.recipe.l2:
            loss = loss + self.recipe.l2 * sum(each.square().sum() for each in kernels(self.network.head_module))
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch has no types here
        counted = w > 0
        right = (logits.detach().argmax(1) == y) & counted
        return torch.stack([double(each.detach().sum()) for each in (losses, w, right, counted)])

    def _validate(self) -> tuple[float, float]:
        """(loss, accuracy) on the validation images."""
        labels = self.validation.labels.cpu()
        quiet = self.run.quiet()
        logits = predict(self.network, self.validation, quiet, self.recipe.precision)
        loss = float(F.cross_entropy(logits.double(), labels))
        return loss, float((logits.argmax(1) == labels).double().mean())

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "kind": "training",
            "recipe": self.recipe.plain(),
            "history": [asdict(each) for each in self.history],
            "network": self.network.state(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; raises `InputError` where it is of another recipe, the number of epochs apart."""
        before, now = dict(state["recipe"]), self.recipe.plain()
        for name in now:
            if name != "epochs" and before.get(name) != now[name]:
                raise InputError(
                    f"the checkpoint was trained with {name} {before.get(name)}, not {now[name]}; go on with the same, "
                    "or train anew."
                )
        self.network.restore(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.history = [Epoch(**each) for each in state["history"]]
        self.best = state["best"]

    def keep_best(self) -> int:
        """With patience, give the network the weights of its best epoch; the epoch whose weights it has."""
        if self.best is None:
            return len(self.history)
        self.network.restore(self.best["network"])
        return int(self.best["epoch"])


def _finite(loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise InputError(f"the loss of epoch {epoch} is not a finite number; use a smaller learning rate or float32.")
