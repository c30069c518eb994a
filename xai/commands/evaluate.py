"""`evaluate`: faithfulness of methods over a data set, in a run folder that can be resumed and shared."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from xai.commands._options import add_json, add_models, add_run, paired, with_outputs
from xai.commands._params import parse_params
from xai.commands.output import Progress, say, say_json, table, tell, tell_left_out
from xai.commands.spec import COMMANDS, Command

if TYPE_CHECKING:
    from xai.studies.faithfulness.evaluate import Request
    from xai.studies.faithfulness.seen import Faithfulness

DESCRIPTION = """Insertion, deletion and drop in confidence of every method over a data set, beside baselines, with 95 %
intervals over images. One row for each (image, classifier, method) in RUN/results.parquet, headline figures with their
protocol in RUN/summary.json, progress in RUN/status.json."""

EPILOG = """DATA is a folder, a zip, or sample:NAME. Folders named "0", "1", ... are class indices (ImageNet-V2),
folders named by WordNet id are ImageNet's classes, other folders are class names; without folders there are no labels.

Protocols: study (fractions 0, .25, .5, .75, 1; deletion is the drop in confidence, HIGHER is better), rise (8 rows of
pixels a step, 1792 at 224 px; deletion is the confidence left, LOWER is better), rise-row (one row a step). Values of
different protocols do not compare.

A stopped or killed run goes on with --resume, and loses or repeats no row. On several processes or GPUs:
  torchrun --nproc-per-node=N -m xai evaluate DATA ... --out RUN

examples:
  python -m xai evaluate sample:photos --protocol study --out runs/photos
  python -m xai evaluate imagenetv2-matched-frequency-format-val --model vgg16 resnet50 googlenet \\
      --method gradcam --protocol rise --out runs/v2"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("data", metavar="DATA", help="a folder, a zip, or sample:NAME")
    add_models(parser)
    parser.add_argument("--method", nargs="+", default=["gradcam"], metavar="NAME", help="methods (default: gradcam)")
    parser.add_argument(
        "--baseline",
        nargs="*",
        default=["random", "center", "edges"],
        metavar="NAME",
        help="methods beside them (default: random center edges; none if nothing follows)",
    )
    parser.add_argument(
        "--draws", type=int, default=3, metavar="N", help="random maps of each method's own resolution (3; 0: none)"
    )
    parser.add_argument("--protocol", default="rise", help="study, rise or rise-row (default: rise)")
    parser.add_argument("--insertion-from", default="", metavar="S", help="blur, mean, black or '#rrggbb' (protocol's)")
    parser.add_argument("--deletion-to", default="", metavar="S", help="blur, mean, black or '#rrggbb' (protocol's)")
    parser.add_argument("--precision", default="float32", help="float32 or bf16; bf16's AUC error is measured and told")
    parser.add_argument("--target", default="predicted", help="explain the predicted class or the label (predicted)")
    parser.add_argument("--layer", help="layer path, for methods that have one (default: the classifier's)")
    parser.add_argument("--param", action="append", default=[], metavar="M.N=V", help="a method's parameter")
    parser.add_argument("--images", type=int, metavar="N", help="only N images, drawn by the seed")
    parser.add_argument("--view", default="crop", help="crop or whole (default: crop)")
    parser.add_argument("--layout", default="auto", help="insist on a layout: 'class folders', 'class index', ...")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in RUN, or begin it")
    parser.add_argument("--batch", type=int, metavar="B", help="images a forward pass (default: by device)")
    parser.add_argument("--chunk", type=int, metavar="C", help="images between two savings (default: by device)")
    parser.add_argument("--workers", type=int, metavar="W", help="processes that decode (default: by device)")
    add_run(parser)
    add_json(parser, "the summary")


def run(args: argparse.Namespace) -> int:
    """Do it; 0 where there are results."""
    from xai.studies.faithfulness.evaluate import evaluate
    from xai.types import Run

    request = _request(args)
    alone = int(os.environ.get("RANK", "0")) == 0
    with Progress() as progress:

        def show(done: int, total: int, note: str) -> None:
            if alone:  # the bar has its own time left
                progress(done / max(1, total), note.rsplit(", ", 1)[0] if note.endswith(" left") else note)

        found = evaluate(
            request, args.out, args.resume, args.device, args.workers, args.batch, Run(seed=args.seed, on_progress=show)
        )
    if found is not None:
        _show(found, args)
    return 0


def _request(args: argparse.Namespace) -> Request:
    from xai.studies.faithfulness.evaluate import Request
    from xai.studies.faithfulness.measure import Recipe

    models = paired(args.model, with_outputs(args.weights, args.output))
    recipe = Recipe(
        methods=tuple(args.method),
        baselines=tuple(args.baseline),
        protocol=args.protocol,
        insertion_substrate=args.insertion_from,
        deletion_substrate=args.deletion_to,
        target=args.target,
        precision=args.precision,
        layer=args.layer,
        seed=args.seed,
        params=parse_params(args.param, [*args.method, *args.baseline]),
        draws=args.draws,
    )
    return Request(args.data, models, recipe, args.layout, args.view, args.images, args.chunk)


def _show(found: Faithfulness, args: argparse.Namespace) -> None:
    """Tables for people, or the summary for machines; what was left out goes to stderr."""
    from xai.runs.folder import RunFolder
    from xai.studies.faithfulness.result import WHITE_NOISE

    summary = RunFolder.open(args.out).summary()
    if summary.get("synthetic"):
        tell(f"the images of {summary['data']} are synthetic.")
    for refused in found.refused:
        tell(f"{refused.method} does not apply to {refused.network}: {refused.reason}")
    for sentence in (*found.without_order, *found.given_away):
        tell(sentence)
    tell_left_out(summary["left_out"])
    if args.json:
        say_json(summary)
        return
    for metric in found.metrics:
        up = "higher is better" if found.better_up(metric) else "lower is better"
        say(f"\n{metric} ({up})")
        rows = [
            (
                score.network,
                score.method,
                str(score.mean),
                "none" if score.rank is None else str(score.rank),
                score.against.sentence if score.against else "",
            )
            for score in found.scores(metric)
        ]
        say(table(("network", "method", "mean [95 %]", "rank", "against random of its resolution"), rows))
    say()
    for sentence in filter(None, (found.about_random, WHITE_NOISE if "random" in args.baseline else "")):
        say(sentence)
    for metric in found.metrics:
        say(f"{metric}: {found.sentence(metric)}")
    for network in found.networks:
        share = found.correct(network)
        if share is not None:
            say(f"{network} names {share} of the images as they are labelled")
    if "bf16_auc_error" in summary:
        say(f"\nbf16 against float32, largest AUC difference: {summary['bf16_auc_error']}")
    say(f"\nrows and summary: {args.out}")


COMMANDS.add(
    Command(
        name="evaluate",
        summary="measure how faithful methods are over a data set",
        rank=30,
        add_options=add_options,
        run=run,
        description=DESCRIPTION,
        epilog=EPILOG,
    )
)
