"""A number typed and a button pressed at once, without leaving the field first, by mouse and by keyboard."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page

from tests.browser.conftest import NewPage
from tests.browser.helpers import LONGEST, AppServer, expect, patiently, serve, settle, visit
from tests.dummy.command import offered
from xai.runs import control as run_control


def words_of(kind: str, known: set[str]) -> list[str]:
    """The words of the run of this kind that has just been begun, which is stopped."""
    begun = time.monotonic()
    while time.monotonic() - begun < LONGEST:
        for record in run_control.list_runs(kind):
            if record.id not in known and record.words:
                known.add(record.id)
                run_control.cancel(record.id)
                return list(record.words)
        time.sleep(0.2)
    raise AssertionError(f"no run of kind {kind} was begun")


def wait_until(page: Page, reached: Callable[[], bool]) -> None:
    """Look again and again while the page goes on."""
    begun = time.monotonic()
    while not reached():
        assert time.monotonic() - begun < LONGEST
        page.wait_for_timeout(100)


def fill(page: Page, key: str, text: str) -> None:
    """Type into a field and stay in it."""
    patiently(page, lambda limit: page.locator(f".st-key-{key} input").click(timeout=limit))
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type(text)


@pytest.mark.parametrize(
    ("address", "opens", "kind", "field", "button", "option"),
    [
        ("transfer_learning", "Train on images", "train", "tlf_epochs", "tlf_go", "--epochs"),
        ("gan_augmentation", "Your own runs", "gan", "ga_train_steps", "ga_train_go", "--steps"),
        ("gan_augmentation", "Your own runs", "augment", "ga_seeds", "ga_augment_go", "--seeds"),
        ("bias_audit", "New run", "audit-bias", "ba_new_seed", "ba_begin_study", "--seed"),
    ],
)
def test_a_run_begins_with_the_number_on_the_screen(
    server: AppServer,
    new_page: NewPage,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    opens: str,
    kind: str,
    field: str,
    button: str,
    option: str,
) -> None:
    monkeypatch.setenv("XAI_RUNS", str(server.folder / "runs"))
    known = {record.id for record in run_control.list_runs(kind)}
    page = new_page()
    visit(page, f"{server.url}/{address}")
    page.get_by_text(opens, exact=True).first.click()
    pressed = page.locator(f".st-key-{button} button")
    expect(pressed).to_be_visible()
    for number, press in (
        ("5", pressed.click),
        ("6", partial(pressed.press, "Enter")),
        ("7", partial(pressed.press, "Space")),
    ):
        fill(page, field, number)
        patiently(page, lambda limit, press=press: press(timeout=limit))
        words = words_of(kind, known)
        assert words[words.index(option) + 1] == number


def test_an_attack_takes_the_steps_on_the_screen(server: AppServer, new_page: NewPage) -> None:
    page = new_page()
    visit(page, f"{server.url}/adversarial_attack?attack=pgd&steps=1&start_at_random=False")
    page.get_by_role("tab", name="Many pictures").click()
    pills = page.locator(".st-key-aa_set_pictures_0 button")
    expect(pills).to_have_count(5)
    for number in range(2, 5):  # two pictures are enough
        pills.nth(number).click()
        settle(page)
    pressed = page.get_by_role("button", name="Attack them all")
    expect(pressed).to_be_visible()
    fill(page, "aa_steps", "2")
    pressed.press("Enter")
    expect(page.locator(".st-key-aa_rates")).to_contain_text("mean over 2 pictures")
    expect(page.locator(".st-key-aa_rates")).to_contain_text("PGD-2")


def test_curves_are_measured_over_as_many_pictures_as_the_screen_says(
    server: AppServer, new_page: NewPage, tmp_path: Path
) -> None:
    for number in range(4):
        Image.new("RGB", (40, 40), (60 * number, 90, 10)).save(tmp_path / f"{number}.png")
    page = new_page()
    visit(page, f"{server.url}/metric_curves?protocol=rise-row&method=gradcam&images=chelsea")
    page.locator(".st-key-cu_source").get_by_text("Server", exact=True).click()
    expect(page.locator(".st-key-cu_open button")).to_be_visible()
    fill(page, "cu_path", str(tmp_path))
    page.locator(".st-key-cu_open button").click()
    pressed = page.locator(".st-key-cu_go_every button")
    expect(pressed).to_be_visible()
    fill(page, f"cu_count_{tmp_path.name}", "3")
    pressed.press("Space")
    expect(page.get_by_text("Measuring 3 pictures")).to_be_visible()
    page.locator(".st-key-cu_cancel button").click()
    expect(page.get_by_text("stopped; what is measured is kept").first).to_be_visible()


def test_the_randomisation_check_is_of_the_method_on_the_screen(server: AppServer, new_page: NewPage) -> None:
    page = new_page()
    visit(page, f"{server.url}/method_comparison?method=center")
    page.get_by_role("tab", name="Do the weights matter?").click()
    pressed = page.locator(".st-key-mc_sanity_run button")
    expect(pressed).to_be_visible()
    field = page.locator(".st-key-mc_sanity_method input")
    field.click()
    field.fill("Saliency")
    field.press("Enter")
    pressed.click()
    expect(page.get_by_text("Randomisation check of Saliency").first).to_be_visible()


def test_a_run_is_called_what_the_screen_says(
    new_page: NewPage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with offered(monkeypatch, tmp_path), serve(tmp_path) as own:
        page = new_page()
        visit(page, f"{own.url}/runs")
        page.get_by_role("button", name="Begin an example").click()
        page.get_by_role("button", name="Cancel").click()
        for title, press in (("mine", "click"), ("ours", "Enter")):
            page.get_by_role("button", name="Rename").first.click()
            field = page.get_by_role("textbox", name="Title")
            field.fill(title)
            saved = page.get_by_role("button", name="Save")
            saved.click() if press == "click" else saved.press(press)
            expect(page.locator("strong", has_text=title).first).to_be_visible()
            assert run_control.list_runs()[0].title == title
            page.keyboard.press("Escape")
        page.close()


HOLD_MESSAGES = """
const listen = WebSocket.prototype.addEventListener;
WebSocket.prototype.addEventListener = function (kind, listener, ...rest) {
  const hear = (event) => (window.late ? window.late.push(() => listener(event)) : listener(event));
  return listen.call(this, kind, kind === 'message' ? hear : listener, ...rest);
};
"""


def test_a_click_on_a_card_is_done_where_its_run_has_ended_and_the_page_does_not_show_it_yet(
    new_page: NewPage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The card of a run under way is a fragment; the server no longer knows it when the click arrives."""
    with offered(monkeypatch, tmp_path), serve(tmp_path) as own:
        page = new_page()
        page.add_init_script(HOLD_MESSAGES)
        visit(page, f"{own.url}/runs")
        page.get_by_role("button", name="Begin an example").click()
        page.get_by_role("button", name="Rename").click()
        page.get_by_role("textbox", name="Title").fill("mine")
        page.evaluate("() => { window.late = []; }")
        run = run_control.list_runs()[0]
        run_control.cancel(run.id)
        wait_until(page, lambda: not run_control.get_run(run.id).active)
        page.wait_for_timeout(3000)  # the server looks every second, and runs the page once more
        page.get_by_role("button", name="Save").click()
        wait_until(page, lambda: run_control.get_run(run.id).title == "mine")
        page.wait_for_timeout(1000)
        page.evaluate("() => { const late = window.late; window.late = undefined; late.forEach((hear) => hear()); }")
        expect(page.locator("strong", has_text="mine")).to_be_visible()
        page.close()
