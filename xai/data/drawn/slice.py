"""Axial slices of a head as a scanner would show them: anatomy from smooth fields, a contrast, and what may be in it.

Coordinates: the head's centre is (0, 0), x to the viewer's right, y down, in half heights of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from xai.data.drawn.synthetic import Bytes, Floats, clouds, smoothstep, to_bytes

CONTRASTS: dict[str, dict[str, float]] = {
    "T1": {"fluid": 0.13, "grey": 0.42, "white": 0.60, "deep": 0.47, "fat": 0.86, "bone": 0.07, "marrow": 0.45},
    "T1 + contrast": {
        "fluid": 0.11,
        "grey": 0.41,
        "white": 0.55,
        "deep": 0.45,
        "fat": 0.9,
        "bone": 0.06,
        "marrow": 0.4,
    },
    "T2": {"fluid": 0.93, "grey": 0.56, "white": 0.38, "deep": 0.46, "fat": 0.62, "bone": 0.06, "marrow": 0.35},
    "FLAIR": {"fluid": 0.10, "grey": 0.55, "white": 0.44, "deep": 0.5, "fat": 0.6, "bone": 0.06, "marrow": 0.3},
}
"""Signal of each tissue; water is dark in T1 and FLAIR and bright in T2."""

KINDS = ("ring", "solid", "diffuse", "cystic")
SIGNALS: dict[str, dict[str, tuple[float, float]]] = {
    "T1": {"ring": (0.5, 0.22), "solid": (0.32, 0.28), "diffuse": (0.28, 0.28), "cystic": (0.42, 0.14)},
    "T1 + contrast": {"ring": (0.95, 0.2), "solid": (0.9, 0.8), "diffuse": (0.32, 0.27), "cystic": (0.85, 0.13)},
    "T2": {"ring": (0.6, 0.9), "solid": (0.75, 0.78), "diffuse": (0.85, 0.82), "cystic": (0.6, 0.96)},
    "FLAIR": {"ring": (0.85, 0.5), "solid": (0.78, 0.74), "diffuse": (0.84, 0.8), "cystic": (0.75, 0.24)},
}
"""(rim, core) of each kind of tumour in each contrast."""
OEDEMA = {"T1": -0.17, "T1 + contrast": -0.15, "T2": 0.36, "FLAIR": 0.38}


@dataclass(frozen=True)
class Head:
    """The shape of a head: half width, half height, how high the slice lies (0 at the ventricles, 1 above them)."""

    width: float
    height: float
    level: float
    wide_ventricles: float
    lopsided: float


@dataclass(frozen=True, eq=False)
class Tumour:
    """Where and how large; edge: radius at 64 angles, in units of `size`."""

    x: float
    y: float
    size: float
    kind: str
    edge: Floats
    oedema: float
    push: float
    strength: float

    def distance(self, x: Floats, y: Floats) -> Floats:
        """0 in its middle, 1 at its edge."""
        angle = np.arctan2(y - self.y, x - self.x) / (2 * np.pi) % 1
        edge = np.interp(angle, np.linspace(0, 1, len(self.edge)), self.edge)
        found: Floats = (np.hypot(x - self.x, y - self.y) / (self.size * edge)).astype(np.float32)
        return found


def draw_head(rng: np.random.Generator) -> Head:
    """A head, drawn at random."""
    return Head(
        float(rng.uniform(0.68, 0.76)),
        float(rng.uniform(0.86, 0.93)),
        float(rng.choice([0.0, rng.uniform(0, 0.35), 1.0], p=[0.4, 0.35, 0.25])),
        float(rng.uniform(0.7, 1.45)),
        float(rng.normal(0, 0.14)),
    )


def draw_tumour(rng: np.random.Generator, head: Head) -> Tumour:
    """A tumour in one half of the brain; one in eight is faint."""
    size = float(np.clip(rng.lognormal(-1.48, 0.3), 0.1, 0.36))
    side, kind = rng.choice([-1, 1]), str(rng.choice(KINDS, p=[0.36, 0.28, 0.22, 0.14]))
    near_skull = kind == "solid" and rng.random() < 0.6
    far = (0.78 - 0.8 * size) if near_skull else rng.uniform(0.25, 0.66)
    angle = rng.uniform(-1.25, 1.25)
    turns = np.linspace(0, 2 * np.pi, 65)
    edge = np.ones(65)
    for wave in range(2, 7):
        edge += rng.normal(0, 0.22 / wave) * np.cos(wave * turns + rng.uniform(0, 6.3))
    faint = rng.random() < 1 / 8
    return Tumour(
        float(side * far * head.width * np.cos(angle)),
        float(far * head.height * np.sin(angle)),
        size,
        kind,
        np.clip(edge, 0.55, 1.6).astype(np.float32),
        float(rng.uniform(1.15, 2.1) if rng.random() < 0.65 else 0),
        float(rng.uniform(0, 0.55)),
        float(rng.uniform(0.35, 0.6) if faint else rng.uniform(0.8, 1.05)),
    )


def scan(rng: np.random.Generator, shape: tuple[int, int], tumour_there: bool) -> tuple[Bytes, Bytes]:
    """A slice of `shape` (H,W): grey picture (H,W,3) and the tumour's mask (H,W), empty without one."""
    head = draw_head(rng)
    tumour = draw_tumour(rng, head) if tumour_there else None
    contrast = str(rng.choice(list(CONTRASTS), p=[0.24, 0.34, 0.22, 0.2]))
    x, y = _coordinates(rng, shape)
    straight_x, straight_y = x, y
    if tumour is not None:  # what grows pushes the rest aside
        near = np.exp(-((np.hypot(x - tumour.x, y - tumour.y) / (2.2 * tumour.size)) ** 2)) * tumour.push
        x, y = x - (x - tumour.x) * near * 0.6, y - (y - tumour.y) * near * 0.6
    tissue = CONTRASTS[contrast]
    side = max(shape)
    fields = [_spread(clouds(rng, 160, 14 + 2 * k, 3), side)[: shape[0], : shape[1]] for k in range(2)]
    signal, inside = _anatomy(rng, head, tissue, x, y, fields)
    signal = _distractors(rng, head, contrast, signal, inside, x, y)
    mask = np.zeros(shape, np.uint8)
    if tumour is not None:
        signal, mask = _grown(rng, tumour, contrast, signal, inside, straight_x, straight_y, fields)
    return _scanned(rng, signal, side), mask


