"""Near-copies: images of a data set that show one picture, saved again, rescaled, brightened or cut a little.

Measured by `python -m benchmarks copies`, see benchmarks/RESULTS.md: of 95,634 pairs of drawn brain slices, animals and
characters, which look alike and are all different, one passes (two animals). Of copies saved as JPEG of quality 90 or
20, at half or one and a half size, in other proportions, brighter, darker, with more contrast or in grey, 95 to 100 %
are found, cut by up to 3 % a side, also with JPEG, 92 to 100 %, by up to 6 % 82 to 100 %. A 64-bit perceptual hash, at
the largest distance that takes no two of these pictures for one, finds 45 to 88 % of those cut by 3 %, and 8 to 35 % of
those cut by 6 %; features of EfficientNet-Lite0 are less alike after JPEG (cosine .66) than different slices are (.97).
Slices of one volume that lie a millimetre apart are taken for copies, which keeps them on one side of a split too.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xai.data.spec import Item
from xai.errors import XaiError
from xai.types import Run

SIDE, COARSE = 64, 16
"""Pixels a side of the grey thumbnails that are compared, and of those by which candidates are found."""

SMALLEST = 32
"""Pixels of the shorter side from which on a picture holds enough to be compared; of smaller ones only equal pixels
count: handwritten digits of 8 to 28 pixels are as alike as copies are."""

NEAREST, CANDIDATE = 8, 0.7
"""How many most similar images are compared with each, and the least correlation of the coarse thumbnails."""

DETAIL = 6.0
"""Standard deviation in thumbnail pixels of the blur that is taken off: what is alike in all images of a kind, such as
the outline of a head, is mostly coarser."""

ALIKE = 0.92
"""Correlation of the thumbnails' details from which on two images show one picture."""

STRETCH, SHEAR, OVERLAP = 1.25, 0.03, 0.64
"""Bounds of the map that aligns two thumbnails: scale either way, shear, and share of the area in both."""

_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-3)
_AHEAD = 4
"""Pictures or pairs that are under way at once: few, so that a stop is heeded and few pictures are in memory."""
_BLOCK, _ENTRIES = 1024, 2**21
"""Thumbnails between two looks at whether to stop, and similarities at a time (8 MB, and 16 of their order)."""
_NOTE = "looking for copies of one picture"

Floats = NDArray[np.float32]
T = TypeVar("T")
R = TypeVar("R")

PROTOCOL = (
    f"near-copies: grey thumbnails of {SIDE} x {SIDE} pixels, aligned by a small affine map, whose details correlate "
    f"by {ALIKE} or more; each image with its {NEAREST} nearest; under {SMALLEST} pixels a side only equal pixels; "
    "mirrored and rotated copies are not looked for"
)


@dataclass(frozen=True)
class _Sketch:
    """digest: of the pixels and the size. levels: the thumbnail, uint8; None where the picture is too small."""

    digest: bytes
    levels: NDArray[np.uint8] | None


def find_copies(items: Sequence[Item], run: Run | None = None) -> tuple[tuple[int, ...], ...]:
    """The sets of positions of images that show one picture, each of two or more, in order.

    A copy of a copy is in the set too. Images that cannot be decoded are in none. Raises `Cancelled`.
    """
    run = run or Run()
    sketches = list(_by_two(_sketch, items, len(items), run.part(0, 60, 100)))
    pairs = _equal(sketches)
    large = [
        (place, each.levels) for place, each in enumerate(sketches) if each is not None and each.levels is not None
    ]
    kept, levels = [place for place, _ in large], [each for _, each in large]
    near = _candidates(levels, run.part(60, 10, 100))

    def same(pair: tuple[int, int]) -> bool:
        return alike(*(np.asarray(levels[place], np.float32) for place in pair)) >= ALIKE

    found = _by_two(same, near, len(near), run.part(70, 30, 100))
    pairs += [(kept[one], kept[two]) for (one, two), hit in zip(near, found, strict=True) if hit]
    return joined(len(items), pairs)


def _by_two(work: Callable[[T], R], values: Iterable[T], count: int, run: Run) -> Iterator[R]:
    """`work` of each of `count` values in order, two at a time; a stop waits for no more than these two."""
    with ThreadPoolExecutor(2, thread_name_prefix="copies") as pool:
        waiting: deque[Future[R]] = deque()
        done = 0
        try:
            for value in values:
                waiting.append(pool.submit(work, value))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
                    done += 1
                    run.report(done, count, _NOTE)
            while waiting:
                yield waiting.popleft().result()
                done += 1
                run.report(done, count, _NOTE)
        finally:
            pool.shutdown(cancel_futures=True)


