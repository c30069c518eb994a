"""The pieces of the terminal: finding pictures, the progress bar, tables, interrupts."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import threading
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import CAT
from xai.commands._images import find_pictures
from xai.commands._interrupt import interruptible
from xai.commands.output import Progress, clock, table
from xai.errors import InputError
from xai.types import Run


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XAI_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)


def names(words: list[str], skip: Path | None = None) -> list[str]:
    return [picture.source for picture in find_pictures(words, skip)[0]]


def test_pictures_are_found_in_order_and_once(photos: Path) -> None:
    cat, more = str(photos / "cat.png"), str(photos / "more" / "cat.webp")
    bad = [str(photos / name) for name in ("empty.png", "text.png", "truncated.jpg")]
    assert names([more, cat, cat]) == [more, cat]
    assert names([str(photos)]) == [cat, *bad, more]
    assert names([str(photos / "**" / "cat.*"), str(photos)])[:2] == [cat, more]
    assert names([str(photos)], skip=photos / "more") == [cat, *bad]
    assert names(["photos/more"]) == ["photos/more/cat.webp"]
    assert find_pictures([cat, "nowhere.png"])[1] == [("nowhere.png", "nowhere.png does not exist; check the path.")]


def test_a_file_with_a_patterns_name_is_a_file(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a[1].png")
    assert names([str(tmp_path / "a[1].png")]) == [str(tmp_path / "a[1].png")]


def test_a_name_like_an_option_is_a_path_in_the_command(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "-x.png")
    assert names(["*x.png"]) == ["./-x.png"]


def test_samples_by_set_and_by_name() -> None:
    every = names(["sample:photos"])
    assert "sample:photos/chelsea.png" in every
    assert names(["sample:photos/coffee.png"]) == ["sample:photos/coffee.png"]
    assert names(["sample:chelsea", "sample:photos/chelsea.png"]) == ["sample:chelsea", "sample:photos/chelsea.png"]
    picture, digest = find_pictures(["sample:photos/chelsea.png"])[0][0].open()
    assert digest == hashlib.sha256(CAT.read_bytes()).hexdigest()
    assert picture.size == Image.open(CAT).size
    _, bad = find_pictures(["sample:photos/no.png"])
    assert bad == [("sample:photos/no.png", "sample:photos has no image 'no.png'; `sample:photos` takes all of it.")]


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert find_pictures(["empty"]) == (
        [],
        [("empty", "empty holds no image; give a folder with PNG, JPEG or other pictures.")],
    )


def test_a_folder_that_may_not_be_read_is_listed(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more, scandir = str(photos / "more"), os.scandir

    def watched(path: str) -> object:
        if str(path) == more:  # a test may run as root, whom no permission stops
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", watched)
    told = [(more, f"{more} cannot be read: Permission denied; check its permissions.")]
    found, bad = find_pictures([str(photos)])
    assert (len(found), bad) == (4, told)
    assert find_pictures([more]) == ([], told)


def test_what_no_file_can_be_called_is_one_bad_word_among_others(photos: Path) -> None:
    cat, long = str(photos / "cat.png"), "a" * 300 + ".png"
    found, bad = find_pictures([cat, "~no such person/cat.png", long])
    assert [picture.source for picture in found] == [cat]
    assert [word for word, _ in bad] == ["~no such person/cat.png", long]
    assert all(sentence.endswith("; check the path.") for _, sentence in bad)


def test_results_are_left_out_but_never_the_pictures_themselves(photos: Path, tmp_path: Path) -> None:
    more = str(photos / "more" / "cat.webp")
    for words in ([str(photos / "more")], [str(photos / "more" / "*")]):
        assert names(words, skip=tmp_path) == [more]  # the results go to a folder around the pictures'
        found, ((_, told),) = find_pictures(words, skip=photos / "more")
        assert found == []
        assert told == f"{words[0]} is in the folder of --out, where the results go; choose another --out."


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_share_and_time_left() -> None:
    bar = Progress(Terminal())
    assert bar.line(0.25, 30.0, "cat") == f"[{'#' * 7}{'.' * 21}]  25 %  1:30 left  cat"
    assert bar.line(0.0, 1.0, "") == f"[{'.' * 28}]   0 %  ...  "
    assert bar.line(1.0, 9.0, "x" * 99).endswith(f"100 %  0:00 left  {'x' * 60}")


def test_the_bar_draws_on_a_terminal_only_and_wipes_its_line() -> None:
    screen, file = Terminal(), io.StringIO()
    for stream in (screen, file):
        with Progress(stream) as bar:
            bar(0.5, "half")
            bar(0.51, "too soon")
    assert screen.getvalue().startswith("\r[")
    assert "half" in screen.getvalue()
    assert "too soon" not in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")
    assert file.getvalue() == ""


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (7, "0:07"), (750, "12:30"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_table_lines_up() -> None:
    assert table(["A", "B"], [["long", "x"], ["s", ""]]) == "A     B\nlong  x\ns"


def test_the_first_interrupt_asks_and_the_second_stops() -> None:
    with interruptible() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        with pytest.raises(InputError):
            Run(cancelled=lambda: False, on_progress=_refuse).report(0, 1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def _refuse(done: int, total: int, note: str) -> None:
    raise InputError("stop")


def test_a_thread_gets_no_handler() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[bool] = []

    def work() -> None:
        with interruptible() as asked:
            seen.append(asked())
            seen.append(signal.getsignal(signal.SIGINT) is before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, True]
