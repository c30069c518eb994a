"""Loading: random weights that are alive, the bounded cache, and the lease."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn
from torchvision.transforms import functional as TF

from tests.conftest import make_tiny
from xai.errors import Cancelled, InputError, ModuleStateError
from xai.images.decode import load_image
from xai.models import load_model, store
from xai.models.build import CALIBRATION, calibrate, untrained_network
from xai.models.classifier import Classifier
from xai.models.store import model_spec
from xai.settings import ASSETS
from xai.types import Run

PIXELS = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own cache, so that no test drops what the others share."""
    monkeypatch.setattr(store, "_cache", type(store._cache)())
    monkeypatch.setattr(store, "_loading", {})


# --- random weights ---------------------------------------------------------------------------------------------------


def test_random_weights_depend_on_the_seed_alone_and_leave_the_generator() -> None:
    spec = model_spec("resnet18")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = untrained_network(spec, 3, 10).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = untrained_network(spec, 3, 10).state_dict(), untrained_network(spec, 4, 10).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])
    torch.manual_seed(3)
    plain = torchvision.models.resnet18(num_classes=10).state_dict()
    assert all(torch.equal(first[key], plain[key]) for key in plain)  # it is torchvision's own initialisation


def test_random_weights_are_the_seeds_whatever_another_thread_draws_meanwhile() -> None:
    def net(between: Callable[[], object]) -> torch.Tensor:
        def build(num_classes: int) -> nn.Module:
            first = nn.Linear(4, 4)
            other = threading.Thread(target=between)
            other.start()
            other.join()
            return nn.Sequential(first, nn.Linear(4, num_classes))

        return untrained_network(replace(model_spec("resnet18"), build=build), 0, 3).state_dict()["1.weight"]

    alone = net(lambda: None)
    assert torch.equal(alone, net(lambda: torch.rand(7)))
    assert torch.equal(alone, net(lambda: torch.manual_seed(99)))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small", "googlenet", "resnet18", "vit_b_32"])
def test_random_networks_are_alive(name: str) -> None:
    """Logits that differ between two photographs, neither vanishing nor exploding; without repair Lite0's are equal."""
    classifier = load_model(name, "random:1", device="cpu", labels=[str(i) for i in range(50)])
    assert classifier.random
    assert classifier.weights == "random:1"
    images = [load_image(ASSETS / "samples" / file) for file in ("china.jpg", "chelsea.png")]
    logits = classifier.predict(classifier.preprocess(images))
    assert 1e-4 < float((logits[0] - logits[1]).abs().max()) < 1e3
    norms = [m for m in classifier.module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(not norm.training and norm.momentum != 1.0 for norm in norms)


def test_calibration_measures_each_norm_on_the_photographs() -> None:
    """The first norm's statistics by hand: those of the first convolution's output, to bfloat16's 8 bits."""
    spec = model_spec("resnet18")
    net = untrained_network(spec, 0, 10)
    conv = net.conv1
    images = [TF.to_tensor(TF.resize(load_image(ASSETS / "samples" / n), [224, 224])) for n in CALIBRATION]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.preset.mean, spec.preset.std))
    with torch.no_grad():
        out = conv((torch.stack(images) - mean) / std)
    calibrate(net, spec)
    torch.testing.assert_close(net.bn1.running_mean, out.mean((0, 2, 3)), rtol=2**-8, atol=1e-6)
    torch.testing.assert_close(net.bn1.running_var, out.var((0, 2, 3)), rtol=2**-8, atol=1e-6)
    assert torch.equal(net.bn1.running_var, net.bn1.running_var.bfloat16().float())


def test_a_head_that_starts_at_zero_is_drawn() -> None:
    weight = untrained_network(model_spec("vit_b_32"), 0, 10).heads.head.weight
    assert float(weight.detach().std()) == pytest.approx(768**-0.5, rel=0.05)


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("empty_cache")
def test_same_arguments_share_one_classifier_and_others_do_not() -> None:
    first = load_model("mobilenet_v3_small", "random", device="cpu")
    assert load_model("mobilenet_v3_small", "random:0", device=torch.device("cpu")) is first
    assert load_model("mobilenet_v3_small", "random:00", device="cpu") is first
    other = load_model("mobilenet_v3_small", "random:1", device="cpu")
    assert other is not first
    assert other._lock is not first._lock
    assert other.fingerprint != first.fingerprint
    named = load_model("mobilenet_v3_small", "random:0", device="cpu", labels=[f"n{i}" for i in range(1000)])
    assert named is not first
    assert named.fingerprint == first.fingerprint
    assert store.unload_models() == 3
    again = load_model("mobilenet_v3_small", "random:0", device="cpu")
    assert again is not first
    assert again.fingerprint == first.fingerprint


@pytest.mark.usefixtures("empty_cache")
def test_the_cache_is_bounded_by_count_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_load", lambda spec, weights, *_: replace(make_tiny(), name=weights, _memo={}))
    monkeypatch.setattr(store, "CACHE_SIZE", 3)
    for seed in (0, 1, 2, 0, 3):  # 0 is used again, so 1 is the oldest
        load_model("vgg16", f"random:{seed}", device="cpu")
    assert [each.name for each in store.loaded_models()] == ["random:2", "random:0", "random:3"]
    size = store.weight_bytes(make_tiny().module)
    monkeypatch.setattr(store, "CACHE_BYTES", 2 * size)
    load_model("vgg16", "random:4", device="cpu")
    assert [each.name for each in store.loaded_models()] == ["random:3", "random:4"]
    monkeypatch.setattr(store, "CACHE_BYTES", 1)
    load_model("vgg16", "random:5", device="cpu")  # larger than the bound, but it is the one that was asked for
    assert [each.name for each in store.loaded_models()] == ["random:5"]


