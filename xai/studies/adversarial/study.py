"""Epsilon against prediction and explanation: one image or many, at every position of a slider.

At each epsilon: the attack, a control of random noise of the same norm, the maps of clean, attacked and noisy image for
the class that was predicted first (old) and the one that took its place (new), and how far each map moved.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xai.attacks import sweep
from xai.attacks.call import bisect_smallest, bisections, predictions
from xai.attacks.spec import ATTACKS, Attack
from xai.attacks.steps import margin
from xai.errors import InputError
from xai.explain import attribute
from xai.explain.call import make_explainer
from xai.explain.spec import METHODS
from xai.metrics.distance import image_distance
from xai.metrics.shift import explanation_shift
from xai.models.batching import in_batches
from xai.models.classifier import Classifier
from xai.models.provenance import provenance
from xai.outputs import Output
from xai.public import public
from xai.stats.intervals import LEVEL, RESAMPLES, Band, Interval, bootstrap_band, bootstrap_mean, share_band
from xai.studies.adversarial.noise import noise_norm, noise_of_equal_norm, shortfall
from xai.types import AttackResult, Protocol, Run
from xai.words import counted

POSITIONS: tuple[float, ...] = tuple(
    k / 255
    for k in (
        *(i / 8 for i in range(8)),
        *(1 + i / 4 for i in range(4)),
        *(2 + i / 2 for i in range(13)),
        *range(9, 17),
    )
)
"""The slider's 33 positions: 0 to 16/255, finer near 0, where networks turn."""

WHO = ("attack", "noise")
CLASSES = ("old", "new")


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of one class at every epsilon: clean, attacked, noisy, each (E,N,h,w); class_index (E,N)."""

    class_index: Tensor
    clean: Tensor
    attack: Tensor
    noise: Tensor


@dataclass(frozen=True, eq=False)
class EpsilonStudy:
    """N images at E epsilons.

    clean (N,3,H,W). attacked, noisy: E results of N images; `noisy` holds pixels (E,N,3,H,W) and `noise_logits`
    (E,N,K). maps: "old" and "new" class. shift[class][who][measure] (E,N). distance[measure] (E,N) of the attacked
    image before it is rounded to 8 bits. norms[who] (E,N): of what the attack and the noise added. smallest (N,): an
    upper bound on the smallest epsilon that succeeds, NaN where none tried does: found by bisection where `bisected`,
    else the smallest of `epsilons` that succeeds.
    """

    epsilons: Tensor
    clean: Tensor
    attacked: tuple[AttackResult, ...]
    noisy: Tensor
    noise_logits: Tensor
    maps: Mapping[str, Maps]
    shift: Mapping[str, Mapping[str, Mapping[str, Tensor]]]
    distance: Mapping[str, Tensor]
    norms: Mapping[str, Tensor]
    smallest: Tensor
    bisected: bool
    method: str
    signed: bool
    protocol: Protocol
    provenance: Mapping[str, Any]

    @property
    def output(self) -> Output:
        """What the logits mean."""
        return self.attacked[0].output

    @property
    def success(self) -> Tensor:
        """(E,N) bool: the attack reached its aim."""
        return torch.stack([result.success for result in self.attacked])

    @property
    def survives_png(self) -> Tensor:
        """(E,N) bool: it still does after rounding to 8 bits."""
        return torch.stack([result.survives_png for result in self.attacked])

    @property
    def saturated(self) -> Tensor:
        """(E,N) bool: at some step the margin stood in for a saturated cross-entropy."""
        return torch.stack([result.saturated for result in self.attacked])

    @property
    def blind(self) -> Tensor:
        """(E,N) bool: at some step the gradient was exactly zero."""
        return torch.stack([result.blind for result in self.attacked])

    @property
    def noise_turns(self) -> Tensor:
        """(E,N) bool: noise of the same norm reaches the aim of the attack."""
        first, targeted = self.attacked[0], bool(self.protocol.settings["targeted"])
        turned = [margin(each, first.target, targeted, first.output) > 0 for each in self.noise_logits]
        return torch.stack(turned) & ~self.already

    @property
    def already(self) -> Tensor:
        """(N,) bool: the aim is reached before the attack, so that nothing has to change."""
        return self.attacked[0].already

    @property
    def shortfall(self) -> str:
        """One sentence where the noise falls short of the attack's norm, else ""."""
        return shortfall(self.norms["attack"], self.norms["noise"], self.protocol.settings["norm"])

    def numbers(self) -> EpsilonNumbers:
        """What a rate over images needs, without the pictures and maps."""
        return EpsilonNumbers(
            self.epsilons,
            self.success,
            self.survives_png,
            self.noise_turns,
            self.shift,
            self.smallest,
            self.protocol.settings["norm"],
            self.norms,
            self.already,
        )

    def probability(self, which: str, who: str = "attack") -> Tensor:
        """(E,N): probability of the "old" or "new" class under the attack or the noise."""
        logits = self.noise_logits if who == "noise" else torch.stack([r.logits_after for r in self.attacked])
        return self.output.probabilities(logits).gather(-1, self.maps[which].class_index[..., None])[..., 0]


