"""From rows to RESULTS.md: one JSON file a section, so that a partial run keeps the other sections."""

from __future__ import annotations

import json
import operator
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

from xai.models.provenance import versions
from xai.settings import resolve_device

Row = Mapping[str, Any]

BOUND = re.compile(r"^(?P<column>.+?)\s*(?P<sign><=|>=|<|>)\s*(?P<value>[\d.]+)$")
SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Section:
    """What one benchmark measured, and under which conditions."""

    name: str
    title: str
    text: str
    floor: str
    conditions: str
    rows: Sequence[Row]


def missed(row: Row) -> tuple[str, ...]:
    """The bounds in `row["target"]` that the row's figures miss; a bound on no figure is an error."""
    found = []
    for bound in filter(None, (part.strip() for part in str(row.get("target", "")).split(";"))):
        match = BOUND.match(bound)
        if match is None:
            raise ValueError(f"target {bound!r} is not read; write it as 'column <= number'.")
        figure = row.get(match["column"])
        if not isinstance(figure, int | float):
            raise ValueError(f"target {bound!r} names no figure; the row has {', '.join(row)}.")
        if not SIGNS[match["sign"]](figure, float(match["value"])):
            found.append(bound)
    return tuple(found)


def conditions(threads: int, repeats: int, quick: bool) -> str:
    """One line: date, device, threads, repetitions and versions. The processor is named by kind, not by model."""
    device = resolve_device("auto")
    kind = f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
    if device.type == "cuda":
        kind = f"{torch.cuda.get_device_name(device)}, host {kind}"
    count = f"{threads} thread{'s' * (threads != 1)}, median of {repeats}, interleaved"
    stack = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{date.today().isoformat()}; {kind}; {count}{'; quick trial' if quick else ''}; {stack}"


def table(rows: Sequence[Row]) -> str:
    """A Markdown table: columns by first appearance, a last column that marks missed targets."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    judged = "target" in columns
    lines = ["| " + " | ".join([*columns, *(["met"] if judged else [])]) + " |"]
    numeric = [all(isinstance(row.get(c), int | float | None) for row in rows) for c in columns]
    rule = ["---:" if n else "---" for n in numeric] + (["---"] if judged else [])
    lines.append("|" + "|".join(rule) + "|")
    for row in rows:
        cells = [cell(row.get(column)) for column in columns]
        if judged:
            faults = missed(row)
            cells.append(f"**missed**: {'; '.join(faults)}" if faults else "yes" if row.get("target") else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value: object) -> str:
    """A figure to three significant digits, "-" for nothing, anything else as text."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value).replace("|", "\\|")
    if value != value or abs(value) in (0.0, float("inf")):
        return f"{value:g}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}" if abs(value) >= 1e-3 else f"{value:.2e}"


def save(section: Section, folder: Path) -> None:
    """Write the section's JSON, replacing an older run of the same benchmark."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{section.name}.json"
    draft = target.with_suffix(".tmp")
    draft.write_text(json.dumps(asdict(section), indent=1) + "\n", encoding="utf-8")
    draft.replace(target)


def load(folder: Path) -> list[Section]:
    """Every section there is, by name."""
    return [Section(**json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]


def render(sections: Sequence[Section]) -> str:
    """The whole of RESULTS.md."""
    parts = [
        "# Benchmarks",
        "Written by `python -m benchmarks`; not edited by hand. Machines differ and are shared, so what counts are "
        "ratios within one run: candidates take turns (A B C A B C ...), and each figure is a median. The floor is the "
        "bare work that has to be done, with the same network, batch size and memory format. `cpu` is processor time "
        "summed over threads. A section tells its own conditions, since sections may come from different runs.",
    ]
    for section in sections:
        parts.append(f"## {section.title}\n\n{section.text}".rstrip())
        parts.append(f"Floor: {section.floor}")
        parts.append(table(section.rows))
        parts.append(f"*{section.conditions}*")
    return "\n\n".join(parts) + "\n"
