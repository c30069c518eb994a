"""The bias study in a run folder: a training and an audit a piece, each whole or not there, so a kill loses one.

`pieces/NAME.json` is a finished piece, `networks/NAME.safetensors` its network; `summary.json` is made of the pieces.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from xai.data.drawn.pet_factors import CUES, Cue
from xai.data.drawn.synthetic import MOST
from xai.data.pets import balanced_pets
from xai.explain.call import applicability, attribute
from xai.files import write_atomic
from xai.metrics.energy import energy
from xai.models.classifier import Classifier
from xai.models.exported import PLACE, write_network
from xai.models.store import load_model
from xai.params import check_bounds
from xai.public import public
from xai.runs.folder import RunFolder
from xai.settings import resolve_device
from xai.studies.bias import detector
from xai.studies.bias.audit import BATCH, audit, check_methods
from xai.studies.bias.detector import Reading
from xai.studies.bias.findings import PROTOCOL, Audit
from xai.studies.bias.subjects import FACTORS, Subjects, check_memory, of_pets
from xai.studies.bias.train import ARMS, Experiment, same_everywhere, teach
from xai.types import Run

RHOS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Correlations of the sweep."""

DETECTOR_RHOS = (0.5, 0.7, 0.8, 0.9, 1.0)
"""Correlations at which networks are trained for each cue, to try the methods on."""

DETECTOR_PER_GROUP = 10
"""Test images of each group whose maps are measured for the detector."""

TEST_SEED = 20_000
"""Seed of the test set: the same images for every network."""


@dataclass(frozen=True)
class BiasRequest:
    """What is studied. Everything here is part of the run: resuming asks for the same.

    experiment: the network that is audited first. sweep, mend, detector: which further parts. seeds: trainings of each
    point of those, counted from the experiment's seed. per_group: test images of each class with each value of the cue.
    methods: whose maps are measured in every audit.
    """

    experiment: Experiment = field(default_factory=Experiment)
    sweep: bool = False
    mend: bool = False
    detector: bool = False
    seeds: int = field(default=3, metadata={"min": 1, "max": 1000})
    per_group: int = field(default=50, metadata={"min": 1, "max": MOST})
    methods: tuple[str, ...] = ("gradcam",)

    def __post_init__(self) -> None:
        check_bounds(self)
        check_methods(self.methods)

    def pieces(self) -> dict[str, Experiment]:
        """The trainings by name, in order, each once."""
        many = [self.experiment, *self.points("mend"), *self.points("sweep"), *self.points("detector")]
        return {each.name: each for each in many}

    def points(self, part: str) -> list[Experiment]:
        """The trainings of one part, none where it is not asked for.

        mend: the experiment in every arm. sweep: its cue at every correlation. detector: every cue at several.
        """
        if not getattr(self, part):
            return []
        own = replace(self.experiment, arm="biased")
        seeds = [self.experiment.seed + index for index in range(self.seeds)]
        if part == "mend":
            return [replace(own, seed=seed, arm=arm) for seed in seeds for arm in ARMS]
        if part == "sweep":
            return [replace(own, seed=seed, rho=rho) for seed in seeds for rho in RHOS]
        return [replace(own, cue=cue, seed=seed, rho=rho) for cue in CUES for seed in seeds for rho in DETECTOR_RHOS]

    def config(self) -> dict[str, Any]:
        """What the run folder keeps, and what resuming compares."""
        return {"kind": "audit-bias", **asdict(self), "methods": list(self.methods)}


