"""Clouds, filters and noise of the optic lobe against SciPy, NumPy and their distributions."""

import numpy as np
import pytest
from scipy import ndimage, stats

from voxel_ext.synthetic.optic_lobe import fluorescence, imaging
from voxel_ext.synthetic.optic_lobe.parallel import Workers, fast_normal, slabs
from voxel_ext.synthetic.optic_lobe.poisson import invert, poisson


def uniform_volume(shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.mark.parametrize(("length", "sigma"), [(40, 10.0), (16, 10.0), (50, 2.5), (33, 0.6), (12, 0.0), (2, 1.0)])
def test_gaussian_modes_are_the_mirrored_blur_of_scipy(length, sigma):
    analysis, synthesis, gains = imaging.gaussian_modes(length, sigma)
    lines = np.random.default_rng(0).random((length, 5))
    expected = ndimage.gaussian_filter1d(lines, sigma, axis=0, mode="mirror", truncate=6) if sigma else lines
    np.testing.assert_allclose(synthesis @ (gains[:, None] * (analysis @ lines)), expected, atol=2e-7)


def test_a_broad_blur_needs_few_modes():
    assert len(imaging.gaussian_modes(128, 10.0)[2]) < 32


def test_background_blurs_in_xy_and_then_in_yz():
    volume = uniform_volume((20, 24, 17))
    plane = ndimage.gaussian_filter(volume.astype(float), (4, 4, 0), mode="mirror", truncate=6)
    expected = ndimage.gaussian_filter(plane, (0, 4, 4), mode="mirror", truncate=6)
    blurred = imaging.background(volume, 4.0)
    assert blurred.dtype == np.float32
    np.testing.assert_allclose(blurred, expected, rtol=1e-5)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_box_sum_against_scipy(width, axis):
    volume = uniform_volume((12, 9, 10))
    expected = ndimage.uniform_filter1d(volume.astype(float), width, axis=axis, mode="mirror") * width
    np.testing.assert_allclose(imaging.box_sum(volume, width, axis), expected, rtol=1e-5)


@pytest.mark.parametrize("percent", [1, 50, 99, 99.9, 100])
def test_percentile_against_numpy(percent):
    volume = uniform_volume((11, 13, 7))
    assert imaging.upper_percentile(volume, percent) == pytest.approx(np.percentile(volume, percent), rel=1e-6)


@pytest.mark.parametrize("mean", [0.0, 0.05, 1.1, 4.0, 8.0, 12.0, 20.0, 60.0])
def test_poisson_numbers_have_their_distribution(mean):
    counts = poisson(np.random.default_rng(1), np.full(200_000, mean, dtype=np.float32))
    if mean == 0:
        assert not counts.any()
        return
    edges = np.arange(int(stats.poisson.ppf(1e-3, mean)), int(stats.poisson.ppf(1 - 1e-3, mean)) + 1)
    expected = np.diff(np.concatenate([[0], stats.poisson.cdf(edges, mean), [1]])) * counts.size
    observed = np.bincount(np.searchsorted(edges, counts), minlength=len(expected))
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    assert counts.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / counts.size))


def test_poisson_numbers_of_mixed_means_belong_to_their_voxel():
    means = np.tile(np.array([0.5, 3, 8, 20], dtype=np.float32), 20_000)
    counts = poisson(np.random.default_rng(0), means).reshape(-1, 4)
    np.testing.assert_allclose(counts.mean(axis=0), [0.5, 3, 8, 20], rtol=0.02)
    np.testing.assert_allclose(counts.var(axis=0), [0.5, 3, 8, 20], rtol=0.04)


@pytest.mark.parametrize("highest", [0.5, 16.0])
def test_inversion_gives_the_quantiles_of_scipy(highest):
    rng = np.random.default_rng(0)
    means, uniform = rng.random((2, 20_000), dtype=np.float32) * np.array([[highest], [1]], dtype=np.float32)
    counts, rest = invert(means, uniform)
    expected = stats.poisson.ppf(uniform.astype(float), means.astype(float))
    assert (counts != np.maximum(expected, 0)).mean() < 1e-4  # rounding at the steps
    assert len(rest) < 3


