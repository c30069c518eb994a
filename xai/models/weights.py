"""Weight files that are checked: safetensors, or a state dict read with `weights_only`; no pickled code, ever."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from xai.errors import InputError, WeightsError

_NESTS = ("state_dict", "model_state_dict", "model")

MAX_LABEL_BYTES = 4 * 1024 * 1024
"""Largest labels file that is read."""


def hash_in(filename: str) -> str | None:
    """The digits in `name-<sha256>.pth`, torch's convention; None where there are none."""
    match = re.search(r"-([0-9a-f]{8,})\.", filename)
    return match[1] if match else None


def check_hash(path: Path) -> None:
    """Raise `WeightsError` where the file's SHA-256 does not begin with the digits in its name."""
    wanted = hash_in(path.name)
    if wanted is None:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(wanted):
        raise WeightsError(
            f"the file {path.name} in {path.parent} is damaged (its SHA-256 starts with {digest[:8]}, "
            f"not {wanted[:8]}); delete it and try again."
        )


def read_state_dict(path: Path) -> Mapping[str, Tensor]:
    """The tensors in a .safetensors, .pth or .pt file; a checkpoint's inner `state_dict` or `model` is taken.

    Raises `WeightsError` for a missing or damaged file and for one that holds code or no tensors.
    """
    if not path.is_file():
        raise WeightsError(f"the weights file {path} does not exist; check the path.")
    loaded = _parsed(path)
    for key in _NESTS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise WeightsError(f"{path.name} holds no state dict; save it with torch.save(model.state_dict(), ...).")
    # What nn.DataParallel puts before every name.
    return without_prefix({str(key): value for key, value in loaded.items()}, ("module.",))


def _parsed(path: Path) -> object:
    advice = "save it with torch.save(model.state_dict(), ...) or as .safetensors."
    try:
        with path.open("rb") as file:
            head = file.read(9)
        if head[8:9] == b"{":  # eight bytes of length, then JSON: the content decides, not the name
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path.name} holds more than tensors and is not opened; {advice}") from error
    except Exception as error:  # a damaged file raises whatever its parser met first
        if "TorchScript" in str(error):
            raise WeightsError(f"{path.name} is a TorchScript program and is not opened; {advice}") from error
        raise WeightsError(f"{path.name} cannot be read as weights ({type(error).__name__}); is it damaged?") from error


def without_prefix(state: Mapping[str, Tensor], prefixes: Sequence[str]) -> Mapping[str, Tensor]:
    """`state` with each of `prefixes` taken off while every key begins with it."""
    for prefix in prefixes:
        while state and all(key.startswith(prefix) for key in state):
            state = {key[len(prefix) :]: value for key, value in state.items()}
    return state


def shape_report(net: nn.Module, state: Mapping[str, Tensor]) -> str:
    """ "" where `state` fits `net`; otherwise one sentence that counts and names what differs."""
    own = net.state_dict()
    optional = {key for key in own if key.endswith("num_batches_tracked")}
    missing = [key for key in own if key not in state and key not in optional]
    extra = [key for key in state if key not in own]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    parts = []
    for what, names in (("missing", missing), ("unknown", extra), ("of another shape", shapes)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{more})")
    return "; ".join(parts) + "." if parts else ""


def labels_beside(path: Path) -> Path | None:
    """The labels file that belongs to a weights file: the same stem, .txt or .json; None where there is none."""
    found = [path.with_suffix(suffix) for suffix in (".txt", ".json") if path.with_suffix(suffix).is_file()]
    if len(found) > 1:
        raise InputError(f"{found[0].name} and {found[1].name} both name classes; keep one of them.")
    return found[0] if found else None


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names in index order from a .json list, a .json object {"0": name, ...}, or a text file, one a line.

    ImageNet's usual {"0": ["n01440764", "tench"], ...} is read too: the last of each list is the name. Raises
    `InputError` for a file that is missing, too large, not text, or not such a list.
    """
    if not path.is_file():
        raise InputError(f"the labels file {path} does not exist; check the path.")
    if path.stat().st_size > MAX_LABEL_BYTES:
        raise InputError(
            f"the labels file {path.name} is larger than {MAX_LABEL_BYTES // 2**20} MB; is it the right one?"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = _from_json(json.loads(text)) if path.suffix.lower() == ".json" else tuple(text.splitlines())
    except (UnicodeDecodeError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"the labels file {path.name} cannot be read; give one name a line, or a JSON list of names."
        ) from error
    while names and not names[-1].strip():
        names = names[:-1]
    return tuple(name.strip() for name in names)


def _from_json(loaded: object) -> tuple[str, ...]:
    if isinstance(loaded, dict):
        loaded = [loaded[str(index)] for index in range(len(loaded))]
    if not isinstance(loaded, list):
        raise TypeError("neither a list nor an object")
    names = [each[-1] if isinstance(each, list) else each for each in loaded]
    if not all(isinstance(name, str) for name in names):
        raise TypeError("a name that is no text")
    return tuple(names)