@public
def study_bias(
    request: BiasRequest, out: Path, resume: bool = False, device: str = "auto", run: Run | None = None
) -> dict[str, Any]:
    """Train and audit in the run folder `out`; gives the summary. `resume` goes on with the pieces that are missing.

    Raises `InputError` for what is wrong with the request, and `Cancelled`: finished pieces stay.
    """
    chosen, own = resolve_device(device), request.experiment
    with same_everywhere(own.model):
        network = load_model(own.model, own.weights, chosen)
        check_methods(request.methods, network)
    check_memory(4 * request.per_group, 4 * request.per_group * len(FACTORS), network)
    folder = RunFolder.create(out, request.config(), resume)
    here = replace(run or Run(), device=chosen)
    with same_everywhere(own.model), folder.working(here, chosen) as work:
        wanted = request.pieces()
        for index, (name, experiment) in enumerate(wanted.items()):
            if not piece_path(folder.path, name).is_file():
                _piece(request, experiment, folder, work.part(100 * index, 100, 100 * len(wanted), experiment.title))
            work.report(100 * (index + 1), 100 * len(wanted), experiment.title)
        summary = summarise(request, folder.path)
        _offer(request, folder, summary)
        folder.write("summary.json", summary)
    return summary


def piece_path(out: Path, name: str) -> Path:
    """Where a finished piece lies."""
    return out / "pieces" / f"{name}.json"


def network_path(out: Path, name: str) -> Path:
    """Where the network of a piece lies; class names in a .txt beside it."""
    return out / "networks" / f"{name}.safetensors"


def _piece(request: BiasRequest, experiment: Experiment, folder: RunFolder, run: Run) -> None:
    """One training, its audit, and what the methods show of it if it is one of the detector's."""
    note = experiment.title
    taught = teach(
        experiment,
        run.device,
        run.part(0, 60, 100, f"{note}: training"),
        folder.path / "checkpoints" / f"{experiment.name}.pt",
        lambda epoch: folder.metric({"network": experiment.name, **asdict(epoch)}),
    )
    subjects = test_subjects(experiment.cue, request.per_group, experiment.pixels, taught.classifier, run)
    found = audit(taught.classifier, subjects, request.methods, run.part(60, 20, 100, f"{note}: audit"))
    readings: list[Reading] = []
    if experiment.name in {each.name for each in request.points("detector")}:
        readings = _readings(experiment, taught.classifier, subjects, found, run.part(80, 20, 100, f"{note}: methods"))
    save_network(folder.path, experiment.name, taught.classifier)
    piece = {
        "experiment": asdict(experiment),
        "data": experiment.pets().sentence,
        "curves": [asdict(epoch) for epoch in taught.history.epochs],
        "audit": found.plain(),
        "readings": [asdict(each) for each in readings],
    }
    write_atomic(piece_path(folder.path, experiment.name), piece_json(piece))


_sights: dict[tuple[object, ...], Subjects] = {}


def test_subjects(cue: Cue, per_group: int, pixels: int, classifier: Classifier, run: Run) -> Subjects:
    """The test set, the same for every network that sees alike; the last few are kept."""
    key = (cue, per_group, pixels, classifier.preset, classifier.input_size)
    if key not in _sights:
        found = of_pets(balanced_pets(per_group, cue, TEST_SEED), cue, classifier, pixels, run.quiet())
        while len(_sights) >= len(CUES):
            _sights.pop(next(iter(_sights)))
        _sights[key] = found
    return _sights[key]


def _readings(
    experiment: Experiment, classifier: Classifier, subjects: Subjects, found: Audit, run: Run
) -> list[Reading]:
    """Mean mass on the cue of every method's maps, over some images of each group.

    What a method draws at random, above all the random map itself, it draws anew for every network.
    """
    truth = found.by_factor(experiment.cue)
    if truth is None:
        return []
    per = len(subjects) // 4
    chosen = torch.cat([torch.arange(start, start + min(DETECTOR_PER_GROUP, per)) for start in range(0, 4 * per, per)])
    x, mask = subjects.x[chosen], subjects.regions[detector.REGION[experiment.cue]][chosen]
    readings = []
    methods = [each for each in detector.METHODS if applicability(classifier, each).status != "refused"]
    drawn = Run(seed=experiment.seed).generator("readings", experiment.name).initial_seed()
    inner = replace(run.quiet(), seed=drawn)
    for index, method in enumerate(methods):
        maps = torch.cat(
            [attribute(classifier, x[i : i + BATCH], method, run=inner).maps() for i in range(0, len(x), BATCH)]
        )
        scores = energy(maps, mask)
        known = ~scores.values.isnan()
        if not bool(known.any()):
            continue  # all its maps are blank: nothing to read
        readings.append(
            Reading(
                experiment.name,
                experiment.cue,
                method,
                float(scores.values[known].mean()),
                float(scores.facts["chance"][known].mean()),
                truth.score.mean,
            )
        )
        run.report(index + 1, len(methods))
    return readings


