"""The augmentation study on tiny pictures: who sees what, equal steps, the choice, resume, verdict, refusals."""

import dataclasses
import json
import shutil

import pytest

from tests.unit.augmentation_helpers import folder, generator, request, shares_of
from xai.cli import main
from xai.errors import Cancelled, InputError, WeightsError, XaiError
from xai.runs.folder import RunFolder
from xai.studies.augmentation import study as augmentation
from xai.studies.augmentation.arm import Unit, read_unit, unit_path
from xai.studies.augmentation.study import AugmentRequest, augment
from xai.studies.augmentation.summary import open_study
from xai.training import steps
from xai.types import Run

# --- the study ------------------------------------------------------------------------------


def test_every_arm_is_there_with_equal_steps(study):
    rows = {(row["percent"], row["arm"], row["ratio"]): row for row in study.summary["arms"]}
    ratio = study.summary["chosen"]["100"]
    expected = {(100, "real", 0), (100, "traditional", 0), (100, "synthetic", 50), (100, "synthetic", 100)}
    expected |= {(100, "both", ratio), (50, "real", 0), (50, "traditional", 0), (50, "synthetic", ratio)}
    assert set(rows) == expected
    assert len(study.summary["arms"]) == len(expected) + 2  # real images and the chosen ratio, tested anew
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
        ({"seeds": 0}, "seeds is 0; give 1 to 1000"),
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
        ({"arms": ("real",), "generators": (), "share": 1.5}, "the share for training is 1.5; give 0.05 to 0.95"),
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


def test_a_generator_that_lacks_a_class_is_refused_before_images_are_read(data, tmp_path):
    nuts = generator(data, tmp_path / "nuts.safetensors", only="nut")
    with pytest.raises(InputError, match="no generator draws class 'bolt'"):
        augment(request(data, nuts), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_shares_that_cannot_be_are_refused_before_a_generator_is_trained_or_there_is_a_folder(
    data, tmp_path, monkeypatch
):
    """Of four images of a class one is held out, which cannot both choose and test."""
    monkeypatch.setattr(augmentation, "train_gan", lambda *_: pytest.fail("a generator was trained"))
    few = folder(tmp_path / "few", 4)
    asked = request(few, few, generators=(), generator_steps=9)
    other = generator(data, tmp_path / "other.safetensors", data_fingerprint="0" * 16)
    for each, told in (
        (asked, "split for choosing and testing: class 'bolt' has 1 image"),
        (request(data, other), "whether it saw the test images cannot be told"),
    ):
        with pytest.raises(InputError, match=told):
            augment(each, tmp_path / "run", device="cpu")
        assert not (tmp_path / "run").exists()


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
    told = found.summary["protocol"]["sentence"]
    assert "EfficientNet-Lite0 with ImageNet weights" in told
    assert "Accuracies of one seed have no interval." in told
    assert "Intervals: 95 %" not in told
    assert "ratio" not in told  # none was chosen
    assert (found.summary["verdict"], found.summary["finding"]) == ("no synthetic arm was asked for", "")


# --- the terminal ---------------------------------------------------------------------------


def test_the_command_does_the_study(data, made, tmp_path, capsys):
    own = shutil.copytree(data, tmp_path / "own")
    (own / "notes.txt").write_text("no image")
    words = [
        "augment",
        str(own),
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
    said = capsys.readouterr()
    assert "1 file left out:\n  notes.txt: not an image file\n" in said.err
    summary = json.loads(said.out)
    assert summary["left_out"] == [{"key": "notes.txt", "reason": "not an image file"}]
    assert summary["command"].startswith("python -m xai augment ")
    assert summary["verdicts"][0]["ratio"] == 100
    assert main(words) == 2
    assert "holds a run already; add --resume" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    said = capsys.readouterr()
    assert "  notes.txt: not an image file\n" in said.err
    told = said.out
    assert f"verdict: {summary['verdict']}" in told
    assert "equal pixel by pixel" in " ".join(told.split())
    assert main([*words, "--resume", "--steps", "3"]) == 2
    assert "was asked for steps 2, not 3" in capsys.readouterr().err


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main(["augment", "sample:parts?count=4", "--arms", "real", "mixup", "--out", str(tmp_path / "run")]) == 2
    assert "arm 'mixup' is not known" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
