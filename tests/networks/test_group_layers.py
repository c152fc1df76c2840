"""Group convolutions and the layers between them are exactly equivariant; the plain paths agree."""

import copy
import io
import itertools
import pickle
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.groups import GROUP_NAMES, rotation_group
from voxel_ext.networks.layers import (
    FoldedConv3d,
    GaussianDropout,
    GroupConv3d,
    GroupDropout,
    GroupPool,
    LiftingConv3d,
    SpatialPool,
    SpatialUpsample,
    activation,
    check_equivariance,
    fold_group_convolutions,
)

NAMES = [name for name in GROUP_NAMES if ":" in name or name not in ("C2", "C4", "D4")]
TOLERANCES = ((torch.float32, 1e-5), (torch.float64, 1e-12))
CONVOLUTIONS = {
    "plain": {"padding": 1},
    "kernel 1": {"kernel_size": 1},
    "kernel 5": {"kernel_size": 5, "padding": "same"},
    "dilated": {"dilation": 2, "padding": 2},
    "circular": {"padding": 1, "padding_mode": "circular"},
    "strided": {"stride": 2, "padding": 1},
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def randomized(module):
    """Every parameter random, so that nothing is equivariant only because it is constant."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def small_network():
    return nn.Sequential(
        LiftingConv3d("V", 2, 3, padding=1), nn.ReLU(), GroupConv3d("V", 3, 2, padding=1, bias=False), GroupPool()
    )


def assert_equivariant(module, group, shape):
    for dtype, tolerance in TOLERANCES:
        assert check_equivariance(module, group, shape, dtype=dtype) < tolerance


@pytest.mark.parametrize("settings", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
@pytest.mark.parametrize("name", NAMES)
def test_convolutions_are_equivariant(name, settings):
    order = rotation_group(name).order
    for size in (5,) if "stride" in settings else (5, 4):
        assert_equivariant(randomized(LiftingConv3d(name, 2, 2, **settings)), name, (1, 2, size, size, size))
        assert_equivariant(randomized(GroupConv3d(name, 1, 2, **settings)), name, (1, 1, order, size, size, size))


@pytest.mark.parametrize("shape", [(4, 5, 5), (3, 4, 4)])
def test_kernels_and_volumes_that_the_group_keeps(shape):
    settings = {"kernel_size": (1, 3, 3), "padding": (0, 1, 1), "stride": (2, 1, 1)}
    assert_equivariant(randomized(GroupConv3d("C4:z", 2, 2, **settings)), "C4:z", (1, 2, 4, *shape))


@pytest.mark.parametrize("name", ["V", "S4"])
def test_volumes_with_different_sizes(name):
    assert_equivariant(randomized(LiftingConv3d(name, 1, 2, padding=1)), name, (1, 1, 4, 5, 6))


@pytest.mark.parametrize("name", NAMES)
def test_stack_of_layers_is_equivariant(name):
    network = nn.Sequential(
        randomized(LiftingConv3d(name, 1, 2, padding=1)),
        activation("leaky_relu"),
        SpatialPool("mean"),
        randomized(GroupConv3d(name, 2, 2, padding=1)),
        activation("elu"),
        SpatialUpsample(mode="trilinear"),
        GroupPool("max"),
    )
    assert_equivariant(network, name, (1, 1, 4, 6, 4))


@pytest.mark.parametrize(
    "layer",
    [
        *(activation(name) for name in ("relu", "leaky_relu", "elu")),
        *(SpatialPool(mode) for mode in ("max", "mean")),
        *(SpatialUpsample(mode=mode) for mode in ("nearest", "trilinear")),
        *(GroupPool(reduction) for reduction in ("max", "mean")),
        GroupDropout(0.5),
    ],
    ids=str,
)
def test_other_layers_are_equivariant(layer):
    assert_equivariant(layer, "Oh", (2, 3, 48, 4, 2, 4))
    if not isinstance(layer, GroupPool):
        assert_equivariant(layer, "Oh", (2, 3, 4, 2, 4))


@pytest.mark.parametrize("name", ["C2:x", "T4", "S4"])
def test_gradients_are_equivariant(name):
    group = rotation_group(name)
    lifting = randomized(LiftingConv3d(name, 1, 2, padding=1)).double()
    network = nn.Sequential(lifting, nn.ELU(), randomized(GroupConv3d(name, 2, 1, padding=1)).double())
    x = torch.randn(1, 1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    inputs = (x, *network.parameters())
    output = network(x)
    cotangent = torch.randn_like(output)
    expected = torch.autograd.grad(output, inputs, cotangent)
    for element in range(group.order):
        turned = group.act(x.detach(), element).requires_grad_()
        found = torch.autograd.grad(
            network(turned), (turned, *network.parameters()), group.act_features(cotangent, element)
        )
        torch.testing.assert_close(found[0], group.act(expected[0], element), rtol=1e-10, atol=1e-10)
        for one, other in zip(found[1:], expected[1:], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layer", [LiftingConv3d, GroupConv3d])
def test_gradient_is_that_of_the_function(layer):
    conv = layer("C4:y", 2, 1, 2).double()
    shape = (1, 2, *((4,) if layer is GroupConv3d else ()), 3, 3, 3)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def run(x, weight, bias):
        return torch.func.functional_call(conv, {"weight": weight, "bias": bias}, x)

    assert torch.autograd.gradcheck(run, (x, conv.weight, conv.bias), fast_mode=True)


@pytest.mark.parametrize("lifting", [True, False])
def test_expansion_for_accelerators_agrees(lifting):
    """The deterministic backward pass is taken on other devices only; its formula is tested here."""
    from voxel_ext.networks.layers.filter_expansion import _Expansion

    conv = (LiftingConv3d if lifting else GroupConv3d)("T4", 2, 3, 2).double()
    wanted = conv.expanded_filters()[0]
    found = _Expansion.apply(conv.weight.flatten(1), 2, conv.index, conv.inverse).reshape(wanted.shape)
    cotangent = torch.randn_like(wanted)
    assert torch.equal(found, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(found, conv.weight, cotangent), torch.autograd.grad(wanted, conv.weight, cotangent)
    )


@pytest.mark.parametrize("name", ["V", "T4", "C4:x"])
def test_expanded_filters_agree_with_loops(name):
    """W(o, r, i, s, p) = w(o, i, r⁻¹ s, M_r⁻¹ p), voxel by voxel."""
    group = rotation_group(name)
    n = group.order
    conv = GroupConv3d(name, 2, 2)
    lifting = LiftingConv3d(name, 2, 2)
    expanded = conv.expanded_filters()[0].reshape(2, n, 2, n, 3, 3, 3)
    lifted = lifting.expanded_filters()[0].reshape(2, n, 2, 3, 3, 3)
    places = list(itertools.product(range(-1, 2), repeat=3))
    for r, (z, y, x) in itertools.product(range(n), places):
        back = group.matrices[group.inverse[r]] @ torch.tensor([z, y, x])
        a, b, c = (int(value) + 1 for value in back)
        assert torch.equal(lifted[:, r, :, z + 1, y + 1, x + 1], lifting.weight[:, :, a, b, c])
        for s in range(n):
            source = int(group.cayley[group.inverse[r], s])
            assert torch.equal(expanded[:, r, :, s, z + 1, y + 1, x + 1], conv.weight[:, :, source, a, b, c])


def test_bias_is_shared_over_the_group():
    conv = LiftingConv3d("V", 1, 2, padding=1)
    nn.init.zeros_(conv.weight)
    with torch.no_grad():
        conv.bias.copy_(torch.tensor([1.0, -2.0]))
    output = conv(torch.randn(1, 1, 3, 3, 3))
    assert output.shape == (1, 2, 4, 3, 3, 3)
    assert (output[:, 0] == 1).all()
    assert (output[:, 1] == -2).all()


def test_parameter_counts_and_initial_weights():
    conv = GroupConv3d("S4", 8, 8, bias=False)
    assert sum(parameter.numel() for parameter in conv.parameters()) == 41472
    bound = (6 / (8 * 24 * 27)) ** 0.5
    assert 0.99 * bound < conv.weight.abs().max() <= bound
    lifting = LiftingConv3d("Oh", 3, 5)
    assert sum(parameter.numel() for parameter in lifting.parameters()) == 5 * 3 * 27 + 5
    assert set(conv.state_dict()) == {"weight"}


@pytest.mark.parametrize(("layer", "shape"), [(LiftingConv3d, (1, 1, 6, 6, 6)), (GroupConv3d, (1, 1, 24, 6, 6, 6))])
def test_stride_on_an_even_size_warns_once_and_is_broken(layer, shape):
    conv = layer("S4", 1, 2, stride=2, padding=1)
    with pytest.warns(UserWarning, match=r"stride \(2, 2, 2\).*size \(6, 6, 6\): along z"):
        conv(torch.randn(shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conv(torch.randn(shape))
        assert check_equivariance(conv, "S4", shape) > 0.1


def test_stride_along_an_axis_that_is_not_reversed_is_exact():
    conv = randomized(LiftingConv3d("C2:x", 1, 2, kernel_size=3, stride=(1, 1, 2), padding=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equivariant(conv, "C2:x", (1, 1, 5, 5, 6))


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_folding_keeps_the_output(padding_mode):
    network = nn.Sequential(
        LiftingConv3d("T4", 1, 2, padding=1, padding_mode=padding_mode, bias=False),
        nn.Sequential(nn.ReLU(), randomized(GroupConv3d("T4", 2, 3, 3, dilation=2, stride=2, padding=2))),
        GroupPool("mean"),
    )
    x = torch.randn(2, 1, 5, 5, 5)
    folded = fold_group_convolutions(network)
    torch.testing.assert_close(folded(x), network(x), rtol=1e-5, atol=1e-6)
    assert isinstance(network[0], LiftingConv3d)
    assert [type(module) for module in (folded[0], folded[1][1])] == [FoldedConv3d, FoldedConv3d]
    assert folded[1][1].conv.weight.shape == (36, 24, 3, 3, 3)
    assert isinstance(fold_group_convolutions(network[0]), FoldedConv3d)


def test_folding_keeps_shared_layers_shared():
    conv = GroupConv3d("V", 1, 1, padding=1)
    folded = fold_group_convolutions(nn.ModuleList([conv, nn.Sequential(conv)]))
    assert folded[0] is folded[1][0]


@pytest.mark.parametrize("training", [True, False])
def test_script_trace_and_export_agree(training):
    network = small_network().train(training)
    x = torch.randn(1, 2, 4, 4, 4)
    expected = network(x)
    scripted = torch.jit.script(network)
    buffer = io.BytesIO()
    torch.jit.save(scripted, buffer)
    buffer.seek(0)
    for other in (scripted, torch.jit.load(buffer), torch.jit.trace(network, x), torch.jit.script(network)):
        torch.testing.assert_close(other(x), expected)
    if not training:
        with torch.no_grad():
            network(x)
        torch.testing.assert_close(torch.jit.script(network)(x), expected)
        torch.testing.assert_close(torch.jit.freeze(scripted)(x), expected)
        torch.testing.assert_close(torch.jit.script(fold_group_convolutions(network))(x), expected)
        torch.testing.assert_close(torch.export.export(network, (x,)).module()(x), expected)


class TestCache:
    """In evaluation the expanded filters are kept, and never used once they are out of date."""

    @staticmethod
    def filters(conv):
        with torch.no_grad():
            return conv._current_filters()

    def test_kept_in_evaluation_only(self):
        conv = GroupConv3d("V", 1, 2)
        assert self.filters(conv)[0] is not self.filters(conv)[0]
        conv.eval()
        assert self.filters(conv)[0] is self.filters(conv)[0]
        assert conv._current_filters()[0].requires_grad

    def test_frozen_layer_is_cached_with_gradients_on(self):
        conv = GroupConv3d("V", 1, 2).eval().requires_grad_(False)
        assert conv._current_filters()[0] is conv._current_filters()[0]

    @pytest.mark.parametrize("change", ["optimizer", "bias", "load", "train", "assign", "data", "double"])
    def test_renewed_after_a_change(self, change):
        conv = GroupConv3d("V", 1, 2, padding=1).eval()
        x = torch.randn(1, 1, 4, 3, 3, 3)
        with torch.no_grad():
            before = conv(x)
        if change == "optimizer":
            optimizer = torch.optim.SGD(conv.parameters(), lr=0.5)
            conv(x).sum().backward()
            optimizer.step()
        elif change == "bias":
            with torch.no_grad():
                conv.bias += 1
        elif change == "load":
            conv.load_state_dict(GroupConv3d("V", 1, 2).state_dict())
        elif change == "train":
            conv.weight.data += 1
            conv.train().eval()
        elif change == "assign":
            conv.weight = nn.Parameter(torch.randn_like(conv.weight))
        elif change == "data":
            conv.weight.data = torch.randn_like(conv.weight)
        else:
            conv, x, before = conv.double(), x.double(), before.double()
        with torch.no_grad():
            after = conv(x)
        torch.testing.assert_close(after, conv.fold()(x))
        assert change == "double" or (after - before).abs().max() > 1e-3

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
    def test_copies_do_not_carry_it(self, duplicate):
        conv = GroupConv3d("V", 1, 2, padding=1).eval()
        x = torch.randn(1, 1, 4, 3, 3, 3)
        with torch.no_grad():
            expected = conv(x)
            other = duplicate(conv)
            assert other._cache is None
            assert torch.equal(other(x), expected)
            other.weight.mul_(2)
            assert torch.equal(conv(x), expected)
            assert not torch.equal(other(x), expected)

    def test_filters_made_in_inference_mode_do_not_disturb_training(self):
        conv = GroupConv3d("V", 1, 2, padding=1).eval()
        x = torch.randn(1, 1, 4, 3, 3, 3)
        with torch.inference_mode():
            conv(x)
        conv(x).sum().backward()
        assert conv.weight.grad is not None
        conv.requires_grad_(False)
        x.requires_grad_()
        conv(x).sum().backward()
        assert x.grad is not None


@pytest.mark.parametrize("training", [True, False])
def test_autocast_and_bfloat16(training):
    network = small_network().train(training)
    x = torch.randn(1, 2, 4, 4, 4)
    expected = network(x)
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(training):
        mixed = network(x)
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), expected, rtol=0.05, atol=0.05)
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected)
    if training:
        mixed.float().sum().backward()
        assert network[0].weight.grad.dtype == torch.float32
    torch.testing.assert_close(network.bfloat16()(x.bfloat16()).float(), expected, rtol=0.05, atol=0.05)


def test_vectorized_function_calls_agree():
    """torch.func over an ensemble, where the parameters are not ordinary ones."""
    conv = LiftingConv3d("V", 1, 1).eval()
    weights = torch.randn(3, *conv.weight.shape)
    x = torch.randn(1, 1, 3, 3, 3)

    def run(weight):
        return torch.func.functional_call(conv, {"weight": weight}, x)

    with torch.no_grad():
        torch.testing.assert_close(torch.func.vmap(run)(weights), torch.stack([run(weight) for weight in weights]))


def test_gaussian_dropout_moments():
    layer = GaussianDropout(0.2)
    noise = layer(torch.ones(1, 4, 40, 40, 40))
    assert abs(noise.mean().item() - 1) < 0.01
    assert abs(noise.var().item() - 0.25) < 0.01
    x = torch.randn(1, 2, 3, 3, 3)
    assert layer.eval()(x) is x
    assert GaussianDropout(0)(x) is x


def test_group_dropout_drops_whole_channels():
    dropped = GroupDropout(0.5)(torch.ones(4, 50, 4, 2, 2, 2)).flatten(2)
    assert ((dropped == 0).all(dim=2) | (dropped == 2).all(dim=2)).all()
    assert 60 < (dropped[:, :, 0] == 0).sum() < 140
    x = torch.randn(1, 2, 3, 3, 3)
    assert torch.equal(GroupDropout(0.5).eval()(x), x)


def test_pooling_and_upsampling_values():
    x = torch.randn(2, 3, 4, 6, 4, 2)
    blocks = x.reshape(2, 3, 4, 3, 2, 2, 2, 1, 2)
    torch.testing.assert_close(SpatialPool("max")(x), blocks.amax(dim=(4, 6, 8)))
    torch.testing.assert_close(SpatialPool("mean")(x), blocks.mean(dim=(4, 6, 8)))
    torch.testing.assert_close(GroupPool("max")(x), x.max(dim=2).values)
    torch.testing.assert_close(GroupPool("mean")(x), x.mean(dim=2))
    assert torch.equal(SpatialPool("max")(SpatialUpsample()(x)), x)
    smooth = SpatialUpsample(3, "trilinear")(x)
    assert smooth.shape == (2, 3, 4, 18, 12, 6)
    expected = F.interpolate(x[:, :, 1], scale_factor=3, mode="trilinear")
    torch.testing.assert_close(smooth[:, :, 1], expected)


@pytest.mark.parametrize(
    "layer", [SpatialPool(), SpatialUpsample(mode="trilinear"), GroupPool(), GroupDropout(), GaussianDropout()], ids=str
)
def test_other_layers_script(layer):
    layer.eval()
    scripted = torch.jit.script(layer)
    for shape in ((1, 2, 4, 2, 2, 2), *(() if isinstance(layer, GroupPool) else ((1, 2, 4, 4, 4),))):
        x = torch.randn(shape)
        assert torch.equal(scripted(x), layer(x))


def test_check_equivariance_sees_a_plain_convolution():
    assert check_equivariance(nn.Conv3d(1, 2, 3, padding=1), "V", (1, 1, 4, 4, 4)) > 0.1
    assert check_equivariance(nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten()), "S4", (1, 2, 4, 4, 4)) < 1e-5
    assert check_equivariance(nn.Flatten(), "S4", (1, 2, 4, 4, 4)) > 0.1
    with pytest.raises(InvalidInputError, match="zero everywhere"):
        check_equivariance(nn.Threshold(100.0, 0.0), "V", (1, 1, 2, 2, 2))
    with pytest.raises(InvalidInputError, match=r"element 4 of S4.*\(1, 1, 4, 3, 4\), expected \(1, 1, 4, 4, 3\)"):
        check_equivariance(nn.AvgPool3d((1, 2, 1), (1, 1, 1)), "S4", (1, 1, 4, 4, 4))


BAD_SETTINGS = [
    ({"group": "S5"}, "group='S5'"),
    ({"kernel_size": (3, 5, 5)}, r"kernel_size=\(3, 5, 5\) differs along z and y.*S4"),
    ({"kernel_size": 0}, "kernel_size"),
    ({"kernel_size": 3.0}, "kernel_size=3.0"),
    ({"in_channels": 0}, "in_channels=0"),
    ({"stride": 0}, "stride"),
    ({"padding": -1}, "padding"),
    ({"padding": "valid"}, "padding='valid'"),
    ({"padding": "same", "kernel_size": 2}, r"padding='same'.*kernel_size=\(2, 2, 2\)"),
    ({"padding": "same", "stride": 2}, r"padding='same'.*stride=\(2, 2, 2\)"),
    ({"padding_mode": "reflect"}, "padding_mode='reflect'"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
def test_bad_settings(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        GroupConv3d(**{"group": "S4", "in_channels": 1, "out_channels": 1, **settings})


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (GroupConv3d("S4", 2, 1), (1, 2, 12, 3, 3, 3), r"S4 has 24 elements, axis 2 has 12"),
        (GroupConv3d("S4", 2, 1), (1, 48, 3, 3, 3), r"expects \(B, 2, 24, D, H, W\), got \(1, 48, 3, 3, 3\).*Lifting"),
        (GroupConv3d("V", 2, 1), (1, 3, 4, 3, 3, 3), r"expects \(B, 2, 4, D, H, W\), got \(1, 3, 4, 3, 3, 3\)"),
        (LiftingConv3d("V", 2, 1), (1, 2, 4, 3, 3, 3), r"expects \(B, 2, D, H, W\), got \(1, 2, 4, 3, 3, 3\)"),
        (GroupPool(), (1, 2, 3, 3, 3), r"GroupPool expects"),
        (SpatialPool(), (1, 2, 4, 5, 4), r"\(4, 5, 4\) is not divisible"),
        (SpatialPool(), (4, 4, 4), r"SpatialPool expects"),
        (SpatialUpsample(), (4, 4, 4), r"SpatialUpsample expects"),
    ],
)
def test_bad_input(layer, shape, message):
    with pytest.raises(InvalidInputError, match=message):
        layer(torch.zeros(shape))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GroupPool("sum"), "reduction='sum'"),
        (lambda: SpatialPool("median"), "mode='median'"),
        (lambda: SpatialPool(factor=0), "factor=0"),
        (lambda: SpatialUpsample(factor=1.5), "factor=1.5"),
        (lambda: SpatialUpsample(mode="linear"), "mode='linear'.*trilinear"),
        (lambda: GaussianDropout(1), "p=1"),
        (lambda: GroupDropout(-0.1), "p=-0.1"),
        (lambda: activation("swish"), "activation='swish'"),
    ],
)
def test_bad_options(build, message):
    with pytest.raises(InvalidInputError, match=message):
        build()
