"""What a person sets on the adversarial page, and its two panels: one picture, and many."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial

import streamlit as st

from xai.attacks.spec import ATTACKS, Loss
from xai.bundles.attacks import columns_text, csv_bytes, file_stem, norm_of, perturbation, step_text
from xai.errors import ImageError
from xai.explain.call import applicability
from xai.explain.spec import METHODS
from xai.files import safe_name
from xai.images.decode import SUPPORTED_SUFFIXES
from xai.runs.folder import duration
from xai.settings import MAX_UPLOAD_BYTES
from xai.studies.adversarial.study import POSITIONS
from xai.studies.comparison import forward_seconds
from xai.ui import clicks, downloads, held, picture
from xai.ui.adversarial_attack import state as attack
from xai.ui.adversarial_attack import sweep
from xai.ui.adversarial_attack.many import SetRequest
from xai.ui.adversarial_attack.packet import sweep_packet
from xai.ui.adversarial_attack.rates import show_set
from xai.ui.adversarial_attack.state import LIMITS, REACH, AttackChoice, Found, Request
from xai.ui.browser import HIDDEN, carry
from xai.ui.controls import VIEW_TITLES, layer
from xai.ui.jobs import BOARD, Job
from xai.ui.live import Live, sentence
from xai.ui.memory import SENT_BYTES, drop_upload, new_uploads
from xai.ui.nets import net_labels, net_names, net_title
from xai.ui.session import link_of
from xai.ui.work import Ask, Look, Net, Photo, Recent, Scene, look_key, samples
from xai.words import counted

LOSS_TITLES: Mapping[Loss, str] = {"cross-entropy": "Cross-entropy", "margin": "Margin"}
NORM_TITLES = {"linf": "L∞ (every pixel)", "l2": "L2 (all together)"}
LONG_SECONDS = 120.0
"""A study that is estimated to take longer waits for a yes."""

MOST_OWN = 100
"""Own pictures of a set that are held; those that are not in the set make room for new ones."""

_packets: Recent[bytes] = Recent(4)


def network(choice: AttackChoice, key: str) -> None:
    """The classifier that is attacked, and what it sees of the picture; how to go on where it cannot be loaded."""
    names = net_names([net.name for net in choice.nets])
    picked = st.selectbox(
        "Classifier",
        names,
        names.index(choice.nets[0].name),
        format_func=net_title,
        key=f"{key}_net",
    )
    if picked != choice.nets[0].name:
        choice.nets = (Net(picked),)
        choice.plan = dataclasses.replace(choice.plan, target=None)
    choice.view = (
        st.segmented_control(
            "What the network sees",
            list(VIEW_TITLES),
            format_func=VIEW_TITLES.__getitem__,
            default=choice.view,
            key=f"{key}_view",
            required=True,
        )
        or choice.view
    )
    job = BOARD.get(look_key(Scene(choice.photo, choice.view, choice.nets[0])))
    if job is not None and job.state == "failed":
        st.warning(sentence(job.error))

        def use_random() -> None:
            choice.nets = (Net(choice.nets[0].name, "random:0"),)

        clicks.button("Use random weights (marked on every picture)", use_random, key=f"{key}_random")
    if choice.nets[0].weights.startswith("random"):
        st.caption(":red-background[Random weights]: its answers mean nothing; only the mechanics are shown.")


def plan(choice: AttackChoice, key: str) -> None:
    """Attack, norm, reach, steps, target."""
    now = choice.plan
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.segmented_control(
            "Attack",
            ATTACKS.names(),
            format_func=lambda n: ATTACKS.get(n).title,
            default=now.attack,
            key=f"{key}_attack",
            required=True,
        )
        norm = st.segmented_control(
            "Norm",
            list(NORM_TITLES),
            format_func=NORM_TITLES.__getitem__,
            default=now.norm,
            key=f"{key}_norm",
            required=True,
        )
    unit = 255 if norm == "linf" else 1
    reach = now.reach if norm == now.norm else REACH[norm or "linf"]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = "Largest ε, in 1/255" if norm == "linf" else "Largest ε"
        far = st.number_input(label, *LIMITS["reach"], reach * unit, 1.0, format="%g", key=f"{key}_reach_{norm}")
        steps, size, restarts = now.steps, now.step_size, now.restarts
        if ATTACKS.get(name or now.attack).iterative:
            steps = st.number_input("Steps", 1, int(LIMITS["steps"][1]), now.steps, 1, key=f"{key}_steps")
            size = st.number_input(
                "Step size, in 1/255" if norm == "linf" else "Step size",
                *LIMITS["size"],
                now.step_size * unit if now.step_size and norm == now.norm else None,
                0.5,
                format="%g",
                placeholder="2.5 ε / steps",
                key=f"{key}_size_{norm}",
            )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if ATTACKS.get(name or now.attack).iterative:
            most = int(LIMITS["restarts"][1])
            restarts = st.number_input("Restarts", 1, most, now.restarts, 1, key=f"{key}_restarts", width=130)
        loss = st.segmented_control(
            "Loss",
            list(LOSS_TITLES),
            format_func=LOSS_TITLES.__getitem__,
            default=now.loss,
            key=f"{key}_loss",
            required=True,
            help="What the attack climbs. Margin: the best other logit minus that of the class. It does not saturate.",
        )
        envelope = st.toggle(
            "Envelope: keep the best of all smaller ε",
            now.envelope,
            key=f"{key}_envelope",
            help="Off: each ε shows its own attack. On: an ε may show the picture of a smaller one that did better.",
        )
    labels = net_labels(choice.nets[0].name)
    target = st.selectbox(
        "Class to reach",
        range(len(labels)),
        index=now.target if now.target is not None and now.target < len(labels) else None,
        format_func=lambda index: f"{labels[index]} ({index})",
        placeholder="Any other than the predicted one; or search a class",
        key=f"{key}_target_{choice.nets[0].name}",
    )
    choice.plan = dataclasses.replace(
        now,
        attack=name or now.attack,
        norm="l2" if norm == "l2" else "linf",
        reach=far / unit,
        steps=int(steps),
        step_size=size / unit if size else None,
        restarts=int(restarts),
        target=target,
        loss=loss,
        envelope=envelope,
    )


def explanation(choice: AttackChoice, look: Look | None, key: str) -> str | None:
    """The method that is followed, and its layer; gives the layer where it is not the default."""
    names = attack.followed()
    method = st.selectbox(
        "Explanation to follow",
        names,
        names.index(choice.plan.method),
        format_func=lambda n: METHODS.get(n).title,
        key=f"{key}_method",
    )
    choice.plan = dataclasses.replace(choice.plan, method=method)
    if look is not None and METHODS.get(method).uses_layer:
        with st.expander("Layer", expanded=False):
            layer(choice, look, f"{key}_layer")
    return choice.layers.get(choice.nets[0].text) if METHODS.get(method).uses_layer else None


def known(scene: Scene) -> str:
    """ "done" or "failed" once the network has been loaded or could not be, else ""."""
    job = BOARD.get(look_key(scene))
    return "" if job is None or job.active else job.state


def one(choice: AttackChoice, live: Live, scene: Scene, layer_path: str | None, key: str) -> None:
    """The slider and all that follows it; below, what a person takes away."""
    if reason := refusal(choice, scene, layer_path):
        st.warning(reason)
        return
    fine = Request(scene, choice.plan, layer_path)
    first = dataclasses.replace(fine, places=attack.FIRST_POSITIONS)
    asks = st.container(horizontal=True)  # above the slider, whose missing positions they are about
    waits = {request: _waits(choice, request) for request in (first, fine)}
    sweep.mount(key, [fine.id, first.id], "row0", "clean")
    live.explain("clean", Ask(scene, choice.plan.method, layer=layer_path, seed=choice.plan.seed))

    def go(request: Request) -> None:
        choice.stopped.discard(request.key)
        choice.go.add(request.key)

    for request, which in ((first, "the first positions"), (fine, "all positions")):
        if waits[request] == "load":
            continue  # the page runs again when the network is loaded
        if waits[request] == "ask":
            cost = f"{request.passes:,} forward passes, about {duration(_seconds(request) or 0)}"
            with asks:
                clicks.button(f"Compute {which}: {cost}", partial(go, request), key=f"{key}_go_{which.split()[0]}")
            continue
        words = f"{ATTACKS.get(choice.plan.attack).title} at {len(choice.plan.epsilons(request.places))} epsilons"
        whole = partial(_take_away, choice, layer_path, sweep.place(key)) if request is fine else _send
        lane = f"attack {choice.visitor.name}"  # one's own first positions before all of them; others need not wait
        live.work(request.key, words, request.study, whole, cost=_seconds(request) or 0.0, lane=lane)


def refusal(choice: AttackChoice, scene: Scene, layer_path: str | None) -> str:
    """Why the chosen explanation cannot be followed; "" where it can, or the network is not loaded."""
    if known(scene) != "done":
        return ""
    classifier, title = scene.net.load(), METHODS.get(choice.plan.method).title
    coverage = applicability(classifier, choice.plan.method, layer_path)
    return f"{title} does not apply to {classifier.title}: {coverage.sentence}." * (coverage.status == "refused")


def _waits(choice: AttackChoice, request: Request) -> str:
    """What a study waits for: "load" the network, "ask" a person's word; "" where it goes on by itself, or is done."""
    job, seconds = BOARD.get(request.key), _seconds(request)
    if job is not None and job.state == "done":
        return ""
    if seconds is None:
        return "load"
    long = seconds > LONG_SECONDS and request.key not in choice.go
    return "ask" if long or request.key in choice.stopped else ""


