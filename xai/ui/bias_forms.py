"""The bias audit's forms: a new study, one's own data, and recolouring a part of one's own photograph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from xai import run_control
from xai.data import keep_upload, open_dataset
from xai.data._pet_factors import CUES
from xai.data.samples import list_samples, load_sample
from xai.errors import XaiError
from xai.files import sha256, write_atomic
from xai.images import load_image
from xai.models.store import load_model
from xai.recolour import box_mask, lightness, recolour
from xai.settings import cache_dir
from xai.studies.bias_run import DETECTOR_RHOS, RHOS
from xai.ui import runs
from xai.ui.bias import KEY, factor_title
from xai.ui.nets import net_names, net_title

PARTS = {"sweep": "rho slider", "mend": "mending", "detector": "detector"}
COST = {"sweep": len(RHOS), "mend": 5, "detector": len(CUES) * len(DETECTOR_RHOS)}
SECONDS = 12
"""What one training with its audit takes on two cores, for the estimate beside the button."""

PREVIEW = 320


def begin(words: Sequence[str], title: str) -> None:
    """Start a run; what is refused is said."""
    try:
        run_control.start(words, run_control.new_run("audit-bias", title))
    except XaiError as error:
        st.session_state[f"{KEY}_said"] = str(error)


def study() -> None:
    """Train and audit on drawn pets: correlation, cue, seed, and the further parts."""
    st.markdown("**Train and audit anew**")
    columns = st.columns(4)
    preset = columns[0].toggle(
        "The study's shares", value=True, key=f"{KEY}_preset", help="90 % light cats, 82 % dark dogs"
    )
    rho = columns[0].slider("rho", 0.5, 1.0, 0.9, 0.05, key=f"{KEY}_new_rho", disabled=preset)
    cue = columns[1].selectbox("Planted cue", CUES, format_func=factor_title, key=f"{KEY}_new_cue")
    seed = columns[2].number_input("Seed", 0, 10_000, 0, key=f"{KEY}_new_seed")
    parts = columns[3].pills(
        "Also", list(PARTS), selection_mode="multi", format_func=PARTS.__getitem__, key=f"{KEY}_new_parts"
    )
    words = ["audit-bias", "--cue", str(cue), "--seed", str(int(seed)), *([] if preset else ["--rho", f"{rho:g}"])]
    words += [f"--{part}" for part in parts]
    count = 1 + 3 * sum(COST[part] for part in parts)
    title = f"Drawn pets, {factor_title(str(cue))}, {'the study' if preset else f'rho {rho:g}'}, seed {int(seed)}"
    _start(words, title, f"{count} training{'s' * (count > 1)}, about {_time(count * SECONDS)} on two cores")


def own() -> None:
    """Audit a person's own classifier on their own images."""
    st.markdown("**Your own classifier on your own images**")
    st.caption(
        "A folder or zip with a folder for each class. Groups come from inner folders (CLASS/GROUP/image), from a CSV "
        "with the columns file and group, or from measured brightness. With masks, images are also recoloured inside "
        "them, and explanations are measured."
    )
    left, middle, right = st.columns(3)
    data = left.text_input("Folder, zip or sample:NAME", "sample:pets", key=f"{KEY}_own_data")
    upload: Any = left.file_uploader("or drop a zip", type=["zip"], key=f"{KEY}_own_zip")
    names = net_names()
    model = middle.selectbox(
        "Classifier", names, index=names.index("simple_cnn"), format_func=net_title, key=f"{KEY}_own_model"
    )
    usual = "random:0" if model == "simple_cnn" else "imagenet"
    weights = middle.text_input(
        "Weights", usual, key=f"{KEY}_own_weights_{model}", help="imagenet, random:SEED, file:PATH; a run has its own"
    )
    groups = right.selectbox("Groups from", ("folders", "brightness", "a CSV"), key=f"{KEY}_own_groups")
    sheet: Any = (
        right.file_uploader("CSV: file, group", type=["csv"], key=f"{KEY}_own_csv") if groups == "a CSV" else None
    )
    masks = right.text_input("Folder of masks (optional)", "", key=f"{KEY}_own_masks")
    if upload is not None:
        data = str(keep_upload(upload.getvalue()))
    how = str(groups)
    if groups == "a CSV":
        how = _kept(sheet) if sheet is not None else ""
    words = ["audit-bias", "--data", data, "--model", str(model), "--groups", how]
    words += [] if str(model).startswith("run:") else ["--weights", weights]
    words += ["--masks", masks] if masks else []
    if not how:
        st.info("Drop the CSV to begin.")
        return
    try:
        st.caption(runs.plain(f"{open_dataset(data).sentence}"))
    except XaiError as error:
        st.warning(runs.plain(str(error)), icon=":material/info:")
        return
    _start(words, f"Own data: {Path(data).name}, {net_title(str(model))}", "", key="own")


