"""Forward passes without learning: what the frozen part gives, computed once, and logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from xai.devices import empty_cache, out_of_memory
from xai.errors import InputError
from xai.models.batching import DEFAULT_BATCH
from xai.public import public
from xai.training.network import Network
from xai.training.pictures import Pictures
from xai.types import Run

KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, eq=False)
class Stored:
    """Features (N,C) of the frozen part on the device, with labels (N,): read like pictures, and given to the head."""

    values: Tensor
    labels: Tensor

    def subset(self, places: Sequence[int]) -> Stored:
        """The images at `places`, in that order."""
        chosen = torch.as_tensor(places, dtype=torch.int64, device=self.values.device)
        return Stored(self.values[chosen], self.labels[chosen])

    def read(self, batches: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """For each of `batches` its features (n,C)."""
        for places in batches:
            yield self.values[torch.as_tensor(places, device=self.values.device)]


def team() -> tuple[int, int]:
    """(rank, processes) of torch.distributed; (0, 1) alone."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def precision_of(name: str, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision for forward passes; raises `InputError` for fp16 on the CPU, which has no use for it."""
    if name == "float32":
        return nullcontext()
    if name == "fp16" and device.type != "cuda":
        raise InputError(f"precision fp16 is for CUDA, not for {device}; use float32 or bf16.")
    return torch.autocast(device.type, KINDS[name])


def to_pixels(batch: Tensor, device: torch.device) -> Tensor:
    """uint8 (N,3,H,W) -> float32 in [0, 1] on `device`."""
    return batch.to(device, non_blocking=True).float() / 255


@public
def stored_features(
    network: Network, pictures: Pictures, run: Run, precision: str = "float32", note: str = ""
) -> Stored:
    """What goes into the head, for every image: one pass through the frozen part, shared among the processes."""
    device = network.base.device
    with network.headless() as module, precision_of(precision, device):
        values = _shared(module, pictures, device, run, note or "features")
    return Stored(values, pictures.labels.to(device))


@public
def predict(
    network: Network, source: Pictures | Stored, run: Run, precision: str = "float32", note: str = ""
) -> Tensor:
    """Logits (N,K) float32 on the CPU, in eval mode; images are shared among the processes, features are not."""
    network.module.eval()
    with torch.no_grad(), precision_of(precision, network.base.device):
        if isinstance(source, Stored):
            logits: Tensor = network.head_module(source.values)
            return logits.float().cpu()
        return _shared(network.module, source, network.base.device, run, note or "predicting").cpu()


def _shared(module: nn.Module, pictures: Pictures, device: torch.device, run: Run, note: str) -> Tensor:
    """The module's output (N,C) float32 for all images on `device`; each process does every `size`-th batch."""
    rank, size = team()
    count = len(pictures.labels)
    each = DEFAULT_BATCH.get(device.type, DEFAULT_BATCH["cpu"])
    batches = [range(start, min(start + each, count)) for start in range(0, count, each)]
    mine = batches[rank::size]
    found = []
    for places, batch in zip(mine, pictures.read(mine), strict=True):
        found.append(_halving(module, batch, device))
        run.report(places.stop, count, f"{note}: {places.stop:,} of {count:,} images")
    if size == 1:
        return torch.cat(found)
    gathered: list[list[Tensor]] = [[] for _ in range(size)]
    dist.all_gather_object(gathered, [part.cpu() for part in found])
    parts = [gathered[index % size][index // size] for index in range(len(batches))]
    return torch.cat(parts).to(device)


def _halving(module: nn.Module, batch: Tensor, device: torch.device) -> Tensor:
    """One batch; in halves where it does not fit the device's memory."""
    try:
        out: Tensor = module(to_pixels(batch, device))
        return out.float()
    except RuntimeError as error:
        if len(batch) == 1 or not out_of_memory(error):
            raise
        empty_cache(device)
    half = len(batch) // 2
    return torch.cat((_halving(module, batch[:half], device), _halving(module, batch[half:], device)))
