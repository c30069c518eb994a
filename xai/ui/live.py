"""The end of a page's script: hand work to the board, and pass on what is found while it is found.

A page says what each slot of its grids and bars should hold. `follow` asks the board for it, sends every finished
packet to the browser, shows how far the rest is, and returns when nothing is under way. A click anywhere starts the
script anew, which finds the same jobs again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from xai.errors import WeightsError
from xai.runs.folder import duration
from xai.ui import tiles
from xai.ui.browser import HIDDEN, carry, packet
from xai.ui.jobs import BOARD, Job, Work
from xai.ui.session import Choice
from xai.ui.shell import refresh_status
from xai.ui.work import Ask, Held, Look, Recent, Scene, Shown, explain, look, look_key

POLL_SECONDS = 0.1
SHOW_AFTER = 0.6
"""Seconds before a progress bar is shown: quick work needs none."""

QUICK = 0.01
"""Cost of work that is not known to be slow, in seconds."""

Status = dict[str, Any]

_packets: Recent[bytes] = Recent(128)


@dataclass(eq=False)
class Slot:
    """A place in a grid or in the bars: a scene to look at, or explained by a method, or a packet given ready."""

    name: str
    scene: Scene
    ask: Ask | None = None
    job: Job | None = None
    stopped: bool = False
    given: str = ""


@dataclass(eq=False)
class Finding:
    """Something shown once, when all its maps are there; or, if not `whole`, those that there are when none is made."""

    names: tuple[str, ...]
    show: Callable[[Sequence[Shown]], None]
    place: Any
    whole: bool = True
    told: bool = False


@dataclass(eq=False)
class Task:
    """A piece of work that is no map, and what shows its result."""

    key: Hashable
    title: str
    work: Work
    cost: float
    lane: str
    show: Callable[[Job], None]
    place: Any
    job: Job | None = None
    told: bool = False


class Live:
    """The slots of one run of a page's script."""

    def __init__(self, choice: Choice, scope: str) -> None:
        self.choice, self.scope = choice, scope
        self.slots: dict[str, Slot] = {}
        self.findings: list[Finding] = []
        self.tasks: list[Task] = []
        self._given: dict[str, Callable[[], bytes]] = {}
        self._sent: set[str] = set()

    def look(self, name: str, scene: Scene) -> None:
        """Slot `name` shows what a network sees and says."""
        self.slots[name] = Slot(name, scene)

    def explain(self, name: str, ask: Ask) -> None:
        """Slot `name` shows an explanation."""
        self.slots[name] = Slot(name, ask.scene, ask)

    def give(self, name: str, scene: Scene, packet_id: str, make: Callable[[], bytes]) -> None:
        """Slot `name` shows a packet that needs no work; for what a task has found."""
        self.slots[name] = Slot(name, scene, given=packet_id)
        self._given[packet_id] = make

    def find(self, names: Sequence[str], show: Callable[[Sequence[Shown]], None], whole: bool = True) -> None:
        """Call `show`, here, with the explanations in these slots once all are finished.

        whole False: with those that there are, once none is under way any more.
        """
        self.findings.append(Finding(tuple(names), show, st.empty(), whole))

    def work(
        self,
        key: Hashable,
        title: str,
        work: Work,
        show: Callable[[Job], None],
        cost: float = 0.0,
        lane: str = "",
        meanwhile: str = "",
    ) -> None:
        """Do other work on the board, and call `show` with its job, here, when it has ended; `meanwhile` until then."""
        place, job = st.empty(), BOARD.get(key)
        if meanwhile and (job is None or job.active):
            place.caption(meanwhile)
        self.tasks.append(Task(key, title, work, cost, lane, show, place))

    def looked(self, scene: Scene) -> Look | None:
        """What is known about a scene now."""
        job = BOARD.get(look_key(scene))
        return job.result if job is not None and job.state == "done" else None

    def failure(self, scene: Scene) -> str:
        """Why a scene could not be looked at; "" where it was, or may yet be."""
        job = BOARD.get(look_key(scene))
        return sentence(job.error) if job is not None and job.state == "failed" else ""

    def shown(self, name: str) -> Shown | None:
        """The explanation in a slot, if it is finished."""
        self._advance()
        job = self.slots[name].job
        return job.result if job is not None and isinstance(job.result, Shown) else None

    def act(self, slot: str, what: str) -> None:
        """A person's word about a tile: run it, cancel it, try it again."""
        place = self.slots.get(slot)
        if place is None or place.ask is None:
            return
        key = self._resolved(place).key
        if what == "cancel":
            self._stop(place)
        elif what == "run":
            self.choice.stopped.discard(key)
            self.choice.go.add(key)
        elif what == "retry":
            for go in (False, True):
                BOARD.forget(replace(self._resolved(place), go=go).key)

    def act_from(self, grid: str) -> None:
        """Do what a person asked of a tile of this grid; for callbacks."""
        asked = tiles.acted(grid)
        if asked:
            self.act(asked["slot"], asked["what"])

    def display_from(self, grid: str) -> None:
        """Keep the display settings of this grid; for callbacks."""
        values = tiles.displayed(grid)
        if values:
            self.choice.display = tiles.checked_display(values)

    def cancel_all(self) -> None:
        """Cancel every explanation under way; what is finished stays."""
        for slot in self.slots.values():
            if slot.ask is not None and slot.job is not None and slot.job.active:
                self._stop(slot)
        for task in self.tasks:
            if task.job is not None and task.job.active:
                BOARD.leave(self.choice.visitor.name, task.key)
                self.choice.stopped.add(task.key)

    def follow(self, progress: Any) -> None:
        """Pass on what is found until nothing is under way. progress: an empty place for the bar and its button."""
        hidden = st.container(key=f"{HIDDEN}-{self.scope}")
        with hidden:
            status = st.empty()
        started, bar, told, turn, under_way = time.monotonic(), None, None, 0, 1
        while True:
            seen = BOARD.version
            ended = [job for job in self._jobs() if not job.active]
            self._advance()
            self._tell()
            with hidden:
                self._send()
            state = {name: self._status(slot) for name, slot in self.slots.items()}
            if state != told:
                told, turn = state, turn + 1
                with status:
                    carry(packet({"kind": "status", "slots": state}), key=f"status-{self.scope}-{turn}")
            active = [job for job in self._jobs() if job.active]
            if len(active) < under_way:
                refresh_status()
            under_way = len(active)
            if all(job in ended for job in self._jobs()):
                break  # what ends while a round goes on is passed on by the next one
            if not active:
                continue
            if bar is None and time.monotonic() - started > SHOW_AFTER:
                bar = self._bar(progress)
            if bar is not None:
                bar.progress(*self._overall(active))
            BOARD.wait(seen, POLL_SECONDS)
        progress.empty()

    def _bar(self, progress: Any) -> Any:
        with progress.container(horizontal=True, vertical_alignment="center"):
            bar = st.progress(0.0, " ")
            st.button("Cancel", key=f"{self.scope}_cancel", on_click=self.cancel_all)
        return bar

    def _jobs(self) -> list[Job]:
        jobs = [slot.job for slot in self.slots.values()] + [task.job for task in self.tasks]
        return [job for job in jobs if job is not None]

    def _overall(self, active: list[Job]) -> tuple[float, str]:
        """How far everything asked for is: a share, each job by its cost, and words about what runs."""
        weights = {job: max(job.cost, QUICK) for job in self._jobs()}
        done = sum(weight * (job.share if job.active else 1.0) for job, weight in weights.items())
        job = next((job for job in active if job.state == "running"), active[0])
        left = job.seconds_left()
        words = job.title
        if job.total:
            words += f": {job.done:,} of {job.total:,}" + (f", about {duration(left)} left" if left is not None else "")
        words += f" ({job.note})" if job.note else ""
        return min(1.0, done / sum(weights.values())), words

    def _tell(self) -> None:
        """Show the findings whose maps are there, and the tasks that have ended; each once a run."""
        for finding in self.findings:
            jobs = [self.slots[name].job for name in finding.names]
            found = [job.result for job in jobs if job is not None and isinstance(job.result, Shown)]
            under_way = any(job is not None and (job.active or isinstance(job.result, Look)) for job in jobs)
            if not finding.told and (len(found) == len(jobs) or not (finding.whole or under_way)):
                finding.told = True
                with finding.place.container():
                    finding.show(found)
        for task in self.tasks:
            if task.job is not None and not task.job.active and not task.told:
                task.told = True
                with task.place.container():
                    task.show(task.job)

    def _advance(self) -> None:
        """Ask the board for everything that can be asked now."""
        owner = self.choice.visitor.name
        wanted: set[Hashable] = set()
        for slot in self.slots.values():
            if slot.given:
                continue
            if slot.ask is None:
                slot.job = self._look(slot.scene)
            else:
                slot.job = self._explain(slot)
                wanted.add(look_key(slot.scene))
            if slot.job is not None:
                wanted.add(slot.job.key)
        for task in self.tasks:
            task.job = BOARD.submit(owner, task.key, task.title, task.work, task.cost, task.lane)
            wanted.add(task.key)
        BOARD.want(owner, self.scope, wanted)

    def _look(self, scene: Scene) -> Job:
        def work(run: Any) -> Look:
            return look(scene, run)

        title = f"Looking at the picture with {scene.net.title}"
        return BOARD.submit(self.choice.visitor.name, look_key(scene), title, work, 0.0, scene.net.text)

    def _explain(self, slot: Slot) -> Job | None:
        seen = self._look(slot.scene)
        if seen.state != "done":
            return seen  # its state and its error are this slot's
        ask = self._resolved(slot)
        slot.stopped = ask.key in self.choice.stopped
        if slot.stopped:
            return None
        gone = replace(ask, go=True)
        first = BOARD.get(ask.key)
        held = first.result if first is not None and isinstance(first.result, Held) else None
        if ask.key in self.choice.go or BOARD.get(gone.key) is not None:
            return self._submit(gone, seen.result, held.cost.seconds if held else QUICK, "")
        return self._submit(ask, seen.result, QUICK, ask.scene.net.text)

    def _submit(self, ask: Ask, seen: Look, cost: float, lane: str) -> Job:
        def work(run: Any) -> Shown | Held:
            return explain(ask, seen, run)

        title = f"{ask.title} on {seen.title}"
        return BOARD.submit(self.choice.visitor.name, ask.key, title, work, cost, lane)

    def _resolved(self, slot: Slot) -> Ask:
        """The ask with its class: the predicted one where none was chosen."""
        assert slot.ask is not None
        seen = self.looked(slot.scene)
        if slot.ask.target is None and seen is not None:
            return replace(slot.ask, target=seen.order[0])
        return slot.ask

    def _stop(self, slot: Slot) -> None:
        key: Hashable = self._resolved(slot).key
        self.choice.stopped.add(key)
        self.choice.go.discard(key)
        if slot.job is not None:
            BOARD.leave(self.choice.visitor.name, slot.job.key)

    def _send(self) -> None:
        """Every finished packet, once a run."""
        for name, make in self._given.items():
            self._carry(name, make)
        for slot in self.slots.values():
            result = slot.job.result if slot.job is not None else None
            if isinstance(result, Look):
                self._carry(tiles.view_id(result), lambda found=result: tiles.view_packet(found))
            elif isinstance(result, Shown):
                self._carry(tiles.view_id(result.look), lambda found=result.look: tiles.view_packet(found))
                self._carry(tiles.map_id(result), lambda found=result: tiles.map_packet(found))

    def _carry(self, name: str, make: Any) -> None:
        if name not in self._sent:
            self._sent.add(name)
            carry(_packets.get(name, make), key=f"packet-{name}")

    def _status(self, slot: Slot) -> Status:
        job = slot.job
        if slot.given:
            return {"state": "done", "id": slot.given}
        if slot.stopped or job is None:
            return {"state": "stopped"}
        if job.state == "waiting":
            ahead = BOARD.ahead_of(job)
            return {"state": "waiting", "note": f"Waits for {ahead}" if ahead else "Waiting"}
        if job.state == "running":
            words = job.note or ("Explaining" if slot.ask else "Looking")
            share, left = round(job.share, 2), job.seconds_left()
            return {
                "state": "running",
                "note": words,
                "share": share,
                "left": None if left is None else round(left),
                "stoppable": isinstance(job.key, tuple) and job.key[0] == "explain",
            }
        if job.state in ("failed", "cancelled"):
            return self._failed(slot, job)
        return self._done(slot, job.result)

    def _failed(self, slot: Slot, job: Job) -> Status:
        state = "refused" if job.refused else "failed"
        message = sentence(job.error or "cancelled.")
        if job.key != look_key(slot.scene):
            return {"state": state, "message": message}
        brief = f"{slot.scene.net.title} could not be used; the reason is above."
        offer = "random" if isinstance(job.problem, WeightsError) else ""
        return {"state": state, "message": message, "brief": brief, "offer": offer}

    def _done(self, slot: Slot, result: Any) -> Status:
        if isinstance(result, Held):
            return {"state": "held", "passes": result.cost.passes, "seconds": result.cost.seconds}
        if isinstance(result, Shown):
            return {"state": "done", "id": tiles.map_id(result)}
        if slot.ask is not None:  # the look is done; the explanation is asked for in the next round
            return {"state": "waiting", "note": "Waiting"}
        status: Status = {"state": "done", "id": tiles.view_id(result)}
        if self.choice.target is not None and self.choice.target < len(result.labels):
            status["target"] = tiles.entry(result, self.choice.target)
        return status


def sentence(text: str) -> str:
    """The text with a capital letter first: messages begin with a value or in lower case."""
    return text[:1].upper() + text[1:]
