import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.intensity.contrast import RandContrast, RandContrastd, adjust_contrast
from voxel_ext.transforms.intensity.noise import RandPoissonNoise, RandPoissonNoised, poisson_noise


def image(channels=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (channels, 6, 7, 8)).astype(np.float32)


@pytest.mark.parametrize("use_data_mean", [True, False])
def test_contrast_formula(use_data_mean):
    values, alpha = image(), [0.5, 1.0, 1.7]
    for channel, factor, before in zip(adjust_contrast(values, alpha, use_data_mean), alpha, values, strict=True):
        mean = before.mean() if use_data_mean else 0
        np.testing.assert_allclose(channel, np.clip(mean + factor * (before - mean), -1, 1), atol=1e-6)
    assert adjust_contrast(values, [3, 3, 3], clip=None).max() > 1.5


def test_contrast_draws_one_factor_per_channel():
    contrast = RandContrast(prob=0.5, alpha=(0.8, 1.2)).set_random_state(0)
    drawn = [contrast.randomize(4) for _ in range(400)]
    factors = np.array([one for one in drawn if one is not None])
    assert len(factors) / 400 == pytest.approx(0.5, abs=0.08)
    assert factors.shape[1] == 4
    assert 0.8 <= factors.min() < 0.81
    assert 1.19 < factors.max() <= 1.2
    assert np.abs(np.corrcoef(factors.T) - np.eye(4)).max() < 0.25


def test_contrast_dictionary():
    values = image()
    data = {"a": MetaTensor(torch.from_numpy(values), meta={"name": "worm"}), "b": values[:1]}
    result = RandContrastd(["a", "b"], prob=1).set_random_state(1)(data)
    assert result["a"].meta["name"] == "worm"
    assert isinstance(result["b"], np.ndarray)
    np.testing.assert_allclose(result["a"][:1].numpy(), result["b"], atol=1e-6)
    again = RandContrastd(["b", "a"], prob=1).set_random_state(1)(data)
    np.testing.assert_array_equal(again["b"], result["b"])
    assert RandContrastd("b", prob=0)(data)["b"] is data["b"]
    assert RandContrastd("c", prob=1, allow_missing_keys=True)(data) == data


@pytest.mark.parametrize("lam", [0.0, 0.001, 0.04, 0.3, 6.0])
def test_poisson_noise_has_poissons_mean_and_variance(lam):
    noise = poisson_noise(np.random.RandomState(0), lam, (20, 100, 100))
    assert noise.shape == (20, 100, 100)
    assert noise.dtype == np.float32
    assert noise.mean() == pytest.approx(lam, rel=0.1, abs=1e-12)
    assert noise.var(dtype=np.float64) == pytest.approx(lam, rel=0.1, abs=1e-12)
    np.testing.assert_array_equal(noise, np.rint(noise))
    assert (noise == 0).mean() == pytest.approx(np.exp(-lam), rel=0.02, abs=1e-3)


def test_poisson_noise_is_added():
    values = image()
    noisy = RandPoissonNoise(prob=1, lam=(0.5, 0.5)).set_random_state(0)
    added = noisy(values) - values
    np.testing.assert_allclose(added, noisy.noise, atol=1e-5)
    assert added.max() >= 1
    result = RandPoissonNoised(["a", "b"], prob=1, lam=(1, 2)).set_random_state(0)(
        {"a": MetaTensor(torch.from_numpy(values)), "b": values}
    )
    assert isinstance(result["a"], MetaTensor)
    np.testing.assert_array_equal(result["a"].numpy(), result["b"])
    assert RandPoissonNoised("b", prob=0)({"b": values})["b"] is values


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: adjust_contrast(image(), [1, 2]), r"alpha of shape \(2,\)"),
        (lambda: RandContrast(alpha=(1.2, 0.8)), r"alpha=\(1.2, 0.8\)"),
        (lambda: RandContrast(clip=(1, -1)), "clip"),
        (lambda: RandContrast(prob=-0.1), "prob=-0.1"),
        (lambda: RandPoissonNoise(lam=(-1, 1)), "cannot be negative"),
        (lambda: RandPoissonNoise(prob=True), "prob=True"),
        (
            lambda: RandPoissonNoised(["a", "b"], prob=1)({"a": image(), "b": image(2)}),
            r"'b' has shape \(2, 6, 7, 8\)",
        ),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InvalidInputError, match=words):
        call()
