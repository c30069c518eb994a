"""What stands on top of a convolutional part when a network is trained on other classes: a new head for K classes."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai.errors import InputError
from xai.models.layers import find_head

HEADS = ("linear", "study4")
"""linear: the architecture with its last linear layer made anew for K classes. study4: `Study4Head` on the globally
averaged maps, in place of everything from the architecture's first linear layer on."""

WIDTHS = (128, 64)
DROPOUT = 0.35


class SigmoidPair(nn.Module):
    """One sigmoid output as two logits: z -> (-z/2, z/2).

    softmax(-z/2, z/2) = (1 - sigmoid(z), sigmoid(z)), and the cross-entropy over the pair is the binary cross-entropy
    of z. Symmetric on purpose: with (0, z) the first class would have no gradient, and so no explanation.
    """

    pair: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pair", torch.tensor([[-0.5], [0.5]]), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """z (N,1) -> logits (N,2)."""
        return F.linear(z, self.pair)


class Study4Head(nn.Sequential):
    """Dense 128 ReLU, dropout .35, Dense 64 ReLU, dropout .35, then one sigmoid output, or K logits for K > 2 classes.

    For two classes it learns one output and shows it as two logits (`SigmoidPair`), so that the rest of the software
    sees K = 2. On the 512 averaged maps of VGG19 it has 73,985 parameters.
    """

    def __init__(self, width: int, classes: int) -> None:
        first, second = WIDTHS
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            dense1=nn.Linear(width, first),
            relu1=nn.ReLU(),
            drop1=nn.Dropout(DROPOUT),
            dense2=nn.Linear(first, second),
            relu2=nn.ReLU(),
            drop2=nn.Dropout(DROPOUT),
            output=nn.Linear(second, 1 if classes == 2 else classes),
        )
        if classes == 2:
            layers["pair"] = SigmoidPair()
        super().__init__(layers)


def attach(net: nn.Module, now: int, head: str, classes: int, generator: torch.Generator | None = None) -> str:
    """Put a new head for `classes` classes on `net`, which has `now`; gives the head's path.

    Its weights are drawn from `generator` (Glorot's uniform, biases 0). study4 sits on what the architecture averages
    over its maps: a pooling to more than 1 x 1 (VGG's 7 x 7) becomes one to 1 x 1. Raises `InputError` for an unknown
    head, fewer than 2 classes, and for a network that does not end in a linear layer.
    """
    if head not in HEADS:
        raise InputError(f"head {head!r} is not known; use {' or '.join(HEADS)}.")
    if classes < 2:
        raise InputError(f"there is {classes} class to learn; give at least 2.")
    path = find_head(net, now)
    last = net.get_submodule(path) if path else None
    if not isinstance(last, nn.Linear):
        raise InputError("the network does not end in a linear layer, so no head fits it; choose another one.")
    width = last.in_features
    if head == "study4":
        path, width = _make_room(net, path, last)
    with torch.random.fork_rng(devices=[]):  # PyTorch draws first weights of its own, from everybody's generator
        new = nn.Linear(width, classes) if head == "linear" else Study4Head(width, classes)
    _initialise(new, generator)
    net.set_submodule(path, new)
    return path


def kernels(head: nn.Module) -> list[Tensor]:
    """The kernels that study 4's L2 term holds down: those of the head's hidden layers; none in a linear head."""
    return [head.dense1.weight, head.dense2.weight] if isinstance(head, Study4Head) else []  # type: ignore[list-item, union-attr]


def _make_room(net: nn.Module, path: str, last: nn.Linear) -> tuple[str, int]:
    """(where the head goes, how wide its input is), with everything from the first linear layer on taken away."""
    parent = path.rpartition(".")[0]
    row = net.get_submodule(parent) if parent else net
    width = last.in_features
    if isinstance(row, nn.Sequential):
        layers = list(row)
        first = next(index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear))
        width = layers[first].in_features  # type: ignore[assignment]  # a linear layer's, an int
        kept = [layer for layer in layers[:first] if not isinstance(layer, nn.Dropout)]
        net.set_submodule(parent, nn.Sequential(*kept, nn.Identity()))
        path = f"{parent}.{len(kept)}"
    pool = getattr(net, "avgpool", None)
    if isinstance(pool, nn.AdaptiveAvgPool2d):
        size = pool.output_size
        cells = size**2 if isinstance(size, int) else math.prod(side or 1 for side in size or ())
        if cells > 1:
            width //= cells
            net.set_submodule("avgpool", nn.AdaptiveAvgPool2d(1))
    return path, width


def _initialise(head: nn.Module, generator: torch.Generator | None) -> None:
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
