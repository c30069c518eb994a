"""Weights from a server, by torch's and torchvision's own loading code: a local server, a small checkpoint."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import ResNet18_Weights

from tests.unit.weight_helpers import refusal
from xai.errors import InputError, UnknownNameError
from xai.models import _torchvision, load_model, store
from xai.models.build import untrained_network
from xai.models.store import model_spec

pytestmark = pytest.mark.usefixtures("own_store")


@dataclass
class Server:
    """Serves `body` for every path; `cut` bytes are missing at the end; `status` is what HEAD answers."""

    url: str = ""
    body: bytes = b""
    cut: int = 0
    status: int = 200
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            served.asked.append(f"HEAD {self.path}")
            self.send_response(served.status)
            self.end_headers()

        def do_GET(self) -> None:
            served.asked.append(f"GET {self.path}")
            self.send_response(200)
            self.send_header("Content-Length", str(len(served.body)))
            self.end_headers()
            self.wfile.write(served.body[: len(served.body) - served.cut])

        def log_message(self, *args: object) -> None:
            del args

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    served.url = f"http://127.0.0.1:{http.server_port}"
    yield served
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty weight folder, and no proxy between the test and its server."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture(scope="module")
def checkpoint() -> bytes:
    """ResNet18 for ImageNet's classes as torchvision serves it, with other numbers."""
    buffer = io.BytesIO()
    torch.save(untrained_network(model_spec("resnet18"), 1, 1000).state_dict(), buffer)
    return buffer.getvalue()


@pytest.fixture
def published(server: Server, checkpoint: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file's name; torchvision's entry points to the local server."""
    server.body = checkpoint
    name = f"resnet18-{hashlib.sha256(checkpoint).hexdigest()[:8]}.pth"
    entry = ResNet18_Weights.IMAGENET1K_V1
    other = type(entry.value)(url=f"{server.url}/models/{name}", transforms=entry.transforms, meta=entry.meta)
    monkeypatch.setattr(entry, "_value_", other)
    return name


def test_weights_are_downloaded_once_checked_and_loaded(
    server: Server, published: str, folder: Path, checkpoint: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = load_model("resnet18", device="cpu")
    assert server.asked == [f"HEAD /models/{published}", f"GET /models/{published}"]
    assert [path.name for path in folder.iterdir()] == [published]
    expected = torch.load(io.BytesIO(checkpoint), weights_only=True)
    loaded = classifier.module.net.state_dict()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)
    assert classifier.weights == "imagenet"
    assert not classifier.random
    assert classifier.labels[281] == "tabby"
    assert capsys.readouterr().out == ""  # stdout belongs to a command's JSON
    store.unload_models()
    load_model("resnet18", device="cpu")
    assert len(server.asked) == 2


@pytest.mark.usefixtures("published")
def test_a_download_that_breaks_off_leaves_nothing(server: Server, folder: Path) -> None:
    server.cut = 1000
    text = refusal("resnet18")
    assert text.startswith("the download of resnet18-")
    assert f" to {folder} failed (" in text
    assert text.endswith("); try again, or put the file there.")
    assert list(folder.iterdir()) == []
    server.cut = 0
    assert load_model("resnet18", device="cpu").weights == "imagenet"


@pytest.mark.usefixtures("published")
def test_a_download_of_other_bytes_is_refused(server: Server, folder: Path) -> None:
    server.body = server.body[:-1] + b"\0" if server.body[-1:] != b"\0" else server.body[:-1] + b"\1"
    assert "invalid hash value" in refusal("resnet18")
    assert list(folder.iterdir()) == []


def test_a_damaged_file_in_the_folder_is_named(published: str, folder: Path, server: Server) -> None:
    folder.mkdir(parents=True)
    (folder / published).write_bytes(b"half of it")
    text = refusal("resnet18")
    assert text.startswith(f"the file {published} in {folder} is damaged (its SHA-256 starts with ")
    assert text.endswith("); delete it and try again.")
    assert server.asked == []


def test_offline_says_which_file_goes_where(
    published: str, folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status = 503
    assert refusal("resnet18") == (
        f"the weights {published} are not on this machine and their server refuses them (HTTP 503); put the file into "
        f"{folder}, or choose random weights (random:0), whose answers mean nothing."
    )
    entry = ResNet18_Weights.IMAGENET1K_V1
    nowhere = type(entry.value)(url=f"http://127.0.0.1:9/{published}", transforms=entry.transforms, meta=entry.meta)
    monkeypatch.setattr(entry, "_value_", nowhere)
    assert f"{published} are not on this machine and their server cannot be reached; put the file" in refusal(
        "resnet18"
    )


def test_a_server_that_does_not_answer_is_waited_for_with_a_limit(
    published: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    del folder
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        entry = ResNet18_Weights.IMAGENET1K_V1
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/{published}"
        monkeypatch.setattr(entry, "_value_", type(entry.value)(url=url, transforms=entry.transforms, meta=entry.meta))
        monkeypatch.setattr(_torchvision, "TIMEOUT", 0.2)
        assert "their server cannot be reached" in refusal("resnet18")


def test_another_entry_has_its_own_file_and_preset(
    server: Server, published: str, folder: Path, checkpoint: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    del published, folder
    from torchvision.models import MobileNet_V3_Large_Weights

    state = untrained_network(model_spec("mobilenet_v3_large"), 2, 1000).state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    server.body = buffer.getvalue()
    entry = MobileNet_V3_Large_Weights.IMAGENET1K_V2
    url = f"{server.url}/mobilenet-{hashlib.sha256(server.body).hexdigest()[:8]}.pth"
    monkeypatch.setattr(entry, "_value_", type(entry.value)(url=url, transforms=entry.transforms, meta=entry.meta))
    classifier = load_model("mobilenet_v3_large", "imagenet:IMAGENET1K_V2", device="cpu")
    assert classifier.weights == "imagenet:IMAGENET1K_V2"
    assert classifier.preset.resize == 232
    assert classifier.title == "MobileNetV3-Large"
    with pytest.raises(UnknownNameError, match=r"^resnet50 has no weights 'V3'; choose from IMAGENET1K_V1, IMAGE"):
        load_model("resnet50", "imagenet:V3", device="cpu")
    assert refusal("efficientnet_lite0", "imagenet:IMAGENET1K_V2", kind=InputError) == (
        "EfficientNet-Lite0 has one set of ImageNet weights; use weights imagenet."
    )


def test_the_default_entry_by_name_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(store, "_load", lambda spec, weights, *_: calls.append(weights) or _Stub())
    first = load_model("resnet50", device="cpu")
    assert load_model("resnet50", "imagenet:IMAGENET1K_V1", device="cpu") is first
    assert calls == ["imagenet"]


class _Stub:
    damaged = ""
    module = nn.Linear(1, 1)
