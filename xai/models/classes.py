"""Classes by what a person types: an index, a name, or a place in the prediction."""

from __future__ import annotations

import difflib
import re

from torch import Tensor

from xai.errors import InputError
from xai.models.classifier import Classifier

_PLACE = re.compile(r"top(\d+)", re.IGNORECASE)


def is_place(text: str) -> bool:
    """True for "top1" to "topK", which mean a class only beside a prediction."""
    return _PLACE.fullmatch(text.strip()) is not None


def class_index(classifier: Classifier, text: str) -> int:
    """The class that `text` means: an index such as "281", or a name such as "tabby" (case does not matter).

    Raises `InputError` for an index outside 0..K-1, for an unknown name (near ones are suggested) and for a name that
    several classes share (their indices are given).
    """
    wanted = text.strip()
    count = len(classifier.labels)
    if re.fullmatch(r"-?\d+", wanted):
        if 0 <= int(wanted) < count:
            return int(wanted)
        raise InputError(f"class {wanted} does not exist; {classifier.title} has 0 to {count - 1}.")
    folded = [label.casefold() for label in classifier.labels]
    found = [index for index, label in enumerate(folded) if label == wanted.casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"class {wanted!r} is the name of {' and '.join(map(str, found))}; give the index.")
    near = [index for index, label in enumerate(folded) if wanted and wanted.casefold() in label]
    near = near or [folded.index(label) for label in difflib.get_close_matches(wanted.casefold(), folded)]
    hint = f"did you mean {' or '.join(classifier.labels[i] for i in near[:3])}?" if near else "give its index."
    raise InputError(f"class {wanted!r} is not known to {classifier.title}; {hint}")


def target_classes(classifier: Classifier, text: str, logits: Tensor) -> Tensor:
    """Target classes (N,) for logits (N,K): "top1" to "topK" by place in each prediction, else `class_index(text)`."""
    place = _PLACE.fullmatch(text.strip())
    if place is None:
        return logits.new_full((len(logits),), class_index(classifier, text)).long()
    rank = int(place[1])
    if not 1 <= rank <= logits.shape[1]:
        raise InputError(f"target {text!r} does not exist; use top1 to top{logits.shape[1]}.")
    return logits.topk(rank, dim=1).indices[:, rank - 1]
