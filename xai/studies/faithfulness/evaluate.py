"""Evaluate methods over a data set in a run folder: resumable, shardable, the same rows however it was run.

The images are cut into chunks of fixed size; (chunk, network) is the unit of work, and each finished unit is one
Parquet shard, written whole. A unit is thus there or not: a killed run resumes with what is missing, and several
processes share the units without talking to one another. Rank 0 merges the shards into `results.parquet` and
`summary.json`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from xai.data.call import open_dataset
from xai.data.loader import Batch, check_workers, read_batches
from xai.data.spec import DataSet, Problem
from xai.errors import InputError, XaiError
from xai.files import safe_name, write_atomic
from xai.metrics.curves import precision_error
from xai.models.batching import check_batch
from xai.models.classifier import Classifier, check_view
from xai.models.store import load_model
from xai.params import check_bounds
from xai.public import public
from xai.runs.folder import RunFolder
from xai.runs.team import Team
from xai.studies.faithfulness.measure import SCHEMA, Recipe, Seen, look, measure, network_name, refusal
from xai.studies.faithfulness.seen import Faithfulness, Refused, check_networks
from xai.studies.faithfulness.summary import summarise
from xai.types import Run

CHUNK = {"cpu": 8, "cuda": 32}
"""Images of one unit of work, by device type: what a killed process loses at most, on one network."""

ERROR_IMAGES = 8
"""Images on which bf16 is also measured in float32."""

SHOWN = ("insertion", "deletion", "drop")
"""Scores in metrics.jsonl."""


@dataclass(frozen=True)
class Request:
    """What is evaluated. Everything here is part of the run: resuming asks for the same.

    models: (name, weights) of each classifier. images: a seeded sample of so many, None for all. chunk: images of a
    unit; None: as the run began, or by device.
    """

    data: str
    models: tuple[tuple[str, str], ...]
    recipe: Recipe
    layout: str = "auto"
    view: str = "crop"
    images: int | None = None
    chunk: int | None = field(default=None, metadata={"min": 1, "max": 1024})

    def __post_init__(self) -> None:
        """Raises `InputError` for a number out of its bounds."""
        check_bounds(self)


@public
def evaluate(
    request: Request,
    out: Path,
    resume: bool = False,
    device: str = "auto",
    workers: int | None = None,
    batch: int | None = None,
    run: Run | None = None,
    team: Team | None = None,
) -> Faithfulness | None:
    """Evaluate in the run folder `out`; under torchrun each process takes its share, and rank 0 gives the result.

    workers: processes that decode (None: as many as fit the device). batch: images a forward pass. Other ranks give
    None. Raises `InputError` for what is wrong with the request, and `Cancelled`; in both cases `resume` goes on.
    """
    run = run or Run()
    team = team or Team.of_environment()
    with team.together():
        chosen = team.device(device)
        job = _Job.of(_cut(request, out, chosen), chosen, workers, batch)
        folder = _folder(job, out, resume, team)
        if team.rank > 0:
            try:
                _share(job, folder, team, run.quiet())
            except BaseException:
                folder.log(f"process {team.rank}: {traceback.format_exc().rstrip()}")
                raise
            team.wait()
            return None
        with folder.working(run, job.device) as own:
            folder.log(f"started on {job.device} with {team.size} process{'es' * (team.size > 1)}")
            _share(job, folder, team, own)
            own.report(len(job.units), len(job.units), "waiting for the other processes")
            team.wait()
            result = _finish(job, folder, own)
            folder.log(f"done: {result.table.num_rows} rows")
        return result


def _cut(request: Request, out: Path, device: torch.device) -> Request:
    """The request with its chunk size settled; a run that exists keeps its own, whatever device goes on with it."""
    if request.chunk is not None:
        return request
    if (out / "config.json").is_file():
        return dataclasses.replace(request, chunk=RunFolder(out).config().get("chunk"))
    return dataclasses.replace(request, chunk=CHUNK.get(device.type, CHUNK["cpu"]))


@dataclass(frozen=True, eq=False)
class _Job:
    """The request with its data set and classifiers open."""

    request: Request
    data: DataSet
    classifiers: tuple[Classifier, ...]
    refused: tuple[Refused, ...]
    device: torch.device
    workers: int
    batch: int | None

    @classmethod
    def of(cls, request: Request, chosen: torch.device, workers: int | None, batch: int | None) -> _Job:
        check_view(request.view)
        check_batch(batch, chosen)
        check_workers(workers)
        data = open_dataset(request.data, request.layout)
        if request.images is not None:
            data = data.sample(request.images, request.recipe.seed)
        classifiers = tuple(load_model(name, weights, chosen) for name, weights in request.models)
        check_networks(classifiers)
        refused = [
            Refused(network_name(each), name, reason)
            for each in classifiers
            for name in request.recipe.everything
            if (reason := refusal(each, name, request.recipe))
        ]
        for each in classifiers:
            _check_labels(request.recipe, data, each)
            reasons = {one.method: one.reason for one in refused if one.network == network_name(each)}
            if not set(request.recipe.methods) - set(reasons):
                raise InputError(f"no method applies to {each.title}: {'; '.join(reasons.values())}.")
        if workers is None:  # on the CPU decoding is a hundredth of the work, and takes a core from it
            workers = 0 if chosen.type == "cpu" else min(8, os.cpu_count() or 1)
        return cls(request, data, classifiers, tuple(refused), chosen, workers, batch)

    @property
    def chunks(self) -> list[range]:
        size = self.request.chunk or len(self.data)
        return [range(start, min(start + size, len(self.data))) for start in range(0, len(self.data), size)]

    @property
    def units(self) -> list[tuple[int, int]]:
        """(chunk, network) in order."""
        return [(chunk, network) for chunk in range(len(self.chunks)) for network in range(len(self.classifiers))]

    def config(self) -> dict[str, Any]:
        """What the run folder keeps, and what resuming compares."""
        return {
            "kind": "evaluate",
            **asdict(self.request),
            "models": [
                {"name": each.name, "weights": each.weights, "fingerprint": each.fingerprint}
                for each in self.classifiers
            ],
            "data_layout": self.data.layout,
            "data_images": len(self.data),
            "data_fingerprint": self.data.fingerprint,
        }


def _check_labels(recipe: Recipe, data: DataSet, classifier: Classifier) -> None:
    if recipe.target == "label" and data.class_map(classifier.labels) is None:
        raise InputError(
            f"target is label, but the labels of {data.name} ({data.layout}) are no classes of {classifier.title}; "
            "use target predicted."
        )
    bare = next((item.key for item in data.items if item.label is None), None)
    if recipe.target == "label" and bare is not None:
        raise InputError(f"target is label, but {bare} of {data.name} has none; use target predicted.")


def _folder(job: _Job, out: Path, resume: bool, team: Team) -> RunFolder:
    """The run's folder, made by rank 0; what it refuses all refuse."""
    refused = ""
    if team.rank == 0:
        try:
            RunFolder.create(out, job.config(), resume)
        except InputError as error:
            refused = str(error)
    team.agree(refused)
    return RunFolder(out)


