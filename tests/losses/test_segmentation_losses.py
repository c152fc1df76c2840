"""Segmentation losses against plain formulas, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.losses import DiceLoss
from scipy import ndimage
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses import (
    BoundaryWeightedDiceLoss,
    DeepSupervisedLoss,
    SegmentationLoss,
    outer_boundary,
    positive_class_weight,
    segmentation_loss,
)

SHAPES = [(2, 1, 5, 6, 7), (3, 1, 8, 5), (1, 1, 4, 4, 4)]
NAMES = ["dice", "bce", "weighted_bce", "boundary_weighted_dice"]


def sample(shape, seed=0, fraction=0.3):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(shape, generator=generator)
    return logits, (torch.rand(shape, generator=generator) < fraction).float()


def build(name, **settings):
    return segmentation_loss(name, positive_weight=3.5 if name == "weighted_bce" else None, **settings)


def plain(name, logits, target, keep=None, positive=3.5, boundary=10.0):
    """The four losses for one channel in double precision NumPy; ``keep`` marks the voxels that count."""
    x, t = logits.double().numpy(), target.double().numpy()
    keep = np.ones(t.shape) if keep is None else keep.numpy().astype(float)
    p = 1 / (1 + np.exp(-x))
    if name == "bce" or name == "weighted_bce":
        weight = positive if name == "weighted_bce" else 1.0
        return -(keep * (weight * t * np.log(p) + (1 - t) * np.log(1 - p))).sum() / keep.sum()
    w = keep
    if name == "boundary_weighted_dice":
        w = keep * np.where(shell_by_scipy(target, 1), boundary, 1.0)
    tp, fp, fn = (w * p * t).sum(), (w * p * (1 - t)).sum(), (w * (1 - p) * t).sum()
    return 1 - (2 * tp + 1) / (2 * tp + fp + fn + 1)


def shell_by_scipy(mask, thickness):
    cross = ndimage.generate_binary_structure(mask.ndim - 2, 1)
    shell = np.zeros(mask.shape, bool)
    for b, c in np.ndindex(*mask.shape[:2]):
        one = mask[b, c].numpy() > 0.5
        shell[b, c] = ndimage.binary_dilation(one, cross, iterations=thickness) & ~one
    return shell


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_loss_is_its_formula(name, shape):
    logits, target = sample(shape)
    assert build(name)(logits, target).item() == pytest.approx(plain(name, logits, target), rel=1e-5)


@pytest.mark.parametrize("threshold", [0.6, 0.9])
@pytest.mark.parametrize("name", NAMES)
def test_certain_background_does_not_count(name, threshold):
    logits, target = sample((2, 1, 6, 6, 6))
    keep = (target == 1) | (torch.sigmoid(-logits) <= threshold)
    assert 0 < (~keep).sum() < (target == 0).sum()
    logits.requires_grad_()
    value = build(name, certain_background=threshold)(logits, target)
    assert value.item() == pytest.approx(plain(name, logits.detach(), target, keep), rel=1e-5)
    (gradient,) = torch.autograd.grad(value, logits)
    assert not gradient[~keep].any()
    assert (gradient[keep] != 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_threshold_that_nothing_exceeds_changes_nothing(name):
    logits, target = sample((2, 1, 6, 6))
    torch.testing.assert_close(build(name, certain_background=0.9999)(logits, target), build(name)(logits, target))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_left_gives_zero_and_not_nan(name):
    logits = torch.full((1, 1, 4, 4), -20.0, requires_grad=True)
    value = build(name, certain_background=0.95)(logits, torch.zeros(1, 1, 4, 4))
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("settings", [{}, {"certain_background": 0.7}])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_the_formula(name, settings):
    logits, target = sample((1, 1, 3, 4, 3), seed=1)
    keep = None
    if settings:
        keep = (target == 1) | (torch.sigmoid(-logits) <= 0.7)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(build(name, **settings)(logits, target), logits)
    step = 1e-5
    for index in np.ndindex(*logits.shape):
        ends = []
        for sign in (-1, 1):
            moved = logits.detach().double()
            moved[index] += sign * step
            ends.append(plain(name, moved, target, keep))
        assert gradient[index].item() == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_extremes(name):
    _, target = sample((2, 1, 6, 6))
    right, wrong = 40 * (2 * target - 1), -40 * (2 * target - 1)
    assert build(name)(right, target).item() == pytest.approx(0, abs=1e-5)
    assert build(name)(wrong, target).item() > 0.95


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_logits_are_summed_in_float32(name, dtype):
    logits, target = sample((1, 1, 48, 48, 48))  # more voxels than float16 can count
    half = logits.to(dtype).requires_grad_()
    value = build(name, certain_background=0.95)(half, target)
    assert value.dtype == torch.float32
    reference = build(name, certain_background=0.95)(half.detach().float(), target)
    torch.testing.assert_close(value.detach(), reference, rtol=1e-6, atol=0)
    value.backward()
    assert half.grad.dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(build(name, certain_background=0.95)(half, target).detach(), reference)


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int64, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_target_of_any_type(name, kind):
    logits, target = sample((2, 1, 5, 5))
    assert build(name)(logits, target.to(kind)) == build(name)(logits, target)
    assert type(build(name)(logits, MetaTensor(target))) is torch.Tensor


def test_dice_of_several_channels_is_the_mean_over_channels():
    logits, target = sample((2, 3, 5, 6))
    for name in ("dice", "boundary_weighted_dice"):
        each = [plain(name, logits[:, c : c + 1], target[:, c : c + 1]) for c in range(3)]
        assert build(name)(logits, target).item() == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.parametrize("thickness", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 2, 9, 8, 7), (2, 3, 12, 10), (3, 1, 20)])
def test_boundary_shell_is_scipys_dilation_without_the_mask(shape, thickness):
    mask = sample(shape, fraction=0.04)[1]
    assert np.array_equal(outer_boundary(mask, thickness).numpy(), shell_by_scipy(mask, thickness))


def test_boundary_shell_does_not_wrap_around_or_cross_batch_and_channels():
    mask = torch.zeros(2, 2, 4, 4, 4)
    mask[0, 1, 0, 0, 0] = 1
    shell = outer_boundary(mask, 1)
    assert shell.sum() == 3
    assert shell[0, 1].sum() == 3
    assert not shell[0, 1, -1].any()


def test_boundary_weight_one_is_dice():
    logits, target = sample((2, 2, 6, 6))
    reference = segmentation_loss("dice")(logits, target)
    torch.testing.assert_close(BoundaryWeightedDiceLoss(1.0)(logits, target), reference)


def test_thickness_reaches_the_loss():
    logits, target = sample((1, 1, 12, 12), fraction=0.02)
    values = [build("boundary_weighted_dice", boundary_thickness=n)(logits, target).item() for n in (1, 2, 3)]
    assert values[0] < values[1] < values[2]


def test_positive_class_weight_balances_the_classes():
    labels = [np.array([[0, 7], [0, 0]], np.uint16), torch.tensor([0, 0, 1, 1]), np.zeros((2, 2), bool)]
    assert positive_class_weight(iter(labels)) == pytest.approx(9 / 3)
    weight = positive_class_weight(iter([sample((40, 40))[1]]))
    logits, target = torch.zeros(1, 1, 40, 40, requires_grad=True), sample((40, 40))[1][None, None]
    segmentation_loss("weighted_bce", positive_weight=weight)(logits, target).backward()
    assert logits.grad.sum().item() == pytest.approx(0, abs=1e-6)  # both classes pull alike at probability one half


@pytest.mark.parametrize("labels", [[], [np.zeros(3)], [np.ones(3), np.ones(2)]])
def test_positive_class_weight_needs_both_classes(labels):
    with pytest.raises(InvalidInputError, match="nothing to balance"):
        positive_class_weight(labels)


def test_deep_supervision_is_the_mean_or_the_weighted_sum():
    _, target = sample((2, 1, 6, 6))
    maps = [sample((2, 1, 6, 6), seed)[0] for seed in (1, 2, 3)]
    each = [plain("dice", m, target) for m in maps]
    loss = segmentation_loss("dice")
    for kind in (list, tuple):
        assert DeepSupervisedLoss(loss)(kind(maps), target).item() == pytest.approx(np.mean(each), rel=1e-5)
    weighted = DeepSupervisedLoss(loss, weights=[0.5, 0, 2])
    assert weighted(maps, target).item() == pytest.approx(0.5 * each[0] + 2 * each[2], rel=1e-5)
    assert weighted(maps[1], target).item() == pytest.approx(each[1], rel=1e-5)
    assert DeepSupervisedLoss(loss)(maps[:1], target) == loss(maps[0], target)


def test_deep_supervision_reaches_every_map():
    _, target = sample((2, 1, 6, 6))
    maps = [sample((2, 1, 6, 6), seed)[0].requires_grad_() for seed in (1, 2)]
    DeepSupervisedLoss(segmentation_loss("bce"))(maps, target).backward()
    for m in maps:
        torch.testing.assert_close(m.grad, (torch.sigmoid(m) - target).detach() / (2 * target.numel()))


def test_deep_supervision_resizes_the_target_to_a_smaller_map():
    target = sample((1, 1, 4, 4))[1].repeat_interleave(2, 2).repeat_interleave(2, 3)
    small, large = sample((1, 1, 4, 4), 5)[0], sample((1, 1, 8, 8), 6)[0]
    value = DeepSupervisedLoss(segmentation_loss("bce"))([small, large], target.bool())
    expected = (plain("bce", small, target[..., ::2, ::2]) + plain("bce", large, target)) / 2
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_deep_supervision_of_half_precision_maps():
    maps = [sample((1, 1, 48, 48, 48), seed)[0].half().requires_grad_() for seed in (1, 2)]
    value = DeepSupervisedLoss(segmentation_loss("dice"))(maps, sample((1, 1, 48, 48, 48))[1])
    value.backward()
    assert value.dtype == torch.float32
    assert 0 < value < 1
    assert all(torch.isfinite(m.grad).all() for m in maps)


def test_wrong_number_of_weights():
    logits, target = sample((1, 1, 4, 4))
    with pytest.raises(InvalidInputError, match=r"2 weights \[1.0, 2.0\] were given for 3 score maps"):
        DeepSupervisedLoss(DiceLoss(sigmoid=True), weights=(1, 2))([logits] * 3, target)
    with pytest.raises(InvalidInputError, match="empty list"):
        DeepSupervisedLoss(DiceLoss(sigmoid=True))([], target)


def test_losses_work_from_a_config():
    config = {
        "_target_": "voxel_ext.losses.DeepSupervisedLoss",
        "loss": {"_target_": "voxel_ext.losses.segmentation_loss", "name": "dice", "certain_background": 0.9},
    }
    loss = ConfigParser({"loss": config}).get_parsed_content("loss")
    assert isinstance(loss.loss, SegmentationLoss)
    assert loss.loss.certain_background == 0.9


def test_unknown_loss_lists_the_valid_ones():
    with pytest.raises(InvalidInputError, match=r"'weighted_bce', 'boundary_weighted_dice'.*Did you mean 'dice'"):
        segmentation_loss("dise")


@pytest.mark.parametrize("weight", [None, 0, -1.0, math.inf, math.nan])
def test_weighted_bce_needs_a_weight(weight):
    with pytest.raises(InvalidInputError, match=r"needs positive_weight.*positive_class_weight"):
        segmentation_loss("weighted_bce", positive_weight=weight)


@pytest.mark.parametrize("threshold", [0, 1, -0.5, 95])
def test_certain_background_is_a_probability(threshold):
    with pytest.raises(InvalidInputError, match=f"certain_background={threshold} "):
        segmentation_loss("bce", certain_background=threshold)


@pytest.mark.parametrize(
    ("settings", "name"), [((0, 1), "boundary_weight=0"), ((10, 0), "thickness=0"), ((10, 1.5), "1.5")]
)
def test_bad_boundary_settings(settings, name):
    with pytest.raises(InvalidInputError, match=name):
        BoundaryWeightedDiceLoss(*settings)


def test_label_that_is_not_binary_or_of_another_shape():
    loss = SegmentationLoss(nn.BCEWithLogitsLoss())
    with pytest.raises(InvalidInputError, match=r"values from 0 to 57.*AsDiscreted"):
        loss(torch.zeros(1, 1, 2), torch.tensor([[[0, 57]]]))
    with pytest.raises(InvalidInputError, match="from nan"):
        loss(torch.zeros(1, 1, 2), torch.tensor([[[0, math.nan]]]))
    with pytest.raises(InvalidInputError, match=r"\(1, 1, 2\).*\(1, 1, 3\)"):
        loss(torch.zeros(1, 1, 2), torch.zeros(1, 1, 3))
