"""FastGAN's and DCGAN's parts: spectral norm, batch norm and averages where they usually go wrong."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from xai.errors import InputError
from xai.gan import ema
from xai.gan.dcgan import DcDiscriminator, DcGenerator
from xai.gan.fastgan import FastDiscriminator, FastGenerator
from xai.gan.layers import (
    Activation,
    ClassBatchNorm,
    Noise,
    SelfAttention,
    SkipExcitation,
    conv,
    deconv,
    spectral_norms,
    still,
)
from xai.gan.losses import generator_loss, hinge_fake, hinge_real, reconstruction
from xai.gan.settings import GanSettings
from xai.gan.step import DiscriminatorLoss, Trainer
from xai.types import Run

TINY = GanSettings(size=32, nz=6, ngf=2, ndf=2, batch=4, perceptual=0, decoder_side=16, head="both")


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def vectors(net: nn.Module) -> list[torch.Tensor]:
    return [each.clone() for norm, _ in spectral_norms(net) for each in (norm.u, norm.v)]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    for layer, matrix in (
        (conv(3, 5, 4), lambda w: w.flatten(1)),
        (deconv(6, 4, 4), lambda w: w.transpose(0, 1).flatten(1)),
    ):
        layer.eval()
        ((norm, original),) = spectral_norms(layer)
        with torch.no_grad():
            original.copy_(rand(*original.shape, seed=5))
        for _ in range(20):
            norm.settle(original)
        sigma = torch.linalg.matrix_norm(matrix(original.double()), 2)
        torch.testing.assert_close(layer.weight.double(), original.double() / sigma, rtol=1e-4, atol=1e-6)


def test_one_power_iteration_a_training_pass_as_torchs_own() -> None:
    ours = conv(3, 5, 3)
    theirs = nn.Conv2d(3, 5, 3, bias=False)
    with torch.no_grad():
        theirs.weight.copy_(ours.parametrizations.weight.original)
    parametrizations.spectral_norm(theirs)
    norm = next(spectral_norms(ours))[0]
    for mine, other in ((norm.u, "_u"), (norm.v, "_v")):
        mine.copy_(F.normalize(rand(len(mine)), dim=0))
        getattr(theirs.parametrizations.weight[0], other).copy_(mine)
    x = rand(2, 3, 8, 8)
    for _ in range(3):
        torch.testing.assert_close(ours(x), theirs(x))
        torch.testing.assert_close(norm.u, theirs.parametrizations.weight[0]._u)


def test_eval_and_passes_that_train_another_network_leave_u_and_v_alone() -> None:
    net = nn.Sequential(conv(3, 4, 3), conv(4, 2, 3))
    for norm, _ in spectral_norms(net):
        norm.v.copy_(F.normalize(rand(len(norm.v), seed=3), dim=0))
    x, before = rand(1, 3, 9, 9), vectors(net)
    net.eval()(x)
    assert same(before, vectors(net))
    with still(net):
        net.train()(x)
    assert same(before, vectors(net))
    net(x)
    assert not same(before, vectors(net))


def test_passes_over_real_and_fake_share_one_iteration() -> None:
    net, x = conv(3, 4, 3), rand(1, 3, 9, 9)
    norm, weight = next(spectral_norms(net))
    norm.v.copy_(F.normalize(rand(27, seed=3), dim=0))
    wanted = copy.deepcopy(norm)
    wanted.iterate(weight)
    with parametrize.cached():
        net(x)
        net(x + 1)
    torch.testing.assert_close(norm.u, wanted.u)


def test_a_generators_step_leaves_the_discriminators_u_and_v_alone() -> None:
    trainer = Trainer(TINY, 2, Run())
    before = vectors(trainer.d)
    drawn = (rand(4, 6), torch.tensor([0, 1, 0, 1]), 0)
    trainer._train_generator(drawn, torch.Generator().manual_seed(0), [slice(0, 4)], [])
    assert same(before, vectors(trainer.d))
    assert all(each.requires_grad for each in trainer.d.parameters())
    assert all(each.grad is None for each in trainer.d.parameters())


def test_class_batch_norm_by_hand() -> None:
    norm = ClassBatchNorm(1, 2)
    with torch.no_grad():
        norm.scale.weight.copy_(torch.tensor([[2.0], [3.0]]))
        norm.shift.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    x = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)  # mean 0, variance 1
    out = norm(x, torch.tensor([0, 1])).flatten()
    torch.testing.assert_close(out, torch.tensor([-2.0 + 1, 3.0 - 1]), rtol=1e-4, atol=1e-4)


def test_the_class_enters_by_batch_norm_alone() -> None:
    net = FastGenerator(32, nz=6, ngf=2, classes=3).eval()
    z = rand(1, 6).repeat(3, 1)
    apart = net(z, torch.arange(3))
    assert not torch.allclose(apart[0], apart[1])
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Embedding):
                module.weight.copy_(module.weight[:1].expand_as(module.weight))
    alike = net(z, torch.arange(3))
    torch.testing.assert_close(alike[0], alike[1])
    assert net.opening.weight.shape[0] == 6  # the input is z, no class beside it


def test_activations_halve_or_keep_channels() -> None:
    x = rand(2, 6, 3, 3)
    torch.testing.assert_close(Activation("glu")(x), F.glu(x, 1))
    torch.testing.assert_close(Activation("leaky")(x), F.leaky_relu(x, 0.2))
    with pytest.raises(InputError, match=r"activation 'relu' is not known; use glu or leaky\."):
        Activation("relu")


def test_noise_begins_at_nothing_and_is_the_generators() -> None:
    layer, x = Noise(), rand(2, 3, 4, 4)
    torch.testing.assert_close(layer(x, torch.Generator().manual_seed(1)), x)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    noise = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer(x, torch.Generator().manual_seed(1)), x + 2 * noise)
    assert layer(x, None) is x


def test_skip_excitation_is_a_gate_on_channels() -> None:
    layer = SkipExcitation(3, 5).eval()
    small, large = rand(2, 3, 4, 4), rand(2, 5, 16, 16)
    hidden = F.silu(F.conv2d(small, layer.squeeze.weight))
    gate = torch.sigmoid(F.conv2d(hidden, layer.excite.weight))
    assert gate.shape == (2, 5, 1, 1)
    torch.testing.assert_close(layer(small, large), large * gate)


def test_attention_begins_as_identity_and_is_dot_product_attention() -> None:
    layer, x = SelfAttention(16).eval(), rand(2, 16, 4, 6)
    torch.testing.assert_close(layer(x), x)
    with torch.no_grad():
        layer.gain.fill_(0.5)
    q = layer.query(x).flatten(2).mT
    k = F.max_pool2d(layer.key(x), 2).flatten(2).mT
    v = F.max_pool2d(layer.value(x), 2).flatten(2).mT
    mixed = F.scaled_dot_product_attention(q, k, v, scale=1.0).mT.reshape(2, 8, 4, 6)
    torch.testing.assert_close(layer(x), x + 0.5 * layer.out(mixed), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("attention", [False, True])
def test_fastgan_shapes(size: int, attention: bool) -> None:
    y = torch.tensor([0, 1])
    activation = "leaky" if attention else "glu"
    g = FastGenerator(size, nz=6, ngf=2, classes=2, activation=activation, attention=attention)
    x = g(rand(2, 6), y)
    assert x.shape == (2, 3, size, size)
    assert float(x.detach().abs().max()) <= 1
    d = FastDiscriminator(size, ndf=2, classes=2, head="both", attention=attention)
    judged = d(x, y, (1, 0))
    assert judged.logits.shape == (2, 50)
    assert judged.classes.shape == (2, 2)
    assert {a.shape[-1] for pair in judged.parts for a in pair} == {size // 2}  # at most half the image
    assert d(x, y).parts == ()
    names = set(g.gates)
    assert names == {str(side) for side in (64, 128) if side <= size}  # 4 -> 64, 8 -> 128, as in the paper


def test_large_decoders_stop_at_128() -> None:
    assert FastDiscriminator(512, ndf=1).side == 128
    with pytest.raises(InputError, match=r"decoder_side is 33; give 8 to half the image side, 16\."):
        GanSettings(size=32, decoder_side=33)


def test_the_small_branch_and_the_decoders_see_the_very_image_that_came_in() -> None:
    d = FastDiscriminator(32, ndf=2, decoder_side=16).eval()
    seen: list[torch.Tensor] = []
    d.small_start.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x = rand(2, 3, 32, 32).clamp(-1, 1)
    parts = d(x, torch.zeros(2, dtype=torch.int64), (1, 0)).parts
    whole = F.interpolate(x, size=(16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(seen[0], whole)
    torch.testing.assert_close(parts[0][1], whole)
    torch.testing.assert_close(parts[1][1], whole)
    torch.testing.assert_close(parts[2][1], x[:, :, 16:, :16])


def test_projection_adds_the_inner_product() -> None:
    d = DcDiscriminator(32, ndf=2, classes=2, head="projection").eval()
    x = rand(2, 3, 32, 32)
    pooled = d.features(x).mean((2, 3))
    apart = d(x, torch.zeros(2, dtype=torch.int64)).logits - d(x, torch.ones(2, dtype=torch.int64)).logits
    wanted = pooled @ (d.embedding.weight[0] - d.embedding.weight[1])
    torch.testing.assert_close(apart[:, 0], wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("size", [32, 128])
def test_dcgan_shapes(size: int) -> None:
    y = torch.tensor([0, 1])
    x = DcGenerator(size, nz=5, ngf=2, classes=2)(rand(2, 5), y)
    assert x.shape == (2, 3, size, size)
    assert DcDiscriminator(size, ndf=2, classes=2, head="auxiliary")(x, y).logits.shape == (2, 1)


def test_real_and_fake_do_not_see_one_another_in_batch_norm() -> None:
    trainer = Trainer(TINY, 2, Run())
    loss = DiscriminatorLoss(trainer.d, TINY, None)
    real, y = rand(4, 3, 32, 32, seed=1), torch.tensor([0, 1, 0, 1])
    with still(trainer.d):
        found = [
            loss(real, y, rand(4, 3, 32, 32, seed=seed) * seed, y, torch.Generator().manual_seed(5)) for seed in (2, 3)
        ]
    assert torch.equal(found[0]["d_real"], found[1]["d_real"])
    assert not torch.equal(found[0]["d_fake"], found[1]["d_fake"])


def test_the_average_averages_parameters_and_copies_buffers() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(conv(3, 4, 3), nn.BatchNorm2d(4))
    average = ema.averaged(net)
    kept = [each.clone() for each in average.parameters()]
    with torch.no_grad():
        for each in net.parameters():
            each.add_(torch.randn(each.shape))
    net(rand(2, 3, 8, 8))
    ema.update(average, net, 0.75)
    for mine, old, new in zip(average.parameters(), kept, net.parameters(), strict=True):
        torch.testing.assert_close(mine, 0.75 * old + 0.25 * new)
    assert float(net[1].running_mean.abs().sum()) > 0
    assert same([*average.buffers()], [*net.buffers()])  # batch norm's statistics and u, v


def test_decay_warms_up() -> None:
    assert ema.decay_at(0, 0.999) == 0.1
    assert ema.decay_at(90, 0.999) == 0.91
    assert ema.decay_at(10**6, 0.999) == 0.999


def test_settled_statistics_are_those_of_the_averaged_weights() -> None:
    torch.manual_seed(0)
    net = FastGenerator(32, nz=6, ngf=2, classes=2)
    average = ema.averaged(net)
    with torch.no_grad():
        for each in average.parameters():
            each.add_(0.3 * torch.randn(each.shape))
    before = [each.clone() for each in average.buffers()]
    batches = [(rand(8, 6, seed=seed), torch.arange(8) % 2) for seed in range(3)]
    ready = ema.settled(average, batches)
    assert same(before, list(average.buffers()))
    for norm, weight in spectral_norms(ready):
        sigma = torch.linalg.matrix_norm(norm._matrix(weight).double(), 2)
        torch.testing.assert_close(
            norm.u.double() @ norm._matrix(weight).double() @ norm.v.double(), sigma, rtol=1e-2, atol=0
        )
    entered = torch.stack([ready.opening(z[:, :, None, None]).mean((0, 2, 3)) for z, _ in batches]).mean(0)
    torch.testing.assert_close(ready.opening_norm.norm.running_mean, entered)
    assert not ready.training


def test_a_sample_does_not_depend_on_its_batch_and_leaves_no_trace() -> None:
    torch.manual_seed(0)
    ready = ema.settled(ema.averaged(FastGenerator(32, nz=6, ngf=2, classes=2)), [(rand(8, 6), torch.arange(8) % 2)])
    z, y = rand(5, 6, seed=2), torch.tensor([0, 1, 1, 0, 1])
    before = [each.clone() for each in ready.buffers()]
    together = ready(z, y)
    torch.testing.assert_close(ready(z[3:4], y[3:4]), together[3:4], rtol=1e-4, atol=1e-5)
    assert same(before, list(ready.buffers()))


def test_hinge_by_hand() -> None:
    logits = torch.tensor([2.0, 0.5, -1.0])
    assert float(hinge_real(logits)) == pytest.approx((0 + 0.5 + 2) / 3)
    assert float(hinge_fake(logits)) == pytest.approx((3 + 1.5 + 0) / 3)
    assert float(generator_loss(logits)) == pytest.approx(-0.5)
    soft = float(hinge_real(torch.zeros(1000), torch.Generator().manual_seed(0)))
    assert soft == pytest.approx(0.9, abs=0.01)  # the mean of U(.8, 1)


def test_reconstruction_is_a_mean_over_images_and_a_sum_over_parts() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    assert float(reconstruction([(a, b)], None)) == pytest.approx(0.5)
    assert float(reconstruction([(a, b), (a, a), (b, a)], None)) == pytest.approx(1.0)


def test_settings_refuse_what_no_training_could_use() -> None:
    with pytest.raises(InputError, match=r"size 48 is not possible; use 32, 64, 128, 256, 512, 1024\."):
        GanSettings(size=48)
    with pytest.raises(InputError, match=r"decoder_side is 12; decoders double 8 px: give 8, 16, 32, \.\.\."):
        GanSettings(size=32, decoder_side=12)
    with pytest.raises(InputError, match=r"feature_side is -5; give 0 to 1024\."):
        GanSettings(feature_side=-5)
    with pytest.raises(InputError, match=r"lr_g is 0; give a learning rate above 0, such as 0\.0002\."):
        GanSettings(lr_g=0)
    with pytest.raises(
        InputError, match=r"augmentation 'colour' is not known; use color, translation, cutout or none\."
    ):
        GanSettings(augment="colour")
    with pytest.raises(InputError, match=r"attention is FastGAN's; the DCGAN baseline has none\."):
        GanSettings(architecture="dcgan", attention=True)
