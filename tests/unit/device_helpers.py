"""What the same work gives on two devices: classifiers moved to one, and how far results may lie apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xai.devices import memory_format
from xai.models.classifier import Classifier

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Tested:
    """A device that is compared with the CPU. near: how large the norm of a difference may be, as a share; 0: none."""

    device: torch.device
    near: float = 0.0

    @property
    def pretended(self) -> bool:
        """Whether its numbers are the CPU's."""
        return self.near == 0


def placed(classifier: Classifier, device: torch.device) -> Classifier:
    """A copy of the classifier on `device`, as `load_model` puts it there."""
    own = classifier.private()
    module = own.module.to(device).to(memory_format=memory_format(device))
    return dataclasses.replace(own, module=module, device=device, _memo={})


def assert_same(here: Any, there: Any, near: float, place: str = "result") -> None:
    """Assert that two results are equal: tensors on the CPU by their norm, all else exactly or, if near, by 1 in 1000.

    Looks into dataclasses, mappings and sequences; floats that are not numbers are equal to one another.
    """
    if isinstance(here, Tensor):
        assert isinstance(there, Tensor), place
        assert there.device.type == "cpu", f"{place} is on {there.device}"
        assert (here.shape, here.dtype) == (there.shape, there.dtype), place
        if near == 0 or not here.is_floating_point():
            assert torch.equal(here.nan_to_num(), there.nan_to_num()), f"{place}: {_apart(here, there)}"
        else:
            assert _apart(here, there) <= near, f"{place}: {_apart(here, there)}"
    elif dataclasses.is_dataclass(here):
        for field in dataclasses.fields(here):
            assert_same(getattr(here, field.name), getattr(there, field.name), near, f"{place}.{field.name}")
    elif isinstance(here, Mapping):
        assert here.keys() == there.keys(), place
        for name in here:
            assert_same(here[name], there[name], near, f"{place}[{name!r}]")
    elif isinstance(here, Sequence) and not isinstance(here, str | bytes):
        assert len(here) == len(there), place
        for index, pair in enumerate(zip(here, there, strict=True)):
            assert_same(*pair, near, f"{place}[{index}]")
    elif isinstance(here, float):
        assert here == there or here != here or abs(here - there) <= near * max(1.0, abs(here)), (place, here, there)
    else:
        assert here == there, (place, here, there)


def _apart(here: Tensor, there: Tensor) -> float:
    """Norm of the difference, as a share of the norm."""
    one, two = here.double().nan_to_num(), there.double().nan_to_num()
    return float((one - two).norm() / one.norm().clamp(min=1e-12))
