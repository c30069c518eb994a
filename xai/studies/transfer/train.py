"""Transfer learning in a run folder (studies 3 and 4): split, train, measure, and keep the network for everybody.

The folder holds `checkpoints/` (one a fold, after every epoch), `metrics.jsonl` (one line an epoch), and at the end
`artifacts/` (the network), `predictions.parquet` (the validation images) and `summary.json`; `skipped.json` names the
files that could not be decoded when it began, and the split is of the others. A killed run loses the epoch that it was
in, and `resume` ends with the weights of one that was left alone.
"""

from __future__ import annotations

import dataclasses
import os
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from xai.data.call import open_dataset
from xai.data.groups import groups_by
from xai.data.loader import check_workers
from xai.data.spec import DataSet, Problem
from xai.data.split import Split, divided, given_split, stratified_folds, stratified_split, subset
from xai.data.together import ANYWHERE, TOGETHER, Together, check_copies
from xai.errors import InputError
from xai.models.classifier import VIEWS, Classifier
from xai.models.exported import COMING, bring_networks, write_network
from xai.models.provenance import versions
from xai.models.store import load_model
from xai.public import public
from xai.runs.checkpoint import has_checkpoint, load_checkpoint
from xai.runs.folder import RunFolder
from xai.runs.team import Team
from xai.studies.together import FILE as TOGETHER_FILE
from xai.studies.together import together_of
from xai.studies.transfer.request import TransferRequest
from xai.studies.transfer.result import (
    COPIES,
    TEST,
    Fold,
    TransferResult,
    copies_of,
    load_result,
    predictions_table,
    summarise,
    test_figures,
    write_table,
)
from xai.training.features import Stored, precision_of, predict, stored_features
from xai.training.figures import PROTOCOL, figures
from xai.training.fit import Epoch, fit
from xai.training.network import network_of
from xai.training.pictures import Images, Opened, Streamed, open_pictures
from xai.types import Run

__all__ = ["TransferResult", "comparison", "load_result", "train"]

WHOLE = 10_000
"""Units of a run's progress: so many that the first steps of many epochs count."""

FEATURES = 9_000
"""Units that the frozen part's pass takes; where everything learns, learning takes them too."""

SKIPPED = "skipped.json"
"""What of a run names the files that could not be decoded when it began; the split is of the others."""

LEARNED = 9_900
"""Of `WHOLE`, a fold's progress after its last epoch; its validation images are then predicted."""


@public
def train(
    request: TransferRequest,
    out: Path,
    resume: bool = False,
    device: str = "auto",
    workers: int = 0,
    run: Run | None = None,
    team: Team | None = None,
) -> TransferResult | None:
    """Train in the run folder `out`; under torchrun the processes share every batch, and rank 0 gives the result.

    resume: go on with the run that is there; a finished one learns on where the recipe asks for more epochs. workers:
    processes that decode. Raises `InputError` for what is wrong with the request, and `Cancelled`.
    """
    run = dataclasses.replace(run or Run(), seed=request.recipe.seed)
    team = team or Team.of_environment()
    with team.together("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"):
        chosen = team.device(device)
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)  # what the processes tell one another goes by the current device
        job = _Job.of(_with_epochs(request, out, resume), out, chosen, workers)
        _folder(job, resume, team)
        if team.rank > 0:
            try:
                quiet = dataclasses.replace(run.quiet(), device=job.device)
                job.work(quiet, writes=False)
            except BaseException:
                job.folder.log(f"process {team.rank}: {traceback.format_exc().rstrip()}")
                raise
            team.wait()
            return None
        with job.folder.working(dataclasses.replace(run, device=job.device), job.device) as own:
            job.remember()
            job.folder.log(f"started on {job.device} with {team.size} process{'es' * (team.size > 1)}")
            job.work(own, writes=True)
            team.wait()
            own.report(WHOLE, WHOLE, "done")
            job.folder.log("done")
        return load_result(out)


