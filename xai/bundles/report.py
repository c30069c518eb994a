"""The bundle's report: one HTML page that opens by itself, with every picture inside it and nothing from outside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from xai.images import render
from xai.settings import ASSETS
from xai.words import counted

LIMIT = 100
"""Images that the report shows; a larger bundle has all of them as files, and the report says so."""

Entry = Mapping[str, Any]

_VIEWS = (("overlay", "Overlay"), ("map", "Map"), ("relief", "Colour relief"))

_SHORT = 300
"""Characters of a value in the table of numbers."""


def page(manifest: Entry, sections: Sequence[str]) -> str:
    """The whole page: `sections` are the images' parts, made by `section`."""
    images, bad = manifest["images"], manifest["bad"]
    tiles = [each for image in images for model in image["models"] for each in model["explanations"]]
    explained = [each for each in tiles if each["status"] == "explained"]
    lead = f"{counted(len(images), 'image')}, {counted(len(explained), 'explanation')}."
    if manifest.get("created"):
        lead += f" Made on {manifest['created']}."
    notices = []
    if not manifest["complete"]:
        notices.append("The work was stopped before its end; this page shows what was finished.")
    if len(sections) < len(images):
        notices.append(f"This page shows the first {len(sections)} of {len(images)} images; all are in the folder.")
    if bad:
        notices.append(f"{counted(len(bad), 'image')} could not be explained; the list is at the end.")
    reliefs = any("relief" in each["files"] for each in explained)
    return _TEMPLATES.get_template("report.html").render(
        style=Markup((ASSETS / "report.css").read_text(encoding="utf-8")),
        views=[(name, label) for name, label in _VIEWS if name != "relief" or reliefs],
        lead=lead,
        notices=notices,
        sections=[Markup(each) for each in sections],
        bad=bad,
        command=manifest["command"],
        versions=manifest["versions"],
    )


def section(entry: Entry, files: Mapping[str, bytes]) -> str:
    """One image's part of the page, from its manifest entry and its files."""
    width, height = entry["size"]
    view = "the centre crop" if entry["view"] == "crop" else "the whole image, resized"
    about = "; ".join([f"{width} x {height} px, seen as {view}, SHA-256 {entry['sha256'][:12]}", *entry["notes"]])
    return _TEMPLATES.get_template("image.html").render(
        name=entry["name"], about=about, models=entry["models"], files=files
    )


def _percent(probability: float) -> str:
    share = 100 * probability
    return f"{share:.1f} %" if share >= 0.05 or share == 0 else "< 0.1 %"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _numbers(tile: Entry) -> list[tuple[str, str]]:
    """Rows of the table of numbers: (name, value)."""
    rows: dict[str, Any] = {
        "Scale": tile["scale"]["sentence"],
        "Raw map": " x ".join(map(str, tile["shape"])),
        "Seed": tile["seed"],
        **tile["params"],
        **{name: value for name, value in tile["facts"].items() if name not in ("blank", "note")},
    }
    return [(name, _short(value)) for name, value in rows.items()]


def _short(value: Any) -> str:
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}..."


def _ends(colormap: str) -> tuple[str, ...]:
    """What the two ends of the colour bar say."""
    return tuple(render.ends(colormap == render.colors_for(render.AUTO, True).name))


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).resolve().parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {
    "bar": lambda probability: f"{max(100 * probability, 0.5):.1f}",
    "base64": lambda data: base64.b64encode(data).decode(),
    "ends": _ends,
    "numbers": _numbers,
    "percent": _percent,
    "ramp": lambda colormap: render.png_bytes(render.ramp(colormap, 1)),
    "seconds": _seconds,
}
