"""What was measured of images, networks and methods: the rows, and what figures and tables make of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import torch
from torch import Tensor

from xai.data.spec import Problem
from xai.errors import InputError
from xai.explain.spec import METHODS
from xai.metrics.curves import CURVES, drop
from xai.metrics.protocol import CurveProtocol, get_protocol
from xai.metrics.spec import METRICS
from xai.outputs import Output
from xai.stats.intervals import Band, Interval, Paired, bootstrap_band, bootstrap_mean, compare, wilson
from xai.studies.faithfulness.measure import SCORES, Recipe, protocol_of
from xai.types import Curve, Protocol
from xai.words import counted

SHARES = ("increase", "pointing")
"""Scores that are mostly 0 or 1 an image: their means are shares."""


@dataclass(frozen=True)
class Refused:
    """A method that does not apply to a network, and why."""

    network: str
    method: str
    reason: str


PIXEL_RIVAL = (
    "A map with one value a pixel has white noise as its rival: easy to beat in insertion, where scattered pixels show "
    "nothing, and hard in deletion, where they spoil everything; losing to it there is weak evidence."
)

GIVEN_AWAY = 0.5
"""Share of the whole image's probability from which a picture that shows nothing of it gives the class away."""

SHOWN_INSTEAD = {"blur": "the blurred image", "mean": "a picture of the mean colour", "black": "a black picture"}
"""What stands for missing pixels, in words."""


@dataclass(frozen=True)
class Bare:
    """The probability of the class where nothing of an image is shown: its mean, and on how many images it is high."""

    network: str
    metric: str
    mean: Interval
    given: int


WHITE_NOISE = (
    "Random is white noise: it takes a little away everywhere at once and so destroys every texture, which is why it "
    "is strong in deletion although it knows nothing."
)
"""Why the baseline "random" may rank first."""


@dataclass(frozen=True)
class Against:
    """A method against random maps of its own resolution `grid`, (h,w), `draws` of them for each image.

    paired: the method's score less the mean score of an image's draws, image by image, so that images, not draws, are
    what its interval and test count. random: the mean of those means. better: the whole interval lies on the better
    side (True), on the worse (False), or neither (None).
    """

    grid: tuple[int, int]
    draws: int
    paired: Paired
    random: Interval
    better: bool | None

    @property
    def title(self) -> str:
        """What the rival is called."""
        return rival_title(self.grid)

    @property
    def verdict(self) -> str:
        """The finding in words; one image has none."""
        if self.paired.difference.n < 2:
            return "one image shows no difference"
        return "no difference shown" if self.better is None else "better" if self.better else "worse"

    @property
    def sentence(self) -> str:
        """ "better than random 7 x 7: +0.115 [0.060, 0.171], wins on 5 of 5, p 0.0625, the smallest possible ..." """
        than = "" if self.better is None else f" than {self.title}"
        beside = f" ({self.title})" if self.better is None else ""
        d = self.paired.difference
        ends = "" if math.isnan(d.low) else f" [{d.low:.3f}, {d.high:.3f}]"
        return f"{self.verdict}{than}{beside}: {d.mean:+.3f}{ends}, {self.paired.finding}"


def rival_title(grid: tuple[int, int]) -> str:
    """What random maps of a grid are called."""
    return f"random {grid[0]} x {grid[1]}"


