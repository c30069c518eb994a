"""Near-copies: how many are found, and what is taken for one

`xai.data.copies.find_copies` on drawn pictures that look alike and are all different (brain slices, animals,
characters; 128 px), and on those with copies of 40 of them, changed in one way. "found" is the share of the copies that
come into a set with their original; "wrong" counts the pairs of different pictures that come into one set. "hash" is
the share that a 64-bit perceptual hash (DCT, as imagehash's `phash`) finds within the largest distance at which it
takes no two different pictures for one.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from xai.data import Item, open_dataset
from xai.data.copies import find_copies

FLOOR = "none: shares of what is to be found, not times."

SETS = {
    "brain slices": "sample:brain?size=128",
    "animals": "sample:pets?pixels=128",
    "characters": "sample:characters?size=128",
}
COPIES, MOST = 40, 253
SHARP, WHOLE = 8, 32
"""Sides of the block of low frequencies and of the thumbnail of the perceptual hash."""

Change = Callable[[Image.Image, random.Random], Image.Image]


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=quality)
    return Image.open(io.BytesIO(sink.getvalue())).convert("RGB")


def _cut(picture: Image.Image, most: float, draw: random.Random) -> Image.Image:
    left, top, right, bottom = (draw.uniform(0, most) for _ in range(4))
    wide, high = picture.size
    return picture.crop((round(left * wide), round(top * high), round((1 - right) * wide), round((1 - bottom) * high)))


def _scaled(picture: Image.Image, across: float, down: float) -> Image.Image:
    return picture.resize((round(across * picture.width), round(down * picture.height)), Image.Resampling.BICUBIC)


CHANGES: dict[str, Change] = {
    "JPEG 90": lambda p, _: _jpeg(p, 90),
    "JPEG 20": lambda p, _: _jpeg(p, 20),
    "half the size": lambda p, _: _scaled(p, 0.5, 0.5),
    "one and a half": lambda p, _: _scaled(p, 1.5, 1.5),
    "0.9 as high": lambda p, _: _scaled(p, 1, 0.9),
    "brightness 0.8": lambda p, _: ImageEnhance.Brightness(p).enhance(0.8),
    "brightness 1.2": lambda p, _: ImageEnhance.Brightness(p).enhance(1.2),
    "contrast 1.3": lambda p, _: ImageEnhance.Contrast(p).enhance(1.3),
    "grey": lambda p, _: p.convert("L").convert("RGB"),
    "cut by up to 3 % a side": lambda p, draw: _cut(p, 0.03, draw),
    "cut 3 %, JPEG 50, brighter": lambda p, draw: _jpeg(ImageEnhance.Brightness(_cut(p, 0.03, draw)).enhance(1.15), 50),
    "cut by up to 6 % a side": lambda p, draw: _cut(p, 0.06, draw),
}


def _items(pictures: Sequence[Image.Image]) -> list[Item]:
    return [Item(f"{place}.png", 0, partial(Image.Image.copy, each)) for place, each in enumerate(pictures)]


def _hash(picture: Image.Image) -> Any:
    levels = np.asarray(picture.convert("L").resize((WHOLE, WHOLE), Image.Resampling.LANCZOS), np.float32)
    low = cv2.dct(levels)[:SHARP, :SHARP]
    return (low > np.median(low)).ravel()


def run(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """A row a set and a change."""
    del repeats  # nothing is timed
    rows = []
    for title, place in list(SETS.items())[: 1 if quick else None]:
        items = open_dataset(place).items
        pictures = [item.open() for item in items[:: max(1, len(items) // (24 if quick else MOST))]][:MOST]
        hashes = np.stack([_hash(each) for each in pictures])
        apart = (hashes[:, None] != hashes[None]).sum(2)
        nearest = int(apart[~np.eye(len(pictures), dtype=bool)].min())
        wrong = _wrong(find_copies(_items(pictures)), len(pictures))
        draw = random.Random(0)
        chosen = draw.sample(range(len(pictures)), min(COPIES, len(pictures)))
        for name, change in list(CHANGES.items())[: 2 if quick else None]:
            copies = [change(pictures[place], draw) for place in chosen]
            sets = find_copies(_items([*pictures, *copies]))
            of = {place: number for number, each in enumerate(sets) for place in each}
            found = [of.get(k) is not None and of.get(k) == of.get(len(pictures) + n) for n, k in enumerate(chosen)]
            hashed = [int((_hash(each) != hashes[k]).sum()) < nearest for each, k in zip(copies, chosen, strict=True)]
            rows.append(
                {
                    "pictures": f"{title}, {len(pictures)}",
                    "copies": name,
                    "found": sum(found) / len(found),
                    "wrong": wrong,
                    "hash": sum(hashed) / len(hashed),
                    "target": "wrong <= 1; found >= 0.8" if "6 %" in name else "wrong <= 1; found >= 0.9",
                }
            )
    return rows


def _wrong(sets: Sequence[Sequence[int]], count: int) -> int:
    """Pairs of different pictures in one set."""
    return sum(len(each) * (len(each) - 1) // 2 for each in sets if max(each) < count)
