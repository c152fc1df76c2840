"""Multi-task U-Net: equations of its parts, independence of the targets, options, export, bad arguments."""

from __future__ import annotations

import copy
import io
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.blocks.residual_se import EXCITATIONS, ResidualSEBlock, excitation_layer
from voxel_ext.networks.blocks.unet3d_settings import LevelSettings
from voxel_ext.networks.nets.multitask_unet import MultiTaskUNet
from voxel_ext.targets import Target

SHEET = {"channels": 1, "activation": "sigmoid"}
NORMALS = {"channels": 3, "activation": "unit_norm"}
BOTH = {"sheet": SHEET, "normals": NORMALS}


def build(targets: dict[str, Any] = BOTH, f_maps: Any = (8, 16), **options: Any) -> MultiTaskUNet:
    torch.manual_seed(0)
    return MultiTaskUNet(targets, f_maps=f_maps, **options)


def image(*size: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def channel_gate(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    hidden = (x.flatten(2).mean(2) @ layer.fc1.weight.T + layer.fc1.bias).clamp(min=0)
    return 1 / (1 + torch.exp(-hidden @ layer.fc2.weight.T - layer.fc2.bias))[:, :, None, None, None]


def voxel_gate(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return (
        1 / (1 + torch.exp(-torch.einsum("bcdhw,c->bdhw", x, layer.conv.weight.flatten()) - layer.conv.bias))[:, None]
    )


def excited(layer: nn.Module, kind: str, x: torch.Tensor) -> torch.Tensor:
    if kind == "scse":
        return torch.maximum(x * channel_gate(layer.cSE, x), x * voxel_gate(layer.sSE, x))
    gates = {"cse": channel_gate, "sse": voxel_gate, "none": lambda layer, x: 1}
    return x * gates[kind](layer, x)


# ---------------------------------------------------------------- blocks


@pytest.mark.parametrize("kind", EXCITATIONS)
@pytest.mark.parametrize("reduction", [1, 2])
def test_excitation_is_its_formula(kind: str, reduction: int) -> None:
    torch.manual_seed(0)
    layer = excitation_layer(kind, 6, reduction).double()
    x = image(2, 6, 2, 3, 4).double()
    torch.testing.assert_close(layer(x), excited(layer, kind, x))
    channel = 2 * 6 * (6 // reduction) + 6 + 6 // reduction
    assert count(layer) == {"scse": channel + 7, "cse": channel, "sse": 7, "none": 0}[kind]


def convolved(layer: nn.Module, x: torch.Tensor, groups: int, relu: bool) -> torch.Tensor:
    norm = layer.groupnorm
    y = F.conv3d(F.group_norm(x, groups, norm.weight, norm.bias), layer.conv.weight, padding=1)
    return y.clamp(min=0) if relu else y


@pytest.mark.parametrize("kind", EXCITATIONS)
def test_residual_block_is_its_formula(kind: str) -> None:
    torch.manual_seed(0)
    block = ResidualSEBlock(4, 8, LevelSettings(num_groups=2, dropout=0.3), kind).double().eval()
    x = image(2, 4, 3, 4, 5).double()
    r = convolved(block.conv1, x, 2, relu=True)
    y = convolved(block.conv3, convolved(block.conv2, r, 2, relu=True), 2, relu=False)
    torch.testing.assert_close(block(x), excited(block.se_module, kind, (y + r).clamp(min=0)))


def test_dropout_lies_between_the_convolutions_of_the_residual() -> None:
    torch.manual_seed(0)
    block = ResidualSEBlock(4, 8, LevelSettings(num_groups=2, dropout=0.5), "none")
    seen: list[torch.Tensor] = []
    block.conv3.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = image(2, 4, 3, 4, 5)
    block(x)
    whole = convolved(block.conv2, convolved(block.conv1, x, 2, relu=True), 2, relu=True)
    kept = seen[0].flatten(2).abs().sum(2) > 0
    assert kept.any()
    assert not kept.all()
    torch.testing.assert_close(seen[0], 2 * whole * kept[:, :, None, None, None])  # scaled by 1 / (1 - 0.5)


def test_letters_of_dropout_replace_the_dropout_of_the_block() -> None:
    def rates(order: str, rate: float) -> list[tuple[str, float]]:
        block = ResidualSEBlock(8, 8, LevelSettings(order=order, dropout=rate))
        dropouts = (nn.Dropout, nn.Dropout3d)
        return [(name, layer.p) for name, layer in block.named_modules() if isinstance(layer, dropouts)]

    assert rates("gcr", 0.2) == [("conv2.dropout3d", 0.2)]
    assert rates("gcr", 0.0) == []
    assert rates("gcrd", 0.2) == [(f"conv{number}.dropout", 0.2) for number in (1, 2, 3)]
    assert rates("gDcr", 0.2) == [(f"conv{number}.dropout3d", 0.2) for number in (1, 2, 3)]


# ---------------------------------------------------------------- the network


@pytest.mark.parametrize("downsampling", ["pool", "strided"])
@pytest.mark.parametrize("upsampling", ["transposed", "interpolate"])
def test_network_is_the_composition_of_its_parts(downsampling: str, upsampling: str) -> None:
    network = build(downsampling=downsampling, upsampling=upsampling).double().eval()
    state = network.state_dict()
    x = image(2, 1, 4, 6, 8).double()
    skip = network.encoder[0].block(x)
    if downsampling == "pool":
        half = skip.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2).flatten(-3).amax(-1)
    else:
        half = F.conv3d(skip, state["encoder.1.downsampling.weight"], state["encoder.1.downsampling.bias"], stride=2)
    bottom = network.encoder[1].block(half)
    for name, logits in network(x).items():
        place = f"decoders.{name}.levels.0.upsampling."
        if upsampling == "transposed":
            up = F.conv_transpose3d(bottom, state[f"{place}deconv.weight"], state[f"{place}deconv.bias"], stride=2)
        else:
            larger = F.interpolate(bottom, size=x.shape[2:], mode="trilinear", align_corners=False)
            up = F.conv3d(larger, state[f"{place}preconv.weight"], state[f"{place}preconv.bias"])
        own = network.decoders[name]
        features = own.levels[0].block(torch.cat([skip, up], 1))
        weight = state[f"decoders.{name}.heads.0.weight"].flatten(1)
        expected = torch.einsum("bcdhw,oc->bodhw", features, weight)
        torch.testing.assert_close(logits, expected + state[f"decoders.{name}.heads.0.bias"].view(1, -1, 1, 1, 1))


def expected_count(f_maps: list[int], targets: dict[str, int], shared: int, heads: int, **kinds: str) -> int:
    def block(before: int, after: int) -> int:
        convolutions = sum(2 * one + 27 * one * after for one in (before, after, after))
        return convolutions + 2 * (after * after + after) + after + 1

    down = {"pool": lambda one: 0, "strided": lambda one: 8 * one * one + one}[kinds["downsampling"]]

    def up(below: int, here: int) -> int:
        if kinds["upsampling"] == "transposed":
            return 8 * below * here + here
        return 0 if below == here else below * here + here

    total = block(1, f_maps[0]) + sum(down(one) + block(one, two) for one, two in pairwise(f_maps))
    for level, (below, here) in enumerate(pairwise(f_maps[::-1])):
        total += (up(below, here) + block(2 * here, here)) * (1 if level < shared else len(targets))
    return total + sum((one + 1) * channels for channels in targets.values() for one in f_maps[:heads])


@pytest.mark.parametrize("downsampling", ["pool", "strided"])
@pytest.mark.parametrize("upsampling", ["transposed", "interpolate"])
@pytest.mark.parametrize(("shared", "deep"), [(0, False), (1, True), (2, False), (3, True)])
def test_number_of_parameters(downsampling: str, upsampling: str, shared: int, deep: bool) -> None:
    f_maps = [8, 16, 16, 24]
    kinds = {"downsampling": downsampling, "upsampling": upsampling}
    network = build(f_maps=f_maps, shared_decoder_levels=shared, deep_supervision=deep, **kinds)
    heads = 3 if deep else 1
    assert count(network) == expected_count(f_maps, {"sheet": 1, "normals": 3}, shared, heads, **kinds)


@pytest.mark.parametrize("targets", [{"sheet": SHEET}, BOTH, {**BOTH, "classes": Target("classes", 4, "softmax")}])
@pytest.mark.parametrize("f_maps", [(8, 16), (8, 16, 8, 24)])
@pytest.mark.parametrize("shared", [0, 1])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_shapes(targets: dict[str, Any], f_maps: tuple[int, ...], shared: int, in_channels: int) -> None:
    network = build(targets, f_maps, shared_decoder_levels=shared, in_channels=in_channels).eval()
    assert network.stride == 2 ** (len(f_maps) - 1)
    assert list(network.targets) == list(targets)
    with torch.no_grad():
        logits = network(image(2, in_channels, 8, 16, 24))
    assert list(logits) == list(targets)
    for name, values in logits.items():
        assert values.shape == (2, network.targets[name].channels, 8, 16, 24)


def test_logits_have_no_activation() -> None:
    targets = {name: {"channels": 3, "activation": name} for name in ("none", "sigmoid", "softmax", "unit_norm")}
    network = build(targets)
    for decoder in network.decoders.values():
        nn.init.constant_(decoder.heads[0].weight, 0.0)
        decoder.heads[0].bias.data = torch.tensor([-5.0, 2.0, 7.0])
    for values in network(image(1, 1, 4, 4, 4)).values():
        torch.testing.assert_close(values[0, :, 1, 2, 3], torch.tensor([-5.0, 2.0, 7.0]))


def test_one_number_of_channels_doubles_up_to_320() -> None:
    assert build(f_maps=8, num_levels=4).f_maps == [8, 16, 32, 64]
    with torch.device("meta"):
        assert MultiTaskUNet(BOTH, f_maps=64, num_levels=5).f_maps == [64, 128, 256, 320, 320]
        assert MultiTaskUNet(BOTH).f_maps == [32, 64, 128, 256, 320, 320, 320]
    assert build(f_maps=[8, 16], num_levels=2).f_maps == [8, 16]


# ---------------------------------------------------------------- targets


def with_gradient(network: nn.Module, name: str) -> set[str]:
    network.zero_grad(set_to_none=True)
    network(image(2, 1, 16, 16, 16))[name].square().sum().backward()
    return {key for key, value in network.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0}


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_a_target_reaches_the_shared_part_and_its_own_decoder_only(shared: int) -> None:
    network = build(f_maps=(8, 8, 16), shared_decoder_levels=shared, dropout=0.0)
    names = [name for name, _ in network.named_parameters()]
    reached = {name: with_gradient(network, name) for name in BOTH}
    for name, found in reached.items():
        own = {key for key in names if not key.startswith("decoders.") or key.startswith(f"decoders.{name}.")}
        assert found <= own
        # the gates of the channels may be without gradient: where each is below that of the voxels, or relu is 0
        assert {key for key in own if "se_module" not in key} <= found
    assert len(network.shared_decoder) == shared
    assert all(len(decoder.levels) == 2 - shared for decoder in network.decoders.values())


def test_another_target_leaves_the_logits_as_they_are() -> None:
    both = build(f_maps=(8, 8, 16), shared_decoder_levels=1).eval()
    alone = build({"normals": NORMALS}, (8, 8, 16), shared_decoder_levels=1).eval()
    alone.load_state_dict({key: value for key, value in both.state_dict().items() if ".sheet." not in key})
    x = image(1, 1, 8, 8, 8)
    assert torch.equal(alone(x)["normals"], both(x)["normals"])


# ---------------------------------------------------------------- deep supervision, dropout


@pytest.mark.parametrize("shared", [0, 1, 3])
def test_deep_supervision(shared: int) -> None:
    network = build(f_maps=(8, 8, 16, 16), deep_supervision=True, shared_decoder_levels=shared, dropout=0.0)
    x = image(2, 1, 8, 16, 8)
    trained = network.train()(x)
    assert list(trained) == [f"{name}{level}" for name in BOTH for level in ("", "_level1", "_level2")]
    for name, target in network.targets.items():
        assert [tuple(trained[f"{name}_level{k}"].shape) for k in (1, 2)] == [
            (2, target.channels, 4, 8, 4),
            (2, target.channels, 2, 4, 2),
        ]
    evaluated = network.eval()(x)
    assert list(evaluated) == list(BOTH)
    for name, values in evaluated.items():
        torch.testing.assert_close(values, trained[name])


def test_logits_of_a_level_come_from_its_map() -> None:
    network = build(f_maps=(8, 16, 24), deep_supervision=True, dropout=0.0)
    seen: list[torch.Tensor] = []
    network.decoders["normals"].levels[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = network(image(2, 1, 8, 8, 8))["normals_level1"]
    head = network.decoders["normals"].heads[1]
    torch.testing.assert_close(logits, F.conv3d(seen[0], head.weight, head.bias))


def test_dropout_only_in_training() -> None:
    x = image(2, 1, 16, 16, 16)
    network = build(dropout=0.3)
    assert not torch.equal(network(x)["sheet"], network(x)["sheet"])
    network.eval()
    evaluated = network(x)["sheet"]
    assert torch.equal(evaluated, network(x)["sheet"])
    without = build(dropout=0.0).train()
    without.load_state_dict(network.state_dict())
    assert torch.equal(without(x)["sheet"], evaluated)


# ---------------------------------------------------------------- options, export, devices


def kinds(network: nn.Module) -> set[str]:
    return {type(module).__name__ for module in network.modules()}


def test_options_do_what_they_say() -> None:
    assert "MaxPool3d" in kinds(build()) - kinds(build(downsampling="strided"))
    assert "ConvTranspose3d" in kinds(build()) - kinds(build(upsampling="interpolate"))
    assert kinds(build(layer_order="bce")) & {"ELU", "GroupNorm", "BatchNorm3d"} == {"ELU", "BatchNorm3d"}
    groups = {module.num_groups for module in build(num_groups=4).modules() if isinstance(module, nn.GroupNorm)}
    assert groups == {1, 4}  # one for the image, which has fewer channels
    names = {"scse": {"ChannelExcitation", "SpatialExcitation"}, "cse": {"ChannelExcitation"}}
    for kind, expected in {**names, "sse": {"SpatialExcitation"}, "none": set()}.items():
        found = kinds(build(squeeze_excitation=kind)) & {"ChannelExcitation", "SpatialExcitation"}
        assert found == expected
    gate = build(se_reduction=4).encoder[1].block.se_module.cSE
    assert (gate.fc1.out_features, gate.fc2.in_features) == (4, 4)


def test_state_reloads() -> None:
    x = image(2, 1, 8, 8, 8)
    network = build(layer_order="cbl")
    network(x)  # moves the statistics of the batch norms
    network.eval()
    other = MultiTaskUNet(BOTH, f_maps=(8, 16), layer_order="cbl").eval()
    assert not torch.equal(other(x)["sheet"], network(x)["sheet"])
    other.load_state_dict(network.state_dict())
    for name, values in copy.deepcopy(network)(x).items():
        assert torch.equal(other(x)[name], values)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"upsampling": "interpolate", "downsampling": "strided", "squeeze_excitation": "cse"},
        {"squeeze_excitation": "none", "shared_decoder_levels": 2, "layer_order": "cbeD"},
    ],
)
def test_scripted(deep: bool, options: dict[str, Any]) -> None:
    network = build({"sheet": SHEET, "surface-normals": NORMALS}, (8, 8, 16), deep_supervision=deep, **options).eval()
    stored = io.BytesIO()
    torch.jit.save(torch.jit.script(network), stored)
    stored.seek(0)
    scripted = torch.jit.load(stored)
    for size in ((4, 8, 12), (8, 8, 8)):
        x = image(2, 1, *size)
        expected, found = network(x), scripted(x)
        assert list(found) == ["sheet", "surface-normals"]
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values)
    with pytest.raises(torch.jit.Error, match=r"spatial size \[6, 8, 8\] does not fit a network of stride 4"):
        scripted(image(1, 1, 6, 8, 8))


