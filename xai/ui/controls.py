"""What a person sets: networks, view, class, methods and their parameters. The widgets read and write the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import streamlit as st

from xai.errors import XaiError
from xai.explain.spec import FAMILIES, METHODS, MethodSpec
from xai.models.classifier import VIEWS
from xai.models.spec import MODELS
from xai.models.store import has_one_output, stated_output, with_output
from xai.outputs import NO_YES, Output
from xai.ui import held
from xai.ui.forms import form, parameters
from xai.ui.nets import OF_RUN, net_labels, net_names, net_title
from xai.ui.session import Choice
from xai.ui.work import Look, Net
from xai.uploads import keep_upload

FAMILY_TITLES = {
    "cam": "Class activation",
    "gradient": "Gradients",
    "relevance": "Relevance",
    "perturbation": "Perturbation",
    "attention": "Attention",
    "baseline": "Baselines",
}
VIEW_TITLES = {"crop": "Centre crop", "whole": "Whole picture"}

PRESETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Study 1, figure 1: VGG16": (("vgg16",), ("gradcam", "guided_backprop", "guided_gradcam")),
    "Study 3: three networks": (("vgg16", "resnet50", "densenet121"), ("deconvnet", "lrp")),
}
"""Figures of the studies: (networks, methods)."""


def view(choice: Choice, key: str) -> None:
    """Centre crop or whole picture."""
    picked = st.segmented_control(
        "What the network sees",
        VIEWS,
        format_func=lambda name: VIEW_TITLES.get(name, name),
        default=choice.view,
        key=f"{key}_view",
        required=True,
        label_visibility="collapsed",
    )
    choice.view = picked or VIEWS[0]


def networks(choice: Choice, key: str) -> None:
    """One or more classifiers; a network on random weights stays on them."""
    weights = {net.name: net.weights for net in choice.nets}
    picked = st.multiselect(
        "Classifiers",
        net_names([net.name for net in choice.nets]),
        format_func=net_title,
        default=[net.name for net in choice.nets],
        key=choice.fresh(f"{key}_nets"),
        placeholder="Choose a classifier",
        select_all=False,
        wrap=True,
    )
    if picked:
        choice.nets = tuple(Net(name, weights.get(name, "imagenet")) for name in picked)
    else:
        st.caption(f"Choose at least one; {choice.nets[0].title} stays in use.")
    for net in choice.nets:
        own = Path(stated_output(net.weights)[0]).name if net.weights.startswith("file:") else ""
        held.keep(f"{key}_weights_{net.name}", f"weights of {net.title},", own, net.weights)


def target(choice: Choice, look: Look | None, key: str) -> None:
    """Search among all classes; empty means the predicted class of each network."""
    labels = look.labels if look is not None else net_labels(choice.nets[0].name)
    value = choice.target if choice.target is not None and choice.target < len(labels) else None
    st.session_state[f"{key}_target"] = value
    choice.target = st.selectbox(
        "Class to explain",
        range(len(labels)),
        format_func=lambda index: f"{labels[index]} ({index})",
        key=f"{key}_target",
        placeholder=f"Search {len(labels):,} classes",
        label_visibility="collapsed",
        on_change=lambda: setattr(choice, "target", st.session_state[f"{key}_target"]),
    )


def methods(choice: Choice, key: str) -> None:
    """Every method that there is, by family."""
    picked: list[str] = []
    for family, specs in by_family().items():
        names = [spec.name for spec in specs]
        chosen = [name for name in choice.methods if name in names]
        picked += st.pills(
            FAMILY_TITLES.get(family, family.capitalize()),
            names,
            selection_mode="multi",
            format_func=lambda name: METHODS.get(name).title,
            default=chosen,
            key=choice.fresh(f"{key}_methods_{family}"),
            help="  \n".join(f"**{spec.title}** {spec.summary}" for spec in specs),
        )
    choice.methods = tuple(name for name in METHODS.names() if name in picked)


def by_family() -> dict[str, list[MethodSpec]]:
    """The registered methods, family by family."""
    found: dict[str, list[MethodSpec]] = {family: [] for family in FAMILIES}
    for spec in METHODS:
        found.setdefault(spec.family, []).append(spec)
    return {family: specs for family, specs in found.items() if specs}


def settings(choice: Choice, looks: Sequence[Look], key: str) -> None:
    """Layer of the methods that have one, and the parameters of the chosen methods."""
    weights(choice, key)
    specs = [METHODS.get(name) for name in choice.methods]
    if any(spec.uses_layer for spec in specs):
        for look in looks:
            layer(choice, look, f"{key}_layer")
    for spec in specs:
        if parameters(spec):
            st.markdown(f"**{spec.title}** · [{spec.source.citation.split(',')[0]}]({spec.source.link})")
            with st.container(horizontal=True, vertical_alignment="bottom"):
                choice.params[spec.name] = form(spec, choice.params.get(spec.name, {}), f"{key}_param")


WEIGHTS = {"imagenet": "ImageNet", "random:0": "Random (marked on every tile)"}
WEIGHT_SUFFIXES = ("pth", "pt", "safetensors")


OUTPUTS = {"softmax": "One of the classes (softmax)", "sigmoid": "Each class for itself (sigmoid)"}


def weights(choice: Choice, key: str) -> None:
    """What each network has learned: ImageNet, nothing, or a file of the person's own, whose outputs are asked for."""
    for net in choice.nets:
        if net.name.startswith(OF_RUN):  # it has its own
            continue
        turn = f"{key}_weights_{net.name}"
        options = [*WEIGHTS, *([net.weights] if net.weights not in WEIGHTS else [])]
        st.session_state[turn] = net.weights
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.selectbox(
                f"Weights of {net.title}",
                options,
                format_func=lambda text: WEIGHTS.get(text, Path(stated_output(text)[0]).name),
                key=turn,
                on_change=lambda net=net, turn=turn: _use_weights(choice, net, st.session_state[turn]),
            )
            st.file_uploader(
                f"Your own weights for {net.title}",
                WEIGHT_SUFFIXES,
                key=f"{turn}_file",
                on_change=lambda net=net, turn=turn: _take_weights(choice, net, f"{turn}_file"),
                help="A state dict (.pth, .pt) or .safetensors of this architecture. Pickled code is never run.",
            )
        if net.of_file:
            _outputs(choice, net, f"{turn}_output")


