"""`explain`: pictures, raw maps, a manifest and a report for each image, classifier and method."""

from __future__ import annotations

import argparse
import datetime
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai.commands._images import HELP, Picture, find_pictures
from xai.commands._interrupt import interruptible
from xai.commands._options import add_json, add_models, add_run, load_models, with_outputs
from xai.commands._params import parse_params
from xai.commands.output import Progress, say, say_json, tell
from xai.commands.spec import COMMANDS, Command
from xai.errors import InputError, LayerError
from xai.words import counted

if TYPE_CHECKING:
    from xai.bundles.explanations import Bad, Subject
    from xai.models.classifier import Classifier

DESCRIPTION = """Explain images. For each image, classifier and method: an overlay, the map, and the raw values (.npy).
For all of them: manifest.json (what made them, predictions, hashes, the equal commands) and report.html, which opens
by itself."""

EPILOG = """A bad file does not stop the rest; bad files are listed on stderr at the end, and in the manifest.
exit codes:
  0    every image is explained; a method that does not apply to a network is listed on stderr
  1    some images could not be explained, or a method failed; all others are written
  2    nothing could be explained, or the request was wrong
  130  stopped by Ctrl-C; what was finished stays, with a manifest that says so

examples:
  python -m xai explain cat.jpg --method gradcam lrp --out cat
  python -m xai explain 'photos/**/*.png' --model efficientnet_lite0 --target 281 --json
  python -m xai explain sample:chelsea --method rise --param rise.masks=500"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `explain`."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help=HELP)
    add_models(parser)
    parser.add_argument(
        "--method",
        nargs="+",
        default=["gradcam"],
        metavar="NAME",
        help="methods (default: gradcam); `python -m xai methods` lists them with their parameters",
    )
    parser.add_argument(
        "--target", default="top1", help='class to explain: index, name, or "top1" to "topK" (default: top1)'
    )
    parser.add_argument(
        "--layer", metavar="PATH", help="layer for the methods that have one (default: the classifier's)"
    )
    parser.add_argument(
        "--view",
        choices=("crop", "whole"),
        default="crop",
        help="what the network sees: the centre crop, or the whole image resized (default: crop)",
    )
    parser.add_argument(
        "--param",
        nargs="+",
        action="extend",
        default=[],
        metavar="METHOD.NAME=VALUE",
        help="a method's own parameter, such as rise.masks=500",
    )
    add_run(parser)
    parser.add_argument(
        "--colormap",
        default="auto",
        metavar="NAME",
        help="auto (jet), turbo, viridis, magma, inferno, cividis or gray; signed maps are always bluered",
    )
    parser.add_argument("--opacity", type=float, default=0.4, help="share of the map in overlays (default: 0.4)")
    parser.add_argument("--shared-scale", action="store_true", help="one scale for the maps in one unit on an image")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("explanations"),
        metavar="DIR",
        help="folder to write to (default: explanations)",
    )
    parser.add_argument("--zip", action="store_true", help="also write DIR/bundle.zip with all files")
    add_json(parser, "the manifest")


@dataclass(frozen=True, eq=False)
class Job:
    """The checked request, and how to report on it."""

    classifiers: Sequence[Classifier]
    methods: Sequence[str]
    params: dict[str, dict[str, Any]]
    args: argparse.Namespace
    cancelled: Callable[[], bool]
    progress: Progress


def run(args: argparse.Namespace) -> int:
    """Explain, write, and list what could not be explained."""
    pictures, unknown = find_pictures(args.images, skip=args.out)
    if not pictures:
        raise InputError(" ".join(sentence for _, sentence in unknown))
    from xai.bundles.explanations import (  # from here on PyTorch is loaded
        Bad,
        Bundle,
        Look,
        write_explanations,
        zip_folder,
    )
    from xai.studies.comparison import check_request

    look = Look(args.colormap, args.opacity, args.shared_scale)
    methods = list(dict.fromkeys(args.method))
    params = parse_params(args.param, methods)
    check_request(methods, args.layer, params)
    models = load_models(args.model, with_outputs(args.weights, args.output), args.device)
    check_for_classifiers([classifier for classifier, _ in models], args.target, args.layer)
    bundle = Bundle(
        look=look,
        command=shlex.join(["python", "-m", "xai", *args.words]),
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        weights={classifier.fingerprint: text for classifier, text in models},
        bad=[Bad(*each) for each in unknown],
    )
    with interruptible() as cancelled, Progress() as progress:
        job = Job([classifier for classifier, _ in models], methods, params, args, cancelled, progress)
        manifest = write_explanations(args.out, subjects(pictures, job), bundle)
        if args.zip:
            zip_folder(args.out, manifest)
    return report(manifest, args)


def check_for_classifiers(classifiers: Sequence[Classifier], target: str, layer: str | None) -> None:
    """Raise `InputError` where no classifier has the layer or the class; where some have, the others' tiles say so."""
    import torch

    from xai.models.classes import target_classes

    def one_of_them(check: Callable[[Classifier], object]) -> None:
        errors = []
        for classifier in classifiers:
            try:
                check(classifier)
            except (InputError, LayerError) as error:
                errors.append(error)
        if len(errors) == len(classifiers):
            raise errors[0]

    if layer is not None:
        one_of_them(lambda classifier: classifier.layer(layer))
    one_of_them(lambda classifier: target_classes(classifier, target, torch.zeros(1, len(classifier.labels))))


