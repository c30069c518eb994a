"""Pages run without a browser: Streamlit's AppTest on the entry file, with run and cache folders of the test's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[2]

OpenPage = Callable[..., AppTest]


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OpenPage:
    """Opens a page as a visitor who came by the entry page: `open_page("comparison")`, or "" for the entry itself.

    `query` gives address parameters. What other tests left in Streamlit's caches is dropped first; classifiers stay
    loaded, since `load_model` keeps its own.
    """
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XAI_DATA", os.pathsep.join(map(str, (tmp_path.parent, ROOT))))
    monkeypatch.chdir(ROOT)
    st.cache_data.clear()
    st.cache_resource.clear()

    def make(slug: str = "", timeout: float = 60, query: dict[str, str] | None = None) -> AppTest:
        app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=timeout)
        for name, value in (query or {}).items():
            app.query_params[name] = value
        app.run()
        if slug:
            app.switch_page(f"pages/{slug}.py").run()
        assert not app.exception, [each.message for each in app.exception]
        return app

    return make
