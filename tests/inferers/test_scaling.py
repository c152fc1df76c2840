"""Scaling by statistics of a whole volume equals MONAI's transforms on that volume."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast, NormalizeIntensity, ScaleIntensityRangePercentiles

from voxel_ext.data import open_volume
from voxel_ext.errors import InvalidInputError
from voxel_ext.inferers import LinearScaling, Normalizing, PercentileScaling


def image(dtype="uint16", channels=2):
    rng = np.random.default_rng(0)
    values = rng.gamma(2.0, 900.0, (channels, 9, 10, 11)) * np.arange(1, channels + 1).reshape(-1, 1, 1, 1)
    return values.astype(dtype)


@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize(("lower", "upper"), [(1, 99), (0, 100)])
def test_percentiles_as_in_monai(lower, upper, channel_wise):
    array = image()
    scaled = PercentileScaling(lower, upper, -1.0, 1.0, channel_wise=channel_wise)(open_volume(array))(array)
    theirs = ScaleIntensityRangePercentiles(lower, upper, -1.0, 1.0, clip=True, channel_wise=channel_wise)
    np.testing.assert_allclose(scaled, theirs(torch.from_numpy(array.astype(np.float32))), atol=1e-5)


def test_gamma_as_in_monai():
    array = image(channels=1)
    scaled = PercentileScaling(1, 99, gamma=0.5)(open_volume(array))(array)
    between = ScaleIntensityRangePercentiles(1, 99, 0.0, 1.0, clip=True)(torch.from_numpy(array.astype(np.float32)))
    np.testing.assert_allclose(scaled, AdjustContrast(0.5)(between), atol=1e-5)


def test_a_region_is_scaled_as_the_whole():
    array = image("float32")
    scaling = pickle.loads(pickle.dumps(PercentileScaling(1, 99, channel_wise=True)(open_volume(array))))
    np.testing.assert_array_equal(scaling(array)[:, 2:5, 1:4], scaling(array[:, 2:5, 1:4]))
    assert scaling(array).dtype == np.float32


def test_z_score_as_in_monai():
    array = image(channels=1)
    np.testing.assert_allclose(
        Normalizing("zscore")(open_volume(array))(array),
        NormalizeIntensity()(torch.from_numpy(array.astype(np.float32))),
        atol=1e-5,
    )


def test_formula():
    scaled = LinearScaling((0.0,), (4.0,), low=10.0, high=20.0, gamma=2.0)(np.array([[[[-1.0, 1.0, 2.0, 9.0]]]]))
    assert scaled.ravel().tolist() == pytest.approx([10.0, 10.625, 12.5, 20.0])


def test_bad_input():
    with pytest.raises(InvalidInputError, match="gamma=0"):
        PercentileScaling(1, 99, gamma=0)
    flat = image()
    flat[1] = 7
    with pytest.raises(InvalidInputError, match=r"channel 1.*are both 7"):
        PercentileScaling(1, 99, channel_wise=True)(open_volume(flat))
