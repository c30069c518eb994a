"""What rounding may not decide: every method gives the same map for pixels that differ by a millionth, or says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import xai
from tests.unit.rounding_helpers import NETWORKS
from xai.explain.eigencam import first_component
from xai.models.classifier import Classifier
from xai.types import Attribution

SMALL: dict[str, dict[str, Any]] = {
    "rise": {"masks": 60},
    "smoothgrad": {"samples": 4},
    "integrated_gradients": {"steps": 8},
    "occlusion": {"window": 16, "stride": 8},
    "guided_backprop": {"extension": True},
    "guided_gradcam": {"extension": True},
    "deconvnet": {"extension": True},
}
MILLIONTH = 1e-6


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Classifier:
    made: Classifier = NETWORKS[request.param]()
    return made


def moved(x: Tensor) -> Tensor:
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(9)) * 2 - 1
    return (x + MILLIONTH * noise).clamp(0, 1)


def explained(classifier: Classifier, x: Tensor, method: str) -> Attribution | None:
    params = SMALL.get(method, {})
    if xai.applicability(classifier, method, **params).status == "refused":
        return None
    return xai.attribute(classifier, x, method, **params)


def likeness(first: Attribution, second: Attribution) -> float:
    """The lowest correlation of a map with its other self; two maps of zeros are alike."""
    pairs = zip(first.values.double().flatten(1), second.values.double().flatten(1), strict=True)
    return min(1.0 if torch.equal(a, b) else float(torch.corrcoef(torch.stack([a, b]))[0, 1]) for a, b in pairs)


@pytest.mark.parametrize("method", xai.list_methods())
def test_a_millionth_of_a_pixel_changes_no_map(network: Classifier, method: str) -> None:
    noise = torch.rand(4, 3, *network.input_size, generator=torch.Generator().manual_seed(0))
    x = (255 * noise).round() / 255  # levels of a picture
    before, after = (explained(network, each, method) for each in (x, moved(x)))
    if before is None or after is None:
        pytest.skip(f"{method} does not apply to {network.title}")
    assert before.target.tolist() == after.target.tolist()
    assert likeness(before, after) > 0.999
    assert [before.notice(index) for index in range(4)] == [""] * 4


def flat_pictures(size: tuple[int, int]) -> Tensor:
    halves = torch.zeros(3, *size)
    halves[:, :, size[1] // 2 :] = 1
    return torch.stack([torch.zeros(3, *size), torch.full((3, *size), 128 / 255), torch.ones(3, *size), halves])


@pytest.mark.parametrize("method", xai.list_methods())
def test_where_rounding_decides_it_says_so(network: Classifier, method: str) -> None:
    x = flat_pictures(network.input_size)
    for image in x[:, None]:
        before, after = (explained(network, each, method) for each in (image, moved(image)))
        if before is None or after is None:
            pytest.skip(f"{method} does not apply to {network.title}")
        assert likeness(before, after) > 0.99 or before.notice()


def test_max_pooling_in_a_flat_picture_is_undecided() -> None:
    cnn, x = NETWORKS["cnn"](), flat_pictures((64, 64))
    for method in ("saliency", "guided_backprop", "lrp"):
        found = xai.attribute(cnn, x, method, **SMALL.get(method, {}))
        assert found.notice(0).startswith("Undecided: the finest detail in the 100 % of the picture that has one flat")
    assert xai.attribute(cnn, x, "gradcam").facts["note"] == [""] * 4  # the gradient's cut lies above the pooling
    convnext = NETWORKS["convnext"]()  # has no max pooling
    assert xai.attribute(convnext, x, "saliency").facts["note"] == [""] * 4


def test_classes_that_tie_are_told() -> None:
    cnn = NETWORKS["cnn"]()
    with torch.no_grad():
        cnn.module.net.fc.weight.zero_()
        cnn.module.net.fc.bias.copy_(torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0]))
    x = torch.rand(1, 3, 64, 64)
    said = "Undecided: bee and cat have the same score, so rounding chose which of them is explained."
    assert said in xai.attribute(cnn, x, "saliency").notice()
    assert said not in xai.attribute(cnn, x, "saliency", targets=1).notice()


def test_differences_that_are_rounding_are_blank() -> None:
    x = torch.full((1, 3, 64, 64), 0.5)
    for name, method in (("cnn", "edges"), ("swin", "occlusion"), ("swin", "scorecam"), ("swin", "eigencam")):
        found = explained(NETWORKS[name](), x, method)
        assert found is not None
        assert not found.values.any()
        assert found.notice().startswith("Blank because")


# ---------------------------------------------------------------- Eigen-CAM's sign


def test_the_component_points_to_where_the_layer_is_active() -> None:
    maps = torch.zeros(3, 4, 4)
    maps[:2, :3] = 5.0  # most positions are active: a skewness would point to the rest
    found, note = first_component(maps + 0.01 * torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert float(found[:3].min()) > 0 > float(found[3:].max())
    assert note == ""


@pytest.mark.parametrize("sign", [1, -1])
def test_behind_a_layer_norm_it_points_to_what_stands_out(sign: int) -> None:
    generator = torch.Generator().manual_seed(3)
    background, thing = torch.randn(2, 16, 1, 1, generator=generator)
    maps = background.expand(16, 5, 5).clone()
    maps[:, 1:3, 1:3] = thing
    maps = maps + 0.1 * torch.randn(maps.shape, generator=generator)
    normed = sign * torch.nn.functional.layer_norm(maps.permute(1, 2, 0), (16,)).permute(2, 0, 1)
    found, note = first_component(normed)
    assert float(found[1:3, 1:3].min()) > 0
    assert float(found.flatten().median()) < 0
    assert note == ""


def test_a_component_without_a_side_is_undecided() -> None:
    line = torch.tensor([-1.0, 1.0, -1.0, 1.0]).view(1, 2, 2)
    found, note = first_component(torch.cat([line, -line]))
    assert note.startswith("Undecided: its sign")
    assert float(found.abs().min()) > 0
    two = torch.tensor([[[1.0, 1.0, -1.0, -1.0]], [[1.0, -1.0, 1.0, -1.0]]]) + torch.tensor([3.0, 3.0]).view(2, 1, 1)
    assert first_component(two)[1].startswith("Undecided: two components vary equally")


def test_a_single_map_is_its_own_component() -> None:
    found, note = first_component(torch.tensor([[[0.0, 0.0], [0.0, 4.0]]]))
    torch.testing.assert_close(found, torch.tensor([[-1.0, -1.0], [-1.0, 3.0]]))
    assert note == ""
