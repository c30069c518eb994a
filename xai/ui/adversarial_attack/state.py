"""The adversarial page's state and work: what is attacked and how, the studies as jobs, and their packets."""

from __future__ import annotations

import dataclasses
import io
import shlex
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import streamlit as st
from torch import Tensor

from xai.attacks.spec import ATTACKS, Attack, Loss
from xai.bundles.attacks import entry, image_files, listed, manifest, slope_text, table
from xai.bundles.explanations import manifest_bytes, pack
from xai.explain.spec import METHODS
from xai.files import safe_name
from xai.models.classifier import Classifier
from xai.studies.adversarial.study import POSITIONS, EpsilonStudy, epsilon_study, study_passes
from xai.types import Run
from xai.ui.nets import net_labels
from xai.ui.session import Choice
from xai.ui.work import Net, Photo, Scene, known_net, samples, short

FIRST_SAMPLE = "coffee"
"""Attacked at first: a picture that its network is sure of."""

FIRST_POSITIONS = (0, 8, 16, 24, 32)
"""Positions of the slider that are computed first, so that there is something to see in a moment."""

LIMITS: Mapping[str, tuple[float, float]] = {
    "reach": (0.5, 255.0),
    "size": (0.01, 255.0),
    "steps": (1, 100),
    "restarts": (1, 10),
    "seed": (0, 2**31),
}
"""What the page takes, in links as in its widgets; reach and step size in 1/255 for the L-infinity norm."""

FAMILIES = ("cam", "gradient", "relevance", "attention", "perturbation")
"""Families whose methods can be followed; what takes long is asked for first."""

REACH: Mapping[str, float] = {"linf": 16 / 255, "l2": 4.0}
"""Largest epsilon of the slider at first, by norm."""

_KEY = "olhar_attack"


@dataclass(frozen=True)
class Plan:
    """How to attack, and which explanation to follow. target None: away from the predicted class."""

    attack: str = "pgd"
    norm: Literal["linf", "l2"] = "linf"
    reach: float = REACH["linf"]
    steps: int = 10
    step_size: float | None = None
    restarts: int = 1
    target: int | None = None
    method: str = "gradcam"
    seed: int = 0
    loss: Loss = "cross-entropy"
    envelope: bool = False

    def params(self) -> Attack:
        """The attack's own parameters."""
        spec = ATTACKS.get(self.attack)
        own: dict[str, Any] = {"norm": self.norm, "targeted": self.target is not None, "loss": self.loss}
        if spec.iterative:
            own |= {"steps": self.steps, "step_size": self.step_size, "restarts": self.restarts}
        return spec.params(**own)

    def passes(self, classifier: Classifier, layer: str | None, places: tuple[int, ...] | None, bisect: bool) -> int:
        """Forward passes (a backward counts two) of one picture's study, at the most."""
        return study_passes(
            classifier, self.epsilons(places), self.attack, self.params(), self.method, layer, bisect=bisect
        )

    def epsilons(self, places: tuple[int, ...] | None = None) -> tuple[float, ...]:
        """Positions of the slider as epsilons: the 33 of `POSITIONS`, stretched to the reach."""
        every = tuple(position * self.reach / POSITIONS[-1] for position in POSITIONS)
        return every if places is None else tuple(every[place] for place in places)

    def study(
        self,
        classifier: Classifier,
        x: Tensor,
        layer: str | None,
        places: tuple[int, ...] | None,
        run: Run,
        bisect: bool = True,
    ) -> EpsilonStudy:
        """Do it to x (1,3,H,W), at all positions of the slider or some."""
        return epsilon_study(
            classifier,
            x,
            self.epsilons(places),
            self.attack,
            self.params(),
            self.target,
            self.method,
            layer,
            run=dataclasses.replace(run, seed=self.seed),
            envelope=self.envelope,
            bisect=bisect,
        )


