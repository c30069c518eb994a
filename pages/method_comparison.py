"""Method comparison: one picture, explained by several methods and networks side by side."""

import streamlit as st

from xai.explain.spec import METHODS
from xai.ui import controls, grids, picture, shell, tiles
from xai.ui.browser import address
from xai.ui.live import Live, sentence
from xai.ui.method_comparison import export, panels, sanity
from xai.ui.method_comparison.bars import bars
from xai.ui.session import current, to_query
from xai.ui.work import Scene

shell.enter()

KEY = "mc"
PANELS = ("Do they agree?", "Layer explorer", "Does the class matter?", "Do the weights matter?", "Save and share")

choice = current()
head = st.container(key="olhar-head").columns([1, 1], vertical_alignment="center")
head[0].title("Method comparison")
progress = head[1].empty()
said = st.empty()

whole = st.container(horizontal=True, key="olhar-page")
with whole.container(key="olhar-picture"):
    picture.pick(choice, KEY, "row0")
    controls.view(choice, KEY)
with whole.container(key="olhar-verdict"):
    controls.networks(choice, KEY)
    verdict = st.container()
with whole.container(key="olhar-methods", gap="xsmall"):
    controls.methods(choice, KEY)
    with st.container(horizontal=True):
        settings = st.popover("Settings", icon=":material/tune:", key=f"{KEY}_settings", on_change="rerun")
        presets = st.popover(
            "Figures of the studies", icon=":material/menu_book:", key=f"{KEY}_presets", on_change="rerun"
        )
maps_place = whole.container(key="olhar-maps")

live = Live(choice, KEY)
scenes = [Scene(choice.photo, choice.view, net) for net in choice.nets]
looks = [look for scene in scenes if (look := live.looked(scene)) is not None]
if settings.open:
    with settings:
        controls.settings(choice, looks, KEY)
if presets.open:
    with presets:
        controls.presets(choice, KEY)
with verdict:
    bars(f"{KEY}_bars", choice, scenes)
    controls.target(choice, looks[0] if looks else None, KEY)

rows = []
for place, scene in enumerate(scenes):
    live.look(f"row{place}", scene)
    cells = [(f"row{place}", "Input")]
    for name in choice.methods:
        cells.append((f"row{place}.{name}", METHODS.get(name).title))
        layer = choice.layers.get(scene.net.text)
        live.explain(cells[-1][0], grids.ask(choice, scene, name, layer, choice.target))
    rows.append(tiles.Row(scene.net.title if len(scenes) > 1 else "", tuple(cells)))

grid = f"{KEY}_grid"
with maps_place:
    tiles.grid(
        grid,
        rows,
        choice.display,
        on_act=lambda: live.act_from(grid),
        on_display=lambda: live.display_from(grid),
        jump=("Methods", "olhar-methods"),
    )
if not choice.methods:
    st.info("Choose a method above to see what the network looked at.")

maps = [slot for slot in live.slots if "." in slot]
tabs = st.tabs(PANELS, key=f"{KEY}_tabs", on_change="rerun")
for tab, name in zip(tabs, PANELS, strict=True):
    with tab:
        if not tab.open:
            continue
        if name == "Do they agree?":
            panels.agreement(choice, live, maps)
        elif name == "Layer explorer":
            panels.layers(choice, live, looks)
        elif name == "Does the class matter?":
            panels.classes(choice, live, looks)
        elif name == "Do the weights matter?":
            sanity.panel(choice, live, looks)
        else:
            export.panel(choice, live, maps)

if told := choice.told((choice.photo.sha, choice.nets, tuple(to_query(choice).items()))):
    said.warning(sentence(told), icon=":material/info:")
address("method_comparison", to_query(choice))
live.follow(progress)
