"""The randomisation check in the page: does the map change when the network's weights are shuffled?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import streamlit as st

from xai.explain.spec import METHODS
from xai.studies.randomisation.study import RandomisationResult, randomisation_check
from xai.types import Run
from xai.ui import clicks, figures, tiles
from xai.ui.grids import ask, grid
from xai.ui.jobs import BOARD, Job
from xai.ui.live import Live
from xai.ui.method_comparison.panels import one_method, one_of, wait_for_look
from xai.ui.session import Choice
from xai.ui.tiles import Row
from xai.ui.work import Ask, Look, Shown, short

MOST_MAPS = 13
"""Maps that the check makes at most: the trained network's, and one a stage."""

MEASURES = ("Rank correlation", "Rank correlation of sizes", "SSIM of sizes")


def panel(choice: Choice, live: Live, looks: Sequence[Look]) -> None:
    """Choose a method, see the cost, run the check, read the finding."""
    st.caption(
        "The network's weights are shuffled from the top down, one block after another, and the map is made again each "
        "time. A map that stays as it was does not show what the network learned."
    )
    if not looks:
        return wait_for_look()
    left, middle, right = st.columns([3, 3, 4], vertical_alignment="bottom")
    with left:
        look = one_of(looks, "mc_sanity_net")
        names = [spec.name for spec in METHODS if spec.family != "baseline"]
        method = one_method(choice, names, "mc_sanity_method")
    asked = ask(choice, look.scene, method, choice.layers.get(look.scene.net.text), choice.target)
    asked = replace(asked, target=look.order[0] if asked.target is None else asked.target)
    key = ("randomise", *asked.key)
    job = BOARD.get(key)
    wanted = (job is not None or key in choice.go) and key not in choice.stopped
    with middle:
        clicks.button("Run the check", partial(_start, choice, key), key="mc_sanity_run", disabled=wanted)
    with right:
        st.caption(_cost(asked))
    if wanted:
        live.work(
            key,
            f"Randomisation check of {METHODS.get(method).title}",
            partial(_check, asked),
            partial(_show, choice, live, asked, look),
            cost=10.0,
        )
    return None


def _start(choice: Choice, key: tuple[object, ...]) -> None:
    choice.stopped.discard(key)
    choice.go.add(key)
    BOARD.forget(key)


def _cost(asked: Ask) -> str:
    """What the check will take, from the time of one map if it has been made."""
    job = BOARD.get(asked.key) or BOARD.get(replace(asked, go=True).key)
    if job is None or not isinstance(job.result, Shown):
        return f"At most {MOST_MAPS} maps of this method."
    seconds = MOST_MAPS * job.result.attribution.seconds
    return f"At most {MOST_MAPS} maps, about {max(1, round(seconds))} s on this machine."


def _check(asked: Ask, run: Run) -> RandomisationResult:
    classifier = asked.scene.net.load()
    x = asked.scene.tensor(classifier)
    layer = asked.layer or (classifier.default_layer if METHODS.get(asked.method).uses_layer else None)
    return randomisation_check(
        classifier, x, asked.method, asked.target, layer, seed=asked.seed, run=run, **dict(asked.params)
    )


def _show(choice: Choice, live: Live, asked: Ask, look: Look, job: Job) -> None:
    if not isinstance(job.result, RandomisationResult):
        st.warning(job.error or "Cancelled.", icon=":material/info:")
        return
    found = job.result
    (st.success if found.changes else st.warning)(found.verdict)
    signed = METHODS.get(asked.method).signed
    lines = zip(MEASURES, (found.spearman, found.spearman_abs if signed else None, found.ssim), strict=True)
    st.plotly_chart(
        figures.curves(
            found.stages,
            [
                (name, [None if value != value else value for value in values[:, 0].tolist()])
                for name, values in lines
                if values is not None
            ],
            "Shuffled down to this block",
            "Likeness to the trained network's map",
            (-1.0, 1.0),
        ),
        width="stretch",
        key="mc_sanity_chart",
    )
    cells = []
    for place, name in enumerate(("trained", *found.stages)):
        slot, packet_id = f"sanity{place}", short("sanity", *job.key, place)  # type: ignore[misc]
        label = look.labels[int(found.target[0])]
        caption = f"{label}, {tiles.percent(float(found.probability[place, 0]))}"
        blank = "This network gave no finite map." if place and bool(found.overflowed[place - 1, 0]) else ""
        values = found.maps[place, 0].numpy()
        make = partial(tiles.plain_packet, packet_id, look, values, signed, caption, blank)
        live.give(slot, look.scene, packet_id, make)
        cells.append((slot, name))
    grid(choice, live, "mc_sanity_grid", [Row("", tuple(cells))])
    st.caption(found.protocol.sentence)
