"""A training as a run: resumed equals uninterrupted, stopped and diverged are said, processes agree, files hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from xai.checkpoint import load_checkpoint
from xai.cli import main
from xai.data import open_dataset
from xai.errors import Cancelled, InputError, WeightsError, XaiError
from xai.gan import train as loop
from xai.gan.agreement import agreement, train_judge
from xai.gan.features import Extractor
from xai.gan.images import Pictures, Shares, read_shares, split_places
from xai.gan.sample import generate, gif, latents, nearest_training, reconstructions, sample, slerp, walk
from xai.gan.saved import (
    Generator,
    discriminator_path,
    load_discriminator,
    load_generator,
    merged,
    save_generator,
)
from xai.gan.settings import LAPTOP, GanSettings, build_generator
from xai.gan.step import Trainer
from xai.runs import RunFolder
from xai.studies.gan_quality import shares_of
from xai.studies.gan_training import GanRequest, train_gan
from xai.types import Run

ROOT = Path(__file__).resolve().parents[2]
TINY = GanSettings(size=32, nz=6, ngf=2, ndf=2, batch=4, perceptual=0, decoder_side=16, head="both")


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    quick = Extractor("corners", "0", "means of parts", lambda x: torch.nn.functional.avg_pool2d(x, 8).flatten(1))
    monkeypatch.setattr(loop, "lite0", lambda device: quick)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Ten noise images of each of two classes."""
    root = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(1)
    for name in ("bolt", "nut"):
        (root / name).mkdir()
        for index in range(10):
            levels = torch.randint(0, 256, (40, 36, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(levels.numpy()).save(root / name / f"{index}.png")
    return root


def request_of(folder: Path, steps: int = 6, **changes) -> GanRequest:
    return GanRequest(str(folder), TINY, steps, look=3, **changes)


def weights(made: Generator) -> dict[str, torch.Tensor]:
    return dict(made.net.state_dict())


def alike(a: Generator, b: Generator) -> bool:
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A whole training: its folder and its generator."""
    out = tmp_path_factory.mktemp("run") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAI_CACHE", str(out.parent / "cache"))
        quick = Extractor("corners", "0", "", lambda x: torch.nn.functional.avg_pool2d(x, 8).flatten(1))
        patch.setattr(loop, "lite0", lambda device: quick)
        made = train_gan(request_of(folder), out, device="cpu", command="python -m xai gan train X")
    return out, made


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


@pytest.mark.parametrize("half", [False, True])
def test_a_saved_generator_draws_the_same(tmp_path, half: bool) -> None:
    trainer = Trainer(TINY, 2, Run())
    ready = trainer.ready()
    z, y = torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1])
    with torch.no_grad():
        wanted = ready(z, y) / 2 + 0.5
    made = Generator(merged(ready), TINY, ("a", "b"), {"data": "x"})
    save_generator(tmp_path / "g.safetensors", made, half)
    loaded = load_generator(tmp_path / "g.safetensors")
    torch.testing.assert_close(generate(loaded, z, y), wanted, rtol=0, atol=1e-2 if half else 1e-5)
    assert (loaded.classes, loaded.settings, loaded.facts) == (("a", "b"), TINY, {"data": "x"})


def test_a_generator_under_spectral_norm_is_not_saved(tmp_path) -> None:
    net = build_generator(TINY, 2)
    with pytest.raises(TypeError, match="still under spectral norm"):
        save_generator(tmp_path / "g", Generator(net, TINY, ("a", "b")))


def test_damaged_and_missing_generators_are_refused(finished, tmp_path) -> None:
    out, _ = finished
    with pytest.raises(
        InputError, match=r"does not exist; give a finished training's run folder or a saved generator\."
    ):
        load_generator(tmp_path / "none.safetensors")
    for name in ("generator.safetensors", "generator.json"):
        (tmp_path / name).write_bytes((out / "artifacts" / name).read_bytes())
    whole = (tmp_path / "generator.safetensors").read_bytes()
    (tmp_path / "generator.safetensors").write_bytes(whole[:-1] + b"x")
    with pytest.raises(
        WeightsError, match=r"generator\.safetensors is damaged \(its SHA-256 is not the one in generat"
    ):
        load_generator(tmp_path / "generator.safetensors")
    (tmp_path / "generator.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"generator\.json does not describe a generator"):
        load_generator(tmp_path / "generator.safetensors")


def test_samples_are_their_seeds_and_truncation_pulls_them_in(finished) -> None:
    _, made = finished
    images, labels = sample(made, [3, 4, 5])
    assert labels.tolist() == [0, 1, 0]
    alone, _ = sample(made, [4], "nut")
    torch.testing.assert_close(alone[0], images[1], rtol=1e-4, atol=1e-5)
    wild, tame = latents(range(50), 6), latents(range(50), 6, 0.5)
    assert float(tame.abs().max()) <= 0.5 < float(wild.abs().max())
    assert torch.equal(wild.flatten().argsort(), tame.flatten().argsort())  # the same samples, moved inwards
    torch.testing.assert_close(latents(range(5), 6, 8.0), wild[:5], rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"truncation is 0; give a number above 0, such as 0\.7, or none\."):
        latents([0], 6, 0)
    with pytest.raises(InputError, match=r"class 'gear' is not one of the generator's: bolt, nut\."):
        sample(made, [0], "gear")
    with pytest.raises(InputError, match=r"labels run from 0 to 2; this generator has 0 to 1\."):
        generate(made, torch.zeros(2, 6), torch.tensor([0, 2]))


def test_slerp_by_hand() -> None:
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    root = 2**0.5
    torch.testing.assert_close(slerp(a, b, 0.5), torch.tensor([root, root]))
    torch.testing.assert_close(slerp(a, b, 1 / 3), torch.tensor([2 * 0.75**0.5, 1.0]))
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    torch.testing.assert_close(slerp(a, 3 * a, 0.5), 2 * a)
    with pytest.raises(InputError, match=r"t is 1\.5; give 0 \(the first sample\) to 1 \(the second\)\."):
        slerp(a, b, 1.5)


def test_a_walk_ends_at_its_samples_and_becomes_a_gif(finished, tmp_path) -> None:
    _, made = finished
    images = walk(made, 7, 9, "nut", frames=5)
    ends, _ = sample(made, [7, 9], "nut")
    torch.testing.assert_close(images[[0, -1]], ends, rtol=1e-4, atol=1e-5)
    (tmp_path / "walk.gif").write_bytes(gif(images, seconds=1.0))
    with Image.open(tmp_path / "walk.gif") as found:
        assert (found.n_frames, found.size, found.info["loop"], found.info["duration"]) == (8, (32, 32), 0, 200)
    with pytest.raises(InputError, match=r"frames is 1; give 2 to 240\."):
        walk(made, 0, 1, frames=1)


def test_the_nearest_training_image_of_a_training_image_is_itself(finished, folder) -> None:
    shares = read_shares(open_dataset(folder), 32, Run())
    quick = Extractor("pixels", "0", "", lambda x: x.flatten(1))
    found = nearest_training(shares.train.pixels()[[5, 2]], shares.train, quick)
    assert found.places.tolist() == [5, 2]
    assert found.distances.tolist() == [0, 0]
    assert found.measure == "Euclidean distance of pixels features"


def test_the_discriminator_reconstructs_without_learning() -> None:
    trainer = Trainer(TINY, 2, Run())
    before = {name: value.clone() for name, value in trainer.d.state_dict().items()}
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    parts = reconstructions(trainer.d, images, (1, 1))
    assert [a.shape for a, _ in parts] == [(2, 3, 16, 16)] * 3
    torch.testing.assert_close(parts[2][1], images[:, :, 16:, 16:])
    assert all(torch.equal(value, before[name]) for name, value in trainer.d.state_dict().items())
    assert trainer.d.training
    plain = Trainer(GanSettings(architecture="dcgan", size=32, nz=4, ngf=2, ndf=2, batch=2), 2, Run()).d
    with pytest.raises(InputError, match=r"this discriminator reconstructs nothing; FastGAN's own does\."):
        reconstructions(plain, images)


def test_export_keeps_the_discriminator_beside_the_generator(finished, tmp_path, capsys) -> None:
    out, made = finished
    assert main(["gan", "export", str(out), "--half", "--out", str(tmp_path / "small.safetensors")]) == 0
    assert "MB" in capsys.readouterr().out
    small, whole = load_generator(tmp_path / "small.safetensors"), load_generator(out)
    assert dict(small.facts) == dict(whole.facts) == dict(made.facts)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    wanted = reconstructions(load_discriminator(out), images)
    found = reconstructions(load_discriminator(tmp_path / "small.safetensors"), images)
    for (a, _), (b, _) in zip(wanted, found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-2)
    discriminator_path(tmp_path / "small.safetensors").unlink()
    with pytest.raises(InputError, match=r"does not exist; the discriminator was not kept"):
        load_discriminator(tmp_path / "small.safetensors")


def test_a_generator_is_judged_by_the_images_it_was_trained_on(finished, folder, tmp_path) -> None:
    _, made = finished
    shares = shares_of(made, Run())
    assert shares.train.fingerprint == made.facts["train_fingerprint"]
    for path in folder.rglob("*.png"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        Image.new("RGB", (40, 36)).save(tmp_path / path.parent.name / path.name)
    with pytest.raises(InputError, match=r"is not what the generator was trained on \(its training images are"):
        shares_of(made, Run(), str(tmp_path))


def test_the_terminal_trains_draws_and_walks(folder, tmp_path, capsys) -> None:
    words = ["gan", "train", str(folder), "--size", "32", "--setting", "laptop", "--steps", "1", "--device", "cpu"]
    small = ["nz=6", "ngf=2", "ndf=2", "batch=4", "decoder_side=16"]
    words += [each for setting in small for each in ("--set", setting)]
    assert main([*words, "--out", str(tmp_path / "run"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["steps"] == 1
    assert told["command"].startswith("python -m xai gan train")
    run = str(tmp_path / "run")
    assert main(["gan", "sample", run, "--class", "nut", "--count", "3", "--out", str(tmp_path / "a.png")]) == 0
    assert Image.open(tmp_path / "a.png").size == (3 * 32, 32)
    assert main(["gan", "interpolate", run, "--frames", "3", "--out", str(tmp_path / "a.gif")]) == 0
    assert main(["gan", "sample", run, "--class", "gear", "--out", str(tmp_path / "b.png")]) == 2
    assert main([*words, "--set", "ngf=wide", "--out", str(tmp_path / "c")]) == 2
    assert "--set 'ngf=wide' does not fit: ngf is a whole number." in capsys.readouterr().err
    assert main([*words[:-2], "--set", "width=3", "--out", str(tmp_path / "c")]) == 2


def test_the_terminal_judges(finished, tmp_path, capsys) -> None:
    out, _ = finished
    words = ["gan", "quality", str(out), "--count", "20", "--device", "cpu"]
    assert main([*words, "--json", "--out", str(tmp_path / "quality.json")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "quality.json").read_text())
    assert told["extractor"] == "EffNetLite0@128"
    assert told["samples"]["n"] == 20
    assert 0 <= told["agreement"]["agreement"] <= 1
    assert told["noise"]["kid"]["value"] > told["reference"]["kid"]["value"]
    assert main([*words, "--count", "5"]) == 2
    assert "--count is 5; give 20 or more, of fewer nothing can be said." in capsys.readouterr().err
    assert main([*words, "--extractor", "resnet"]) == 2
    assert "extractor 'resnet' is not known; use lite0 or inception." in capsys.readouterr().err


def test_agreement_is_asked_of_a_classifier_of_real_images() -> None:
    def pictures(seed: int) -> Pictures:
        labels = torch.arange(24) % 3
        noise = torch.randint(0, 60, (24, 3, 32, 32), generator=torch.Generator().manual_seed(seed))
        images = (noise + 80 * labels[:, None, None, None]).to(torch.uint8)  # dark, middling, bright
        return Pictures(images, labels, tuple(map(str, range(24))), ("dark", "grey", "light"))

    shares = Shares(pictures(0), pictures(1))
    net = train_judge(shares.train, Run(), epochs=30)
    samples = pictures(2).pixels()
    asked = torch.arange(24) % 3
    right = agreement(net, samples, asked, shares)
    assert (right.agreement, right.accuracy, right.n) == (1.0, 1.0, 24)
    half = agreement(net, samples, torch.where(asked == 0, 1, asked), shares)  # the dark ones were asked for as grey
    assert half.agreement == pytest.approx(2 / 3)
    assert half.confusion == ((0, 0, 0), (8, 8, 0), (0, 0, 8))
    assert half.by_class == {"grey": 0.5, "light": 1.0}
    assert torch.equal(net.head.weight, train_judge(shares.train, Run(), epochs=30).head.weight)


def test_the_laptop_setting_fits_two_cores() -> None:
    generator = build_generator(LAPTOP, 10)
    assert sum(each.numel() for each in generator.parameters()) < 4e6  # a few MB to ship
