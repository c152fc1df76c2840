"""Feature encoder on rotation groups: what is invariant, what is not, and its equations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.blocks.group_descriptor import GroupDescriptor, orientation_index
from voxel_ext.networks.groups import rotation_group
from voxel_ext.networks.layers import fold_group_convolutions
from voxel_ext.networks.nets.group_autoencoder import GroupAutoEncoder
from voxel_ext.networks.nets.group_encoder import GroupEncoder

GROUPS = ["V", "T4", "S4", "Oh", "C2:x", "C4:z", "D4:z"]


def cubes(side=8, batch=2, dtype=torch.float32, seed=0):
    return torch.randn(batch, 1, side, side, side, generator=torch.Generator().manual_seed(seed)).to(dtype)


def encoder(group, seed=0, **settings):
    """A small encoder whose parameters and statistics are nowhere at their initial constant."""
    torch.manual_seed(seed)
    small = {"features": (2, 3), "out_features": 5, "hidden": 7, "grid": 2, "dilated": False}
    network = GroupEncoder(group, **{**small, **settings})
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 2)
        elif tensor.is_floating_point() and tensor.dim() < 2:
            nn.init.normal_(tensor, float(name.endswith("norm.weight")), 0.3)
    return network


def changes(network, group, x):
    """Relative change of a feature for each element but the identity by which the input is turned.

    In training mode the elements are run one by one, since a batch norm would mix them.
    """
    elements = rotation_group(group)
    turned = [elements.act(x, element) for element in range(elements.order)]
    with torch.no_grad():
        found = [network(t) for t in turned] if network.training else network(torch.cat(turned)).split(len(x))
    return [((f - found[0]).norm() / found[0].norm()).item() for f in found[1:]]


class Function(nn.Module):
    """Part of a network as a module, for ``changes``."""

    def __init__(self, function):
        super().__init__()
        self.forward = function
        self.eval()


@pytest.mark.parametrize("pool_group", ["before", "after"])
@pytest.mark.parametrize("mode", ["invariant", "oriented"])
@pytest.mark.parametrize("group", GROUPS)
def test_the_feature_is_invariant(group, mode, pool_group):
    network = encoder(group, mode=mode, pool_group=pool_group).eval()
    x = cubes(4 if group == "Oh" else 8)
    assert max(changes(network, group, x)) < 1e-5
    assert max(changes(network.double(), group, x.double())) < 1e-12


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "invariant", "spatial_pooling": "mean+max", "normalize": True},
        {"mode": "invariant", "spatial_pooling": "max", "mlp": False},
        {"mode": "oriented", "pool_group": "after", "group_pooling": "mean", "features": (2, 2, 3)},
        {"mode": "oriented", "grid": 3, "pool_group": "after"},
        {"mode": "oriented", "grid": 3, "mlp": False, "pool_group": "after", "input_pooling": 2},
        {"mode": "oriented", "features": (2,), "pooling": "max", "norm": "switchable"},
        {"mode": "oriented", "pool_group": "after", "dilated": True},
    ],
    ids=str,
)
def test_every_setting_is_invariant(settings):
    network = encoder("S4", **settings).double().eval()
    assert max(changes(network, "S4", cubes(dtype=torch.float64))) < 1e-12


def test_the_feature_is_invariant_in_training_mode_without_dropout():
    network = encoder("T4", mode="oriented", pool_group="after", mlp_dropout=0.0).double().train()
    assert max(changes(network, "T4", cubes(dtype=torch.float64))) < 1e-12


@pytest.mark.parametrize("group", [None, "V", "S4"])
@pytest.mark.parametrize("pool_group", ["before", "after"])
def test_the_grid_is_not_invariant(group, pool_group):
    network = encoder(group, pool_group=pool_group).double().eval()
    assert min(changes(network, group or "S4", cubes(dtype=torch.float64))) > 1e-3


def test_a_plain_network_is_not_invariant():
    network = encoder(None, mode="invariant").double().eval()
    assert min(changes(network, "S4", cubes(dtype=torch.float64))) > 1e-6


def test_the_oriented_feature_sees_turns_that_are_not_in_the_group():
    network = encoder("V", mode="oriented", pool_group="after").double().eval()
    quarter = torch.rot90(cubes(dtype=torch.float64), 1, (2, 3))
    with torch.no_grad():
        y, turned = network(cubes(dtype=torch.float64)), network(quarter)
    assert (turned - y).norm() / y.norm() > 1e-3


def test_the_oriented_feature_keeps_the_layout():
    """Two inputs whose levels have equal histograms per element: the invariant mode cannot tell them apart."""
    torch.manual_seed(0)
    x = torch.randn(1, 3, 4, 4, 4, 4)
    mixed = x.flatten(3)[..., torch.randperm(64)].view_as(x)
    flat = GroupDescriptor("V", 3, "invariant", spatial_pooling="mean+max", pool_group="after")
    torch.testing.assert_close(flat(x), flat(mixed))
    oriented = GroupDescriptor("V", 3, "oriented", grid=4, pool_group="after")
    assert (oriented(x) - oriented(mixed)).norm() > 1


@pytest.mark.parametrize("group", ["V", "S4", "C4:x"])
def test_turning_the_map_permutes_the_oriented_vectors(group):
    elements = rotation_group(group)
    x = torch.randn(2, 3, elements.order, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    descriptor = GroupDescriptor(group, 3, "oriented", grid=2, pool_group="after")
    upright = descriptor(x)
    assert upright.shape == (2, elements.order, 3 * 8)
    for h in range(elements.order):
        source = elements.cayley[elements.inverse[h]]  # index of h^-1 g for each g
        torch.testing.assert_close(descriptor(elements.act_features(x, h)), upright[:, source])


def test_orientation_index_turns_back():
    elements = rotation_group("S4")
    grid = torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(2))
    for g, index in enumerate(orientation_index("S4", 3)):
        assert torch.equal(elements.act(grid, g).flatten()[index], grid.flatten())


def test_the_encoder_is_its_equation():
    x = cubes()
    for pool_group in ("before", "after"):
        network = encoder("V", pool_group=pool_group).eval()
        lowest = network.trunk(x)[-1]
        if pool_group == "before":  # maximum over the group, 2³ means, flattened, MLP
            vectors = nn.functional.avg_pool3d(lowest.amax(2), 2).flatten(1)
            expected = network.mlp(vectors)
        else:
            vectors = torch.stack([nn.functional.avg_pool3d(lowest[:, :, g], 2).flatten(1) for g in range(4)])
            expected = network.mlp(vectors).amax(0)
        torch.testing.assert_close(network(x), expected)
    plain = encoder(None, mode="invariant", spatial_pooling="mean+max", mlp=False).eval()
    lowest = plain.trunk(x)[-1]
    torch.testing.assert_close(plain(x), torch.cat([lowest.mean((2, 3, 4)), lowest.amax((2, 3, 4))], 1))


def test_features_can_have_unit_length():
    network = encoder("V", mode="oriented", normalize=True, feature_levels=(0, 1)).eval()
    for feature in network.level_features(cubes()):
        torch.testing.assert_close(feature.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("mode", ["grid", "invariant", "oriented"])
def test_level_features(mode):
    network = encoder("V", mode=mode, feature_levels=[0, 1]).eval()
    x = cubes(dtype=torch.float32)
    top, lowest, feature = network.level_features(x)
    cells = 1 if mode == "invariant" else 8
    assert (top.shape, lowest.shape) == ((2, 2 * cells), (2, 3 * cells))
    assert torch.equal(feature, network(x))
    if mode != "grid":
        network.double()
        for index in range(3):
            errors = changes(Function(lambda y, i=index: network.level_features(y)[i]), "V", x.double())
            assert max(errors) < 1e-12
    assert len(encoder(None).eval().level_features(x)) == 1


@pytest.mark.parametrize("group", [None, "V"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_shapes(group, depth):
    network = GroupEncoder(group, 2, 6, depth=depth, divider=32, hidden=4, dilated=False, grid=2).eval()
    assert network(torch.randn(3, 2, 8, 8, 8)).shape == (3, 6)
    assert network.out_features == 6
    bare = GroupEncoder(group, mlp=False, depth=depth, divider=32, dilated=False).eval()
    assert bare(torch.randn(1, 1, 8, 8, 8)).shape == (1, bare.out_features)
    assert bare.out_features == 2 * 2 ** (depth - 1) * 64


@pytest.mark.parametrize(("group", "mode"), [(None, "grid"), ("V", "grid"), ("V", "invariant"), ("T4", "oriented")])
@pytest.mark.parametrize("pool_group", ["before", "after"])
def test_gradients_reach_every_parameter(group, mode, pool_group):
    network = encoder(group, mode=mode, pool_group=pool_group, mlp_dropout=0.0, hidden=16, dilated=True)
    network(cubes(batch=4)).square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_parameter_counts_of_the_default_widths():
    def count(**settings):
        return sum(p.numel() for p in GroupEncoder(depth=3, divider=4, **settings).parameters())

    assert count(group=None) == 5_027_920
    assert [count(group=group) for group in ("V", "T4", "S4")] == [6_729_040, 11_265_360, 18_069_840]


@pytest.mark.parametrize(
    ("group", "mode", "pool_group"),
    [
        (None, "invariant", "before"),
        ("V", "grid", "before"),
        ("V", "invariant", "after"),
        ("S4", "oriented", "before"),
        ("C2:x", "oriented", "after"),
    ],
)
def test_scripted_and_folded_encoders_agree(group, mode, pool_group):
    levels = [0] if pool_group == "before" else []
    network = encoder(group, mode=mode, pool_group=pool_group, feature_levels=levels, input_pooling=2).eval()
    x = cubes()
    expected = network.level_features(x)
    for other in (torch.jit.script(network), fold_group_convolutions(network)):
        torch.testing.assert_close(other(x), expected[-1], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(other.level_features(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("group", [None, "V"])
def test_the_autoencoder_has_the_same_trunk(group):
    source = GroupAutoEncoder(group, features=(2, 3))
    network = encoder(group, dilated=True)
    weights = {name: value for name, value in source.state_dict().items() if name.startswith("trunk.")}
    result = network.load_state_dict(weights, strict=False)
    assert result.unexpected_keys == []
    assert {name.split(".")[0] for name in result.missing_keys} == {"mlp"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group": None, "mode": "oriented"}, "needs a group"),
        ({"mode": "gird"}, "Did you mean 'grid'"),
        ({"pool_group": "never"}, "pool_group='never'"),
        ({"group_pooling": "sum"}, "group_pooling='sum'"),
        ({"spatial_pooling": "sum"}, "spatial_pooling='sum'"),
        ({"grid": 0}, "grid=0"),
        ({"hidden": 0}, "hidden=0"),
        ({"out_features": 0}, "out_features=0"),
        ({"mlp_dropout": 1.5}, "mlp_dropout=1.5"),
        ({"feature_levels": [2]}, r"feature_levels=\[2\].*2 levels.*0 to 1"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        encoder(**{"group": "V", **settings})


def test_wrong_sizes_are_refused():
    with pytest.raises(InvalidInputError, match="stride 4"):
        encoder("V", input_pooling=2)(torch.zeros(1, 1, 6, 6, 6))
