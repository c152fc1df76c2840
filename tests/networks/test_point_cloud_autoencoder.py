"""Autoencoder of point clouds: what does not depend on order and number of points, shapes, decoders, export."""

from __future__ import annotations

import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.chamfer import ChamferLoss
from voxel_ext.networks.nets.point_cloud_autoencoder import PointCloudAutoEncoder, orthogonality

SMALL = {"num_points": 30, "latent_size": 24, "channels": (8, 16, 24), "decoder_channels": (32, 16)}
VARIANTS = [
    {},
    {"input_transform": True},
    {"decoder": "folding"},
    {"variational": True},
    {"decoder": "folding", "variational": True, "input_transform": True, "latent_size": 10},
]


def network(seed=0, **settings):
    torch.manual_seed(seed)
    net = PointCloudAutoEncoder(**{**SMALL, **settings})
    if net.input_transform is not None:  # identity otherwise, whatever the points
        torch.nn.init.normal_(net.input_transform.matrix.output.weight, std=0.05)
    return net


def clouds(batch=2, points=50, seed=1):
    return torch.randn(batch, points, 3, generator=torch.Generator().manual_seed(seed))


def make_exact(net):
    """Turn the weights into multiples of 1/4 and the norms into nothing, so that sums are exact in any order."""
    for parameter in net.parameters():
        parameter.data = (4 * parameter.data).round() / 4
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eps = 0.0


@pytest.mark.parametrize("settings", VARIANTS)
def test_order_of_points_does_not_matter(settings):
    net = network(**settings).double().eval()
    x = clouds(points=101).double()
    order = torch.randperm(101, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(net.encode(x[:, order]), net.encode(x), rtol=1e-13, atol=1e-14)


def test_order_of_points_does_not_matter_exactly():
    net = network(input_transform=True).double().eval()
    make_exact(net)
    x = (8 * clouds(points=101)).round().double() / 8
    order = torch.randperm(101, generator=torch.Generator().manual_seed(2))
    code = net.encode(x)
    assert code.std() > 0
    assert torch.equal(net.encode(x[:, order]), code)
    assert torch.equal(net(x[:, order])["reconstruction"], net(x)["reconstruction"])


def test_points_taken_twice_do_not_matter():
    net = network(input_transform=True).eval()
    x = clouds()
    torch.testing.assert_close(net.encode(torch.cat([x, x[:, :20]], dim=1)), net.encode(x))


def test_latent_tells_clouds_apart():
    net = network().eval()
    code = net.encode(clouds(batch=2))
    assert (code[0] - code[1]).norm() > 0.1 * code.norm()


@pytest.mark.parametrize("points", [1, 7, 64])
@pytest.mark.parametrize("settings", VARIANTS)
def test_shapes(settings, points):
    net = network(**settings).eval()
    latent = settings.get("latent_size", 24)
    result = net(clouds(3, points))
    expected = {"reconstruction": (3, 30, 3), "latent": (3, latent)}
    if "variational" in settings:
        expected |= {"mean": (3, latent), "log_variance": (3, latent)}
    if "input_transform" in settings:
        expected["orthogonality"] = (3,)
    assert {name: tuple(value.shape) for name, value in result.items()} == expected


def test_defaults_are_those_of_the_paper():
    net = PointCloudAutoEncoder()
    weights = [tuple(p.shape) for name, p in net.encoder.named_parameters() if name.endswith("conv.weight")]
    assert weights == [(64, 3, 1), (64, 64, 1), (64, 64, 1), (128, 64, 1), (512, 128, 1)]
    linear = [(m.in_features, m.out_features) for m in net.decoder.modules() if isinstance(m, torch.nn.Linear)]
    assert linear == [(512, 1024), (1024, 1024), (1024, 15000)]
    assert sum(isinstance(m, torch.nn.BatchNorm1d) for m in net.modules()) == 5
    assert tuple(net.eval()(clouds(1, 20))["reconstruction"].shape) == (1, 5000, 3)


@pytest.mark.parametrize("settings", VARIANTS)
def test_forward_is_encode_and_decode(settings):
    net = network(**settings).eval()
    x = clouds()
    result = net(x)
    assert torch.equal(result["latent"], net.encode(x))
    assert torch.equal(result["reconstruction"], net.decode(result["latent"]))


def test_layer_after_the_maximum_only_where_needed():
    assert isinstance(network().latent, torch.nn.Identity)
    assert network(latent_size=5).latent.weight.shape == (5, 24)
    assert network(variational=True).latent.weight.shape == (24, 24)


def test_variational_samples_in_training_only():
    net = network(variational=True)
    x = clouds(batch=1)
    torch.manual_seed(0)
    samples = net.train()(x.expand(4000, -1, -1))
    assert torch.equal(samples["mean"], net.encode(x.expand(4000, -1, -1)))
    deviation = (samples["latent"] - samples["mean"]) / (0.5 * samples["log_variance"]).exp()
    assert deviation.mean(0).abs().max() < 5 / 4000**0.5
    assert (deviation.std(0) - 1).abs().max() < 0.06
    with torch.no_grad():
        result = net.eval()(x)
    assert torch.equal(result["latent"], result["mean"])


def test_mean_and_log_variance_are_linear():
    net = network(variational=True).eval()
    result = net(clouds(batch=64))
    assert (result["mean"] < 0).any()
    assert (result["log_variance"] < 0).any()
    features = net.encoder(clouds(batch=64).mT).amax(-1)
    torch.testing.assert_close(result["log_variance"], features @ net.log_variance.weight.T + net.log_variance.bias)


def test_input_transform_is_the_identity_at_first():
    torch.manual_seed(0)
    net = PointCloudAutoEncoder(**SMALL, input_transform=True).eval()
    x = clouds()
    torch.testing.assert_close(net.input_transform(x), torch.eye(3).expand(2, 3, 3))
    assert net(x)["orthogonality"].tolist() == [0, 0]


def test_orthogonality_is_its_formula():
    turn = torch.linalg.qr(torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(0)))[0]
    torch.testing.assert_close(orthogonality(turn), torch.zeros(5), atol=1e-10, rtol=0)
    # I - 4 I = -3 I
    torch.testing.assert_close(orthogonality(2 * turn), torch.full((5,), 27.0))
    net = network(input_transform=True).eval()
    x = clouds()
    matrix = net.input_transform(x)
    expected = torch.linalg.matrix_norm(torch.eye(3) - matrix @ matrix.mT) ** 2
    torch.testing.assert_close(net(x)["orthogonality"], expected)


