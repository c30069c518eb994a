"""What the tests of reading pictures share."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """`image` as a file of this kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colours() -> Image.Image:
    """Four quadrants: red, green, blue, grey; 16 x 12."""
    array = np.zeros((12, 16, 3), np.uint8)
    array[:6, :8] = (255, 0, 0)
    array[:6, 8:] = (0, 255, 0)
    array[6:, :8] = (0, 0, 255)
    array[6:, 8:] = (100, 100, 100)
    return Image.fromarray(array)
