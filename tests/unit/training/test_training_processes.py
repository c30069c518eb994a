"""Training in two processes, as torchrun starts them: the result is that of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from tests.conftest import ROOT, make_tiny
from tests.unit.training_helpers import pictures, weights_of
from xai.training import Recipe, fit, network_of
from xai.types import Run

PROGRAM = """
import sys, torch, torch.distributed as dist
torch.set_num_threads(1)
from tests.unit.training.test_training_processes import process_result
folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
process_result(folder)
dist.barrier()  # who ends first would close the connections on which the other still reads
dist.destroy_process_group()
"""


def without_norms():
    """A classifier whose layers do not look at a whole batch, so that its parts are worth what the whole is."""
    from dataclasses import replace

    from torch import nn

    base = make_tiny()
    generator = torch.Generator().manual_seed(5)
    base.module.net.bn1, base.module.net.bn2 = nn.Identity(), nn.Identity()
    with torch.no_grad():
        for value in base.module.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return replace(base, name="plain")


def process_result(folder: str) -> None:
    from xai.training.features import team

    for name, recipe in DISTRIBUTED.items():
        network = network_of(without_norms(), ("no", "yes"), recipe)
        history = fit(network, pictures(25), pictures(9, seed=1), recipe, Run(seed=1))
        if team()[0] == 0:
            losses = torch.tensor([[e.train_loss, e.validation_loss, e.train_accuracy] for e in history.epochs])
            torch.save({"weights": weights_of(network), "losses": losses}, Path(folder) / f"{name}.pt")


# 25 images in batches of 8: the last batch has one image, and the second process none of it.
DISTRIBUTED = {
    "frozen": Recipe(epochs=3, batch=8, class_weights="balanced"),
    "all": Recipe(epochs=2, batch=8, trainable="all"),
}


def test_two_processes_learn_what_one_learns(tmp_path):
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    logs = [tmp_path / f"stderr-{rank}" for rank in (0, 1)]
    ranks = []
    try:
        for rank, log in enumerate(logs):
            with log.open("w") as sink:
                words = [sys.executable, "-c", PROGRAM, str(tmp_path), str(rank)]
                ranks.append(subprocess.Popen(words, cwd=ROOT, env=environ, stderr=sink))
        assert [rank.wait(200) for rank in ranks] == [0, 0], "\n".join(log.read_text() for log in logs)
    finally:
        for rank in ranks:
            rank.kill()
    for name in DISTRIBUTED:
        together = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        (alone := tmp_path / "alone").mkdir(exist_ok=True)
        process_result(str(alone))
        single = torch.load(alone / f"{name}.pt", weights_only=True)
        assert torch.allclose(together["losses"], single["losses"], atol=1e-5)
        for key, value in single["weights"].items():
            assert torch.allclose(value.float(), together["weights"][key].float(), atol=1e-5), key
