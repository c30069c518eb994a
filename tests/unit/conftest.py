"""Fixtures of the unit tests."""

from __future__ import annotations

import pytest

from xai.models import store


@pytest.fixture
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classifiers that a test loads are its own: nothing is taken from, or left in, the cache of loaded ones."""
    monkeypatch.setattr(store, "_cache", type(store._cache)())
