"""Aggregation over ROIs against NumPy, voxel by voxel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.inferers import RoiAccumulator, RoiProbabilities, roi, roi_probabilities

FIELDS = ("roi_ids", "probabilities", "sizes", "centers", "confident_counts")


def example(seed, shape=(5, 6, 7), classes=4, ids=(2, 3, 70_000), scale=3.0):
    rng = np.random.default_rng(seed)
    volume = np.zeros(shape, np.int32)
    for one in ids:
        start = [rng.integers(0, n - 2) for n in shape]
        volume[tuple(slice(s, s + int(rng.integers(2, 5))) for s in start)] = one
    logits = torch.from_numpy(rng.normal(0, scale, (classes, *shape)).astype(np.float32))
    return volume, logits


def brute_force(volume, logits, edge_weight=0.01, confident=0.75):
    p = np.exp(logits.numpy().astype(float))
    p /= p.sum(0)
    rows = []
    for one in sorted(set(volume.flatten().tolist()) - {0}):
        total, norm, counts, voxels = 0, 0, np.zeros(len(p), int), []
        for v in zip(*np.nonzero(volume == one), strict=True):
            weight = 1.0
            for axis, step in itertools.product(range(3), (-1, 1)):
                near = list(v)
                near[axis] += step
                if 0 <= near[axis] < volume.shape[axis] and volume[tuple(near)] != one:
                    weight = edge_weight
            here = p[(slice(None), *v)]
            total, norm = total + weight * here, norm + weight
            counts[here.argmax()] += here.max() > confident
            voxels.append(v)
        rows.append((one, total / norm, len(voxels), np.mean(voxels, 0), counts))
    return [np.array(column) for column in zip(*rows, strict=True)]


def assert_same(result, expected):
    for field, values in zip(FIELDS, expected, strict=True):
        np.testing.assert_allclose(getattr(result, field), values, rtol=1e-5, atol=1e-6, err_msg=field)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("settings", [{}, {"edge_weight": 1.0, "confident": 0.5}, {"edge_weight": 0.2}])
def test_whole_volume_is_brute_force(seed, settings):
    volume, logits = example(seed)
    result = roi_probabilities(logits, volume, **settings)
    assert_same(result, brute_force(volume, logits, **settings))
    assert isinstance(result, RoiProbabilities)
    assert result.roi_ids.dtype == result.sizes.dtype == result.confident_counts.dtype == np.int64
    np.testing.assert_allclose(result.probabilities.sum(1), 1, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 40])
def test_pieces_and_chunks_give_the_whole(monkeypatch, chunk):
    monkeypatch.setattr(roi, "CHUNK_ELEMENTS", chunk)
    volume, logits = example(11)
    slices = RoiAccumulator(volume, 4)
    for start, stop in ((3, 5), (0, 1), (1, 3)):
        slices.add(logits[:, start:stop], start)
    assert_same(slices.result(), brute_force(volume, logits))
    probabilities = logits.softmax(0)
    dense = RoiAccumulator(torch.from_numpy(volume), 4)
    dense.add(probabilities, logits=False)
    assert_same(dense.result(), brute_force(volume, logits))
    gathered = RoiAccumulator(volume, 4)
    order = torch.randperm(volume.size, generator=torch.Generator().manual_seed(0))
    for part in order.split(50):
        gathered.add_voxels(part, probabilities.flatten(1).T[part])
    assert_same(gathered.result(), brute_force(volume, logits))


def test_only_the_roi_voxels_are_needed():
    volume, logits = example(3)
    logits[:, torch.from_numpy(volume == 0)] = float("nan")
    accumulator = RoiAccumulator(volume, 4)
    assert accumulator.voxels.tolist() == np.flatnonzero(volume).tolist()
    accumulator.add_voxels(accumulator.voxels, logits.flatten(1).T[accumulator.voxels], logits=True)
    whole = roi_probabilities(logits, volume)
    np.testing.assert_allclose(accumulator.result().probabilities, whole.probabilities, rtol=1e-6)


@pytest.mark.parametrize(
    "given",
    [np.uint16, np.float32, torch.tensor, MetaTensor],
    ids=["uint16", "whole floats", "tensor", "meta tensor"],
)
def test_kinds_of_roi_volumes(given):
    volume, logits = example(5, ids=(1, 2, 9))
    ids = volume.astype(given) if given in (np.uint16, np.float32) else given(volume)
    assert_same(roi_probabilities(MetaTensor(logits), ids), brute_force(volume, logits))


def test_half_precision_and_strided_logits():
    volume, logits = example(6)
    transposed = logits.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
    assert_same(roi_probabilities(transposed, volume), brute_force(volume, logits))
    half = logits.bfloat16()
    assert_same(roi_probabilities(half, volume), brute_force(volume, half.float()))


def test_border_of_the_volume_is_no_edge_and_thin_rois_are_all_edge():
    full = torch.ones(3, 4, 5, dtype=torch.int64)
    assert not roi.edge_voxels(full).any()
    sheet = torch.zeros(3, 4, 5, dtype=torch.int64)
    sheet[1] = 1
    assert roi.edge_voxels(sheet)[1].all()
    logits = torch.randn(3, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    # one weight for all voxels: the plain mean
    mean = logits.softmax(0)[:, 1].mean((1, 2))
    np.testing.assert_allclose(roi_probabilities(logits, sheet).probabilities[0], mean, rtol=1e-5)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((2, 3, 4), int), "no ROI"),
        (np.ones((1, 2, 3, 4), int), r"expected \(D, H, W\)"),
        (np.full((2, 3, 4), -2), "has the id -2"),
        (np.full((2, 3, 4), 0.5), "not integers"),
    ],
)
def test_bad_roi_volumes(ids, message):
    with pytest.raises(InvalidInputError, match=message):
        RoiAccumulator(ids, 3)


def test_bad_settings_and_values():
    volume, logits = example(0)
    for settings in ({"edge_weight": 0}, {"edge_weight": 2}, {"confident": -1}, {"num_classes": 0}):
        with pytest.raises(InvalidInputError, match=next(iter(settings))):
            RoiAccumulator(volume, **({"num_classes": 4} | settings))
    with pytest.raises(InvalidInputError, match=r"expected \(K, d, H, W\) = \(5, 'd', 6, 7\)"):
        RoiAccumulator(volume, 5).add(logits)
    with pytest.raises(InvalidInputError, match="slices 3 to 8"):
        RoiAccumulator(volume, 4).add(logits, 3)
    with pytest.raises(InvalidInputError, match="or give logits=True"):
        RoiAccumulator(volume, 4).add(logits, logits=False)
    broken = logits.clone()
    broken[0][torch.from_numpy(volume == 70_000)] = float("nan")
    with pytest.raises(InvalidInputError, match=r"NaN or infinite.*ROI 70000"):
        roi_probabilities(broken, volume)


def test_every_voxel_once():
    volume, logits = example(0)
    accumulator = RoiAccumulator(volume, 4)
    with pytest.raises(InvalidInputError, match="of 3 ROIs were not added"):
        accumulator.result()
    accumulator.add(logits)
    with pytest.raises(InvalidInputError, match="added before"):
        accumulator.add(logits)
    p = torch.full((2, 4), 0.25)
    with pytest.raises(InvalidInputError, match="repeated voxels"):
        accumulator.add_voxels(torch.tensor([1, 1]), p)
    with pytest.raises(InvalidInputError, match=r"outside 0\.\.209"):
        accumulator.add_voxels(torch.tensor([1, 210]), p)
    with pytest.raises(InvalidInputError, match=r"expected \(n,\) and \(n, 4\)"):
        accumulator.add_voxels(torch.tensor([1]), p)


def test_probabilities_are_checked():
    good = {
        "roi_ids": np.array([1, 2]),
        "probabilities": np.full((2, 4), 0.25),
        "sizes": np.array([3, 4]),
        "centers": np.zeros((2, 3)),
        "confident_counts": np.zeros((2, 4), int),
    }
    RoiProbabilities(**good)
    for name, value, message in (
        ("sizes", np.zeros(3), "sizes of 2 ROIs has shape"),
        ("confident_counts", np.zeros((2, 3)), "confident_counts of 2 ROIs"),
        ("roi_ids", np.array([2, 2]), "repeated"),
        ("probabilities", np.full((2, 4), 0.3), "sum to 1.2"),
        ("probabilities", np.full((2, 4), np.nan), "sum to nan"),
        ("probabilities", np.full(2, 1.0), "probabilities"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            RoiProbabilities(**(good | {name: value}))
