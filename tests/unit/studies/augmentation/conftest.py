"""Class folders of noise, a generator that saw a share of them, and one study of both, made once."""

from __future__ import annotations

import pytest

from tests.unit.augmentation_helpers import folder, generator, request
from xai.studies.augmentation.study import augment


@pytest.fixture(scope="package", autouse=True)
def _alone(tmp_path_factory):
    """Runs take turns on a device by locks in the cache: whatever else runs on this machine is not waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="package")
def data(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="package")
def made(data, tmp_path_factory):
    return generator(data, tmp_path_factory.mktemp("gan") / "generator.safetensors")


@pytest.fixture(scope="package")
def study(data, made, tmp_path_factory):
    return augment(request(data, made), tmp_path_factory.mktemp("study") / "run", command="python -m xai augment")
