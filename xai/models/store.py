"""`load_model`: networks by name, with a bounded cache of classifiers."""

from __future__ import annotations

import gc
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from xai.errors import InputError, UnknownNameError, WeightsError
from xai.models._spec import MODELS, ModelSpec
from xai.models._torchvision import any_classifier
from xai.models.classifier import Classifier, InputModel
from xai.models.layers import last_block, trace
from xai.models.weights import read_state_dict, shape_report
from xai.settings import resolve_device

CACHE_SIZE = 4
"""Classifiers kept in memory; the least recently used one goes first."""

_cache: OrderedDict[tuple[str, str, str], Classifier] = OrderedDict()
_cache_lock = threading.RLock()
_loading: dict[tuple[str, str, str], threading.Lock] = {}
_rng_lock = threading.Lock()


def list_models() -> tuple[str, ...]:
    """Names of the classifiers that Olhar names; `load_model` also takes any other torchvision classifier."""
    return MODELS.names()


def model_spec(name: str) -> ModelSpec:
    """The spec of a named classifier, or of any torchvision classifier; raises `UnknownNameError`."""
    if name in MODELS:
        return MODELS.get(name)
    try:
        return any_classifier(name)
    except UnknownNameError:
        return MODELS.get(name)  # raises, with near names


def load_model(
    name: str = "efficientnet_lite0", weights: str = "imagenet", device: str | torch.device = "auto"
) -> Classifier:
    """A classifier, frozen and in eval mode; the same object for the same arguments while it is cached.

    name: one of `list_models()`, or any torchvision classifier. weights: "imagenet", "random:SEED" (or "random"),
    or "file:PATH" of a state dict (.pth, .pt) or .safetensors for this architecture. device: "auto", "cpu", "cuda[:N]".

    Raises `UnknownNameError`, `WeightsError` (offline, damaged, or shapes that do not fit) and `InputError`.
    """
    chosen = resolve_device(device)
    if weights == "random":
        weights = "random:0"
    key = (name, weights, str(chosen))
    with _cache_lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
        alone = _loading.setdefault(key, threading.Lock())
    # Loading one classifier twice costs more than waiting, but a slow download must not hold up another classifier.
    with alone:
        with _cache_lock:
            if key in _cache:
                return _cache[key]
        classifier = _load(model_spec(name), weights, chosen)
        with _cache_lock:
            _cache[key] = classifier
            while len(_cache) > CACHE_SIZE:
                _cache.popitem(last=False)
    return classifier


def loaded_models() -> tuple[Classifier, ...]:
    """The classifiers in memory, the most recently used one last."""
    with _cache_lock:
        return tuple(_cache.values())


def unload_models() -> int:
    """Drop every cached classifier and free the device's memory; how many were dropped."""
    with _cache_lock:
        count = len(_cache)
        _cache.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return count


def _load(spec: ModelSpec, weights: str, device: torch.device) -> Classifier:
    kind, _, rest = weights.partition(":")
    labels = spec.labels()
    if kind == "random":
        if not rest.isdigit():
            raise InputError(f"weights {weights!r} has no seed; use random:0.")
        net = _fresh(spec, int(rest), len(labels))
    elif kind in ("imagenet", "file"):
        state = spec.adapt(spec.imagenet() if kind == "imagenet" else read_state_dict(Path(rest)))
        labels = labels if kind == "imagenet" else _labels_for(state, labels)
        net = _fresh(spec, 0, len(labels))
        report = shape_report(net, state)
        if report:
            raise WeightsError(f"{weights} does not fit {spec.title}: {report}")
        net.load_state_dict(dict(state))
    else:
        raise InputError(f"weights {weights!r} is not known; use imagenet, random:SEED or file:PATH.")
    return _classifier(spec, net, weights if kind != "file" else f"file:{Path(rest).name}", labels, device)


def _fresh(spec: ModelSpec, seed: int, classes: int) -> torch.nn.Module:
    # Architectures initialise themselves from torch's global generator; it is put back afterwards.
    with _rng_lock, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return spec.build(num_classes=classes)


def _labels_for(state: Mapping[str, Tensor], labels: tuple[str, ...]) -> tuple[str, ...]:
    """ImageNet's names where the file has as many classes, else "class 0", "class 1", ..."""
    biases = [value for key, value in state.items() if value.dim() == 1 and key.endswith("bias")]
    count = int(biases[-1].numel()) if biases else len(labels)
    return labels if count == len(labels) else tuple(f"class {index}" for index in range(count))


def _classifier(
    spec: ModelSpec, net: torch.nn.Module, weights: str, labels: tuple[str, ...], device: torch.device
) -> Classifier:
    module = InputModel(net, spec.preset.mean, spec.preset.std)
    module.eval().requires_grad_(False)
    fingerprint = digest(spec.name, net)
    module.to(device=device).to(memory_format=torch.channels_last)
    size = (spec.preset.crop, spec.preset.crop)
    layer = spec.default_layer or _last_block(module, size, device)
    return Classifier(
        name=spec.name,
        title=spec.title,
        module=module,
        labels=labels,
        input_size=size,
        default_layer=layer,
        fingerprint=fingerprint,
        device=device,
        weights=weights,
        preset=spec.preset,
        notes=spec.notes,
    )


def digest(name: str, net: torch.nn.Module) -> str:
    """SHA-256 over the architecture's name and every tensor of the state dict: 16 hex digits."""
    total = hashlib.sha256(name.encode())
    for key, value in net.state_dict().items():
        total.update(key.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def _last_block(module: InputModel, size: tuple[int, int], device: torch.device) -> str:
    """The last layer in order of execution that still gives maps larger than 1 x 1."""
    seen = trace(module, module.net, size, device)
    return last_block(module.net, seen, 1000)