def summarise(request: BiasRequest, out: Path) -> dict[str, Any]:
    """The headline figures with their protocol, of the pieces that are there."""
    made = {name: json.loads(piece_path(out, name).read_text(encoding="utf-8")) for name in request.pieces()}
    base = made[request.experiment.name]
    readings = [Reading(**each) for piece in made.values() for each in piece["readings"]]
    return {
        "kind": "audit-bias",
        "protocol": PROTOCOL,
        "data": base["data"],
        "request": request.config(),
        "command": command_of(request),
        "base": {name: base[name] for name in ("experiment", "curves", "audit")},
        "sweep": _points(request, made, "sweep"),
        "mend": _points(request, made, "mend"),
        "detector": detector.plain(detector.detect(readings), readings) if readings else None,
    }


def _points(request: BiasRequest, made: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """The audits of one part of the request, without their rows."""
    found = [made[each.name] for each in request.points(part)]
    return [{"experiment": each["experiment"], "audit": {**each["audit"], "rows": []}} for each in found]


def command_of(request: BiasRequest) -> str:
    """The terminal command that makes the run again."""
    return shlex.join(["python", "-m", "xai", *words_of(request), "--out", "RUN"])


def words_of(request: BiasRequest) -> list[str]:
    """The command with its options, where the run goes apart."""
    own, usual = request.experiment, Experiment()
    words = ["audit-bias"]
    words += ["--rho", f"{own.rho:g}"] if own.rho is not None else []
    for name in ("cue", "model", "cats", "dogs", "pixels", "epochs"):
        if getattr(own, name) != getattr(usual, name):
            words += [f"--{name}", str(getattr(own, name))]
    words += ["--seed", str(own.seed)]
    words += [f"--{part}" for part in ("sweep", "mend", "detector") if getattr(request, part)]
    if request.sweep or request.mend or request.detector:
        words += ["--seeds", str(request.seeds)]
    words += ["--per-group", str(request.per_group)] if request.per_group != BiasRequest().per_group else []
    words += ["--method", *request.methods] if request.methods != BiasRequest().methods else []
    return words


def save_network(out: Path, name: str, classifier: Classifier) -> None:
    """Write a network and its class names where `network_path` says."""
    from safetensors.torch import save

    path = network_path(out, name)
    state = {key: value.detach().cpu().contiguous() for key, value in classifier.module.net.state_dict().items()}
    write_atomic(path.with_suffix(".txt"), "".join(f"{label}\n" for label in classifier.labels).encode())
    write_atomic(path, save(state))


def _offer(request: BiasRequest, folder: RunFolder, summary: Mapping[str, Any]) -> None:
    """Put the audited network where every page and command finds a run's network: `--model run:ID`."""
    own = request.experiment
    classifier = load_model(own.model, f"file:{network_path(folder.path, own.name)}", "cpu")
    last = summary["base"]["curves"][-1]
    card = {
        "base": own.weights,
        "data": summary["data"],
        "synthetic": True,
        "view": "crop",
        "accuracy": last["validation_accuracy"],
    }
    write_network(folder.path / PLACE, classifier, own.recipe().head, card)


def piece_json(value: Mapping[str, Any]) -> bytes:
    """What a finished piece's file holds."""
    return (json.dumps(dict(value), allow_nan=False, separators=(",", ":")) + "\n").encode()
