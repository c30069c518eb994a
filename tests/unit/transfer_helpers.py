"""A small training as a run: pictures of two classes, one of them broken, and what is asked of them."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from xai.studies.transfer.request import TransferRequest
from xai.training import Recipe

EPOCHS = 60  # enough that a kill at the twelfth comes in time on a busy machine
RECIPE = Recipe(epochs=EPOCHS, batch=4, head="study4", seed=1)


def two_brightnesses(root: Path) -> Path:
    """20 pictures in two classes that differ in brightness, one of them broken."""
    generator = torch.Generator().manual_seed(1)
    for index in range(20):
        place = root / ("no", "yes")[index % 2]
        place.mkdir(exist_ok=True)
        levels = torch.randint(0, 100, (64, 70, 3), generator=generator) + 150 * (index % 2)
        Image.fromarray(levels.to(torch.uint8).numpy()).save(place / f"{index:02}.png")
    broken = root / "yes" / "19.png"
    broken.write_bytes(broken.read_bytes()[:60])
    return root


def request_for(data: Path, **changes) -> TransferRequest:
    fields = {"model": "simple_cnn", "weights": "random:0", "recipe": RECIPE, **changes}
    return TransferRequest(str(data), **fields)
