"""The bundle's report: one HTML page that opens by itself, with every picture inside it and nothing from outside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from xai.images import render
from xai.settings import ASSETS
from xai.words import counted

LIMIT = 100
"""Images that the report shows; a larger bundle has all of them as files, and the report says so."""

Entry = Mapping[str, Any]

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(manifest: Entry, sections: Sequence[str]) -> str:
    """The whole page: `sections` are the images' parts, made by `section`."""
    images, bad = manifest["images"], manifest["bad"]
    style = (ASSETS / "report.css").read_text(encoding="utf-8")
    title = "What the network looks at"
    lead = f"{counted(len(images), 'image')}, {counted(len(_explained(images)), 'explanation')}."
    if manifest.get("created"):
        lead += f" Made on {manifest['created']}."
    notices = []
    if not manifest["complete"]:
        notices.append("The work was stopped before its end; this page shows what was finished.")
    if len(sections) < len(images):
        notices.append(f"This page shows the first {len(sections)} of {len(images)} images; all are in the folder.")
    if bad:
        notices.append(f"{counted(len(bad), 'image')} could not be explained; the list is at the end.")
    reliefs = any("relief" in each["files"] for each in _explained(images))
    views = [(name, label) for name, label in _VIEWS if name != "relief" or reliefs]
    switch = "".join(f'<label for="view-{name}">{label}</label>' for name, label in views)
    radios = "".join(
        f'<input class="view" type="radio" name="view" id="view-{name}" aria-label="{label}"'
        f"{' checked' if name == 'overlay' else ''}>"
        for name, label in views
    )
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title} · Olhar</title>\n<style>\n{style}</style>\n</head>\n<body>",
            f'{radios}\n<header><div class="brand">Olhar</div><h1>{title}</h1><p class="lead">{escape(lead)}</p>',
            *(f'<p class="notice">{escape(notice)}</p>' for notice in notices),
            f'</header>\n<nav class="switch"><div><span>Show</span>{switch}</div></nav>\n<main>',
            *sections,
            f"</main>\n{_footer(manifest)}\n</body>\n</html>\n",
        ]
    )


_VIEWS = (("overlay", "Overlay"), ("map", "Map"), ("relief", "Colour relief"))


def section(entry: Entry, files: Mapping[str, bytes]) -> str:
    """One image's part of the page, from its manifest entry and its files."""
    width, height = entry["size"]
    view = "the centre crop" if entry["view"] == "crop" else "the whole image, resized"
    about = "; ".join([f"{width} x {height} px, seen as {view}, SHA-256 {entry['sha256'][:12]}", *entry["notes"]])
    models = "\n".join(_model(model, files) for model in entry["models"])
    return (
        f'<section class="image"><h2>{escape(entry["name"])}</h2>'
        f'<p class="about">{escape(about)}</p>\n{models}</section>'
    )


def _model(model: Entry, files: Mapping[str, bytes]) -> str:
    targets = {
        explanation["target"]["index"]: explanation["target"]
        for explanation in model["explanations"]
        if explanation["status"] == "explained"
    }
    warning = ""
    if model["random"]:
        warning = '<p class="notice">These weights are random: the answers and the maps mean nothing.</p>'
    about = f"weights {model['weights']}, fingerprint {model['fingerprint']}, {model['device']}"
    tiles = "\n".join(_tile(each, files) for each in model["explanations"])
    return (
        f'<article class="model"><div><h3>{escape(model["title"])}</h3><p class="about">{escape(about)}</p>{warning}'
        f'<figure class="seen">{_img(files[model["input"]], "what the network sees")}'
        f"<figcaption>What the network sees</figcaption></figure>"
        f'{_predictions(model["predictions"], targets)}</div>\n<div class="tiles">{tiles}</div></article>'
    )


def _predictions(predictions: Sequence[Entry], targets: Mapping[int, Entry]) -> str:
    if not predictions:
        return ""
    listed = {each["index"] for each in predictions}
    rows = [*predictions, *(target for index, target in targets.items() if index not in listed)]
    return (
        '<table class="predictions"><caption>Prediction</caption>'
        + "".join(
            f'<tr class="target"><th scope="row">{_class(row)} <span class="small">explained</span>{_level(row)}'
            if row["index"] in targets
            else f'<tr><th scope="row">{_class(row)}{_level(row)}'
            for row in rows
        )
        + "</table>"
    )


def _class(row: Entry) -> str:
    return escape(str(row["name"]))


