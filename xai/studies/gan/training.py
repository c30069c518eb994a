"""Train a generator in a run folder: progress, losses and samples as they come, checkpoints, resume to the same result.

`metrics.jsonl` holds rows of kind "loss" (averages) and "look" (distance within a class, KID); `artifacts/` the grids
of samples, of real images, and at the end the averaged generator; `checkpoints/last.pt` everything that resuming needs.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xai.data.call import open_dataset
from xai.data.spec import DataSet, Problem
from xai.data.split import SEEN
from xai.data.together import Together
from xai.errors import InputError
from xai.files import write_atomic
from xai.gan.images import SHARE, Pictures, Shares, check_held_out, only_class, read_shares, split_places
from xai.gan.sample import SHOWN, grid_png
from xai.gan.saved import Generator, merged, save_discriminator, save_generator
from xai.gan.settings import GanSettings
from xai.gan.step import Trainer
from xai.gan.train import Pace, Training
from xai.gan.watch import collapse_warning, looks, plateau
from xai.models.provenance import versions
from xai.params import check_bounds
from xai.public import public
from xai.runs.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from xai.runs.folder import RunFolder
from xai.runs.team import Team
from xai.studies.together import together_of
from xai.types import Run

PRECISIONS = ("auto", "float32", "bf16")

GENERATOR = Path("artifacts") / "generator.safetensors"
"""Where in its run folder the finished generator lies."""


@dataclass(frozen=True)
class GanRequest:
    """What is trained; all of it but the steps is part of the run, and resuming asks for the same.

    only: train on this class alone, as the study did; "" for all classes in one network, which is told the class where
    conditional, and else takes them for one. share: of each class that the generator sees, drawn by split_seed; the
    rest is held out. precision: "auto" is bf16 on a GPU that has it, else float32.
    """

    data: str
    settings: GanSettings
    steps: int = field(metadata={"min": 1, "max": 100_000_000})
    only: str = ""
    conditional: bool = True
    share: float = SHARE
    split_seed: int = 0
    precision: str = "auto"
    look: int = field(default=500, metadata={"min": 1, "max": 100_000_000})

    def __post_init__(self) -> None:
        """Raises `InputError` for a number out of its bounds."""
        check_bounds(self)


@public
def train_gan(
    request: GanRequest,
    out: Path,
    resume: bool = False,
    device: str = "auto",
    run: Run | None = None,
    team: Team | None = None,
    command: str = "",
) -> Generator | None:
    """Train in the run folder `out`; the averaged generator (rank 0 under torchrun; None on the others).

    Raises `InputError` for what is wrong with the request, `Cancelled` when stopped (resume goes on), and `XaiError`
    where the training diverges.
    """
    run, team = run or Run(), team or Team.of_environment()
    with team.together("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"):
        chosen = team.device(device)
        data = only_class(open_dataset(request.data), request.only)
        Pace(look=request.look)  # what is wrong is said before there is a folder, which would be in the way of another
        check_held_out(len(split_places(data, request.share, request.split_seed)[1]))
        classes = data.classes if request.conditional and len(data.classes) > 1 else ()
        precision = _precision(request.precision, chosen)
        config = _config(request, data, classes, run.seed, precision, team.size)
        folder = _folder(out, config, resume, team)
        own = dataclasses.replace(run, device=chosen)
        if team.rank > 0:
            _train(request, data, classes, precision, folder, own.quiet(), team)
            team.wait()
            return None
        with folder.working(own, chosen) as working:
            training, shares, together = _train(request, data, classes, precision, folder, working, team)
            team.wait()
            used = {*shares.train.keys, *shares.held_out.keys}
            copies = (Problem(item.key, SEEN) for item in data.items if item.key not in used)
            problems = (*data.problems, *copies)
            return _finish(request, training, shares, together, folder, config, command, problems)


def _precision(asked: str, device: torch.device) -> str:
    if asked not in PRECISIONS:
        raise InputError(f"precision {asked!r} is not known; use {', '.join(PRECISIONS)}.")
    if asked == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return asked


def _config(
    request: GanRequest, data: DataSet, classes: tuple[str, ...], seed: int, precision: str, processes: int
) -> dict[str, Any]:
    """What the run folder keeps, and what resuming compares: not the steps, since a step is the same whatever follows
    it, so that a run can be resumed for more of them.
    """
    asked = dataclasses.asdict(request)
    del asked["steps"]
    return {
        "kind": "gan",
        **asked,
        "precision": precision,
        "processes": processes,
        "seed": seed,
        "classes": list(classes),
        "data_name": data.name,
        "data_images": len(data),
        "data_fingerprint": data.fingerprint,
        "data_synthetic": data.synthetic,
    }


def _folder(out: Path, config: Mapping[str, Any], resume: bool, team: Team) -> RunFolder:
    """The run's folder, made by rank 0; what it refuses all refuse."""
    refused = ""
    if team.rank == 0:
        try:
            RunFolder.create(out, config, resume)
        except InputError as error:
            refused = str(error)
    team.agree(refused)
    return RunFolder(out)