def test_inversion_names_the_numbers_that_the_rounded_distribution_does_not_reach():
    uniform = np.full(1000, 1 - 2**-24, dtype=np.float32)
    counts, rest = invert(np.linspace(0, 8, 1000, dtype=np.float32), uniform)
    valid = np.setdiff1d(np.arange(1000), rest)
    assert len(rest) > 0
    assert counts[valid].max() < 8 + 7 * np.sqrt(8)


def test_fast_normal_numbers_are_normal_and_independent():
    numbers = fast_normal(np.random.default_rng(0), np.empty((2, 50_000), dtype=np.float32))
    assert stats.kstest(numbers.ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(numbers)[0, 1]) < 0.02
    assert abs(np.corrcoef(numbers**2)[0, 1]) < 0.02


@pytest.mark.parametrize(("length", "pieces"), [(100, 16), (5, 16), (16, 16), (1, 3)])
def test_slabs_cover_everything_once(length, pieces):
    parts = slabs(length, pieces)
    assert np.concatenate([np.arange(length)[part] for part in parts]).tolist() == list(range(length))
    assert min(part.stop - part.start for part in parts) >= 1
    assert len(parts) <= pieces


def test_types_are_split_by_the_ratios_in_random_order():
    types = fluorescence.split_types(np.random.default_rng(0), 1100, (2, 3, 3, 3))
    assert np.bincount(types).tolist() == [200, 300, 300, 300]
    assert np.count_nonzero(np.diff(types.astype(int))) > 600
    assert np.bincount(fluorescence.split_types(np.random.default_rng(0), 7, (0, 1, 0, 0))).tolist() == [0, 7]


def draw_clouds(kind, columns=200, **changes):
    frames = np.broadcast_to(np.eye(3), (columns, 3, 3))
    options = {"spacing": 0.1, "simplify_factor": 1.25, "intensity": 50.0, "intensity_sigma": 0.7, "size": (100,) * 3}
    centers = np.full((columns, 3), 0.5)
    return fluorescence.draw_clouds(np.random.default_rng(0), kind, centers, frames, **{**options, **changes})


@pytest.mark.parametrize(("kind", "number", "levels"), [(fluorescence.DENSE, 100, 2), (fluorescence.CLUSTERED, 60, 3)])
def test_clouds_around_clouds_spread_level_by_level(kind, number, levels):
    clouds = draw_clouds(kind)
    assert len(clouds.values) == 200 * number
    offsets = clouds.centers - 50
    expected = np.sqrt(levels) * 10 / 1.25 * np.array([0.12, 0.12, 0.20])
    np.testing.assert_allclose(offsets.std(axis=0), expected, rtol=0.1)
    assert np.log(clouds.values / 50).mean() == pytest.approx(1, abs=0.02)
    assert np.log(clouds.values / 50).std() == pytest.approx(0.7, rel=0.02)
    np.testing.assert_allclose(clouds.axes[:, 0, 0], 10 / 1.25 * 0.12, rtol=1e-5)
    axial = clouds.axes[:, 2, 2]
    assert axial.min() == 0
    assert axial.mean() == pytest.approx(10 / 1.25 * 0.20 * 1.0833, rel=0.02)  # E max(0, N(1, 1)) = 1.0833


def test_ring_clouds_lie_on_a_ring():
    clouds = draw_clouds(fluorescence.RING)
    radius = np.linalg.norm((clouds.centers - 50)[:, :2], axis=1)
    assert len(clouds.values) == 200 * 75
    assert radius.mean() == pytest.approx(3, rel=0.02)
    assert radius.std() == pytest.approx(1, rel=0.05)


