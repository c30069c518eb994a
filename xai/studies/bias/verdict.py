"""The verdict: one sentence with its numbers, by rules that are written down here."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING

from xai.stats.intervals import LEVEL, Interval, less, wilson
from xai.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xai.studies.bias.findings import Audit, Group, Reliance

DECIDES, LEANS = 0.5, 0.1
"""Reliance, or share of answers that flip, from which, with the whole interval, a network decides by a cue, and from
which it leans on it."""

NAMES = {"fur": "fur colour", "background": "the background", "mark": "the corner mark", "shape": "shape"}
DONE = {
    "fur": "recoloured animals",
    "background": "animals before the other background",
    "mark": "pictures with the mark swapped",
}


def verdict(audit: Audit) -> str:
    """Does the network decide by the cue? One sentence, from the reliance and the flips with their intervals.

    - "decides by": the lower end of the reliance or of the flips is at least `DECIDES`, and the reliance is not below
      the reliance on the shape.
    - "leans on": the lower end of the reliance, or only that of the flips, is at least `LEANS`. Small shifts flip
      answers that are unsure.
    - "decides by shape": the lower end for the shape is at least `DECIDES`. "not by" the cue: that interval lies above
      the cue's. If most answers flip all the same, the sentence gives both reliances.
    - "does not rely on": both intervals end below `LEANS`. "no clear reliance": both end below `DECIDES`; if one does
      not, there are too few images to decide.

    One image has no interval, so nothing is certain. A network that has learned nothing (see `learned`) relies on
    nothing, and the sentence says so. Without counterfactuals the sentence gives only the gap between groups, as a
    difference if its interval excludes 0 (see `differs`).
    """
    worst = audit.worst
    right = round(worst.accuracy.mean * worst.accuracy.n)
    ending = f"accuracy on {group_name(worst.value, worst.label)} {worst.accuracy.mean:.0%} ({right} of "
    ending += f"{worst.accuracy.n})"
    cue = audit.by_factor(audit.cue)
    if cue is None:
        return (
            f"{differs(audit)}; {ending}. Without masks that fit, nothing was recoloured, so the reason is not known."
        )
    shape = audit.by_factor("shape")
    name = NAMES.get(audit.cue, audit.cue)
    sure = 0.0 if math.isnan(cue.score.low) else cue.score.low
    told = _flips(cue)
    if sure < LEANS <= cue.flips.low and cue.moved.high < DECIDES:
        told += f", by small shifts of unsure answers (reliance {cue.score.mean:.2f}){_unlearned(audit)}"
    if max(sure, cue.flips.low) >= DECIDES and (shape is None or cue.score.mean >= shape.score.mean):
        return f"Decides by {name}: {told}; {ending}."
    if sure >= LEANS:
        return f"Leans on {name}: {told}; {ending}."
    if shape is not None and shape.score.low >= DECIDES:
        scores = f" although the reliance is {cue.score.mean:.2f} (on shape {shape.score.mean:.2f})"
        told = _flips(cue) + (scores if cue.flips.low >= DECIDES else "")
        alone = cue.score.high < shape.score.low
        claim = f"Decides by shape, not by {name}" if alone else f"Decides by shape; whether by {name} too is open"
        return f"{claim}: {told}; worst group: {ending}."
    if cue.flips.low >= LEANS:
        return f"Leans on {name}: {told}; {ending}."
    if not (cue.score.high < DECIDES and cue.flips.high < DECIDES):
        return f"Too few images to tell whether it relies on {name}: {told}; worst group: {ending}."
    none = cue.score.high < LEANS and cue.flips.high < LEANS
    claim = f"Does not rely on {name}" if none else f"No clear reliance on {name}"
    return f"{claim}: {told}{_unlearned(audit)}; worst group: {ending}."


def differs(audit: Audit) -> str:
    """Do the best and the worst group differ, in words, with the interval of their difference in points.

    The two were picked among all groups, on the same images, so the interval's level is Bonferroni's over all pairs.
    """
    best = max(audit.groups, key=lambda group: group.accuracy.mean)
    count = len(list(combinations(audit.groups, 2)))
    level = 1 - (1 - LEVEL) / max(1, count)
    ends = (wilson(round(g.accuracy.mean * g.accuracy.n), g.accuracy.n, level) for g in (best, audit.worst))
    gap = less(*ends)
    told = f"{100 * gap.mean:.1f} points between best and worst, plausible from {100 * gap.low:.1f} to "
    told += f"{100 * gap.high:.1f}{f', picked among {len(audit.groups)}' if count > 1 else ''}"
    return f"Groups differ: {told}" if gap.low > 0 else f"No difference between groups shown: {told}"


def learned(audit: Audit) -> bool:
    """Whether more images are right than one answer for all would get, beyond the 95 % Wilson interval.

    Of all images, or of those whose cue agrees with the class: a network that decides by the cue alone has learned.
    """
    aligned = [group for group in audit.groups if group.aligned]
    return any(found.low > share for found, share in map(_right_images, (audit.groups, aligned)) if found.n)


def _right_images(groups: Sequence[Group]) -> tuple[Interval, float]:
    """(share of the groups' images that is right, share that their most frequent class alone has)."""
    right, count = 0, Counter[str]()
    for group in groups:
        right += round(group.accuracy.mean * group.accuracy.n)
        count[group.label] += group.accuracy.n
    total = count.total()
    return (wilson(right, total), max(count.values()) / total) if total else (Interval(0, 0, 0, 0), 1.0)


def _unlearned(audit: Audit) -> str:
    if learned(audit):
        return ""
    found, share = _right_images(audit.groups)
    right = round(found.mean * found.n)
    return (
        f", but has not learned the task (right on {right} of {counted(found.n, 'image')}; one "
        f"answer for all gets {share:.0%})"
    )


def group_name(value: str, label: str) -> str:
    """ "dark cats" """
    words = {"none": "unmarked", "disc": "marked"}
    return f"{words.get(value, value)} {label}{'' if label.endswith('s') else 's'}"


def _flips(found: Reliance) -> str:
    what = DONE.get(found.factor, "recoloured images")
    return f"flips in {found.flipped} of {found.flips.n} {what}"
