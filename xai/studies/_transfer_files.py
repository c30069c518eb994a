"""What a training leaves in its run folder, written and read."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from xai.data._spec import DataSet, Item
from xai.data.call import open_dataset
from xai.errors import InputError
from xai.files import write_atomic
from xai.models.classifier import Classifier
from xai.models.store import load_model
from xai.runs import RunFolder
from xai.training.figures import PROTOCOL, Figures, figures
from xai.training.fit import History
from xai.training.pictures import Opened

if TYPE_CHECKING:
    import torch

    from xai.studies.transfer import TransferRequest

LAST = 5
"""Epochs in the table of the last ones, as study 4 shows it."""

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
"""A validation image a row. index: its position in the data set. probability: of the predicted class."""


@dataclass(frozen=True, eq=False)
class Fold:
    """What one trained network gave. places: its validation images among the decoded ones, in the logits' order.

    repeated: how many of them have the pixels of a training image.
    """

    number: int
    history: History
    logits: Tensor
    places: Sequence[int]
    train_images: int
    repeated: int
    parameters: int
    trained_parameters: int

    def accuracy(self, labels: Tensor) -> float:
        """On its validation images; labels: of all decoded images."""
        return float((self.logits.argmax(1) == labels[list(self.places)].cpu()).double().mean())


@dataclass(frozen=True, eq=False)
class TransferResult:
    """A finished training, read from its folder. predictions: see `SCHEMA`. history: the lines of metrics.jsonl."""

    path: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]
    predictions: pa.Table

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
        """Share of the validation images of their commonest class: the accuracy of who says that one to all."""
        return float(np.bincount(self.labels).max() / len(self.labels))

    def figures(self) -> Figures:
        """All figures over the validation images; with folds each image once, by the network that did not see it."""
        return figures(self.labels, self.probabilities, self.classes)

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
        predictions = pq.read_table(table)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{table} is damaged; write it again by train ... --out {path} --resume.") from error
    return TransferResult(path, config, summary, history, predictions)


def predictions_table(folds: Sequence[Fold], opened: Opened, data: DataSet) -> pa.Table:
    """The rows of predictions.parquet, fold after fold, each in the order of the data set."""
    position = {place: index for index, place in opened.where.items()}
    rows = []
    for fold in folds:
        probabilities = fold.logits.double().softmax(1)
        for place, row in zip(fold.places, probabilities.tolist(), strict=True):
            label, predicted = int(opened.pictures.labels[place]), int(np.argmax(row))
            rows.append(
                {
                    "key": opened.items[place].key,
                    "index": position[place],
                    "fold": fold.number,
                    "split": "validation",
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
) -> dict[str, Any]:
    """The headline figures with their protocol. With folds: over all images, and mean and deviation over folds."""
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
        "images": {"training": folds[0].train_images, "validation": len(table)},
        "repeated": sum(fold.repeated for fold in folds),
        "seconds": {**seconds, "epochs": epochs, "all": sum(seconds.values()) + epochs},
        "figures": whole.plain(),
        "folds": each if len(folds) > 1 else [],
        "over_folds": _over_folds(each) if len(folds) > 1 else {},
        "protocol": {**PROTOCOL, "validation": _sentence(request), "seconds": _SECONDS, "repeated": _REPEATED},
    }


_REPEATED = "validation images with the very pixels of a training image of their network; figures on them flatter"
_SECONDS = "wall time: reading and the frozen part's pass of the last process, and every epoch with its validation"


def _headline(found: Figures) -> dict[str, float | None]:
    names = ("accuracy", "loss", "auc", "average_precision", "ece")
    macro = {f"macro_{name}": found.macro[name] for name in ("precision", "recall", "specificity", "f1")}
    return {**{name: getattr(found, name) for name in names}, **macro}


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


def _sentence(request: TransferRequest) -> str:
    seed, view = request.recipe.seed, {"crop": "centre crop", "whole": "whole picture"}[request.view]
    if request.recipe.patience:
        view += "; the epoch was chosen by these same images (lowest loss), which flatters it a little"
    if request.folds:
        return (
            f"{request.folds} stratified folds drawn by seed {seed}, each image validated once by the network that was "
            f"not trained on it; {view}"
        )
    return f"stratified split, {request.split:.0%} for training, drawn by seed {seed}; {view}"
