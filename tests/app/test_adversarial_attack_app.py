"""The adversarial page without a browser."""

from __future__ import annotations

import io
import re
import shlex

import pytest
import streamlit as st
import torch
from PIL import Image
from streamlit.runtime.uploaded_file_manager import UploadedFile

from tests.app.conftest import OpenPage
from tests.browser.helpers import ROOT
from xai.commands.attack import parse_epsilons
from xai.ui import picture
from xai.ui.adversarial_attack import forms as attack_forms
from xai.ui.adversarial_attack.state import LIMITS, Plan, command, from_query, to_query
from xai.ui.work import Photo

QUICK = {"attack": "fgsm", "model": "simple_cnn@random:0"}


def test_opens_with_a_study(open_page: OpenPage) -> None:
    app = open_page("adversarial_attack", timeout=120, query=QUICK)
    assert app.title[0].value == "Adversarial attack"
    assert any("FGSM in the L-infinity ball" in each.value for each in app.caption)
    assert any("python -m xai attack sample:coffee" in each.value for each in app.code)
    assert len(app.dataframe[0].value) == 33
    [words] = [each.value for each in app.caption if each.value.startswith("epsilon, linf, l2: ")]
    for column in app.dataframe[0].value.columns:  # each is explained
        assert re.sub("_(old|new)_(attack|noise)$", "", column) in re.findall(r"\w+", words), column


def test_a_link_restores_what_stands_at_a_limit() -> None:
    for norm, low in (("linf", LIMITS["reach"][0] / 255), ("l2", LIMITS["reach"][0])):
        choice = from_query({})
        choice.plan = Plan(norm=norm, reach=low, step_size=1 / 3)
        again = from_query(to_query(choice))
        assert again.problem == ""
        assert again.plan == choice.plan


def test_a_link_may_ask_for_any_method_that_explains() -> None:
    assert from_query({"method": "rise"}).plan.method == "rise"
    refused = from_query({"method": "edges"})  # a baseline explains nothing
    assert refused.plan.method == "gradcam"
    assert "method 'edges'" in refused.problem


def test_a_method_that_does_not_apply_is_said_once(open_page: OpenPage) -> None:
    query = {**QUICK, "method": "attention_rollout"}
    app = open_page("adversarial_attack", timeout=120, query=query)
    [told] = [each.value for each in app.warning]
    assert told.startswith("Attention rollout does not apply to ")
    app.session_state["aa_tabs"] = "Many pictures"
    app.run()
    [told] = [each.value for each in app.warning]
    assert told.startswith("Attention rollout does not apply to ")


