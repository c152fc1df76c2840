import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.post import ProbabilityToInstances, ProbabilityToInstancesd, probability_to_instances


def balls(centers, radius, shape=(16, 20, 36), spacing=(1, 1, 1)):
    """Number of the nearest ball at every voxel inside of one, 0 outside."""
    grid = np.stack(np.indices(shape), -1)[..., None, :]
    distance = np.linalg.norm((grid - np.array(centers)) * spacing, axis=-1)
    return np.where(distance.min(-1) <= radius, distance.argmin(-1) + 1, 0)


def agreement(found, truth):
    """Share of the foreground in the best one-to-one match by overlap, without numbering."""
    pairs = {(a, b): np.count_nonzero((found == a) & (truth == b)) for a in np.unique(found) for b in np.unique(truth)}
    best = [max(n for (_, b), n in pairs.items() if b == t and t) for t in np.unique(truth) if t]
    return sum(best) / np.count_nonzero(truth)


TOUCHING = [(8, 10, 8), (8, 10, 18), (8, 11, 28)]


@pytest.mark.parametrize("method", ["distance", "probability"])
def test_touching_balls_are_divided(method):
    truth = balls(TOUCHING, 6)
    grid = np.stack(np.indices(truth.shape), -1)[..., None, :]
    blobs = np.exp(-(np.linalg.norm(grid - np.array(TOUCHING), axis=-1).min(-1) ** 2) / 60)
    probability = np.where(truth > 0, 0.5 + blobs / 2, 0.2)
    found = probability_to_instances(probability, method=method)
    assert found.dtype == np.int32
    assert np.unique(found).tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(found > 0, truth > 0)
    assert agreement(found, truth) > 0.95


def test_spacing_counts():
    """Two balls in planes that are 4 apart; by voxels they are flat, and height says little about them."""
    spacing = (4, 1, 1)
    truth = balls([(2, 12, 8), (2, 12, 24)], 8.6, (5, 24, 33), spacing)
    found = probability_to_instances((truth > 0).astype(float), spacing=spacing, sigma=1)
    assert found.max() == 2
    assert agreement(found, truth) > 0.97


def test_every_component_is_kept_however_flat_or_small():
    mask = np.zeros((6, 9, 9), bool)
    mask[0, 0, 0] = mask[5, 5, 5] = True
    mask[2, 2:5, 2:5] = True
    found = probability_to_instances(mask.astype(float), sigma=0)
    assert np.unique(found).tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(found > 0, mask)
    assert len(np.unique(found[2, 2:5, 2:5])) == 1


def test_min_size_and_consecutive_ids():
    mask = np.zeros((3, 12, 12), np.float32)
    mask[1, 1:3, 1:3], mask[1, 5:8, 5:8], mask[1, 10, 10] = 0.9, 0.6, 0.8
    assert np.bincount(probability_to_instances(mask).ravel())[1:].tolist() in ([4, 9, 1], [9, 4, 1])
    for size, sizes in ((2, [4, 9]), (4, [4, 9]), (5, [9]), (10, [])):
        found = probability_to_instances(mask, min_size=size)
        assert sorted(np.bincount(found.ravel())[1:].tolist()) == sizes
    assert np.bincount(probability_to_instances(mask, threshold=0.7).ravel())[1:].sum() == 5


def test_empty_full_and_flat():
    assert probability_to_instances(np.zeros((4, 5, 6))).sum() == 0
    assert probability_to_instances(np.full((4, 5, 6), 0.5)).sum() == 0
    for method in ("distance", "probability"):
        assert (probability_to_instances(np.ones((5, 5, 5)), method=method) == 1).all()


def test_two_dimensions():
    mask = (balls([(0, 8, 8), (0, 8, 20)], 6.5, (1, 17, 30))[0] > 0).astype(float)
    assert probability_to_instances(mask).max() == 2


def test_min_distance():
    truth = balls(TOUCHING, 6) > 0
    assert probability_to_instances(truth.astype(float), min_distance=25).max() < 3


def test_a_large_object_at_the_border_is_one():
    mask = np.zeros((6, 12, 12))
    mask[:, :6, :6] = 1
    assert probability_to_instances(mask).max() == 1


def test_a_rod_is_one_object():
    for sigma in (0, 1):
        mask = np.zeros((7, 7, 40))
        mask[2:5, 2:5, 4:36] = 1
        assert probability_to_instances(mask, sigma=sigma).max() == 1


@pytest.mark.parametrize("channels", [1, 2])
def test_transform(channels):
    truth = balls(TOUCHING, 6)
    foreground = torch.as_tensor(truth > 0).float()
    stacked = torch.stack([1 - foreground, foreground])[-channels:]
    image = MetaTensor(stacked, affine=torch.diag(torch.tensor([2.0, 3, 4, 1])))
    result = ProbabilityToInstancesd("pred", min_size=5)({"pred": image, "x": 1})
    assert isinstance(result["pred"], MetaTensor)
    assert result["pred"].shape == (1, *truth.shape)
    assert result["pred"].dtype == torch.int32
    assert torch.equal(result["pred"].affine, image.affine)
    np.testing.assert_array_equal(result["pred"][0], probability_to_instances(foreground.numpy(), min_size=5))
    assert ProbabilityToInstances()(stacked.numpy()).dtype == np.int32


def test_bad_input():
    good = np.ones((1, 3, 3, 3))
    for value, message in (
        (good * 3, "values from 3 to 3; expected 0 to 1"),
        (good * np.nan, "values from nan to nan"),
        (np.ones((3, 3, 3, 3)), r"shape \(3, 3, 3, 3\); expected \(1,"),
        (np.ones((1, 3)), "expected"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            ProbabilityToInstances()(value)
    for options, message in (
        ({"method": "distanc"}, "Did you mean 'distance'"),
        ({"threshold": 1.5}, r"threshold=1\.5"),
        ({"sigma": -1}, "sigma=-1"),
        ({"min_size": 1.5}, r"min_size=1\.5"),
        ({"min_distance": 0}, "min_distance=0"),
        ({"spacing": (1, 0, 1)}, "spacing="),
    ):
        with pytest.raises(InvalidInputError, match=message):
            ProbabilityToInstances(**options)
    with pytest.raises(InvalidInputError, match="expected one number per axis"):
        ProbabilityToInstances(spacing=(1, 1))(good)
