"""An epsilon study as files: adversarial PNGs, perturbations, maps, a table over epsilon, overviews, manifest entry.

<image>/clean.png                                what the network saw, lossless
<image>/adversarial-<epsilon>-<norm>.png         the attacked image, lossless, with the norm that it has as PNG
<image>/perturbation-<epsilon>-<norm>.npy        adversarial - clean, float32 (3,H,W), before rounding to 8 bits
<image>/overview-<epsilon>.png                   clean, attacked, perturbation and the four maps side by side
<image>/maps.npz                                 raw maps of both classes, clean, attacked and noisy, (E,h,w)
<image>/epsilon.csv                              one row an epsilon: prediction, success, distances, shifts

<epsilon> is the one asked for, such as 16of255; <norm> the one measured, such as linf-15.9of255.
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

from xai.attacks.call import TOLERANCE
from xai.bundles.entry import npy_bytes, plain, predictions
from xai.explain.spec import METHODS
from xai.files import sha256
from xai.images import render
from xai.metrics.shift import SHIFTS
from xai.models.classifier import Classifier
from xai.models.provenance import versions
from xai.studies.adversarial.noise import shortfall
from xai.studies.adversarial.study import CLASSES, WHO, EpsilonStudy, SecurityCurve


def step_text(epsilon: float, norm: str) -> str:
    """An epsilon for people: "4/255" for the L-infinity norm, "1.5" for L2."""
    return f"{epsilon * 255:.4g}/255" if norm == "linf" else f"{epsilon:.4g}"


def smallest_text(epsilon: float, norm: str, already: bool = False) -> str:
    """An upper bound on the smallest epsilon that succeeds, for people; NaN where none tried does."""
    if already:
        return "reached before the attack"
    return f"{step_text(epsilon, norm)} or less" if epsilon == epsilon else "none of those tried"


def answer(study: EpsilonStudy, classifier: Classifier, index: int = 0) -> str:
    """What the attack came to, in one or two sentences."""
    norm, smallest = norm_of(study), float(study.smallest[index])
    label = classifier.labels[int(study.attacked[0].target[index])]
    targeted = bool(study.protocol.settings["targeted"])
    what = f"reaches the chosen class, {label}" if targeted else "changes the class"
    if study.already[index]:
        was = f"decides for the chosen class, {label}," if targeted else f"does not decide for the label, {label},"
        return f"The network {was} already before the attack: nothing has to change."
    count = attacked(study)
    if not count:
        return "Only epsilon 0 was tried so far, which leaves the picture as it is."
    tried = f"epsilon tried{'' if study.bisected else ' so far'}"
    if smallest != smallest:
        largest = step_text(float(study.epsilons.max()), norm)
        return f"No {tried} {what} ({count}, up to {largest}). A stronger attack may."
    if not study.bisected:
        return f"Smallest {tried} that {what} (of {count}): {step_text(smallest, norm)}."
    return (
        f"An epsilon of {smallest_text(smallest, norm)} {what}. This is an upper bound, found by bisection to "
        f"{step_text(TOLERANCE[norm], norm)}."
    )


def attacked(study: EpsilonStudy) -> int:
    """How many epsilons were attacked: 0 is the clean picture."""
    return int((study.epsilons > 0).sum())


def slope_text(study: EpsilonStudy, index: int = 0) -> str:
    """Where the attack had no gradient to follow, in words, or ""."""
    epsilons, parts = attacked(study), []
    saturated, blind = (int(each[:, index].sum()) for each in (study.saturated, study.blind))
    if saturated:
        parts.append(
            f"At {saturated} of {epsilons} epsilons the network was so sure (a probability of exactly 1) that the "
            "cross-entropy has no gradient; the attack climbed the margin loss there instead."
        )
    if blind:
        parts.append(
            f"At {blind} of {epsilons} epsilons the gradient was exactly zero at some step, so that the attack could "
            "not move: that it fails there is no sign of a robust network."
        )
    return " ".join(parts)


def step_name(epsilon: float, norm: str) -> str:
    """An epsilon in a file name: "4of255", or "1.5"."""
    return step_text(epsilon, norm).replace("/", "of")


def file_stem(what: str, study: EpsilonStudy, place: int, index: int = 0) -> str:
    """How a file at a place of the epsilons is called: "adversarial" or "perturbation", the epsilon, the true norm."""
    norm, result = norm_of(study), study.attacked[place]
    measured = float((result.linf if norm == "linf" else result.l2)[index])
    if what == "adversarial":  # as PNG
        delta = result.levels[index].double() - (255 * result.clean[index].double()).round()
        measured = float(delta.abs().max() if norm == "linf" else delta.norm()) / 255
    return f"{what}-{step_name(float(study.epsilons[place]), norm)}-{norm}-{step_name(measured, norm)}"


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
            "predicted": study.output.answer(after, classifier.labels),
            "probability": float(study.output.probabilities(after).max()),
            "success": bool(result.success[index]),
            "survives_png": bool(result.survives_png[index]),
            "saturated": bool(result.saturated[index]),
            "blind": bool(result.blind[index]),
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
        "survives_png: success of its PNG; noise_turns: success of the noisy one. saturated: the margin loss stood in "
        "for a saturated cross-entropy at some step; blind: the gradient was exactly zero at some step. old_class: "
        "predicted first; new_class: the strongest other, or the one to reach. With old or new and attack or noise "
        f"behind them: p (probability), and how the map moved, clean to attacked or noisy: {shifts}."
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
        levels = Image.fromarray(result.levels[index].permute(1, 2, 0).numpy())
        files[f"{folder}/{file_stem('adversarial', study, place, index)}.png"] = render.png_bytes(levels)
        files[f"{folder}/{file_stem('perturbation', study, place, index)}.npy"] = perturbation(study, place, index)
        if place in telling:
            name = step_name(float(study.epsilons[place]), norm)
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
            "already": bool(study.already[index]),
            "answer": answer(study, classifier, index),
            "smallest_epsilon": smallest,
            "smallest_epsilon_text": smallest_text(smallest, norm_of(study), bool(study.already[index])),
            "no_gradient": slope_text(study, index) or None,
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
    before, after = (result.output.probabilities(of[index]) for of in (result.logits_before, result.logits_after))
    top, turned = int(before.argmax()), int(after.argmax())
    norm = norm_of(study)
    ink = step_text(float(study.epsilons[place]), norm)
    says = [result.output.answer(of[index], classifier.labels) for of in (result.logits_before, result.logits_after)]
    untrained = "RANDOM WEIGHTS, " if classifier.random else ""
    tiles = [
        (
            f"{untrained}clean: {says[0]} {float(before[top]):.2f}",
            render.input_picture(result.clean[index]),
        ),
        (
            f"epsilon {ink}: {says[1]} {float(after[turned]):.2f}",
            render.input_picture(result.adversarial[index]),
        ),
        (f"perturbation x {factor:.3g}, norm {step_text(float(study.norms['attack'][place, index]), norm)}", picture),
    ]
    bars = []
    for which, label in zip(CLASSES, (old, new), strict=True):
        maps = study.maps[which]
        pair = [maps.clean[place, index], maps.attack[place, index]]
        shared = scale(study, which, place, index=index)
        bars.append(render.color_bar(shared))
        for word, values, image in zip(("clean", "attacked"), pair, (result.clean, result.adversarial), strict=True):
            tiles.append((f"{word}, {label}", render.overlay(image[index], values, shared)))
    return _grid(tiles, bars)


def _grid(tiles: list[tuple[str, Image.Image]], bars: list[Image.Image]) -> Image.Image:
    """Pictures with their captions, and below each pair of maps the colour bar of its scale."""
    width, height = tiles[0][1].size
    caption, gap, columns = 20, 8, 4
    rows = -(-len(tiles) // columns)
    sheet = Image.new(
        "RGB", (columns * (width + gap) + gap, rows * (height + caption + gap) + gap + bars[0].height), "white"
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    # The first row has three pictures, so that the four maps stand together below.
    places = [(0, i) for i in range(3)] + [(1, i) for i in range(len(tiles) - 3)]
    for (row, column), (text, picture) in zip(places, tiles, strict=True):
        x, y = gap + column * (width + gap), gap + row * (height + caption + gap)
        draw.text((x, y), _shortened(text, width, font), fill="black", font=font)
        sheet.paste(picture, (x, y + caption))
    for place, bar in enumerate(bars):
        middle = (2 * place + 1) * (width + gap) + gap // 2
        sheet.paste(bar, (middle - bar.width // 2, sheet.height - bar.height))
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
