"""`load_model`: networks by name, with a bounded cache of classifiers."""

from __future__ import annotations

import gc
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from xai.devices import empty_cache, memory_format
from xai.errors import InputError, XaiError
from xai.files import user_path
from xai.models._torchvision import any_classifier
from xai.models.build import calibrate, classes_in, loaded_network, untrained_network
from xai.models.classifier import Classifier, InputModel
from xai.models.exported import CARD, find_network, network_name, output_of, read_card, read_network, stamp_file
from xai.models.layers import last_block, trace
from xai.models.spec import MODELS, ModelSpec
from xai.models.weights import labels_beside, read_labels, read_state_dict
from xai.outputs import NO_YES, Output
from xai.public import public
from xai.settings import resolve_device
from xai.words import counted

CACHE_SIZE = 8
"""Classifiers kept in memory; the least recently used one goes first."""

CACHE_BYTES = 2 * 1024**3
"""Bytes of weights kept in memory; the classifier asked for last stays, whatever its size."""

_KINDS = "imagenet, imagenet:ENTRY, random:SEED, file:PATH or run:ID"

_STATED = "?output="
"""Behind the path of a weights file in `weights`: what its outputs mean."""


class _Key(NamedTuple):
    name: str
    weights: str
    device: str
    labels: tuple[str, ...] | None
    stamp: tuple[tuple[int, int], ...]  # of the files behind it: a file that changes is another key


_cache: OrderedDict[_Key, Classifier] = OrderedDict()
_loading: dict[_Key, Future[Classifier]] = {}
_cache_lock = threading.Lock()


def list_models() -> tuple[str, ...]:
    """Names of the classifiers that Olhar names; `load_model` also takes any other torchvision classifier."""
    return MODELS.names()


def model_spec(name: str) -> ModelSpec:
    """The spec of a named classifier, or of any torchvision classifier; raises `UnknownNameError` with near names."""
    return MODELS.get(name) if name in MODELS else any_classifier(name)


@public
def load_model(
    name: str = "efficientnet_lite0",
    weights: str = "imagenet",
    device: str | torch.device = "auto",
    labels: Sequence[str] | str | Path | None = None,
    output: str | None = None,
) -> Classifier:
    """A classifier, frozen and in eval mode; the same object for the same arguments while it is cached.

    name: one of `list_models()`, any torchvision classifier, or "run:ID", the network of a finished training (ID: a
    run's name in `runs_dir()`, a path to a run, or an exported zip). weights: "imagenet" (IMAGENET1K_V1 where there are
    several), "imagenet:ENTRY" for another of torchvision's with its own preset, "random:SEED" (or "random"; see
    `calibrate`), "file:PATH" of a state dict (.pth, .pt) or .safetensors for this architecture, or "run:ID". device:
    "auto", "cpu", "cuda[:N]", "mps". labels: class names, or a file of them (.txt one a line, .json); without, a run's
    own, a file named like the weights, else ImageNet's names for 1,000 classes, else "class 0", "class 1", ...

    output: what the outputs of "file:PATH" mean, "softmax" (one of the classes, the default) or "sigmoid" (each class
    for itself); "file:PATH?output=sigmoid" says the same in one text. A file with one output z can only be a sigmoid:
    its classes are "no" and "yes" with the logits (-z, z), and one class name names the yes.

    One load a key: who asks for the same meanwhile waits for it, and nobody else does. Raises `UnknownNameError`,
    `WeightsError` (offline, damaged, or shapes that do not fit) and `InputError`.
    """
    weights, stated = _stated(weights, output)
    if name.startswith("run:"):
        name, weights = _of_run(name, weights)
    spec, weights, path = _resolved(model_spec(name), weights)
    names_file = _labels_file(labels, None if weights.startswith("run:") else path)
    names = None if labels is None or isinstance(labels, str | Path) else tuple(map(str, labels))
    files = [each for each in (path, names_file) if each is not None and each.exists()]
    stamp = tuple((each.stat().st_mtime_ns, each.stat().st_size) for each in files)
    chosen = resolve_device(device)
    source = f"{weights} {path or ''} {stated or ''}"
    key = _Key(spec.name, source, str(chosen), names if names_file is None else (str(names_file),), stamp)
    with _cache_lock:
        if key in _cache and not _cache[key].damaged:
            _cache.move_to_end(key)
            return _cache[key]
        future = _loading.get(key)
        mine = future is None
        if future is None:
            future = _loading[key] = Future()
    if not mine:
        return future.result()
    try:
        if names_file is not None:
            names = read_labels(names_file)
        if names is not None and not names:
            raise InputError("there are no class names; give at least one.")
        classifier = _load(spec, weights, path, names, chosen, stated)
    except BaseException as error:
        future.set_exception(error)
        raise
    else:
        future.set_result(classifier)
        _keep(key, classifier)
        return classifier
    finally:
        with _cache_lock:
            del _loading[key]


