"""The run: resumable after a kill, the same rows from one process and from two, and honest about what it leaves out."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from xai.cli import main
from xai.errors import InputError
from xai.runs.folder import RunFolder
from xai.studies.faithfulness.evaluate import Request, evaluate, open_results
from xai.studies.faithfulness.seen import Recipe
from xai.types import Run

ROOT = Path(__file__).resolve().parents[4]
NET = "shufflenet_v2_x0_5"  # small and quick; its weights are random, which rows do not mind
NETWORK = f"{NET} (random:0)"
IMAGES = 26


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes below have, so that rows are equal to the last bit
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images in ImageNet-V2's layout, one of them broken."""
    root = tmp_path_factory.mktemp("v2")
    generator = torch.Generator().manual_seed(1)
    for index in range(IMAGES):
        place = root / str((index * 97) % 1000)
        place.mkdir(exist_ok=True)
        levels = torch.randint(0, 256, (12, 12, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(levels.numpy()).resize((64, 48)).save(place / f"{index}.png")
    broken = next(iter(sorted(root.glob("*/11.png"))))
    broken.write_bytes(broken.read_bytes()[:60])
    return root


def request_for(folder: Path, **changes) -> Request:
    recipe = Recipe(baselines=("random",), protocol="study", **changes)
    return Request(str(folder), ((NET, "random:0"),), recipe)


def words(folder: Path, out: Path, *more: str) -> list[str]:
    options = ["--model", NET, "--weights", "random:0", "--protocol", "study", "--baseline", "random"]
    return ["evaluate", str(folder), *options, "--device", "cpu", "--out", str(out), *more]


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The rows of one process that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    os.environ["XAI_CACHE"] = str(out.parent / "cache")
    result = evaluate(request_for(folder), out, device="cpu")
    assert result is not None
    return out, result.table


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "XAI_CACHE": str(tmp_path / "cache"), **more}


def start(arguments: list[str], environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "xai", *arguments],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def shards(out: Path) -> list[Path]:
    return sorted((out / "shards").glob("*.parquet")) if (out / "shards").is_dir() else []


def wait_for_shard(out: Path, child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not shards(out):
        assert child.poll() is None, child.communicate()[0]
        assert time.monotonic() < deadline, "no shard came"
        time.sleep(0.005)


# --- one process ----------------------------------------------------------------------------


def test_the_run_folder_holds_everything(whole, folder):
    out, table = whole
    assert table.num_rows == 2 * (IMAGES - 1)
    assert pq.read_table(out / "results.parquet").equals(table)
    status = json.loads((out / "status.json").read_text())
    assert (status["state"], status["done"], status["total"], status["error"]) == ("done", 4, 4, "")
    assert set(status) == {"state", "done", "total", "note", "error"}
    config = json.loads((out / "config.json").read_text())
    assert config["data_layout"] == "class index"
    assert config["recipe"]["protocol"] == "study"
    lines = RunFolder(out).metrics()
    assert [line["chunk"] for line in lines] == [0, 1, 2, 3]
    assert sum(line["images"] for line in lines) == IMAGES - 1
    summary = json.loads((out / "summary.json").read_text())
    assert summary["images"] == IMAGES - 1
    assert [each["key"].endswith("/11.png") for each in summary["left_out"]] == [True]
    assert summary["protocol"]["deletion"]["settings"]["higher_is_better"] is True
    best = summary["metrics"]["insertion"]["scores"][0]
    assert best["network"] == NETWORK
    assert best["n"] == IMAGES - 1
    assert best["low"] <= best["mean"] <= best["high"]
    again = open_results(out)
    assert again.table.equals(table)
    assert again.recipe == request_for(folder).recipe


def test_rows_are_keyed_once_with_label_target_and_protocol(whole):
    _, table = whole
    keys = list(zip(table["image"].to_pylist(), table["method"].to_pylist(), strict=True))
    assert len(set(keys)) == len(keys)
    assert [int(key.split("/")[0]) for key, _ in keys] == table["label"].to_pylist()
    assert table["correct"].to_pylist() == [
        a == b for a, b in zip(table["label"].to_pylist(), table["predicted"].to_pylist(), strict=True)
    ]
    assert table["target"].to_pylist() == table["predicted"].to_pylist()
    assert set(table["protocol"].to_pylist()) == {"study"}
    assert table["index"].to_pylist() == sorted(table["index"].to_pylist())


def test_resuming_a_finished_run_repeats_nothing(whole, folder):
    out, table = whole
    before = {path: path.stat().st_mtime_ns for path in shards(out)}
    result = evaluate(request_for(folder), out, resume=True, device="cpu")
    assert result is not None
    assert result.table.equals(table)
    assert {path: path.stat().st_mtime_ns for path in shards(out)} == before


def test_a_run_is_resumed_only_as_it_was_asked_for(whole, folder):
    out, _ = whole
    with pytest.raises(InputError, match=r"holds a run already; add --resume"):
        evaluate(request_for(folder), out, device="cpu")
    with pytest.raises(InputError, match=r'was asked for recipe .*"study".*, not .*; resume it with the same settings'):
        evaluate(request_for(folder, seed=4), out, resume=True, device="cpu")


def test_refusals_leave_no_folder(tmp_path, folder):
    with pytest.raises(InputError, match=r"data 'nowhere' does not exist"):
        evaluate(Request("nowhere", ((NET, "random:0"),), Recipe()), tmp_path / "r", device="cpu")
    named = tmp_path / "named"
    for name in ("cat", "dog"):
        (named / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(named / name / "1.png")
    with pytest.raises(InputError, match=r"target is label, but the labels of named \(class folders\) are no classes"):
        evaluate(request_for(named, target="label"), tmp_path / "r", device="cpu")
    assert not (tmp_path / "r").exists()


def test_cancelling_keeps_what_is_done(tmp_path, folder, whole):
    out = tmp_path / "run"
    run = Run(cancelled=lambda: len(shards(out)) >= 2)
    with pytest.raises(Exception, match=r"cancelled\."):
        evaluate(request_for(folder), out, device="cpu", run=run)
    assert RunFolder.open(out).status().state == "cancelled"
    assert len(shards(out)) == 2
    with pytest.raises(InputError, match=r"has no results yet \(it is cancelled\); wait, or resume it\."):
        open_results(out)
    result = evaluate(request_for(folder), out, resume=True, device="cpu", workers=1)
    assert result is not None
    assert result.table.equals(whole[1])


def test_bf16_tells_its_error(tmp_path, folder):
    request = Request(
        str(folder), ((NET, "random:0"),), Recipe(baselines=(), protocol="study", precision="bf16"), images=2
    )
    evaluate(request, tmp_path / "run", device="cpu")
    error = RunFolder(tmp_path / "run").summary()["bf16_auc_error"]
    assert error["images"] == 2
    assert set(error[NETWORK]) == {"insertion", "deletion"}
    assert all(0 <= value < 0.5 for value in error[NETWORK].values())


# --- the terminal ---------------------------------------------------------------------------


def test_the_command_prints_tables_or_json(tmp_path, folder, capsys):
    assert main(words(folder, tmp_path / "a", "--images", "3")) == 0
    shown = capsys.readouterr()
    assert "insertion (higher is better)" in shown.out
    assert "deletion (higher is better)" in shown.out
    assert "fractions 0, 0.25, 0.5, 0.75, 1" in shown.out
    assert main(words(folder, tmp_path / "b", "--images", "3", "--json")) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["images"] == 3
    assert summary == json.loads((tmp_path / "b" / "summary.json").read_text())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--protocol", "rice"], "protocol 'rice' is not known; use study, rise, rise-row."),
        (["--method", "gradcom"], "method 'gradcom' is not known; did you mean gradcam"),
        (["--batch", "0"], "batch is 0; give 1 to 256."),
        (["--chunk", "0"], "chunk is 0; give 1 to 1024."),
        (["--insertion-from", "grey"], "substrate 'grey' is not known"),
        (["--target", "truth"], "target 'truth' is not known; use predicted or label."),
        (["--precision", "fp8"], "precision 'fp8' is not known; use float32 or bf16."),
    ],
)
def test_bad_requests_are_one_line_and_exit_code_2(tmp_path, folder, capsys, more, told):
    assert main(words(folder, tmp_path / "r", *more)) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "r").exists()