def joined(count: int, pairs: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """The sets of 0..count-1 that the pairs join, each of two or more, in order."""
    root = list(range(count))

    def top(place: int) -> int:
        while root[place] != place:
            root[place] = root[root[place]]
            place = root[place]
        return place

    for one, two in pairs:
        low, high = sorted((top(one), top(two)))
        root[high] = low
    sets: dict[int, list[int]] = {}
    for place in range(count):
        sets.setdefault(top(place), []).append(place)
    return tuple(tuple(each) for each in sets.values() if len(each) > 1)


def thumbnail(image: Image.Image, side: int = SIDE) -> NDArray[np.uint8]:
    """The whole picture in grey, (side,side) uint8, whatever its proportions."""
    how = Image.Resampling.BOX if min(image.size) >= side else Image.Resampling.BICUBIC
    return np.asarray(image.convert("L").resize((side, side), how))


def alike(one: Floats, two: Floats) -> float:
    """Correlation of the details of two thumbnails (S,S) float32, as they lie or after the best small affine map.

    The map is found by ECC maximisation: Evangelidis and Psarakis, Parametric image alignment using enhanced
    correlation coefficient maximization, 2008, https://doi.org/10.1109/TPAMI.2008.113.
    """
    inside = np.ones(one.shape, bool)
    as_they_lie = _correlation(one, two, inside)
    if as_they_lie >= ALIKE:
        return as_they_lie
    warp = np.eye(2, 3, dtype=np.float32)
    try:
        _, found = cv2.findTransformECC(one, two, warp, cv2.MOTION_AFFINE, _STEPS, inside.astype(np.uint8), 5)
    except cv2.error:  # it does not converge: nothing aligns them
        return as_they_lie
    warp = np.asarray(found, np.float32)
    scales, shears = (warp[0, 0], warp[1, 1]), (warp[0, 1], warp[1, 0])
    if not all(1 / STRETCH < each < STRETCH for each in scales) or max(map(abs, shears)) > SHEAR:
        return as_they_lie
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (one.shape[1], one.shape[0])
    moved = cv2.warpAffine(two, warp, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones_like(one), warp, size, flags=how) > 0.999
    if inside.mean() < OVERLAP:
        return as_they_lie
    return max(as_they_lie, _correlation(one, np.asarray(moved, np.float32), inside))


def _correlation(one: Floats, two: Floats, inside: NDArray[np.bool_]) -> float:
    a, b = (each[inside] - each[inside].mean() for each in (_details(one), _details(two)))
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else 0.0


def _details(levels: Floats) -> Floats:
    return np.asarray(levels - cv2.GaussianBlur(levels, (0, 0), DETAIL), np.float32)


def _sketch(item: Item) -> _Sketch | None:
    try:
        image = item.open().convert("RGB")
    except XaiError:
        return None
    digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()
    levels = thumbnail(image) if min(image.size) >= SMALLEST else None
    return _Sketch(digest, levels if levels is not None and levels.min() < levels.max() else None)


def _equal(sketches: Sequence[_Sketch | None]) -> list[tuple[int, int]]:
    """Pairs of equal pixels, each image with the first of its kind."""
    first: dict[bytes, int] = {}
    found = []
    for place, each in enumerate(sketches):
        if each is not None and first.setdefault(each.digest, place) != place:
            found.append((first[each.digest], place))
    return found


def _candidates(levels: Sequence[NDArray[np.uint8]], run: Run) -> list[tuple[int, int]]:
    """Pairs that are worth a closer look: for each thumbnail the most similar ones, coarse and without brightness."""
    count = len(levels)
    if count < 2:
        return []
    unit = np.empty((count, COARSE * COARSE), np.float32)
    for place, each in enumerate(levels):
        row = cv2.resize(np.asarray(each, np.float32), (COARSE, COARSE), interpolation=cv2.INTER_AREA).ravel()
        row = row - row.mean()
        unit[place] = row / max(float(np.linalg.norm(row)), 1e-6)
        if place % _BLOCK == 0:
            run.check()
    nearest = min(NEAREST, count - 1)
    rows = max(1, _ENTRIES // count)
    found = []
    for start in range(0, count, rows):
        apart = unit[start : start + rows] @ unit.T
        np.negative(apart, out=apart)
        own = np.arange(len(apart))
        apart[own, start + own] = 1
        near = np.argpartition(apart, nearest - 1, axis=1)[:, :nearest].copy()
        close = np.take_along_axis(apart, near, 1) <= -CANDIDATE
        one, two = np.broadcast_to(start + own[:, None], near.shape)[close], near[close]
        found.append(np.minimum(one, two) * count + np.maximum(one, two))
        run.report(start + len(apart), count, _NOTE)
    return [divmod(int(code), count) for code in np.unique(np.concatenate(found))]