def test_a_set_under_way_says_so_in_its_place(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    caption = st.delta_generator.DeltaGenerator.caption
    monkeypatch.setattr(
        st.delta_generator.DeltaGenerator,
        "caption",
        lambda at, text, **more: (shown.append(text), caption(at, text, **more)),
    )
    app = open_page("adversarial_attack", timeout=120, query=QUICK)
    app.session_state["aa_tabs"] = "Many pictures"
    app.run()
    app.button(key="aa_all").click().run()
    assert any(text.startswith("One picture after another") for text in shown)
    assert not any(each.value.startswith("One picture after another") for each in app.caption)  # the curves are there
    shown.clear()
    app.run()
    assert not any(text.startswith("One picture after another") for text in shown)


def test_the_command_attacks_at_the_same_epsilons() -> None:
    choice = from_query({"reach": str(10 / 3 / 255)})
    words = shlex.split(command(choice, None))
    first = words.index("--epsilon") + 1
    given = torch.tensor(parse_epsilons(words[first : first + 33], "linf"))
    assert torch.equal(given, torch.tensor(choice.plan.epsilons()))


def test_an_upload_of_the_set_is_read_once(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("adversarial_attack", timeout=120, query=QUICK)
    app.session_state["aa_tabs"] = "Many pictures"
    app.run()
    read: list[str] = []

    def counted(file: UploadedFile) -> Photo:
        read.append(file.name)
        return uploaded(file)

    uploaded = picture.uploaded
    monkeypatch.setattr(picture, "uploaded", counted)
    data = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(data, "PNG")
    files = [("teal.png", data.getvalue(), "image/png"), ("bad.png", b"no picture", "image/png")]
    app.file_uploader(key="aa_set_upload_0").set_value(files).run()
    assert any("6 pictures at 9 epsilons" in each.value for each in app.markdown)
    assert any("bad.png" in each.value and "left out" in each.value for each in app.warning)
    app.run()
    assert sorted(read) == ["bad.png", "teal.png"]
    app.switch_page("pages/home.py").run()
    app.switch_page("pages/adversarial_attack.py").run()
    app.session_state["aa_tabs"] = "Many pictures"
    app.run()
    assert any("6 pictures at 9 epsilons" in each.value for each in app.markdown)  # it outlives a look at another page
    [own] = [each for each in app.button_group if "teal.png" in each.options]
    assert len(own.value) == 6
    app.button_group(key="aa_set_pictures_1").set_value(own.value[:4]).run()
    assert any("4 pictures at 9 epsilons" in each.value for each in app.markdown)
    assert not any("bad.png" in each.value for each in app.warning)  # it was about the upload, and is over


def test_own_pictures_of_the_set_are_bounded(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack_forms, "MOST_OWN", 2)
    app = open_page("adversarial_attack", timeout=120, query=QUICK)
    app.session_state["aa_tabs"] = "Many pictures"
    app.run()
    files = [("cup.png", (ROOT / "assets/samples/coffee.png").read_bytes(), "image/png")]
    for colour in ("teal", "red", "blue"):
        data = io.BytesIO()
        Image.new("RGB", (40, 30), colour).save(data, "PNG")
        files.append((f"{colour}.png", data.getvalue(), "image/png"))
    app.file_uploader(key="aa_set_upload_0").set_value(files).run()
    [told] = [each.value for each in app.warning]
    assert told == (
        "blue.png is more than a set holds, which is at most 2 own pictures of 256 MB together. It is left out."
    )
    pills = app.button_group(key="aa_set_pictures_1")
    assert pills.options[5:] == ["teal.png", "red.png"]  # the cup is the shipped photograph, and is not held twice
    assert len(pills.value) == 7
    pills.set_value([*pills.value[:5], pills.value[6]]).run()  # without the teal one
    app.file_uploader(key="aa_set_upload_1").set_value(files[-1:]).run()
    assert not app.warning
    pills = app.button_group(key="aa_set_pictures_2")
    assert pills.options[5:] == ["red.png", "blue.png"]  # what was not in the set made room
    assert len(pills.value) == 7


def test_pictures_that_are_called_alike_are_told_apart(open_page: OpenPage) -> None:
    """To the browser pills of one name are one, so that a picture would be left out without a word."""
    app = open_page("adversarial_attack", timeout=120, query=QUICK)
    app.session_state["aa_tabs"] = "Many pictures"
    app.run()
    files = []
    for colour in ("teal", "red", "blue"):
        data = io.BytesIO()
        Image.new("RGB", (40, 30), colour).save(data, "PNG")
        files.append(("image.png", data.getvalue(), "image/png"))
    app.file_uploader(key="aa_set_upload_0").set_value(files).run()
    pills = app.button_group(key="aa_set_pictures_1")
    assert pills.options[-3:] == ["image.png", "image.png (2)", "image.png (3)"]
    assert len(pills.value) == 8


def test_another_norm_changes_the_protocol_and_the_command(open_page: OpenPage) -> None:
    app = open_page("adversarial_attack", timeout=120, query=QUICK)
    app.segmented_control(key="aa_norm").set_value("l2").run()
    assert not app.exception
    assert any("in the L2 ball" in each.value for each in app.caption)
    assert any("--norm l2" in each.value for each in app.code)


def test_loss_and_envelope_are_in_the_protocol_the_link_and_the_command(open_page: OpenPage) -> None:
    app = open_page("adversarial_attack", timeout=120, query=QUICK)
    app.segmented_control(key="aa_loss").set_value("margin").run()
    app.toggle(key="aa_envelope").set_value(True).run()
    assert not app.exception
    told = " ".join(each.value for each in (*app.caption, *app.code))
    for words in ("margin loss", "(envelope)", "--loss margin --envelope", "loss=margin", "envelope=True"):
        assert words in told, words
    again = from_query({"loss": "margin", "envelope": "True"})
    assert (again.plan.loss, again.plan.envelope, again.problem) == ("margin", True, "")
    bad = from_query({"loss": "hinge", "envelope": "maybe"})
    assert "loss 'hinge'" in bad.problem
    assert "envelope 'maybe'" in bad.problem


def test_a_link_that_asks_for_what_is_not_there_says_so(open_page: OpenPage) -> None:
    app = open_page("adversarial_attack", timeout=120, query={**QUICK, "norm": "l7", "target": "x"})
    assert any("'l7'" in each.value and "'x'" in each.value for each in app.warning)
