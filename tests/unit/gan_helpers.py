"""A tiny training of a generator: noise pictures of two classes, the smallest networks, and a quick extractor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from xai.gan import train as loop
from xai.gan.features import Extractor
from xai.gan.saved import Generator
from xai.gan.settings import GanSettings
from xai.studies.gan.training import GanRequest, train_gan

TINY = GanSettings(size=32, nz=6, ngf=2, ndf=2, batch=4, perceptual=0, decoder_side=16, head="both")

QUICK = Extractor("corners", "0", "means of parts", lambda x: torch.nn.functional.avg_pool2d(x, 8).flatten(1))
"""A stand-in that needs no network."""


def noise_folder(root: Path, side: int = 36) -> Path:
    """Ten noise images of `side` + 4 times `side` of each of two classes."""
    generator = torch.Generator().manual_seed(1)
    for name in ("bolt", "nut"):
        (root / name).mkdir()
        for index in range(10):
            levels = torch.randint(0, 256, (side + 4, side, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(levels.numpy()).save(root / name / f"{index}.png")
    return root


def request_of(folder: Path, steps: int = 6, **changes) -> GanRequest:
    return GanRequest(str(folder), TINY, steps, look=3, **changes)


def whole_training(folder: Path, out: Path) -> Generator:
    """Six steps in the run folder `out`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAI_CACHE", str(out.parent / "cache"))
        patch.setattr(loop, "lite0", lambda device: QUICK)
        made = train_gan(request_of(folder), out, device="cpu", command="python -m xai gan train X")
    assert made is not None
    return made
