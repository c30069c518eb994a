"""Class folders of noise, and a generator that saw a share of them, made once a file."""

from __future__ import annotations

import pytest

from tests.unit.augmentation_helpers import folder, generator


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    return generator(data, tmp_path_factory.mktemp("gan") / "generator.safetensors")
