"""Training counted in optimiser steps, so that networks on sets of different size learn equally long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai.devices import double, empty_cache, out_of_memory, seeded
from xai.errors import InputError
from xai.models.heads import kernels
from xai.public import public
from xai.training.augment import augmented
from xai.training.features import Stored, precision_of, predict, stored_features, to_pixels
from xai.training.network import Network
from xai.training.pictures import Pictures
from xai.training.recipe import Recipe
from xai.types import Run


@dataclass(frozen=True, eq=False)
class Round:
    """What is known after `step` steps: mean loss and accuracy of the steps since the last round, and predictions.

    predicted: for each watched set the predicted classes (N,) int64.
    """

    step: int
    train_loss: float
    train_accuracy: float
    predicted: tuple[Tensor, ...]


@public
def fit_steps(
    network: Network,
    train: Pictures | Stored,
    watched: Sequence[Pictures | Stored],
    recipe: Recipe,
    steps: int,
    run: Run,
    on_round: Callable[[Round], None] | None = None,
) -> tuple[Round, ...]:
    """Train `network` in place for `steps` steps of exactly `recipe.batch` images, looked at after each round.

    The images come in the order of one seeded shuffle after another, cut into batches without regard to where a
    shuffle ends. `recipe.epochs` is the number of rounds; the schedule goes by them. A frozen part without augmentation
    is passed once. Nothing is chosen by what is watched: the last step's weights stay. Alone, not under
    torch.distributed. Raises `InputError` for fewer steps than rounds, an empty set or labels that do not fit, and
    `Cancelled`.
    """
    _check(network, train, recipe, steps)
    sources = passed(network, (train, *watched), recipe, run)
    learned = [each for each in network.module.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    scaler = torch.amp.GradScaler(network.base.device.type, enabled=recipe.precision == "fp16")
    order = _places(len(train.labels), recipe.batch, run)
    rounds, step, parts = [], 0, 1
    for number in range(1, recipe.epochs + 1):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(number)
        until = steps * number // recipe.epochs
        network.learning()
        sums = torch.zeros(2, dtype=torch.float64)
        count = until - step
        # Dropout draws from torch's global generators.
        with seeded(network.base.device, run.generator("dropout", number).initial_seed()):
            changes = run.generator("augmentation", number)
            while step < until:
                found, parts = _step(network, sources[0], next(order), recipe, changes, optimizer, scaler, parts)
                sums += found
                step += 1
                short = f" (each batch in {parts} parts: memory is short)" if parts > 1 else ""
                run.report(step, steps, f"step {step:,} of {steps:,}{short}")
        loss, right = (sums / count).tolist()
        if loss != loss or loss == float("inf"):
            raise InputError(f"the loss at step {step} is not a finite number; use a smaller learning rate.")
        predicted = tuple(_predicted(network, each, recipe, run) for each in sources[1:])
        rounds.append(Round(step, loss, right, predicted))
        if on_round is not None:
            on_round(rounds[-1])
    network.module.eval()
    return tuple(rounds)


def passed(network: Network, sources: Sequence[Pictures | Stored], recipe: Recipe, run: Run) -> list[Pictures | Stored]:
    """What goes into the part that learns: features, where the frozen part gives the same at every step."""
    if not recipe.features_do:
        return list(sources)
    return [
        each if isinstance(each, Stored) else stored_features(network, each, run.quiet(), recipe.precision)
        for each in sources
    ]


def _check(network: Network, train: Pictures | Stored, recipe: Recipe, steps: int) -> None:
    if steps < recipe.epochs:
        raise InputError(f"steps is {steps}; give {recipe.epochs} or more, one for each round that is looked at.")
    if len(train.labels) == 0:
        raise InputError("there is no training image; split the data another way.")
    if not 0 <= int(train.labels.min()) <= int(train.labels.max()) < len(network.labels):
        raise InputError(f"a training label is outside 0 to {len(network.labels) - 1}, the network's classes.")
    if recipe.patience or recipe.class_weights != "none":
        raise InputError("patience and class_weights are for training by epochs; leave them out.")


def _places(count: int, batch: int, run: Run) -> Iterator[list[int]]:
    """Batches of positions without end."""
    waiting: list[int] = []
    turn = 0
    while True:
        while len(waiting) < batch:
            turn += 1
            waiting += torch.randperm(count, generator=run.generator("order", turn)).tolist()
        yield waiting[:batch]
        waiting = waiting[batch:]


def _step(
    network: Network,
    train: Pictures | Stored,
    places: list[int],
    recipe: Recipe,
    changes: torch.Generator,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    parts: int,
) -> tuple[Tensor, int]:
    """One step; (mean loss, accuracy) of its batch, and in how many parts it was learned, the same sum.

    A batch that does not fit the device is halved; batch norm then sees a part at a time.
    """
    device = network.base.device
    x = next(iter(train.read([places])))
    learner: nn.Module = network.head_module
    if not isinstance(train, Stored):
        x = augmented(to_pixels(x, device), recipe.augment, changes)
        learner = network.module
    y = train.labels[places].to(device)
    while True:
        optimizer.zero_grad()
        try:
            ends = [len(x) * part // parts for part in range(parts + 1)]
            cuts = [slice(start, stop) for start, stop in pairwise(ends)]
            sums = sum(_backward(network, learner, x[cut], y[cut], len(x), recipe, scaler) for cut in cuts)
            break
        except RuntimeError as error:
            if 2 * parts > len(x) or not out_of_memory(error):
                raise
        parts *= 2
        empty_cache(device)
    scaler.step(optimizer)
    scaler.update()
    return torch.as_tensor(sums), parts


def _backward(
    network: Network, learner: nn.Module, x: Tensor, y: Tensor, total: int, recipe: Recipe, scaler: torch.amp.GradScaler
) -> Tensor:
    """Backward through the loss of a part of a batch of `total`; its share of the mean loss and of the accuracy."""
    with precision_of(recipe.precision, network.base.device):
        logits = learner(x).float()
    share = len(x) / total
    loss = share * F.cross_entropy(logits, y)
    held = recipe.l2 * sum(each.square().sum() for each in kernels(network.head_module)) if recipe.l2 else 0.0
    scaler.scale(loss + share * held).backward()  # type: ignore[no-untyped-call]  # torch has no types here
    right = share * double(logits.detach().argmax(1) == y).mean()
    return torch.stack([double(loss.detach()), right]).cpu()


def _predicted(network: Network, watched: Pictures | Stored, recipe: Recipe, run: Run) -> Tensor:
    if isinstance(watched, Stored):
        head = network.head_module.eval()
        with torch.no_grad(), precision_of(recipe.precision, network.base.device):
            found: Tensor = head(watched.values).argmax(1).cpu()
        return found
    return predict(network, watched, run.quiet(), recipe.precision).argmax(1)
