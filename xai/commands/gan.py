"""`gan`: train a generator, draw from it, walk between two samples, and judge it."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any, get_type_hints

from xai.commands import _gan_looking
from xai.commands._options import add_json, add_run
from xai.commands.output import Progress, say, say_json, tell, tell_left_out
from xai.commands.spec import COMMANDS, Command
from xai.errors import InputError

DESCRIPTION = """FastGAN (Liu et al. 2021) and DCGAN for few images. A generator sees a share of each class (70 % by
default, drawn by a seed); the rest is held out for judging it and for the augmentation study."""

EPILOG = """examples:
  python -m xai gan train sample:parts --size 64 --setting laptop --steps 5000 --out runs/parts
  python -m xai gan sample runs/parts --class nut --count 16 --out nuts.png
  python -m xai gan sample runs/parts --each 6 --out grid.png
  python -m xai gan interpolate runs/parts --class nut --from-seed 1 --to-seed 2 --out nut.gif
  python -m xai gan nearest runs/parts --count 12 --out nearest.png
  python -m xai gan quality runs/parts --out runs/parts/quality.json
The study's changes: --set activation=leaky --set lr_g=1e-4 --set lr_d=4e-4 --set attention=true; class by class with
--only CLASS; its baseline: --set architecture=dcgan.
Several processes or GPUs: torchrun --nproc-per-node=N -m xai gan train DATA ... --out RUN"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _train_options(actions.add_parser("train", help="train a generator in a run folder"))
    _sample_options(actions.add_parser("sample", help="draw samples by seed"))
    _interpolate_options(actions.add_parser("interpolate", help="walk from one sample to another, as a GIF"))
    _nearest_options(actions.add_parser("nearest", help="samples, each beside the nearest training image"))
    _reconstruct_options(actions.add_parser("reconstruct", help="what the discriminator can draw again"))
    _export_options(
        actions.add_parser("export", help="write a trained generator, and its discriminator, to files of their own")
    )
    _quality_options(actions.add_parser("quality", help="judge the samples against real images and noise"))


def _add_generator(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "generator", type=Path, metavar="GENERATOR", help="a training's run folder, or a .safetensors saved by one"
    )
    parser.add_argument("--truncation", type=float, metavar="T", help="cut the latent numbers off at -T and T")


def _sample_options(parser: argparse.ArgumentParser) -> None:
    _add_generator(parser)
    parser.add_argument("--class", dest="label", metavar="NAME", help="one class (default: all in turn)")
    counts = parser.add_mutually_exclusive_group()
    counts.add_argument("--count", type=int, default=80, metavar="N", help="samples, of N seeds (default: 80)")
    counts.add_argument("--each", type=int, metavar="N", help="N seeds, each in every class")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG", help="the grid's file")
    add_run(parser)
    add_json(parser, "what was drawn")


def _interpolate_options(parser: argparse.ArgumentParser) -> None:
    _add_generator(parser)
    parser.add_argument("--class", dest="label", metavar="NAME", help="the class (default: the first)")
    parser.add_argument("--from-seed", type=int, default=0, metavar="A", help="seed of the first sample (default: 0)")
    parser.add_argument("--to-seed", type=int, default=1, metavar="B", help="seed of the second sample (default: 1)")
    parser.add_argument("--frames", type=int, default=30, metavar="N", help="frames of one way (default: 30)")
    parser.add_argument("--out", type=Path, required=True, metavar="GIF", help="the animation's file")
    add_run(parser)
    add_json(parser, "what was drawn")


def _nearest_options(parser: argparse.ArgumentParser) -> None:
    _add_generator(parser)
    _add_data(parser)
    parser.add_argument("--count", type=int, default=12, metavar="N", help="samples, classes in turn (default: 12)")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG", help="the pairs' file")
    add_run(parser)
    add_json(parser, "keys and distances")


def _reconstruct_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("generator", type=Path, metavar="GENERATOR", help="a training's run folder or a .safetensors")
    _add_data(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="PNG", help="real images above their reconstructions"
    )
    add_run(parser)
    add_json(parser, "what was drawn")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", default="", metavar="DATA", help="where the training data is now (default: as trained)"
    )


def _export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("generator", type=Path, metavar="GENERATOR", help="a training's run folder or a .safetensors")
    parser.add_argument("--half", action="store_true", help="16-bit weights, half the size")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the .safetensors; a .json lies beside it"
    )
    add_json(parser, "files and their bytes")


def _quality_options(parser: argparse.ArgumentParser) -> None:
    _add_generator(parser)
    _add_data(parser)
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="samples (default: 1000)")
    parser.add_argument("--extractor", default="lite0", help="lite0, or inception where its weights are there")
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the judgement here")
    add_run(parser)
    add_json(parser, "the judgement")


