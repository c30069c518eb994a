"""A training as a run: resumed equals uninterrupted, stopped and diverged are said, processes agree, files hold."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import gan as benchmark
from tests.unit.gan_helpers import TINY, noise_folder, request_of
from xai.checkpoint import load_checkpoint
from xai.data import open_dataset
from xai.errors import Cancelled, InputError, XaiError
from xai.gan import train as loop
from xai.gan.images import read_shares, split_places
from xai.gan.saved import Generator
from xai.gan.step import DiscriminatorLoss, Trainer
from xai.gan.watch import looks, plateau
from xai.runs import RunFolder
from xai.studies.gan_training import train_gan
from xai.types import Run

ROOT = Path(__file__).resolve().parents[3]


def weights(made: Generator) -> dict[str, torch.Tensor]:
    return dict(made.net.state_dict())


def alike(a: Generator, b: Generator) -> bool:
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


def test_a_run_leaves_what_a_person_wants_to_see(finished) -> None:
    out, made = finished
    assert RunFolder.open(out).status().state == "done"
    assert sorted(each.name for each in (out / "artifacts").iterdir()) == [
        "generator-discriminator.safetensors",
        "generator.json",
        "generator.safetensors",
        "real.png",
        "samples-0000003.png",
        "samples-0000006.png",
    ]
    assert Image.open(out / "artifacts" / "samples-0000006.png").size == (8 * 32, 2 * 32)
    looks = [row for row in RunFolder.open(out).metrics() if row["kind"] == "look"]
    assert [row["step"] for row in looks] == [3, 6]
    assert looks[0]["kid_name"] == "KID-corners x 1000, 200 samples"
    facts = json.loads((out / "artifacts" / "generator.json").read_text())["facts"]
    assert facts["command"] == "python -m xai gan train X"
    assert (facts["steps"], facts["images_seen"], facts["train_images"]) == (6, 24, 14)
    assert made.classes == ("bolt", "nut")


def test_resumed_equals_uninterrupted(folder, finished, tmp_path, monkeypatch) -> None:
    out = tmp_path / "run"
    step, steps = Trainer.step, []

    def counted(self, images, labels):
        steps.append(1)
        return step(self, images, labels)

    monkeypatch.setattr(Trainer, "step", counted)
    with pytest.raises(Cancelled):
        train_gan(request_of(folder), out, device="cpu", run=Run(cancelled=lambda: len(steps) == 2))
    assert load_checkpoint(out / "checkpoints" / "last.pt").state["step"] == 2
    steps.append(1)  # from here on it is not stopped
    assert RunFolder.open(out).status().state == "cancelled"
    made = train_gan(request_of(folder), out, resume=True, device="cpu")
    assert alike(made, finished[1])
    wanted = [row for row in RunFolder.open(finished[0]).metrics() if row["kind"] == "look"]
    found = [row for row in RunFolder.open(out).metrics() if row["kind"] == "look"]
    assert [(row["step"], row["kid"]) for row in found] == [(row["step"], row["kid"]) for row in wanted]


def test_more_steps_go_on_from_fewer(folder, finished, tmp_path) -> None:
    out = tmp_path / "run"
    first = train_gan(request_of(folder, steps=2), out, device="cpu")
    more = train_gan(request_of(folder), out, resume=True, device="cpu")
    assert not alike(first, more)
    assert alike(more, finished[1])
    with pytest.raises(InputError, match=r"was asked for seed 0, not 1"):
        train_gan(request_of(folder), out, resume=True, device="cpu", run=Run(seed=1))


def test_a_step_depends_on_the_seed_and_its_number_alone() -> None:
    images = torch.randint(0, 256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(8) % 2
    one, two = Trainer(TINY, 2, Run()), Trainer(TINY, 2, Run())
    torch.rand(7)  # somebody else draws from the global generator
    assert one.step(images, labels) == two.step(images, labels)
    other = Trainer(TINY, 2, Run(seed=1))
    assert one.step(images, labels) != other.step(images, labels)


def test_divergence_is_said_and_is_in_no_checkpoint(folder, tmp_path, monkeypatch) -> None:
    step = Trainer.step

    def broken(self, images, labels):
        if self.done == 3:
            with torch.no_grad():
                next(self.g.parameters()).fill_(float("nan"))
        return step(self, images, labels)

    monkeypatch.setattr(Trainer, "step", broken)
    with pytest.raises(XaiError, match=r"is nan at step 4: the training has diverged; start again with smaller"):
        train_gan(request_of(folder), tmp_path / "run", device="cpu")
    assert RunFolder.open(tmp_path / "run").status().state == "failed"
    assert not (tmp_path / "run" / "checkpoints" / "last.pt").exists()  # none was due yet, and none of the broken step


def test_collapse_is_said(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "draw", lambda net, z, labels, device: torch.full((len(z), 3, 32, 32), 0.5))
    train_gan(request_of(folder, steps=3), tmp_path / "run", device="cpu")
    run = RunFolder.open(tmp_path / "run")
    assert "the generator is collapsing" in run.summary()["warning"]
    assert "0.00 times as far apart as real ones" in (run.path / "log.txt").read_text()


def test_what_is_asked_wrongly_is_refused(folder, tmp_path) -> None:
    with pytest.raises(InputError, match=r"class 'gear' is not in .*; it has bolt, nut\."):
        train_gan(request_of(folder, only="gear"), tmp_path / "a", device="cpu")
    with pytest.raises(InputError, match=r"precision 'fp8' is not known; use auto, float32, bf16\."):
        train_gan(request_of(folder, precision="fp8"), tmp_path / "b", device="cpu")
    with pytest.raises(InputError, match=r"steps is 0; give 1 or more\."):
        train_gan(request_of(folder, steps=0), tmp_path / "c", device="cpu")
    with pytest.raises(InputError, match=r"batch 4 does not go over 3 processes; give a multiple, 2 each or more\."):
        Trainer(TINY, 2, Run(), 0, 3)


def test_the_share_that_is_seen_is_the_studys(folder) -> None:
    data = open_dataset(folder)
    train, held = split_places(data)
    assert (len(train), len(held)) == (14, 6)
    assert sorted(train + held) == list(range(20))
    shares = read_shares(data, 32, Run())
    assert shares.train.images.shape == (14, 3, 32, 32)
    assert not set(shares.train.keys) & set(shares.held_out.keys)
    assert shares.train.labels.bincount().tolist() == [7, 7]


def test_two_processes_keep_the_same_weights(folder, tmp_path) -> None:
    code = (
        "import sys, torch, torch.distributed as dist\n"
        "from tests_settings import TINY\n"
        "from xai.gan.step import Trainer\n"
        "from xai.types import Run\n"
        "torch.set_num_threads(1)\n"
        "dist.init_process_group('gloo')\n"
        "trainer = Trainer(TINY, 2, Run(), dist.get_rank(), 2)\n"
        "images = (torch.arange(8 * 3 * 32 * 32).reshape(8, 3, 32, 32) * 37 % 256).to(torch.uint8)\n"
        "for _ in range(2):\n"
        "    losses = trainer.step(images, torch.arange(8) % 2)\n"
        "for net in (trainer.g, trainer.d, trainer.average):\n"
        "    for mine in net.parameters():\n"
        "        others = [torch.empty_like(mine) for _ in range(2)]\n"
        "        dist.all_gather(others, mine.detach())\n"
        "        assert torch.equal(*others)\n"
        "seen = [torch.zeros(1), torch.zeros(1)]\n"
        "dist.all_gather(seen, torch.tensor([losses['d_real']]))\n"
        "assert seen[0] != seen[1]  # each had images of its own\n"
        "print('alike')\n"
        "dist.destroy_process_group()\n"
    )
    (tmp_path / "tests_settings.py").write_text(
        "from xai.gan.settings import GanSettings\n"
        "TINY = GanSettings(size=32, nz=6, ngf=2, ndf=2, batch=4, perceptual=0, decoder_side=16, head='both')\n"
    )
    script = tmp_path / "two.py"
    script.write_text(code)
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("alike") == 2


# --- memory that is short -------------------------------------------------------------------


class Meter(nn.Module):
    """A loss whose gradient is known, and that does not fit where there are more than `most` images."""

    def __init__(self, net: nn.Module, most: int) -> None:
        super().__init__()
        self.weight, self.most, self.seen = next(net.parameters()), most, []

    def forward(self, real, y_real, fake, y_fake, generator):
        self.seen.append(len(real))
        if len(real) > self.most:
            torch.rand(3, generator=generator)  # what was drawn before memory ran out must not count
            raise torch.OutOfMemoryError("out of memory")
        return {"d_real": (real.mean((1, 2, 3)) * self.weight.sum()).mean(), "logit_real": real.mean()}


def metered(most: int, parts: int = 1) -> tuple[Trainer, dict[str, float]]:
    """A step of 10 images with a discriminator's loss that takes `most` of them at a time."""
    trainer = Trainer(dataclasses.replace(TINY, batch=10), 2, Run())
    trainer._loss, trainer.parts = Meter(trainer.d, most), parts
    images = torch.randint(0, 256, (30, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return trainer, trainer.step(images, torch.arange(30) % 2)


def test_a_batch_that_does_not_fit_is_learned_in_parts_of_the_same_sum() -> None:
    (halved, told), (asked, same), (plain, _) = metered(3), metered(3, parts=4), metered(10)
    assert halved._loss.seen == [10, 5, 2, 3, 2, 3]  # the whole, a half, then the quarters
    assert (halved.parts, halved.state()["parts"], halved.done, plain.parts) == (4, 4, 1, 1)
    assert told == pytest.approx(same, rel=1e-4)  # the same draws; passes that broke off only settle u and v further
    assert torch.equal(halved._loss.weight, asked._loss.weight)
    # the images are augmented part by part, so that the draws differ from the whole batch's: only here not
    still = [metered_still(most) for most in (10, 3)]
    torch.testing.assert_close(still[0][0]._loss.weight.grad, still[1][0]._loss.weight.grad)
    assert still[0][1]["d_real"] == pytest.approx(still[1][1]["d_real"], rel=1e-5)


def metered_still(most: int) -> tuple[Trainer, dict[str, float]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xai.gan.step.augment", lambda x, policy, generator: x)
        return metered(most)


def test_a_batch_of_which_no_part_fits_says_what_to_do() -> None:
    with pytest.raises(XaiError, match=r"a batch of 10 images does not fit the memory of cpu, also not in parts of 2"):
        metered(1)


def test_a_shortage_is_said_and_the_training_goes_on_and_resumes_in_parts(folder, tmp_path, monkeypatch) -> None:
    forward = DiscriminatorLoss.forward

    def short(self, real, *rest):
        if len(real) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, real, *rest)

    monkeypatch.setattr(DiscriminatorLoss, "forward", short)
    notes: list[str] = []
    run = Run(on_progress=lambda done, total, note: notes.append(note))
    train_gan(request_of(folder, steps=2), tmp_path / "run", device="cpu", run=run)
    said = (tmp_path / "run" / "log.txt").read_text()
    assert "step 1: a batch of 4 does not fit the memory of cpu; from here on it is learned in 2 parts" in said
    assert any("(each batch in 2 parts: memory is short)" in note for note in notes)
    assert RunFolder.open(tmp_path / "run").summary()["batch_parts"] == 2
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt").state["parts"] == 2
    straight = train_gan(request_of(folder, steps=3), tmp_path / "other", device="cpu")
    assert alike(train_gan(request_of(folder, steps=3), tmp_path / "run", resume=True, device="cpu"), straight)


# --- what a training cannot be judged by, and what it tells ---------------------------------


def test_too_few_or_equal_images_are_refused_before_the_first_step(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Trainer, "step", lambda *_: pytest.fail("a step was made"))
    few = tmp_path / "few"
    few.mkdir()
    for index in range(3):
        Image.new("RGB", (40, 40), (index, 0, 0)).save(few / f"{index}.png")
    with pytest.raises(InputError, match=r"1 image is held out, too few to judge samples by; give more images or a sm"):
        train_gan(request_of(few), tmp_path / "a", device="cpu")
    equal = tmp_path / "equal"
    for name in ("bolt", "nut"):
        (equal / name).mkdir(parents=True)
        for index in range(4):
            Image.new("RGB", (40, 40)).save(equal / name / f"{index}.png")
    with pytest.raises(InputError, match=r"the training images of every class are equal to one another; give differen"):
        train_gan(request_of(equal), tmp_path / "b", device="cpu")


def test_small_images_are_enlarged_and_that_is_noted(tmp_path) -> None:
    small = noise_folder(tmp_path, side=24)
    train_gan(request_of(small, steps=1), tmp_path / "run", device="cpu")
    said = (tmp_path / "run" / "log.txt").read_text()
    assert "14 of 14 training images are smaller than 32 px and were enlarged" in said


def test_reading_is_told_but_does_not_count(folder, tmp_path) -> None:
    told: list[tuple[int, int, str]] = []
    run = Run(on_progress=lambda *each: told.append(each))
    train_gan(request_of(folder, steps=2), tmp_path / "run", device="cpu", run=run)
    assert told[0] == (0, 0, "reading images: 1 of 20")
    counted = [each for each in told if each[1]]
    assert {total for _, total, _ in counted} == {2}
    assert [done for done, _, _ in counted] == [0, 1, 2]


def test_the_plateau_is_the_look_from_which_little_is_gained() -> None:
    rows = [{"kind": "look", "step": step, "kid": kid} for step, kid in enumerate((900.0, 400, 109, 100, 104))]
    found = plateau(looks([{"kind": "loss", "step": 0}, rows[0], *rows]))
    assert found is not None
    assert found["step"] == 2  # 100 + 5 % of 800 is 140
    assert plateau(looks(rows[:3])) is None  # the last one is the best: it may still fall
    assert plateau([]) is None


def test_what_a_killed_training_took_twice_counts_once() -> None:
    """Resumed at step 25, after a kill at 45: steps 40 and 30 are there again, and the later ones hold."""
    rows = [{"kind": "loss", "step": step, "g": g} for step, g in ((20, 0.1), (40, 0.2), (40, 0.3), (60, 0.4))]
    rows.insert(1, {"kind": "look", "step": 30, "kid": 9.0})
    assert [(row["step"], row["g"]) for row in looks(rows, "loss")] == [(20, 0.1), (40, 0.3), (60, 0.4)]


def test_the_benchmark_draws_a_kid_curve_and_says_why_it_has_no_gpu(folder) -> None:
    shares = read_shares(open_dataset(folder), 32, Run())
    rows = benchmark.curve("tiny", TINY, shares, 1, 3, torch.device("cpu"))
    assert [row.get("steps") for row in rows[:3]] == [1, 2, 3]
    assert [row["seconds"] for row in rows[:3]] == sorted(row["seconds"] for row in rows[:3])
    assert all("KID x 1000" in row for row in rows[:3])
    assert rows[3]["what"] == "tiny: time to the quality plateau"
    assert benchmark.on_gpu(torch.device("cpu"), 5, False) == [
        {"what": "FastGAN, 256 px, on a GPU", "note": "skipped: no CUDA device here, only cpu"}
    ]
