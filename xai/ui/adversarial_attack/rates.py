"""The curves over many pictures: how many are turned at each epsilon, and how far their explanations move."""

from __future__ import annotations

import base64
from functools import partial

import streamlit as st

from xai.attacks.call import TOLERANCE
from xai.bundles.attacks import csv_bytes, curve_table, step_text
from xai.metrics.shift import SHIFTS
from xai.ui import downloads, figures
from xai.ui.adversarial_attack.many import SetFound
from xai.ui.adversarial_attack.state import AttackChoice
from xai.ui.jobs import Job
from xai.words import counted

PNG = "attacked, saved as PNG"
NOISE = "noise of equal norm"


def show_set(job: Job, choice: AttackChoice, words: str) -> None:
    """The security curve, the shift, and one row a picture; words: the command that makes the same."""
    if not isinstance(job.result, SetFound):
        if job.error:
            st.warning(job.error)
        return
    found: SetFound = job.result
    curve, norm = found.curve, choice.plan.norm
    targeted = choice.plan.target is not None
    random = choice.nets[0].weights.startswith("random")
    mark = " (RANDOM WEIGHTS)" if random else ""
    unit = "ε in 1/255 (L∞ norm)" if norm == "linf" else "ε in pixel units of [0, 1] (L2 norm)"
    x = (curve.epsilons * (255 if norm == "linf" else 1)).tolist()
    protocol = f"{found.protocol} {curve.shortfall}".rstrip()
    over = f"{choice.nets[0].title}, mean over {counted(curve.success.n, 'picture')} with its 95 %"
    left, right = st.columns(2, gap="large", vertical_alignment="bottom")
    with left:
        what = "that reach the class" if targeted else "whose class changes"
        lines = [("attacked", curve.success), (NOISE, curve.noise_turns), (PNG, curve.survives_png)]
        made = figures.bands(x, lines, unit, f"share of pictures {what}", (-0.02, 1.02))
        made.update_traces(line_dash="dot", selector={"name": PNG})  # mostly it lies on the line of the attack
        title = "How many reach the class" if targeted else "How many are turned"
        figures.chart(made, f"{title}{mark}", f"{over} Wilson interval. {protocol}", "aa_rates")
    with right:
        measure = st.selectbox(
            "Shift of the explanation", list(SHIFTS), format_func=lambda n: SHIFTS[n].title, key="aa_measure"
        )
        lines = [("attacked", curve.shift["attack"][measure]), (NOISE, curve.shift["noise"][measure])]
        made = figures.bands(x, lines, unit, SHIFTS[measure].title)
        foot = f"{over} bootstrap interval, maps of the class predicted first, clean to changed. {protocol}"
        figures.chart(made, f"Shift of the explanation{mark}", foot, "aa_shifts")  # of which one, the axis says
    never = f"No epsilon tried {'reached the class with' if targeted else 'turned'} {curve.never} of the pictures. "
    st.caption(
        (":red-background[Random weights]: " if random else "")
        + f"{curve.protocol} {never if curve.never else ''}"
        + "The smallest epsilon of each picture is an upper bound, found by bisection to "
        + f"{step_text(TOLERANCE[norm], norm)}."
    )
    rows = [
        {
            "picture": name,
            "says": label,
            "probability": p,
            "smallest epsilon": value,
            "becomes": new,
        }
        for name, label, p, value, new in zip(
            found.names, found.says, found.sure, found.smallest, found.becomes, strict=True
        )
    ]
    views = [f"data:image/png;base64,{base64.b64encode(view).decode()}" for view in found.views]
    st.dataframe(
        [{"seen": view} | row for view, row in zip(views, rows, strict=True)],
        hide_index=True,
        row_height=64,
        column_config={
            "seen": st.column_config.ImageColumn(width=72),
            "probability": st.column_config.NumberColumn(format="percent"),
        },
    )
    facts = {"network": choice.nets[0].title + mark.lower(), "protocol": f"{found.protocol} {curve.protocol}"}
    tables = {"Pictures": rows, "Curves": curve_table(curve)}
    with st.container(horizontal=True):
        for what, key in (("Pictures", "aa_set_csv"), ("Curves", "aa_set_curves")):
            data = partial(csv_bytes, [row | facts for row in tables[what]])
            name = f"olhar-attack-{what.lower()}.csv"
            downloads.button(f"{what} as CSV", data, name, "text/csv", key=key)
    st.markdown("**The same in the terminal**")
    st.code(words, language=None, wrap_lines=True)
