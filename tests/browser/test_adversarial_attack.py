"""Moving epsilon in a real browser: the pictures are those of the chosen epsilon, and nobody is asked for them."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import Page

from tests.app.test_attack_packet_app import found
from tests.browser.conftest import NewPage
from tests.browser.helpers import NARROW, ROOT, AppServer, expect, low_contrast, overflow, screenshot, settle
from xai.studies.adversarial.noise import noise_of_equal_norm
from xai.types import AttackResult, Run
from xai.ui.adversarial_attack.packet import sweep_packet
from xai.ui.adversarial_attack.state import Plan
from xai.ui.browser import packet, text
from xai.ui.tiles import DISPLAY, colormaps, map_id, map_packet, view_id, view_packet, words
from xai.ui.work import Ask, Shown, explain, look

QUICK = "/adversarial_attack?attack=fgsm"
ALL = 33
HELD = """() => [...globalThis.__olhar.packets.values()].filter((packet) => packet.head.kind === "sweep")
  .map((packet) => Object.values(packet).flat().filter((each) => each instanceof ImageData).length)"""


def pixels(page: Page, tile: str) -> np.ndarray:
    """What a tile's canvas shows, (H,W,3)."""
    data = page.locator(f'[data-tile="{tile}"] canvas').evaluate("(canvas) => canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB")).astype(int)


def finished(page: Page) -> None:
    """Wait until all positions are there; on a slow machine the page asks first, and the answer is yes."""
    there = page.locator(f'[data-count="{ALL}"]')
    ask = page.get_by_role("button", name="Compute all positions")
    expect(there.or_(ask).first).to_be_visible()
    if ask.is_visible():
        ask.click()
    expect(there).to_be_visible()
    settle(page)


def test_opens_attacked_and_the_slider_moves_among_finished_results(server: AppServer, new_page: NewPage) -> None:
    page = new_page()
    sent: list[int] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(len(frame))))
    page.goto(server.url + QUICK)
    expect(page.locator('[data-tile="attacked"] canvas')).to_be_visible()
    finished(page)
    assert set(page.evaluate(HELD)) == {0}  # a study that may come back is kept as bytes; only what is shown is opened
    assert "/255 or less changes the class. This is an upper bound" in page.locator(".verdict").inner_text()
    handle = page.get_by_role("slider", name="Epsilon", exact=True)
    handle.focus()
    handle.press("Home")
    clean = pixels(page, "clean")
    assert (pixels(page, "attacked") == clean).all()
    settle(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the study").click()
    archive = zipfile.ZipFile(Path(download.value.path()))
    manifest = json.loads(archive.read("manifest.json"))
    folder = manifest["images"][0]["folder"]
    before = len(sent)
    for _ in range(16):
        handle.press("ArrowRight")
        page.wait_for_timeout(30)  # keys pressed in one breath are let go once
    readout = page.locator(".readout").inner_text()
    assert readout == "4/255"
    kept = np.asarray(Image.open(io.BytesIO(archive.read(f"{folder}/adversarial-4of255-linf-4of255.png")))).astype(int)
    assert (pixels(page, "attacked") == kept).all()
    assert 0 < abs(pixels(page, "attacked") - clean).max() <= 4
    row = next(each for each in manifest["images"][0]["epsilons"] if abs(each["epsilon"] * 255 - 4) < 1e-6)
    assert row["predicted"] in page.locator('[data-tile="attacked"] .klass').inner_text()
    page.get_by_role("slider", name="Opacity of the maps").fill("0")  # what a map lies over is all that is left
    x = torch.from_numpy(clean).permute(2, 0, 1)[None].float() / 255
    control = cast(AttackResult, SimpleNamespace(clean=x, linf=torch.tensor([row["linf"]])))
    noisy = noise_of_equal_norm(x, control, "linf", Run())[0].permute(1, 2, 0).numpy()
    for name, below in (("clean", clean), ("attack", kept), ("noise", np.rint(255 * noisy))):
        assert (pixels(page, f"old.{name}") == below).all(), name
    assert float(page.locator("[data-latency]").get_attribute("data-latency") or "nan") > 0
    assert len(sent) - before <= 16  # a place is sent when the key is let go; no picture is asked for
    screenshot(page, "attack-light", whole=True)
    handle.press("ArrowRight")
    page.get_by_role("tab", name="Many pictures").click()  # at once: what the key began has no time to end
    expect(page.get_by_text("And your own")).to_be_visible()
    page.get_by_role("tab", name="One picture").click()
    finished(page)
    assert page.locator(".readout").inner_text() == "4.5/255"  # where it was let go


def test_many_pictures_give_a_rate_with_its_interval(server: AppServer, new_page: NewPage) -> None:
    page = new_page()
    page.goto(server.url + QUICK)
    finished(page)
    page.get_by_role("tab", name="Many pictures").click()
    page.get_by_role("button", name="Attack them all").click()
    expect(page.get_by_text("bootstrap 95 % interval")).to_be_visible()
    settle(page)
    expect(page.locator(".st-key-aa_rates .js-plotly-plot")).to_be_visible()
    with page.expect_download() as download:
        page.locator(".st-key-aa_set_csv button").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0] == "picture,says,probability,smallest epsilon,becomes,network,protocol"
    assert len(lines) == 6
    expect(page.locator(".st-key-aa_rates")).to_contain_text("EfficientNet-Lite0, mean over 5 pictures")  # when saved
    with page.expect_download() as download:
        page.locator(".st-key-aa_set_curves button").click()
    assert Path(download.value.path()).read_text().splitlines()[0].endswith(",network,protocol")
    screenshot(page, "attack-many", whole=True)


