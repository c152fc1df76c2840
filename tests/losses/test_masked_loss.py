"""Masked losses: the loss of the kept voxels alone, and no gradient elsewhere."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss, FocalLoss, GeneralizedDiceLoss, TverskyLoss
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.masked import MaskedLoss
from voxel_ext.losses.neuron_factory import SETTINGS, BCEDiceLoss, neuron_loss
from voxel_ext.losses.pixel_wise import PixelWiseCrossEntropyLoss
from voxel_ext.losses.weighted import WeightedCrossEntropyLoss, WeightedSmoothL1Loss

SHAPE = (2, 3, 4, 5, 6)
CHANNEL_LOSSES = [
    nn.BCEWithLogitsLoss(),
    nn.MSELoss(),
    nn.L1Loss(),
    nn.SmoothL1Loss(),
    WeightedSmoothL1Loss(0.5, 3),
    DiceLoss(sigmoid=True, batch=True),
    DiceLoss(softmax=True, squared_pred=True),
    GeneralizedDiceLoss(sigmoid=True, batch=True),
    TverskyLoss(sigmoid=True),
    FocalLoss(),
    BCEDiceLoss(0.3, 2),
]
INDEX_LOSSES = [nn.CrossEntropyLoss(torch.tensor([1.0, 2, 3])), WeightedCrossEntropyLoss()]


def sample(seed=0):
    """Logits, a binary target (B, C, ...), class indices (B, ...) and a mask of voxels to keep (B, ...)."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(SHAPE, generator=generator).requires_grad_()
    target = (torch.rand(SHAPE, generator=generator) < 0.4).float()
    kept = torch.rand(SHAPE[0], *SHAPE[2:], generator=generator) < 0.7
    return logits, target, torch.randint(3, kept.shape, generator=generator), kept


def select(values, kept):
    """(1, C, n) of the voxels to keep, one by one."""
    voxels = [values[(at[0], slice(None), *at[1:])] for at in kept.nonzero().tolist()]
    return torch.stack(voxels, -1)[None]


def check(loss, expected, logits, kept):
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    gradient = torch.autograd.grad(loss, logits)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits, retain_graph=True)[0])
    assert not gradient.movedim(1, -1)[~kept].any()
    assert gradient.movedim(1, -1)[kept].any()


@pytest.mark.parametrize("loss", CHANNEL_LOSSES, ids=lambda loss: type(loss).__name__)
def test_channel_losses_see_the_kept_voxels_only(loss):
    logits, target, _, kept = sample()
    expected = loss(select(logits, kept), select(target, kept))
    marked = target.where(kept[:, None], -1)
    check(MaskedLoss(loss, ignore_index=-1)(logits, marked), expected, logits, kept)
    check(MaskedLoss(loss)(logits, (target, 5 * kept.float())), expected, logits, kept)


@pytest.mark.parametrize("loss", INDEX_LOSSES, ids=lambda loss: type(loss).__name__)
def test_index_losses_see_the_kept_voxels_only(loss):
    logits, _, target, kept = sample()
    expected = loss(select(logits, kept), select(target[:, None], kept)[:, 0])
    for form in (target.where(kept, 9), target.where(kept, 9)[:, None].float()):
        check(MaskedLoss(loss, ignore_index=9)(logits, form), expected, logits, kept)
    check(MaskedLoss(loss)(logits, target[:, None], kept.float()), expected, logits, kept)


