import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.intensity.soft_mask import SoftMask, SoftMaskd, mask_distance, soft_mask_weight

DISTANCES = [0, 1, 2, 3, 4, 5, 8, 10]
PUBLISHED = [0.6457, 0.5, 0.3543, 0.2315, 0.1419, 0.0832, 0.0148, 0.0045]


def cross(shape=(7, 8, 9)):
    mask = np.zeros(shape, np.uint8)
    mask[3, 3:5, 4] = 1
    mask[3, 4, 2:6] = 1
    return mask


def test_exact_curve():
    assert np.allclose(soft_mask_weight(DISTANCES, exact=True), PUBLISHED, atol=5e-5)


@pytest.mark.parametrize("alpha", [0.1, 0.6, 10])
def test_default_is_one_inside_and_the_curve_outside(alpha):
    weight = soft_mask_weight(DISTANCES, alpha)
    expected = (1 + np.exp(-alpha)) / (1 + np.exp(alpha * (np.array(DISTANCES) - 1.0)))
    assert weight[0] == 1
    assert np.allclose(weight, expected, rtol=1e-5)
    assert (np.diff(weight) < 0).all()
    # no step at the boundary
    assert soft_mask_weight(1e-4, alpha) == pytest.approx(1, abs=1e-3)


def test_far_away_nothing_overflows():
    with np.errstate(over="raise", invalid="raise"):
        assert soft_mask_weight([1e4, 1e30]).tolist() == [0, 0]


@pytest.mark.parametrize("voxel_size", [None, (2.0, 1.0, 0.5)])
def test_distance_against_brute_force(voxel_size):
    mask = cross()
    points = np.argwhere(mask) * (voxel_size or 1)
    everywhere = np.indices(mask.shape).reshape(3, -1).T * (voxel_size or 1)
    expected = np.linalg.norm(everywhere[:, None] - points[None], axis=2).min(axis=1).reshape(mask.shape)
    assert np.allclose(mask_distance(mask, voxel_size), expected, atol=1e-5)


@pytest.mark.parametrize("exact", [False, True])
def test_transform_multiplies(exact):
    image = np.random.default_rng(0).uniform(0, 255, (2, 7, 8, 9))
    expected = image * soft_mask_weight(mask_distance(cross()), 0.6, exact)
    found = SoftMask(exact=exact)(image, cross()[None])
    assert found.dtype == np.float32
    assert np.allclose(found, expected)
    if not exact:
        assert np.allclose(found[:, cross() > 0], image[:, cross() > 0])


def test_dictionary_keeps_type_and_metadata():
    image = MetaTensor(torch.ones(1, 7, 8, 9), affine=torch.eye(4) * 2)
    data = {"image": image, "other": torch.ones(1, 7, 8, 9), "mask": torch.from_numpy(cross()[None])}
    found = SoftMaskd(["image", "other"])(data)
    assert isinstance(found["image"], MetaTensor)
    assert torch.equal(found["image"].affine, image.affine)
    assert type(found["other"]) is torch.Tensor
    assert torch.equal(found["image"].as_tensor(), found["other"])
    assert found["mask"] is data["mask"]
    assert data["image"].min() == 1


@pytest.mark.parametrize("alpha", [0, -1, np.nan, np.inf, "0.6", True])
def test_bad_alpha(alpha):
    with pytest.raises(InvalidInputError, match="alpha="):
        SoftMask(alpha)


def test_bad_input():
    with pytest.raises(InvalidInputError, match="1 of 2 distances are negative or NaN"):
        soft_mask_weight([0, np.nan])
    with pytest.raises(InvalidInputError, match="no foreground"):
        mask_distance(np.zeros((3, 3, 3)))
    for size in ((1, 1), (1, 1, 0), (1, 1, np.inf)):
        with pytest.raises(InvalidInputError, match="voxel_size"):
            mask_distance(cross(), size)
    with pytest.raises(InvalidInputError, match=r"the mask has shape \(1, 7, 8, 9\), but the image has \(1, 7, 8, 8\)"):
        SoftMask()(np.ones((1, 7, 8, 8)), cross()[None])
    with pytest.raises(InvalidInputError, match="no mask 'mask' among the keys"):
        SoftMaskd("image")({"image": np.ones((1, 7, 8, 9))})
