"""What commands write: lines, tables, JSON, and a progress bar for people."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any


def say(text: str = "") -> None:
    """One line on stdout: the command's result."""
    sys.stdout.write(f"{text}\n")


def tell(text: str) -> None:
    """One line on stderr: about the work, not its result."""
    sys.stderr.write(f"{text}\n")


def tell_left_out(files: Sequence[Mapping[str, Any]]) -> None:
    """The files that were left out, by name (key) and reason, on stderr; nothing where there are none."""
    if files:
        tell(f"{len(files)} file{'s' * (len(files) > 1)} left out:")
    for each in files:
        tell(f"  {each['key']}: {each['reason']}")


def say_json(value: Any) -> None:
    """`value` as JSON on stdout."""
    say(json.dumps(value, indent=2, allow_nan=False))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows in aligned columns under their header; the last column is not padded."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def clock(seconds: float) -> str:
    """Seconds as 0:07, 12:30 or 1:02:03."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class Progress:
    """A bar with the time left, redrawn in place on stderr where that is a terminal; silent elsewhere.

    Work may begin at a share above 0 (a run that goes on): the time left is by what was done since. As a context
    manager it wipes its line on leaving, so that what follows starts clean.
    """

    width = 28
    interval = 0.1

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream or sys.stderr
        self.shown = self.stream.isatty()
        self._begun: tuple[float, float] | None = None
        self._last = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.shown and self._last:
            self.stream.write("\r\x1b[K")
            self.stream.flush()

    def __call__(self, share: float, note: str = "") -> None:
        """Draw `share` in [0, 1], at most ten times a second."""
        now = time.monotonic()
        start, first = self._begun = self._begun or (now, share)
        if not self.shown or (now - self._last < self.interval and share < 1):
            return
        self._last = now
        self.stream.write(f"\r{self.line(share, now - start, note, first)}\x1b[K")
        self.stream.flush()

    def line(self, share: float, elapsed: float, note: str, first: float = 0.0) -> str:
        """The bar's text; `elapsed` seconds have brought it from `first` to `share`."""
        share = min(max(share, 0.0), 1.0)
        full = int(share * self.width)
        left = f"{clock(elapsed * (1 - share) / (share - first))} left" if share > first else "..."
        return f"[{'#' * full}{'.' * (self.width - full)}] {100 * share:3.0f} %  {left}  {note[:60]}"
