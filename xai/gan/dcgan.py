"""DCGAN, the study's baseline: nearest upsampling with convolutions, LeakyReLU, batch norm, one logit an image.

Radford, Metz & Chintala, Unsupervised Representation Learning with Deep Convolutional GANs, ICLR 2016,
https://arxiv.org/abs/1511.06434. The study's findings are the defaults: upsampling and convolution instead of
transposed convolution, LeakyReLU. The class comes in by conditional batch norm; the discriminator's
heads are FastGAN's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai.gan.fastgan import Judged
from xai.gan.layers import Activation, ClassBatchNorm


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    nn.init.normal_(layer.weight, 0.0, 0.02)
    return layer


def _sides(size: int) -> list[int]:
    return [side for side in (8, 16, 32, 64, 128, 256, 512, 1024) if side <= size]


def _channels(side: int, size: int, base: int) -> int:
    """`base` at half the size, doubled at each halving of the side, at most eightfold."""
    return base * min(8, max(1, size // (2 * side)))


class DcGenerator(nn.Module):
    """z (N,nz), y (N,) -> images (N,3,size,size) in [-1, 1]; `FastGenerator`'s signature."""

    def __init__(self, size: int, nz: int = 100, ngf: int = 64, classes: int = 0, activation: str = "leaky") -> None:
        super().__init__()
        self.size, self.nz, self.classes = size, nz, classes
        self.act = Activation(activation)
        factor = self.act.factor
        first = _channels(4, size, ngf)
        self.opening = nn.ConvTranspose2d(nz, factor * first, 4, bias=False)
        nn.init.normal_(self.opening.weight, 0.0, 0.02)
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList([ClassBatchNorm(factor * first, classes)])
        inputs = first
        for side in _sides(size):
            outputs = _channels(side, size, ngf)
            self.convs.append(_conv(inputs, factor * outputs, 3, 1, 1))
            self.norms.append(ClassBatchNorm(factor * outputs, classes))
            inputs = outputs
        self.closing = _conv(inputs, 3, 3, 1, 1)

    def forward(self, z: Tensor, y: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """noise: unused, there is none to inject."""
        del noise
        x = self.act(self.norms[0](self.opening(z[:, :, None, None]), y))
        for layer, norm in zip(self.convs, self.norms[1:], strict=True):
            x = self.act(norm(layer(F.interpolate(x, scale_factor=2, mode="nearest")), y))
        return torch.tanh(self.closing(x))


class DcDiscriminator(nn.Module):
    """Images (N,3,size,size) in [-1, 1] -> `Judged` with one logit; strided convolutions down to 4 x 4."""

    def __init__(self, size: int, ndf: int = 64, classes: int = 0, head: str = "none") -> None:
        super().__init__()
        self.size = size
        layers: list[nn.Module] = []
        inputs, side = 3, size // 2
        while side >= 4:
            outputs = _channels(side, size, ndf)
            layers.append(_conv(inputs, outputs, 4, 2, 1))
            if inputs != 3:  # the paper: no batch norm on the first layer
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.LeakyReLU(0.2))
            inputs, side = outputs, side // 2
        self.features = nn.Sequential(*layers)
        self.judge = _conv(inputs, 1, 4)
        projects, classifies = head in ("projection", "both"), head in ("auxiliary", "both")
        self.embedding = nn.Embedding(classes, inputs) if projects else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, 0.0, 0.02)
        self.classify = nn.Linear(inputs, classes) if classifies else None

    def forward(self, x: Tensor, y: Tensor, corner: tuple[int, int] | None = None) -> Judged:
        """corner: unused, a DCGAN reconstructs nothing."""
        del corner
        last = self.features(x)
        logits = self.judge(last).flatten(1)
        pooled = last.mean((2, 3))
        if self.embedding is not None:
            logits = logits + (self.embedding(y) * pooled).sum(1, keepdim=True)
        return Judged(logits, None if self.classify is None else self.classify(pooled))
