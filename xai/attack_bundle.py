"""An epsilon study as files: adversarial PNGs, perturbations, maps, a table over epsilon, overviews, manifest entry.

<image>/clean.png, adversarial-<epsilon>.png     what the network saw, and the attacked image, both lossless
<image>/perturbation-<epsilon>.npy               adversarial - clean, float32 (3,H,W), before rounding to 8 bits
<image>/overview-<epsilon>.png                   clean, attacked, perturbation and the four maps side by side
<image>/maps.npz                                 raw maps of both classes, clean, attacked and noisy, (E,h,w)
<image>/epsilon.csv                              one row an epsilon: prediction, success, distances, shifts
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from xai import render
from xai._entry import npy_bytes, plain, predictions
from xai.explain._spec import METHODS
from xai.files import sha256
from xai.metrics.shift import SHIFTS
from xai.models.classifier import Classifier
from xai.provenance import versions
from xai.studies._control import shortfall
from xai.studies.adversarial import CLASSES, WHO, EpsilonStudy, SecurityCurve


def step_text(epsilon: float, norm: str) -> str:
    """An epsilon for people: "4/255" for the L-infinity norm, "1.5" for L2."""
    return f"{epsilon * 255:.4g}/255" if norm == "linf" else f"{epsilon:.4g}"


def smallest_text(epsilon: float, norm: str) -> str:
    """The smallest epsilon that succeeds for people; NaN where none does, 0 where nothing has to change."""
    if epsilon == 0:
        return "none is needed"
    return step_text(epsilon, norm) if epsilon == epsilon else "none of those tried"


def step_name(epsilon: float, norm: str) -> str:
    """An epsilon in a file name: "4of255", or "1.5"."""
    return step_text(epsilon, norm).replace("/", "of")


def manifest(
    images: Sequence[dict[str, Any]],
    files: Mapping[str, dict[str, Any]],
    command: str,
    complete: bool = True,
    over_images: Any = None,
    bad: Sequence[dict[str, str]] = (),
) -> dict[str, Any]:
    """What was made, by which command, and what could not be. images: entries by `entry`; files: by `listed`."""
    return {
        "made_by": "olhar attack",
        "complete": complete,
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "versions": versions(),
        "images": list(images),
        "over_images": over_images,
        "bad": list(bad),
        "files": dict(sorted(files.items())),
    }


def listed(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Path -> hash and size, as the manifest lists files."""
    return {path: {"sha256": sha256(data), "bytes": len(data)} for path, data in files.items()}


def norm_of(study: EpsilonStudy) -> str:
    """ "linf" or "l2"."""
    return str(study.protocol.settings["norm"])


def enlarged(delta: Tensor) -> tuple[Image.Image, float]:
    """The perturbation (3,H,W) around mid grey, and by how much it is enlarged: its largest value fills the range."""
    largest = float(delta.abs().max())
    factor = 0.5 / largest if largest > 0 else 1.0
    return render.input_picture(0.5 + delta * factor), factor


def table(study: EpsilonStudy, classifier: Classifier, index: int = 0) -> list[dict[str, Any]]:
    """One row an epsilon for image `index`: everything that was measured."""
    rows = []
    for place, result in enumerate(study.attacked):
        after = result.logits_after[index]
        row: dict[str, Any] = {
            "epsilon": float(study.epsilons[place]),
            "predicted": classifier.labels[int(after.argmax())],
            "probability": float(after.softmax(-1).max()),
            "success": bool(result.success[index]),
            "survives_png": bool(result.survives_png[index]),
            "noise_turns": bool(study.noise_turns[place, index]),
        }
        for which in CLASSES:
            row[f"{which}_class"] = classifier.labels[int(study.maps[which].class_index[place, index])]
            for who in WHO:
                row[f"p_{which}_{who}"] = float(study.probability(which, who)[place, index])
        row |= {name: float(values[place, index]) for name, values in study.distance.items()}
        row[f"{norm_of(study)}_noise"] = float(study.norms["noise"][place, index])
        for which in CLASSES:
            for who in WHO:
                for name, values in study.shift[which][who].items():
                    row[f"{name}_{which}_{who}"] = float(values[place, index])
        rows.append(row)
    return rows


def columns_text(study: EpsilonStudy) -> str:
    """What the columns of `table` are, in words."""
    shifts = ", ".join(f"{name} ({fact.title})" for name, fact in SHIFTS.items())
    return (
        "epsilon, linf, l2: pixel units of [0, 1]; psnr: dB; ssim: of the pictures, clean to attacked; "
        f"{norm_of(study)}_noise: the norm of the noise. predicted, probability, success: of the attacked picture; "
        "survives_png: success of its PNG; noise_turns: success of the noisy one. old_class: predicted first; "
        "new_class: the strongest other, or the one to reach. With old or new and attack or noise behind them: p "
        f"(probability), and how the map moved, clean to attacked or noisy: {shifts}."
    )


