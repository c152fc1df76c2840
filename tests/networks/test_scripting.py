"""Every network of the bundles compiles to TorchScript and computes the same; the wrappers keep the state dict."""

import io

import pytest
import torch
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.nets import (
    FeatureNetwork,
    GroupAutoEncoder,
    GroupUNet,
    MultiTaskUNet,
    PointCloudAutoEncoder,
    ShapeVAE,
    SimSiam,
    TensorNetwork,
    matching_network,
    segmentation_network,
    unet3d_network,
)

VOLUME = (1, 8, 8, 8)
TARGETS = {"sheet": {"channels": 1, "activation": "sigmoid"}, "normals": {"channels": 3, "activation": "unit_norm"}}
CUBES = {"features": [2, 3], "attention_width": 24, "attention_layers": 1, "out_features": 8, "hidden": 5, "grid": 2}


def shape_vae(**settings):
    return ShapeVAE(size=8, latent_size=3, filters=(4, 8), anisotropic_levels=0, **settings)


def points(**settings):
    return PointCloudAutoEncoder(num_points=6, latent_size=3, channels=(4, 5), decoder_channels=(5, 5), **settings)


def siamese(variant="simclr"):
    return SimSiam(
        1, "resnet10", 1 / 64, stem_size=3, stem_pool=False, projector_size=6, predictor_size=4, variant=variant
    )


def cubes(inputs="both", **settings):
    return matching_network(inputs, input_pooling=2, **(CUBES | settings))


NETWORKS = {
    "unet": (lambda: segmentation_network("unet", 3, depth=2, start_channels=2), VOLUME),
    "unet, 2D, residual": (lambda: segmentation_network("unet", 2, depth=2, residual=True), (1, 8, 8)),
    "stacked hourglass": (lambda: segmentation_network("stacked_hourglass", 3, depth=2, start_channels=2), VOLUME),
    "stacked hourglass, 2D": (lambda: segmentation_network("stacked_hourglass", 2, depth=2), (1, 8, 8)),
    "UNet3D": (lambda: unet3d_network("unet3d", 1, 2, [4, 8], num_groups=2), VOLUME),
    "UNet3D, planes": (
        lambda: unet3d_network("unet3d", f_maps=[4, 8], num_groups=2, kernel_size=(1, 3, 3), pool_size=(1, 2, 2)),
        (1, 1, 8, 8),
    ),
    "ResidualUNet3D": (lambda: unet3d_network("residual_unet3d", 1, 2, [4, 8], num_groups=2), VOLUME),
    "ResidualUNetSE3D": (lambda: unet3d_network("residual_unet_se3d", 1, 2, [4, 8], num_groups=2), VOLUME),
    "group autoencoder": (lambda: GroupAutoEncoder("C2:x", features=(2, 3), dilated=False), VOLUME),
    "group autoencoder, skips": (lambda: GroupAutoEncoder("S4", skips=True, features=(2, 2), dilated=False), VOLUME),
    "group U-Net, plain": (lambda: GroupUNet(None, features=(2, 3), dilated=False), VOLUME),
    "matching, cubes and positions": (cubes, VOLUME),
    "matching, cubes": (lambda: cubes("cubes", attention_layers=0, feature_mode="grid", group=None), VOLUME),
    "tasks": (lambda: TensorNetwork(MultiTaskUNet(TARGETS, f_maps=[4, 8], num_groups=2), ["sheet", "normals"]), VOLUME),
    "shape VAE": (lambda: TensorNetwork(shape_vae(), ["reconstruction"]), VOLUME),
    "shape VAE, code": (lambda: TensorNetwork(shape_vae(norm="group"), ["mean", "log_variance"]), VOLUME),
    "points": (lambda: TensorNetwork(points(), ["reconstruction"]), (9, 3)),
    "points, folding": (lambda: TensorNetwork(points(decoder="folding"), ["reconstruction"]), (9, 3)),
    "points, variational": (lambda: TensorNetwork(points(variational=True), ["latent", "log_variance"]), (9, 3)),
    "SimCLR": (lambda: FeatureNetwork(siamese()), VOLUME),
    "SimSiam, projector": (lambda: FeatureNetwork(siamese("simsiam"), "projector"), VOLUME),
    "SimCLR, turns": (lambda: FeatureNetwork(siamese(), turns=True), VOLUME),
}


@pytest.fixture(params=NETWORKS)
def network_and_shape(request):
    """A tiny network in evaluation mode, and the shape of its input without the batch."""
    torch.manual_seed(0)
    build, shape = NETWORKS[request.param]
    return build().eval(), shape


def test_a_stored_script_computes_the_same_for_every_batch(network_and_shape):
    network, shape = network_and_shape
    stored = io.BytesIO()
    torch.jit.save(torch.jit.script(network), stored)
    stored.seek(0)
    script = torch.jit.load(stored)
    for batch in (1, 3):
        image = torch.rand(batch, *shape)
        with torch.no_grad():
            expected = network(image)
            torch.testing.assert_close(script(image), expected, rtol=1e-5, atol=1e-5)
        assert expected.dtype == torch.float32
        assert len(expected) == batch


class Mapping(nn.Module):
    """A network with a batch norm, whose output is a mapping."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 1)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.norm(self.conv(image))
        return {"a": features, "b": image, "c": -features}


class TestTensorNetwork:
    """One tensor of a mapping."""

    def test_the_keys_lie_side_by_side_in_their_order(self):
        network, image = Mapping().eval(), torch.rand(2, 1, 4)
        output = network(image)
        assert torch.equal(TensorNetwork(network, ["c", "b"])(image), torch.cat([output["c"], output["b"]], 1))
        assert torch.equal(TensorNetwork(network, ["a"])(image), output["a"])

    def test_the_state_dict_is_that_of_the_network(self):
        torch.manual_seed(1)
        network, other = Mapping(), TensorNetwork(Mapping(), ["a"])
        assert list(other.state_dict()) == list(network.state_dict())
        other.load_state_dict(network.state_dict())
        for name, value in other.network.state_dict().items():
            assert torch.equal(value, network.state_dict()[name])
        network.load_state_dict(other.state_dict())
        with pytest.raises(RuntimeError, match=r"Unexpected key.*nonsense"):
            other.load_state_dict(network.state_dict() | {"nonsense": torch.zeros(1)})

    def test_as_part_of_another_network(self):
        outer, source = nn.Sequential(nn.Identity(), TensorNetwork(Mapping(), ["a"])), Mapping()
        assert list(outer.state_dict()) == [f"1.{name}" for name in source.state_dict()]
        outer.load_state_dict({f"1.{name}": value for name, value in source.state_dict().items()})
        assert torch.equal(outer[1].network.conv.weight, source.conv.weight)

    def test_a_script_still_has_the_whole_mapping(self):
        network = TensorNetwork(shape_vae(), ["reconstruction"]).eval()
        script, image = torch.jit.script(network), torch.rand(1, *VOLUME)
        assert set(script.network(image)) == {"reconstruction", "mean", "log_variance", "latent"}
        torch.testing.assert_close(script.network.encode(image), network.network.encode(image))

    def test_wrong_keys(self):
        with pytest.raises(InvalidInputError, match="at least one key"):
            TensorNetwork(Mapping(), [])
        with pytest.raises(InvalidInputError, match="keys='a'"):
            TensorNetwork(Mapping(), "a")
        with pytest.raises(InvalidInputError, match=r"no 'd'; its keys are \['a', 'b', 'c'\]"):
            TensorNetwork(Mapping(), ["d"])(torch.rand(2, 1, 4))
