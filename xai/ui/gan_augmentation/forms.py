"""Runs that the GAN page begins: a generator's training, and the augmentation study."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

import streamlit as st

from xai.data.call import dataset_stamp
from xai.data.spec import DataSet
from xai.errors import XaiError
from xai.gan.images import check_held_out, only_class, split_places
from xai.gan.settings import SIZES
from xai.runs import control as run_control
from xai.studies.augmentation.data import split_shares
from xai.studies.augmentation.study import AugmentRequest, check_classes
from xai.ui import clicks, runs, said
from xai.ui.doors import checked, open_data
from xai.ui.gan_augmentation import live as gan_live
from xai.ui.gan_augmentation import state as gan
from xai.ui.gan_augmentation.state import FALLBACK, Source
from xai.ui.uploads import Sent, class_zip, left_out
from xai.ui.work import Recent

MODELS = ("simple_cnn", "mobilenet_v3_large", "vgg16")
"""The study's networks, and a small one that a laptop can train; others by the terminal."""

EVERY = "all, in one network"

_opened: Recent[DataSet] = Recent(4)


def own(found: Sequence[Source], key: str) -> None:
    """Both forms beside one another, and what is under way."""
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Train a generator**")
        sent = _train(key)
        runs.panel("gan", f"{key}_gan", lambda run: _show(f"{key}_generator", run.id))
        gan_live.generators()
    with right:
        st.markdown("**Ask whether its images help**")
        _augment(found, sent, key)
        runs.panel("augment", f"{key}_aug", lambda run: _show(f"{key}_study", run.id))
        gan_live.studies()


def _show(widget: str, run_id: str) -> None:
    """Have the other tabs show a finished run that is picked here."""
    st.session_state[widget] = run_id


def _train(key: str) -> Sent:
    """The form of a training; the zip that was sent."""
    sent = class_zip(f"{key}_zip")
    if sent is None:
        return Sent()
    if sent.place:
        place = sent.place
        st.caption(f"Data: {runs.plain(sent.name)}")
    else:
        place = st.text_input(
            "Or a folder or zip on the server, or sample:NAME", FALLBACK, key=f"{key}_data", persist_state="session"
        ).strip()
    data = _open(place, sent)
    with st.container(horizontal=True):
        size = st.selectbox("Side, px", SIZES, 1, key=f"{key}_size", persist_state="session", width=120)
        steps = st.number_input(
            "Steps", 1, 1_000_000, 3000, 500, key=f"{key}_train_steps", persist_state="session", width=150
        )
        seed = st.number_input("Seed", 0, 10_000, 0, key=f"{key}_train_seed", persist_state="session", width=110)
    with st.container(horizontal=True):
        network = st.selectbox(
            "Network", ("fastgan", "dcgan"), key=f"{key}_network", persist_state="session", width=120
        )
        only = st.selectbox(
            "Classes",
            [EVERY, *(data.classes if data is not None else ())],
            key=f"{key}_only_{place}",
            persist_state="session",
            width=220,
        )
    words = ["gan", "train", place, "--size", str(size), "--steps", str(steps), "--seed", str(seed)]
    words += ["--set", f"architecture={network}"] if network != "fastgan" else []
    words += ["--only", only] if only != EVERY else []
    refused = data is None or _refused(_check_split, sent, data, only)
    what = f"{data.name if data else place}{f', {only}' if only != EVERY else ''}"
    _begin(
        "gan",
        sent.told(f"Generator of {what}, {steps:,} step{'s' * (steps > 1)}"),
        words,
        f"{key}_train",
        refused,
        f"{key}_generator",
    )
    return sent


def _open(place: str, sent: Sent) -> DataSet | None:
    """The data set, and what it holds; a refusal is said."""
    try:
        data = _opened.get((checked(place), dataset_stamp(place)), lambda: open_data(place))
    except (XaiError, OSError) as error:
        st.warning(runs.plain(sent.told(gan.sentence(error))), icon=":material/info:")
        return None
    st.caption(runs.plain(data.sentence))
    left_out(data.problems)
    return data


