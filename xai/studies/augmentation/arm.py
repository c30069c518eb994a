"""One unit of the augmentation study: one arm on one share of the real images with one seed, trained and measured."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor

from xai.errors import InputError, WeightsError
from xai.explain.call import attribute
from xai.files import safe_name, write_atomic
from xai.metrics import area, energy, entropy
from xai.models.classifier import Classifier
from xai.models.store import load_model
from xai.runs.folder import RunFolder
from xai.studies.augmentation.data import Sized, enlarged
from xai.training import Images, Network, Recipe, Stored, network_of
from xai.training.pictures import Pictures
from xai.training.steps import fit_steps, passed
from xai.types import Run

ARMS = ("real", "traditional", "synthetic", "both", "pretrained")
"""real: real images alone, which is also 0 % synthetic. traditional: with `TRADITIONAL`. synthetic: with generated
images at each ratio. both: traditional, and generated images at the ratio that validation chose. pretrained: a network
with ImageNet weights whose head alone learns on the real images."""

TRADITIONAL = ("colour", "flip", "rotate", "noise")
"""The study's traditional augmentation, by names of `xai.training.AUGMENTATIONS`."""

HEAD_RATE = 1e-3
"""Learning rate of a head on a pre-trained network, as in study 4; from scratch it is the request's."""

PART = 64
"""Images explained between two reports."""

MEASURES = ("area", "entropy", "energy")


@dataclass(frozen=True)
class Unit:
    """percent: of the real training images. ratio: generated images in percent of those; 0 for none."""

    percent: int
    arm: str
    ratio: int
    seed: int

    @property
    def name(self) -> str:
        """Its files' name."""
        return safe_name(f"{self.percent:03}-{self.arm}{f'-{self.ratio}' if self.ratio else ''}-seed{self.seed}")

    @property
    def label(self) -> str:
        """The arm's name, with its ratio where there are several."""
        return f"synthetic-{self.ratio}" if self.arm == "synthetic" else self.arm


@dataclass(frozen=True)
class Terms:
    """How every arm is trained: what a unit depends on beside its images.

    model, pretrained: networks by name. steps, batch, learning_rate, rounds: of every arm the same. method: of
    explanation. precision: as in `Recipe`.
    """

    model: str
    pretrained: str
    steps: int
    batch: int
    learning_rate: float
    rounds: int
    method: str
    precision: str

    def recipe(self, unit: Unit) -> Recipe:
        """The recipe of a unit. From scratch everything learns; of a pre-trained network the head."""
        return Recipe(
            epochs=self.rounds,
            batch=self.batch,
            learning_rate=HEAD_RATE if unit.arm == "pretrained" else self.learning_rate,
            schedule="cosine",
            augment=TRADITIONAL if unit.arm in ("traditional", "both") else (),
            trainable="frozen" if unit.arm == "pretrained" else "all",
            precision=self.precision,
            seed=unit.seed,
        )

    def network(self, unit: Unit, classes: tuple[str, ...], device: torch.device) -> Network:
        """The network of a unit, untrained from the unit's seed, or pre-trained."""
        if unit.arm == "pretrained":
            return network_of(load_model(self.pretrained, "imagenet", device), classes, self.recipe(unit))
        return network_of(load_model(self.model, f"random:{unit.seed}", device), classes, self.recipe(unit))


@dataclass(frozen=True, eq=False)
class Looked:
    """Images whose explanations are measured: pixels (N,3,S,S) uint8, labels (N,), masks (N,S,S) bool or None."""

    images: Images
    masks: Tensor | None


@dataclass(frozen=True, eq=False)
class Found:
    """A finished unit. facts: as its JSON file has them; tensors: predictions by round, and what maps were like."""

    unit: Unit
    facts: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def validation(self) -> float:
        """Accuracy on the validation images after the last step."""
        return float(self.facts["validation_accuracy"][-1])


def unit_path(folder: RunFolder, unit: Unit) -> Path:
    """Its JSON file, written last: its being there is its being done."""
    return folder.path / "units" / f"{unit.name}.json"


def read_unit(folder: RunFolder, unit: Unit) -> Found | None:
    """A finished unit; None where it is not finished. Raises `WeightsError` where its files are damaged."""
    path = unit_path(folder, unit)
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        tensors = load(path.with_suffix(".safetensors").read_bytes())
        return Found(Unit(**facts["unit"]), facts, tensors)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is damaged ({error}); delete it and resume: it is then measured again.") from error
    except Exception as error:  # safetensors has an error class of its own
        raise WeightsError(f"{path.stem}.safetensors is damaged ({error}); delete {path} and resume.") from error


