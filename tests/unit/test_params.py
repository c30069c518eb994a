"""Parameters as text, there and back; and names and files that are safe."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Optional, get_type_hints

import pytest

from xai.commands._params import parse_params
from xai.errors import InputError, StorageError
from xai.explain.spec import METHODS
from xai.files import safe_name, write_atomic
from xai.params import default_of, parameters, parse_value, type_text, value_text


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (int, "500", 500),
        (int, "-3", -3),
        (float, "1e-2", 0.01),
        (bool, "true", True),
        (bool, "No", False),
        (str, "none", "none"),
        (str | None, "none", None),
        (str | None, "layer4", "layer4"),
        (Optional[int], "7", 7),  # noqa: UP045 (both spellings)
        (Literal["crop", "whole"], "whole", "whole"),
        (Literal[0, 1], "0", 0),
        (Literal[True, False], "false", False),
        (tuple[int, ...], "1,2,3", (1, 2, 3)),
        (tuple[float, int], "0.5,2", (0.5, 2)),
    ],
)
def test_a_value_is_read_and_written_back(hint: Any, text: str, value: Any) -> None:
    read = parse_value(hint, text)
    assert (read, type(read)) == (value, type(value))
    assert parse_value(hint, value_text(read)) == value


@pytest.mark.parametrize(
    ("hint", "text", "words"),
    [
        (int, "2.5", "a whole number"),
        (float, "nan", "a number"),
        (float, "inf", "a number"),
        (bool, "1.0", "true or false"),
        (int | None, "many", "a whole number or none"),
        (Literal["crop", "whole"], "half", "crop or whole"),
        (tuple[int, int], "1", "2 values with commas"),
        (tuple[int, ...], "1,x", "a whole number, several with commas between"),
        (bytes, "x", "<class 'bytes'>"),
    ],
)
def test_a_value_of_another_type_is_refused(hint: Any, text: str, words: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (its text is for nobody: the caller says what fits)
        parse_value(hint, text)
    assert type_text(hint) == words


def test_every_methods_parameters_can_be_written_and_read() -> None:
    seen = 0
    for spec in METHODS:
        hints = get_type_hints(spec.explainer)
        for each in parameters(spec.explainer):
            seen += 1
            default = default_of(each)
            assert default is not MISSING, f"{spec.name}.{each.name} has no default"
            assert parse_value(hints[each.name], value_text(default)) == default, f"{spec.name}.{each.name}"
    assert seen > 10


def test_default_of_calls_a_factory() -> None:
    @dataclass
    class Sizes:
        must: int
        sizes: tuple[int, ...] = field(default_factory=lambda: (1, 2))

    assert [default_of(each) for each in fields(Sizes)] == [MISSING, (1, 2)]
    assert parameters(len) == ()


def test_parse_params_by_method() -> None:
    words = ["rise.masks=500", "rise.p=0.25", "gradcam.layer=layer4.1"]
    assert parse_params(words, ["rise", "gradcam"]) == {
        "rise": {"masks": 500, "p": 0.25},
        "gradcam": {"layer": "layer4.1"},
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("masks=5", "--param 'masks=5' is not METHOD.NAME=VALUE, such as rise.masks=500."),
        ("rise.masks", "--param 'rise.masks' is not METHOD.NAME=VALUE, such as rise.masks=500."),
        ("lrp.x=1", "--param 'lrp.x=1' is for 'lrp', which is not among --method rise."),
        ("rise.mask=5", "rise has no parameter 'mask'; it has masks, cells, p."),
        ("rise.masks=many", "--param 'rise.masks=many' does not fit: masks is a whole number."),
        ("rise.masks=", "--param 'rise.masks=' does not fit: masks is a whole number."),
    ],
)
def test_parse_params_refuses(word: str, message: str) -> None:
    with pytest.raises(InputError) as told:
        parse_params([word], ["rise"])
    assert str(told.value) == message


# Names and files


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cat", "cat"),
        ("gradcam++", "gradcam++"),
        ("my cat (2)", "my-cat-2"),
        ("../../etc/passwd", "etc-passwd"),
        (r"..\..\x", "x"),
        (".hidden", "hidden"),
        ("", "image_"),
        ("...", "image_"),
        ("con", "con_"),
        ("NUL.tar", "NUL.tar_"),
        ("猫", "猫"),
        ("a\0b\nc", "a-b-c"),
        ("<script>", "script"),
        ("\udc80x", "x"),
        ("x" * 300, "x" * 120),
        ("猫" * 100, "猫" * 40),
    ],
)
def test_safe_name(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_safe_name_counts_up_without_regard_to_case() -> None:
    taken = {"cat", "cat-2"}
    assert safe_name("CAT", taken) == "CAT-3"


def test_write_atomic_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "deep" / "file"
    write_atomic(target, b"old")
    write_atomic(target, b"new")
    assert target.read_bytes() == b"new"

    def fail(self: Path, other: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError, match=r"file cannot be written \(disk full\); check the folder"):
        write_atomic(target, b"half")
    assert target.read_bytes() == b"new"
    assert [each.name for each in target.parent.iterdir()] == ["file"]
