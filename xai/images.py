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
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
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
from xai.settings import MAX_PIXELS, MAX_UPLOAD_BYTES
from xai.words import counted

SUPPORTED_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm")
"""Endings of files that can be images here: for file pickers and folder walks, not for trust."""

WORKING_SIDE = 2048
"""Longest side kept: larger pictures are reduced to it, and say so."""

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

_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_NEAREST_ONLY = ("1", "P", "PA")  # Pillow cannot average these, so they become RGB before they are reduced


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
        from xai import dicom

        image, full = dicom.decode(data, name, notes), None
    else:
        image, full = _decode(data, name, notes)
    image, full = _reduced(image), full or image.size
    if image.size != full:
        notes.append(f"{full[0]} x {full[1]} pixels reduced to {image.width} x {image.height}")
    image.info = {"notes": tuple(notes)}
    return image


def image_digest(data: bytes) -> str:
    """SHA-256 of a file's bytes, 64 hex digits: the name of a picture in caches and manifests."""
    return hashlib.sha256(data).hexdigest()


def check_size(name: str, width: int, height: int) -> None:
    """Raise `ImageError` for more than `MAX_PIXELS` pixels; called before decoding."""
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width} x {height} pixels ({width * height / 1e6:.0f} megapixels); "
            f"at most {MAX_PIXELS / 1e6:.0f} can be opened, so make it smaller first."
        )


def stretch(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """(h,w) numbers to 0-255: low -> 0, high -> 255, clipped; not-a-number -> 0. Row blocks bound the memory."""
    scale = 255.0 / (high - low) if high > low else 0.0
    out = np.empty(values.shape, np.uint8)
    rows = max(1, 1_000_000 // max(1, values.shape[1]))
    for top in range(0, values.shape[0], rows):
        block = (values[top : top + rows].astype(np.float64) - low) * scale
        out[top : top + rows] = np.rint(np.clip(np.nan_to_num(block, nan=0.0), 0.0, 255.0))
    return out


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
    if _bits(image, data, kind) > 8 and image.mode not in _DEEP:
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


def to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """`image` of any mode as 8-bit RGB, reduced on the way where it is large; what was done goes into `notes`."""
    if image.mode in _DEEP:
        image = _from_deep(image, notes)
    if image.mode not in _NEAREST_ONLY and "transparency" not in image.info:
        image = _reduced(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            notes.append("transparent parts are shown on white")
            rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return _reduced(rgba.convert("RGB"))
    if image.mode == "CMYK":
        notes.append("CMYK inks turned into RGB without a colour profile")
    return _reduced(image.convert("RGB"))


def _from_deep(image: Image.Image, notes: list[str]) -> Image.Image:
    """16-bit, 32-bit and float grey as 8-bit grey: lowest value to 0, highest to 255."""
    values = np.asarray(image)
    what = {"F": "float", "I": "whole"}.get(image.mode, "16-bit")
    finite = np.isfinite(values) if image.mode == "F" else None
    if finite is not None and not finite.all():
        missing = int(finite.size - finite.sum())
        if missing == finite.size:
            raise ImageError("the image holds no finite value; there is nothing to show.")
        odd = counted(missing, "pixel that is no finite number is", "pixels that are not finite numbers are")
        notes.append(f"{odd} shown as black")
        low, high = float(values[finite].min()), float(values[finite].max())
        values = np.where(finite, values, np.float32(low))
    else:
        low, high = float(values.min()), float(values.max())
    if low == high:
        notes.append(f"every pixel has the value {low:.6g}; shown as black")
    else:
        notes.append(f"{what} values {low:.6g} to {high:.6g} stretched to 0-255")
    return Image.fromarray(stretch(values, low, high))


def _reduced(image: Image.Image) -> Image.Image:
    """`image` itself, or a smaller copy whose longest side is `WORKING_SIDE`."""
    longest = max(image.size)
    if longest <= WORKING_SIDE:
        return image
    size = (
        max(1, round(image.width * WORKING_SIDE / longest)),
        max(1, round(image.height * WORKING_SIDE / longest)),
    )
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
