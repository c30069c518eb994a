"""Bias audit: catch a network that learned the wrong thing, and measure it."""

import streamlit as st

from xai.ui import shell
from xai.ui.bias_audit import forms as bias_forms
from xai.ui.bias_audit import parts as bias_parts
from xai.ui.bias_audit import photo as bias_photo
from xai.ui.bias_audit import pictures as bias_pictures
from xai.ui.bias_audit import state as bias
from xai.ui.bias_audit import training as bias_training

shell.enter()

st.title("Bias audit")
st.markdown("Does a network decide by what it should, or by a shortcut? Known ground truth makes it an experiment.")

place = st.container()
tabs = st.tabs(
    ["Finding", "rho slider", "Mitigation", "Detector", "Your own data", "New run"], key="ba_tabs", on_change="rerun"
)
with tabs[5]:
    found = bias.result()
    bias_training.live()
    if tabs[5].open:
        bias_forms.study()
with place:
    bias.head(found)
with tabs[0]:
    if tabs[0].open:
        bias_pictures.gallery(found)
        left, right = st.columns(2, gap="large")
        with left:
            bias.groups(found.audit)
        with right:
            bias.interventions(found.audit)
        bias_pictures.pairs(found)
        bias.shares(found.audit)
        bias_training.finished(found)
with tabs[1]:
    if tabs[1].open:
        bias_parts.sweep(found)
with tabs[2]:
    if tabs[2].open:
        bias_parts.mend(found)
        bias_pictures.mended(found)
with tabs[3]:
    if tabs[3].open:
        bias_parts.detector(found)
with tabs[4]:
    if tabs[4].open:
        bias_forms.own()
        bias_photo.photograph(found)
