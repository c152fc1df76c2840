"""The first points of a cloud."""

from __future__ import annotations

import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms import FirstPointsd

CLOUD = torch.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_the_first_are_taken_and_the_item_is_left_as_it_is(count):
    item = {"points": CLOUD, "id": 7}
    result = FirstPointsd("points", count)(item)
    assert torch.equal(result["points"], CLOUD[:count])
    assert result["id"] == 7
    assert item["points"] is CLOUD


def test_more_points_than_there_are():
    with pytest.raises(InvalidInputError, match="'points' has 4 points, and 5 are asked for"):
        FirstPointsd("points", 5)({"points": CLOUD})


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "4"])
def test_bad_count(count):
    with pytest.raises(InvalidInputError, match="at least 1"):
        FirstPointsd("points", count)


def test_missing_keys():
    with pytest.raises(KeyError, match="points"):
        FirstPointsd("points", 1)({"id": 7})
    assert FirstPointsd("points", 1, allow_missing_keys=True)({"id": 7}) == {"id": 7}
