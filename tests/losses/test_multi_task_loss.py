"""The loss over all targets: its parts against plain formulas, what counts, levels, weights, and what it refuses."""

from __future__ import annotations

import logging

import monai.losses
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from torch.nn import functional as F

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.monai_by_name import VOXELWISE_LOSSES, WHOLE_IMAGE_LOSSES
from voxel_ext.losses.multi_task import MultiTaskLoss
from voxel_ext.losses.vector_field import MaskedCosineLoss

SPACE = (4, 6, 5)
SHEET = {"channels": 1, "activation": "sigmoid"}
NORMALS = {"channels": 3, "activation": "unit_norm", "weight": 0.75}
CELLS = {"channels": 4, "activation": "softmax", "weight": 2.0}
TARGETS = {"sheet": SHEET, "normals": NORMALS, "cells": CELLS}
IGNORE = 7.0


def batch(seed=0, requires_grad=False):
    """Logits and truths of the three targets; normals known and cells other than 0 only in part of the volume."""
    generator = torch.Generator().manual_seed(seed)
    pred = {name: torch.randn(2, one["channels"], *SPACE, generator=generator) for name, one in TARGETS.items()}
    sheet = (torch.rand(2, 1, *SPACE, generator=generator) < 0.4).float()
    normals = torch.randn(2, 3, *SPACE, generator=generator) * (torch.rand(sheet.shape, generator=generator) < 0.6)
    cells = torch.randint(0, 4, sheet.shape, generator=generator).float()
    for one in pred.values():
        one.requires_grad_(requires_grad)
    return pred, {"sheet": sheet, "normals": normals, "cells": cells}


def some_voxels(seed, fraction=0.3):
    return torch.rand(2, 1, *SPACE, generator=torch.Generator().manual_seed(seed)) < fraction


def plain_bce_dice(logits, truth, kept=None):
    x, y = logits.detach().double().numpy(), truth.double().numpy()
    kept = np.ones(y.shape, bool) if kept is None else kept.numpy()
    x, y = x[kept], y[kept]
    p = 1 / (1 + np.exp(-x))
    bce = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    return bce + 1 - (2 * (p * y).sum() + 1e-5) / (p.sum() + y.sum() + 1e-5)


def plain_cross_entropy(logits, truth, kept=None):
    kept = torch.ones_like(truth, dtype=torch.bool) if kept is None else kept
    x = logits.detach().double().movedim(1, -1)[kept[:, 0]]
    return F.cross_entropy(x, truth[kept].long()).item()


def parts_of(loss, pred, truth):
    total = loss(pred, truth)
    return total, {name: float(one) for name, one in loss.last_parts.items()}


def test_total_is_the_weighted_sum_of_the_parts():
    pred, truth = batch()
    loss = MultiTaskLoss(TARGETS)
    total, parts = parts_of(loss, pred, truth)
    assert parts["sheet"] == pytest.approx(plain_bce_dice(pred["sheet"], truth["sheet"]), rel=1e-5)
    assert parts["normals"] == pytest.approx(MaskedCosineLoss()(pred["normals"], truth["normals"]).item(), rel=1e-5)
    assert parts["cells"] == pytest.approx(plain_cross_entropy(pred["cells"], truth["cells"]), rel=1e-5)
    assert total.item() == pytest.approx(parts["sheet"] + 0.75 * parts["normals"] + 2 * parts["cells"], rel=1e-6)
    assert not any(one.requires_grad for one in loss.last_parts.values())
    assert {name: float(one) for name, one in loss.last_weights.items()} == {"sheet": 1, "normals": 0.75, "cells": 2}


