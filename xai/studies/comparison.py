"""Methods beside methods, classifiers beside classifiers: one tile for each pair, and what it will cost.

A tile that is refused or fails carries its sentence and never loses the others.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from xai.errors import Cancelled, InputError, ModuleStateError
from xai.explain.call import attribute, make_explainer
from xai.explain.spec import METHODS
from xai.models.batching import DEFAULT_BATCH
from xai.models.classes import is_place, target_classes
from xai.models.classifier import Classifier
from xai.public import public
from xai.stats.similarity import pearson, ranks
from xai.types import Attribution, Run

Params = Mapping[str, Mapping[str, Any]]
"""Parameters by method name, e.g. {"rise": {"masks": 500}}."""

Targets = int | str | Sequence[int] | Tensor | None
"""None: the predicted class; a class, one per image, a name, or "top1" to "topK"."""


@dataclass(frozen=True, eq=False)
class Tile:
    """One method on one classifier: an attribution, or the sentence that says why there is none.

    x (N,3,H,W): what this classifier saw. refused: the sentence is a refusal on purpose, not a failure.
    """

    classifier: Classifier
    method: str
    x: Tensor
    attribution: Attribution | None
    sentence: str = ""
    refused: bool = False

    @property
    def title(self) -> str:
        """The method's title for people."""
        return METHODS.get(self.method).title


@dataclass(frozen=True, eq=False)
class Comparison:
    """Tiles in the order asked for: all methods of the first classifier, then of the second, ..."""

    tiles: tuple[Tile, ...]

    def explained(self) -> tuple[Attribution, ...]:
        """The attributions that there are."""
        return tuple(tile.attribution for tile in self.tiles if tile.attribution is not None)


@dataclass(frozen=True)
class Cost:
    """What a method will take: forward passes (a backward counts two), and seconds estimated from a timed forward."""

    passes: int
    seconds: float


@public
def compare(
    classifiers: Sequence[Classifier],
    x: Tensor | Image.Image | Sequence[Image.Image],
    methods: Sequence[str],
    targets: Targets = None,
    layer: str | None = None,
    seed: int = 0,
    run: Run | None = None,
    params: Params | None = None,
    view: str = "crop",
) -> Comparison:
    """Explain the images by every method on every classifier.

    x: network input (N,3,H,W) in [0, 1] for all classifiers, or pictures that each classifier preprocesses by `view`.
    Progress is reported in forward passes over all tiles. Raises `Cancelled`, and `InputError` for an unknown method
    or a parameter that does not exist, before anything runs; everything later is a tile's own sentence.
    """
    return Comparison(tuple(each_tile(classifiers, x, methods, targets, layer, seed, run, params, view)))


def each_tile(
    classifiers: Sequence[Classifier],
    x: Tensor | Image.Image | Sequence[Image.Image],
    methods: Sequence[str],
    targets: Targets = None,
    layer: str | None = None,
    seed: int = 0,
    run: Run | None = None,
    params: Params | None = None,
    view: str = "crop",
) -> Iterator[Tile]:
    """`compare`, one tile at a time as it is finished."""
    run = run or Run(seed=seed)
    check_request(methods, layer, params)
    inputs = [x if isinstance(x, Tensor) else classifier.preprocess(x, view) for classifier in classifiers]
    weights = [
        _weight(classifier, method, len(seen), layer, params)
        for classifier, seen in zip(classifiers, inputs, strict=True)
        for method in methods
    ]
    done, total = 0, sum(weights)
    for index, (classifier, seen) in enumerate(zip(classifiers, inputs, strict=True)):
        chosen, refusal = _targets(classifier, seen, targets, run)
        for place, method in enumerate(methods):
            weight = weights[index * len(methods) + place]
            note = f"{METHODS.get(method).title} on {classifier.title}"
            run.report(done, total, note)
            part = _part(run, done, total, weight, note)
            if refusal:
                yield Tile(classifier, method, seen, None, refusal, refused=True)
            else:
                yield _tile(classifier, seen, method, chosen, layer, params, part)
            done += weight
    run.report(total, total, "")


def agreement(explained: Sequence[Attribution], signed: bool = False) -> Tensor:
    """Spearman's rank correlation between the maps of every two attributions, image by image: (N,A,A) in [-1, 1].

    Maps are compared at the input size by the size of their values: Grad-CAM and Guided Grad-CAM, one a factor of the
    other, agree on the place while the finer one changes its sign from pixel to pixel. signed: as they are. NaN beside
    a constant map.
    """
    maps = [each.maps() if signed else each.maps().abs() for each in explained]
    ordered = torch.stack([ranks(each.flatten(1)).view(each.shape) for each in maps])  # (A,N,H,W), each sorted once
    return torch.stack([torch.stack([pearson(one, two) for two in ordered], -1) for one in ordered], -2)


