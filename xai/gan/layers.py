"""What the networks are made of: spectral norm, conditional batch norm, GLU, noise, excitation, attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from xai.devices import memory_format
from xai.errors import InputError

SETTLED = 50
"""Power iterations that settle u and v on weights that no longer change."""


class SpectralNorm(nn.Module):
    """Parametrisation W -> W / sigma(W), sigma by power iteration on W as a matrix (`dim` first).

    One iteration a forward pass in training mode, and only while `iterating`: passes that do not train this network
    (the discriminator's in the generator's step) leave u and v alone, and so does eval mode. The passes of one
    `parametrize.cached()` block share one iteration. Source: Miyato et al. 2018, https://arxiv.org/abs/1802.05957.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim
        self.iterating = True
        rows, columns = self._matrix(weight).shape
        # ones, not random numbers: the start is the same wherever the network is built
        self.register_buffer("u", F.normalize(torch.ones(rows), dim=0))
        self.register_buffer("v", F.normalize(torch.ones(columns), dim=0))
        if not weight.is_meta:  # a network without values, built for its shapes
            self.settle(weight)

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.transpose(0, self.dim).flatten(1)

    @torch.no_grad()
    def iterate(self, weight: Tensor, times: int = 1) -> None:
        """Move u and v towards the first singular vectors of `weight`."""
        matrix = self._matrix(weight.detach()).float()
        for _ in range(times):
            self.u.copy_(F.normalize(matrix @ self.v, dim=0, eps=1e-12))
            self.v.copy_(F.normalize(matrix.T @ self.u, dim=0, eps=1e-12))

    def settle(self, weight: Tensor) -> None:
        """Iterate until it no longer matters: for new weights, and for averaged ones."""
        self.iterate(weight, SETTLED)

    def forward(self, weight: Tensor) -> Tensor:
        """`weight` divided by its largest singular value, as u and v know it."""
        kind = "cpu" if weight.is_meta else weight.device.type  # there is no autocast without a device
        with torch.autocast(kind, enabled=False):  # a norm known to two digits is none
            if self.training and self.iterating:
                self.iterate(weight)
            # clones: a later pass iterates in place while this one's graph may still be needed
            sigma = self.u.clone() @ (self._matrix(weight) @ self.v.clone())
            return weight / sigma


def spectral(layer: nn.Module) -> nn.Module:
    """`layer` (a convolution or linear layer) under spectral norm."""
    weight = layer.weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"{type(layer).__name__} has no weight")
    dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    parametrize.register_parametrization(layer, "weight", SpectralNorm(weight, dim))
    return layer


def spectral_norms(net: nn.Module) -> Iterator[tuple[SpectralNorm, Tensor]]:
    """Each spectral norm in `net` with the weights it is on."""
    for module in net.modules():
        if isinstance(module, parametrize.ParametrizationList) and isinstance(module[0], SpectralNorm):
            yield module[0], module.original


@contextmanager
def still(net: nn.Module) -> Iterator[None]:
    """Within it forward passes of `net` leave u and v of its spectral norms alone."""
    norms = [norm for norm, _ in spectral_norms(net)]
    before = [norm.iterating for norm in norms]
    for norm in norms:
        norm.iterating = False
    try:
        yield
    finally:
        for norm, was in zip(norms, before, strict=True):
            norm.iterating = was


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Module:
    """A convolution without bias, weights N(0, 0.02), under spectral norm."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    nn.init.normal_(layer.weight, 0.0, 0.02)
    return spectral(layer)


def deconv(inputs: int, outputs: int, kernel: int) -> nn.Module:
    """A transposed convolution that opens 1 x 1 to kernel x kernel, like `conv`."""
    layer = nn.ConvTranspose2d(inputs, outputs, kernel, bias=False)
    nn.init.normal_(layer.weight, 0.0, 0.02)
    return spectral(layer)


class ClassBatchNorm(nn.Module):
    """Batch norm whose scale and shift are the class's own: gamma[y], beta[y].

    x (N,C,H,W), y (N,) int64 -> (N,C,H,W). The statistics are shared by all classes. classes 0: a plain batch norm, y
    unused. Source: Dumoulin et al. 2017, https://arxiv.org/abs/1610.07629.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=classes == 0)
        if classes == 0:
            nn.init.normal_(self.norm.weight, 1.0, 0.02)
        self.scale = nn.Embedding(classes, channels) if classes else None
        self.shift = nn.Embedding(classes, channels) if classes else None
        if self.scale is not None and self.shift is not None:
            nn.init.normal_(self.scale.weight, 1.0, 0.02)
            nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.norm(x)
        if self.scale is None or self.shift is None:
            return out
        scale, shift = (each(y)[:, :, None, None].to(out.dtype) for each in (self.scale, self.shift))
        return torch.addcmul(shift, out, scale)  # in the maps' own precision: mixed ones would widen what follows