def _coordinates(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """x and y (H,W), turned and moved a little, as no head lies straight."""
    rows, columns = shape
    half = min(rows / 2, columns / 2 / 0.78) * rng.uniform(0.93, 1.06)
    x = (np.arange(columns, dtype=np.float32)[None, :] - columns / 2) / half + rng.normal(0, 0.02)
    y = (np.arange(rows, dtype=np.float32)[:, None] - rows / 2) / half + rng.normal(0, 0.02)
    angle = rng.normal(0, 0.06)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return (c * x + s * y).astype(np.float32), (c * y - s * x).astype(np.float32)


def _anatomy(
    rng: np.random.Generator, head: Head, tissue: dict[str, float], x: Floats, y: Floats, fields: list[Floats]
) -> tuple[Floats, Floats]:
    """Signal (H,W) of a healthy head, and how deep in the brain a pixel lies: 0 at its middle, 1 at its surface."""
    angle = np.arctan2(y, x)
    wobble = sum(rng.normal(0, 0.012) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(2, 6))
    frontal = 1 - 0.07 * np.clip(-y / head.height, 0, 1) ** 2  # narrower in front
    far = np.hypot(x / (head.width * frontal), y / head.height) * (1 + wobble)
    scalp, skull = rng.uniform(0.035, 0.07), rng.uniform(0.05, 0.08)
    bone, inner = 1 - scalp, 1 - scalp - skull
    brain = inner - rng.uniform(0.012, 0.04)
    blur = 0.012

    def within(edge: float) -> Floats:
        found: Floats = 1 - smoothstep(edge - blur, edge + blur, far)
        return found

    signal = tissue["fat"] * within(1.0)
    signal = _over(signal, tissue["bone"], within(bone))
    middle = np.exp(-(((far - (bone + inner) / 2) / (skull * 0.22)) ** 2))
    signal = signal + (tissue["marrow"] - signal) * middle * 0.8
    signal = _over(signal, tissue["fluid"] * 0.9, within(inner))
    deep = far / brain
    ridge = np.abs(fields[0] + 0.35 * fields[1])
    cortex = smoothstep(0.42, 0.75, deep)
    grey = np.maximum(1 - smoothstep(0.36, 0.56, ridge / np.maximum(cortex, 0.05)), smoothstep(0.93, 0.96, deep))
    matter = tissue["white"] + (tissue["grey"] - tissue["white"]) * grey
    furrow = (1 - smoothstep(0.07, 0.15, ridge)) * smoothstep(0.62, 0.85, deep)
    matter = _over(matter, tissue["fluid"], furrow * rng.uniform(0.6, 1))
    lean = x + 0.012 * np.sin(9 * y + rng.uniform(0, 6.3))
    split = (1 - smoothstep(0.006, 0.02, np.abs(lean))) * smoothstep(0.2, 0.36, np.abs(y + 0.02) + 0.4 * head.level)
    if head.level < 0.6:
        for side in (-1, 1):
            for cx, cy, rx, ry in ((0.14, 0.12, 0.085, 0.13), (0.24, -0.05, 0.06, 0.17), (0.12, -0.2, 0.045, 0.1)):
                nucleus = np.hypot((x - side * cx) / rx, (y - cy) / ry)
                matter = _over(matter, tissue["deep"], 0.85 * (1 - smoothstep(0.85, 1.1, nucleus)))
    matter = _over(matter, tissue["fluid"], np.maximum(split * 0.9, _ventricles(head, x, y)))
    return np.asarray(_over(signal, matter, within(brain)), np.float32), np.asarray(deep, np.float32)


def _ventricles(head: Head, x: Floats, y: Floats) -> Floats:
    """1 inside the fluid spaces in the brain's middle: two horns a side, and the slit between."""
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    if head.level > 0.6:
        return total
    shrink = (1 - 0.8 * head.level) * head.wide_ventricles
    for side in (-1, 1):
        own = shrink * (1 + side * head.lopsided)
        for cx, cy, turn, rx, ry in (
            (0.085, -0.24, 0.45, 0.04, 0.13),
            (0.055, -0.08, 0.1, 0.032, 0.13),
            (0.15, 0.25, -0.5, 0.045, 0.16),
        ):
            dx, dy = x - side * cx, y - cy
            c, s = float(np.cos(side * turn)), float(np.sin(side * turn))
            horn = np.hypot((c * dx + s * dy) / (rx * own), (c * dy - s * dx) / (ry * (0.6 + 0.4 * own)))
            total = np.maximum(total, 1 - smoothstep(0.85, 1.12, horn))
    slit = np.hypot(x / (0.013 * shrink), (y - 0.06) / 0.09)
    return np.asarray(np.maximum(total, 1 - smoothstep(0.8, 1.2, slit)), np.float32)


def _distractors(
    rng: np.random.Generator, head: Head, contrast: str, signal: Floats, inside: Floats, x: Floats, y: Floats
) -> Floats:
    """What is bright and no tumour: vessels, small old lesions, the choroid plexus, calcified specks."""
    bright = {"T1": 0.7, "T1 + contrast": 0.95, "T2": 0.15, "FLAIR": 0.2}[contrast]
    lesion = {"T1": 0.4, "T1 + contrast": 0.4, "T2": 0.85, "FLAIR": 0.88}[contrast]
    brain = 1 - smoothstep(0.97, 1.0, inside)
    for _ in range(int(rng.integers(1, 6))):  # vessels: dots and short bows
        cx, cy = rng.uniform(-0.6, 0.6) * head.width, rng.uniform(-0.75, 0.75) * head.height
        long, thin, turn = rng.uniform(0.012, 0.1), rng.uniform(0.007, 0.014), rng.uniform(0, np.pi)
        u = np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy)
        v = np.cos(turn) * (y - cy) - np.sin(turn) * (x - cx) + rng.uniform(-3, 3) * u * u
        spot = np.exp(-((np.maximum(np.abs(u) - long, 0) / thin) ** 2) - (v / thin) ** 2)
        signal = _over(signal, bright, rng.uniform(0.4, 1) * spot * brain)
    for _ in range(int(rng.integers(0, 5))):  # old lesions of the white matter
        cx, cy = rng.uniform(-0.5, 0.5) * head.width, rng.uniform(-0.55, 0.55) * head.height
        spot = np.exp(-((np.hypot(x - cx, (y - cy) * rng.uniform(0.7, 1.4)) / rng.uniform(0.014, 0.034)) ** 2))
        signal = _over(signal, lesion, rng.uniform(0.2, 0.75) * spot * brain)
    if head.level < 0.4 and rng.random() < 0.5:
        for side in (-1, 1):
            spot = np.exp(-(np.hypot((x - side * 0.15) / 0.03, (y - 0.26) / 0.05) ** 2))
            signal = _over(signal, 0.9 if contrast != "T2" else 0.4, rng.uniform(0.2, 0.9) * spot)
    if rng.random() < 0.3:  # a sinus behind
        spot = np.exp(-(np.hypot(x / 0.04, (y - 0.8 * head.height) / 0.035) ** 2))
        signal = _over(signal, bright, 0.8 * spot)
    return np.asarray(signal, np.float32)