def csv_bytes(rows: list[dict[str, Any]]) -> bytes:
    """Rows as CSV (UTF-8, a header, full precision)."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def image_files(study: EpsilonStudy, classifier: Classifier, folder: str, index: int = 0) -> dict[str, bytes]:
    """Files of image `index` by their path in the bundle."""
    norm = norm_of(study)
    files = {
        f"{folder}/clean.png": render.png_bytes(render.input_picture(study.clean[index])),
        f"{folder}/epsilon.csv": csv_bytes(table(study, classifier, index)),
        f"{folder}/maps.npz": _maps_bytes(study, index),
    }
    telling = {len(study.attacked) - 1}
    for reached in (study.success, study.survives_png):
        telling |= {int(reached[:, index].float().argmax())} if bool(reached[:, index].any()) else set()
    for place, result in enumerate(study.attacked):
        name = step_name(float(study.epsilons[place]), norm)
        levels = Image.fromarray(result.levels[index].permute(1, 2, 0).numpy())
        files[f"{folder}/adversarial-{name}.png"] = render.png_bytes(levels)
        files[f"{folder}/perturbation-{name}.npy"] = perturbation(study, place, index)
        if place in telling:
            files[f"{folder}/overview-{name}.png"] = render.png_bytes(overview(study, classifier, place, index))
    return files


def perturbation(study: EpsilonStudy, place: int, index: int = 0) -> bytes:
    """What the attack added at a place of the epsilons, before rounding to 8 bits: float32 (3,H,W) as `.npy`."""
    result = study.attacked[place]
    return npy_bytes((result.adversarial[index] - result.clean[index]).numpy())


def curve_table(curve: SecurityCurve) -> list[dict[str, Any]]:
    """One row an epsilon for a set of images: every rate and mean shift with the ends of its 95 % interval."""
    bands = {name: getattr(curve, name) for name in ("success", "survives_png", "noise_turns")}
    bands |= {f"{name}_old_{who}": band for who in WHO for name, band in curve.shift[who].items()}
    rows = []
    for place, epsilon in enumerate(curve.epsilons.tolist()):
        row: dict[str, Any] = {"epsilon": epsilon, "images": curve.success.n}
        for name, band in bands.items():
            row |= {f"{name}_{part}": float(getattr(band, part)[place]) for part in ("mean", "low", "high")}
        rows.append(row)
    return rows


def entry(study: EpsilonStudy, classifier: Classifier, folder: str, source: str, index: int = 0) -> dict[str, Any]:
    """The manifest's entry of image `index`."""
    smallest = float(study.smallest[index])
    attacked, noise = (study.norms[who][:, index : index + 1] for who in WHO)
    result: Mapping[str, Any] = plain(
        {
            "source": source,
            "folder": folder,
            "random_weights": classifier.random,
            "clean": predictions(classifier, study.attacked[0].logits_before[index]),
            "reached_before": bool(study.reached_before[index]),
            "smallest_epsilon": smallest,
            "smallest_epsilon_text": smallest_text(smallest, norm_of(study)),
            "protocol": study.protocol.sentence,
            "noise_falls_short": shortfall(attacked, noise, norm_of(study)) or None,
            "settings": study.protocol.settings,
            "provenance": study.provenance,
            "epsilons": table(study, classifier, index),
        }
    )
    return dict(result)


def scale(
    study: EpsilonStudy, which: str, place: int, whose: Sequence[str] = ("clean", "attack"), index: int = 0
) -> render.Scale:
    """One scale for the "old" or "new" class's maps at a place of the epsilons, as the method's maps are drawn."""
    maps = [getattr(study.maps[which], who)[place, index] for who in whose]
    end = render.PIXEL_PERCENTILE if maps[0].shape == study.clean.shape[-2:] else 100.0
    return render.scale_of(maps, study.signed, end, METHODS.get(study.method).from_lowest)


def overview(study: EpsilonStudy, classifier: Classifier, place: int, index: int = 0) -> Image.Image:
    """Clean, attacked and perturbation above; below, the maps of both classes on the clean and the attacked image."""
    result = study.attacked[place]
    delta = result.adversarial[index] - result.clean[index]
    picture, factor = enlarged(delta)
    old, new = (classifier.labels[int(study.maps[w].class_index[place, index])] for w in CLASSES)
    before, after = (logits[index].softmax(-1) for logits in (result.logits_before, result.logits_after))
    top, turned = int(before.argmax()), int(after.argmax())
    ink = step_text(float(study.epsilons[place]), norm_of(study))
    untrained = "RANDOM WEIGHTS, " if classifier.random else ""
    tiles = [
        (
            f"{untrained}clean: {classifier.labels[top]} {float(before[top]):.2f}",
            render.input_picture(result.clean[index]),
        ),
        (
            f"epsilon {ink}: {classifier.labels[turned]} {float(after[turned]):.2f}",
            render.input_picture(result.adversarial[index]),
        ),
        (f"perturbation x {factor:.3g}", picture),
    ]
    for which, label in zip(CLASSES, (old, new), strict=True):
        maps = study.maps[which]
        pair = [maps.clean[place, index], maps.attack[place, index]]
        shared, colors = scale(study, which, place, index=index), render.colors_for("auto", study.signed)
        for word, values, image in zip(("clean", "attacked"), pair, (result.clean, result.adversarial), strict=True):
            tiles.append((f"{word}, {label}", render.overlay(image[index], values, shared, colors)))
    return _grid(tiles)


def _grid(tiles: list[tuple[str, Image.Image]]) -> Image.Image:
    width, height = tiles[0][1].size
    caption, gap, columns = 20, 8, 4
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + caption + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    # The first row has three pictures, so that the four maps stand together below.
    places = [(0, i) for i in range(3)] + [(1, i) for i in range(len(tiles) - 3)]
    for (row, column), (text, picture) in zip(places, tiles, strict=True):
        x, y = gap + column * (width + gap), gap + row * (height + caption + gap)
        draw.text((x, y), _shortened(text, width, font), fill="black", font=font)
        sheet.paste(picture, (x, y + caption))
    return sheet


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    while font.getlength(text) > width and len(text) > 4:
        text = f"{text[:-4]}..."
    return text


def _maps_bytes(study: EpsilonStudy, index: int) -> bytes:
    arrays = {
        f"{which}_{who}": getattr(study.maps[which], who)[:, index].numpy().astype(np.float32)
        for which in CLASSES
        for who in ("clean", *WHO)
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, epsilons=study.epsilons.numpy(), **arrays)
    return buffer.getvalue()
