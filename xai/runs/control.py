"""What people do with runs: start one as a process of its own, list them, resume, cancel, rename, delete.

A run that is started here outlives who started it: page, tab and server. It is the same command as in the terminal,
with its folder in `runs_dir()`, and everything known about it is read from there.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

from xai.errors import InputError, StorageError, XaiError
from xai.files import FULL, safe_name, storage_error
from xai.runs.files import BEGUN, Launch, Status, equal_command
from xai.runs.folder import LENT, RunFolder, without_place
from xai.runs.locks import Busy, lend
from xai.settings import runs_dir

ROOT = Path(__file__).resolve().parents[2]

INHERITS = sys.platform != "win32"
"""Whether a process can be started with an open file of this one."""

TITLE_LENGTH = 120

ENDING = 10.0
"""Seconds for which a new process waits for the one before to let go of the run."""


@dataclass(frozen=True)
class Record:
    """A run as the list of runs shows it. fault: what is damaged, one sentence; then `status` says failed with it.

    asked, started: in seconds since 1970, 0 where nobody knows; seconds: how long it has worked. stopping: it was asked
    to stop and has not yet.
    """

    id: str
    path: Path
    kind: str = ""
    title: str = ""
    status: Status = field(default_factory=Status)
    config: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    command: str = ""
    asked: float = 0.0
    started: float = 0.0
    seconds: float = 0.0
    stopping: bool = False
    fault: str = ""

    @property
    def active(self) -> bool:
        """Whether it waits or works."""
        return self.status.active

    @property
    def finished(self) -> bool:
        """Whether it has a result: also that of an earlier end, where it goes on or was cancelled or failed since."""
        return self.status.state == "done" or (self.path / "summary.json").is_file()

    @property
    def resumable(self) -> bool:
        """Whether `resume` would go on with it."""
        return bool(self.words) and not self.fault and self.status.state in ("failed", "cancelled")


def new_run(kind: str, title: str = "") -> Path:
    """A new folder for a run in `runs_dir()`, with a name that says its kind and time; `start` begins it.

    Raises `InputError` for a title that is too long, and `StorageError` where the folder cannot be made.
    """
    launch = Launch(kind, _title(title) if title else "", asked=time.time())
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = runs_dir() / f"{safe_name(kind)}-{stamp}-{secrets.token_hex(2)}"
    try:
        path.mkdir(parents=True)
        RunFolder(path).set_launch(launch)
    except (OSError, StorageError) as error:
        shutil.rmtree(path, ignore_errors=True)
        raise error if isinstance(error, StorageError) else storage_error(error, path) from error
    return path


def begin(kind: str, title: str, words: Sequence[str]) -> Path:
    """The folder of a new run that has been started: `new_run`, `start`. Where the disk is full, nothing of it is left.

    Raises what they raise.
    """
    path = new_run(kind, title)
    try:
        start(words, path)
    except StorageError:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path


def start(words: Sequence[str], path: Path) -> Record:
    """Begin `python -m xai WORDS --out PATH --resume` as a process of its own, "queued" until it works.

    It outlives this process. Its output goes to log.txt. Its words are kept; those of a run that is done stay until its
    process takes the new ones. Raises `InputError` where a process works on the run already, `StorageError` where the
    disk is full or the folder gone, `XaiError` where the system refuses.
    """
    folder = RunFolder(path)
    before = folder.status().state if (path / "status.json").is_file() else ""
    kept = folder.launch()
    launch = replace(
        kept,
        kind=kept.kind or words[0],
        words=(kept.words if before == "done" else ()) or without_place(words),
        cwd=kept.cwd or str(Path.cwd()),
        asked=kept.asked or time.time(),
        launched=time.time(),
        before=before,
    )
    if not _free(folder):
        raise InputError(f"the run {path.name} is under way already; wait for it, or cancel it.")
    folder.clock_off(killed=True)
    folder.log(f"{BEGUN}{equal_command([*without_place(words), '--out', 'DIR'])}")
    try:
        lock = lend(path / ".launch")
    except Busy:
        raise InputError(f"the run {path.name} is being started already.") from None
    try:
        for name in (".cancel", "pid"):
            (path / name).unlink(missing_ok=True)
        folder.set_launch(launch)
        folder.set_status(Status("queued", note="starting"))
        process = _process(without_place(words), launch.cwd, path, lock)
    except OSError as error:
        lock.close()
        if error.errno in FULL:
            raise storage_error(error, path) from error
        why = f"could not be started: {error.strerror or error}."
        folder.set_status(Status("failed", error=f"it {why}"))
        raise XaiError(f"the run {path.name} {why}") from error
    except BaseException:
        lock.close()
        raise
    threading.Thread(target=_watch, args=(process, lock), daemon=True).start()
    try:
        folder.write_bytes("pid", str(process.pid).encode())
    except StorageError:  # a run that nobody can stop shall not go on
        process.kill()
        process.wait()
        raise
    return record(path)


def resume(run_id: str) -> Record:
    """Go on with a run that was cancelled, has failed or was killed. Raises `InputError` where there is nothing to."""
    found = get_run(run_id)
    if found.fault:
        raise InputError(f"the run {run_id} cannot go on: {found.fault}")
    if found.status.state == "done":
        raise InputError(f"the run {run_id} is done; there is nothing left to go on with.")
    if not found.words:
        raise InputError(f"nobody knows the command of the run {run_id}; go on with it in the terminal by --resume.")
    return start(found.words, found.path)


def cancel(run_id: str) -> None:
    """Ask a run to stop at its next clean place; raises `InputError` where it is not under way."""
    path = find_run(run_id)
    folder = RunFolder(path)
    status = folder.status()
    if not status.active:
        raise InputError(f"the run {run_id} is not under way: it is {status.state}.")
    if not folder.cancel():
        folder.set_status(replace(status, state="cancelled", error="it was never begun."))


def rename(run_id: str, title: str) -> Record:
    """Call a run something else; its folder and its id stay."""
    path = find_run(run_id)
    folder = RunFolder(path)
    found = record(path)
    kept = folder.launch()
    kept = replace(kept, kind=kept.kind or found.kind, asked=kept.asked or found.asked)
    folder.set_launch(replace(kept, title=_title(title)))
    return record(path)


def delete(run_id: str) -> None:
    """Delete a run's folder and all that is in it, if no process works on it.

    Raises `InputError` where one does or the folder is no run, and `StorageError` where it cannot be deleted.
    """
    path = find_run(run_id)
    if path.is_symlink():
        raise InputError(f"the run {run_id} is a link to another folder; remove the link by hand.")
    if not _free(RunFolder(path)):
        raise InputError(f"the run {run_id} is under way; cancel it first.")
    gone = path.with_name(f".{path.name}.deleted")
    try:
        path.rename(gone)  # at once for everybody who looks
        shutil.rmtree(gone)
    except OSError as error:
        raise StorageError(f"the run {run_id} cannot be deleted whole ({error.strerror or error}).") from error


def list_runs(kind: str | None = None) -> list[Record]:
    """The runs in `runs_dir()`, the newest first; only those of one kind where that is given.

    A damaged one is in it with its fault. Raises `InputError` where the folder cannot be listed.
    """
    place = runs_dir()
    try:
        paths = [each for each in place.iterdir() if not each.name.startswith(".") and _is_run(each)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"the folder of runs {place} cannot be listed ({error.strerror}); check XAI_RUNS.") from error
    found = [record(path) for path in paths]
    shown = [each for each in found if each.status.state and kind in (None, each.kind)]
    return sorted(shown, key=lambda each: (each.asked, each.id), reverse=True)


def get_run(run_id: str) -> Record:
    """The run of this id; raises `InputError` where there is none."""
    return record(find_run(run_id))


def find_run(run_id: str) -> Path:
    """The folder of the run of this id in `runs_dir()`; raises `InputError`, with near ids, where there is none."""
    place = runs_dir()
    path = place / run_id
    if not run_id or run_id.startswith(".") or Path(run_id).name != run_id or not _is_run(path):
        near = get_close_matches(run_id, [each.id for each in list_runs()], n=1)
        hint = f"did you mean {near[0]}?" if near else "`python -m xai runs` lists those that there are."
        raise InputError(f"there is no run {run_id!r} in {place}; {hint}")
    return path


def record(path: Path) -> Record:
    """What the files of the run at `path` say; what is damaged is said in `fault`, and the rest stays readable."""
    folder = RunFolder(path)
    faults: list[str] = []

    def read(get: Callable[[], Any], usual: Any) -> Any:
        try:
            return get()
        except InputError as error:
            faults.append(str(error))
            return usual

    launch = read(folder.launch, Launch())
    named = (path / "config.json").is_file()
    known = (path / "status.json").is_file() or named  # else a folder that was made, and nothing begun in it
    status = read(folder.status, Status()) if known else Status()
    begun = named or status.state in ("running", "done")
    config = read(folder.config, {}) if begun else {}
    seconds, started = read(folder.seconds, 0.0), read(folder.started, 0.0)
    if faults:
        status = Status("failed", error=faults[0])
    return Record(
        id=path.name,
        path=path,
        kind=launch.kind or str(config.get("kind", "")),
        title=launch.title or path.name,
        status=status,
        config=config,
        words=launch.words,
        command=launch.command,
        asked=launch.asked or _changed(path),
        started=started,
        seconds=seconds,
        stopping=status.active and folder.cancel_asked(),
        fault=faults[0] if faults else "",
    )


def _process(words: Sequence[str], cwd: str, path: Path, lock: IO[bytes]) -> subprocess.Popen[bytes]:
    """The run's process, in a session of its own so that no signal to this one reaches it; it inherits the lock."""
    search = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search)), "PYTHONUNBUFFERED": "1"}
    env.setdefault("OMP_NUM_THREADS", str(max(1, _cores() - 1)))  # one core is left for the pages
    if INHERITS:
        env[LENT] = str(lock.fileno())
    with (path / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "xai", *words, "--out", str(path.resolve()), "--resume"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=cwd if Path(cwd).is_dir() else None,
            env=env,
            start_new_session=True,
            pass_fds=(lock.fileno(),) if INHERITS else (),
        )


