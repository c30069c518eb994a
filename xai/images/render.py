"""Maps as pictures: colour maps, scales with their sentence, overlays, relief pictures and colour bars.

Everything here is for the eye: nothing is normalised unless a `Scale` says so, and the scale can be printed beside the
picture. Pictures are (H,W,3) uint8 in RGB order, or PIL images.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from xai.errors import InputError
from xai.types import Attribution
from xai.words import counted

Picture = NDArray[np.uint8]
Values = Tensor | NDArray[np.floating]

OPACITY = 0.4
"""Share of the heat map in an overlay, as in study 4 (0.4 heat, 0.6 picture)."""

AUTO = "auto"
"""The choice that leaves the colours to the map's sign; see `colors_for`."""

PIXEL_SLACK = 1e-6
"""How far rounding may carry a pixel outside [0, 1]."""

PIXEL_PERCENTILE = 99.5
"""Where the scale ends for maps at pixel resolution: their largest few values would hide all the others."""


@dataclass(frozen=True, eq=False)
class ColorMap:
    """256 colours. kind: "sequential" (low to high) or "diverging" (two hues that meet in a neutral middle)."""

    name: str
    title: str
    kind: str
    lut: Picture = field(repr=False)


def _from_opencv(code: int) -> Picture:
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    lut: Picture = np.ascontiguousarray(cv2.applyColorMap(ramp, code)[:, 0, ::-1])  # OpenCV's tables are BGR
    return _fixed(lut)


def _fixed(lut: Picture) -> Picture:
    lut.flags.writeable = False
    return lut


def _diverging(blue: Sequence[int], red: Sequence[int], lightness: float = 42.0, white: float = 97.0) -> Picture:
    """Blue to white to red, straight lines in CIE Lab with both ends equally dark: |value| reads the same on each side.

    The two middle entries are the same neutral white, so that zero has no hue.
    """
    ends = np.array([[blue, red]], dtype=np.float32) / 255
    lab = cv2.cvtColor(ends, cv2.COLOR_RGB2Lab)[0]
    lab[:, 0] = lightness
    t = np.clip((np.abs(np.arange(256) - 127.5) - 0.5) / 127, 0, 1)[:, None].astype(np.float32)
    end = np.where(np.arange(256)[:, None] < 128, lab[0], lab[1])
    line = (1 - t) * np.array([white, 0, 0], dtype=np.float32) + t * end
    rgb = cv2.cvtColor(line[None].astype(np.float32), cv2.COLOR_Lab2RGB)[0]
    return _fixed(np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8))


def _gray() -> Picture:
    return _fixed(np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1))


COLORMAPS: dict[str, ColorMap] = {
    each.name: each
    for each in (
        ColorMap("jet", "Jet (as in the studies)", "sequential", _from_opencv(cv2.COLORMAP_JET)),
        ColorMap("turbo", "Turbo", "sequential", _from_opencv(cv2.COLORMAP_TURBO)),
        ColorMap("viridis", "Viridis (even steps)", "sequential", _from_opencv(cv2.COLORMAP_VIRIDIS)),
        ColorMap("magma", "Magma (even steps)", "sequential", _from_opencv(cv2.COLORMAP_MAGMA)),
        ColorMap("inferno", "Inferno (even steps)", "sequential", _from_opencv(cv2.COLORMAP_INFERNO)),
        ColorMap("cividis", "Cividis (for colour-blind eyes)", "sequential", _from_opencv(cv2.COLORMAP_CIVIDIS)),
        ColorMap("gray", "Grey", "sequential", _gray()),
        ColorMap("bluered", "Blue, white, red (signed)", "diverging", _diverging((33, 102, 172), (178, 24, 43))),
    )
}


def colormap(name: str | ColorMap) -> ColorMap:
    """The colour map called `name`; raises `InputError` with the list of names."""
    if isinstance(name, ColorMap):
        return name
    if name not in COLORMAPS:
        raise InputError(f"colour map {name!r} is not known; choose from {', '.join([AUTO, *COLORMAPS])}.")
    return COLORMAPS[name]