def check_request(methods: Sequence[str], layer: str | None = None, params: Params | None = None) -> None:
    """Raise `InputError` for an unknown method, a parameter it does not have, or one for a method not asked for."""
    for method in methods:
        _explainer(method, layer, params)
    for method in params or {}:
        if method not in methods:
            raise InputError(f"there are parameters for {method!r}, which is not among the methods asked for.")


def passes(
    classifier: Classifier, method: str, images: int = 1, layer: str | None = None, params: Params | None = None
) -> int:
    """Forward passes (a backward counts two) of `method` for so many images."""
    spec = METHODS.get(method)
    return images * max(1, spec.passes(classifier, _explainer(method, layer, params)))


def cost(
    classifier: Classifier,
    method: str,
    images: int = 1,
    layer: str | None = None,
    params: Params | None = None,
    run: Run | None = None,
) -> Cost:
    """What `method` will take on this classifier; the first call times a forward, later ones remember it."""
    count = passes(classifier, method, images, layer, params)
    return Cost(count, count * forward_seconds(classifier, run))


_forward: weakref.WeakKeyDictionary[Classifier, float] = weakref.WeakKeyDictionary()
_forward_lock = threading.Lock()

TIMED = (3, 10)
"""Least and most forward passes that are timed, and within `TIMED_SECONDS` together after the least."""

TIMED_SECONDS = 0.3


def forward_seconds(classifier: Classifier, run: Run | None = None) -> float:
    """Seconds of one image's forward pass, timed once per classifier in memory (after a warm-up, at a full batch on
    CUDA, where a batch costs little more than an image; at one image on the CPU, where the cost is per image).

    The shortest of several passes: what else the machine does makes a pass longer, never shorter.
    """
    with _forward_lock:
        known = _forward.get(classifier)
    if known is not None:
        return known
    size = 1 if classifier.device.type == "cpu" else DEFAULT_BATCH.get(classifier.device.type, DEFAULT_BATCH["cpu"])
    times: list[float] = []
    with classifier.lease(run) as module, torch.no_grad():
        x = torch.full((size, 3, *classifier.input_size), 0.5, device=classifier.device, dtype=module.mean.dtype)
        module(x)
        _wait(classifier.device)
        while len(times) < TIMED[0] or (len(times) < TIMED[1] and sum(times) < TIMED_SECONDS):
            start = time.perf_counter()
            module(x)
            _wait(classifier.device)
            times.append(time.perf_counter() - start)
    with _forward_lock:
        return _forward.setdefault(classifier, min(times) / size)


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def _explainer(method: str, layer: str | None, params: Params | None) -> Any:
    own = dict((params or {}).get(method, {}))
    return make_explainer(METHODS.get(method), own.pop("layer", None) or layer, **own)


def _targets(classifier: Classifier, x: Tensor, targets: Targets, run: Run) -> tuple[Any, str]:
    """Targets that `attribute` takes, and "" or the sentence why this classifier has no such class."""
    if not isinstance(targets, str):
        return targets, ""
    if targets.strip().casefold() == "top1":
        return None, ""  # the predicted class, in the method's own forward
    try:
        known = torch.empty(len(x), len(classifier.labels))  # an index or a name needs no prediction
        logits = classifier.predict(x, run) if is_place(targets) else known
        return target_classes(classifier, targets, logits), ""
    except InputError as error:
        return None, str(error)


def _weight(classifier: Classifier, method: str, images: int, layer: str | None, params: Params | None) -> int:
    try:
        return passes(classifier, method, images, layer, params)
    except InputError:  # such as a layer that this classifier lacks: its tile will say so
        return images


def _part(run: Run, done: int, total: int, weight: int, note: str) -> Run:
    """A run whose progress is a part of the whole."""

    def report(step: int, steps: int, what: str) -> None:
        share = weight * step // max(steps, 1)
        run.on_progress(done + min(share, weight), total, f"{note}: {what}" if what else note)

    return dataclasses.replace(run, on_progress=report)


def _tile(
    classifier: Classifier, x: Tensor, method: str, targets: Any, layer: str | None, params: Params | None, run: Run
) -> Tile:
    own = dict((params or {}).get(method, {}))
    layer = own.pop("layer", None) or layer
    try:
        found = attribute(classifier, x, method, targets, layer, run=run, **own)
    except (Cancelled, ModuleStateError):
        raise
    except InputError as error:
        return Tile(classifier, method, x, None, str(error), refused=True)
    except Exception as error:  # one method's fault must not lose the other tiles; it is said, not hidden
        return Tile(classifier, method, x, None, f"{type(error).__name__}: {error}")
    return Tile(classifier, method, x, found)
