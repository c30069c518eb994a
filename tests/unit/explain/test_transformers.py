"""CAMs on the token grid, attention rollout and gradient-weighted attention: by hand, and on torchvision's networks."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from xai import applicability, attribute, load_model
from xai.errors import NotApplicableError
from xai.explain._attention import AttentionWeights
from xai.explain.attention_gradient import relevance
from xai.explain.attention_rollout import rollout
from xai.models.classifier import Classifier, InputModel
from xai.models.layers import CHANNELS_LAST, SEQUENCE, Tokens

CAMS = ("gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "eigencam", "scorecam", "ablationcam")


def make_vit(dtype: torch.dtype = torch.float64) -> Classifier:
    """A vision transformer of two blocks: 32 px, patches of 8, so a class token and a 4 x 4 grid; alive."""
    net = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=24, num_classes=3).to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(
                torch.randn(value.shape, generator=generator, dtype=torch.float64) * (0.5 if value.dim() > 1 else 0.2)
            )
    tokens = Tokens(SEQUENCE, (4, 4), prefix=1)
    module = InputModel(net, (0.5,) * 3, (0.5,) * 3, tokens).eval().requires_grad_(False)
    return Classifier(
        "vit",
        "ViT",
        module,
        ("a", "b", "c"),
        (32, 32),
        "encoder.layers.encoder_layer_1.ln_1",
        "0",
        torch.device("cpu"),
        "random:0",
        tokens=tokens,
    )


@pytest.fixture(scope="module")
def vit() -> Classifier:
    return make_vit()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def forward_by_hand(net: VisionTransformer, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The network written out, without nn.MultiheadAttention: (logits, attention weights, norms before attention)."""
    patches = net.conv_proj((x - 0.5) / 0.5).flatten(2).transpose(1, 2)
    h = torch.cat([net.class_token.expand(len(x), -1, -1), patches], 1) + net.encoder.pos_embedding
    weights, norms = [], []
    for block in net.encoder.layers:
        y = block.ln_1(h)
        y.requires_grad_()
        norms.append(y)
        attention = block.self_attention
        q, k, v = (y @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, -1)
        split = [each.unflatten(-1, (2, 6)).transpose(1, 2) for each in (q, k, v)]
        a = (split[0] @ split[1].transpose(-1, -2) / 6**0.5).softmax(-1)
        weights.append(a)
        h = h + attention.out_proj((a @ split[2]).transpose(1, 2).flatten(2))
        h = h + block.mlp(block.ln_2(h))
    return net.heads(net.encoder.ln(h)[:, 0]), weights, norms


def test_attention_weights_are_those_of_the_network(vit: Classifier, x: Tensor) -> None:
    logits, expected, _ = forward_by_hand(vit.module.net, x)
    with torch.no_grad(), AttentionWeights() as seen:
        found = vit.module(x)
    torch.testing.assert_close(found, logits)
    for a, b in zip(seen.found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_rollout_by_hand() -> None:
    first = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]])
    second = torch.tensor([[[[0.5, 0.5], [0.0, 1.0]]]])
    # (A + I) / 2: [[1, 0], [.25, .75]] and [[.75, .25], [0, 1]]; their product, the later layer first
    expected = torch.tensor([[[0.75 + 0.0625, 0.1875], [0.25, 0.75]]])
    torch.testing.assert_close(rollout([first, second]), expected)
    heads = torch.cat([first, second], 1)
    torch.testing.assert_close(rollout([heads], "max"), torch.tensor([[[2.0, 0.5], [0.5, 2.0]]]) / 2.5)
    torch.testing.assert_close(rollout([heads], "min"), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))


def test_relevance_by_hand() -> None:
    weights = torch.tensor([[[[0.5, 0.5], [1.0, 0.0]]]])
    gradients = torch.tensor([[[[2.0, -1.0], [3.0, 4.0]]]])
    torch.testing.assert_close(relevance([weights], [gradients]), torch.tensor([[[2.0, 0.0], [3.0, 1.0]]]))


def test_rollout_of_the_network(vit: Classifier, x: Tensor) -> None:
    _, weights, _ = forward_by_hand(vit.module.net, x)
    expected = torch.eye(17, dtype=torch.float64).expand(2, -1, -1)
    for a in weights:
        expected = (a.mean(1) + torch.eye(17)) / 2 @ expected
    found = attribute(vit, x, "attention_rollout")
    torch.testing.assert_close(found.values, expected[:, 0, 1:].reshape(2, 4, 4).float(), atol=1e-6, rtol=1e-5)
    assert tuple(found.maps().shape) == (2, 32, 32)


def test_gradient_weighted_attention_of_the_network(vit: Classifier, x: Tensor) -> None:
    logits, weights, _ = forward_by_hand(vit.module.net, x)
    gradients = torch.autograd.grad(logits[0, 1] + logits[1, 2], weights)
    total = torch.eye(17, dtype=torch.float64).expand(2, -1, -1)
    for a, g in zip(weights, gradients, strict=True):
        total = total + (a * g).clamp(min=0).mean(1) @ total
    found = attribute(vit, x, "attention_gradient", targets=[1, 2])
    torch.testing.assert_close(found.values, total[:, 0, 1:].reshape(2, 4, 4).float(), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(found.values, attribute(vit, x, "attention_gradient", targets=[0, 0]).values)


def test_gradcam_on_the_token_grid(vit: Classifier, x: Tensor) -> None:
    logits, _, norms = forward_by_hand(vit.module.net, x)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), norms[-1])
    maps, slopes = (each[:, 1:].transpose(1, 2).reshape(2, 12, 4, 4) for each in (norms[-1].detach(), gradient))
    expected = (slopes.mean((2, 3), keepdim=True) * maps).sum(1).clamp(min=0)
    found = attribute(vit, x, "gradcam", targets=1)
    torch.testing.assert_close(found.values, expected.float(), atol=1e-6, rtol=1e-5)