def _outputs(choice: Choice, net: Net, key: str) -> None:
    """What the outputs of a person's own file mean; a file with one output leaves no choice."""
    if has_one_output(net.name, net.weights):
        no, yes = NO_YES
        st.caption(
            f"The file for {net.title} has one output. It is read by a sigmoid as two classes, “{no}” and “{yes}”; "
            "a softmax of one output would always be 100 %."
        )
        return
    said = stated_output(net.weights)[1] or Output.SOFTMAX
    st.session_state[key] = said.value
    st.segmented_control(
        f"Outputs of {net.title}",
        list(OUTPUTS),
        format_func=OUTPUTS.__getitem__,
        key=key,
        required=True,
        on_change=lambda: _use_weights(choice, net, with_output(net.weights, st.session_state[key])),
        help="Softmax: the probabilities add up to 100 %, one class is right. Sigmoid: each class has a probability of "
        "its own and is decided from 50 % on; none, one or several may be right.",
    )


def _use_weights(choice: Choice, net: Net, text: str) -> None:
    choice.nets = tuple(replace(each, weights=text) if each == net else each for each in choice.nets)


def _take_weights(choice: Choice, net: Net, key: str) -> None:
    """Keep an uploaded file under its hash in the cache folder, and use it; it is checked when it is loaded."""
    file = st.session_state.get(key)
    if file is None:
        return
    try:
        path = keep_upload(file.getvalue(), file.name, "weights")
    except XaiError as error:
        choice.problem = f"The weights {file.name} were not taken: {error}"
        return
    _use_weights(choice, net, f"file:{path}")


def layer(choice: Choice, look: Look, key: str, label: str = "") -> None:
    """The layer that class activation maps are made at, in one network."""
    name = look.scene.net.text
    sizes = {info.path: f"{info.size[0]} × {info.size[1]}" for info in look.layers}
    if choice.layers.get(name) not in sizes:
        choice.layers.pop(name, None)
    paths = [look.default_layer, *(path for path in sizes if path != look.default_layer)]
    place = f"{key}_{name}"
    st.session_state[place] = choice.layers.get(name, look.default_layer)  # two widgets may set the same layer

    def take() -> None:
        picked = st.session_state[place]
        choice.layers.pop(name, None)
        if picked != look.default_layer:
            choice.layers[name] = picked

    st.selectbox(
        label or f"Layer in {look.title}",
        paths,
        format_func=lambda p: f"{p}, {sizes[p]}" + (" (default)" if p == look.default_layer else ""),
        key=place,
        on_change=take,
    )


def presets(choice: Choice, key: str) -> None:
    """Figures of the studies, set up with one click."""

    def use(networks: tuple[str, ...], names: tuple[str, ...]) -> None:
        weights = {net.name: net.weights for net in choice.nets}
        choice.nets = tuple(Net(name, weights.get(name, "imagenet")) for name in networks)
        choice.methods = tuple(name for name in METHODS.names() if name in names)
        choice.turn += 1

    for index, (title, (networks, names)) in enumerate(PRESETS.items()):
        if all(name in MODELS for name in networks):
            words = ", ".join(METHODS.get(name).title for name in names if name in METHODS)
            st.button(title, key=f"{key}_preset_{index}", on_click=use, args=(networks, names), help=words)
