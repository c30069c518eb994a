"""`python -m benchmarks [NAME...]`: run the benchmarks and write RESULTS.md."""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

import benchmarks
from benchmarks._report import Section, conditions, load, render, save, table

HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    """The benchmarks there are: modules of this package that do not begin with an underscore."""
    return sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("names", nargs="*", metavar="NAME", help=f"which (default all): {', '.join(names())}")
    made.add_argument("--repeats", type=int, default=5, help="rounds; figures are their medians (default 5)")
    made.add_argument("--quick", action="store_true", help="a small trial; printed, and written only with --out")
    made.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    made.add_argument("--render", action="store_true", help="measure nothing: write the report from what is recorded")
    made.add_argument("--out", type=Path, help="report to write (default benchmarks/RESULTS.md)")
    return made


def measure(name: str, repeats: int, quick: bool, threads: int) -> Section:
    """Run one benchmark."""
    module = importlib.import_module(f"benchmarks.{name}")
    title, _, text = inspect.cleandoc(module.__doc__ or name).partition("\n")
    rows = module.run(repeats, quick)
    if not rows:
        raise RuntimeError(f"benchmark {name} gave no row")
    return Section(name, title.rstrip("."), text.strip(), module.FLOOR, conditions(threads, repeats, quick), rows)


def write(report: Path) -> None:
    """The report at `report`, from every section recorded beside it."""
    report.write_text(render(load(report.parent / "results")), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and record; 0 if all ran, 1 if one failed, 2 for bad arguments."""
    options = parser().parse_args(arguments)
    unknown = sorted(set(options.names) - set(names()))
    if unknown:
        parser().error(f"benchmark {unknown[0]!r} is not known; choose from {', '.join(names())}.")
    if options.repeats < 1 or options.threads < 1:
        parser().error("--repeats and --threads take 1 or more.")
    torch.set_num_threads(options.threads)
    out = options.out or (None if options.quick else HERE / "RESULTS.md")
    if options.render:
        write(out or HERE / "RESULTS.md")
        return 0
    failed = []
    for name in options.names or names():
        start = time.perf_counter()
        try:
            section = measure(name, options.repeats, options.quick, options.threads)
            shown = table(section.rows)
        except Exception:  # the other benchmarks still run; the failure is shown and counts
            traceback.print_exc()
            failed.append(name)
            continue
        print(f"\n{section.title} ({time.perf_counter() - start:.0f} s)\n{shown}", flush=True)
        if out is not None:
            save(section, out.parent / "results")
            write(out)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
