"""Devices and folders: what the environment says, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from xai import settings
from xai.errors import InputError
from xai.settings import resolve_device


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XAI_DEVICE", "XAI_RUNS", "XAI_CACHE"):
        monkeypatch.delenv(name, raising=False)


def refusal(device: str) -> str:
    with pytest.raises(InputError) as caught:
        resolve_device(device)
    return str(caught.value)


def test_auto_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert resolve_device() == torch.device("cuda:1")
    assert resolve_device("cuda:0") == torch.device("cuda:0")
    assert refusal("cuda:2") == "device 'cuda:2' is not on this machine (2 CUDA devices); use auto or cpu."


def test_the_environment_decides_for_auto_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("XAI_DEVICE", "cpu")
    assert resolve_device() == torch.device("cpu")
    assert refusal("cuda") == "device 'cuda' is not on this machine (0 CUDA devices); use auto or cpu."
    monkeypatch.setenv("XAI_DEVICE", "teapot")
    assert refusal("auto") == "XAI_DEVICE 'teapot' is not known; use auto, cpu, cuda, cuda:N or mps."


def test_other_devices_are_refused() -> None:
    assert refusal("meta") == "device 'meta' is not supported; use auto, cpu, cuda, cuda:N or mps."
    assert refusal("") == "device '' is not known; use auto, cpu, cuda, cuda:N or mps."


def test_apples_gpu_is_taken_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.mps, "device_count", lambda: 0)
    monkeypatch.setenv("XAI_DEVICE", "mps")
    assert refusal("auto") == "XAI_DEVICE 'mps' is not on this machine (0 MPS devices); use auto or cpu."
    monkeypatch.setattr(torch.mps, "device_count", lambda: 1)
    assert resolve_device() == resolve_device("mps") == torch.device("mps", 0)
    assert refusal("mps:1") == "device 'mps:1' is not on this machine (1 MPS devices); use auto or cpu."
    monkeypatch.delenv("XAI_DEVICE")
    assert resolve_device() == torch.device("cpu")


def test_cpu_has_one_name() -> None:
    assert resolve_device("cpu:0") == resolve_device(torch.device("cpu")) == torch.device("cpu")


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert settings.runs_dir() == Path("runs")
    assert settings.cache_dir() == Path.home() / ".cache" / "olhar"
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "r"))
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "t"))
    assert settings.runs_dir() == tmp_path / "r"
    assert settings.cache_dir() == tmp_path / "c"
    assert settings.weights_dir() == tmp_path / "t" / "hub" / "checkpoints"
    monkeypatch.setenv("XAI_RUNS", "")
    assert settings.runs_dir() == Path("runs")


def test_free_memory_is_what_the_system_says_or_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "MemTotal: 9 kB\nMemAvailable:   5 kB\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: told)
    assert settings.free_memory() == 5 * 1024

    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert settings.free_memory() is None
