"""Explanations of a training's validation images, made off the script's thread; the board keeps what is finished."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st
from PIL import Image
from torch import Tensor

from xai.data.spec import Item
from xai.errors import NotApplicableError
from xai.explain.call import attribute
from xai.explain.spec import METHODS
from xai.images.render import AUTO, COLORMAPS, OPACITY, Scale, input_picture, overlay, scale_for
from xai.studies.comparison import passes
from xai.studies.transfer.review import Seen
from xai.types import Attribution, Run
from xai.ui import runs
from xai.ui.figures import color_bar
from xai.ui.jobs import BOARD, SLOW_SECONDS, Job
from xai.ui.live import sentence
from xai.ui.transfer_learning import state as transfer
from xai.ui.transfer_learning.state import Shown
from xai.ui.transfer_learning.watched import Watched
from xai.ui.work import AUTO_PASSES, short

QUICK = ("cam", "attention")
"""Families whose maps cost little; work of the others leaves a thread to them."""


@dataclass(frozen=True)
class Look:
    """How maps are drawn."""

    colors: str = AUTO
    opacity: float = OPACITY


def pick_methods(key: str, first: Sequence[str]) -> list[str]:
    """The methods chosen for a picture's maps; at first those of `first` that there are."""
    names = [spec.name for spec in METHODS if spec.family != "baseline"]
    return st.multiselect(
        "Methods",
        names,
        [name for name in first if name in names],
        format_func=lambda name: METHODS.get(name).title,
        key=key,
        persist_state="session",
    )


def look(key: str) -> Look:
    """Colours and opacity, as chosen."""
    left, right = st.columns(2)
    names = [AUTO, *(each.name for each in COLORMAPS.values() if each.kind == "sequential")]
    colors = left.selectbox(
        "Colours",
        names,
        format_func=lambda name: COLORMAPS[name].title if name in COLORMAPS else "By the method's sign",
        help="For maps without a sign; signed maps are always blue, white and red.",
        key=f"{key}_colors",
        persist_state="session",
    )
    opacity = right.slider(
        "Share of the map",
        0.0,
        1.0,
        OPACITY,
        0.05,
        key=f"{key}_opacity",
        persist_state="session",
        help="0.4 as in study 4.",
    )
    return Look(colors, opacity)


@dataclass(frozen=True, eq=False)
class Maps:
    """What a network sees of an image, x (1,3,H,W), and its maps of some classes by one method."""

    x: Tensor
    found: tuple[Attribution, ...]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.x.nbytes + sum(each.values.nbytes for each in self.found)

    def drawn(self, place: int, how: Look) -> Image.Image:
        """A map over the picture, on one scale with the others."""
        return overlay(self.x[0], self.found[place].maps()[0], self.scale, how.colors, how.opacity)

    @property
    def scale(self) -> Scale:
        """The one scale of all of them."""
        return scale_for(list(self.found))

    def notice(self, place: int) -> str:
        """What belongs beside a map: why it is blank, or what is undecided in it; "" where nothing."""
        return self.found[place].notice()


def explain(
    live: Watched,
    shown: Shown,
    row: Seen,
    item: Item,
    method: str,
    targets: Sequence[int],
    show: Callable[[Maps], None],
) -> None:
    """Have an image explained by one method for some classes, and show what came out here, or why nothing did."""
    title = METHODS.get(method).title
    key = ("transfer map", *shown.ident, row.fold, row.index, method, tuple(targets))
    if stopped(live, key, f"Explain by {title}"):
        return

    def work(run: Run) -> Maps:
        run.report(0, 0, f"Loading {shown.title}")
        classifier = transfer.network(shown, row.fold)
        if len(targets) * passes(classifier, method) > AUTO_PASSES:
            classifier = classifier.private(run)  # others who look at this network need not wait
        x = classifier.preprocess(item.open(), shown.result.config["view"])
        parts = (run.part(place, 1, len(targets)) for place in range(len(targets)))
        return Maps(
            x, tuple(attribute(classifier, x, method, each, run=own) for each, own in zip(targets, parts, strict=True))
        )

    def told(job: Job) -> None:
        if isinstance(job.result, Maps):
            show(job.result)
        else:
            failed(job)

    cost = 0.01 if METHODS.get(method).family in QUICK else SLOW_SECONDS
    live.work(key, f"{title}, {shown.title}", work, told, cost=cost)


def sees(live: Watched, shown: Shown, row: Seen, item: Item) -> None:
    """Show, here, what the network sees of an image."""

    def work(run: Run) -> Maps:
        run.report(0, 0, f"Loading {shown.title}")
        return Maps(transfer.network(shown, row.fold).preprocess(item.open(), shown.result.config["view"]), ())

    def told(job: Job) -> None:
        if isinstance(job.result, Maps):
            picture = input_picture(job.result.x[0])
            st.image(picture, caption="What the network sees", output_format="PNG", width="stretch")
        else:
            failed(job)

    key = ("transfer sees", *shown.ident, row.fold, row.index)
    live.work(key, f"The image as {shown.title} sees it", work, told)


def stopped(live: Watched, key: Hashable, label: str) -> bool:
    """Whether this was cancelled; then there is a button that begins it again."""
    if key not in live.choice.stopped:
        return False
    st.button(
        label,
        icon=":material/play_arrow:",
        key=f"{transfer.KEY}_again_{short(key)}",
        on_click=partial(live.choice.stopped.discard, key),
    )
    return True


def failed(job: Job) -> None:
    """Why there is no result, in one sentence; nothing where it was cancelled."""
    said = runs.plain(sentence(job.error))
    if isinstance(job.problem, NotApplicableError):
        st.caption(said)
    elif said:
        st.warning(said, icon=":material/info:")
        st.button(
            "Try again",
            icon=":material/refresh:",
            key=f"{transfer.KEY}_retry_{short(job.key)}",
            on_click=partial(BOARD.forget, job.key),
        )


def caution(method: str) -> None:
    """What has to be known about a method beside its maps."""
    if told := METHODS.get(method).caution:
        st.caption(f"{METHODS.get(method).title}: {told}")


def pictures(maps: Maps, how: Look, captions: Mapping[int, str], **size: Any) -> None:
    """The maps beside each other; captions by place."""
    for place, column in zip(captions, st.columns(len(captions)), strict=True):
        with column:
            st.image(maps.drawn(place, how), caption=captions[place], output_format="PNG", **size)
            if reason := maps.notice(place):
                st.caption(reason)
    color_bar(maps.scale.signed, how.colors, maps.scale.sentence)
