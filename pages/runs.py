"""Runs: what is under way, what was run, with which settings."""

import streamlit as st

from xai.ui import runs, shell

shell.enter()

st.title("Runs")
st.markdown(
    "Each run is a process of its own and a folder on this machine: it goes on when the page or the server is closed, "
    "and runs on one device wait for one another."
)
runs.all_runs()
