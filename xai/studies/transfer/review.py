"""Going through what trained networks said of their validation images: errors, flips, and where the maps lie.

From a finished training (`xai.studies.transfer.train`) come rows, one a validation image; they can be filtered by the
cell of the confusion matrix and by confidence, compared between runs, explained, and packed as a CSV with its pictures.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xai.data.spec import DataSet, Item
from xai.errors import ImageError, InputError
from xai.explain.call import attribute
from xai.files import safe_name
from xai.metrics.energy import energy
from xai.models.classifier import Classifier
from xai.stats.intervals import Interval, bootstrap_mean
from xai.studies.transfer.result import TransferResult
from xai.training.difference import Difference, difference
from xai.types import Run
from xai.words import counted

ORDERS = ("least sure first", "surest first", "as in the data set")
TAGS = ("", "label is wrong", "hard to tell", "background", "to discuss")


@dataclass(frozen=True)
class Seen:
    """A validation image as a network saw it. place: its row in the predictions; index: its position in the data set.

    score: probability of the second class where there are two, else of the predicted one. confidence: probability of
    the class that was said. kind: "right", or "false positive" / "false negative" with two classes, else "wrong".
    """

    place: int
    index: int
    fold: int
    key: str
    label: int
    predicted: int
    score: float
    confidence: float
    kind: str

    @property
    def correct(self) -> bool:
        """Whether the label was said."""
        return self.label == self.predicted


def seen(result: TransferResult, threshold: float = 0.5) -> tuple[Seen, ...]:
    """The validation images of a run. threshold: with two classes, the second is said from this probability on.

    Raises `InputError` for a threshold outside 0 to 1.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold:g}; give 0 to 1.")
    rows = []
    columns = {name: result.predictions[name].to_pylist() for name in ("key", "index", "fold", "label")}
    for place, p in enumerate(result.probabilities):
        label = int(columns["label"][place])
        pair = len(p) == 2
        said = int(p[1] >= threshold) if pair else int(p.argmax())
        wrong = ("false positive" if said else "false negative") if pair else "wrong"
        rows.append(
            Seen(
                place,
                int(columns["index"][place]),
                int(columns["fold"][place]),
                str(columns["key"][place]),
                label,
                said,
                float(p[1] if pair else p[said]),
                float(p[said]),
                "right" if said == label else wrong,
            )
        )
    return tuple(rows)


def chosen(
    rows: Iterable[Seen],
    label: int | None = None,
    predicted: int | None = None,
    confidence: tuple[float, float] = (0.0, 1.0),
    only: str = "all",
    order: str = ORDERS[0],
) -> list[Seen]:
    """Rows of a cell of the confusion matrix (None: any), with a confidence in the range, in an order of `ORDERS`.

    only: "all", "wrong" or "right". Raises `InputError` for an order or a word that is not known.
    """
    if order not in ORDERS:
        raise InputError(f"order {order!r} is not known; use {', '.join(ORDERS)}.")
    if only not in ("all", "wrong", "right"):
        raise InputError(f"only is {only!r}; use all, wrong or right.")
    low, high = confidence
    kept = [
        row
        for row in rows
        if label in (None, row.label)
        and predicted in (None, row.predicted)
        and low <= row.confidence <= high
        and (only == "all" or row.correct == (only == "right"))
    ]
    keys = {ORDERS[0]: lambda row: row.confidence, ORDERS[1]: lambda row: -row.confidence}
    return sorted(kept, key=keys.get(order, lambda row: row.index))


@dataclass(frozen=True)
class Flip:
    """An image that some of several runs get right and others wrong. rows: how each run saw it, in their order."""

    key: str
    index: int
    label: int
    rows: tuple[Seen, ...]

    @property
    def first(self) -> Seen:
        """As the first run saw it."""
        return self.rows[0]

    @property
    def second(self) -> Seen:
        """As the second run saw it."""
        return self.rows[1]

    @property
    def right(self) -> int:
        """How many of the runs get it right."""
        return sum(row.correct for row in self.rows)


def flips(*results: TransferResult, every: bool = False) -> tuple[Flip, ...]:
    """Validation images of all runs that one at least gets right and one wrong, in the data set's order.

    every: all images of all runs, also those that do not flip.
    Raises `InputError` for fewer than two runs, and where they were trained on different images or classes, or
    validated on none in common.
    """
    if len(results) < 2:
        raise InputError(f"there is {len(results)} run; give two or more to compare.")
    one = results[0]
    for other in results[1:]:
        if one.config["data_fingerprint"] != other.config["data_fingerprint"] or one.classes != other.classes:
            raise InputError(
                f"the two runs were trained on different images; compare runs on one data set, not {one.path.name} and "
                f"{other.path.name}."
            )
    rows = [{row.index: row for row in seen(each)} for each in results]
    common = sorted(set.intersection(*(set(each) for each in rows)))
    if not common:
        two = len(results) == 2
        raise InputError(
            f"the {'two' if two else len(results)} runs were validated on different images; train "
            f"{'both' if two else 'all'} with the same seed and share."
        )
    found = (Flip(rows[0][i].key, i, rows[0][i].label, tuple(each[i] for each in rows)) for i in common)
    return tuple(flip for flip in found if every or 0 < flip.right < len(results))


def difference_of(first: TransferResult, second: TransferResult) -> Difference:
    """How much two runs' figures differ over the images that both were validated on; raises what `flips` raises."""
    common = [flip.rows for flip in flips(first, second, every=True)]
    labels = [row.label for row, _ in common]
    ours, theirs = ([pair[side].place for pair in common] for side in (0, 1))
    return difference(labels, first.probabilities[ours], second.probabilities[theirs])


