"""The F-score of point clouds against its definition."""

from __future__ import annotations

import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.metrics import point_cloud_f_score


def clouds(points, seed):
    return torch.rand(4, points, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("search", ["chunked", "tree"])
@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.5])
def test_it_is_its_definition(threshold, search):
    prediction, target = clouds(30, 0), clouds(50, 1)
    distances = torch.cdist(prediction, target)
    precision = (distances.amin(2) < threshold).float().mean(1)
    recall = (distances.amin(1) < threshold).float().mean(1)
    expected = (2 * precision * recall / (precision + recall)).nan_to_num(0)
    torch.testing.assert_close(point_cloud_f_score(prediction, target, threshold, search), expected)


def test_limits():
    cloud = clouds(10, 0)
    assert point_cloud_f_score(cloud, cloud.flip(1)).tolist() == [1] * 4
    assert point_cloud_f_score(cloud, cloud + 5).tolist() == [0] * 4
    # half of the prediction is right, and the whole target is found
    assert point_cloud_f_score(torch.cat([cloud, cloud + 5], 1), cloud).tolist() == pytest.approx([2 / 3] * 4)


@pytest.mark.parametrize("threshold", [0, -1, float("inf"), True])
def test_bad_threshold(threshold):
    with pytest.raises(InvalidInputError, match="threshold"):
        point_cloud_f_score(clouds(3, 0), clouds(3, 1), threshold)


def test_bad_shapes():
    with pytest.raises(InvalidInputError, match=r"\(4, 3, 3\) and \(2, 3, 3\)"):
        point_cloud_f_score(clouds(3, 0), clouds(3, 1)[:2])
