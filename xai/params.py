"""Parameters: how the terminal, manifests and links write and read a value, and what a caller from Python may give.

The type hints are the single truth: those of a parameter dataclass (`Parameters`), and those of a public function
(`xai.public`).
"""

from __future__ import annotations

import math
import numbers
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from xai.errors import InputError

HUGE = 2**63
"""Whole numbers are below this: torch has no larger ones."""

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


_ADVICE = {
    "x": "a tensor, as preprocess(image) returns it",
    "maps": "a tensor (N, H, W), as Attribution.maps() returns it",
    "map_": "a tensor (H, W), one of those that Attribution.maps() returns",
    "classifier": "a classifier, as load_model returns it",
    "weights": "text such as 'file:PATH' (torch.save keeps a state dict in a file)",
    "layer": "the path of a layer as text, such as those in classifier.layers()",
    "image": "a picture, as load_image(path) returns it",
    "targets": "the index of a class, or of one an image",
    "params": "the parameters of the attack, such as PGD(steps=20)",
}
"""What to give instead, by the parameter's name, where its type says too little."""

_WORDS = {
    "int": ("a whole number", "whole numbers"),
    "float": ("a finite number", "finite numbers"),
    "bool": ("True or False", "True or False"),
    "str": ("text", "texts"),
    "NoneType": ("None", "None"),
    "Tensor": ("a tensor", "tensors"),
    "Path": ("a path", "paths"),
    "bytes": ("bytes", "bytes"),
    "BinaryIO": ("an open file", "open files"),
    "device": ("a torch.device", "devices"),
}


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Raise `InputError`, with both bounds, where `value` is outside low..high."""
    if not low <= value <= high:
        least, most = (f"{each:g}" if isinstance(each, float) else str(each) for each in (low, high))
        raise InputError(f"{name} is {value}; give {least} to {most}.")


def check_bounds(owner: Any) -> None:
    """Compare the numbers of a dataclass instance with the "min" and "max" of its fields' metadata.

    None always fits. Raises `InputError` for the first number outside.
    """
    for each in parameters(owner):
        value = getattr(owner, each.name)
        if "max" in each.metadata and value is not None:
            check_between(each.name, value, each.metadata["min"], each.metadata["max"])


class Parameters:
    """Base of parameter dataclasses: on creation each value is compared with its type and its field's bounds.

    A whole number is taken for a float, and numpy's numbers for Python's. Raises `InputError` with one sentence.
    """

    def __post_init__(self) -> None:
        hints = _hints(type(self))  # type: ignore[arg-type]  # a class is hashable
        for each in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            value = getattr(self, each.name)
            fitted = checked_value(each.name, hints[each.name], value)
            if fitted is not value:
                object.__setattr__(self, each.name, fitted)
        check_bounds(self)


@cache
def _hints(owner: Any) -> dict[str, Any]:
    return get_type_hints(owner)


def checked_value(name: str, hint: Any, value: Any, advice: str = "") -> Any:
    """`value` of the parameter `name`, as its type `hint` has it; raises `InputError` that says what to give instead.

    advice: what to give, where the hint says too little.
    """
    try:
        return _fitted(hint, value)
    except _UnfitError:
        choices = _choices(hint) if isinstance(value, str) else ""
        if choices:
            raise InputError(f"{name} {value!r} is not known; use {choices}.") from None
        raise InputError(f"{name} is {_shown(value)}; give {advice or _wanted(hint)}.") from None


def _choices(hint: Any) -> str:
    """The words of a Literal, also within a union, for a sentence; "" where there are none."""
    found = [each for part in (hint, *get_args(hint)) if get_origin(part) is Literal for each in get_args(part)]
    return ", ".join([*found[:-2], " or ".join(found[-2:])]) if found and isinstance(found[0], str) else ""


def advice_for(name: str, hint: Any) -> str:
    """What a caller of a public function is told to give for the parameter `name`; "" where its type says it."""
    return "" if get_origin(hint) is Mapping else _ADVICE.get(name, "")


class _UnfitError(Exception):
    """A value does not have a type."""


def _fitted(hint: Any, value: Any) -> Any:
    """`value` as the type `hint` has it; what is no type that can be compared lets everything through."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or hint is object or isinstance(hint, TypeVar):
        return value
    if origin in (Union, types.UnionType):
        return _fitted_union(inner, value)
    if origin is Literal:
        return value if any(value is each or (type(value) is type(each) and value == each) for each in inner) else _no()
    if origin is tuple:
        return _fitted_tuple(inner, value)
    if origin is Sequence:
        return _fitted_sequence(inner, value)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            _no()
        return {_fitted(inner[0], key): _fitted(inner[1], each) for key, each in value.items()}
    return _fitted_plain(hint, value)


