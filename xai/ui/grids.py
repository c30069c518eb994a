"""Grids of maps on any page: what is explained with the chosen parameters, and a grid that follows the main one."""

from __future__ import annotations

from collections.abc import Sequence

from xai.ui import tiles
from xai.ui.live import Live
from xai.ui.session import Choice
from xai.ui.tiles import Row
from xai.ui.work import Ask, Scene


def grid(choice: Choice, live: Live, key: str, rows: Sequence[Row]) -> None:
    """A grid without its own display controls: it follows those of the page's main grid."""
    tiles.grid(key, rows, choice.display, lambda: live.act_from(key), lambda: None, controls=False)


def ask(choice: Choice, scene: Scene, method: str, layer_path: str | None, target: int | None) -> Ask:
    """An explanation with the parameters that were chosen."""
    return Ask(scene, method, tuple(sorted(choice.params.get(method, {}).items())), layer_path, target)