def do_unit(
    folder: RunFolder,
    unit: Unit,
    terms: Terms,
    classes: tuple[str, ...],
    train: Images,
    counts: tuple[int, int],
    validation: Images,
    test: Images,
    looked: Mapping[str, Looked],
    run: Run,
    features: dict[int, list[Pictures | Stored]] | None = None,
) -> Found:
    """Train, measure and write one unit. counts: real and generated images; looked: those whose maps are measured.

    features: kept by the caller: on all real images the pre-trained network's are the same for every seed.
    """
    began = time.perf_counter()
    own = replace(run, seed=unit.seed)
    network = terms.network(unit, classes, run.device)
    side = network.base.input_size[0]
    sized = [Sized(each.pixels, each.labels, side) for each in (train, validation, test)]
    recipe = terms.recipe(unit)
    kept = features if features is not None and unit.arm == "pretrained" and unit.percent == 100 else {}
    sources = kept.get(unit.percent) or passed(network, sized, recipe, own)
    kept[unit.percent] = sources
    rounds = fit_steps(network, sources[0], sources[1:], recipe, terms.steps, own)
    kind = torch.uint8 if len(classes) <= 256 else torch.int16
    tensors = {"test": torch.stack([each.predicted[1] for each in rounds]).to(kind)}
    classifier = network.classifier()
    for name, each in looked.items():
        tensors |= {f"{name}.{key}": value for key, value in _look(classifier, each, terms.method, own).items()}
    facts = {
        "unit": asdict(unit),
        "model": network.base.name,
        "title": network.base.title,
        "parameters": network.parameters,
        "trained_parameters": network.trained_parameters,
        "side": side,
        "real": counts[0],
        "synthetic": counts[1],
        "step": [each.step for each in rounds],
        "train_loss": [each.train_loss for each in rounds],
        "train_accuracy": [each.train_accuracy for each in rounds],
        "validation_accuracy": [_accuracy(each.predicted[0], validation.labels) for each in rounds],
        "test_accuracy": [_accuracy(each.predicted[1], test.labels) for each in rounds],
        "seconds": time.perf_counter() - began,
        "fingerprint": classifier.fingerprint,
    }
    path = unit_path(folder, unit)
    write_atomic(path.with_suffix(".safetensors"), save({name: value.contiguous() for name, value in tensors.items()}))
    write_atomic(path, (json.dumps(facts, indent=1, allow_nan=False) + "\n").encode())
    return Found(unit, facts, tensors)


def _accuracy(predicted: Tensor, labels: Tensor) -> float:
    return float((predicted == labels).double().mean())


def _look(classifier: Classifier, looked: Looked, method: str, run: Run) -> dict[str, Tensor]:
    """What the network sees in each image: predicted (N,), probability (N,), maps (N,h,w) over their peak, measures.

    Measures are taken at the network's input size. "blank" marks maps without positive part, of which they say nothing.
    """
    parts: dict[str, list[Tensor]] = {"label": [looked.images.labels]}
    quiet = run.quiet()
    for start in range(0, len(looked.images.labels), PART):
        some = slice(start, start + PART)
        pixels = enlarged(looked.images.pixels[some], classifier.input_size[0]).float() / 255
        found = attribute(classifier, pixels, method, run=quiet)
        maps = found.maps()
        values = found.values.sum(1) if found.values.dim() == 4 else found.values
        peak = values.abs().amax((1, 2), keepdim=True)
        made = {
            "predicted": found.logits.argmax(1),
            "probability": found.probabilities().amax(1),
            "maps": (values / torch.where(peak > 0, peak, 1.0)).half(),
            "blank": maps.clamp(min=0).sum((1, 2)) <= 0,
            "area": area(maps).values,
            "entropy": entropy(maps).values,
        }
        if looked.masks is not None:
            mask = F.interpolate(looked.masks[some, None].float(), maps.shape[-2:], mode="nearest")[:, 0] > 0.5
            made["energy"] = energy(maps, mask).values
        for name, value in made.items():
            parts.setdefault(name, []).append(value)
    return {name: torch.cat(each) for name, each in parts.items()}


def check_arms(arms: tuple[str, ...]) -> None:
    """Raise `InputError` for an arm that there is not, and where "real", which all are compared with, is missing."""
    for name in arms:
        if name not in ARMS:
            raise InputError(f"arm {name!r} is not known; use {', '.join(ARMS)}.")
    if "real" not in arms:
        raise InputError("arm real is missing; every other arm is compared with it.")
    if "both" in arms and "synthetic" not in arms:
        raise InputError("arm both takes the ratio that validation chose among the synthetic arms; add synthetic.")
