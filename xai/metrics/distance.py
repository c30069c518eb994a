"""How far an image moved: L-infinity, L2, PSNR, SSIM."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from xai.devices import double
from xai.errors import InputError
from xai.public import public
from xai.stats.similarity import ssim

UNITS: Mapping[str, str] = {
    "linf": "of the pixel range [0, 1]",
    "l2": "of the pixel range [0, 1], over all pixels and channels",
    "psnr": "dB",
    "ssim": "grey picture, 11 x 11 Gaussian window",
}


@public
def image_distance(clean: Tensor, changed: Tensor) -> dict[str, Tensor]:
    """L-infinity, L2, PSNR in dB (infinite for equal images) and SSIM of the grey picture: (N,3,H,W) x 2 -> (N,) each.

    Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601). Raises `InputError` for shapes that differ.
    """
    if clean.shape != changed.shape or clean.dim() != 4:
        raise InputError(f"images have shapes {tuple(clean.shape)} and {tuple(changed.shape)}; give two of (N,3,H,W).")
    delta = double(changed - clean).flatten(1)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=delta.device).view(1, 3, 1, 1)
    before, after = ((double(images) * weights).sum(1) for images in (clean, changed))
    return {
        "linf": delta.abs().amax(1).float(),
        "l2": delta.norm(dim=1).float(),
        "psnr": (-10 * delta.square().mean(1).log10()).float(),
        "ssim": ssim(before, after, data_range=1.0).float(),
    }
