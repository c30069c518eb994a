"""`methods`: the explanation methods with their parameters, and which of them apply to a classifier."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from xai.commands._options import add_json
from xai.commands.output import say, say_json, table
from xai.commands.spec import COMMANDS, Command
from xai.errors import InputError
from xai.params import default_of, parameters, value_text

if TYPE_CHECKING:
    from xai.explain.spec import MethodSpec
    from xai.models.classifier import Classifier


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `methods`."""
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="say for each method whether it applies to this classifier (its architecture alone; no weights needed)",
    )
    parser.add_argument("--layer", metavar="PATH", help="at this layer, for the methods that have one")
    add_json(parser, "the list")


def run(args: argparse.Namespace) -> int:
    """List the methods."""
    from xai.explain.spec import METHODS
    from xai.models import load_model

    if args.layer and not args.model:
        raise InputError("--layer says where a method is asked about; give --model too.")
    classifier = load_model(args.model, "random:0", "cpu") if args.model else None
    found = [describe(spec, classifier, args.layer) for spec in METHODS]
    if args.json:
        say_json(found)
        return 0
    header = ["NAME", "FAMILY", "TITLE", *(["APPLIES"] if classifier else ["PARAMETERS", "SOURCE"])]
    rows = []
    for method in found:
        row = [method["name"], method["family"], method["title"]]
        if classifier:
            row.append(f"{method['applies']['status']}: {method['applies']['sentence']}")
        else:
            words = " ".join(f"{name}={value_text(value)}" for name, value in method["params"].items())
            row += [words or "-", method["paper"]["link"]]
        rows.append(row)
    say(table(header, rows))
    return 0


def describe(spec: MethodSpec, classifier: Classifier | None, layer: str | None) -> dict[str, Any]:
    """Facts about a method, with its applicability to `classifier` where one is given."""
    from xai.explain import applicability

    facts: dict[str, Any] = {
        "name": spec.name,
        "title": spec.title,
        "family": spec.family,
        "summary": spec.summary,
        "signed": spec.signed,
        "per_class": spec.per_class,
        "caution": spec.caution,
        "params": {each.name: default_of(each) for each in parameters(spec.explainer)},
        "paper": {"citation": spec.source.citation, "link": spec.source.link},
    }
    if classifier is not None:
        coverage = applicability(classifier, spec.name, layer)
        facts["applies"] = {"status": coverage.status, "sentence": coverage.sentence}
    return facts


COMMANDS.add(Command("methods", "list the explanation methods and their parameters", 20, add_options, run))
