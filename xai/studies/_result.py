"""What was measured of images, networks and methods: the rows, and what figures and tables make of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import torch
from torch import Tensor

from xai.data._spec import Problem
from xai.errors import InputError
from xai.explain._spec import METHODS
from xai.metrics._protocol import CurveProtocol, get_protocol
from xai.metrics._spec import METRICS
from xai.metrics.curves import CURVES, drop
from xai.statistics import Band, Interval, Paired, bootstrap_band, bootstrap_mean, compare
from xai.studies._measure import SCORES, Recipe, protocol_of
from xai.types import Curve, Protocol


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

    Frozen: nothing changes the table. `metric` is one of `SCORES`; columns that nothing was measured for are empty. A
    method without a finite map on any image of a network counts as refused there; its rows stay in the table.
    """

    def __init__(
        self,
        table: pa.Table,
        recipe: Recipe,
        refused: Sequence[Refused] = (),
        problems: Sequence[Problem] = (),
    ) -> None:
        if table.num_rows == 0:
            first = f" (the first: {problems[0].key}, {problems[0].reason.rstrip('.')})" if problems else ""
            raise InputError(f"no image was measured; every one of them was bad, or there was none{first}.")
        self.table = table
        self.recipe = recipe
        self.problems = tuple(problems)
        self._parts: dict[tuple[str, str], pa.Table] = {}
        blank: list[Refused] = []
        for network in pc.unique(table["network"]).to_pylist():
            of_network = table.filter(pc.equal(table["network"], network))
            for method in pc.unique(of_network["method"]).to_pylist():
                part = of_network.filter(pc.equal(of_network["method"], method))
                if part["insertion"].null_count == part.num_rows:
                    blank.append(Refused(network, method, part["blank"][0].as_py() or "no map is finite"))
                else:
                    self._parts[network, method] = part
        if not self._parts:
            raise InputError(f"no map could be measured; {blank[0].method} on {blank[0].network}: {blank[0].reason}")
        self.refused = tuple(dict.fromkeys((*refused, *blank)))

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

    def protocol(self, network: str, metric: str) -> Protocol:
        """How the scores of `metric` were measured on `network`; steps in pixels depend on its input size."""
        part = self._part(network, self.methods(network)[0])
        return protocol_of(metric, self.recipe, (part["height"][0].as_py(), part["width"][0].as_py()))

    def sentence(self, metric: str) -> str:
        """The protocol of `metric` in words; where networks differ in it, each with its own."""
        said: dict[str, list[str]] = {}
        for network in self.networks:
            said.setdefault(self.protocol(network, metric).sentence, []).append(network)
        return " ".join(f"{', '.join(names)}: {text}" if len(said) > 1 else text for text, names in said.items())

    def values(self, network: str, method: str, metric: str) -> Tensor:
        """The score of each image (n,) float64, NaN where there is none."""
        if metric not in SCORES:
            raise InputError(f"metric {metric!r} is not measured here; use {', '.join(SCORES)}.")
        column = self._part(network, method)[metric].to_numpy()
        return torch.from_numpy(column.astype("float64"))

    def curve(self, network: str, method: str, metric: str) -> Curve:
        """The curves of all images, as `xai.metrics.curves` gave them; NaN where there is no score."""
        part = self._part(network, method)
        size = (part["height"][0].as_py(), part["width"][0].as_py())
        counts = self.curve_protocol.counts(size)
        column = part[f"{metric}_p"]
        good = torch.from_numpy(pc.is_valid(column).to_numpy())
        probability = torch.full((part.num_rows, len(counts)), math.nan)
        flat = pc.list_flatten(column).to_numpy().astype("float32")
        probability[good] = torch.from_numpy(flat).view(-1, len(counts))
        falls = metric == "deletion" and self.curve_protocol.drop
        return Curve(
            metric=metric,
            x=torch.tensor(counts, dtype=torch.float64) / counts[-1],
            y=torch.where(good[:, None], drop(probability), math.nan) if falls else probability,
            auc=self.values(network, method, metric),
            higher_is_better=self.better_up(metric),
            protocol=self.protocol(network, metric),
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
        if not bool(both.any()):
            raise InputError(f"there is no image on which both {a} and {b} have a score; compare others.")
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

    def parquet(self, command: str = "") -> bytes:
        """The table as a Parquet file; command: what makes it again, kept in the file's metadata."""
        sink = io.BytesIO()
        pq.write_table(self.table.replace_schema_metadata({"command": command} if command else None), sink)
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