@dataclass(frozen=True, eq=False)
class EpsilonNumbers:
    """The numbers of an `EpsilonStudy`: small, so that thousands of images can be kept."""

    epsilons: Tensor
    success: Tensor
    survives_png: Tensor
    noise_turns: Tensor
    shift: Mapping[str, Mapping[str, Mapping[str, Tensor]]]
    smallest: Tensor
    norm: str
    norms: Mapping[str, Tensor]
    already: Tensor


@dataclass(frozen=True, eq=False)
class SecurityCurve:
    """Over images, at each epsilon: rates with their Wilson interval, mean shift of the old class's map with its
    bootstrap interval.

    already: images whose aim is reached before the attack; they are in none of the rates and means. smallest: mean
    upper bound over the images that are turned; never: images that none of the epsilons turns. blank: pairs of maps,
    clean and attacked, of which one is blank: they have no shift and are left out there.
    """

    epsilons: Tensor
    success: Band
    survives_png: Band
    noise_turns: Band
    shift: Mapping[str, Mapping[str, Band]]
    smallest: Interval | None
    never: int
    already: int
    shortfall: str
    blank: int = 0

    @property
    def protocol(self) -> str:
        """What the rates and the shifts are, in words, and where the control falls short."""
        level = f"{100 * LEVEL:g} %"
        left_out = f" ({self.already} more had reached the aim before the attack and are left out)" * bool(self.already)
        return (
            f"Over {counted(self.success.n, 'image')}{left_out}: rates with their Wilson {level} "
            "interval, mean shifts of the map "
            f"of the class that was predicted first with their bootstrap {level} interval ({RESAMPLES:,} resamples); "
            f"what is random is drawn for each image anew.{self.shortfall and ' ' + self.shortfall}{self._left_out}"
        )

    @property
    def _left_out(self) -> str:
        if not self.blank:
            return ""
        pairs = self.success.n * len(self.epsilons)
        return (
            f" {self.blank} of {pairs} attacked images have a blank map, clean or attacked: no shift, left out there."
        )


