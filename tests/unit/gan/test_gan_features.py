"""Features by networks: Inception beside a way of its own, and the discriminator that stands on EfficientNet-Lite0."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import inception_v3
from torchvision.models.feature_extraction import create_feature_extractor

from tests.unit.gan_helpers import TINY
from xai.errors import WeightsError
from xai.gan import features
from xai.gan.features import Lite0Maps, inception
from xai.gan.projected import ProjectedDiscriminator
from xai.models.efficientnet_lite0 import EfficientNetLite0
from xai.models.store import load_model
from xai.studies.gan.training import GanRequest, train_gan


def test_inceptions_features_are_those_before_its_classifier(monkeypatch) -> None:
    """With random weights in the place of the real ones, against torchvision's network taken apart by torchvision."""
    classifier = load_model("inception_v3", "random:0", "cpu")
    monkeypatch.setattr(features, "load_model", lambda name, weights, device: classifier)
    images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    found = inception()

    plain = inception_v3(weights=None, init_weights=False, aux_logits=False, transform_input=True)
    plain.load_state_dict(classifier.module.net.state_dict(), strict=False)
    x = F.interpolate(images, (299, 299), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        wanted = create_feature_extractor(plain.eval(), ["avgpool"])((x - mean) / std)["avgpool"].flatten(1)
    assert found(images).shape == (2, 2048)
    torch.testing.assert_close(found(images), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert found.name == "InceptionV3-torchvision@299"
    assert "not the TensorFlow Inception of published FIDs" in found.sentence


def test_without_its_weights_inception_says_which_file_is_wanted(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"inception_v3_google-[0-9a-f]+\.pth"):
        inception()


@pytest.fixture(scope="module")
def maps() -> Lite0Maps:
    torch.manual_seed(0)
    return Lite0Maps(EfficientNetLite0(10).eval().requires_grad_(False))


@pytest.mark.parametrize("head", ["none", "projection", "auxiliary", "both"])
def test_a_projected_discriminator_judges_at_four_scales(maps: Lite0Maps, head: str) -> None:
    net = ProjectedDiscriminator(64, maps, ndf=4, classes=3, head=head)
    x = (torch.rand(2, 3, 64, 64) * 2 - 1).requires_grad_()
    judged = net(x, torch.tensor([0, 2]))
    assert [each.shape for each in net.mixed(x)] == [(2, 64, side, side) for side in (16, 8, 4, 2)]
    assert judged.logits.shape == (2, 16 + 16 + 16 + 4)  # each scale is halved until 4 px, the coarsest has 2
    assert [each.shape for each in (judged.classes,) if each is not None] == [(2, 3)] * (head in ("auxiliary", "both"))
    (gradient,) = torch.autograd.grad(judged.logits.sum(), x)
    assert bool((gradient != 0).any())
    learn = {name.split(".")[0] for name, _ in net.named_parameters()}
    by_class = {"none": set(), "projection": {"embeddings"}, "auxiliary": {"classify"}}
    by_class["both"] = by_class["projection"] | by_class["auxiliary"]
    assert learn == {"heads"} | by_class[head]  # neither EfficientNet-Lite0 nor the random projections


def test_projections_are_the_same_for_everybody(maps: Lite0Maps) -> None:
    """A run that is resumed, or that runs in two processes, must be judged through the same projections."""
    torch.manual_seed(1)
    one = ProjectedDiscriminator(32, maps, ndf=4)
    torch.manual_seed(2)
    other = ProjectedDiscriminator(32, maps, ndf=4)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert all(torch.equal(a, b) for a, b in zip(one.mixed(x), other.mixed(x), strict=True))
    assert one.mixed(x)[0].shape[-1] == 16  # seen at 64 px at least


def test_a_generator_is_trained_against_it_and_goes_on_where_it_stopped(folder, tmp_path) -> None:
    settings = dataclasses.replace(TINY, discriminator="projected")
    whole = train_gan(GanRequest(str(folder), settings, 2, look=2), tmp_path / "whole", device="cpu")
    train_gan(GanRequest(str(folder), settings, 1, look=2), tmp_path / "parts", device="cpu")
    parts = train_gan(GanRequest(str(folder), settings, 2, look=2), tmp_path / "parts", resume=True, device="cpu")
    assert whole is not None
    assert parts is not None
    wanted = whole.net.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in parts.net.state_dict().items())
