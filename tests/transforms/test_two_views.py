"""Two views of the same image."""

import numpy as np
import pytest
import torch
from monai.data.utils import set_rnd
from monai.transforms import Compose, RandGaussianNoised, RandShiftIntensityd

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms import TwoViewsd


def noise() -> Compose:
    return Compose([RandShiftIntensityd("image", offsets=1.0, prob=1.0), RandGaussianNoised("image", prob=1.0)])


def item(one: int = 3, chunk: int = 0) -> dict:
    return {"image": torch.zeros(1, 4, 4, 4), "id": one, "chunk": chunk}


def test_views_differ_and_the_image_stays():
    given = item()
    result = TwoViewsd(noise())(given)
    assert set(result) == {"image", "id", "chunk", "view1", "view2"}
    assert not result["image"].any()
    assert set(given) == {"image", "id", "chunk"}
    assert result["view1"].shape == result["view2"].shape == (1, 4, 4, 4)
    assert np.abs(np.asarray(result["view1"]) - np.asarray(result["view2"])).max() > 0.01


def test_the_random_state_decides():
    transform = TwoViewsd(noise())
    drawn = []
    for seed in (1, 1, 2):
        transform.set_random_state(seed)
        drawn.append(np.asarray(transform(item())["view2"]))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 0.01


def test_it_is_seeded_with_the_data_set():
    class Data:
        transform = None

    drawn = []
    for _ in range(2):
        data = Data()
        data.transform = TwoViewsd(noise())
        set_rnd(data, 11)
        drawn.append(np.asarray(data.transform(item())["view1"]))
    np.testing.assert_array_equal(*drawn)


def test_with_a_seed_views_depend_on_the_object_alone():
    transform = TwoViewsd(noise(), seed=0)
    first = np.asarray(transform(item(3))["view1"])
    other = np.asarray(transform(item(4))["view1"])
    part = np.asarray(transform(item(3, 1))["view1"])
    transform.set_random_state(99)
    np.testing.assert_array_equal(transform(item(3))["view1"], first)
    assert np.abs(first - other).max() > 0.01
    assert np.abs(first - part).max() > 0.01
    assert np.abs(first - np.asarray(TwoViewsd(noise(), seed=1)(item(3))["view1"])).max() > 0.01


def test_bad_input():
    with pytest.raises(InvalidInputError, match="two different names"):
        TwoViewsd(noise(), view_keys=("view", "view"))
    with pytest.raises(InvalidInputError, match="seed=-1"):
        TwoViewsd(noise(), seed=-1)
    with pytest.raises(InvalidInputError, match="no 'image'"):
        TwoViewsd(noise())({"id": 1})
    with pytest.raises(InvalidInputError, match="no 'chunk'"):
        TwoViewsd(noise(), seed=0)({"image": torch.zeros(1, 4, 4, 4), "id": 1})
