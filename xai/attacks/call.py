"""`attack`: checks the request, attacks under the lease, measures the result. `sweep`: the same at many epsilons."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from xai.attacks.spec import ATTACKS, Attack
from xai.attacks.steps import l2_norm, margin
from xai.devices import double
from xai.errors import InputError
from xai.models.batching import in_batches
from xai.models.classifier import Classifier
from xai.models.provenance import provenance
from xai.params import check_between
from xai.public import public
from xai.settings import check_memory
from xai.types import AttackResult, Run, class_indices, pixel_digest, resolve_target
from xai.words import counted

TOLERANCE = {"linf": 0.1 / 255, "l2": 0.01}
"""How closely the smallest epsilon is found, by norm, in pixel units of [0, 1]."""

MOST_EPSILONS = 1000
"""Epsilons of one sweep."""

COPIES = 8
"""Pictures in memory at each epsilon of a study, at the most: attacked, its levels, noise, and what they come from."""

ROUNDING = 1e-4
"""Share of the tolerance by which a float32 epsilon may lie beside the multiple that is meant."""


@public
def attack(
    classifier: Classifier,
    x: Tensor,
    name: str = "pgd",
    params: Attack | None = None,
    labels: int | Sequence[int] | Tensor | None = None,
    epsilon: float | Sequence[float] | Tensor = 8 / 255,
    seed: int = 0,
    run: Run | None = None,
) -> AttackResult:
    """Attack x (N,3,H,W) in [0, 1] by the attack `name` with `params` (its dataclass; None: the defaults).

    labels: the class to leave (None: the predicted class of each image), or the class to reach where the parameters
    say `targeted`. epsilon: pixel units of [0, 1], one for all or one per sample; 0 is the identity, and the
    L-infinity ball ends at 1. run: progress, cancel and seed; made from `seed` if not given. A random start depends on
    the seed and the image's pixels alone, so an image is attacked the same wherever it stands among others.

    Raises `InputError` for a bad image, label or epsilon, and `Cancelled`.
    """
    classifier.check(x)
    params = params or ATTACKS.get(name).params()
    radius = _radius(epsilon, len(x), params.norm)
    before = predictions(classifier, x, run)
    label = _labels(before, labels, params.targeted)
    return _attack(classifier, x, name, params, before, label, radius, _groups(x), seed, run)


@public
def sweep(
    classifier: Classifier,
    x: Tensor,
    epsilons: Sequence[float] | Tensor,
    name: str = "pgd",
    params: Attack | None = None,
    labels: int | Sequence[int] | Tensor | None = None,
    seed: int = 0,
    run: Run | None = None,
    envelope: bool = False,
) -> list[AttackResult]:
    """The same attack at each of `epsilons` (ascending), as full batches: one result an epsilon.

    Every epsilon of one image starts in the same random direction. Each result is the attack at its own epsilon, equal
    to `attack` there up to rounding; a larger epsilon may do worse than a smaller one. With `envelope` the better of an
    epsilon's own result and the one kept at the epsilon before it is given, so that margin and success never fall as
    epsilon grows: then a result may be that of a smaller epsilon.
    """
    classifier.check(x)
    params = params or ATTACKS.get(name).params()
    radii = torch.as_tensor(epsilons, dtype=torch.float32).flatten()
    if not len(radii) or bool((radii.diff() < 0).any()):
        raise InputError("epsilons must be at least one value, in ascending order.")
    count, images = len(radii), len(x)
    check_between("the number of epsilons", count, 1, MOST_EPSILONS)
    need = COPIES * count * x.numel() * 4
    check_memory(need, f"{counted(images, 'image')} at {counted(count, 'epsilon')}", "give fewer at once")
    radius = _radius(radii.repeat_interleave(images), count * images, params.norm)
    before = predictions(classifier, x, run)
    label = _labels(before, labels, params.targeted)
    flat = _attack(
        classifier,
        x.repeat(count, 1, 1, 1),
        name,
        params,
        before.repeat(count, 1),
        label.repeat(count),
        radius,
        _groups(x).repeat(count),
        seed,
        run,
    )
    results = [_rows(flat, slice(i * images, (i + 1) * images)) for i in range(count)]
    for index in range(1, count if envelope else 0):
        results[index] = _better(results[index - 1], results[index], params.targeted)
    return results


def bisect_smallest(
    classifier: Classifier,
    x: Tensor,
    results: Sequence[AttackResult],
    name: str,
    params: Attack,
    seed: int = 0,
    run: Run | None = None,
) -> Tensor:
    """An upper bound (N,) on the smallest epsilon at which each image of a sweep's `results` is turned, NaN for none.

    A multiple of `TOLERANCE`. Between the smallest epsilon tried that succeeds and the one tried before it, the middle
    is attacked until they are one tolerance apart; all images of a round are one batch. It is an upper bound only: an
    attack finds one way, not every way, and may succeed again below an epsilon at which it fails.
    """
    tolerance = TOLERANCE[params.norm]
    success = torch.stack([result.success for result in results])
    tried = torch.stack([result.epsilon for result in results]).double() / tolerance
    first = success.float().argmax(0)
    high = (tried.gather(0, first[None])[0] - ROUNDING).ceil().long()
    below = tried.gather(0, (first - 1).clamp(min=0)[None])[0]
    low = torch.where(first > 0, (below + ROUNDING).floor().long(), 0)
    turned = success.any(0)
    rounds = _rounds(int((high - low)[turned].max())) if bool(turned.any()) else 0
    run = run or Run(seed=seed)
    for step in range(rounds):
        where = (turned & (high - low > 1)).nonzero()[:, 0]
        if not len(where):
            break
        middle = (low + high)[where] // 2
        before, label = results[0].logits_before[where], results[0].target[where]
        images, radius = x[where.to(x.device)], (middle.double() * tolerance).float()
        part = run.part(step, 1, rounds)
        found = _attack(classifier, images, name, params, before, label, radius, _groups(images), seed, part)
        high[where] = torch.where(found.success, middle, high[where])
        low[where] = torch.where(found.success, low[where], middle)
    return torch.where(turned, high.double() * tolerance, torch.nan).float()


def bisections(epsilons: Sequence[float] | Tensor, norm: str) -> int:
    """Attacks that `bisect_smallest` makes of one image after a sweep of these epsilons (ascending), at the most."""
    cells = torch.as_tensor(epsilons, dtype=torch.float64).flatten() / TOLERANCE[norm]
    low = torch.cat([cells.new_zeros(1), (cells[:-1] + ROUNDING).floor()])
    return _rounds(int(((cells - ROUNDING).ceil() - low).max()))


def _rounds(cells: int) -> int:
    """Halvings that make one cell of `cells`."""
    return max(0, cells - 1).bit_length()


def _groups(x: Tensor) -> Tensor:
    """Groups (N,) for the random start, named by the pixels of x (N,3,H,W): alone or in a set, at any place in it."""
    return torch.tensor([int(pixel_digest(image)[:15], 16) for image in x])  # 60 bits, which an int64 holds


def _radius(epsilon: float | Sequence[float] | Tensor, count: int, norm: str) -> Tensor:
    radius = torch.as_tensor(epsilon, dtype=torch.float32).flatten()
    if len(radius) == 1:
        radius = radius.expand(count)
    if len(radius) != count:
        raise InputError(
            f"epsilon has {counted(len(radius), 'value')} for {counted(count, 'image')}; give one, or one per image."
        )
    wrong = radius[~(torch.isfinite(radius) & (radius >= 0))]
    if len(wrong):
        raise InputError(
            f"epsilon is {float(wrong[0]):.4g}; it must be 0 or more and finite, in pixel units of [0, 1]."
        )
    if norm == "linf" and float(radius.max()) > 1:
        raise InputError(
            f"epsilon is {float(radius.max()):.4g}; no pixel can move by more than 1 (a level of 8 bits is 1/255)."
        )
    return radius.contiguous()


def _labels(before: Tensor, labels: int | Sequence[int] | Tensor | None, targeted: bool) -> Tensor:
    if labels is None and targeted:
        raise InputError("a targeted attack needs the class to reach; give labels.")
    return resolve_target(before, None if labels is None else class_indices(labels, "labels"))


def predictions(classifier: Classifier, x: Tensor, run: Run | None, note: str = "") -> Tensor:
    """Logits (N,K) on the CPU, in batches: x (N,3,H,W) in [0, 1]. Without a note nothing is reported."""
    run = dataclasses.replace(run or Run(), device=classifier.device)
    if not note:
        run = Run(run.device, cancelled=run.cancelled)
    parts = in_batches(lambda start, stop: classifier.predict(x[start:stop], run), len(x), run, note)
    return torch.cat([part for _, _, part in parts])


def _attack(
    classifier: Classifier,
    x: Tensor,
    name: str,
    params: Attack,
    before: Tensor,
    label: Tensor,
    epsilon: Tensor,
    group: Tensor,
    seed: int,
    run: Run | None,
) -> AttackResult:
    run = dataclasses.replace(run or Run(seed=seed), device=classifier.device)
    whole = run.part(0, 100 * len(x), 100 * len(x))  # in hundredths of an image, so that every step counts

    def work(start: int, stop: int) -> tuple[Tensor, ...]:
        part = slice(start, stop)
        share = whole.part(100 * start, 100 * (stop - start), 100 * len(x))
        with classifier.lease(run) as module:
            images, radius = classifier.to_input(x[part]), epsilon[part].to(run.device)
            moved = params(module, images, label[part].to(run.device), radius, group[part], share)
            still = radius == 0  # the identity, to the last bit
            pixels = torch.where(still.view(-1, 1, 1, 1), images, moved.images)
            levels = to_levels(pixels, images, radius, params.norm)
            with torch.no_grad():
                png = module(levels.to(images) / 255)
        after = torch.where(still.cpu()[:, None], before[part], moved.logits.float().cpu())
        seen = [torch.zeros_like(still) if each is None else each & ~still for each in (moved.saturated, moved.blind)]
        return pixels.float().cpu(), levels.cpu(), after, png.float().cpu(), *(each.cpu() for each in seen)

    found = [each for _, _, each in in_batches(work, len(x), whole, "attacking")]
    moved, levels, finish, png, saturated, blind = (torch.cat(each) for each in zip(*found, strict=True))
    clean = x.detach().float().cpu()
    already = margin(before, label, params.targeted, classifier.output) > 0
    pairs = zip(moved, clean, strict=True)
    return AttackResult(
        attack=name,
        clean=clean,
        adversarial=moved,
        success=(margin(finish, label, params.targeted, classifier.output) > 0) & ~already,
        linf=(moved - clean).abs().flatten(1).amax(1),
        l2=torch.cat([l2_norm((double(one) - double(other))[None]) for one, other in pairs]).float(),
        logits_before=before,
        logits_after=finish,
        target=label,
        epsilon=epsilon,
        provenance=provenance(classifier, "attack", name, params, run.seed),
        levels=levels,
        survives_png=(margin(png, label, params.targeted, classifier.output) > 0) & ~already,
        already=already,
        saturated=saturated,
        blind=blind,
        output=classifier.output,
    )


def to_levels(adversarial: Tensor, clean: Tensor, epsilon: Tensor, norm: str) -> Tensor:
    """8-bit levels (N,3,H,W) uint8 of an adversarial image, still inside the ball where the clean image is 8-bit.

    linf: the nearest level within epsilon of the clean pixel. l2: the nearest levels, of which those that were rounded
    away from the clean picture the furthest are taken back by one until the norm holds. Where no level is within
    epsilon (a clean image that is not 8-bit), the nearest one to it is taken.
    """
    centre, moved = double(clean) * 255, double(adversarial) * 255
    if norm == "linf":
        slack = double(epsilon).view(-1, 1, 1, 1) * 255 + 1e-4  # float32 rounding of x is below 1e-4 levels
        low, high = (centre - slack).ceil(), (centre + slack).floor()
        levels = torch.where(low <= high, torch.minimum(torch.maximum(moved.round(), low), high), centre.round())
    else:
        whole = centre.round()
        levels = torch.stack([_fit(*each) for each in zip(whole, moved - whole, double(epsilon) * 255, strict=True)])
    return levels.clamp(0, 255).to(torch.uint8)


def _fit(whole: Tensor, change: Tensor, radius: Tensor) -> Tensor:
    """Whole levels plus a whole change of norm <= radius, near `change`: (3,H,W)."""
    near = change.round()
    excess = float(near.square().sum() - radius.square())
    if excess <= 0:
        return whole + near
    # Taking one level back from a change of n saves 2 |n| - 1 of the squared norm; where rounding had gone outwards the
    # furthest, taking back costs the attack the least.
    outward = torch.where(near != 0, (near - change) * near.sign(), -torch.inf).flatten()
    order = outward.argsort(descending=True, stable=True)
    saved = (2 * near.flatten()[order].abs() - 1).clamp(min=0).cumsum(0)
    count = int((saved < excess).sum()) + 1
    back = torch.zeros_like(outward)
    back[order[:count]] = 1
    fitted = near - back.view_as(near) * near.sign()
    # One level from every changed value may not be enough: then the same again.
    return whole + fitted if float(fitted.square().sum()) <= float(radius.square()) else _fit(whole, fitted, radius)


def _rows(result: AttackResult, rows: slice) -> AttackResult:
    picked: dict[str, Any] = {
        f.name: getattr(result, f.name)[rows]
        for f in dataclasses.fields(result)
        if isinstance(getattr(result, f.name), Tensor)
    }
    return dataclasses.replace(result, **picked)


def _better(smaller: AttackResult, larger: AttackResult, targeted: bool) -> AttackResult:
    """For each image the result of the larger margin; epsilon stays the larger one's."""
    before, now = (margin(each.logits_after, larger.target, targeted, larger.output) for each in (smaller, larger))
    keep = before > now
    changed: dict[str, Any] = {}
    for name in (
        "adversarial",
        "success",
        "linf",
        "l2",
        "logits_after",
        "levels",
        "survives_png",
        "saturated",
        "blind",
    ):
        old, new = getattr(smaller, name), getattr(larger, name)
        changed[name] = torch.where(keep.view(-1, *[1] * (new.dim() - 1)), old, new)
    return dataclasses.replace(larger, **changed)
