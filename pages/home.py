"""Start: one picture explained, and what each page answers."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from xai.explain.spec import METHODS
from xai.settings import ASSETS
from xai.ui import grids, shell, tiles
from xai.ui.live import Live
from xai.ui.session import current, first_methods
from xai.ui.work import Scene

shell.enter()

choice = current()
st.title("What does an image classifier look at?")
st.markdown(
    "A classifier gives a name and a number. These pages show which parts of a picture the answer came from, by "
    "several methods side by side, and whether such a map can be believed. Everything runs on this machine."
)

live = Live(choice, "home")
scene = Scene(choice.photo, choice.view, choice.nets[0])
live.look("row0", scene)
cells = [("row0", "Input")]
for name in first_methods():
    cells.append((f"row0.{name}", METHODS.get(name).title))
    live.explain(cells[-1][0], grids.ask(choice, scene, name, None, choice.target))
progress, said = st.empty(), st.empty()
title = f"{choice.photo.name}, explained in {scene.net.title}"
grids.grid(choice, live, "home_grid", [tiles.Row(title, tuple(cells))])

columns: list[DeltaGenerator] = []
for page in shell.pages():
    columns = columns or st.columns(2, gap="medium")  # row by row, so that a telephone keeps the order
    with columns.pop(0).container(border=True, height="stretch"):
        st.page_link(page.file, label=f"**{page.title}**", icon=page.icon)
        st.markdown(page.question)
        picture = ASSETS / "pages" / f"{page.slug}.png"
        if picture.exists():
            st.image(str(picture), output_format="PNG", width="stretch")

live.follow(progress)
if told := live.failure(scene):
    said.warning(told, icon=":material/info:")