def _seconds(request: Request) -> float | None:
    """Estimated from a timed forward; None where the network is not loaded yet."""
    job = BOARD.get(look_key(request.scene))
    if job is None or job.state != "done":
        return None
    return request.passes * forward_seconds(request.scene.net.load())


def _send(job: Job) -> None:
    """Carry a finished study to the browser, or say why there is none."""
    if isinstance(job.result, Found):
        with st.container(key=f"{HIDDEN}-{job.result.request.id}"):
            found: Found = job.result
            carry(_packets.get(found.request.id, lambda: sweep_packet(found)), key=f"packet-{found.request.id}")
    elif job.error:
        st.warning(job.error)


def _take_away(choice: AttackChoice, layer_path: str | None, place: int, job: Job) -> None:
    """Carry the study over all positions to the browser; the table over epsilon, the bundle, the link, the command.

    place: where the slider stands.
    """
    _send(job)
    if not isinstance(job.result, Found):
        return
    found: Found = job.result
    words = attack.command(choice, layer_path)
    name = safe_name(choice.photo.name.rsplit(".", 1)[0])
    with st.expander("Numbers at every epsilon", icon=":material/table:"):
        rows = attack.rows(found)
        st.dataframe(rows, hide_index=True, height=320)
        st.caption(columns_text(found.study))
        told = {"network": found.title + " (random weights)" * found.random, "protocol": found.protocol}
        data = partial(csv_bytes, [row | told for row in rows])
        downloads.button("CSV", data, f"{name}-epsilon.csv", "text/csv", key="aa_csv")
    st.caption(found.protocol)
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.markdown("**Everything as one file**")
        st.caption("Attacked pictures (PNG), perturbations (.npy), maps, overviews, the table, and a manifest.")
        downloads.button(
            "Download the study",
            lambda: attack.bundle(found, choice.photo, words),
            f"olhar-attack-{name}.zip",
            "application/zip",
            key="aa_zip",
        )
        epsilon = step_text(float(found.study.epsilons[place]), norm_of(found.study))
        downloads.button(
            f"Perturbation at {epsilon} (.npy)",
            lambda: perturbation(found.study, place),
            f"{name}-{file_stem('perturbation', found.study, place)}.npy",
            "application/octet-stream",
            key="aa_npy",
            help="What the attack adds, before rounding to 8 bits: float32 (3,H,W) in pixel units of [0, 1].",
        )
    with right:
        st.markdown("**A link that restores these choices**")
        if not choice.photo.sample:
            st.caption("Your own picture is not in the link: it stays on this machine. Drop it in again.")
        st.code(link_of(attack.to_query(choice)), language=None, wrap_lines=True)
        st.markdown("**The same in the terminal**")
        st.code(words, language=None, wrap_lines=True)


