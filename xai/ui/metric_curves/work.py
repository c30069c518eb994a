"""The metric curves as work for the board: one image with the pictures behind its curves, and all images.

What was found for (image, network, method) is kept by itself, so another method, network, protocol or picture costs
only what is new, and work that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from xai.data.spec import Problem
from xai.errors import ImageError, InputError, WeightsError
from xai.metrics.curves import CURVES
from xai.metrics.engine import within
from xai.metrics.protocol import PROTOCOLS
from xai.models.classifier import Classifier
from xai.studies.comparison import Cost, forward_seconds
from xai.studies.faithfulness.measure import network_name, refusal
from xai.studies.faithfulness.seen import Faithfulness, MeanCurve, Refused, Score, with_protocol
from xai.types import Run
from xai.ui.metric_curves.scrub import scrub_packet
from xai.ui.metric_curves.sight import Sight
from xai.ui.metric_curves.state import Pictures, Piece, Terms
from xai.ui.work import Held, Net, short

AUTO_SECONDS = 30.0
"""Curves that are estimated to take longer wait until the person has seen their cost and says go ..."""

FREE_PASSES = 300
"""... unless they are fewer forward passes than this: the first curves are never held."""


def _held(sights: Sequence[Sight], go: bool, run: Run) -> Held | None:
    """What it will cost, where that is much and nobody has said go."""
    if go:
        return None
    passes = sum(sight.cost() for sight in sights)
    if passes <= FREE_PASSES:
        return None
    seconds = sum(sight.cost() * forward_seconds(sight.classifier, run) for sight in sights)
    return Held(Cost(passes, seconds)) if seconds > AUTO_SECONDS else None


@dataclass(frozen=True)
class OneRequest:
    """The curves of one image on one network, with what the scrubber composes its pictures from."""

    piece: Piece
    pictures: Pictures
    net: Net
    view: str
    terms: Terms
    go: bool = False

    @property
    def base(self) -> tuple[Hashable, ...]:
        """Identity of the result, whoever said go."""
        return ("curve", self.piece.ident, self.net.key, self.view, self.terms)

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Identity of the job."""
        return (*self.base, self.go)

    @property
    def id(self) -> str:
        """Packet id."""
        return short(*self.base)

    def work(self, run: Run) -> OneFound | Held:
        """Do it. Raises what loading, decoding and explaining raise."""
        run.report(0, 0, f"Loading {self.net.title}")
        classifier = self.net.load()
        label = self.pictures.labels(classifier.labels)(self.piece)
        sight = Sight(self.piece, label, self.net, classifier, self.view, self.terms)
        held = _held([sight], self.go, run)
        if held is not None:
            return held
        found = Faithfulness(pa.concat_tables(sight.rows(run)), self.terms.recipe())
        return OneFound(scrub_packet(self.id, sight, found, run))


@dataclass(frozen=True, eq=False)
class OneFound:
    """The packet for the scrubber."""

    data: bytes

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return len(self.data)


