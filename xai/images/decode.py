"""Images from people: decoded safely, upright, 8-bit RGB, and honest about what was done to them.

What a picture is follows from its first bytes, never from its name. Its size is read from the header and checked before
anything is decoded. Whatever changed the picture (frames, orientation, bit depth, transparency, inks, size) is kept as
short sentences in `image.info["notes"]`; nothing else of the file's metadata is kept. No global of Pillow is touched,
so that any number of threads can load at once.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

from xai.errors import ImageError
from xai.images import dicom
from xai.images.pixels import DEEP, WORKING_SIDE, check_size, reduced, to_rgb
from xai.settings import MAX_PIXELS, MAX_UPLOAD_BYTES

SUPPORTED_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm")
"""Endings of files that can be images here: for file pickers and folder walks, not for trust."""


_KINDS = "PNG, JPEG, WebP, BMP, TIFF, GIF or DICOM"

# Opening the plugin's class, not `Image.open`, keeps other decoders (PostScript, fonts, video) out of reach and leaves
# the decision about size, which Pillow would print as a warning, to us.
_DECODERS: tuple[tuple[str, Callable[[bytes], bool], Callable[[io.BytesIO], ImageFile]], ...] = (
    ("PNG", lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    ("JPEG", lambda head: head.startswith(b"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    ("GIF", lambda head: head.startswith((b"GIF87a", b"GIF89a")), GifImagePlugin.GifImageFile),
    ("WebP", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", WebPImagePlugin.WebPImageFile),
    ("TIFF", lambda head: head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")), TiffImagePlugin.TiffImageFile),
    ("BMP", lambda head: head.startswith(b"BM"), BmpImagePlugin.BmpImageFile),
)

# EXIF orientation -> the step that puts the picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG = 0x0112
_TIFF_BITS_TAG = 258


def load_image(source: str | Path | bytes | BinaryIO) -> Image.Image:
    """A PIL RGB image, upright, longest side at most `WORKING_SIDE`, from a path, the bytes of a file, or an open one.

    PNG, JPEG, WebP, BMP, TIFF, GIF (first frame), DICOM (with pydicom); 1 to 16 bits and floats, palette, grey, alpha,
    CMYK. `image.info["notes"]` is a tuple of sentences that say what was done. An open file is read from its start.

    Raises `ImageError`, one sentence: missing, a folder, empty, over `MAX_UPLOAD_BYTES` or `MAX_PIXELS`, not an image,
    or damaged.
    """
    name, data = _read(source)
    notes: list[str] = []
    if data[128:132] == b"DICM":
        image, full = dicom.decode(data, name, notes), None
    else:
        image, full = _decode(data, name, notes)
    image, full = reduced(image), full or image.size
    if image.size != full:
        notes.append(f"{full[0]} x {full[1]} pixels reduced to {image.width} x {image.height}")
    image.info = {"notes": tuple(notes)}
    return image


def image_digest(data: bytes) -> str:
    """SHA-256 of a file's bytes, 64 hex digits: the name of a picture in caches and manifests."""
    return hashlib.sha256(data).hexdigest()


def _read(source: str | Path | bytes | BinaryIO) -> tuple[str, bytes]:
    """(a name for messages, the bytes), bounded."""
    if isinstance(source, bytes | bytearray | memoryview):
        name, data = "the image", bytes(source)
    elif isinstance(source, str | Path):
        name, data = _read_path(Path(source))
    elif hasattr(source, "read"):
        name = _shown(str(getattr(source, "name", "") or "the image"))
        if source.seekable():
            source.seek(0)
        data = source.read(MAX_UPLOAD_BYTES + 1)
        if not isinstance(data, bytes):
            raise ImageError(f"{name} was opened as text; open it in binary mode.")
    else:
        raise ImageError(f"an image is a path, bytes or an open file, not a {type(source).__name__}.")
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); choose another file.")
    if len(data) > MAX_UPLOAD_BYTES:
        raise _too_heavy(name)
    return name, data


