"""Looking at a generator: samples by seed, truncation, walks between samples, GIFs, reconstructions, nearest images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from xai.errors import InputError
from xai.gan.features import Extractor
from xai.gan.images import Pictures
from xai.gan.quality import nearest
from xai.gan.saved import Generator
from xai.models.batching import in_batches
from xai.params import check_between
from xai.settings import check_memory
from xai.types import Run

BATCH = 64
"""Samples of one forward pass."""

MOST_FRAMES = 240

SHOWN = 8
"""Images in a grid's row where no class decides that."""


def latent(seed: int, nz: int) -> Tensor:
    """z (nz,) of a seed: the same wherever and in whichever batch it is drawn."""
    return torch.randn(nz, generator=Run(seed=seed).generator("latent"))


def latents(seeds: Sequence[int], nz: int, truncation: float | None = None) -> Tensor:
    """z (N,nz) of seeds. truncation t: distributed as normals cut off at -t and t (Brock et al. 2019).

    None leaves them normal. Batch norm's statistics stay those without a cut, so a network that was not trained for it
    loses contrast where t is small (Brock et al. say so of many networks); `contrast` measures it. Measured anew under
    the cut they would undo it: behind a linear layer a smaller z is scaled up again. Raises `InputError` for t that is
    not above 0.
    """
    return truncated(torch.stack([latent(seed, nz) for seed in seeds]), truncation)


def truncated(z: Tensor, truncation: float | None) -> Tensor:
    """Standard normal z of any shape as normals cut off at -t and t: the same z slides inwards as t gets smaller."""
    if truncation is None:
        return z
    if not truncation > 0:
        raise InputError(f"truncation is {truncation:g}; give a number above 0, such as 0.7, or none.")
    # a uniform number's place between the quantiles of -t and t
    share = torch.erf(z.double() / 2**0.5)
    edge = torch.erf(torch.tensor(truncation / 2**0.5, dtype=torch.float64))
    return (torch.erfinv(share * edge) * 2**0.5).float()