def _level(row: Entry) -> str:
    share = 100 * row["probability"]
    text = f"{share:.1f} %" if share >= 0.05 or share == 0 else "< 0.1 %"
    return f'<span class="level" style="width:{max(share, 0.5):.1f}%"></span></th><td class="number">{text}</td></tr>'


def _tile(tile: Entry, files: Mapping[str, bytes]) -> str:
    paper = f'<a href="{escape(tile["paper"]["link"])}" rel="noreferrer">{escape(tile["paper"]["citation"])}</a>'
    if tile["status"] != "explained":
        word = "Does not apply" if tile["status"] == "refused" else "Failed"
        return (
            f'<figure class="tile refused"><h4>{escape(tile["title"])}</h4><p class="for">{word}</p>'
            f'<div class="none">{escape(tile["reason"])}</div><p class="small">{paper}</p></figure>'
        )
    name = tile["title"]
    shown = {kind: files[path] for kind, path in tile["files"].items() if path.endswith(".png")}
    pictures = "".join(
        f'<div class="as-{kind}">{_img(shown[kind], f"{name}, {kind}")}</div>'
        for kind in ("overlay", "map", "relief")
        if kind in shown
    )
    words = []
    for name in ("blank", "note"):
        if tile["facts"].get(name):
            words.append(f'<p class="caution">{escape(str(tile["facts"][name]))}</p>')
    if tile["caution"]:
        words.append(f'<p class="caution">{escape(tile["caution"])}</p>')
    words.append(f'<p class="coverage">{escape(tile["coverage"]["sentence"])}</p>')
    return (
        f'<figure class="tile{" has-relief" if "relief" in shown else ""}"><h4>{escape(name)}</h4>'
        f'<p class="for">for {escape(str(tile["target"]["name"]))}'
        f'<span class="number">{_seconds(tile["seconds"])}</span></p>{pictures}{_legend(tile)}{"".join(words)}'
        f'<p class="small">{paper}</p>{_details(tile)}</figure>'
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _legend(tile: Entry) -> str:
    words = render.ends(tile["colormap"] == render.colors_for(render.AUTO, True).name)
    numbers = "".join(f"<span>{escape(number)}</span>" for _, number in tile["scale"]["ticks"])
    numbers += f'</div><div class="ticks">{"".join(f"<span>{word}</span>" for word in words)}'
    return (
        f'<div class="legend">{_img(render.png_bytes(render.ramp(tile["colormap"], 1)), "colour bar")}'
        f'<div class="ticks number">{numbers}</div></div>'
    )


def _details(tile: Entry) -> str:
    shape = " x ".join(map(str, tile["shape"]))
    rows: dict[str, Any] = {"Scale": tile["scale"]["sentence"], "Raw map": shape, "Seed": tile["seed"]}
    rows |= tile["params"]
    rows |= {name: value for name, value in tile["facts"].items() if name not in ("blank", "note")}
    table = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(_short(v))}</td></tr>" for k, v in rows.items())
    return (
        f"<details><summary>Numbers and command</summary><table>{table}</table>"
        f"<pre><code>{escape(tile['command'])}</code></pre></details>"
    )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    text = str(value)
    return text if len(text) <= 300 else f"{text[:300]}..."


def _footer(manifest: Entry) -> str:
    parts = [
        "<h2>How to read the maps</h2>",
        "<p>Each map has its own colour bar; the numbers are the method's own values, so compare places within a map, "
        "not colours between methods, unless a scale is said to be shared. Values beyond the ends of a scale have the "
        "end colours. The raw values are in the .npy files, at the resolution that the method has.</p>",
    ]
    if manifest["bad"]:
        items = "".join(f"<li>{escape(each['source'])}: {escape(each['reason'])}</li>" for each in manifest["bad"])
        parts.append(f"<h2>Not explained</h2><ul>{items}</ul>")
    if manifest["command"]:
        parts.append(f"<h2>The same again</h2><pre><code>{escape(manifest['command'])}</code></pre>")
    made = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    parts.append(f"<h2>Made with</h2><p>{escape(made)}. manifest.json lists every file with its SHA-256.</p>")
    return f"<footer>{''.join(parts)}</footer>"


def _img(data: bytes, alt: str) -> str:
    return f'<img src="data:image/png;base64,{base64.b64encode(data).decode()}" alt="{escape(alt)}">'


def _explained(images: Sequence[Entry]) -> list[Entry]:
    tiles = [each for image in images for model in image["models"] for each in model["explanations"]]
    return [each for each in tiles if each["status"] == "explained"]