def with_epochs(words: Sequence[str], epochs: int) -> list[str]:
    """The words of a `train` command, asking for `epochs`."""
    kept = [word for word in words if not word.startswith("--epochs=")]
    if "--epochs" not in kept:
        return [*kept, "--epochs", str(epochs)]
    kept[kept.index("--epochs") + 1] = str(epochs)
    return kept


def splits_of(data: DataSet, split: float = 0.8, folds: int = 0, seed: int = 0) -> tuple[Split, ...]:
    """What is trained on and what validates: as the folders give it, by the share `split`, or `folds` pairs.

    Raises `InputError` where the images are of fewer than two classes, where folds are asked of folders that divide the
    images already, where a class has no training image there, and what the splits raise.
    """
    data.check_labels()
    given = given_split(data)
    if given is None:
        return stratified_folds(data, folds, seed) if folds else (stratified_split(data, split, seed),)
    if folds:
        there = ", ".join(f"{part} {count}" for part, count in data.parts.items())
        raise InputError(f"its folders divide the images already ({there}); leave folds out, or give one folder alone.")
    learned = {data.items[place].label for place in given.train}
    lost = [name for label, name in enumerate(data.classes) if label not in learned and data.counts.get(name)]
    if lost:
        raise InputError(f"class {lost[0]!r} has no image in the train folder; add some, or leave that class out.")
    return (given,)


def _with_epochs(request: TransferRequest, out: Path, resume: bool) -> TransferRequest:
    """A resumed run keeps the epochs that it was asked for, unless it is asked for more now."""
    if not resume or not (out / "config.json").is_file():
        return request
    asked = int(RunFolder(out).config().get("recipe", {}).get("epochs", 0))
    recipe = dataclasses.replace(request.recipe, epochs=max(asked, request.recipe.epochs))
    return dataclasses.replace(request, recipe=recipe)


def _folder(job: _Job, resume: bool, team: Team) -> None:
    """The run's folder, made by rank 0; what it refuses all refuse. More epochs than before are no other run."""
    refused = ""
    if team.rank == 0:
        config = job.config()
        path = job.folder.path
        try:
            before = RunFolder(path).config() if resume and (path / "config.json").is_file() else {}
            epochs = before.get("recipe", {}).get("epochs", job.request.recipe.epochs)
            RunFolder.create(path, {**config, "recipe": {**config["recipe"], "epochs": epochs}}, resume)
        except InputError as error:
            refused = str(error)
    team.agree(refused)