@dataclass(frozen=True)
class Scale:
    """Which values get the first and the last colour, and one sentence that says how they were chosen.

    Values outside are drawn in the end colours. `signed`: symmetric, zero is the middle of the colour map.
    """

    low: float
    high: float
    sentence: str
    signed: bool = False

    def position(self, values: Values) -> NDArray[np.float64]:
        """Where values lie between low and high, clipped to [0, 1]; where low = high it is 0 (signed: the middle)."""
        array = _array(values)
        if not self.high > self.low:
            return np.full(array.shape, 0.5 if self.signed else 0.0)
        return np.clip((array - self.low) / (self.high - self.low), 0.0, 1.0)


def _array(values: Values) -> NDArray[np.float64]:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array.astype(np.float64)


def scale_of(
    maps: Values | Iterable[Values], signed: bool, percentile: float = 100.0, from_lowest: bool = False
) -> Scale:
    """One scale for a map (H,W), or shared by several.

    Unsigned: 0 to the largest value (from the smallest one if that is negative, or with `from_lowest`). Signed: -m to m
    with m the largest absolute value. A `percentile` below 100 ends the scale at that percentile of the values (of
    |values| if signed) instead; for maps at pixel resolution use `PIXEL_PERCENTILE`. Values that are not finite are
    left out, and said.
    """
    if not 0 < percentile <= 100:
        raise InputError(f"percentile {percentile} is outside 0 to 100; use 100 for the largest value.")
    arrays = [_array(each) for each in ([maps] if isinstance(maps, (Tensor, np.ndarray)) else maps)]
    if not arrays:
        raise InputError("there is no map to scale; give at least one.")
    flat = np.concatenate([array.ravel() for array in arrays])
    finite = flat[np.isfinite(flat)]
    tail = (
        "" if finite.size == flat.size else f"; {counted(flat.size - finite.size, 'value is', 'values are')} not finite"
    )
    tail = (f", shared by {len(arrays)} maps" if len(arrays) > 1 else "") + tail
    if not finite.size or not finite.any():
        return Scale(0.0, 0.0, f"every value is 0{tail}" if finite.size else f"no value can be drawn{tail}", signed)
    if signed:
        limit = _reach(np.abs(finite), percentile)
        end = "the largest absolute value" if percentile == 100 else f"{percentile:g} % of absolute values lie within"
        return Scale(-limit, limit, f"-{limit:.3g} to {limit:.3g}, zero in the middle ({end}){tail}", True)
    high = _reach(finite, percentile) if finite.max() > 0 else 0.0
    low = -_reach(-finite, percentile) if finite.min() < 0 else 0.0
    if from_lowest:
        low, high = (float(v) for v in np.percentile(finite, (100 - percentile, percentile)))
    end = "the largest value" if low == 0 else "the smallest and the largest value"
    end = end if percentile == 100 else f"{percentile:g} % of values lie within"
    return Scale(low, high, f"{low:.3g} to {high:.3g} ({end}){tail}")


def _reach(values: NDArray[np.float64], percentile: float) -> float:
    """The percentile of the values; the largest one where so few are above zero that the percentile is not."""
    reach = float(np.percentile(values, percentile))
    return reach if reach > 0 else float(values.max())


def scale_for(attributions: Sequence[Attribution], index: int = 0) -> Scale:
    """The scale of the maps of image `index`: its own for one attribution, shared by several.

    Symmetric where a method is signed; ends at `PIXEL_PERCENTILE` where a map has the input's full resolution.
    """
    fine = any(tuple(each.values.shape[-2:]) == each.input_size for each in attributions)
    signed = any(each.signed for each in attributions)
    lowest = all(each.from_lowest for each in attributions)
    maps = [each.maps()[index] for each in attributions]
    return scale_of(maps, signed, PIXEL_PERCENTILE if fine else 100.0, lowest)


