"""The augmentation study on tiny pictures: who sees what, equal steps, the choice, resume, verdict, refusals."""

import dataclasses
import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load

from tests.unit.augmentation_helpers import generator, request, shares_of
from xai.cli import main
from xai.errors import Cancelled, InputError, WeightsError, XaiError
from xai.runs import RunFolder
from xai.statistics import Interval
from xai.studies import augmentation
from xai.studies._augmentation_arm import Found, Looked, Unit, read_unit, unit_path
from xai.studies._augmentation_summary import SHOWN, _paired, chosen_ratio, examples, open_study, verdict_sentence
from xai.studies.augmentation import AugmentRequest, augment
from xai.training import Images, steps
from xai.types import Run


@pytest.fixture(scope="module", autouse=True)
def _alone(tmp_path_factory):
    """Runs take turns on a device by locks in the cache: whatever else runs on this machine is not waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def study(data, made, tmp_path_factory):
    return augment(request(data, made), tmp_path_factory.mktemp("study") / "run", command="python -m xai augment")


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


def test_the_protocol_says_what_the_intervals_do_not_hold(study):
    told = study.summary["protocol"]
    assert told["settings"]["learning_rate"] == 2e-3
    assert "8 steps of Adam (0.002, falling as a cosine), 6 images each" in told["sentence"]
    assert (
        "A ratio is chosen by the networks that are tested: with other seeds a gain may be smaller." in told["sentence"]
    )
    assert "at the ratio that was chosen on all of them." in told["sentence"]


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


def test_the_pictures_of_the_figure_are_not_all_of_the_first_class():
    labels = torch.arange(5).repeat_interleave(8)  # class by class, as test images are
    tensors = {"real.predicted": labels, "real.maps": torch.zeros(40, 2, 2), "real.probability": torch.ones(40)}
    looked = {"real": Looked(Images(torch.zeros(40, 3, 4, 4, dtype=torch.uint8), labels), None)}
    kept = load(
        examples(looked, {Unit(100, "real", 0, 0): Found(Unit(100, "real", 0, 0), {}, tensors)}, {"chosen": {}})
    )
    assert len(kept["real.place"]) == SHOWN
    assert len(set(kept["real.label"].tolist())) > 1
    assert torch.equal(labels[kept["real.place"]], kept["real.label"])


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
        ({"steps": 5}, "steps is 5 for 12 rounds; give a step or more for each round"),
        ({"generators": ("g",), "generator_steps": 9}, "generator_steps is 9, but a generator is given; leave one"),
        ({"arms": ("real",), "generator_steps": 9}, "generator_steps is 9, but no arm takes generated images"),
    ],
)
def test_what_cannot_be_done_is_refused(changes, told):
    with pytest.raises(InputError, match=told):
        AugmentRequest("data", **changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"precision": "half"}, "precision 'half' is not known; use float32, bf16, fp16"),
        ({"precision": "fp16"}, "precision fp16 is for CUDA, not for cpu; use float32 or bf16"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; give a number above 0"),
        ({"method": "attention_rollout"}, "does not apply to SimpleCNN"),
        ({"model": "vgg61"}, "'vgg61' is not known"),
    ],
)
def test_what_training_or_explaining_would_refuse_is_said_before_images_are_read(data, made, tmp_path, changes, told):
    with pytest.raises(XaiError, match=told):
        augment(request(data, made, **changes), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("model", "title", "map_side"),
    [("mobilenet_v3_large", "MobileNetV3", 7), pytest.param("vgg16", "VGG16", 14, marks=pytest.mark.slow)],
)
def test_the_studys_networks_can_be_chosen(data, made, tmp_path, model, title, map_side):
    """Trained from scratch for a step; the small CNN is in every other test."""
    asked = request(data, made, model=model, arms=("real",), percents=(100,), seeds=1, steps=1, rounds=1, batch=2)
    asked = dataclasses.replace(asked, generators=(), size=32, share=0.8, look=1)
    found = augment(asked, tmp_path / "run", device="cpu")
    unit = read_unit(RunFolder(found.path), Unit(100, "real", 0, 0))
    assert title in found.summary["title"]
    assert unit.facts["side"] == 224
    assert unit.facts["trained_parameters"] == unit.facts["parameters"]
    assert tuple(unit.tensors["real.maps"].shape[1:]) == (map_side, map_side)


def test_one_class_is_nothing_to_tell_apart(data, tmp_path):
    shutil.copytree(data / "nut", tmp_path / "one" / "nut")
    with pytest.raises(InputError, match=r"one has fewer than 2 classes; give images in at least 2 class"):
        augment(AugmentRequest(str(tmp_path / "one"), generator_steps=1), tmp_path / "run")


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


def test_a_study_that_is_stopped_while_its_generator_is_trained_says_so(data, tmp_path, monkeypatch):
    def train(asked, place, resume, device, run):
        status = RunFolder(tmp_path / "run").status()
        assert status.state == "running"
        (tmp_path / "run" / ".cancel").write_bytes((tmp_path / "run" / "pid").read_bytes())  # as a page does it
        run.check()

    monkeypatch.setattr(augmentation, "train_gan", train)
    asked = request(data, tmp_path, generators=(), generator_steps=7, size=32, percents=(100,), seeds=1)
    with pytest.raises(Cancelled):
        augment(asked, tmp_path / "run", device="cpu")
    assert RunFolder(tmp_path / "run").status().state == "cancelled"
    monkeypatch.setattr(augmentation, "train_gan", lambda *_: (_ for _ in ()).throw(XaiError("it has diverged.")))
    with pytest.raises(XaiError, match="it has diverged"):
        augment(asked, tmp_path / "run", resume=True, device="cpu")
    assert RunFolder(tmp_path / "run").status().error == "it has diverged."


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
