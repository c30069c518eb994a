"""The README tells the truth: its Python runs, its commands work, its tables and pictures are those of the code.

`python -m tests.unit.test_readme` writes the tables anew.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xai.explain.spec import METHODS
from xai.models.spec import MODELS

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("console") for line in block.splitlines() if line.startswith("python -m xai")]


def methods_table() -> str:
    rows = ["| Method | What its map shows | Source |", "|---|---|---|"]
    for spec in METHODS:
        rows.append(f"| `{spec.name}` | {spec.summary} | [{spec.source.citation}]({spec.source.link}) |")
    return "\n".join(rows)


def models_table() -> str:
    rows = ["| Name | Network | ImageNet weights |", "|---|---|---|"]
    for spec in MODELS:
        file = f"`{spec.weights_file}`" if spec.weights_file else "none"
        weights = "come with the installation" if spec.embedded else file
        notes = f" ({'; '.join(spec.notes)})" if spec.notes else ""
        rows.append(f"| `{spec.name}` | [{spec.title}]({spec.source.link}){notes} | {weights} |")
    return "\n".join(rows)


TABLES = {"methods": methods_table, "models": models_table}


def between(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(\n?<!-- /{name} -->)", re.DOTALL)


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_in_step_with_the_registries(name: str) -> None:
    found = between(name).search(TEXT)
    assert found is not None
    assert found[2] == TABLES[name](), "write it anew: python -m tests.unit.test_readme"


def sentences() -> list[str]:
    """Every text of the program, with "…" where an f-string has a value."""
    found = []
    for path in (ROOT / "xai").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                )
    return found


def told_rows() -> list[str]:
    found = between("told").search(TEXT)
    assert found is not None
    return re.findall(r"^\| .+ \| \"(.+)\" \|$", found[2], flags=re.MULTILINE)


@pytest.mark.parametrize("told", told_rows())
def test_what_can_go_wrong_is_told_in_these_words(told: str) -> None:
    texts = sentences()
    for part in filter(None, (part.strip(" ,.:()") for part in told.split("…"))):
        assert any(part in text for text in texts), part


def test_the_python_runs_and_says_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("XAI_DEVICE", "cpu")
    names: dict[str, object] = {}
    printed = io.StringIO()
    assert len(blocks("python")) == 2
    for block in blocks("python"):
        with contextlib.redirect_stdout(printed):
            exec(compile(block, "README.md", "exec"), names)
    told = re.findall(r"^print\(.*\) +# (.+)$", TEXT, flags=re.MULTILINE)
    shapes = re.findall(r"^(\w+) = .*# \((\d[\d, ]*)\)", TEXT, flags=re.MULTILINE)
    assert told
    assert len(shapes) == 3
    for line in told:
        assert line in printed.getvalue().splitlines()
    for name, shape in shapes:
        value = names[name]
        assert isinstance(value, torch.Tensor)
        assert tuple(value.shape) == tuple(int(side) for side in shape.split(","))


@pytest.mark.parametrize("command", commands())
def test_the_commands_work(command: str, tmp_path: Path) -> None:
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    words = [sys.executable, *shlex.split(command)[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XAI_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    if "--out" in words:
        out = tmp_path / words[words.index("--out") + 1]
        told = "summary.json" if "evaluate" in words else "manifest.json"
        assert json.loads((out / told).read_text(encoding="utf-8"))
        assert [path for path in out.rglob("*") if path.suffix in (".npy", ".parquet")]
    else:
        assert done.stdout.strip()


def test_the_two_commands_stand_as_they_must() -> None:
    shown = [line for block in blocks("console") for line in block.splitlines()]
    assert "pip install -r requirements.txt && streamlit run streamlit_app.py" in shown
    assert "pip install -r requirements-dev.txt && pytest" in shown


def test_every_page_is_told() -> None:
    entry = ast.parse((ROOT / "streamlit_app.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(entry) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Page"]
    titles = [ast.literal_eval(call.args[1]) for call in calls]
    assert titles
    assert [title for title in titles if f"\n**{title}** " not in TEXT] == []


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(r"\]\((?!https?:|#)([^)]+)\)", TEXT) + re.findall(r"assets/samples/[\w.]+", TEXT)
    named += re.findall(r"<img[^>]* src=\"([^\"]+)\"", TEXT) + re.findall(r"srcset=\"([^\"]+)\"", TEXT)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_sample_has_its_licence() -> None:
    for path in (ROOT / "assets" / "samples").iterdir():
        if path.suffix != ".md":
            assert f"| `assets/samples/{path.name}` |" in TEXT


def test_every_variable_of_the_code_is_told() -> None:
    used: set[str] = set()
    for path in [*ROOT.glob("xai/**/*.py"), *ROOT.glob("pages/*.py")]:
        used |= set(re.findall(r"\"(XAI_[A-Z]+)\"", path.read_text(encoding="utf-8")))
    assert used == set(re.findall(r"^\| `(XAI_[A-Z]+)` \|", TEXT, flags=re.MULTILINE))


if __name__ == "__main__":
    for table, make in TABLES.items():
        TEXT = between(table).sub(lambda found, make=make: found[1] + make() + found[3], TEXT)
    README.write_text(TEXT, encoding="utf-8")
