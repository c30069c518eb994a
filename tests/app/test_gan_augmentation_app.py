"""The GAN page without a browser: with nothing to show, with a generator and a study, and beginning runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Element

from tests.app.conftest import OpenPage
from tests.unit.augmentation_helpers import folder, generator, request
from xai.runs import control as run_control
from xai.runs.locks import locked
from xai.studies.augmentation.study import augment
from xai.ui.gan_augmentation import state as gan


@pytest.fixture(autouse=True)
def nothing_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is shipped is tested by its own test; here the folders decide."""
    monkeypatch.setattr(gan, "SHIPPED", tmp_path / "none.safetensors")
    monkeypatch.setattr(gan, "SHIPPED_STUDY", tmp_path / "none")
    monkeypatch.setattr(gan, "FALLBACK", str(folder(tmp_path / "parts")))


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run folder with a generator and a study of it."""
    runs = tmp_path / "runs"
    trained = runs / "gan-1"
    trained.mkdir(parents=True)
    generator(tmp_path / "parts", trained / "artifacts" / "generator.safetensors", steps=5)
    (trained / "config.json").write_text(json.dumps({"kind": "gan"}))
    (trained / "status.json").write_text(json.dumps({"state": "done"}))
    asked = request(tmp_path / "parts", trained, arms=("real", "synthetic"), percents=(100,), steps=2, rounds=1)
    augment(asked, runs / "study-1", command="python -m xai augment parts")
    return runs


def test_without_any_it_says_what_is_missing_and_shows_real_pictures(open_page: OpenPage) -> None:
    app = open_page("gan_augmentation")
    told = [each.value for each in app.info]
    assert any("assets/gan/parts.safetensors) is missing" in each for each in told)
    assert any("assets/augmentation) is missing" in each for each in told)
    assert any("python -m xai augment sample:parts" in each.value for each in app.code)
    assert list(app.get("image"))
    assert any(each.value == "**Real**, from the training share" for each in app.markdown)


def test_shows_the_generator_the_verdict_and_the_attention(open_page: OpenPage, finished: Path) -> None:
    app = open_page("gan_augmentation")
    summary = json.loads((finished / "study-1" / "summary.json").read_text())
    assert any(f"SimpleCNN: {summary['verdict']}" in each.value for each in app.markdown)
    assert app.subheader[1].value == f"Verdict: {summary['verdict']}"
    assert any("FastGAN, 32 px, 3 classes, 5 steps" in each.value for each in app.caption)
    assert any(summary["finding"] in each.value for each in app.markdown)
    assert any("python -m xai gan quality" in each.value for each in app.code)
    assert any("the discriminator was not kept" in each.value for each in app.caption)
    assert not app.error


def test_the_nearest_training_pictures_are_looked_for_when_asked(open_page: OpenPage, finished: Path) -> None:
    app = open_page("gan_augmentation")
    before = len(app.get("image"))
    app.button(key="ga_nearest_go").click().run()
    assert not app.exception
    assert len(app.get("image")) == before + gan.NEAREST
    assert any("Euclidean distance of EffNetLite0@128 features" in each.value for each in app.caption)


def test_a_judgement_beside_the_generator_is_shown(open_page: OpenPage, finished: Path) -> None:
    opened = gan.open_generator(gan.generators()[0]) if gan.generators() else None
    trained = gan.load_generator(finished / "gan-1")
    each = {
        "kid": {"value": 812.4, "spread": 3.2, "size": 5, "subsets": 100},
        "fid": 99.5,
        "manifold": {"precision": 0.5, "recall": 0.25, "density": 0.4, "coverage": 0.3, "k": 5},
        "n": 20,
        "n_real": 14,
    }
    told = {"generator": trained.fingerprint, "extractor": "Eff@128", "extractor_sentence": "Features of Eff."}
    told |= {"samples": each, "reference": each, "noise": each, "pixel_ratio": 0.9, "agreement": None}
    told |= {"copying": {"ratio": 1.1, "measure": "distance"}, "copying_sentence": "samples lie no nearer"}
    told["reference"] = {**each, "n": 14}  # there are no more training images
    told["truncation"] = 0.5
    (finished / "gan-1" / "quality.json").write_text(json.dumps(told))
    app = open_page("gan_augmentation")
    assert opened is None or opened.fingerprint == trained.fingerprint
    assert list(app.table[0].value["n"]) == [20, 14, 20]
    assert "KID-Eff@128 × 1000 ↓" in list(app.table[0].value.columns)
    assert any("these are not Inception's" in caption.value for caption in app.caption)
    assert any(caption.value.startswith("Samples cut off at ±0.5. n: pictures") for caption in app.caption)


def test_a_run_is_begun_with_the_command_that_is_shown(
    open_page: OpenPage, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, ...]] = []
    monkeypatch.setattr(run_control, "start", lambda words, path: begun.append(tuple(words)))
    app = open_page("gan_augmentation")
    app.number_input(key="ga_train_steps").set_value(7).run()
    app.button(key="ga_train_go").click().run()
    app.button(key="ga_augment_go").click().run()
    assert not app.exception
    assert begun[0][:2] == ("gan", "train")
    assert begun[0][-4:] == ("--steps", "7", "--seed", "0")
    assert begun[1][0] == "augment"
    assert begun[1][-2:] == ("--generator", str(finished / "gan-1"))
    commands = [each.value for each in app.code]
    assert any(" ".join(("python -m xai", *begun[0][:2])) in each for each in commands)


def test_a_training_under_way_shows_its_samples_losses_and_quality(open_page: OpenPage, tmp_path: Path) -> None:
    folder_ = tmp_path / "runs" / "gan-9"
    (folder_ / "artifacts").mkdir(parents=True)
    (folder_ / "config.json").write_text(json.dumps({"kind": "gan"}))
    (folder_ / "status.json").write_text(json.dumps({"state": "running", "done": 40, "total": 90, "note": "step 40"}))
    Image.new("RGB", (64, 32)).save(folder_ / "artifacts" / "samples-0000040.png")
    rows = [{"kind": "loss", "step": step, "d_real": 0.9, "d_fake": 0.8, "g": 0.1} for step in (20, 40)]
    look = {"kind": "look", "kid_name": "KID-Eff x 1000, 200 samples", "seconds": 3.0, "distance_ratio": 0.25}
    rows += [{**look, "step": step, "kid": kid} for step, kid in ((10, 900.0), (20, 101.0), (30, 100.0), (40, 104.0))]
    (folder_ / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with locked(folder_ / ".lock", 1.0):
        app = open_page("gan_augmentation")
    assert any("**gan-9**, as it learns" in each.value.replace("\\", "") for each in app.markdown)
    specs = [json.loads(each.proto.spec) for each in app.get("plotly_chart")]
    assert any("Step 40: the samples of a class are 0.25 times as far apart" in each.value for each in app.warning)
    (losses, quality) = (spec for spec in specs if "steps" in spec["layout"]["xaxis"]["title"]["text"])
    assert [line["name"] for line in losses["data"]] == ["discriminator, real", "discriminator, generated", "generator"]
    assert quality["data"][0]["y"] == [900, 101, 100, 104]
    assert quality["layout"]["yaxis"]["title"]["text"] == "KID × 1000, lower is better"
    words = quality["layout"]["annotations"][0]["text"].replace("<br>", " ")
    assert "plateau from step 20 on, after 3 s of training" in words


def sent(app: AppTest, made: Path, place: Path) -> AppTest:
    """The page after the folder `made` was sent as a zip; the study is asked to train a generator on it first."""
    content = Path(shutil.make_archive(str(place), "zip", made)).read_bytes()
    app.file_uploader(key="ga_zip").set_value(("mine.zip", content, "application/zip")).run()
    app.selectbox(key="ga_aug_generator").set_value("first").run()
    assert not app.exception
    return app


def shown(each: Element) -> str:
    """What a person reads of it."""
    return each.value.replace("\\", "")


def test_what_a_zip_lacks_is_said_before_a_run_is_begun(open_page: OpenPage, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    shutil.copytree(tmp_path / "parts" / "nut", one / "nut")
    for name in ("nut", "bolt"):
        (two / name).mkdir(parents=True)
        shutil.copy(tmp_path / "parts" / name / "00.png", two / name)
    app = sent(open_page("gan_augmentation"), one, tmp_path / "a")
    assert not app.button(key="ga_train_go").disabled  # a class alone is what the study trained on
    assert app.button(key="ga_augment_go").disabled
    assert any("mine.zip has fewer than 2 classes; give images in at least 2 class" in shown(w) for w in app.warning)
    assert sum("12 images, no labels" in shown(each) for each in app.caption) == 2  # both forms take the zip
    app = sent(open_page("gan_augmentation"), two, tmp_path / "b")
    assert app.button(key="ga_train_go").disabled
    assert app.button(key="ga_augment_go").disabled
    assert any("has 1 image, but" in shown(each) for each in app.warning)


def test_a_run_on_a_zip_is_called_by_its_name(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(run_control, "new_run", lambda kind, title: titles.append(title) or tmp_path / kind)
    monkeypatch.setattr(run_control, "start", lambda words, path: None)
    app = sent(open_page("gan_augmentation"), tmp_path / "parts", tmp_path / "c")
    app.button(key="ga_train_go").click().run()
    app.button(key="ga_augment_go").click().run()
    assert titles == ["Generator of mine.zip, 3,000 steps", "simple_cnn on mine.zip, 3 seeds"]


def test_a_run_that_was_begun_here_is_shown_when_it_is_done(
    open_page: OpenPage, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "gan-1", finished / "gan-2")
    monkeypatch.setattr(run_control, "new_run", lambda kind, title: finished / "gan-3")
    monkeypatch.setattr(run_control, "start", lambda words, path: None)
    app = open_page("gan_augmentation")
    before = app.selectbox(key="ga_generator").value
    app.button(key="ga_train_go").click().run()
    assert app.selectbox(key="ga_generator").value == before  # it is under way
    shutil.copytree(finished / "gan-1", finished / "gan-3")
    app.run()
    assert app.selectbox(key="ga_generator").value == "gan-3"
    app.selectbox(key="ga_generator").set_value("gan-1").run()
    assert app.selectbox(key="ga_generator").value == "gan-1"  # once: then what is chosen holds
    shutil.rmtree(finished / "gan-1")
    app.run()
    assert not app.exception
    assert app.selectbox(key="ga_generator").value in ("gan-2", "gan-3")


def test_generators_of_one_title_can_each_be_picked_and_stay_so_when_renamed(
    open_page: OpenPage, finished: Path
) -> None:
    """A browser sends the label of what is picked: of two that are the same one could never be had."""
    shutil.copytree(finished / "gan-1", finished / "gan-2")
    for each in ("gan-1", "gan-2"):
        run_control.rename(each, "Generator of parts")
    app = open_page("gan_augmentation")
    keys = ("ga_generator", "ga_aug_generator")
    for key in keys:
        assert len(set(app.selectbox(key=key).options)) == len(app.selectbox(key=key).options)
        app.selectbox(key=key).set_value("gan-1").run()
    run_control.rename("gan-1", "Mine")
    app.run()
    for key in keys:
        assert app.selectbox(key=key).proto.set_value  # the browser learns the new label
        assert app.session_state[key] == "gan-1"


def test_a_folder_of_runs_that_cannot_be_listed_is_said_and_nothing_breaks(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    app = open_page("gan_augmentation")
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "file"))
    app.run()
    assert not app.exception
    assert any("cannot be listed (Not a directory); check XAI_RUNS." in each.value for each in app.error)


def test_what_is_chosen_is_there_after_another_page(open_page: OpenPage, finished: Path) -> None:
    app = open_page("gan_augmentation")
    name = next(each.key for each in app.get("button_group") if (each.key or "").startswith("ga_arms_"))
    app.selectbox(key="ga_gif_class").set_value("nut").run()
    app.selectbox(key="ga_aug_generator").set_value("first").run()
    app.button_group(key=name).set_value(["real only"]).run()
    app.switch_page("pages/runs.py").run()
    app.switch_page("pages/gan_augmentation.py").run()
    assert not app.exception
    assert app.selectbox(key="ga_gif_class").value == "nut"
    assert app.selectbox(key="ga_aug_generator").value == "first"
    assert app.button_group(key=name).value == ["real only"]


def test_data_that_is_not_there_is_said_before_a_run_is_begun(open_page: OpenPage, tmp_path: Path) -> None:
    app = open_page("gan_augmentation")
    app.text_input(key="ga_data").set_value("/nowhere").run()
    assert not app.exception
    assert app.button(key="ga_train_go").disabled
    assert any("/nowhere" in each.value for each in app.warning)
    (tmp_path / "one").mkdir()
    shutil.copy(tmp_path / "parts" / "nut" / "00.png", tmp_path / "one")
    app.text_input(key="ga_data").set_value(str(tmp_path / "one")).run()
    assert any("1 image cannot be split with a share of 0.7; give 2 or more," in shown(each) for each in app.warning)


def test_shares_that_cannot_be_are_said_before_a_study_is_begun(
    open_page: OpenPage, finished: Path, tmp_path: Path
) -> None:
    few = str(folder(tmp_path / "few", 4))
    app = open_page("gan_augmentation")
    assert not app.button(key="ga_augment_go").disabled
    for chosen, told in (("gan-1", "not on few"), ("first", "class 'bolt' has 1 image, but a split needs 2")):
        app.selectbox(key="ga_aug_generator").set_value(chosen).run()
        place = next(each for each in app.text_input if (each.key or "").startswith(f"ga_aug_data_{chosen}_"))
        place.set_value(few).run()
        assert not app.exception
        assert app.button(key="ga_augment_go").disabled
        assert any(told in shown(each) for each in app.warning)