def _train(
    request: GanRequest,
    data: DataSet,
    classes: tuple[str, ...],
    precision: str,
    folder: RunFolder,
    run: Run,
    team: Team,
) -> tuple[Training, Shares, Together]:
    last = folder.path / "checkpoints" / "last.pt"
    together = together_of(folder, data, run.aside(), begun=has_checkpoint(last), writes=team.rank == 0)
    marked = together.mark(data)
    check_held_out(len(split_places(marked, request.share, request.split_seed)[1]))
    shares = read_shares(marked, request.settings.size, run.aside(), request.share, request.split_seed)
    seen = shares if classes else shares.unlabelled()
    trainer = Trainer(request.settings, len(classes), run, team.rank, team.size, precision, seen.train.counts)
    sink = _Sink(folder, team.rank)
    training = Training(trainer, seen.train, seen.held_out, sink, Pace(look=request.look))
    if has_checkpoint(last):
        found = load_checkpoint(last)
        training.load(found.state)
        sink.log(f"going on from step {trainer.done}. {found.note}".strip())
    else:
        sink.log(f"started on {run.device}, {precision}, {team.size} process{'es' * (team.size > 1)}")
        if shares.train.enlarged:
            few, size = f"{shares.train.enlarged} of {len(shares.train.keys)}", request.settings.size
            sink.log(f"{few} training images are smaller than {size} px and were enlarged")
        sink.real(shares.train)
    training.go(request.steps)
    return training, shares, together


def _finish(
    request: GanRequest,
    training: Training,
    shares: Shares,
    together: Together,
    folder: RunFolder,
    config: Mapping[str, Any],
    command: str,
    problems: Sequence[Problem],
) -> Generator:
    """Write the averaged generator and the summary, which lists the files that were left out (`problems`)."""
    trainer = training.trainer
    seen = looks(folder.metrics())
    last = seen[-1] if seen else {}
    facts = {
        "data": request.data,
        "data_name": config["data_name"],
        "data_fingerprint": config["data_fingerprint"],
        "synthetic": config["data_synthetic"],
        "only": request.only,
        "train_images": len(shares.train.keys),
        "train_fingerprint": shares.train.fingerprint,
        "share": request.share,
        "split_seed": request.split_seed,
        "copies": [list(each) for each in together.copies],
        "steps": trainer.done,
        "images_seen": trainer.done * trainer.settings.batch,
        "seconds": training.seconds,
        "seed": trainer.run.seed,
        "precision": config["precision"],
        "command": command,
        "versions": versions(),
    }
    made = Generator(merged(trainer.ready()), trainer.settings, tuple(config["classes"]), facts)
    save_generator(folder.path / GENERATOR, made)
    if request.settings.discriminator == "own" and request.settings.architecture == "fastgan":
        save_discriminator(folder.path / GENERATOR, copy.deepcopy(trainer.d))
    warning = collapse_warning(last["distance_ratio"]) if last else ""
    told = {"last_look": last, "plateau": plateau(seen), "batch_parts": trainer.parts, "warning": warning}
    left_out = [dataclasses.asdict(each) for each in problems]
    folder.write("summary.json", {**facts, **told, "left_out": left_out})
    return made


@dataclass(frozen=True, eq=False)
class _Sink:
    """Writes into the run folder; of several processes only rank 0 does."""

    folder: RunFolder
    rank: int

    def metric(self, row: Mapping[str, Any]) -> None:
        if self.rank == 0:
            self.folder.metric(row)

    def log(self, text: str) -> None:
        if self.rank == 0:
            self.folder.log(text)

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        if self.rank == 0:
            save_checkpoint(self.folder.path / "checkpoints" / "last.pt", state)

    def samples(self, step: int, images: Tensor, labels: Tensor) -> None:
        if self.rank == 0:
            write_atomic(self.folder.path / "artifacts" / f"samples-{step:07}.png", grid_png(images, labels))

    def real(self, train: Pictures) -> None:
        """The first images of each class, to compare with."""
        order = torch.cat([torch.nonzero(train.labels == k)[:SHOWN, 0] for k in torch.unique(train.labels)])
        if self.rank == 0:
            grid = grid_png(train.images[order].float() / 255, train.labels[order])
            write_atomic(self.folder.path / "artifacts" / "real.png", grid)
