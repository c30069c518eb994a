"""torchvision's classifiers: their own builders, weights, and the fixes that explanations need."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model_weights
from torchvision.transforms import InterpolationMode

from xai.errors import UnknownNameError, WeightsError
from xai.models.classifier import Preset, Tokens
from xai.models.spec import MODELS, ModelSpec
from xai.models.weights import check_hash, hash_in
from xai.registry import Source
from xai.settings import weights_dir

TIMEOUT = 10.0
"""Seconds to wait for the weight server before saying that it cannot be reached."""

FAMILIES: dict[str, Callable[[str, str], ModelSpec]] = {}
"""Beginning of a torchvision name -> spec(name, weights), for families that need more than torchvision's builder."""


def weights_of(name: str, weights: str = "") -> WeightsEnum:
    """The weight entry of a torchvision classifier: `weights` by name, else IMAGENET1K_V1, else its first.

    Raises `UnknownNameError` that lists the entries there are.
    """
    entries: type[WeightsEnum] = get_model_weights(name)
    members = {member.name: member for member in entries}
    if not weights:
        return members.get("IMAGENET1K_V1") or next(iter(members.values()))
    if weights not in members:
        raise UnknownNameError(f"{name} has no weights {weights!r}; choose from {', '.join(members)}.")
    return members[weights]


def fetch(entry: WeightsEnum) -> Mapping[str, Tensor]:
    """The state dict of `entry` by torchvision's own loading code: downloaded on first use, hash checked each time.

    A download goes to a temporary file that is moved into place when its hash is right, so half a file never stays.
    Raises `WeightsError` that names the file and the folder to put it in where the server cannot be reached, and
    where the file's SHA-256 does not begin with the digits in its name.
    """
    path = weights_dir() / entry.url.rsplit("/", 1)[-1]
    if not path.exists():
        _reach(entry.url, path)
        _download(entry.url, path)
    check_hash(path)
    try:
        state: Mapping[str, Tensor] = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # a damaged file raises whatever its parser met first
        raise WeightsError(f"the weights {path.name} in {path.parent} cannot be read ({error}).") from error
    return state


def _reach(url: str, path: Path) -> None:
    """Ask the server, with a timeout that the download itself does not have."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT):
            return
    except urllib.error.HTTPError as error:
        why = f"their server refuses them (HTTP {error.code})"
    except (OSError, ValueError):
        why = "their server cannot be reached"
    raise WeightsError(
        f"the weights {path.name} are not on this machine and {why}; put the file into {path.parent}, or choose "
        "random weights (random:0), whose answers mean nothing."
    )


def _download(url: str, path: Path) -> None:
    # `get_state_dict` would download too, but announces it on stdout, where a command's JSON goes.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_in(path.name), progress=sys.stderr.isatty())
    except Exception as error:  # network, disk and hash all end here, and nothing of the file is left
        raise WeightsError(
            f"the download of {path.name} to {path.parent} failed ({error}); try again, or put the file there."
        ) from error


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
    weights: str = "",
    tokens: Tokens | None = None,
) -> ModelSpec:
    """A spec around torchvision's builder and the weight entry `weights` (IMAGENET1K_V1, the study's, by default)."""
    entry = weights_of(name, weights)

    def variant(other: str) -> ModelSpec:
        family = next((make for prefix, make in FAMILIES.items() if name.startswith(prefix)), None)
        if family is not None:
            return dataclasses.replace(family(name, other), title=title, rank=rank)
        return torchvision_spec(name, title, rank, source, default_layer, build, adapt, notes, other, tokens)

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
        tokens=tokens,
        variant=variant,
    )


def any_classifier(name: str) -> ModelSpec:
    """A spec for any torchvision classifier by name; raises `UnknownNameError` for what is none."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(str(name), dict.fromkeys((*MODELS.names(), *known)), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(MODELS.names())}."
        raise UnknownNameError(f"model {name!r} is not known; {hint}")
    family = next((make for prefix, make in FAMILIES.items() if name.startswith(prefix)), None)
    if family is not None:
        return family(name, "")
    return torchvision_spec(
        name,
        title=name,
        rank=100,
        source=Source(
            f"torchvision.models.{name}",
            f"https://pytorch.org/vision/stable/models/generated/torchvision.models.{name}.html",
        ),
    )