def test_scripted_in_training_gives_the_deep_logits() -> None:
    network = build(f_maps=(8, 8, 16), deep_supervision=True, dropout=0.0).train()
    x = image(1, 1, 8, 8, 8)
    expected, found = network(x), torch.jit.script(network)(x)
    assert list(found) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values)


def test_channels_last_and_autocast() -> None:
    x = image(2, 1, 16, 16, 16)
    network = build().eval()
    with torch.no_grad():
        expected = network(x)
        last = network.to(memory_format=torch.channels_last_3d)(x.contiguous(memory_format=torch.channels_last_3d))
        with torch.autocast("cpu", torch.bfloat16):
            short = network(x)
    for name, values in expected.items():
        torch.testing.assert_close(last[name], values, rtol=1e-4, atol=1e-5)
        assert short[name].dtype == torch.bfloat16
        assert (short[name].float() - values).abs().max() < 0.05 * values.abs().max()


def test_a_training_step_under_autocast() -> None:
    network = build(f_maps=(8, 8, 16), deep_supervision=True)
    with torch.autocast("cpu", torch.bfloat16):
        # in bfloat16 the CPU's gradient of a convolution of 2 x 2 x 2 voxels is, at times, not finite: the least are 4
        total = sum(values.float().square().mean() for values in network(image(1, 1, 16, 16, 16)).values())
    total.backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in network.parameters())


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("size", [(15, 16, 16), (16, 2, 16), (16, 16, 0)])
def test_size_that_is_not_a_multiple_of_the_stride(size: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=rf"spatial size \[{', '.join(map(str, size))}\].*stride 4.*nearest"):
        build(f_maps=(8, 8, 8))(torch.zeros(1, 1, *size))


