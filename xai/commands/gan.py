"""`gan`: train a generator, draw from it, walk between two samples, and judge it."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any, get_type_hints

from xai.commands._options import add_json, add_run
from xai.commands._output import Progress, say, say_json, tell
from xai.commands._spec import COMMANDS, Command
from xai.errors import InputError

DESCRIPTION = """FastGAN (Liu et al. 2021) and DCGAN for few images. A generator sees a share of each class (70 % by
default, drawn by a seed); the rest is held out for judging it and for the augmentation study."""

EPILOG = """examples:
  python -m xai gan train sample:parts --size 64 --setting laptop --steps 5000 --out runs/parts
  python -m xai gan sample runs/parts --class nut --count 16 --out nuts.png
  python -m xai gan interpolate runs/parts --class nut --from-seed 1 --to-seed 2 --out nut.gif
  python -m xai gan quality runs/parts --out runs/parts/quality.json
Several processes or GPUs: torchrun --nproc-per-node=N -m xai gan train DATA ... --out RUN"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _train_options(actions.add_parser("train", help="train a generator in a run folder"))


def _train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="a folder, a zip, or sample:NAME")
    parser.add_argument(
        "--size", type=int, required=True, metavar="PX", help="side of the images: 32, 64, 128, 256, ..."
    )
    parser.add_argument("--steps", type=int, required=True, metavar="N", help="training steps")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in RUN, or begin it")
    parser.add_argument(
        "--setting", default="paper", help="paper, or laptop: what two cores can train (default: paper)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting, such as ngf=16; see --list-settings",
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
    from xai.runs import RunFolder
    from xai.studies.gan_training import GanRequest, equal_command, train_gan
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
        command = equal_command(words)
        made = train_gan(
            request, args.out, args.resume, args.device, Run(seed=args.seed, on_progress=show), None, command
        )
    if made is None:
        return 0
    summary = RunFolder.open(args.out).summary()
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
    say(f"generator: {args.out / 'artifacts' / 'generator.safetensors'}")
    return 0


def _settings(args: argparse.Namespace) -> Any:
    """The named setting with what `--size` and `--set` change. Raises `InputError` for what does not fit."""
    from xai.gan.settings import LAPTOP, GanSettings
    from xai.params import parse_value, type_text

    named = {"paper": GanSettings(), "laptop": LAPTOP}
    if args.setting not in named:
        raise InputError(f"--setting {args.setting!r} is not known; use {' or '.join(named)}.")
    hints = get_type_hints(GanSettings)
    changes: dict[str, Any] = {"size": args.size}
    for word in args.set:
        name, equals, text = word.partition("=")
        if not equals or name not in hints:
            raise InputError(f"--set {word!r} is not NAME=VALUE with one of {', '.join(hints)}.")
        try:
            changes[name] = parse_value(hints[name], text)
        except ValueError:
            raise InputError(f"--set {word!r} does not fit: {name} is {type_text(hints[name])}.") from None
    if "decoder_side" not in changes and named[args.setting].decoder_side > args.size // 2:
        changes["decoder_side"] = 0
    return dataclasses.replace(named[args.setting], **changes)


ACTIONS = {"train": _train}

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
