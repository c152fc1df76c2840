"""The atlas on synthetic worms, and on real ones where their coordinates are given."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.matching import WormAtlas, match_positions, roll_candidates
from voxel_ext.matching.shape_prior import LeaveOneOut, cell_covariance, joint_covariance

COORDINATES = Path(__file__).resolve().parents[3] / "shared" / "data" / "worm_coordinates"

CELLS = 40
NAMES = [f"C{number}" for number in range(CELLS)]


def worms(count, seed=0):
    """Worms of one mean shape, each shifted, stretched, bent smoothly, with noise, every second one turned."""
    rng = np.random.default_rng(7)
    mean = rng.uniform(-1, 1, size=(CELLS, 3)) * [30, 40, 700]
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        u = mean / [30, 40, 700]
        moved = mean * rng.normal(1, 0.05, size=3) + 3 * u[:, 2:] ** 2 * rng.normal(size=3)
        moved += np.sin(3 * u[:, 2:] + rng.uniform(0, 6)) * rng.normal(size=3) * [1, 1.5, 4]
        moved += rng.normal(size=mean.shape) * [0.7, 1, 2.5]
        made.append(roll_candidates(moved)[number % 2] + rng.uniform(50, 900, size=3))
    return made


@pytest.fixture(scope="module")
def atlas():
    return WormAtlas.fit(worms(12), NAMES)


def test_names_held_out_worms_of_both_rolls(atlas):
    rng = np.random.default_rng(1)
    for number, worm in enumerate(worms(4, seed=99)):
        order = rng.permutation(CELLS)
        named = atlas.name(worm[order])
        assert np.mean(named.index == order) > 0.95
        assert named.alignment.roll == 180 * (number % 2)
        assert_allclose(named.matrix[np.arange(CELLS), named.index], named.cost)


@pytest.mark.parametrize("method", ["quadratic", "drift"])
def test_alignment_lays_the_worm_over_the_mean(atlas, method):
    for worm in worms(2, seed=98):
        found = atlas.align(worm, method)
        assert np.mean(found.assignment == np.arange(CELLS)) > 0.95
        assert np.all(np.abs(found.positions - atlas.mean).mean(axis=0) < [2, 3, 8])


def test_a_half_turn_changes_nothing_but_the_roll(atlas):
    worm = worms(1, seed=97)[0]
    turned = roll_candidates(worm)[1]
    for method in ("quadratic", "drift"):
        a, b = atlas.align(worm, method), atlas.align(turned, method)
        assert_allclose(a.positions, b.positions, atol=1e-6)
        assert {a.roll, b.roll} == {0, 180}
    assert_array_equal(atlas.name(worm).index, atlas.name(turned).index)


def test_missing_and_extra_cells(atlas):
    worm = worms(1, seed=96)[0]
    holes = worm.copy()
    holes[[3, 20, 31]] = np.nan
    named = atlas.name(holes)
    assert_array_equal(np.flatnonzero(named.index < 0), [3, 20, 31])
    assert np.mean(np.delete(named.index == np.arange(CELLS), [3, 20, 31])) > 0.9
    fewer = np.delete(worm, [3, 20, 31], axis=0)
    assert_array_equal(atlas.name(fewer).index, np.delete(named.index, [3, 20, 31]))

    more = atlas.name(np.vstack([worm, worm.mean(axis=0) + np.array([[40, 55, 0], [-40, -60, 300]])]))
    assert np.mean(more.index[:CELLS] == np.arange(CELLS)) > 0.9
    assert (more.index >= 0).sum() == CELLS


def test_dummy_cost_leaves_doubtful_cells_unnamed(atlas):
    worm = worms(1, seed=95)[0]
    certain = atlas.name(worm)
    limit = np.sort(certain.cost)[-5]
    named = atlas.name(worm, dummy_cost=limit)
    assert (named.index < 0).sum() >= 5
    assert np.nanmax(named.cost) < limit


def test_training_worms_may_lack_cells():
    training = worms(12)
    training[0][5], training[4][5], training[7][9] = np.nan, np.nan, np.nan
    made = WormAtlas.fit(training, NAMES)
    assert np.mean(made.name(worms(1, seed=94)[0]).index == np.arange(CELLS)) > 0.95
    for worm in training:
        worm[8] = np.nan
    with pytest.raises(InvalidInputError, match="no worm has the cell 'C8'"):
        WormAtlas.fit(training, NAMES)


def test_leave_one_out_is_conditioning_on_the_others():
    rng = np.random.default_rng(3)
    residuals, mean = rng.normal(size=(9, 6, 3)), rng.normal(size=(6, 3)) * 4
    joint = joint_covariance(residuals, mean, cell_covariance(residuals))
    assert np.linalg.eigvalsh(joint).min() > 0
    prior, y = LeaveOneOut.of(joint), rng.normal(size=(6, 3)) * 0.1
    for cell in range(6):
        own = np.arange(3 * cell, 3 * cell + 3)
        rest = np.setdiff1d(np.arange(18), own)
        gain = joint[np.ix_(own, rest)] @ np.linalg.inv(joint[np.ix_(rest, rest)])
        assert_allclose(prior.predict(y, clip=1e9)[cell], gain @ y.reshape(-1)[rest], atol=1e-10)
        spread = joint[np.ix_(own, own)] - gain @ joint[np.ix_(rest, own)]
        assert_allclose(prior.spread[cell], spread, atol=1e-10)


def test_save_and_load(atlas, tmp_path):
    path = tmp_path / "deep" / "atlas.npz"
    atlas.save(path)
    again = WormAtlas.load(path)
    worm = worms(1, seed=93)[0]
    assert again.names == NAMES
    assert_array_equal(again.name(worm).matrix, atlas.name(worm).matrix)
    with pytest.raises(MissingDataError, match=r"other\.npz"):
        WormAtlas.load(tmp_path / "other.npz")
    np.savez(tmp_path / "foreign.npz", mean=atlas.mean)
    with pytest.raises(InvalidInputError, match="lacks covariance"):
        WormAtlas.load(tmp_path / "foreign.npz")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InvalidInputError, match="not an atlas"):
        WormAtlas.load(path)


def test_bad_input(atlas):
    with pytest.raises(InvalidInputError, match="two worms or more"):
        WormAtlas.fit(worms(1), NAMES)
    with pytest.raises(InvalidInputError, match="worm 1 has 39 rows for 40 names"):
        WormAtlas.fit([worms(1)[0], worms(1)[0][:-1]], NAMES)
    with pytest.raises(InvalidInputError, match="at least 10"):
        atlas.name(np.full((CELLS, 3), np.nan))
    with pytest.raises(InvalidInputError, match=r"\(40, 2\)"):
        atlas.align(np.zeros((CELLS, 2)))
    with pytest.raises(InvalidInputError, match="method='name'"):
        atlas.align(worms(1)[0], "name")


def real_worms() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Positions of 8 real worms, and of the 32 others."""
    files = sorted(COORDINATES.glob("*.txt"))
    every = [np.genfromtxt(file, delimiter="\t", skip_header=1, usecols=(4, 3, 2)) for file in files]
    order = np.random.default_rng(0).permutation(len(files))
    return [every[i] for i in order[:8]], [every[i] for i in order[8:]]


@pytest.mark.skipif(not COORDINATES.is_dir(), reason="the real coordinates are not beside the project")
def test_real_worms_are_named():
    held_out, training = real_worms()
    cells = np.arange(len(training[0]))
    made = WormAtlas.fit(training, [str(cell) for cell in cells])
    named = [np.mean(made.name(worm).index == cells) for worm in held_out]
    assert np.mean(named) > 0.97
    assert min(named) > 0.95


@pytest.mark.slow
@pytest.mark.skipif(not COORDINATES.is_dir(), reason="the real coordinates are not beside the project")
def test_real_worms_are_matched_in_pairs():
    held_out, _ = real_worms()
    pairs = [match_positions(a, b) for a, b in itertools.combinations(held_out, 2)]
    assert np.mean([np.mean(pair.rows == pair.columns) for pair in pairs]) > 0.85
