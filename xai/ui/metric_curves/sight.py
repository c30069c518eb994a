"""One image on one network: what has been measured of it, kept so that nothing is measured twice.

What was found for (image, network, method) is kept by itself: another method, network, protocol or picture costs only
what is new, and work that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pyarrow as pa
from torch import Tensor

from xai.data.loader import read_batches
from xai.errors import ImageError
from xai.models.classifier import Classifier
from xai.studies.faithfulness.measure import look, measure, refusal
from xai.studies.faithfulness.seen import Seen
from xai.types import Run
from xai.ui.metric_curves.state import Piece, Terms
from xai.ui.work import Net, Recent

V = TypeVar("V")


@dataclass(frozen=True, eq=False)
class Part:
    """One image explained by one method on one network: map (1,H,W), logits (1,K), target (1,)."""

    map: Tensor
    logits: Tensor
    target: Tensor
    blank: str
    note: str
    grid: tuple[int, int]


_pixels: Recent[tuple[Tensor, Tensor | None]] = Recent(32)
_parts: Recent[Part] = Recent(400)
_rows: Recent[pa.Table] = Recent(6000)


def _known(cache: Recent[V], key: Hashable) -> V | None:
    def missing() -> V:
        raise LookupError

    try:
        return cache.get(key, missing)
    except LookupError:
        return None


@dataclass(frozen=True, eq=False)
class Sight:
    """One image on one network by some terms: what is known of it, and what it takes to know the rest."""

    piece: Piece
    label: int | None
    net: Net
    classifier: Classifier
    view: str
    terms: Terms

    @property
    def base(self) -> tuple[Hashable, ...]:
        """What every cached thing about it depends on."""
        return (self.piece.ident, self.label, self.view, self.net.text, self.classifier.fingerprint)

    def names(self) -> list[str]:
        """Methods and baselines that apply."""
        recipe = self.terms.recipe()
        return [name for name in recipe.everything if not refusal(self.classifier, name, recipe)]

    def row(self, name: str) -> pa.Table | None:
        """The finished row of a method."""
        return _known(_rows, self._key(name))

    def _key(self, name: str) -> tuple[Hashable, ...]:
        return (*self.base, *self.terms.of(name), self.terms.protocol_key)

    def missing(self) -> list[str]:
        """Methods that are not measured yet."""
        return [name for name in self.names() if self.row(name) is None]

    def cost(self) -> int:
        """Forward passes until all is measured."""
        missing = self.missing()
        return self.terms.recipe(missing).cost(self.classifier, 1) if missing else 0

    def pixels(self) -> tuple[Tensor, Tensor | None]:
        """x (1,3,H,W) and the object's mask; raises `ImageError`."""

        def make() -> tuple[Tensor, Tensor | None]:
            batch = next(iter(read_batches([self.piece.item], [range(1)], [self.classifier], self.view)))
            if batch.problems:
                raise ImageError(batch.problems[0].reason)
            return batch.pixels(self.classifier), batch.mask(self.classifier)

        return _pixels.get((self.piece.ident, self.view, self.classifier.preset, self.classifier.input_size), make)

    def part(self, name: str, run: Run) -> Part:
        """The image explained by one method."""

        def make() -> Part:
            x, _ = self.pixels()
            recipe = self.terms.recipe([name])
            seen = look(self.classifier, x, recipe, ("",), (0,), (None,), run=run)
            return Part(
                seen.maps[name], seen.logits, seen.target, seen.blank[name][0], seen.notes[name][0], seen.grids[name]
            )

        return _parts.get((*self.base, *self.terms.of(name)), make)

    def seen(self, names: Sequence[str], run: Run) -> Seen:
        """The image explained by some methods, as the library takes it."""
        x, mask = self.pixels()
        parts = {}
        for name in names:
            run.check()
            parts[name] = self.part(name, run)
        first = next(iter(parts.values()))
        return Seen(
            classifier=self.classifier,
            keys=(self.piece.item.key,),
            places=(self.piece.place,),
            labels=(self.label,),
            x=x,
            logits=first.logits,
            target=first.target,
            maps={name: part.map for name, part in parts.items()},
            grids={name: part.grid for name, part in parts.items()},
            blank={name: (part.blank,) for name, part in parts.items()},
            refused={},
            masks=mask,
            notes={name: (part.note,) for name, part in parts.items()},
        )

    def rows(self, run: Run) -> list[pa.Table]:
        """One row a method, measured where it is missing; raises `ImageError` and `Cancelled`."""
        found = {name: self.row(name) for name in self.names()}
        missing = [name for name, row in found.items() if row is None]
        if missing:
            recipe = self.terms.recipe(missing)
            table = measure(self.seen(missing, run), recipe, run)
            for i, name in enumerate(missing):
                found[name] = _rows.get(self._key(name), partial(_one, table, i))
        return [_at(row, self.piece.place) for row in found.values() if row is not None]


def _one(table: pa.Table, place: int) -> pa.Table:
    return table.slice(place, 1).combine_chunks()


def _at(row: pa.Table, place: int) -> pa.Table:
    column = row.schema.get_field_index("index")
    return row.set_column(column, row.schema.field(column), pa.array([place], pa.int32()))
