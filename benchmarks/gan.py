"""Training a generator at 64 px

Images a second of processor time, one step of both networks: what two cores train (`LAPTOP`), the same in bfloat16, the
paper's widths, and DCGAN. "times reference" is against the reference code's 2.2 images a second at nf 64 (one thread,
batch 8, 64 px, float32), measured apart from this run. Then FastGAN and DCGAN for equal processor time on sample:parts:
KID-EffNetLite0@128 x 1000 against held-out images (lower is better), and the distance within a class over that of real
images (the target is 0.7; 0 is collapse).
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch

from benchmarks._timing import interleaved
from xai.data import open_dataset
from xai.gan.features import lite0
from xai.gan.images import Shares, read_shares
from xai.gan.quality import kid_estimate
from xai.gan.sample import draw
from xai.gan.settings import LAPTOP, GanSettings
from xai.gan.step import Trainer
from xai.gan.watch import intra_class_distance
from xai.settings import resolve_device
from xai.types import Run

FLOOR = "one step of the reference's networks: 2.2 images a second."

REFERENCE = 2.2

SECONDS = 60
"""Processor time of each training that is compared at equal time."""

SAMPLES = 400

DCGAN = dataclasses.replace(LAPTOP, architecture="dcgan", ngf=32, ndf=32, batch=16, lr_g=2e-4, lr_d=2e-4)

PAPER = GanSettings(size=64, head="none", perceptual=0)

SPEEDS: dict[str, tuple[GanSettings, str]] = {
    "FastGAN, laptop": (LAPTOP, "float32"),
    "FastGAN, laptop, bf16": (LAPTOP, "bf16"),
    "FastGAN, the paper's widths": (PAPER, "float32"),
    "DCGAN, bf16": (DCGAN, "bf16"),
}


def run(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Rows of speed, then rows of equal time."""
    device = resolve_device("auto")
    rows = speeds(device, repeats, quick)
    shares = read_shares(open_dataset("sample:parts?count=40" if quick else "sample:parts"), 64, Run())
    for name, settings in (("FastGAN, laptop, bf16", LAPTOP), ("DCGAN, bf16", DCGAN)):
        rows.append(equal_time(name, settings, shares, 5 if quick else SECONDS, device))
    return rows


def speeds(device: torch.device, repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Steps of the candidates in turns."""
    images = torch.randint(0, 256, (64, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(64) % 10
    trainers = {
        name: Trainer(settings, 0 if settings is PAPER else 10, Run(device), precision=precision)
        for name, (settings, precision) in SPEEDS.items()
        if not (quick and settings is PAPER)
    }
    times = interleaved({name: _stepper(each, images, labels) for name, each in trainers.items()}, repeats, 1)
    rows = []
    for name, trainer in trainers.items():
        rate = trainer.settings.batch / times[name].cpu
        row: dict[str, Any] = {
            "what": name,
            "batch": trainer.settings.batch,
            "images a CPU-second": rate,
            "times reference": rate / REFERENCE,
        }
        rows.append({**row, "target": "times reference >= 25" if name == "FastGAN, laptop, bf16" else ""})
    return rows


def _stepper(trainer: Trainer, images: torch.Tensor, labels: torch.Tensor) -> Any:
    return lambda: trainer.step(images, labels)


def equal_time(
    name: str, settings: GanSettings, shares: Shares, seconds: float, device: torch.device
) -> dict[str, Any]:
    """A training of so much processor time, and what its samples are like."""
    trainer = Trainer(settings, 10, Run(device), precision="bf16")
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        trainer.step(shares.train.images, shares.train.labels)
    labels = torch.arange(SAMPLES) % 10
    z = torch.randn(SAMPLES, settings.nz, generator=torch.Generator().manual_seed(1))
    images = draw(trainer.ready(), z, labels, device)
    extract = lite0(device)
    real = intra_class_distance(shares.train.pixels(), shares.train.labels)
    return {
        "what": f"{name}: {seconds} CPU-seconds",
        "batch": settings.batch,
        "steps": trainer.done,
        "KID x 1000": kid_estimate(extract(images), extract(shares.held_out.pixels())),
        "distance within a class": intra_class_distance(images, labels) / real,
        "target": "",
    }