def test_ablation_takes_a_channel_from_every_patch(vit: Classifier, x: Tensor) -> None:
    path = vit.default_layer
    found = attribute(vit, x[:1], "ablationcam", targets=0)
    layer, weights = vit.module.net.get_submodule(path), []
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _m, _i, out: kept.append(out))
    score = float(vit.module(x[:1])[0, 0])
    handle.remove()
    for channel in range(12):

        def without(_m: nn.Module, _i: object, out: Tensor, channel: int = channel) -> Tensor:
            out = out.clone()
            out[:, 1:, channel] = 0
            return out

        handle = layer.register_forward_hook(without)
        weights.append((score - float(vit.module(x[:1])[0, 0])) / abs(score))
        handle.remove()
    maps = kept[0][0, 1:].T.reshape(12, 4, 4)
    expected = torch.einsum("k,khw->hw", torch.tensor(weights, dtype=torch.float64), maps).clamp(min=0)
    torch.testing.assert_close(found.values[0], expected.float(), atol=1e-5, rtol=1e-4)


def test_guided_gradcam_lays_tokens_on_their_grid_too(vit: Classifier, x: Tensor) -> None:
    found = attribute(vit, x, "guided_gradcam", targets=1, extension=True)
    cam = attribute(vit, x, "gradcam", targets=1).maps()[:, None]
    guided = attribute(vit, x, "guided_backprop", targets=1, extension=True).values
    torch.testing.assert_close(found.values, cam * guided, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("method", [*CAMS, "attention_rollout", "attention_gradient"])
def test_batches_equal_one_by_one(vit: Classifier, x: Tensor, method: str) -> None:
    both = attribute(vit, x, method, targets=[0, 2])
    for index, target in enumerate((0, 2)):
        one = attribute(vit, x[index : index + 1], method, targets=target)
        torch.testing.assert_close(both.values[index], one.values[0], atol=1e-6, rtol=1e-4)


def test_threads_do_not_see_one_another(vit: Classifier, x: Tensor) -> None:
    methods = ("attention_rollout", "attention_gradient", "gradcam") * 3
    alone = {method: attribute(vit, x, method, targets=1).values for method in set(methods)}
    found: dict[int, Tensor] = {}

    def work(index: int) -> None:
        found[index] = attribute(vit, x, methods[index], targets=1).values

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(methods))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[index], alone[method]) for index, method in enumerate(methods))


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("tiny", "there is no attention between the pixels and the score"),
        ("swin", r"it has Softmax \(12\), but not over a class token and one grid of patches"),
    ],
)
def test_refused_with_the_reason(tiny: Classifier, network: str, reason: str) -> None:
    classifier, size = (tiny, 64) if network == "tiny" else (load_model("swin_t", "random:0", "cpu"), 224)
    for method in ("attention_rollout", "attention_gradient"):
        assert applicability(classifier, method).status == "refused"
        with pytest.raises(NotApplicableError, match=reason):
            attribute(classifier, torch.rand(1, 3, size, size), method)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer", "cells"),
    [
        ("vit_b_16", None, 14),
        ("swin_t", None, 7),
        ("swin_t", "features.5", 14),
        ("swin_t", "features.0.0", 56),
        ("convnext_tiny", None, 7),
    ],
)
def test_cams_on_torchvisions_transformers(name: str, layer: str | None, cells: int) -> None:
    classifier = load_model(name, "random:0", "cpu")
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    for method in ("gradcam", "eigencam"):
        found = attribute(classifier, image, method, layer=layer)
        assert tuple(found.values.shape) == (1, cells, cells)
        assert bool(torch.isfinite(found.values).all())
    if name == "vit_b_16":
        for method in ("attention_rollout", "attention_gradient"):
            assert tuple(attribute(classifier, image, method).values.shape) == (1, 14, 14)


def test_swin_layers_are_laid_out_as_their_channels_say() -> None:
    classifier = load_model("swin_t", "random:0", "cpu")
    assert classifier.tokens is not None
    assert classifier.tokens.layout == CHANNELS_LAST
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    kept: list[Tensor] = []
    handle = classifier.module.net.get_submodule("features.5").register_forward_hook(
        lambda _m, _i, out: kept.append(out)
    )
    classifier.predict(image)
    handle.remove()
    # the last block's output, channels last: Eigen-CAM of the permuted maps by its own definition
    rows = kept[0][0].flatten(0, 1).double()
    rows = rows - rows.mean(0)
    first = torch.linalg.svd(rows, full_matrices=False)
    expected = (first.U[:, 0] * first.S[0]).reshape(14, 14)
    found = attribute(classifier, image, "eigencam", layer="features.5").values[0].double()
    signed = expected if float((expected.clamp(min=0) - found).abs().max()) < 1e-3 else -expected
    torch.testing.assert_close(found, signed.clamp(min=0), atol=1e-3, rtol=1e-3)
