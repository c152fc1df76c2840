"""Low resolution in a part of a volume."""

import numpy as np
import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms import RandCutBlurd, cut_blur

BOX = (slice(2, 6), slice(0, 4), slice(4, 8))


def random_volume(shape: tuple[int, ...] = (2, 8, 8, 8)) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def test_only_the_box_changes():
    volume = random_volume()
    blurred = cut_blur(volume, BOX, 4.0)
    inside = np.zeros(volume.shape[1:], bool)
    inside[BOX] = True
    np.testing.assert_array_equal(blurred[:, ~inside], volume[:, ~inside])
    assert blurred[:, inside].var() < 0.2 * volume[:, inside].var()


def test_reduced_to_one_voxel_it_is_the_mean():
    volume = random_volume()
    blurred = cut_blur(volume, BOX, 8.0)
    means = volume.mean((1, 2, 3))
    for channel in range(2):
        np.testing.assert_allclose(blurred[(channel, *BOX)], means[channel], rtol=1e-5)


def test_factor_one_and_constant_volumes_stay():
    volume = random_volume()
    np.testing.assert_allclose(cut_blur(volume, BOX, 1.0), volume, atol=1e-6)
    constant = np.full((1, 9, 7, 8), 0.5, np.float32)
    np.testing.assert_allclose(cut_blur(constant, BOX, 3.0), constant, atol=1e-6)


def test_kind_is_kept_and_the_input_is_not_changed():
    volume = torch.from_numpy(random_volume())
    before = volume.clone()
    blurred = cut_blur(volume, BOX, 2.0)
    assert isinstance(blurred, torch.Tensor)
    assert torch.equal(volume, before)
    assert isinstance(cut_blur(volume.numpy(), BOX, 2.0), np.ndarray)


def test_random_boxes():
    volume = random_volume((1, 16, 12, 8))
    transform = RandCutBlurd(["image", "other"], prob=1.0, share=0.25, factor=(2, 4)).set_random_state(0)
    starts = set()
    for _ in range(100):
        result = transform({"image": volume, "other": 2 * volume})
        assert [part.stop - part.start for part in transform.box] == [4, 3, 2]
        assert all(part.start >= 0 and part.stop <= size for part, size in zip(transform.box, (16, 12, 8), strict=True))
        assert 2 <= transform.drawn_factor <= 4
        np.testing.assert_allclose(result["other"], 2 * result["image"], atol=1e-6)
        starts.add(transform.box[0].start)
    assert {0, 12} <= starts
    never = RandCutBlurd("image", prob=0.0)
    assert never({"image": volume})["image"] is volume


def test_the_seed_decides():
    volume = random_volume((1, 16, 16, 16))
    results = [RandCutBlurd("image", prob=1.0).set_random_state(5)({"image": volume})["image"] for _ in range(2)]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prob": -0.1}, "prob"),
        ({"share": 0}, "share=0"),
        ({"share": 1.5}, "share=1.5"),
        ({"factor": (4, 2)}, "factor"),
        ({"factor": (0.5, 2)}, "at least 1"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(InvalidInputError, match=words):
        RandCutBlurd("image", **arguments)


def test_bad_input():
    with pytest.raises(InvalidInputError, match=r"factor=0\.5"):
        cut_blur(random_volume(), BOX, 0.5)
    with pytest.raises(InvalidInputError, match=r"\(C, D, H, W\)"):
        cut_blur(np.zeros((8, 8, 8), np.float32), BOX, 2.0)