def _read_path(path: Path) -> tuple[str, bytes]:
    name = _shown(str(path))
    try:
        if path.is_dir():
            raise ImageError(f"{name} is a folder; give one image file.")
        if not path.exists():
            raise ImageError(f"{name} does not exist; check the path.")
        if not path.is_file():
            raise ImageError(f"{name} is not a regular file; give one image file.")
        if path.stat().st_size > MAX_UPLOAD_BYTES:
            raise _too_heavy(name)
        return name, path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{name} cannot be read ({reason}).") from error


def _too_heavy(name: str) -> ImageError:
    return ImageError(
        f"{name} is larger than {MAX_UPLOAD_BYTES // 2**20} MB, the most that is read; save it smaller or compressed."
    )


def _shown(name: str) -> str:
    """The last part of a name, printable and short: names come from people and go into messages only."""
    last = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or name
    return "".join(c if c.isprintable() else "?" for c in last)[:80] or "the image"


def _decode(data: bytes, name: str, notes: list[str]) -> tuple[Image.Image, tuple[int, int]]:
    """(RGB image upright, at least `WORKING_SIDE` long where the file is; its full size upright)."""
    kind, opener = next(((k, o) for k, fits, o in _DECODERS if fits(data[:32])), ("", None))
    if opener is None:
        raise ImageError(f"{name} is not an image that can be read here; use {_KINDS}.")
    try:
        image = opener(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name} has more than the {MAX_PIXELS / 1e6:.0f} megapixels that can be opened; make it smaller first."
        ) from error
    except Exception as error:  # a decoder raises whatever it met first: OSError, SyntaxError, struct.error, ...
        raise _damaged(name, kind, error) from error
    check_size(name, *image.size)
    try:
        return _pixels(image, data, kind, notes)
    except ImageError:
        raise
    except Exception as error:
        raise _damaged(name, kind, error) from error


def _damaged(name: str, kind: str, error: Exception) -> ImageError:
    early = isinstance(error, EOFError) or "truncated" in str(error).lower()
    how = "ends too early" if early else "cannot be decoded"
    return ImageError(f"{name} is a damaged {kind} file that {how}; save or download it again.")


def _pixels(image: ImageFile, data: bytes, kind: str, notes: list[str]) -> tuple[Image.Image, tuple[int, int]]:
    if getattr(image, "is_animated", False):
        notes.append("the first frame of several is shown")
    if kind == "PNG":
        image.load()  # looking for EXIF would do so too, and its faults would be taken for those of EXIF
    stored = _orientation(image)
    width, height = image.size
    if kind == "JPEG":
        image.draft(None, (WORKING_SIDE, WORKING_SIDE))  # decodes at 1/2, 1/4 or 1/8 where that is large enough
    image.load()
    if _bits(image, data, kind) > 8 and image.mode not in DEEP:
        notes.append("16 bits a channel, of which the upper 8 are used")
    if image.mode == "CMYK" and kind == "JPEG" and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG as inverted, which is Adobe's habit and stands in its marker.
        notes.append("CMYK without Adobe's marker: inks taken as stored, not inverted")
        rgb = to_rgb(ImageChops.invert(image), notes)
    else:
        rgb = to_rgb(image, notes)
    step = _UPRIGHT.get(_orientation(image))  # Pillow turns a TIFF by itself while loading and drops the tag
    if step is not None:
        rgb = rgb.transpose(step)
    if stored in _UPRIGHT:
        notes.append(f"turned upright (EXIF orientation {stored})")
    short, long = sorted((width, height))
    return rgb, (long, short) if rgb.width >= rgb.height else (short, long)


def _orientation(image: ImageFile) -> int:
    """EXIF orientation, 1 where there is none or it cannot be parsed."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # EXIF that Pillow cannot parse says nothing
        return 1


def _bits(image: Image.Image, data: bytes, kind: str) -> int:
    """Bits a channel in the file."""
    if kind == "PNG":
        return data[24]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(max(image.tag_v2.get(_TIFF_BITS_TAG, (8,))))
    return 8