def _watch(process: subprocess.Popen[bytes], lock: IO[bytes]) -> None:
    """Wait for the process, or the system keeps what is left of it; the lock is kept here where it cannot be there."""
    if INHERITS:
        lock.close()
    process.wait()
    lock.close()


def _free(folder: RunFolder) -> bool:
    """Whether nobody works on the run; a process that has said how it ended is given time to be gone."""
    until = time.monotonic() + ENDING
    while folder.busy():
        if record(folder.path).active or time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _is_run(path: Path) -> bool:
    """Whether a folder is a run: launch.json, or both of what every run has. A config.json alone can be anything."""
    have = [(path / name).is_file() for name in ("launch.json", "config.json", "status.json")]
    return have[0] or (have[1] and have[2])


def _title(title: str) -> str:
    text = " ".join(title.split())
    if not 0 < len(text) <= TITLE_LENGTH:
        raise InputError(f"the title has {len(text)} characters; give 1 to {TITLE_LENGTH}.")
    return text


def _changed(path: Path) -> float:
    """When config.json was written, or the folder changed."""
    for each in (path / "config.json", path):
        with suppress(OSError):
            return each.stat().st_mtime
    return 0.0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def folder_bytes(path: Path) -> int:
    """Bytes of all files in a run's folder; what links lead to is not counted."""
    total = 0
    for place, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):  # it may have been replaced meanwhile
                total += (Path(place) / name).lstat().st_size
    return total