def colors_for(choice: str | ColorMap, signed: bool) -> ColorMap:
    """The colours of a map, wherever it is drawn: diverging for signed maps, sequential for the others.

    A choice of the other kind is not taken, because zero would get a hue of its own: like "auto" it gives blue, white
    and red (against, zero, for), or jet. Raises `InputError` for a name that is not known.
    """
    found = COLORMAPS["bluered" if signed else "jet"]
    asked = found if choice == AUTO else colormap(choice)
    return asked if asked.kind == found.kind else found


def colorize(map2d: Values, scale: Scale, colors: str | ColorMap = AUTO) -> Picture:
    """A map (H,W) in `colors_for` its scale: (H,W,3) uint8. Values that are not finite get the scale's first colour."""
    array = _array(map2d)
    if array.ndim != 2:
        raise InputError(f"the map has shape {array.shape}; give one value a pixel, (H, W).")
    array = np.where(np.isfinite(array), array, scale.low)
    picture: Picture = colors_for(colors, scale.signed).lut[np.rint(scale.position(array) * 255).astype(np.intp)]
    return picture


def blend(picture: Picture, heat: Picture, opacity: float = OPACITY) -> Picture:
    """opacity * heat + (1 - opacity) * picture, rounded to (H,W,3) uint8."""
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity {opacity} is outside 0 to 1.")
    if picture.shape != heat.shape:
        raise InputError(f"the picture is {picture.shape[:2]} and the map {heat.shape[:2]}; give one size.")
    return np.rint(opacity * heat.astype(np.float64) + (1 - opacity) * picture.astype(np.float64)).astype(np.uint8)


def printed(picture: Picture, heat: Picture, opacity: float = OPACITY) -> Picture:
    """The heat map printed on the picture in grey: heat * paper / 255, paper = 255 opacity + (1 - opacity) grey.

    For diverging colour maps: their white middle lets the picture through, their colours stay clear on it. opacity 0
    prints on the grey picture (Rec. 601 luma), 1 on white paper, which is the map alone.
    """
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity {opacity} is outside 0 to 1.")
    if picture.shape != heat.shape:
        raise InputError(f"the picture is {picture.shape[:2]} and the map {heat.shape[:2]}; give one size.")
    grey = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    paper = 255 * opacity + (1 - opacity) * grey
    mixed: Picture = np.rint(heat.astype(np.float64) * paper[..., None] / 255).astype(np.uint8)
    return mixed


def overlay(
    picture: Image.Image | Tensor,
    map2d: Values,
    scale: Scale,
    colors: str | ColorMap = AUTO,
    opacity: float = OPACITY,
) -> Image.Image:
    """The map over the picture: PIL RGB at the picture's size; `blend`, or `printed` where the map is signed.

    picture: a PIL image, or (3,H,W) in [0, 1]. A map of another size is resized bilinearly (`align_corners=False`).
    Raises `InputError` for pixels outside [0, 1].
    """
    if isinstance(picture, Tensor):
        low, high = (float(end) for end in torch.aminmax(picture.detach()))
        if not (low >= -PIXEL_SLACK and high <= 1 + PIXEL_SLACK):
            raise InputError(
                f"the picture's pixels range from {low:.3g} to {high:.3g}; give them in [0, 1], as preprocess returns "
                "them, before any normalisation."
            )
    base = np.asarray((input_picture(picture) if isinstance(picture, Tensor) else picture).convert("RGB"))
    sized = resize_map(map2d, (base.shape[0], base.shape[1]))
    mix = printed if scale.signed else blend
    return Image.fromarray(mix(base, colorize(sized, scale, colors), opacity))