def _check_split(data: DataSet, only: str) -> None:
    """Raise now what a training would refuse after it has read the images."""
    _, held_out = split_places(only_class(data, "" if only == EVERY else only))
    check_held_out(len(held_out))


def _check_shares(data: DataSet, source: Source | None) -> None:
    """Raise now what a study would refuse after it has trained its generator."""
    given = [] if source is None else [gan.open_generator(source)]
    usual = AugmentRequest
    split_shares(data, given, usual.share, usual.split_seed, usual.validation)


def _refused(check: Callable[..., None], sent: Sent, *given: object) -> bool:
    """Whether a check refuses; then it is said."""
    try:
        check(*given)
    except (XaiError, OSError) as error:
        st.warning(runs.plain(sent.told(gan.sentence(error))), icon=":material/info:")
        return True
    return False


def _augment(found: Sequence[Source], sent: Sent, key: str) -> None:
    """The form of a study. sent: a zip that was sent to train a generator on."""
    by_key = {each.key: each for each in found}
    names = {each.key: each.title for each in found} | {"first": "train one first"}
    gan.settle(f"{key}_aug_generator", list(names))
    chosen = st.selectbox(
        "Generator",
        list(names),
        format_func=runs.labels(f"{key}_aug_generator", names),
        key=f"{key}_aug_generator",
        persist_state="session",
    )
    source = by_key.get(chosen)
    given = ["--generator", str(gan.near(source.path))] if source is not None else []
    usual = (sent.place if source is None else "") or _data_of(source)
    place = st.text_input(
        "Data that it is trained on", usual, key=f"{key}_aug_data_{chosen}_{usual}", persist_state="session"
    ).strip()
    data = _open(place, sent)
    with st.container(horizontal=True):
        model = st.selectbox("Network", MODELS, key=f"{key}_model", persist_state="session", width=190)
        seeds = st.number_input("Seeds", 1, 20, 3, key=f"{key}_seeds", persist_state="session", width=110)
        steps = st.number_input(
            "Steps an arm", 12, 1_000_000, 600, 100, key=f"{key}_arm_steps", persist_state="session", width=150
        )
        if source is None:
            first = st.number_input(
                "Generator's steps",
                1,
                1_000_000,
                5000,
                500,
                key=f"{key}_first_steps",
                persist_state="session",
                width=150,
            )
            given = ["--generator-steps", str(first)]
    words = ["augment", place, "--model", model, "--seeds", str(seeds), "--steps", str(steps), *given]
    title = sent.told(f"{model} on {data.name if data else place}, {seeds} seed{'s' * (seeds > 1)}")
    refused = data is None or _refused(check_classes, sent, data)
    refused = refused or _refused(_check_shares, sent, data, source)
    _begin("augment", title, words, f"{key}_augment", refused, f"{key}_study")


def _data_of(source: Source | None) -> str:
    """Where a generator says that its data is."""
    try:
        return FALLBACK if source is None else str(gan.open_generator(source).facts.get("data", FALLBACK))
    except (XaiError, OSError):
        return FALLBACK


def _begin(kind: str, title: str, words: list[str], key: str, refused: bool, shown: str) -> None:
    """The button, and the same command in the terminal. shown: what chooses among the finished; it takes this run."""

    def start() -> None:
        said.say(key, "")
        try:
            st.session_state[f"{shown}_begun"] = run_control.begin(kind, title[: run_control.TITLE_LENGTH], words).name
        except XaiError as error:
            said.say(key, str(error))

    clicks.button("Begin", start, key=f"{key}_go", icon=":material/play_arrow:", disabled=refused)
    runs.warn(key, tuple(words))
    st.code(shlex.join(["python", "-m", "xai", *words, "--out", f"runs/{kind}"]), language=None, wrap_lines=True)
