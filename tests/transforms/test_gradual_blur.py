import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.intensity.gradual_blur import (
    RandGradualGaussianBlur,
    RandGradualGaussianBlurd,
    gaussian_matrix,
    gradual_gaussian_blur,
)

SHAPE = (11, 12, 14)


def image(channels=2, seed=0):
    return np.random.default_rng(seed).normal(size=(channels, *SHAPE)).astype(np.float32)


def blend(volume, start, end, count):
    """Slice by slice: the two blurred volumes whose positions are on either side, weighted linearly."""
    depth = volume.shape[1]
    blurred = [gaussian_filter(volume, (0, s, s, s)) for s in np.linspace(start, end, count)]
    places = np.linspace(0, depth, count)
    result = np.zeros_like(volume)
    for z in range(depth):
        for level in range(count):
            share = max(0.0, 1 - abs(z - places[level]) / (places[1] - places[0]))
            result[:, z] += share * blurred[level][:, z]
    return result


@pytest.mark.parametrize("sigma", [0, 0.1, 0.7, 2, 5.5])
@pytest.mark.parametrize("size", [1, 2, 9])
def test_matrix_is_scipys_filter(size, sigma):
    line = np.random.default_rng(0).normal(size=size)
    expected = gaussian_filter1d(line, sigma) if sigma else line
    np.testing.assert_allclose(gaussian_matrix(size, sigma) @ line, expected, atol=1e-12)


def test_constant_sigma_is_scipys_filter():
    volume = image()
    np.testing.assert_allclose(
        gradual_gaussian_blur(volume, 1.3, 1.3), gaussian_filter(volume, (0, 1.3, 1.3, 1.3)), atol=1e-5
    )


@pytest.mark.parametrize(("start", "end", "count"), [(0, 2, 5), (2, 0.3, 5), (1, 0, 2), (0.2, 1.5, 20)])
def test_blend_of_levels(start, end, count):
    volume = image()
    np.testing.assert_allclose(
        gradual_gaussian_blur(volume, start, end, count), blend(volume, start, end, count), atol=1e-5
    )


def test_blur_grows_along_z_and_keeps_the_mean():
    noise = np.random.default_rng(0).normal(size=(1, 40, 30, 30)).astype(np.float32)
    blurred = gradual_gaussian_blur(noise, 0, 2)
    np.testing.assert_allclose(blurred[:, 0], noise[:, 0], atol=1e-6)
    spread = blurred.reshape(40, -1).std(1)
    assert spread[0] > 1.5 * spread[10] > 3 * spread[30] > 0
    np.testing.assert_allclose(gradual_gaussian_blur(np.full_like(noise, 3), 0.5, 2), 3, atol=1e-5)


def test_draws_are_uniform_and_as_often_as_asked():
    blur = RandGradualGaussianBlur(prob=0.6, max_sigma_start=1, max_sigma_end=3).set_random_state(0)
    drawn = [blur.randomize() for _ in range(800)]
    ends = np.array([pair for pair in drawn if pair is not None])
    assert len(ends) / 800 == pytest.approx(0.6, abs=0.06)
    np.testing.assert_allclose(ends.mean(0), [0.5, 1.5], rtol=0.1)
    assert ends.min() >= 0
    assert (ends.max(0) <= [1, 3]).all()
    assert abs(np.corrcoef(ends.T)[0, 1]) < 0.15


def test_dictionary_blurs_all_keys_alike_and_keeps_types():
    volume = image()
    data = {"a": MetaTensor(torch.from_numpy(volume), meta={"name": "worm"}), "b": volume}
    result = RandGradualGaussianBlurd(["a", "b"], prob=1).set_random_state(3)(data)
    assert isinstance(result["a"], MetaTensor)
    assert result["a"].meta["name"] == "worm"
    assert isinstance(result["b"], np.ndarray)
    np.testing.assert_array_equal(result["a"].numpy(), result["b"])
    assert np.abs(result["b"] - volume).max() > 0.1
    again = RandGradualGaussianBlurd(["b", "a"], prob=1).set_random_state(3)(data)
    np.testing.assert_array_equal(again["b"], result["b"])
    assert RandGradualGaussianBlurd("b", prob=0)(data)["b"] is volume


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gradual_gaussian_blur(np.zeros((4, 4, 4), np.float32), 1, 1), r"\(4, 4, 4\)"),
        (lambda: gradual_gaussian_blur(np.zeros((1, 4, 4, 4), np.float32), -1, 1), "sigma at the start is -1"),
        (lambda: RandGradualGaussianBlur(num_blurs=1), "num_blurs=1"),
        (lambda: RandGradualGaussianBlur(prob=2), "prob=2"),
        (lambda: RandGradualGaussianBlurd("image", max_sigma_end=-2), "sigma at the end is -2"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InvalidInputError, match=words):
        call()