@dataclass(frozen=True)
class Score:
    """One method's mean on one network, with its place (1 is best) among all methods and baselines there.

    rank: None where no image has a score. missing: images without a score, whose map is blank, constant or not finite.
    against: the comparison with random maps of the method's own resolution, None for baselines and where no image has
    both.
    """

    network: str
    method: str
    title: str
    baseline: bool
    mean: Interval
    rank: int | None
    missing: int
    against: Against | None


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
        size = (part["height"][0].as_py(), part["width"][0].as_py())
        told = part["output"][0].as_py() if "output" in part.column_names else None  # runs of before know softmax alone
        return protocol_of(metric, self.recipe, size, Output.of(told or Output.SOFTMAX))

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
        """Mean score over the images that have one, with its 95 % interval; NaN where none has.

        A share of images that each count 0 or 1 has a Wilson interval: resampling images that are all alike would give
        one of no width.
        """
        values = self.values(network, method, metric)
        values = values[~torch.isnan(values)]
        if not len(values):
            return Interval(math.nan, math.nan, math.nan, 0)
        if metric in SHARES and len(values) > 1 and bool(((values == 0) | (values == 1)).all()):
            return wilson(int(values.sum()), len(values))
        return bootstrap_mean(values, self.recipe.seed)

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
                place = 1 + sum(sign * other.mean > sign * means[name].mean for other in means.values())
                rank = place if means[name].n else None
                against = self.against(network, name, metric)
                spec = METHODS.get(name)
                missing = self.missing(network, name, metric)
                found.append(
                    Score(network, name, spec.title, spec.family == "baseline", means[name], rank, missing, against)
                )
        return tuple(found)

    def grid(self, network: str, method: str) -> tuple[int, int] | None:
        """Resolution (h,w) of a method's maps on a network; None where it was not kept."""
        part = self._part(network, method)
        if "grid_height" not in part.column_names or part["grid_height"].null_count:
            return None
        return part["grid_height"][0].as_py(), part["grid_width"][0].as_py()

    def _draws(self, network: str, method: str, column: str) -> Tensor | None:
        """(n,K) or (n,K,S) of `column` for the K random maps beside a method, NaN without a score; None without any."""
        part = self._part(network, method)
        rows = part[column].to_pylist() if column in part.column_names else []
        known = [row for row in rows if row]
        if not known:
            return None
        nothing = torch.full_like(torch.tensor(known[0], dtype=torch.float64), math.nan)
        return torch.stack([torch.tensor(row, dtype=torch.float64) if row else nothing for row in rows])

    def against(self, network: str, method: str, metric: str) -> Against | None:
        """The method against random maps of its own resolution; None where there are none, or no image has both."""
        drawn, grid = self._draws(network, method, f"random_{metric}"), self.grid(network, method)
        if drawn is None or grid is None:
            return None
        own, random = self.values(network, method, metric), drawn.mean(1)
        both = ~(own.isnan() | random.isnan())
        if not bool(both.any()):
            return None
        up, seed = self.better_up(metric), self.recipe.seed
        paired = compare(own[both], random[both], up, seed)
        low, high = (
            (paired.difference.low, paired.difference.high)
            if up
            else (
                -paired.difference.high,
                -paired.difference.low,
            )
        )
        better = True if low > 0 else False if high < 0 else None
        return Against(grid, drawn.shape[1], paired, bootstrap_mean(random[both], seed), better)

    def rivals(self, network: str) -> dict[tuple[int, int], str]:
        """The resolutions at which random maps were measured on a network, each with a method that has it."""
        found: dict[tuple[int, int], str] = {}
        for method in self.methods(network):
            grid = self.grid(network, method)
            if grid and self._draws(network, method, "random_insertion") is not None:
                found.setdefault(grid, method)
        return found

    def coarse_rivals(self, network: str) -> tuple[str, ...]:
        """A method of each resolution coarser than the pixels, at which the baseline "random" is the rival."""
        part = self._part(network, self.methods(network)[0])
        size = (part["height"][0].as_py(), part["width"][0].as_py())
        return tuple(method for grid, method in self.rivals(network).items() if grid != size)

    def rival_curve(self, network: str, method: str, metric: str, draw: int | None = None) -> Curve:
        """The curves (n,S) of the random maps beside a method: of one draw, or the mean over an image's draws."""
        curve, drawn = self.curve(network, method, metric), self._draws(network, method, f"random_{metric}_p")
        auc = self._draws(network, method, f"random_{metric}")
        if drawn is None or auc is None:
            raise InputError(f"no random maps were measured beside {method} on {network}.")
        falls = metric == "deletion" and self.curve_protocol.drop
        y = drop(drawn) if falls else drawn
        some = slice(None) if draw is None else slice(draw, draw + 1)
        y, auc, drawn = (each[:, some].mean(1) for each in (y, auc, drawn))
        return replace(curve, y=y, auc=auc, probability=drawn)

    def rival_mean(self, network: str, method: str, metric: str) -> MeanCurve:
        """The mean curve of the random maps beside a method; the interval is over images, whose draws are averaged."""
        curve, grid = self.rival_curve(network, method, metric), self.grid(network, method)
        assert grid is not None
        good = ~curve.auc.isnan()
        band = bootstrap_band(curve.y[good], self.recipe.seed)
        return MeanCurve(network, rival_title(grid), curve.x, band, curve.protocol)

    @property
    def about_random(self) -> str:
        """How methods are compared with random maps, in words; "" where they are not."""
        grids = {grid for network in self.networks for grid in self.rivals(network)}
        if not grids:
            return ""
        own = " and ".join(f"{h} x {w}" for h, w in sorted(grids))
        parts = [self._parts[network, method] for network in self.networks for method in self.rivals(network).values()]
        draws = max(len(row or ()) for part in parts for row in part["random_insertion"].to_pylist())
        sizes = {(part["height"][0].as_py(), part["width"][0].as_py()) for part in parts}
        fine = " " + PIXEL_RIVAL if grids & sizes else ""
        return (
            f"Against random: each map against {draws} random map{'s' * (draws > 1)} of its own resolution ({own}), "
            f"drawn large as it is, image by image; the draws of an image are averaged first.{fine}"
        )

    def bare(self, network: str, metric: str) -> Bare:
        """What the network says where nothing of an image is shown: how insertion starts, and deletion ends."""
        found: dict[int, tuple[float, float]] = {}
        for method in self.methods(network):
            part = self._part(network, method).select(["index", f"{metric}_p"]).to_pylist()
            found |= {
                row["index"]: (row[f"{metric}_p"][0], row[f"{metric}_p"][-1]) for row in part if row[f"{metric}_p"]
            }
        ends = torch.tensor(list(found.values()), dtype=torch.float64)
        shown, whole = ends.T if metric == "insertion" else ends.flip(1).T
        given = int((shown >= GIVEN_AWAY * whole).sum())
        return Bare(network, metric, bootstrap_mean(shown, self.recipe.seed), given)

    @property
    def given_away(self) -> tuple[str, ...]:
        """A sentence for each network and curve whose substrate alone already gives the class away."""
        every = [self.bare(network, metric) for network in self.networks for metric in CURVES]
        named = len(self.networks) > 1
        return tuple(self._told(each, named) for each in every if each.given)

    def _told(self, bare: Bare, named: bool) -> str:
        substrate = str(self.protocol(bare.network, bare.metric).settings["substrate"])
        what = SHOWN_INSTEAD.get(substrate, f"a picture of the colour {substrate}")
        begins = "Insertion starts" if bare.metric == "insertion" else "Deletion ends"
        n = bare.mean.n
        where = f"on {bare.given} of {n} images" if n > 1 else "here"
        return (
            f"{begins} at {bare.mean.mean:.2f}{' on average' * (n > 1)}{f' on {bare.network}' * named}: {what} alone "
            f"already gives the class away {where} (at least half of the whole image's probability), so that the AUC "
            "hardly tells one order from another. Another substrate would."
        )

    def missing(self, network: str, method: str, metric: str) -> int:
        """Images on which the method has no score, though other methods have one."""
        part = self._part(network, method)
        others = [self._parts[network, each] for each in self.methods(network)]
        scored = pa.concat_tables([each.filter(pc.is_valid(each[metric])) for each in others])["index"]
        alone = part.filter(pc.is_null(part[metric]))["index"]
        return len(set(alone.to_pylist()) & set(scored.to_pylist()))

    @property
    def without_order(self) -> tuple[str, ...]:
        """A sentence for each method that has no order on some images: how many, and why."""
        found = []
        for (network, method), part in self._parts.items():
            blank = part.filter(pc.is_null(part["insertion"]))
            if blank.num_rows:
                where = f" on {network}" if len(self.networks) > 1 else ""
                reasons = dict.fromkeys(_reason(each) for each in blank["blank"].to_pylist())
                found.append(
                    f"{METHODS.get(method).title}{where} has no order of pixels, and so no score, on "
                    f"{blank.num_rows} of {counted(part.num_rows, 'image')}: {' / '.join(reasons)}"
                )
        return tuple(found)

    def correct(self, network: str) -> Interval | None:
        """Share of labelled images that the network classified as labelled, Wilson's interval; None without labels."""
        part = self._part(network, self.methods(network)[0])["correct"].drop_null()
        if len(part) == 0:
            return None
        right = part.to_numpy()
        return wilson(int(right.sum()), len(right))

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
            texts = [_text(row) for row in table[f"{metric}_p"].to_pylist()]
            table = table.set_column(place, f"{metric}_p", pa.array(texts, pa.string()))
        for place, field in enumerate(table.schema):
            if pa.types.is_list(field.type):  # of random maps: draws between semicolons
                texts = [";".join(map(_text, row or ())) for row in table[field.name].to_pylist()]
                table = table.set_column(place, field.name, pa.array(texts, pa.string()))
        sink = io.BytesIO()
        pyarrow.csv.write_csv(table, sink)
        return sink.getvalue()


def _reason(text: str) -> str:
    """Why a map is blank, without its numbers, which differ from image to image."""
    return f"{text.partition(' (')[0].rstrip('.')}." if text else "no map."


def _text(value: float | Sequence[float] | None) -> str:
    """A number, or numbers with spaces between, as a table of text holds them."""
    if value is None:
        return ""
    return " ".join(f"{v:.6g}" for v in value) if isinstance(value, Sequence) else f"{value:.6g}"