@dataclass(frozen=True)
class SetRequest:
    """The curves of all images on all networks."""

    pictures: Pictures
    nets: tuple[Net, ...]
    view: str
    terms: Terms
    go: bool = False

    @property
    def base(self) -> tuple[Hashable, ...]:
        """Identity of the result, whoever said go."""
        return ("curves", self.pictures.key, tuple(net.key for net in self.nets), self.view, self.terms)

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Identity of the job."""
        return (*self.base, self.go)

    def work(self, run: Run) -> SetFound | Held:
        """Image by image, each on every network; a network without weights is left out and said.

        Raises `WeightsError` where no network can be had, `InputError` where no image can be read, and `Cancelled`.
        """
        classifiers, failed = self._load(run)
        sights = list(self._sights(classifiers))
        held = _held(sights, self.go, run)
        if held is not None:
            return held
        recipe = self.terms.recipe()
        tables: dict[Net, list[pa.Table]] = {net: [] for net in classifiers}
        problems: dict[str, str] = {}
        costs = [sight.cost() for sight in sights]
        done, total = 0, sum(costs)
        for sight, cost in zip(sights, costs, strict=True):
            run.report(done, total, f"{sight.piece.item.key} on {sight.classifier.title}")
            try:
                tables[sight.net] += sight.rows(within(run, done, total))
            except ImageError as error:
                problems[sight.piece.item.key] = str(error)
            done += cost
        rows = [row for each in tables.values() for row in each]
        refused = [
            Refused(network_name(classifier), name, reason)
            for classifier in classifiers.values()
            for name in recipe.everything
            if (reason := refusal(classifier, name, recipe))
        ]
        left_out = [*self.pictures.problems, *(Problem(key, why) for key, why in problems.items())]
        if not rows and left_out:
            raise InputError(f"no image could be read; the first: {left_out[0].key}, {left_out[0].reason}")
        result = Faithfulness(pa.concat_tables(rows).combine_chunks(), recipe, refused, left_out)
        return SetFound.of(self, result, failed, self._others(classifiers, run))

    def _load(self, run: Run) -> tuple[dict[Net, Classifier], dict[Net, str]]:
        classifiers: dict[Net, Classifier] = {}
        failed: dict[Net, str] = {}
        problem: WeightsError | None = None
        for net in self.nets:
            run.report(0, 0, f"Loading {net.title}")
            try:
                classifiers[net] = net.load()
            except WeightsError as error:
                failed[net], problem = str(error), error
        if problem is not None and not classifiers:
            raise problem
        return classifiers, failed

    def _sights(self, classifiers: Mapping[Net, Classifier]) -> Iterator[Sight]:
        named = {net: self.pictures.labels(classifier.labels) for net, classifier in classifiers.items()}
        for piece in self.pictures.pieces:
            for net, classifier in classifiers.items():
                yield Sight(piece, named[net](piece), net, classifier, self.view, self.terms)

    def _others(self, classifiers: Mapping[Net, Classifier], run: Run) -> dict[str, Cost]:
        """What each protocol costs for all images, to be said beside its button."""
        images, recipe = len(self.pictures.pieces), self.terms.recipe()
        found = {}
        for name in PROTOCOLS:
            passes = {c: with_protocol(recipe, name).cost(c, images) for c in classifiers.values()}
            seconds = sum(count * forward_seconds(c, run) for c, count in passes.items())
            found[name] = Cost(sum(passes.values()), seconds)
        return found


@dataclass(frozen=True, eq=False)
class SetFound:
    """All images measured, and what figures and tables show of it, computed once."""

    request: SetRequest
    result: Faithfulness
    means: Mapping[tuple[str, str, str], MeanCurve]
    rivals: tuple[MeanCurve, ...]
    scores: Mapping[str, tuple[Score, ...]]
    failed: Mapping[Net, str]
    costs: Mapping[str, Cost]

    @classmethod
    def of(
        cls, request: SetRequest, result: Faithfulness, failed: Mapping[Net, str], costs: Mapping[str, Cost]
    ) -> SetFound:
        """Means with intervals, and scores with ranks."""
        means = {
            (network, method, metric): result.mean_curve(network, method, metric)
            for metric in CURVES
            for network in result.networks
            for method in result.methods(network)
        }
        rivals = tuple(
            result.rival_mean(network, method, metric)
            for metric in CURVES
            for network in result.networks
            for method in result.coarse_rivals(network)
        )
        scores = {metric: result.scores(metric) for metric in result.metrics}
        return cls(request, result, means, rivals, scores, failed, costs)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        own = (each.item for each in self.request.pictures.pieces if isinstance(each.item.open, partial))
        return int(self.result.table.nbytes) + sum(item.bytes for item in own)  # what was sent is kept whole

    def sentence(self, metric: str) -> str:
        """The protocol of one metric."""
        return self.result.sentence(metric)


def going(request: Any, go: set[Hashable], there: Callable[[Hashable], object]) -> Any:
    """The request with its word: somebody, here or in another session, has said that it may take long."""
    gone = dataclasses.replace(request, go=True)
    return gone if request.base in go or there(gone.key) is not None else request
