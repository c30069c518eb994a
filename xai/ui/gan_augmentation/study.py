"""The augmentation study on the GAN page: verdict, curves, sizes, attention."""

from __future__ import annotations

import csv as writing
import io
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import plotly.graph_objects as go
import streamlit as st
import torch
from PIL import Image, ImageDraw, ImageFont

from xai.errors import XaiError
from xai.explain.spec import METHODS
from xai.images.render import overlay, png_bytes, scale_of
from xai.stats.intervals import Band
from xai.studies.augmentation.study import SHOWN, Study, compared, rises, undertrained, undertrained_sentence
from xai.ui import downloads, figures, runs
from xai.ui.figures import COLORS, chart
from xai.ui.gan_augmentation import state as gan
from xai.ui.gan_augmentation.state import Source
from xai.ui.uploads import named

MISSING = (
    "No study is here yet: the shipped one (assets/augmentation) is missing, and none has finished. Begin one under "
    "Your own runs, or with this command:"
)
COMMAND = (
    "python -m xai augment sample:parts --generator assets/gan/parts.safetensors --seeds 3 --steps 400 "
    "--out runs/augmentation"
)

CASES = {"all": "all", "right": "named rightly by both", "wrong": "named wrongly by both"}
NETWORKS = {"baseline": "real only", "augmented": "with synthetic images"}
ZOOM = 176
LETTERS = (24, 22, 20, 18, 16, 14, 12)
"""Sizes of the letters in the figure of attention, in pixels."""


def opened(source: Source | None) -> Study | None:
    """The study; where there is none, what is missing and how to make it."""
    if source is None:
        st.info(MISSING, icon=":material/info:")
        st.code(COMMAND, language=None, wrap_lines=True)
        return None
    try:
        return gan.open_finished(source)
    except (XaiError, OSError) as error:
        st.error(gan.sentence(error), icon=":material/error:")
        return None


def verdict(study: Study) -> None:
    """The answer, on all real images and on shares of them."""
    summary = study.summary
    st.subheader(f"Verdict: {summary['verdict']}")
    st.markdown(f"{summary['title']} on {runs.plain(named(summary['data_name']))}{_marked(summary)}")
    if weak := undertrained_sentence(summary, compared(summary)):
        st.caption(f":orange-badge[undertrained] {weak}")
    st.caption(summary["protocol"]["sentence"])
    rows = [
        {
            "real images used": f"{each['percent']} %",
            f"ratio{' chosen on validation' * _chose(summary)}": f"{each['ratio']} %",
            "synthetic against real only, points [95 %]": interval(each["difference"], "+"),
            "test images": each["images"],
            "validation prefers": each["validation_prefers"],
        }
        for each in summary["verdicts"]
    ]
    if rows:
        st.table(rows, border="horizontal", hide_index=True)


def _chose(summary: Mapping[str, Any]) -> bool:
    """Whether there was a ratio to choose."""
    return len(summary["protocol"]["settings"]["ratios"]) > 1


def _marked(summary: Mapping[str, Any]) -> str:
    return " :orange-badge[synthetic pictures]" if summary["data_synthetic"] else ""


def interval(value: Mapping[str, Any], sign: str = "", factor: float = 1.0) -> str:
    """A mean with its interval, short."""
    mean = format(factor * value["mean"], f"{sign}.1f")
    return mean if value["low"] is None else f"{mean} [{factor * value['low']:.1f}, {factor * value['high']:.1f}]"


