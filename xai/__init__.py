"""Olhar: what does an image classifier look at, and should it be believed?

The names below are imported on first use, so that `python -m xai --help` does not wait for PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xai.explain import applicability, attribute, list_methods
    from xai.images import load_image
    from xai.models import list_models, load_model

__version__ = "0.1.0"

__all__ = ["applicability", "attribute", "list_methods", "list_models", "load_image", "load_model"]

_HOMES = {
    "applicability": "xai.explain",
    "attribute": "xai.explain",
    "list_methods": "xai.explain",
    "list_models": "xai.models",
    "load_image": "xai.images",
    "load_model": "xai.models",
}

_PACKAGES = ("attacks", "data", "explain", "gan", "metrics", "models", "studies", "training")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _PACKAGES:
        return importlib.import_module(f"xai.{name}")
    raise AttributeError(f"module 'xai' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_PACKAGES])
