"""`train`: a network on a person's own images, in a run folder; and the trained network as one file."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai.commands._options import add_json, add_run
from xai.commands.output import Progress, say, say_json, table, tell_left_out
from xai.commands.spec import COMMANDS, Command
from xai.errors import InputError
from xai.params import check_between
from xai.words import counted

if TYPE_CHECKING:
    from xai.studies.transfer.request import TransferRequest

MOST_THREADS = 256

DESCRIPTION = """Train a network on labelled images: an architecture with its weights, a new head, and as much of the
rest as wanted. One line an epoch in RUN/metrics.jsonl, the validation images in RUN/predictions.parquet, figures with
their protocol in RUN/summary.json, the network in RUN/artifacts. It is then a classifier of every command and page:
--model run:ID."""

EPILOG = """DATA is a folder with a folder for each class, a zip of such, or sample:NAME (brain, characters). Folders
called train, validation (val) and test above the class folders are used as they are. Copies of one picture, also saved
again, rescaled or cut a little, stay on one side of the split, and the accuracy is told with and without them. With a
frozen network and no augmentation its features are computed once, and every epoch costs the head alone.

A stopped or killed run goes on with --resume and ends with the same weights; at most one epoch is lost. A finished run
learns on with --resume and a higher --epochs; with --schedule cosine or step its learning rate then rises again, to
what the longer schedule has there. Of a run with folds, RUN is the network of fold 1, RUN/fold-2 that of fold 2, and so
on. On several processes or GPUs:
  torchrun --nproc-per-node=N -m xai train DATA ... --out RUN

examples:
  python -m xai train sample:brain --head study4 --epochs 30 --out runs/brain
  python -m xai train brain_tumor_dataset --model vgg19 --head study4 --view whole --epochs 30 --out runs/mri
  python -m xai train characters.zip --model resnet50 --folds 5 --trainable last_block --augment flip,crop --out runs/c
  python -m xai train mri --head study4 --groups 'patient(\\d+)' --folds 5 --out runs/patients
  python -m xai train sample:brain --head study4 --epochs 60 --out runs/brain --resume     # 30 more
  python -m xai train --export runs/brain --out brain.zip
  python -m xai explain scan.png --model run:brain.zip"""

EPOCHS = 30


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("data", metavar="DATA", nargs="?", help="a folder, a zip, or sample:NAME")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run, or FILE.zip")
    parser.add_argument("--export", metavar="RUN", help="train nothing: pack the network of RUN into --out FILE.zip")
    parser.add_argument("--model", default="efficientnet_lite0", metavar="NAME", help="default: efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet", metavar="W", help="imagenet, random:SEED or file:PATH")
    parser.add_argument("--head", default="linear", help="linear or study4 (default: linear)")
    parser.add_argument("--trainable", default="frozen", help="frozen, last_block or all (default: frozen)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, metavar="N", help=f"in all (default: {EPOCHS})")
    parser.add_argument("--batch", type=int, default=32, metavar="B", help="images a step (default: 32)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, metavar="R", help="of Adam (default: 0.001)")
    parser.add_argument("--schedule", default="constant", help="constant, cosine or step (default: constant)")
    parser.add_argument("--l2", type=float, default=1e-4, metavar="F", help="on study 4's dense layers (0.0001)")
    parser.add_argument("--weight-decay", type=float, default=0.0, metavar="F", help="on all that learns (default: 0)")
    parser.add_argument("--class-weights", default="none", help="none or balanced (default: none)")
    parser.add_argument(
        "--patience", type=int, default=0, metavar="N", help="stop after N epochs without gain (off: 0)"
    )
    parser.add_argument(
        "--augment",
        default="",
        metavar="A,B",
        help="of flip, rotate, crop, colour, noise, grey, with commas between (default: none)",
    )
    parser.add_argument("--precision", default="float32", help="float32, bf16, or fp16 on CUDA (default: float32)")
    parser.add_argument("--split", type=float, default=0.8, metavar="S", help="share for training (default: 0.8)")
    parser.add_argument("--folds", type=int, default=0, metavar="K", help="K networks, each validated on its own fold")
    parser.add_argument(
        "--groups",
        default="",
        metavar="HOW",
        help="what stays on one side of the split: a CSV with the columns file and group, or a regular expression for "
        "the paths, such as 'patient(\\d+)'",
    )
    parser.add_argument(
        "--copies", default="together", help="copies of one picture: together on one side, or anywhere (together)"
    )
    parser.add_argument("--view", default="crop", help="crop or whole: what of an image is seen (default: crop)")
    parser.add_argument("--layout", default="auto", help="insist on a layout: 'class folders', 'class index', ...")
    parser.add_argument("--resume", action="store_true", help="go on with the run in RUN, or begin it")
    parser.add_argument("--workers", type=int, default=0, metavar="W", help="processes that decode (default: 0)")
    parser.add_argument("--threads", type=int, metavar="T", help="threads that compute (default: one for each core)")
    add_run(parser)
    add_json(parser, "the summary")


def run(args: argparse.Namespace) -> int:
    """Train, or export; 0 where it is done."""
    if args.export is not None:
        return _export(args)
    if args.data is None:
        raise InputError("there is no DATA to train on; give a folder, a zip or sample:NAME, or --export RUN.")
    import torch

    from xai.studies.transfer.train import train
    from xai.types import Run

    if args.threads is not None:
        check_between("--threads", args.threads, 1, MOST_THREADS)
    request = _request(args)
    torch.set_num_threads(args.threads or threads())
    alone = int(os.environ.get("RANK", "0")) == 0
    with Progress() as progress:

        def show(done: int, total: int, note: str) -> None:
            if alone:  # the bar has its own time left
                progress(done / max(1, total), note.rsplit(", ", 1)[0] if note.endswith(" left") else note)

        found = train(request, args.out, args.resume, args.device, args.workers, Run(on_progress=show))
    if found is not None:
        _show(dict(found.summary), args)
    return 0


def threads() -> int:
    """Threads of this process: what OMP_NUM_THREADS says (torchrun sets it), else a core's each."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _request(args: argparse.Namespace) -> TransferRequest:
    from xai.studies.transfer.request import TransferRequest
    from xai.training.recipe import Recipe

    names = (
        *("epochs", "batch", "learning_rate", "schedule", "l2", "weight_decay", "class_weights", "patience"),
        *("precision", "trainable", "head", "seed"),
    )
    augment = tuple(filter(None, (name.strip() for name in args.augment.split(","))))
    recipe = Recipe(**{name: getattr(args, name) for name in names}, augment=augment)
    return TransferRequest(
        args.data,
        args.model,
        args.weights,
        recipe,
        args.split,
        args.folds,
        args.layout,
        args.view,
        args.groups,
        args.copies,
    )


