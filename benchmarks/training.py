"""Training a head on a frozen network

`xai.training.fit` for 30 epochs of study 4's head on EfficientNet-Lite0, 160 generated pictures of 224 px (128 train,
32 validate), batch 32, a checkpoint after every epoch as a run writes it: features once, then the head. "ratio" is to
the floor; "slow way" is the same without stored features, timed for 3 epochs and taken ten times, again as a ratio to
the floor; `cpu` is processor time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks._timing import interleaved
from xai import load_model
from xai.models.batching import DEFAULT_BATCH
from xai.models.classifier import Classifier
from xai.runs.checkpoint import previous
from xai.training import Images, Network, Recipe, fit, network_of
from xai.types import Run

FLOOR = (
    "one pass of all pictures through the frozen part (batch 16, channels last), then 30 epochs of forward, backward "
    "and Adam step of the head on features that are there, and its forward on the validation features."
)

EPOCHS, SLOW = 30, 3
LABELS = ("no", "yes")


def pictures(count: int, seed: int, size: int) -> Images:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(count) % len(LABELS))


def bare(base: Classifier, train: Images, validation: Images, recipe: Recipe) -> None:
    """The floor, written out."""
    network = network_of(base, LABELS, recipe)
    step = DEFAULT_BATCH["cpu"]
    with network.headless() as module:
        passed = [
            torch.cat([module(part.float() / 255) for part in each.pixels.split(step)]) for each in (train, validation)
        ]
    learn(network, passed[0], passed[1], train.labels, recipe)


def learn(network: Network, features: torch.Tensor, held: torch.Tensor, labels: torch.Tensor, recipe: Recipe) -> None:
    head = network.head_module
    optimizer = torch.optim.AdamW(head.parameters(), lr=recipe.learning_rate, weight_decay=0.0)
    for _ in range(recipe.epochs):
        head.train()
        for x, y in zip(features.split(recipe.batch), labels.split(recipe.batch), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(head(x), y).backward()
            optimizer.step()
        head.eval()
        with torch.no_grad():
            head(held)


def run(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """One row."""
    base = load_model("efficientnet_lite0", "imagenet", "cpu")
    count = 32 if quick else 160
    train = pictures(count * 4 // 5, 0, base.input_size[0])
    validation = pictures(count // 5, 1, base.input_size[0])
    recipe, slow = Recipe(epochs=EPOCHS, head="study4"), Recipe(epochs=SLOW, head="study4")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "last.pt"

        def trained(chosen: Recipe, stored: bool) -> Callable[[], object]:
            def work() -> None:
                for each in (path, previous(path)):
                    each.unlink(missing_ok=True)
                fit(network_of(base, LABELS, chosen), train, validation, chosen, Run(), path, stored=stored)

            return work

        taken = interleaved(
            {
                "floor": lambda: bare(base, train, validation, recipe),
                "ours": trained(recipe, stored=True),
                "slow": trained(slow, stored=False),
            },
            1 if quick else repeats,
            warmup=0 if quick else 1,
        )
    floor, ours, plain = taken["floor"], taken["ours"], taken["slow"]
    row = {"what": f"{EPOCHS} epochs, frozen", "network": base.title, "images": count, "floor s": floor.wall}
    row |= {"ratio": ours.over(floor), "cpu": ours.cpu_over(floor), "slow way": plain.over(floor) * EPOCHS / SLOW}
    return [{**row, "target": "ratio <= 1.3"}]
