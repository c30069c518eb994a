"""Networks with their weights: from a state dict without initialising first, or untrained and still fit to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import functional as TF

from xai.devices import memory_format
from xai.errors import WeightsError
from xai.images.decode import load_image
from xai.models.classifier import InputModel
from xai.models.heads import attach
from xai.models.layers import find_head
from xai.models.spec import ModelSpec
from xai.models.weights import shape_report, without_prefix
from xai.settings import ASSETS

_PROBE = 1013
"""A number of classes that no inner layer of an architecture has as its width."""

# Left by torch.compile, by Lightning, and by saving a whole classifier with its normalisation.
_WRAPPERS = ("_orig_mod.", "net.", "model.")

CALIBRATION = ("chelsea.png", "coffee.png", "flower.jpg", "rocket.jpg")
"""Shipped photographs on which untrained networks measure their batch norm statistics."""


def classes_in(spec: ModelSpec, state: Mapping[str, Tensor]) -> int | None:
    """How many classes a state dict was trained for: the rows of the architecture's last linear layer in it.

    None where the file has no such tensor; `loaded_network` then reports what is missing.
    """
    net = _skeleton(spec, _PROBE)
    weight = fitted(spec, net, state).get(f"{find_head(net, _PROBE)}.weight")
    return int(weight.shape[0]) if weight is not None and weight.dim() > 0 else None


def fitted(spec: ModelSpec, net: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """`state` with the names that `net` has: wrappers taken off, then the architecture's own renames."""
    own = tuple(net.state_dict())
    foreign = [prefix for prefix in _WRAPPERS if not any(key.startswith(prefix) for key in own)]
    return spec.adapt(without_prefix(state, foreign))


def not_finite(state: Mapping[str, Tensor]) -> str:
    """Name of the first tensor that holds infinities or no numbers; "" where all are finite."""
    for key, value in state.items():
        # A sum is quick to take and finite where all values are, unless it overflows.
        if not bool(torch.isfinite(value.sum())) and not bool(torch.isfinite(value).all()):
            return key
    return ""


def loaded_network(spec: ModelSpec, state: Mapping[str, Tensor], classes: int, weights: str) -> nn.Module:
    """The network with the tensors of `state`, as float32.

    Raises `WeightsError` that counts and names what differs, or names the tensor that holds infinities or no numbers.
    """
    net = _skeleton(spec, classes)
    return _filled(net, fitted(spec, net, state), weights, spec.title, lambda: _initialised(spec, 0, classes))


def headed_network(spec: ModelSpec, head: str, classes: int, state: Mapping[str, Tensor], source: str) -> nn.Module:
    """The network under a head of `xai.models.heads` with the tensors of `state`; raises `WeightsError` as above."""

    def under(net: nn.Module) -> nn.Module:
        attach(net, _PROBE, head, classes)
        return net

    named = f"{spec.title} with head {head}"
    return _filled(under(_skeleton(spec, _PROBE)), state, source, named, lambda: under(_initialised(spec, 0, _PROBE)))


def _filled(
    net: nn.Module, state: Mapping[str, Tensor], source: str, named: str, anew: Callable[[], nn.Module]
) -> nn.Module:
    """`net`, or one made `anew`, with the tensors of `state`, as float32.

    Names and shapes are compared first: what a file holds beyond the network is not looked at. source, named: what
    messages call the file and the network.
    """
    report = shape_report(net, state)
    if report:
        raise WeightsError(f"{source} does not fit {named}: {report}")
    bad = not_finite(state)
    if bad:
        raise WeightsError(f"{source} holds values that are not finite numbers, in {bad}; it cannot be used.")
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    net.load_state_dict(state, assign=any(p.is_meta for p in net.parameters()))
    if any(t.is_meta for t in (*net.parameters(), *net.buffers())):  # something that no state dict holds
        net = anew()
        net.load_state_dict(state)
    return net


def untrained_network(spec: ModelSpec, seed: int, classes: int) -> nn.Module:
    """The network as its architecture initialises it, the same for the same seed; the global generator stays as it was.

    A head that starts at zero (ViT), which would give the same logits for every image, is drawn from N(0, 1 / inputs).
    """
    net = _initialised(spec, seed, classes)
    head = find_head(net, classes)
    weight = net.get_submodule(head).weight if head else None
    if isinstance(weight, Tensor) and not bool(weight.any()):
        generator = torch.Generator("cpu").manual_seed(seed)
        with torch.no_grad():
            weight.normal_(0.0, weight[0].numel() ** -0.5, generator=generator)
    return net


def calibrate(net: nn.Module, spec: ModelSpec) -> None:
    """Set the batch norms' statistics of an untrained network to those of four shipped photographs, rounded to 8 bits.

    With the initial 0 and 1, activations vanish or explode with depth (logits of 1e-14 in EfficientNet-B0, of 1e11 in
    Inception v3), and every map is blank or not finite. The rounding hides most of what threads and machines differ in.
    """
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not norms:
        return
    crop = [spec.preset.crop, spec.preset.crop]
    images = [TF.to_tensor(TF.resize(load_image(ASSETS / "samples" / name), crop)) for name in CALIBRATION]
    momenta = [layer.momentum for layer in norms]
    module = (
        InputModel(net, spec.preset.mean, spec.preset.std).eval().to(memory_format=memory_format(torch.device("cpu")))
    )
    for layer in norms:
        layer.train()
        layer.momentum = 1.0  # the statistics of this batch alone
    with torch.no_grad():
        module(torch.stack(images))
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.eval()
        layer.momentum = momentum
        for value in (layer.running_mean, layer.running_var):
            if value is not None:
                value.copy_(value.to(torch.bfloat16))


def _skeleton(spec: ModelSpec, classes: int) -> nn.Module:
    """The network without values where its builder allows that: nothing is initialised that is about to be replaced."""
    try:
        with torch.device("meta"):
            return spec.build(num_classes=classes)
    except (NotImplementedError, RuntimeError):  # a builder that computes with tensors (RegNet)
        return _initialised(spec, 0, classes)


def _initialised(spec: ModelSpec, seed: int, classes: int) -> nn.Module:
    with _DrawnFrom(torch.Generator("cpu").manual_seed(seed)):
        return spec.build(num_classes=classes)


class _DrawnFrom(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Within it all that this thread draws comes from a generator of its own.

    Architectures initialise themselves from torch's global one, which is every thread's: what another draws meanwhile
    would make it another network. The numbers are those of the global one after `manual_seed`.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = generator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, with the generator if it draws."""
        drawn = {"generator": self.generator} if torch.Tag.nondeterministic_seeded in func.tags else {}
        return func(*args, **{**(kwargs or {}), **drawn})
