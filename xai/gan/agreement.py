"""Do the samples show the class that they were asked for? Asked of a classifier that only ever saw real images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai.devices import memory_format
from xai.errors import InputError
from xai.gan.images import Pictures, Shares
from xai.types import Run

EPOCHS = 14
BATCH = 32
RATE = 3e-3
WIDTHS = (24, 48, 96, 128)


@dataclass(frozen=True)
class Agreement:
    """agreement: share of n samples whose predicted class is the one asked for; by_class: of each class.

    accuracy: the same classifier's on the held-out real images: no sample can be expected to do better. confusion: rows
    are the classes asked for, columns the predicted ones, in samples.
    """

    agreement: float
    accuracy: float
    by_class: dict[str, float]
    confusion: tuple[tuple[int, ...], ...]
    n: int
    classifier: str


class JudgeNet(nn.Module):
    """Four blocks of 3 x 3 convolution, batch norm, ReLU and max-pool, then a linear layer; from scratch, 64 px up."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(WIDTHS[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """x (N,3,H,W) in [0, 1] -> logits (N,K)."""
        maps = self.features((x * 2 - 1).contiguous(memory_format=memory_format(x.device)))
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


def train_judge(train: Pictures, run: Run, epochs: int = EPOCHS) -> JudgeNet:
    """A classifier trained on the real training images: AdamW, one-cycle rate, flips; the same for the same seed."""
    if len(train.classes) < 2:
        raise InputError("class agreement needs two classes or more; this data has none to tell apart.")
    generator = run.generator("judge", "training")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        net = JudgeNet(len(train.classes)).to(run.device).to(memory_format=memory_format(run.device)).train()
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-2)
    steps = max(1, len(train.images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, epochs * steps + 1)
    for epoch in range(epochs):
        order = torch.randperm(len(train.images), generator=generator)
        for step in range(steps):
            places = order[step * BATCH : (step + 1) * BATCH]
            x, y = train.images[places].to(run.device).float() / 255, train.labels[places].to(run.device)
            flipped = (torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5).to(run.device)
            loss = F.cross_entropy(net(torch.where(flipped, x.flip(3), x)), y, label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        run.report(epoch + 1, epochs, "training the judge on real images")
    return net.eval().requires_grad_(False)


@torch.no_grad()
def predicted(net: nn.Module, x: Tensor) -> Tensor:
    """Predicted classes (N,) on the CPU of images (N,3,H,W) in [0, 1] or uint8."""
    device = next(net.parameters()).device
    parts = (part.to(device) for part in torch.split(x, 128))
    scaled = (part.float() / 255 if part.dtype == torch.uint8 else part for part in parts)
    return torch.cat([net(part).argmax(1).cpu() for part in scaled])


def agreement(net: nn.Module, images: Tensor, labels: Tensor, shares: Shares) -> Agreement:
    """What `net` sees in samples (N,3,S,S) in [0, 1] that were made as `labels` (N,)."""
    classes = shares.train.classes
    seen = predicted(net, images)
    held = shares.held_out
    accuracy = float((predicted(net, held.images) == held.labels).double().mean())
    confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    confusion.index_put_((labels, seen), torch.ones(len(labels), dtype=torch.int64), accumulate=True)
    by_class = {
        name: float(confusion[k, k] / confusion[k].sum()) for k, name in enumerate(classes) if int(confusion[k].sum())
    }
    rows = tuple(tuple(int(count) for count in row) for row in confusion)
    named = f"a small CNN trained from scratch on the {len(shares.train.images)} real training images"
    share = float((seen == labels).double().mean())
    return Agreement(share, accuracy, by_class, rows, len(labels), named)
