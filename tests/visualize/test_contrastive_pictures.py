"""Pictures of features, nearest neighbors and views."""

import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize.contrastive_report import (
    feature_map,
    nearest_objects,
    neighbor_gallery,
    principal_plane,
    view_pairs,
)


def test_plane_of_features():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(200, 2)) * [5, 1]
    features = plane @ rng.normal(size=(2, 6)) * 3 + 7
    found, shares = principal_plane(features)
    scaled = (features - features.mean(0)) / features.std(0)
    values = np.linalg.eigvalsh(np.cov(scaled.T, bias=True))[::-1]
    np.testing.assert_allclose(found.var(0), values[:2], rtol=1e-6)
    np.testing.assert_allclose(shares, values[:2] / values.sum(), rtol=1e-6)
    assert sum(shares) == pytest.approx(1)


def test_plane_of_few_or_equal_objects():
    assert principal_plane(np.ones((4, 3)))[0].tolist() == [[0, 0]] * 4
    assert principal_plane(np.ones((1, 1)))[1] == (0, 0)
    for wrong in (np.zeros((0, 3)), np.array([[1.0, np.nan]]), np.zeros(3)):
        with pytest.raises(InvalidInputError, match="empty, not"):
            principal_plane(wrong)


def test_nearest_objects_by_brute_force():
    features = np.random.default_rng(1).normal(size=(30, 4))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for query, found in zip((0, 7), nearest_objects(features, [0, 7], 5), strict=True):
        others = sorted((row for row in range(30) if row != query), key=lambda row: -float(unit[query] @ unit[row]))
        assert found.tolist() == others[:5]
    assert nearest_objects(features[:3], [1], 5).shape == (1, 2)


def test_pictures_are_html():
    rng = np.random.default_rng(0)
    mask = np.zeros((10, 10, 10), np.float32)
    mask[3:7, 2:8, 4:6] = 1
    classes = ["<rod>", "", "donut", "donut"]
    points = feature_map(rng.normal(size=(4, 5)), classes)
    gallery = neighbor_gallery([[mask, mask], [mask]], [["1 rod", "2 <b>"], ["3"]], [[True, False], [True]])
    views = view_pairs(rng.uniform(size=(3, 2, 8, 8, 8)), rng.uniform(size=(3, 2, 8, 8, 8)), ["1", "2", "3"])
    for element, words in ((points, "4 objects"), (gallery, "same class"), (views, "Two views")):
        assert element.startswith("<figure")
        assert "data:image/png" in element
        assert words in element
    assert feature_map(rng.normal(size=(4, 5))).startswith("<figure")