def arms(study: Study, key: str) -> None:
    """Test accuracy by step, for the arms that are picked, and every arm in numbers."""
    summary = study.summary
    whole = [each for each in summary["curves"] if each["percent"] == 100]
    titles = [each["title"] for each in whole]
    ratio = summary["chosen"].get("100")
    first = [each["title"] for each in told(whole) if each["arm"] != "pretrained" and each["ratio"] in (0, ratio)]
    picked = st.pills(
        "Arms",
        titles,
        selection_mode="multi",
        default=list(dict.fromkeys(first)),
        key=f"{key}_arms_{study.path.name}",
        persist_state="session",
    )
    lines = [(each["title"], _band(each)) for each in whole if each["title"] in picked]
    left, right = st.columns(2, gap="large")
    with left:
        if lines:
            made = figures.bands(whole[0]["step"], lines, "optimiser steps", "accuracy on test images, %")
            title = "Test accuracy by step"
            chart(made, title, _over("mean over seeds; the band is", summary), f"{key}_steps")
        else:
            st.caption("Pick at least one arm.")
    with right:
        chart(sizes(summary), "Accuracy against size of the training set", _size_words(summary), f"{key}_sizes")
    with st.expander("Every arm in numbers"):
        st.dataframe(table(summary), hide_index=True, width="stretch")
        downloads.button(
            "CSV",
            lambda: csv(table(summary), summary),
            "augmentation.csv",
            "text/csv",
            key=f"{key}_csv",
        )
        downloads.button(
            "JSON",
            lambda: json.dumps(dict(summary), indent=1),
            "summary.json",
            "application/json",
            key=f"{key}_json",
        )


def _band(row: Mapping[str, Any]) -> Band:
    low, high = (
        torch.tensor([math.nan if value is None else value for value in row[name]], dtype=torch.float64)
        for name in ("low", "high")
    )
    return Band(torch.tensor(row["mean"], dtype=torch.float64), low, high, 1)


def sizes(summary: Mapping[str, Any]) -> go.Figure:
    """Accuracy against the number of training images: shares of the real ones, and all of them with generated ones."""
    rows = told(summary["arms"])
    ratio = summary["chosen"].get("100")
    lines = {
        "shares of the real images": [r for r in rows if r["arm"] == "real"],
        "the same, traditional augmentation": [r for r in rows if r["arm"] == "traditional"],
        f"the same, with {ratio} % synthetic": [r for r in rows if r["arm"] == "synthetic" and r["ratio"] == ratio],
        "all real images, more and more synthetic": [
            r
            for r in summary["arms"]
            if r["percent"] == 100 and r["arm"] in ("real", "synthetic") and not r.get("anew")
        ],
    }
    made = go.Figure()
    for place, (name, found) in enumerate(lines.items()):
        if len(found) < 2:
            continue
        some = sorted(found, key=lambda r: r["real"] + r["synthetic"])
        mean = [r["test"]["mean"] for r in some]
        up, down = ([_arm(r["test"], end) for r in some] for end in ("high", "low"))
        made.add_scatter(
            x=[r["real"] + r["synthetic"] for r in some],
            y=mean,
            name=name,
            mode="lines+markers",
            error_y={"type": "data", "array": up, "arrayminus": down, "thickness": 1.2, "width": 3},
            line={"color": f"rgb({COLORS[place % len(COLORS)]})", "width": 2},
            text=[f"{r['title']}, {r['real']} + {r['synthetic']} images" for r in some],
            hovertemplate="%{text}: %{y:.1f} %<extra></extra>",
        )
    made.update_layout(showlegend=True)  # one line, too, has to be told what it is
    made.update_xaxes(title="training images, real and synthetic")
    made.update_yaxes(title="accuracy on test images, %")
    return made


