"""The decoder of the shape VAE sees the code alone; the feature is the mean."""

from __future__ import annotations

import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.blocks.shape_blocks import ShapeSettings
from voxel_ext.networks.nets.shape_vae import ShapeVAE

TINY = {"size": 8, "latent_size": 5, "filters": (4, 8, 12)}


def tiny(**settings):
    torch.manual_seed(0)
    return ShapeVAE(**(TINY | settings))


def images(channels=1, size=(8, 8, 8), batch=3):
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("anisotropic_levels", [0, 1, 2])
@pytest.mark.parametrize("squeeze_excitation", ["none", "cse", "sse", "scse"])
def test_shapes_over_the_options(anisotropic_levels, squeeze_excitation, norm):
    net = tiny(
        in_channels=2,
        out_channels=1,
        size=(4, 8, 12),
        anisotropic_levels=anisotropic_levels,
        squeeze_excitation=squeeze_excitation,
        norm=norm,
    )
    x = images(2, (4, 8, 12))
    out = net(x)
    assert {name: tuple(value.shape) for name, value in out.items()} == {
        "reconstruction": (3, 1, 4, 8, 12),
        "mean": (3, 5),
        "log_variance": (3, 5),
        "latent": (3, 5),
    }


@pytest.mark.parametrize("settings", [{"anisotropic_levels": 1, "squeeze_excitation": "scse"}, {"norm": "group"}])
def test_torchscript(settings):
    net, x = tiny(**settings).eval(), images()
    scripted = torch.jit.script(net)
    torch.testing.assert_close(scripted(x), net(x))
    torch.testing.assert_close(scripted.encode(x), net.encode(x))
    torch.testing.assert_close(scripted.decode(net.encode(x)), net.decode(net.encode(x)))


def test_the_default_is_the_network_of_the_requirements():
    net = ShapeVAE()
    sizes = {}
    for name, module in net.encoder.named_children():
        module.register_forward_hook(lambda _m, _i, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
    net.eval()
    with torch.no_grad():
        assert net.encode(torch.zeros(1, 1, 64, 64, 64)).shape == (1, 100)
    levels = [sizes[f"level{level}"] for level in range(5)]
    assert levels == [(28, 64, 64, 64), (36, 64, 32, 32), (48, 64, 16, 16), (64, 32, 8, 8), (80, 16, 4, 4)]
    kernels = [net.encoder.get_submodule(f"down{level}.conv").kernel_size for level in range(1, 5)]
    assert kernels == [(1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)]
    assert any(isinstance(module, torch.nn.ELU) for module in net.modules())


def test_isotropic_steps_halve_all_axes():
    settings = ShapeSettings((4, 8, 12), 0, "none", 1, "batch")
    assert settings.total_stride == (4, 4, 4)
    assert settings.lowest_size(16) == (4, 4, 4)
    assert ShapeSettings((4, 8, 12), 1, "none", 1, "batch").lowest_size((4, 8, 16)) == (2, 2, 4)


def test_in_evaluation_the_code_is_the_mean_and_all_the_decoder_needs():
    net = tiny().eval()
    x = images()
    first, second = net(x), net(x)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert torch.equal(first["latent"], first["mean"])
    assert torch.equal(net.encode(x), first["mean"])
    torch.testing.assert_close(net.decode(net.encode(x)), first["reconstruction"], rtol=0, atol=0)


def test_the_reconstruction_depends_on_the_encoder_only_through_the_code():
    net = tiny().eval()
    x = images()
    before = net(x)
    # new features everywhere in the encoder, but heads that give the same code
    for module in net.encoder.children():
        module.register_forward_hook(lambda _m, _i, out: out + torch.randn_like(out))
    assert not torch.allclose(net.encode(x), before["mean"])
    net.mean.register_forward_hook(lambda _m, _i, _out: before["mean"])
    after = net(x)
    torch.testing.assert_close(after["reconstruction"], before["reconstruction"], rtol=0, atol=0)


def test_another_code_is_another_reconstruction():
    net = tiny().eval()
    mean = net.encode(images())
    assert (net.decode(mean) - net.decode(mean.flip(0)))[0].abs().max() > 1e-6


def test_in_training_the_code_is_a_sample_of_the_posterior():
    net = tiny()
    mean, log_variance = torch.tensor([[1.0, -2, 0, 3, 5]] * 2000), torch.tensor([[0.0, -2, 1, -4, 2]] * 2000)
    net.mean.register_forward_hook(lambda *_: mean)
    net.log_variance.register_forward_hook(lambda *_: log_variance)
    net.decoder = torch.nn.Identity()
    torch.manual_seed(0)
    samples = net(images())["latent"]
    std = torch.exp(log_variance[0] / 2)
    assert ((samples.mean(0) - mean[0]).abs() < 4 * std / 2000**0.5).all()
    torch.testing.assert_close(samples.std(0), std, rtol=0.08, atol=0)


def test_mean_and_log_variance_are_linear_in_the_features():
    net = tiny().eval()
    features = net.encoder(images()).flatten(1)
    assert net.encoder(images()).shape[1:] == (12, 8, 2, 2)
    mean, log_variance = net.posterior(images())
    torch.testing.assert_close(mean, features @ net.mean.weight.T + net.mean.bias)
    torch.testing.assert_close(log_variance, features @ net.log_variance.weight.T + net.log_variance.bias)
    assert (mean < 0).any()
    assert (log_variance < 0).any()


def test_every_parameter_gets_a_gradient():
    net = tiny(squeeze_excitation="scse")
    out = net(images())
    (out["reconstruction"].square().mean() + out["log_variance"].square().mean()).backward()
    assert [name for name, one in net.named_parameters() if one.grad is None] == []


def test_output_activation():
    values = tiny(output_activation="none").eval()(images() * 100)["reconstruction"]
    squeezed = tiny().eval()(images() * 100)["reconstruction"]
    torch.testing.assert_close(squeezed, torch.sigmoid(values))


def test_under_autocast_codes_and_images_are_float32():
    with torch.autocast("cpu", torch.bfloat16):
        out = tiny()(images())
    assert {value.dtype for value in out.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 10}, r"size=\[10, 10, 10\].*\[1, 4, 4\].*\[10, 8, 8\] and \[10, 12, 12\]"),
        ({"size": (8, 8)}, "size="),
        ({"filters": 8}, "filters=8"),
        ({"filters": (4,)}, "filters=.*at least 2"),
        ({"filters": (4, 0)}, "filters="),
        ({"filters": (4, 6, 8), "norm": "group"}, "multiples of 4"),
        ({"norm": "bach"}, "norm='bach'.*'batch'"),
        ({"anisotropic_levels": 3}, "anisotropic_levels=3.*0 to 2"),
        ({"squeeze_excitation": "yes"}, "squeeze_excitation"),
        ({"latent_size": 0}, "latent_size=0"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"output_activation": "relu"}, "output_activation"),
    ],
)
def test_arguments_that_are_not_valid(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        tiny(**settings)


def test_inputs_that_do_not_fit():
    net = tiny().eval()
    with pytest.raises(InvalidInputError, match=r"expected the size \[8, 8, 8\]"):
        net(images(size=(8, 8, 12)))
    with pytest.raises(InvalidInputError, match="with 1 channels"):
        net.encode(images(2))
    with pytest.raises(InvalidInputError, match=r"\(B, 5\)"):
        net.decode(torch.zeros(2, 4))