def test_folding_is_a_perceptron_of_latent_and_point():
    net = network(decoder="folding", decoder_channels=(6, 5)).double().eval()
    latent = torch.randn(2, 24, dtype=torch.float64)

    def fold(folding, points):
        joined = torch.cat([latent[:, None].expand(-1, points.shape[1], -1), points], dim=2)
        weight = torch.cat([folding.latent.weight, folding.points.weight], dim=1)
        hidden = (joined @ weight.T + folding.latent.bias).relu()
        hidden = (hidden @ folding.layers[1].weight.T + folding.layers[1].bias).relu()
        return hidden @ folding.layers[3].weight.T + folding.layers[3].bias

    square = net.decoder.square.expand(2, -1, -1)
    expected = fold(net.decoder.second, fold(net.decoder.first, square))
    torch.testing.assert_close(net.decode(latent), expected)


@pytest.mark.parametrize("count", [1, 30, 127, 2025])
def test_square_of_folding_is_covered_evenly(count):
    square = network(decoder="folding", num_points=count).decoder.square
    assert tuple(square.shape) == (count, 2)
    assert square.abs().max() <= 1
    if count > 1:
        apart = torch.cdist(square, square).fill_diagonal_(9).min()
        assert apart > 0.6 * 2 / count**0.5  # a grid has 1 × 2 / √count


@pytest.mark.parametrize("settings", VARIANTS)
def test_one_cloud_can_be_learned(settings):
    net = network(**settings).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    x = torch.nn.functional.normalize(clouds(batch=1), dim=-1)
    losses = []
    for _ in range(40):
        loss = ChamferLoss()(net(x)["reconstruction"], x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.7 * losses[0]
    assert all(p.grad is not None for name, p in net.named_parameters())


@pytest.mark.parametrize("settings", VARIANTS)
def test_torchscript(settings, tmp_path):
    net = network(**settings).eval()
    torch.jit.save(torch.jit.script(net), tmp_path / "net.ts")
    scripted = torch.jit.load(tmp_path / "net.ts")
    for points in (5, 60):
        x = clouds(points=points)
        expected, found = net(x), scripted(x)
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)
        torch.testing.assert_close(scripted.decode(scripted.encode(x)), expected["reconstruction"])
    with pytest.raises(torch.jit.Error, match=r"expected \(B, P, 3\)"):
        scripted(torch.zeros(1, 3, 5))


def test_weights_load_again():
    first, second = network(0, decoder="folding"), network(1, decoder="folding")
    second.load_state_dict(first.state_dict())
    x = clouds()
    assert torch.equal(first.eval()(x)["reconstruction"], second.eval()(x)["reconstruction"])
    assert not any("square" in name for name in first.state_dict())


@pytest.mark.parametrize("shape", [(2, 3, 50), (50, 3), (2, 0, 3), (2, 50, 4), (2, 1, 50, 3)])
def test_bad_shapes(shape):
    with pytest.raises(InvalidInputError, match=r"expected \(B, P, 3\)"):
        network().eval()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decoder": "fold"}, "Did you mean 'folding'"),
        ({"num_points": 0}, r"num_points=\[0\]"),
        ({"latent_size": -1}, r"latent_size=\[-1\]"),
        ({"channels": ()}, r"channels=\[\]"),
        ({"decoder_channels": (32, 0)}, r"decoder_channels=\[32, 0\]"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        network(**settings)