def test_patch_size_that_is_not_a_multiple_of_the_stride() -> None:
    message = r"patch_size=\[16, 18, 3\] .* stride 4.* fit are \[16, 16, 4\] and \[16, 20, 4\]"
    with pytest.raises(InvalidInputError, match=message):
        build(f_maps=(8, 8, 8), patch_size=(16, 18, 3))
    for valid in ((16, 20, 4), 8, None):
        build(f_maps=(8, 8, 8), patch_size=valid)


@pytest.mark.parametrize("shape", [(1, 2, 8, 8, 8), (1, 8, 8, 8)])
def test_input_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"expected \(B, C, D, H, W\) with 1 channels"):
        build()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": {}}, "targets={}; expected"),
        ({"targets": {"sheet": {}}}, "targets#sheet has no channels"),
        ({"targets": {"a.b": SHEET}}, "the name 'a.b' cannot be .* without dots"),
        ({"targets": {"class": SHEET}}, "the name 'class' cannot be"),
        ({"targets": {"training": SHEET}}, "the name 'training' cannot be"),
        ({"targets": {"": SHEET}}, "the name '' cannot be"),
        (
            {"targets": {"a": SHEET, "a_level1": SHEET}, "f_maps": (8, 8, 8), "deep_supervision": True},
            "'a_level1' is also",
        ),
        ({"in_channels": 0}, "in_channels=0"),
        ({"f_maps": 8}, "f_maps=8 is one number; expected num_levels"),
        ({"f_maps": (8,)}, "f_maps="),
        ({"f_maps": (8, -8)}, "f_maps="),
        ({"num_levels": 3}, r"num_levels=3 differs from the 2 entries of f_maps=\[8, 16\]"),
        ({"f_maps": (8, 12)}, "num_groups=8 does not divide the 12 channels"),
        ({"num_groups": 0}, "num_groups=0"),
        ({"layer_order": "gxr"}, "layer_order='gxr'"),
        ({"squeeze_excitation": "scsE"}, "squeeze_excitation='scsE'.* mean 'scse'"),
        ({"se_reduction": 0}, "se_reduction=0"),
        ({"se_reduction": 9}, "se_reduction=9 .* 8 channels"),
        ({"downsampling": "max"}, "downsampling='max'"),
        ({"upsampling": "nearest"}, "upsampling='nearest'"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"deep_supervision": True}, "deep_supervision with 2 levels"),
        ({"shared_decoder_levels": 2}, "shared_decoder_levels=2 .* expected 0 to 1"),
        ({"shared_decoder_levels": -1}, "shared_decoder_levels=-1"),
        ({"patch_size": (16, 16)}, r"patch_size=\(16, 16\)"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        build(**options)