@pytest.mark.parametrize("loss", [*CHANNEL_LOSSES[:6], *INDEX_LOSSES], ids=lambda loss: type(loss).__name__)
def test_without_anything_to_ignore_it_is_the_loss(loss):
    logits, target, index, _ = sample()
    target = index if loss in INDEX_LOSSES else target
    expected = loss(logits, target)
    assert torch.equal(MaskedLoss(loss)(logits, target), expected)
    assert MaskedLoss(loss, ignore_index=-1)(logits, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_nothing_left_gives_zero():
    logits, target, _, _ = sample()
    for loss in CHANNEL_LOSSES:
        value = MaskedLoss(loss, ignore_index=-1)(logits, torch.full_like(target, -1))
        assert value.item() == 0
        assert not torch.autograd.grad(value, logits)[0].any()


def test_channels_ignored_at_different_voxels():
    logits, target, _, _ = sample()
    kept = torch.rand(SHAPE, generator=torch.Generator().manual_seed(5)) < 0.6
    marked = target.where(kept, -1)
    loss = MaskedLoss(nn.BCEWithLogitsLoss(), ignore_index=-1)(logits, marked)
    assert loss.item() == pytest.approx(nn.BCEWithLogitsLoss()(logits[kept], target[kept]).item(), rel=1e-5)
    assert torch.equal(torch.autograd.grad(loss, logits)[0] != 0, kept)
    dice = MaskedLoss(DiceLoss(sigmoid=True), ignore_index=-1)(logits, marked)
    counts = kept.sum((0, 2, 3, 4))
    expected = 0
    for c in range(3):
        x, t = logits[:, c][kept[:, c]].sigmoid(), target[:, c][kept[:, c]]
        expected += counts[c] / counts.sum() * (1 - (2 * (x * t).sum() + 1e-5) / (x.sum() + t.sum() + 1e-5))
    assert dice.item() == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(InvalidInputError, match="DiceLoss needs all channels"):
        MaskedLoss(DiceLoss(softmax=True), ignore_index=-1)(logits, marked)


def test_skipping_the_last_channel():
    logits, target, index, kept = sample()
    extra = torch.full_like(target[:, :1], 77)
    loss = MaskedLoss(nn.MSELoss(), skip_last_channel=True)
    assert torch.equal(loss(logits, torch.cat([target, extra], 1)), nn.MSELoss()(logits, target))
    masked = MaskedLoss(nn.CrossEntropyLoss(), ignore_index=9, skip_last_channel=True)
    both = torch.cat([index.where(kept, 9)[:, None].float(), extra], 1)
    assert torch.equal(masked(logits, both), MaskedLoss(nn.CrossEntropyLoss(), 9)(logits, index.where(kept, 9)))
    with pytest.raises(InvalidInputError, match=r"skip_last_channel.*\(2, 1, 4, 5, 6\)"):
        loss(logits, extra)


def test_bad_input():
    logits, target, index, _ = sample()
    with pytest.raises(InvalidInputError, match=r"\(2, 2, 4, 5, 6\).*\(2, 3, 4, 5, 6\)"):
        MaskedLoss(nn.MSELoss())(logits, target[:, :2])
    with pytest.raises(InvalidInputError, match="weight has values from -1"):
        MaskedLoss(nn.MSELoss())(logits, (target, -torch.ones_like(index)))
    with pytest.raises(InvalidInputError, match=r"values \[3\]"):
        MaskedLoss(nn.CrossEntropyLoss())(logits, index + 1)


# --- by name ---


def plain(name):
    """The torch or MONAI loss of each name, without settings."""
    dice = DiceLoss(sigmoid=True, squared_pred=True, smooth_nr=1e-6, smooth_dr=1e-6, batch=True)
    bce = nn.BCEWithLogitsLoss()
    return {
        "pixel_wise_cross_entropy": PixelWiseCrossEntropyLoss(),
        "cross_entropy": nn.CrossEntropyLoss(),
        "weighted_cross_entropy": WeightedCrossEntropyLoss(),
        "bce": bce,
        "dice": dice,
        "bce_dice": lambda x, t: bce(x, t) + dice(x, t),
        "generalized_dice": GeneralizedDiceLoss(sigmoid=True, batch=True),
        "mse": nn.MSELoss(),
        "l1": nn.L1Loss(),
        "smooth_l1": nn.SmoothL1Loss(),
        "weighted_smooth_l1": WeightedSmoothL1Loss(0.5, 3),
    }[name]


def settings_of(name):
    return {"threshold": 0.5, "threshold_weight": 3} if name == "weighted_smooth_l1" else {}


@pytest.mark.parametrize("name", SETTINGS)
def test_losses_by_name(name):
    logits, target, index, kept = sample()
    target = index if name.endswith("cross_entropy") else target
    loss = neuron_loss(name, **settings_of(name))
    expected = plain(name)(logits, target)
    assert loss(logits, target).item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss(logits, (target, torch.ones_like(index))).item() == pytest.approx(expected.item(), rel=1e-5)
    ignoring = neuron_loss(name, ignore_index=-1, **settings_of(name))
    marked = target.where(kept if target.ndim == 4 else kept[:, None], -1)
    expected = neuron_loss(name, **settings_of(name))(logits, (target, kept.float()))
    value = ignoring(logits, marked)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert not torch.autograd.grad(value, logits)[0].movedim(1, -1)[~kept].any()


def test_settings_by_name():
    logits, target, index, _ = sample()
    bce = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(4.0))
    assert torch.equal(neuron_loss("bce", positive_weight=4)(logits, target), bce(logits, target))
    dice = plain("dice")(logits, target)
    mixed = neuron_loss("bce_dice", alpha=0.25, beta=3)(logits, target)
    assert mixed.item() == pytest.approx((0.25 * nn.BCEWithLogitsLoss()(logits, target) + 3 * dice).item())
    assert neuron_loss("bce_dice", alpha=0)(logits, target).item() == pytest.approx(dice.item())
    weights = torch.tensor([1.0, 2, 5])
    ours = neuron_loss("cross_entropy", class_weights=[1, 2, 5])(logits, index)
    assert torch.equal(ours, nn.CrossEntropyLoss(weights)(logits, index))
    p, t = logits.softmax(1), nn.functional.one_hot(index, 3).movedim(-1, 1)
    sums = [((p * t).sum((0, 2, 3, 4))), (p**2).sum((0, 2, 3, 4)), t.sum((0, 2, 3, 4))]
    expected = (1 - 2 * sums[0] / (sums[1] + sums[2])).mean()
    assert neuron_loss("dice", softmax=True)(logits, index).item() == pytest.approx(expected.item(), rel=1e-5)
    expected = ((1 - 2 * sums[0] / (sums[1] + sums[2])) * weights).mean()
    value = neuron_loss("dice", softmax=True, class_weights=[1, 2, 5])(logits, index)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert neuron_loss("generalized_dice", softmax=True)(logits, index[:, None]).isfinite()
    assert neuron_loss("smooth_l1", smooth_l1_beta=0.1)(logits, target).item() == pytest.approx(
        nn.SmoothL1Loss(beta=0.1)(logits, target).item()
    )


def test_bad_settings_by_name():
    logits, target, index, _ = sample()
    with pytest.raises(InvalidInputError, match=r"bce_dise.*Did you mean 'bce_dice'"):
        neuron_loss("bce_dise")
    with pytest.raises(InvalidInputError, match="'mse' does not take class_weights, alpha"):
        neuron_loss("mse", class_weights=[1, 2], alpha=1)
    with pytest.raises(InvalidInputError, match="does not take skip_last_channel"):
        neuron_loss("pixel_wise_cross_entropy", skip_last_channel=True)
    with pytest.raises(InvalidInputError, match="needs threshold"):
        neuron_loss("weighted_smooth_l1", threshold=1)
    with pytest.raises(InvalidInputError, match="positive_weight=0"):
        neuron_loss("bce", positive_weight=0)
    with pytest.raises(InvalidInputError, match="alpha=-1"):
        neuron_loss("bce_dice", alpha=-1)
    with pytest.raises(InvalidInputError, match="values from 0 to 2"):
        neuron_loss("dice")(logits, 2 * target)
    with pytest.raises(InvalidInputError, match=r"values \[3\]"):
        neuron_loss("dice", softmax=True)(logits, index + 1)
