"""The devices that are compared with the CPU: two pretended ones, and a GPU where there is one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.unit.device_helpers import Tested
from tests.unit.pretend_device import pretend_device

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums do not depend on who is quicker
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "runs"))


@pytest.fixture(params=["like CUDA", "like MPS", pytest.param("CUDA", marks=GPU)])
def tested(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, own_store: None) -> Iterator[Tested]:
    """A device on which everything has to give what it gives on the CPU."""
    if request.param == "CUDA":
        monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        yield Tested(torch.device("cuda", torch.cuda.current_device()), near=1e-3)
        return
    with pretend_device(float64=request.param == "like CUDA") as device:
        yield Tested(device)
