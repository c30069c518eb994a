"""Fixtures shared by every test: real and tiny classifiers, a photograph, and one thread per parallel worker."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from xai import load_image, load_model
from xai.models.classifier import Classifier, InputModel, Preset
from xai.models.store import digest

# Workers of pytest-xdist share the cores: a thread pool in each of them makes all of them slower.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent
CAT = ROOT / "assets" / "samples" / "chelsea.png"

TINY_SIZE = 64
TINY_LABELS = ("ant", "bee", "cat", "dog", "elk")


class TinyNet(nn.Module):
    """Conv, batch norm, ReLU, max-pool, conv, batch norm, ReLU, average pool, linear: 64 px to 5 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(12)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(12, len(TINY_LABELS))

    def forward(self, x: Tensor) -> Tensor:
        """x (N,3,64,64) -> logits (N,5); the last maps, `relu2`, are (N,12,16,16)."""
        x = self.pool(self.relu1(self.bn1(self.conv1(x))))
        x = self.relu2(self.bn2(self.conv2(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def make_tiny(dtype: torch.dtype = torch.float32, seed: int = 0) -> Classifier:
    """A new tiny classifier: every tensor drawn from a generator of `seed`, the batch norms' statistics included."""
    net = TinyNet()
    generator = torch.Generator("cpu").manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_var") or name in ("bn1.weight", "bn2.weight"):
                drawn = 0.5 + drawn.abs()  # a variance is positive; a scale near zero would hide a fault
            elif tensor.dim() > 1:
                drawn = drawn * (2 / tensor[0].numel()) ** 0.5
            else:
                drawn = drawn * 0.2
            tensor.copy_(drawn)
    module = InputModel(net, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)).eval().requires_grad_(False)
    module.to(dtype=dtype).to(memory_format=torch.channels_last)
    return Classifier(
        name="tiny",
        title="Tiny",
        module=module,
        labels=TINY_LABELS,
        input_size=(TINY_SIZE, TINY_SIZE),
        default_layer="relu2",
        fingerprint=digest("tiny", net),
        device=torch.device("cpu"),
        weights=f"random:{seed}",
        preset=Preset(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), resize=72, crop=TINY_SIZE),
    )


@pytest.fixture(scope="session")
def lite0() -> Classifier:
    """EfficientNet-Lite0 with its real ImageNet weights, on the CPU."""
    return load_model("efficientnet_lite0", weights="imagenet", device="cpu")


@pytest.fixture(scope="session")
def cat(lite0: Classifier) -> Tensor:
    """The cat photograph as the network sees it, (1,3,224,224) in [0, 1]."""
    return lite0.preprocess(load_image(CAT))


@pytest.fixture(scope="session")
def tiny() -> Classifier:
    """A small deterministic classifier: 64 px, 5 classes, float32."""
    return make_tiny()


@pytest.fixture(scope="session")
def tiny64() -> Classifier:
    """The same small classifier in float64, for exact comparisons."""
    return make_tiny(torch.float64)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two good images of one stem in different folders, a text file named .png, a truncated JPEG, an empty file."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    picture = Image.open(CAT)
    picture.save(folder / "cat.png")
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "more" / "cat.webp", lossless=True)
    picture.save(folder / ".hidden" / "no.png")
    (folder / "text.png").write_text("not a picture")
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    (folder / "truncated.jpg").write_bytes(buffer.getvalue()[:3000])
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("not even named like one")
    return folder
