"""The order of the house: imports go down only, siblings do not import one another, Streamlit stays on top."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import xai

ROOT = Path(__file__).resolve().parents[2]

ORDER = (
    ("errors", "version", "words"),
    ("types", "params", "settings", "files", "registry", "devices", "outputs", "schema", "public", "uploads"),
    ("images", "runs", "stats"),
    ("models",),
    ("data",),
    ("explain", "metrics", "attacks"),
    ("gan", "training"),
    ("studies",),
    ("bundles",),
    ("commands", "ui"),
    ("cli",),
    ("__main__",),
)
"""Parts of `xai`, lowest first. Packages of one line are siblings; single modules of one line may use each other."""

EXCEPTIONS = frozenset({("xai.studies.augmentation.study", "xai.studies.gan.training")})
"""Imports between siblings that are wanted: the study of augmentation trains a generator."""

PARTED = ("studies", "ui")
"""Packages whose folders are siblings: a study, a page."""

FLOORS = {part: floor for floor, parts in enumerate(ORDER) for part in parts}


def dotted(path: str) -> str:
    """ "xai.explain" for "xai/explain/__init__.py"."""
    return ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")


def files() -> list[str]:
    paths = [*ROOT.glob("xai/**/*.py"), *ROOT.glob("pages/*.py"), ROOT / "streamlit_app.py"]
    return sorted(str(path.relative_to(ROOT)) for path in paths)


FILES = files()
MODULES = frozenset(map(dotted, FILES))


def imports(source: str) -> Iterator[tuple[str, str]]:
    """(module, name imported from it, or "") wherever in the file; `from xai import name` as the module that has it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that they can be read off"
            for alias in node.names:
                home = xai._HOMES.get(alias.name, "xai") if node.module == "xai" else str(node.module)
                inner = f"{home}.{alias.name}"
                yield (inner, "") if inner in MODULES else (home, alias.name)


def private(owner: str, importer: str, name: str) -> bool:
    """Whether `name`, or a part of the module `owner`, begins with "_" and is private to another package."""
    parts = owner.split(".")
    for place, part in enumerate(parts):
        if (
            part.startswith("_")
            and not part.startswith("__")
            and not f"{importer}.".startswith(".".join(parts[:place]))
        ):
            return True
    package = owner if owner in PACKAGES else owner.rpartition(".")[0]
    return name.startswith("_") and not name.startswith("__") and not f"{importer}.".startswith(f"{package}.")


PACKAGES = frozenset(dotted(path) for path in FILES if path.endswith("__init__.py"))


def faults(path: str, source: str) -> list[str]:
    """What the file at `path` (relative to the repository) imports though it must not."""
    here = dotted(path)
    inside = here.split(".")[0] == "xai"
    part = [*here.split("."), ""][1] if inside else "ui"
    wrong = []
    for module, name in imports(source):
        if module.split(".")[0] == "streamlit" and part != "ui":
            wrong.append(f"{path} imports {module}: Streamlit belongs to xai/ui, the pages and the entry file")
        if module.split(".")[0] == "torch" and not inside:
            wrong.append(f"{path} imports {module}: a page holds no maths")
        if not module.startswith("xai."):
            continue
        if private(module, here, name):
            wrong.append(f"{path} imports {module} {name}: private to another package")
        other = module.split(".")[1]
        if here == "xai" or other not in FLOORS:
            continue
        if other != part:
            if FLOORS[other] > FLOORS[part]:
                wrong.append(f"{path} ({part}) imports {module}: up")
            if FLOORS[other] == FLOORS[part] and f"xai.{other}" in PACKAGES:
                wrong.append(f"{path} imports {module}: sideways")
        elif part in PARTED:
            mine = ".".join(here.split(".")[:3]) if inside else here.replace("pages.", "xai.ui.")
            theirs = ".".join(module.split(".")[:3])
            if theirs in PACKAGES and mine != theirs and (here, module) not in EXCEPTIONS:
                wrong.append(f"{path} imports {module}: sideways")
    return wrong


def circles(imported: Mapping[str, set[str]]) -> list[list[str]]:
    """Modules that import one another, each circle once (Tarjan's components of two modules or more)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    rings: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for other in sorted(imported.get(module, ())):
            if other not in number:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], number[other])
        if lowest[module] == number[module]:
            ring = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(ring) > 1:
                rings.append(sorted(ring))

    for module in sorted(imported):
        if module not in number:
            visit(module)
    return rings


@pytest.mark.parametrize(
    ("path", "source", "told"),
    [
        ("xai/models/a.py", "from xai.explain.call import attribute", "up"),
        ("xai/models/a.py", "def f():\n    from xai import attribute", "up"),
        ("xai/types.py", "import xai.images.decode", "up"),
        ("xai/metrics/a.py", "from xai import explain", "sideways"),
        ("xai/runs/a.py", "from xai.stats.intervals import wilson", "sideways"),
        ("xai/studies/bias/a.py", "from xai.studies.transfer.train import train", "sideways"),
        ("xai/ui/bias_audit/a.py", "from xai.ui.metric_curves import state", "sideways"),
        ("xai/ui/a.py", "from xai.ui.metric_curves import state", "sideways"),
        ("pages/home.py", "from xai.ui.metric_curves import state", "sideways"),
        ("xai/ui/a.py", "from xai.explain._cam import signed_map", "private"),
        ("xai/explain/a.py", "from xai.models.store import _loaded", "private"),
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
        ("xai/explain/a.py", "from xai.explain.spec import METHODS\nfrom xai.models.classifier import Classifier"),
        ("xai/explain/a.py", "from xai.explain._cam import signed_map\nfrom xai.explain._lrp.rules import Rule"),
        ("xai/studies/a.py", "from xai.explain.call import attribute\nimport torch"),
        (
            "xai/studies/bias/a.py",
            "from xai.studies.bias.audit import audit\nfrom xai.studies.together import together_of",
        ),
        (
            "pages/bias_audit.py",
            "import streamlit as st\nfrom xai import attribute\nfrom xai.ui.bias_audit import state",
        ),
    ],
)
def test_what_may_be_passes(path: str, source: str) -> None:
    assert faults(path, source) == []


def test_every_part_has_its_place_in_the_order() -> None:
    assert {module.split(".")[1] for module in MODULES if module.startswith("xai.")} == set(FLOORS)


@pytest.mark.parametrize("path", FILES)
def test_imports_go_down(path: str) -> None:
    assert faults(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_no_modules_import_one_another() -> None:
    imported = {
        dotted(path): {module for module, _ in imports((ROOT / path).read_text(encoding="utf-8")) if module in MODULES}
        for path in FILES
        if path != "xai/__init__.py"  # only the door to what lies behind
    }
    assert circles(imported) == []


def test_the_folders_of_the_unit_tests_are_those_of_the_package() -> None:
    folders = {path.parent.relative_to(ROOT / "tests" / "unit") for path in ROOT.glob("tests/unit/**/test_*.py")}
    packages = {path.parent.relative_to(ROOT / "xai") for path in ROOT.glob("xai/**/__init__.py")}
    assert folders - packages == {Path("devices")}  # a module; its tests fill a folder


@pytest.mark.parametrize("path", FILES)
def test_long_files_are_looked_at(path: str) -> None:
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= 600