def _grown(
    rng: np.random.Generator,
    tumour: Tumour,
    contrast: str,
    signal: Floats,
    inside: Floats,
    x: Floats,
    y: Floats,
    fields: list[Floats],
) -> tuple[Floats, Bytes]:
    """The signal with the tumour and the water around it, and the tumour's mask."""
    far = tumour.distance(x, y) * (1 + 0.07 * fields[1])
    brain = 1 - smoothstep(0.98, 1.02, inside)
    if tumour.oedema:
        fingers = far * (1 + 0.28 * fields[0])
        wet = (1 - smoothstep(tumour.oedema * 0.8, tumour.oedema * 1.1, fingers)) * brain
        signal = signal + OEDEMA[contrast] * tumour.strength * wet * rng.uniform(0.6, 1)
    rim, core = SIGNALS[contrast][tumour.kind]
    thick = rng.uniform(0.14, 0.34)
    wall = smoothstep(1 - 2 * thick, 1 - thick, far) if tumour.kind in ("ring", "cystic") else smoothstep(0, 1.3, far)
    patchy = 1 + 0.1 * fields[1] * (tumour.kind != "cystic")
    level = (core + (rim - core) * wall) * patchy
    soft = 0.3 if tumour.kind == "diffuse" else 0.09
    there = (1 - smoothstep(1 - soft, 1 + soft, far)) * brain
    grown = _over(signal, level, there * min(tumour.strength, 1))
    return np.asarray(grown, np.float32), np.where((far < 1) & (brain > 0.5), 255, 0).astype(np.uint8)


def _scanned(rng: np.random.Generator, signal: Floats, side: int) -> Bytes:
    """The coil's uneven field, the scanner's resolution, noise (Rician, as magnitudes have), and the window."""
    shape = signal.shape
    uneven = cv2.resize(clouds(rng, 32, 2, 2), (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    seen = signal * (1 + rng.uniform(0.03, 0.1) * uneven)
    seen = cv2.GaussianBlur(np.asarray(seen, np.float32), (0, 0), max(0.3, rng.uniform(0.0016, 0.0045) * side))
    noise = rng.uniform(0.008, 0.035)
    grain = rng.standard_normal((2, *shape), np.float32) * np.float32(noise)
    seen = np.hypot(seen + grain[0], grain[1])
    low, high = rng.uniform(0, 0.05), rng.uniform(0.85, 1.1)
    grey = to_bytes(np.asarray(np.maximum((seen - low) / (high - low), 0) ** rng.uniform(0.85, 1.2), np.float32))
    return np.repeat(grey[..., None], 3, 2)


def _spread(field: Floats, side: int) -> Floats:
    return np.asarray(cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def _over(below: Floats, above: Floats | float, share: Floats) -> Floats:
    return below + (above - below) * share
