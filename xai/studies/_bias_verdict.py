"""The verdict: one sentence with its numbers, by rules that are written down here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xai.studies.bias import Audit, Reliance

DECIDES, LEANS = 0.5, 0.1
"""Reliance from which, with the whole interval, a network decides by a cue, and from which it leans on it."""

NAMES = {"fur": "fur colour", "background": "the background", "mark": "the corner mark", "shape": "shape"}
DONE = {
    "fur": "recoloured animals",
    "background": "animals before the other background",
    "mark": "pictures with the mark swapped",
}


def verdict(audit: Audit) -> str:
    """Does it decide by the cue? By the reliance on it, its interval, and the reliance on the shape where known.

    "decides by": the interval's lower end is at least `DECIDES`, and the score is not below that of the shape. "leans
    on": the lower end is at least `LEANS`. "does not rely on": neither. Without counterfactuals only the gap is told.
    """
    worst = audit.worst
    ending = f"accuracy on {group_name(worst.value, worst.label)} {worst.accuracy.mean:.0%}"
    cue = audit.by_factor(audit.cue)
    if cue is None:
        return (
            f"Groups differ by {100 * audit.gap:.0f} points; {ending}. Without masks nothing was recoloured, so why is "
            "not known."
        )
    shape = audit.by_factor("shape")
    name = NAMES.get(audit.cue, audit.cue)
    low = cue.score.low if cue.score.low == cue.score.low else cue.score.mean
    if low >= DECIDES and (shape is None or cue.score.mean >= shape.score.mean):
        return f"Decides by {name}: {_flips(cue)}; {ending}."
    if low >= LEANS:
        return f"Leans on {name}: {_flips(cue)}; {ending}."
    if shape is not None and shape.score.low >= DECIDES:
        return f"Decides by shape, not by {name}: {_flips(cue)}; worst group: {ending}."
    return f"Does not rely on {name}: {_flips(cue)}; worst group: {ending}."


def group_name(value: str, label: str) -> str:
    """ "dark cats" """
    words = {"none": "unmarked", "disc": "marked"}
    return f"{words.get(value, value)} {label}{'' if label.endswith('s') else 's'}"


def _flips(found: Reliance) -> str:
    what = DONE.get(found.factor, "recoloured images")
    return f"flips in {found.flipped} of {found.flips.n} {what}"