def test_ignored_voxels_do_not_count():
    pred, truth = batch(requires_grad=True)
    ignored = {"sheet": some_voxels(1), "cells": some_voxels(2)}
    for name, where in ignored.items():
        truth[name] = truth[name].masked_fill(where, IGNORE)
    total, parts = parts_of(MultiTaskLoss(TARGETS, ignore_label=IGNORE), pred, truth)
    assert parts["sheet"] == pytest.approx(plain_bce_dice(pred["sheet"], truth["sheet"], ~ignored["sheet"]), rel=1e-5)
    assert parts["cells"] == pytest.approx(
        plain_cross_entropy(pred["cells"], truth["cells"], ~ignored["cells"]), rel=1e-5
    )
    total.backward()
    for name, where in ignored.items():
        gradient = pred[name].grad
        assert (gradient[where.expand_as(gradient)] == 0).all()
        assert (gradient[~where.expand_as(gradient)] != 0).all()


def test_reference_ignores_for_all():
    pred, truth = batch(requires_grad=True)
    where = some_voxels(1)
    truth["sheet"] = truth["sheet"].masked_fill(where, IGNORE)
    total, parts = parts_of(MultiTaskLoss(TARGETS, ignore_label=IGNORE, reference="sheet"), pred, truth)
    assert parts["cells"] == pytest.approx(plain_cross_entropy(pred["cells"], truth["cells"], ~where), rel=1e-5)
    normals = MaskedCosineLoss()(pred["normals"], truth["normals"] * ~where)
    assert parts["normals"] == pytest.approx(normals.item(), rel=1e-5)
    total.backward()
    for one in pred.values():
        assert (one.grad[where.expand_as(one)] == 0).all()


def test_only_on_label_by_each_target_itself():
    pred, truth = batch()
    _, parts = parts_of(MultiTaskLoss(TARGETS, loss_only_on_label=True), pred, truth)
    assert parts["sheet"] == pytest.approx(plain_bce_dice(pred["sheet"], truth["sheet"], truth["sheet"] == 1), rel=1e-5)
    assert parts["cells"] == pytest.approx(
        plain_cross_entropy(pred["cells"], truth["cells"], truth["cells"] > 0), rel=1e-5
    )


def test_only_on_label_of_the_reference():
    pred, truth = batch()
    truth["cells"] = truth["cells"].masked_fill(some_voxels(2), IGNORE)
    labeled = (truth["cells"] > 0) & (truth["cells"] != IGNORE)
    loss = MultiTaskLoss(TARGETS, ignore_label=IGNORE, loss_only_on_label=True, reference="cells")
    _, parts = parts_of(loss, pred, truth)
    assert parts["sheet"] == pytest.approx(plain_bce_dice(pred["sheet"], truth["sheet"], labeled), rel=1e-5)
    assert parts["cells"] == pytest.approx(plain_cross_entropy(pred["cells"], truth["cells"], labeled), rel=1e-5)
    normals = MaskedCosineLoss()(pred["normals"], truth["normals"] * labeled)
    assert parts["normals"] == pytest.approx(normals.item(), rel=1e-5)


OWN = [
    ("sheet", {**SHEET, "loss": name, "loss_options": options})
    for name, options in [("bce", {}), ("bce", {"positive_weight": 3.0}), ("dice", {}), ("mse", {}), ("l1", {})]
] + [
    ("sheet", {**SHEET, "activation": "none", "loss": "l1"}),
    ("sheet", {**SHEET, "loss": "bce_dice", "loss_options": {"bce_weight": 0.5, "dice_weight": 2.0}}),
    ("normals", {**NORMALS, "loss": "angular"}),
    ("normals", {**NORMALS, "loss": "cosine", "oriented": False}),
    ("normals", {**NORMALS, "loss": "mse"}),
    ("normals", {**NORMALS, "loss": "l1"}),
    ("cells", {**CELLS, "loss": "dice"}),
    ("cells", {**CELLS, "loss_options": {"class_weights": [0.1, 1.0, 2.0, 3.0]}}),
]
DISTANCES = (torch.ones(4, 4) - torch.eye(4)).tolist()
OF_MONAI = [("sheet", {**SHEET, "loss": name}) for name in VOXELWISE_LOSSES if "Wasserstein" not in name] + [
    ("cells", {**CELLS, "loss": name, "loss_options": {"dist_matrix": DISTANCES} if "Wasserstein" in name else {}})
    for name in VOXELWISE_LOSSES
    if name != "AsymmetricUnifiedFocalLoss"
]


