"""Locks on files, which the system frees however a process ends, and a queue in front of one."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

POLL = 0.2
"""Seconds between two looks at a lock that is waited for."""

PATIENCE, GLANCE = 0.5, 0.01
"""Seconds for which a lock is tried where only a glance of `is_held` can be in the way, and between two tries."""


class Busy(Exception):  # noqa: N818 (a state, not an error: callers wait or say so)
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock on the file at `path`, or raise `Busy` after `patience` seconds."""
    with path.open("ab") as file:
        _lock_within(file, patience)
        _held.add(file)
        try:
            yield
        finally:
            _held.discard(file)
            _unlock(file)


def is_held(path: Path) -> bool:
    """Whether somebody holds a lock on the file at `path`; nothing is made where there is none."""
    try:
        with path.open("r+b") as file:
            _lock(file)
            _unlock(file)
    except FileNotFoundError:
        return False
    except Busy:
        return True
    return False


@contextmanager
def turn(path: Path, waiting: Callable[[], None], asked: float | None = None) -> Iterator[None]:
    """Hold the lock at `path` once everybody who asked earlier has had it.

    waiting: called while others are before this one; what it raises ends the wait. asked: when this one asked, in
    seconds since 1970 (None: now). Each one who waits holds a lock on a ticket, so a killed one is in nobody's way.
    """
    queue = path.with_suffix(".queue")
    queue.mkdir(parents=True, exist_ok=True)
    stamp = round(1000 * (time.time() if asked is None else asked))
    ticket = queue / f"{stamp:015}-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        stack.callback(ticket.unlink, missing_ok=True)  # after its lock is gone: Windows keeps what is open
        stack.enter_context(locked(ticket, PATIENCE))
        while not (_first(ticket) and _entered(path, stack)):
            waiting()
            time.sleep(POLL)
        yield


def lend(path: Path) -> IO[bytes]:
    """A locked file to hand to a child process, which takes it by `adopt`; closed here, the child alone holds it.

    Raises `Busy`.
    """
    file = path.open("ab")
    try:
        _lock_within(file, PATIENCE)
    except Busy:
        file.close()
        raise
    return file


def adopt(descriptor: int) -> None:
    """Hold what the parent lent until this process ends; children of this one shall not."""
    os.set_inheritable(descriptor, False)
    _held.add(os.fdopen(descriptor, "ab"))


def _first(ticket: Path) -> bool:
    """Whether nobody who lives has an earlier ticket; those of the dead are torn up."""
    for each in sorted(ticket.parent.iterdir()):
        if each.name >= ticket.name:
            break
        if is_held(each):
            return False
        each.unlink(missing_ok=True)
    return True


def _entered(path: Path, stack: ExitStack) -> bool:
    try:
        stack.enter_context(locked(path))
    except Busy:
        return False
    return True


def _lock_within(file: IO[bytes], patience: float) -> None:
    for _ in range(round(patience / GLANCE)):
        try:
            return _lock(file)
        except Busy:
            time.sleep(GLANCE)
    return _lock(file)


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
