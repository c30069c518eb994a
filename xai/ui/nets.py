"""The classifiers that a page offers: the named ones, and the networks of finished trainings as "run:ID"."""

from __future__ import annotations

from collections.abc import Sequence

from xai.models.exported import CARD, PLACE, Trained, list_networks
from xai.models.spec import MODELS
from xai.settings import runs_dir

OF_RUN = "run:"


def net_names(now: Sequence[str] = ()) -> tuple[str, ...]:
    """What a picker lists, trained networks last, the newest first; `now` stays in it where its run has gone.

    A network that nobody has trained on ImageNet is listed by its runs, or while it is in use (random, from a link).
    """
    named = (spec.name for spec in MODELS if spec.pretrained)
    return tuple(dict.fromkeys((*named, *(f"{OF_RUN}{each.id}" for each in list_networks()), *now)))


def net_title(name: str) -> str:
    """A classifier's name for people; trained networks say what marks them."""
    if name in MODELS:
        return MODELS.get(name).title
    found = _trained(name)
    if found is None:
        return name
    marks = ["synthetic images"] * found.synthetic + ["began random"] * found.random
    return found.title + (f", {', '.join(marks)}" if marks else "")


def net_labels(name: str) -> tuple[str, ...]:
    """Its classes without loading it; () where nobody knows."""
    if name in MODELS:
        return MODELS.get(name).labels()
    found = _trained(name)
    return found.labels if found is not None else ()


def is_trained(name: str) -> bool:
    """Whether `name` is the network of a finished training in the folder of runs: never a path."""
    return _trained(name) is not None


def net_stamp(name: str) -> int:
    """When the network of a training was written, in nanoseconds; 0 for a named classifier and for what is gone."""
    if not name.startswith(OF_RUN):
        return 0
    run, _, fold = name.removeprefix(OF_RUN).partition("/")
    try:
        return (runs_dir() / run / PLACE / fold / CARD).stat().st_mtime_ns
    except OSError:
        return 0


def _trained(name: str) -> Trained | None:
    if not name.startswith(OF_RUN):
        return None
    return next((each for each in list_networks() if f"{OF_RUN}{each.id}" == name), None)
