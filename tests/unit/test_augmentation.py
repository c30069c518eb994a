"""The augmentation study on tiny pictures: who sees what, equal steps, the choice, resume, verdict, refusals."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import torch

from tests.unit.augmentation_helpers import CLASSES, folder, generator, request
from xai.cli import main
from xai.data._bench import _sampled
from xai.data.call import open_dataset
from xai.errors import Cancelled, InputError, WeightsError
from xai.gan.images import split_places
from xai.gan.saved import load_generator
from xai.runs import RunFolder
from xai.statistics import Interval
from xai.studies import augmentation
from xai.studies._augmentation_arm import Found, Unit, read_unit, unit_path
from xai.studies._augmentation_data import (
    check_generators,
    enlarged,
    read_shares,
    real_share,
    synthesise,
    synthetic_labels,
)
from xai.studies._augmentation_summary import _paired, chosen_ratio, open_study, verdict_sentence
from xai.studies.augmentation import AugmentRequest, augment
from xai.training import steps
from xai.types import Run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    return generator(data, tmp_path_factory.mktemp("gan") / "generator.safetensors")


@pytest.fixture(scope="module")
def study(data, made, tmp_path_factory):
    return augment(request(data, made), tmp_path_factory.mktemp("study") / "run", command="python -m xai augment")


# --- who sees what --------------------------------------------------------------------------


def shares_of(data, *paths, validation=0.4):
    opened = open_dataset(data)
    return opened, read_shares(opened, [load_generator(path) for path in paths], 32, 0.6, 3, validation, Run())


def test_the_pool_is_what_the_generator_saw_and_the_others_it_did_not(data, made):
    opened, shares = shares_of(data, made)
    seen = {opened.items[place].key for place in split_places(opened, 0.6, 3)[0]}
    assert set(shares.pool.keys) == seen
    assert not seen & (set(shares.validation.keys) | set(shares.test.keys))
    assert not set(shares.validation.keys) & set(shares.test.keys)
    parts = (shares.pool, shares.validation, shares.test)
    assert sorted(key for part in parts for key in part.keys) == sorted(item.key for item in opened.items)
    assert "have the fingerprint" in shares.unseen


def test_generators_of_one_class_each_have_seen_what_each_of_them_saw(data, tmp_path):
    paths = [generator(data, tmp_path / f"{name}.safetensors", only=name) for name in CLASSES]
    _, shares = shares_of(data, *paths)
    assert len(shares.pool.keys) == 3 * 7
    generators = [load_generator(path) for path in paths]
    assert check_generators(generators, CLASSES) == 32
    images = synthesise(generators, CLASSES, torch.tensor([2, 0, 1]), None, Run())
    assert images.labels.tolist() == [2, 0, 1]
    with pytest.raises(InputError, match="no generator draws class 'washer'"):
        check_generators(generators[:2], CLASSES)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (
            {"data_fingerprint": "0" * 16},
            "the generator was trained on .* whether it saw the test images cannot be told",
        ),
        ({"train_fingerprint": "0" * 16}, "the data has changed since, so which images it saw cannot be told"),
        ({"split_seed": 4}, "the data has changed since"),
    ],
)
def test_a_generator_that_may_have_seen_the_test_images_is_refused(data, tmp_path, facts, told):
    with pytest.raises(InputError, match=told):
        shares_of(data, generator(data, tmp_path / "g.safetensors", **facts))


def test_pixels_that_changed_after_the_training_are_noticed(data, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    path = generator(copy, tmp_path / "g.safetensors")
    opened, shares = shares_of(copy, path)
    victim = copy / shares.pool.keys[0]
    content = victim.read_bytes()
    victim.write_bytes((copy / shares.test.keys[0]).read_bytes())
    changed = victim.stat().st_size != len(content)  # then the fingerprint of the data set tells already
    told = "trained on" if changed else "the data has changed since"
    with pytest.raises(InputError, match=told):
        shares_of(copy, path)
    assert opened.classes == CLASSES


def test_a_test_image_that_is_also_a_training_image_is_refused(data, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    opened = open_dataset(copy)
    train, rest = split_places(opened, 0.6, 3)
    source = next(opened.items[i].key for i in train if opened.items[i].label == 0)
    for place in rest:
        if opened.items[place].label == 0:
            shutil.copy(copy / source, copy / opened.items[place].key)
    path = generator(copy, tmp_path / "g.safetensors")
    with pytest.raises(InputError, match=r"the test image bolt/.* equals the (training|validation) image bolt/"):
        shares_of(copy, path)


def test_nothing_left_to_test_on_is_said(data):
    opened = open_dataset(data)
    with pytest.raises(InputError, match="the images that no generator saw cannot be split"):
        read_shares(opened, [], 32, 0.95, 0, 0.4, Run())


def test_shares_of_the_real_images_lie_within_one_another_and_keep_the_classes(data, made):
    _, shares = shares_of(data, made)
    sets = [real_share(shares.pool, percent, Run(seed=1)) for percent in (10, 50, 100)]
    assert [torch.bincount(each.labels).tolist() for each in sets] == [[1, 1, 1], [4, 4, 4], [8, 7, 7]]
    pixels = [{image.numpy().tobytes() for image in each.pixels} for each in sets]
    assert pixels[0] < pixels[1] < pixels[2]


def test_fewer_generated_images_are_the_beginning_of_more(data, made):
    real = torch.tensor([0] * 6 + [1] * 3 + [2] * 3)
    labels = synthetic_labels(real, 24, Run(seed=2))
    assert torch.bincount(labels).tolist() == [12, 6, 6]
    assert torch.equal(synthetic_labels(real, 7, Run(seed=2)), labels[:7])
    generators = [load_generator(made)]
    many = synthesise(generators, CLASSES, labels, None, Run(seed=2))
    few = synthesise(generators, CLASSES, labels[:7], None, Run(seed=2))
    assert torch.equal(many.pixels[:7], few.pixels)
    other = synthesise(generators, CLASSES, labels[:7], None, Run(seed=3))
    assert not torch.equal(other.pixels, few.pixels)


def test_truncation_comes_to_the_latent(data, made, monkeypatch):
    seen = []
    real = augmentation.synthesise.__globals__["generate"]
    monkeypatch.setitem(
        augmentation.synthesise.__globals__, "generate", lambda g, z, y, run: seen.append(z) or real(g, z, y, run)
    )
    synthesise([load_generator(made)], CLASSES, torch.arange(3).repeat(40), 0.5, Run())
    z = torch.cat(seen)
    assert float(z.abs().max()) <= 0.5
    # the standard deviation of a normal cut off at 0.5: sqrt(1 - 2 * .5 * pdf(.5) / P(|z| < .5))
    expected = math.sqrt(1 - 2 * 0.5 * math.exp(-0.125) / math.sqrt(2 * math.pi) / math.erf(0.5 / math.sqrt(2)))
    assert float(z.std()) == pytest.approx(expected, rel=0.05)


def test_images_are_enlarged_as_levels():
    pixels = torch.full((1, 3, 4, 4), 77, dtype=torch.uint8)
    assert torch.equal(enlarged(pixels, 8), torch.full((1, 3, 8, 8), 77, dtype=torch.uint8))
    assert enlarged(pixels, 4) is pixels


# --- the study ------------------------------------------------------------------------------


def test_every_arm_is_there_with_equal_steps(study):
    rows = {(row["percent"], row["arm"], row["ratio"]): row for row in study.summary["arms"]}
    ratio = study.summary["chosen"]["100"]
    expected = {(100, "real", 0), (100, "traditional", 0), (100, "synthetic", 50), (100, "synthetic", 100)}
    expected |= {(100, "both", ratio), (50, "real", 0), (50, "traditional", 0), (50, "synthetic", ratio)}
    assert set(rows) == expected
    assert rows[100, "synthetic", 50]["real"] == 22
    assert rows[100, "synthetic", 50]["synthetic"] == 11
    assert rows[50, "real", 0]["real"] == 12
    assert {tuple(each["step"]) for each in study.summary["curves"]} == {(2, 4, 6, 8)}
    assert all(len(row["seeds"]) == 2 for row in rows.values())


def test_accuracies_are_those_of_the_predictions(study, data, made):
    _, shares = shares_of(data, made)
    found = read_unit(RunFolder(study.path), Unit(100, "real", 0, 1))
    right = (found.tensors["test"][-1].long() == shares.test.labels).double().mean()
    row = next(r for r in study.summary["arms"] if (r["percent"], r["arm"]) == (100, "real"))
    assert row["seeds"][1] == pytest.approx(100 * float(right))
    assert row["test"]["mean"] == pytest.approx(sum(row["seeds"]) / 2)
    assert 0 <= row["test"]["low"] <= row["test"]["mean"] <= row["test"]["high"] <= 100
    curve = next(c for c in study.summary["curves"] if (c["percent"], c["arm"]) == (100, "real"))
    assert curve["mean"][-1] == pytest.approx(row["test"]["mean"])


def test_the_verdict_is_the_difference_at_the_chosen_ratio(study):
    verdict = study.summary["verdicts"][0]
    rows = {(row["percent"], row["arm"], row["ratio"]): row for row in study.summary["arms"]}
    other, base = rows[100, "synthetic", verdict["ratio"]], rows[100, "real", 0]
    assert verdict["difference"]["mean"] == pytest.approx(other["test"]["mean"] - base["test"]["mean"])
    assert study.summary["verdict"] == verdict["sentence"]
    assert [each["percent"] for each in study.summary["verdicts"]] == [100, 50]


def fake(percent, ratio, seed, validation, test):
    arm = "synthetic" if ratio else "real"
    facts = {"validation_accuracy": [0.9, validation], "test_accuracy": [test]}
    unit = Unit(percent, arm, ratio, seed)
    return unit, Found(unit, facts, {})


def test_the_ratio_is_chosen_on_validation_and_never_on_test():
    found = dict(
        [
            fake(100, 0, 0, 0.99, 0.0),
            fake(100, 20, 0, 0.5, 1.0),
            fake(100, 20, 1, 0.5, 1.0),
            fake(100, 50, 0, 0.6, 0.1),
            fake(100, 50, 1, 0.5, 0.1),
            fake(100, 75, 0, 0.55, 0.9),
            fake(100, 75, 1, 0.55, 0.9),
            fake(50, 20, 0, 1.0, 1.0),
        ]
    )
    assert chosen_ratio(found, 100) == 50  # 50 and 75 are as good: the smaller
    assert chosen_ratio(found, 50) == 20


@pytest.mark.parametrize(
    ("low", "high", "kept", "told"),
    [
        (0.4, 3.1, True, "+1.8 points [0.4, 3.1] at 125 %"),
        (-0.4, 3.1, True, "no gain: +1.8 points [-0.4, 3.1] at 125 %"),
        (0.4, 3.1, False, "+1.8 points [0.4, 3.1] at 125 %; validation prefers no synthetic image"),
        (math.nan, math.nan, True, "+1.8 points at 125 %; one seed says nothing about others, so there is no verdict"),
    ],
)
def test_the_verdict_is_a_sentence(low, high, kept, told):
    assert verdict_sentence(Interval(1.8, low, high, 9), 125, kept) == told


def test_a_loss_is_called_one():
    assert verdict_sentence(Interval(-2.0, -3.0, -1.0, 9), 20, True) == "a loss: -2.0 points [-3.0, -1.0] at 20 %"


def test_attention_is_paired_image_by_image():
    base = torch.tensor([[0.1, 0.2, 0.9], [0.3, 0.4, 0.9]])
    other = torch.tensor([[0.2, 0.2, 0.0], [0.4, 0.8, 0.0]])
    kept = torch.tensor([[True, True, False], [True, False, False]])
    found = _paired(base, other, kept, "area")
    # image 0: both seeds, image 1: the first alone, image 2 never
    assert found["baseline"] == pytest.approx((0.2 + 0.2) / 2)
    assert found["augmented"] == pytest.approx((0.3 + 0.2) / 2)
    assert found["difference"]["mean"] == pytest.approx(0.05)
    assert (found["images"], found["pairs"], found["left_out"]) == (2, 3, 3)
    assert found["over"] == "images, their seeds averaged"


def test_attention_is_measured_and_shown(study):
    rows = study.summary["attention"]
    assert {(row["set"], row["measure"]) for row in rows if row["case"] == "all"} == {
        (kind, measure) for kind in ("real", "generated") for measure in ("area", "entropy")
    }
    assert study.summary["finding"].startswith("On real test images half of the map's energy lies on ")
    for network in ("baseline", "augmented"):
        for kind in ("real", "generated"):
            predicted = study.pictures[f"{kind}.{network}.predicted"]
            for case in ("right", "wrong"):
                for place in study.cases(network, kind, case):
                    assert (predicted[place] == study.pictures[f"{kind}.label"][place]) == (case == "right")
    assert study.pictures["real.images"].dtype == torch.uint8


def test_masks_give_the_energy_on_the_object(tmp_path):
    changes = {"arms": ("real",), "percents": (100,), "seeds": 1, "look": 4, "generators": (), "size": 32}
    asked = dataclasses.replace(request(tmp_path, tmp_path), data="sample:parts?size=32&count=14", **changes)
    found = augment(asked, tmp_path / "run")
    unit = read_unit(RunFolder(found.path), Unit(100, "real", 0, 0))
    energy = unit.tensors["real.energy"]
    assert energy.shape == (4,)
    assert bool(((energy >= 0) & (energy <= 1)).all())
    assert found.summary["verdict"] == "no synthetic arm was asked for"
    assert found.summary["data_synthetic"] is True


def test_a_killed_study_goes_on_and_ends_the_same(study, data, made, tmp_path):
    class KilledError(Exception):
        pass

    seen = []

    def progress(done, total, note):
        seen.append((done, total))
        if len({path.name for path in (tmp_path / "run" / "units").glob("*.json")}) == 3:
            raise KilledError

    with pytest.raises(KilledError):
        augment(request(data, made), tmp_path / "run", run=Run(on_progress=progress))
    folder_ = RunFolder(tmp_path / "run")
    kept = {path: path.stat().st_mtime_ns for path in (folder_.path / "units").iterdir()}
    with pytest.raises(Cancelled):
        augment(request(data, made), folder_.path, True, run=Run(cancelled=lambda: True))
    again = augment(request(data, made), folder_.path, True, command="python -m xai augment")
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    for name in ("arms", "verdicts", "attention", "curves", "chosen"):
        first, second = ([_timeless(row) for row in each.summary[name]] for each in (study, again))
        assert first == second
    assert folder_.status().state == "done"
    assert folder_.status().done == folder_.status().total
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def _timeless(row):
    return {k: v for k, v in row.items() if k != "seconds"} if isinstance(row, dict) else row


def test_a_damaged_unit_is_said_with_its_remedy(study, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(study.path, copy)
    unit = Unit(100, "real", 0, 0)
    path = unit_path(RunFolder(copy), unit)
    path.with_suffix(".safetensors").write_bytes(b"nothing")
    with pytest.raises(Exception, match=r"is damaged .* and resume"):
        read_unit(RunFolder(copy), unit)
    (copy / "artifacts" / "examples.safetensors").unlink()
    with pytest.raises(InputError, match=r"examples.safetensors is missing; resume the study"):
        open_study(copy)
    with pytest.raises(InputError, match="holds no finished augmentation study"):
        open_study(tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"arms": ("synthetic",)}, "arm real is missing"),
        ({"arms": ("real", "both")}, "add synthetic"),
        ({"arms": ("real", "mixup")}, "arm 'mixup' is not known"),
        ({"percents": (50,)}, "percents lacks 100"),
        ({"ratios": (0,)}, "ratios has 0; give whole percents from 1 to 1000"),
        ({"ratios": (20, 20)}, "with a value twice"),
        ({"seeds": 0}, "seeds is 0; give 1 or more"),
        ({"truncation": 0.0}, "truncation is 0"),
        ({"size": 48}, "size 48 is not possible"),
    ],
)
def test_what_cannot_be_done_is_refused(changes, told):
    with pytest.raises(InputError, match=told):
        AugmentRequest("data", **changes)


def test_synthetic_arms_without_a_generator_say_how_to_get_one(data, tmp_path):
    with pytest.raises(InputError, match="the synthetic arms need a generator"):
        augment(AugmentRequest(str(data)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_generator_is_trained_first_and_once(data, tmp_path, monkeypatch):
    calls = []

    def train(asked, place, resume, device, run):
        calls.append((asked.steps, asked.settings.size, resume))
        run.report(1, 2, "step 1")
        status = RunFolder(tmp_path / "run").status()
        assert status.note.startswith("training the generator first: step 1")
        generator(data, place / "artifacts" / "generator.safetensors")

    monkeypatch.setattr(augmentation, "train_gan", train)
    asked = request(
        data, tmp_path, generators=(), generator_steps=7, size=32, percents=(100,), seeds=1, arms=("real", "synthetic")
    )
    found = augment(asked, tmp_path / "run")
    augment(asked, tmp_path / "run", resume=True)
    assert calls == [(7, 32, True)]
    assert len(found.summary["generators"]) == 1


def test_weights_that_are_not_to_be_had_are_said_before_anything_is_trained(data, tmp_path):
    asked = request(data, tmp_path, generators=(), arms=("real", "pretrained"), pretrained="simple_cnn", size=32)
    with pytest.raises(WeightsError, match="never trained on ImageNet"):
        augment(asked, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_pretrained_networks_features_are_computed_once_for_all_seeds(data, tmp_path, monkeypatch):
    calls = []
    real = steps.stored_features

    def counted(network, each, *rest):
        calls.append(len(each.labels))
        return real(network, each, *rest)

    monkeypatch.setattr(steps, "stored_features", counted)
    asked = request(data, tmp_path, generators=(), arms=("real", "pretrained"), percents=(100,), seeds=2, size=32)
    found = augment(asked, tmp_path / "run")
    assert calls == [25, 4, 7]  # training, validation, test
    (row,) = [row for row in found.summary["arms"] if row["arm"] == "pretrained"]
    assert len(row["seeds"]) == 2


def test_a_pretrained_arm_learns_its_head_alone(data, tmp_path, monkeypatch):
    asked = request(data, tmp_path, generators=(), arms=("real", "pretrained"), percents=(100,), seeds=1, size=32)
    found = augment(asked, tmp_path / "run")
    unit = read_unit(RunFolder(found.path), Unit(100, "pretrained", 0, 0))
    assert unit.facts["model"] == "efficientnet_lite0"
    assert unit.facts["trained_parameters"] == 1280 * 3 + 3
    assert "EfficientNet-Lite0 with ImageNet weights" in found.summary["protocol"]["sentence"]


# --- the terminal ---------------------------------------------------------------------------


def test_the_command_does_the_study(data, made, tmp_path, capsys):
    words = [
        "augment",
        str(data),
        "--arms",
        "real",
        "synthetic",
        "--ratios",
        "100",
        "--percents",
        "100",
        "--seeds",
        "2",
    ]
    words += ["--steps", "2", "--rounds", "1", "--batch", "4", "--generator", str(made), "--look", "3"]
    words += ["--out", str(tmp_path / "run")]
    assert main([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["command"].startswith("python -m xai augment ")
    assert summary["verdicts"][0]["ratio"] == 100
    assert main(words) == 2
    assert "holds a run already; add --resume" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    told = capsys.readouterr().out
    assert f"verdict: {summary['verdict']}" in told
    assert "equal pixel by pixel" in " ".join(told.split())
    assert main([*words, "--resume", "--steps", "3"]) == 2
    assert "was asked for steps 2, not 3" in capsys.readouterr().err


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main(["augment", "sample:parts?count=4", "--arms", "real", "mixup", "--out", str(tmp_path / "run")]) == 2
    assert "arm 'mixup' is not known" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_masks_of_drawn_pictures_are_those_of_the_size_that_is_studied():
    opened = open_dataset("sample:parts?size=96&count=4")
    shares = read_shares(opened, [], 32, 0.5, 0, 0.5, Run())
    masks = shares.masks(opened, [0, 3])
    wanted = [opened.items[[i.key for i in opened.items].index(shares.test.keys[place])] for place in (0, 3)]
    for mask, image, item in zip(masks, shares.test.images[[0, 3]], wanted, strict=True):
        picture, outline = dataclasses.replace(item.open, size=32).arrays()
        assert torch.equal(mask, torch.from_numpy(outline > 127))
        assert torch.equal(image, torch.from_numpy(picture).permute(2, 0, 1))


def test_a_part_that_fills_the_picture_can_be_drawn():
    grain = np.random.default_rng(0).random((64, 64), np.float32)
    at = np.random.default_rng(1).random((70_001, 2), np.float32) * 90
    found = _sampled(grain, at)
    parts = [_sampled(grain, at[start : start + 7_000]) for start in range(0, len(at), 7_000)]
    assert np.array_equal(found, np.concatenate(parts))
