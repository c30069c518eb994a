"""What one visitor has chosen, kept across page switches, and the link that restores it."""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from xai.errors import InputError
from xai.explain.spec import METHODS
from xai.models.classifier import VIEWS
from xai.params import value_text
from xai.ui.forms import parsed
from xai.ui.jobs import BOARD
from xai.ui.tiles import DISPLAY, checked_display
from xai.ui.work import Net, Photo, known_method, known_net, samples

FIRST_METHODS = ("gradcam", "layercam", "guided_gradcam", "lrp")
"""Quick methods of several kinds, for the first picture; those that exist are taken."""

FIRST_SAMPLE = "chelsea"
FIRST_NET = Net("efficientnet_lite0")

_KEY = "olhar"


@dataclass(eq=False)
class Visitor:
    """One session: an owner of jobs, released when the session ends."""

    name: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        weakref.finalize(self, BOARD.release, self.name)


@dataclass(eq=False)
class Choice:
    """What is explained, how, and what this visitor has said about it.

    target None: the predicted class of each network. params: by method. layers: by network, for the methods that have
    a layer. go: slow explanations that the visitor has said yes to; stopped: those cancelled. problem: one sentence
    about the last thing that could not be done. turn: how often a preset has chosen.
    """

    photo: Photo
    view: str = "crop"
    nets: tuple[Net, ...] = (FIRST_NET,)
    methods: tuple[str, ...] = ()
    params: dict[str, dict[str, Any]] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)
    target: int | None = None
    display: dict[str, Any] = field(default_factory=lambda: dict(DISPLAY))
    go: set[Hashable] = field(default_factory=set)
    stopped: set[Hashable] = field(default_factory=set)
    problem: str = ""
    visitor: Visitor = field(default_factory=Visitor)
    turn: int = 0
    _beside: tuple[str, Hashable] = ("", None)

    def told(self, about: Hashable) -> str:
        """The problem, until `about`, what is chosen beside it, is something else than when it was first shown."""
        if self.problem != self._beside[0]:
            self._beside = (self.problem, about)
        elif about != self._beside[1]:
            self.problem, self._beside = "", ("", about)
        return self.problem

    def fresh(self, key: str) -> str:
        """The key of a widget that presets choose for: another one after each of them.

        A browser that has not drawn the choice yet sends what its widgets held before with the next click; of a widget
        that is no more, that says nothing.
        """
        return f"{key}_{self.turn}" if self.turn else key


def current() -> Choice:
    """This visitor's choice; on the first run it is read from the address."""
    if _KEY not in st.session_state:
        st.session_state[_KEY] = from_query(st.query_params.to_dict())
    choice: Choice = st.session_state[_KEY]
    return choice


def first_methods() -> tuple[str, ...]:
    """What the first picture is explained by."""
    return tuple(name for name in FIRST_METHODS if name in METHODS) or METHODS.names()[:1]


def to_query(choice: Choice) -> dict[str, str]:
    """The choice as query parameters; what is as at first is left out, and an uploaded picture cannot be in it."""
    query = {}
    if choice.photo.sample and choice.photo.sample != FIRST_SAMPLE:
        query["image"] = choice.photo.sample
    if choice.view != VIEWS[0]:
        query["view"] = choice.view
    if choice.nets != (FIRST_NET,):
        query["model"] = ",".join(net.name if net.of_file else net.text for net in choice.nets)
    if choice.methods != first_methods():
        query["method"] = ",".join(choice.methods)
    if choice.target is not None:
        query["target"] = str(choice.target)
    for net in choice.nets:
        if net.text in choice.layers and not net.of_file:
            query[f"layer.{net.text}"] = choice.layers[net.text]
    for method in choice.methods:
        for name, value in choice.params.get(method, {}).items():
            query[f"param.{method}.{name}"] = value_text(value)
    for name, value in choice.display.items():
        if value != DISPLAY[name]:
            query[name] = f"{value:g}" if isinstance(value, float) else str(value).lower()
    return query


def from_query(query: Mapping[str, str]) -> Choice:
    """The choice that `to_query` wrote. What does not exist is left out and said in `problem`."""
    unknown: list[str] = []
    shipped = samples()
    image = query.get("image", FIRST_SAMPLE)
    if image not in shipped:
        unknown.append(f"image {image!r}")
    choice = Choice(shipped.get(image, shipped[FIRST_SAMPLE]), display=checked_display(query))
    choice.view = query["view"] if query.get("view") in VIEWS else VIEWS[0]
    choice.nets = _each(query.get("model", ""), known_net, unknown) or choice.nets
    choice.methods = _each(query.get("method", ""), known_method, unknown) or first_methods()
    target = query.get("target", "")
    if target.isdecimal() and len(target) < 9:
        choice.target = int(target)
    elif target:
        unknown.append(f"target {target!r}")
    for name, value in query.items():
        kind, _, rest = name.partition(".")
        if kind == "layer" and rest:
            choice.layers[rest] = value
        elif kind == "param":
            _read_param(choice, rest, value, unknown)
    if unknown:
        choice.problem = f"The link asked for {', '.join(unknown)}, which is not here; the rest was restored."
    return choice


def _each(text: str, read: Any, unknown: list[str]) -> tuple[Any, ...]:
    found = []
    for part in dict.fromkeys(filter(None, text.split(","))):
        try:
            found.append(read(part))
        except InputError:
            unknown.append(repr(part))
    return tuple(found)


def _read_param(choice: Choice, place: str, value: str, unknown: list[str]) -> None:
    method, _, name = place.partition(".")
    try:
        choice.params.setdefault(method, {})[name] = parsed(METHODS.get(method), name, value)
    except InputError:
        unknown.append(f"{place}={value}")


def link(choice: Choice) -> str:
    """The address that restores the choice."""
    return link_of(to_query(choice))


def link_of(query: Mapping[str, str]) -> str:
    """This page's address with `query`."""
    here = urlsplit(st.context.url or "")
    return urlunsplit((here.scheme, here.netloc, here.path, urlencode(query, safe=",:@."), ""))
