"""Study 2 as an experiment that can also answer no: does synthetic data help, and what does it do to the attention?

A run folder holds one pair of files for each unit (share of the real images, arm, seed) in `units/`; a unit is there or
not, so that a killed run loses the one that it was at. `summary.json` and `artifacts/examples.safetensors` are made of
the units, and are all that a page needs. A generator that is trained first lies in `generator/`, a run of its own.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xai.data.call import open_dataset
from xai.data.spec import DataSet
from xai.errors import InputError
from xai.explain.call import check_applies
from xai.explain.spec import METHODS
from xai.files import write_atomic
from xai.gan.images import SHARE
from xai.gan.saved import Generator, load_generator
from xai.gan.settings import LAPTOP, SIZES
from xai.models.store import load_model, model_spec
from xai.params import check_bounds
from xai.public import public
from xai.runs.folder import RunFolder, Status
from xai.settings import resolve_device
from xai.studies.augmentation.arm import ARMS, Found, Looked, Terms, Unit, check_arms, do_unit, read_unit
from xai.studies.augmentation.data import (
    Shares,
    check_generators,
    read_shares,
    real_share,
    split_shares,
    synthesise,
    synthetic_labels,
)
from xai.studies.augmentation.summary import (
    SHOWN,
    Study,
    compared,
    examples,
    open_study,
    rises,
    summarise,
    undertrained,
    undertrained_sentence,
)
from xai.studies.augmentation.tested import chosen_ratio
from xai.studies.gan.training import GanRequest, train_gan
from xai.studies.together import together_of
from xai.training import Images, Stored
from xai.training.features import precision_of
from xai.training.pictures import Pictures
from xai.types import Run

__all__ = [
    "ARMS",
    "SHOWN",
    "AugmentRequest",
    "Study",
    "augment",
    "check_classes",
    "compared",
    "open_study",
    "rises",
    "undertrained",
    "undertrained_sentence",
]

RATIOS = (20, 50, 75, 100, 125)
PERCENTS = (100, 50, 25, 10)

SMALL_ARMS = ("real", "traditional", "synthetic")
"""Arms on less than all real images, unless every arm is asked for everywhere."""

PRETRAINED = {"simple_cnn": "efficientnet_lite0"}
"""Whose place a network takes that was never trained on ImageNet."""

RATES = {"simple_cnn": 2e-3}
RATE = 1e-4
"""Learning rates from scratch: of the networks in `RATES`, and of others (VGG16 diverges above)."""


@dataclass(frozen=True)
class AugmentRequest:
    """What is asked; all of it is part of the run, and resuming asks for the same.

    arms: of `ARMS`. ratios: generated images in percent of the real ones. percents: of the real training images.
    everywhere: all arms and ratios at every share, each with its own choice of ratio; else `SMALL_ARMS`, with the ratio
    that validation chose on all images. seeds: networks of every arm; where a ratio is chosen, as many more of it and
    of real images alone, which chose nothing, tell what it brings. generators: run folders or saved generators, one
    with all classes or one for each; "" with generator_steps trains one first. size: side of the images where no
    generator says it. share, split_seed: cut the data where no generator has. validation: share of the other images
    that choose; the rest test. truncation: of what is generated. pretrained, learning_rate: "" and 0: by network. look:
    images of each kind whose maps are measured.
    """

    data: str
    model: str = "simple_cnn"
    arms: tuple[str, ...] = ARMS
    ratios: tuple[int, ...] = RATIOS
    percents: tuple[int, ...] = PERCENTS
    everywhere: bool = False
    seeds: int = field(default=3, metadata={"min": 1, "max": 1000})
    steps: int = field(default=600, metadata={"min": 1, "max": 1_000_000})
    batch: int = field(default=32, metadata={"min": 1, "max": 4096})
    learning_rate: float = 0.0
    rounds: int = field(default=12, metadata={"min": 1, "max": 1000})
    generators: tuple[str, ...] = ()
    generator_steps: int = field(default=0, metadata={"min": 0, "max": 100_000_000})
    size: int = 64
    share: float = SHARE
    split_seed: int = 0
    validation: float = 1 / 3
    truncation: float | None = None
    pretrained: str = ""
    method: str = "gradcam"
    look: int = field(default=200, metadata={"min": 1, "max": 10_000})
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Raises `InputError` for what cannot be done."""
        check_arms(self.arms)
        check_bounds(self)
        for name, low, high in (("ratios", 1, 1000), ("percents", 1, 100)):
            values = getattr(self, name)
            for value in values:
                if not low <= value <= high:
                    raise InputError(f"{name} has {value}; give whole percents from {low} to {high}.")
            if len(set(values)) != len(values):
                raise InputError(f"{name} names {values} with a value twice; give each once.")
        if 100 not in self.percents:
            raise InputError("percents lacks 100, all real images, which the verdict is about; add it.")
        if self.steps < self.rounds:
            raise InputError(f"steps is {self.steps} for {self.rounds} rounds; give a step or more for each round.")
        if self.generator_steps and (self.generators or not self.synthetic):
            why = "a generator is given" if self.generators else "no arm takes generated images"
            raise InputError(f"generator_steps is {self.generator_steps}, but {why}; leave one of both out.")
        if "synthetic" in self.arms and not self.ratios:
            raise InputError("ratios is empty; give at least one for the synthetic arms, such as 100.")
        if self.truncation is not None and not self.truncation > 0:
            raise InputError(f"truncation is {self.truncation:g}; give a number above 0, or none.")
        if self.size not in SIZES:
            raise InputError(f"size {self.size} is not possible; use {', '.join(map(str, SIZES))}.")
        METHODS.get(self.method)

    @property
    def synthetic(self) -> bool:
        """Whether generated images are needed."""
        return "synthetic" in self.arms

    @property
    def chooses(self) -> bool:
        """Whether a ratio is chosen: then other networks than those that chose it tell what it brings."""
        return self.synthetic and len(self.ratios) > 1

    @property
    def terms(self) -> Terms:
        """How every arm is trained. Raises `UnknownNameError` for a network that there is not."""
        model = model_spec(self.model).name
        other = model_spec(self.pretrained or PRETRAINED.get(model, model)).name
        rate = self.learning_rate or RATES.get(model, RATE)
        return Terms(model, other, self.steps, self.batch, rate, self.rounds, self.method, self.precision)


