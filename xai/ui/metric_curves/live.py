"""The metric curves page's jobs: asked of the board, followed, and shown where they end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from xai.errors import WeightsError
from xai.metrics.protocol import PROTOCOLS
from xai.studies.comparison import Cost
from xai.ui import clicks
from xai.ui.browser import HIDDEN, carry
from xai.ui.jobs import BOARD, Job
from xai.ui.live import Live
from xai.ui.metric_curves import show as curves_show
from xai.ui.metric_curves.forms import use_random
from xai.ui.metric_curves.state import CurvesChoice, Pictures
from xai.ui.metric_curves.work import OneFound, OneRequest, SetFound, SetRequest, going
from xai.ui.work import Held, Net, short

Request = OneRequest | SetRequest


def duration(seconds: float) -> str:
    """An estimate for people."""
    if seconds < 1.5:
        return "a second"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def words(cost: Cost) -> str:
    """A cost for people."""
    return f"{cost.passes:,} forward passes, about {duration(cost.seconds)}"


def one(choice: CurvesChoice, live: Live, pictures: Pictures) -> list[tuple[str, str, str]]:
    """Ask for the curves of the chosen picture on every network; (packet, network, title) for the scrubber."""
    piece = pictures.pieces[choice.which]
    asked = [OneRequest(piece, pictures, net, choice.view, choice.terms) for net in choice.nets]
    requests: list[OneRequest] = [going(each, choice.go, BOARD.get) for each in asked]
    said: list[bool] = []

    def show(request: OneRequest, job: Job) -> None:
        if isinstance(job.result, OneFound):
            with st.container(key=f"{HIDDEN}-{request.id}"):
                carry(job.result.data, key=f"packet-{request.id}")
        elif isinstance(job.result, Held):
            _hold(choice, request, job.result, f"{piece.item.key} on {request.net.title}")
        elif not isinstance(job.problem, WeightsError) and job.error:
            st.warning(f"{piece.item.key} on {request.net.title}: {job.error}")
        jobs = [BOARD.get(each.key) for each in requests]
        if not said and not any(each is None or each.active for each in jobs):
            said.append(True)  # two may end between two looks, and each would find that all have ended
            _without_weights(choice, requests, [each for each in jobs if each is not None])

    for request in requests:
        title = f"{piece.item.key} on {request.net.title}"
        if _stopped(choice, request, title):
            continue
        live.work(request.key, title, request.work, partial(show, request), cost=0.01, lane=request.net.text)
    return [(request.id, request.net.text, request.net.title) for request in requests]


def _without_weights(choice: CurvesChoice, requests: Sequence[OneRequest], jobs: Sequence[Job]) -> None:
    """One sentence for all networks whose weights cannot be had, and the way on."""
    failed = [(r.net, job) for r, job in zip(requests, jobs, strict=True) if isinstance(job.problem, WeightsError)]
    if not failed:
        return
    nets = tuple(net for net, _ in failed)
    names = " and ".join(filter(None, (", ".join(net.title for net in nets[:-1]), nets[-1].title)))
    st.warning(f"{names} cannot be measured with ImageNet's weights: {failed[0][1].error}", icon=":material/info:")

    def go_on(chosen: tuple[Net, ...] = nets) -> None:
        use_random(choice, chosen)

    clicks.button("Use random weights (marked in every figure)", go_on, key="cu_random")


def _hold(choice: CurvesChoice, request: Request, held: Held, what: str) -> None:
    """What slow work costs, and its button."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{what}: {words(held.cost)}.")
        clicks.button("Measure", partial(choice.go.add, request.base), key=f"cu_go_{_place(request)}")


def _stopped(choice: CurvesChoice, request: Request, what: str) -> bool:
    """Whether this was cancelled; then there is a button that goes on, with what was done kept."""
    job = BOARD.get(request.key)
    if request.key not in choice.stopped or (job is not None and job.state == "done"):
        return False
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{what}: stopped; what is measured is kept.")
        clicks.button("Go on", partial(choice.stopped.discard, request.key), key=f"cu_on_{_place(request)}")
    return True


def _place(request: Request) -> str:
    """Which of the page's requests it is, whatever it asks for."""
    return request.net.text if isinstance(request, OneRequest) else "every"


def every(choice: CurvesChoice, live: Live, pictures: Pictures, key: str) -> None:
    """Ask for all pictures by the chosen protocol, and by the others where a person has asked for them."""
    asked = {name: _of(choice, pictures, name) for name in PROTOCOLS}
    request = asked[choice.protocol]
    if _stopped(choice, request, f"{_count(pictures)}, {PROTOCOLS[choice.protocol].title}"):
        return

    def show(job: Job) -> None:
        if isinstance(job.result, SetFound):
            _results(choice, pictures, asked, job.result, key)
        elif isinstance(job.result, Held):
            _hold(choice, request, job.result, f"{_count(pictures)}, {PROTOCOLS[choice.protocol].title}")
        elif isinstance(job.problem, WeightsError):
            st.caption("There is nothing to average before a classifier above can be used.")
        elif job.error:
            st.warning(job.error)

    lane = choice.nets[0].text
    live.work(request.key, f"Measuring {_count(pictures)}", request.work, show, cost=0.1, lane=lane)
    job = BOARD.get(request.key)
    if job is None or job.active:
        live.tasks[-1].place.caption("Means, ranks and files appear here when all pictures are measured.")
    for name, other in asked.items():
        if name != choice.protocol and other.go and other.key not in choice.stopped:
            before = BOARD.get(other.key)

            def again(job: Job, there: bool = before is not None and before.state == "done") -> None:
                if job.error:
                    st.warning(job.error)
                elif not there:
                    st.rerun()  # the table of protocols has a new column

            title = f"{PROTOCOLS[name].title}, {_count(pictures)}"
            live.work(other.key, title, other.work, again, cost=1.0, lane=lane)


def _of(choice: CurvesChoice, pictures: Pictures, protocol: str) -> SetRequest:
    """The request by one protocol; another protocol than the chosen one has its own substrates."""
    terms = choice.terms.by(protocol)
    request: SetRequest = going(SetRequest(pictures, choice.nets, choice.view, terms), choice.go, BOARD.get)
    return request


def _count(pictures: Pictures) -> str:
    n = len(pictures.pieces)
    return f"{n} picture{'s' * (n != 1)}"


def _results(choice: CurvesChoice, pictures: Pictures, asked: dict[str, SetRequest], found: SetFound, key: str) -> None:
    """Figures, ranks, protocols, two methods, files."""
    curves_show.curves(found, choice, key, short(*found.request.key))
    st.markdown("**Who is ahead**")
    curves_show.ranks(found)
    st.markdown("**Does the ranking hold by another protocol?**")
    done = {
        name: job.result
        for name, request in asked.items()
        if (job := BOARD.get(request.key)) is not None and isinstance(job.result, SetFound)
    }
    curves_show.flips(done)
    with st.container(horizontal=True):
        for name, request in asked.items():
            if name not in done and not request.go:
                text = f"{PROTOCOLS[name].title}: {words(found.costs[name])}"
                clicks.button(text, partial(choice.go.add, request.base), key=f"{key}_protocol_{name}")
    st.markdown("**Two methods, picture by picture**")
    curves_show.pair(found, key)
    curves_show.save(found, choice, pictures, key)
