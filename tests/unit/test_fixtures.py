"""The shared fixtures are what other tests take them for."""

from __future__ import annotations

import torch
from torch import Tensor

from xai import attribute
from xai.models.classifier import Classifier


def test_cat_is_called_a_cat(lite0: Classifier, cat: Tensor) -> None:
    assert cat.shape == (1, 3, 224, 224)
    label = lite0.labels[int(lite0.predict(cat).argmax())]
    assert label in {"tabby", "tiger cat", "Egyptian cat"}


def test_tiny_answers_depend_on_the_image_and_agree_in_both_precisions(tiny: Classifier, tiny64: Classifier) -> None:
    x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    logits = tiny.predict(x)
    assert logits.shape == (3, 5)
    assert logits.std(0).min() > 1e-3
    assert tiny64.module.net.fc.weight.dtype == torch.float64
    torch.testing.assert_close(tiny64.predict(x.double()), logits, atol=1e-4, rtol=1e-4)


def test_tiny_has_maps_to_explain(tiny: Classifier) -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    found = attribute(tiny, x, "gradcam")
    assert found.values.shape == (2, 16, 16)
    assert bool((found.values > 0).any())