@dataclass(frozen=True)
class Request:
    """One study of one scene: at all positions of the slider and between them, or quickly, at some of them."""

    scene: Scene
    plan: Plan
    layer: str | None
    places: tuple[int, ...] | None = None

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Identity of the result."""
        return ("attack", *self.scene.key, self.plan, self.layer, self.places)

    @property
    def id(self) -> str:
        """Packet id."""
        return short(*self.key)

    @property
    def passes(self) -> int:
        """Forward passes that it takes, about (a backward counts two)."""
        return self.plan.passes(self.scene.net.load(), self.layer, self.places, self.places is None)

    def study(self, run: Run) -> Found:
        """Do it; all positions on a copy of the network, so that nobody else waits for its lease."""
        classifier = self.scene.net.load()
        classifier = classifier.private(run) if self.places is None else classifier
        x = self.scene.tensor(classifier)
        made = self.plan.study(classifier, x, self.layer, self.places, run, bisect=self.places is None)
        return Found(self, made, classifier.labels, classifier.title, classifier.random)


@dataclass(frozen=True, eq=False)
class Found:
    """A finished study and what its pictures need to be named."""

    request: Request
    study: EpsilonStudy
    labels: tuple[str, ...]
    title: str
    random: bool

    @property
    def nbytes(self) -> int:
        """Memory held."""
        study = self.study
        tensors = [study.noisy, study.noise_logits, *(r.adversarial for r in study.attacked)]
        tensors += [getattr(maps, name) for maps in study.maps.values() for name in ("clean", "attack", "noise")]
        return sum(tensor.nbytes for tensor in tensors) * 2  # clean copy and 8-bit levels come on top

    @property
    def protocol(self) -> str:
        """How it was made, where the attack had no gradient, and where the control falls short."""
        return " ".join(filter(None, (self.study.protocol.sentence, slope_text(self.study), self.study.shortfall)))

    def classifier(self) -> Classifier:
        """The network, for its labels."""
        return self.request.scene.net.load()


@dataclass(eq=False)
class AttackChoice(Choice):
    """What one visitor attacks, and how.

    uploads: own pictures for the set by SHA-256. picked: the set, samples by name and own pictures by SHA-256.
    left_out: one sentence about the files of the last upload that are no pictures.
    """

    plan: Plan = field(default_factory=Plan)
    uploads: dict[str, Photo] = field(default_factory=dict)
    picked: tuple[str, ...] = field(default_factory=lambda: tuple(samples()))
    left_out: str = ""


def followed() -> list[str]:
    """Methods that the page offers to follow."""
    return [spec.name for spec in METHODS if spec.family in FAMILIES]


def current() -> AttackChoice:
    """This visitor's choice; on the first run it is read from the address."""
    if _KEY not in st.session_state:
        st.session_state[_KEY] = from_query(st.query_params.to_dict())
    choice: AttackChoice = st.session_state[_KEY]
    return choice


def from_query(query: Mapping[str, str]) -> AttackChoice:
    """The choice that `to_query` wrote; what does not exist is left out and said in `problem`."""
    unknown: list[str] = []
    choice = AttackChoice(samples().get(query.get("image", ""), samples()[FIRST_SAMPLE]))
    for name, take in _READERS.items():
        if name in query:
            try:
                take(choice, query[name])
            except (ValueError, KeyError, OverflowError):
                unknown.append(f"{name} {query[name]!r}")
    if unknown:
        choice.problem = f"The link asked for {', '.join(unknown)}, which is not here; the rest was restored."
    return choice


def _set(choice: AttackChoice, **values: Any) -> None:
    choice.plan = dataclasses.replace(choice.plan, **values)
    choice.plan.params()  # refuses what the attack does not take


def _between(low: float, high: float, text: str) -> float:
    value = float(text)
    if not low <= value <= high:  # NaN is not between anything either
        raise ValueError(text)
    return value


def _set_reach(choice: AttackChoice, text: str) -> None:
    unit = 255 if choice.plan.norm == "linf" else 1
    _set(choice, reach=_between(LIMITS["reach"][0] / unit, LIMITS["reach"][1] / unit, text))


def _set_step(choice: AttackChoice, text: str) -> None:
    unit = 255 if choice.plan.norm == "linf" else 1
    _set(choice, step_size=_between(LIMITS["size"][0] / unit, LIMITS["size"][1] / unit, text))


def _set_whole(name: str, choice: AttackChoice, text: str) -> None:
    low, high = LIMITS[name]
    _set(choice, **{name: int(_between(low, high, str(int(text))))})


def _set_target(choice: AttackChoice, text: str) -> None:
    count = len(net_labels(choice.nets[0].name))
    _set(choice, target=int(_between(0, count - 1, str(int(text)))))


def _set_method(choice: AttackChoice, text: str) -> None:
    if text not in followed():
        raise ValueError(text)
    _set(choice, method=text)


def _set_envelope(choice: AttackChoice, text: str) -> None:
    _set(choice, envelope={"True": True, "False": False}[text])


