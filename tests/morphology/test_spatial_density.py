"""Objects per block of a grid beside counting voxel by voxel."""

import itertools

import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.spatial_density import SpatialGrid, count_labeled, spatial_density


def boxes_of(grid):
    edges = [grid.edges(axis) for axis in range(3)]
    for place in itertools.product(range(grid.blocks), repeat=3):
        yield place, tuple(slice(edges[a][k], edges[a][k + 1]) for a, k in enumerate(place))


@pytest.mark.parametrize(("shape", "blocks"), [((6, 6, 6), 3), ((5, 7, 11), 2), ((5, 7, 11), 5), ((4, 3, 5), 1)])
def test_like_counting_each_block(shape, blocks):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, shape)
    centroids = generator.uniform(-0.5, np.array(shape) - 0.5, (50, 3))
    grid = SpatialGrid(shape, blocks)
    labeled = count_labeled(labels, grid)
    density = spatial_density(labeled, centroids, grid)
    covered = np.zeros(shape, int)
    for place, box in boxes_of(grid):
        covered[box] += 1
        assert labeled[place] == np.count_nonzero(labels[box])
        assert density.volume_fraction[place] == pytest.approx((labels[box] != 0).mean())
        assert grid.volumes[place] == labels[box].size
        low = np.array([part.start for part in box]) - 0.5
        high = np.array([part.stop for part in box]) - 0.5
        assert density.count[place] == ((centroids >= low) & (centroids < high)).all(axis=1).sum()
    assert (covered == 1).all()
    assert density.count.sum() == 50


@pytest.mark.parametrize("block", [(1, 1, 1), (2, 3, 4), (5, 7, 9), (3, 7, 1)])
def test_parts_add_up(block):
    labels = np.random.default_rng(0).integers(0, 2, (5, 7, 9), dtype=np.uint64)
    grid = SpatialGrid((5, 7, 9), 4)
    total = np.zeros((4, 4, 4), np.int64)
    for corner in itertools.product(*(range(0, n, b) for n, b in zip(labels.shape, block, strict=True))):
        box = tuple(slice(c, c + b) for c, b in zip(corner, block, strict=True))
        total += count_labeled(labels[box], grid, corner)
    assert np.array_equal(total, count_labeled(labels, grid))


def test_no_objects():
    grid = SpatialGrid((4, 4, 4), 2)
    density = spatial_density(count_labeled(np.zeros((4, 4, 4), int), grid), np.zeros((0, 3)), grid)
    assert not density.count.any()
    assert not density.volume_fraction.any()
    assert not count_labeled(np.zeros((0, 4, 4), int), grid).any()


def test_bad_input():
    with pytest.raises(InvalidInputError, match="blocks=0; expected a positive"):
        SpatialGrid((4, 4, 4), 0)
    with pytest.raises(InvalidInputError, match="cannot be divided into 4 blocks per axis; expected at most 3"):
        SpatialGrid((4, 3, 4), 4)
    grid = SpatialGrid((4, 4, 4), 2)
    with pytest.raises(InvalidInputError, match="reach outside the volume"):
        count_labeled(np.zeros((2, 2, 2), int), grid, (3, 0, 0))
    with pytest.raises(InvalidInputError, match="expected integers"):
        count_labeled(np.zeros((2, 2, 2)), grid)
    with pytest.raises(InvalidInputError, match=r"labeled has shape \(3, 3, 3\); expected \(2, 2, 2\)"):
        spatial_density(np.zeros((3, 3, 3)), np.zeros((1, 3)), grid)
