"""What the files of several kinds of run have in common."""

from __future__ import annotations

from typing import NotRequired, TypedDict

Number = float | None
Ends = tuple[float, float] | None


class Config(TypedDict):
    """What every run was asked for."""

    kind: NotRequired[str]


class Left(TypedDict):
    """A file that was left out, and why."""

    key: str
    reason: str


class Mean(TypedDict):
    """A mean with its interval; low and high None where there is none."""

    mean: Number
    low: Number
    high: Number
    n: int
