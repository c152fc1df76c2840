"""The light of the synthetic worm and how it is recorded."""

import numpy as np
import pytest

from voxel_ext.synthetic.optic_lobe.parallel import Workers
from voxel_ext.synthetic.worm import imaging
from voxel_ext.synthetic.worm.imaging import add_noise, add_nuclei, body_light, image_worm
from voxel_ext.synthetic.worm.nuclei import Nuclei, draw_nuclei

CENTERS = np.array([[25.2, 25.3, 25.4], [25.2, 25.3, 60.4], [60.2, 25.3, 25.4], [60.2, 25.3, 60.4]])
SHAPE = (90, 50, 90)


def alike(centers):
    """Spheres of radius 5 and brightness 1 without chromatin."""
    count = len(centers)
    ones = np.ones(count)
    return Nuclei(centers, np.tile(np.eye(3) * 5, (count, 1, 1)), 5 * ones, ones, 0 * ones, ones)


def variances(image):
    """Second central moments (3,) of an image along its axes."""
    grid = np.indices(image.shape)
    weight = image / image.sum()
    mean = (weight * grid).sum(axis=(1, 2, 3))
    return (weight * grid**2).sum(axis=(1, 2, 3)) - mean**2


def test_blur_keeps_the_light_of_a_nucleus_and_spreads_it_along_z():
    image = np.zeros(SHAPE, dtype=np.float32)
    add_nuclei(np.random.default_rng(0), image, alike(CENTERS[:1]), np.ones(SHAPE[0], dtype=np.float32))
    ball = (((np.moveaxis(np.indices(SHAPE), 0, -1) - CENTERS[0]) ** 2).sum(axis=-1) <= 25).astype(float)
    assert image.sum() == pytest.approx(ball.sum() * imaging.LIGHT, rel=1e-3)
    # variances add; the kernel is cut off at 3 standard deviations
    np.testing.assert_allclose(variances(image) - variances(ball), np.square(imaging.BLUR), rtol=0.08)


def test_light_falls_exponentially_with_depth():
    image, drawn = image_worm(np.random.SeedSequence(1), alike(CENTERS), SHAPE, Workers(1))
    image -= imaging.OFFSET
    top, deep = image[20:31, 20:31].sum(), image[55:66, 20:31].sum()
    assert deep / top == pytest.approx(np.exp(-35 / drawn["attenuation_length"]), rel=0.03)
    assert imaging.ATTENUATION[0] <= drawn["attenuation_length"] <= imaging.ATTENUATION[1]


def test_body_surrounds_the_nuclei_and_ends_with_them():
    centers = np.array([[30.0, 25, 40], [40, 35, 50], [30, 35, 1100]])  # with a long gap between
    light = body_light(centers, (70, 60, 1160))
    assert light.min() >= 0
    assert light.max() <= 1
    assert light[tuple(np.rint(centers).astype(int).T)].min() > 0.3
    assert light[:, :, 5].max() < 0.05
    assert light[0].max() < 0.2
    assert light[30, 30, 500] > 0.5


def test_noise_has_mean_and_variance_of_the_camera():
    image = np.full((32, 40, 40), 60.0, dtype=np.float32)
    add_noise(np.random.SeedSequence(2), image, Workers(1))
    assert image.mean() == pytest.approx(60 + imaging.OFFSET, abs=0.3)
    rounding = 1 / 12
    expected = 60 * imaging.COUNTS_PER_PHOTON + imaging.READ_NOISE**2 + rounding
    assert image.var() == pytest.approx(expected, rel=0.04)
    np.testing.assert_array_equal(image, np.rint(image))


def test_counts_stay_in_8_bits():
    image = np.linspace(0, 5000, 20 * 31 * 31, dtype=np.float32).reshape(20, 31, 31)
    add_noise(np.random.SeedSequence(3), image, Workers(1))
    assert image.min() >= 0
    assert image.max() == 255


def test_image_does_not_depend_on_the_number_of_threads():
    nuclei = draw_nuclei(np.random.default_rng(4), CENTERS, list("abcd"), 1.0)
    with Workers(3) as workers:
        several = image_worm(np.random.SeedSequence(5), nuclei, SHAPE, workers)[0]
    np.testing.assert_array_equal(several, image_worm(np.random.SeedSequence(5), nuclei, SHAPE, Workers(1))[0])


def test_chromatin_has_the_contrast_and_the_grain_of_the_nucleus():
    ones = np.ones(1)
    cores = {}
    for contrast, grain in ((0.0, 1.0), (0.1, 1.0), (0.2, 1.0), (0.2, 2.0)):
        image = np.zeros(SHAPE, dtype=np.float32)
        nucleus = Nuclei(CENTERS[:1], np.eye(3)[None] * 10, 10 * ones, ones, contrast * ones, grain * ones)
        add_nuclei(np.random.default_rng(6), image, nucleus, np.ones(SHAPE[0], dtype=np.float32))
        cores[contrast, grain] = image[21:30, 21:30, 21:30]
    texture = {key: core - cores[0.0, 1.0] for key, core in cores.items()}
    np.testing.assert_allclose(texture[0.2, 1.0], 2 * texture[0.1, 1.0], atol=0.1)
    assert 0.02 * imaging.LIGHT < texture[0.2, 1.0].std() < 0.2 * imaging.LIGHT
    fine, coarse = (np.corrcoef(t[:, :, 2:].ravel(), t[:, :, :-2].ravel())[0, 1] for t in list(texture.values())[2:])
    assert coarse > fine + 0.05