def _kept(sheet: Any) -> str:
    """An uploaded table, under its digest in the cache."""
    data = sheet.getvalue()
    path = cache_dir() / "uploads" / f"{sha256(data)}.csv"
    if not path.is_file():
        write_atomic(path, data)
    return str(path)


def _start(words: Sequence[str], title: str, told: str, key: str = "study") -> None:
    st.code(" ".join(["python -m xai", *words, "--out RUN"]), language=None, wrap_lines=True)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Begin the run",
            icon=":material/play_arrow:",
            key=f"{KEY}_begin_{key}",
            on_click=begin,
            args=(words, title),
            type="primary",
        )
        if told:
            st.caption(told)
    runs.said(f"{KEY}_said")


def _time(seconds: int) -> str:
    return f"{seconds} s" if seconds < 90 else f"{round(seconds / 60)} min"


def photograph() -> None:
    """What would the network say were this part the other colour? A box on a photograph, before and after."""
    st.markdown("**Your own photograph: recolour a box and ask again**")
    left, right = st.columns([2, 3], gap="large")
    with left:
        samples = {each.name: each.title for each in list_samples()}
        name = st.selectbox("Photograph", list(samples), format_func=samples.__getitem__, key=f"{KEY}_photo")
        upload: Any = st.file_uploader("or your own", type=["png", "jpg", "jpeg", "webp"], key=f"{KEY}_photo_own")
        names = [each for each in net_names() if each != "simple_cnn"]
        model = str(st.selectbox("Classifier", names, format_func=net_title, key=f"{KEY}_photo_model"))
    try:
        image = load_image(upload.getvalue()) if upload is not None else load_sample(str(name))
        network = load_model(model)
    except XaiError as error:
        st.warning(runs.plain(str(error)), icon=":material/info:")
        return
    with left:
        across = st.slider("Box, left to right", 0, 100, (25, 75), format="%d %%", key=f"{KEY}_across")
        down = st.slider("Box, top to bottom", 0, 100, (20, 90), format="%d %%", key=f"{KEY}_down")
        box = (
            across[0] / 100 * image.width,
            down[0] / 100 * image.height,
            across[1] / 100 * image.width,
            down[1] / 100 * image.height,
        )
        if across[0] == across[1] or down[0] == down[1]:
            st.warning("The box is empty; draw it larger.")
            return
        mask = box_mask(box, image.size)
        mean = lightness(image, mask)
        to = st.slider("Lightness L* inside", 0, 100, round(100 - mean), key=f"{KEY}_lightness_{name}_{across}_{down}")
        turn = st.slider("Hue, turned by degrees", -180, 180, 0, key=f"{KEY}_turn")
    changed = recolour(image, mask, float(to), float(turn))
    before, after = (network.predict(network.preprocess(each)).double().softmax(1)[0] for each in (image, changed))
    answer = int(before.argmax())
    with right:
        pair = st.columns(2)
        for place, each, word in zip(pair, (image, changed), ("as it is", "recoloured"), strict=True):
            shown = each.copy()
            shown.thumbnail((PREVIEW, PREVIEW))
            place.image(shown, output_format="PNG", width="stretch", alt=f"The photograph, {word}")
        then = int(after.argmax())
        flips = ":red[flips]" if then != answer else ":green[stays]"
        st.markdown(
            f"**{network.labels[answer]}** {float(before[answer]):.0%} → {float(after[answer]):.0%}; the answer {flips}"
            + (f" to **{network.labels[then]}** {float(after[then]):.0%}" if then != answer else "")
        )
        st.caption(
            f"Inside the box mean lightness L* {mean:.0f} → {to}, hue turned by {turn}°, in CIE Lab; texture kept, "
            f"other pixels equal. {network.title}, weights {network.weights}."
        )
