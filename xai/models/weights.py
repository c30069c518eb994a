"""Weight files that are checked: safetensors, or a state dict read with `weights_only`; no pickled code, ever."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from xai.errors import WeightsError


def read_state_dict(path: Path) -> Mapping[str, Tensor]:
    """The tensors in a .safetensors, .pth or .pt file; a checkpoint's inner `state_dict` or `model` is taken.

    Raises `WeightsError` for a missing or damaged file and for one that holds code or no tensors.
    """
    if not path.is_file():
        raise WeightsError(f"the weights file {path} does not exist; check the path.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: object = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path.name} holds more than tensors and is not opened; save it with torch.save(model.state_dict(), ...) "
            "or as .safetensors."
        ) from error
    except Exception as error:  # a damaged file raises whatever its parser met first
        raise WeightsError(f"{path.name} cannot be read as weights ({type(error).__name__}); is it damaged?") from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise WeightsError(f"{path.name} holds no state dict; save it with torch.save(model.state_dict(), ...).")
    return {str(key).removeprefix("module."): value for key, value in loaded.items()}


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
