"""The bias audit's forms: a new study, and one's own classifier on one's own images."""

from __future__ import annotations

import io
import shlex
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from xai.data.drawn.pet_factors import CUES
from xai.data.groups import CSV_BYTES
from xai.data.pets import HIGHEST_PIXELS, LOWEST_PIXELS
from xai.errors import XaiError
from xai.explain.spec import METHODS
from xai.files import safe_name
from xai.runs import control as run_control
from xai.studies.bias.groups import BRIGHTNESS, groups_of, with_masks
from xai.studies.bias.run import BiasRequest, network_path, words_of
from xai.studies.bias.train import ARMS, Experiment
from xai.ui import clicks, held, runs, said
from xai.ui.bias_audit.state import KEY, SHIPPED, factor_title
from xai.ui.doors import checked_weights, open_data
from xai.ui.nets import OF_RUN, net_names, net_title
from xai.ui.uploads import left_out
from xai.uploads import keep_upload
from xai.words import counted

ZIP_MB, CSV_MB = 500, CSV_BYTES // 2**20
"""The largest files taken, in MB; larger ones are opened where they lie."""

PARTS = {"sweep": "rho slider", "mend": "mitigation", "detector": "detector"}
SECONDS = 13
"""What one training of SimpleCNN of the usual size with its audit takes (19 in 240 s, one thread), for the estimate
beside the button."""

SIZES = (
    ("cats", "Cats", 2, 5000, 1),
    ("dogs", "Dogs", 2, 5000, 1),
    ("pixels", "Side of the drawings, pixels", LOWEST_PIXELS, HIGHEST_PIXELS, 2),
    ("epochs", "Epochs", 1, 200, 2),
)
"""Whole numbers of a training: field, title, least, most, column."""


def begin(words: Sequence[str], title: str) -> None:
    """Start a run, which is shown when it is done; what is refused is said."""
    said.say(KEY, "")
    try:
        runs.await_run(KEY, run_control.begin("audit-bias", title, words).name)
        st.session_state[f"{KEY}_shipped"] = False
    except XaiError as error:
        said.say(KEY, str(error))


def study() -> None:
    """Train and audit on drawn pets: correlation, cue, sizes, seed, network, and the further parts."""
    st.markdown("**Train and audit anew**")
    usual = Experiment()
    columns = st.columns([3, 2, 2, 4])
    preset = columns[0].toggle(
        "The study's shares",
        value=True,
        key=f"{KEY}_preset",
        persist_state="session",
        help="90 % light cats, 82 % dark dogs",
    )
    rho = columns[0].slider("rho", 0.5, 1.0, 0.9, 0.05, key=f"{KEY}_new_rho", persist_state="session", disabled=preset)
    cue = columns[1].selectbox(
        "Planted cue", CUES, format_func=factor_title, key=f"{KEY}_new_cue", persist_state="session"
    )
    seed = columns[2].number_input("Seed", 0, 10_000, 0, key=f"{KEY}_new_seed", persist_state="session")
    parts = columns[3].pills(
        "Also",
        list(PARTS),
        selection_mode="multi",
        format_func=PARTS.__getitem__,
        key=f"{KEY}_new_parts",
        persist_state="session",
    )
    with st.expander("Network, images and methods"):
        three = st.columns(3)
        model = three[0].selectbox(
            "Network",
            (usual.model, *(each for each in net_names() if not each.startswith(OF_RUN))),
            format_func=lambda name: f"{net_title(name)}{'' if name == usual.model else ', a new head'}",
            key=f"{KEY}_new_model",
            persist_state="session",
            help="SimpleCNN learns everything; of another network a new head learns on its ImageNet features.",
        )
        chosen: dict[str, Any] = {
            name: int(
                three[place].number_input(
                    title, low, high, getattr(usual, name), key=f"{KEY}_new_{name}", persist_state="session"
                )
            )
            for name, title, low, high, place in SIZES
        }
        methods = three[0].multiselect(
            "Methods whose maps are measured",
            METHODS.names(),
            ["gradcam"],
            format_func=lambda name: METHODS.get(name).title,
            key=f"{KEY}_new_methods",
            persist_state="session",
        )
    own = Experiment(cue, None if preset else rho, int(seed), model=str(model), **chosen)
    asked = BiasRequest(own, **dict.fromkeys(parts, True), methods=tuple(methods) or BiasRequest().methods)
    title = f"Drawn pets, {factor_title(cue)}, {'the study' if preset else f'rho {rho:g}'}, seed {own.seed}"
    count = len(asked.pieces())
    as_usual = replace(own, cue=usual.cue, rho=usual.rho, seed=usual.seed) == usual
    cost = f", about {_time(count * SECONDS)} on one core" if as_usual else ""
    _start(words_of(asked), title, f"{counted(count, 'training')}{cost}")