@public
def epsilon_study(
    classifier: Classifier,
    x: Tensor,
    epsilons: Sequence[float] | Tensor = POSITIONS,
    attack: str = "pgd",
    params: Attack | None = None,
    labels: int | Sequence[int] | Tensor | None = None,
    method: str = "gradcam",
    layer: str | None = None,
    seed: int = 0,
    run: Run | None = None,
    envelope: bool = False,
    bisect: bool = True,
    **method_params: Any,
) -> EpsilonStudy:
    """Attack x (N,3,H,W) in [0, 1] at every epsilon (ascending, pixel units) and follow the explanation.

    labels: as in `xai.attacks.attack`. method, layer, method_params: as in `xai.attribute`. envelope: keep the best of
    each epsilon and all smaller ones, as in `xai.attacks.sweep`. bisect: find the smallest epsilon that succeeds more
    closely than by `epsilons`. run: progress, cancel and seed; made from `seed` if not given.

    Raises `InputError` for bad arguments, `NotApplicableError` where the method does not apply (before the attack
    begins), and `Cancelled`.
    """
    run = dataclasses.replace(run or Run(seed=seed), device=classifier.device)
    params = params or ATTACKS.get(attack).params()
    radii = torch.as_tensor(epsilons, dtype=torch.float32).flatten()
    count, frames = len(radii), len(radii) * len(x)
    explaining = METHODS.get(method).passes(classifier, make_explainer(METHODS.get(method), layer, **method_params))
    attacking = frames * ATTACKS.get(attack).passes(params)
    narrowing = len(x) * bisections(radii, params.norm) * ATTACKS.get(attack).passes(params) if bisect else 0
    stage = _Stage(run, attacking + narrowing + frames + (len(x) + 5 * frames) * explaining)

    def explain(images: Tensor, targets: Tensor, note: str, count: int = frames) -> tuple[Tensor, Tensor, bool]:
        part = stage.next(count * explaining, note)
        return _explain(classifier, images, targets, method, layer, part, method_params)

    # The clean maps come first: what cannot be explained is said before the attack has cost anything.
    before = predictions(classifier, x, run).argmax(-1)
    clean_low, clean_full, signed = explain(x[None], before[None], "old class, clean", len(x))
    part = stage.next(attacking, "attacking")
    attacked = tuple(sweep(classifier, x, radii, attack, params, labels, run.seed, part, envelope))
    smallest = smallest_epsilon(radii, torch.stack([result.success for result in attacked]))
    if bisect:
        part = stage.next(narrowing, "smallest epsilon")
        smallest = bisect_smallest(classifier, x, attacked, attack, params, run.seed, part)
    moved = torch.stack([result.adversarial for result in attacked])
    noisy = torch.stack([noise_of_equal_norm(x, result, params.norm, run) for result in attacked])
    flat = predictions(classifier, noisy.flatten(0, 1), stage.next(frames, "noise"), "predictions")
    maps: dict[str, Maps] = {}
    shift: dict[str, dict[str, dict[str, Tensor]]] = {}
    for which, index in (("old", before.expand(count, -1)), ("new", _new_class(attacked, params.targeted))):
        if which == "new":
            clean_low, clean_full = _clean_maps(explain, x, index)
        attack_low, attack_full, _ = explain(moved, index, f"{which} class, attacked")
        noise_low, noise_full, _ = explain(noisy, index, f"{which} class, noise")
        clean_low, clean_full = (each.expand(count, *each.shape[1:]) for each in (clean_low, clean_full))
        maps[which] = Maps(index.contiguous(), clean_low, attack_low, noise_low)
        shift[which] = {"attack": _shift(clean_full, attack_full), "noise": _shift(clean_full, noise_full)}
    distance = [image_distance(result.clean, result.adversarial) for result in attacked]
    return EpsilonStudy(
        epsilons=radii,
        clean=attacked[0].clean,
        attacked=attacked,
        noisy=noisy,
        noise_logits=_rows(flat, noisy.shape[:2]),
        maps=maps,
        shift=shift,
        distance={name: torch.stack([each[name] for each in distance]) for name in distance[0]},
        norms={
            "attack": torch.stack([each[params.norm] for each in distance]),
            "noise": noise_norm(attacked[0].clean, noisy, params.norm),
        },
        smallest=smallest,
        bisected=bisect,
        method=method,
        signed=signed,
        protocol=_protocol(
            attack,
            params,
            radii,
            {"method": method, "layer": layer, "envelope": envelope},
            run.seed,
            _aim(classifier, attacked[0].target, params.targeted, labels),
            classifier.output,
        ),
        provenance={**provenance(classifier, "attack", attack, params, run.seed), "method": method, "layer": layer},
    )


def study_passes(
    classifier: Classifier,
    epsilons: Sequence[float],
    attack: str,
    params: Attack,
    method: str,
    layer: str | None = None,
    bisect: bool = True,
) -> int:
    """Forward passes (a backward counts two) of one image's study, at the most.

    At each epsilon the attack, the noise and five maps; then the attacks that look for the smallest epsilon.
    """
    spec, attacking = METHODS.get(method), ATTACKS.get(attack).passes(params)
    each = attacking + 1 + 5 * spec.passes(classifier, make_explainer(spec, layer))
    return len(epsilons) * each + bisect * bisections(epsilons, params.norm) * attacking


def smallest_epsilon(epsilons: Tensor, success: Tensor) -> Tensor:
    """The smallest of `epsilons` (E,) at which success (E,N) holds, (N,); NaN where it never does."""
    never = torch.full(success.shape[1:], torch.nan)
    first = epsilons[success.float().argmax(0)]
    return torch.where(success.any(0), first, never)


