"""U-Net and stacked hourglass: shapes, equations, gradients, export, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.blocks import Convolution
from monai.networks.utils import convert_to_onnx, convert_to_torchscript
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks import check_parameter_count, check_spatial_size
from voxel_ext.networks.blocks import DoubleConvolution, EncoderDecoder
from voxel_ext.networks.nets import StackedHourglass, UNet, segmentation_network

SETTINGS = [
    # spatial_dims, in_channels, out_channels, depth, kernel_size, residual
    (3, 1, 1, 1, 3, False),
    (3, 2, 3, 3, 3, True),
    (3, 1, 1, 2, 5, True),
    (2, 1, 1, 4, 3, False),
    (2, 3, 2, 3, 7, True),
    (2, 1, 1, 2, 5, False),
]


def image(dims, channels=1, side=16, batch=2, seed=0):
    size = [side, side + 8, side][:dims]
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(seed))


def every_parameter_gets_gradient(network, outputs):
    sum(output.square().mean() for output in outputs).backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    idle = [name for name, p in network.named_parameters() if p.grad is not None and not p.grad.any()]
    return missing, idle


@pytest.mark.parametrize(("dims", "inputs", "outputs", "depth", "kernel", "residual"), SETTINGS)
def test_unet_keeps_the_size_and_uses_every_parameter(dims, inputs, outputs, depth, kernel, residual):
    torch.manual_seed(0)
    network = UNet(dims, inputs, outputs, depth, 4, kernel, residual)
    x = image(dims, inputs)
    y = network(x)
    assert y.shape == (2, outputs, *x.shape[2:])
    assert network.stride == 2 ** (depth - 1)
    assert every_parameter_gets_gradient(network, [y]) == ([], [])


@pytest.mark.parametrize("stacks", [1, 2, 3])
@pytest.mark.parametrize(("dims", "inputs", "outputs", "depth", "kernel", "residual"), SETTINGS)
def test_hourglass_returns_every_map_in_training_and_the_last_in_evaluation(
    stacks, dims, inputs, outputs, depth, kernel, residual
):
    torch.manual_seed(0)
    network = StackedHourglass(dims, inputs, outputs, stacks, depth, 4, kernel, residual)
    x = image(dims, inputs)
    maps = network(x)
    assert isinstance(maps, list)
    assert [m.shape for m in maps] == [(2, outputs, *x.shape[2:])] * stacks
    network.eval()
    last, every = network(x), network.score_maps(x)
    assert len(every) == stacks
    assert torch.equal(last, every[-1])


@pytest.mark.parametrize("stacks", [1, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_the_last_map_of_the_hourglass_depends_on_every_parameter(stacks, residual):
    torch.manual_seed(1)
    network = StackedHourglass(2, 1, 2, stacks, 2, 4, residual=residual)
    assert every_parameter_gets_gradient(network, network(image(2))[-1:]) == ([], [])


def test_unet_is_its_equation():
    torch.manual_seed(2)
    network = UNet(3, 1, 1, depth=2, start_channels=3).eval()
    for module in network.modules():  # a batch norm that does something in evaluation mode
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)

    def double(block, y):
        for layer in block.convolutions:
            conv, norm = layer.conv, layer.adn.N
            y = torch.relu(nn.functional.conv3d(y, conv.weight, conv.bias, padding=1))
            shape = (1, -1, 1, 1, 1)
            y = (y - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
            y = y * norm.weight.view(shape) + norm.bias.view(shape)
        return y

    x, part = image(3, side=4), network.features
    top = double(part.encoders[0], x)
    low = double(part.encoders[1], nn.functional.max_pool3d(top, 2))
    up = nn.functional.conv_transpose3d(low, part.upsamplers[0].weight, part.upsamplers[0].bias, stride=2)
    features = double(part.decoders[0], torch.cat([up, top], 1))
    expected = nn.functional.conv3d(features, network.head.weight, network.head.bias)
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 2), (2, 3)])
def test_residual_block_is_its_equation(inputs, outputs):
    torch.manual_seed(3)
    block = DoubleConvolution(2, inputs, outputs, residual=True)
    x = image(2, inputs)
    shortcut = x if inputs == outputs else block.shortcut(x)
    torch.testing.assert_close(block(x), torch.relu(block.convolutions(x) + shortcut))
    assert isinstance(block.shortcut, nn.Identity) == (inputs == outputs)


def test_hourglass_is_its_equation():
    torch.manual_seed(4)
    network = StackedHourglass(2, 1, 1, 2, 2, 4).eval()
    first, second = network.stacks
    x = network.stem(image(2))
    f = first.block(first.hourglass(x))
    score = first.score(f)
    x = x + first.features_back(f) + first.score_back(score)
    expected = [score, second.score(second.block(second.hourglass(x)))]
    for ours, theirs in zip(network.score_maps(image(2)), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_number_of_parameters_follows_the_layers():
    def double(i, o, k):
        return i * o * k**3 + o + 2 * o + o * o * k**3 + o + 2 * o

    for depth, start, kernel in [(1, 4, 3), (3, 2, 5)]:
        widths = [start * 2**i for i in range(depth)]
        count = sum(double(i, o, kernel) for i, o in zip([1, *widths[:-1]], widths, strict=True))
        count += sum(2 * w * w * 8 + w + double(2 * w, w, kernel) for w in widths[:-1])
        count += start + 1
        assert check_parameter_count(UNet(3, 1, 1, depth, start, kernel)) == count


def test_forward_leaves_no_state_behind():
    network = UNet(2, depth=3, start_channels=2).eval()
    before = {name: set(vars(module)) for name, module in network.named_modules()}
    network(image(2))
    assert {name: set(vars(module)) for name, module in network.named_modules()} == before


@pytest.mark.parametrize("norm", ["instance", ("group", {"num_groups": 2}), None])
def test_other_normalizations(norm):
    network = StackedHourglass(2, depth=2, start_channels=4, residual=True, norm=norm)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert torch.isfinite(network(image(2))[-1]).all()


def test_activation_comes_before_normalization():
    layers = [m for m in UNet(2, depth=2, start_channels=2).modules() if isinstance(m, Convolution)]
    assert all(list(dict(m.adn.named_children())) == ["A", "N"] for m in layers)


@pytest.mark.parametrize("architecture", ["unet", "stacked_hourglass"])
@pytest.mark.parametrize("dims", [2, 3])
def test_torchscript_is_equal_after_saving_and_loading(architecture, dims, tmp_path):
    torch.manual_seed(5)
    network = segmentation_network(architecture, dims, depth=3, residual=True)
    x = image(dims)
    network(x)  # running statistics that are not the initial ones
    path = str(tmp_path / "network.ts")
    convert_to_torchscript(network, path, verify=True, inputs=(x,), device=torch.device("cpu"))
    loaded = torch.jit.load(path)
    assert torch.equal(loaded(x), network(x))
    assert loaded.stride == 4
    with pytest.raises(torch.jit.Error, match="multiple of 4"):
        loaded(x[..., :15])
    if architecture == "stacked_hourglass":
        assert [torch.equal(a, b) for a, b in zip(loaded.score_maps(x), network.score_maps(x), strict=True)] == [
            True
        ] * 2
    traced = torch.jit.trace(network, x)
    assert torch.equal(traced(x), network(x))


@pytest.mark.parametrize("architecture", ["unet", "stacked_hourglass"])
def test_onnx_computes_the_same(architecture, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(6)
    network = segmentation_network(architecture, 3, depth=2)
    arguments = {"dynamo": False, "verify": True, "use_ort": True, "rtol": 1e-3, "atol": 1e-5, "device": "cpu"}
    model = convert_to_onnx(network, [image(3, side=8)], filename=str(tmp_path / "network.onnx"), **arguments)
    assert len(model.graph.output) == 1


def test_bfloat16_autocast_runs():
    network = segmentation_network("stacked_hourglass", 2, depth=2)
    with torch.autocast("cpu", torch.bfloat16):
        maps = network(image(2))
    assert all(torch.isfinite(m.float()).all() for m in maps)


def test_factory_builds_what_it_is_asked_for():
    unet = segmentation_network("unet", 2, 2, 3, depth=3, start_channels=8, kernel_size=5, residual=True)
    assert isinstance(unet, UNet)
    assert unet(image(2, 2)).shape[1] == 3
    first = unet.features.encoders[0].convolutions[0].conv
    assert (first.in_channels, first.out_channels, first.kernel_size) == (2, 8, (5, 5))
    assert unet.features.encoders[0].residual
    for name in ("stacked_hourglass", "stacked_unet"):
        stacked = segmentation_network(name, num_stacks=3)
        assert isinstance(stacked, StackedHourglass)
        assert len(stacked.stacks) == 3


def test_factory_works_from_a_config():
    parser = ConfigParser(
        {"network": {"_target_": "voxel_ext.networks.nets.segmentation_network", "architecture": "unet", "depth": 2}}
    )
    assert isinstance(parser.get_parsed_content("network"), UNet)


def test_spatial_size_that_does_not_fit():
    network = UNet(3, depth=4, start_channels=2)
    with pytest.raises(InvalidInputError, match=r"\[60, 64, 4\].*stride 8.*\[56, 64, 8\] and \[64, 64, 8\]"):
        network(torch.zeros(1, 1, 60, 64, 4))
    with pytest.raises(InvalidInputError, match="stride 8"):
        StackedHourglass(2, depth=4, start_channels=2)(torch.zeros(1, 1, 8, 12))


@pytest.mark.parametrize("stride", [1, 2, 8])
def test_check_spatial_size_accepts_exactly_the_positive_multiples(stride):
    for side in range(20):
        if side > 0 and side % stride == 0:
            check_spatial_size([side, stride], stride)
        else:
            with pytest.raises(InvalidInputError, match="nearest sizes"):
                check_spatial_size([stride, side], stride)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 4}, "kernel_size=4 .* 3, 5, 7"),
        ({"kernel_size": 1}, "kernel_size=1 "),
        ({"spatial_dims": 4}, "spatial_dims=4 .* 2, 3"),
        ({"depth": 0}, "depth=0 "),
        ({"depth": 2.0}, "depth=2.0 "),
        ({"start_channels": 0}, "start_channels=0 "),
        ({"in_channels": -1}, "in_channels=-1 "),
        ({"out_channels": 0}, "out_channels=0 "),
        ({"num_stacks": 0}, "num_stacks=0 "),
    ],
)
@pytest.mark.parametrize("architecture", ["unet", "stacked_hourglass"])
def test_bad_arguments(architecture, arguments, message):
    if architecture == "unet" and "num_stacks" in arguments:
        assert isinstance(segmentation_network(architecture, **arguments), UNet)  # which has no stacks
        return
    with pytest.raises(InvalidInputError, match=message):
        segmentation_network(architecture, **arguments)


def test_unknown_architecture_lists_the_valid_ones():
    with pytest.raises(InvalidInputError, match=r"'unet', 'stacked_hourglass'.*Did you mean 'stacked_hourglass'"):
        segmentation_network("stacked_hourglas")


def test_parameter_limits():
    network = EncoderDecoder(2, 1, 1, 2)
    count = sum(p.numel() for p in network.parameters())
    assert check_parameter_count(network, count, count) == count
    with pytest.raises(InvalidInputError, match=rf"{count} trainable.*\[0, {count - 1}\].*max_params"):
        check_parameter_count(network, 0, count - 1)
    with pytest.raises(InvalidInputError, match="min_params"):
        check_parameter_count(network, count + 1)
    network.encoders[0].requires_grad_(False)
    assert check_parameter_count(network) == 0