@public
def load_exported(path: str | Path, device: str | torch.device = "auto") -> Classifier:
    """The trained network at `path`, a run's folder or an exported zip: `load_model("run:PATH")`."""
    return load_model(f"run:{path}", device=device)


def loaded_models() -> tuple[Classifier, ...]:
    """The classifiers in memory, the most recently used one last."""
    with _cache_lock:
        return tuple(_cache.values())


def unload_models() -> int:
    """Drop every cached classifier and free the memory of their devices; how many were dropped."""
    with _cache_lock:
        count = len(_cache)
        devices = {each.device for each in _cache.values()}
        _cache.clear()
    gc.collect()
    for device in devices:
        empty_cache(device)
    return count


def weight_bytes(module: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def digest(name: str, net: nn.Module) -> str:
    """SHA-256 over the architecture's name and every tensor of the state dict: 16 hex digits."""
    total = hashlib.sha256(name.encode())
    for key, value in net.state_dict().items():
        total.update(key.encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()[:16]


def _keep(key: _Key, classifier: Classifier) -> None:
    with _cache_lock:
        _cache[key] = classifier
        _cache.move_to_end(key)
        total = sum(weight_bytes(each.module) for each in _cache.values())
        while len(_cache) > CACHE_SIZE or (total > CACHE_BYTES and len(_cache) > 1):
            _, gone = _cache.popitem(last=False)
            total -= weight_bytes(gone.module)


def with_output(weights: str, output: str) -> str:
    """`weights` that say what the outputs of their file mean, in one text for `load_model`."""
    return weights.partition(_STATED)[0] + f"{_STATED}{Output.of(output)}"


def stated_output(weights: str) -> tuple[str, Output | None]:
    """(weights without what they say of their outputs, that or None); raises `InputError` for an unknown output."""
    plain, said, output = weights.partition(_STATED)
    return plain, Output.of(output) if said else None


@cache
def has_one_output(name: str, weights: str) -> bool:
    """Whether the file of `weights` "file:PATH" has one output for the architecture; False where it cannot be read."""
    try:
        path = user_path(stated_output(weights)[0].removeprefix("file:"))
        return classes_in(model_spec(name), read_state_dict(path)) == 1
    except XaiError:
        return False


def _stated(weights: str, output: str | None) -> tuple[str, Output | None]:
    """The output kind stated in the weights or beside them; raises `InputError` if the two disagree."""
    plain, said = stated_output(weights)
    given = said if output is None else Output.of(output)
    if said not in (None, given):
        raise InputError(f"weights {weights!r} say {said}, but output is {given}; give one of them.")
    if given is Output.SIGMOID and not plain.startswith("file:"):
        raise InputError(f"weights {plain!r} know their outputs; leave output out (it is for file:PATH).")
    return plain, given


def _resolved(spec: ModelSpec, weights: str) -> tuple[ModelSpec, str, Path | None]:
    """(spec of the chosen entry, weights in one spelling, the weights file of "file:")."""
    kind, _, rest = weights.partition(":")
    if kind == "imagenet":
        if not rest:
            return spec, "imagenet", None
        if spec.variant is None:
            raise InputError(f"{spec.title} has one set of ImageNet weights; use weights imagenet.")
        other = spec.variant(rest)
        return (spec, "imagenet", None) if other.weights_file == spec.weights_file else (other, weights, None)
    if kind == "random":
        if rest and not (rest.isascii() and rest.isdigit() and int(rest) < 2**63):
            raise InputError(f"weights {weights!r} has no seed that is a whole number; use random:0.")
        return spec, f"random:{int(rest or 0)}", None
    if kind == "file" and rest:
        path = user_path(rest).resolve()
        return spec, f"file:{path}", path
    if kind == "run":
        place = find_network(rest)
        trained = read_card(place)["architecture"]
        if trained != spec.name:
            raise InputError(f"weights {weights!r} are of {trained}, not of {spec.name}; use --model {weights}.")
        return spec, f"run:{network_name(place)}", stamp_file(place).resolve()
    raise InputError(f"weights {weights!r} is not known; use {_KINDS}.")


def _of_run(name: str, weights: str) -> tuple[str, str]:
    """(architecture, weights) of a network that is named by its run alone."""
    if weights not in ("imagenet", name):
        raise InputError(f"{name} has its own weights, not {weights!r}; leave the weights out.")
    return str(read_card(find_network(name.removeprefix("run:")))["architecture"]), name


def _labels_file(labels: Sequence[str] | str | Path | None, path: Path | None) -> Path | None:
    """The file of class names that was given, or that lies beside the weights."""
    if isinstance(labels, str | Path):
        return user_path(str(labels)).resolve()
    return labels_beside(path) if labels is None and path is not None else None


def _load(
    spec: ModelSpec,
    weights: str,
    path: Path | None,
    names: tuple[str, ...] | None,
    device: torch.device,
    stated: Output | None,
) -> Classifier:
    if weights.startswith("run:") and path is not None:
        spec, net, card = read_network(path.parent if path.name == CARD else path)
        labels = names or tuple(card["labels"])
        if len(labels) != len(card["labels"]):
            raise InputError(
                f"there are {counted(len(labels), 'class name')} for "
                f"{counted(len(card['labels']), 'class', 'classes')}; give one per class."
            )
        fingerprint = digest(f"{spec.name}+{card['head']}", net)
        return _classifier(spec, net, weights, labels, fingerprint, device, output_of(card))
    output, single = Output.SOFTMAX, False
    if weights.startswith("random"):
        labels = spec.labels() if names is None else names
        net = untrained_network(spec, int(weights.partition(":")[2]), len(labels))
        fingerprint = digest(spec.name, net)  # of what the seed gives; what is measured varies in its last bits
        calibrate(net, spec)
    else:
        state = spec.imagenet() if path is None else read_state_dict(path)
        known = spec.labels()
        count = len(known) if path is None else classes_in(spec, state) or len(known)
        output, single = stated or Output.SOFTMAX, path is not None and count == 1
        if single and stated is Output.SOFTMAX:
            raise InputError(f"{path.name} has one output, whose softmax is always 1; use output sigmoid.")  # type: ignore[union-attr]
        labels = _names(names, count, known)
        net = loaded_network(spec, state, count, weights if path is None else path.name)
        fingerprint = digest(spec.name if output is Output.SOFTMAX or single else f"{spec.name}+{output}", net)
        if path is not None:
            spec = replace(spec, notes=(*spec.notes, *_file_notes(output, single, labels, names, known)))
    weights = weights if path is None else f"file:{path.name}"
    return _classifier(spec, net, weights, labels, fingerprint, device, output, single)


def _names(names: tuple[str, ...] | None, outputs: int, known: tuple[str, ...]) -> tuple[str, ...]:
    """The classes of a network with so many outputs; raises `InputError` where the names given do not fit."""
    if outputs == 1:
        names = names or NO_YES
        names = (f"no {names[0]}", names[0]) if len(names) == 1 else names
        if len(names) != 2:
            raise InputError(f"there are {len(names)} class names for one output; give two, for no and yes.")
        return names
    names = names or (known if outputs == len(known) else tuple(f"class {index}" for index in range(outputs)))
    if len(names) != outputs:
        raise InputError(
            f"there are {counted(len(names), 'class name')} for "
            f"{counted(outputs, 'class', 'classes')}; give one per class."
        )
    return names


def _file_notes(
    output: Output, single: bool, labels: tuple[str, ...], names: tuple[str, ...] | None, known: tuple[str, ...]
) -> Iterator[str]:
    """What must be known wherever weights of a file are used: how its outputs are read, and whence the class names."""
    if single:
        yield f"one output, read by a sigmoid as {labels[0]} and {labels[1]}"
    elif output is Output.SIGMOID:
        yield "independent sigmoids: each class is decided for itself, from probability 0.5 on"
    if names is None and not single:
        yield "class names: ImageNet's" if labels is known else "class names: numbers, because there is no labels file"


def _classifier(
    spec: ModelSpec,
    net: nn.Module,
    weights: str,
    labels: tuple[str, ...],
    fingerprint: str,
    device: torch.device,
    output: Output,
    single: bool = False,
) -> Classifier:
    module = InputModel(net, spec.preset.mean, spec.preset.std, spec.tokens, output, single)
    module.eval().requires_grad_(False)
    module.to(device=device).to(memory_format=memory_format(device))
    size = (spec.preset.crop, spec.preset.crop)
    layer = spec.default_layer or last_block(net, trace(module, net, size, device), module.outputs(len(labels)))
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
        tokens=spec.tokens,
    )