# --- killed, and several processes ----------------------------------------------------------


@pytest.mark.slow
def test_kill_9_in_the_middle_then_resume_gives_the_same_table(tmp_path, folder, whole):
    out = tmp_path / "run"
    child = start(words(folder, out), environment(tmp_path))
    try:
        wait_for_shard(out, child)
        child.send_signal(signal.SIGKILL)
        child.wait(20)
    finally:
        child.kill()
        child.communicate()
    left = shards(out)
    assert 1 <= len(left) < 4, "the kill came too late to test anything"
    assert RunFolder.open(out).status().state == "failed"
    kept = {path: path.stat().st_mtime_ns for path in left}
    result = evaluate(request_for(folder), out, resume=True, device="cpu")
    assert result is not None
    assert result.table.equals(whole[1])
    assert {path: path.stat().st_mtime_ns for path in left} == kept  # done work was not done again
    assert RunFolder.open(out).status().state == "done"


@pytest.mark.slow
def test_two_processes_of_torchrun_give_the_rows_of_one(tmp_path, folder, whole):
    out = tmp_path / "run"
    torchrun = ["torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    done = subprocess.run(
        [sys.executable, "-m", *torchrun, "-m", "xai", *words(folder, out)],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert pq.read_table(out / "results.parquet").equals(whole[1])
    assert {line["rank"] for line in RunFolder(out).metrics()} == {0, 1}
    assert done.stdout.count("rows and summary:") == 1  # only rank 0 speaks


@pytest.mark.slow
def test_a_killed_rank_fails_the_run_and_it_resumes(tmp_path, folder, whole):
    out = tmp_path / "run"
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [
        start(words(folder, out), environment(tmp_path, RANK=str(rank), LOCAL_RANK=str(rank), **both))
        for rank in (0, 1)
    ]
    try:
        wait_for_shard(out, ranks[1])
        ranks[1].send_signal(signal.SIGKILL)
        told = ranks[0].communicate(timeout=120)[0]
    finally:
        for child in ranks:
            child.kill()
            child.communicate()
    assert ranks[0].returncode == 1, told
    assert len(shards(out)) < 4, "the kill came too late to test anything"
    assert RunFolder.open(out).status().state == "failed"
    result = evaluate(request_for(folder), out, resume=True, device="cpu")
    assert result is not None
    assert result.table.equals(whole[1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
