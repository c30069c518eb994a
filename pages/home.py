"""Start: what each page answers."""

import streamlit as st

from xai.ui import shell

shell.enter()

st.title("What does an image classifier look at?")
