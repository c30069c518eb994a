"""What a visitor may name on the server: files below XAI_DATA, from every field of every page."""

from __future__ import annotations

import asyncio
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from tests.app.test_bias_audit_app import tab
from xai.errors import InputError
from xai.settings import ASSETS, data_roots
from xai.ui import doors
from xai.uploads import keep_upload

WORDS = "is outside the folders that the pages may read"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that may be read, "data", beside one that may not, "secret", each with pictures in class folders."""
    for folder in ("data", "secret"):
        for name in ("cat/1.png", "dog/1.png"):
            (tmp_path / folder / name).parent.mkdir(parents=True)
            Image.new("RGB", (40, 40), "teal").save(tmp_path / folder / name)
    monkeypatch.setenv("XAI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_what_is_inside_is_opened(places: Path) -> None:
    assert len(doors.open_data(str(places / "data"))) == 2
    assert len(doors.open_data(str(places / "data" / "cat" / ".." / ".." / "data"))) == 2
    assert doors.checked(str(ASSETS / "samples"))
    assert doors.checked(str(keep_upload(b"mine", "mine.csv")))
    assert doors.checked("sample:brain") == "sample:brain"
    assert doors.checked_weights("imagenet") == "imagenet"
    assert doors.checked_weights(f"file:{places / 'data' / 'mine.pth'}")
    (places / "runs" / "mine" / "fold-2").mkdir(parents=True)
    assert doors.checked_weights("run:mine/fold-2")


@pytest.mark.parametrize("how", ["plain", "dots", "link", "none", "home"])
def test_what_is_outside_is_refused_in_one_sentence(places: Path, how: str) -> None:
    (places / "data" / "out").symlink_to(places / "secret")
    place = {
        "plain": str(places / "secret"),
        "dots": str(places / "data" / ".." / "secret"),
        "link": str(places / "data" / "out"),
        "none": str(places / "nothing"),  # whether there is anything is not told
        "home": "~",
    }[how]
    wanted = (
        f"{place} {WORDS} ({(places / 'data').resolve()}); whoever runs the server can add one by XAI_DATA, and the "
        "terminal reads any."
    )
    with pytest.raises(InputError) as told:
        doors.open_data(place)
    assert str(told.value) == wanted
    for text in (f"file:{place}", f"file:{place}?output=sigmoid", f"run:{place}", "run:../secret"):
        with pytest.raises(InputError, match=WORDS):
            doors.checked_weights(text)


def test_a_link_in_a_folder_that_leaves_is_refused(places: Path) -> None:
    (places / "data" / "cat" / "2.png").symlink_to(places / "data" / "cat" / "1.png")
    assert len(doors.open_data(str(places / "data"))) == 3
    (places / "data" / "cat" / "3.png").symlink_to(places / "secret" / "cat" / "1.png")
    with pytest.raises(InputError, match=r"holds links to files outside the folders .* \(3\.png\); remove them"):
        doors.open_data(str(places / "data"))


@pytest.mark.parametrize("name", ["classes.txt", "LOC_synset_mapping.txt"])
@pytest.mark.parametrize("beside", [False, True])
def test_a_table_is_not_read_through_a_link(places: Path, name: str, beside: bool) -> None:
    data = places / "data" / "deeper"
    shutil.copytree(places / "secret", data)
    (places / "secret" / "names.txt").write_text("cat\ndog\n", encoding="utf-8")
    (data.parent / name if beside else data / name).symlink_to(places / "secret" / "names.txt")
    with pytest.raises(InputError, match=rf"holds links to files outside the folders .* \({name}\); remove them"):
        doors.open_data(str(data))


def test_a_table_beside_the_only_folder_is_not_read(places: Path) -> None:
    (places / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"^classes\.txt beside .* is outside the folders that the pages may read; move"
    ):
        doors.open_data(str(places / "data"))


@pytest.mark.parametrize("said", ["", "?output=sigmoid", "?output=softmax"])
def test_weights_and_the_labels_beside_them_are_not_read_through_a_link(places: Path, said: str) -> None:
    (places / "data" / "mine.txt").symlink_to(places / "secret" / "names.txt")
    (places / "data" / "other.pth").symlink_to(places / "secret" / "other.pth")
    for name in ("mine", "other"):
        with pytest.raises(InputError, match=WORDS):
            doors.checked_weights(f"file:{places / 'data' / name}.pth{said}")


@pytest.mark.parametrize("said", ["", "?output=sigmoid"])
def test_weights_that_were_sent_are_noted_as_used(places: Path, said: str) -> None:
    sent = keep_upload(b"weights", "mine.pth", "weights")
    os.utime(sent, (1, 1))
    doors.checked_weights(f"file:{sent}{said}")
    assert sent.stat().st_atime > 1


def test_roots_by_default_and_as_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XAI_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert data_roots(loopback=True) == (tmp_path.resolve(), (tmp_path / "home").resolve())
    assert data_roots(loopback=False) == (tmp_path.resolve(),)
    monkeypatch.setenv("XAI_DATA", os.pathsep.join(("~/a", "/b", "")))
    assert data_roots(loopback=True) == ((tmp_path / "home" / "a").resolve(), Path("/b"))


@pytest.mark.parametrize(
    ("address", "own"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("", False), ("0.0.0.0", False), ("host", False)],
)
def test_only_loopback_counts_as_this_machine_alone(monkeypatch: pytest.MonkeyPatch, address: str, own: bool) -> None:
    monkeypatch.setattr(doors.st, "get_option", lambda name: address)
    assert doors.on_loopback() is own


ALLOWED = ["localhost", "127.0.0.1", "*.lab.org"]


def _answer(kind: str, headers: list[tuple[bytes, bytes]]) -> str:
    """What the server says to a request: "passed on", or its own answer."""
    said: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        said.append("passed on")

    async def send(message: Any) -> None:
        said.append(f"{message['type']} {message.get('status', '')}".strip())

    scope = {"type": kind, "headers": headers, "path": "/", "extensions": {"websocket.http.response": {}}}
    with ThreadPoolExecutor(1) as thread:  # this one may have a loop already, of the browser tests before
        thread.submit(asyncio.run, doors.OwnHosts(app)(scope, None, send)).result()  # type: ignore[arg-type]
    return said[0]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("localhost", True),
        ("LOCALHOST.:8501", True),
        ("127.0.0.1:8501", True),
        ("a.lab.org", True),
        ("lab.org", False),
        ("evil.com", False),
        ("localhost.evil.com", False),
        ("evil.com:localhost", False),
        ("localhost@evil.com", False),
        ("localhost/x", False),
        ("localhost:99999", False),
        ("", False),
    ],
)
def test_only_own_host_names_are_answered(monkeypatch: pytest.MonkeyPatch, kind: str, host: str, served: bool) -> None:
    monkeypatch.setattr(doors.st, "get_option", lambda name: ALLOWED)
    told = _answer(kind, [(b"host", host.encode())])
    assert (told == "passed on") is served
    assert served or told.endswith("400")


def test_a_request_with_two_host_names_or_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors.st, "get_option", lambda name: ALLOWED)
    assert _answer("http", []).endswith("400")
    assert _answer("http", [(b"host", b"localhost"), (b"host", b"evil.com")]).endswith("400")
    assert _answer("lifespan", []) == "passed on"
    monkeypatch.setattr(doors.st, "get_option", lambda name: [])  # no list: any name, as Streamlit has it
    assert _answer("http", [(b"host", b"evil.com")]) == "passed on"


def _curves(app: AppTest, place: str) -> None:
    app.session_state["cu_source"] = "server"
    app.run()
    app.text_input(key="cu_path").set_value(place).run()


def _transfer(app: AppTest, place: str) -> None:
    app.session_state["tl_form"], app.session_state["tlf_source"] = True, "server"
    app.run()
    app.text_input(key="tlf_path").set_value(place).run()


def _bias(key: str):
    def act(app: AppTest, place: str) -> None:
        tab(app, "Your own data")
        app.text_input(key=key).set_value(f"file:{place}" if "weights" in key else place).run()

    return act


def _gan(app: AppTest, place: str) -> None:
    app.text_input(key="ga_data").set_value(place).run()


FIELDS = {
    "metric_curves": _curves,
    "transfer_learning": _transfer,
    "gan_augmentation": _gan,
    "bias_audit": _bias("ba_own_data"),
    "bias_audit masks": _bias("ba_own_masks"),
    "bias_audit weights": _bias("ba_own_weights_simple_cnn"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_that_takes_a_path_refuses_what_is_outside(
    field: str, open_page, places: Path, monkeypatch
) -> None:
    app = open_page(field.split()[0], timeout=240)
    monkeypatch.setenv("XAI_DATA", str(places / "data"))
    FIELDS[field](app, str(places / "secret"))
    assert not app.exception, [each.message for each in app.exception]
    told = "\n".join(each.value.replace("\\", "") for each in (*app.warning, *app.error, *app.info))
    assert WORDS in told
