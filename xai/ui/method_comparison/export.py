"""What a person takes away: the bundle, the link, the command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import streamlit as st

from xai.bundles.explanations import Bundle, Subject, bundle_zip
from xai.bundles.explanations import Look as Drawn
from xai.files import safe_name
from xai.images.render import AUTO, OPACITY
from xai.models.classifier import VIEWS
from xai.params import value_text
from xai.studies.comparison import Tile
from xai.ui import downloads
from xai.ui.live import Live
from xai.ui.session import Choice, link
from xai.ui.tiles import DISPLAY
from xai.ui.work import Net, Shown


def drawn(choice: Choice) -> Drawn:
    """How the tiles are drawn now, as the bundle takes it."""
    colors = choice.display["colors"]
    shared = choice.display["scale"] == "shared"
    return Drawn(AUTO if colors == DISPLAY["colors"] else colors, choice.display["opacity"], shared)


def source(choice: Choice) -> str:
    """The picture as a command takes it."""
    name = choice.photo.name
    return f"sample:{choice.photo.sample}" if choice.photo.sample else f"./{name}" if name.startswith("-") else name


def command(choice: Choice) -> str:
    """The terminal command that makes the same maps; one for each network where their layers were chosen."""
    own = any(net.text in choice.layers for net in choice.nets)
    if own and len(choice.nets) > 1:
        return "\n".join(_command(choice, [net], f"out/{net.name}") for net in choice.nets)
    return _command(choice, choice.nets, "out")


def _command(choice: Choice, nets: Sequence[Net], out: str) -> str:
    words = ["python", "-m", "xai", "explain", source(choice)]
    words += ["--model", *(net.name for net in nets)]
    words += ["--weights", *(net.weights for net in nets)] if any(net.weights != "imagenet" for net in nets) else []
    words += ["--method", *choice.methods]
    words += ["--target", str(choice.target)] if choice.target is not None else []
    layers = [choice.layers[net.text] for net in nets if net.text in choice.layers]
    words += ["--layer", layers[0]] if layers else []
    words += ["--view", choice.view] if choice.view != VIEWS[0] else []
    params = [
        f"{method}.{name}={value_text(value)}"
        for method in choice.methods
        for name, value in choice.params.get(method, {}).items()
    ]
    words += ["--param", *params] if params else []
    look = drawn(choice)
    words += ["--colormap", look.colors] if look.colors != AUTO else []
    words += ["--opacity", f"{look.opacity:g}"] if look.opacity != OPACITY else []
    words += ["--shared-scale"] if look.shared else []
    return shlex.join([*words, "--out", out])


def bundle(choice: Choice, shown: Sequence[Shown]) -> bytes:
    """The zip of the maps that are finished: pictures, raw arrays, manifest, report, command."""
    image = choice.photo.decoded()
    nets = {each.ask.scene.net: each.ask.scene.net.load() for each in shown}
    tiles = tuple(
        Tile(nets[s.ask.scene.net], s.ask.method, s.ask.scene.tensor(nets[s.ask.scene.net]), s.attribution)
        for s in shown
    )
    subject = Subject(
        name=choice.photo.name,
        source=source(choice),
        sha256=choice.photo.sha,
        size=image.size,
        tiles=tiles,
        view=choice.view,
        notes=tuple(image.info.get("notes", ())),
    )
    weights = {found.fingerprint: net.weights for net, found in nets.items() if net.of_file}
    return bundle_zip([subject], Bundle(drawn(choice), command(choice), weights=weights))


def panel(choice: Choice, live: Live, names: Sequence[str]) -> None:
    """Download, link and command."""

    def data() -> bytes:
        return bundle(choice, [found for name in names if (found := live.shown(name)) is not None])

    left, right = st.columns([2, 3], gap="large")
    with left:
        st.markdown("**Everything as one file**")
        st.caption("Pictures, raw arrays, a report that opens by itself, and a manifest with versions and hashes.")
        name = f"olhar-{safe_name(choice.photo.name.rsplit('.', 1)[0])}.zip"
        downloads.button("Download the finished maps", data, name, "application/zip", key="mc_zip")
    with right:
        st.markdown("**A link that restores these choices**")
        if not choice.photo.sample:
            st.caption("Your own picture is not in the link: it stays on this machine. Drop it in again.")
        if any(net.of_file for net in choice.nets):
            st.caption("Your own weights are not in the link; it names the network with its ImageNet weights.")
        st.code(link(choice), language=None, wrap_lines=True)
        st.markdown("**The same in the terminal**")
        st.code(command(choice), language="bash", wrap_lines=True)