def _export(args: argparse.Namespace) -> int:
    from xai.models.exported import export_network, read_card

    if args.data is not None:
        raise InputError("--export trains nothing; leave DATA out.")
    path = export_network(args.export.removeprefix("run:"), args.out)
    card = read_card(path)
    if args.json:
        say_json({"file": str(path), **card})
    else:
        fold = f", fold {card['card']['fold']}" if card["card"].get("fold") else ""
        say(
            f"{path}: {card['architecture']}, head {card['head']}, "
            f"{counted(len(card['labels']), 'class', 'classes')}{fold}; "
            f"--model run:{path}"
        )
    return 0


def _show(summary: dict[str, Any], args: argparse.Namespace) -> None:
    """Tables for people, or the summary for machines; what was left out goes to stderr."""
    from xai.studies.transfer.result import told_of_sides
    from xai.training.figures import caution

    tell_left_out(summary["left_out"])
    if args.json:
        say_json(summary)
        return
    marks = ["synthetic images"] * summary["synthetic"] + ["began with random weights"] * summary["random_base"]
    say(f"{summary['data_sentence']}" + f" ({', '.join(marks)})" * bool(marks))
    rows = [
        (
            str(row["epoch"]),
            *(
                f"{row[name]:.4f}"
                for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
            ),
        )
        for row in summary["last_epochs"]
    ]
    first = " in fold 1" * bool(summary["folds"])
    say(f"\nepochs{first}" * bool(first))
    say(table(("epoch", "loss", "accuracy", "validation loss", "validation accuracy"), rows))
    say("\n" + table(("label \\ predicted", *summary["classes"]), _matrix(summary)))
    validation = f"{counted(summary['images']['validation'], 'validation image')} ({summary['protocol']['validation']})"
    say(f"\n{_headline(summary)} on {validation}; in brackets 95 % intervals")
    if told := caution(summary["images"]["validation"]):
        say(told)
    if tested := summary.get("test"):
        say(f"{_headline(tested)} on {counted(tested['images'], 'test image')}")
    for sentence in told_of_sides(summary):
        say(sentence)
    for name, found in summary["over_folds"].items():
        say(f"{name} over {found['folds']} folds: {found['mean']:.4f} +- {found['deviation']:.4f}")
    say(
        f"{summary['trained_parameters']:,} of {summary['parameters']:,} parameters trained, "
        f"{counted(summary['epochs'], 'epoch')}{_early(summary)}{first}, {summary['seconds']['all']:.1f} s"
    )
    say(f"\nrun: {args.out}; use it everywhere as --model run:{args.out}")
    if summary["folds"]:
        say(f"That is the network of fold 1; run:{args.out}/fold-2 is that of fold 2, and so on, also for --export.")


def _headline(figures: dict[str, Any]) -> str:
    """Accuracy, loss and AUC, with intervals in brackets."""
    auc = "-" if figures["auc"] is None else f"{figures['auc']:.4f}{_ends(figures, 'auc')}"
    return f"accuracy {figures['accuracy']:.4f}{_ends(figures, 'accuracy')}, loss {figures['loss']:.4f}, AUC {auc}"


def _ends(figures: dict[str, Any], name: str) -> str:
    ends = figures["intervals"][name]
    return "" if ends is None else f" [{ends[0]:.4f}, {ends[1]:.4f}]"


def _early(summary: dict[str, Any]) -> str:
    """Whether patience ended it, and whose weights it has."""
    told = f", the weights of epoch {summary['kept_epoch']}" if summary["recipe"]["patience"] else ""
    return f" (stopped early{told})" if summary["stopped_early"] else told


def _matrix(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = zip(summary["classes"], summary["figures"]["confusion"], strict=True)
    return [(name, *map(str, row)) for name, row in rows]


COMMANDS.add(
    Command(
        name="train",
        summary="train a network on labelled images, in a run that can be resumed",
        rank=40,
        add_options=add_options,
        run=run,
        description=DESCRIPTION,
        epilog=EPILOG,
    )
)
