"""Olhar: what does an image classifier look at, and should it be believed?

The names below are imported on first use, so that `python -m xai --help` does not wait for PyTorch.
"""

from __future__ import annotations

import importlib.util
import pkgutil
from typing import TYPE_CHECKING, Any

from xai.version import __version__

if TYPE_CHECKING:
    from xai.explain import applicability, attribute, list_methods
    from xai.images.decode import load_image
    from xai.models import list_models, load_model

__all__ = ["__version__", "applicability", "attribute", "list_methods", "list_models", "load_image", "load_model"]

_HOMES = {
    "applicability": "xai.explain",
    "attribute": "xai.explain",
    "list_methods": "xai.explain",
    "list_models": "xai.models",
    "load_image": "xai.images.decode",
    "load_model": "xai.models",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if not name.startswith("_") and importlib.util.find_spec(f"xai.{name}") is not None:
        return importlib.import_module(f"xai.{name}")
    raise AttributeError(f"module 'xai' has no attribute {name!r}")


def __dir__() -> list[str]:
    inner = (each.name for each in pkgutil.iter_modules(__path__) if not each.name.startswith("_"))
    return sorted({*globals(), *__all__, *inner})
