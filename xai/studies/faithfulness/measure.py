"""Images in, one row for each image and method out: what the page and the run both do."""

from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from xai.errors import InputError
from xai.explain.call import attribute, make_explainer
from xai.explain.spec import METHODS
from xai.metrics.curves import CURVES, CurveSet, curves
from xai.metrics.drop import confidence_left, drop_protocol, scores_of
from xai.metrics.energy import ENERGY_PROTOCOL, energy
from xai.metrics.engine import within
from xai.metrics.pointing import pointing, pointing_protocol
from xai.metrics.protocol import check_precision, describe, get_protocol
from xai.metrics.substrate import check_substrate
from xai.models.classifier import Classifier
from xai.outputs import Output
from xai.params import check_bounds
from xai.stats.similarity import is_constant
from xai.types import Protocol, Run, drawn_large, pixel_digest

BASELINES = ("random", "center", "edges")
TARGETS = ("predicted", "label")

SCORES = ("insertion", "deletion", "drop", "increase", "energy", "pointing")
"""Columns of scores, each with the sentence of its protocol; energy and pointing are null where no mask is known, or
nothing of the object is in sight."""

DRAWS = 3
"""Random maps of its own resolution that each method is compared with, for each image."""

SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("index", pa.int32()),
        ("network", pa.string()),
        ("model", pa.string()),
        ("weights", pa.string()),
        ("fingerprint", pa.string()),
        ("output", pa.string()),
        ("method", pa.string()),
        ("baseline", pa.bool_()),
        ("protocol", pa.string()),
        ("precision", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("label", pa.int32()),
        ("label_name", pa.string()),
        ("predicted", pa.int32()),
        ("predicted_name", pa.string()),
        ("correct", pa.bool_()),
        ("target", pa.int32()),
        ("target_name", pa.string()),
        ("confidence", pa.float64()),
        *((name, pa.float64()) for name in SCORES),
        ("insertion_p", pa.list_(pa.float32())),
        ("deletion_p", pa.list_(pa.float32())),
        ("blank", pa.string()),
        ("grid_height", pa.int32()),
        ("grid_width", pa.int32()),
        *((f"random_{name}", pa.list_(pa.float64())) for name in SCORES),
        ("random_insertion_p", pa.list_(pa.list_(pa.float32()))),
        ("random_deletion_p", pa.list_(pa.list_(pa.float32()))),
        *((f"{name}_protocol", pa.string()) for name in SCORES),
    ]
)
"""grid_height, grid_width: the resolution of the method's map. random_*: the scores and curves of as many random maps
of that resolution as were drawn; empty for baselines."""

COARSE = ("cam", "attention")
"""Families whose maps have the resolution of a layer."""

CONSTANT = "The map has one value everywhere: it puts no pixel before another."
"""Why a map that is neither zero nor infinite has no score."""


