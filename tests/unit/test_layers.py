"""The floors of the house: imports go down only, capabilities do not reach sideways, Streamlit stays on top."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import xai

ROOT = Path(__file__).resolve().parents[2]

CAPABILITIES = frozenset({"explain", "metrics", "attacks", "gan", "training"})

FLOORS: dict[str, int] = {
    **dict.fromkeys(("errors", "words", "types", "registry", "settings", "devices", "outputs"), 0),
    # Floor 1 is what is not listed here: pictures, data, models, and what capabilities share.
    **dict.fromkeys(CAPABILITIES, 2),
    **dict.fromkeys(("studies", "run_control", "runs", "bundle", "attack_bundle", "_entry"), 3),
    **dict.fromkeys(("cli", "__main__", "commands", "ui"), 4),
}


def unit(module: str) -> str:
    """ "explain" for "xai.explain.gradcam": the part of the house that a module belongs to."""
    return module.split(".")[1] if "." in module else ""


def floor(name: str) -> int:
    return FLOORS.get(name, 1)


def imports(source: str) -> Iterator[str]:
    """Modules that the source imports, wherever in the file; `from xai import name` as the module that holds it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that they can be read off"
            if node.module == "xai":
                yield from (xai._HOMES.get(alias.name, f"xai.{alias.name}") for alias in node.names)
            else:
                yield node.module or ""


def faults(path: str, source: str) -> list[str]:
    """What the file at `path` (relative to the repository) imports though it must not."""
    parts = Path(path).with_suffix("").parts
    inside = parts[0] == "xai"
    here = unit(".".join(parts)) if inside else "ui"
    found = []
    for name in imports(source):
        if name.split(".")[0] == "streamlit" and here != "ui":
            found.append(f"{path} imports {name}: Streamlit belongs to xai/ui, the pages and the entry file")
        if name.split(".")[0] == "torch" and not inside:
            found.append(f"{path} imports {name}: a page holds no maths")
        other = unit(name) if name.startswith("xai.") else None
        if other is None or other == here:
            continue
        if floor(other) > floor(here):
            found.append(f"{path} (floor {floor(here)}) imports {name} (floor {floor(other)}): up")
        if {here, other} <= CAPABILITIES:
            found.append(f"{path} imports {name}: sideways between capabilities")
    return found


def files() -> list[str]:
    """The program's files; xai/__init__.py is only the door to what lies behind."""
    paths = [*ROOT.glob("xai/**/*.py"), *ROOT.glob("pages/*.py"), ROOT / "streamlit_app.py"]
    return sorted(str(p.relative_to(ROOT)) for p in paths if p.exists() and p != ROOT / "xai" / "__init__.py")


@pytest.mark.parametrize(
    ("path", "source", "told"),
    [
        ("xai/models/a.py", "from xai.explain.call import attribute", "up"),
        ("xai/models/a.py", "def f():\n    from xai import attribute", "up"),
        ("xai/types.py", "import xai.images", "up"),
        ("xai/metrics/a.py", "from xai import explain", "sideways"),
        ("xai/studies/a.py", "import streamlit as st", "Streamlit belongs"),
        ("pages/a.py", "import torch.nn", "no maths"),
    ],
)
def test_what_must_not_be_is_seen(path: str, source: str, told: str) -> None:
    assert len(faults(path, source)) == 1
    assert told in faults(path, source)[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("xai/explain/a.py", "from xai.explain._spec import METHODS\nfrom xai.models.classifier import Classifier"),
        ("xai/studies/a.py", "from xai.explain.call import attribute\nimport torch"),
        ("pages/a.py", "import streamlit as st\nfrom xai import attribute"),
    ],
)
def test_what_may_be_passes(path: str, source: str) -> None:
    assert faults(path, source) == []


@pytest.mark.parametrize("path", files())
def test_imports_go_down(path: str) -> None:
    assert faults(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", files())
def test_files_stay_short(path: str) -> None:
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= 600
