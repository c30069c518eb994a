"""One image's part of a bundle: its files and its entry in the manifest."""

from __future__ import annotations

import io
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xai.errors import InputError
from xai.explain.spec import METHODS
from xai.files import safe_name
from xai.images import render
from xai.models.classifier import Classifier
from xai.params import default_of, parameters, value_text
from xai.studies.comparison import Tile
from xai.types import Attribution

TOP = 5
"""Predictions that are listed."""


@dataclass(frozen=True)
class Look:
    """How maps are drawn; it changes no array. shared: one scale for the maps in one unit of a classifier and image."""

    colors: str = render.AUTO
    opacity: float = render.OPACITY
    shared: bool = False

    def __post_init__(self) -> None:
        render.colors_for(self.colors, False)
        if not 0 <= self.opacity <= 1:
            raise InputError(f"opacity {self.opacity} is outside 0 to 1.")


@dataclass(frozen=True, eq=False)
class Subject:
    """One image with its tiles. source: as a command takes it (a path or sample:NAME). sha256: of the file's bytes.

    size: (width, height) after decoding. index: the image's row in the tiles' batches. notes: what decoding did to the
    image, as sentences.
    """

    name: str
    source: str
    sha256: str
    size: tuple[int, int]
    tiles: tuple[Tile, ...]
    view: str = "crop"
    index: int = 0
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class ImageEntry:
    """Draws the tiles of one image into `files` (path in the bundle -> bytes) and describes them for the manifest.

    weights: the text of the `--weights` option by fingerprint, where it says more than `Classifier.weights`.
    """

    subject: Subject
    folder: str
    look: Look
    weights: Mapping[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    _taken: dict[str, set[str]] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        """The image's entry; fills `files`."""
        subject = self.subject
        groups: dict[int, list[Tile]] = {}
        for tile in subject.tiles:
            groups.setdefault(id(tile.classifier), []).append(tile)
        return {
            "name": subject.name,
            "source": subject.source,
            "sha256": subject.sha256,
            "size": list(subject.size),
            "view": subject.view,
            "notes": list(subject.notes),
            "folder": self.folder,
            "models": [self._model(tiles) for tiles in groups.values()],
        }

    def _path(self, parent: str, name: str) -> str:
        """`parent`/`name`, or with a number behind it where that is taken (one method for two classes)."""
        taken = self._taken.setdefault(parent, set())
        unique = safe_name(name, taken)
        taken.add(unique.casefold())
        return f"{parent}/{unique}"

    def _model(self, tiles: Sequence[Tile]) -> dict[str, Any]:
        classifier, index = tiles[0].classifier, self.subject.index
        trained = classifier.weights == "imagenet"
        folder = self._path(self.folder, classifier.name if trained else f"{classifier.name}-{classifier.weights}")
        seen = render.input_picture(tiles[0].x[index])
        self.files[f"{folder}/input.png"] = render.png_bytes(seen)
        explained = [tile.attribution for tile in tiles if tile.attribution is not None]
        by_unit: dict[str, list[Attribution]] = {}
        for each in explained if self.look.shared else ():
            by_unit.setdefault(METHODS.get(each.method).scale_unit, []).append(each)
        shared = {unit: render.scale_for(some, index) for unit, some in by_unit.items()}
        return {
            "model": classifier.name,
            "title": classifier.title,
            "weights": classifier.weights,
            "random": classifier.random,
            "fingerprint": classifier.fingerprint,
            "output": str(classifier.output),
            "device": str(classifier.device),
            "notes": list(classifier.notes),
            "input": f"{folder}/input.png",
            "predictions": predictions(classifier, explained[0].logits[index]) if explained else [],
            "explanations": [self._explanation(tile, folder, seen, shared) for tile in tiles],
        }

    def _explanation(
        self, tile: Tile, folder: str, seen: Image.Image, shared: Mapping[str, render.Scale]
    ) -> dict[str, Any]:
        spec = METHODS.get(tile.method)
        head: dict[str, Any] = {
            "method": spec.name,
            "title": spec.title,
            "family": spec.family,
            "paper": {"citation": spec.source.citation, "link": spec.source.link},
            "caution": spec.caution,
        }
        found, index = tile.attribution, self.subject.index
        if found is None:
            return {**head, "status": "refused" if tile.refused else "failed", "reason": tile.sentence}
        target = int(found.target[index])
        scale = shared.get(spec.scale_unit) or render.scale_for([found], index)
        colors = render.colors_for(self.look.colors, scale.signed)
        stem = self._path(folder, spec.name)
        return {
            **head,
            "status": "explained",
            "target": {
                "index": target,
                "name": tile.classifier.labels[target],
                "probability": float(found.output.probabilities(found.logits[index].double())[target]),
            },
            "params": plain(found.provenance["params"]),
            "seed": found.provenance["seed"],
            "seconds": found.seconds,
            "signed": found.signed,
            "shape": list(found.values.shape[1:]),
            "coverage": {"status": found.coverage.status, "sentence": found.coverage.sentence},
            "facts": {name: plain(_of_image(value, index, found)) for name, value in found.facts.items()},
            "scale": {
                "low": scale.low,
                "high": scale.high,
                "sentence": scale.sentence,
                "ticks": [list(tick) for tick in render.ticks(scale)],
            },
            "colormap": colors.name,
            "opacity": self.look.opacity,
            "files": self._draw(found, stem, seen, scale, colors, tile.classifier.random),
            "command": command_for(self.subject, found, self.look, self.weights),
        }

    def _draw(
        self,
        found: Attribution,
        stem: str,
        seen: Image.Image,
        scale: render.Scale,
        colors: render.ColorMap,
        random: bool,
    ) -> dict[str, str]:
        """Put the files of one attribution into `files`; their paths by kind. An overlay by random weights says so."""
        values, flat = found.values[self.subject.index], found.maps()[self.subject.index]
        overlay = render.overlay(seen, flat, scale, colors, self.look.opacity)
        overlay = render.marked(overlay, "random weights") if random else overlay
        made = {
            "array": (".npy", npy_bytes(values.numpy())),
            "map": (".map.png", render.png_bytes(Image.fromarray(render.colorize(flat, scale, colors)))),
            "overlay": (".overlay.png", render.png_bytes(overlay)),
            "scale": (".scale.png", render.png_bytes(render.color_bar(scale, colors))),
        }
        if values.dim() == 3:
            made["relief"] = (".relief.png", render.png_bytes(render.relief(values)))
        self.files.update({f"{stem}{ending}": data for ending, data in made.values()})
        return {kind: f"{stem}{ending}" for kind, (ending, _) in made.items()}


def predictions(classifier: Classifier, logits: Tensor, count: int = TOP) -> list[dict[str, Any]]:
    """The most probable classes for logits (K,): index, name and probability, best first."""
    return [
        {"index": index, "name": name, "probability": probability}
        for index, name, probability in classifier.top(logits[None], count)[0]
    ]


def command_for(
    subject: Subject, attribution: Attribution, look: Look, weights: Mapping[str, str] | None = None
) -> str:
    """The terminal command that makes this one attribution again, with its look; `--out` is left to the person."""
    made = attribution.provenance
    spec = METHODS.get(attribution.method)
    params = dict(made["params"])
    layer = params.pop("layer", None)
    text = (weights or {}).get(made["fingerprint"], made["weights"])
    words = ["python", "-m", "xai", "explain", subject.source, "--model", made["model"], "--weights", text]
    words += ["--method", attribution.method, "--target", str(int(attribution.target[subject.index]))]
    words += ["--layer", layer] if layer else []
    words += ["--view", subject.view, "--seed", str(made["seed"]), "--device", made["device"]]
    usual = {each.name: default_of(each) for each in parameters(spec.explainer)}
    for name, value in params.items():
        if value != usual[name]:
            words += ["--param", f"{attribution.method}.{name}={value_text(value)}"]
    words += ["--colormap", look.colors, "--opacity", f"{look.opacity:g}"] + ["--shared-scale"] * look.shared
    return shlex.join([*words, "--out", "DIR"])


def npy_bytes(values: NDArray[Any]) -> bytes:
    """The array as an .npy file: float32, C order, no pickle."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values, dtype=np.float32), allow_pickle=False)
    return buffer.getvalue()


def _of_image(value: Any, index: int, found: Attribution) -> Any:
    """One image's part of a fact that is given per image."""
    if isinstance(value, (list, tuple)) and len(value) == len(found.values):
        return value[index]
    return value


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: numbers that are not finite become their names."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
