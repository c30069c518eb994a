"""Metric curves: insertion and deletion beside baselines, picture by picture and on average."""

import streamlit as st

from xai.ui import shell
from xai.ui.live import Live
from xai.ui.metric_curves import forms as curves_forms
from xai.ui.metric_curves import live as curves_live
from xai.ui.metric_curves import scrub as curves_scrub
from xai.ui.metric_curves import state as curves

shell.enter()

KEY = "cu"
choice = curves.current()
head = st.columns([1, 1], vertical_alignment="center")
head[0].title("Metric curves")
progress = head[1].empty()
said = st.empty()

top = st.columns([12, 11, 10], gap="large")
with top[0]:
    source = curves_forms.pictures(choice, KEY)
with top[1]:
    curves_forms.networks(choice, KEY)
with top[2]:
    curves_forms.protocol(choice, KEY)

pictures = choice.pictures()
live = Live(choice, KEY)
if not pictures.pieces:
    st.info("Choose pictures above: samples, your own, or a folder on the server.")
else:
    curves_forms.which(choice, pictures, KEY)
    items = curves_live.one(choice, live, pictures)
    curves_scrub.mount(f"{KEY}_scrub", items, "The curves of this picture appear here.")
    st.subheader("Mean over the pictures" if len(pictures.pieces) > 1 else "The same in numbers")
    curves_live.every(choice, live, pictures, KEY)

asked = (source, pictures.key, tuple(curves.to_query(choice).items()))
if told := choice.told(asked):
    said.warning(told, icon=":material/info:")
live.follow(progress)
