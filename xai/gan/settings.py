"""What a generator is trained with: one frozen dataclass for terminal, page, run folder and saved file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from xai.errors import InputError
from xai.gan.dcgan import DcDiscriminator, DcGenerator
from xai.gan.diffaugment import parse_policy
from xai.gan.fastgan import FastDiscriminator, FastGenerator
from xai.gan.features import Lite0Maps, lite0_maps
from xai.gan.projected import ProjectedDiscriminator
from xai.params import check_bounds

SIZES = (32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class GanSettings:
    """The networks and how they are trained. The defaults are the paper's; `LAPTOP` is what two cores can train.

    architecture: of the generator, and of its discriminator unless that is "projected". decoder_side: what the
    discriminator's decoders reconstruct; 0: half the image, at most 128. head: how the discriminator knows the class.
    class_weight_d, class_weight_g: of the auxiliary classifier's loss for discriminator and generator. perceptual:
    stages of EfficientNet-Lite0 in the reconstruction loss, 0 for pixels alone. feature_side: of images before the
    projected discriminator's features.
    """

    architecture: Literal["fastgan", "dcgan"] = "fastgan"
    discriminator: Literal["own", "projected"] = "own"
    size: int = 256
    nz: int = field(default=256, metadata={"min": 1, "max": 4096})
    ngf: int = field(default=64, metadata={"min": 1, "max": 256})
    ndf: int = field(default=64, metadata={"min": 1, "max": 256})
    batch: int = field(default=8, metadata={"min": 2, "max": 1024})
    lr_g: float = 2e-4
    lr_d: float = 2e-4
    beta1: float = 0.5
    activation: Literal["glu", "leaky"] = "glu"
    attention: bool = False
    head: Literal["none", "projection", "auxiliary", "both"] = "projection"
    class_weight_d: float = field(default=1.0, metadata={"min": 0.0, "max": 1000000.0})
    class_weight_g: float = field(default=0.2, metadata={"min": 0.0, "max": 1000000.0})
    augment: str = "color,translation"
    flip: bool = True
    ema: float = 0.999
    decoder_side: int = field(default=0, metadata={"min": 0, "max": 512})
    perceptual: int = field(default=2, metadata={"min": 0, "max": 8})
    feature_side: int = field(default=0, metadata={"min": 0, "max": 1024})

    def __post_init__(self) -> None:
        """Raises `InputError` for what no training could use."""
        if self.size not in SIZES:
            raise InputError(f"size {self.size} is not possible; use {', '.join(map(str, SIZES))}.")
        check_bounds(self)
        for name in ("lr_g", "lr_d"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name):g}; give a learning rate above 0, such as 0.0002.")
        if not 0 <= self.ema < 1:
            raise InputError(f"ema is {self.ema:g}; give a decay from 0 to below 1, such as 0.999.")
        if not 0 <= self.beta1 < 1:
            raise InputError(f"beta1 is {self.beta1:g}; give 0 to below 1, such as 0.5.")
        if self.decoder_side and not 8 <= self.decoder_side <= self.size // 2:
            raise InputError(f"decoder_side is {self.decoder_side}; give 8 to half the image side, {self.size // 2}.")
        if self.decoder_side & (self.decoder_side - 1):
            raise InputError(f"decoder_side is {self.decoder_side}; decoders double 8 px: give 8, 16, 32, ...")
        if self.architecture == "dcgan" and self.attention:
            raise InputError("attention is FastGAN's; the DCGAN baseline has none.")
        parse_policy(self.augment)


LAPTOP = GanSettings(
    size=64,
    nz=128,
    ngf=16,
    ndf=8,
    batch=8,
    lr_g=4e-4,
    lr_d=4e-4,
    activation="leaky",
    head="both",
    class_weight_g=0.3,
    augment="translation",
    decoder_side=32,
    perceptual=0,
)
"""FastGAN at 64 px as two cores can train it: narrow, LeakyReLU (half the channels of GLU), no features in the loss."""


def build_generator(settings: GanSettings, classes: int) -> nn.Module:
    """The generator, freshly initialised; classes 0: without classes."""
    s = settings
    if s.architecture == "dcgan":
        return DcGenerator(s.size, s.nz, s.ngf, classes, s.activation)
    return FastGenerator(s.size, s.nz, s.ngf, classes, s.activation, s.attention)


def build_discriminator(settings: GanSettings, classes: int, device: torch.device) -> nn.Module:
    """The discriminator, freshly initialised. A network without classes has no head for them."""
    s = settings
    head = s.head if classes else "none"
    if s.discriminator == "projected":
        return ProjectedDiscriminator(s.size, lite0_maps(device), s.ndf, classes, head, s.feature_side)
    if s.architecture == "dcgan":
        return DcDiscriminator(s.size, s.ndf, classes, head)
    return FastDiscriminator(s.size, s.ndf, classes, head, s.attention, s.decoder_side)


def build_perceptual(settings: GanSettings, device: torch.device) -> Lite0Maps | None:
    """The features of the reconstruction loss, where it has any and something is reconstructed."""
    reconstructs = settings.architecture == "fastgan" and settings.discriminator == "own"
    return lite0_maps(device, settings.perceptual) if settings.perceptual and reconstructs else None
