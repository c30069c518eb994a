"""Is the explanation faithful? Curves, means with intervals, ranks and paired tests over images, beside baselines.

Study 1's figures 6 and 7 are `FIGURES_6_7`. The same results are made of images at hand (`faithfulness`) and of the
rows of a run (`xai.studies.faithfulness.evaluate.open_results`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import pyarrow as pa
from PIL import Image

from xai.data.loader import read_batches
from xai.data.spec import DataSet, Item, Problem
from xai.errors import InputError
from xai.explain.spec import METHODS
from xai.metrics.curves import CURVES
from xai.metrics.engine import within
from xai.models.classifier import Classifier
from xai.public import public
from xai.studies.faithfulness.measure import BASELINES, SCORES, Recipe, Seen, look, measure, network_name
from xai.studies.faithfulness.result import Faithfulness, MeanCurve, Refused, Score
from xai.types import Run

__all__ = [
    "BASELINES",
    "FIGURES_6_7",
    "SCORES",
    "Faithfulness",
    "Flip",
    "MeanCurve",
    "Recipe",
    "Refused",
    "Score",
    "Seen",
    "check_networks",
    "faithfulness",
    "measured",
    "rank_flips",
    "see",
    "with_protocol",
]

FIGURES_6_7: Mapping[str, Any] = {
    "models": ("vgg16", "resnet50", "googlenet"),
    "recipe": Recipe(methods=("gradcam",), protocol="study"),
    "metrics": CURVES,
}
"""Study 1's figures 6 and 7: mean insertion and mean deletion of Grad-CAM on three networks."""

CHUNK = 8
"""Images that are explained together."""


@dataclass(frozen=True)
class Flip:
    """Two methods that change places between two protocols."""

    network: str
    first: str
    second: str
    sentence: str


@public
def see(
    classifiers: Sequence[Classifier],
    images: DataSet | Sequence[Image.Image] | Sequence[Item],
    recipe: Recipe,
    view: str = "crop",
    run: Run | None = None,
) -> tuple[tuple[Seen, ...], tuple[Problem, ...]]:
    """The images explained on every classifier, a few at a time, and those that could not be decoded.

    What is expensive about another protocol is only `measured`; keep what this gives to switch between protocols.
    """
    run = run or Run()
    check_networks(classifiers)
    items, label_maps = _items(images, classifiers)
    seen: list[Seen] = []
    problems: list[Problem] = []
    batches = [range(start, min(start + CHUNK, len(items))) for start in range(0, len(items), CHUNK)]
    total = len(items) * len(classifiers)
    for batch in read_batches(items, batches, classifiers, view):
        problems += batch.problems
        bad = {problem.key for problem in batch.problems}
        places = [place for place in batches[batch.index] if items[place].key not in bad]
        for classifier, label_map in zip(classifiers, label_maps, strict=True):
            if not places:
                continue
            done = sum(len(each.keys) for each in seen)
            run.report(done, total, f"explaining on {classifier.title}")
            labels = [_mapped(items[place].label, label_map) for place in places]
            keys = [items[place].key for place in places]
            pixels, masks = batch.pixels(classifier), batch.mask(classifier)
            seen.append(look(classifier, pixels, recipe, keys, places, labels, masks, run))
    order = {id(classifier): place for place, classifier in enumerate(classifiers)}
    return tuple(sorted(seen, key=lambda each: order[id(each.classifier)])), tuple(problems)


def check_networks(classifiers: Sequence[Classifier]) -> None:
    """Raise `InputError` where there is no classifier, or two that figures would call the same."""
    names = [network_name(classifier) for classifier in classifiers]
    twice = [name for name in names if names.count(name) > 1]
    if not names or twice:
        raise InputError(
            f"the classifier {twice[0]} is given twice; give each once." if twice else "give a classifier."
        )


def _items(
    images: DataSet | Sequence[Image.Image] | Sequence[Item], classifiers: Sequence[Classifier]
) -> tuple[tuple[Item, ...], list[tuple[int, ...] | None]]:
    """Items, and for each classifier the classes that the data set's labels mean (None: none)."""
    if isinstance(images, DataSet):
        return images.items, [images.class_map(classifier.labels) for classifier in classifiers]
    items: list[Item] = []
    for number, each in enumerate(images, 1):
        if isinstance(each, Item):
            items.append(each)
        elif isinstance(each, Image.Image):
            items.append(Item(f"image {number}", None, partial(Image.Image.copy, each)))
    if not items:
        raise InputError("there is no image to measure; give at least one.")
    return tuple(items), [None] * len(classifiers)


def _mapped(label: int | None, label_map: tuple[int, ...] | None) -> int | None:
    return None if label is None or label_map is None else label_map[label]


def measured(
    seen: Sequence[Seen], recipe: Recipe, problems: Sequence[Problem] = (), run: Run | None = None
) -> Faithfulness:
    """Measure what `see` explained, by the recipe's protocol; its methods must be those that were explained."""
    run = run or Run()
    total = sum(recipe.cost(each.classifier, len(each.keys)) for each in seen)
    tables, done = [], 0
    for each in seen:
        tables.append(measure(each, recipe, within(run, done, total)))
        done += recipe.cost(each.classifier, len(each.keys))
    refused = {(each.network, method): reason for each in seen for method, reason in each.refused.items()}
    return Faithfulness(
        pa.concat_tables(tables).combine_chunks() if tables else pa.table({}),
        recipe,
        [Refused(network, method, reason) for (network, method), reason in refused.items()],
        problems,
    )


@public
def faithfulness(
    classifiers: Sequence[Classifier],
    images: DataSet | Sequence[Image.Image] | Sequence[Item],
    recipe: Recipe | None = None,
    view: str = "crop",
    run: Run | None = None,
) -> Faithfulness:
    """Explain and measure `images` on every classifier. Raises `InputError` and `Cancelled`."""
    recipe = recipe or Recipe()
    seen, problems = see(classifiers, images, recipe, view, run)
    return measured(seen, recipe, problems, run)


def rank_flips(a: Faithfulness, b: Faithfulness, metric: str = "insertion") -> tuple[Flip, ...]:
    """Pairs of methods whose order by mean score differs between two results, network by network."""
    return tuple(_flips(a, b, metric))


def _flips(a: Faithfulness, b: Faithfulness, metric: str) -> Iterator[Flip]:
    for network in (name for name in a.networks if name in b.networks):
        shared = [name for name in a.methods(network) if name in b.methods(network)]
        lead = [
            {name: (1 if each.better_up(metric) else -1) * each.mean(network, name, metric).mean for name in shared}
            for each in (a, b)
        ]
        for one, two in combinations(shared, 2):
            before, after = (means[one] - means[two] for means in lead)
            if before * after < 0:
                first, second = (one, two) if before > 0 else (two, one)
                titles = METHODS.get(first).title, METHODS.get(second).title
                yield Flip(
                    network,
                    first,
                    second,
                    f"{network}, {metric}: {titles[0]} is ahead of {titles[1]} by {a.curve_protocol.title}, behind it "
                    f"by {b.curve_protocol.title}.",
                )


def with_protocol(recipe: Recipe, protocol: str) -> Recipe:
    """The same recipe by another protocol, its own substrates included."""
    return dataclasses.replace(recipe, protocol=protocol, insertion_substrate="", deletion_substrate="")