def contrast(images: Tensor) -> float:
    """Standard deviation of a channel's levels over the pixels, mean over channels and images (N,3,H,W) in [0, 1].

    0: each image is of one colour.
    """
    return float(images.flatten(2).double().std(2, correction=0).mean())


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation of a, b (D,): sin((1-t)w)/sin w a + sin(tw)/sin w b, w the angle between them.

    Normal vectors of many dimensions lie near a sphere, which a straight line leaves. Vectors of one direction are
    interpolated linearly. Source: Shoemake 1985. Raises `InputError` for t outside 0 to 1.
    """
    if not 0 <= t <= 1:
        raise InputError(f"t is {t:g}; give 0 (the first sample) to 1 (the second).")
    angle = torch.acos((F.normalize(a.double(), dim=0) @ F.normalize(b.double(), dim=0)).clamp(-1, 1))
    if float(torch.sin(angle)) < 1e-6:
        return torch.lerp(a, b, t)
    first, second = torch.sin((1 - t) * angle) / torch.sin(angle), torch.sin(t * angle) / torch.sin(angle)
    return (first * a.double() + second * b.double()).to(a.dtype)


@torch.no_grad()
def draw(net: nn.Module, z: Tensor, labels: Tensor, device: torch.device, run: Run | None = None) -> Tensor:
    """Images (N,3,S,S) float32 in [0, 1] on the CPU from z (N,nz) and labels (N,), in batches."""

    def part(start: int, stop: int) -> Tensor:
        made: Tensor = net(z[start:stop].to(device), labels[start:stop].to(device))
        return made.float().cpu()

    images = torch.cat([each for _, _, each in in_batches(part, len(z), run or Run(), "sampling", BATCH)])
    return (images / 2 + 0.5).clamp(0, 1).contiguous()


def generate(made: Generator, z: Tensor, labels: Tensor, run: Run | None = None) -> Tensor:
    """Images (N,3,S,S) float32 in [0, 1] on the CPU from z (N,nz) and labels (N,) int64.

    Raises `InputError` where they do not go together, and for a class that there is not.
    """
    count = max(1, len(made.classes))
    if z.dim() != 2 or z.shape[1] != made.settings.nz or len(labels) != len(z):
        raise InputError(
            f"z is {tuple(z.shape)} for {len(labels)} labels; give (N, {made.settings.nz}) and one label for each."
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < count:
        raise InputError(
            f"labels run from {int(labels.min())} to {int(labels.max())}; this generator has 0 to {count - 1}."
        )
    return draw(made.net, z, labels, made.device, run)


MOST_SAMPLES = 100_000
"""Samples that are drawn and kept together, where the memory allows so many."""


def check_samples(made: Generator, count: int) -> None:
    """Raise `InputError` for no sample, or more than `MOST_SAMPLES` or the free memory allow."""
    check_between("the number of samples", count, 1, MOST_SAMPLES)
    size = made.settings.size
    need = 3 * count * 3 * size * size * 4  # as they are drawn, clamped, and joined into one picture
    check_memory(need, f"{count} samples of {size} px", "ask for fewer")


def sample(
    made: Generator,
    seeds: Sequence[int],
    label: int | str | None = None,
    truncation: float | None = None,
    run: Run | None = None,
) -> tuple[Tensor, Tensor]:
    """(images, labels) of seeds. label: one class for all by index or name; None: the classes in turn."""
    if not seeds:
        raise InputError("there is no seed; give at least one.")
    check_samples(made, len(seeds))
    index = made.class_index(label) if isinstance(label, str) else label
    count = max(1, len(made.classes))
    labels = torch.tensor([place % count if index is None else index for place in range(len(seeds))], dtype=torch.int64)
    return generate(made, latents(seeds, made.settings.nz, truncation), labels, run), labels


def sample_each(
    made: Generator, seeds: Sequence[int], truncation: float | None = None, run: Run | None = None
) -> tuple[Tensor, Tensor]:
    """(images, labels): every class at every seed, class by class, so that classes are seen at the same z."""
    count = max(1, len(made.classes))
    check_samples(made, count * len(seeds))
    z = latents(seeds, made.settings.nz, truncation).repeat(count, 1)
    labels = torch.arange(count).repeat_interleave(len(seeds))
    return generate(made, z, labels, run), labels


def walk(
    made: Generator,
    first: int,
    second: int,
    label: int | str = 0,
    frames: int = 30,
    truncation: float | None = None,
    run: Run | None = None,
) -> Tensor:
    """Images (frames,3,S,S) from the sample of seed `first` to that of `second`, both ends included, by `slerp`."""
    if not 2 <= frames <= MOST_FRAMES:
        raise InputError(f"frames is {frames}; give 2 to {MOST_FRAMES}.")
    index = made.class_index(label) if isinstance(label, str) else label
    a, b = latents([first, second], made.settings.nz, truncation)
    z = torch.stack([slerp(a, b, place / (frames - 1)) for place in range(frames)])
    return generate(made, z, torch.full((frames,), index, dtype=torch.int64), run)


def gif(images: Tensor, seconds: float = 2.0, there_and_back: bool = True) -> bytes:
    """Images (N,3,S,S) in [0, 1] as an endless GIF of `seconds` a way, one palette of 255 colours for all frames."""
    if len(images) < 2:
        raise InputError(f"there are {len(images)} frames; give 2 or more.")
    levels = (images.clamp(0, 1).permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    strip = Image.fromarray(np.concatenate(list(levels), axis=0))
    palette = strip.quantize(255, method=Image.Quantize.MEDIANCUT)
    frames = [Image.fromarray(each).quantize(palette=palette, dither=Image.Dither.NONE) for each in levels]
    if there_and_back:
        frames += frames[-2:0:-1]
    each = max(20, round(1000 * seconds / len(images) / 10) * 10)  # GIF counts hundredths of a second
    sink = io.BytesIO()
    frames[0].save(sink, "GIF", save_all=True, append_images=frames[1:], duration=each, loop=0, disposal=1)
    return sink.getvalue()


def grid_png(images: Tensor, labels: Tensor | None = None) -> bytes:
    """Images (N,3,H,W) in [0, 1] as one PNG, a row a class; of one class or without, rows of `SHOWN`."""
    kinds = torch.unique(labels) if labels is not None else torch.zeros(1)
    rows = [images[labels == k] for k in kinds] if len(kinds) > 1 else list(torch.split(images, SHOWN))
    width = max(len(row) for row in rows)
    lines = [torch.cat([*row, *[torch.ones_like(row[0])] * (width - len(row))], 2) for row in rows]
    levels = (torch.cat(lines, 1).permute(1, 2, 0) * 255).round().to(torch.uint8)
    sink = io.BytesIO()
    Image.fromarray(levels.numpy()).save(sink, "PNG")
    return sink.getvalue()


def pairs(left: Tensor, right: Tensor) -> Tensor:
    """(N,3,S,S) and (N,3,S,S) in [0, 1] as pictures (N,3,S,2S+2) with a white line between."""
    return torch.cat([left, torch.ones(*left.shape[:3], 2), right], 3)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """For each of N samples the nearest training image: places (N,) in the pictures, distances (N,), the measure."""

    places: Tensor
    distances: Tensor
    measure: str


def nearest_training(images: Tensor, train: Pictures, extractor: Extractor, run: Run | None = None) -> Neighbours:
    """The nearest training image of each sample, by Euclidean distance of features; images (N,3,S,S) in [0, 1]."""
    distances, places = nearest(extractor(images, run), extractor(train.images, run))
    return Neighbours(places, distances, f"Euclidean distance of {extractor.name} features")


@torch.no_grad()
def reconstructions(
    discriminator: nn.Module, images: Tensor, corner: tuple[int, int] = (0, 0)
) -> tuple[tuple[Tensor, Tensor], ...]:
    """What FastGAN's discriminator can draw of images (N,3,S,S) in [0, 1]: (reconstruction, original) pairs in [0, 1].

    The whole image, the whole from the small copy, and the quadrant at `corner` (row, column), at the decoders' size.
    Raises `InputError` for a discriminator that reconstructs nothing.
    """
    device = next(discriminator.parameters()).device
    was = discriminator.training
    discriminator.eval()
    try:
        labels = torch.zeros(len(images), dtype=torch.int64, device=device)  # the decoders do not see the class
        parts = discriminator(images.to(device) * 2 - 1, labels, corner).parts
    finally:
        discriminator.train(was)
    if not parts:
        raise InputError("this discriminator reconstructs nothing; FastGAN's own does.")
    return tuple(((a / 2 + 0.5).clamp(0, 1).float().cpu(), (b / 2 + 0.5).clamp(0, 1).float().cpu()) for a, b in parts)
