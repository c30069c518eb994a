"""Which images must stay on one side of a split: copies of one picture, and groups such as a patient's images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xai.data.copies import PROTOCOL, find_copies, joined
from xai.data.groups import groups_by
from xai.data.spec import DataSet
from xai.errors import InputError
from xai.types import Run

TOGETHER, ANYWHERE = "together", "anywhere"
COPIES = (TOGETHER, ANYWHERE)
"""Where copies of one picture go: together on one side of a split, or anywhere, which lets training images validate."""

Sets = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Together:
    """What belongs together in a data set, by the images' keys. told: how groups were made, "" without.

    copies: images that show one picture. groups: images of one group. looked: whether copies were looked for.
    """

    copies: Sets = ()
    groups: Sets = ()
    told: str = ""
    looked: bool = False

    def mark(self, data: DataSet, copies: bool = True, groups: bool = True) -> DataSet:
        """The data set whose `Item.together` says so, by copies, by groups, or by both."""
        sets = (*(self.copies if copies else ()), *(self.groups if groups else ()))
        place = {item.key: index for index, item in enumerate(data.items)}
        pairs = []
        for each in sets:
            there = [place[key] for key in each if key in place]
            pairs += [(there[0], other) for other in there[1:]]
        names = {index: data.items[found[0]].key for found in joined(len(data), pairs) for index in found}
        items = tuple(dataclasses.replace(item, together=names.get(index, "")) for index, item in enumerate(data.items))
        return dataclasses.replace(data, items=items)

    def plain(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "copies": [list(each) for each in self.copies],
            "groups": [list(each) for each in self.groups],
            "told": self.told,
            "looked": self.looked,
            "protocol": PROTOCOL,
        }

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Together:
        """What `plain` gave."""
        copies, groups = (tuple(tuple(each) for each in kept.get(name, ())) for name in ("copies", "groups"))
        return cls(copies, groups, str(kept.get("told", "")), bool(kept.get("looked")))


def find_together(data: DataSet, groups: str = "", run: Run | None = None) -> Together:
    """Copies of one picture, for which the images are read once, and the groups that `groups` asks for.

    Of generated data, where each picture is drawn by its own seed, no copies are looked for. groups: see `groups_by`,
    "" for none. Raises what `groups_by` raises, and `Cancelled`.
    """
    told = ""
    sets: Sets = ()
    if groups:
        names, told = groups_by(data.items, groups)
        sets = _by_name(data, names)
    if data.synthetic:
        return Together((), sets, told)
    return Together(
        tuple(tuple(data.items[place].key for place in each) for each in find_copies(data.items, run)), sets, told, True
    )


def check_copies(copies: str) -> None:
    """Raise `InputError` for a word that is none of `COPIES`."""
    if copies not in COPIES:
        raise InputError(f"copies is {copies!r}; use {' or '.join(COPIES)}.")


def _by_name(data: DataSet, names: Sequence[str]) -> Sets:
    found: dict[str, list[str]] = {}
    for item, name in zip(data.items, names, strict=True):
        if name:
            found.setdefault(name, []).append(item.key)
    return tuple(tuple(each) for each in found.values() if len(each) > 1)
