"""Rolls, polynomial alignment, coherent point drift and pairs on synthetic points."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from voxel_ext.errors import InvalidInputError
from voxel_ext.matching import (
    affine_fit,
    coherent_point_drift,
    match_positions,
    polynomial_basis,
    polynomial_fit,
    roll_candidates,
)

SIZE = np.array([20.0, 25.0, 400.0])


def points(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, size=(count, 3)) * SIZE + 500


def bend(p, amount):
    """A smooth displacement of a few voxels."""
    u = (p - 500) / SIZE
    return p + amount * np.stack([np.sin(2 * u[:, 2]), np.cos(2 * u[:, 2]), 2 * np.sin(u[:, 2] + u[:, 0])], axis=1)


def test_roll_is_a_half_turn_about_x_through_the_centroid():
    p = points(20)
    same, turned = roll_candidates(p)
    centre = p.mean(axis=0)
    assert_allclose(same, p)
    assert_allclose(turned - centre, (p - centre) * [-1, -1, 1], atol=1e-9)
    assert_allclose(roll_candidates(turned)[1], p)


@pytest.mark.parametrize("degree", [1, 2])
def test_polynomial_is_recovered_exactly(degree):
    p = points(40)
    terms = polynomial_basis((p - 500) / SIZE, degree)
    target = terms @ np.random.default_rng(1).normal(size=(terms.shape[1], 3)) * 30
    wrong = target.copy()
    wrong[0], wrong[1] = 1e4, np.nan
    weights = np.ones(40)
    weights[0] = 0
    fit = polynomial_fit(p, wrong, degree, weights)
    assert_allclose(fit(p), target, atol=1e-8)


def test_affine_is_degree_one():
    p = points(30)
    target = bend(p, 3)
    assert_allclose(affine_fit(p, target)(p), polynomial_fit(p, target, 1)(p))


def test_drift_recovers_a_smooth_displacement():
    p = points(80)
    target = bend(p, 4.0)
    order = np.random.default_rng(3).permutation(80)
    result = coherent_point_drift(p, target[order], beta=10, lamb=1, w=0.01, scale=(2, 3, 8), sigma2=9)
    before, after = (np.sqrt(((q - target) ** 2).mean()) for q in (p, result.moved))
    assert after < 0.1 * before
    assert np.mean(order[result.probability.argmax(axis=1)] == np.arange(80)) > 0.97
    assert result.probability.sum(axis=0).max() <= 1 + 1e-9


def test_affine_drift_recovers_an_affine_map():
    p = points(60)
    target = (p - 500) @ (np.eye(3) + 0.02 * np.random.default_rng(4).normal(size=(3, 3)) / SIZE[:, None] * SIZE) + 503
    result = coherent_point_drift(p, target[::-1], w=0.0, scale=SIZE, sigma2=0.01, affine=True, tolerance=1e-9)
    assert_allclose(result.moved, target, atol=1e-4)


def test_drift_leaves_missing_points_alone():
    p, target = points(40), bend(points(40), 2)
    holes_p, holes_t = p.copy(), target.copy()
    holes_p[3], holes_t[5] = np.nan, np.nan
    result = coherent_point_drift(holes_p, holes_t, scale=(2, 3, 8), sigma2=9, iterations=5)
    dense = coherent_point_drift(np.delete(p, 3, 0), np.delete(target, 5, 0), scale=(2, 3, 8), sigma2=9, iterations=5)
    assert_allclose(np.delete(result.moved, 3, 0), dense.moved)
    assert np.isnan(result.moved[3]).all()
    assert result.probability[3].sum() == 0
    assert result.probability[:, 5].sum() == 0


@pytest.mark.parametrize("method", ["roll", "affine", "quadratic", "drift"])
@pytest.mark.parametrize("turned", [False, True])
def test_pairs_in_both_rolls(method, turned):
    a = points(60)
    b = bend(a, 0.8)
    order = np.random.default_rng(5).permutation(60)
    if turned:
        b = roll_candidates(b)[1]
    b = b[order] + [3.0, -4.0, 50.0]
    b[7] = np.nan
    match = match_positions(a, b, method)
    assert match.roll == (180 if turned else 0)
    assert 7 not in match.columns
    assert len(match.rows) == 59
    assert np.mean(order[match.columns] == match.rows) > 0.95
    assert np.isnan(match.cost[:, 7]).all()


def test_bad_input():
    with pytest.raises(InvalidInputError, match=r"\(N, 3\).*\(3, 2\)"):
        roll_candidates(np.zeros((3, 2)))
    with pytest.raises(InvalidInputError, match="row 1 of a"):
        match_positions(np.where(np.arange(60).reshape(20, 3) == 4, np.nan, 1.0), points(20))
    with pytest.raises(InvalidInputError, match="at least 10"):
        match_positions(points(9), points(20))
    with pytest.raises(InvalidInputError, match=r"method='drfit'.*'drift'"):
        match_positions(points(20), points(20), "drfit")
    with pytest.raises(InvalidInputError, match="degree=3"):
        polynomial_basis(points(5), 3)
    with pytest.raises(InvalidInputError, match="too few for a fit of degree 2"):
        polynomial_fit(points(12), points(12), 2, np.arange(12) < 5)
    with pytest.raises(InvalidInputError, match="same shape"):
        polynomial_fit(points(12), points(13), 1)
    with pytest.raises(InvalidInputError, match="weights"):
        polynomial_fit(points(12), points(12), 1, -np.ones(12))
    with pytest.raises(InvalidInputError, match="w=1"):
        coherent_point_drift(points(12), points(12), w=1)
    with pytest.raises(InvalidInputError, match="three positive"):
        coherent_point_drift(points(12), points(12), scale=(1, 0, 1))
