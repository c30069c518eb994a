"""`audit-bias`: does a network decide by a shortcut? With known ground truth, or on a person's own data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai.commands._options import add_json, add_output, add_run, with_outputs
from xai.commands.output import Progress, say, say_json, table, tell_left_out
from xai.commands.spec import COMMANDS, Command
from xai.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xai.types import Run

DESCRIPTION = """Train a network on drawn cats and dogs with a planted shortcut and audit it: accuracy by group, what
swapping the cue does to the answer, where explanations lie, a reliance score for each factor, and a verdict in one
sentence. Or, with --data and --model, audit one's own classifier on one's own images."""

EPILOG = """Without --rho: the study's set, 135 cats, 90 % light, and 128 dogs, 82 % dark. --sweep trains at rho 0.5 to
1, --mend trains again with balanced data, group weights, colour jitter and greyscale, --detector asks which methods
reveal the shortcut without ground truth; --seeds trainings of each point.

Own data: a folder for each class. --groups is a CSV with the columns file and group, 'folders' (CLASS/GROUP/image), or
'brightness' (measured, cut at the median). --masks is a folder or a zip of masks named as the images, white inside:
there images are recoloured, and explanations are measured; masks that fit no image are listed. With --mend too,
networks are trained on 70 % of each class and group in the same five ways (as it is, balanced by drawing each group as
often, group weights, colour jitter, greyscale), and every audit is of the other 30 %; --model is then run:ID, whose
architecture is trained, or the name of what is trained. --sweep is for drawn data alone: how strongly a cue goes with
a class cannot be set in photographs that are there already.

SimpleCNN computes with one thread, so that a seed gives the same figures on any number of cores; on a processor of
another kind, or with another torch, the last bits differ, and what is trained with them.

A stopped or killed run goes on with --resume; finished trainings are kept.

examples:
  python -m xai audit-bias --out runs/study
  python -m xai audit-bias --rho 0.9 --seed 0 --out runs/bias
  python -m xai audit-bias --sweep --mend --detector --out runs/all
  python -m xai audit-bias --data pets --model run:my-run --groups groups.csv --out runs/mine
  python -m xai audit-bias --data pets --groups groups.csv --mend --seeds 1 --out runs/mitigation"""


DRAWN = ("sweep", "mend", "detector", "rho", "cue", "cats", "dogs", "pixels", "epochs", "seeds", "per_group")
OWN = ("weights", "output", "groups", "masks", "images", "view")
"""Options of one half of the command, refused in the other rather than passed over."""

MITIGATION = ("mend", "seeds", "epochs")
"""Options that train on one's own data too."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    drawn = parser.add_argument_group("drawn data with a planted cue")
    drawn.add_argument("--rho", type=float, metavar="R", help="share of images whose cue agrees with the class")
    drawn.add_argument("--cue", default="fur", help="fur, background or mark (default: fur)")
    drawn.add_argument("--cats", type=int, default=135, metavar="N", help="training images of cats (default: 135)")
    drawn.add_argument("--dogs", type=int, default=128, metavar="N", help="training images of dogs (default: 128)")
    drawn.add_argument("--pixels", type=int, default=96, metavar="PX", help="side of the drawings (default: 96)")
    drawn.add_argument("--epochs", type=int, default=20, metavar="N", help="of a training (default: 20)")
    drawn.add_argument("--sweep", action="store_true", help="also train at rho 0.5 ... 1")
    drawn.add_argument(
        "--mend",
        action="store_true",
        help="also train in four ways that mitigate the shortcut; with --data, on those images",
    )
    drawn.add_argument("--detector", action="store_true", help="also ask which methods reveal the shortcut")
    drawn.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="trainings of each point of these (default: 3)"
    )
    drawn.add_argument("--per-group", type=int, default=50, metavar="N", help="test images of each group (default: 50)")
    own = parser.add_argument_group("one's own data")
    own.add_argument("--data", metavar="DATA", help="a folder, a zip, or sample:NAME")
    own.add_argument("--weights", default="imagenet", metavar="W", help="of --model (default: imagenet)")
    add_output(own)
    own.add_argument("--groups", default="folders", metavar="G", help="a CSV, folders or brightness (default: folders)")
    own.add_argument("--masks", default="", metavar="DIR", help="a folder or a zip of masks named as the images")
    own.add_argument("--images", type=int, metavar="N", help="only N images, drawn by the seed")
    own.add_argument("--view", default="crop", help="crop or whole (default: crop)")
    parser.add_argument(
        "--model",
        default="simple_cnn",
        metavar="NAME",
        help="what is trained (default: simple_cnn; others get a new head); with --data what is audited: run:ID, ...",
    )
    parser.add_argument("--method", nargs="+", default=["gradcam"], metavar="NAME", help="methods (default: gradcam)")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in RUN, or begin it")
    add_run(parser)
    add_json(parser, "the summary")


