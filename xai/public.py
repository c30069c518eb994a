"""What every public call does first: arguments are compared with their types, and new tensors are ordinary ones."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar, get_type_hints

from xai.params import advice_for, checked_value

P = ParamSpec("P")
R = TypeVar("R")


def public(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, with arguments that have the types of its hints, in torch's usual modes, whatever the caller's are.

    Raises `InputError` with one sentence for an argument of another type.
    """
    signature = inspect.signature(function)
    kinds = {name: each.kind for name, each in signature.parameters.items()}
    known: dict[str, Any] = {}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not known:
            known.update(get_type_hints(function))
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{function.__name__}(): {error}.") from None
        for name, value in bound.arguments.items():
            if name in known and kinds[name] not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                bound.arguments[name] = checked_value(name, known[name], value, advice_for(name, known[name]))
        import torch  # not before it is needed: `python -m xai --help` does not wait for it

        with ordinary(), torch.enable_grad():
            return function(*bound.args, **bound.kwargs)

    return call


def reveal(package: str) -> None:
    """Give each function of `package` that is called as its module the module's public names as attributes.

    `import xai.attacks.pgd as m` gives the function, because Python asks the package first; `m.PGD` works all the same.
    """
    for name, value in list(vars(sys.modules[package]).items()):
        module = sys.modules.get(f"{package}.{name}")
        if module is not None and inspect.isfunction(value):
            inner = {key: each for key, each in vars(module).items() if not key.startswith("_")}
            vars(value).update({key: each for key, each in inner.items() if key not in vars(value)})


@contextmanager
def ordinary() -> Iterator[None]:
    """Within it new tensors are ordinary ones on the CPU unless said otherwise, whatever mode the caller is in.

    Under `torch.inference_mode()` a network that is loaded or an input that is kept would be of no use to any later
    gradient, and no gradient could be taken; under a default device, random numbers could not be drawn as they are
    elsewhere. Whether gradients are recorded stays as the caller has it.
    """
    import torch

    with ExitStack() as modes:
        if torch.is_inference_mode_enabled():
            modes.enter_context(torch.inference_mode(False))
            modes.enter_context(torch.no_grad())  # leaving inference mode had switched gradients on
        if torch.get_default_device().type != "cpu":
            modes.enter_context(torch.device("cpu"))
        yield