def test_a_bad_file_leaves_the_page_as_it_was(server: AppServer, new_page: NewPage, tmp_path: Path) -> None:
    page = new_page()
    page.goto(server.url + QUICK)
    finished(page)
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    page.locator('[class*="st-key-aa_upload_"] input[type=file]').set_input_files(bad)
    expect(page.get_by_test_id("stAlert")).to_contain_text("bad.png")
    finished(page)
    assert "espresso" in page.locator('[data-tile="clean"] .klass').inner_text()


def test_an_own_picture_and_a_link(server: AppServer, new_page: NewPage) -> None:
    page = new_page()
    page.goto(server.url + QUICK)
    finished(page)
    page.locator('[class*="st-key-aa_upload_"] input[type=file]').set_input_files(ROOT / "assets/samples/chelsea.png")
    expect(page.locator('[data-tile="clean"] .klass')).to_contain_text("cat")
    restored = new_page()
    restored.goto(f"{server.url}/adversarial_attack?attack=fgsm&norm=l2&image=rocket&target=404")
    finished(restored)
    assert "reaches the chosen class" in restored.locator(".verdict").inner_text()
    assert "missile" in restored.locator('[data-tile="clean"] .klass').inner_text()
    assert "L2 norm" in (restored.locator(".plot").first.text_content() or "")


def test_the_end_of_an_earlier_call_leaves_a_component_listening(new_page: NewPage) -> None:
    """Streamlit cleans up a call whose data have changed meanwhile only after it has made the next one."""
    page = new_page()
    calls = """
      const component = { hear: () => {} };
      const [first, second] = [listen(component), listen(component)];
      first();
      const before = bus.listeners.has(component.hear);
      second();
      return [before, bus.listeners.has(component.hear)];
    """
    assert page.evaluate("() => {" + text("bus.js") + calls + "}") == [True, False]


def test_a_tab_keeps_the_latest_bytes_and_all_that_is_on_the_page(new_page: NewPage) -> None:
    page = new_page()
    calls = """
      const on = document.body.appendChild(document.createElement("div"));
      const give = (id, bytes, place = document.createElement("div")) => {
        const head = new TextEncoder().encode(JSON.stringify({ id, kind: "map" }));
        const data = new Uint8Array(4 + head.length + bytes);
        new DataView(data.buffer).setUint32(0, head.length, true);
        data.set(head, 4);
        receive(data, place);
      };
      const kept = () => [...bus.packets.keys()].filter((id) => id.length === 1).join("");
      const eighth = KEPT_BYTES / 8;
      give("a", 2 * eighth, on);
      for (const id of ["b", "c"]) give(id, 2 * eighth);
      for (let i = 0; i < 400; i++) give(`small ${i}`, 100);
      const found = [kept(), bus.packets.size];
      give("b", 2 * eighth);
      give("d", 2 * eighth);
      found.push(kept());
      on.remove();
      give("e", 2.5 * eighth);
      return [...found, kept()];
    """
    # "b" came again, so "c" is the oldest that is not on the page; "a" goes once it is not either.
    assert page.evaluate("() => {" + text("bus.js") + calls + "}") == ["abc", 403, "abd", "bde"]


def mounted(*ids: str) -> tuple[dict[str, Any], str]:
    """What the slider is given, and a script that defines `mount`, `place` and `give`."""
    data = {"ids": ids, "count": ALL, "place": 16, "display": dict(DISPLAY), "colormaps": colormaps(), "words": words()}
    data["slots"] = {"view": "row0", "map": "clean"}
    script = "".join(map(text, ("bus.js", "paint.js", "chart.js", "adversarial_attack/sweep.js")))
    helpers = """
      const place = document.body.appendChild(document.createElement("div"));
      const give = (coded) => receive(Uint8Array.from(atob(coded), (letter) => letter.charCodeAt(0)), place);
    """
    return data, script.replace("export default ", "const mount =") + helpers