@public
def security_curve(studies: EpsilonStudy | Sequence[EpsilonStudy | EpsilonNumbers], seed: int = 0) -> SecurityCurve:
    """Success rate against epsilon over the images of one study or several, beside the control, and the mean shift.

    Images whose aim is reached before the attack are left out and counted. Raises `InputError` for studies of different
    epsilons, and where no image is left.
    """
    given = [studies] if isinstance(studies, EpsilonStudy) else list(studies)
    each = [study.numbers() if isinstance(study, EpsilonStudy) else study for study in given]
    if not each or any(not torch.equal(study.epsilons, each[0].epsilons) for study in each):
        raise InputError("the studies have different epsilons; give at least one, all of the same epsilons.")
    open_ = [~study.already for study in each]
    if not any(bool(rows.any()) for rows in open_):
        raise InputError("every image has reached the aim before the attack, so there is no rate; give another class.")

    def joined(values: Callable[[EpsilonNumbers], Tensor]) -> Tensor:
        return torch.cat([values(study)[..., rows] for study, rows in zip(each, open_, strict=True)], -1)

    def rate(values: Callable[[EpsilonNumbers], Tensor]) -> Band:
        return share_band(joined(values).T)

    def band(who: str, name: str) -> Band:
        rows = joined(lambda study: study.shift["old"][who][name]).T.double()
        return _known_band(rows, seed) if bool(rows.isnan().any()) else bootstrap_band(rows, seed=seed)

    smallest = joined(lambda study: study.smallest)
    turned = smallest[~smallest.isnan()]
    attacked, noise = joined(lambda study: study.norms["attack"]), joined(lambda study: study.norms["noise"])
    return SecurityCurve(
        epsilons=each[0].epsilons,
        success=rate(lambda study: study.success),
        survives_png=rate(lambda study: study.survives_png),
        noise_turns=rate(lambda study: study.noise_turns),
        shift={who: {name: band(who, name) for name in each[0].shift["old"]["attack"]} for who in WHO},
        smallest=bootstrap_mean(turned, seed=seed) if len(turned) else None,
        never=int(smallest.isnan().sum()),
        already=sum(int(study.already.sum()) for study in each),
        shortfall=shortfall(attacked, noise, each[0].norm),
        blank=int(joined(lambda study: study.shift["old"]["attack"]["spearman"]).isnan().sum()),
    )


def _known_band(rows: Tensor, seed: int) -> Band:
    """`bootstrap_band` of rows (n,E), each position over the images that have a value there; NaN where none has."""
    columns = [column[~column.isnan()] for column in rows.T]
    found = [
        bootstrap_mean(column, seed) if len(column) else Interval(math.nan, math.nan, math.nan, 0) for column in columns
    ]
    mean, low, high = torch.tensor([(each.mean, each.low, each.high) for each in found], dtype=torch.float64).T
    return Band(mean, low, high, len(rows))


def _new_class(attacked: tuple[AttackResult, ...], targeted: bool) -> Tensor:
    """(E,N): the class to reach; untargeted, the strongest class that is not the old one."""
    if targeted:
        return attacked[0].target.expand(len(attacked), -1)
    old = attacked[0].logits_before.argmax(-1)
    logits = torch.stack([result.logits_after for result in attacked])
    return logits.scatter(-1, old.expand(len(attacked), -1)[..., None], -torch.inf).argmax(-1)


