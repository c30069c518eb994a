"""`augment`: does synthetic data help a classifier, and what does it do to what the classifier looks at?"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai.commands._options import add_json, add_run
from xai.commands.output import Progress, say, say_json, table, tell_left_out
from xai.commands.spec import COMMANDS, Command

if TYPE_CHECKING:
    from xai.studies.augmentation.study import AugmentRequest

DESCRIPTION = """Classifiers with and without generated images, all by the same number of optimiser steps, tested on
real images that no generator has seen (checked). A ratio is chosen on validation images, and what it brings is told by
networks of other seeds than those that chose. The verdict has an interval over seeds and test images, and may be no.
Then: what do those networks look at?"""

EPILOG = """arms: real (also 0 % synthetic), traditional (colour jitter, flip, rotation, noise), synthetic (each of
--ratios), both, pretrained. On less than all real images (--percents): real, traditional, and synthetic at the ratio
that validation chose; all of them with --everywhere. A stopped or killed run goes on with --resume and repeats no
finished unit.

examples:
  python -m xai gan train sample:parts --size 64 --setting laptop --steps 5000 --out runs/parts
  python -m xai augment sample:parts --generator runs/parts --seeds 3 --out runs/augmentation
  python -m xai augment FOLDER --model vgg16 --generator-steps 20000 --size 128 --device cuda --out runs/vgg"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("data", metavar="DATA", help="a folder, a zip, or sample:NAME, with labels")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="real traditional synthetic both pretrained (all)")
    parser.add_argument(
        "--ratios",
        nargs="+",
        type=int,
        metavar="R",
        help="generated images in percent of the real ones (default: 20 50 75 100 125)",
    )
    parser.add_argument(
        "--percents", nargs="+", type=int, metavar="P", help="of the real training images (default: 100 50 25 10)"
    )
    parser.add_argument(
        "--everywhere", action="store_true", help="every arm and ratio on every share of the real images"
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="networks an arm, and again for the chosen ratio (default: 3)"
    )
    parser.add_argument("--model", default="simple_cnn", metavar="NAME", help="classifier (default: simple_cnn)")
    parser.add_argument(
        "--pretrained", default="", metavar="NAME", help="network of the arm pretrained (default: by --model)"
    )
    parser.add_argument(
        "--steps", type=int, default=600, metavar="N", help="optimiser steps of every arm (default: 600)"
    )
    parser.add_argument("--batch", type=int, default=32, metavar="B", help="images a step (default: 32)")
    parser.add_argument(
        "--lr", type=float, default=0.0, metavar="F", help="learning rate from scratch (default: by --model)"
    )
    parser.add_argument("--rounds", type=int, default=12, metavar="N", help="points of a curve (default: 12)")
    parser.add_argument(
        "--generator", nargs="+", default=[], metavar="G",
        help="run folders of `gan train` or saved generators: one with all classes, or one for each",
    )  # fmt: skip
    parser.add_argument(
        "--generator-steps", type=int, default=0, metavar="N", help="first train one (gan's laptop setting)"
    )
    parser.add_argument(
        "--size", type=int, default=64, metavar="PX", help="side of the images without --generator (64)"
    )
    parser.add_argument("--share", type=float, default=0.7, help="share to train on without --generator (default: 0.7)")
    parser.add_argument("--split-seed", type=int, default=0, help="seed of the shares (default: 0)")
    parser.add_argument(
        "--truncation", type=float, metavar="T", help="of what is generated, such as 0.7 (default: none)"
    )
    parser.add_argument("--method", default="gradcam", metavar="NAME", help="explains the networks (default: gradcam)")
    parser.add_argument(
        "--look", type=int, default=200, metavar="N", help="images of each kind explained (default: 200)"
    )
    parser.add_argument("--precision", default="float32", help="float32, bf16 or fp16 (default: float32)")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in RUN, or begin it")
    add_run(parser)
    add_json(parser, "the summary")


def run(args: argparse.Namespace) -> int:
    """Do it; 0 where there is a verdict."""
    from xai.studies.augmentation.study import augment
    from xai.types import Run

    with Progress() as progress:

        def show(done: int, total: int, note: str) -> None:
            progress(done / max(1, total), note.rsplit(", ", 1)[0] if note.endswith(" left") else note)

        words = [word for word in args.words if word != "--resume"]
        command = f"python -m xai {shlex.join(words)}"
        study = augment(
            _request(args), args.out, args.resume, args.device, Run(seed=args.seed, on_progress=show), command
        )
    tell_left_out(study.summary.get("left_out", []))
    if args.json:
        say_json(dict(study.summary))
    else:
        _show(study.summary, args.out)
    return 0


def _request(args: argparse.Namespace) -> AugmentRequest:
    from xai.studies.augmentation.study import AugmentRequest

    lists: dict[str, Any] = {
        name: tuple(given) for name in ("arms", "ratios", "percents") if (given := getattr(args, name)) is not None
    }
    return AugmentRequest(
        **lists,
        data=args.data,
        model=args.model,
        everywhere=args.everywhere,
        seeds=args.seeds,
        steps=args.steps,
        batch=args.batch,
        learning_rate=args.lr,
        rounds=args.rounds,
        generators=tuple(args.generator),
        generator_steps=args.generator_steps,
        size=args.size,
        share=args.share,
        split_seed=args.split_seed,
        truncation=args.truncation,
        pretrained=args.pretrained,
        method=args.method,
        look=args.look,
        precision=args.precision,
    )


def _show(summary: Mapping[str, Any], out: Path) -> None:
    """Tables for people."""
    from xai.studies.augmentation.study import undertrained_sentence

    rows = [
        (
            f"{row['percent']} %",
            row["title"],
            f"{row['real']} + {row['synthetic']}",
            f"{row['validation']:.1f}",
            _interval(row["test"]),
            _interval(row["difference"], "+") if row["difference"] else "",
        )
        for row in summary["arms"]
    ]
    head = ("real data", "arm", "images", "validation %", "test % [95 %]", "points against real only")
    say(table(head, rows))
    if weak := undertrained_sentence(summary, summary["arms"]):
        say(f"\n{weak}")
    say(f"\nverdict: {summary['verdict']}")
    for each in summary["verdicts"][1:]:
        say(f"  on {each['percent']} % of the real images: {each['sentence']}")
    if summary["finding"]:
        say(summary["finding"])
    say(f"\n{summary['protocol']['sentence']}")
    say(f"\nsummary and units: {out}")


def _interval(value: Mapping[str, Any], sign: str = "") -> str:
    mean = format(value["mean"], f"{sign}.1f")
    return mean if value["low"] is None else f"{mean} [{value['low']:.1f}, {value['high']:.1f}]"


COMMANDS.add(
    Command(
        name="augment",
        summary="does synthetic data help, and where does the network then look?",
        rank=70,
        add_options=add_options,
        run=run,
        description=DESCRIPTION,
        epilog=EPILOG,
    )
)