def test_the_clean_picture_and_its_map_are_there_before_any_attack(new_page: NewPage) -> None:
    made = found(Plan(attack="fgsm"))
    seen = look(made.request.scene, Run())
    shown = explain(Ask(made.request.scene, "gradcam", target=seen.order[0]), seen, Run())
    assert isinstance(shown, Shown)
    done = {"row0": {"state": "done", "id": view_id(seen)}, "clean": {"state": "done", "id": map_id(shown)}}
    status = packet({"kind": "status", "slots": done})
    sent = [view_packet(seen), map_packet(shown), status, sweep_packet(made)]
    packets = [base64.b64encode(each).decode() for each in sent]
    data, script = mounted(made.request.id)
    calls = """
      mount({ data, parentElement: place, setStateValue: () => {} });
      const root = place.querySelector(".olhar");
      const done = () => [...root.querySelectorAll('.tile[data-state="done"]')];
      const ready = () => done().map((tile) => tile.dataset.tile).join();
      const shows = () => root.querySelector(".sweep").hidden;
      const canvas = (name) => root.querySelector(`[data-tile="${name}"] canvas`).toDataURL();
      const said = [shows()];
      packets.slice(0, 3).forEach(give);
      while (shows()) await new Promise((go) => setTimeout(go, 20));
      said.push(ready(), root.querySelector('[data-tile="clean"] .klass').textContent);
      said.push(root.querySelector(".hold").textContent, canvas("clean"), canvas("old.clean"));
      give(packets[3]);
      while (!root.dataset.count) await new Promise((go) => setTimeout(go, 20));
      return [...said, ready().split(",").length, canvas("clean"), canvas("old.clean")];
    """
    page = new_page()
    hidden, ready, says, hold, clean, kept, count, later, map_later = page.evaluate(
        "async ([data, packets]) => {" + script + calls + "}", [data, packets]
    )
    assert hidden
    assert ready == "clean,old.clean"
    assert seen.labels[seen.order[0]] in says
    assert hold == "The attacked pictures come here as soon as the first positions are computed."
    assert count == 9
    assert later == clean
    assert min(len(kept), len(map_later)) > 1000  # both are drawn; the study's scale holds three maps


def test_a_line_breaks_where_its_class_changes(new_page: NewPage) -> None:
    made = found(Plan(attack="fgsm"))
    maps = made.study.maps["new"]
    other = dataclasses.replace(maps, class_index=torch.tensor([[0], [0], [1]]))
    made = dataclasses.replace(made, study=dataclasses.replace(made.study, maps={**made.study.maps, "new": other}))
    data, script = mounted(made.request.id)
    calls = """
      mount({ data, parentElement: place, setStateValue: () => {} });
      give(sent);
      const root = place.querySelector(".olhar");
      while (!root.dataset.count) await new Promise((go) => setTimeout(go, 20));
      const chart = root.querySelector(".chart");
      const slider = root.querySelector(".epsilon");
      const values = [];
      for (const at of [0, 32]) {
        slider.value = at;
        slider.dispatchEvent(new Event("input"));
        values.push([...chart.querySelectorAll(".key")].map((key) => key.textContent));
      }
      const lines = [...chart.querySelectorAll("path.line")];
      return [lines.map((line) => line.getAttribute("d").split("M").length - 1), values];
    """
    sent = base64.b64encode(sweep_packet(made)).decode()
    pieces, values = new_page().evaluate("async ([data, sent]) => {" + script + calls + "}", [data, sent])
    assert pieces == [1, 2, 1]  # of the old class, of the new one, which is two classes, and of the old one under noise
    for said, index in zip(values, (0, 1), strict=True):
        assert said[1].startswith("new class, attacked")
        assert said[1].endswith(f" {made.labels[index]}")


def test_a_study_stays_in_hand_until_the_next_one_is_open(new_page: NewPage) -> None:
    first, next_one = (found(Plan(attack="fgsm", seed=seed)) for seed in (0, 1))
    facts = zip(first.study.attacked, (False, False, True), (False, True, True), strict=True)
    attacked = [
        dataclasses.replace(each, success=torch.tensor([success]), survives_png=torch.tensor([png]))
        for each, success, png in facts
    ]
    first = dataclasses.replace(first, study=dataclasses.replace(first.study, attacked=tuple(attacked)))
    packets = [base64.b64encode(sweep_packet(each)).decode() for each in (first, next_one)]
    data, script = mounted(next_one.request.id, first.request.id)
    calls = """
      mount({ data, parentElement: place, setStateValue: () => {} });
      give(packets[0]);
      const root = place.querySelector(".olhar");
      while (!root.dataset.count) await new Promise((go) => setTimeout(go, 20));
      const said = [root.querySelector(".verdict").textContent, root.querySelector(".strip").children[16].title];
      globalThis.createImageBitmap = () => new Promise(() => {}); // the pictures of the next study take their time
      give(packets[1]);
      const slider = root.querySelector(".epsilon");
      slider.value = 32;
      slider.dispatchEvent(new Event("input"));
      return [...said, root.dataset.place];
    """
    verdict, title, place = new_page().evaluate("async ([data, packets]) => {" + script + calls + "}", [data, packets])
    assert place == "32"
    # What reaches its aim by rounding alone has not survived it.
    assert verdict.endswith(
        " Saved as PNG it survives from 16/255 on. Random noise of the same norm never changes the class."
    )
    assert title == "ε 4/255: class as before"


def test_dark_and_narrow(server: AppServer, new_page: NewPage) -> None:
    page = new_page(colour="dark", size=NARROW)
    page.goto(server.url + QUICK)
    finished(page)
    assert overflow(page) == 0
    assert low_contrast(page) == []
    screenshot(page, "attack-dark-narrow", whole=True)
