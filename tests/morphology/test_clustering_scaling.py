"""Scaling and weighting of features, against scikit-learn and closed forms."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA
from sklearn.preprocessing import minmax_scale, scale

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.clustering import SCALINGS, join_features, scale_features


def matrix(seed=0, count=30):
    rng = np.random.default_rng(seed)
    ids = np.arange(1, count + 1)
    size = pd.DataFrame({"id": ids, "v": rng.gamma(2, 1e-3, count)})
    shape = pd.DataFrame({f"c{i}": rng.normal(i, i + 1, count) for i in range(4)}).assign(id=ids)
    return join_features({"sizef": size, "shapef": shape})


def test_minmax_is_that_of_scikit_learn():
    given = matrix()
    scaled = scale_features(given, balance=False)
    assert scaled.values == pytest.approx(minmax_scale(given.values))
    assert scaled.columns == given.columns


def test_standard_is_that_of_scikit_learn():
    given = matrix()
    assert scale_features(given, "standard", balance=False).values == pytest.approx(scale(given.values))


def test_minmax_block_keeps_proportions():
    given = matrix()
    block = given.block("shapef")
    expected = (block - block.min()) / (block.max() - block.min())
    assert scale_features(given, "minmax_block", balance=False).block("shapef") == pytest.approx(expected)


def test_whitened_components_are_uncorrelated():
    given = matrix()
    scaled = scale_features(given, "pca_whiten", balance=False, pca_variance=1)
    assert np.cov(scaled.block("shapef").T, bias=True) == pytest.approx(np.eye(4), abs=1e-9)
    assert scaled.columns == ("sizef.pc0", "shapef.pc0", "shapef.pc1", "shapef.pc2", "shapef.pc3")
    expected = PCA(4, whiten=True, svd_solver="full").fit_transform(given.block("shapef")) * np.sqrt(30 / 29)
    assert scaled.block("shapef") == pytest.approx(expected)


def test_whitening_leaves_out_what_explains_little():
    given = matrix()
    ratios = PCA(svd_solver="full").fit(given.block("shapef")).explained_variance_ratio_
    share = float(ratios[:2].sum())
    assert scale_features(given, "pca_whiten", pca_variance=share).block("shapef").shape[1] == 2
    assert scale_features(given, "pca_whiten", pca_variance=share + 1e-6).block("shapef").shape[1] == 3


def test_whitening_of_dependent_columns_and_few_objects():
    given = matrix(count=3)
    assert scale_features(given, "pca_whiten", pca_variance=1).block("shapef").shape[1] == 2
    copied = pd.DataFrame({"id": [1, 2, 3], "a": [1.0, 2, 4], "b": [1.0, 2, 4]})
    assert scale_features(join_features({"f": copied}), "pca_whiten", pca_variance=1).values.shape == (3, 1)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_weight_multiplies_the_distances_of_its_feature(scaling):
    given = matrix()
    one, other = (scale_features(given, scaling, [1, weight]) for weight in (1, 2))
    assert pdist(other.block("shapef")) == pytest.approx(2 * pdist(one.block("shapef")))
    assert np.array_equal(other.block("sizef"), one.block("sizef"))


def test_squared_distance_is_the_weighted_mean_over_columns():
    given = matrix()
    scaled = scale_features(given, "standard", {"shapef": 3})
    size, shape = (scale(given.block(name)) for name in ("sizef", "shapef"))
    assert pdist(scaled.values) ** 2 == pytest.approx(pdist(size) ** 2 + 9 * pdist(shape) ** 2 / 4)


def test_a_copied_column_changes_nothing():
    table = pd.DataFrame({"id": [1, 2, 3], "a": [1.0, 5, 2]})
    once, twice = (scale_features(join_features({"f": one})) for one in (table, table.assign(b=table["a"])))
    assert pdist(twice.values) == pytest.approx(pdist(once.values))


@pytest.mark.parametrize("scaling", SCALINGS)
def test_constant_columns_have_no_effect(scaling, caplog):
    table = pd.DataFrame({"id": [1, 2, 3], "a": [0.1, 0.1, 0.1], "b": [1.0, 5, 2]})
    with caplog.at_level(logging.WARNING):
        scaled = scale_features(join_features({"f": table, "g": table[["id", "a"]]}), scaling)
    assert "of no use for clustering: f.a, g.a" in caplog.text
    assert np.isfinite(scaled.values).all()
    assert pdist(scaled.block("g")).max() == 0
    assert pdist(scaled.block("f")).max() > 0


def test_small_and_large_values_are_not_constant():
    table = pd.DataFrame({"id": [1, 2], "a": [1e-20, 2e-20], "b": [1e200, 3e200]})
    assert scale_features(join_features({"f": table}), balance=False).values.tolist() == [[0, 0], [1, 1]]


def test_scaling_by_feature():
    given = matrix()
    scaled = scale_features(given, {"shapef": "standard"}, balance=False)
    assert scaled.block("sizef") == pytest.approx(minmax_scale(given.block("sizef")))
    assert scaled.block("shapef") == pytest.approx(scale(given.block("shapef")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": [1]}, r"weights has 1 numbers for 2 features \(sizef, shapef\)"),
        ({"weights": [1, 1, 1]}, "weights has 3 numbers for 2 features"),
        ({"weights": [1, -1]}, "expected finite numbers of at least 0"),
        ({"weights": [1, float("nan")]}, "expected finite numbers"),
        ({"weights": [0, 0]}, "not all 0"),
        ({"weights": [1, "2"]}, "expected finite numbers"),
        ({"weights": {"shape": 2}}, "feature in weights='shape' is not known.*'shapef'"),
        ({"scaling": "min-max"}, "scaling='min-max' is not known; expected one of 'minmax'"),
        ({"scaling": {"shapef": "max"}}, "scaling#shapef='max' is not known"),
        ({"scaling": {"x": "minmax"}}, "feature in scaling='x' is not known"),
        ({"pca_variance": 0}, "pca_variance=0; expected a share"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        scale_features(matrix(), **settings)
