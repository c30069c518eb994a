"""The bar of the terminal where work goes on that was begun before."""

from __future__ import annotations

import io

import pytest

from xai.commands import output as _output
from xai.commands.output import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_time_left_is_by_what_was_done_since_the_bar_began(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((100.0, 110.0))
    monkeypatch.setattr(_output.time, "monotonic", lambda: next(clock))
    screen = Terminal()
    bar = Progress(screen)
    bar(0.80, "resumed")
    bar(0.85, "on")  # 5 of 100 in ten seconds, 15 to go
    first, second = screen.getvalue().split("\r")[1:]
    assert "80 %  ...  resumed" in first
    assert "85 %  0:30 left  on" in second