def _fitted_plain(hint: Any, value: Any) -> Any:
    if hint is None or hint is type(None):
        return None if value is None else _no()
    if hint is bool:
        return bool(value) if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool") else _no()
    if isinstance(value, bool) and hint in (int, float):
        _no()
    if hint is int:
        return int(value) if isinstance(value, numbers.Integral) and abs(int(value)) < HUGE else _no()
    if hint is float:
        fits = isinstance(value, numbers.Real) and math.isfinite(value)
        return (value if type(value) in (int, float) else float(value)) if fits else _no()
    if getattr(hint, "__name__", "") == "BinaryIO":
        return value if hasattr(value, "read") else _no()
    hint = get_origin(hint) or hint  # of a numpy array, whatever its numbers
    known = isinstance(hint, type) and getattr(hint, "_is_runtime_protocol", not getattr(hint, "_is_protocol", False))
    return value if not known or isinstance(value, hint) else _no()


def _fitted_union(hints: tuple[Any, ...], value: Any) -> Any:
    for each in hints:
        try:
            return _fitted(each, value)
        except _UnfitError:
            continue
    return _no()


def _items(value: Any) -> Any:
    """The items of a list, a tuple, a range or an array of one dimension."""
    if type(value).__name__ == "ndarray" and value.ndim == 1:
        return value.tolist()
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else _no()


def _fitted_sequence(inner: tuple[Any, ...], value: Any) -> Any:
    found = [_fitted(inner[0], each) for each in _items(value)]
    same = isinstance(value, Sequence) and all(a is b for a, b in zip(found, value, strict=True))
    return value if same else found  # what was given, where nothing had to be converted


def _fitted_tuple(inner: tuple[Any, ...], value: Any) -> Any:
    items = _items(value)
    hints = (inner[0],) * len(items) if inner[-1:] == (Ellipsis,) else inner
    return tuple(map(_fitted, hints, items)) if len(hints) == len(items) else _no()


def _no() -> Any:
    raise _UnfitError


def _wanted(hint: Any, several: bool = False) -> str:
    """What a caller from Python may give for the type `hint`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        *first, last = [_wanted(each, several) for each in inner]
        return f"{', '.join(first)} or {last}" if first else last
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin is tuple and inner[-1] is not Ellipsis:
        return f"{len(inner)} {_wanted(inner[0], True)}"
    if origin in (tuple, Sequence):
        return f"{'lists' if several else 'a list'} of {_wanted(inner[0], True)}"
    if origin is Mapping:
        return f"{'dicts' if several else 'a dict'} of {_wanted(inner[1], True)} by name"
    name = getattr(hint, "__name__", str(hint))
    return _WORDS.get(name, (f"{_article(name)} {name}", f"{name}s"))[several]


def _shown(value: Any) -> str:
    """A wrong value for a person: numbers and short words as they are, else what it is."""
    if value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 60):
        return repr(value)
    if isinstance(value, list | tuple) and 0 < len(value) <= 8 and all(isinstance(v, int | float) for v in value):
        return repr(value)
    name = type(value).__name__
    return f"{_article(name)} {name}"


def _article(name: str) -> str:
    return "an" if name[:1] in "AEIOUaeiou" else "a"


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
