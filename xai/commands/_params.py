"""`--param METHOD.NAME=VALUE`, read by the types in the method's own parameter dataclass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_type_hints

from xai.errors import InputError
from xai.params import parameters, parse_value, type_text


def parse_params(words: Sequence[str], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parameters by method from words such as "rise.masks=500".

    Raises `InputError` for a word of another form, a method not asked for, an unknown name, and a value of another
    type than the parameter has.
    """
    from xai.explain.spec import METHODS

    found: dict[str, dict[str, Any]] = {}
    for word in words:
        left, equals, text = word.partition("=")
        method, dot, name = left.partition(".")
        if not (equals and dot and name):
            raise InputError(f"--param {word!r} is not METHOD.NAME=VALUE, such as rise.masks=500.")
        if method not in methods:
            raise InputError(f"--param {word!r} is for {method!r}, which is not among --method {' '.join(methods)}.")
        owner: Any = METHODS.get(method).explainer
        names = [each.name for each in parameters(owner)]
        if name not in names:
            raise InputError(f"{method} has no parameter {name!r}; it has {', '.join(names) or 'none'}.")
        hint = get_type_hints(owner)[name]
        try:
            value = parse_value(hint, text)
        except ValueError:
            raise InputError(f"--param {word!r} does not fit: {name} is {type_text(hint)}.") from None
        found.setdefault(method, {})[name] = value
    return found
