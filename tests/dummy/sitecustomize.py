"""A command that is a run, for tests: `python -m xai count N`. On the path of a process, Python imports this itself.

It adds up N random numbers, a checkpoint each, so that a run which was killed and resumed must end with the same sum.
`--hold-at N`: before that number it waits for a file `go` in its folder.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from xai.commands.spec import COMMANDS, Command


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("steps", type=int)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--hold-at", type=int, default=-1)
    parser.add_argument("--crash-at", type=int, default=-1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")


def run(args: argparse.Namespace) -> int:
    import torch

    from xai.errors import InputError
    from xai.runs.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
    from xai.runs.folder import RunFolder
    from xai.types import Run

    if args.steps < 1:
        raise InputError(f"steps is {args.steps}; give 1 or more.")
    folder = RunFolder.create(args.out, {"kind": "count", "steps": args.steps, "seed": args.seed}, args.resume)
    path = folder.path / "checkpoints" / "last.pt"
    generator = Run(seed=args.seed).generator("count")
    with folder.working(Run(), torch.device("cpu")) as run:
        first, total = 0, 0.0
        if has_checkpoint(path):
            state = load_checkpoint(path).state
            first, total = state["step"], state["sum"]
            generator.set_state(state["generator"])
        for step in range(first, args.steps):
            run.report(step, args.steps, "counting")
            if step == args.crash_at:
                raise RuntimeError("the counter broke")
            while step == args.hold_at and not (folder.path / "go").exists():
                time.sleep(0.02)
                run.report(step, args.steps, "holding")
            time.sleep(args.pause)
            total += float(torch.rand(1, generator=generator, dtype=torch.float64))
            folder.metric({"step": step, "sum": total})
            save_checkpoint(path, {"step": step + 1, "sum": total, "generator": generator.get_state()})
        run.report(args.steps, args.steps, "counting")
        folder.write("summary.json", {"sum": total, "protocol": "sum of N uniform numbers"})
    return 0


COMMANDS.add(Command("count", "add up N random numbers (for tests)", 990, add_options, run))