def _clean_maps(explain: Any, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of the clean images for index (E,N), computed once for each (image, class) pair."""
    who = torch.arange(index.shape[1]).expand_as(index)
    pairs, inverse = torch.unique(torch.stack([who, index], -1).flatten(0, 1), dim=0, return_inverse=True)
    low, full, _ = explain(x[pairs[:, 0]][None], pairs[:, 1][None], "new class, clean")
    shape = index.shape
    return _rows(low[0][inverse], shape), _rows(full[0][inverse], shape)


def _explain(
    classifier: Classifier,
    images: Tensor,
    targets: Tensor,
    method: str,
    layer: str | None,
    run: Run,
    params: Mapping[str, Any],
) -> tuple[Tensor, Tensor, bool]:
    """Maps of images (E,N,3,H,W) for targets (E,N): at the method's resolution, at the input size; whether signed."""
    flat, chosen = images.flatten(0, 1), targets.flatten()
    whole = run.part(0, 100 * len(flat), 100 * len(flat))

    def work(start: int, stop: int) -> tuple[Tensor, Tensor, bool]:
        share = whole.part(100 * start, 100 * (stop - start), 100 * len(flat))
        found = attribute(classifier, flat[start:stop], method, chosen[start:stop], layer, run=share, **params)
        return found.values.sum(1) if found.values.dim() == 4 else found.values, found.maps(), found.signed

    parts = [part for _, _, part in in_batches(work, len(flat), whole)]
    low, full, signed = zip(*parts, strict=True)
    shape = images.shape[:2]
    return _rows(torch.cat(low), shape), _rows(torch.cat(full), shape), signed[0]


def _shift(before: Tensor, after: Tensor) -> dict[str, Tensor]:
    found = explanation_shift(before.flatten(0, 1), after.flatten(0, 1))
    return {name: _rows(value, before.shape[:2]) for name, value in found.items()}


def _rows(flat: Tensor, shape: torch.Size) -> Tensor:
    """(E*N, ...) -> (E,N, ...)."""
    return flat.reshape(*shape, *flat.shape[1:])


class _Stage:
    """Progress of the whole, in passes, from the progress of its stages; each keeps saying what it said last."""

    def __init__(self, run: Run, total: int) -> None:
        self._run, self._done, self._total = run, 0, total

    def next(self, passes: int, note: str) -> Run:
        start, self._done = self._done, self._done + passes
        part, said = self._run.part(start, passes, self._total), note

        def on_progress(done: int, total: int, what: str) -> None:
            nonlocal said
            said = what or said
            part.on_progress(done, total, said if said.startswith(note) else f"{note}: {said}")

        return dataclasses.replace(part, on_progress=on_progress)


def _aim(classifier: Classifier, target: Tensor, targeted: bool, labels: Any) -> str:
    """Where the attack goes, in words."""
    if labels is None:
        return "away from the predicted class"
    classes = sorted(set(target.tolist()))
    one = f"{classifier.labels[classes[0]]} ({classes[0]})" if len(classes) == 1 else "the class given for each image"
    return f"{'towards' if targeted else 'away from'} {one}"


def _protocol(
    attack: str,
    params: Attack,
    epsilons: Tensor,
    explanation: Mapping[str, Any],
    seed: int,
    aim: str,
    output: Output,
) -> Protocol:
    settings = {
        "attack": attack,
        **dataclasses.asdict(params),  # type: ignore[call-overload]
        "aim": aim,
        "output": str(output),
        "epsilons": epsilons.tolist(),
        **explanation,
        "seed": seed,
        "control": f"random noise of equal {params.norm} norm",
    }
    title, linf = ATTACKS.get(attack).title, params.norm == "linf"
    steps = size = start = ""
    if "steps" in settings:
        length, steps = settings["step_size"], f"-{settings['steps']}"
        own = f"2.5 epsilon / {settings['steps']}"
        size = f", step {own if length is None else f'{255 * length:.3g}/255' if linf else f'{length:.3g}'}"
    if settings.get("start_at_random"):
        restarts = settings["restarts"]
        start = f"{'one random start' if restarts == 1 else f'{restarts} random starts'}, the same for all epsilons, "
    layer = explanation["layer"]
    maps = METHODS.get(str(explanation["method"])).title + (f" at {layer}" if layer else "")
    decides = f" Success: {output.decision}." if output is Output.SIGMOID else ""
    count = "1 epsilon" if len(epsilons) == 1 else f"{len(epsilons)} epsilons"
    loss = f", {settings['loss']} loss" if "loss" in settings else ""
    kept = ", at each the best found there or at a smaller one (envelope)" if settings["envelope"] else ""
    return Protocol(
        f"{attack}{steps}-{params.norm}",
        settings,
        f"{title}{steps} in the {'L-infinity' if linf else 'L2'} ball{size}{loss}, {aim}, {count} in pixel "
        f"units of [0, 1]{kept}, {start}seed {seed}; control: random noise of equal norm; explanation: {maps}."
        f"{decides}",
    )
