"""Names of classes: beside the weights, given by hand, ImageNet's, or numbers; files of names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import Tensor

from tests.unit.weight_helpers import NET, refusal, saved, small_state
from xai.errors import InputError
from xai.models import load_model
from xai.models.build import untrained_network
from xai.models.store import model_spec
from xai.models.weights import read_labels

pytestmark = pytest.mark.usefixtures("own_store")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A small network for 7 classes."""
    return small_state()


NAMES = tuple("abcdefg")


def test_names_beside_the_weights(tmp_path: Path, state: dict[str, Tensor]) -> None:
    weights = saved(tmp_path / "mine.pth", state)
    classifier = load_model(NET, weights, device="cpu")
    assert classifier.labels == tuple(f"class {i}" for i in range(7))
    assert classifier.notes[-1] == "class names: numbers, because there is no labels file"
    (tmp_path / "mine.txt").write_text("\n".join(NAMES) + "\n\n", encoding="utf-8")
    named = load_model(NET, weights, device="cpu")
    assert named.labels == NAMES
    assert not any(note.startswith("class names") for note in named.notes)
    (tmp_path / "mine.json").write_text("[]")
    assert refusal(NET, weights, kind=InputError) == "mine.txt and mine.json both name classes; keep one of them."


def test_names_given_by_hand_or_by_file(tmp_path: Path, state: dict[str, Tensor]) -> None:
    weights = saved(tmp_path / "mine.pth", state)
    assert load_model(NET, weights, device="cpu", labels=NAMES).labels == NAMES
    (tmp_path / "names.json").write_text(json.dumps({str(i): ["n0", name] for i, name in enumerate(NAMES)}))
    assert load_model(NET, weights, device="cpu", labels=tmp_path / "names.json").labels == NAMES
    assert refusal(NET, weights, kind=InputError, labels=NAMES[:3]) == (
        "there are 3 class names for 7 classes; give one per class."
    )
    assert refusal(NET, weights, kind=InputError, labels=()) == "there are no class names; give at least one."
    assert load_model(NET, "random:0", device="cpu", labels=NAMES).labels == NAMES


def test_a_thousand_classes_without_names_are_imagenets_and_that_is_said(tmp_path: Path) -> None:
    weights = saved(tmp_path / "k.pth", untrained_network(model_spec(NET), 0, 1000).state_dict())
    classifier = load_model(NET, weights, device="cpu")
    assert classifier.labels[281] == "tabby"
    assert classifier.notes[-1] == "class names: ImageNet's"


def test_label_files(tmp_path: Path) -> None:
    def written(name: str, text: str | bytes) -> Path:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    assert read_labels(written("a.txt", "\ufeffcat\r\n dog \r\n\r\n")) == ("cat", "dog")
    assert read_labels(written("a.json", '["cat", "dog"]')) == ("cat", "dog")
    assert read_labels(written("b.json", '{"1": "dog", "0": "cat"}')) == ("cat", "dog")
    for name, text in (
        ("c.json", '{"1": "dog", "2": "cat"}'),
        ("d.json", "[1, 2]"),
        ("e.json", "[[]]"),
        ("f.json", "3"),
        ("g.json", "{"),
        ("h.txt", b"\xff\xfe\x00"),
    ):
        with pytest.raises(InputError, match=rf"^the labels file {name} cannot be read; give one name a line, or "):
            read_labels(written(name, text))
    with pytest.raises(InputError, match="does not exist; check the path"):
        read_labels(tmp_path / "none.txt")