def run(args: argparse.Namespace) -> int:
    """Do it; 0 where there is a verdict."""
    from xai.types import Run

    with Progress() as progress:

        def show(done: int, total: int, note: str) -> None:  # the bar has its own time left
            progress(done / max(1, total), note.rsplit(", ", 1)[0] if note.endswith(" left") else note)

        work = _drawn if args.data is None else _own
        summary = work(args, Run(seed=args.seed, on_progress=show))
    if args.json:
        say_json(summary)
    else:
        _show(summary, args.out)
    return 0


def _asked(args: argparse.Namespace, names: tuple[str, ...]) -> str:
    """The first option of `names` that is not as usual; "" where all are."""
    usual = argparse.ArgumentParser()
    add_options(usual)
    found = [name for name in names if getattr(args, name) != usual.get_default(name)]
    return f"--{found[0].replace('_', '-')}" if found else ""


def _drawn(args: argparse.Namespace, run: Run) -> dict[str, Any]:
    from xai.studies.bias.run import BiasRequest, study_bias
    from xai.studies.bias.train import Experiment

    if args.model.startswith("run:"):
        raise InputError(f"--model {args.model} is trained already; give --data to audit it on.")
    if asked := _asked(args, OWN):
        raise InputError(f"{asked} is about one's own data; leave it out, or give --data.")
    experiment = Experiment(
        args.cue,
        args.rho,
        args.seed,
        model=args.model,
        cats=args.cats,
        dogs=args.dogs,
        pixels=args.pixels,
        epochs=args.epochs,
    )
    parts = {name: getattr(args, name) for name in ("sweep", "mend", "detector")}
    request = BiasRequest(experiment, **parts, seeds=args.seeds, per_group=args.per_group, methods=tuple(args.method))
    return study_bias(request, args.out, args.resume, args.device, run)


def _own(args: argparse.Namespace, run: Run) -> dict[str, Any]:
    from xai.studies.bias.mend import MendRequest, mend_own
    from xai.studies.bias.own import OwnRequest, audit_own

    if asked := _asked(args, tuple(name for name in DRAWN if name not in MITIGATION)):
        raise InputError(f"{asked} trains on drawn data; leave it out, or leave --data out.")
    if not args.mend and (asked := _asked(args, MITIGATION)):
        raise InputError(f"{asked} is about training; add --mend to train on --data, or leave it out.")
    names = ("data", "model", "weights", "groups", "masks", "images", "view", "seed")
    [args.weights] = with_outputs([args.weights], args.output)
    request = OwnRequest(**{name: getattr(args, name) for name in names}, methods=tuple(args.method))
    if args.mend:
        return mend_own(MendRequest(request, args.seeds, args.epochs), args.out, args.resume, args.device, run)
    return audit_own(request, args.out, args.resume, args.device, run)


