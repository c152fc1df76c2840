"""The loss of an autoencoder of point clouds against the sum of its terms."""

from __future__ import annotations

import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses import ChamferLoss, EarthMoverLoss, PointCloudLoss, gaussian_kl
from voxel_ext.networks.nets import PointCloudAutoEncoder


def clouds(points, seed, batch=3):
    return torch.rand(batch, points, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("search", ["chunked", "tree"])
def test_terms_are_added_with_their_weights(search):
    target, mean, spread = clouds(20, 0), clouds(4, 1)[..., 0], clouds(4, 2)[..., 0]
    pred = {
        "reconstruction": clouds(30, 3),
        "mean": mean,
        "log_variance": spread,
        "orthogonality": torch.tensor([1.0, 2.0, 6.0]),
    }
    loss = PointCloudLoss(beta=0.25, orthogonality_weight=0.5, search=search, warmup="constant")
    distance, kl = ChamferLoss()(pred["reconstruction"], target), gaussian_kl(mean, spread).mean()
    torch.testing.assert_close(loss(pred, target), distance + 0.25 * kl + 0.5 * 3)
    torch.testing.assert_close(loss.last_parts, {"distance": distance, "kl": kl, "orthogonality": torch.tensor(3.0)})


@pytest.mark.parametrize(
    ("name", "expected"), [("earth_mover", EarthMoverLoss()), ("sinkhorn", EarthMoverLoss("sinkhorn"))]
)
def test_earth_movers_distance(name, expected):
    prediction, target = clouds(16, 0), clouds(16, 1)
    loss = PointCloudLoss(name)
    torch.testing.assert_close(loss({"reconstruction": prediction}, target), expected(prediction, target))
    assert list(loss.last_parts) == ["distance"]


def test_the_weight_of_the_divergence_rises():
    pred = {"reconstruction": clouds(8, 0), "mean": clouds(4, 1)[..., 0], "log_variance": clouds(4, 2)[..., 0]}
    loss = PointCloudLoss(beta=0.5, warmup="linear", warmup_length=4)
    kl, totals = gaussian_kl(pred["mean"], pred["log_variance"]).mean(), []
    for epoch in range(6):
        loss.set_epoch(epoch)
        totals.append(loss(pred, pred["reconstruction"]))
    torch.testing.assert_close(torch.stack(totals), kl * torch.tensor([0.0, 0.125, 0.25, 0.375, 0.5, 0.5]))
    cyclic = PointCloudLoss(beta=0.5, warmup="cyclic", warmup_length=4)
    cyclic.set_epoch(5)
    assert cyclic.current_beta == 0.25


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("input_transform", [False, True])
def test_it_takes_the_output_of_the_network(variational, input_transform):
    torch.manual_seed(0)
    network = PointCloudAutoEncoder(
        12, 4, (8, 8), input_transform, decoder_channels=(8,), variational=variational
    ).train()
    loss = PointCloudLoss()
    loss(network(clouds(20, 0)), clouds(20, 0)).backward()
    expected = {"distance"} | ({"kl"} if variational else set()) | ({"orthogonality"} if input_transform else set())
    assert set(loss.last_parts) == expected
    reached = [parameter.grad is not None for parameter in network.parameters()]
    assert all(reached)
    if variational:
        assert network.log_variance.weight.grad.abs().sum() > 0


def test_a_greater_beta_pulls_the_code_to_the_normal_distribution():
    divergence = {}
    for beta in (0.0, 1.0):
        torch.manual_seed(0)
        network = PointCloudAutoEncoder(8, 4, (16,), decoder_channels=(16,), variational=True)
        loss, optimizer = PointCloudLoss(beta=beta, warmup="constant"), torch.optim.Adam(network.parameters(), 0.02)
        for _ in range(40):
            optimizer.zero_grad()
            loss(network(clouds(16, 5, batch=8)), clouds(16, 5, batch=8)).backward()
            optimizer.step()
        divergence[beta] = float(loss.last_parts["kl"])
    assert divergence[1.0] < 0.1 * divergence[0.0]


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"distance": "chamfers"}, "distance='chamfers'.*'chamfer'"),
        ({"beta": -1}, "beta=-1"),
        ({"beta": float("nan")}, "beta=nan"),
        ({"warmup": "steep"}, "warmup='steep'.*'cyclic'"),
        ({"warmup_length": 0}, "warmup_length=0"),
        ({"orthogonality_weight": True}, "orthogonality_weight=True"),
        ({"search": "none"}, "search='none'"),
    ],
)
def test_bad_settings(setting, match):
    with pytest.raises(InvalidInputError, match=match):
        PointCloudLoss(**setting)


def test_bad_outputs():
    with pytest.raises(InvalidInputError, match=r"no 'reconstruction'; found \['latent'\]"):
        PointCloudLoss()({"latent": clouds(4, 0)}, clouds(4, 0))
    with pytest.raises(InvalidInputError, match="found Tensor"):
        PointCloudLoss()(clouds(4, 0), clouds(4, 0))
    with pytest.raises(InvalidInputError, match="sinkhorn"):
        PointCloudLoss("earth_mover")({"reconstruction": clouds(4, 0)}, clouds(5, 0))
