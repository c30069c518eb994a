"""Attacks: PGD and the sweep over epsilon.

PGD of ten steps without restart at batch 4, and the sweep of one image over the page's 33 slider positions, against the
same attacks of torchattacks (the sweep: one epsilon after another). "steps" is the attack alone, with one forward pass
that looks at the last iterate (without it the best iterate would not be known; on the CPU it is .03 to .04 of ten
steps); "call" is `xai.attacks.attack` as a person calls it: predictions before and after rounding to 8 bits, and
everything that is measured, which torchattacks does not give (2 more forward passes). The second core was at other
work in these rounds: where torchattacks is below 1 the floor was slowed. Before, on a quiet machine, the steps of
PGD-10 were 1.07 beside its 1.03, the sweep 1.07 beside 1.00.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks._timing import interleaved
from xai import load_image, load_model
from xai.attacks import attack, sweep
from xai.attacks.pgd import PGD
from xai.models.batching import DEFAULT_BATCH
from xai.models.classifier import Classifier
from xai.settings import ASSETS
from xai.studies.adversarial.study import POSITIONS
from xai.types import Run

FLOOR = (
    "steps x (forward + backward to the input) of the channels_last network, parameters frozen, in the same batches."
)


def run(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """One row a network and task."""
    networks = [("efficientnet_lite0", "imagenet")]
    if not quick and torch.cuda.is_available():  # on two cores a round of it takes minutes
        networks.append(("resnet50", "random:0"))
    steps = 2 if quick else 10
    return [row for name, weights in networks for row in rows(load_model(name, weights), steps, repeats)]


def floor(classifier: Classifier, x: Tensor, steps: int) -> Callable[[], object]:
    """The bare gradients of `steps` steps."""

    def work() -> None:
        for part in x.split(DEFAULT_BATCH[x.device.type]):
            for _ in range(steps):
                leaf = part.clone().requires_grad_()
                torch.autograd.grad(classifier.module(leaf).logsumexp(1).sum(), leaf)

    return work


def rows(classifier: Classifier, steps: int, repeats: int) -> list[dict[str, Any]]:
    """PGD on a batch, and the sweep, of one network."""
    image = classifier.preprocess(load_image(ASSETS / "samples" / "coffee.png")).to(classifier.device)
    batch = torch.cat([image, image.flip(3), image.flip(2), image.roll(16, 3)])
    params = PGD(steps=steps, step_size=2 / 255, start_at_random=False)
    label = classifier.predict(image).argmax(1)
    arguments = (batch, label.repeat(4), torch.full((4,), 8 / 255), torch.arange(4), Run())
    ours: dict[str, Callable[[], object]] = {
        "steps": lambda: params(classifier.module, *arguments),
        "call": lambda: attack(classifier, batch, "pgd", params, labels=label.repeat(4)),
        "sweep": lambda: sweep(classifier, image, POSITIONS, "pgd", params, labels=label),
    }
    wide = image.repeat(len(POSITIONS), 1, 1, 1)
    found = []
    for task, own in ours.items():
        size = "sweep" if task == "sweep" else "batch"
        fns: dict[str, Callable[[], object]] = {
            "floor": floor(classifier, batch if size == "batch" else wide, steps),
            "ours": own,
        }
        peer = torchattacks_of(classifier, task, batch, image, label, steps)
        if peer:
            fns["torchattacks"] = peer
        times = interleaved(fns, repeats)
        row: dict[str, Any] = {
            "task": f"sweep of {len(POSITIONS)} epsilons, PGD-{steps}"
            if size == "sweep"
            else f"PGD-{steps}, batch 4, {task}",
            "network": classifier.title,
            "ratio": round(times["ours"].over(times["floor"]), 2),
            "cpu ratio": round(times["ours"].cpu_over(times["floor"]), 2),
            "floor s": round(times["floor"].wall, 2),
            "target": {"steps": "ratio <= 1.05", "sweep": "ratio <= 1.10"}.get(task, ""),
        }
        if peer:
            row["torchattacks"] = round(times["torchattacks"].over(times["floor"]), 2)
        found.append(row)
    return found


def torchattacks_of(
    classifier: Classifier, task: str, batch: Tensor, image: Tensor, label: Tensor, steps: int
) -> Callable[[], object] | None:
    """The peer's attack of the same steps, where it is installed."""
    try:
        import torchattacks
    except ImportError:
        return None

    def made(epsilon: float) -> Any:
        return torchattacks.PGD(classifier.module, eps=epsilon, alpha=2 / 255, steps=steps, random_start=False)

    if task != "sweep":
        return lambda: made(8 / 255)(batch, label.repeat(4))
    return lambda: [made(epsilon)(image, label) for epsilon in POSITIONS]