@pytest.mark.parametrize(("name", "target"), OWN + OF_MONAI)
def test_every_loss_honors_the_mask(name, target):
    """What is predicted where nothing counts changes nothing; nor does cropping such voxels away."""
    pred, truth = batch()
    kept = torch.zeros(2, 1, *SPACE, dtype=torch.bool)
    kept[:, :, 1:3, :4] = True
    truth = {"sheet": truth["sheet"], "cells": truth["cells"], "normals": truth["normals"], "where": kept.float()}
    targets = {name: target, "where": {"channels": 1, "activation": "sigmoid", "weight": 0.0}}
    loss = MultiTaskLoss(targets, loss_only_on_label=True, reference="where")

    def run(logits):
        return loss({name: logits, "where": torch.zeros(2, 1, *SPACE)}, truth)

    logits = pred[name].clone().requires_grad_()
    value = run(logits)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert (gradient[~kept.expand_as(gradient)] == 0).all()
    assert (gradient[kept.expand_as(gradient)] != 0).any()
    torch.testing.assert_close(run(torch.where(kept, logits, 9.0)), value)
    cropped = MultiTaskLoss({name: target})
    # MONAI's losses see the voxels of the batch as one sample
    join = (
        (lambda x: x[:, :, 1:3, :4].movedim(1, 0).flatten(1, 2)[None])
        if name != "normals"
        else (lambda x: x[:, :, 1:3, :4])
    )
    torch.testing.assert_close(cropped({name: join(logits)}, {name: join(truth[name])}), value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "target"), [*OWN, *OF_MONAI, ("sheet", SHEET), ("normals", NORMALS)])
def test_everything_ignored_gives_zero_with_a_graph(name, target):
    pred, truth = batch(requires_grad=True)
    where = {"channels": 1, "activation": "sigmoid", "weight": 0.0}
    loss = MultiTaskLoss({name: target, "where": where}, loss_only_on_label=True, reference="where")
    nothing = torch.zeros(2, 1, *SPACE)
    total = loss({**pred, "where": nothing}, {**truth, "where": nothing})
    (gradient,) = torch.autograd.grad(total, pred[name])
    assert total.item() == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize(
    ("name", "options", "plain"),
    [
        ("TverskyLoss", {"alpha": 0.3, "beta": 0.7}, {"sigmoid": True}),
        ("DiceLoss", {"squared_pred": True}, {"sigmoid": True}),
        ("FocalLoss", {"gamma": 1.5}, {}),
        ("LogHausdorffDTLoss", {}, {"sigmoid": True}),
        ("BoundaryLoss", {}, {"sigmoid": True}),
    ],
)
def test_losses_of_monai_are_monais(name, options, plain):
    pred, truth = batch()
    loss = MultiTaskLoss({"sheet": {**SHEET, "loss": name, "loss_options": options}})
    expected = getattr(monai.losses, name)(**options, **plain)(pred["sheet"], truth["sheet"])
    torch.testing.assert_close(loss(pred, truth), expected)


@pytest.mark.parametrize("name", ["DiceLoss", "DiceCELoss", "TverskyLoss", "FocalLoss", "GeneralizedDiceLoss"])
def test_losses_of_monai_on_classes(name):
    pred, truth = batch()
    loss = MultiTaskLoss({"cells": {"channels": 4, "activation": "softmax", "loss": name}})
    softmax = "use_softmax" if name == "FocalLoss" else "softmax"
    expected = getattr(monai.losses, name)(to_onehot_y=True, **{softmax: True})(pred["cells"], truth["cells"])
    torch.testing.assert_close(loss(pred, truth), expected)


