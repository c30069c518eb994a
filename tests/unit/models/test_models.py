"""Classifiers: what is listed, presets and views, labels, and the pixels that are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.transforms import functional as TF

from tests.conftest import make_tiny
from xai.errors import InputError, UnknownNameError
from xai.models import list_models, load_model
from xai.models.classifier import Classifier, InputModel, Preset
from xai.models.layers import SEQUENCE, Tokens
from xai.models.store import model_spec

CPU = torch.device("cpu")


def noise(*size: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


# --- what is listed ---------------------------------------------------------------------------------------------------


def test_the_listed_classifiers_begin_with_the_default_and_hold_the_studys() -> None:
    names = list_models()
    assert names[0] == "efficientnet_lite0"
    assert {"vgg16", "vgg19", "resnet50", "googlenet", "densenet121", "mobilenet_v3_large"} <= set(names)
    assert names.index("vit_b_16") < names.index("swin_t") < names.index("convnext_tiny")
    for name in names:
        spec = model_spec(name)
        assert spec.source.link.startswith("https://")
        assert len(spec.labels()) == (2 if name == "simple_cnn" else 1000)


def test_densenet_is_torchvisions_number_for_number() -> None:
    spec = model_spec("densenet121")
    ours = spec.build(num_classes=10).eval()
    peer = torchvision.models.densenet121(num_classes=10).eval()
    peer.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), peer(x), rtol=0, atol=0)


def test_googlenet_applies_its_own_input_transform() -> None:
    net = model_spec("googlenet").build(num_classes=10)
    assert net.transform_input
    assert net.aux1 is None
    seen: list[Tensor] = []
    net.conv1.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    preset = model_spec("googlenet").preset
    with torch.no_grad():
        InputModel(net, preset.mean, preset.std).eval()(pixels)
    torch.testing.assert_close(seen[0], (pixels - 0.5) / 0.5, rtol=1e-5, atol=1e-6)


def test_inception_applies_its_own_input_transform_and_has_no_second_head() -> None:
    net = model_spec("inception_v3").build(num_classes=10)
    assert net.transform_input
    assert net.AuxLogits is None


# --- presets and views ------------------------------------------------------------------------------------------------

PRESETS = {
    "resnet50:IMAGENET1K_V1": (256, 224),
    "resnet50:IMAGENET1K_V2": (232, 224),
    "mobilenet_v3_large:IMAGENET1K_V2": (232, 224),
    "efficientnet_b0:IMAGENET1K_V1": (256, 224),
    "efficientnet_b3:IMAGENET1K_V1": (320, 300),
    "inception_v3:IMAGENET1K_V1": (342, 299),
    "vit_b_16:IMAGENET1K_SWAG_E2E_V1": (384, 384),
    "convnext_tiny:IMAGENET1K_V1": (236, 224),
    "swin_t:IMAGENET1K_V1": (232, 224),
}


@pytest.mark.parametrize("which", PRESETS)
@pytest.mark.parametrize("size", [(451, 300), (300, 451), (640, 427), (224, 224), (97, 1200)])
def test_preprocess_is_torchvisions_own_transform(which: str, size: tuple[int, int]) -> None:
    name, entry = which.split(":")
    spec = model_spec(name).variant(entry)
    assert (spec.preset.resize, spec.preset.crop) == PRESETS[which]
    classifier = replace(make_tiny(), preset=spec.preset, input_size=(spec.preset.crop, spec.preset.crop))
    image = noise(*size)
    transform = get_model_weights(name)[entry].transforms()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.preset.mean, spec.preset.std))
    ours = (classifier.preprocess(image)[0] - mean) / std
    torch.testing.assert_close(ours, transform(image), rtol=0, atol=2e-6)


def test_the_default_entry_is_v1_and_others_keep_title_and_rank() -> None:
    spec = model_spec("resnet50")
    assert spec.weights_file == "resnet50-0676ba61.pth"
    other = spec.variant("IMAGENET1K_V2")
    assert other.weights_file == "resnet50-11ad3fa6.pth"
    assert (other.title, other.rank) == (spec.title, spec.rank)
    swin = model_spec("swin_t")
    assert (swin.variant("IMAGENET1K_V1").title, swin.variant("IMAGENET1K_V1").rank) == ("Swin-T", 31)


def test_whole_view_resizes_without_cutting(tiny: Classifier) -> None:
    image = noise(100, 80)
    expected = TF.pil_to_tensor(image.resize((64, 64), Image.Resampling.BILINEAR)).float() / 255
    torch.testing.assert_close(tiny.preprocess(image, view="whole")[0], expected, rtol=0, atol=0)
    with pytest.raises(InputError, match=r"^view 'half' is not known; use crop or whole\.$"):
        tiny.preprocess(image, view="half")
    with pytest.raises(InputError, match="there is no image to preprocess"):
        tiny.preprocess([])


def test_several_images_make_a_batch(tiny: Classifier) -> None:
    images = [noise(100, 80, seed=1), noise(70, 90, seed=2)]
    batch = tiny.preprocess(images)
    assert batch.shape == (2, 3, 64, 64)
    torch.testing.assert_close(batch[1:], tiny.preprocess(images[1]), rtol=0, atol=0)


def test_view_box_by_hand(tiny: Classifier) -> None:
    # preset: short side to 72, crop 64. 144 x 72: scale 1, so the box is (40, 4, 104, 68).
    assert tiny.view_box((144, 72)) == (40.0, 4.0, 104.0, 68.0)
    # 288 x 144: scale 2.
    assert tiny.view_box((288, 144)) == (80.0, 8.0, 208.0, 136.0)
    assert tiny.view_box((144, 288)) == (8.0, 80.0, 136.0, 208.0)
    assert tiny.view_box((50, 30), "whole") == (0.0, 0.0, 50.0, 30.0)


@pytest.mark.parametrize("size", [(451, 300), (333, 500), (64, 64), (1000, 41)])
def test_the_view_box_holds_what_the_network_sees(tiny: Classifier, size: tuple[int, int]) -> None:
    """A picture of coordinates: the value of each pixel seen says where it came from."""
    width, height = size
    left, top, right, bottom = tiny.view_box(size)
    across = np.tile(np.linspace(0, 255, width)[None], (height, 1))
    down = np.tile(np.linspace(0, 255, height)[:, None], (1, width))
    image = Image.fromarray(np.stack([across, down, across], 2).round().astype(np.uint8))
    seen = tiny.preprocess(image)[0] * 255
    x = (left + (np.arange(64) + 0.5) * (right - left) / 64 - 0.5) / (width - 1) * 255
    y = (top + (np.arange(64) + 0.5) * (bottom - top) / 64 - 0.5) / (height - 1) * 255
    edge = slice(2, -2)  # at the picture's border the resize has nothing to average with
    assert np.abs(seen[0].mean(0).numpy() - x)[edge].max() < 1.5
    assert np.abs(seen[1].mean(1).numpy() - y)[edge].max() < 255 / height + 1.5


def test_an_extreme_strip_is_seen_in_its_middle_and_costs_no_more(tiny: Classifier) -> None:
    image = Image.new("RGB", (2048, 1), (0, 0, 0))
    image.paste((255, 255, 255), (1020, 0, 1028, 1))
    seen = tiny.preprocess(image)
    assert seen.shape == (1, 3, 64, 64)
    left, _, right, _ = tiny.view_box((2048, 1))
    assert (left, right) == pytest.approx((1024 - 32 / 72, 1024 + 32 / 72))
    assert float(seen.min()) == 1.0


# --- labels -----------------------------------------------------------------------------------------------------------


def test_search_ranks_index_prefix_word_rest(lite0: Classifier) -> None:
    assert lite0.search("281")[0] == (281, "tabby")
    names = [name for _, name in lite0.search("TIGER")]
    assert names[:4] == ["tiger shark", "tiger cat", "tiger", "tiger beetle"]  # by index, so that the order is stable
    found = [name for _, name in lite0.search("cat", limit=50)]
    assert found.index("catamaran") < found.index("tiger cat") < found.index("polecat")
    assert len(lite0.search("a", limit=7)) == 7
    assert lite0.search("no such thing") == ()


def test_search_by_hand() -> None:
    classifier = replace(make_tiny(), labels=("catalogue", "big cat", "Cat", "concatenation", "2 cats"))
    assert [i for i, _ in classifier.search("cat")] == [0, 2, 1, 4, 3]
    assert [i for i, _ in classifier.search("2")] == [2, 4]  # the index before the name
    assert [i for i, _ in classifier.search("  BIG   cat ")] == [1]


def test_top_by_hand(tiny: Classifier) -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, -1.0, 0.0], [5.0, 0.0, 0.0, 0.0, 0.0]])
    first, second = tiny.top(logits, k=2)
    total = 1 + np.exp(2) + np.exp(1) + np.exp(-1) + 1
    assert [(i, name) for i, name, _ in first] == [(1, "bee"), (2, "cat")]
    assert [p for *_, p in first] == pytest.approx([np.exp(2) / total, np.exp(1) / total])
    assert second[0][:2] == (0, "ant")
    assert len(tiny.top(logits, k=99)[0]) == 5
    with pytest.raises(InputError, match=r"^logits has shape \(5,\); give \(N, 5\)\.$"):
        tiny.top(logits[0])


# --- input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (np.zeros((1, 3, 64, 64)), "x is a ndarray; give a tensor, as preprocess(image) returns it."),
        (torch.zeros(3, 64, 64), "x has shape (3, 64, 64); give (N, 3, H, W) with N >= 1."),
        (torch.zeros(1, 1, 64, 64), "x has shape (1, 1, 64, 64); give (N, 3, H, W) with N >= 1."),
        (torch.zeros(0, 3, 64, 64), "x has shape (0, 3, 64, 64); give (N, 3, H, W) with N >= 1."),
        (torch.zeros(1, 3, 0, 64), "x has shape (1, 3, 0, 64); give (N, 3, H, W) with N >= 1."),
        (
            torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
            "x has dtype torch.uint8; give floating point values in [0, 1].",
        ),
        (
            torch.full((1, 3, 8, 8), float("nan")),
            "x holds values that are not a number (NaN); give pixels in [0, 1].",
        ),
        (
            torch.full((1, 3, 8, 8), float("inf")),
            "x ranges from inf to inf; give pixels in [0, 1] (the model normalises).",
        ),
        (torch.full((1, 3, 8, 8), -2.1), "x ranges from -2.1 to -2.1; give pixels in [0, 1] (the model normalises)."),
    ],
)
def test_bad_pixels_are_refused(tiny: Classifier, x: Tensor, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        tiny.predict(x)
    assert str(caught.value) == sentence


def test_one_nan_among_good_pixels_is_refused(tiny: Classifier) -> None:
    x = torch.rand(2, 3, 64, 64)
    x[1, 2, 3, 4] = float("nan")
    with pytest.raises(InputError, match="not a number"):
        tiny.predict(x)


def test_any_floating_dtype_goes_to_any_network(tiny: Classifier, tiny64: Classifier) -> None:
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reference = tiny64.predict(x)
    assert reference.dtype == torch.float32
    torch.testing.assert_close(tiny.predict(x), reference, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tiny64.predict(x.float()), reference, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tiny.predict(x.bfloat16()), reference, rtol=0.1, atol=0.1)


def test_normalisation_follows_the_networks_dtype() -> None:
    module = InputModel(nn.Conv2d(3, 1, 1).double(), (0.1, 0.2, 0.3), (1.0, 2.0, 4.0))
    assert module.mean.dtype == module.std.dtype == torch.float64
    assert module.mean.flatten().tolist() == [0.1, 0.2, 0.3]  # not the float32 neighbours of these numbers
    assert InputModel(nn.Identity(), (0.1,) * 3, (1.0,) * 3).mean.dtype == torch.float32


def test_a_transformers_size_is_fixed() -> None:
    classifier = replace(make_tiny(), tokens=Tokens(SEQUENCE, (4, 4), 1))
    with pytest.raises(InputError, match=r"^x is 32 x 64; Tiny takes 64 x 64 only \(its grid is fixed\)\.$"):
        classifier.predict(torch.rand(1, 3, 32, 64))


def test_channels_last_does_not_change_the_answer(tiny: Classifier) -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    net = make_tiny().module.net.to(memory_format=torch.contiguous_format)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (tiny.preset.mean, tiny.preset.std))
    with torch.no_grad():
        torch.testing.assert_close(tiny.predict(x), net((x - mean) / std), rtol=1e-4, atol=1e-5)


def test_presets_are_imagenets_by_default() -> None:
    assert Preset() == Preset((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 256, 224)


def test_unknown_models_get_near_names() -> None:
    with pytest.raises(UnknownNameError, match=r"^model 'resnet5' is not known; did you mean resnet50 or "):
        load_model("resnet5")
    with pytest.raises(UnknownNameError, match=r"^model 'xyzzy' is not known; choose from efficientnet_lite0, vgg16, "):
        load_model("xyzzy")
    with pytest.raises(UnknownNameError, match="is not known"):
        load_model("fcn_resnet50")  # torchvision has it, but it is no classifier


def test_softmax_of_top_matches_torch(lite0: Classifier, cat: Tensor) -> None:
    logits = lite0.predict(cat)
    best = lite0.top(logits)[0]
    values, indices = F.softmax(logits, -1)[0].topk(5)
    assert [i for i, *_ in best] == indices.tolist()
    assert [p for *_, p in best] == pytest.approx(values.tolist(), rel=1e-5)
    assert best[0][1] in ("tabby", "tiger cat", "Egyptian cat")
