"""FastGAN: a generator with skip-layer excitation, and a discriminator that must be able to reconstruct what it saw.

Liu, Zhu, Song & Elgammal, Towards Faster and Stabilized GAN Training for High-fidelity Few-shot Image Synthesis, ICLR
2021, https://arxiv.org/abs/2101.04775. Own to this file: any power of two from 32 px up (the paper's sizes begin at
256), the class by conditional batch norm alone, projection and auxiliary-classifier heads, and decoders of at most
half the image's side, which is where most of the time goes otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai.gan.layers import Activation, ClassBatchNorm, Noise, SelfAttention, SkipExcitation, conv, deconv

GENERATOR_WIDTHS = {4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1, 256: 0.5, 512: 0.25, 1024: 0.125}
"""Channels at each side, as multiples of ngf."""

DISCRIMINATOR_WIDTHS = {8: 16, 16: 8, 32: 4, 64: 2, 128: 1, 256: 0.5, 512: 0.25, 1024: 0.125}
"""Channels at each side, as multiples of ndf."""

DOUBLED = (8, 32, 128, 512)
"""Sides at which an up block has a second convolution and noise."""

EXCITED = 16
"""A map gates the one of so many times its side."""

ATTENTION_SIDE = 16

DECODER_SIDE = 128
"""Largest side that a decoder reconstructs, as in the paper."""


def _width(table: dict[int, float], side: int, base: int) -> int:
    return max(4, int(table[side] * base))


class _Up(nn.Module):
    """Nearest x 2, convolution, norm, activation; at the sides `DOUBLED` a second convolution, with noise."""

    def __init__(self, inputs: int, outputs: int, activation: str, classes: int, double: bool) -> None:
        super().__init__()
        self.act = Activation(activation)
        factor = self.act.factor
        sources = [inputs, outputs] if double else [inputs]
        self.convs = nn.ModuleList([conv(source, factor * outputs, 3, 1, 1) for source in sources])
        self.norms = nn.ModuleList([ClassBatchNorm(factor * outputs, classes) for _ in sources])
        self.noises = nn.ModuleList([Noise() for _ in sources] if double else [])

    def forward(self, x: Tensor, y: Tensor, noise: torch.Generator | None) -> Tensor:
        """x (N,C,h,w) -> (N,D,2h,2w)."""
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        for index, (layer, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = layer(x)
            if self.noises:
                x = self.noises[index](x, noise)
            x = self.act(norm(x, y))
        return x


class FastGenerator(nn.Module):
    """z (N,nz), y (N,) -> images (N,3,size,size) in [-1, 1]. classes 0: without classes, y is ignored."""

    def __init__(
        self,
        size: int,
        nz: int = 256,
        ngf: int = 64,
        classes: int = 0,
        activation: str = "glu",
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.size, self.nz, self.classes = size, nz, classes
        sides = [side for side in GENERATOR_WIDTHS if 8 <= side <= size]
        channels = {side: _width(GENERATOR_WIDTHS, side, ngf) for side in (4, *sides)}
        self.act = Activation(activation)
        self.opening = deconv(nz, self.act.factor * channels[4], 4)
        self.opening_norm = ClassBatchNorm(self.act.factor * channels[4], classes)
        self.ups = nn.ModuleDict(
            {
                str(side): _Up(channels[side // 2], channels[side], activation, classes, side in DOUBLED)
                for side in sides
            }
        )
        gated = [side for side in sides if side // EXCITED in channels]
        self.gates = nn.ModuleDict({str(s): SkipExcitation(channels[s // EXCITED], channels[s]) for s in gated})
        self.attention = SelfAttention(channels[ATTENTION_SIDE]) if attention else None
        self.closing = conv(channels[size], 3, 3, 1, 1)

    def forward(self, z: Tensor, y: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """noise: where the injected noise comes from; None leaves it out, as sampling does."""
        x = self.act(self.opening_norm(self.opening(z[:, :, None, None]), y))
        maps = {4: x}
        for name, up in self.ups.items():
            side = int(name)
            x = up(x, y, noise)
            if name in self.gates:
                x = self.gates[name](maps[side // EXCITED], x)
            if self.attention is not None and side == ATTENTION_SIDE:
                x = self.attention(x)
            maps[side] = x
        return torch.tanh(self.closing(x))


class _Down(nn.Module):
    """Halves the side two ways, by strided convolution and by pooling, and averages them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            conv(inputs, outputs, 4, 2, 1),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(0.2),
            conv(outputs, outputs, 3, 1, 1),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(0.2),
        )
        self.direct = nn.Sequential(
            nn.AvgPool2d(2), conv(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (N,C,h,w) -> (N,D,h/2,w/2)."""
        both: Tensor = (self.main(x) + self.direct(x)) / 2
        return both


class _Decoder(nn.Module):
    """An 8 x 8 map back to an image of `side`, in [-1, 1]."""

    def __init__(self, inputs: int, side: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        here = 8
        while here < side:
            here *= 2
            outputs = _width(GENERATOR_WIDTHS, here, width)
            layers += [
                nn.Upsample(scale_factor=2, mode="nearest"),
                conv(inputs, 2 * outputs, 3, 1, 1),
                nn.BatchNorm2d(2 * outputs),
                Activation("glu"),
            ]
            inputs = outputs
        self.layers = nn.Sequential(*layers, conv(inputs, 3, 3, 1, 1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """x (N,C,8,8) -> (N,3,side,side)."""
        image: Tensor = self.layers(x)
        return image


@dataclass(frozen=True, eq=False)
class Judged:
    """What a discriminator says of N images.

    logits (N,M): real or not, at M places. classes (N,K): logits of the auxiliary classifier, None without one. parts:
    (reconstruction, what it should be) pairs, empty where none was asked for.
    """

    logits: Tensor
    classes: Tensor | None = None
    parts: tuple[tuple[Tensor, Tensor], ...] = ()


class FastDiscriminator(nn.Module):
    """Images (N,3,size,size) in [-1, 1] -> `Judged`, with 5 x 5 logits of the whole and 5 x 5 of a smaller copy.

    The smaller copy is made here, of the very image that comes in, so that both branches see one augmentation.
    head: "none", "projection" (adds <embedding of y, features>, Miyato & Koyama 2018), "auxiliary" (Odena et al. 2017)
    or "both".
    """

    def __init__(
        self,
        size: int,
        ndf: int = 64,
        classes: int = 0,
        head: str = "none",
        attention: bool = False,
        decoder_side: int = 0,
    ) -> None:
        super().__init__()
        self.size, self.small_side = size, min(128, size // 2)
        self.side = decoder_side or min(DECODER_SIDE, size // 2)
        channels = {side: _width(DISCRIMINATOR_WIDTHS, side, ndf) for side in DISCRIMINATOR_WIDTHS}
        self.start = nn.Sequential(conv(3, channels[size // 2], 4, 2, 1), nn.LeakyReLU(0.2))
        sides = [side for side in (512, 256, 128, 64, 32, 16, 8) if side < size // 2]
        self.downs = nn.ModuleDict({str(side): _Down(channels[2 * side], channels[side]) for side in sides})
        self.attention = SelfAttention(channels[ATTENTION_SIDE]) if attention else None
        self.judge = self._judge(channels[8])
        self.small_start = nn.Sequential(conv(3, channels[self.small_side // 2], 4, 2, 1), nn.LeakyReLU(0.2))
        small = [side for side in sides if side < self.small_side // 2]
        self.small_downs = nn.Sequential(*[_Down(channels[2 * side], channels[side]) for side in small])
        self.small_judge = conv(channels[8], 1, 4)
        self.whole, self.copy = (_Decoder(channels[8], self.side, max(1, ndf // 2)) for _ in range(2))
        self.crop = _Decoder(channels[16], self.side, max(1, ndf // 2))
        projects, classifies = head in ("projection", "both"), head in ("auxiliary", "both")
        self.embedding = nn.Embedding(classes, channels[8]) if projects else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, 0.0, 0.02)
        self.classify = nn.Linear(channels[8], classes) if classifies else None

    @staticmethod
    def _judge(channels: int) -> nn.Sequential:
        return nn.Sequential(
            conv(channels, channels, 1), nn.BatchNorm2d(channels), nn.LeakyReLU(0.2), conv(channels, 1, 4)
        )

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The 16 x 16 and the 8 x 8 map of the whole image."""
        x = self.start(x)
        middle = x
        for name, down in self.downs.items():
            x = down(x)
            if int(name) == ATTENTION_SIDE:
                x = x if self.attention is None else self.attention(x)
                middle = x
        return middle, x

    def forward(self, x: Tensor, y: Tensor, corner: tuple[int, int] | None = None) -> Judged:
        """corner: (row, column) in {0, 1} of the quadrant that is reconstructed; None: no reconstruction."""
        middle, last = self.features(x)
        copy = F.interpolate(x, size=(self.small_side,) * 2, mode="bilinear", antialias=True)
        small = self.small_downs(self.small_start(copy))
        logits = torch.cat([self.judge(last).flatten(1), self.small_judge(small).flatten(1)], 1)
        pooled = F.leaky_relu(last, 0.2).mean((2, 3))
        if self.embedding is not None:
            logits = logits + (self.embedding(y) * pooled).sum(1, keepdim=True)
        classes = None if self.classify is None else self.classify(pooled)
        if corner is None:
            return Judged(logits, classes)
        half = self.size // 2
        row, column = corner
        quadrant = x[:, :, row * half : (row + 1) * half, column * half : (column + 1) * half]
        cells = middle[:, :, row * 8 : (row + 1) * 8, column * 8 : (column + 1) * 8]
        whole = _shrunk(x, self.side)
        parts = ((self.whole(last), whole), (self.copy(small), whole), (self.crop(cells), _shrunk(quadrant, self.side)))
        return Judged(logits, classes, parts)


def _shrunk(x: Tensor, side: int) -> Tensor:
    return x if x.shape[-1] == side else F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
