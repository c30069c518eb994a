"""A generator on disk: NAME.safetensors with plain weights, and NAME.json with everything that tells what it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils import parametrize

from xai.devices import memory_format
from xai.errors import InputError, WeightsError
from xai.files import read_json, write_atomic
from xai.gan.layers import spectral_norms
from xai.gan.settings import GanSettings, build_discriminator, build_generator
from xai.models.build import not_finite
from xai.models.weights import read_state_dict, shape_report
from xai.schema import fault
from xai.settings import ASSETS

FORMAT = 1

SHIPPED = ASSETS / "gan" / "parts.safetensors"
"""The generator of sample:parts that comes with Olhar; its .json tells the command that trained it."""


class About(TypedDict):
    """The .json beside a generator's weights."""

    settings: GanSettings
    classes: list[str]
    sha256: str
    facts: NotRequired[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Generator:
    """A trained generator for sampling: frozen, in eval mode, spectral norm merged into its weights.

    facts: what is known of its training (data, fingerprint of the images, split, steps, seed, command, versions).
    fingerprint: 16 hex digits of its weights.
    """

    net: nn.Module
    settings: GanSettings
    classes: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.net.parameters()).device

    @property
    def names(self) -> tuple[str, ...]:
        """The classes that it draws: also the one that it was trained on alone; () where it knows none."""
        only = str(self.facts.get("only", ""))
        return self.classes or ((only,) if only else ())

    def class_index(self, name: str) -> int:
        """The index of a class; raises `InputError` for one that there is not."""
        if name not in self.names:
            known = ", ".join(self.names) or "none, it was trained without classes"
            raise InputError(f"class {name!r} is not one of the generator's: {known}.")
        return self.names.index(name)


def merged(net: nn.Module) -> nn.Module:
    """`net` itself with spectral norm merged into plain weights: what its forward pass computed anyway."""
    for module in list(net.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return net.eval().requires_grad_(False)


def save_generator(path: Path, made: Generator, half: bool = False) -> None:
    """Write `path` (.safetensors) and the .json beside it. half: float16 weights, half the size.

    Raises `TypeError` for a network under spectral norm; merge it first.
    """
    if next(spectral_norms(made.net), None) is not None:
        raise TypeError("the generator is still under spectral norm; use merged(net)")
    state = {name: value.detach().cpu().contiguous() for name, value in made.net.state_dict().items()}
    data = save(_halved(state) if half else state)
    about = {
        "format": FORMAT,
        "sha256": hashlib.sha256(data).hexdigest(),
        "settings": dataclasses.asdict(made.settings),
        "classes": list(made.classes),
        "facts": dict(made.facts),
    }
    write_atomic(path.with_suffix(".safetensors"), data)
    write_atomic(path.with_suffix(".json"), (json.dumps(about, indent=1, allow_nan=False) + "\n").encode())


def discriminator_path(generator: Path) -> Path:
    """Where the discriminator of the generator at `generator` (its .safetensors or its run folder) lies."""
    path = _weights_path(generator)
    return path.with_name(f"{path.stem}-discriminator.safetensors")


def save_discriminator(generator: Path, net: nn.Module, half: bool = False) -> None:
    """Keep the discriminator beside its generator, spectral norm merged: it shows what it can reconstruct."""
    state = {name: value.detach().cpu().contiguous() for name, value in merged(net).state_dict().items()}
    write_atomic(discriminator_path(generator), save(_halved(state) if half else state))


def load_discriminator(generator: Path, device: torch.device | str = "cpu") -> nn.Module:
    """The discriminator that lies beside the generator at `generator`, frozen and in eval mode.

    Raises `InputError` where there is none, and `WeightsError` where it does not fit.
    """
    made = load_generator(generator)
    path = discriminator_path(generator)
    if not path.is_file():
        raise InputError(f"{path} does not exist; the discriminator was not kept, only generators can be looked at.")
    net = _filled(lambda: build_discriminator(made.settings, len(made.classes), torch.device(device)), path)
    return net.to(device).to(memory_format=memory_format(torch.device(device)))


def _weights_path(path: Path) -> Path:
    return path / "artifacts" / "generator.safetensors" if path.is_dir() else path.with_suffix(".safetensors")


def _halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def _filled(build: Callable[[], nn.Module], path: Path) -> nn.Module:
    """The network that `build` makes with the file's tensors, in float32, or raise `WeightsError`.

    Names and shapes are compared with a network without values first: a description can ask for any size.
    """
    state = read_state_dict(path)
    with torch.device("meta"):
        differs = shape_report(merged(build()), state)
    if differs:
        raise WeightsError(f"{path.name} does not fit its description: {differs}")
    bad = not_finite(state)
    if bad:
        raise WeightsError(f"{path.name} holds values that are not finite numbers, in {bad}; it cannot be used.")
    net = merged(build())
    net.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in state.items()})
    return net


def load_generator(path: Path, device: torch.device | str = "cpu") -> Generator:
    """The generator at `path`: its .safetensors, its .json, or the run folder it was trained in.

    Raises `InputError` where there is none, and `WeightsError` where it is damaged or does not fit its description.
    """
    weights = _weights_path(path)
    about_path = weights.with_suffix(".json")
    for each in (weights, about_path):
        if not each.is_file():
            raise InputError(f"{each} does not exist; give a finished training's run folder or a saved generator.")
    try:
        about = read_json(about_path)
        if damage := fault(About, about):
            raise ValueError(damage)
        settings, classes, wanted = GanSettings(**about["settings"]), tuple(about["classes"]), about["sha256"]
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{about_path.name} does not describe a generator ({error}); is it damaged?") from error
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wanted:
        raise WeightsError(f"{weights.name} is damaged (its SHA-256 is not the one in {about_path.name}); get it anew.")
    net = _filled(lambda: build_generator(settings, len(classes)), weights)
    net.to(device).to(memory_format=memory_format(torch.device(device)))
    return Generator(net, settings, classes, about.get("facts", {}), digest[:16])
