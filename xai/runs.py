"""A run is a folder: what was asked, how far it is, what it measured. Written by its own process, read by everybody.

`config.json` what was asked for; `status.json` how far it is, replaced whole; `metrics.jsonl` one line a step;
`summary.json` the headline figures; `log.txt`; `pid` the process while it works. The process that works holds a lock on
`.lock`, which the system lets go of however the process ends: a run whose state says "running" while nobody holds the
lock was killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import IO, Any

import torch

from xai.errors import Cancelled, InputError
from xai.files import write_atomic
from xai.settings import cache_dir
from xai.types import Run

STATES = ("queued", "running", "done", "failed", "cancelled")

INTERVAL = 0.5
"""Seconds between two writings of status.json."""


@dataclass(frozen=True)
class Status:
    """What status.json says: one of `STATES`, `done` of `total` units, a note for people, and why it failed."""

    state: str
    done: int = 0
    total: int = 0
    note: str = ""
    error: str = ""


class RunFolder:
    """The files of one run. `create` and `open` check; the methods only read and write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any], resume: bool = False) -> RunFolder:
        """A new run at `path`, or with `resume` the one that is there, if it was asked for the same.

        Raises `InputError` where the folder holds another run or anything else, and for a resumed run whose config
        differs, naming the first setting that does.
        """
        folder = cls(path)
        if (path / "config.json").is_file():
            if not resume:
                raise InputError(f"{path} holds a run already; add --resume to go on with it, or give another folder.")
            _same(folder.config(), json.loads(_json(config)), path)
            return folder
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise InputError(f"{path} is not an empty folder; give a new one for the run.")
        folder.write("config.json", config)
        folder.set_status(Status("queued"))
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run at `path`; raises `InputError` where there is none."""
        if not (path / "config.json").is_file():
            raise InputError(f"{path} holds no run (it has no config.json); check the path.")
        return cls(path)

    def config(self) -> dict[str, Any]:
        """What was asked for."""
        return self.read("config.json")

    def summary(self) -> dict[str, Any]:
        """The headline figures; {} before the end."""
        return self.read("summary.json") if (self.path / "summary.json").is_file() else {}

    def status(self) -> Status:
        """How far it is. A run that says it works while no process holds its lock has "failed"."""
        said = Status(**self.read("status.json"))
        if said.state == "running" and not self.busy():
            return replace(said, state="failed", error="its process ended without a word; resume goes on.")
        return said

    def busy(self) -> bool:
        """Whether a process works on it now."""
        try:
            with locked(self.path / ".lock"):
                return False
        except Busy:
            return True

    def cancel(self) -> bool:
        """Ask the process that works on it to stop at its next clean place (SIGTERM); False where none does."""
        try:
            process = int((self.path / "pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return False
        if not self.busy():
            return False
        os.kill(process, signal.SIGTERM)
        return True

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; raises `InputError` where it is missing or damaged."""
        try:
            found: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path / name} cannot be read: {error}.") from error
        return found

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Replace a JSON file of the run, whole."""
        write_atomic(self.path / name, _json(value).encode())

    def set_status(self, status: Status) -> None:
        """Replace status.json."""
        self.write("status.json", asdict(status))

    def metric(self, row: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, in one piece: several processes may write."""
        self._append("metrics.jsonl", json.dumps(dict(row), allow_nan=False))

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; one that was cut off by a kill is passed over."""
        try:
            lines = (self.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [row for row in map(_parsed, lines) if row is not None]

    def log(self, text: str) -> None:
        """Append a line with the time to log.txt."""
        self._append("log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    def _append(self, name: str, line: str) -> None:
        path = self.path / name
        with path.open("ab") as file:
            torn = file.tell() > 0 and not _ends_line(path)
            file.write((b"\n" if torn else b"") + line.encode() + b"\n")

    @contextmanager
    def working(self, run: Run, device: torch.device | None = None) -> Iterator[Run]:
        """Within it this process works on the run: locked, "running", stopped by SIGTERM or Ctrl-C.

        device: wait ("queued") until no other run works on it. Yields a `Run` whose reports go to status.json, with
        the time left, and on to `run`. On leaving the state is "done", "cancelled" or "failed" with its reason. Raises
        `InputError` where another process works on it already.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / ".lock"))
            except Busy:
                raise InputError(f"{self.path} is being worked on by another process; wait, or stop that.") from None
            stop = stack.enter_context(stoppable())
            write_atomic(self.path / "pid", str(os.getpid()).encode())
            stack.callback((self.path / "pid").unlink, missing_ok=True)
            reporter = _Reporter(self, run)
            own = replace(run, on_progress=reporter, cancelled=lambda: stop() or run.cancelled())
            try:
                if device is not None:
                    stack.enter_context(self._turn(device, own))
                self.set_status(Status("running", *reporter.last))
                yield own
            except (Cancelled, KeyboardInterrupt):
                self.set_status(Status("cancelled", *reporter.last, error="stopped; resume goes on."))
                self.log("stopped")
                raise
            except BaseException as error:
                self.set_status(Status("failed", *reporter.last, error=f"{error or type(error).__name__}"))
                self.log("".join(traceback.format_exception(error)).rstrip())
                raise
            self.set_status(Status("done", *reporter.last))

    @contextmanager
    def _turn(self, device: torch.device, run: Run) -> Iterator[None]:
        """One run a device: "queued" until the others are done."""
        path = cache_dir() / "locks" / f"{str(device).replace(':', '-')}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.set_status(Status("queued", note=f"waiting for {device}"))
        while True:
            try:
                with locked(path):
                    yield
                    return
            except Busy:
                run.check()
                time.sleep(0.2)


class _Reporter:
    """Writes progress to status.json now and then, with the time left."""

    def __init__(self, folder: RunFolder, run: Run) -> None:
        self.folder, self.run = folder, run
        self.last: tuple[int, int, str] = (0, 0, "")
        self._begun: tuple[float, int] | None = None
        self._written = 0.0

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if self._begun is None:
            self._begun = (now, done)
        since, first = self._begun
        left = (now - since) * (total - done) / (done - first) if done > first else None
        self.last = (done, total, f"{note}, {duration(left)} left" if left is not None and done < total else note)
        if now - self._written >= INTERVAL or done >= total:
            self._written = now
            self.folder.set_status(Status("running", *self.last))
        self.run.on_progress(done, total, self.last[2])


def duration(seconds: float) -> str:
    """Seconds as 40 s, 12 min, or 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


class Busy(Exception):  # noqa: N818 (a state, not an error: callers wait or say so)
    """Another process holds the lock."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on the file at `path`, or raise `Busy`; the system frees it however this process ends."""
    with path.open("ab") as file:
        _lock(file)
        _held.add(file)
        try:
            yield
        finally:
            _held.discard(file)
            _unlock(file)


_held: set[IO[bytes]] = set()


def _let_go() -> None:
    for file in list(_held):
        file.close()
    _held.clear()


# A forked worker (decoding, say) shares its parent's locks and would keep them when the parent is killed.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            raise Busy from None

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy from None

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


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


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), indent=1, allow_nan=False) + "\n"


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return row


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _same(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> None:
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            raise InputError(
                f"{path} was asked for {name} {json.dumps(old.get(name))}, not {json.dumps(new.get(name))}; resume it "
                "with the same settings, or give another folder."
            )
