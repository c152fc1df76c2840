"""Training and validation patches never overlap."""

import itertools
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxel_ext.data.block_split import split_by_blocks
from voxel_ext.errors import InvalidInputError


def overlap(a: np.ndarray, b: np.ndarray, patch) -> bool:
    """Whether any patch of one shares a voxel with any of the other."""
    return bool((np.abs(a[:, None] - b[None]) < np.asarray(patch)).all(-1).any())


def grid(*counts: int, stride: int = 4) -> np.ndarray:
    return np.array(list(itertools.product(*map(range, counts)))) * stride


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 1000),
    patch=st.tuples(*[st.integers(1, 9)] * 3),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    extent=st.integers(1, 60),
    fraction=st.floats(0.02, 0.9),
    block=st.none() | st.integers(1, 30),
)
def test_no_overlap(seed, patch, sizes, extent, fraction, block):
    random = np.random.default_rng(seed)
    positions = [np.unique(random.integers(0, extent, (size, 3)), axis=0) for size in sizes]
    try:
        train, val = split_by_blocks(positions, patch, fraction, seed, block)
    except InvalidInputError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert "cannot be divided" in message
        assert sum(size > 0 for size in sizes) < 2  # two volumes can always be divided
        return
    assert len(train) == len(val) == len(positions)
    assert sum(map(len, train)) > 0
    assert sum(map(len, val)) > 0
    for points, a, b in zip(positions, train, val, strict=True):
        assert not overlap(a, b, patch)
        everything = set(map(tuple, points.tolist()))
        assert set(map(tuple, a.tolist())) <= everything
        assert set(map(tuple, b.tolist())) <= everything
        # what is left out overlaps a validation patch
        for lost in everything - set(map(tuple, a.tolist())) - set(map(tuple, b.tolist())):
            assert overlap(np.array([lost]), b, patch)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("counts", [(7, 7, 7), (15, 15, 15), (3, 20, 20)])
def test_fraction_is_kept_approximately_and_most_patches_are_used(fraction, counts, caplog):
    caplog.set_level(logging.INFO)
    positions = grid(*counts)
    train, val = split_by_blocks([positions], 8, fraction)
    assert 0.5 * fraction <= len(val[0]) / len(positions) <= 1.5 * fraction
    dropped = len(positions) - len(train[0]) - len(val[0])
    assert 0 < dropped < 0.6 * len(positions)
    assert f"{dropped} left out" in caplog.text


def test_whole_volumes_are_divided_without_loss():
    positions = [grid(2, 2, 2) for _ in range(10)]
    train, val = split_by_blocks(positions, 8, 0.2)
    assert sorted(map(len, val)) == [0] * 8 + [8] * 2
    assert sum(map(len, train)) == 64


def test_seed_decides():
    positions = [grid(9, 9, 9)]
    first, again, other = (split_by_blocks(positions, 8, 0.2, seed, 16)[1][0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_blocks_are_of_the_size_asked_for():
    _, val = split_by_blocks([grid(8, 8, 8) + 3], 8, 0.2, block_size=(16, 32, 32))
    assert len(val[0]) == 4 * 8 * 8  # one of two blocks
    assert len({tuple(block) for block in ((val[0] - 3) // (16, 32, 32)).tolist()}) == 1


def test_every_seed_works_where_a_division_exists():
    # of 3 blocks, the middle one would leave nothing for training
    positions = [np.array([[0, 0, 0], [4, 0, 0], [8, 0, 0]])]
    for seed in range(6):
        train, val = split_by_blocks(positions, (8, 8, 8), 0.4, seed, 4)
        assert sorted([train[0].tolist(), val[0].tolist()]) == [[[0, 0, 0]], [[8, 0, 0]]]


def test_impossible_divisions():
    with pytest.raises(InvalidInputError, match=r"1 patches of \(8, 8, 8\).*cannot be divided"):
        split_by_blocks([np.array([[0, 0, 0]])], 8, 0.5)
    with pytest.raises(InvalidInputError, match=r"blocks: 1 of \(64, 64, 64\) voxels"):
        split_by_blocks([grid(4, 4, 4)], 8, 0.5, block_size=64)
    with pytest.raises(InvalidInputError, match="0 patches"):
        split_by_blocks([np.empty((0, 3), int)], 8, 0.5)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"fraction": 0}, "fraction=0"),
        ({"fraction": 1.0}, "fraction=1.0"),
        ({"patch_size": -8}, "patch_size=-8"),
        ({"block_size": (4, 4)}, r"block_size=\(4, 4\)"),
        ({"positions": grid(4, 4, 4)}, r"volume 0 have the shape \(3,\)"),
        ({"positions": [grid(4, 4, 4) + 0.5]}, "float64"),
    ],
)
def test_bad_input(change, match):
    with pytest.raises(InvalidInputError, match=match):
        split_by_blocks(**{"positions": [grid(4, 4, 4)], "patch_size": 8, "fraction": 0.2, **change})