def _set_layer(choice: AttackChoice, text: str) -> None:
    choice.layers[choice.nets[0].text] = text  # a layer that the network lacks is left out when it is loaded


def _take_norm(choice: AttackChoice, text: str) -> None:
    if text not in REACH:
        raise ValueError(text)
    _set(choice, norm=text, reach=REACH[text])


_READERS: Mapping[str, Any] = {
    "image": lambda choice, text: setattr(choice, "photo", samples()[text]),
    "view": lambda choice, text: setattr(choice, "view", {"crop": "crop", "whole": "whole"}[text]),
    "model": lambda choice, text: setattr(choice, "nets", (known_net(text),)),
    "attack": lambda choice, text: _set(choice, attack=ATTACKS.get(text).name),
    "norm": _take_norm,
    "reach": _set_reach,
    "steps": partial(_set_whole, "steps"),
    "step": _set_step,
    "restarts": partial(_set_whole, "restarts"),
    "target": _set_target,
    "layer": _set_layer,
    "method": _set_method,
    "seed": partial(_set_whole, "seed"),
    "loss": lambda choice, text: _set(choice, loss=text),
    "envelope": _set_envelope,
}


def to_query(choice: AttackChoice) -> dict[str, str]:
    """The choice as query parameters; what is as at first is left out."""
    plan, usual = choice.plan, Plan(norm=choice.plan.norm, reach=REACH[choice.plan.norm])
    query = {"image": choice.photo.sample} if choice.photo.sample not in ("", FIRST_SAMPLE) else {}
    query |= {"view": choice.view} if choice.view != "crop" else {}
    query |= {"model": choice.nets[0].text} if choice.nets[0] != Net("efficientnet_lite0") else {}
    query |= {"norm": plan.norm} if plan.norm != "linf" else {}
    names = {"step_size": "step"}
    for each in dataclasses.fields(plan):
        value = getattr(plan, each.name)
        if each.name not in ("norm", "target") and value != getattr(usual, each.name):
            query[names.get(each.name, each.name)] = str(value)  # a float in full: rounded it may leave its limits
    query |= {"target": str(plan.target)} if plan.target is not None else {}
    path = choice.layers.get(choice.nets[0].text)
    return query | ({"layer": path} if path else {})


def command(
    choice: AttackChoice, layer: str | None, photos: Sequence[Photo] = (), places: tuple[int, ...] | None = None
) -> str:
    """The terminal command that makes the same files; photos: of these instead of the chosen picture."""
    plan, unit = choice.plan, 255 if choice.plan.norm == "linf" else 1
    sources = [f"sample:{photo.sample}" if photo.sample else photo.name for photo in photos or [choice.photo]]
    words = ["python", "-m", "xai", "attack", *sources, "--model", choice.nets[0].name]
    words += ["--weights", choice.nets[0].weights] if choice.nets[0].weights != "imagenet" else []
    words += ["--attack", plan.attack, "--norm", plan.norm]
    words += ["--epsilon", *(f"{epsilon * unit:.9g}" for epsilon in plan.epsilons(places))]
    if ATTACKS.get(plan.attack).iterative:
        words += ["--steps", str(plan.steps), "--restarts", str(plan.restarts)]
        words += ["--step-size", f"{plan.step_size * unit:.9g}"] if plan.step_size else []
    words += ["--loss", plan.loss] if plan.loss != "cross-entropy" else []
    words += ["--envelope"] if plan.envelope else []
    words += ["--target", str(plan.target)] if plan.target is not None else []
    words += ["--method", plan.method, *(["--layer", layer] if layer else [])]
    words += ["--view", choice.view] if choice.view != "crop" else []
    words += ["--seed", str(plan.seed)] if plan.seed else []
    return shlex.join([*words, "--out", "attacked"])


def bundle(found: Found, photo: Photo, words: str) -> bytes:
    """Everything about one study as one zip: PNGs, perturbations, maps, the table over epsilon, manifest."""
    folder = safe_name(photo.name.rsplit(".", 1)[0])
    classifier = found.classifier()
    files = image_files(found.study, classifier, folder)
    made = manifest([entry(found.study, classifier, folder, photo.name)], listed(files), words)
    files["manifest.json"] = manifest_bytes(made)
    buffer = io.BytesIO()
    pack(buffer, files, files.__getitem__)
    return buffer.getvalue()


def rows(found: Found) -> list[dict[str, Any]]:
    """The table over epsilon."""
    return table(found.study, found.classifier())
