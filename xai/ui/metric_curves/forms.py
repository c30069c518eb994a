"""What a person sets on the metric curves page: pictures, networks, methods, protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from xai.data.archive import open_archive
from xai.data.spec import DataSet
from xai.errors import ImageError, InputError, XaiError
from xai.explain.spec import METHODS
from xai.files import safe_name
from xai.images.decode import SUPPORTED_SUFFIXES, image_digest, load_image
from xai.metrics.curves import CURVES
from xai.metrics.protocol import PROTOCOLS, get_protocol
from xai.models.spec import MODELS
from xai.settings import MAX_UPLOAD_BYTES
from xai.studies.faithfulness.seen import BASELINES, FIGURES_6_7
from xai.ui import controls, held
from xai.ui.memory import SENT_BYTES, drop_upload, new_uploads
from xai.ui.metric_curves.scrub import direction
from xai.ui.metric_curves.state import MOST_IMAGES, SOURCES, CurvesChoice, Pictures, open_server
from xai.ui.uploads import left_out
from xai.ui.work import Net, Photo, samples
from xai.uploads import keep_upload

SOURCE_TITLES = {"samples": "Samples", "upload": "Upload", "server": "Server"}
ZIP_BYTES = 200 * 2**20
"""Larger zips are opened where they lie."""

COLOUR = "colour"


def pictures(choice: CurvesChoice, key: str) -> str:
    """Samples, dropped pictures or a zip, or a folder on the server; which of them a person looks at."""
    source = st.segmented_control(
        "Pictures",
        SOURCES,
        format_func=SOURCE_TITLES.__getitem__,
        default="server" if choice.path else choice.source,
        key=f"{key}_source",
        required=True,
        wrap=True,
    )
    if source == "upload":
        _upload(choice, key)
    elif source == "server":
        _server(choice, key)
    else:
        names = st.pills(
            "Samples",
            list(samples()),
            selection_mode="multi",
            default=list(choice.picked),
            key=f"{key}_samples",
            label_visibility="collapsed",
            wrap=True,
        )
        _follow(choice, "samples", picked=tuple(name for name in samples() if name in names))
    names = [photo.name for photo in choice.uploads] or [choice.whole.name if choice.whole is not None else ""]
    mine = ", ".join(names[:4]) + f" and {len(names) - 4} more" * (len(names) > 4)
    what = "pictures" if len(choice.uploads) > 1 else "picture" if choice.uploads else "zip"
    held.keep(key, what, mine if choice.source == "upload" else "", (choice.source, choice.picked))
    return str(source)


def _follow(choice: CurvesChoice, source: str, **values: Any) -> None:
    before = (choice.source, choice.picked)
    choice.source = source
    for name, value in values.items():
        setattr(choice, name, value)
    if (choice.source, choice.picked) != before:
        choice.which = 0


def _upload(choice: CurvesChoice, key: str) -> None:
    turn = st.session_state.setdefault(f"{key}_turn", 0)
    place = f"{key}_upload_{turn}"
    st.file_uploader(
        "Drop pictures, or one zip of pictures",
        type=[*(suffix.removeprefix(".") for suffix in SUPPORTED_SUFFIXES), "zip"],
        accept_multiple_files=True,
        max_upload_size=ZIP_BYTES // 2**20,
        key=place,
        on_change=lambda: _take(choice, key, place),
    )
    if choice.source == "upload" and choice.uploads:
        names = ", ".join(photo.name for photo in choice.uploads[:4])
        more = f" and {len(choice.uploads) - 4} more" if len(choice.uploads) > 4 else ""
        st.caption(f"{len(choice.uploads)} of your pictures: {names}{more}.")
    elif choice.source == "upload" and choice.whole is not None:
        _said(choice, key)


def _take(choice: CurvesChoice, key: str, place: str) -> None:
    """Take what was dropped: pictures, or one zip; what is left out is told by name and reason, the rest is taken."""
    files = new_uploads(place)
    if not files:
        return
    st.session_state[f"{key}_turn"] += 1
    photos: list[Photo] = []
    whole: DataSet | None = None
    bad: list[str] = []
    for file in sorted(files, key=lambda each: not _is_zip(each)):
        try:
            if whole is not None:
                raise InputError("a zip is taken alone; drop this by itself.")
            if _is_zip(file):
                whole = _zip(file)
            elif len(photos) == MOST_IMAGES:
                raise InputError(f"at most {MOST_IMAGES} pictures are taken at once; put more of them into a zip.")
            elif sum(len(photo.data) for photo in photos) + file.size > SENT_BYTES:
                raise InputError(f"the pictures are together over {SENT_BYTES // 2**20} MB; put them into a zip.")
            else:
                photos.append(_photo(file))
        except (XaiError, OSError) as error:
            bad.append(f"{file.name}: {error}")
        drop_upload(file)
    if photos or whole is not None:
        choice.source, choice.uploads, choice.whole, choice.which = "upload", tuple(photos), whole, 0
    choice.problem = f"Left out: {' '.join(bad)}" if len(bad) > 1 else "".join(bad)


def _is_zip(file: Any) -> bool:
    return bool(file.name.lower().endswith(".zip"))


def _zip(file: Any) -> DataSet:
    """The images in an uploaded zip; raises `InputError`."""
    if file.size > ZIP_BYTES:
        raise InputError(f"it is larger than {ZIP_BYTES // 2**20} MB; put it on the server.")
    path = keep_upload(file.getvalue())
    try:
        return replace(open_archive(path), name=safe_name(file.name[:-4]))
    except InputError as error:  # people know the zip by their own name for it
        raise InputError(str(error).replace(path.name, "it", 1).removeprefix("it: ")) from error


def _photo(file: Any) -> Photo:
    """An uploaded picture; raises `ImageError` where it cannot be decoded."""
    if file.size > MAX_UPLOAD_BYTES:
        raise ImageError(f"it is larger than {MAX_UPLOAD_BYTES // 2**20} MB, the most that is read.")
    data = file.getvalue()
    load_image(data)
    return Photo(image_digest(data), file.name, "", data)


def _server(choice: CurvesChoice, key: str) -> None:
    place = f"{key}_path"

    def go() -> None:
        open_server(choice, st.session_state[place])

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Folder or zip on the server",
            choice.path,
            key=place,
            placeholder="/data/imagenetv2-matched-frequency-format-val",
            on_change=go,
            help="Class folders, ImageNet-V2, ImageNet's validation images, or a plain folder of pictures.",
        )
        if choice.source != "server":
            st.button("Open", key=f"{key}_open", on_click=go)
    st.caption("Read in place on the machine that serves this page; nothing is written there.")
    if choice.source == "server":
        _said(choice, key)


def _said(choice: CurvesChoice, key: str) -> None:
    """What was opened, and how many of its images are measured."""
    assert choice.whole is not None
    mark = " **Synthetic.**" if choice.whole.synthetic else ""
    st.caption(f"**{choice.whole.name}**: {choice.whole.sentence}.{mark}")
    left_out(choice.whole.problems)
    most = min(MOST_IMAGES, len(choice.whole))
    if len(choice.whole) > 1:
        offered = min(choice.count, most)
        label = "Images measured, drawn at random"
        label += f" (at most {most}; more in the terminal)" if len(choice.whole) > most else ""
        picked = int(st.number_input(label, 1, most, offered, key=f"{key}_count_{choice.whole.name}"))
        if picked != offered:  # a small set says nothing about the next one
            choice.count = picked


def networks(choice: CurvesChoice, key: str) -> None:
    """Classifiers, and methods beside the baselines, which are always measured."""
    controls.networks(choice, key)
    names = [spec.name for spec in METHODS if spec.name not in BASELINES]
    picked = st.multiselect(
        "Methods",
        names,
        format_func=lambda name: METHODS.get(name).title,
        default=list(choice.methods),
        key=choice.fresh(f"{key}_methods"),
        placeholder="Choose a method",
        select_all=False,
        wrap=True,
        help="White noise, random maps as coarse as a method's own, centre-Gaussian and edge map are measured beside "
        "them.",
    )
    if picked:
        choice.methods = tuple(name for name in METHODS.names() if name in picked)
    else:
        st.caption("Choose at least one; the last ones stay in use.")


def protocol(choice: CurvesChoice, key: str) -> None:
    """The protocol, and what it means in one line; substrates and parameters in a popover."""
    choice.protocol = (
        st.segmented_control(
            "Protocol",
            list(PROTOCOLS),
            default=choice.protocol,
            key=choice.fresh(f"{key}_protocol"),
            required=True,
            wrap=True,
        )
        or choice.protocol
    )
    chosen = get_protocol(choice.protocol)
    positions = len(chosen.counts((224, 224)))
    what = "the normalised drop in confidence" if chosen.drop else "the confidence left"
    st.caption(
        f"{chosen.title}: {positions} positions at 224 px. Insertion: {direction(True)}. Deletion draws {what}: "
        f"**{direction(chosen.drop)}**."
    )
    with st.container(horizontal=True):
        with st.popover("Settings", icon=":material/tune:", key=f"{key}_settings"):
            controls.view(choice, key)
            for metric, words in zip(CURVES, ("Insertion starts from", "Deletion ends at"), strict=True):
                setattr(choice, metric, _substrate(choice, metric, words, f"{key}_{metric}"))
            controls.settings(choice, (), key)
        place = choice.fresh(f"{key}_presets")  # closed again after a click
        with st.popover("Figures of the studies", icon=":material/menu_book:", key=place):
            st.caption("VGG16, ResNet50 and GoogLeNet, Grad-CAM, protocol of study 1.")
            st.button("Study 1, figures 6 and 7", key=f"{key}_preset", on_click=preset, args=(choice,))


def _substrate(choice: CurvesChoice, metric: str, words: str, key: str) -> str:
    """What stands for missing pixels: the protocol's own (""), another one, or a colour."""
    own = get_protocol(choice.protocol).substrate(metric)
    now = getattr(choice, metric)
    titles = {"": f"the protocol's own ({own})", "blur": "blur", "mean": "mean colour", "black": "black"}
    titles[COLOUR] = "a colour"
    first = COLOUR if now.startswith("#") else now
    kinds = list(titles)
    picked = st.selectbox(
        words, kinds, kinds.index(first), format_func=titles.__getitem__, key=choice.fresh(f"{key}_kind")
    )
    if picked != COLOUR:
        return picked
    value = now if now.startswith("#") else "#808080"
    return str(st.color_picker("Colour", value, key=f"{key}_colour"))