@dataclass(frozen=True)
class Recipe:
    """What is measured, the same for every image and classifier.

    methods and baselines by name; params: a method's own parameters by its name; layer: for methods that have one.
    target: explain and follow the "predicted" class or the "label". substrates "": the protocol's own. draws: random
    maps of its own resolution that each method is compared with, for each image; 0 for none.
    """

    methods: tuple[str, ...] = ("gradcam",)
    baselines: tuple[str, ...] = BASELINES
    protocol: str = "rise"
    insertion_substrate: str = ""
    deletion_substrate: str = ""
    target: str = "predicted"
    precision: str = "float32"
    layer: str | None = None
    seed: int = 0
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    draws: int = field(default=DRAWS, metadata={"min": 0, "max": 100})

    def __post_init__(self) -> None:
        check_bounds(self)
        get_protocol(self.protocol)
        check_precision(self.precision)
        for name in filter(None, (self.insertion_substrate, self.deletion_substrate)):
            check_substrate(name)
        if self.target not in TARGETS:
            raise InputError(f"target {self.target!r} is not known; use {' or '.join(TARGETS)}.")
        if not self.methods:
            raise InputError("there is no method to measure; give at least one.")
        for name in self.everything:
            make_explainer(METHODS.get(name), self.layer, **self.params.get(name, {}))

    @property
    def everything(self) -> tuple[str, ...]:
        """Methods, then the baselines that are not among them."""
        return tuple(dict.fromkeys((*self.methods, *self.baselines)))

    @property
    def substrates(self) -> dict[str, str]:
        """Substrate by metric, where one was chosen."""
        chosen = {"insertion": self.insertion_substrate, "deletion": self.deletion_substrate}
        return {metric: name for metric, name in chosen.items() if name}

    def cost(self, classifier: Classifier, images: int) -> int:
        """Forward passes for `images` images, refused methods left out (a backward counts two).

        Random maps are counted once for each kind of resolution that the methods have.
        """
        specs = [METHODS.get(name) for name in self.everything if not refusal(classifier, name, self)]
        made = {spec.name: make_explainer(spec, self.layer, **self.params.get(spec.name, {})) for spec in specs}
        explaining = sum(spec.passes(classifier, made[spec.name]) for spec in specs)
        kinds = set()
        for spec in (spec for spec in specs if spec.family != "baseline"):
            own = getattr(made[spec.name], "grid", None)
            kinds.add(own(classifier.input_size) if own else spec.family if spec.family in COARSE else "pixels")
        inner = len(get_protocol(self.protocol).counts(classifier.input_size)) - 2
        return images * (explaining + 2 + (len(specs) + self.draws * len(kinds)) * (2 * inner + 1))


@dataclass(frozen=True, eq=False)
class Seen:
    """N images as one classifier sees them, explained.

    keys: their names. places: their numbers in the data set. labels: class of the classifier, or None. x (N,3,H,W);
    logits (N,K); target (N,); maps: method -> (N,H,W). grids: method -> (h,w), the map's own resolution. blank: method
    -> one reason an image, "" where the map shows something. refused: method -> reason. masks (N,H,W) bool, or None.
    notes: method -> what else belongs beside the map of each image, "" where nothing.
    """

    classifier: Classifier
    keys: tuple[str, ...]
    places: tuple[int, ...]
    labels: tuple[int | None, ...]
    x: Tensor
    logits: Tensor
    target: Tensor
    maps: Mapping[str, Tensor]
    grids: Mapping[str, tuple[int, int]]
    blank: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, str]
    masks: Tensor | None = None
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def network(self) -> str:
        """What figures call the classifier."""
        return network_name(self.classifier)


def network_name(classifier: Classifier) -> str:
    """The classifier's name, with its weights where they are not ImageNet's."""
    usual = classifier.weights == "imagenet"
    return classifier.name if usual else f"{classifier.name} ({classifier.weights})"


_refusals: weakref.WeakKeyDictionary[Classifier, dict[Any, str]] = weakref.WeakKeyDictionary()


def refusal(classifier: Classifier, method: str, recipe: Recipe) -> str:
    """Why `method` does not apply to the classifier; "" where it does."""
    spec = METHODS.get(method)
    explainer = make_explainer(spec, recipe.layer, **recipe.params.get(method, {}))
    known = _refusals.setdefault(classifier, {})
    if (method, explainer) not in known:  # some walk through the whole network to find out
        coverage = spec.coverage(classifier, explainer)
        known[method, explainer] = coverage.sentence if coverage.status == "refused" else ""
    return known[method, explainer]


def protocol_of(metric: str, recipe: Recipe, size: tuple[int, int], output: Output = Output.SOFTMAX) -> Protocol:
    """How a score of `SCORES` is measured by the recipe on a classifier with inputs of `size` (H,W)."""
    given = recipe.target == "label"
    if metric in CURVES:
        protocol = get_protocol(recipe.protocol)
        substrate = recipe.substrates.get(metric) or protocol.substrate(metric)
        return describe(metric, protocol, size, substrate, recipe.precision, given, output)
    if metric in ("drop", "increase"):
        return drop_protocol(metric, precision=recipe.precision, given=given, output=output)
    return ENERGY_PROTOCOL if metric == "energy" else pointing_protocol()


