"""DICOM pictures by the optional package pydicom: first frame, the file's own window, nothing about the patient.

Only the tags that pixels need are read; names, dates and numbers of patients are never parsed.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xai.errors import ImageError
from xai.images.pixels import check_size, stretch, to_rgb

_TAGS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SpecificCharacterSet"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction"),
    *("WindowCenter", "WindowWidth", "SegmentedRedPaletteColorLookupTableData", "PaletteColorLookupTableUID"),
    *(f"{c}PaletteColorLookupTable{part}" for c in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")),
)

_LEAST_WIDTH = {"LINEAR": 1.0, "LINEAR_EXACT": 1e-9, "SIGMOID": 1e-9}
"""Narrowest window of each function (PS3.3 C.11.2.1)."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"


def decode(data: bytes, name: str, notes: list[str]) -> Image.Image:
    """The first frame of a DICOM file as 8-bit RGB.

    Grey: rescaled by the modality LUT, then the file's VOI LUT or window, or, where it has none, lowest to highest
    value; MONOCHROME1 is inverted so that more is brighter. Colour: as stored.

    Raises `ImageError` without pydicom, for a damaged file, one without pixels, too many pixels, or a compression that
    needs a plugin.
    """
    try:
        import pydicom
        from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
        from pydicom.pixels.utils import pixel_array
    except ImportError as error:
        raise ImageError(f"{name} is a DICOM file; install pydicom 3 to open it (pip install pydicom).") from error
    if _DEFLATED in data:  # anywhere: what stands before it can be made long
        # It would be unpacked whole, before its size could be checked.
        raise ImageError(f"{name} is a deflated DICOM file, which is not opened; save it uncompressed.")
    try:
        file = pydicom.dcmread(io.BytesIO(data), specific_tags=list(_TAGS))
        width, height = int(file.get("Columns") or 0), int(file.get("Rows") or 0)
        kind = str(file.get("PhotometricInterpretation", ""))
        frames = int(file.get("NumberOfFrames") or 1)
    except Exception as error:  # the parser raises whatever it met first
        raise ImageError(f"{name} is a damaged DICOM file; export it again.") from error
    if not (width and height and any(key in file for key in _TAGS if key.endswith("PixelData"))):
        raise ImageError(f"{name} is a DICOM file without a picture; choose one that holds an image.")
    check_size(name, width, height)
    try:
        pixels = pixel_array(file, index=0)
        notes.append("DICOM picture; nothing about the patient is kept")
        if frames > 1:
            notes.append(f"the first of {frames} frames is shown")
        if kind == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, file)
        if pixels.ndim == 3:
            return Image.fromarray(_colour(pixels, notes))
        grey = _windowed(apply_modality_lut(pixels, file), file, notes)
    except Exception as error:
        syntax = getattr(file.file_meta.get("TransferSyntaxUID"), "name", "unknown")
        raise ImageError(
            f"{name} is a DICOM file whose picture cannot be decoded (transfer syntax {syntax}); "
            "save it uncompressed, or install pydicom's plugin for it."
        ) from error
    if kind == "MONOCHROME1":
        notes.append("MONOCHROME1: inverted, so that more is brighter")
        grey = 255 - grey
    return to_rgb(Image.fromarray(grey), notes)


def _colour(pixels: NDArray[Any], notes: list[str]) -> NDArray[np.uint8]:
    """(h,w,3) as 8 bits a channel."""
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    notes.append(f"colour values {low:.6g} to {high:.6g} stretched to 0-255")
    flat = pixels.reshape(pixels.shape[0], -1)
    return stretch(flat, low, high).reshape(pixels.shape)


def _windowed(values: NDArray[Any], file: Any, notes: list[str]) -> NDArray[np.uint8]:
    """Grey values (h,w) to 0-255 by DICOM PS3.3 C.11.2: VOI LUT, else window, else lowest to highest value."""
    from pydicom.pixels.processing import apply_voi, apply_windowing

    if file.get("VOILUTSequence"):
        bits = int(file.VOILUTSequence[0].LUTDescriptor[2])
        notes.append("shown through the VOI LUT that the file holds")
        return stretch(apply_voi(values, file), 0, 2**bits - 1)
    centre, width = _first(file.get("WindowCenter")), _first(file.get("WindowWidth"))
    function = str(file.get("VOILUTFunction") or "LINEAR").upper()
    if centre is None or width is None or function not in _LEAST_WIDTH or width < _LEAST_WIDTH[function]:
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        valid = "" if centre is None or width is None else "valid "
        notes.append(f"no {valid}window in the file: values {low:.6g} to {high:.6g} stretched to 0-255")
        return stretch(values, low, high)
    notes.append(f"shown in the file's window, centre {centre:.6g}, width {width:.6g} ({function})")
    with np.errstate(over="ignore"):
        low, high = apply_windowing(np.array([-1e300, 1e300]), file)  # the range that pydicom maps to
        return stretch(apply_windowing(values, file), low, high)


def _first(value: Any) -> float | None:
    """The first of a multi-valued number: the first of several windows is the preferred one."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, int | float | str) else value[0] if hasattr(value, "__len__") else value)