def shard_path(folder: RunFolder, chunk: int, network: str) -> Path:
    """Where the rows of one unit lie; its being there is its being done."""
    return folder.path / "shards" / f"{chunk:06}.{safe_name(network)}.parquet"


def _share(job: _Job, folder: RunFolder, team: Team, run: Run) -> None:
    """Do the units of this rank that are not done: every `size`-th chunk, so that a chunk is decoded once."""
    names = [network_name(each) for each in job.classifiers]
    todo = [
        chunk
        for chunk in range(team.rank, len(job.chunks), team.size)
        if not all(shard_path(folder, chunk, name).is_file() for name in names)
    ]
    total = len(job.units)
    batches = [job.chunks[chunk] for chunk in todo]
    for batch in read_batches(job.data.items, batches, job.classifiers, job.request.view, job.workers):
        chunk = todo[batch.index]
        for network, classifier in enumerate(job.classifiers):
            path = shard_path(folder, chunk, names[network])
            if path.is_file():
                continue
            done = _done(folder)
            note = f"{done * len(job.data) // total:,} of {len(job.data):,} images, {classifier.title}"
            run.report(done, total, note)
            inner = dataclasses.replace(run, on_progress=partial(_tell, run, done, total, note))
            began = time.perf_counter()
            table = _unit(job, chunk, classifier, batch, inner)
            sink = io.BytesIO()
            pq.write_table(table, sink)
            write_atomic(path, sink.getvalue())
            folder.metric(_line(chunk, names[network], table, time.perf_counter() - began, team))


def _tell(run: Run, done: int, total: int, note: str, part: int, parts: int, _what: str) -> None:
    """Progress inside a unit: units stay whole, the note says how far the one in work is."""
    run.on_progress(done, total, f"{note} {100 * part // max(1, parts)} %")


def _done(folder: RunFolder) -> int:
    place = folder.path / "shards"
    return sum(1 for entry in os.scandir(place) if entry.name.endswith(".parquet")) if place.is_dir() else 0


def _unit(job: _Job, chunk: int, classifier: Classifier, batch: Batch, run: Run) -> pa.Table:
    """The rows of one chunk on one network; images that could not be decoded are in the table's metadata."""
    recipe = job.request.recipe
    table = SCHEMA.empty_table()
    if batch.items:
        table = measure(_explained(job, job.chunks[chunk], classifier, batch, recipe, run), recipe, run, job.batch)
    bad = {problem.key: problem.reason for problem in batch.problems}
    return table.replace_schema_metadata({"problems": json.dumps(bad)})


