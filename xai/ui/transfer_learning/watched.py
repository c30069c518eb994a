"""Live work on a page that also looks at runs: the script is not held while it goes on.

`Live.follow` stays in the script until nothing is under way, and fragments wait for the script: a training's curves
would stand still, and its Cancel would not be heard, while a slow map is made. `Watched.watch` waits for a moment, in
which quick work ends, and leaves the rest to a fragment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import streamlit as st

from xai.ui.jobs import BOARD, Job
from xai.ui.live import POLL_SECONDS, Live, Task
from xai.ui.session import Choice

PATIENCE = 1.5
"""Seconds for which the script waits for work that has just begun."""

LOOK_SECONDS = 0.5


class Watched(Live):
    """Tasks of one run of a page's script, watched from a fragment."""

    def __init__(self, choice: Choice, scope: str) -> None:
        super().__init__(choice, scope)
        self._gathered: list[tuple[Any, Callable[[], None]]] = []

    def gather(self, show: Callable[[], None]) -> None:
        """Call `show`, here, when those tasks have been shown that end in a moment: for a figure of several."""
        self._gathered.append((st.container(), show))

    def watch(self, progress: Any) -> None:
        """Show what ends within a moment; look on from a fragment, and run the page once more when something ends.

        progress: an empty place for the bar and its button.
        """
        count = len(self._awaited())
        for place, show in self._gathered:
            with place:
                show()
        if not count:
            progress.empty()
            return
        for task in self.tasks:
            if not task.told:
                task.place.caption(f":material/hourglass_top: {task.title}")

        def look() -> None:
            now = [job for job in self._jobs() if job.active]
            if len(now) < count:
                st.rerun()
            self._bar(st.empty()).progress(*self._overall(now))

        with progress.container():
            st.fragment(look, run_every=LOOK_SECONDS)()

    def _awaited(self) -> list[Job]:
        """Show the tasks that end in a moment; the jobs that go on."""
        begun = time.monotonic()
        while True:
            seen = BOARD.version
            self._advance()
            self._tell()
            active = [job for job in self._jobs() if job.active]
            if any(_untold(task) for task in self.tasks):
                continue  # it ended after what has ended was shown
            if not any(map(_fresh, active)) or time.monotonic() - begun > PATIENCE:
                return active
            BOARD.wait(seen, POLL_SECONDS)


def _untold(task: Task) -> bool:
    """Whether it has ended and has not been shown."""
    return not task.told and task.job is not None and not task.job.active


def _fresh(job: Job) -> bool:
    """Whether it may end in a moment: it waits, or has only begun."""
    return job.state == "waiting" or time.monotonic() - job.started < PATIENCE
