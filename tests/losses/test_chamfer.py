"""Chamfer loss against brute force, its gradient, masks, and memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.chamfer import SEARCHES, ChamferLoss, nearest_points

MEMORY = """
import torch
from voxel_ext.losses.chamfer import ChamferLoss

def peak():  # in KiB; that of getrusage would count the process that started this one
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])

prediction = torch.rand(16, 4096, 3, requires_grad=True)
target = torch.rand(16, 5000, 3)
ChamferLoss()(prediction[:, :64], target[:, :64]).backward()
before = peak()
ChamferLoss()(prediction, target).backward()
after = peak()
print(before, after, float(prediction.grad.abs().sum()))
"""


def clouds(batch=3, n=40, m=57, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(batch, count, 3, generator=generator, dtype=dtype) for count in (n, m))


def brute_force(prediction, target, squared=True, weights=(1, 1)):
    """The loss of each pair of clouds from the matrix of all distances, (B,)."""
    distances = torch.cdist(prediction, target, compute_mode="donot_use_mm_for_euclid_dist")
    distances = distances**2 if squared else distances
    return weights[0] * distances.amin(2).mean(1) + weights[1] * distances.amin(1).mean(1)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("weights", [(1, 1), (0.3, 2), (1, 0), (0, 1)])
@pytest.mark.parametrize("chunk", [None, 1, 1000])
def test_loss_is_brute_force(search, squared, weights, chunk):
    prediction, target = clouds()
    expected = brute_force(prediction, target, squared, weights)
    settings = {"squared": squared, "weights": weights, "search": search, "chunk": chunk}
    torch.testing.assert_close(ChamferLoss(**settings, reduction="none")(prediction, target), expected)
    torch.testing.assert_close(ChamferLoss(**settings)(prediction, target), expected.mean())
    torch.testing.assert_close(ChamferLoss(**settings, reduction="sum")(prediction, target), expected.sum())


@pytest.mark.parametrize("search", SEARCHES)
def test_loss_of_large_clouds_is_brute_force(search):
    prediction, target = clouds(batch=2, n=1024, m=1250, dtype=torch.float32)
    loss = ChamferLoss(search=search)(prediction, target)
    torch.testing.assert_close(loss, brute_force(prediction, target).mean(), rtol=1e-6, atol=0)


def test_loss_has_closed_form_for_shifted_grids():
    grid = torch.cartesian_prod(*[torch.arange(4.0)] * 3)[None]
    assert ChamferLoss()(grid + torch.tensor([0.1, 0.2, -0.2]), grid).item() == pytest.approx(2 * 0.09, rel=1e-5)
    assert ChamferLoss(squared=False)(grid, grid + 0.1).item() == pytest.approx(2 * 0.1 * 3**0.5, rel=1e-5)


def test_all_points_in_one_place_do_not_give_zero():
    target = torch.tensor([[[0.0, 0, 0], [0, 0, 3]]])
    prediction = torch.zeros(1, 5, 3)
    assert ChamferLoss()(prediction, target).item() == pytest.approx(4.5)
    assert ChamferLoss(weights=(1, 0))(prediction, target).item() == 0


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("search", SEARCHES)
def test_gradient(squared, search):
    prediction, target = (x.requires_grad_() for x in clouds(batch=2, n=7, m=9))
    loss = ChamferLoss(squared=squared, weights=(0.7, 1.3), search=search)
    assert torch.autograd.gradcheck(loss, (prediction, target))


def test_gradient_with_masks():
    prediction, target = (x.requires_grad_() for x in clouds(batch=2, n=6, m=8))
    masks = torch.rand(2, 6) > 0.4, torch.rand(2, 8) > 0.4
    for mask in masks:
        mask[:, 0] = True
    assert torch.autograd.gradcheck(lambda p, t: ChamferLoss()(p, t, *masks), (prediction, target))


def test_gradient_is_that_of_brute_force():
    prediction, target = (x.requires_grad_() for x in clouds())
    expected = torch.autograd.grad(brute_force(prediction, target).mean(), (prediction, target))
    found = torch.autograd.grad(ChamferLoss()(prediction, target), (prediction, target))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("squared", [True, False])
def test_equal_clouds_have_loss_and_gradient_zero(squared):
    target = next(clouds())
    prediction = target.flip(1).clone().requires_grad_()
    loss = ChamferLoss(squared=squared)(prediction, target)
    loss.backward()
    assert loss.item() == 0
    assert (prediction.grad == 0).all()


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("padding", [0.0, 1e6, float("nan")])
def test_padding_does_not_count(search, padding):
    lengths = [(40, 57), (13, 57), (1, 5)]
    prediction, target = clouds()
    masks = torch.zeros(3, 40), torch.zeros(3, 57, dtype=torch.bool)
    expected = []
    for index, counts in enumerate(lengths):
        for cloud, mask, count in zip((prediction, target), masks, counts, strict=True):
            mask[index, :count] = 1
            cloud[index, count:] = padding
        expected.append(brute_force(prediction[index, None, : counts[0]], target[index, None, : counts[1]])[0])
    prediction.requires_grad_()
    loss = ChamferLoss(search=search, reduction="none")(prediction, target, *masks)
    torch.testing.assert_close(loss, torch.stack(expected))
    loss.sum().backward()
    assert torch.isfinite(prediction.grad).all()
    assert (prediction.grad[masks[0] == 0] == 0).all()
    one_mask = ChamferLoss(search=search, reduction="none")(prediction[:1], target[:1], None, masks[1][:1])
    torch.testing.assert_close(one_mask, loss[:1])


@pytest.mark.parametrize("search", SEARCHES)
def test_nearest_points_are_argmin(search):
    points, others = clouds(batch=2)
    mask = torch.rand(2, 57, generator=torch.Generator().manual_seed(1)) > 0.7
    expected = torch.cdist(points, others).masked_fill(~mask[:, None], 99).argmin(2)
    assert torch.equal(nearest_points(points, others, mask, search=search), expected)
    assert torch.equal(nearest_points(points, others, search=search), torch.cdist(points, others).argmin(2))


def test_points_far_from_the_origin_keep_their_pairs():
    points, _ = clouds(batch=1, n=200, dtype=torch.float32)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    points = (points * 8).round() / 8 + torch.arange(200)[:, None] * 2 + 4096
    assert torch.equal(nearest_points(points, points[:, order])[0], order.argsort())


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(search, value):
    prediction, target = clouds()
    prediction[1, 3, 2] = value
    finite = ChamferLoss(search=search, reduction="none")(prediction, target).isfinite()
    assert finite.tolist() == [True, False, True]


def test_half_precision_is_computed_in_single():
    prediction, target = clouds(dtype=torch.float32)
    prediction, target = prediction.bfloat16(), target.bfloat16()
    expected = brute_force(prediction.double(), target.double()).mean()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ChamferLoss()(prediction, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_meta_tensors_and_mixed_types():
    prediction, target = clouds()
    loss = ChamferLoss()(MetaTensor(prediction.float()), MetaTensor(target))
    assert type(loss) is torch.Tensor
    assert loss.item() == pytest.approx(brute_force(prediction, target).mean().item(), rel=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_memory_is_bounded():
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    before, after, gradient = (float(x) for x in run.stdout.split())
    assert gradient > 0
    # all distances of one direction are 1.2 GiB
    assert (after - before) * 1024 < 128 * 2**20
    assert after * 1024 < 2**30


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 5, 3), (3, 5, 3)), r"\(2, 5, 3\) and \(3, 5, 3\)"),
        (((2, 5, 2), (2, 5, 2)), r"expected \(B, N, 3\)"),
        (((5, 3), (5, 3)), r"expected \(B, N, 3\)"),
        (((2, 0, 3), (2, 5, 3)), "at least 1"),
    ],
)
def test_bad_shapes(shapes, message):
    with pytest.raises(InvalidInputError, match=message):
        ChamferLoss()(*map(torch.zeros, shapes))


def test_bad_masks():
    prediction, target = clouds()
    with pytest.raises(InvalidInputError, match=r"target_mask has shape \(3, 40\); expected \(3, 57\)"):
        ChamferLoss()(prediction, target, None, torch.ones(3, 40))
    mask = torch.ones(3, 40)
    mask[1] = 0
    with pytest.raises(InvalidInputError, match="prediction_mask leaves no point of the cloud 1"):
        ChamferLoss()(prediction, target, mask)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": (1,)}, "two numbers"),
        ({"weights": (1, -1)}, "at least 0"),
        ({"weights": (0, 0)}, "one of them above 0"),
        ({"weights": (1, np.nan)}, "two numbers"),
        ({"chunk": 0}, "chunk=0"),
        ({"search": "trees"}, "Did you mean 'tree'"),
        ({"reduction": "average"}, "reduction='average'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        ChamferLoss(**settings)
