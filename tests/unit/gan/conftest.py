"""A tiny training of a generator, made once a file, with a quick extractor in the place of a network."""

from __future__ import annotations

import pytest
import torch

from tests.unit.gan_helpers import QUICK, noise_folder, whole_training
from xai.gan import train as loop


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loop, "lite0", lambda device: QUICK)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return noise_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A whole training: its folder and its generator."""
    out = tmp_path_factory.mktemp("run") / "whole"
    return out, whole_training(folder, out)