def _explained(job: _Job, span: range, classifier: Classifier, batch: Batch, recipe: Recipe, run: Run) -> Seen:
    """The images of a batch that could be read, `span` of the data set, explained."""
    bad = {problem.key for problem in batch.problems}
    places = [place for place in span if job.data.items[place].key not in bad]
    label_map = job.data.class_map(classifier.labels)
    known = [job.data.items[place].label for place in places]
    labels = [None if label is None or label_map is None else label_map[label] for label in known]
    keys = [job.data.items[place].key for place in places]
    return look(classifier, batch.pixels(classifier), recipe, keys, places, labels, batch.mask(classifier), run)


def _line(chunk: int, network: str, table: pa.Table, seconds: float, team: Team) -> dict[str, Any]:
    """One line of metrics.jsonl: means over the unit's images that have a score, by method."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in table.select(["method", *SHOWN]).to_pylist():
        for metric in SHOWN:
            if row[metric] is not None:
                found.setdefault(row["method"], {}).setdefault(metric, []).append(row[metric])
    return {
        "chunk": chunk,
        "network": network,
        "rank": team.rank,
        "images": pc.count_distinct(table["image"]).as_py(),
        "seconds": seconds,
        "mean": {name: {m: sum(of) / len(of) for m, of in scores.items()} for name, scores in found.items()},
    }


def _finish(job: _Job, folder: RunFolder, run: Run) -> Faithfulness:
    """Merge the shards and write results and summary. Raises `XaiError` where a shard is missing."""
    names = [network_name(each) for each in job.classifiers]
    paths = [shard_path(folder, chunk, name) for name in names for chunk in range(len(job.chunks))]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise XaiError(f"{len(missing)} of {len(paths)} parts are missing: a process ended early; resume goes on.")
    run.report(len(paths), len(paths), "merging")
    problems: dict[str, str] = {}
    tables = []
    for path in paths:
        table = pq.read_table(path)
        problems |= json.loads(table.schema.metadata[b"problems"])
        tables.append(table.replace_schema_metadata(None))
    left_out = [*job.data.problems, *(Problem(key, reason) for key, reason in problems.items())]
    merged = pa.concat_tables(tables, promote_options="default").combine_chunks()
    sink = io.BytesIO()
    pq.write_table(merged, sink)
    write_atomic(folder.path / "results.parquet", sink.getvalue())
    result = Faithfulness(merged, job.request.recipe, job.refused, left_out)
    summary = {"data": job.data.name, "synthetic": job.data.synthetic, **summarise(result)}
    if job.request.recipe.precision == "bf16":
        run.report(len(paths), len(paths), "measuring what bf16 costs")
        summary["bf16_auc_error"] = _bf16_errors(job, run)
    folder.write("summary.json", summary)
    return result


def _bf16_errors(job: _Job, run: Run) -> dict[str, Any]:
    """Largest AUC difference between bf16 and float32 on the first images that can be read, by network and metric.

    Maps that are not finite have no AUC and are left out.
    """
    recipe = dataclasses.replace(job.request.recipe, baselines=())
    count = min(ERROR_IMAGES, len(job.data))
    quiet = run.quiet()
    (batch,) = read_batches(job.data.items, [range(count)], job.classifiers, job.request.view)
    errors: dict[str, Any] = {"images": len(batch.items)}
    for classifier in job.classifiers if batch.items else ():
        seen = _explained(job, range(count), classifier, batch, recipe, quiet)
        maps = {name: values for name, values in seen.maps.items() if bool(torch.isfinite(values).all())}
        if maps:
            told = precision_error(classifier, seen.x, maps, recipe.protocol, quiet, seen.target, recipe.substrates)
            errors[seen.network] = told
    return errors


@public
def open_results(out: Path) -> Faithfulness:
    """The result of a finished run, for figures and tables; raises `InputError` where it is not finished."""
    folder = RunFolder.open(out)
    path = folder.path / "results.parquet"
    if not path.is_file():
        raise InputError(f"{out} has no results yet (it is {folder.status().state}); wait, or resume it.")
    config, summary = folder.config(), folder.summary()
    try:
        rows = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} is damaged; write it again by evaluate ... --out {out} --resume.") from error
    return Faithfulness(
        rows,
        recipe_of(config["recipe"]),
        [Refused(**each) for each in summary["refused"]],
        [Problem(**each) for each in summary["left_out"]],
    )


def recipe_of(saved: Mapping[str, Any]) -> Recipe:
    """The recipe as config.json keeps it."""
    lists = {name: tuple(saved[name]) for name in ("methods", "baselines")}
    return Recipe(**{"draws": 0, **saved, **lists})  # older runs drew none
