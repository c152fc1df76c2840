"""3D U-Nets: agreement with pytorch-3dunet, upsampling equations, shapes, export, bad arguments."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from unet3d_reference import CLASSES, FILE, SETTINGS, digest, fill, image

from voxel_ext.convert import infer_settings
from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.blocks.squeeze_excitation import ChannelSpatialExcitation
from voxel_ext.networks.blocks.unet3d_blocks import DoubleConv, SingleConv, TransposedUpsampling
from voxel_ext.networks.blocks.unet3d_settings import LevelSettings
from voxel_ext.networks.nets.unet3d import ResidualUNet3D, ResidualUNetSE3D, UNet3D
from voxel_ext.networks.nets.unet3d_factory import UNET3D_ARCHITECTURES, unet3d_network

REFERENCE = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", REFERENCE, ids=lambda c: f"{c['flavor']}-{c['class']}-{c['layer_order']}")
def test_outputs_of_pytorch3dunet(case: dict[str, Any]) -> None:
    flat = {"kernel_size": (1, 3, 3), "pool_size": (1, 2, 2)} if case["class"].endswith("2D") else {}
    names = {"layer_order": case["layer_order"], "flavor": case["flavor"]}
    network = fill(unet3d_network(CLASSES[case["class"]], **SETTINGS, **names, **flat))
    size = case["size"]
    x = image(size) if len(size) == 3 else image(size).unsqueeze(2)
    torch.testing.assert_close(digest(network(x)), torch.tensor(case["values"]).double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["UNet3D", "ResidualUNet3D", "ResidualUNetSE3D"])
@pytest.mark.parametrize("order", ["gcr", "cge", "bcr", "gcl"])
def test_an_installed_pytorch3dunet(name: str, order: str) -> None:
    models = pytest.importorskip("pytorch3dunet.unet3d.model")
    original = fill(getattr(models, name)(layer_order=order, is_segmentation=False, **SETTINGS))
    flavor = "wolny"
    if name != "UNet3D":
        flavor = infer_settings(original.state_dict(), "pytorch3dunet", order).flavor
    ours = unet3d_network(CLASSES[name], layer_order=order, flavor=flavor, **SETTINGS).double().eval()
    ours.load_state_dict(original.state_dict())
    x = image([8, 12, 16])
    torch.testing.assert_close(ours(x), original(x), rtol=1e-6, atol=1e-6)


def test_learned_upsampling_that_keeps_the_last_voxels_is_a_cropped_transposed_convolution() -> None:
    torch.manual_seed(0)
    upsampling = TransposedUpsampling(3, 2, LevelSettings(stride=(1, 2, 3), kernel_size=(1, 3, 3)))
    x = torch.randn(1, 3, 4, 5, 6)
    conv = upsampling.upsample
    assert isinstance(conv, nn.ConvTranspose3d)
    whole = F.pad(F.conv_transpose3d(x, conv.weight, conv.bias, stride=(1, 2, 3)), (0, 1, 0, 0))
    inside = whole[:, :, :, 1:11, 1:19]
    inside[..., -1] = conv.bias.view(1, 2, 1, 1)  # no voxel of the input reaches it
    torch.testing.assert_close(upsampling(torch.empty(1, 2, 4, 10, 18), x), inside)


def test_learned_upsampling_that_interpolates_repeats_voxels() -> None:
    torch.manual_seed(0)
    upsampling = TransposedUpsampling(3, 2, LevelSettings(flavor="wolny"))
    x = torch.randn(1, 3, 2, 3, 4)
    weight = upsampling.state_dict()["upsample.conv_transposed.weight"]
    y = F.conv_transpose3d(x, weight, stride=2, padding=1)
    axes = [torch.arange(size) * count // size for size, count in zip((4, 7, 8), y.shape[2:], strict=True)]
    expected = y[:, :, axes[0]][:, :, :, axes[1]][..., axes[2]]
    torch.testing.assert_close(upsampling(torch.empty(1, 2, 4, 7, 8), x), expected)


def test_excitation_is_the_greater_of_both_gates() -> None:
    torch.manual_seed(0)
    module = ChannelSpatialExcitation(4)
    x = torch.randn(2, 4, 2, 3, 3)
    hidden = (x.flatten(2).mean(2) @ module.cSE.fc1.weight.T + module.cSE.fc1.bias).clamp(min=0)
    channel = torch.sigmoid(hidden @ module.cSE.fc2.weight.T + module.cSE.fc2.bias)
    voxel = torch.sigmoid(torch.einsum("bcdhw,c->bdhw", x, module.sSE.conv.weight.flatten()) + module.sSE.conv.bias)
    expected = torch.maximum(x * channel[:, :, None, None, None], x * voxel[:, None])
    torch.testing.assert_close(module(x), expected)


def test_channels_between_the_two_convolutions() -> None:
    settings = LevelSettings()
    assert DoubleConv(16, 64, settings, encoder=True).SingleConv1.conv.out_channels == 32
    assert DoubleConv(48, 64, settings, encoder=True).SingleConv1.conv.out_channels == 48
    assert DoubleConv(96, 32, settings, encoder=False).SingleConv1.conv.out_channels == 32


def test_layers_of_a_convolution() -> None:
    layers = SingleConv(2, 8, LevelSettings(order="dgcbl", num_groups=4, flavor="wolny", dropout=0.3))
    assert [name for name, _ in layers.named_children()] == ["dropout", "groupnorm", "conv", "batchnorm", "LeakyReLU"]
    assert layers.groupnorm.num_groups == 1  # fewer channels than groups
    assert layers.conv.bias is None
    assert (layers.LeakyReLU.negative_slope, layers.dropout.p) == (0.01, 0.3)
    assert SingleConv(2, 8, LevelSettings(order="cl")).LeakyReLU.negative_slope == 0.1
    assert SingleConv(2, 8, LevelSettings(order="cr")).conv.bias is not None


def test_the_input_is_not_overwritten() -> None:
    x = torch.randn(1, 2, 4, 4, 4)
    before = x.clone()
    unet3d_network("unet3d", 2, 1, [4, 8], layer_order="drc").eval()(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("architecture", UNET3D_ARCHITECTURES)
@pytest.mark.parametrize("flavor", ["flavell", "wolny-1.4", "wolny"])
def test_any_size_scripted_and_channels_last(architecture: str, flavor: str) -> None:
    torch.manual_seed(0)
    network = unet3d_network(architecture, 2, 3, [4, 8, 16], num_groups=2, flavor=flavor).eval()
    scripted = torch.jit.script(network)
    assert list(scripted.state_dict()) == list(network.state_dict())
    images = [torch.randn(2, 2, *size) for size in ((4, 4, 4), (5, 9, 7))]
    with torch.no_grad():
        outputs = [network(x) for x in images]
        for x, y in zip(images, outputs, strict=True):
            assert y.shape == (2, 3, *x.shape[2:])
            assert network.features(x).shape == (2, 4, *x.shape[2:])
            torch.testing.assert_close(network.final_conv(network.features(x)), y)
            torch.testing.assert_close(scripted(x), y)
        network.to(memory_format=torch.channels_last_3d)
        for x, y in zip(images, outputs, strict=True):
            last = network(x.to(memory_format=torch.channels_last_3d))
            torch.testing.assert_close(last, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", UNET3D_ARCHITECTURES)
def test_planes_are_independent_with_flat_kernels(architecture: str) -> None:
    torch.manual_seed(0)
    # batch norm, since the statistics of a group norm are those of all planes
    flat = {"layer_order": "cbr", "kernel_size": [1, 3, 3], "pool_size": [1, 2, 2]}
    network = unet3d_network(architecture, 1, 2, [4, 8, 8], **flat).eval()
    if architecture == "residual_unet_se3d":
        for block in network.modules():
            if isinstance(block, ChannelSpatialExcitation):
                block.cSE.fc2.weight.data.zero_()  # the channel gate, too, is of all planes
    assert network.stride == (1, 4, 4)
    x = torch.randn(1, 1, 3, 9, 8)
    with torch.no_grad():
        planes = [network(x[:, :, z : z + 1]) for z in range(3)]
        torch.testing.assert_close(network(x), torch.cat(planes, dim=2), rtol=1e-4, atol=1e-5)


def test_every_parameter_has_a_gradient() -> None:
    for architecture in UNET3D_ARCHITECTURES:
        network = unet3d_network(architecture, 1, 2, [4, 8], num_groups=2)
        network(torch.randn(1, 1, 4, 4, 4)).square().sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_defaults_of_the_architectures() -> None:
    with torch.device("meta"):
        for architecture, levels in (("unet3d", 4), ("residual_unet3d", 5), ("residual_unet_se3d", 5)):
            network = unet3d_network(architecture, f_maps=8, num_levels=None, layer_order=None, pool_size=None)
            assert len(network.encoders) == levels
            assert network.stride == (2 ** (levels - 1),) * 3
        counts = [
            sum(parameter.numel() for parameter in network.parameters())
            for network in (UNet3D(1, 2), ResidualUNet3D(1, 2), ResidualUNetSE3D(1, 2))
        ]
    assert counts[0] < counts[1]
    assert "se_module.cSE.fc1.weight" in " ".join(ResidualUNetSE3D(1, 2, [8, 8]).state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "unet3"}, "Did you mean 'unet3d'"),
        ({"layer_order": "gcx"}, "layer_order='gcx'.*ReLU"),
        ({"layer_order": "gr"}, "one c"),
        ({"layer_order": "gcrr"}, "at most once"),
        ({"layer_order": "rc"}, "not as the first"),
        ({"layer_order": "cre"}, "at most one activation"),
        ({"layer_order": 3}, "layer_order=3"),
        ({"num_groups": 16, "f_maps": [32, 40]}, "num_groups=16 does not divide the 72 channels"),
        ({"num_groups": 0}, "num_groups=0"),
        ({"f_maps": [8]}, "at least 2"),
        ({"f_maps": "8,16"}, "f_maps='8,16'"),
        ({"f_maps": [8, 1.5]}, "positive whole numbers"),
        ({"num_levels": 1}, "num_levels=1"),
        ({"kernel_size": 2}, "odd"),
        ({"kernel_size": [3, 3]}, "3 whole numbers"),
        ({"pool_size": 0}, "pool_size=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"flavor": "wolni"}, "Did you mean 'wolny'"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"out_channels": True}, "out_channels=True"),
    ],
)
def test_arguments_that_are_not_valid(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        unet3d_network(**settings)


def test_images_that_do_not_fit() -> None:
    network = UNet3D(2, 1, [4, 8, 8], num_groups=2, pool_size=(1, 2, 2))
    with pytest.raises(InvalidInputError, match=r"size \[1, 3, 9\] is too small.*\[1, 4, 4\]"):
        network(torch.zeros(1, 2, 1, 3, 9))
    with pytest.raises(InvalidInputError, match=r"\[1, 3, 4, 4, 4\].*2 channels"):
        network(torch.zeros(1, 3, 4, 4, 4))
    with pytest.raises(InvalidInputError, match=r"\(B, C, D, H, W\)"):
        network(torch.zeros(2, 4, 4, 4))
    with pytest.raises(torch.jit.Error, match="too small"):
        torch.jit.script(network)(torch.zeros(1, 2, 1, 3, 9))
