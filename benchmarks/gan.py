"""Training a generator

At 64 px: images a second of processor time, one step of both networks: what two cores train (`LAPTOP`), the same in
bfloat16, the paper's widths, and DCGAN. "times reference" is against the reference code's 2.2 images a second at nf 64
(one thread, batch 8, 64 px, float32), measured apart from this run. Then FastGAN and DCGAN for equal processor time on
sample:parts: KID-EffNetLite0@128 x 1000 against held-out images (lower is better), and the distance within a class over
that of real images (the target is 0.7; 0 is collapse). On a GPU FastGAN at 256 px, the paper's widths, bf16, 60
pictures a class: images a second of wall time (the device has finished before the clock is read), then KID by seconds
of training steps (looks are not counted), and the quality plateau: the first look with KID <= best + 5 % of (first -
best), where later looks confirm it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
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
from xai.gan.train import Pace, Training
from xai.gan.watch import intra_class_distance, looks, plateau
from xai.settings import resolve_device
from xai.types import Run

FLOOR = "one step of the reference's networks: 2.2 images a second."

REFERENCE = 2.2

SECONDS = 60
"""Processor time of each training that is compared at equal time."""

SAMPLES = 400

GPU_SECONDS, LOOKS = 240, 12
"""Training of the curve on a GPU, and how often it is looked at."""

GPU_DATA = "sample:parts?count=60"
"""Fewer pictures than the study's: one core draws them at 256 px while the device waits."""

GPU = {"FastGAN, 256 px, bf16, batch 8": GanSettings(), "FastGAN, 256 px, bf16, batch 32": GanSettings(batch=32)}

DCGAN = dataclasses.replace(LAPTOP, architecture="dcgan", ngf=32, ndf=32, batch=16, lr_g=2e-4, lr_d=2e-4)

PAPER = GanSettings(size=64, head="none", perceptual=0)

SPEEDS: dict[str, tuple[GanSettings, str]] = {
    "FastGAN, laptop": (LAPTOP, "float32"),
    "FastGAN, laptop, bf16": (LAPTOP, "bf16"),
    "FastGAN, the paper's widths": (PAPER, "float32"),
    "DCGAN, bf16": (DCGAN, "bf16"),
}


def run(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Rows of speed, then rows of equal time, both on the CPU; then the rows of a GPU."""
    device = torch.device("cpu")
    rows = speeds(device, repeats, quick)
    shares = read_shares(open_dataset("sample:parts?count=40" if quick else "sample:parts"), 64, Run())
    for name, settings in (("FastGAN, laptop, bf16", LAPTOP), ("DCGAN, bf16", DCGAN)):
        rows.append(equal_time(name, settings, shares, 5 if quick else SECONDS, device))
    return [*rows, *on_gpu(resolve_device("auto"), repeats, quick)]


def on_gpu(device: torch.device, repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Speed and KID curve at 256 px; on a machine without a CUDA device the reason why they are missing."""
    if device.type != "cuda":
        return [{"what": "FastGAN, 256 px, on a GPU", "note": f"skipped: no CUDA device here, only {device}"}]
    shares = read_shares(open_dataset(GPU_DATA), 256, Run())
    trainers = {name: Trainer(settings, 10, Run(device), precision="bf16") for name, settings in GPU.items()}
    images, labels = shares.train.images, shares.train.labels
    times = interleaved({name: _stepper(each, images, labels) for name, each in trainers.items()}, 4 * repeats, 5)
    rates = {name: each.settings.batch / times[name].wall for name, each in trainers.items()}
    rows: list[dict[str, Any]] = [
        {"what": name, "batch": trainers[name].settings.batch, "images a second": rate} for name, rate in rates.items()
    ]
    best = max(rates, key=lambda name: rates[name])
    seconds = 20 if quick else GPU_SECONDS
    every = max(1, int(rates[best] / GPU[best].batch * seconds / LOOKS))
    return [*rows, *curve(best, GPU[best], shares, every, LOOKS, device)]


class _Rows:
    """Keeps what a training measures, and nothing else."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, Any]] = []

    def metric(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)

    def samples(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> None:
        pass

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        pass

    def log(self, text: str) -> None:
        pass


def curve(
    name: str, settings: GanSettings, shares: Shares, every: int, count: int, device: torch.device
) -> list[dict[str, Any]]:
    """KID after each of `count` times `every` steps, and when it reached its plateau."""
    sink = _Rows()
    trainer = Trainer(settings, len(shares.train.classes), Run(device), precision="bf16")
    Training(trainer, shares.train, shares.held_out, sink, Pace(look=every)).go(every * count)
    found = looks(sink.rows)
    rows = [
        {
            "what": f"{name}: after {row['seconds']:.0f} s",
            "batch": settings.batch,
            "steps": row["step"],
            "seconds": row["seconds"],
            "KID x 1000": row["kid"],
            "distance within a class": row["distance_ratio"],
        }
        for row in found
    ]
    flat = plateau(found)
    told = {"seconds": flat["seconds"], "steps": flat["step"]} if flat else {"note": "KID still fell at the end"}
    return [*rows, {"what": f"{name}: time to the quality plateau", **told}]


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
