"""The served configuration: closed to other hosts, and both themes readable (WCAG 2.2, level AA)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torchvision

from xai.ui import browser, uploads
from xai.ui.metric_curves import forms as curves_forms

CONFIG: dict[str, Any] = tomllib.loads((Path(__file__).parents[3] / ".streamlit" / "config.toml").read_text())
TEXT, GRAPHIC = 4.5, 3.0  # least contrast of text, and of what is not text (1.4.3 and 1.4.11)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG defines it."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """(lighter + 0.05) / (darker + 0.05)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def mixed(front: str, back: str, alpha: float) -> str:
    """`front` with opacity `alpha` over `back`."""
    parts = ((int(front[i : i + 2], 16), int(back[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(f * alpha + b * (1 - alpha)):02x}" for f, b in parts)


def test_contrast_of_known_pairs() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the usual example of "just too light"


def test_the_first_column_of_a_table_stands_on_the_themes_background() -> None:
    light, dark = (CONFIG["theme"][theme]["backgroundColor"] for theme in ("light", "dark"))
    assert f"background: light-dark({light}, {dark});" in browser.text("app.css")


def test_the_server_takes_what_the_pages_ask_for() -> None:
    networks = [torchvision.models.get_model_weights(name) for name in ("vgg16", "vgg19", "vit_b_16")]
    largest = max(weights.DEFAULT.meta["_file_size"] for weights in networks)  # MB
    zips = max(curves_forms.ZIP_BYTES, uploads.ZIP_BYTES) / 2**20
    assert CONFIG["server"]["maxUploadSize"] >= max(largest, zips)


def test_only_this_machine_is_served() -> None:
    assert CONFIG["server"]["address"] == "127.0.0.1"
    assert CONFIG["server"]["allowedHosts"] == ["localhost", "127.0.0.1"]
    assert CONFIG["browser"]["gatherUsageStats"] is False
    assert CONFIG["client"]["showErrorDetails"] != "full"


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_both_themes_are_readable(mode: str) -> None:
    assert "base" not in CONFIG["theme"]  # so that the app follows the system
    theme = CONFIG["theme"][mode]
    surfaces = [theme["backgroundColor"], theme["secondaryBackgroundColor"], *theme["sidebar"].values()]
    for surface in surfaces:
        assert contrast(theme["textColor"], surface) >= 7  # running text: the stricter level AAA
        caption = mixed(theme["textColor"], surface, 0.6)  # as Streamlit writes captions
        assert contrast(caption, surface) >= TEXT
        assert contrast(theme["linkColor"], surface) >= TEXT
        assert contrast(theme["primaryColor"], surface) >= GRAPHIC
    assert contrast(theme["primaryColor"], "#ffffff") >= TEXT  # a primary button's text is white
    for colour in theme["chartCategoricalColors"]:
        assert contrast(colour, theme["backgroundColor"]) >= GRAPHIC
