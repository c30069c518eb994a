"""`models`: the classifiers that there are, and which weights are on this machine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from xai.commands._options import add_json
from xai.commands.output import say, say_json, table
from xai.commands.spec import COMMANDS, Command

if TYPE_CHECKING:
    from xai.models.spec import ModelSpec


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `models`."""
    add_json(parser, "the list")


def run(args: argparse.Namespace) -> int:
    """List the classifiers."""
    from xai.models.exported import list_networks
    from xai.models.spec import MODELS

    found = [describe(spec) for spec in MODELS]
    if args.json:
        say_json(found)
        return 0
    rows = [[m["name"], m["title"], f"{m['input'][0]} x {m['input'][1]}", m["layer"], m["imagenet"]] for m in found]
    say(table(["NAME", "TITLE", "INPUT", "DEFAULT LAYER", "IMAGENET WEIGHTS"], rows))
    trained = [[f"run:{each.id}", each.title, ", ".join(each.labels[:6])] for each in list_networks()]
    if trained:
        say("\n" + table(["TRAINED", "TITLE", "CLASSES"], trained))
    say("\nAny other torchvision classifier works by its name. --weights also takes random:SEED, file:PATH and run:ID.")
    return 0


def describe(spec: ModelSpec) -> dict[str, Any]:
    """Facts about a classifier, without loading it."""
    return {
        "name": spec.name,
        "title": spec.title,
        "input": [spec.preset.crop, spec.preset.crop],
        "layer": spec.default_layer,
        "imagenet": availability(spec),
        "file": spec.weights_file,
        "paper": {"citation": spec.source.citation, "link": spec.source.link},
        "notes": list(spec.notes),
    }


def availability(spec: ModelSpec) -> str:
    """Where the ImageNet weights are: "embedded", "on disk", "to download" (a network is needed), or "none"."""
    from xai.settings import weights_dir

    if spec.embedded:
        return "embedded"
    if not spec.pretrained:
        return "none"
    return "on disk" if (weights_dir() / spec.weights_file).is_file() else "to download"


COMMANDS.add(Command("models", "list the classifiers and where their weights are", 10, add_options, run))
