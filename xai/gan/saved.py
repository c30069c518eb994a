"""A generator on disk: NAME.safetensors with plain weights, and NAME.json with everything that tells what it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils import parametrize

from xai.errors import InputError, WeightsError
from xai.files import write_atomic
from xai.gan.layers import spectral_norms
from xai.gan.settings import GanSettings, build_generator
from xai.models.weights import read_state_dict, shape_report

FORMAT = 1


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

    def class_index(self, name: str) -> int:
        """The index of a class; raises `InputError` for one that there is not."""
        if name not in self.classes:
            known = ", ".join(self.classes) or "none, it was trained without classes"
            raise InputError(f"class {name!r} is not one of the generator's: {known}.")
        return self.classes.index(name)


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
    if half:
        state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    data = save(state)
    about = {
        "format": FORMAT,
        "sha256": hashlib.sha256(data).hexdigest(),
        "settings": dataclasses.asdict(made.settings),
        "classes": list(made.classes),
        "facts": dict(made.facts),
    }
    write_atomic(path.with_suffix(".safetensors"), data)
    write_atomic(path.with_suffix(".json"), (json.dumps(about, indent=1, allow_nan=False) + "\n").encode())


def load_generator(path: Path, device: torch.device | str = "cpu") -> Generator:
    """The generator at `path`: its .safetensors, its .json, or the run folder it was trained in.

    Raises `InputError` where there is none, and `WeightsError` where it is damaged or does not fit its description.
    """
    if path.is_dir():
        path = path / "artifacts" / "generator.safetensors"
    weights, about_path = path.with_suffix(".safetensors"), path.with_suffix(".json")
    for each in (weights, about_path):
        if not each.is_file():
            raise InputError(f"{each} does not exist; give a finished training's run folder or a saved generator.")
    try:
        about = json.loads(about_path.read_text(encoding="utf-8"))
        settings = GanSettings(**about["settings"])
        classes, wanted = tuple(about["classes"]), about["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{about_path.name} does not describe a generator ({error}); is it damaged?") from error
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != wanted:
        raise WeightsError(f"{weights.name} is damaged (its SHA-256 is not the one in {about_path.name}); get it anew.")
    net = merged(build_generator(settings, len(classes)))
    state: Mapping[str, Tensor] = {
        name: value.float() if value.is_floating_point() else value for name, value in read_state_dict(weights).items()
    }
    fault = shape_report(net, state)
    if fault:
        raise WeightsError(f"{weights.name} does not fit its description: {fault}")
    net.load_state_dict(dict(state))
    net.to(device).to(memory_format=torch.channels_last)
    return Generator(net, settings, classes, about.get("facts", {}), digest[:16])
