"""Weight files that are checked: safetensors, or a state dict read with `weights_only`; no pickled code, ever."""

from __future__ import annotations

import hashlib
import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import torch
from torch import Tensor, nn

from xai.errors import InputError, WeightsError
from xai.files import parse_json

_NESTS = ("state_dict", "model_state_dict", "model")

MAX_LABEL_BYTES = 4 * 1024 * 1024
"""Largest labels file that is read."""

MAX_HEADER_BYTES = 16 * 1024 * 1024
"""Largest list of tensors that is read out of a .safetensors file; that of a network of 1,000 tensors has 0.1 MB."""


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

    No tensor is larger than the file: nothing that is done with them takes longer than the file's size warrants. Raises
    `WeightsError` for a missing or damaged file, for one that holds code or no tensors, and for tensors that claim more
    values than the file stores.
    """
    if not path.is_file():
        raise WeightsError(f"the weights file {path} does not exist; check the path.")
    loaded = _parsed(path)
    for key in _NESTS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise WeightsError(f"{path.name} holds no state dict; save it with torch.save(model.state_dict(), ...).")
    _check_sizes(loaded, path)
    # What nn.DataParallel puts before every name.
    return without_prefix({str(key): value for key, value in loaded.items()}, ("module.",))


def _parsed(path: Path) -> object:
    advice = "save it with torch.save(model.state_dict(), ...) or as .safetensors."
    try:
        with path.open("rb") as file:
            head = file.read(9)
        if head[8:9] == b"{":  # eight bytes of length, then JSON: the content decides, not the name
            from safetensors.torch import load_file

            check_header(head, path.name)
            return load_file(path)
        packed = head.startswith(b"PK\x03\x04")  # as torch looks at it
        if not (packed or head.startswith(b"\x80")):  # neither a zip nor a pickle
            raise WeightsError(f"{path.name} is no weights file; give a .safetensors, .pth or .pt file.")
        _check_packing(path)
        _check_names(path, packed)
        return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path.name} holds more than tensors and is not opened; {advice}") from error
    except Exception as error:  # a damaged file raises whatever its parser met first
        if "TorchScript" in str(error):
            raise WeightsError(f"{path.name} is a TorchScript program and is not opened; {advice}") from error
        raise WeightsError(f"{path.name} cannot be read as weights ({type(error).__name__}); is it damaged?") from error


def check_header(data: bytes, name: str) -> None:
    """Raise `WeightsError` where the list of tensors at the head of a .safetensors file is too long to be read."""
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER_BYTES:
        raise WeightsError(
            f"{name} lists its tensors in {size / 2**20:,.0f} MB, more than {MAX_HEADER_BYTES // 2**20}; is it damaged?"
        )


def _check_packing(path: Path) -> None:
    """Raise `WeightsError` for a .pth that unpacks to more than its size; torch.save does not compress."""
    if not zipfile.is_zipfile(path):  # the older format, which is not packed
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > path.stat().st_size:
        raise WeightsError(
            f"{path.name} is {path.stat().st_size:,} bytes and unpacks to {unpacked:,}; it is not opened: "
            "save it again with torch.save(model.state_dict(), ...)."
        )


def _check_names(path: Path, packed: bool) -> None:
    """Raise `UnpicklingError` for a .pth whose pickles name anything that a state dict of dense tensors does not need.

    What `weights_only` lets through as well can take any amount of memory: a call of `bytearray` or `torch.FloatTensor`
    with a number. The names are listed without anything being made. packed: whether it is a zip; the older format is
    four pickles, one after the other, and one after them that lists the storages.
    """
    if packed:
        reader = torch._C.PyTorchFileReader(str(path))  # what torch.load reads, whatever else the zip's directory says
        if "constants.pkl" in reader.get_all_records():  # TorchScript, which torch.load refuses by that name
            return
        data = reader.get_record("data.pkl")
        if len(data) > MAX_HEADER_BYTES:
            raise WeightsError(
                f"{path.name} lists its tensors in {len(data) / 2**20:,.0f} MB, more than {MAX_HEADER_BYTES // 2**20}; "
                "is it damaged?"
            )
        _check_pickle(io.BytesIO(data))
        return
    with path.open("rb") as file:
        for _ in range(5):
            _check_pickle(file)


def _check_pickle(file: IO[bytes]) -> None:
    for operation, argument, _ in pickletools.genops(file):
        known = operation.name == "GLOBAL" and (argument in _NAMES or _STORAGE.fullmatch(str(argument)))
        if operation.name in ("GLOBAL", "STACK_GLOBAL", "INST") and not known:
            raise pickle.UnpicklingError(f"it names {argument}")


_NAMES = {
    "collections OrderedDict",
    "collections Counter",  # in the state of a schedule, beside the weights
    "builtins complex",
    "builtins set",
    "torch Size",
    "torch device",
    "torch.serialization _get_layout",
    *(
        f"torch._utils {name}"
        for name in dir(torch._utils)
        if re.match("_rebuild_(tensor|parameter|sparse|meta|q)", name)
    ),
    *(str(each).replace(".", " ") for each in vars(torch).values() if isinstance(each, (torch.dtype, torch.qscheme))),
}
"""What a checkpoint's pickle may name: what tensors are put together from, and plain values."""

_STORAGE = re.compile(r"torch(\.cuda)? [A-Z][A-Za-z0-9]+Storage")
"""A kind of storage: only a word in the description of one. `torch.storage.UntypedStorage` would be called."""


def _check_sizes(state: Mapping[object, Tensor], path: Path) -> None:
    """Raise `WeightsError` where a tensor has no values in the file, or claims more than the file stores."""
    size, stored = path.stat().st_size, 0
    seen: set[int] = set()
    for key, value in state.items():
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_nested:
            raise WeightsError(
                f"{path.name}: {key} is sparse, nested, quantised or without values; save the network's dense weights."
            )
        storage = value.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            stored += storage.nbytes()
        if max(value.numel() * value.element_size(), stored) > size:
            raise WeightsError(
                f"{path.name}: {key} claims the shape {tuple(value.shape)}, more than the file's {size:,} bytes hold; "
                "it is not opened: save contiguous tensors with torch.save(model.state_dict(), ...)."
            )


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
            shown = ", ".join(name[:120] for name in names[:3])  # a file can hold a name of megabytes
            parts.append(f"{len(names)} {what} ({shown}{more})")
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
        names = _from_json(parse_json(text)) if path.suffix.lower() == ".json" else tuple(text.splitlines())
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