def check_classes(data: DataSet) -> None:
    """Raise `InputError` where there is nothing to tell apart."""
    if len(data.classes) < 2:
        raise InputError(f"{data.name} has fewer than 2 classes; give images in at least 2 class folders.")


@public
def augment(
    request: AugmentRequest,
    out: Path,
    resume: bool = False,
    device: str = "auto",
    run: Run | None = None,
    command: str = "",
) -> Study:
    """Do the study in the run folder `out`.

    Raises `InputError` for what is wrong with the request, for a generator that may have seen the test images, and
    `Cancelled`; in the last case, and after a kill, `resume` goes on with the unit that was not finished.
    """
    run = run or Run()
    data = open_dataset(request.data)
    check_classes(data)
    chosen = resolve_device(device)
    given = [load_generator(Path(each), chosen) for each in request.generators]
    if request.synthetic and not given and not request.generator_steps:
        raise InputError(
            "the synthetic arms need a generator; give --generator RUN (python -m xai gan train DATA ... --out RUN), "
            "or --generator-steps N to train one first."
        )
    if given:
        check_generators(given, data.classes)
    split_shares(data, given, request.share, request.split_seed, request.validation)
    terms = request.terms
    _check(request, terms, chosen)
    folder = RunFolder.create(out, _config(request, data, terms, given, run.seed), resume)
    own = dataclasses.replace(run, device=chosen)
    with folder.working(own) as working, ExitStack() as stack:
        first = request.synthetic and not given
        generators = [_trained(request, folder, device, own, working.cancelled)] if first else given
        stack.enter_context(folder.on_device(chosen, working))
        folder.log(f"{len(_first_units(request))} or more units on {chosen}")
        job = _Job.open(request, terms, data, generators, folder, working)
        found = dict(job.all())
        working.report(job.total, job.total, "summary")
        asked = {**asdict(request), "learning_rate": terms.learning_rate}
        summary = summarise(asked, data, generators, job.shares, found, command)
        picked = examples(job.looked, found, summary)
        write_atomic(folder.path / "artifacts" / "examples.safetensors", picked)
        folder.write("summary.json", summary)
    return open_study(out)


