"""Where the object is: masks and boxes, checked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xai.errors import InputError
from xai.public import public


@public
def mask_of_box(box: Sequence[int], size: tuple[int, int]) -> Tensor:
    """The mask (H,W) bool of a box (left, top, right, bottom) in pixels, right and bottom not included."""
    if len(box) != 4:
        raise InputError(f"a box has 4 numbers (left, top, right, bottom), not {len(box)}.")
    left, top, right, bottom = box
    if not (0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]):
        raise InputError(f"the box {tuple(box)} does not lie in an image of {size[1]} x {size[0]} (width x height).")
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def checked_mask(maps: Tensor, mask: Tensor) -> Tensor:
    """mask as (N,H,W) bool for maps (N,H,W); (H,W) is one for all. Raises `InputError` for another size or none."""
    mask = mask if mask.dim() == 3 else mask[None]
    if maps.dim() != 3 or mask.shape[1:] != maps.shape[1:] or mask.shape[0] not in (1, len(maps)):
        raise InputError(
            f"mask has shape {tuple(mask.shape)} for maps {tuple(maps.shape)}; give one of the maps' size."
        )
    mask = (mask.to(maps.device) > 0.5).expand(maps.shape)
    if not bool(mask.flatten(1).any(1).all()):
        raise InputError("a mask is empty; leave out images without an object.")
    return mask