def look(
    classifier: Classifier,
    x: Tensor,
    recipe: Recipe,
    keys: Sequence[str],
    places: Sequence[int],
    labels: Sequence[int | None],
    masks: Tensor | None = None,
    run: Run | None = None,
) -> Seen:
    """Explain x (N,3,H,W) by every method and baseline of the recipe.

    Raises `InputError` where all methods are refused, and where labels are to be explained that are not known.
    """
    run = dataclasses.replace(run or Run(), seed=recipe.seed)
    refused = {name: reason for name in recipe.everything if (reason := refusal(classifier, name, recipe))}
    if not set(recipe.methods) - set(refused):
        raise InputError(f"no method applies to {classifier.title}: {'; '.join(refused.values())}.")
    target: Tensor | None = None
    if recipe.target == "label":
        if None in labels:
            raise InputError("target is label, but images without a label are among them; use target predicted.")
        target = torch.tensor([label for label in labels if label is not None])
    maps: dict[str, Tensor] = {}
    grids: dict[str, tuple[int, int]] = {}
    blank: dict[str, tuple[str, ...]] = {}
    notes: dict[str, tuple[str, ...]] = {}
    logits = torch.empty(0)
    for name in (name for name in recipe.everything if name not in refused):
        run.check()
        quiet = run.quiet()
        found = attribute(classifier, x, name, target, recipe.layer, run=quiet, **recipe.params.get(name, {}))
        if target is None:
            target = found.target  # the first forward decides; every other method explains the same class
        logits = logits if len(logits) else found.logits
        maps[name] = found.maps()
        own = getattr(make_explainer(METHODS.get(name), recipe.layer, **recipe.params.get(name, {})), "grid", None)
        grids[name] = own(classifier.input_size) if own else (found.values.shape[-2], found.values.shape[-1])
        flat = is_constant(maps[name]).tolist()
        blank[name] = tuple(why or CONSTANT * same for why, same in zip(found.facts["blank"], flat, strict=True))
        notes[name] = tuple(found.facts["note"])
    assert target is not None
    return Seen(
        classifier,
        tuple(keys),
        tuple(places),
        tuple(labels),
        x,
        logits,
        target,
        maps,
        grids,
        blank,
        refused,
        masks,
        notes,
    )


def random_maps(x: Tensor, grid: tuple[int, int], draw: int, seed: int) -> Tensor:
    """Random maps (N,H,W) of x (N,3,H,W): uniform values on a grid (h,w), drawn large as a method's own map is.

    They depend on the seed, the draw, the grid and each image's pixels alone.
    """
    run = Run(seed=seed)
    values = [torch.rand(grid, generator=run.generator("rival", *grid, draw, pixel_digest(image))) for image in x]
    return drawn_large(torch.stack(values), (x.shape[-2], x.shape[-1]))


def measure(seen: Seen, recipe: Recipe, run: Run | None = None, batch: int | None = None) -> pa.Table:
    """One row for each image and method, `SCHEMA`, images in order, methods in the recipe's order.

    A map that is not finite, or that puts no pixel before another, has null scores and curves, and its reason in
    "blank".
    """
    run = dataclasses.replace(run or Run(), seed=recipe.seed)
    good = {name: torch.isfinite(values).flatten(1).all(1) for name, values in seen.maps.items()}
    maps = {name: torch.where(good[name][:, None, None], values, 0.0) for name, values in seen.maps.items()}
    images = len(seen.keys)
    rivals = {
        (grid, draw): random_maps(seen.x, grid, draw, recipe.seed)
        for grid in dict.fromkeys(seen.grids[name] for name in maps if METHODS.get(name).family != "baseline")
        for draw in range(recipe.draws)
    }
    every = maps | {_rival(*key): values for key, values in rivals.items()}
    inner = len(get_protocol(recipe.protocol).counts(seen.classifier.input_size)) - 2
    total = images * (2 + len(every) * (2 * inner + 1))
    found = curves(
        seen.classifier,
        seen.x,
        every,
        recipe.protocol,
        CURVES,
        seen.target,
        recipe.substrates,
        recipe.precision,
        within(run, 0, total),
        batch,
    )
    part = within(run, total - images * len(every), total)
    left = confidence_left(seen.classifier, seen.x, every, seen.target, precision=recipe.precision, run=part)
    always = torch.ones(images, dtype=torch.bool)
    all_columns = {
        name: _columns(found, name, left[name], values, seen.masks, good.get(name, always))
        for name, values in every.items()
    }
    columns = {name: all_columns[name] for name in maps}
    for name, own in columns.items():
        grid = seen.grids[name]
        own.update({"grid_height": [grid[0]] * images, "grid_width": [grid[1]] * images})
        drawn = [all_columns[_rival(grid, draw)] for draw in range(recipe.draws) if (grid, draw) in rivals]
        if drawn and METHODS.get(name).family != "baseline":
            own.update(_drawn(drawn))
    return _table(seen, recipe, found.confidence.double().tolist(), columns)


