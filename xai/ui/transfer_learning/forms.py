"""Choosing images and settings of a training, and beginning it as a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from PIL import ImageOps

from xai.data import SAMPLES
from xai.data.call import dataset_stamp
from xai.data.groups import CSV_BYTES, groups_by
from xai.data.spec import DataSet
from xai.data.together import COPIES, TOGETHER
from xai.errors import InputError, XaiError
from xai.models.heads import HEADS
from xai.runs import control as run_control
from xai.settings import resolve_device
from xai.studies.transfer.taken import take_network
from xai.studies.transfer.train import splits_of, with_epochs
from xai.training.augment import AUGMENTATIONS
from xai.training.recipe import CLASS_WEIGHTS, LARGEST_SEED, PRECISIONS, SCHEDULES, TRAINABLE, Recipe
from xai.ui import clicks, held, runs, said
from xai.ui.doors import checked, open_data
from xai.ui.live import sentence
from xai.ui.transfer_learning import state as transfer
from xai.ui.uploads import ZIP_BYTES, Sent, class_zip, left_out
from xai.ui.work import Recent
from xai.uploads import keep_upload

KEY = "tlf"
NETWORKS = {
    "efficientnet_lite0": "EfficientNet-Lite0",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "resnet50": "ResNet50",
    "densenet121": "DenseNet121",
    "mobilenet_v3_large": "MobileNetV3",
    "googlenet": "GoogLeNet",
}
SOURCES = ("samples", "zip", "server")
SOURCE_TITLES = {"samples": "Shipped images", "zip": "Your zip", "server": "Server folder"}
PARTS = {"80/20": 0.8, "70/30": 0.7, "5 folds": 5, "10 folds": 10}
PREVIEW = 12
_Preview = tuple[list[Any], list[str], list[str]]

_opened: Recent[DataSet] = Recent(4)
_previews: Recent[_Preview] = Recent(8)


def panel() -> None:
    """The form: data with its preview, settings, command, and the button that begins the run."""
    left, right = st.columns([1, 1], gap="large")
    with left:
        place, called = _source()
        data = _open(place, called)
        if data is not None:
            _about(data)
    with right:
        words, recipe = _settings()
        if recipe is None or data is None:
            return
        command = ["train", place, *words]
        problem = _problem(data, recipe, words[words.index("--groups") + 1] if "--groups" in words else "")
        if problem:
            st.warning(runs.plain(problem), icon=":material/info:")
        model = st.session_state[f"{KEY}_model"]
        title = st.text_input(
            "Title",
            f"{called or data.name}, {NETWORKS[model]}",
            key=f"{KEY}_title_{place}_{model}",
            persist_state="session",
        )
        clicks.button(
            "Train",
            partial(_begin, command, title),
            icon=":material/play_arrow:",
            type="primary",
            key=f"{KEY}_go",
            disabled=bool(problem),
        )
        runs.warn(KEY, (*command, title))
        if st.session_state.pop(f"{KEY}_begun", False):
            st.caption(":material/arrow_downward: Begun; it stands under Runs, below.")
        st.caption("The same in the terminal")
        st.code(shlex.join(["python", "-m", "xai", *command, "--out", "runs/mine"]), language=None, wrap_lines=True)


def _source() -> tuple[str, str]:
    """Where the images are, as the command takes it, "" while nothing is chosen; the name of a zip that was sent."""
    source = st.segmented_control(
        "Images",
        SOURCES,
        default="samples",
        format_func=SOURCE_TITLES.__getitem__,
        key=f"{KEY}_source",
        persist_state="session",
        required=True,
    )
    if source == "samples":
        labelled = [spec for spec in SAMPLES if spec.synthetic]
        titles = {spec.name: spec.title for spec in labelled}
        names = sorted(titles, key=lambda name: name != "brain")
        name = st.selectbox(
            "Which", names, format_func=titles.__getitem__, key=f"{KEY}_sample", persist_state="session"
        )
        return f"sample:{name}", ""
    if source == "zip":
        sent = class_zip(f"{KEY}_upload_zip") or Sent()
        return sent.place, sent.name
    path = st.text_input(
        "Folder or zip on the server",
        key=f"{KEY}_path",
        persist_state="session",
        placeholder="/data/brain_tumor_dataset",
        help="A folder with a folder of images for each class (such as yes and no), read in place.",
    )
    return path.strip(), ""


def _open(place: str, called: str) -> DataSet | None:
    if not place:
        st.caption("Choose images with a folder for each class: any number of classes, any sizes.")
        return None
    try:
        return _opened.get((checked(place), dataset_stamp(place)), lambda: open_data(place).used())
    except (XaiError, OSError) as error:
        told = str(error).replace(Path(place).name, f"the file {called}") if called else str(error)
        st.warning(runs.plain(sentence(told)), icon=":material/info:")
        return None


def _about(data: DataSet) -> None:
    """Balance, preview, and the files that were left out."""
    mark = " **Synthetic.**" if data.synthetic else ""
    st.markdown(f"{data.sentence}.{mark}")
    try:
        data.check_labels()
    except InputError as error:
        st.warning(runs.plain(sentence(str(error))), icon=":material/info:")
        left_out(data.problems)
        return
    if data.parts:
        st.caption("The folders are used as they are: the setting “Split” does nothing here.")
    counts = data.counts
    chart = go.Figure(
        go.Bar(x=list(counts.values()), y=list(counts), orientation="h", hovertemplate="%{y}: %{x}<extra></extra>")
    )
    chart.update_xaxes(title="images")
    chart.update_yaxes(title="class", autorange="reversed", type="category")
    chart.update_layout(height=90 + 26 * len(counts), margin={"l": 8, "r": 8, "t": 8, "b": 8})
    transfer.chart(chart, "balance")
    _preview(data)
    if not data.synthetic:
        st.caption(
            "Files are counted as they are listed. When the run reads them, one that cannot be decoded is left out "
            "before the split is drawn, and named with the result."
        )
    left_out(data.problems)


def _preview(data: DataSet) -> None:
    """A few images of every class in turn; one that cannot be decoded is said."""
    pictures, words, bad = _previews.get((data.name, data.fingerprint), lambda: _first(data))
    if pictures:
        with st.container(horizontal=True, gap="xsmall"):
            for picture, word in zip(pictures, words, strict=True):
                st.image(picture, caption=word, width=92, output_format="PNG")
    for each in bad:
        st.caption(f":material/broken_image: {runs.plain(each)}")


def _first(data: DataSet) -> _Preview:
    """Pictures of a few images with their classes, and what cannot be decoded."""
    by_class: dict[int, list[int]] = {}
    for place, item in enumerate(data.items):
        by_class.setdefault(-1 if item.label is None else item.label, []).append(place)
    order = [places[turn] for turn in range(PREVIEW) for places in by_class.values() if turn < len(places)][:PREVIEW]
    pictures, words, bad = [], [], []
    for place in order:
        item = data.items[place]
        try:
            image = item.open()
        except XaiError as error:
            bad.append(f"{item.key}: {error}")
            continue
        pictures.append(np.asarray(ImageOps.pad(image, (184, 184))))
        words.append(data.classes[item.label] if item.label is not None else "")
    return pictures, words, bad


def _settings() -> tuple[list[str], Recipe | None]:
    """Words of the command, and the recipe; None where a setting is refused."""
    usual = Recipe()
    pair = st.columns(2)
    model = pair[0].selectbox(
        "Network", list(NETWORKS), format_func=NETWORKS.__getitem__, key=f"{KEY}_model", persist_state="session"
    )
    weights = pair[1].selectbox(
        "Begins with",
        ("imagenet", "random:0"),
        key=f"{KEY}_weights",
        persist_state="session",
        format_func=lambda name: "ImageNet weights" if name == "imagenet" else "random weights",
    )
    pair = st.columns(2)
    chosen: dict[str, Any] = {}
    heads = sorted(HEADS, key=lambda name: name != "study4")
    chosen["head"] = pair[0].selectbox(
        "Head",
        heads,
        format_func={"study4": "Study 4's", "linear": "Linear"}.__getitem__,
        key=f"{KEY}_head",
        persist_state="session",
    )
    chosen["trainable"] = pair[1].selectbox(
        "What learns",
        TRAINABLE,
        key=f"{KEY}_trainable",
        persist_state="session",
        format_func={"frozen": "the head only", "last_block": "head and last block", "all": "everything"}.__getitem__,
    )
    pair = st.columns(2)
    chosen["epochs"] = pair[0].number_input("Epochs", 1, 1000, 30, key=f"{KEY}_epochs", persist_state="session")
    parts = pair[1].selectbox(
        "Split", list(PARTS), key=f"{KEY}_parts", persist_state="session", help="Seeded, each class in its share."
    )
    with st.expander("More settings"):
        three = st.columns(3)
        chosen["batch"] = three[0].number_input(
            "Batch", 1, 1024, usual.batch, key=f"{KEY}_batch", persist_state="session"
        )
        chosen["learning_rate"] = three[1].number_input(
            "Learning rate", 1e-6, 1.0, usual.learning_rate, format="%g", key=f"{KEY}_rate", persist_state="session"
        )
        chosen["seed"] = three[2].number_input("Seed", 0, LARGEST_SEED, 0, key=f"{KEY}_seed", persist_state="session")
        chosen["schedule"] = three[0].selectbox("Schedule", SCHEDULES, key=f"{KEY}_schedule", persist_state="session")
        chosen["class_weights"] = three[1].selectbox(
            "Class weights", CLASS_WEIGHTS, key=f"{KEY}_balance", persist_state="session"
        )
        chosen["patience"] = three[2].number_input(
            "Patience",
            0,
            1000,
            0,
            key=f"{KEY}_patience",
            persist_state="session",
            help="Stop after so many epochs without gain; 0: never.",
        )
        chosen["augment"] = tuple(
            st.multiselect(
                "Augmentation",
                list(AUGMENTATIONS),
                key=f"{KEY}_augment",
                persist_state="session",
                help="None: features are computed once.",
            )
        )
        possible = [each for each in PRECISIONS if each != "fp16" or resolve_device("auto").type == "cuda"]
        chosen["precision"] = three[0].selectbox("Precision", possible, key=f"{KEY}_precision", persist_state="session")
        view = three[1].selectbox("View", ("crop", "whole"), key=f"{KEY}_view", persist_state="session")
        copies = three[2].selectbox(
            "Copies",
            COPIES,
            key=f"{KEY}_copies",
            persist_state="session",
            format_func={"together": "on one side", "anywhere": "anywhere"}.__getitem__,
            help="Copies of one picture, also saved again, rescaled or cut a little, stay on one side. Anywhere: "
            "training images can validate; the accuracy is then told with and without them.",
        )
        groups = _groups()
    try:
        made = Recipe(**chosen)
    except InputError as error:
        st.warning(str(error), icon=":material/info:")
        return [], None
    share = PARTS[parts]
    words = ["--model", model, *made.words()]
    words += ["--weights", weights] if weights != "imagenet" else []
    words += ["--folds", str(share)] if isinstance(share, int) else ["--split", str(share)] if share != 0.8 else []
    words += ["--view", view] if view != "crop" else []
    words += ["--groups", groups] if groups else []
    words += ["--copies", copies] if copies != TOGETHER else []
    return words, made


def _groups() -> str:
    """What `--groups` takes: a pattern, or the path of a table that was sent; "" for none."""
    left, right = st.columns(2)
    pattern = left.text_input(
        "Groups (optional)",
        key=f"{KEY}_groups",
        persist_state="session",
        placeholder=r"patient(\d+)",
        help="What stays on one side of the split: a regular expression that finds the patient or the series in the "
        "path of each image; what its brackets hold is the group.",
    ).strip()
    sheet = right.file_uploader(
        "or a CSV: file, group",
        ["csv"],
        key=f"{KEY}_sheet",
        max_upload_size=CSV_BYTES // 2**20,
    )
    if sheet is not None:
        try:
            return str(keep_upload(sheet.getvalue(), sheet.name))
        except XaiError as error:
            st.warning(f"The table was not taken: {error}", icon=":material/info:")
            return ""
    if pattern.lower().endswith(".csv"):
        st.warning("Send the table here, instead of naming it.", icon=":material/info:")
        return ""
    return pattern


def _problem(data: DataSet, recipe: Recipe, groups: str) -> str:
    """Why the training could not begin, or ""; what groups were found is told."""
    share = PARTS[st.session_state[f"{KEY}_parts"]]
    try:
        splits_of(data, share, folds=share if isinstance(share, int) else 0, seed=recipe.seed)
        if groups:
            told = groups_by(data.items, groups)[1]
            st.caption(f"{runs.plain(told[:1].upper() + told[1:])}.")
    except XaiError as error:
        return sentence(str(error))
    return ""


def _begin(words: Sequence[str], title: str) -> None:
    try:
        begun = run_control.begin("train", title, words)
        transfer.own()  # what was begun is shown when it is done
        runs.await_run(transfer.KEY, begun.name)
        said.say(KEY, "")
        st.session_state[f"{KEY}_begun"] = True
    except XaiError as error:
        said.say(KEY, str(error))


def take_in() -> None:
    """A network that was exported, here or elsewhere, as a classifier of every page."""
    file = st.file_uploader(
        "The zip of a trained network (“The network as a file”, or `train --export`)",
        ["zip"],
        key=f"{KEY}_network",
        max_upload_size=ZIP_BYTES // 2**20,
    )
    held.keep(f"{KEY}_network", "zip", file.name if file is not None else "")
    st.button("Take it in", key=f"{KEY}_take", icon=":material/upload:", disabled=file is None, on_click=_take)
    sent = file.file_id if file is not None else ""
    runs.warn(f"{KEY}_take", sent)
    if taken := said.told(f"{KEY}_taken", sent):
        st.success(
            f"On every page and in every command it is the classifier run:{runs.plain(taken)}; the list of all runs "
            "has it, to rename or delete.",
            icon=":material/check:",
        )
    st.caption("In the terminal no such step is needed: `--model run:FILE.zip`.")


def _take() -> None:
    file = st.session_state[f"{KEY}_network"]
    for place in ("take", "taken"):
        said.say(f"{KEY}_{place}", "")
    try:
        said.say(f"{KEY}_taken", take_network(file.getvalue(), file.name).name)
    except XaiError as error:
        said.say(f"{KEY}_take", str(error))


def more(run_id: str, epochs: int, words: Sequence[str]) -> None:
    """Let a finished run learn on, to `epochs` in all; why that was refused is shown beside the number."""
    said.say(f"{KEY}_more", "")
    try:
        run_control.start(with_epochs(words, epochs), run_control.find_run(run_id))
        runs.await_run(transfer.KEY, run_id)
    except XaiError as error:
        said.say(f"{KEY}_more", str(error))
