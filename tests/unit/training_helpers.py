"""Tiny training material: pixels whose class shows in their brightness."""

from __future__ import annotations

import torch

from xai.training import Images


def pictures(count: int = 24, classes: int = 2, seed: int = 0, size: int = 64) -> Images:
    """Noise of a brightness that grows with the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    noise = torch.randint(0, 100, (count, 3, size, size), generator=generator)
    level = (labels * 150 // max(1, classes - 1)).view(-1, 1, 1, 1)
    return Images((noise + level).to(torch.uint8), labels)