def test_label_smoothing():
    pred, truth = batch()
    loss = MultiTaskLoss({"sheet": {**SHEET, "loss": "bce"}, "cells": CELLS, "normals": NORMALS}, label_smoothing=0.2)
    _, parts = parts_of(loss, pred, truth)
    y = 0.8 * truth["sheet"] + 0.1
    assert parts["sheet"] == pytest.approx(F.binary_cross_entropy_with_logits(pred["sheet"], y).item(), rel=1e-5)
    y = 0.8 * F.one_hot(truth["cells"][:, 0].long(), 4).movedim(-1, 1) + 0.05
    assert parts["cells"] == pytest.approx(F.cross_entropy(pred["cells"], y).item(), rel=1e-5)
    assert parts["normals"] == pytest.approx(MaskedCosineLoss()(pred["normals"], truth["normals"]).item(), rel=1e-5)
    dice = MultiTaskLoss({"cells": {**CELLS, "weight": 1, "loss": "DiceLoss"}}, label_smoothing=0.2)
    torch.testing.assert_close(dice(pred, truth), monai.losses.DiceLoss(softmax=True)(pred["cells"], y))


def test_levels_of_deep_supervision():
    pred, truth = batch()
    truth["sheet"] = truth["sheet"].masked_fill(some_voxels(1), IGNORE)
    generator = torch.Generator().manual_seed(5)
    sizes = [SPACE, (2, 3, 3), (1, 2, 1)]
    for k, size in enumerate(sizes[1:], 1):
        pred |= {
            f"{name}_level{k}": torch.randn(2, one["channels"], *size, generator=generator)
            for name, one in TARGETS.items()
        }
    loss = MultiTaskLoss(TARGETS, ignore_label=IGNORE)
    _, parts = parts_of(loss, pred, truth)
    expected = dict.fromkeys(TARGETS, 0.0)
    for k, (size, weight) in enumerate(zip(sizes, (4 / 7, 2 / 7, 1 / 7), strict=True)):
        index = np.ix_(*[((np.arange(n) + 0.5) * full / n).astype(int) for n, full in zip(size, SPACE, strict=True)])
        level = {name: one[(..., *index)] for name, one in truth.items()}
        logits = {name: pred[f"{name}_level{k}" if k else name] for name in TARGETS}
        _, here = parts_of(loss, logits, level)
        expected = {name: expected[name] + weight * here[name] for name in TARGETS}
    assert parts == pytest.approx(expected, rel=1e-5)
    first = MultiTaskLoss(TARGETS, ignore_label=IGNORE, deep_supervision_weights=[1, 0, 0])
    only = MultiTaskLoss(TARGETS, ignore_label=IGNORE)({name: pred[name] for name in TARGETS}, truth)
    torch.testing.assert_close(first(pred, truth), only)


def test_uncertainty_weighting_is_learned_and_saved():
    pred, truth = batch(requires_grad=True)
    loss = MultiTaskLoss(TARGETS, weighting="uncertainty")
    total, parts = parts_of(loss, pred, truth)
    assert total.item() == pytest.approx(parts["sheet"] + 0.75 * parts["normals"] + 2 * parts["cells"], rel=1e-5)
    total.backward()
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter -= 0.1 * parameter.grad
    other = MultiTaskLoss(TARGETS, weighting="uncertainty")
    assert other(pred, truth).item() != pytest.approx(loss(pred, truth).item(), rel=1e-4)
    other.load_state_dict(loss.state_dict())
    assert other(pred, truth).item() == loss(pred, truth).item()
    assert all(one.grad.isfinite().all() for one in pred.values())


