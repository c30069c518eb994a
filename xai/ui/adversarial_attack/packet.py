"""A study as one packet for the browser: everything that the epsilon slider moves among."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from xai.bundles.attacks import answer, file_stem, scale, slope_text, step_text
from xai.explain.spec import METHODS
from xai.files import safe_name
from xai.images.render import Scale, input_picture
from xai.metrics.shift import SHIFTS
from xai.studies.adversarial.study import CLASSES, POSITIONS, WHO, EpsilonStudy
from xai.ui.adversarial_attack.state import Found
from xai.ui.browser import packet
from xai.ui.work import png

SMALL = 64 * 64
"""Values up to which a map travels as it is, and not in 8-bit steps."""


def sweep_packet(found: Found) -> bytes:
    """Everything that the slider moves among, for the browser.

    The attacked and the noisy pictures travel as what was added in 8-bit levels (PNG of 128 + change, modulo 256), so
    the browser shows exactly the pixels that a PNG keeps; where nothing is left of the attack after rounding, its
    change before rounding is sent too.
    """
    study, body = found.study, _Body()
    norm = str(study.protocol.settings["norm"])
    clean = np.asarray(input_picture(study.clean[0]))
    frames = [_frame(found, place, clean, body) for place in range(len(study.epsilons))]
    before = study.output.probabilities(study.attacked[0].logits_before[0])
    head: dict[str, Any] = {
        "id": found.request.id,
        "kind": "sweep",
        "epsilons": study.epsilons.tolist(),
        "texts": [step_text(epsilon, norm) for epsilon in study.epsilons.tolist()],
        "unit": "ε in 1/255, L∞ norm" if norm == "linf" else "ε in pixel units of [0, 1], L2 norm",
        "factor": 255 if norm == "linf" else 1,
        "norm": norm,
        "places": list(found.request.places or range(len(POSITIONS))),
        "count": len(POSITIONS),
        "clean": {"at": body.add(png(input_picture(study.clean[0]))), "top": _top(before, found.labels)},
        "frames": frames,
        "maps": {which: _maps(found, which, body) for which in CLASSES},
        "curves": _curves(study),
        "shifts": [
            {"name": name, "title": fact.title, "low": fact.low, "high": fact.high} for name, fact in SHIFTS.items()
        ],
        "signed": study.signed,
        "method": METHODS.get(study.method).title,
        "network": found.title,
        "random": found.random,
        "protocol": found.protocol,
        "short": study.shortfall,
        "picture": found.request.scene.photo.name,
        "target": found.labels[int(study.attacked[0].target[0])] if study.protocol.settings["targeted"] else None,
        "answer": answer(study, found.classifier()),
        "already": bool(study.already[0]),
        "slope": slope_text(study),
        "file": safe_name(f"{found.request.scene.photo.name}-{found.request.scene.net.name}"),
    }
    return packet(head, body.bytes())


class _Body:
    """Bytes behind one another, each at a known place; what is there already is not added again."""

    def __init__(self) -> None:
        self._places: dict[bytes, list[int]] = {}
        self._size = 0

    def add(self, data: bytes) -> list[int]:
        """[offset, length] of `data`; offsets are multiples of 4, as typed arrays need."""
        if data not in self._places:
            self._places[data] = [self._size, len(data)]
            self._size += len(data) + -len(data) % 4
        return self._places[data]

    def bytes(self) -> bytes:
        """Everything added."""
        return b"".join(data + b"\0" * (-len(data) % 4) for data in self._places)


def _frame(found: Found, place: int, clean: np.ndarray[Any, Any], body: _Body) -> dict[str, Any]:
    study, labels = found.study, found.labels
    result = study.attacked[place]
    change = result.levels[0].permute(1, 2, 0).numpy().astype(np.int16) - clean.astype(np.int16)
    noise = np.asarray(input_picture(study.noisy[place, 0])).astype(np.int16) - clean.astype(np.int16)
    frame: dict[str, Any] = {
        "change": body.add(_added(change)),
        "noisy": body.add(_added(noise)),
        "largest": int(np.abs(change).max()),
        "file": file_stem("adversarial", study, place),
        "top": _top(study.output.probabilities(result.logits_after[0]), labels),
        "success": bool(result.success[0]),
        "png": bool(result.survives_png[0]),
        "noise": bool(study.noise_turns[place, 0]),
        "distance": {
            name: float(values[place, 0]) if np.isfinite(float(values[place, 0])) else None
            for name, values in study.distance.items()
        },
    }
    if not frame["largest"]:
        delta = (result.adversarial[0] - result.clean[0]).permute(1, 2, 0).numpy()
        largest = float(np.abs(delta).max())
        shade = np.rint(128 + delta / largest * 127) if largest else np.full(delta.shape, 128)
        frame["soft"] = body.add(png(Image.fromarray(shade.astype(np.uint8))))
        frame["soft_largest"] = 255 * largest
    return frame


def _added(change: np.ndarray[Any, Any]) -> bytes:
    """A change (H,W,3) in 8-bit levels as PNG: no change is too large for 8 bits modulo 256."""
    return png(Image.fromarray(((change + 128) % 256).astype(np.uint8)))


def _top(probabilities: Tensor, labels: tuple[str, ...], count: int = 5) -> list[dict[str, Any]]:
    values, classes = probabilities.topk(min(count, len(labels)))
    return [
        {"index": index, "label": labels[index], "p": p}
        for p, index in zip(values.tolist(), classes.tolist(), strict=True)
    ]


def _maps(found: Found, which: str, body: _Body) -> dict[str, Any]:
    """The three maps of a class at every epsilon: small ones as float32, fine ones as 8-bit steps of their scale."""
    study, maps = found.study, found.study.maps[which]
    arrays = {who: getattr(maps, who)[:, 0].numpy() for who in ("clean", *WHO)}
    h, w = arrays["clean"].shape[1:]
    scales = [scale(study, which, place, ("clean", *WHO)) for place in range(len(arrays["clean"]))]
    reach = np.array([max(abs(each.low), abs(each.high)) or 1.0 for each in scales])[:, None, None]
    small = h * w <= SMALL

    def packed(array: np.ndarray[Any, Any]) -> bytes:
        steps = array.astype("<f4") if small else np.rint(array / reach * 127).clip(-127, 127).astype(np.int8)
        return bytes(steps.tobytes())

    return {
        "labels": [found.labels[int(index)] for index in maps.class_index[:, 0]],
        "h": h,
        "w": w,
        "dtype": "f4" if small else "i1",
        "reach": reach.ravel().tolist(),
        "at": {who: body.add(packed(array)) for who, array in arrays.items()},
        "scales": [_scale(each) for each in scales],
    }


def _scale(made: Scale) -> dict[str, Any]:
    return {"low": made.low, "high": made.high, "sentence": made.sentence}


def _numbers(values: Tensor) -> list[float | None]:
    """NaN, of a blank map, as null."""
    return [None if value != value else value for value in values.tolist()]


def _curves(study: EpsilonStudy) -> dict[str, Any]:
    return {
        "p": {f"{which}_{who}": study.probability(which, who)[:, 0].tolist() for which in CLASSES for who in WHO},
        "shift": {
            which: {who: {n: _numbers(v[:, 0]) for n, v in study.shift[which][who].items()} for who in WHO}
            for which in CLASSES
        },
    }
