"""Features of positions and cubes side by side, and frozen parts."""

import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks import freeze
from voxel_ext.networks.nets import MatchingNet, matching_network

TINY = {"group": "V", "features": (2, 3), "hidden": 8, "grid": 2, "input_pooling": 2, "dilated": False}
ATTENTION = {"attention_layers": 1, "attention_width": 24, "attention_heads": 2, "out_features": 16}


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return matching_network(
        "both", fusion="concatenate", pool_group="after", mlp_dropout=0.0, **TINY, **ATTENTION
    ).eval()


@pytest.fixture
def worms() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 5, 1, 16, 16, 16), torch.randn(2, 5, 3)


def test_cosine_is_the_weighted_sum_of_the_parts(network, worms):
    cubes, positions = worms
    with torch.no_grad():
        network.balance.fill_(0.7)
        both, of_cubes, of_positions = network(cubes, positions), network(cubes), network(None, positions)
    cosine = [(f[0] @ f[1].mT) / 16 for f in (both, of_cubes, of_positions)]
    weight = torch.sigmoid(torch.tensor(0.7))
    torch.testing.assert_close(cosine[0], (1 - weight) * cosine[1] + weight * cosine[2])


@pytest.mark.parametrize("given", ["both", "cubes", "positions"])
def test_features_have_a_mean_square_of_one(network, worms, given):
    cubes, positions = worms
    features = network(None if given == "positions" else cubes, None if given == "cubes" else positions)
    assert features.shape == (2, 5, 16)
    torch.testing.assert_close(features.square().mean(-1), torch.ones(2, 5))


def test_turned_cubes_keep_their_features(network, worms):
    cubes, positions = worms
    torch.testing.assert_close(network(cubes.flip(-1, -2), positions), network(cubes, positions), rtol=1e-4, atol=1e-5)


def test_encoder_too_wide_to_be_joined():
    encoder = torch.nn.Flatten()
    encoder.out_features = 16
    with pytest.raises(InvalidInputError, match="fewer than out_features=16"):
        MatchingNet(encoder, fusion="concatenate", out_features=16)


def test_unknown_fusion():
    with pytest.raises(InvalidInputError, match="fusion='sum'"):
        MatchingNet(None, fusion="sum")


def test_frozen_parts_get_no_gradient(network, worms):
    freeze(network, ["from_positions", "attention", "head"])
    network.train()(*worms).square().mul(torch.rand(16)).sum().backward()
    trained = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert trained == {"encoder", "balance"}


def test_frozen_part_that_is_not_there(network):
    with pytest.raises(InvalidInputError, match=r"'trunk'; its parts are .*encoder"):
        freeze(network, ["trunk"])
