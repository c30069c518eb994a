"""A link restores the choices, and survives whatever people write into it."""

from __future__ import annotations

import pytest

from xai.explain.spec import METHODS
from xai.ui.session import FIRST_NET, first_methods, from_query, to_query
from xai.ui.tiles import DISPLAY, checked_display
from xai.ui.work import Net, Photo


def test_nothing_chosen_is_an_empty_query() -> None:
    choice = from_query({})
    assert to_query(choice) == {}
    assert (choice.photo.sample, choice.nets, choice.methods) == ("chelsea", (FIRST_NET,), first_methods())


def test_every_choice_comes_back() -> None:
    choice = from_query({})
    choice.view = "whole"
    choice.photo = from_query({"image": "coffee"}).photo
    choice.nets = (Net("vgg16", "random:0"), Net("efficientnet_lite0"))
    choice.methods = ("gradcam++", "smoothgrad", "lrp")
    choice.params = {"smoothgrad": {"samples": 8, "noise": 0.25, "magnitude": True}, "lrp": {"composite": "epsilon"}}
    choice.layers = {"vgg16@random:0": "features.22"}
    choice.target = 281
    choice.display |= {"colors": "turbo", "opacity": 0.75, "mode": "split", "scale": "shared", "smooth": False}
    query = to_query(choice)
    assert all(isinstance(value, str) for value in query.values())
    again = from_query(query)
    assert to_query(again) == query
    for name in ("view", "photo", "nets", "methods", "params", "layers", "target", "display"):
        assert getattr(again, name) == getattr(choice, name), name
    assert again.problem == ""


def test_an_uploaded_picture_is_not_in_the_link() -> None:
    choice = from_query({})
    choice.photo = Photo("0" * 64, "mine.png", "", b"secret")
    assert to_query(choice) == {}


def test_weights_of_ones_own_are_not_in_the_link() -> None:
    choice = from_query({})
    choice.nets = (Net("resnet50", "file:/home/me/secret.pth"),)
    choice.layers = {choice.nets[0].text: "layer3"}
    assert to_query(choice) == {"model": "resnet50"}


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"image": "nothing"}, "image 'nothing'"),
        ({"model": "vgg16,nonet"}, "'nonet'"),
        ({"model": "vgg16@file:/etc/passwd"}, "'vgg16@file:/etc/passwd'"),
        ({"model": "vgg16@run:1"}, "'vgg16@run:1'"),
        ({"method": "gradcam,magic"}, "'magic'"),
        ({"target": "-1"}, "target '-1'"),
        ({"target": "9" * 40}, "target"),
        ({"param.smoothgrad.samples": "many"}, "smoothgrad.samples=many"),
        ({"param.smoothgrad.flavour": "1"}, "smoothgrad.flavour=1"),
        ({"param.magic.x": "1"}, "magic.x=1"),
        ({"param.lrp.composite": "secret"}, "lrp.composite=secret"),
    ],
)
def test_what_does_not_exist_is_left_out_and_said(query: dict[str, str], told: str) -> None:
    choice = from_query(query)
    assert choice.problem.startswith("The link asked for ")
    assert told in choice.problem
    assert choice.problem.endswith(", which is not here; the rest was restored.")
    assert all(name in METHODS for name in choice.methods)
    assert choice.methods
    assert choice.nets


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"opacity": "0.3"}, {"opacity": 0.3}),
        ({"opacity": "7"}, {"opacity": 1.0}),
        ({"opacity": "nan"}, {}),
        ({"opacity": "thick"}, {}),
        ({"colors": "plaid", "mode": "sideways", "scale": "", "signed": None}, {}),
        ({"smooth": "false"}, {"smooth": False}),
        ({"smooth": True, "split": 0.25, "unknown": 1}, {"split": 0.25}),
    ],
)
def test_display_settings_are_checked(values: dict[str, object], wanted: dict[str, object]) -> None:
    assert checked_display(values) == {**DISPLAY, **wanted}
