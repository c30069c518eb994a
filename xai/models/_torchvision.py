"""torchvision's classifiers: their own builders, weights, and the fixes that explanations need."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model_weights
from torchvision.transforms import InterpolationMode

from xai.errors import UnknownNameError, WeightsError
from xai.models._spec import ModelSpec
from xai.models.classifier import Preset
from xai.registry import Source
from xai.settings import weights_dir

TIMEOUT = 10.0
"""Seconds to wait for the weight server before saying that it cannot be reached."""


def weights_of(name: str, weights: str = "") -> WeightsEnum:
    """The weight entry of a torchvision classifier: `weights` by name, else IMAGENET1K_V1, else its default."""
    entries: type[WeightsEnum] = get_model_weights(name)
    members = {member.name: member for member in entries}
    if weights:
        return members[weights]
    return members.get("IMAGENET1K_V1") or next(iter(members.values()))


def fetch(entry: WeightsEnum) -> Mapping[str, Tensor]:
    """The state dict of `entry` by torchvision's own loading code: downloaded on first use, hash checked each time.

    Raises `WeightsError` that names the file and the folder to put it in where the server cannot be reached, and
    where the file's SHA-256 does not begin with the digits in its name.
    """
    filename = entry.url.rsplit("/", 1)[-1]
    path = weights_dir() / filename
    if path.exists():
        _check_hash(path)
    else:
        _reach(entry.url, filename)
    try:
        state: Mapping[str, Tensor] = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(f"weights {filename} could not be loaded from {weights_dir()}: {error}.") from error
    return state


def _reach(url: str, filename: str) -> None:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT):
            return
    except (urllib.error.URLError, OSError) as error:
        raise WeightsError(
            f"the weights {filename} are not on this machine and their server cannot be reached; put the file "
            f"into {weights_dir()}, or choose random weights."
        ) from error


def _check_hash(path: Path) -> None:
    import hashlib

    match = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if match is None:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(match[1]):
        raise WeightsError(
            f"the file {path.name} in {path.parent} is damaged (its SHA-256 starts with {digest[:8]}, "
            f"not {match[1]}); delete it and try again."
        )


def preset_of(entry: WeightsEnum) -> Preset:
    """Resize, crop and normalisation of torchvision's own evaluation transform."""
    transform = entry.transforms()
    mean, std = (tuple(float(v) for v in values) for values in (transform.mean, transform.std))
    return Preset(
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        resize=transform.resize_size[0],
        crop=transform.crop_size[0],
        interpolation=InterpolationMode(transform.interpolation),
    )


def torchvision_spec(
    name: str,
    title: str,
    rank: int,
    source: Source,
    default_layer: str = "",
    build: Callable[..., nn.Module] | None = None,
    adapt: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict,
    notes: tuple[str, ...] = (),
) -> ModelSpec:
    """A spec around torchvision's builder and IMAGENET1K_V1 weights (the study's)."""
    entry = weights_of(name)
    return ModelSpec(
        name=name,
        title=title,
        rank=rank,
        source=source,
        build=build or (lambda num_classes=1000: torchvision.models.get_model(name, num_classes=num_classes)),
        default_layer=default_layer,
        preset=preset_of(entry),
        imagenet=lambda: fetch(entry),
        labels=lambda: tuple(entry.meta["categories"]),
        weights_file=entry.url.rsplit("/", 1)[-1],
        adapt=adapt,
        notes=notes,
    )


def any_classifier(name: str) -> ModelSpec:
    """A spec for any torchvision classifier by name; raises `UnknownNameError` for what is none."""
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise UnknownNameError(f"model {name!r} is not known.")
    return torchvision_spec(
        name,
        title=name,
        rank=100,
        source=Source(
            f"torchvision.models.{name}",
            f"https://pytorch.org/vision/stable/models/generated/torchvision.models.{name}.html",
        ),
    )
