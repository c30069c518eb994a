"""JSON that was read, compared with the types that it must have: a file of a run can be damaged and still be JSON."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

_SHOWN = 60
"""Characters of a wrong value that are shown."""

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def fault(hint: Any, value: object, place: str = "") -> str:
    """ "" where `value`, as JSON gives it, has the type `hint`; otherwise the first fault, such as "a.b is missing".

    hint: None, bool, int, float (finite), str, a Literal, list, tuple, Sequence, dict or Mapping of these, a union, a
    TypedDict or a dataclass. Keys beyond those of a TypedDict or dataclass are passed over; a field with a default may
    be missing. place: what to call `value`.
    """
    if isinstance(hint, type) and hint in _WORDS:  # most values of a large file, so without a look at what follows
        return _plain_fault(hint, value, place)
    if hint is Any or hint is object:
        return ""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is NotRequired:
        return fault(inner[0], value, place)
    if origin in (Union, types.UnionType):
        faults = []
        for each in inner:
            if not (found := fault(each, value, place)):
                return ""
            faults.append(found)
        return _deepest(faults)
    if origin is Literal:
        return "" if value in inner else _wrong(value, place, " or ".join(map(repr, inner)))
    if origin in (list, tuple, Sequence) or hint in (list, tuple):
        return _list_fault(origin is tuple, inner, value, place)
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, dict):
            return _wrong(value, place, "an object")
        return _first(fault(inner[1], each, _at(place, key)) for key, each in value.items()) if inner else ""
    if is_typeddict(hint) or is_dataclass(hint):
        return _object_fault(hint, value, place)
    return _plain_fault(hint, value, place)


def _plain_fault(hint: Any, value: object, place: str) -> str:
    if hint is None or hint is type(None):
        fits = value is None
    elif hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and _finite(value)
    elif hint is int:
        fits = isinstance(value, int) and not isinstance(value, bool) and _finite(value)
    else:
        fits = isinstance(value, hint)
    return "" if fits else _wrong(value, place, _WORDS.get(hint, str(hint)))


def _list_fault(fixed: bool, inner: tuple[Any, ...], value: object, place: str) -> str:
    if not isinstance(value, list | tuple):
        return _wrong(value, place, "a list")
    if fixed and inner[-1] is not Ellipsis:
        if len(value) != len(inner):
            return f"{place or 'it'} has {len(value)} values, not {len(inner)}"
        hints = inner
    else:
        hints = (inner[0] if inner else Any,) * len(value)
    return _first(
        fault(hint, each, f"{place}[{index}]") for index, (hint, each) in enumerate(zip(hints, value, strict=True))
    )


def _object_fault(hint: Any, value: object, place: str) -> str:
    if not isinstance(value, dict):
        return _wrong(value, place, "an object")
    for name, (kind, needed) in _parts(hint).items():
        if name in value:
            found = fault(kind, value[name], _at(place, name))
        else:
            found = f"{_at(place, name)} is missing" if needed else ""
        if found:
            return found
    return ""


@cache
def _parts(hint: Any) -> dict[str, tuple[Any, bool]]:
    """(type, whether it must be there) of each key of a TypedDict or field of a dataclass."""
    hints = get_type_hints(hint, include_extras=True)
    if is_typeddict(hint):
        # Not by __required_keys__, which does not see what postponed annotations say.
        return {name: (kind, get_origin(kind) is not NotRequired) for name, kind in hints.items()}
    bare = {
        each.name: each.default is MISSING and each.default_factory is MISSING for each in fields(hint) if each.init
    }
    return {name: (hints[name], needed) for name, needed in bare.items()}


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _first(faults: Any) -> str:
    return next(filter(None, faults), "")


def _deepest(faults: list[str]) -> str:
    """Of what is wrong with each type of a union, that of the one that fits furthest."""
    return max(faults, key=lambda each: each.split(" ", 1)[0].count(".") + each.split(" ", 1)[0].count("["))


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _wrong(value: object, place: str, wanted: str) -> str:
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    return f"{place or 'it'} is {shown}, not {wanted}"
