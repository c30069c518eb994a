"""Registries: one small file an entry; duplicates refused, near names suggested, failed imports loud.

A registry knows the package whose modules hold its entries and imports them all on first use, so a new file in that
package is a new entry with nothing else to edit.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from xai.errors import UnknownNameError


@dataclass(frozen=True)
class Source:
    """Where a method, metric, attack or network comes from."""

    citation: str
    link: str


class Entry(Protocol):
    """What a registry holds: anything with a name, and a rank that orders the listing."""

    @property
    def name(self) -> str:
        """Unique name."""
        ...

    @property
    def rank(self) -> int:
        """Place in the listing, low first."""
        ...


E = TypeVar("E", bound=Entry)


class Registry(Generic[E]):
    """Entries by name, imported from `package` on first use."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, E] = {}
        self._loaded = False
        self._lock = threading.RLock()

    def add(self, entry: E) -> E:
        """Register `entry`; a second entry of the same name is a programming error."""
        if entry.name in self._entries:
            raise RuntimeError(f"{self.kind} {entry.name!r} is registered twice")
        self._entries[entry.name] = entry
        return entry

    def get(self, name: str) -> E:
        """The entry called `name`; raises `UnknownNameError` that suggests near names."""
        self._load()
        try:
            return self._entries[name]
        except KeyError:
            near = difflib.get_close_matches(str(name), self._entries, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(self.names())}."
            raise UnknownNameError(f"{self.kind} {name!r} is not known; {hint}") from None

    def names(self) -> tuple[str, ...]:
        """All names, ordered by rank, then name."""
        return tuple(entry.name for entry in self)

    def __iter__(self) -> Iterator[E]:
        self._load()
        return iter(sorted(self._entries.values(), key=lambda entry: (entry.rank, entry.name)))

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def _load(self) -> None:
        with self._lock:
            if self._loaded:
                return
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                if not module.name.startswith("_"):
                    importlib.import_module(f"{self._package}.{module.name}")
            self._loaded = True
