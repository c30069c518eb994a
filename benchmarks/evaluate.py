"""A data set on one and on two processes

`python -m xai evaluate` over generated pictures with Grad-CAM beside random order, protocol `study`, one thread a
process. Counted is the time of the units of work as each process notes it in metrics.jsonl, the slower process of two;
starting Python and merging are left out, so that the figure holds for long runs. "speed-up" wants two free cores.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from xai.runs.folder import RunFolder

FLOOR = "the same run on one process with one thread."

ROOT = Path(__file__).resolve().parent.parent


def pictures(folder: Path, count: int) -> None:
    """`count` PNG files of noise, 256 px."""
    generator = torch.Generator().manual_seed(0)
    for index in range(count):
        levels = torch.randint(0, 256, (256, 256, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(levels.numpy()).save(folder / f"{index:03}.png")


def seconds(data: Path, out: Path, processes: int) -> float:
    """Time that the slowest process spent on its units."""
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"] if processes > 1 else []
    words = ["-m", "xai", "evaluate", str(data), "--protocol", "study", "--baseline", "random", "--device", "cpu"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "XAI_CACHE": str(out.parent / "cache")}
    command = [sys.executable, *launcher, *words, "--out", str(out)]
    subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True)
    spent: dict[int, float] = defaultdict(float)
    for line in RunFolder.open(out).metrics():
        spent[line["rank"]] += line["seconds"]
    return max(spent.values())


def run(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """One row; the two runs take turns."""
    count = 32 if quick else 64
    taken: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "data"
        data.mkdir()
        pictures(data, count)
        for turn in range(1 if quick else repeats):
            for processes in taken:
                taken[processes].append(seconds(data, Path(place) / f"run-{turn}-{processes}", processes))
    one, two = (statistics.median(taken[processes]) for processes in (1, 2))
    row: dict[str, Any] = {"what": "evaluate, study", "network": "EfficientNet-Lite0", "images": count}
    row |= {"one process s": one, "two processes s": two, "speed-up": one / two, "free cores": free_cores()}
    return [{**row, "target": "speed-up >= 1.8"}]


def free_cores() -> str:
    """Cores and the machine's load, without which the figure says little."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
