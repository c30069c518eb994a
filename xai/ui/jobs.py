"""Work off the script threads: one board for all sessions, a few threads, jobs that many sessions can share.

A worker never calls streamlit. A script asks for a job by its key and finds the same job again on its next run, in
another tab, and in another person's session. Whoever asks is an owner; a job that no owner wants any more is
cancelled. Finished jobs stay, within bounds, as the cache of results; cancelled ones are forgotten.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from xai.errors import Cancelled, InputError, XaiError
from xai.types import Run
from xai.ui.memory import JOB_BYTES, give_back, held

LOG = logging.getLogger(__name__)

WORKERS = 3
SLOW_SECONDS = 3.0
"""Estimated seconds from which a job counts as slow; one worker is always left for the quick ones."""

KEPT_JOBS = 800

Work = Callable[[Run], Any]


@dataclass(eq=False)
class Job:
    """One piece of work. Only its board changes it; any thread may read it.

    state: "waiting", "running", "done", "failed" or "cancelled". error: the sentence of a failure, and `problem` its
    exception; refused: it is a refusal on purpose. lane: jobs of one lane run one after another, because they need the
    same network. size: about how many bytes the result holds.
    """

    key: Hashable
    title: str
    work: Work
    cost: float = 0.0
    lane: str = ""
    state: str = "waiting"
    done: int = 0
    total: int = 0
    note: str = ""
    result: Any = None
    error: str = ""
    problem: Exception | None = None
    order: int = 0
    size: int = 0
    started: float = 0.0
    ended: float = 0.0
    owners: set[str] = field(default_factory=set)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def active(self) -> bool:
        """True while it waits or runs."""
        return self.state in ("waiting", "running")

    @property
    def refused(self) -> bool:
        """True where the failure is a refusal on purpose."""
        return isinstance(self.problem, InputError)

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    def seconds_left(self) -> float | None:
        """Estimate from the pace so far; None before there is a pace."""
        elapsed = time.monotonic() - self.started
        early = elapsed < 0.5 or (elapsed < 4 and self.share < 0.02)
        if self.state != "running" or not self.done or not self.total or early:
            return None
        return elapsed * max(0, self.total - self.done) / self.done


class Board:
    """All jobs of the process. `version` grows with every change of state, so that a script can wait for one."""

    def __init__(self, workers: int = WORKERS, kept_jobs: int = KEPT_JOBS, kept_bytes: int = JOB_BYTES) -> None:
        self.version = 0
        self._workers = workers
        self._kept_jobs, self._kept_bytes = kept_jobs, kept_bytes
        self._jobs: OrderedDict[Hashable, Job] = OrderedDict()
        self._wanted: dict[tuple[str, str], frozenset[Hashable]] = {}
        self._changed = threading.Condition(threading.RLock())
        self._threads = 0
        self._idle = 0
        self._started: set[Job] = set()
        self._order = 0

    def submit(self, owner: str, key: Hashable, title: str, work: Work, cost: float = 0.0, lane: str = "") -> Job:
        """The job of this key: the one that there is, or a new one that waits its turn (cheap jobs first)."""
        with self._changed:
            job = self._jobs.get(key)
            if job is None:
                self._order += 1
                job = Job(key, title, work, cost, lane, order=self._order)
                self._jobs[key] = job
                self._hire()
                self._tell()
            self._jobs.move_to_end(key)
            job.owners.add(owner)
            return job

    def get(self, key: Hashable) -> Job | None:
        """The job of this key, if there is one."""
        with self._changed:
            return self._jobs.get(key)

    def want(self, owner: str, scope: str, keys: Iterable[Hashable]) -> None:
        """Say which jobs the owner wants on one page (`scope`); what nobody wants any more is cancelled."""
        with self._changed:
            now = frozenset(keys)
            before = self._wanted.get((owner, scope), frozenset())
            self._wanted[owner, scope] = now
            others = [w for (o, s), w in self._wanted.items() if o == owner and s != scope]
            for key in before - now:
                if not any(key in wanted for wanted in others):
                    self._leave(owner, key)

    def leave(self, owner: str, key: Hashable) -> None:
        """The owner no longer wants this job."""
        with self._changed:
            for place, wanted in self._wanted.items():
                if place[0] == owner:
                    self._wanted[place] = wanted - {key}
            self._leave(owner, key)

    def release(self, owner: str) -> None:
        """The owner is gone (the tab was closed)."""
        with self._changed:
            for place in [place for place in self._wanted if place[0] == owner]:
                del self._wanted[place]
            for key in [key for key, job in self._jobs.items() if owner in job.owners]:
                self._leave(owner, key)

    def forget(self, key: Hashable) -> None:
        """Drop a finished or failed job, so that it can be tried again."""
        with self._changed:
            job = self._jobs.get(key)
            if job is not None and not job.active:
                del self._jobs[key]

    def forget_all(self, chosen: Callable[[Hashable], bool]) -> None:
        """Drop every job that does not run and whose key is chosen."""
        with self._changed:
            for key in [key for key in self._jobs if chosen(key)]:
                self.forget(key)

    def wait(self, seen: int, timeout: float) -> int:
        """Wait until a job changes its state after version `seen`, at most `timeout` seconds; the version then."""
        with self._changed:
            self._changed.wait_for(lambda: self.version != seen, timeout)
            return self.version

    def close(self, seconds: float = 3.0) -> None:
        """Cancel everything and wait for the threads to let go: torch must not be at work when the process ends."""
        with self._changed:
            for job in self._started:
                job.stop.set()
            for job in [job for job in self._jobs.values() if job.state == "waiting"]:
                del self._jobs[job.key]
            self._changed.wait_for(lambda: not self._started, seconds)

    def ahead_of(self, job: Job) -> str:
        """The title of what a waiting job waits for: the running job of its lane, or "" where there is none."""
        with self._changed:
            titles = [j.title for j in self._running() if job.lane and j.lane == job.lane]
            return titles[0] if titles else ""

    def _leave(self, owner: str, key: Hashable) -> None:
        job = self._jobs.get(key)
        if job is None:
            return
        job.owners.discard(owner)
        if job.active and not job.owners:
            job.stop.set()
            if job.state == "waiting":
                job.state = "cancelled"
            del self._jobs[key]  # a running one ends in its thread; asked for again, it is a new job
            self._tell()

    def _tell(self) -> None:
        self.version += 1
        self._changed.notify_all()

    def _hire(self) -> None:
        """One more thread where none is idle; threads stay."""
        if not self._idle and self._threads < self._workers:
            self._threads += 1
            threading.Thread(target=self._serve, name=f"olhar-{self._threads}", daemon=True).start()

    def _running(self) -> list[Job]:
        return [job for job in self._jobs.values() if job.state == "running"]

    def _next(self) -> Job | None:
        running = self._running()
        busy = {job.lane for job in running if job.lane}
        slow = sum(job.cost >= SLOW_SECONDS for job in running)
        ready = [
            job
            for job in self._jobs.values()
            if job.state == "waiting"
            and job.lane not in busy
            and (job.cost < SLOW_SECONDS or slow < max(1, self._workers - 1))
        ]
        return min(ready, key=lambda job: (job.cost, job.order), default=None)

    def _serve(self) -> None:
        while True:
            with self._changed:
                job = self._next()
                while job is None:
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                    job = self._next()
                job.state, job.started = "running", time.monotonic()
                self._started.add(job)
                self._tell()
            self._do(job)

    def _do(self, job: Job) -> None:
        def progress(done: int, total: int, note: str) -> None:
            job.done, job.total, job.note = done, total, note

        state, result, error = "done", None, ""
        try:
            result = job.work(Run(on_progress=progress, cancelled=job.stop.is_set))
        except Cancelled:
            state = "cancelled"
        except XaiError as problem:
            state, error, job.problem = "failed", str(problem), problem
        except Exception as problem:  # the tile says it; the traceback goes to the terminal
            LOG.exception("%s failed", job.title)
            state, error, job.problem = "failed", f"This failed with {type(problem).__name__}: {problem}", problem
        size = held(result)
        with self._changed:
            self._started.discard(job)
            job.work, job.size = _over, size
            job.result, job.error, job.ended = result, error, time.monotonic()
            job.state = state
            if self._jobs.get(job.key) is job:
                self._jobs.move_to_end(job.key)
                if state == "cancelled":
                    del self._jobs[job.key]
            self._trim()
            self._tell()
        give_back()

    def nbytes(self) -> int:
        """About how many bytes the results hold."""
        with self._changed:
            return sum(job.size for job in self._jobs.values())

    def _trim(self) -> None:
        """Forget the jobs asked for longest ago until both bounds hold."""
        kept = [job for job in self._jobs.values() if not job.active]
        count, size = len(kept), sum(job.size for job in kept)
        for job in kept:
            if count <= 1 or (count <= self._kept_jobs and size <= self._kept_bytes):
                return
            del self._jobs[job.key]
            count, size = count - 1, size - job.size


def _over(run: Run) -> None:
    """The work of a job that has ended: what it held, such as a picture's bytes, is free."""


BOARD = Board()
"""The process's board."""

atexit.register(BOARD.close)
