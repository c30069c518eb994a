"""A method's dataclass as widgets and as texts of links: every registered method, and every kind of field."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from xai.errors import InputError
from xai.explain.spec import METHODS, MethodSpec
from xai.params import value_text
from xai.ui.forms import parameters, parsed

SPECS = [spec for spec in METHODS if parameters(spec)]


def script(name: str, values: dict[str, object]) -> None:
    import streamlit as st

    from xai.explain.spec import METHODS
    from xai.ui.forms import form

    st.session_state["found"] = form(METHODS.get(name), values, "f")


def widgets(app: AppTest) -> list[Any]:
    return [*app.number_input, *app.toggle, *app.selectbox, *app.text_input]


def other(spec: MethodSpec, name: str) -> Any:
    """A value of the parameter that is not its default."""
    field, hint = parameters(spec)[name]
    options = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else field.metadata.get("choices")
    if options:
        return next(option for option in options if option != field.default)
    if hint is bool:
        return not field.default
    if hint is int:
        return field.default + 1 if field.default + 1 <= field.metadata.get("max", 10**9) else field.default - 1
    return 3 if field.default is None else field.default / 2


@pytest.mark.parametrize("spec", SPECS, ids=[spec.name for spec in SPECS])
def test_every_parameter_has_a_widget_and_defaults_are_left_out(spec: MethodSpec) -> None:
    app = AppTest.from_function(script, args=(spec.name, {})).run()
    assert not app.exception
    assert {each.key for each in widgets(app)} == {f"f_{spec.name}_{name}" for name in parameters(spec)}
    assert app.session_state["found"] == {}


@pytest.mark.parametrize("spec", SPECS, ids=[spec.name for spec in SPECS])
def test_values_come_back_from_widgets_and_from_links(spec: MethodSpec) -> None:
    values = {name: other(spec, name) for name in parameters(spec)}
    app = AppTest.from_function(script, args=(spec.name, values)).run()
    assert not app.exception
    assert app.session_state["found"] == values
    assert {name: parsed(spec, name, value_text(value)) for name, value in values.items()} == values
    explainer: Any = spec.explainer
    assert dataclasses.asdict(explainer(**values)).items() >= values.items()


def test_a_wrong_text_is_one_sentence() -> None:
    spec = METHODS.get("smoothgrad")
    with pytest.raises(InputError, match=r"smoothgrad samples is 'many'; it takes a whole number\."):
        parsed(spec, "samples", "many")
    with pytest.raises(InputError, match=r"smoothgrad has no parameter 'layers'\."):
        parsed(spec, "layers", "1")
    with pytest.raises(InputError, match="samples"):
        parsed(spec, "samples", "0")
    with pytest.raises(InputError, match="it takes a number"):
        parsed(METHODS.get("smoothgrad"), "noise", "nan")
