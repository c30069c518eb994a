"""A zip of class folders that a person sends: kept once, and called by its own name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from xai.data import Problem
from xai.errors import XaiError
from xai.ui import held
from xai.ui.work import Recent
from xai.uploads import keep_upload
from xai.words import counted

ZIP_BYTES = 500 * 2**20
"""The largest zip that is taken; larger ones are opened where they lie. (Streamlit would say 1GB of 512 MB.)"""

_kept: Recent[Path] = Recent(8)


@dataclass(frozen=True)
class Sent:
    """A zip that was sent: where it lies, which is named by its digest, and its own name; "" without one."""

    place: str = ""
    name: str = ""

    def told(self, text: str) -> str:
        """A sentence about data, with the zip's own name in the place of the digest."""
        digest = Path(self.place)
        return text.replace(digest.name, self.name).replace(digest.stem, self.name) if self.place else text


def left_out(problems: Sequence[Problem | Mapping[str, Any]]) -> None:
    """The files that were left out, by name and reason; nothing where there are none."""
    rows = [asdict(each) if isinstance(each, Problem) else each for each in problems]
    if rows:
        with st.expander(f"{counted(len(rows), 'file')} left out"):
            st.dataframe([{"file": row["key"], "reason": row["reason"]} for row in rows], hide_index=True)


def named(name: str) -> str:
    """What to call data that a run names so: a zip that was sent lies under its digest, which tells nobody anything."""
    return "a zip that was sent" if re.fullmatch("[0-9a-f]{64}", Path(name).stem) else name


def class_zip(key: str) -> Sent | None:
    """The zip that was sent, none where nothing was; None where it is too large, which is said."""
    file = st.file_uploader(
        "A zip with a folder of images for each class", ["zip"], key=key, max_upload_size=ZIP_BYTES // 2**20
    )
    held.keep(key, "zip", file.name if file is not None else "")
    if file is None:
        return Sent()
    if file.size > ZIP_BYTES:
        st.warning(f"The zip is larger than {ZIP_BYTES // 2**20} MB; put it on the server.", icon=":material/info:")
        return None
    try:
        path = _kept.get(file.file_id, lambda: keep_upload(file.getvalue()))
    except XaiError as error:
        st.warning(f"The zip was not taken: {error}", icon=":material/info:")
        return None
    return Sent(str(path), file.name)
