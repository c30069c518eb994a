"""Images from people: decoded safely, upright, RGB."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from xai.errors import ImageError
from xai.settings import MAX_PIXELS


def load_image(source: str | Path | bytes) -> Image.Image:
    """A PIL RGB image, upright, of at most `MAX_PIXELS` pixels, from a path or the bytes of a file."""
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else Path(source))
        if image.width * image.height > MAX_PIXELS:
            raise ImageError("too large.")
        return ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError as error:
        raise ImageError("not an image.") from error
