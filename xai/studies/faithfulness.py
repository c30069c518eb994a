"""Is the explanation faithful? Curves, means with intervals, ranks and paired tests over images, beside baselines.

Study 1's figures 6 and 7 are `FIGURES_6_7`. The same results are made of images at hand (`faithfulness`) and of the
rows of a run (`xai.studies.evaluate.open_results`).
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from xai.data._spec import DataSet, Item, Problem
from xai.data.loader import read_batches
from xai.errors import InputError
from xai.explain._spec import METHODS
from xai.metrics._engine import within
from xai.metrics._protocol import CurveProtocol, describe, get_protocol
from xai.metrics._spec import METRICS
from xai.metrics.curves import CURVES, drop
from xai.models.classifier import Classifier
from xai.statistics import Band, Interval, Paired, bootstrap_band, bootstrap_mean, compare
from xai.studies._measure import BASELINES, SCORES, Recipe, Seen, look, measure, network_name
from xai.types import Curve, Protocol, Run

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
class Refused:
    """A method that does not apply to a network, and why."""

    network: str
    method: str
    reason: str


@dataclass(frozen=True)
class Score:
    """One method's mean on one network, with its place (1 is best) among all methods and baselines there.

    against: the paired comparison with random order, None for random itself or where it was not measured.
    """

    network: str
    method: str
    title: str
    baseline: bool
    mean: Interval
    rank: int
    against: Paired | None


@dataclass(frozen=True)
class Flip:
    """Two methods that change places between two protocols."""

    network: str
    first: str
    second: str
    sentence: str


@dataclass(frozen=True, eq=False)
class MeanCurve:
    """A mean curve to draw: x (S,), the band, and what was measured."""

    network: str
    method: str
    x: Tensor
    band: Band
    protocol: Protocol


class Faithfulness:
    """What was measured: one row for each (network, image, method) in `table`, and what a figure needs of it.

    Frozen: nothing changes the table. `metric` is one of `SCORES`; columns that nothing was measured for are empty.
    """

    def __init__(
        self,
        table: pa.Table,
        recipe: Recipe,
        refused: Sequence[Refused] = (),
        problems: Sequence[Problem] = (),
    ) -> None:
        if table.num_rows == 0:
            raise InputError("no image was measured; every one of them was bad, or there was none.")
        self.table = table
        self.recipe = recipe
        self.refused = tuple(refused)
        self.problems = tuple(problems)
        self._parts: dict[tuple[str, str], pa.Table] = {}
        for network in pc.unique(table["network"]).to_pylist():
            of_network = table.filter(pc.equal(table["network"], network))
            for method in pc.unique(of_network["method"]).to_pylist():
                self._parts[network, method] = of_network.filter(pc.equal(of_network["method"], method))

    @property
    def networks(self) -> tuple[str, ...]:
        """Networks, in the order asked for."""
        return tuple(dict.fromkeys(network for network, _ in self._parts))

    def methods(self, network: str) -> tuple[str, ...]:
        """Methods and baselines measured on `network`, in the order asked for."""
        return tuple(method for each, method in self._parts if each == network)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The scores that there are."""
        return tuple(name for name in SCORES if self.table[name].null_count < self.table.num_rows)

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images, in order."""
        return tuple(self._part(*next(iter(self._parts)))["image"].to_pylist())

    def _part(self, network: str, method: str) -> pa.Table:
        if (network, method) not in self._parts:
            known = ", ".join(f"{m} on {n}" for n, m in self._parts)
            raise InputError(f"{method} on {network} was not measured; there is {known}.")
        return self._parts[network, method]

    def better_up(self, metric: str) -> bool:
        """Whether higher is better, under this protocol."""
        if metric in CURVES:
            return self.curve_protocol.better_up(metric)
        return METRICS.get(metric).better_up(METRICS.get(metric).params())

    @property
    def curve_protocol(self) -> CurveProtocol:
        """The protocol of the curves."""
        return get_protocol(self.recipe.protocol)

    def values(self, network: str, method: str, metric: str) -> Tensor:
        """The score of each image (n,) float64, NaN where there is none."""
        if metric not in SCORES:
            raise InputError(f"metric {metric!r} is not measured here; use {', '.join(SCORES)}.")
        column = self._part(network, method)[metric].to_numpy()
        return torch.from_numpy(column.astype("float64"))

    def curve(self, network: str, method: str, metric: str) -> Curve:
        """The curves of all images, as `xai.metrics.curves` gave them."""
        part = self._part(network, method)
        size = (part["height"][0].as_py(), part["width"][0].as_py())
        counts = self.curve_protocol.counts(size)
        flat = pc.list_flatten(part[f"{metric}_p"]).to_numpy()
        probability = torch.from_numpy(flat.astype("float32").reshape(part.num_rows, len(counts)))
        falls = metric == "deletion" and self.curve_protocol.drop
        substrate = self.recipe.substrates.get(metric) or self.curve_protocol.substrate(metric)
        given = self.recipe.target == "label"
        return Curve(
            metric=metric,
            x=torch.tensor(counts, dtype=torch.float64) / counts[-1],
            y=drop(probability) if falls else probability,
            auc=self.values(network, method, metric),
            higher_is_better=self.better_up(metric),
            protocol=describe(metric, self.curve_protocol, size, substrate, self.recipe.precision, given),
            probability=probability,
        )

    def mean_curve(self, network: str, method: str, metric: str, plain: bool = False) -> MeanCurve:
        """The mean curve with its 95 % interval; `plain` asks for p(t) where the protocol draws its drop."""
        curve = self.curve(network, method, metric)
        good = ~torch.isnan(curve.auc)
        y = curve.probability if plain and curve.probability is not None else curve.y
        return MeanCurve(network, method, curve.x, bootstrap_band(y[good], self.recipe.seed), curve.protocol)

    def mean(self, network: str, method: str, metric: str) -> Interval:
        """Mean score over the images that have one, with its 95 % interval."""
        values = self.values(network, method, metric)
        return bootstrap_mean(values[~torch.isnan(values)], self.recipe.seed)

    def compare(self, network: str, a: str, b: str, metric: str) -> Paired:
        """Methods `a` and `b` over the same images: mean difference, interval, wins, Wilcoxon's p."""
        one, two = (self.values(network, method, metric) for method in (a, b))
        both = ~(torch.isnan(one) | torch.isnan(two))
        return compare(one[both], two[both], self.better_up(metric), self.recipe.seed)

    def scores(self, metric: str) -> tuple[Score, ...]:
        """Every method on every network, ranked within its network; equal means share the better rank."""
        found: list[Score] = []
        for network in self.networks:
            names = self.methods(network)
            means = {name: self.mean(network, name, metric) for name in names}
            sign = 1 if self.better_up(metric) else -1
            for name in names:
                rank = 1 + sum(sign * other.mean > sign * means[name].mean for other in means.values())
                random = "random" in names and name != "random"
                against = self.compare(network, name, "random", metric) if random else None
                spec = METHODS.get(name)
                found.append(Score(network, name, spec.title, spec.family == "baseline", means[name], rank, against))
        return tuple(found)

    def correct(self, network: str) -> Interval | None:
        """Share of labelled images that the network classified as labelled; None without labels."""
        part = self._part(network, self.methods(network)[0])["correct"].drop_null()
        if len(part) == 0:
            return None
        return bootstrap_mean(torch.from_numpy(part.to_numpy().astype("float64")), self.recipe.seed)

    def parquet(self) -> bytes:
        """The table as a Parquet file."""
        sink = io.BytesIO()
        pq.write_table(self.table, sink)
        return sink.getvalue()

    def csv(self) -> bytes:
        """The table as CSV, curves as numbers with spaces between."""
        table = self.table
        for metric in CURVES:
            place = table.schema.get_field_index(f"{metric}_p")
            texts = [" ".join(f"{v:.6g}" for v in row) if row else "" for row in table[f"{metric}_p"].to_pylist()]
            table = table.set_column(place, f"{metric}_p", pa.array(texts, pa.string()))
        sink = io.BytesIO()
        pyarrow.csv.write_csv(table, sink)
        return sink.getvalue()


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
