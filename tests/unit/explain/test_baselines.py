"""The maps that know nothing: noise, the middle, and the image's edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import xai
from xai.errors import InputError
from xai.explain.center_map import CenterMap
from xai.explain.edges import sobel
from xai.explain.random_map import RandomMap
from xai.explain.spec import METHODS
from xai.models.classifier import Classifier

BASELINES = ("random", "center", "edges")


def images(count: int) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", BASELINES)
def test_maps_stand_beside_the_prediction_and_ignore_the_class(tiny: Classifier, name: str) -> None:
    x = images(3)
    found = xai.attribute(tiny, x, name)
    assert found.values.shape == (3, 64, 64)
    assert found.values.min() >= 0
    torch.testing.assert_close(found.logits, tiny.predict(x))
    assert found.target.tolist() == found.logits.argmax(1).tolist()
    other = xai.attribute(tiny, x, name, [4, 4, 0])
    assert torch.equal(found.values, other.values)
    assert not METHODS.get(name).per_class
    assert METHODS.get(name).family == "baseline"


@pytest.mark.parametrize("name", BASELINES)
def test_batch_equals_one_by_one(tiny: Classifier, name: str) -> None:
    x = images(3)
    together = xai.attribute(tiny, x, name).values
    assert torch.equal(together, torch.cat([xai.attribute(tiny, each[None], name).values for each in x]))


def test_random_is_uniform_and_depends_on_seed_and_image(tiny: Classifier) -> None:
    x = images(2)
    found = xai.attribute(tiny, x, "random", seed=1).values
    assert found.numpy().tobytes() == xai.attribute(tiny, x, "random", seed=1).values.numpy().tobytes()
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found, xai.attribute(tiny, x, "random", seed=2).values)
    counts = np.histogram(found.numpy(), bins=10, range=(0, 1))[0] / found.numel()
    assert np.abs(counts - 0.1).max() < 5 * (0.1 * 0.9 / found.numel()) ** 0.5


def test_random_on_a_grid(tiny: Classifier) -> None:
    assert xai.attribute(tiny, images(2), "random", cells=7).values.shape == (2, 7, 7)
    with pytest.raises(InputError, match=r"^cells is 0; give 1 to 1024\.$"):
        RandomMap(cells=0)


def test_center_by_hand(tiny: Classifier) -> None:
    values = xai.attribute(tiny, images(1), "center", sigma=0.5).values[0]
    # 64 pixels: the middle is between pixels 31 and 32, and sigma is 32 pixels
    assert float(values[31, 31]) == pytest.approx(np.exp(-0.5 * 2 * (0.5 / 32) ** 2))
    assert float(values[0, 32]) == pytest.approx(np.exp(-0.5 * ((31.5 / 32) ** 2 + (0.5 / 32) ** 2)))
    assert torch.equal(values, values.flip(0))
    torch.testing.assert_close(values, values.T)
    with pytest.raises(InputError, match=r"^sigma is 0; give a share of the side above 0\.$"):
        CenterMap(sigma=0)


def test_edges_of_a_step_by_hand() -> None:
    x = torch.zeros(1, 3, 4, 6)
    x[..., 3:] = 1
    found = sobel(x)[0]
    expected = torch.zeros(4, 6)
    expected[:, 2:4] = 0.5**0.5  # gx is 1 on both sides of the step, gy is 0
    torch.testing.assert_close(found, expected)


def test_edges_agree_with_scikit_image(cat: Tensor) -> None:
    from skimage.color import rgb2gray
    from skimage.filters import sobel as peer

    expected = peer(rgb2gray(cat[0].permute(1, 2, 0).numpy()))
    np.testing.assert_allclose(sobel(cat)[0].numpy(), expected, atol=1e-6)