def test_gradients_of_targets_are_balanced_at_the_shared_layer():
    pred, truth = batch()
    layer = torch.nn.Conv3d(1, 8, 1)
    image = torch.randn(2, 1, *SPACE, generator=torch.Generator().manual_seed(3))
    logits = layer(image)
    pred = {"sheet": logits[:, :1], "normals": logits[:, 1:4], "cells": logits[:, 4:]}
    loss = MultiTaskLoss(TARGETS, weighting="gradient_norm")
    with pytest.raises(InvalidInputError, match="set_shared"):
        loss(pred, truth)
    loss.set_shared(layer.parameters())
    total = loss(pred, truth)
    assert all(parameter.grad is None for parameter in layer.parameters())
    total.backward(retain_graph=True)
    norms = {}
    for name, one in TARGETS.items():
        alone = MultiTaskLoss({name: {**one, "weight": float(loss.last_weights[name])}})
        gradients = torch.autograd.grad(alone(pred, truth), list(layer.parameters()), retain_graph=True)
        norms[name] = torch.cat([g.flatten() for g in gradients]).norm().item()
    assert norms["normals"] == pytest.approx(0.75 * norms["sheet"], rel=1e-4)
    assert norms["cells"] == pytest.approx(2 * norms["sheet"], rel=1e-4)
    assert "weighting.norms" in loss.state_dict()
    with torch.no_grad():
        assert loss(pred, truth).item() == pytest.approx(total.item(), rel=1e-5)


def test_mixed_precision_is_computed_in_float32():
    pred, truth = batch()
    half = {name: one.half() for name, one in pred.items()}
    loss = MultiTaskLoss(TARGETS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(half, truth)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss({k: v.float() for k, v in half.items()}, truth).item(), rel=1e-6)


def test_from_a_config():
    parser = ConfigParser({"loss": {"_target_": "voxel_ext.losses.multi_task.MultiTaskLoss", "targets": TARGETS}})
    pred, truth = batch()
    assert parser.get_parsed_content("loss")(pred, truth).item() == MultiTaskLoss(TARGETS)(pred, truth).item()


WHOLE_IMAGE_OPTIONS = {
    "LocalNormalizedCrossCorrelationLoss": {"spatial_dims": 3},
    "NACLLoss": {"classes": 4, "dim": 3},
    "SSIMLoss": {"spatial_dims": 3, "win_size": 3},
}


@pytest.mark.parametrize("name", WHOLE_IMAGE_LOSSES)
def test_losses_of_whole_images_run_and_refuse_masks(name):
    pred, truth = batch(requires_grad=True)
    key, base = ("cells", CELLS) if name == "NACLLoss" else ("sheet", SHEET)
    targets = {key: {**base, "loss": name, "loss_options": WHOLE_IMAGE_OPTIONS.get(name, {})}}
    (gradient,) = torch.autograd.grad(MultiTaskLoss(targets)(pred, truth), pred[key])
    assert gradient.isfinite().all()
    assert (gradient != 0).any()
    for setting in ({"ignore_label": IGNORE}, {"loss_only_on_label": True}):
        with pytest.raises(InvalidInputError, match=f"targets#{key}#loss='{name}' compares whole images.*TverskyLoss"):
            MultiTaskLoss(targets, **setting)


