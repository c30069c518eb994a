"""What a training leaves in its run folder, written and read."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from torch import Tensor

from xai.data.call import open_dataset
from xai.data.copies import PROTOCOL as FOUND
from xai.data.spec import DataSet, Item
from xai.data.together import Together
from xai.errors import InputError
from xai.files import write_atomic
from xai.models.classifier import Classifier
from xai.models.store import load_model
from xai.runs.folder import RunFolder
from xai.training.figures import PROTOCOL, Figures, figures, share_ends
from xai.training.fit import History
from xai.training.pictures import Opened
from xai.words import counted

if TYPE_CHECKING:
    import torch

    from xai.studies.transfer.request import TransferRequest

LAST = 5
"""Epochs in the table of the last ones, as study 4 shows it."""

VALIDATION, TEST = "validation", "test"
"""Words for the splits of predictions.parquet."""

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("index", pa.int32()),
        ("fold", pa.int32()),
        ("split", pa.string()),
        ("label", pa.int32()),
        ("label_name", pa.string()),
        ("predicted", pa.int32()),
        ("predicted_name", pa.string()),
        ("probability", pa.float64()),
        ("correct", pa.bool_()),
        ("probabilities", pa.list_(pa.float64())),
    ]
)
"""A validation or test image a row. index: its position in the data set. probability: of the predicted class."""


@dataclass(frozen=True, eq=False)
class Fold:
    """What one trained network gave. places: its validation images among the decoded ones, in the logits' order.

    train: those that it learned from. test, test_logits: those of a test folder beside a validation folder.
    """

    number: int
    history: History
    logits: Tensor
    places: Sequence[int]
    train: Sequence[int]
    parameters: int
    trained_parameters: int
    test_logits: Tensor | None = None
    test: Sequence[int] = ()


@dataclass(frozen=True, eq=False)
class TransferResult:
    """A finished training, read from its folder. history: the lines of metrics.jsonl.

    predictions: of the validation images, see `SCHEMA`; tested: of the images of a test folder beside them.
    """

    path: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]
    predictions: pa.Table
    tested: pa.Table | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return tuple(self.summary["classes"])

    @property
    def labels(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(N,) labels of the validation images."""
        return np.asarray(self.predictions["label"].to_pylist(), dtype=np.int64)

    @property
    def probabilities(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(N,K) probabilities of the validation images."""
        return np.asarray(self.predictions["probabilities"].to_pylist(), dtype=np.float64)

    @property
    def commonest(self) -> float:
        """Share of the validation images of their commonest class: the accuracy of always predicting that one."""
        return float(np.bincount(self.labels).max() / len(self.labels))

    @cached_property
    def _figures(self) -> Figures:
        return figures(self.labels, self.probabilities, self.classes)

    def figures(self) -> Figures:
        """All figures over the validation images; with folds each image once, by the network that did not see it."""
        return self._figures

    def classifier(self, fold: int = 1, device: str | torch.device = "auto") -> Classifier:
        """The trained network of a fold, as `--model run:ID` gives it."""
        place = str(self.path) if fold == 1 else f"{self.path}/fold-{fold}"
        return load_model(f"run:{place}", device=device)

    @property
    def place(self) -> str:
        """Where its images are, from everywhere; see `RunFolder.from_here`."""
        return RunFolder(self.path).from_here(str(self.config["data"]))

    def data(self) -> DataSet:
        """The images that it was trained and validated on; raises `InputError` where they are others now."""
        found = open_dataset(self.place, self.config["data_layout"]).used()
        if found.fingerprint != self.config["data_fingerprint"]:
            raise InputError(f"the images of {self.config['data']} are not those that the run was trained on.")
        return found

    def items(self) -> tuple[Item, ...]:
        """The validation images in the order of `predictions`; raises what `data` raises."""
        data = self.data()
        return tuple(data.items[index] for index in self.predictions["index"].to_pylist())


def load_result(path: Path) -> TransferResult:
    """The training in the run folder `path`; raises `InputError` where it is none or not finished."""
    folder = RunFolder.open(path)
    config = folder.config()
    if config.get("kind") != "train":
        raise InputError(f"{path} is a run of {config.get('kind')}, not of train; give a training.")
    summary, table = folder.summary(), path / "predictions.parquet"
    if not summary or not table.is_file():
        raise InputError(f"{path} has no result yet (it is {folder.status().state}); wait, or resume it.")
    asked = summary["recipe"]["epochs"]  # epochs beyond are of a training that learned on and has no result yet
    rows = {(row["fold"], row["epoch"]): row for row in folder.metrics() if row["epoch"] <= asked}
    history = tuple(rows[key] for key in sorted(rows))
    try:
        predictions = _checked(pq.read_table(table), len(summary["classes"]))
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise InputError(f"{table} is damaged; write it again by train ... --out {path} --resume.") from error
    is_test = pc.equal(predictions["split"], TEST)
    tested = predictions.filter(is_test)
    return TransferResult(
        path, config, summary, history, predictions.filter(pc.invert(is_test)), tested if len(tested) else None
    )


def _checked(table: pa.Table, classes: int) -> pa.Table:
    """The columns of `SCHEMA`; raises `ValueError` or `KeyError` where they, or values of so many classes, are not."""
    found = table.select(SCHEMA.names).cast(SCHEMA)
    if not len(found) or any(found[name].null_count for name in SCHEMA.names):
        raise ValueError("a value is missing")
    answers = (*found["label"].to_pylist(), *found["predicted"].to_pylist())
    if not all(0 <= each < classes for each in answers):
        raise ValueError("a label is of no class")
    if not all(len(row) == classes for row in found["probabilities"].to_pylist()):
        raise ValueError("a row has not one probability for each class")
    return found


def predictions_table(folds: Sequence[Fold], opened: Opened, data: DataSet, split: str = VALIDATION) -> pa.Table:
    """The rows of predictions.parquet of one split, fold after fold, each in the order of the data set."""
    position = {place: index for index, place in opened.where.items()}
    rows = []
    for fold in folds:
        logits, places = (fold.logits, fold.places) if split == VALIDATION else (fold.test_logits, fold.test)
        if logits is None:
            continue
        probabilities = logits.double().softmax(1)
        for place, row in zip(places, probabilities.tolist(), strict=True):
            label, predicted = int(opened.pictures.labels[place]), int(np.argmax(row))
            rows.append(
                {
                    "key": opened.items[place].key,
                    "index": position[place],
                    "fold": fold.number,
                    "split": split,
                    "label": label,
                    "label_name": data.classes[label],
                    "predicted": predicted,
                    "predicted_name": data.classes[predicted],
                    "probability": row[predicted],
                    "correct": predicted == label,
                    "probabilities": row,
                }
            )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def write_table(path: Path, table: pa.Table) -> None:
    """Put a Parquet file at `path`, whole."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    write_atomic(path, sink.getvalue())


def summarise(
    folds: Sequence[Fold],
    table: pa.Table,
    classes: Sequence[str],
    request: TransferRequest,
    seconds: Mapping[str, float],
    given: bool = False,
) -> dict[str, Any]:
    """The headline figures with their protocol. With folds: over all images, and mean and deviation over folds.

    given: whether the folders divided the images.
    """
    labels, rows = table["label"].to_pylist(), table["probabilities"].to_pylist()
    whole = figures(labels, rows, classes)
    number = table["fold"].to_numpy()
    each = []
    for fold in folds:
        inside = np.flatnonzero(number == fold.number)
        found = figures([labels[i] for i in inside], [rows[i] for i in inside], classes)
        each.append({"fold": fold.number, "images": found.count, **_headline(found), **_course(fold)})
    epochs = sum(epoch.seconds for fold in folds for epoch in fold.history.epochs)
    return {
        **_headline(whole),
        **_course(folds[0]),
        "parameters": folds[0].parameters,
        "trained_parameters": folds[0].trained_parameters,
        "images": {"training": len(folds[0].train), "validation": len(table)},
        "seconds": {**seconds, "epochs": epochs, "all": sum(seconds.values()) + epochs},
        "figures": whole.plain(),
        "folds": each if len(folds) > 1 else [],
        "over_folds": _over_folds(each) if len(folds) > 1 else {},
        "protocol": {**PROTOCOL, "validation": _sentence(request, given), "seconds": _SECONDS, "copies": COPIES},
    }


_SECONDS = "wall time: reading and the frozen part's pass of the last process, and every epoch with its validation"

COPIES = (
    "repeated: validation images that show the same picture as a training image of their network, which flatters; "
    "without: accuracy over the other validation images, each picture once; test: the same of the test images, where a "
    "validation image counts as a training image does"
)
"""How the figures about copies are made; how copies are found is `xai.data.copies.PROTOCOL`."""

KEPT = {
    "given": "the folders that were given divide them",
    "anywhere": "copies of one picture were let anywhere",
    "together": "the run began with a split that divides them",
}
"""Why copies of one picture are in two parts, by the word in a summary."""


def copies_of(
    folds: Sequence[Fold], opened: Opened, together: Together, table: pa.Table, tested: pa.Table
) -> dict[str, Any]:
    """What copies of one picture do to the figures; table, tested: the validation and test rows, fold after fold.

    looked: whether near-copies were looked for; else only those with equal pixels, as the network sees them, count.
    sets, images: pictures that are there more than once, and their images. repeated, without: see `COPIES`; without is
    None where nothing is left. across: the keys of the repeated images. test: these three of the test images, None
    where there are none.
    """
    marked = {key: each[0] for each in together.copies for key in each}
    picture: list[frozenset[str | bytes]] = [
        frozenset((marked.get(item.key, item.key), digest))
        for item, digest in zip(opened.items, opened.digests, strict=True)
    ]
    parts = [(fold.train, fold.places) for fold in folds]
    tests = [((*fold.train, *fold.places), fold.test) for fold in folds if fold.test]
    return {
        "looked": together.looked,
        "sets": len(together.copies),
        "images": len(marked),
        **_repeated(parts, picture, opened.items, table),
        "test": _repeated(tests, picture, opened.items, tested) if tests else None,
        "protocol": FOUND,
    }


def _repeated(
    parts: Sequence[tuple[Sequence[int], Sequence[int]]],
    picture: Sequence[frozenset[str | bytes]],
    items: Sequence[Item],
    table: pa.Table,
) -> dict[str, Any]:
    """repeated, across and without of `copies_of`. parts: (places that were seen, places that are measured)."""
    hits: list[bool] = []
    across: list[str] = []
    before: set[str | bytes] = set()
    right = iter(table["correct"].to_pylist())
    for seen, measured in parts:
        learned = {part for place in seen for part in picture[place]}
        for place in measured:
            hit = next(right)
            if not learned.isdisjoint(picture[place]):
                across.append(items[place].key)
            elif before.isdisjoint(picture[place]):
                hits.append(hit)
            before.update(picture[place])
    ends = share_ends(sum(hits), len(hits))
    without = {"images": len(hits), "accuracy": sum(hits) / len(hits), "interval": ends} if hits else None
    return {"repeated": len(across), "across": across, "without": without}


def told_of_sides(summary: Mapping[str, Any]) -> list[str]:
    """What a finished training says of copies and groups: a sentence each, for the terminal, the page and the card."""
    found, told = summary.get("copies"), []
    if found is None:  # a run of an earlier version
        count = int(summary.get("repeated", 0))
        pixels = f"{_copies('validation', count, 'training')}, pixel by pixel: the figures flatter."
        return [pixels] if count else []
    if not found["looked"] and not summary["synthetic"]:
        told.append("Near-copies were not looked for; only images with equal pixels count as copies.")
    tested, there = found.get("test"), summary.get("test")
    looked_at = not there or tested is not None  # an earlier version did not look at the test images
    if found["sets"] and looked_at and not is_flattered(summary):
        pictures = f"{counted(found['sets'], 'picture is', 'pictures are')} there more than once"
        told.append(f"{pictures} ({found['images']} images); the copies of each are on one side of the split.")
    told += _flattered("validation", found, summary["images"]["validation"], "training", found["kept"])
    if tested and there:
        told += _flattered("test", tested, there["images"], "training or validation", found["kept"])
    if groups := summary.get("groups"):
        divided = groups["divided"]
        sides = f"{divided} images share a group with one of another part" if divided else "each is on one side"
        told.append(f"{groups['told'][:1].upper()}{groups['told'][1:]}; {sides}.")
    return told


def is_flattered(summary: Mapping[str, Any]) -> bool:
    """Whether a validation or test image shows a picture that the network had seen."""
    tested = (summary.get("copies") or {}).get("test")
    return bool(summary.get("repeated") or (tested and tested["repeated"]))


def _copies(part: str, count: int, of: str) -> str:
    return f"{count} of the {part} images {'is a copy' if count == 1 else 'are copies'} of a {of} image"


def _flattered(part: str, found: Mapping[str, Any], images: int, of: str, kept: str) -> list[str]:
    """Sentences on the copies in one part of `images` images; none where each picture is there once."""
    told, repeated, without = [], found["repeated"], found["without"]
    if repeated:
        told.append(f"{_copies(part, repeated, of)} ({KEPT[kept]}): the figures flatter.")
    if without is not None and without["images"] < images:
        low, high = without["interval"]
        told.append(
            f"Without copies, each picture once: accuracy {without['accuracy']:.1%} [{low:.1%}, {high:.1%}] on "
            f"{counted(without['images'], f'{part} image')}."
        )
    elif repeated and without is None:
        told.append(f"Without the copies no {part} image is left.")
    return told


def test_figures(table: pa.Table, classes: Sequence[str]) -> dict[str, Any]:
    """The headline figures of the images of a test folder, by rows as `SCHEMA` has them."""
    found = figures(table["label"].to_pylist(), table["probabilities"].to_pylist(), classes)
    return {"images": found.count, **_headline(found), "figures": found.plain()}


def _headline(found: Figures) -> dict[str, Any]:
    names = ("accuracy", "loss", "auc", "average_precision", "ece")
    macro = {f"macro_{name}": found.macro[name] for name in ("precision", "recall", "specificity", "f1")}
    return {**{name: getattr(found, name) for name in names}, **macro, "intervals": dict(found.intervals)}


def _course(fold: Fold) -> dict[str, Any]:
    history = fold.history
    return {
        "epochs": len(history.epochs),
        "kept_epoch": history.kept,
        "stopped_early": history.stopped,
        "last_epochs": [asdict(epoch) for epoch in history.epochs[-LAST:]],
    }


def _over_folds(each: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (n - 1) of each headline figure over the folds that have it."""
    found = {}
    for name in ("accuracy", "loss", "auc", "average_precision", "ece", "macro_f1"):
        values = [float(fold[name]) for fold in each if fold[name] is not None]
        if len(values) > 1:
            found[name] = {
                "mean": statistics.fmean(values),
                "deviation": statistics.stdev(values),
                "folds": len(values),
            }
    return found


def _sentence(request: TransferRequest, given: bool) -> str:
    seed, view = request.recipe.seed, {"crop": "centre crop", "whole": "whole picture"}[request.view]
    if request.recipe.patience:
        view += "; the epoch was chosen by these same images (lowest loss), which flatters it a little"
    if given:
        return f"the folders as they are given; {view}"
    if request.folds:
        return (
            f"{request.folds} stratified folds drawn by seed {seed}, each image validated once by the network that was "
            f"not trained on it; {view}"
        )
    return f"stratified split, {request.split:.0%} for training, drawn by seed {seed}; {view}"
