"""A discriminator on features that are there already: EfficientNet-Lite0's maps, frozen, judged at four scales.

Sauer et al., Projected GANs Converge Faster, NeurIPS 2021, https://arxiv.org/abs/2111.01007: fixed random projections
mix the channels and the scales, small heads on top learn to tell real from generated. Where minutes count, what the
network knows of pictures already is what a discriminator from scratch must learn first. Its price: a distance measured
in the same features (KID-EffNetLite0) flatters a generator trained by it, and must be told beside one that is not.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai.gan.fastgan import Judged
from xai.gan.features import Lite0Maps
from xai.gan.layers import conv

MIXED = 64
"""Channels of each scale after the random projections."""


def _fixed(inputs: int, outputs: int, kernel: int, generator: torch.Generator) -> Tensor:
    """Weights of a random convolution (Kaiming), drawn from `generator`."""
    weight = torch.randn(outputs, inputs, kernel, kernel, generator=generator)
    return weight * math.sqrt(2 / (inputs * kernel * kernel))


class _Head(nn.Module):
    """(N,C,h,h) -> logits (N,m*m) and pooled features (N,width): halved until 4 x 4, then judged place by place."""

    def __init__(self, inputs: int, side: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        while side > 4:
            layers += [conv(inputs, width, 4, 2, 1), nn.LeakyReLU(0.2)]
            inputs, side = width, side // 2
        layers += [conv(inputs, width, 3, 1, 1), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)
        self.judge = conv(width, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(x)
        return self.judge(x).flatten(1), x.mean((2, 3))


class ProjectedDiscriminator(nn.Module):
    """Images (N,3,size,size) in [-1, 1] -> `Judged`; signature and heads of `FastDiscriminator`.

    side: to which images are resized before EfficientNet-Lite0 sees them. The class enters by <embedding of y,
    features> at every scale ("projection"), by a classifier on the pooled features ("auxiliary"), or both.
    """

    def __init__(
        self, size: int, maps: Lite0Maps, ndf: int = 64, classes: int = 0, head: str = "none", side: int = 0
    ) -> None:
        super().__init__()
        self.size, self.side = size, side or max(64, size)
        object.__setattr__(self, "_maps", maps)
        generator = torch.Generator().manual_seed(0)
        for index, channels in enumerate(maps.CHANNELS):
            self.register_buffer(f"channels{index}", _fixed(channels, MIXED, 1, generator))
            self.register_buffer(f"scales{index}", _fixed(MIXED, MIXED, 3, generator))
        sides = [-(-self.side // stride) for stride in (4, 8, 16, 32)]
        self.heads = nn.ModuleList([_Head(MIXED, each, ndf) for each in sides])
        projects, classifies = head in ("projection", "both"), head in ("auxiliary", "both")
        embeddings = [nn.Embedding(classes, ndf) for _ in sides] if projects else []
        for embedding in embeddings:
            nn.init.normal_(embedding.weight, 0.0, 0.02)
        self.embeddings = nn.ModuleList(embeddings)
        self.classify = nn.Linear(ndf * len(sides), classes) if classifies else None

    def mixed(self, x: Tensor) -> list[Tensor]:
        """The projected maps, finest first: channels mixed at each scale, then coarse added to fine."""
        if x.shape[-1] != self.side:
            x = F.interpolate(x, size=(self.side, self.side), mode="bilinear", antialias=True)
        maps: Lite0Maps = self.__dict__["_maps"]
        found: list[Tensor] = []
        above: Tensor | None = None
        for index, each in reversed(list(enumerate(maps(x)))):
            here = F.conv2d(each, getattr(self, f"channels{index}"))
            if above is not None:
                here = here + F.interpolate(above, size=here.shape[-2:], mode="bilinear")
            here = F.conv2d(here, getattr(self, f"scales{index}"), padding=1) if above is not None else here
            found.insert(0, here)
            above = here
        return found

    def forward(self, x: Tensor, y: Tensor, corner: tuple[int, int] | None = None) -> Judged:
        """corner: unused, nothing is reconstructed."""
        del corner
        logits, pooled = [], []
        for index, (head, each) in enumerate(zip(self.heads, self.mixed(x), strict=True)):
            judged, features = head(each)
            if self.embeddings:
                judged = judged + (self.embeddings[index](y) * features).sum(1, keepdim=True)
            logits.append(judged)
            pooled.append(features)
        classes = None if self.classify is None else self.classify(torch.cat(pooled, 1))
        return Judged(torch.cat(logits, 1), classes)