def _check(request: AugmentRequest, terms: Terms, device: torch.device) -> None:
    """Raise now what training or explaining would refuse after an hour."""
    terms.recipe(Unit(100, "real", 0, 0))
    precision_of(request.precision, device)
    networks = [load_model(terms.model, "random:0", device)]
    if "pretrained" in request.arms:
        networks.append(load_model(terms.pretrained, "imagenet", device))
    for each in networks:
        check_applies(each, request.method)


def _config(
    request: AugmentRequest, data: DataSet, terms: Terms, given: Sequence[Generator], seed: int
) -> dict[str, Any]:
    return {
        "kind": "augment",
        **asdict(request),
        "terms": asdict(terms),
        "seed": seed,
        "data_name": data.name,
        "data_images": len(data),
        "data_fingerprint": data.fingerprint,
        "generator_fingerprints": [each.fingerprint for each in given],
    }


def _trained(
    request: AugmentRequest, folder: RunFolder, device: str, run: Run, cancelled: Callable[[], bool]
) -> Generator:
    """The generator that is trained first, in a run folder of its own, before this run takes its turn on the device."""
    place = folder.path / "generator"
    if (place / "artifacts" / "generator.safetensors").is_file():
        return load_generator(place, run.device)
    settings = dataclasses.replace(LAPTOP, size=request.size, decoder_side=min(32, request.size // 2))
    asked = GanRequest(
        request.data, settings, request.generator_steps, share=request.share, split_seed=request.split_seed
    )
    written = 0.0

    def show(done: int, total: int, note: str) -> None:
        nonlocal written
        words = f"training the generator first: {note}"
        if time.monotonic() - written > 1:
            written = time.monotonic()
            folder.set_status(Status("running", done, total, words))
        run.on_progress(done, total, words)

    train_gan(asked, place, True, device, dataclasses.replace(run, on_progress=show, cancelled=cancelled))
    return load_generator(place, run.device)


def _first_units(request: AugmentRequest) -> list[Unit]:
    """The units that do not wait for a choice, the share of all images first."""
    units = []
    for percent in sorted(request.percents, reverse=True):
        whole = percent == 100 or request.everywhere
        for arm in request.arms:
            if arm == "both" or not (whole or arm in SMALL_ARMS) or (arm == "synthetic" and not whole):
                continue
            ratios = request.ratios if arm == "synthetic" else (0,)
            units += [Unit(percent, arm, ratio, seed) for ratio in ratios for seed in range(request.seeds)]
    return units


@dataclass(frozen=True, eq=False)
class _Job:
    """The request with everything open."""

    request: AugmentRequest
    terms: Terms
    shares: Shares
    generators: tuple[Generator, ...]
    looked: Mapping[str, Looked]
    folder: RunFolder
    run: Run
    features: dict[int, list[Pictures | Stored]] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        request: AugmentRequest,
        terms: Terms,
        data: DataSet,
        generators: Sequence[Generator],
        folder: RunFolder,
        run: Run,
    ) -> _Job:
        size = check_generators(generators, data.classes) if generators else request.size
        together = together_of(folder, data, run.aside(), begun=any((folder.path / "units").glob("*")))
        data = together.mark(data)
        shares = read_shares(data, generators, size, request.share, request.split_seed, request.validation, run.aside())
        looked = _looked(request, data, shares, generators, run)
        return cls(request, terms, shares, tuple(generators), looked, folder, run)

    @property
    def total(self) -> int:
        """Steps of all units, those that wait for a choice too."""
        request = self.request
        small = sum(percent < 100 for percent in request.percents)
        later = 0 if request.everywhere or not request.synthetic else small
        later += (("both" in request.arms) + 2 * request.chooses) * (1 + small * request.everywhere)
        return (len(_first_units(request)) + later * request.seeds) * request.steps

    def all(self) -> Iterator[tuple[Unit, Found]]:
        """Every unit, those of the choice last; a finished one is read, any other done."""
        found: dict[Unit, Found] = {}
        units = _first_units(self.request)
        for unit in units:
            found[unit] = self.one(unit, len(found))
        for unit in self.chosen_units(found):
            found[unit] = self.one(unit, len(found))
        yield from found.items()

    def chosen_units(self, found: Mapping[Unit, Found]) -> list[Unit]:
        """The units whose ratio is chosen on validation images, after all that could be chosen are measured.

        Those of a choice are tested anew, beside real images alone: seeds that chose would flatter what they chose.
        """
        request = self.request
        if not request.synthetic:
            return []
        units = []
        for percent in sorted(request.percents, reverse=True):
            whole = percent == 100 or request.everywhere
            ratio = chosen_ratio(found, percent if whole else 100)
            arms = ["both"] if whole and "both" in request.arms else [] if whole else ["synthetic"]
            units += [Unit(percent, arm, ratio, seed) for arm in arms for seed in range(request.seeds)]
            if whole and request.chooses:
                anew = range(request.seeds, 2 * request.seeds)
                pair = (("real", 0), ("synthetic", ratio))
                units += [Unit(percent, arm, generated, seed) for arm, generated in pair for seed in anew]
        return units

    def looks(self, unit: Unit) -> bool:
        """Whether the unit's network is one of those whose maps are compared."""
        told = unit.seed >= self.request.seeds if self.request.chooses else unit.arm in ("real", "synthetic")
        return unit.percent == 100 and told

    def one(self, unit: Unit, before: int) -> Found:
        """The unit's result."""
        there = read_unit(self.folder, unit)
        if there is not None:
            return there
        steps, total = self.request.steps, self.total

        def show(done: int, _total: int, note: str) -> None:
            self.run.on_progress(before * steps + done, total, f"{unit.name}: {note}")

        run = dataclasses.replace(self.run, on_progress=show)
        self.run.report(before * steps, total, unit.name)
        train, counts = self.images(unit, run)
        looked = self.looked if self.looks(unit) else {}
        validation, test = (Images(each.images, each.labels) for each in (self.shares.validation, self.shares.test))
        classes = self.shares.pool.classes
        made = do_unit(
            self.folder, unit, self.terms, classes, train, counts, validation, test, looked, run, self.features
        )
        row = {"unit": unit.name, "validation": made.validation, "test": made.facts["test_accuracy"][-1]}
        self.folder.metric({**row, "seconds": made.facts["seconds"]})
        return made

    def images(self, unit: Unit, run: Run) -> tuple[Images, tuple[int, int]]:
        """What a unit is trained on, and how many of it are real and generated; drawn by the unit's seed."""
        quiet = dataclasses.replace(run.quiet(), seed=unit.seed)
        real = real_share(self.shares.pool, unit.percent, quiet)
        count = int(len(real) * unit.ratio / 100 + 0.5)
        if not count:
            return real, (len(real), 0)
        labels = synthetic_labels(real.labels, count, quiet)
        made = synthesise(self.generators, self.shares.pool.classes, labels, self.request.truncation, quiet)
        both = Images(torch.cat((real.pixels, made.pixels)), torch.cat((real.labels, made.labels)))
        return both, (len(real), count)


def _looked(
    request: AugmentRequest, data: DataSet, shares: Shares, generators: Sequence[Generator], run: Run
) -> dict[str, Looked]:
    """The images whose maps are measured: real test images spread over the classes, and as many new generated ones."""
    count = min(request.look, len(shares.test.keys))
    order: Tensor = torch.randperm(len(shares.test.keys), generator=run.generator("look"))
    places = order[:count].sort().values.tolist()
    images = Images(shares.test.images[places], shares.test.labels[places])
    looked = {"real": Looked(images, shares.masks(data, places))}
    if generators:
        quiet = dataclasses.replace(run.quiet(), seed=run.seed + request.seeds)
        own = dataclasses.replace(quiet, seed=int(quiet.generator("generated, looked at").initial_seed() % 2**31))
        made = synthesise(generators, data.classes, images.labels, request.truncation, own)
        looked["generated"] = Looked(made, None)
    return looked
