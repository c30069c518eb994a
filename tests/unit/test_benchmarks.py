"""The benchmark harness: interleaving, targets, and a report that keeps the sections of other runs."""

from __future__ import annotations

import importlib
import sys
import time
import types
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks._report import cell, missed, table
from benchmarks._timing import Timing, interleaved


def test_candidates_take_turns_after_the_warm_up() -> None:
    calls: list[str] = []
    interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2, warmup=1)
    assert "".join(calls) == "ab" + "abab"


def test_the_median_is_taken_and_sleep_costs_no_processor_time() -> None:
    pauses = iter([0.0, 0.3, 0.02, 0.02])  # warm-up, then an outlier among three
    timing = interleaved({"sleep": lambda: time.sleep(next(pauses))}, repeats=3)["sleep"]
    assert 0.02 <= timing.wall < 0.3
    assert timing.cpu < timing.wall


def test_no_repetition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"repeats is 0; give at least 1\."):
        interleaved({}, repeats=0)


def test_ratios() -> None:
    assert Timing(3.0, 1.0).over(Timing(2.0, 4.0)) == 1.5
    assert Timing(3.0, 1.0).cpu_over(Timing(2.0, 4.0)) == 0.25


def test_targets_are_compared_with_the_column_they_name() -> None:
    assert missed({"ratio": 1.10, "target": "ratio <= 1.10"}) == ()
    assert missed({"ratio": 1.11, "target": "ratio <= 1.10"}) == ("ratio <= 1.10",)
    assert missed({"ratio": 1.0, "times captum": 0.9, "target": "ratio <= 1.1; times captum > 1"}) == (
        "times captum > 1",
    )
    assert missed({"ratio": 9.0}) == ()
    with pytest.raises(ValueError, match="names no figure"):
        missed({"ratio": 1.0, "target": "seconds < 1"})
    with pytest.raises(ValueError, match="is not read"):
        missed({"ratio": 1.0, "target": "fast"})


def test_table_has_columns_by_first_appearance_and_marks_what_is_missed() -> None:
    rows = [{"what": "a", "ratio": 1.234}, {"what": "b|c", "peer": 250.4, "ratio": 2.0, "target": "ratio <= 1.5"}]
    assert table(rows).splitlines() == [
        "| what | ratio | peer | target | met |",
        "|---|---:|---:|---|---|",
        "| a | 1.23 | - | - |  |",
        "| b\\|c | 2.00 | 250 | ratio <= 1.5 | **missed**: ratio <= 1.5 |",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (1.0, "1.00"), (12.345, "12.3"), (3e-5, "3.00e-05"), (7, "7"), (True, "True")]
)
def test_cells(value: object, text: str) -> None:
    assert cell(value) == text


@pytest.fixture
def two_benchmarks(monkeypatch: pytest.MonkeyPatch) -> dict[str, types.ModuleType]:
    made = {}
    for name in ("alpha", "beta"):
        module = types.ModuleType(f"benchmarks.{name}", f"Title of {name}.\n\nWhat it measures.")
        module.FLOOR = "one forward."  # type: ignore[attr-defined]
        module.run = lambda repeats, quick, name=name: [{"what": name, "ratio": float(repeats)}]  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", module)
        made[name] = module
    monkeypatch.setattr(command, "names", lambda: ["alpha", "beta"])
    return made


def test_a_partial_run_keeps_the_other_section(
    two_benchmarks: dict[str, types.ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "RESULTS.md"
    assert command.main(["--out", str(out), "--repeats", "5"]) == 0
    assert command.main(["beta", "--out", str(out), "--repeats", "7"]) == 0
    text = out.read_text()
    assert "## Title of alpha\n\nWhat it measures.\n\nFloor: one forward." in text
    assert "| alpha | 5.00 |" in text
    assert "| beta | 7.00 |" in text
    assert "| beta | 5.00 |" not in text
    assert "median of 5" in text
    assert "median of 7" in text
    assert "Title of beta" in capsys.readouterr().out
    out.unlink()
    assert command.main(["--render", "--out", str(out)]) == 0
    assert out.read_text() == text


def test_a_failing_benchmark_counts_and_leaves_its_old_section(
    two_benchmarks: dict[str, types.ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "RESULTS.md"
    assert command.main(["--out", str(out)]) == 0
    two_benchmarks["alpha"].run = lambda repeats, quick: 1 / 0  # type: ignore[attr-defined]
    assert command.main(["--out", str(out)]) == 1
    assert "failed: alpha" in capsys.readouterr().err
    assert "| alpha | 5.00 |" in out.read_text()


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command.main(["nonsense"])
    assert left.value.code == 2
    assert "benchmark 'nonsense' is not known; choose from" in capsys.readouterr().err


@pytest.mark.parametrize("name", command.names())
def test_every_benchmark_says_what_it_measures_against(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.__doc__
    assert isinstance(module.FLOOR, str)
    assert callable(module.run)
