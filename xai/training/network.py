"""A network in training: an architecture of the registry with a new head, and which of its parts learn."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from xai.devices import memory_format
from xai.errors import InputError, WeightsError
from xai.models.classifier import Classifier, InputModel
from xai.models.heads import attach
from xai.models.layers import trace
from xai.models.store import digest, load_model
from xai.outputs import Output
from xai.public import public
from xai.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Network:
    """A classifier's network with a head for new classes. `base` is the classifier that it began as.

    module takes RGB in [0, 1], (N,3,H,W), and gives logits (N,K), for study 4's head with two classes too
    (`xai.models.heads.SigmoidPair`). head: the path of the head in `module.net`. trainable: as in the recipe.
    parts: paths of what learns.
    """

    base: Classifier
    module: InputModel
    head: str
    head_name: str
    labels: tuple[str, ...]
    trainable: str
    parts: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(each.numel() for each in self.module.parameters())

    @property
    def trained_parameters(self) -> int:
        """How many of them learn."""
        return sum(each.numel() for each in self.module.parameters() if each.requires_grad)

    @property
    def head_module(self) -> nn.Module:
        """The head."""
        return self.module.net.get_submodule(self.head)

    def learning(self) -> None:
        """Put what learns in training mode; the frozen part stays in eval mode, its batch norms and dropouts too."""
        self.module.eval()
        if self.trainable == "all":
            self.module.train()
        for path in self.parts:
            self.module.net.get_submodule(path).train()

    @contextmanager
    def headless(self) -> Iterator[InputModel]:
        """The module giving what goes into its head, (N,C), in eval mode, without gradients."""
        head = self.head_module
        self.module.eval()
        self.module.net.set_submodule(self.head, nn.Identity())
        try:
            with torch.no_grad():
                yield self.module
        finally:
            self.module.net.set_submodule(self.head, head)

    def state(self) -> dict[str, Tensor]:
        """Copies of every tensor that training changes: learning parameters, and the buffers beside them."""
        own = self.module.net.state_dict()
        if self.trainable == "all":
            return {name: value.detach().cpu().clone() for name, value in own.items()}
        parts = tuple(f"{path}." for path in self.parts)
        return {name: value.detach().cpu().clone() for name, value in own.items() if name.startswith(parts)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave; raises `WeightsError` where it is another network's."""
        own = self.module.net.state_dict()
        wrong = [name for name, value in state.items() if name not in own or own[name].shape != value.shape]
        if wrong or not state:
            raise WeightsError(
                f"the checkpoint does not fit {self.base.title} with head {self.head_name} "
                f"({wrong[0] if wrong else 'it is empty'}); begin anew in another folder (--out)."
            )
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)

    def classifier(self, weights: str = "run:", notes: Sequence[str] = ()) -> Classifier:
        """What was trained, as everybody uses it: a frozen copy in eval mode, with labels and the base's preset."""
        module = copy.deepcopy(self.module).eval().requires_grad_(False)
        return replace(
            self.base,
            module=module,
            labels=self.labels,
            fingerprint=digest(f"{self.base.name}+{self.head_name}", module.net),
            device=next(module.parameters()).device,
            weights=weights,
            notes=(*self.base.notes, *notes),
            _lock=type(self.base._lock)(),
            _memo={},
        )


@public
def build_network(
    model: str, weights: str, labels: Sequence[str], recipe: Recipe, device: str | torch.device = "cpu"
) -> Network:
    """The classifier `model` with `weights`, cut and given the recipe's head for `labels`: see `network_of`."""
    if weights.startswith("run:") or model.startswith("run:"):
        raise InputError("a run's network cannot be trained on; begin with imagenet, random:SEED or file:PATH weights.")
    return network_of(load_model(model, weights, device), labels, recipe)


@public
def network_of(base: Classifier, labels: Sequence[str], recipe: Recipe) -> Network:
    """A copy of `base` with the recipe's head for `labels`, whose weights the recipe's seed draws, ready to learn.

    Raises what `xai.models.heads.attach` raises.
    """
    with base.lease() as module:
        own = copy.deepcopy(module)
    own.cpu()
    generator = torch.Generator("cpu").manual_seed(recipe.seed)
    head = attach(own.net, own.outputs(len(base.labels)), recipe.head, len(labels), generator)
    own.output, own.single = Output.SOFTMAX, False  # of the new head
    own.to(base.device).to(memory_format=memory_format(base.device))
    parts = learning_parts(base, own, head, recipe.trainable)
    own.requires_grad_(recipe.trainable == "all")
    for path in parts:
        own.net.get_submodule(path).requires_grad_(True)
    return Network(base, own, head, recipe.head, tuple(labels), recipe.trainable, parts)


def learning_parts(base: Classifier, module: InputModel, head: str, trainable: str) -> tuple[str, ...]:
    """Paths of the parts that learn, apart from "all": the head, for last_block what comes before it too.

    The last block is every layer defined after the last one with parameters whose maps are larger than the default
    layer's (VGG: block 5; DenseNet: denseblock4; ResNet: layer4 from its stride on); where none are larger (ViT keeps
    its resolution), from the block that holds the default layer on.
    """
    if trainable != "last_block":
        return (head,)
    seen = {each.info.path: each.info.size for each in trace(module, module.net, base.input_size, base.device)}
    small = seen.get(base.default_layer)
    own = {path: any(True for _ in layer.parameters(recurse=False)) for path, layer in module.net.named_modules()}
    units = [path for path in own if path and (own[path] or not any(module.net.get_submodule(path).children()))]
    begin = 0
    if small is not None:
        larger = [place for place, path in enumerate(units) if own[path] and seen.get(path, (0, 0)) > small]
        begin = larger[-1] + 1 if larger else 0
    if begin == 0:
        block = base.default_layer.rpartition(".")[0]
        begin = next((place for place, path in enumerate(units) if block and path.startswith(f"{block}.")), 0)
    return (*(path for path in units[begin:] if not f"{path}.".startswith(f"{head}.")), head)