def test_rendered_points_fill_the_volume_as_a_gaussian_with_the_last_cloud_on_top():
    size = (30, 24, 26)
    axes = np.diag([2.0, 1.5, 3.0]).astype(np.float32)
    clouds = fluorescence.Clouds(
        np.tile(np.array([[15.0, 12.0, 13.0]], dtype=np.float32), (400, 1)),
        np.tile(axes, (400, 1, 1)),
        np.repeat(np.array([100, 200], dtype=np.float32), 200),
    )
    volume = fluorescence.render_clouds(np.random.SeedSequence(0), clouds, size, 1.0, Workers(1))
    lit = np.argwhere(volume)
    np.testing.assert_allclose(lit.mean(axis=0) + 0.5, [15, 12, 13], atol=0.3)
    center = volume[13:17, 10:14, 10:16]
    assert center.mean() == pytest.approx(200, abs=0.5)  # the later clouds
    assert center.std() == pytest.approx(1, rel=0.3)


def test_points_outside_the_volume_are_dropped():
    clouds = fluorescence.Clouds(
        np.array([[-3.0, 5, 5], [5, 5, 14], [5, 40, 5]], dtype=np.float32),
        np.tile(0.1 * np.eye(3, dtype=np.float32), (3, 1, 1)),
        np.ones(3, dtype=np.float32),
    )
    assert not fluorescence.render_clouds(np.random.SeedSequence(0), clouds, (10, 10, 10), 0.0, Workers(1)).any()
    assert len(clouds.reaching((10, 10, 10)).values) == 0
    assert len(clouds.reaching((10, 10, 14)).values) == 1


def test_voxel_index_is_the_floor_inside_the_volume():
    points = np.array([[0.0, 0.0, 0.0], [1.9, 2.0, 3.99], [-0.01, 1, 1], [2.0, 1, 1]])
    inside, index = fluorescence.voxel_index(points, (2, 3, 4))
    assert inside.tolist() == [True, True, False, False]
    assert index.tolist() == [0, np.ravel_multi_index((1, 2, 3), (2, 3, 4))]


SETTINGS = imaging.Imaging(2, 3.0, (0.001, 0.001), 0.1, (20, 20), (0.8, 0.8))


def test_a_dark_volume_shows_only_the_plateau():
    dark = np.zeros((24, 24, 24), dtype=np.float32)
    image, drawn = imaging.image_volume(np.random.SeedSequence(0), dark, SETTINGS, Workers(1))
    assert drawn["percentile_99"] == 1
    assert np.isfinite(image).all()
    counts = np.exp((np.log(image + 1e-12) - np.log(image).mean()) / 0.8 + np.log(image).mean())
    assert counts.mean() == pytest.approx(20 * 0.1, rel=0.05)


def test_the_99th_percentile_receives_the_gain():
    light = np.zeros((32, 32, 32), dtype=np.float32)
    light[8:24, 8:24, 8:24] = 7.0
    settings = imaging.Imaging(1, 3.0, (0.0, 0.0), 0.1, (20, 20), (1.0, 1.0))
    image, drawn = imaging.image_volume(np.random.SeedSequence(0), light, settings, Workers(1))
    assert drawn["percentile_99"] == pytest.approx(7)
    assert image[8:24, 8:24, 8:24].mean() == pytest.approx(20 * 1.1, rel=0.01)
    assert image[:8].mean() == pytest.approx(20 * 0.1, rel=0.05)


def test_contrast_scales_the_logarithm_about_its_mean():
    counts = np.random.default_rng(0).poisson(5, (16, 16, 16)).astype(np.float32)
    results = []
    for contrast in (1.0, 0.7):
        image = counts.copy()
        imaging.develop(np.random.SeedSequence(1), image, 0.1, contrast, Workers(1))
        results.append(np.log(image))
    assert results[1].mean() == pytest.approx(results[0].mean(), abs=1e-3)
    assert results[1].std() == pytest.approx(0.7 * results[0].std(), rel=1e-3)
