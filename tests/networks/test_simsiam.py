"""The siamese network: shapes, encoder, variants."""

from __future__ import annotations

import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.nets.simsiam import SimSiam

TINY = {"encoder": "resnet10", "width": 1 / 16, "projector_size": 16, "predictor_size": 6}


def tiny(**settings):
    torch.manual_seed(0)
    return SimSiam(**(TINY | settings))


def views(channels=1, batch=4, size=16):
    return torch.rand(2, batch, channels, size, size, size, generator=torch.Generator().manual_seed(1)).unbind()


@pytest.mark.parametrize("variant", ["simsiam", "simclr"])
@pytest.mark.parametrize(
    ("settings", "features"),
    [
        ({}, 32),
        ({"encoder": "resnet18", "in_channels": 2}, 32),
        ({"encoder": "resnet50"}, 128),
        ({"width": 1 / 8, "stem_size": 3, "stem_stride": 1, "stem_pool": False}, 64),
    ],
)
def test_shapes_over_the_options(settings, features, variant):
    net = tiny(variant=variant, **settings).eval()
    x1, x2 = views(settings.get("in_channels", 1), batch=2, size=8)
    assert net.feature_size == features
    assert net.encode(x1).shape == (2, features)
    assert net.project(x1).shape == (2, 16)
    out = net(x1, x2)
    names = ["p1", "p2", "z1", "z2"] if variant == "simsiam" else ["z1", "z2"]
    assert sorted(out) == names
    assert {value.shape for value in out.values()} == {(2, 16)}


@pytest.mark.parametrize("variant", ["simsiam", "simclr"])
def test_torchscript(variant):
    net, (x1, x2) = tiny(variant=variant).eval(), views(batch=2, size=8)
    scripted = torch.jit.script(net)
    torch.testing.assert_close(scripted(x1, x2), net(x1, x2))
    torch.testing.assert_close(scripted.encode(x1), net.encode(x1))


def test_the_heads_are_those_of_the_paper():
    net = SimSiam(encoder="resnet10", width=1 / 16)
    linear = [tuple(m.weight.shape[::-1]) for m in net.projector if isinstance(m, torch.nn.Linear)]
    assert linear == [(32, 2048), (2048, 2048), (2048, 2048)]
    assert [type(m).__name__ for m in net.projector][-2:] == ["Linear", "BatchNorm1d"]
    linear = [tuple(m.weight.shape[::-1]) for m in net.predictor if isinstance(m, torch.nn.Linear)]
    assert linear == [(2048, 512), (512, 2048)]
    assert isinstance(net.predictor[-1], torch.nn.Linear)


def test_outputs_are_those_of_the_parts():
    net = tiny().eval()
    x1, x2 = views()
    out = net(x1, x2)
    torch.testing.assert_close(out["z1"], net.projector(net.encoder(x1)))
    torch.testing.assert_close(out["p2"], net.predictor(net.projector(net.encoder(x2))))
    swapped = net(x2, x1)
    torch.testing.assert_close(swapped["p1"], out["p2"])


def test_each_view_has_its_own_batch_statistics():
    net = tiny()
    x1, x2 = views()
    first = net(x1, x2)["z1"]
    torch.testing.assert_close(net(x1, 5 * x2)["z1"], first)
    # the last batch norm has no scale and shift
    torch.testing.assert_close(first.mean(0), torch.zeros(16), rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ["simsiam", "simclr"])
def test_every_parameter_gets_a_gradient(variant):
    net = tiny(variant=variant)
    out = net(*views())
    sum((value * torch.arange(16)).square().mean() for value in out.values()).backward()
    assert [name for name, one in net.named_parameters() if one.grad is None] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "resnet11"}, "encoder='resnet11'.*Did you mean"),
        ({"variant": "byol"}, "variant='byol'.*'simsiam'"),
        ({"width": 0}, "width=0"),
        ({"width": float("nan")}, "width=nan"),
        ({"stem_size": 4}, "stem_size=4.*odd"),
        ({"stem_stride": 0}, "stem_stride=0"),
        ({"projector_size": 0}, "projector_size=0"),
        ({"predictor_size": 1.5}, "predictor_size=1.5"),
        ({"in_channels": 0}, "in_channels=0"),
    ],
)
def test_arguments_that_are_not_valid(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        tiny(**settings)


def test_inputs_that_do_not_fit():
    net = tiny()
    x1, x2 = views()
    with pytest.raises(InvalidInputError, match="with 1 channels"):
        net.encode(views(2)[0])
    with pytest.raises(InvalidInputError, match="expected the same"):
        net(x1, x2[:2])
    with pytest.raises(InvalidInputError, match="drop_last=True"):
        net(x1[:1], x2[:1])
    assert net.eval()(x1[:1], x2[:1])["z1"].shape == (1, 16)