@dataclass(frozen=True, eq=False)
class Inside:
    """How much of the maps lies on the object. share, chance: (N,) each; above: mean of share - chance.

    keys: the N images whose map points somewhere. blank: images whose map does not, which have no share.
    """

    method: str
    keys: tuple[str, ...]
    share: Tensor
    chance: Tensor
    above: Interval
    blank: int
    protocol: str


def inside(
    classifier: Classifier, items: Sequence[Item], method: str = "gradcam", view: str = "crop", run: Run | None = None
) -> Inside:
    """Share of each map's positive mass inside the object's mask, for the predicted class, against the mask's area.

    Items without a mask, or whose mask is empty as the network sees it, are passed over. The interval of the mean of
    share - chance is a 95 % percentile bootstrap over images. Raises `InputError` where no item has a mask, and
    `Cancelled`.
    """
    run = run or Run()
    return _told(method, _shares(classifier, items, method, view, run), run)


def inside_run(
    result: TransferResult,
    items: Sequence[Item],
    network: Callable[[int], Classifier],
    method: str = "gradcam",
    count: int = 24,
    fold: int | None = None,
    run: Run | None = None,
) -> Inside:
    """`inside` over `count` validation images of a run that have an object, each by the network that validated it.

    items: those of the run's data set, in its order. network: the classifier of a fold. fold: of this fold alone; None:
    of all. The images are drawn by the run's seed from those whose mask is not empty. Raises what `inside` raises.
    """
    run = run or Run()
    rows = [row for row in seen(result) if fold in (None, row.fold)]
    order = torch.randperm(len(rows), generator=run.generator("inside")).tolist()
    drawn: list[Seen] = []
    for place in order:
        run.check()
        opener = items[rows[place].index].open_mask
        if len(drawn) < count and opener is not None and opener().getbbox():
            drawn.append(rows[place])
    found: list[_Share] = []
    for number in sorted({row.fold for row in drawn}):
        own = sorted(row.index for row in drawn if row.fold == number)
        part = run.part(len(found), len(own), len(drawn))
        found += _shares(network(number), [items[index] for index in own], method, result.config["view"], part)
    return _told(method, found, run)


_Share = tuple[str, float, float]
"""(key, share inside, chance) of an image."""


def _shares(classifier: Classifier, items: Sequence[Item], method: str, view: str, run: Run) -> list[_Share]:
    found: list[_Share] = []
    for place, item in enumerate(items):
        run.report(place, len(items), f"explaining {place + 1} of {len(items)}")
        if item.open_mask is None:
            continue
        mask = (classifier.preprocess(item.open_mask().convert("RGB"), view)[:, 0] > 0.5).float()
        if not bool(mask.any()):
            continue
        x = classifier.preprocess(item.open(), view)
        scores = energy(attribute(classifier, x, method, run=Run(seed=run.seed, cancelled=run.cancelled)).maps(), mask)
        found.append((item.key, float(scores.values[0]), float(scores.facts["chance"][0])))
    return found


def _told(method: str, found: Sequence[_Share], run: Run) -> Inside:
    if not found:
        raise InputError("none of these images has a mask; choose a data set whose objects are known.")
    blank = sum(math.isnan(each[1]) for each in found)
    found = [each for each in found if not math.isnan(each[1])]
    if not found:
        raise InputError(f"every map of {method} is blank on these images; choose another method.")
    share, chance = torch.tensor([each[1:] for each in found], dtype=torch.float64).T
    left = f"; {blank} blank map{'s are' if blank > 1 else ' is'} left out" if blank else ""
    said = (
        f"{method} for the predicted class; share of the map's positive mass inside the object's mask, less the mask's "
        f"share of the picture (chance); mean over {counted(len(found), 'image')} with its 95 % "
        f"bootstrap interval{left}"
    )
    keys = tuple(key for key, _, _ in found)
    return Inside(method, keys, share, chance, bootstrap_mean(share - chance, run.seed), blank, said)


def packed(
    rows: Sequence[Seen],
    data: DataSet,
    classes: Sequence[str],
    notes: Mapping[str, tuple[str, str]],
    about: Mapping[str, Any],
) -> bytes:
    """A zip of `review.csv` and the pictures as PNG; `notes` gives (tag, note) by key, `about` goes above the table.

    Synthetic pictures are marked in their names and in the table.
    """
    table = io.StringIO()
    for name, value in about.items():
        table.write(f"# {name}: {value}\n")
    writer = csv.writer(table)
    head = ("key", "picture", "label", "predicted", "confidence", "kind", "fold", "synthetic", "tag", "note")
    writer.writerow(head)
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        taken: set[str] = set()
        for row in rows:
            mark = "synthetic-" if data.synthetic else ""
            name = safe_name(f"{mark}{row.key.rsplit('.', 1)[0]}", taken)
            taken.add(name.casefold())
            file = _picture(data.items[row.index], f"pictures/{name}.png", archive)
            said = (classes[row.label], classes[row.predicted], f"{row.confidence:.6f}", row.kind, row.fold)
            told = tuple(_harmless(each) for each in notes.get(row.key, ("", "")))
            place = (_harmless(row.key), file)
            writer.writerow((*place, *said, data.synthetic, *told))
        archive.writestr("review.csv", table.getvalue())
    return sink.getvalue()


def _picture(item: Item, name: str, archive: zipfile.ZipFile) -> str:
    """Put a picture into the zip; its name there, or why it is missing."""
    try:
        image = item.open()
    except ImageError as error:
        return f"missing: {error}"
    sink = io.BytesIO()
    image.save(sink, "PNG")
    archive.writestr(name, sink.getvalue())
    return name


def _harmless(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
