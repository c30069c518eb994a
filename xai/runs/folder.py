"""A run is a folder: what was asked, how far it is, what it measured. Written by its own process, read by everybody.

Which files there are says `xai.runs.files`; this is what a process does that works on a run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from xai.errors import Cancelled, InputError, StorageError
from xai.files import FULL, storage_error
from xai.runs.files import STATES, STAYED, Launch, RunFiles, Status, started_together
from xai.runs.locks import PATIENCE, Busy, adopt, locked, turn
from xai.settings import cache_dir
from xai.types import Run

__all__ = ["INTERVAL", "LENT", "STATES", "RunFolder", "Status", "duration", "stoppable"]

INTERVAL = 0.5
"""Seconds between two writings of status.json."""

LENT = "XAI_LAUNCH_FD"
"""Environment variable that names the open file of the lock which a process was started with."""


class RunFolder(RunFiles):
    """A run, and the work on it. `create` and `open` check."""

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any], resume: bool = False) -> RunFolder:
        """A new run at `path`, or with `resume` the one that is there, if it was asked for the same.

        Raises `InputError` where the folder holds another run or anything else, and for a resumed run whose config
        differs, naming the first setting that does.
        """
        folder = cls(path)
        started = (path / "config.json").is_file()
        if (started or (path / "launch.json").is_file()) and not resume:
            raise InputError(f"{path} holds a run already; add --resume to go on with it, or give another folder.")
        if started:
            _same(folder.config(), json.loads(json.dumps(config)), path)
            return folder
        if not (path / "launch.json").is_file():
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                raise InputError(f"{path} is not an empty folder; give a new one for the run.")
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise storage_error(error, path) from error
            folder._remember(config)
        folder.write("config.json", config)
        folder.set_status(Status("queued"))
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run at `path`; raises `InputError` where there is none."""
        if not (path / "config.json").is_file():
            raise InputError(f"{path} holds no run (it has no config.json); check the path.")
        return cls(path)

    def cancel(self) -> bool:
        """Ask its process to stop at its next clean place; False where there is none.

        One that works is sent SIGTERM and stops by itself; one that only starts is ended by it.
        """
        process = self.process()
        if process is None or not self.busy():
            return False
        with suppress(StorageError):  # on a full disk the signal has to do
            self.write_bytes(".cancel", str(process).encode())
        if sys.platform != "win32":  # where a signal would end it without a checkpoint
            os.kill(process, signal.SIGTERM)
        return True

    @contextmanager
    def working(self, run: Run, device: torch.device | None = None) -> Iterator[Run]:
        """Within it this process works on the run: locked, "running", stopped by SIGTERM or Ctrl-C.

        device: wait ("queued") until no other run works on it. Yields a `Run` whose reports go to status.json, with
        the time left, and on to `run`. On leaving the state is "done", "cancelled" or "failed" with its reason. Raises
        `InputError` where another process works on it already, and `StorageError` where the disk is full.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / ".lock", PATIENCE))
            except Busy:
                raise InputError(f"{self.path} is being worked on by another process; wait, or stop that.") from None
            except OSError as error:
                raise storage_error(error, self.path) from error
            stop = stack.enter_context(stoppable())
            self.clock_off(killed=True)
            self.write_bytes("pid", str(os.getpid()).encode())
            for name in (".cancel", "pid"):
                stack.callback((self.path / name).unlink, missing_ok=True)
            reporter = _Reporter(self, run)
            over, waits = self._was_done(), True
            own = replace(run, on_progress=reporter, cancelled=lambda: stop() or self._stopped() or run.cancelled())
            try:
                if device is not None:
                    stack.enter_context(self.on_device(device, own))
                self.clock_on()
                self.set_status(Status("running", *reporter.last))
                waits = False
                yield own
                self.clock_off()
                self.set_status(Status("done", *reporter.last))
            except (Cancelled, KeyboardInterrupt):
                ended = Status("cancelled", *reporter.last, error="stopped; resume goes on.")
                self._end(Status("done", error=STAYED) if over and waits else ended, "stopped")
                raise
            except BaseException as error:
                told = error
                if isinstance(error, OSError) and error.errno in FULL:
                    told = storage_error(error, self.path)
                why = f"{told or type(told).__name__}"
                stays = Status("done", error=f"it could not go on: {why}")
                ended = stays if over and waits else Status("failed", *reporter.last, error=why)
                self._end(ended, "".join(traceback.format_exception(error)).rstrip())
                if told is not error:
                    raise told from error
                raise

    def _end(self, status: Status, line: str) -> None:
        """Note how it ended, as far as the disk lets; what ended it matters more than that this could not be noted."""
        with suppress(StorageError):
            self.clock_off()
        try:
            self.set_status(status)
        except StorageError:  # a full disk still takes what is no longer than what was there
            with suppress(OSError), (self.path / "status.json").open("r+b") as file:
                file.write(json.dumps(asdict(status)).encode())
                file.truncate()
        with suppress(StorageError):
            self.log(line)

    def _was_done(self) -> bool:
        """Whether what this process is to go on with was done before it was asked to."""
        with suppress(InputError):  # what is damaged or missing says nothing
            said = self.read("status.json").get("state")
            return bool((self.launch().before if said == "queued" else said) == "done")
        return False

    def _stopped(self) -> bool:
        """Whether this process was asked to stop, by a word instead of a signal."""
        return (self.path / ".cancel").exists() and self.cancel_asked()

    @contextmanager
    def on_device(self, device: torch.device, run: Run) -> Iterator[None]:
        """One run a device, in the order in which they were asked for: "queued" until the others are done.

        For work whose first part is another run's: `working` without a device, and this around what is left.
        """
        path = cache_dir() / "locks" / f"{str(device).replace(':', '-')}.lock"
        self.set_status(Status("queued", note=f"waiting for {device}"))
        with turn(path, run.check, self.launch().launched or None):
            yield

    def _remember(self, config: Mapping[str, Any]) -> None:
        """Keep the words of the terminal that this process was begun with, so that everybody can go on with the run."""
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        if spec is not None and spec.name == "xai.__main__":
            words = without_place(sys.argv[1:])
            kind = str(config.get("kind", words[0]))
            here, together = str(Path.cwd()), started_together()
            self.set_launch(Launch(kind, "", words, here, asked=time.time(), processes=together))


def without_place(words: Sequence[str]) -> tuple[str, ...]:
    """The words of a command without `--out DIR` and `--resume`: what the run is, not where."""
    kept: list[str] = []
    skip = False
    for word in words:
        if not (skip or word in ("--out", "--resume") or word.startswith("--out=")):
            kept.append(word)
        skip = word == "--out"
    return tuple(kept)


class _Reporter:
    """Writes progress to status.json now and then, with the time left."""

    def __init__(self, folder: RunFolder, run: Run) -> None:
        self.folder, self.run = folder, run
        self.last: tuple[int, int, str] = (0, 0, "")
        self._begun: tuple[float, int] | None = None
        self._written = 0.0

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if self._begun is None and total:  # where nothing counts yet, nothing is told of the pace
            self._begun = (now, done)
        since, first = self._begun or (now, done)
        left = (now - since) * (total - done) / (done - first) if done > first else None
        self.last = (done, total, f"{note}, {duration(left)} left" if left is not None and done < total else note)
        if now - self._written >= INTERVAL or done >= total > 0:
            self._written = now
            self.folder.set_status(Status("running", *self.last))
        self.run.on_progress(done, total, self.last[2])


def duration(seconds: float) -> str:
    """Seconds as 40 s, 12 min, or 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Within it the first SIGTERM or Ctrl-C only makes the yielded function true; a second Ctrl-C stops at once.

    Outside the main thread, where Python allows no handler, nothing changes.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {each: signal.getsignal(each) for each in signals}

    def note(_number: int, _frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for each in signals:
        signal.signal(each, note)
    try:
        yield asked.is_set
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _same(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> None:
    for name in sorted(old.keys() | new.keys(), key=lambda each: (each != "kind", each)):
        was, now = old.get(name), new.get(name)
        if was != now:
            if isinstance(was, Mapping) and isinstance(now, Mapping):  # only what differs of many settings
                now = {each: now.get(each) for each in {**was, **now} if was.get(each) != now.get(each)}
            raise InputError(
                f"{path} was asked for {name} {json.dumps(was)}, not {json.dumps(now)}; resume it with the same "
                "settings, or give another folder."
            )


if LENT in os.environ:
    adopt(int(os.environ.pop(LENT)))
