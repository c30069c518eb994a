"""What the tests of weights share: a small network, files of it, and what loading refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from xai.errors import WeightsError
from xai.models import load_model
from xai.models.build import untrained_network
from xai.models.store import model_spec

NET = "mobilenet_v3_small"


def small_state() -> dict[str, Tensor]:
    """A small network for 7 classes."""
    return untrained_network(model_spec(NET), 0, 7).state_dict()


def saved(path: Path, value: object) -> str:
    """`value` in a file, as `weights` names it."""
    torch.save(value, path)
    return f"file:{path}"


def refusal(*args: Any, kind: type[Exception] = WeightsError, **kwargs: Any) -> str:
    """The one line that `load_model` refuses with."""
    with pytest.raises(kind) as caught:
        load_model(*args, device="cpu", **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text
