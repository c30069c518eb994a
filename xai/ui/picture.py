"""Choosing a picture: samples, upload, drop and paste; and showing which part of it the network sees."""

from __future__ import annotations

import base64
import io
from typing import Any

import streamlit as st

from xai.errors import ImageError
from xai.images.decode import SUPPORTED_SUFFIXES, image_digest, load_image
from xai.settings import MAX_UPLOAD_BYTES
from xai.ui import held
from xai.ui.browser import component
from xai.ui.memory import drop_upload, new_uploads
from xai.ui.session import Choice
from xai.ui.work import Photo, Recent, samples

PREVIEW_SIDE = 520
THUMBNAIL_SIDE = 96

_picker = component("olhar_picker", ("picker.js",), "picker.css")
_previews: Recent[str] = Recent(32)


def pick(choice: Choice, key: str, slot: str) -> None:
    """The picture, the samples and the uploader; the choice follows what a person does.

    slot: the live slot whose network's view is drawn on the picture as a frame.
    """
    image = choice.photo.decoded()
    shown = f"{choice.photo.name}, {image.width} × {image.height} pixels"
    turn = st.session_state.setdefault(f"{key}_turn", 0)
    upload = f"{key}_upload_{turn}"
    data = {
        "picture": preview(choice.photo, PREVIEW_SIDE),
        "alt": f"The picture being explained: {choice.photo.name}",
        "ratio": image.width / image.height,
        "slot": slot,
        "caption": "; ".join((shown, *image.info.get("notes", ()))),
        "samples": [{"name": name, "picture": preview(each, THUMBNAIL_SIDE)} for name, each in samples().items()],
        "chosen": choice.photo.sample,
        "uploader": upload,
    }
    _picker(key=f"{key}_picker", data=data, on_sample_change=lambda: _take_sample(choice, f"{key}_picker"))
    st.file_uploader(
        "Drop or paste your own picture anywhere, or",
        type=[suffix.removeprefix(".") for suffix in SUPPORTED_SUFFIXES],
        max_upload_size=MAX_UPLOAD_BYTES // 2**20,
        key=upload,
        on_change=lambda: _take_upload(choice, key, upload),
    )
    held.keep(key, "picture", choice.photo.name if not choice.photo.sample else "", choice.photo.sha)


def _take_sample(choice: Choice, key: str) -> None:
    name = str(getattr(st.session_state.get(key), "sample", ""))
    if name in samples():
        use(choice, samples()[name])


def _take_upload(choice: Choice, key: str, upload: str) -> None:
    """Take the uploaded file, or say in one sentence why not and keep everything as it is."""
    for file in new_uploads(upload):
        st.session_state[f"{key}_turn"] += 1  # a fresh uploader: nothing of a bad file stays
        try:
            use(choice, uploaded(file))
        except ImageError as error:
            choice.problem = str(error)
        drop_upload(file)


def uploaded(file: Any) -> Photo:
    """The picture in an uploaded file; raises `ImageError` where there is none."""
    if file.size > MAX_UPLOAD_BYTES:
        raise ImageError(f"{file.name} is larger than {MAX_UPLOAD_BYTES // 2**20} MB, the most that is read.")
    load_image(file)
    data = file.getvalue()
    return Photo(image_digest(data), file.name, "", data)


def use(choice: Choice, photo: Photo) -> None:
    """Explain another picture: its own predicted class, nothing held over from the last one."""
    choice.photo, choice.target, choice.problem = photo, None, ""


def preview(photo: Photo, side: int) -> str:
    """The picture, at most `side` pixels long, as a data address."""

    def make() -> str:
        image = photo.decoded().copy()
        image.thumbnail((side, side))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=88)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

    return _previews.get((photo.sha, side), make)
