"""Instance ids from masks, against a flood fill."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms import ConnectedComponents, ConnectedComponentsd, connected_components


def random_mask(shape, fraction, seed=0):
    return np.random.default_rng(seed).random(shape) < fraction


def flood_fill(mask, connectivity):
    """Number components in the order of their first voxel by a stack of neighbors."""
    steps = [s for s in itertools.product((-1, 0, 1), repeat=mask.ndim) if 0 < sum(map(abs, s)) <= connectivity]
    ids, count = np.zeros(mask.shape, int), 0
    for start in np.argwhere(mask):
        if ids[tuple(start)]:
            continue
        count += 1
        ids[tuple(start)] = count
        stack = [start]
        while stack:
            voxel = stack.pop()
            for step in steps:
                near = tuple(voxel + step)
                inside = all(0 <= n < size for n, size in zip(near, mask.shape, strict=True))
                if inside and mask[near] and not ids[near]:
                    ids[near] = count
                    stack.append(np.array(near))
    return ids


@pytest.mark.parametrize("shape", [(9, 10), (6, 7, 8)])
@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_components_are_those_of_a_flood_fill(shape, connectivity, fraction):
    mask = random_mask(shape, fraction)
    assert np.array_equal(connected_components(mask, connectivity), flood_fill(mask, connectivity))


@pytest.mark.parametrize("minimum_size", [1, 2, 4, 10_000])
def test_small_components_are_removed_and_ids_stay_consecutive(minimum_size):
    ids = flood_fill(random_mask((8, 8, 8), 0.2), 1)
    sizes = np.bincount(ids.ravel())
    expected, count = np.zeros_like(ids), 0
    for number in range(1, len(sizes)):
        if sizes[number] >= minimum_size:
            count += 1
            expected[ids == number] = count
    found = connected_components(ids > 0, 1, minimum_size)
    assert np.array_equal(found, expected)
    assert found.dtype == np.int32


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_type_and_metadata_are_kept(kind):
    mask = random_mask((1, 6, 6, 6), 0.3)
    expected = flood_fill(mask[0], 1)[None]
    as_array = ConnectedComponents()(mask.astype(kind))
    assert isinstance(as_array, np.ndarray)
    assert np.array_equal(as_array, expected)
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    meta = MetaTensor(torch.from_numpy(mask.astype(kind)), affine=affine, meta={"filename_or_obj": "a.h5"})
    found = ConnectedComponents()(meta)
    assert isinstance(found, MetaTensor)
    assert found.dtype == torch.int32
    assert torch.equal(found.affine, affine)
    assert found.meta["filename_or_obj"] == "a.h5"
    assert np.array_equal(found.numpy(), expected)


def test_dictionary_version_changes_its_keys_alone():
    mask = random_mask((1, 7, 7), 0.4)
    data = {"pred": mask.astype(np.float32), "image": mask}
    result = ConnectedComponentsd(["pred", "other"], connectivity=2, minimum_size=2, allow_missing_keys=True)(data)
    assert np.array_equal(result["pred"], ConnectedComponents(2, 2)(mask))
    assert result["image"] is mask
    assert data["pred"].max() == 1
    with pytest.raises(KeyError, match="other"):
        ConnectedComponentsd("other")(data)


def test_monai_makes_instance_ids_binary_again():
    ids = ConnectedComponents()(MetaTensor(random_mask((1, 6, 6), 0.4)))
    label = AsDiscreted("label", threshold=0.5)({"label": ids})["label"]
    assert label.dtype == torch.float32
    assert torch.equal(label, (ids > 0).float())


@pytest.mark.parametrize(
    ("settings", "mask", "message"),
    [
        ({}, np.full((1, 3, 3), 0.5), "values from 0.5 to 0.5; expected 0 and 1"),
        ({}, np.arange(4).reshape(1, 2, 2), "from 0 to 3"),
        ({}, np.zeros((2, 3, 3)), r"shape \(2, 3, 3\); expected \(1, ...\)"),
        ({"connectivity": 3}, np.zeros((1, 3, 3)), "connectivity=3 for 2 spatial axes"),
    ],
)
def test_bad_masks(settings, mask, message):
    with pytest.raises(InvalidInputError, match=message):
        ConnectedComponents(**settings)(mask)


@pytest.mark.parametrize("settings", [{"connectivity": 0}, {"minimum_size": -1}, {"minimum_size": 2.5}])
def test_bad_settings(settings):
    (name,) = settings
    with pytest.raises(InvalidInputError, match=f"{name}={settings[name]}"):
        ConnectedComponentsd("pred", **settings)