class Noise(nn.Module):
    """x + w * noise, one learned scalar w that begins at 0, one noise map an image; no noise without a generator."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, source: torch.Generator | None) -> Tensor:
        """x (N,C,H,W)."""
        if source is None:
            return x
        # Drawn where the generator is, the CPU, so that every device gets the same.
        noise = torch.randn(x.shape[0], 1, *x.shape[2:], generator=source, device=source.device, dtype=x.dtype)
        return x + self.weight.to(x.dtype) * noise.to(x.device)


class Activation(nn.Module):
    """GLU (halves the channels: a * sigmoid(b)) or LeakyReLU(0.2); `factor` channels go in for each that comes out."""

    KINDS = ("glu", "leaky")

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in self.KINDS:
            raise InputError(f"activation {kind!r} is not known; use {' or '.join(self.KINDS)}.")
        self.kind = kind

    @property
    def factor(self) -> int:
        """Channels that go in for each that comes out."""
        return 2 if self.kind == "glu" else 1

    def forward(self, x: Tensor) -> Tensor:
        """x (N,factor*C,H,W) -> (N,C,H,W)."""
        if self.kind == "leaky":
            return F.leaky_relu(x, 0.2)
        kept, gate = x.chunk(2, 1)
        return kept * torch.sigmoid(gate)  # F.glu is several times slower on channels_last


class SkipExcitation(nn.Module):
    """Skip-layer excitation: a small map gates the channels of a large one.

    small (N,A,h,w), large (N,B,H,W) -> large * sigmoid(conv1x1(swish(conv4x4(pool4(small))))). Source: Liu et al. 2021,
    https://arxiv.org/abs/2101.04775, eq. 1.
    """

    def __init__(self, small: int, large: int) -> None:
        super().__init__()
        self.squeeze = conv(small, large, 4)
        self.excite = conv(large, large, 1)

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        """See the class."""
        gate = self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(small, 4))))
        gated: Tensor = large * torch.sigmoid(gate)
        return gated


class SelfAttention(nn.Module):
    """Convolutional self-attention: x + g * attention(x), g begins at 0, so that it is the identity at first.

    x (N,C,H,W) -> the same. Queries and keys have C/8 channels, values C/2; keys and values are pooled by 2. Source:
    Zhang et al. 2019 (SAGAN), https://arxiv.org/abs/1805.08318.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 8)
        self.query = conv(channels, inner, 1)
        self.key = conv(channels, inner, 1)
        self.value = conv(channels, max(1, channels // 2), 1)
        self.out = conv(max(1, channels // 2), channels, 1)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        count, _, height, width = x.shape
        query = self.query(x).flatten(2).transpose(1, 2)  # (N, HW, c)
        key = F.max_pool2d(self.key(x), 2).flatten(2)  # (N, c, HW/4)
        value = F.max_pool2d(self.value(x), 2).flatten(2).transpose(1, 2)  # (N, HW/4, C/2)
        mixed = torch.softmax(query @ key, -1) @ value  # (N, HW, C/2)
        mixed = mixed.transpose(1, 2).reshape(count, -1, height, width)
        mixed = mixed.contiguous(memory_format=memory_format(x.device))
        result: Tensor = x + self.gain.to(x.dtype) * self.out(mixed)
        return result
