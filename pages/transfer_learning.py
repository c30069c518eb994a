"""Transfer learning: train on one's own images, compare runs, go through the errors with explanations."""

import streamlit as st

from xai.ui import shell
from xai.ui.session import current
from xai.ui.transfer_learning import figures as transfer_figures
from xai.ui.transfer_learning import forms as transfer_form
from xai.ui.transfer_learning import object as transfer_object
from xai.ui.transfer_learning import pairs as transfer_pairs
from xai.ui.transfer_learning import review as transfer_review
from xai.ui.transfer_learning import show as transfer_show
from xai.ui.transfer_learning import state as transfer
from xai.ui.transfer_learning.watched import Watched

shell.enter()

TABS = ("Curves", "Figures", "Review", "Flips between models", "Looks at the object?")

st.title("Transfer learning")
with st.expander(
    "Train on images", icon=":material/model_training:", key=f"{transfer.KEY}_form", on_change="rerun"
) as form:
    if form.open:
        transfer_form.panel()
with st.expander(
    "Import a trained network", icon=":material/upload:", key=f"{transfer.KEY}_take", on_change="rerun"
) as taking:
    if taking.open:
        transfer_form.take_in()
several = transfer.pick()
transfer.live()
transfer_show.headline(several[0])

work = Watched(current(), transfer.KEY)
threshold = float(st.session_state.get(f"{transfer.KEY}_threshold", 0.5))
for tab, name in zip(st.tabs(TABS, key=f"{transfer.KEY}_tabs", on_change="rerun"), TABS, strict=True):
    with tab:
        if not tab.open:
            continue
        if name == "Curves":
            transfer_show.curves(several)
        elif name == "Figures":
            transfer_figures.measured(several)
        elif name == "Review":
            transfer_review.panel(work, several[0], threshold)
        elif name == "Flips between models":
            transfer_pairs.flipped(work, several)
        else:
            transfer_object.panel(work, several)
work.watch(st.empty())
