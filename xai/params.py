"""Parameter dataclasses as text: how the terminal, manifests and links write a value and read it back."""

from __future__ import annotations

import math
import types
from dataclasses import MISSING, Field, fields
from typing import Any, Literal, Union, get_args, get_origin

_TRUTH = {"true": True, "yes": True, "false": False, "no": False}


def parameters(owner: Any) -> tuple[Field[Any], ...]:
    """The fields of a parameter dataclass or of an instance; () for what is none."""
    return fields(owner) if hasattr(owner, "__dataclass_fields__") else ()


def default_of(field: Field[Any]) -> Any:
    """A field's default; `dataclasses.MISSING` where it has none."""
    if field.default is MISSING and field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def value_text(value: object) -> str:
    """A value as `parse_value` reads it: none, true, 0.5, a word, or several with commas between."""
    if isinstance(value, (list, tuple)):
        return ",".join(value_text(each) for each in value)
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def parse_value(hint: Any, text: str) -> Any:
    """`text` as a value of the type `hint`: None, bool, int, float, str, a Literal, a tuple, or a union of these.

    Raises `ValueError` where it is none; a float must be finite.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _first_that_fits(inner, text)
    if origin is Literal:
        fitting = [choice for choice in inner if value_text(choice) == text]
        return fitting[0] if fitting else _refuse(text)
    if origin is tuple:
        parts = text.split(",")
        hints = [inner[0]] * len(parts) if inner[-1] is Ellipsis else list(inner)
        return tuple(parse_value(each, part) for each, part in zip(hints, parts, strict=True))
    if hint is type(None):
        return None if text.lower() == "none" else _refuse(text)
    if hint is bool:
        return _TRUTH[text.lower()] if text.lower() in _TRUTH else _refuse(text)
    if hint is float:
        return float(text) if math.isfinite(float(text)) else _refuse(text)
    if hint in (int, str):
        return hint(text)
    return _refuse(text)


def type_text(hint: Any) -> str:
    """What a person may write for the type `hint`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(each) for each in sorted(inner, key=lambda each: each is type(None)))
    if origin is Literal:
        return " or ".join(value_text(choice) for choice in inner)
    if origin is tuple:
        each = type_text(inner[0])
        return f"{each}, several with commas between" if inner[-1] is Ellipsis else f"{len(inner)} values with commas"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "none"}
    return words.get(hint, str(hint))


def _first_that_fits(hints: tuple[Any, ...], text: str) -> Any:
    # None first: "none" is also a fine str.
    for hint in sorted(hints, key=lambda each: each is not type(None)):
        try:
            return parse_value(hint, text)
        except ValueError:
            continue
    return _refuse(text)


def _refuse(text: str) -> Any:
    raise ValueError(text)
