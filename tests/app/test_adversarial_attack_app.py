"""The adversarial page without a browser."""

from __future__ import annotations

from tests.app.conftest import OpenPage

QUICK = {"attack": "fgsm"}


def test_opens_with_a_study(open_page: OpenPage) -> None:
    app = open_page("adversarial_attack", timeout=120, query=QUICK)
    assert app.title[0].value == "Adversarial attack"
    assert any("FGSM in the L-infinity ball" in each.value for each in app.caption)
    assert any("python -m xai attack sample:coffee" in each.value for each in app.code)
    assert len(app.dataframe[0].value) == 33


def test_another_norm_changes_the_protocol_and_the_command(open_page: OpenPage) -> None:
    app = open_page("adversarial_attack", timeout=120, query=QUICK)
    app.segmented_control(key="aa_norm").set_value("l2").run()
    assert not app.exception
    assert any("in the L2 ball" in each.value for each in app.caption)
    assert any("--norm l2" in each.value for each in app.code)


def test_a_link_that_asks_for_what_is_not_there_says_so(open_page: OpenPage) -> None:
    app = open_page("adversarial_attack", timeout=120, query={**QUICK, "norm": "l7", "target": "x"})
    assert any("'l7'" in each.value and "'x'" in each.value for each in app.warning)
