"""The start page and the method comparison, run in-process: choices, links, refusals, nothing raised."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from tests.app.conftest import OpenPage
from xai import load_model
from xai.errors import WeightsError
from xai.explain.spec import METHODS
from xai.models.spec import MODELS
from xai.ui.jobs import BOARD
from xai.ui.session import Choice, first_methods
from xai.ui.work import Look, Net, Scene, Shown, look_key, samples


@pytest.fixture
def page(open_page: OpenPage) -> AppTest:
    return open_page("method_comparison", timeout=120)


def choice(app: AppTest) -> Choice:
    kept: Choice = app.session_state["olhar"]
    return kept


def explained(app: AppTest) -> dict[str, Shown]:
    """The finished maps of the picture that is chosen, by method."""
    jobs = [job for job in BOARD._jobs.values() if isinstance(job.result, Shown)]
    mine = [job.result for job in jobs if job.result.ask.scene.photo == choice(app).photo]
    return {shown.ask.method: shown for shown in mine}


def upload(app: AppTest, name: str, data: bytes) -> None:
    app.file_uploader[0].set_value((name, data, "image/png")).run()


def png(size: tuple[int, int], colour: str = "orange") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_start_page_explains_a_picture(open_page: OpenPage) -> None:
    app = open_page(timeout=120)
    assert app.title[0].value == "What does an image classifier look at?"
    assert set(first_methods()) <= set(explained(app))


def test_the_page_opens_with_a_sample_explained(page: AppTest) -> None:
    assert choice(page).photo == samples()["chelsea"]
    assert set(first_methods()) <= set(explained(page))
    assert not page.warning


def test_every_registered_method_and_model_is_offered(page: AppTest) -> None:
    offered = [option for group in page.get("button_group") for option in group.options]
    assert {spec.title for spec in METHODS} <= {getattr(each, "content", each) for each in offered}
    networks = next(each for each in page.multiselect if each.key == "mc_nets")
    assert networks.options == [spec.title for spec in MODELS if spec.pretrained]  # the others where they are trained


def test_choosing_methods_explains_by_them(page: AppTest) -> None:
    page.session_state["mc_methods_cam"] = ["hirescam"]
    page.session_state["mc_methods_gradient"] = ["saliency"]
    page.session_state["mc_methods_relevance"] = []
    page.run()
    assert not page.exception
    assert choice(page).methods == ("hirescam", "saliency")
    assert {"hirescam", "saliency"} <= set(explained(page))


def test_a_class_of_ones_own_is_explained(page: AppTest) -> None:
    page.selectbox(key="mc_target").set_value(285).run()
    assert not page.exception
    assert choice(page).target == 285
    assert int(explained(page)["gradcam"].attribution.target[0]) == 285


def test_the_whole_picture_is_another_view(page: AppTest) -> None:
    page.session_state["mc_view"] = "whole"
    page.run()
    assert not page.exception
    assert explained(page)["gradcam"].ask.scene.view == "whole"


def test_an_uploaded_picture_is_explained(page: AppTest) -> None:
    upload(page, "../../orange.png", png((300, 200)))
    assert not page.exception
    assert choice(page).photo.sample == ""
    assert choice(page).photo.decoded().size == (300, 200)
    assert "gradcam" in explained(page)


def huge_png(side: int) -> bytes:
    """A real black-and-white PNG of side x side pixels, in a few dozen kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = bytes(side * (1 + (side + 7) // 8))
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    body = zlib.compress(rows, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def bad_files() -> Iterator[tuple[str, bytes, str]]:
    photograph = samples()["china"].data
    yield "text.png", b"this is a text file", "Text.png is not an image"
    yield "cut.jpg", photograph[: len(photograph) // 3], "Cut.jpg is a damaged JPEG file that ends too early"
    yield "huge.png", huge_png(20_000), "Huge.png has 20000 x 20000 pixels (400 megapixels)"
    yield "empty.png", b"", "Empty.png is empty (0 bytes)"


@pytest.mark.parametrize(("name", "data", "told"), list(bad_files()), ids=["text", "cut", "huge", "empty"])
def test_a_bad_file_is_one_sentence_and_the_page_stays(page: AppTest, name: str, data: bytes, told: str) -> None:
    before = choice(page).photo
    upload(page, name, data)
    assert not page.exception
    (warning,) = page.warning
    assert warning.value.startswith(told)
    assert warning.value.count("\n") == 0
    assert choice(page).photo == before
    upload(page, "good.png", png((64, 64)))
    assert not page.warning


def test_a_file_that_is_too_large_is_refused(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xai.ui.picture.MAX_UPLOAD_BYTES", 2**20)
    upload(page, "large.png", os.urandom(2**20 + 1))
    assert page.warning[0].value.startswith("Large.png is larger than 1 MB")


def test_a_link_restores_the_choices(open_page: OpenPage) -> None:
    query = {"image": "coffee", "method": "eigencam,saliency", "target": "967", "view": "whole", "opacity": "0.7"}
    app = open_page("method_comparison", timeout=120, query=query)
    kept = choice(app)
    assert (kept.photo.sample, kept.methods, kept.target) == ("coffee", ("eigencam", "saliency"), 967)
    assert (kept.view, kept.display["opacity"]) == ("whole", 0.7)
    assert set(explained(app)) >= {"eigencam", "saliency"}


def test_what_a_link_asks_in_vain_is_said(open_page: OpenPage) -> None:
    app = open_page("method_comparison", timeout=120, query={"method": "gradcam,magic"})
    assert app.warning[0].value == "The link asked for 'magic', which is not here; the rest was restored."


def test_no_method_is_an_empty_state(page: AppTest) -> None:
    for group in ("cam", "gradient", "relevance"):
        page.session_state[f"mc_methods_{group}"] = []
    page.run()
    assert not page.exception
    assert page.info[0].value == "Choose a method above to see what the network looked at."


def test_each_panel_opens(page: AppTest) -> None:
    for name in ("Layer explorer", "Does the class matter?", "Do the weights matter?", "Save and share"):
        page.session_state["mc_tabs"] = name
        page.run()
        assert not page.exception, name
    assert "python -m xai explain sample:chelsea" in page.code[1].value


def test_a_class_stands_beside_an_unrelated_one_and_agreement_is_by_size(page: AppTest) -> None:
    page.session_state["mc_tabs"] = "Does the class matter?"
    page.run()
    scene = Scene(choice(page).photo, "crop", Net("efficientnet_lite0"))
    job = BOARD.get(look_key(scene))
    assert job is not None
    assert isinstance(job.result, Look)
    order = job.result.order
    (box,) = (each for each in page.selectbox if each.label.startswith("Beside "))
    place = order.index(box.value)
    assert abs(place - len(order) / 2) <= 1  # in the middle of the order: neither likely nor ruled out
    assert any(f"place {place + 1:,} of {len(order):,}" in each.value for each in page.caption)
    assert box.options[0].startswith(job.result.labels[order[1]])  # the runner-up is the first to choose
    page.session_state["mc_tabs"] = "Do they agree?"
    page.run()
    assert page.segmented_control(key="mc_agreement_by").value == "size"
    assert any("the sizes of the maps' values, without their sign" in each.value for each in page.caption)
    page.segmented_control(key="mc_agreement_by").set_value("sign").run()
    assert not page.exception
    assert any("the maps as they are (signed where the method is signed)" in each.value for each in page.caption)


def test_weights_that_cannot_be_had_are_a_sentence_and_not_a_crash(
    page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(name: str, weights: str) -> None:
        raise WeightsError(f"the weights of {name} ({weights}) cannot be had.")

    monkeypatch.setattr("xai.ui.work.load_model", offline)
    page.session_state["mc_nets"] = ["vgg19"]
    page.run()
    assert not page.exception
    job = BOARD.get(look_key(Scene(choice(page).photo, "crop", Net("vgg19"))))
    assert job is not None
    assert (job.refused, job.error) == (True, "the weights of vgg19 (imagenet) cannot be had.")


def test_weights_of_ones_own_are_loaded_from_their_file(page: AppTest, tmp_path: Path) -> None:
    state = io.BytesIO()
    trained = load_model("efficientnet_lite0", "random:5").module.net.state_dict()
    torch.save(trained, state)
    page.session_state["mc_settings"] = True
    page.run()
    uploader = next(each for each in page.file_uploader if each.key == "mc_weights_efficientnet_lite0_file")
    uploader.set_value(("mine.pth", state.getvalue(), "application/octet-stream")).run()
    assert not page.exception
    (net,) = choice(page).nets
    assert net.of_file
    job = BOARD.get(look_key(Scene(choice(page).photo, "crop", net)))
    assert job is not None
    assert not job.error
    used = net.load()
    assert used.weights == "file:mine.pth"
    assert torch.equal(used.module.net.state_dict()["_fc.weight"], trained["_fc.weight"])
    assert (tmp_path / "cache" / "weights").is_dir()


def test_what_the_outputs_of_ones_own_file_mean_is_asked_for(page: AppTest) -> None:
    def put(outputs: int) -> Net:
        state = load_model("efficientnet_lite0", "random:5", labels=["a", "b", "c"]).module.net.state_dict()
        data = io.BytesIO()
        torch.save({key: value[:outputs] if key.startswith("_fc.") else value for key, value in state.items()}, data)
        uploader = next(each for each in page.file_uploader if each.key == "mc_weights_efficientnet_lite0_file")
        uploader.set_value((f"mine{outputs}.pth", data.getvalue(), "application/octet-stream")).run()
        page.run()  # the network is loaded now
        assert not page.exception
        (net,) = choice(page).nets
        return net

    def told() -> Look:
        job = BOARD.get(look_key(Scene(choice(page).photo, "crop", choice(page).nets[0])))
        assert job is not None
        assert isinstance(job.result, Look)
        return job.result

    page.session_state["mc_settings"] = True
    page.run()
    net = put(3)
    assert float(told().probabilities.sum()) == pytest.approx(1)
    page.button_group(key="mc_weights_efficientnet_lite0_output").set_value("sigmoid").run()
    page.run()
    assert choice(page).nets[0].weights == f"{net.weights}?output=sigmoid"
    logits = (
        choice(page).nets[0].load().predict(choice(page).nets[0].load().preprocess(choice(page).photo.decoded()))[0]
    )
    assert torch.allclose(told().probabilities, torch.sigmoid(logits))
    put(1)
    assert told().labels == ("no", "yes")
    assert float(told().probabilities.sum()) == pytest.approx(1)
    said = [each.value for each in page.caption]
    assert any("has one output. It is read by a sigmoid as two classes, “no” and “yes”" in text for text in said)
    assert not any(each.key == "mc_weights_efficientnet_lite0_output" for each in page.get("button_group"))


def test_a_file_that_is_no_weights_is_refused(page: AppTest) -> None:
    page.session_state["mc_settings"] = True
    page.run()
    uploader = next(each for each in page.file_uploader if each.key == "mc_weights_efficientnet_lite0_file")
    uploader.set_value(("evil.pth", b"cos\nsystem\n(S'true'\ntR.", "application/octet-stream")).run()
    assert not page.exception
    (net,) = choice(page).nets
    job = BOARD.get(look_key(Scene(choice(page).photo, "crop", net)))
    assert job is not None
    assert job.refused
    assert "evil.pth" in job.error


def test_every_run_brings_the_browser_what_is_chosen(page: AppTest) -> None:
    """A click may restart the script before the browser has drawn a widget; it then draws what the next run brings."""
    page.run()
    assert list(page.multiselect(key="mc_nets").proto.default) == [0]
    chosen = {group.key: list(group.proto.default) for group in page.get("button_group")}
    assert chosen["mc_view"] == [0]
    assert sum(len(places) for key, places in chosen.items() if key.startswith("mc_methods")) == len(first_methods())


def test_a_preset_stays_where_the_next_click_comes_before_it_is_drawn(page: AppTest) -> None:
    """A browser that has not drawn the preset yet sends with the next click what its widgets held before it."""
    page.session_state["mc_presets"] = True
    page.run()
    held = page._tree.get_widget_states()
    page.button(key="mc_preset_0").click().run()
    page._run(held)
    assert not page.exception
    assert [net.name for net in choice(page).nets] == ["vgg16"]
    assert choice(page).methods == ("gradcam", "guided_backprop", "guided_gradcam")
