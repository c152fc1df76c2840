"""Trunk, U-Net and autoencoder on rotation groups: equivariance of whole networks, shapes, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.blocks.group_blocks import BlockSettings, DilatedBlock, ResidualBlock
from voxel_ext.networks.groups import rotation_group
from voxel_ext.networks.layers import fold_group_convolutions
from voxel_ext.networks.nets.group_autoencoder import GroupAutoEncoder
from voxel_ext.networks.nets.group_trunk import GroupTrunk, level_channels
from voxel_ext.networks.nets.group_unet import GroupUNet

GROUPS = ["V", "T4", "S4", "Oh", "C2:x", "C4:z", "D4:z"]
EXACT = {torch.float64: 1e-12, torch.float32: 1e-5}


def small(group):
    """Whether a group is small enough for the dilated block in a quick test."""
    return rotation_group(group).order <= 12


def cubes(side=8, batch=2, channels=1, dtype=torch.float32, seed=0):
    return torch.randn(batch, channels, side, side, side, generator=torch.Generator().manual_seed(seed)).to(dtype)


def randomize(network, seed=1):
    """Weights, affine parameters and running statistics that are nowhere at their initial constant."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        with torch.no_grad():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=generator)
            elif tensor.dim() < 2 or name.endswith("running_mean"):
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator) + (name.endswith("norm.weight")))
    return network


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def worst_error(network, group, x, features=False):
    """The largest relative error of f(h x) against h f(x) over all elements, and the smallest effect of a turn.

    In training mode the elements are run one by one, since a batch norm would mix them.
    """
    elements = rotation_group(group)
    turned = [elements.act(x, element) for element in range(elements.order)]
    with torch.no_grad():
        found = [network(t) for t in turned] if network.training else network(torch.cat(turned)).split(len(x))
    expected = [(elements.act_features if features else elements.act)(found[0], g) for g in range(elements.order)]
    errors = [relative_error(f, e) for f, e in zip(found, expected, strict=True)]
    return max(errors), min(relative_error(f, found[0]) for f in found[1:])


class Function(nn.Module):
    """Part of a network as a module, for ``worst_error``."""

    def __init__(self, function):
        super().__init__()
        self.forward = function
        self.eval()


def every_parameter_gets_gradient(network, outputs):
    sum(output.square().mean() for output in outputs).backward()
    return [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any() or p.grad.isnan().any()]


@pytest.mark.parametrize("dtype", list(EXACT))
@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("group", GROUPS)
def test_the_output_turns_with_the_input(group, skips, dtype):
    torch.manual_seed(0)
    network = randomize(GroupUNet(group, skips=skips, features=(2, 3), dilated=small(group))).to(dtype).eval()
    error, effect = worst_error(network, group, cubes(4 if group == "Oh" else 8, batch=1, dtype=dtype))
    assert error < EXACT[dtype]
    assert effect > 1e-2


@pytest.mark.parametrize("group", GROUPS)
def test_the_output_turns_with_the_input_in_training_mode(group):
    torch.manual_seed(1)
    network = randomize(GroupUNet(group, features=(2, 3), dilated=False)).double().train()
    error, effect = worst_error(network, group, cubes(8 if small(group) else 4, dtype=torch.float64))
    assert error < 1e-12
    assert effect > 1e-2


