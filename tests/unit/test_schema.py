"""JSON compared with the types that it must have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from xai.files import parse_json, read_json
from xai.schema import fault


@dataclass(frozen=True)
class Part:
    name: str
    share: float | None = None


class Whole(TypedDict):
    kind: Literal["a", "b"]
    parts: list[Part]
    sizes: dict[str, int]
    pair: tuple[float, str]
    note: NotRequired[str]


GOOD: dict[str, Any] = {
    "kind": "a",
    "parts": [{"name": "x", "share": 0.5}, {"name": "y"}],
    "sizes": {"x": 3},
    "pair": [1, "m"],
    "beyond": {},
}


def test_what_fits_has_no_fault() -> None:
    assert fault(Whole, GOOD) == ""
    assert fault(Whole, {**GOOD, "note": "n", "parts": []}) == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": None}, "kind is None, not 'a' or 'b'"),
        ({"parts": {}}, "parts is {}, not a list"),
        ({"parts": [{"name": "x"}, {"share": 1}]}, "parts[1].name is missing"),
        ({"parts": [{"name": "x", "share": "1"}]}, "parts[0].share is '1', not a number"),
        ({"parts": [3]}, "parts[0] is 3, not an object"),
        ({"sizes": {"x": 1.5}}, "sizes.x is 1.5, not a whole number"),
        ({"sizes": {"x": True}}, "sizes.x is True, not a whole number"),
        ({"pair": [1]}, "pair has 1 values, not 2"),
        ({"pair": [float("nan"), "m"]}, "pair[0] is nan, not a number"),
        ({"pair": [10**400, "m"]}, f"pair[0] is {'1' + '0' * 59}..., not a number"),
        ({"note": None}, "note is None, not text"),
    ],
)
def test_the_first_fault_names_its_place(change: dict[str, Any], told: str) -> None:
    assert fault(Whole, {**GOOD, **change}) == told


@pytest.mark.parametrize("key", ["kind", "parts", "sizes", "pair"])
def test_a_missing_key_is_named(key: str) -> None:
    assert fault(Whole, {name: value for name, value in GOOD.items() if name != key}) == f"{key} is missing"
    assert fault(Whole, []) == "it is [], not an object"


def test_json_is_read_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GOOD))
    assert read_json(path) == GOOD
    with pytest.raises(ValueError, match="larger than"):
        read_json(path, most=10)
    for text in ("[" * 10**6, "{", '{"a": ', "\udcff".encode(errors="surrogateescape")):
        with pytest.raises(ValueError):  # noqa: PT011 (json's own words)
            parse_json(text)
