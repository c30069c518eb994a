"""Options that several commands share, each defined once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xai.errors import InputError

if TYPE_CHECKING:
    from xai.models.classifier import Classifier


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """`--json`: the result for machines on stdout."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON on stdout")


def add_run(parser: argparse.ArgumentParser) -> None:
    """`--seed` and `--device`."""
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")


def add_models(parser: argparse.ArgumentParser) -> None:
    """`--model`, `--weights` and `--output`; read them with `with_outputs` and `load_models`."""
    parser.add_argument(
        "--model",
        nargs="+",
        default=["efficientnet_lite0"],
        metavar="NAME",
        help="classifiers (default: efficientnet_lite0); `python -m xai models` lists them; run:ID is a trained one",
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        default=["imagenet"],
        metavar="W",
        help="imagenet, random:SEED, file:PATH or run:ID; one for all classifiers or one for each (default: imagenet)",
    )
    add_output(parser)


def add_output(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--output`; read it with `with_outputs`."""
    parser.add_argument(
        "--output",
        metavar="O",
        help="what the outputs of weights file:PATH mean: softmax (one of the classes) or sigmoid (each class for "
        "itself); a file with one output is always a sigmoid of no and yes; file:PATH?output=sigmoid says the same",
    )


def with_outputs(weights: Sequence[str], output: str | None) -> list[str]:
    """The texts of `--weights` with what `--output` says; raises `InputError` where no weights are of a file."""
    if output is None:
        return list(weights)
    from xai.models.store import with_output

    if not any(text.startswith("file:") for text in weights):
        raise InputError("--output is for --weights file:PATH; other weights know what their outputs mean.")
    return [with_output(text, output) if text.startswith("file:") else text for text in weights]


def paired(names: Sequence[str], weights: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(name, weights) of each classifier asked for, once. Raises `InputError` where their numbers do not fit."""
    if len(weights) not in (1, len(names)):
        raise InputError(
            f"--weights has {len(weights)} values for {len(names)} classifiers; give one, or one for each."
        )
    each = list(weights) * len(names) if len(weights) == 1 else list(weights)
    return tuple(dict.fromkeys(zip(names, each, strict=True)))


def load_models(names: Sequence[str], weights: Sequence[str], device: str) -> list[tuple[Classifier, str]]:
    """Each classifier asked for, once, with the text of its `--weights`."""
    from xai.models import load_model

    pairs = paired(names, weights)
    # A network of a run is named by its run, also where the command is written down again.
    return [(load_model(name, text, device), name if name.startswith("run:") else text) for name, text in pairs]
