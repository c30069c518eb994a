"""torchrun's own launcher starts `train` in two processes: one run, one voice, the weights of one process."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file

from tests.conftest import ROOT
from xai.runs.folder import RunFolder
from xai.studies.transfer.request import TransferRequest
from xai.studies.transfer.train import load_result, train
from xai.training import Recipe


def test_torchrun_trains_one_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    for index in range(12):
        place = tmp_path / "data" / ("dark", "light")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (20 * index, 200 * (index % 2), 50)).save(place / f"{index}.png")
    data, together, alone = (tmp_path / name for name in ("data", "together", "alone"))
    words = ["train", str(data), "--model", "simple_cnn", "--weights", "random:0", "--epochs", "2", "--batch", "4"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, "-m", "xai", *words, "--device", "cpu", "--out", str(together)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("on 2 validation images") == 1  # rank 0 alone speaks
    assert load_result(together).summary["epochs"] == 2
    assert RunFolder(together).launch().command == shlex.join(
        ["torchrun", "--nproc-per-node=2", "-m", "xai", *words, "--device", "cpu", "--out", "DIR"]
    )
    recipe = Recipe(epochs=2, batch=4)
    train(TransferRequest(str(data), "simple_cnn", "random:0", recipe), alone, device="cpu")
    one, two = (load_file(each / "artifacts" / "model.safetensors") for each in (alone, together))
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)
