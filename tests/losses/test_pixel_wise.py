"""Weighted cross entropy against the dense formula, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import nn
from torch.nn import functional as F

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.pixel_wise import PixelWiseCrossEntropyLoss

SHAPES = [(2, 3, 4, 5, 6), (2, 4, 5, 6)]


def sample(shape, seed=0):
    """Logits, class indices (B, ...), weights of voxels (B, ...) and of channels (B, C, ...), some of them 0."""
    generator = torch.Generator().manual_seed(seed)
    space = (shape[0], *shape[2:])
    logits = 3 * torch.randn(shape, generator=generator)
    target = torch.randint(shape[1], space, generator=generator)
    weight = (5 * torch.rand(space, generator=generator)).floor()
    return logits.requires_grad_(), target, weight, (4 * torch.rand(shape, generator=generator)).floor()


def one_hot(target, classes):
    return F.one_hot(target, classes).movedim(-1, 1)


def dense(logits, target, weight=None, class_weights=None, reduction="mean"):
    """The formula in double precision, with every factor expanded to the shape of the logits."""
    log_p = logits.double() - torch.logsumexp(logits.double(), 1, keepdim=True)
    factor = target.double() * torch.ones_like(log_p)
    if weight is not None:
        factor = factor * (weight if weight.ndim == logits.ndim else weight[:, None])
    if class_weights is not None:
        factor = factor * torch.tensor(class_weights).double().reshape(1, -1, *[1] * (logits.ndim - 2))
    total = -(factor * log_p).sum()
    return total / (logits.numel() if reduction == "mean" else factor.sum())


def check(loss, expected, logits):
    """Value and gradient are the same."""
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,), (truth,) = (torch.autograd.grad(x, logits, retain_graph=True) for x in (loss, expected))
    torch.testing.assert_close(gradient, truth, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "weighted_mean"])
@pytest.mark.parametrize("weighting", ["none", "voxel", "channel of one", "channel"])
@pytest.mark.parametrize("weighted_classes", [False, True])
@pytest.mark.parametrize("form", ["indices", "channel", "one-hot", "soft"])
def test_is_the_dense_formula(shape, reduction, weighting, weighted_classes, form):
    logits, target, voxel, channel = sample(shape)
    weight = {"none": None, "voxel": voxel, "channel of one": voxel[:, None], "channel": channel}[weighting]
    classes = [0.5, 2.0, 0.0, 3.0][: shape[1]] if weighted_classes else None
    full = one_hot(target, shape[1])
    given = {"indices": target, "channel": target[:, None].float(), "one-hot": full}.get(form)
    if given is None:
        given = full = torch.softmax(torch.randn(shape, generator=torch.Generator().manual_seed(1)), 1)
    loss = PixelWiseCrossEntropyLoss(classes, reduction=reduction)
    check(loss(logits, given, weight), dense(logits, full, weight, classes, reduction), logits)


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean"])
@pytest.mark.parametrize("ignore", [-1, 1, 255])
def test_ignored_voxels_are_those_of_weight_zero(ignore, reduction):
    logits, target, voxel, channel = sample((2, 3, 4, 5, 6))
    kept = torch.rand(target.shape, generator=torch.Generator().manual_seed(3)) < 0.6
    marked = target.where(kept, ignore)
    kept = marked != ignore
    loss = PixelWiseCrossEntropyLoss([1, 2, 3], ignore_index=ignore, reduction=reduction)
    for weight in (voxel, channel):
        effective = weight * (kept if weight is voxel else kept[:, None])
        expected = dense(logits, one_hot(target, 3), effective, [1, 2, 3], reduction)
        check(loss(logits, marked, weight), expected, logits)
        soft = one_hot(target, 3).float().where(kept[:, None], float(ignore))
        check(loss(logits, soft, weight), expected, logits)
    gradient = torch.autograd.grad(loss(logits, marked), logits)[0].movedim(1, -1)
    assert not gradient[~kept].any()
    assert gradient[kept].any()


def test_weighted_mean_is_that_of_torch():
    logits, target, _, _ = sample((2, 3, 4, 5, 6))
    ours = PixelWiseCrossEntropyLoss([1, 2, 3], ignore_index=2, reduction="weighted_mean")
    check(ours(logits, target), nn.CrossEntropyLoss(torch.tensor([1.0, 2, 3]), ignore_index=2)(logits, target), logits)


def test_label_and_weight_in_one_argument():
    logits, target, voxel, _ = sample((2, 3, 4, 5, 6))
    loss = PixelWiseCrossEntropyLoss()
    expected = loss(logits, target, voxel)
    meta = MetaTensor(voxel[:, None])
    for both in [(target, voxel), [target, voxel], {"label": MetaTensor(target[:, None]), "weight": meta}]:
        assert torch.equal(loss(logits, both), expected)
    for alone in [(target,), (target, None), {"label": target}]:
        assert torch.equal(loss(logits, alone), loss(logits, target))


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean"])
def test_a_patch_without_label_gives_zero(reduction):
    logits, target, voxel, _ = sample((2, 3, 4, 5, 6))
    for given, weight, ignore in [(target, 0 * voxel, None), (torch.full_like(target, 7), None, 7)]:
        for form in (given, one_hot(target, 3) if ignore is None else torch.full(logits.shape, 7.0)):
            loss = PixelWiseCrossEntropyLoss(ignore_index=ignore, reduction=reduction)(logits, form, weight)
            assert loss.item() == 0
            assert not torch.autograd.grad(loss, logits)[0].any()


def test_half_precision_is_computed_in_float32():
    logits, target, voxel, _ = sample((2, 3, 4, 5, 6))
    half = (20 * logits).detach().bfloat16()
    expected = PixelWiseCrossEntropyLoss()(half.float(), target, 1000 * voxel)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = PixelWiseCrossEntropyLoss()(half.requires_grad_(), target, 1000 * voxel)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    loss.backward()
    assert half.grad.dtype == torch.bfloat16


def test_indices_are_not_expanded():
    logits, target, voxel, channel = sample((1, 8, 4, 5, 6))
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    for weight in (voxel, channel):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            PixelWiseCrossEntropyLoss()(logits, target, weight)
        given = {logits.untyped_storage().data_ptr(), channel.untyped_storage().data_ptr()}
        large = [size for at, (size, _) in kept.items() if at not in given and size >= logits.nbytes]
        assert large == [logits.nbytes]  # the logarithms of the probabilities


def test_from_a_config():
    config = {"_target_": "voxel_ext.losses.pixel_wise.PixelWiseCrossEntropyLoss", "class_weights": [1, 2, 3]}
    loss = ConfigParser({"loss": config}).get_parsed_content("loss")
    assert loss.class_weights.tolist() == [1, 2, 3]
    assert not loss.state_dict()


def test_bad_settings():
    with pytest.raises(InvalidInputError, match="reduction='sum'"):
        PixelWiseCrossEntropyLoss(reduction="sum")
    for weights in ([1.0, -2.0], [1.0, float("nan")], [float("inf")], 3.0):
        with pytest.raises(InvalidInputError, match="class_weights="):
            PixelWiseCrossEntropyLoss(weights)


def test_bad_target():
    logits, target, _, _ = sample((2, 3, 4, 5, 6))
    loss = PixelWiseCrossEntropyLoss()
    wrong = target.clone()
    wrong[0, 0, 0, 0], wrong[1, 1, 1, 1] = 3, -100
    with pytest.raises(InvalidInputError, match=r"values \[-100, 3\].*from 0 to 2"):
        loss(logits, wrong)
    with pytest.raises(InvalidInputError, match=r"values \[3\].*ignore_index=-100"):
        PixelWiseCrossEntropyLoss(ignore_index=-100)(logits, wrong)
    with pytest.raises(InvalidInputError, match=r"values \[0.5\]"):
        loss(logits, torch.full((2, 4, 5, 6), 0.5))
    with pytest.raises(InvalidInputError, match=r"\(2, 4, 5\).*\(2, 3, 4, 5, 6\)"):
        loss(logits, target[..., 0])
    with pytest.raises(InvalidInputError, match="from -1 to 1"):
        loss(logits, one_hot(target, 3) * 2.0 - 1)
    with pytest.raises(InvalidInputError, match="nan"):
        loss(logits, torch.full(logits.shape, float("nan")))
    with pytest.raises(InvalidInputError, match="at least two"):
        loss(logits[:, :1], target)
    with pytest.raises(InvalidInputError, match="2 class_weights for the 3 classes"):
        PixelWiseCrossEntropyLoss([1, 2])(logits, target)
    with pytest.raises(InvalidInputError, match=r"\['target'\].*'label'"):
        loss(logits, {"target": target})
    with pytest.raises(InvalidInputError, match="3 items"):
        loss(logits, (target, target, target))


def test_bad_weight():
    logits, target, voxel, _ = sample((2, 3, 4, 5, 6))
    loss = PixelWiseCrossEntropyLoss()
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidInputError, match="weight has values from"):
            loss(logits, target, voxel.index_fill(1, torch.tensor([2]), value))
    with pytest.raises(InvalidInputError, match=r"weight has shape \(2, 2, 4, 5, 6\)"):
        loss(logits, target, torch.ones(2, 2, 4, 5, 6))
    with pytest.raises(InvalidInputError, match="twice"):
        loss(logits, (target, voxel), voxel)