def many(choice: AttackChoice, live: Live, scene: Scene, layer_path: str | None, key: str) -> None:
    """A set of pictures: how many are turned at each epsilon, and how far their explanations move."""
    photos = pictures(choice, key)
    places = tuple(range(0, len(POSITIONS), 4))
    request = SetRequest(tuple(photos), choice.view, scene.net, choice.plan, layer_path, places)
    if len(photos) < 2:
        st.info("Choose two pictures or more: the rate is over pictures.")
        return
    if live.looked(scene) is None:
        st.caption("This opens when the network has been loaded.")
        return
    if reason := refusal(choice, scene, layer_path):
        st.warning(reason)
        return
    seconds = request.passes * forward_seconds(scene.net.load())
    if request.key not in choice.go and BOARD.get(request.key) is None:
        with st.container():  # goes as a whole when the work takes its place
            st.write(
                f"{counted(len(photos), 'picture')} at {counted(len(places), 'epsilon')}: "
                f"{request.passes:,} forward passes, "
                f"about {duration(seconds)}."
            )
            clicks.button("Attack them all", partial(choice.go.add, request.key), key=f"{key}_all", type="primary")
        return
    if request.key in choice.stopped:
        with st.container():
            st.write("Stopped before the last picture; there is no curve yet.")
            clicks.button("Start again", partial(choice.stopped.discard, request.key), key=f"{key}_again")
        return
    live.work(
        request.key,
        f"Attacking {counted(len(photos), 'picture')}",
        request.study,
        lambda job: show_set(job, choice, attack.command(choice, layer_path, photos, places)),
        seconds,
        scene.net.text,
        "One picture after another: the bar at the top of the page says how far. The curves come here after the last.",
    )


