"""Small solids as a camera would see them: curved sheets of surface points, a depth buffer, and a metal-like shading.

A solid is made of sheets: grids of points (x, y, z) given by a function of (u, v) in [0, 1]². Points lie so close that
each pixel of the picture holds one; normals are the cross products of neighbouring differences. The nearest point of a
pixel is shaded by what the surroundings would reflect in it. Lengths are in units of about half the object; the bench
is the plane z = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from xai.data.drawn.synthetic import Floats, smoothstep

Shape = Callable[[Floats, Floats], tuple[Floats | float, Floats | float, Floats | float]]

SPACING = 0.75
"""Distance of neighbouring points, in pixels."""


@dataclass
class Solid:
    """Sheets gathered so far. per_unit: points a unit of length."""

    per_unit: float
    points: list[Floats] = field(default_factory=list)
    normals: list[Floats] = field(default_factory=list)
    paints: list[NDArray[np.uint8]] = field(default_factory=list)

    def sheet(
        self,
        shape: Shape,
        across: float,
        along: float,
        paint: int = 0,
        keep: Callable[[Floats, Floats, Floats], NDArray[np.bool_]] | None = None,
    ) -> None:
        """Add the surface shape(u, v); across and along: its greatest lengths in u and v.

        paint: 0 for the object's main material, 1 for its second. keep(x, y, z): where there is surface (holes).
        """
        rows, columns = (max(4, int(length * self.per_unit) + 2) for length in (across, along))
        u = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
        v = np.linspace(0, 1, columns, dtype=np.float32)[None, :]
        place = np.empty((rows, columns, 3), np.float32)
        place[..., 0], place[..., 1], place[..., 2] = shape(u, v)
        du = np.empty_like(place)
        dv = np.empty_like(place)
        du[:-1], du[-1] = place[1:] - place[:-1], place[-1] - place[-2]
        dv[:, :-1], dv[:, -1] = place[:, 1:] - place[:, :-1], place[:, -1] - place[:, -2]
        normal = np.empty_like(place)
        normal[..., 0] = du[..., 1] * dv[..., 2] - du[..., 2] * dv[..., 1]
        normal[..., 1] = du[..., 2] * dv[..., 0] - du[..., 0] * dv[..., 2]
        normal[..., 2] = du[..., 0] * dv[..., 1] - du[..., 1] * dv[..., 0]
        points, normals = place.reshape(-1, 3), normal.reshape(-1, 3)
        if keep is not None:
            kept = keep(points[:, 0], points[:, 1], points[:, 2])
            points, normals = points[kept], normals[kept]
        self.points.append(points)
        self.normals.append(normals)
        self.paints.append(np.full(len(points), paint, np.uint8))

    def turned(self, first: int, turn: Floats, shift: tuple[float, float, float] = (0, 0, 0)) -> None:
        """Turn by the matrix, then shift, the sheets from the `first` on."""
        for place in range(first, len(self.points)):
            self.points[place] = self.points[place] @ turn.T + np.array(shift, np.float32)
            self.normals[place] = self.normals[place] @ turn.T

    def lathe(self, outline: list[tuple[float, float]], paint: int = 0, smooth: bool = False) -> None:
        """Revolve the outline [(radius, z), ...] about the z axis: a sheet a straight piece, or one in all."""
        radii, heights = np.array(outline, np.float32).T
        steps = np.hypot(np.diff(radii), np.diff(heights))
        if smooth:
            at = np.concatenate([[0], np.cumsum(steps)]) / steps.sum()
            self.sheet(_revolved(at, radii, heights), float(steps.sum()), float(2 * np.pi * radii.max()), paint)
            return
        for k, step in enumerate(steps):
            if step > 0:
                span = np.array([0, 1], np.float32)
                round_trip = float(2 * np.pi * radii[k : k + 2].max())
                self.sheet(_revolved(span, radii[k : k + 2], heights[k : k + 2]), float(step), round_trip, paint)

    def thread(
        self, radius: float, low: float, high: float, pitch: float, depth: float, square: bool = False, tip: float = 0
    ) -> None:
        """A threaded rod about the z axis. square: a trapezoid's profile, else a V's. tip: length of a pointed end."""

        def shape(u: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
            angle = 2 * np.pi * v
            z = low + (high - low) * u + 0 * v
            wave = np.abs(((z / pitch - v) % 1) * 2 - 1)
            wave = smoothstep(0.3, 0.7, wave) if square else wave
            taper = np.clip((z - low) / tip, 0.02, 1) if tip else 1
            r = (radius - depth * (1 - wave)) * taper
            return r * np.cos(angle), r * np.sin(angle), z

        self.sheet(shape, (high - low) * 1.5, 2 * np.pi * radius)

    def tube(self, path: Callable[[Floats], Floats], length: float, radius: float, paint: int = 0) -> None:
        """A round tube along path(t) (K,3), t in [0, 1]; length: the path's."""
        count = max(8, int(length * self.per_unit) + 2)
        line = path(np.linspace(0, 1, count, dtype=np.float32)).astype(np.float32)
        ahead = np.gradient(line, axis=0)
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-9
        helper = np.array([0.3, 0.2, 1], np.float32)
        side = np.cross(ahead, helper)
        side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
        up = np.cross(ahead, side)

        def shape(u: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
            angle = 2 * np.pi * v
            c, s = np.cos(angle) * radius, np.sin(angle) * radius
            del u
            x, y, z = (line[:, k : k + 1] + side[:, k : k + 1] * c + up[:, k : k + 1] * s for k in range(3))
            return x, y, z

        self.sheet(shape, (count - 1.5) / self.per_unit, 2 * np.pi * radius, paint)

    def block(
        self,
        low: tuple[float, float, float],
        high: tuple[float, float, float],
        paint: int = 0,
        keep: Callable[[Floats, Floats, Floats], NDArray[np.bool_]] | None = None,
    ) -> None:
        """A box from corner to corner."""
        for axis in range(3):
            first, second = (axis + 1) % 3, (axis + 2) % 3
            for level in (low[axis], high[axis]):
                self.sheet(
                    _face(axis, level, low, high), high[first] - low[first], high[second] - low[second], paint, keep
                )


def _revolved(at: Floats, radii: Floats, heights: Floats) -> Shape:
    def shape(u: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
        r = np.interp(u, at, radii).astype(np.float32)
        angle = 2 * np.pi * v
        return r * np.cos(angle), r * np.sin(angle), np.interp(u, at, heights).astype(np.float32)

    return shape


def _face(axis: int, level: float, low: tuple[float, ...], high: tuple[float, ...]) -> Shape:
    first, second = (axis + 1) % 3, (axis + 2) % 3

    def shape(u: Floats, v: Floats) -> tuple[Floats | float, Floats | float, Floats | float]:
        found: list[Floats | float] = [level, level, level]
        found[first] = low[first] + (high[first] - low[first]) * u
        found[second] = low[second] + (high[second] - low[second]) * v
        return found[0], found[1], found[2]

    return shape


def about(axis: int, angle: float) -> Floats:
    """The rotation matrix about a coordinate axis."""
    c, s = math.cos(angle), math.sin(angle)
    turn = np.eye(3, dtype=np.float32)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
    return turn


@dataclass(frozen=True)
class Camera:
    """A pinhole above the bench: `tilt` from the zenith (radians), distance to the origin, half the visible width."""

    tilt: float
    distance: float
    reach: float

    def seen(self, points: Floats, side: int) -> tuple[Floats, Floats]:
        """Pixel coordinates (K,2), x right and y down, and depth (K,) of points on or above the bench."""
        view = points @ about(0, -self.tilt).T
        depth = self.distance - view[:, 2]
        scale = side / 2 / self.reach * self.distance / depth
        return np.stack([side / 2 + view[:, 0] * scale, side / 2 - view[:, 1] * scale], 1), depth


@dataclass(frozen=True, eq=False)
class Sight:
    """What the camera sees of a solid on side x side pixels: at the K pixels of it, flat indices `at`, the nearest
    point's place and unit normal (K,3), its depth (K,) and paint; `shadow` (side,side) in [0, 1] on the bench."""

    at: NDArray[np.int64]
    place: Floats
    normal: Floats
    depth: Floats
    paint: NDArray[np.uint8]
    shadow: Floats
    view: Floats


def look(solid: Solid, camera: Camera, light: Floats, side: int, softness: float) -> Sight:
    """The solid on side x side pixels, and the shadow that `light` (a unit vector towards it) casts on the bench."""
    points, normals = np.concatenate(solid.points), np.concatenate(solid.normals)
    paints = np.concatenate(solid.paints)
    pixels, depth = camera.seen(points, side)
    flat, inside = _flat(pixels, side)
    order = np.flatnonzero(inside)
    low, high = float(depth.min()), float(depth.max())
    # Whole numbers of 16 bits are sorted in one pass and, ties included, in the same order everywhere.
    near = ((high - depth[order]) * np.float32(65535 / (high - low + 1e-9))).astype(np.uint16)
    order = order[np.argsort(near, kind="stable")]  # far to near: the last one written stays
    nearest = np.full(side * side, -1, np.int64)
    nearest[flat[order]] = order
    at = np.flatnonzero(nearest >= 0)
    chosen = nearest[at]
    eye = about(0, -camera.tilt).T @ np.array([0, 0, camera.distance], np.float32)
    view = eye - points[chosen]
    view /= np.linalg.norm(view, axis=1, keepdims=True)
    normal = normals[chosen]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    normal *= np.where(np.einsum("kc,kc->k", normal, view) < 0, np.float32(-1), np.float32(1))[:, None]
    cast = np.maximum(points[::2, 2:], 0)
    shadow = np.zeros((side, side), np.float32)
    for direction, weight in ((light, 0.75), (np.array([0, 0, 1], np.float32), 0.5)):
        ground = points[::2] - cast / max(direction[2], 0.3) * direction
        ground[:, 2] = 0
        spot, there = _flat(camera.seen(ground, side)[0], side)
        drop = np.zeros(side * side, np.float32)
        drop[spot[there]] = weight
        spread = cv2.dilate(drop.reshape(side, side), np.ones((3, 3), np.uint8))
        blurred = cv2.GaussianBlur(spread, (0, 0), max(0.8, softness * side))
        shadow = np.maximum(shadow, np.asarray(blurred, np.float32))
    return Sight(at, points[chosen], normal, depth[chosen], paints[chosen], shadow, view)


def _flat(pixels: Floats, side: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    x, y = (np.floor(pixels[:, axis]).astype(np.int64) for axis in range(2))
    inside: NDArray[np.bool_] = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    return y * side + x, inside