def _show(summary: Mapping[str, Any], out: Path) -> None:
    from xai.data.drawn.pet_factors import CUES

    audit = summary["base"]["audit"]
    say(audit["verdict"])
    say(f"\n{summary['data']}; {audit['images']} test images; {audit['how']}")
    rows = [
        (
            each["label"],
            each["value"],
            ("aligned" if each["aligned"] else "conflicting") if audit["conflicting"] else "",
            _interval(each["accuracy"], 100),
        )
        for each in audit["groups"]
    ]
    say("\n" + table(("class", audit["cue"] if audit["cue"] in CUES else "group", "", "accuracy % [95 %]"), rows))
    say(f"gap, best less worst group: {_interval(audit['gap_interval'], 100)} points")
    if audit["fall"]:
        say(f"aligned less conflicting: {_interval(audit['fall'], 100)} points")
    swaps = [
        (each["factor"], _interval(each["flips"], 100), _interval(each["moved"]), _interval(each["score"]))
        for each in audit["reliance"]
    ]
    if swaps:
        say("\n" + table(("swapped", "answer flips % [95 %]", "probability moves", "reliance"), swaps))
    shares = [
        (
            each["method"],
            each["region"],
            *(_interval(each[name]) for name in ("share", "chance", "beyond")),
            str(each["blank"]),
        )
        for each in audit["shares"]
    ]
    if shares:
        say(
            "\n"
            + table(("method", "region", "share of the map", "share of the area", "difference", "blank maps"), shares)
        )
    _points(summary)
    tell_left_out(summary.get("left_out", []))
    say(f"\n{summary['protocol']}\n\nall of it: {out}")


def _points(summary: Mapping[str, Any]) -> None:
    """The further parts: one line a network, where its explanations lie, and the detector's table."""
    from xai.explain.spec import METHODS
    from xai.studies.bias.audit import read_audit
    from xai.studies.bias.findings import Share

    for part in ("mend", "sweep"):
        rows, places = [], []
        shares: tuple[Share, ...] = ()
        for point in summary[part]:
            own, audit = point["experiment"], point["audit"]
            worst = audit["worst"]
            cue: dict[str, Any] = next((r for r in audit["reliance"] if r["factor"] == audit["cue"]), {})
            strength = f"{own['rho']:g}" if own["rho"] is not None else "study" if "cue" in own else "own"
            named = (own["arm"], strength, str(own["seed"]))
            rows.append(
                (
                    *named,
                    _interval(audit["aligned"], 100),
                    _interval(audit["conflicting"], 100),
                    f"{worst['value']} {worst['label']} {_interval(worst['accuracy'], 100)}",
                    _interval(cue.get("flips"), 100),
                    _interval(cue.get("score")),
                )
            )
            shares = read_audit(audit).compared()
            places.append((*named, *(str(share.beyond) for share in shares)))
        head = ("training", "rho", "seed")
        if rows:
            told = ("aligned %", "conflicting %", "worst group %", "flips %", "reliance")
            say(f"\n{part}\n" + table((*head, *told), rows))
        if shares:
            title = METHODS.get(shares[0].method).title
            say(f"\n{part}: share of the {title} map in a region, less its share of the area (chance)")
            say(table((*head, *(share.region for share in shares)), places))
    if summary["detector"]:
        found = [(r["cue"], r["method"], _interval(r["correlation"]), r["word"]) for r in summary["detector"]["rows"]]
        say("\ndetector\n" + table(("cue", "method", "rank correlation [95 %]", "verdict"), found))
        say(summary["detector"]["protocol"])


def _interval(found: Mapping[str, Any] | None, scale: float = 1) -> str:
    if found is None or found["mean"] is None:
        return "none"
    digits = 0 if scale == 100 else 3
    ends = "" if found["low"] is None else f" [{scale * found['low']:.{digits}f}, {scale * found['high']:.{digits}f}]"
    return f"{scale * found['mean']:.{digits}f}{ends} (n={found['n']})"


COMMANDS.add(
    Command(
        name="audit-bias",
        summary="catch a network that learned the wrong thing, and measure it",
        rank=45,
        add_options=add_options,
        run=run,
        description=DESCRIPTION,
        epilog=EPILOG,
    )
)