def own() -> None:
    """Audit a person's own classifier on their own images."""
    st.markdown("**Your own classifier on your own images**")
    st.caption(
        "A folder or zip with a folder for each class. Groups come from inner folders (CLASS/GROUP/image), from a CSV "
        "with the columns file and group, or from measured brightness. Masks are named as the images, white inside: "
        "there images are also recoloured, and explanations are measured. Mitigation trains networks on 70 % of "
        "each class and group, as they are and in four other ways, and compares them on the other 30 %."
    )
    mend = st.toggle("Mitigation: train again and compare", key=f"{KEY}_own_mend", persist_state="session")
    left, middle, right = st.columns(3)
    with left:
        data, name = _own_data()
    with middle:
        model, weights = _own_network(mend)
    with right:
        how, masks = _own_groups()
    words = ["audit-bias", "--data", data, "--model", model, "--groups", how]
    words += ["--weights", weights] if weights else []
    words += ["--masks", masks] if masks else []
    if mend:
        seeds = right.number_input("Trainings of each way", 1, 10, 1, key=f"{KEY}_own_seeds", persist_state="session")
        words += ["--mend", "--seeds", str(int(seeds))]
    if not how:
        st.info("Drop the CSV to begin.")
        return
    try:
        found = open_data(data)
        checked_weights(weights)
        st.caption(runs.plain(found.sentence))
        left_out(found.problems)
        if not found.classes:
            found.check_labels()
        labelled = [item for item in found.items if item.label is not None]
        if labelled and how != BRIGHTNESS:  # which the run measures
            st.caption(runs.plain(groups_of(labelled, how)[1]))
        if masks:
            open_data(masks, "unlabelled")
            _, told, misfits = with_masks(found.items, masks)
            st.caption(runs.plain(told))
            if misfits:
                with st.expander(f"{counted(len(misfits), 'file that is', 'files that are')} no mask of an image"):
                    st.dataframe([{"file": each.key, "why": each.reason} for each in misfits], hide_index=True)
    except (XaiError, OSError) as error:
        file = Path(data).name
        told = str(error) if name == file else str(error).replace(file, name)  # not by its digest
        st.warning(runs.plain(told), icon=":material/info:")
        return
    told = f"{int(seeds) * len(ARMS)} trainings" if mend else ""
    title = f"Own data: {name}, {net_title(model)}{', mitigation' * mend}"
    _start(words, title[: run_control.TITLE_LENGTH], told, key="own")


def _own_data() -> tuple[str, str]:
    """(what `--data` takes, what people call it)"""
    usual = "sample:pets"
    data = st.text_input("Folder, zip or sample:NAME", usual, key=f"{KEY}_own_data", persist_state="session").strip()
    _drop("or drop a zip", ["zip"], ZIP_MB, f"{KEY}_own_zip", (f"{KEY}_own_data", usual, _kept_zip))
    return data, st.session_state.get(_NAMES, {}).get(data, Path(data).name)


def _own_network(mend: bool) -> tuple[str, str]:
    """(what `--model` takes, what `--weights` takes, "" for none); mitigation needs no trained classifier."""
    usual = Experiment()
    if mend and not st.toggle(
        "I have a classifier", key=f"{KEY}_own_given", persist_state="session", help="It is audited beside the others."
    ):
        names = (usual.model, *(each for each in net_names() if not each.startswith(OF_RUN)))
        return str(
            st.selectbox(
                "Network to train", names, format_func=net_title, key=f"{KEY}_own_new", persist_state="session"
            )
        ), ""
    names = (usual.model, *net_names())
    model = str(
        st.selectbox("Classifier", names, format_func=net_title, key=f"{KEY}_own_model", persist_state="session")
    )
    if model.startswith(OF_RUN):
        return model, ""
    first = f"file:{_near(network_path(SHIPPED, usual.name))}" if model == usual.model else "imagenet"
    weights = st.text_input(
        "Weights",
        first,
        key=f"{KEY}_own_weights_{model}",
        persist_state="session",
        help="imagenet, random:SEED, file:PATH (file:PATH?output=sigmoid for independent outputs); a run has its own",
    ).strip()
    if mend and weights in ("", "imagenet"):
        st.caption("With these weights the network is only trained, not audited as it is.")
    return model, weights