@dataclass(frozen=True, eq=False)
class _Job:
    """The request with its data set, splits and base classifier open."""

    request: TransferRequest
    folder: RunFolder
    data: DataSet
    base: Classifier
    device: torch.device
    workers: int

    @classmethod
    def of(cls, request: TransferRequest, out: Path, device: torch.device, workers: int) -> _Job:
        check_workers(workers)
        if request.view not in VIEWS:
            raise InputError(f"view {request.view!r} is not known; use {' or '.join(VIEWS)}.")
        if request.model.startswith("run:") or request.weights.startswith("run:"):
            raise InputError("training begins with imagenet, random:SEED or file:PATH weights, not with a run's.")
        check_copies(request.copies)
        precision_of(request.recipe.precision, device)  # before anything is read
        data = open_dataset(request.data, request.layout).used()
        splits_of(data, request.split, request.folds, request.recipe.seed)  # what it refuses, before the run begins
        if request.groups and not (out / TOGETHER_FILE).is_file():
            groups_by(data.items, request.groups)
        base = load_model(request.model, request.weights, device)
        return cls(request, RunFolder(out), data, base, device, workers)

    def config(self) -> dict[str, Any]:
        """What the run folder keeps, and what resuming compares."""
        kept = {name: getattr(self.request, name) for name in ("data", "model", "weights", "split", "folds", "view")}
        if self.request.groups:  # earlier runs have neither, and can be resumed
            kept["groups"] = self.request.groups
        if self.request.copies != TOGETHER:
            kept["copies"] = self.request.copies
        return {
            "kind": "train",
            **kept,
            "recipe": self.request.recipe.plain(),
            "base_fingerprint": self.base.fingerprint,
            "data_layout": self.data.layout,
            "data_images": len(self.data),
            "data_fingerprint": self.data.fingerprint,
        }

    def remember(self) -> None:
        """Keep what is asked for, and of a run that learns on the words that make it again, with the epochs it has."""
        asked, launch = self.request.recipe.epochs, self.folder.launch()
        if launch.words and asked != self.folder.config()["recipe"]["epochs"]:
            self.folder.set_launch(dataclasses.replace(launch, words=tuple(with_epochs(launch.words, asked))))
        self.folder.write("config.json", self.config())

    def work(self, run: Run, writes: bool) -> None:
        """Read, pass the frozen part once for all folds, train each fold, and write what came out."""
        begun, threads = time.perf_counter(), torch.get_num_threads()
        recipe = self.request.recipe
        ready = FEATURES if recipe.features_do else 0
        opened = open_pictures(self.data.items, self.base, run.aside(), self.request.view, self.workers)
        source: Images | Streamed | Stored = opened.pictures
        together, splits = self._splits(opened, run.aside(), writes)
        read, began = time.perf_counter() - begun, time.perf_counter()
        if recipe.features_do:
            first = network_of(self.base, self.data.classes, recipe)
            part = run.part(0, FEATURES, WHOLE)
            source = stored_features(first, opened.pictures, part, recipe.precision, "frozen part")
        passed = time.perf_counter() - began if recipe.features_do else 0.0
        folds = []
        try:
            if recipe.features_do and self.device.type == "cpu":
                torch.set_num_threads(1)  # a head's small products are quicker on one
            for number, split in enumerate(splits, 1):
                begin, end = (ready + (WHOLE - ready) * place // len(splits) for place in (number - 1, number))
                part = run.part(begin, end - begin, WHOLE)
                folds.append(self._fold(number, split, source, opened, together, part, writes))
        finally:
            torch.set_num_threads(threads)
        if writes:
            self._finish(folds, opened, together, {"reading": read, "features": passed}, threads)

    def _splits(self, opened: Opened, run: Run, writes: bool) -> tuple[Together, tuple[Split, ...]]:
        """What belongs together, and what is trained on and validates, as positions in `opened`.

        Drawn over the images that could be decoded when the run began, whatever can be decoded now; a run of before
        `SKIPPED` was written has drawn over all. Raises `InputError` where a class has too few of them.
        """
        self._every_class(opened, ())
        bad = [each.key for each in opened.problems]
        begun = (self.folder.path / SKIPPED).is_file() or (self.folder.path / "checkpoints").is_dir()
        if (self.folder.path / SKIPPED).is_file():
            bad = self.folder.read(SKIPPED)["files"]
        elif begun:
            bad = []
        left, asked = frozenset(bad), self.request
        seen = [place for place, item in enumerate(self.data.items) if item.key not in left]
        whole = subset(self.data, seen)
        together = together_of(self.folder, whole, run, asked.groups, begun, writes)
        try:
            marked = together.mark(whole, copies=asked.copies == TOGETHER)
            found = splits_of(marked, asked.split, asked.folds, asked.recipe.seed)
        except InputError as error:
            if not bad:
                raise
            raise InputError(f"{error} {len(bad)} cannot be decoded, such as {bad[0]}.") from error

        def kept(places: Sequence[int]) -> tuple[int, ...]:
            return tuple(opened.where[seen[place]] for place in places if seen[place] in opened.where)

        splits = tuple(Split(kept(split.train), kept(split.validation), kept(split.test)) for split in found)
        self._every_class(opened, splits)
        if writes:
            self.folder.write(SKIPPED, {"files": bad})
        return together, splits

    def _every_class(self, opened: Opened, splits: Sequence[Split]) -> None:
        """Raise `InputError` where of a class no image can be decoded, or none of those of a part.

        A validation folder that was given need not have every class.
        """
        labels = opened.pictures.labels.tolist()
        every: list[tuple[Sequence[int], str]] = [(range(len(labels)), "no image of class")]
        every += [(split.train, "no training image of class") for split in splits]
        if not self.data.parts:
            every += [(split.validation, "no validation image of class") for split in splits]
        elif splits and not splits[0].validation:
            raise InputError(f"no validation image can be decoded ({opened.problems[0].reason}); fix them.")
        for places, told in every:
            there = {labels[place] for place in places}
            lost = [name for label, name in enumerate(self.data.classes) if label not in there]
            if lost:
                raise InputError(f"{told} {lost[0]!r} can be decoded ({opened.problems[0].reason}); fix them.")

    def _fold(
        self,
        number: int,
        split: Split,
        source: Images | Streamed | Stored,
        opened: Opened,
        together: Together,
        run: Run,
        writes: bool,
    ) -> Fold:
        """Train and validate one network; with `writes`, keep it and its history."""
        recipe = self.request.recipe
        network = network_of(self.base, self.data.classes, recipe)
        path = self.folder.path / "checkpoints" / (f"fold-{number}" if self.request.folds else "") / "last.pt"
        if writes and has_checkpoint(path):
            self._complete(number, path)

        def note(epoch: Epoch) -> None:
            if writes:
                self.folder.metric({"fold": number, **dataclasses.asdict(epoch)})

        train_part, validation_part = source.subset(split.train), source.subset(split.validation)
        history = fit(network, train_part, validation_part, recipe, run.part(0, LEARNED, WHOLE), path, note)
        rest = run.part(LEARNED, WHOLE - LEARNED, WHOLE)
        logits = predict(network, validation_part, rest, recipe.precision, "predicting validation images")
        tested = source.subset(split.test)
        fold = Fold(
            number,
            history,
            logits,
            split.validation,
            split.train,
            network.parameters,
            network.trained_parameters,
            predict(network, tested, rest.quiet(), recipe.precision, "predicting test images") if split.test else None,
            split.test,
        )
        if writes:
            place = self.folder.path / COMING / (f"fold-{number}" if number > 1 else "")
            card = self._card(fold, opened, together)
            write_network(place, network.classifier(f"run:{self.folder.path.name}"), recipe.head, card)
        return fold

    def _complete(self, number: int, path: Path) -> None:
        """Write the lines of metrics.jsonl that a kill kept from being written after their checkpoint."""
        known = {(row.get("fold"), row.get("epoch")) for row in self.folder.metrics()}
        loaded = load_checkpoint(path)
        if loaded.note:
            self.folder.log(loaded.note)
        for row in loaded.state["history"]:
            if (number, row["epoch"]) not in known:
                self.folder.metric({"fold": number, **row})

    def _card(self, fold: Fold, opened: Opened, together: Together) -> dict[str, Any]:
        """What is told about the network wherever it goes; no path of this machine is in it."""
        table = predictions_table([fold], opened, self.data)
        found = figures(table["label"].to_pylist(), table["probabilities"].to_pylist(), self.data.classes)
        copies = copies_of([fold], opened, together, table, predictions_table([fold], opened, self.data, TEST))
        return {
            "data": self.data.name,
            "data_fingerprint": self.data.fingerprint,
            "synthetic": self.data.synthetic,
            "base": self.base.weights,
            "base_fingerprint": self.base.fingerprint,
            "view": self.request.view,
            "recipe": self.request.recipe.plain(),
            "fold": f"{fold.number} of {self.request.folds}" if self.request.folds else "",
            "training_images": len(fold.train),
            "validation_images": len(fold.places),
            "left_out": len({*self.folder.read(SKIPPED)["files"], *(each.key for each in opened.problems)}),
            "epochs": len(fold.history.epochs),
            "accuracy": found.accuracy,
            "accuracy_interval": found.intervals["accuracy"],
            "auc": found.auc,
            "auc_interval": found.intervals["auc"],
            "validated_on": self._sides(),
            "copies": {name: copies[name] for name in ("looked", "images", "repeated", "without", "test")},
            "protocol": f"accuracy: {PROTOCOL['accuracy']}; intervals: {PROTOCOL['intervals']}; {COPIES}",
            "versions": versions(),
        }

    def _sides(self) -> str:
        """Which images validate, and what stays on one side."""
        asked = self.request
        given = ", ".join(f"{part} {count}" for part, count in self.data.parts.items())
        how = f"the folders as they are given ({given})" if given else f"a split drawn by seed {asked.recipe.seed}"
        copies = "copies of one picture anywhere" if asked.copies == ANYWHERE or given else "copies on one side"
        groups = f"; {asked.groups!r} groups on one side" if asked.groups and not given else ""
        return f"{how}; {copies}{groups}"

    def _finish(
        self, folds: Sequence[Fold], opened: Opened, together: Together, seconds: dict[str, float], threads: int
    ) -> None:
        """predictions.parquet and summary.json; all of this end is written aside before any of an earlier gives way."""
        table, tested = predictions_table(folds, opened, self.data), predictions_table(folds, opened, self.data, TEST)
        write_table(self.folder.path / COMING / "predictions.parquet", pa.concat_tables([table, tested]))
        left, why = frozenset(self.folder.read(SKIPPED)["files"]), "could not be decoded when the run began"
        late = [Problem(each.key, why) for each in opened.items if each.key in left]
        used = tuple(each for each in opened.items if each.key not in left)
        data = dataclasses.replace(self.data, items=used, problems=(*self.data.problems, *opened.problems, *late))
        head = {
            "kind": "train",
            "data": self.data.name,
            "data_sentence": data.sentence,
            "data_fingerprint": self.data.fingerprint,
            "synthetic": self.data.synthetic,
            "classes": list(self.data.classes),
            "images_by_class": data.counts,
            "model": self.base.name,
            "weights": self.base.weights,
            "random_base": self.base.random,
            "view": self.request.view,
            "recipe": self.request.recipe.plain(),
            "device": str(self.device),
            "threads": threads,
            "cores": os.cpu_count(),
            "versions": versions(),
            "left_out": [dataclasses.asdict(each) for each in data.problems],
        }
        given = given_split(self.data) is not None
        told = {**head, **summarise(folds, table, self.data.classes, self.request, seconds, given)}
        if len(tested):
            told["test"] = test_figures(tested, self.data.classes)
        told["copies"] = {
            **copies_of(folds, opened, together, table, tested),
            "kept": "given" if given else self.request.copies,
        }
        told["repeated"] = told["copies"]["repeated"]
        if together.told:
            told["groups"] = self._groups(folds, opened, together)
        self.folder.write(f"{COMING}/summary.json", told)
        bring_networks(self.folder.path, "predictions.parquet", "summary.json")

    def _groups(self, folds: Sequence[Fold], opened: Opened, together: Together) -> dict[str, Any]:
        """How groups were made, and of how many images a training and a validation or test image share one."""
        marked = together.mark(dataclasses.replace(self.data, items=opened.items), copies=False)
        sides = [divided(marked, (fold.train, fold.places, fold.test)) for fold in folds]
        return {"told": together.told, "divided": sum(map(len, sides))}


def comparison(results: Sequence[TransferResult]) -> list[dict[str, Any]]:
    """Study 3's table over several runs: one row a run, with accuracy, loss, time, epochs and parameters."""
    rows = []
    for each in results:
        told = each.summary
        rows.append(
            {
                "run": each.path.name,
                "data": told["data"],
                "model": told["model"],
                "weights": told["weights"],
                "head": told["recipe"]["head"],
                "trainable": told["recipe"]["trainable"],
                "accuracy": told["accuracy"],
                "accuracy_interval": each.figures().intervals["accuracy"],
                "images": len(each.labels),
                "loss": told["loss"],
                "seconds": told["seconds"]["all"],
                "epochs": told["epochs"],
                "parameters": told["parameters"],
                "trained_parameters": told["trained_parameters"],
                "synthetic": told["synthetic"],
                "random_base": told["random_base"],
            }
        )
    return rows
