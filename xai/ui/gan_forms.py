"""Runs that the GAN page begins: a generator's training, and the augmentation study."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import streamlit as st

from xai import run_control
from xai.errors import XaiError
from xai.gan.settings import SIZES
from xai.ui import runs
from xai.ui.gan import FALLBACK, Source

MODELS = ("simple_cnn", "mobilenet_v3_large", "vgg16")
"""The study's networks, and a small one that a laptop can train; others by the terminal."""


def own(found: Sequence[Source], key: str) -> None:
    """Both forms beside one another, and what is under way."""
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Train a generator**")
        _train(key)
        runs.panel("gan", f"{key}_gan", lambda run: _show(f"{key}_generator", run.id))
    with right:
        st.markdown("**Ask whether its images help**")
        _augment(found, key)
        runs.panel("augment", f"{key}_aug", lambda run: _show(f"{key}_study", run.id))


def _show(widget: str, run_id: str) -> None:
    """Have the other tabs show a finished run that is picked here."""
    st.session_state[widget] = run_id


def _train(key: str) -> None:
    data = st.text_input("Data: a folder, a zip on this machine, or sample:NAME", FALLBACK, key=f"{key}_data")
    with st.container(horizontal=True):
        size = st.selectbox("Side, px", SIZES, 1, key=f"{key}_size", width=120)
        steps = st.number_input("Steps", 1, 1_000_000, 3000, 500, key=f"{key}_train_steps", width=150)
        seed = st.number_input("Seed", 0, 10_000, 0, key=f"{key}_train_seed", width=110)
    words = ["gan", "train", data.strip(), "--size", str(size), "--steps", str(steps), "--seed", str(seed)]
    _begin("gan", f"Generator of {data.strip()}, {steps:,} steps", words, f"{key}_train")


def _augment(found: Sequence[Source], key: str) -> None:
    by_key = {each.key: each for each in found}
    chosen = st.selectbox(
        "Generator",
        [*by_key, "first"],
        format_func=lambda name: by_key[name].title if name in by_key else "train one first (1,000 steps)",
        key=f"{key}_aug_generator",
    )
    data = st.text_input("Data that it was trained on", _data_of(by_key.get(chosen)), key=f"{key}_aug_data_{chosen}")
    with st.container(horizontal=True):
        model = st.selectbox("Network", MODELS, key=f"{key}_model", width=190)
        seeds = st.number_input("Seeds", 1, 20, 3, key=f"{key}_seeds", width=110)
        steps = st.number_input("Steps an arm", 12, 1_000_000, 600, 100, key=f"{key}_arm_steps", width=150)
    given = ["--generator", str(by_key[chosen].path)] if chosen in by_key else ["--generator-steps", "1000"]
    words = ["augment", data.strip(), "--model", model, "--seeds", str(seeds), "--steps", str(steps), *given]
    _begin("augment", f"{model} on {data.strip()}, {seeds} seeds", words, f"{key}_augment")


def _data_of(source: Source | None) -> str:
    """Where a generator says that its data is."""
    from xai.ui import gan

    try:
        return FALLBACK if source is None else str(gan.open_generator(source).facts.get("data", FALLBACK))
    except (XaiError, OSError):
        return FALLBACK


def _begin(kind: str, title: str, words: list[str], key: str) -> None:
    """The button, and the same command in the terminal."""

    def start() -> None:
        st.session_state.pop(f"{key}_said", None)
        try:
            run_control.start(words, run_control.new_run(kind, title[: run_control.TITLE_LENGTH]))
        except XaiError as error:
            st.session_state[f"{key}_said"] = str(error)

    st.button("Begin", key=f"{key}_go", icon=":material/play_arrow:", on_click=start)
    runs.said(f"{key}_said")
    st.code(shlex.join(["python", "-m", "xai", *words, "--out", f"runs/{kind}"]), language=None, wrap_lines=True)
