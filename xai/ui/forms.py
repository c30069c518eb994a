"""Widgets made of a method's dataclass: one field, one widget; the dataclass stays the single truth.

`bool` becomes a switch, `Literal` and enumerated strings a list, `int` and `float` a number with the range that the
field's metadata gives ("min", "max", "step"). "label" and "help" in the metadata are used where they are given.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

import streamlit as st

from xai.errors import InputError
from xai.explain.spec import MethodSpec
from xai.params import parse_value, type_text

Field = dataclasses.Field[Any]


def parameters(spec: MethodSpec) -> dict[str, tuple[Field, Any]]:
    """The parameters of a method except its layer: name -> (field, type)."""
    explainer: Any = spec.explainer
    hints = typing.get_type_hints(explainer)
    return {f.name: (f, hints[f.name]) for f in dataclasses.fields(explainer) if f.init and f.name != "layer"}


def parsed(spec: MethodSpec, name: str, text: str) -> Any:
    """The value of a parameter from the text of a link; raises `InputError` where it is none or out of its range."""
    fields = parameters(spec)
    if name not in fields:
        raise InputError(f"{spec.name} has no parameter {name!r}.")
    _, hint = fields[name]
    try:
        value = parse_value(hint, text)
    except ValueError:
        raise InputError(f"{spec.name} {name} is {text!r}; it takes {type_text(hint)}.") from None
    explainer: Any = spec.explainer
    explainer(**{name: value})  # refuses what is out of range
    return value


def form(spec: MethodSpec, values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Widgets for a method's parameters; the values that differ from the defaults."""
    chosen = {}
    for name, (field, hint) in parameters(spec).items():
        default = _default(field)
        value = _widget(field, hint, values.get(name, default), f"{key}_{spec.name}_{name}")
        if value != default:
            chosen[name] = value
    return chosen


def _default(field: Field) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _kind(hint: Any) -> type:
    """The plain type behind `int | None` and the like."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    return hint if isinstance(hint, type) else str


def _widget(field: Field, hint: Any, value: Any, key: str) -> Any:
    facts = field.metadata
    label = facts.get("label", field.name.replace("_", " ").capitalize())
    tip = facts.get("help")
    options = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else facts.get("choices")
    if options:
        options = list(options)
        return st.selectbox(label, options, index=options.index(value), key=key, help=tip)
    kind = _kind(hint)
    if kind is bool:
        return st.toggle(label, value=value, key=key, help=tip)
    if kind in (int, float):
        step = kind(facts.get("step", _step(field.default) if kind is float else 1))
        style = "%g" if kind is float else "%d"
        return st.number_input(label, facts.get("min"), facts.get("max"), value, step, style, key=key, help=tip)
    return st.text_input(label, value or "", key=key, help=tip) or field.default


def _step(default: Any) -> float:
    """A step of the default's own size: 0.1 for 0.25, 1e-6 for 1e-6."""
    return 10.0 ** math.floor(math.log10(abs(default))) if default else 0.1
