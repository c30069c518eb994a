"""The files of a run: what each says, how it is read, and how it is written whole.

`config.json` what was asked for; `launch.json` its title, and the words of the terminal that begin it; `status.json`
how far it is; `times.json` when it worked; `metrics.jsonl` one line a step; `summary.json` the headline figures;
`log.txt`; `pid` the process while there is one. The process that works holds a lock on `.lock`, and one that a page has
started holds `.launch` from its first moment. The system lets go of both however the process ends: a run with a pid
while nobody holds a lock was killed.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from xai.errors import InputError, StorageError
from xai.files import parse_json, read_json, storage_error, user_path, write_atomic
from xai.runs.locks import is_held
from xai.runs.schemas import CONFIGS, METRICS, SUMMARIES, Config
from xai.schema import fault

STATES = ("queued", "running", "done", "failed", "cancelled")

ACTIVE = ("queued", "running")

BEGUN = "begun: "
"""What log.txt says before the command of each process that a page starts."""

STAYED = "it was stopped before it went on."
"""What is said of a run that was done and was stopped while it waited to go on: its result stays."""

LATEST = 1e11
"""Times in seconds since 1970 from which on they are none, in the year 5138."""

TAIL_BYTES = 64 * 1024
"""How much of the end of log.txt is looked at."""


@dataclass(frozen=True)
class Status:
    """What status.json says: one of `STATES`, `done` of `total` units, a note for people, and why it failed."""

    state: str = ""
    done: int = 0
    total: int = 0
    note: str = ""
    error: str = ""

    @property
    def active(self) -> bool:
        """Whether it waits or works."""
        return self.state in ACTIVE


@dataclass(frozen=True)
class Launch:
    """What launch.json says: what the run is called, and how it is begun and gone on with.

    words: what follows `python -m xai`, without `--out` and `--resume`; cwd: where they were said. asked, launched:
    when it was asked for and a page started its process last, in seconds since 1970; before: its state just then.
    processes: how many torchrun began it with.
    """

    kind: str = ""
    title: str = ""
    words: tuple[str, ...] = ()
    cwd: str = ""
    asked: float = 0.0
    launched: float = 0.0
    before: str = ""
    processes: int = 1

    @property
    def command(self) -> str:
        """The terminal command that makes the run again; "" where none is known."""
        return equal_command([*self.words, "--out", "DIR"], self.processes) if self.words else ""


@dataclass(frozen=True)
class Times:
    """What times.json says: when work began first, since when it works now, and the seconds it worked before that."""

    started: float = 0.0
    since: float = 0.0
    worked: float = 0.0


Kept = TypeVar("Kept", Status, Launch, Times)


class RunFiles:
    """The files of the run at `path`. Reading raises `InputError`, writing `StorageError`, each with one sentence."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def config(self) -> dict[str, Any]:
        """What was asked for, as the schema of the run's kind has it."""
        found = self.read("config.json")
        kind = found.get("kind")
        hint = CONFIGS.get(kind, Config) if isinstance(kind, str) else Config
        self._refuse("config.json", fault(hint, found))
        return found

    def summary(self) -> dict[str, Any]:
        """The headline figures, as the schema of the run's kind has them; {} before the end."""
        if not (self.path / "summary.json").is_file():
            return {}
        found = self.read("summary.json")
        asked = self.config() if (self.path / "config.json").is_file() else {}  # what is shipped has none
        kind = asked.get("kind") or found.get("kind") or self.launch().kind
        self._refuse("summary.json", fault(SUMMARIES.get(str(kind), Any), found))
        return found

    def launch(self) -> Launch:
        """What it is called and how it is begun; empty where nobody has said."""
        if not (self.path / "launch.json").is_file():
            return Launch()
        kept = self._kept("launch.json", Launch)
        return replace(kept, words=tuple(map(str, kept.words)))

    def from_here(self, data: str) -> str:
        """Where `data` of its command is, from everywhere: a path counts from the folder that the command was said in.

        Raises `InputError` where launch.json is damaged.
        """
        return data if data.startswith("sample:") else str(Path(self.launch().cwd, user_path(data)))

    def set_launch(self, launch: Launch) -> None:
        """Replace launch.json."""
        self.write("launch.json", asdict(launch))

    def status(self) -> Status:
        """How far it is. One that says it waits or works though its process has died "failed", or was "cancelled"."""
        for _ in range(2):  # it may have ended between a look at what it says and a look at who works
            said = self._kept("status.json", Status)
            if said.state not in STATES:
                raise InputError(
                    f"{self.path / 'status.json'} says state {said.state!r}, which is none; delete the run."
                )
            if not said.active or self.busy():
                return said
        return self._dead(said)

    def set_status(self, status: Status) -> None:
        """Replace status.json."""
        self.write("status.json", asdict(status))

    def busy(self) -> bool:
        """Whether a process works on it, or starts to."""
        return is_held(self.path / ".lock") or is_held(self.path / ".launch")

    def process(self) -> int | None:
        """The number of its process, which may have died."""
        return self._number("pid")

    def cancel_asked(self) -> bool:
        """Whether its process was asked to stop."""
        asked = self._number(".cancel")
        return asked is not None and asked == self.process()

    def seconds(self) -> float:
        """How long it has worked, waiting not counted; of a killed process, until its last word."""
        times = self._times()
        if not times.since:
            return times.worked
        now = time.time() if self.busy() else self._last_word()
        return times.worked + max(0.0, now - times.since)

    def started(self) -> float:
        """When work on it began first, in seconds since 1970; 0 where it has not."""
        return self._times().started

    def clock_on(self) -> None:
        """Note that work begins now."""
        times, now = self._times(), time.time()
        self.write("times.json", asdict(replace(times, started=times.started or now, since=now)))

    def clock_off(self, killed: bool = False) -> None:
        """Note that work has ended: now, or with the last word of a process that was killed."""
        times = self._times()
        if times.since:
            end = self._last_word() if killed else time.time()
            worked = times.worked + max(0.0, end - times.since)
            self.write("times.json", asdict(replace(times, since=0.0, worked=worked)))

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; raises `InputError` where it is missing or damaged."""
        path = self.path / name
        try:
            found = read_json(path)
        except FileNotFoundError as error:
            raise InputError(f"{path} is missing; the run cannot be read without it.") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}.") from error
        if not isinstance(found, dict):
            raise InputError(f"{path} is damaged: it holds no settings.")
        return found

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Replace a JSON file of the run, whole."""
        self.write_bytes(name, (json.dumps(dict(value), indent=1, allow_nan=False) + "\n").encode())

    def write_bytes(self, name: str, data: bytes) -> None:
        """Replace a file of the run, whole; raises `StorageError` where the disk is full or the folder gone."""
        self._still_there()
        write_atomic(self.path / name, data)

    def metric(self, row: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, in one piece: several processes may write."""
        self._append("metrics.jsonl", json.dumps(dict(row), allow_nan=False))

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; one that was cut off by a kill is passed over.

        Raises `InputError` for another that does not fit the schema of the run's kind.
        """
        path = self.path / "metrics.jsonl"
        try:
            lines = path.read_bytes().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
        kind = self.config().get("kind") if (self.path / "config.json").is_file() else None
        rows = []
        for number, line in enumerate(lines, 1):
            row = _parsed(line)
            if row is not None:
                wrong = fault(METRICS.get(str(kind), Config), row)
                self._refuse("metrics.jsonl", wrong and f"line {number}: {wrong}")
                rows.append(row)
        return rows

    def log(self, text: str) -> None:
        """Append a line with the time to log.txt."""
        self._append("log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    def tail(self, count: int = 20) -> list[str]:
        """The last lines of log.txt that are not empty."""
        try:
            with (self.path / "log.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return []
        return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]

    def last_words(self) -> str:
        """The last line that the process started last has written, without "error: "; "" where it wrote none."""
        last = next(iter(self.tail(1)), "")
        return "" if BEGUN in last else last.removeprefix("error: ")

    def _dead(self, said: Status) -> Status:
        """What is true of a run that says it waits or works while nobody does."""
        if said.state == "queued" and self.process() is None:
            return said  # nobody has begun it
        launch, asked = self.launch(), self.cancel_asked()
        if asked and said.state == "queued" and launch.before == "done":
            return replace(said, state="done", note="", error=STAYED)
        if asked:
            return replace(said, state="cancelled", error="stopped; resume goes on.")
        if said.state == "running":
            return replace(said, state="failed", error="its process ended without a word; resume goes on.")
        said = replace(said, note="")
        why = (self.last_words() if launch.launched else "") or "its process ended before it began; resume tries again."
        if launch.before == "done":
            return replace(said, state="done", error=f"it could not go on: {why}")
        return replace(said, state="failed", error=why)

    def _times(self) -> Times:
        return self._kept("times.json", Times) if (self.path / "times.json").is_file() else Times()

    def _last_word(self) -> float:
        """When status.json was written last."""
        try:
            return (self.path / "status.json").stat().st_mtime
        except OSError:
            return 0.0

    def _number(self, name: str) -> int | None:
        try:
            found = int((self.path / name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return found if 0 < found < 2**31 else None

    def _refuse(self, name: str, wrong: str) -> None:
        """Raise `InputError` where something is wrong with a file of the run."""
        if wrong:
            raise InputError(
                f"{self.path / name} is damaged: {wrong}; put the file back from a copy, or make the run again."
            )

    def _kept(self, name: str, kind: type[Kept]) -> Kept:
        """A JSON file as its dataclass; what it says beyond is passed over, and wrong types are damage."""
        said, usual = self.read(name), kind()
        self._refuse(name, fault(kind, said))
        known = {each.name: said.get(each.name, getattr(usual, each.name)) for each in fields(kind)}
        for key, value in known.items():
            if isinstance(value, float) and not 0 <= value < LATEST:
                self._refuse(name, f"{key} is {value!r}, no time")
        return kind(**known)

    def _still_there(self) -> None:
        if not self.path.is_dir():
            raise StorageError(f"the folder {self.path} of the run is gone; start the run again.")

    def _append(self, name: str, line: str) -> None:
        self._still_there()
        path = self.path / name
        try:
            with path.open("ab") as file:
                torn = file.tell() > 0 and not _ends_line(path)
                file.write((b"\n" if torn else b"") + line.encode() + b"\n")
        except OSError as error:
            raise storage_error(error, path) from error


def equal_command(words: Sequence[str], processes: int = 1) -> str:
    """The words of the terminal as a person would type them; by torchrun where there are several processes."""
    head = "python -m xai" if processes == 1 else f"torchrun --nproc-per-node={processes} -m xai"
    return f"{head} {shlex.join(words)}"


def started_together() -> int:
    """How many processes torchrun has started, of which this is one; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = parse_json(line)
    except ValueError:
        return None
    return row


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