def _train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="a folder, a zip, or sample:NAME")
    parser.add_argument(
        "--size", type=int, required=True, metavar="PX", help="side of the images: 32, 64, 128, 256, ..."
    )
    parser.add_argument("--steps", type=int, required=True, metavar="N", help="training steps")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in RUN, or begin it")
    parser.add_argument(
        "--setting",
        default="auto",
        help="paper (for a big GPU), laptop (what two cores can train), or auto: paper on CUDA, else laptop",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of xai.gan.settings.GanSettings, such as ngf=16",
    )
    parser.add_argument("--only", default="", metavar="CLASS", help="one class alone, as in the study")
    parser.add_argument("--no-classes", action="store_true", help="one network that knows no classes")
    parser.add_argument(
        "--share", type=float, default=0.7, help="share of each class that is trained on (default: 0.7)"
    )
    parser.add_argument("--split-seed", type=int, default=0, help="seed of that share (default: 0)")
    parser.add_argument("--precision", default="auto", help="auto (bf16 on a GPU that has it), float32 or bf16")
    parser.add_argument("--look", type=int, default=500, metavar="N", help="steps between two grids (default: 500)")
    add_run(parser)
    add_json(parser, "the summary")


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    return ACTIONS[args.action](args)


def _train(args: argparse.Namespace) -> int:
    from xai.runs.files import equal_command, started_together
    from xai.runs.folder import RunFolder
    from xai.studies.gan.training import GanRequest, train_gan
    from xai.types import Run

    request = GanRequest(
        args.data,
        _settings(args),
        args.steps,
        args.only,
        not args.no_classes,
        args.share,
        args.split_seed,
        args.precision,
        args.look,
    )
    alone = int(os.environ.get("RANK", "0")) == 0
    with Progress() as progress:

        def show(done: int, total: int, note: str) -> None:
            if alone:  # the bar has its own time left
                progress(done / max(1, total), note.rsplit(", ", 1)[0] if note.endswith(" left") else note)

        words = [word for word in args.words if word != "--resume"]
        command = equal_command(words, started_together())
        made = train_gan(
            request, args.out, args.resume, args.device, Run(seed=args.seed, on_progress=show), None, command
        )
    if made is None:
        return 0
    summary = RunFolder.open(args.out).summary()
    tell_left_out(summary.get("left_out", []))
    if summary["warning"]:
        tell(f"warning: {summary['warning']}")
    if args.json:
        say_json(summary)
        return 0
    look = summary["last_look"]
    say(f"{summary['steps']:,} steps of {request.settings.batch} images in {summary['seconds']:.0f} s")
    say(
        f"{look['kid_name']}: {look['kid']:.0f}; distance within a class {look['distance_ratio']:.2f} of the real one's"
    )
    if flat := summary["plateau"]:
        say(f"quality plateau: from step {flat['step']:,} on, after {flat['seconds']:.0f} s of training")
    if summary["batch_parts"] > 1:
        tell(f"memory was short: batches were learned in {summary['batch_parts']} parts")
    say(f"generator: {args.out / 'artifacts' / 'generator.safetensors'}")
    return 0


def _settings(args: argparse.Namespace) -> Any:
    """The named setting with what `--size` and `--set` change. Raises `InputError` for what does not fit."""
    from xai.gan.settings import LAPTOP, GanSettings
    from xai.params import parse_value, type_text
    from xai.settings import resolve_device

    named = {"paper": GanSettings(), "laptop": LAPTOP}
    if args.setting not in ("auto", *named):
        raise InputError(f"--setting {args.setting!r} is not known; use auto, {' or '.join(named)}.")
    chosen = args.setting
    if chosen == "auto":
        chosen = "paper" if resolve_device(args.device).type == "cuda" else "laptop"
        tell(f"setting: {chosen}")
    hints = get_type_hints(GanSettings)
    changes: dict[str, Any] = {"size": args.size}
    for word in args.set:
        name, equals, text = word.partition("=")
        if name == "size":
            raise InputError(f"--set {word!r} contradicts --size {args.size}; give the side there alone.")
        if not equals or name not in hints:
            raise InputError(f"--set {word!r} is not NAME=VALUE with one of {', '.join(hints)}.")
        try:
            changes[name] = parse_value(hints[name], text)
        except ValueError:
            raise InputError(f"--set {word!r} does not fit: {name} is {type_text(hints[name])}.") from None
    if "decoder_side" not in changes and named[chosen].decoder_side > args.size // 2:
        changes["decoder_side"] = 0
    return dataclasses.replace(named[chosen], **changes)


ACTIONS = {
    "train": _train,
    "sample": _gan_looking.sample,
    "interpolate": _gan_looking.interpolate,
    "nearest": _gan_looking.nearest,
    "reconstruct": _gan_looking.reconstruct,
    "export": _gan_looking.export,
    "quality": _gan_looking.quality,
}

COMMANDS.add(
    Command(
        name="gan",
        summary="train a generator, draw from it, walk between samples, judge it",
        rank=60,
        add_options=add_options,
        run=run,
        description=DESCRIPTION,
        epilog=EPILOG,
    )
)
