"""The scrubber through the steps of one image, drawn in the browser from packets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from torch import Tensor

from xai.explain.spec import METHODS
from xai.files import safe_name
from xai.images.render import input_picture
from xai.metrics.curves import CURVES, pictures_at
from xai.metrics.engine import rank_pixels, shuffles
from xai.metrics.protocol import get_protocol
from xai.studies.faithfulness.measure import random_maps
from xai.studies.faithfulness.result import rival_title
from xai.studies.faithfulness.seen import Faithfulness
from xai.types import Run
from xai.ui.browser import component, packet
from xai.ui.figures import COLORS
from xai.ui.metric_curves.sight import Sight
from xai.ui.work import png

INKS = tuple(color for place, color in enumerate(COLORS) if place != 2)
GREY = COLORS[2]
DASHES = (
    ("5 4", "dash"),
    ("1.5 3", "dot"),
    ("7 3 1.5 3", "dashdot"),
    ("11 4", "longdash"),
    ("11 3 1.5 3", "longdashdot"),
)
"""Baselines are grey and dashed, so that they are told from methods without a colour."""

_scrub = component(
    "olhar_scrub",
    ("paint.js", "chart.js", "metric_curves/scrub.js"),
    "tiles.css",
    "sweep.css",
    "metric_curves/scrub.css",
)


def inks(names: Sequence[str], baseline: Mapping[str, bool] | None = None) -> dict[str, tuple[str, str, str]]:
    """How each line is drawn: RGB, SVG's dashes, plotly's dashes."""
    found, methods, others = {}, 0, 0
    for name in names:
        if (baseline or {}).get(name, name in METHODS and METHODS.get(name).family == "baseline"):
            found[name] = (GREY, *DASHES[others % len(DASHES)])
            others += 1
        else:
            found[name] = (INKS[methods % len(INKS)], "" if methods < len(INKS) else "9 3", "solid")
            methods += 1
    return found


def mount(key: str, items: Sequence[tuple[str, str, str]], words: str) -> None:
    """Mount the scrubber. items: (packet, network, title) that it may show; words: said while none has arrived."""
    _scrub(
        key=key,
        data={"items": [{"id": i, "net": net, "title": title} for i, net, title in items], "words": words},
    )


def axis(metric: str, drop: bool) -> str:
    """What the curve's height is."""
    return "drop in confidence D(t), 0 to 1" if metric == "deletion" and drop else "confidence p(t), 0 to 1"


def direction(up: bool) -> str:
    """Which way is better, in words."""
    return "higher is better" if up else "lower is better"


def rank_kind(pixels: int) -> str:
    """The type of ranks: 16 bits where they hold every rank, else 32."""
    return "u2" if pixels <= 2**16 else "u4"


def scrub_packet(packet_id: str, sight: Sight, found: Faithfulness, run: Run) -> bytes:
    """Everything that the scrubber moves through: the image, what stands for missing pixels, ranks, curves.

    Ranks are the library's own, ties included, 16 bits where the image has no more pixels than that.
    """
    network = found.networks[0]
    names = found.methods(network)
    seen = sight.seen(names, run)
    x, classifier = seen.x, sight.classifier
    protocol = get_protocol(sight.terms.protocol)
    size = (int(x.shape[-2]), int(x.shape[-1]))
    counts = protocol.counts(size)
    body: list[bytes] = []

    def add(data: bytes) -> list[int]:
        start = sum(map(len, body))
        body.append(data + b"\0" * (-len(data) % 4))
        return [start, len(data)]

    kind = rank_kind(counts[-1])
    metrics: dict[str, Any] = {}
    for metric in CURVES:
        chosen: str = sight.terms.insertion if metric == "insertion" else sight.terms.deletion
        share = 0.0 if metric == "insertion" else 1.0
        behind = pictures_at(classifier, x, x.new_zeros(size), [share], metric, protocol.name, chosen)[0]
        metrics[metric] = {
            "behind": add(png(input_picture(behind))),
            "up": found.better_up(metric),
            "sentence": " ".join((found.sentence(metric), *_given_away(found, metric))),
            "axis": axis(metric, protocol.drop),
        }
    methods = []
    ties = shuffles(x, found.recipe.seed)
    maps = {name: (seen.maps[name], seen.blank[name][0], seen.notes[name][0]) for name in names}
    titles = {name: METHODS.get(name).title for name in names}
    curves = {(name, metric): found.curve(network, name, metric) for name in names for metric in CURVES}
    for name in found.coarse_rivals(network):
        grid = seen.grids[name]
        rival = rival_title(grid)
        titles[rival] = f"Random {grid[0]} × {grid[1]}"
        maps[rival] = (random_maps(x, grid, 0, found.recipe.seed), "", "")
        curves |= {(rival, metric): found.rival_curve(network, name, metric, 0) for metric in CURVES}
    style = inks(list(maps), {name: name not in METHODS or METHODS.get(name).family == "baseline" for name in maps})
    for name, (map_, blank, note) in maps.items():
        ink, dash, _ = style[name]
        line: dict[str, Any] = {"name": name, "title": titles[name], "ink": f"rgb({ink})", "dash": dash, "blank": blank}
        line |= {"note": note, "baseline": ink == GREY}
        line["ranks"] = add(rank_pixels(map_, ties)[0].numpy().astype(f"<{kind}").tobytes())
        for metric in CURVES:
            curve = curves[name, metric]
            line[metric] = {"y": _numbers(curve.y[0]), "auc": _numbers(curve.auc)[0]}
        methods.append(line)
    target = int(seen.target[0])
    head = {
        "id": packet_id,
        "kind": "scrub",
        "network": classifier.title,
        "random": classifier.random,
        "marks": ["random weights"] * classifier.random + ["synthetic image"] * sight.piece.synthetic,
        "picture": sight.piece.item.key,
        "label": classifier.labels[target],
        "p": float(classifier.output.probability(seen.logits, seen.target)[0]),
        "h": size[0],
        "w": size[1],
        "dtype": kind,
        "counts": list(counts),
        "image": add(png(input_picture(x[0]))),
        "metrics": metrics,
        "methods": methods,
        "protocol": protocol.title,
        "file": safe_name(f"{PurePosixPath(sight.piece.item.key).stem}-{sight.net.name}-{protocol.name}"),
    }
    return packet(head, b"".join(body))


def _given_away(found: Faithfulness, metric: str) -> list[str]:
    """The sentence, if any, that what stands for missing pixels gives the class away."""
    return [text for text in found.given_away if text.startswith(metric.capitalize())]


def _numbers(values: Tensor) -> list[float | None]:
    return [None if value != value else value for value in values.double().tolist()]
