"""The GAN page's material: generators and studies that there are, and what is drawn of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from xai.data.call import open_dataset
from xai.errors import InputError, XaiError
from xai.gan.features import lite0
from xai.gan.images import Pictures, read_pictures, split_places
from xai.gan.sample import contrast, nearest_training, pairs, reconstructions, sample, sample_each, walk
from xai.gan.saved import SHIPPED, Generator, load_discriminator, load_generator
from xai.gan.settings import LAPTOP
from xai.images.render import png_bytes
from xai.runs import control as run_control
from xai.settings import ASSETS
from xai.studies.augmentation.study import Study, open_study
from xai.studies.gan.quality import first_pictures, first_places, shares_of
from xai.types import Run
from xai.ui.browser import component, packet
from xai.ui.work import Recent, short

SHIPPED_STUDY = ASSETS / "augmentation"
"""A finished study of the shipped generator."""

FALLBACK = "sample:parts"
"""What is shown, as real pictures, where there is no generator."""

REAL = 6
"""Real and generated pictures of each class beside one another."""

FRAMES = 25
TRUNCATIONS: tuple[float | None, ...] = (0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, None)
ROWS = 4
"""Samples of each class at each truncation."""

NEAREST = 12

_frames = component("olhar_frames", ("gan_augmentation/frames.js",), "sweep.css", "gan_augmentation/frames.css")
_generators: Recent[Generator] = Recent(4)
_made: Recent[Any] = Recent(64)


@dataclass(frozen=True)
class Source:
    """Something that there is: a saved generator or a finished study. key: what widgets call it."""

    key: str
    title: str
    path: Path


def generators() -> list[Source]:
    """The shipped generator, if it is there, and those of finished trainings, the newest first."""
    found = [Source("shipped", "Vise parts, shipped", SHIPPED)] if SHIPPED.is_file() else []
    return found + _runs("gan", "artifacts/generator.safetensors")


def studies() -> list[Source]:
    """The shipped study, if it is there, and finished ones, the newest first."""
    there = (SHIPPED_STUDY / "summary.json").is_file()
    found = [Source("shipped", "Vise parts, shipped", SHIPPED_STUDY)] if there else []
    return found + _runs("augment", "summary.json")


def _runs(kind: str, file: str) -> list[Source]:
    try:
        runs = run_control.list_runs(kind)
    except InputError:
        return []
    return [Source(r.id, r.title, r.path) for r in runs if r.finished and (r.path / file).is_file()]


def settle(key: str, options: Sequence[str]) -> None:
    """Have a widget stand at the first option where what it was left at is gone, as a run that was deleted."""
    if key in st.session_state and st.session_state[key] not in options:
        st.session_state[key] = options[0]  # said, not only forgotten: the browser would go on showing it


def open_generator(source: Source) -> Generator:
    """The generator, kept until its file changes. Raises `XaiError` where it cannot be used."""
    file = source.path if source.path.is_file() else source.path / "artifacts" / "generator.safetensors"
    return _generators.get((str(file), file.stat().st_mtime_ns), lambda: load_generator(source.path))


def open_finished(source: Source) -> Study:
    """The study, kept until its summary changes. Raises `XaiError` where it cannot be used."""
    stamp = (source.path / "summary.json").stat().st_mtime_ns
    found: Study = _made.get(("study", str(source.path), stamp), lambda: open_study(source.path))
    return found


def real_pictures(made: Generator | None) -> Pictures:
    """The first `REAL` training pictures of each class of a generator's data. Raises `InputError` where it is gone."""

    def read() -> Pictures:
        if made is not None:
            return first_pictures(made, REAL, Run())
        data = open_dataset(FALLBACK)
        return read_pictures(data, first_places(data, split_places(data)[0], REAL), LAPTOP.size, Run())

    key = ("real", None if made is None else (made.fingerprint, made.facts.get("train_fingerprint")))
    found: Pictures = _made.get(key, read)
    return found


def samples_of(made: Generator, first: int, count: int, truncation: float | None) -> tuple[Tensor, Tensor]:
    """`count` samples of each class (N,3,S,S) with labels; seeds go on from `first`, the same in every class."""

    key = ("samples", made.fingerprint, first, count, truncation)
    found: tuple[Tensor, Tensor] = _made.get(
        key, lambda: sample_each(made, range(first, first + count), truncation, Run())
    )
    return found


