"""A trained generator: saved and loaded, sampled, walked through, compared with real images, judged; the terminal."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image

from tests.unit.gan_helpers import QUICK, TINY, request_of
from xai.cli import main
from xai.data import open_dataset
from xai.errors import InputError, WeightsError
from xai.gan import train as loop
from xai.gan.agreement import agreement, train_judge
from xai.gan.features import Extractor
from xai.gan.images import Pictures, Shares, labels_like, read_shares
from xai.gan.sample import (
    contrast,
    draw,
    generate,
    gif,
    grid_png,
    latents,
    nearest_training,
    reconstructions,
    sample,
    sample_each,
    slerp,
    walk,
)
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
from xai.gan.watch import intra_class_distance
from xai.studies.gan.quality import judge_generator, shares_of
from xai.studies.gan.training import train_gan
from xai.types import Run


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


def test_a_description_of_a_huge_generator_is_refused_before_it_is_built(tmp_path: Path, finished) -> None:
    out, _ = finished
    for name in ("generator.safetensors", "generator.json"):
        (tmp_path / name).write_bytes((out / "artifacts" / name).read_bytes())
    about = json.loads((tmp_path / "generator.json").read_text())
    about["settings"]["ngf"] = 256  # its layers would take gigabytes
    (tmp_path / "generator.json").write_text(json.dumps(about))
    with pytest.raises(WeightsError, match=r"generator\.safetensors does not fit its description: .* of another shape"):
        load_generator(tmp_path / "generator.safetensors")
    about["settings"]["ngf"] = "8"
    (tmp_path / "generator.json").write_text(json.dumps(about))
    with pytest.raises(WeightsError, match=r"settings\.ngf is '8', not a whole number"):
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
    assert contrast(torch.tensor([[0.0, 1.0], [0.5, 0.5]]).view(2, 1, 1, 2)) == 0.25  # half and none
    assert contrast(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)) == 0  # red all over
    with pytest.raises(InputError, match=r"truncation is 0; give a number above 0, such as 0\.7, or none\."):
        latents([0], 6, 0)
    with pytest.raises(InputError, match=r"class 'gear' is not one of the generator's: bolt, nut\."):
        sample(made, [0], "gear")
    with pytest.raises(InputError, match=r"labels run from 0 to 2; this generator has 0 to 1\."):
        generate(made, torch.zeros(2, 6), torch.tensor([0, 2]))


def test_a_generator_of_one_class_alone_answers_to_its_name() -> None:
    net = merged(build_generator(TINY, 0))
    made = Generator(net, TINY, (), {"only": "nut"})
    assert sample(made, [1], "nut")[1].tolist() == [0]
    with pytest.raises(InputError, match=r"class 'bolt' is not one of the generator's: nut\."):
        sample(made, [1], "bolt")


def test_memory_that_is_short_halves_the_batch_of_samples() -> None:
    class Short(torch.nn.Module):
        seen: ClassVar[list[int]] = []

        def forward(self, z, y):
            self.seen.append(len(z))
            if len(z) > 20:
                raise torch.OutOfMemoryError("out of memory")
            return z[:, :3, None, None].expand(-1, 3, 8, 8) / 4

    z = torch.randn(70, 6, generator=torch.Generator().manual_seed(0))
    images = draw(Short(), z, torch.zeros(70, dtype=torch.int64), torch.device("cpu"))
    torch.testing.assert_close(images[:, :, 0, 0], (z[:, :3] / 8 + 0.5).clamp(0, 1))
    assert Short.seen[:3] == [64, 32, 16]


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


def test_samples_are_judged_in_the_proportions_of_the_classes(finished) -> None:
    unequal = torch.tensor([0] * 6 + [1] * 3 + [2])
    assert torch.bincount(labels_like(unequal, 20)).tolist() == [12, 6, 2]
    assert labels_like(unequal, 5).tolist() == [0, 1, 0, 0, 1]  # behind by 6, 3, 1; 2, 6, 2; 8, -1, 3; ...
    assert labels_like(torch.tensor([2, 1, 0, 0, 1, 2]), 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
    out, _ = finished
    made = load_generator(out)
    _, images, labels = judge_generator(made, Run(), count=20)
    assert labels.tolist() == [0, 1] * 10
    torch.testing.assert_close(images, sample(made, range(20))[0], rtol=0, atol=0)


def test_a_generator_that_is_told_no_class_is_judged_as_one_of_one(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "lite0", lambda device: QUICK)
    made = train_gan(request_of(folder, steps=1, conditional=False), tmp_path / "run", device="cpu")
    found, images, labels = judge_generator(made, Run(), count=8)
    assert (len(images), labels.tolist(), found.agreement) == (8, [0] * 8, None)
    assert list(found.by_class) == ["all"]
    train = shares_of(made, Run()).train  # fingerprint and classes are those of the data
    assert train.classes == ("bolt", "nut")
    whole = intra_class_distance(train.images, torch.zeros(14))
    assert found.pixel_ratio == pytest.approx(intra_class_distance(images, labels) / whole)


def test_pictures_as_one_class_are_not_all_of_the_first_one_to_begin_with() -> None:
    """What is measured within a class takes its first 64 images: in the data's order they would be bolts."""
    labels = torch.arange(3).repeat_interleave(100)
    images = torch.arange(300).view(300, 1, 1, 1).expand(300, 3, 2, 2)
    part = Pictures(images, labels, tuple(map(str, range(300))), ("bolt", "nut", "washer"))
    found = Shares(part, part).unlabelled().train
    assert (found.counts, found.classes) == ([300], ())
    assert sorted(found.keys, key=int) == list(part.keys)
    assert [int(key) for key in found.keys] == found.images[:, 0, 0, 0].tolist()
    first = torch.bincount(torch.tensor([int(key) // 100 for key in found.keys[:64]]), minlength=3)
    assert int(first.min()) > 12
    flat = dataclasses.replace(part, labels=torch.zeros_like(labels), classes=())  # without class folders: the same
    assert Shares(flat, flat).unlabelled().train.keys == found.keys


def test_the_terminal_trains_draws_and_walks(folder, tmp_path, capsys) -> None:
    own = shutil.copytree(folder, tmp_path / "own")
    (own / "notes.txt").write_text("no image")
    (own / "loose.png").write_bytes(next(folder.glob("*/*.png")).read_bytes())
    words = ["gan", "train", str(own), "--size", "32", "--setting", "laptop", "--steps", "1", "--device", "cpu"]
    small = ["nz=6", "ngf=2", "ndf=2", "batch=4", "decoder_side=16"]
    words += [each for setting in small for each in ("--set", setting)]
    assert main([*words, "--out", str(tmp_path / "run"), "--json"]) == 0
    said = capsys.readouterr()
    left = {"loose.png": "not in a class folder", "notes.txt": "not an image file"}
    assert "2 files left out:\n" in said.err
    assert all(f"  {key}: {reason}\n" in said.err for key, reason in left.items())
    told = json.loads(said.out)
    assert {each["key"]: each["reason"] for each in told["left_out"]} == left
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
    assert main([*words, "--set", "size=64", "--out", str(tmp_path / "c")]) == 2
    assert "--set 'size=64' contradicts --size 32; give the side there alone." in capsys.readouterr().err


def test_the_terminal_draws_what_the_page_shows(finished, folder, tmp_path, capsys) -> None:
    out, made = finished[0], load_generator(finished[0])
    picture = tmp_path / "a.png"
    assert main(["gan", "sample", str(out), "--each", "3", "--seed", "5", "--json", "--out", str(picture)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["seeds"], told["labels"], told["generator"]) == ([5, 6, 7], [0, 0, 0, 1, 1, 1], made.fingerprint)
    images, labels = sample_each(made, [5, 6, 7])
    assert picture.read_bytes() == grid_png(images, labels)
    torch.testing.assert_close(images[1], sample(made, [6], "bolt")[0][0])
    torch.testing.assert_close(images[4], sample(made, [6], "nut")[0][0])
    words = ["--each", "2", "--class", "nut", "--out", str(picture)]
    assert main(["gan", "sample", str(out), *words]) == 2
    assert "--each draws every class and --class one; leave one of them out." in capsys.readouterr().err
    assert main(["gan", "reconstruct", str(out), "--out", str(picture)]) == 0
    assert Image.open(picture).size == (2 * 16, 2 * 16)  # a class a column, at the decoder's size
    assert main(["gan", "nearest", str(out), "--count", "4", "--json", "--out", str(picture)]) == 0
    told = json.loads(capsys.readouterr().out.partition("{")[2].join(("{", "")))
    assert Image.open(picture).size == (4 * (2 * 32 + 2), 32)
    assert [(row["seed"], row["class"]) for row in told["pairs"]] == [(0, "bolt"), (1, "nut"), (2, "bolt"), (3, "nut")]
    assert told["measure"] == "Euclidean distance of EffNetLite0@128 features"
    assert all((folder / row["nearest"]).is_file() and row["distance"] > 0 for row in told["pairs"])


def test_the_terminal_judges(finished, tmp_path, capsys) -> None:
    out, _ = finished
    words = ["gan", "quality", str(out), "--count", "20", "--device", "cpu"]
    assert main([*words, "--truncation", "1.5", "--json", "--out", str(tmp_path / "quality.json")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["truncation"] == 1.5  # what the figures are of
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