def pictures(choice: AttackChoice, key: str) -> list[Photo]:
    """The pictures of the set: chosen samples, and own pictures, which stay when another page is looked at."""
    offered = {**samples(), **choice.uploads}
    turn = st.session_state.setdefault(f"{key}_set_turn", 0)  # a fresh uploader and fresh pills after each upload
    place = f"{key}_set_upload_{turn}"
    left, right = st.columns([3, 2], gap="large", vertical_alignment="bottom")
    names = left.pills(
        "Pictures",
        list(offered),
        format_func=titles(offered).__getitem__,
        selection_mode="multi",
        default=list(choice.picked),
        key=f"{key}_set_pictures_{turn}",
        on_change=lambda: setattr(choice, "left_out", ""),  # it was about the last upload
        wrap=True,
    )
    right.file_uploader(
        "And your own",
        type=[suffix.removeprefix(".") for suffix in SUPPORTED_SUFFIXES],
        accept_multiple_files=True,
        max_upload_size=MAX_UPLOAD_BYTES // 2**20,
        key=place,
        on_change=lambda: _take(choice, key, place),
    )
    choice.picked = tuple(name for name in offered if name in names)
    mine = [photo.name for photo in choice.uploads.values()]
    listed = ", ".join(mine[:4]) + f" and {len(mine) - 4} more" * (len(mine) > 4)
    held.keep(f"{key}_set", "pictures" if len(mine) > 1 else "picture", listed, choice.picked)
    if choice.left_out:
        st.warning(choice.left_out)
    return list({offered[name].sha: offered[name] for name in choice.picked}.values())


def titles(offered: Mapping[str, Photo]) -> dict[str, str]:
    """What each picture is called, all differently: pills that are called alike are one to the browser."""
    found: dict[str, str] = {}
    for key, photo in offered.items():
        first = photo.sample or (photo.name if len(photo.name) <= 30 else f"{photo.name[:29]}…")
        taken, title, number = set(found.values()), first, 1
        while title in taken:
            number += 1
            title = f"{first} ({number})"
        found[key] = title
    return found


def _take(choice: AttackChoice, key: str, place: str) -> None:
    """Add what was uploaded to the set; a file that is no picture, or one too many, is left out by name and reason."""
    files = new_uploads(place)
    if not files:
        return
    st.session_state[f"{key}_set_turn"] += 1
    shipped = {photo.sha: name for name, photo in samples().items()}
    bad = []
    for file in files:
        try:
            photo = picture.uploaded(file)
        except ImageError as error:
            bad.append(str(error))
            continue
        if photo.sha not in shipped and not _room(choice, photo):
            most = f"{MOST_OWN} own pictures of {SENT_BYTES // 2**20} MB together"
            bad.append(f"{photo.name} is more than a set holds, which is at most {most}.")
            continue
        choice.picked = tuple(dict.fromkeys((*choice.picked, shipped.get(photo.sha, photo.sha))))
    for file in files:
        drop_upload(file)
    left = f"These {len(bad)} files are left out." if len(bad) > 1 else "It is left out."
    choice.left_out = " ".join((*bad, left)) if bad else ""


def _room(choice: AttackChoice, photo: Photo) -> bool:
    """Hold the picture; where that is one too many, the oldest that are not in the set go, or it is not held."""

    def full() -> bool:
        total = len(photo.data) + sum(len(each.data) for each in choice.uploads.values())
        return len(choice.uploads) >= MOST_OWN or total > SENT_BYTES

    while photo.sha not in choice.uploads and full():
        idle = next((sha for sha in choice.uploads if sha not in choice.picked), None)
        if idle is None:
            return False
        del choice.uploads[idle]
    choice.uploads[photo.sha] = photo
    return True
