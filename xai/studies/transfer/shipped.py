"""A finished training made small: everything but the frozen part, which is there anyway.

With a frozen network only the head is the run's own; `pack` keeps that, the predictions and the figures, and
`network_of_run` puts the head back on the network that it was trained on: a result that can be shipped in a megabyte.
"""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from xai.errors import InputError, WeightsError
from xai.files import write_atomic
from xai.models.classifier import Classifier
from xai.models.store import load_model
from xai.settings import ASSETS
from xai.studies.transfer.request import TransferRequest
from xai.studies.transfer.result import TransferResult, load_result
from xai.training.network import network_of
from xai.training.recipe import Recipe

HEAD = "head.safetensors"
KEPT = ("config.json", "summary.json", "metrics.jsonl", "predictions.parquet")

PLACE = ASSETS / "transfer"
"""Where the packed runs lie, a folder each."""

BRAIN = PLACE / "brain"
"""Study 4 on the drawn slices: `python -m xai train sample:brain --head study4 --epochs 30 --out RUN`, packed."""

CHARACTERS = {
    title: PLACE / f"characters-{name}"
    for name, title in {"vgg16": "VGG16", "resnet50": "ResNet50", "densenet121": "DenseNet121"}.items()
}
"""Study 3 on the drawn characters, by network: untrained but for a last layer, because ImageNet weights were not to be
had. `python -m xai train sample:characters --model M --weights random:0 --learning-rate 0.01 --schedule cosine --epochs
60 --out RUN` each, packed."""

ALIKE, ASKED = 0.1, 4
"""How far a network drawn anew by the same seed may be in a probability of any of so many validation images.

Machines differ in the last bits. Of 8 images, the largest differences of the three networks of `CHARACTERS`: on other
vector kernels 0.0006, with convolutions rounded as TF32 does 0.035; with another seed 0.76 or more.
"""


def pack(run: Path, out: Path) -> None:
    """Put the result of the finished training `run` into the folder `out`, of its network the head alone.

    Raises `InputError` where more than the head was trained, and what `load_result` raises.
    """
    from safetensors.torch import save

    result = load_result(run)
    if result.config["recipe"]["trainable"] != "frozen" or result.config["folds"]:
        raise InputError("only a run with a frozen network and without folds can be packed; export the others.")
    classifier = result.classifier(device="cpu")
    base = load_model(result.config["model"], result.config["weights"], "cpu")
    network = network_of(base, result.classes, recipe_of(result))
    state = classifier.module.net.state_dict()
    kept = {name: state[name].contiguous().clone() for name in network.state()}
    out.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        shutil.copyfile(run / name, out / name)
    write_atomic(out / HEAD, save(kept))


def command(result: TransferResult) -> str:
    """The terminal command that makes a packed run again."""
    config = result.config
    words = ["python", "-m", "xai", "train", config["data"]]
    for name in ("model", "weights", "split", "folds", "view"):
        if config[name] != getattr(TransferRequest, name):
            words += [f"--{name}", str(config[name])]
    return shlex.join([*words, *recipe_of(result).words(), "--out", f"runs/{result.path.name}"])


def network_of_run(result: TransferResult, fold: int = 1, device: str = "auto") -> Classifier:
    """The trained network of a run, or of a packed one.

    An untrained part is drawn again by its seed and measured again on the shipped photographs, which gives other last
    bits on another machine; it must give the answer of the run. What is frozen is held once, with the network that it
    began as. Raises `WeightsError` where a packed head does not belong to the network that is here.
    """
    path = result.path / HEAD
    if not path.is_file():
        return result.classifier(fold, device)
    from safetensors.torch import load

    base = load_model(result.config["model"], result.config["weights"], device)
    network = network_of(base, result.classes, recipe_of(result))
    network.restore(load(path.read_bytes()))
    found = network.classifier(f"run:{result.path.name}")
    same = base.fingerprint == result.config["base_fingerprint"]
    if not (_answers(found, result) if base.random else same):
        raise WeightsError(f"{base.title} has other weights than the run {result.path.name} began with.")
    _held_once(found, base)
    return replace(found, title=f"{base.title}, {result.path.name}")


def _held_once(trained: Classifier, base: Classifier) -> None:
    """Let the tensors of `trained` that are equal to those of `base` be those of `base`, in the same memory."""
    with base.lease() as module:
        there = module.state_dict()
        for name, value in trained.module.state_dict(keep_vars=True).items():
            if name in there and there[name].shape == value.shape and torch.equal(there[name], value):
                value.data = there[name]


def _answers(network: Classifier, result: TransferResult) -> bool:
    """Whether it gives validation images from first to last the probabilities of the run."""
    items, told = result.items(), result.probabilities
    places = range(0, len(items), max(1, len(items) // ASKED))
    x = network.preprocess([items[place].open() for place in places], result.config["view"])
    found = network.output.probabilities(network.predict(x)).numpy()
    return bool(np.abs(found - told[list(places)]).max() <= ALIKE)


def recipe_of(result: TransferResult) -> Recipe:
    """How it was trained."""
    told = dict(result.config["recipe"])
    return Recipe(**{**told, "augment": tuple(told["augment"])})
