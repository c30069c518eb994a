"""Checkpoints: whole or not at all, the one before kept, damage told, random states that go on as if never stopped."""

import errno
import hashlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from xai.errors import InputError, StorageError, WeightsError
from xai.runs import checkpoint
from xai.runs.checkpoint import has_checkpoint, load_checkpoint, previous, save_checkpoint


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = tmp_path / "checkpoints" / "last.pt"
    assert not has_checkpoint(path)
    state = {
        "model": OrderedDict(w=torch.arange(3.0)),
        "step": 7,
        "best": float("inf"),
        "names": ("a", None),
        1: {2, 3},
    }
    digest = save_checkpoint(path, state)
    found = load_checkpoint(path)
    assert (found.path, found.note) == (path, "")
    assert found.state["model"]["w"].tolist() == [0, 1, 2]
    assert {key: found.state[key] for key in ("step", "best", "names", 1)} == {
        "step": 7, "best": float("inf"), "names": ("a", None), 1: {2, 3},
    }  # fmt: skip
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (path.parent / "last.pt.sha256").read_text() == f"{digest}  last.pt\n"


def test_the_one_before_is_kept_and_no_other(tmp_path):
    path = tmp_path / "last.pt"
    digests = [save_checkpoint(path, {"step": step}) for step in range(3)]
    assert load_checkpoint(path).state == {"step": 2}
    assert load_checkpoint(previous(path)).state == {"step": 1}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["last.previous.pt", "last.pt", "last.pt.sha256"]
    text = (tmp_path / "last.pt.sha256").read_text()
    assert text == f"{digests[2]}  last.pt\n{digests[1]}  last.previous.pt\n"


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "other"])
def test_a_damaged_newest_gives_the_one_before_and_says_so(tmp_path, damage):
    path = tmp_path / "last.pt"
    for step in range(2):
        save_checkpoint(path, {"step": step, "w": torch.zeros(1000)})
    spoil(path, damage)
    found = load_checkpoint(path)
    assert found.state["step"] == 0
    assert found.path == previous(path)
    why = "is missing" if damage == "gone" else "is damaged (its SHA-256 is another)"
    assert found.note == f"last.pt {why}; going on from the one before it, last.previous.pt."


def spoil(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"not a checkpoint")


def test_without_digests_what_torch_cannot_read_is_told(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})
    (tmp_path / "last.pt.sha256").unlink()
    assert load_checkpoint(path).state == {"step": 1}
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"no checkpoint of .* can be used: last\.pt cannot be read \(.*\); last"):
        load_checkpoint(path)


def test_none_and_both_damaged_are_one_sentence_each(tmp_path):
    path = tmp_path / "last.pt"
    with pytest.raises(InputError, match=r"has no checkpoint last\.pt; start from the beginning\.$"):
        load_checkpoint(path)
    for step in range(2):
        save_checkpoint(path, {"step": step})
    spoil(path, "flip")
    spoil(previous(path), "cut")
    with pytest.raises(WeightsError) as told:
        load_checkpoint(path)
    assert str(told.value) == (
        f"no checkpoint of {tmp_path} can be used: last.pt is damaged (its SHA-256 is another); last.previous.pt is "
        "damaged (its SHA-256 is another). Begin anew in another folder (--out)."
    )


def test_pickled_code_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"state": Trap()}, tmp_path / "last.pt")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_checkpoint(tmp_path / "last.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"best": np.float64(0.5)}, r"state\['best'\] is a float64, which a checkpoint cannot hold"),
        ({"log": [1, Path("x")]}, r"state\['log'\]\[1\] is a PosixPath"),
    ],
)
def test_what_could_not_be_read_back_is_refused_when_it_is_written(tmp_path, value, told):
    with pytest.raises(TypeError, match=told):
        save_checkpoint(tmp_path / "last.pt", value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    for step in range(2):
        save_checkpoint(path, {"step": step})
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}

    def full(writer, data):
        writer.problem = OSError(errno.ENOSPC, "No space left on device")
        raise writer.problem

    monkeypatch.setattr(checkpoint._Hashing, "write", full)

    with pytest.raises(StorageError) as told:
        save_checkpoint(path, {"step": 2, "w": torch.zeros(9)})
    assert str(told.value) == f"the disk of {path} is full; free some space, and go on."
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_a_disk_that_is_full_in_truth(tmp_path):
    """/dev/full takes no byte: what torch's archive does then is not what it says then."""
    with Path("/dev/full").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left") as told:
        checkpoint._save({"w": torch.zeros(100_000)}, checkpoint._Hashing(file))
    assert told.value.errno == errno.ENOSPC


@pytest.mark.parametrize("moved", [0, 1])
def test_a_process_killed_between_two_files_loses_the_last_step_at_most(tmp_path, monkeypatch, moved):
    """Killed before the first, or between the two renames: what is there is known to be whole."""
    path = tmp_path / "last.pt"
    for step in range(2):
        save_checkpoint(path, {"step": step})
    real, calls = Path.replace, []

    class Killed(BaseException):
        pass

    def stop(self, target):
        if Path(target).name.endswith(".sha256"):
            return real(self, target)
        if len(calls) == moved:
            raise Killed
        calls.append(target)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(Killed):
        save_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    found = load_checkpoint(path)
    assert found.state == {"step": 1}
    assert bool(found.note) == bool(moved)
    save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path).state == {"step": 2}
