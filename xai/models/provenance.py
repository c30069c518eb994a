"""What made a result: network, weights, parameters, seed, versions, device. Travels with every result."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from typing import Any

import torch
import torchvision

from xai.models.classifier import Classifier
from xai.version import __version__


def provenance(classifier: Classifier, kind: str, name: str, params: object, seed: int) -> Mapping[str, Any]:
    """JSON-able facts; `kind` is "method", "attack" or "metric", `params` the entry's dataclass."""
    return {
        "model": classifier.name,
        "weights": classifier.weights,
        "fingerprint": classifier.fingerprint,
        "output": str(classifier.output),
        kind: name,
        "params": dataclasses.asdict(params) if dataclasses.is_dataclass(params) else {},  # type: ignore[arg-type]
        "seed": seed,
        "device": str(classifier.device),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    return {
        "olhar": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
