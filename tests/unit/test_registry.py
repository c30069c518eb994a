"""Registries: order, duplicates, near names, and imports that fail loudly."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from xai.errors import UnknownNameError
from xai.registry import Registry


@dataclass(frozen=True)
class Entry:
    name: str
    rank: int = 0


def registry(*names: str) -> Registry[Entry]:
    """A registry whose package (json, of the standard library) registers nothing."""
    found: Registry[Entry] = Registry("method", "json")
    for name in names:
        found.add(Entry(name))
    return found


def test_entries_come_by_rank_then_name() -> None:
    found = registry()
    for name, rank in (("b", 1), ("c", 0), ("a", 1)):
        assert found.add(Entry(name, rank)).name == name
    assert found.names() == ("c", "a", "b")
    assert [entry.name for entry in found] == ["c", "a", "b"]
    assert len(found) == 3
    assert "a" in found
    assert "z" not in found
    assert found.get("a") == Entry("a", 1)


def test_a_second_entry_of_one_name_is_a_programming_error() -> None:
    found = registry("gradcam")
    with pytest.raises(RuntimeError, match=r"^method 'gradcam' is registered twice$"):
        found.add(Entry("gradcam"))


def test_an_unknown_name_gets_near_ones_or_all() -> None:
    found = registry("gradcam", "gradcam++", "lrp")
    with pytest.raises(
        UnknownNameError, match=r"^method 'gradkam' is not known; did you mean gradcam or gradcam\+\+\?$"
    ):
        found.get("gradkam")
    with pytest.raises(UnknownNameError, match=r"^method 'zzz' is not known; choose from gradcam, gradcam\+\+, lrp\.$"):
        found.get("zzz")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Makes an importable package of the given files; its name."""
    made: list[str] = []

    def make(**files: str) -> str:
        name = f"registry_under_test_{len(made)}_{tmp_path.name}"
        (tmp_path / name).mkdir()
        for file, text in {"__init__": "", **files}.items():
            (tmp_path / name / f"{file}.py").write_text(text)
        made.append(name)
        return name

    monkeypatch.syspath_prepend(str(tmp_path))
    yield make
    for name in [each for each in sys.modules if each.startswith("registry_under_test_")]:
        del sys.modules[name]


def test_a_new_file_is_a_new_entry(package: Callable[..., str]) -> None:
    add = "from tests.unit.test_registry import Entry, HOLDER\nHOLDER[-1].add(Entry({name!r}))\n"
    name = package(one=add.format(name="one"), two=add.format(name="two"), _shared="raise RuntimeError('not imported')")
    HOLDER.append(Registry("thing", name))
    assert HOLDER[-1].names() == ("one", "two")


HOLDER: list[Registry[Entry]] = []


def test_an_import_that_fails_is_loud_each_time(package: Callable[..., str]) -> None:
    found: Registry[Entry] = Registry("thing", package(broken="import no_such_module_anywhere\n"))
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
            found.names()


def test_threads_that_ask_first_all_see_everything(package: Callable[..., str]) -> None:
    slow = (
        "import time; time.sleep(0.1)\nfrom tests.unit.test_registry import Entry, HOLDER\nHOLDER[-1].add(Entry('s'))\n"
    )
    HOLDER.append(Registry("thing", package(slow=slow)))
    found: list[tuple[str, ...]] = []
    threads = [threading.Thread(target=lambda: found.append(HOLDER[-1].names())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [("s",)] * 4