def marked(picture: Image.Image, text: str) -> Image.Image:
    """A copy with `text` in a dark box in its lower left corner, so that the picture cannot go about without it."""
    made = picture.copy()
    draw = ImageDraw.Draw(made)
    font = ImageFont.load_default(max(10, min(made.size) // 16))
    box = draw.textbbox((0, 0), text, font=font)
    pad = max(2, (box[3] - box[1]) // 3)
    bottom = made.height
    draw.rectangle((0, bottom - (box[3] - box[1]) - 2 * pad, box[2] + 2 * pad, bottom), fill=(20, 20, 20))
    draw.text((pad, bottom - (box[3] - box[1]) - pad - box[1]), text, fill="white", font=font)
    return made


def resize_map(map2d: Values, size: tuple[int, int]) -> NDArray[np.float64]:
    """A map (h,w) at `size` (H,W), bilinearly with `align_corners=False`, as `Attribution.maps()` does it."""
    array = _array(map2d)
    if array.shape == size:
        return array
    resized = F.interpolate(torch.from_numpy(array)[None, None], size, mode="bilinear", align_corners=False)
    return _array(resized[0, 0])


def relief(values: Values, percentile: float = PIXEL_PERCENTILE) -> Image.Image:
    """Signed relevance in three channels (3,H,W) as a colour picture around mid grey: 0.5 + v / (2 m), clipped.

    m is the percentile of |v| over all channels. This is how guided backpropagation is usually printed; a map of zeros
    is plain grey.
    """
    array = _array(values)
    if array.ndim != 3 or array.shape[0] != 3:
        raise InputError(f"the values have shape {array.shape}; a relief picture needs (3, H, W).")
    array = np.where(np.isfinite(array), array, 0.0)
    limit = scale_of(array, signed=True, percentile=percentile).high
    shade = 0.5 + array / (2 * limit) if limit > 0 else np.full(array.shape, 0.5)
    return Image.fromarray(np.rint(np.clip(shade, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))


def input_picture(x: Values) -> Image.Image:
    """What the network sees, (3,H,W) in [0, 1], as a PIL RGB image of the same size (8 bits, rounded)."""
    array = _array(x)
    if array.ndim != 3 or array.shape[0] != 3:
        raise InputError(f"x has shape {array.shape}; give one image, (3, H, W).")
    return Image.fromarray(np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))


def ramp(colors: str | ColorMap, height: int = 12) -> Image.Image:
    """The colours from first to last: a picture 256 wide."""
    return Image.fromarray(np.repeat(colormap(colors).lut[None], height, axis=0))


def ticks(scale: Scale) -> tuple[tuple[float, str], ...]:
    """(position in [0, 1], number) for a colour bar: the ends, and zero or the middle between them."""
    if not scale.high > scale.low:
        return ((0.5 if scale.signed else 0.0, f"{scale.low:.3g}"),)
    middle = 0.0 if scale.low < 0 < scale.high else (scale.low + scale.high) / 2
    return tuple((float(scale.position(np.array(v))), f"{v:.3g}") for v in (scale.low, middle, scale.high))


def ends(signed: bool) -> tuple[str, ...]:
    """What the colours of a map mean, from first to last, in words for beside its colour bar."""
    return ("against", "0", "for") if signed else ("less", "more")


def color_bar(scale: Scale, colors: str | ColorMap = AUTO, width: int = 320) -> Image.Image:
    """A horizontal colour bar with ticks and numbers, dark on white, PIL RGB."""
    margin, height = 36, 44
    bar = Image.new("RGB", (width, height), "white")
    length = width - 2 * margin
    bar.paste(ramp(colors_for(colors, scale.signed)).resize((length, 14), Image.Resampling.BILINEAR), (margin, 6))
    draw = ImageDraw.Draw(bar)
    font = ImageFont.load_default(12)
    for position, number in ticks(scale):
        x = margin + round(position * (length - 1))
        draw.line([(x, 20), (x, 24)], fill="black")
        draw.text((x, 26), number, fill="black", font=font, anchor="ma")
    return bar


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file, without metadata: the same pixels give the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