def preset(choice: CurvesChoice) -> None:
    """Study 1's figures 6 and 7."""
    recipe = FIGURES_6_7["recipe"]
    names = [name for name in FIGURES_6_7["models"] if name in MODELS]
    weights = {net.name: net.weights for net in choice.nets}
    choice.nets = tuple(Net(name, weights.get(name, "imagenet")) for name in names)
    choice.methods, choice.protocol, choice.baselines = recipe.methods, recipe.protocol, False
    choice.insertion = choice.deletion = ""
    choice.turn += 1


def use_random(choice: CurvesChoice, nets: tuple[Net, ...]) -> None:
    """Go on with random weights where there are no others; every figure says so."""
    choice.nets = tuple(Net(net.name, "random:0") if net in nets else net for net in choice.nets)


def which(choice: CurvesChoice, pictures: Pictures, key: str) -> None:
    """The image under the scrubber, beside the heading of its part."""
    names = [piece.item.key for piece in pictures.pieces]
    choice.which = min(choice.which, len(names) - 1)
    place = f"{key}_which"
    st.session_state[place] = choice.which
    left, right = st.columns([3, 2], vertical_alignment="center")
    left.subheader("One picture, step by step")
    right.selectbox(
        "Picture",
        range(len(names)),
        label_visibility="collapsed",
        format_func=names.__getitem__,
        key=place,
        on_change=lambda: setattr(choice, "which", st.session_state[place]),
    )
