"""Generators on another device: the same steps, samples, figures and files as on the CPU."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest
import torch

from tests.unit.device_helpers import CPU, Tested, assert_same
from tests.unit.gan_helpers import QUICK, TINY, noise_folder
from xai.commands import gan
from xai.data import open_dataset
from xai.errors import Cancelled
from xai.gan import features, layers, quality, step
from xai.gan import train as loop
from xai.gan.agreement import predicted, train_judge
from xai.gan.features import lite0
from xai.gan.images import Shares, read_shares
from xai.gan.judge import judge
from xai.gan.sample import generate, latents
from xai.gan.saved import load_discriminator, load_generator
from xai.gan.settings import LAPTOP, GanSettings
from xai.gan.step import Trainer
from xai.runs.checkpoint import load_checkpoint
from xai.studies.gan.training import GanRequest, _precision, train_gan
from xai.types import Run

ALL = "color,translation,cutout"
NETWORKS = {
    "FastGAN": dataclasses.replace(TINY, augment=ALL, attention=True, perceptual=1),
    "FastGAN, GLU": dataclasses.replace(TINY, activation="glu", augment=ALL),
    "DCGAN": dataclasses.replace(TINY, architecture="dcgan", augment=ALL),
    "projected": dataclasses.replace(TINY, discriminator="projected", feature_side=32, augment=ALL),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture
def shares(folder: Path) -> Shares:
    return read_shares(open_dataset(folder), 32, Run())


@pytest.fixture(autouse=True)
def _small_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few samples and iterations where many are taken; no features are kept of a device that is gone."""
    monkeypatch.setattr(loop, "LOOK_AT", 16)
    monkeypatch.setattr(layers, "SETTLED", 2)
    monkeypatch.setattr(step, "SETTLING", 1)
    features._lite0.cache_clear()


def trained(device: torch.device, settings: GanSettings, shares: Shares, steps: int = 2, **how: str) -> Trainer:
    trainer = Trainer(settings, 2, Run(device=device), counts=(9, 5), **how)  # type: ignore[arg-type]
    for _ in range(steps):
        trainer.step(shares.train.images, shares.train.labels)
    return trainer


def state_of(trainer: Trainer) -> dict[str, dict[str, torch.Tensor]]:
    return {
        name: {key: value.cpu() for key, value in net.state_dict().items()}
        for name, net in (("g", trainer.g), ("d", trainer.d), ("average", trainer.average), ("ready", trainer.ready()))
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_learns_the_same(name: str, tested: Tested, shares: Shares) -> None:
    steps = 1 if name == "projected" else 2
    here, there = (trained(device, NETWORKS[name], shares, steps) for device in (CPU, tested.device))
    assert all(each.device == tested.device for net in (there.g, there.d) for each in net.state_dict().values())
    # Of sums of many parts the order differs, and Adam's first steps take the sign of what is nearly zero.
    assert_same(state_of(here), state_of(there), 20 * tested.near)


def test_mixed_precision(tested: Tested, shares: Shares) -> None:
    here, there = (trained(device, TINY, shares, 1, precision="bf16") for device in (CPU, tested.device))
    assert_same(state_of(here), state_of(there), 0.05)
    assert _precision("auto", torch.device("cpu")) == _precision("auto", torch.device("mps")) == "float32"


def test_a_batch_that_does_not_fit_is_learned_in_parts(
    tested: Tested, shares: Shares, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not tested.pretended:
        pytest.skip("a GPU cannot be made to run out of memory at four small images")
    made = Trainer._fake

    def limited(self: Trainer, drawn: object, cut: slice) -> torch.Tensor:
        if cut.stop - cut.start > 2:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB, max allowed: 9.07 GB).")
        return made(self, drawn, cut)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_fake", limited)
    here, there = (trained(device, TINY, shares) for device in (CPU, tested.device))
    assert here.parts == there.parts == 2
    assert_same(state_of(here), state_of(there), 0)


def test_a_whole_training_that_moves_and_what_is_made_of_it(
    tested: Tested, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "lite0", lambda device: QUICK)
    request = GanRequest(str(folder), TINY, 4, look=2)
    whole = train_gan(request, tmp_path / "whole", device="cpu")
    out, one, steps = tmp_path / "moved", Trainer.step, []
    monkeypatch.setattr(Trainer, "step", lambda *args: (steps.append(1), one(*args))[1])
    with pytest.raises(Cancelled):
        train_gan(request, out, device=str(tested.device), run=Run(cancelled=lambda: len(steps) == 2))
    assert load_checkpoint(out / "checkpoints" / "last.pt").state["step"] == 2
    there = train_gan(request, out, resume=True, device=str(tested.device))
    back = train_gan(dataclasses.replace(request, steps=6), out, resume=True, device="cpu")
    longer = train_gan(
        dataclasses.replace(request, steps=6), tmp_path / "whole", resume=True, device=str(tested.device)
    )
    for pair in ((whole, there), (back, longer)):
        states = [{name: value.cpu() for name, value in each.net.state_dict().items()} for each in pair]  # type: ignore[union-attr]
        assert_same(*states, 20 * tested.near)
    assert there is not None
    assert there.device == tested.device
    z, y = latents(range(4), TINY.nz, 0.7), torch.tensor([0, 1, 0, 1])
    images = [generate(load_generator(out, device), z, y) for device in (CPU, tested.device)]
    assert_same(*images, 20 * tested.near)
    critics = [load_discriminator(out, device) for device in (CPU, tested.device)]
    x = images[0] * 2 - 1
    judged = [
        net(x.to(device), y.to(device)).logits.cpu() for net, device in zip(critics, (CPU, tested.device), strict=True)
    ]
    assert_same(*judged, 20 * tested.near)


def test_samples_are_judged_the_same(tested: Tested, shares: Shares) -> None:
    images = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 2
    large = dataclasses.replace(shares.train, images=shares.train.images.repeat(1, 1, 2, 2))
    found = []
    for device in (CPU, tested.device):
        run = Run(device=device)
        net = train_judge(large, run, epochs=1)
        weights = {name: value.cpu() for name, value in net.state_dict().items()}
        found.append((weights, judge(images, labels, shares, lite0(device), run).as_json()))
        assert predicted(net, large.images).device.type == "cpu"
    assert_same(*found, max(10 * tested.near, 1e-6))


def test_figures_of_features_that_lie_there(tested: Tested) -> None:
    a, b = (torch.randn(30, 6, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    here, there = quality.kid_estimate(a, b), quality.kid_estimate(a.to(tested.device), b.to(tested.device))
    assert_same(here, there, tested.near)


def test_auto_takes_the_big_setting_on_cuda_alone(tested: Tested, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = argparse.Namespace(setting="auto", device=str(tested.device), size=64, set=[])
    paper = GanSettings(size=64)
    assert gan._settings(asked) == (paper if tested.device.type == "cuda" else LAPTOP)
    for kind, expected in (("cuda", paper), ("mps", LAPTOP), ("cpu", LAPTOP)):
        monkeypatch.setattr("xai.settings.resolve_device", lambda _name, kind=kind: torch.device(kind))
        assert gan._settings(asked) == expected