def test_warns_of_a_mask_without_background(caplog):
    with caplog.at_level(logging.WARNING):
        MultiTaskLoss({"sheet": SHEET, "cells": CELLS}, loss_only_on_label=True, reference="cells")
        assert not caplog.records
        MultiTaskLoss({"sheet": SHEET}, loss_only_on_label=True)
    assert "only foreground in the loss of 'sheet'" in caplog.text


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({**SHEET, "loss": "TverskiLoss"}, "targets#sheet#loss='TverskiLoss' is not known.*'TverskyLoss'"),
        ({**SHEET, "loss": "cross_entropy"}, "does not suit a target with activation 'sigmoid'.*expected one of"),
        ({**CELLS, "loss": "bce"}, "does not suit a target with activation 'softmax'.*cross_entropy"),
        ({**NORMALS, "loss": "DiceLoss"}, "does not suit.*cosine, angular"),
        ({**NORMALS, "loss": "mse", "oriented": False}, "compares signs"),
        ({**SHEET, "loss": "angular"}, "channels=1; vectors in space have 3 components"),
        ({**SHEET, "activation": "none", "loss": "cross_entropy"}, "a channel for each class, at least 2"),
        ({**SHEET, "loss_options": {"smoth": 1}}, "key of targets#sheet#loss_options='smoth'.*'smooth'"),
        ({**SHEET, "loss": "TverskyLoss", "loss_options": {"alfa": 1}}, "'alfa'.*'alpha'"),
        ({**SHEET, "loss": "DiceLoss", "loss_options": {"reduction": "none"}}, "'mean' or 'sum'"),
        ({**SHEET, "loss": "DiceLoss", "loss_options": {"sigmoid": True, "softmax": True}}, "DiceLoss refuses it"),
        ({**NORMALS, "loss_options": {"degrees": True}}, "MaskedCosineLoss refuses it"),
        ({**CELLS, "loss_options": {"class_weights": [1, 2]}}, "expected 4, one per class"),
    ],
)
def test_refuses_losses_that_do_not_suit(target, message):
    with pytest.raises(InvalidInputError, match=message):
        MultiTaskLoss({"sheet": target})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"reference": "shet"}, "reference='shet' is not known.*'sheet'"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"ignore_label": float("nan")}, "ignore_label=nan"),
        ({"weighting": "gradnorm"}, "weighting='gradnorm'.*'gradient_norm'"),
        ({"deep_supervision_weights": [1, -1]}, "deep_supervision_weights"),
    ],
)
def test_refuses_bad_settings(setting, message):
    with pytest.raises(InvalidInputError, match=message):
        MultiTaskLoss(TARGETS, **setting)


def test_refuses_batches_that_do_not_fit():
    pred, truth = batch()
    loss = MultiTaskLoss(TARGETS)
    with pytest.raises(InvalidInputError, match=r"the prediction of 'normals' is missing; found .'cells', 'sheet'"):
        loss({k: v for k, v in pred.items() if k != "normals"}, truth)
    with pytest.raises(InvalidInputError, match="the target of 'cells' is missing"):
        loss(pred, {k: v for k, v in truth.items() if k != "cells"})
    with pytest.raises(InvalidInputError, match="the target of 'sheet' is missing; found Tensor"):
        loss(pred, truth["sheet"])
    with pytest.raises(InvalidInputError, match=r"'normals' has shape .*3 channels in the prediction"):
        loss({**pred, "normals": pred["sheet"]}, truth)
    with pytest.raises(
        InvalidInputError, match=r"'sheet' has shape \(2, 1, 4, 6, 5\) and the target \(2, 1, 4, 6, 4\)"
    ):
        loss(pred, {**truth, "sheet": truth["sheet"][..., 1:]})
    with pytest.raises(InvalidInputError, match=r"'cells'.*class indices in one channel"):
        loss(pred, {**truth, "cells": truth["cells"].expand(2, 4, *SPACE)})
    with pytest.raises(InvalidInputError, match=r"target 'sheet' has values from 0 to 255.*ignore_label"):
        loss(pred, {**truth, "sheet": 255 * truth["sheet"]})
    with pytest.raises(InvalidInputError, match="target 'cells' has values from 1 to 4; expected classes from 0 to 3"):
        loss(pred, {**truth, "cells": truth["cells"] + 1})
    with pytest.raises(InvalidInputError, match="'sheet_level1' has shape"):
        loss({**pred, "sheet_level1": pred["cells"]}, truth)
    with pytest.raises(InvalidInputError, match=r"2 deep_supervision_weights .* gave 3 levels of 'sheet'"):
        MultiTaskLoss(TARGETS, deep_supervision_weights=[1, 1])(
            {**pred, "sheet_level1": pred["sheet"], "sheet_level2": pred["sheet"]}, truth
        )
