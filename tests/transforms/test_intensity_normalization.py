import pickle

import numpy as np
import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.intensity.normalization import IntensityNormalization, normalize_intensity


@pytest.fixture
def values():
    return np.random.default_rng(0).integers(0, 1000, (1, 4, 5, 6)).astype(np.uint16)


def test_zscore_gives_mean_0_and_std_1(values):
    result = normalize_intensity(values, "zscore", values.mean(), values.std())
    assert result.dtype == np.float32
    assert result.mean() == pytest.approx(0, abs=1e-6)
    assert result.std() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        ({"mode": "zscore", "mean": 100, "std": 50}, lambda x: (x - 100) / 50),
        ({"mode": "ct", "mean": 300, "std": 20, "lower": 200, "upper": 400}, lambda x: (x.clip(200, 400) - 300) / 20),
        ({"mode": "minmax", "lower": 200, "upper": 400}, lambda x: ((x - 200) / 200).clip(0, 1)),
        ({"mode": "none"}, lambda x: x),
    ],
)
def test_formulas_for_arrays_and_tensors(settings, formula, values):
    normalization = pickle.loads(pickle.dumps(IntensityNormalization(**settings)))
    expected = formula(values.astype(np.float64))
    for kind in (np.uint16, np.float64, np.float16):
        result = normalization(values.astype(kind))
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, atol=1e-5)
    tensor = normalization(torch.from_numpy(values.astype(np.int32)))
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-5)
    assert IntensityNormalization(**normalization.as_dict()) == normalization


def test_the_input_stays_as_it_is(values):
    floats = values.astype(np.float32)
    for settings in ({"mode": "ct", "lower": 100, "upper": 200}, {"mode": "minmax", "lower": 100, "upper": 200}):
        IntensityNormalization(**settings)(floats)
    np.testing.assert_array_equal(floats, values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "z"}, "mode of normalization='z'"),
        ({"std": 0.0}, r"std=0\.0"),
        ({"mean": np.nan}, "mean=nan"),
        ({"mean": "3"}, "mean='3'"),
        ({"mode": "ct"}, "lower=None"),
        ({"mode": "minmax", "lower": 2, "upper": 2}, r"lower=2\.0 and upper=2\.0"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        IntensityNormalization(**settings)