def _rival(grid: tuple[int, int], draw: int) -> str:
    return f"random {grid[0]} x {grid[1]}, draw {draw}"


def _drawn(draws: Sequence[Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    """Columns of the random maps beside a method: of each image the list of the draws' values, null without a score."""
    found = {}
    for name, first in draws[0].items():
        rows = zip(*(each[name] for each in draws), strict=True)
        found[f"random_{name}"] = [None if None in row else list(row) for row in rows] if first else []
    return found


def _columns(
    found: CurveSet, name: str, left: Tensor, values: Tensor, masks: Tensor | None, good: Tensor
) -> dict[str, list[Any]]:
    """Columns of scores and curves of one method, one entry an image."""
    pair, before, after = found.curves[name], found.confidence.double(), left.double()
    scores = {metric: pair[metric].auc for metric in CURVES} | scores_of(before, after, values)
    if masks is not None and bool(masks.any()):
        seen = masks.flatten(1).any(1)
        for key, score in {"energy": energy, "pointing": pointing}.items():
            inside = torch.full_like(before, math.nan)
            inside[seen] = score(values[seen], masks[seen]).values.double()
            scores[key] = inside
    columns: dict[str, list[Any]] = {key: _kept(score, good) for key, score in scores.items()}
    for metric in CURVES:
        probability = pair[metric].probability
        assert probability is not None
        has = good & ~pair[metric].auc.isnan()
        columns[f"{metric}_p"] = [
            row if keep else None for row, keep in zip(probability.float().tolist(), has, strict=True)
        ]
    return columns


def _kept(score: Tensor, good: Tensor) -> list[float | None]:
    return [value if keep and not math.isnan(value) else None for value, keep in zip(score.tolist(), good, strict=True)]


def _table(
    seen: Seen, recipe: Recipe, confidence: Sequence[float], columns: Mapping[str, Mapping[str, Sequence[Any]]]
) -> pa.Table:
    names = seen.classifier.labels
    predicted = seen.logits.argmax(1).tolist()
    size = (int(seen.x.shape[-2]), int(seen.x.shape[-1]))
    said = {name: protocol_of(name, recipe, size, seen.classifier.output).sentence for name in SCORES}
    shared = {
        "network": seen.network,
        "model": seen.classifier.name,
        "weights": seen.classifier.weights,
        "fingerprint": seen.classifier.fingerprint,
        "output": str(seen.classifier.output),
        "protocol": recipe.protocol,
        "precision": recipe.precision,
        "height": size[0],
        "width": size[1],
    }
    rows = []
    for i, key in enumerate(seen.keys):
        label, target = seen.labels[i], int(seen.target[i])
        image = {
            **shared,
            "image": key,
            "index": seen.places[i],
            "label": label,
            "label_name": None if label is None else names[label],
            "predicted": predicted[i],
            "predicted_name": names[predicted[i]],
            "correct": None if label is None else predicted[i] == label,
            "target": target,
            "target_name": names[target],
            "confidence": confidence[i],
        }
        for method, scores in columns.items():
            own = {column: values[i] for column, values in scores.items()}
            own |= {f"{name}_protocol": said[name] for name in SCORES if own.get(name) is not None}
            is_baseline = METHODS.get(method).family == "baseline"
            rows.append({**image, **own, "method": method, "baseline": is_baseline, "blank": seen.blank[method][i]})
    return pa.Table.from_pylist(rows, schema=SCHEMA)
