"""The autograd graph between pixels and score: what lies on the way, and where no gradient gets through."""

from __future__ import annotations

import re
from collections import defaultdict

from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

STEPS = ("Sign", "Sgn", "Round", "Floor", "Ceil", "Trunc", "Zero")
"""Functions that are level almost everywhere: torch keeps them in the graph, and hands a gradient of zero back."""


def node_of(result: object) -> Node | None:
    """The node of the autograd graph that made a call's result, None where that does not depend on the pixels.

    A view that was rewritten in place belongs to the graph through its base.
    """
    tensors = result if isinstance(result, tuple | list) else (result,)
    made = next((each for each in tensors if isinstance(each, Tensor) and each.grad_fn is not None), None)
    if made is None:
        return None
    return made._base.grad_fn if made._base is not None and made._version else made.grad_fn


def step_of(node: Node) -> str:
    """The name of a function whose gradient is zero everywhere, such as "round"; "" for every other node."""
    name = re.sub(r"Backward\d*$", "", node.name())
    if name in STEPS:
        return name.lower()
    mode = getattr(node, "_saved_rounding_mode", None)
    return f"division rounded by {mode}" if mode else ""


def way_to(logits: Tensor, pixels: Tensor, over_steps: bool = True) -> set[Node]:
    """Every node of the autograd graph that the logits depend on and that depends on the pixels, a leaf.

    Parameters lead to none of their own. over_steps: False for the nodes that a gradient gets through, which have a way
    to the pixels without a step.
    """
    users: dict[Node, list[Node]] = defaultdict(list)
    seen: set[Node] = set()
    left = [node_of(logits)]
    while left:
        node = left.pop()
        if node is None or node in seen or (step_of(node) and not over_steps):
            continue
        seen.add(node)
        for before, _ in node.next_functions:
            if before is not None:
                users[before].append(node)
                left.append(before)
    found: set[Node] = set()
    back = [get_gradient_edge(pixels).node]
    while back:
        node = back.pop()
        if node in seen and node not in found:
            found.add(node)
            back += users[node]
    return found