def told(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows or curves; of an arm that was tested anew only that, not what the networks said that chose it."""
    anew = {(row["percent"], row["arm"], row["ratio"]) for row in rows if row.get("anew")}
    return [row for row in rows if row.get("anew") or (row["percent"], row["arm"], row["ratio"]) not in anew]


def _arm(value: Mapping[str, Any], end: str) -> float:
    return 0.0 if value[end] is None else abs(value[end] - value["mean"])


def _size_words(summary: Mapping[str, Any]) -> str:
    words = f"{_over('bars are', summary)}; equal steps everywhere; {summary['images']['test']} test images"
    if not any(row.get("anew") for row in summary["arms"]):
        return words
    return (
        f"{words}; of an arm that was tested anew only that is shown, but the line of more and more synthetic is of "
        "the networks that chose"
    )


def _over(what: str, summary: Mapping[str, Any]) -> str:
    """What intervals in a figure are over; of one seed there are none."""
    if summary["protocol"]["settings"]["seeds"] == 1:
        return "one seed, which says nothing about others: no intervals"
    return f"{what} 95 % over seeds and test images"


def table(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The arms as a table's rows."""
    return [
        {
            "real images": f"{row['percent']} %",
            "arm": row["title"],
            "network": row["network"],
            "images": f"{row['real']} + {row['synthetic']}",
            "train %": round(row["train"], 1),
            "validation %": round(row["validation"], 1),
            "test % [95 %]": interval(row["test"]),
            "points against real only [95 %]": interval(row["difference"], "+") if row["difference"] else "",
            "points in the last quarter of the steps": interval(rises(summary, row), "+"),
            "training": "undertrained: still rising" if undertrained(summary, row) else "",
            "seeds": ", ".join(f"{each:.1f}" for each in row["seeds"]),
        }
        for row in summary["arms"]
    ]


def csv(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    """A table as CSV, each row with the protocol and the command that makes it again."""
    sink = io.StringIO()
    writer = writing.DictWriter(sink, [*rows[0], "protocol", "command"])
    writer.writeheader()
    said = {"protocol": summary["protocol"]["sentence"], "command": summary["command"]}
    writer.writerows({**row, **said} for row in rows)
    return sink.getvalue()


def attention(study: Study, key: str) -> None:
    """Does synthetic data narrow the attention? Measured, then shown."""
    summary = study.summary
    if not summary["attention"]:
        st.caption(summary["finding"] or "This study has no synthetic arm, so there is nothing to compare.")
        return
    st.markdown(f"**{summary['finding']}**{_marked(summary)}")
    kind = st.segmented_control(
        "On pictures that are",
        ("real", "generated"),
        default="real",
        key=f"{key}_kind",
        persist_state="session",
        required=True,
    )
    rows = [
        {
            "pictures": CASES[each["case"]],
            "measure": each["title"],
            "real only": f"{100 * each['baseline']:.1f}\N{NO-BREAK SPACE}%",
            "with synthetic": f"{100 * each['augmented']:.1f}\N{NO-BREAK SPACE}%",
            "difference, points [95 %]": interval(each["difference"], "+", 100),
            "n": each["images"],
            "interval over": each["over"],
        }
        for each in summary["attention"]
        if each["set"] == kind
    ]
    if rows:
        st.table(rows, border="horizontal", hide_index=True)
        name = f"attention-{kind}.csv"
        downloads.button("CSV", lambda: csv(rows, summary), name, "text/csv", key=f"{key}_look_csv")
    method = METHODS.get(summary["protocol"]["settings"]["method"]).title
    st.caption(
        f"{method} of the predicted class at the network's input size, image by image, paired. Area: the smallest "
        "share of the image with half of the positive mass; entropy: 100 % is evenly spread; energy: the share on the "
        f"object's mask. With synthetic: {summary['chosen']['100']} %"
        f"{', chosen on validation images' * _chose(summary)}. Each interval is 95 % by itself; those over images "
        f"alone say nothing of other seeds. {_blank(summary, str(kind))}"
    )
    for case, place in zip(("right", "wrong"), st.columns(2, gap="large"), strict=True):
        picture = tiles(study, str(kind), case)
        if picture is None:
            place.caption(f"No picture that a network names {case}ly is among those kept.")
            continue
        with place:
            st.markdown(f"**{str(kind).capitalize()}, named {case}ly**")
            alt = f"{method} of both networks on {kind} pictures named {case}ly, titled true / predicted"
            st.image(picture, output_format="PNG", width="stretch", alt=alt)
            figures.color_bar(signed=False, sentence="each map from 0 to its own highest value")
            downloads.button(
                "PNG",
                partial(png_bytes, picture),
                f"attention-{kind}-{case}.png",
                "image/png",
                key=f"{key}_{case}",
            )
    seed = summary.get("told_by_seeds", [0])[0]
    st.caption(
        f"Titles: true class / predicted class with its probability. Networks of seed {seed}; none picked by hand."
    )


def _blank(summary: Mapping[str, Any], kind: str) -> str:
    """How many images no row of "all" holds, since a network's map of them is blank."""
    rows = [row for row in summary["attention"] if (row["set"], row["case"]) == (kind, "all")]
    if not rows:
        return "Each of these images has a blank map of some network: no row is of all."
    seeds = summary["protocol"]["settings"]["seeds"]
    missing = max((row["pairs"] + row["left_out"]) // seeds - row["images"] for row in rows)
    return f"{missing} of these images have a blank map of some network and are left out." if missing else ""


def tiles(study: Study, kind: str, case: str) -> Image.Image | None:
    """Both networks' maps over pictures that each names rightly, or wrongly; dark letters on white."""
    classes, held = study.summary["classes"], study.pictures
    networks = [name for name in NETWORKS if study.cases(name, kind, case)]
    if not networks:
        return None
    head, foot = LETTERS[0] + 12, 2 * LETTERS[0] + 22
    row = head + ZOOM + foot
    made = Image.new("RGB", (SHOWN * (ZOOM + 6), row * len(networks)), "white")
    draw = ImageDraw.Draw(made)
    for line, name in enumerate(networks):
        font = ImageFont.load_default(LETTERS[0])
        draw.text((0, line * row + 4), f"Network: {NETWORKS[name]}", fill="#1b242c", font=font)
        for column, place in enumerate(study.cases(name, kind, case)):
            picture = Image.fromarray(held[f"{kind}.images"][place].permute(1, 2, 0).contiguous().numpy())
            values = held[f"{kind}.{name}.maps"][place].float().clamp(min=0)
            shown = overlay(picture.resize((ZOOM, ZOOM), Image.Resampling.BICUBIC), values, scale_of(values, False))
            left, top = column * (ZOOM + 6), line * row + head
            made.paste(shown, (left, top))
            true = classes[int(held[f"{kind}.label"][place])]
            said = classes[int(held[f"{kind}.{name}.predicted"][place])]
            words = f"{true} /\n{said} {100 * float(held[f'{kind}.{name}.probability'][place]):.0f} %"
            draw.text((left, top + ZOOM + 4), words, fill="#1b242c", font=_fitting(words, ZOOM))
    return made


def _fitting(words: str, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The largest letters in which each line of `words` is at most `width` pixels long; the figure is drawn small."""
    fonts = [ImageFont.load_default(size) for size in LETTERS]
    fits = (each for each in fonts if max(map(each.getlength, words.splitlines())) <= width)
    return next(fits, fonts[-1])


def made_by(study: Study, shipped: bool) -> None:
    """The command that makes it again, and what is known of its generator."""
    for each in study.summary["generators"]:
        how = each.get("command") or "trained first by this study"
        st.caption(f"Generator {each['fingerprint']}: {each.get('steps', 0):,} steps; {how}")
    st.markdown("**The command that makes it again**")
    st.code(
        study.summary["command"] or "made from Python: xai.studies.augmentation.study.augment",
        language=None,
        wrap_lines=True,
    )
    if shipped:
        st.caption("Shipped with Olhar; networks and predictions of each unit are in a run of your own only.")


def headline(study: Study | None) -> str:
    """The page's question, and its answer where there is one."""
    asked = "Does synthetic data help a classifier, and what does it do to what the classifier looks at?"
    return asked if study is None else f"{asked} **{study.summary['title']}: {study.summary['verdict']}.**"
