"""The bias audit's page without a browser: it opens with the finding, and every part shows finished results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import OpenPage
from xai.data.pets import PetImage, balanced_pets
from xai.settings import ASSETS
from xai.studies.bias.own import OwnRequest, audit_own

WEIGHTS = ASSETS / "bias" / "networks" / "fur-study-biased-s0.safetensors"
SUMMARY = json.loads((ASSETS / "bias" / "summary.json").read_text(encoding="utf-8"))


def tab(app: AppTest, name: str) -> AppTest:
    app.session_state["ba_tabs"] = name
    app.run()
    assert not app.exception, [each.message for each in app.exception]
    return app


def test_opens_with_the_finding_on_it(open_page: OpenPage) -> None:
    app = open_page("bias_audit")
    assert app.title[0].value == "Bias audit"
    verdict = SUMMARY["base"]["audit"]["verdict"]
    assert verdict.startswith("Decides by fur colour: flips in ")
    assert app.subheader[0].value == verdict
    assert any("drawn images" in each.value for each in app.markdown)
    assert any("122 of them fur light" in each.value for each in app.markdown)
    assert any(each.value.startswith("python -m xai audit-bias --seed 0 --sweep") for each in app.code)
    wrong = [each.value for each in app.markdown if each.value.startswith(":red[wrong: ")]
    assert len(wrong) >= 6  # of twelve pictures whose colour speaks for the other class
    flips = [each.value for each in app.markdown if each.value.endswith(":red[flips]")]
    assert flips
    assert [len(each.value) for each in app.dataframe] == [4, 8, 7]


def test_the_slider_moves_among_finished_results(open_page: OpenPage) -> None:
    app = tab(open_page("bias_audit"), "rho slider")
    slider = app.select_slider(key="ba_rho")
    slider.set_value(0.5).run()
    assert not app.exception
    told = [each.value for each in app.markdown if each.value.startswith(":gray[network")]
    assert len(told) == SUMMARY["request"]["seeds"]
    assert all("Decides by shape" in each for each in told)


@pytest.mark.parametrize(
    ("name", "said"),
    [("Mitigation", "**Balanced data**: worst group"), ("Detector", "**Corner mark.** Can be trusted: LRP, ")],
)
def test_the_other_parts_have_their_tables(open_page: OpenPage, name: str, said: str) -> None:
    app = tab(open_page("bias_audit"), name)
    assert any(said in each.value for each in app.markdown)
    assert app.dataframe


def test_what_was_chosen_in_a_tab_is_there_after_a_look_at_another(open_page: OpenPage) -> None:
    app = tab(open_page("bias_audit"), "rho slider")
    app.select_slider(key="ba_rho").set_value(0.6).run()
    app = tab(app, "Detector")
    app.selectbox(key="ba_reading").set_value("gradcam").run()
    app = tab(app, "rho slider")
    assert app.select_slider(key="ba_rho").value == 0.6
    assert any(each.value.startswith(":gray[network of seed 2]") for each in app.markdown)
    assert tab(app, "Detector").selectbox(key="ba_reading").value == "gradcam"


def test_the_form_says_how_many_trainings_a_run_has(open_page: OpenPage) -> None:
    app = tab(open_page("bias_audit"), "New run")
    for parts, said in (
        ([], "1 training, about 13 s on one core"),
        (["mend"], "15 trainings, about 3 min on one core"),  # the biased one of seed 0 is the first
        (["sweep", "mend", "detector"], "66 trainings, about 14 min on one core"),
    ):
        app.button_group(key="ba_new_parts").set_value(parts).run()
        assert any(each.value == said for each in app.caption)
    assert any(each.value.endswith("--seed 0 --sweep --mend --detector --seeds 3 --out RUN") for each in app.code)
    app.number_input(key="ba_new_epochs").set_value(200).run()
    assert any(each.value == "66 trainings" for each in app.caption)  # nobody measured how long those take


def test_own_data_says_what_it_would_run(open_page: OpenPage, tmp_path: Path) -> None:
    app = tab(open_page("bias_audit"), "Your own data")
    assert any("audit-bias --data sample:pets --model simple_cnn" in each.value for each in app.code)
    app.text_input(key="ba_own_data").set_value(str(tmp_path / "none")).run()
    assert not app.exception
    assert any("does not exist" in each.value for each in app.warning)
    for place, said in (("", "does not exist"), ("~nobody-of-this-name/x", "cannot be read"), ("x" * 300, "too long")):
        app.text_input(key="ba_own_data").set_value(place).run()
        assert not app.exception
        assert any(said in each.value for each in app.warning), place


def test_a_table_that_does_not_fit_is_said_before_the_run(open_page: OpenPage) -> None:
    app = tab(open_page("bias_audit"), "Your own data")
    app.selectbox(key="ba_own_groups").set_value("a CSV").run()
    assert any(each.value == "Drop the CSV to begin." for each in app.info)
    sheet = ("g.csv", b"file,group\ncat/1.png,a\n", "text/csv")
    app.file_uploader(key="ba_own_csv").set_value(sheet).run()
    assert not app.exception
    assert any(each.value.startswith("g\\.csv has no group for cat/light/") for each in app.warning)
    assert not [each for each in app.button if each.key == "ba_begin_own"]


def test_a_finished_run_of_ones_own_data_is_shown(open_page: OpenPage, tmp_path: Path) -> None:
    for index, pet in enumerate(balanced_pets(1, "fur", 1)):
        path = tmp_path / "mine" / pet.species / pet.fur / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PetImage(pet, 64)().save(path)
    request = OwnRequest(str(tmp_path / "mine"), "simple_cnn", f"file:{WEIGHTS}")
    audit_own(request, tmp_path / "runs" / "mine", device="cpu")
    app = open_page("bias_audit")
    assert app.subheader[0].value.startswith("No difference between groups shown")  # of one image each
    assert any("groups from the folders inside the class folders" in each.value for each in app.markdown)
    assert [each.label for each in app.metric] == ["Right", "Worst group"]  # one image a group: none is the rarer one
    [bars] = json.loads(app.get("plotly_chart")[0].proto.spec)["data"]
    assert bars["x"] == ["dark cats", "light cats", "dark dogs", "light dogs"]  # and none is called aligned
    app.toggle(key="ba_shipped").set_value(True).run()
    assert not app.exception
    assert app.subheader[0].value == SUMMARY["base"]["audit"]["verdict"]