def _own_groups() -> tuple[str, str]:
    """(what `--groups` takes, "" while a CSV is waited for; what `--masks` takes, "" for none)"""
    groups = st.selectbox(
        "Groups from", ("folders", "brightness", "a CSV"), key=f"{KEY}_own_groups", persist_state="session"
    )
    how = str(groups)
    if groups == "a CSV":
        _drop("CSV: file, group", ["csv"], CSV_MB, f"{KEY}_own_csv", (f"{KEY}_own_sheet", "", _kept))
        how = st.session_state.get(f"{KEY}_own_sheet", "")
    masks = st.text_input(
        "Masks (optional): folder or zip", "", key=f"{KEY}_own_masks", persist_state="session"
    ).strip()
    taken = (f"{KEY}_own_masks", "", _kept_masks)
    _drop("or drop a zip or PNG files", ["zip", "png"], ZIP_MB, f"{KEY}_own_masks_files", taken, True)
    return how, masks


def _drop(
    label: str, kinds: list[str], most: int, key: str, taken: tuple[str, str, Callable[[Any], str]], many: bool = False
) -> None:
    """A place to drop files; taken: under which name the session keeps their path, the usual one, and how it is made.

    An uploader forgets its files when another tab is looked at; their path stays.
    """
    place, usual, keep = taken

    def take() -> None:
        files = st.session_state.get(key)
        said.say(f"{key}_refused", "")
        try:
            st.session_state[place] = keep(files) if files else usual
        except XaiError as error:
            said.say(f"{key}_refused", f"The file was not taken: {error}")
            return
        given = files if isinstance(files, list) else [files] if files else []
        st.session_state[f"{key}_given"] = ", ".join(each.name for each in given)

    st.file_uploader(label, kinds, accept_multiple_files=many, max_upload_size=most, key=key, on_change=take)
    changed = st.session_state.get(place, usual)
    runs.warn(f"{key}_refused", changed)
    held.keep(key, "file", st.session_state.get(f"{key}_given", "") if changed != usual else "", changed)


_NAMES = f"{KEY}_own_names"
"""Where the session keeps what dropped zips were called, by their path."""


def _kept_zip(file: Any) -> str:
    path = str(keep_upload(file.getvalue()))
    st.session_state.setdefault(_NAMES, {})[path] = file.name
    return path


def _kept_masks(files: Any) -> str:
    return str(keep_upload(packed([(each.name, each.getvalue()) for each in files])))


def packed(files: Sequence[tuple[str, bytes]]) -> bytes:
    """One zip of what was dropped: a single zip as it is, else the files by name, the same bytes for the same files."""
    if len(files) == 1 and files[0][0].lower().endswith(".zip"):
        return files[0][1]
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, data in sorted(files):
            archive.writestr(zipfile.ZipInfo(safe_name(name, archive.namelist())), data)
    return sink.getvalue()


def _near(path: Path) -> str:
    """The path as short as it can be said here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _kept(sheet: Any) -> str:
    """An uploaded table in the cache, under its digest and its own name."""
    return str(keep_upload(sheet.getvalue(), sheet.name))


def _start(words: Sequence[str], title: str, told: str, key: str = "study") -> None:
    st.code(shlex.join(["python", "-m", "xai", *words, "--out", "RUN"]), language=None, wrap_lines=True)
    with st.container(horizontal=True, vertical_alignment="center"):
        clicks.button(
            "Begin the run",
            partial(begin, words, title),
            icon=":material/play_arrow:",
            key=f"{KEY}_begin_{key}",
            type="primary",
        )
        if told:
            st.caption(told)
    runs.warn(KEY, (*words, title))


def _time(seconds: int) -> str:
    return f"{seconds} s" if seconds < 90 else f"{round(seconds / 60)} min"