VARIANTS = [
    {"norm": "instance"},
    {"norm": "switchable"},
    {"norm": "group"},
    {"norm": None, "activation": "elu"},
    {"pooling": "max", "group_pooling": "max", "activation": "relu"},
    {"upsampling": "nearest", "kernel_size": 5, "dilated": False},
    {"input_pooling": 2, "final_activation": "sigmoid"},
    {"input_pooling": 2, "upsampling": "nearest"},
    {"out_channels": 3, "final_activation": "softmax", "in_channels": 2},
    {"features": (2, 2, 2)},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_every_setting_is_equivariant(settings):
    torch.manual_seed(2)
    network = randomize(GroupUNet("T4", **{"features": (2, 3), **settings})).double().eval()
    x = cubes(4 if "kernel_size" in settings else 8, 1, settings.get("in_channels", 1), torch.float64)
    error, effect = worst_error(network, "T4", x)
    assert error < 1e-12
    assert effect > 1e-4


def test_a_plain_network_is_not_equivariant():
    torch.manual_seed(3)
    network = randomize(GroupUNet(None, features=(4, 6))).double().eval()
    error, _ = worst_error(network, "V", cubes(batch=1, dtype=torch.float64))
    assert error > 1e-2


@pytest.mark.parametrize("group", ["V", "S4"])
def test_the_code_and_every_level_turn_as_maps_on_the_group(group):
    torch.manual_seed(4)
    network = randomize(GroupAutoEncoder(group, features=(2, 3))).double().eval()
    x = cubes(batch=1, dtype=torch.float64)
    assert worst_error(Function(network.encode), group, x, features=True)[0] < 1e-12
    for level in range(2):
        assert worst_error(Function(lambda y, level=level: network.trunk(y)[level]), group, x, features=True)[0] < 1e-12


def test_the_gradient_turns_with_the_input():
    torch.manual_seed(5)
    group, network = rotation_group("S4"), randomize(GroupUNet("S4", features=(2, 3))).double().eval()
    x, weight = cubes(batch=1, dtype=torch.float64), cubes(batch=1, dtype=torch.float64, seed=9)

    def gradient(image, target):
        image = image.clone().requires_grad_()
        return torch.autograd.grad((network(image) * target).sum(), image)[0]

    upright = gradient(x, weight)
    for element in (1, 7, 18):
        turned = gradient(group.act(x, element), group.act(weight, element))
        assert relative_error(turned, group.act(upright, element)) < 1e-12


def test_autoencoder_decodes_its_code():
    torch.manual_seed(6)
    network = randomize(GroupAutoEncoder("V", features=(2, 3), input_pooling=2)).eval()
    x = cubes()
    code = network.encode(x)
    assert code.shape == (2, 3, 4, 2, 2, 2)
    assert torch.equal(network.decode(code), network(x))
    with_skips = GroupAutoEncoder("V", skips=True, features=(2, 3)).eval()
    with pytest.raises(InvalidInputError, match="skips=False"):
        with_skips.decode(with_skips.encode(x))


def test_without_skips_only_the_code_reaches_the_output():
    torch.manual_seed(7)
    x = cubes()
    for skips, reaches in ((False, False), (True, True)):
        network = GroupUNet(None, skips=skips, features=(2, 3)).eval()
        maps = network.trunk(x)
        other = [maps[0] + 1, maps[1]]
        assert torch.equal(network.decoder(maps), network.decoder(other)) != reaches


@pytest.mark.parametrize("group", [None, "V"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_shapes(group, depth):
    network = GroupUNet(group, 2, 3, depth=depth, divider=32, dilated=depth == 2).eval()
    x = torch.randn(1, 2, 8, 16, 8)
    with torch.no_grad():
        maps = network.trunk(x)
        assert network(x).shape == (1, 3, 8, 16, 8)
    axis = [] if group is None else [4]
    expected = [[1, 2 * 2**level, *axis, *(n // 2**level for n in (8, 16, 8))] for level in range(depth)]
    assert [list(m.shape) for m in maps] == expected
    assert network.stride == 2 ** (depth - 1)


@pytest.mark.parametrize("group", [None, "V", "T4"])
@pytest.mark.parametrize("skips", [True, False])
def test_gradients_reach_every_parameter(group, skips):
    torch.manual_seed(8)
    network = GroupAutoEncoder(group, skips=skips, features=(2, 3))
    assert every_parameter_gets_gradient(network, [network(cubes())]) == []


@pytest.mark.parametrize("group", [None, "V"])
def test_residual_block_is_its_equation(group):
    torch.manual_seed(9)
    block = randomize(ResidualBlock(BlockSettings(group), 2, 3, inner_channels=5, first_kernel_size=1, dilation=2))
    assert [name for name, _ in block.first.named_children()] == ["conv", "act", "norm"]
    assert [name for name, _ in block.second.named_children()] == ["conv", "norm"]
    x = torch.randn(2, 2, *([] if group is None else [4]), 6, 6, 6)
    inner = block.first.norm(nn.functional.leaky_relu(block.first.conv(x), 0.01))
    expected = nn.functional.leaky_relu(block.second.norm(block.second.conv(inner)) + block.shortcut(x), 0.01)
    torch.testing.assert_close(block(x), expected)


def test_the_dilated_block_sees_14_voxels_each_way():
    torch.manual_seed(10)
    block = DilatedBlock(BlockSettings(None, norm=None, activation="elu"), 1).double()
    x = torch.zeros(1, 1, 1, 1, 33, dtype=torch.float64, requires_grad=True)
    block(x)[..., 16].sum().backward()
    assert x.grad.flatten().nonzero().flatten().tolist() == list(range(2, 31))
    assert sum(isinstance(module, DilatedBlock) for module in GroupTrunk(None, depth=3, divider=32).modules()) == 1
    assert isinstance(GroupTrunk(None, depth=3, divider=32).levels[1][1], DilatedBlock)


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_of_the_default_widths():
    assert count(GroupTrunk(None, depth=3)) == 570_192
    assert level_channels(4, 4) == (16, 32, 64, 128)
    assert level_channels(3, 4, [5, 7]) == (5, 7)


@pytest.mark.parametrize(("network", "group"), [(GroupUNet, None), (GroupUNet, "S4"), (GroupAutoEncoder, "V")])
def test_scripted_and_folded_networks_agree(network, group):
    torch.manual_seed(11)
    eager = randomize(network(group, features=(2, 3), input_pooling=2, dilated=False)).eval()
    x = cubes()
    expected = eager(x)
    torch.testing.assert_close(torch.jit.script(eager)(x), expected, rtol=1e-5, atol=1e-6)
    folded = fold_group_convolutions(eager)
    torch.testing.assert_close(folded(x), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.jit.script(folded)(x), expected, rtol=1e-5, atol=1e-6)


def test_wrong_inputs_are_refused():
    network = GroupUNet("V", features=(2, 2), input_pooling=3)
    with pytest.raises(InvalidInputError, match=r"stride 6.*\[6, 6, 6\] and \[12, 12, 12\]"):
        network(torch.zeros(1, 1, 8, 8, 8))
    with pytest.raises(InvalidInputError, match=r"\[1, 2, 6, 6, 6\].*expected \(B, 1, D, H, W\)"):
        network(torch.zeros(1, 2, 6, 6, 6))
    with pytest.raises(InvalidInputError, match=r"expected \(B, 1, D, H, W\)"):
        network(torch.zeros(1, 6, 6, 6))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group": "S5"}, "S5"),
        ({"divider": 3}, "divider=3"),
        ({"divider": 0}, "divider=0"),
        ({"depth": 0}, "depth=0"),
        ({"features": ()}, "at least one level"),
        ({"features": (4, 0)}, r"features\[1\]=0"),
        ({"kernel_size": 4}, "kernel_size=4"),
        ({"norm": "bathc"}, "bathc"),
        ({"activation": "gelo"}, "gelo"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"dropout_kind": "normal"}, "dropout_kind='normal'"),
        ({"pooling": "min"}, "pooling='min'"),
        ({"input_pooling": 0}, "input_pooling=0"),
        ({"group_pooling": "sum"}, "group_pooling='sum'"),
        ({"upsampling": "cubic"}, "upsampling='cubic'"),
        ({"final_activation": "sigmoit"}, "Did you mean 'sigmoid'"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"out_channels": 0}, "out_channels=0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        GroupUNet(**{"group": "V", **settings})


@pytest.mark.parametrize("kind", ["standard", "gaussian"])
@pytest.mark.parametrize("group", [None, "V"])
def test_dropout_acts_in_training_mode_only(group, kind):
    torch.manual_seed(12)
    network = GroupUNet(group, features=(4, 4), dropout=0.5, dropout_kind=kind, norm=None, dilated=False)
    x = cubes()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