def subjects(pictures: Sequence[Picture], job: Job) -> Iterator[Subject | Bad]:
    """Each image with its tiles, or why it has none, as they are finished."""
    from xai.bundles.explanations import Bad, Subject
    from xai.studies.comparison import each_tile
    from xai.types import Run

    for number, picture in enumerate(pictures):

        def on_progress(done: int, total: int, note: str, number: int = number, picture: Picture = picture) -> None:
            job.progress((number + done / max(total, 1)) / len(pictures), f"{picture.name} {note}")

        run = Run(seed=job.args.seed, on_progress=on_progress, cancelled=job.cancelled)
        run.report(0, 1)
        try:
            image, digest = picture.open()
            tiles = tuple(
                each_tile(
                    job.classifiers,
                    image,
                    job.methods,
                    targets=job.args.target,
                    layer=job.args.layer,
                    run=run,
                    params=job.params,
                    view=job.args.view,
                )
            )
        except InputError as error:
            yield Bad(picture.source, str(error))
            continue
        notes = tuple(image.info.get("notes", ()))
        yield Subject(picture.name, picture.source, digest, image.size, tiles, job.args.view, notes=notes)


def report(manifest: dict[str, Any], args: argparse.Namespace) -> int:
    """Say what was written and what was not; returns the exit code."""
    tiles = [
        (image, model, tile)
        for image in manifest["images"]
        for model in image["models"]
        for tile in model["explanations"]
    ]
    for image, model, tile in tiles:
        where = f"{image['source']}, {tile['title']} on {model['title']}"
        if tile["status"] != "explained":
            tell(f"{tile['status']}: {where}: {tile['reason']}")
        elif said := " ".join(filter(None, (tile["facts"].get(name) for name in ("blank", "note")))):
            tell(f"note: {where}: {said}")
    if manifest["bad"]:
        tell(
            f"{len(manifest['bad'])} of "
            f"{counted(len(manifest['bad']) + len(manifest['images']), 'image')} could not be explained:"
        )
        for each in manifest["bad"]:
            tell(f"  {each['source']}: {each['reason']}")
    states = {tile["status"] for _, _, tile in tiles}
    if args.json:
        say_json(manifest)
    elif "explained" in states:
        for image in manifest["images"]:
            for model in image["models"]:
                if model["predictions"]:
                    best = model["predictions"][0]
                    said = f"{model['title']} says {best['name']} ({100 * best['probability']:.1f} %)"
                    untrained = " (random weights: this means nothing)" if model["weights"].startswith("random") else ""
                    say(f"{image['source']}: {said}{untrained}")
        say(f"Wrote {len(manifest['files']) + 1 + args.zip} files to {args.out}; open {args.out / 'report.html'}")
    if "failed" in states or (manifest["bad"] and "explained" in states):
        return 1
    return 0 if "explained" in states else 2


COMMANDS.add(
    Command("explain", "explain images with every method asked for", 30, add_options, run, DESCRIPTION, EPILOG)
)