def class_names(made: Generator) -> tuple[str, ...]:
    """The classes that it draws, by name."""
    return made.names or ("any",)


def levels(images: Tensor) -> Tensor:
    """(N,3,S,S) in [0, 1], or uint8, as uint8."""
    return images if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8)


def sheet(images: Tensor, columns: int) -> Image.Image:
    """(N,3,S,S) in rows of `columns`, white where there are none left."""
    images = levels(images)
    gap = -len(images) % columns
    if gap:
        images = torch.cat([images, torch.full((gap, *images.shape[1:]), 255, dtype=torch.uint8)])
    rows = [torch.cat(list(row), 2) for row in torch.split(images, columns)]
    return Image.fromarray(torch.cat(rows, 1).permute(1, 2, 0).contiguous().numpy())


def grid(images: Tensor, labels: Tensor, names: Sequence[str], zoom: int = 1) -> Image.Image:
    """A row a class, its name at the left: dark letters on white, so that it can be read wherever it is pasted."""
    kinds = torch.unique(labels).tolist()
    rows = [images[labels == kind] for kind in kinds]
    side, width = images.shape[-1] * zoom, max(map(len, rows))
    font = ImageFont.load_default(13)
    left = max(int(font.getlength(names[kind])) for kind in kinds) + 14
    made = Image.new("RGB", (left + side * width, side * len(rows)), "white")
    draw = ImageDraw.Draw(made)
    for place, (kind, row) in enumerate(zip(kinds, rows, strict=True)):
        draw.text((left - 8, place * side + side // 2), names[kind], fill="#1b242c", font=font, anchor="rm")
        picture = sheet(row, len(row))
        made.paste(picture.resize((side * len(row), side), Image.Resampling.BICUBIC), (left, place * side))
    return made


# --- frames that a slider moves through -----------------------------------------------------


def _packet(name: str, pictures: Sequence[Image.Image], says: Sequence[str], about: Mapping[str, Any]) -> bytes:
    parts = [png_bytes(each) for each in pictures]
    head = {"id": name, "kind": "frames", "sizes": [len(each) for each in parts], "says": list(says), **about}
    return packet(head, b"".join(parts))


def walk_frames(made: Generator, first: int, second: int, label: int, truncation: float | None) -> Tensor:
    """(FRAMES,3,S,S) from one sample of a class to another, as `python -m xai gan interpolate` makes them."""

    key = ("walk", made.fingerprint, first, second, label, truncation)
    found: Tensor = _made.get(key, lambda: walk(made, first, second, label, FRAMES, truncation))
    return found


def walk_packet(made: Generator, first: int, second: int, truncation: float | None) -> tuple[str, bytes]:
    """(id, packet): from seed to seed in every class at once, five classes in a row."""
    name = short("walk", made.fingerprint, first, second, truncation)

    def make() -> bytes:
        names = class_names(made)
        ways = torch.stack([walk_frames(made, first, second, label, truncation) for label in range(len(names))], 1)
        columns = min(5, len(names))
        says = [f"{100 * place / (FRAMES - 1):.0f} % of the way" for place in range(FRAMES)]
        about = {
            "columns": columns,
            "names": list(names),
            "title": f"From seed {first} to seed {second}",
            "aria": "How far from the first sample to the second",
            "start": FRAMES // 2,
            "file": f"walk-{first}-{second}",
        }
        return _packet(name, [sheet(each, columns) for each in ways], says, about)

    data: bytes = _made.get(("packet", name), make)
    return name, data


def truncation_packet(made: Generator, first: int) -> tuple[str, bytes]:
    """(id, packet): the same seeds in every class at each of `TRUNCATIONS`."""
    name = short("truncation", made.fingerprint, first)

    def make() -> bytes:
        names = class_names(made)
        columns = names if len(names) > 1 else [f"seed {first + place}" for place in range(ROWS)]
        pictures, says = [], []
        whole = contrast(samples_of(made, first, ROWS, None)[0])
        for t in TRUNCATIONS:
            images, _ = samples_of(made, first, ROWS, t)
            # the classes are the columns, as the slider's names stand above them; of one class the seeds are
            turned = images.view(len(names), ROWS, *images.shape[1:]).transpose(0, 1).flatten(0, 1)
            pictures.append(sheet(turned, len(columns)))
            left = 100 * contrast(images) / whole if whole else 100.0
            says.append("no truncation" if t is None else f"±{t:g}, contrast {left:.0f} %")
        about = {
            "columns": len(columns),
            "names": list(columns),
            "title": f"Seeds {first} to {first + ROWS - 1}",
            "aria": "Where the latent numbers are cut off",
            "start": len(TRUNCATIONS) - 1,
            "file": f"truncation-{first}",
        }
        return _packet(name, pictures, says, about)

    data: bytes = _made.get(("packet", name), make)
    return name, data


def mount_frames(key: str, packet_id: str) -> None:
    """Mount a slider through the frames of a packet; it answers in the browser, nobody is asked."""
    _frames(key=key, data={"id": packet_id})


# --- what takes longer ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Beside:
    """Samples, each beside its nearest training picture. measure: of what kind the distances are."""

    pairs: Tensor
    labels: Tensor
    keys: tuple[str, ...]
    distances: tuple[float, ...]
    measure: str


def nearest_of(made: Generator, first: int, on_progress: Callable[[int, int, str], None]) -> Beside:
    """The nearest training pictures of `NEAREST` samples; reads the whole training share, once."""
    run = Run(on_progress=on_progress)
    shares = _made.get(("shares", made.fingerprint), lambda: shares_of(made, run))
    images, labels = sample(made, range(first, first + NEAREST))
    found = nearest_training(images, shares.train, lite0(), run)
    keys = tuple(shares.train.keys[place] for place in found.places.tolist())
    both = pairs(images, shares.train.images[found.places].float() / 255)
    return Beside(both, labels, keys, tuple(found.distances.tolist()), found.measure)


def reconstructed(source: Source, made: Generator, real: Pictures) -> Image.Image:
    """Real pictures, and below them what the discriminator's decoder draws of each. Raises `XaiError` without one."""

    def draw() -> Image.Image:
        some = real.pixels()[[int((real.labels == label).nonzero()[0]) for label in torch.unique(real.labels)]]
        drawn, wanted = reconstructions(load_discriminator(source.path), some)[0]
        return sheet(torch.cat([wanted, drawn]), len(some))

    found: Image.Image = _made.get(("reconstructed", str(source.path), made.fingerprint), draw)
    return found


def quality_of(source: Source, made: Generator) -> dict[str, Any] | None:
    """The judgement that lies beside a generator and is of it, as `python -m xai gan quality --out` writes it."""
    folder = source.path if source.path.is_dir() else source.path.parent
    for path in sorted(folder.glob("*.json")):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(told, dict) and told.get("generator") == made.fingerprint and "samples" in told:
            return told
    return None


def near(path: Path) -> Path:
    """A path as it is said in a command: from the folder that the server runs in, where it lies there."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def commands(source: Source, made: Generator, first: int, walk: tuple[int, int]) -> str:
    """The commands that make the pictures of a generator again, and the generator itself."""
    head = f"python -m xai gan {{}} {shlex.quote(str(near(source.path)))}"
    lines = [
        f"{head.format('sample')} --each {REAL} --seed {first} --out samples.png",
        f"{head.format('sample')} --each {ROWS} --seed {first} --truncation 0.6 --out truncated.png",
        f"{head.format('interpolate')} --class {shlex.quote(class_names(made)[0])} --from-seed {walk[0]} "
        f"--to-seed {walk[1]} --frames {FRAMES} --out walk.gif",
        f"{head.format('nearest')} --count {NEAREST} --seed {first} --out nearest.png",
        f"{head.format('reconstruct')} --out reconstructed.png",
        f"{head.format('quality')} --out quality.json",
    ]
    own = str(made.facts.get("command", ""))
    return "\n".join([own, *lines] if own else lines)


def sentence(error: Exception) -> str:
    """What a page says of a refusal."""
    return str(error) if isinstance(error, XaiError) else f"{type(error).__name__}: {error}"