def test_weight_bytes_by_hand() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).half()
    # 6 + 2 + 2 + 2 + 2 + 2 halves and one int64
    assert store.weight_bytes(module) == 16 * 2 + 8


@pytest.mark.usefixtures("empty_cache")
def test_one_key_loads_once_and_another_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    started, go = threading.Event(), threading.Event()
    loads: list[str] = []

    def load(spec: object, weights: str, *_: object) -> Classifier:
        loads.append(weights)
        if weights == "random:0":
            started.set()
            assert go.wait(10)
        return make_tiny()

    monkeypatch.setattr(store, "_load", load)
    found: list[Classifier] = []
    threads = [threading.Thread(target=lambda: found.append(load_model("vgg16", "random:0", "cpu"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    load_model("vgg16", "random:1", "cpu")  # while the other is still loading
    assert found == []
    go.set()
    for thread in threads:
        thread.join(10)
    assert sorted(loads) == ["random:0", "random:1"]
    assert len({id(each) for each in found}) == 1
    assert len(found) == 4


@pytest.mark.usefixtures("empty_cache")
def test_a_load_that_fails_fails_for_all_who_wait_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def load(*_: object) -> Classifier:
        calls.append(1)
        while len(asked) < 3:
            time.sleep(0.01)
        time.sleep(0.5)  # from asking to waiting is a few lines
        raise InputError("no such thing.")

    monkeypatch.setattr(store, "_load", load)
    errors: list[str] = []
    asked: list[int] = []

    def ask() -> None:
        asked.append(1)
        try:
            load_model("vgg16", "random:0", "cpu")
        except InputError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert errors == ["no such thing."] * 3
    assert len(calls) == 1
    ask()
    assert len(calls) == 2
    assert store._loading == {}


# --- the lease --------------------------------------------------------------------------------------------------------


def test_an_exception_inside_comes_out_as_it_is() -> None:
    classifier = make_tiny()
    with pytest.raises(ZeroDivisionError), classifier.lease():
        _ = 1 / 0

    def leak() -> None:
        with classifier.lease() as module:
            module.net.relu2.register_forward_hook(lambda *_: None)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        leak()
    assert caught.value.__notes__ == ["a call changed the shared network: forward_hooks of net.relu2."]
    assert not classifier.module.net.relu2._forward_hooks
    assert classifier.damaged == ""


def test_a_change_without_exception_is_an_error_and_what_can_be_is_put_back() -> None:
    classifier = make_tiny()
    with pytest.raises(ModuleStateError, match=r"training flag of net\.bn1"), classifier.lease() as module:
        module.net.bn1.train()
    assert not classifier.module.net.bn1.training
    with classifier.lease():
        pass


@pytest.mark.usefixtures("empty_cache")
def test_lost_values_retire_the_classifier_and_loading_gives_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_load", lambda *_: make_tiny())
    classifier = load_model("vgg16", "random:0", "cpu")
    with pytest.raises(ModuleStateError, match=r"values of net\.fc\.bias"), classifier.lease() as module:
        module.net.fc.bias.add_(1)
    with pytest.raises(
        ModuleStateError,
        match=r"^Tiny is not used again, because a call changed .*net\.fc\.bias\. Load it anew with load_model\.$",
    ):
        classifier.predict(torch.rand(1, 3, 64, 64))
    assert load_model("vgg16", "random:0", "cpu") is not classifier


def test_the_lease_is_reentrant_in_one_thread_and_exclusive_between_two() -> None:
    classifier = make_tiny()
    inside: list[str] = []
    with classifier.lease(), classifier.lease():
        inside.append("twice")
        thread = threading.Thread(
            target=lambda: inside.append("late") if classifier.predict(PIXELS) is not None else None
        )
        thread.start()
        time.sleep(0.15)
        assert inside == ["twice"]
    thread.join(10)
    assert inside == ["twice", "late"]


def test_waiting_for_a_lease_can_be_cancelled() -> None:
    classifier = make_tiny()
    outcome: list[object] = []

    def wait() -> None:
        try:
            with classifier.lease(Run(cancelled=lambda: True)):
                outcome.append("in")
        except Cancelled as error:
            outcome.append(error)

    with classifier.lease():
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    assert isinstance(outcome[0], Cancelled)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "vit_b_32"])
def test_cuda_answers_as_the_cpu_does(name: str) -> None:
    here, there = (load_model(name, "random:0", device=device) for device in ("cpu", "cuda"))
    assert there.device.type == "cuda"
    assert there.fingerprint == here.fingerprint
    assert there._lock is not here._lock
    x = here.preprocess(load_image(ASSETS / "samples" / "china.jpg"))
    torch.testing.assert_close(there.predict(x), here.predict(x), rtol=1e-2, atol=1e-2)
    assert there.predict(x).device.type == "cpu"
