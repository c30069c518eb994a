"""A canvas for flat colours and dark outlines, on which a picture and its mask are drawn together."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from xai.data.drawn.synthetic import Bytes

Colour = tuple[int, int, int]
Point = tuple[float, float]

FRACTION = 4
"""Bits of a drawn coordinate behind the point."""
INK: Colour = (34, 28, 30)


class Canvas:
    """A picture and a mask that are drawn on together, in the character's units."""

    def __init__(self, picture: Bytes, middle: Point, unit: float, lean: float, mirror: bool) -> None:
        self.picture = picture
        self.mask = np.zeros(picture.shape[:2], np.uint8)
        self.middle, self.unit = middle, unit
        c, s = float(np.cos(lean)), float(np.sin(lean))
        self.turn = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if mirror else 1.0, 1.0])
        self.line = max(1, round(unit * 0.022))

    def at(self, points: Sequence[Point] | NDArray[np.float64]) -> NDArray[np.int32]:
        """Sixteenths of pixels of points in the character's units."""
        placed = (np.asarray(points, np.float64) @ self.turn.T) * self.unit + np.array(self.middle)
        return np.asarray(np.rint(placed * 2**FRACTION), np.int32)

    def shape(self, points: Sequence[Point] | NDArray[np.float64], colour: Colour, outline: bool = True) -> None:
        """A filled polygon with a dark outline."""
        placed = [self.at(points)]
        cv2.fillPoly(self.picture, placed, colour, cv2.LINE_AA, FRACTION)
        cv2.fillPoly(self.mask, placed, 255, cv2.LINE_8, FRACTION)
        if outline:
            cv2.polylines(self.picture, placed, True, INK, self.line, cv2.LINE_AA, FRACTION)
            cv2.polylines(self.mask, placed, True, 255, self.line, cv2.LINE_8, FRACTION)

    def smooth(self, points: Sequence[Point], colour: Colour, outline: bool = True) -> None:
        """A filled closed curve near the points (each corner cut twice)."""
        line = np.asarray(points, np.float64)
        for _ in range(3):
            after = np.roll(line, -1, 0)
            line = np.stack([line * 0.75 + after * 0.25, line * 0.25 + after * 0.75], 1).reshape(-1, 2)
        self.shape(line, colour, outline)

    def ring(self, middle: Point, radii: Point, colour: Colour, outline: bool = True) -> None:
        """A filled ellipse."""
        around = np.linspace(0, 2 * np.pi, 36, endpoint=False)
        self.shape(
            np.stack([middle[0] + radii[0] * np.cos(around), middle[1] + radii[1] * np.sin(around)], 1), colour, outline
        )

    def stroke(self, points: Sequence[Point], colour: Colour = INK, width: float = 0.022) -> None:
        """An open line; width in the character's units."""
        thick = max(1, round(self.unit * width))
        cv2.polylines(self.picture, [self.at(points)], False, colour, thick, cv2.LINE_AA, FRACTION)
        cv2.polylines(self.mask, [self.at(points)], False, 255, thick, cv2.LINE_8, FRACTION)

    def limb(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """A thick line with an outline."""
        self.stroke(points, INK, width + 0.044)
        self.stroke(points, colour, width)
