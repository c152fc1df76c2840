import logging

import numpy as np
import pytest
import zarr

from voxel_ext.data import volume_statistics
from voxel_ext.data.lazy_volume import open_volume
from voxel_ext.data.volume_statistics import intensity_statistics, normalization_of
from voxel_ext.errors import InvalidInputError


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(volume_statistics, "_BLOCK_VOXELS", 300)


def volume_of(values, chunks=(4, 4, 4)):
    array = zarr.create_array({}, shape=values.shape, dtype=values.dtype, chunks=(1,) * (values.ndim - 3) + chunks)
    array[...] = values
    return open_volume(array)


@pytest.fixture
def values():
    return np.random.default_rng(0).gamma(2, 40, (2, 13, 11, 9))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
@pytest.mark.parametrize("percentiles", [(0.5, 99.5), (0, 100), (13.7, 61.2)])
def test_counted_integers_are_exact(dtype, percentiles, values):
    stored = (np.clip(values, 0, 240) - (0 if np.dtype(dtype).kind == "u" else 120)).astype(dtype)
    found = intensity_statistics(volume_of(stored), percentiles)
    low, high = np.percentile(stored, percentiles)
    clipped = np.clip(stored.astype(float), low, high)
    expected = [stored.mean(), stored.std(), stored.min(), stored.max(), low, high, clipped.mean(), clipped.std()]
    np.testing.assert_allclose(list(found.as_dict().values())[:-1], expected, rtol=1e-10, atol=1e-10)
    assert found.voxels == stored.size


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("percentiles", [(0.5, 99.5), (0, 100), (13.7, 61.2)])
def test_floats_within_a_bin(dtype, percentiles, values):
    stored = (values * (1000 if dtype == np.int32 else 1)).astype(dtype)
    found = intensity_statistics(volume_of(stored), percentiles)
    np.testing.assert_allclose(
        [found.mean, found.std, found.minimum, found.maximum],
        [stored.mean(dtype=float), stored.std(dtype=float), stored.min(), stored.max()],
        rtol=1e-9,
    )
    width = (found.maximum - found.minimum) / 65536
    outer = [np.percentile(stored, p, method=m) for p, m in zip(percentiles, ("lower", "higher"), strict=True)]
    assert outer[0] - 1.001 * width <= found.lower <= outer[0] + 1e-6 * width
    assert outer[1] - 1e-6 * width <= found.upper <= outer[1] + 1.001 * width
    clipped = np.clip(stored.astype(float), found.lower, found.upper)
    np.testing.assert_allclose([found.clipped_mean, found.clipped_std], [clipped.mean(), clipped.std()], rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_given_bounds(dtype, values):
    stored = np.clip(values, 0, 255).astype(dtype)
    found = intensity_statistics(volume_of(stored), bounds=(20.5, 90))
    clipped = np.clip(stored.astype(float), 20.5, 90)
    np.testing.assert_allclose([found.clipped_mean, found.clipped_std], [clipped.mean(), clipped.std()], rtol=1e-9)
    assert (found.lower, found.upper) == (20.5, 90)


def test_moments_are_stable_far_from_zero():
    stored = np.random.default_rng(0).standard_normal((8, 8, 8)) + 1e8
    found = intensity_statistics(volume_of(stored), (5, 95))
    assert found.std == pytest.approx(stored.std(), rel=1e-6)
    assert found.clipped_std == pytest.approx(np.clip(stored, found.lower, found.upper).std(), rel=1e-6)


def test_each_chunk_is_read_once(values, monkeypatch):
    volume = volume_of(values[0].astype(np.uint8))
    counts = np.zeros(volume.spatial_shape, int)
    read = volume.read

    def counting(box):
        counts[tuple(box)] += 1
        assert all(part.start % 4 == 0 for part in box)
        assert all(part.stop % 4 == 0 or part.stop == n for part, n in zip(box, counts.shape, strict=True))
        return read(box)

    monkeypatch.setattr(volume, "read", counting)
    intensity_statistics(volume)
    assert (counts == 1).all()


def test_a_part_of_the_blocks_is_always_the_same(caplog):
    stored = np.random.default_rng(0).integers(0, 255, (24, 24, 24)).astype(np.uint8)
    volume = volume_of(stored)
    with caplog.at_level(logging.INFO):
        found = intensity_statistics(volume, max_voxels=6000)
    assert "blocks (max_voxels=6000)" in caplog.text
    assert 3000 < found.voxels <= 6000
    assert found == intensity_statistics(volume, max_voxels=6000)
    assert found.mean == pytest.approx(stored.mean(), rel=0.05)
    assert intensity_statistics(volume, max_voxels=1).voxels <= 300
    assert intensity_statistics(volume, max_voxels=None).voxels == stored.size


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalization(dtype, values):
    stored = np.clip(values, 0, 255).astype(dtype)
    volume = volume_of(stored)
    zscore = normalization_of(volume, "zscore")(stored)
    assert zscore.mean(dtype=float) == pytest.approx(0, abs=1e-5)
    assert zscore.std(dtype=float) == pytest.approx(1, abs=1e-5)
    ct = normalization_of(volume, "ct", percentiles=(5, 80))(stored)
    assert ct.mean(dtype=float) == pytest.approx(0, abs=1e-5)
    assert ct.std(dtype=float) == pytest.approx(1, abs=1e-5)
    assert (ct == ct.max()).mean() == pytest.approx(0.2, abs=0.03)
    bounded = normalization_of(volume, "ct", bounds=(30, 60))
    assert (bounded.lower, bounded.upper) == (30, 60)
    assert bounded(stored).std(dtype=float) == pytest.approx(1, abs=1e-5)
    minmax = normalization_of(volume, "minmax")(stored)
    assert (minmax.min(), minmax.max()) == (0, 1)
    np.testing.assert_allclose(
        normalization_of(volume, "minmax", bounds=(20, 60))(stored), np.clip((stored - 20.0) / 40, 0, 1), atol=1e-6
    )
    np.testing.assert_array_equal(normalization_of(volume, "none")(stored), stored)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("mode", ["zscore", "ct", "minmax"])
def test_a_constant_image_is_refused(mode, dtype):
    with pytest.raises(InvalidInputError, match="volume: the intensities are all the same"):
        normalization_of(volume_of(np.full((4, 4, 4), 7, dtype)), mode)


def test_what_is_refused(values):
    volume = volume_of(values)
    with pytest.raises(InvalidInputError, match="percentiles"):
        intensity_statistics(volume, (50, 20))
    with pytest.raises(InvalidInputError, match="bounds"):
        intensity_statistics(volume, bounds=(5, 5))
    with pytest.raises(InvalidInputError, match="max_voxels=0"):
        intensity_statistics(volume, max_voxels=0)
    with pytest.raises(InvalidInputError, match="only 'ct' and 'minmax' have bounds"):
        normalization_of(volume, "zscore", bounds=(0, 1))
    with pytest.raises(InvalidInputError, match="after clipping"):
        normalization_of(volume, "ct", bounds=(-2, -1))
    with pytest.raises(InvalidInputError, match="mode of normalization='x'"):
        normalization_of(volume, "x")
    values[1, 3, 4, 5] = np.nan
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        intensity_statistics(volume_of(values))
