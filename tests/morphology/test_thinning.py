import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import euler_number
from solids import capsule, torus

from voxel_ext.morphology.thickness import depth_map
from voxel_ext.morphology.thinning import _is_simple, thin


def _by_labeling(window):
    """Whether the middle of 3 x 3 x 3 voxels is simple, by counting components in its neighborhood."""
    neighbors, outside = window.copy(), ~window
    neighbors[1, 1, 1] = False
    _, pieces = ndimage.label(neighbors, np.ones((3, 3, 3)))
    near = np.abs(np.indices((3, 3, 3)) - 1).sum(axis=0)
    labels, _ = ndimage.label(outside & (near <= 2))
    return pieces == 1 and len(set(labels[near == 1]) - {0}) == 1


def test_simple_voxels_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    windows = [rng.random((3, 3, 3)) < fraction for fraction in rng.uniform(0.05, 0.95, 500)]
    codes = []
    for window in windows:
        window[1, 1, 1] = True
        codes.append(sum(1 << k for k in np.flatnonzero(window.ravel()) if k != 13))
    expected = [_by_labeling(window) for window in windows]
    assert 100 < sum(expected) < 400
    assert _is_simple(np.array(codes, np.int32)).tolist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_topology_stays_and_nothing_can_be_removed_but_ends(seed):
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.random((24, 26, 28)), 2) > 0.5
    thinned = thin(mask, depth_map(mask, (2, 1, 1)))
    everywhere = np.ones((3, 3, 3))
    assert not (thinned & ~mask).any()
    assert ndimage.label(thinned, everywhere)[1] == ndimage.label(mask, everywhere)[1]
    assert ndimage.label(~np.pad(thinned, 1))[1] == ndimage.label(~np.pad(mask, 1))[1]
    assert euler_number(thinned, 3) == euler_number(mask, 3)
    padded = np.pad(thinned, 1)
    for place in np.argwhere(padded):
        window = padded[tuple(slice(at - 1, at + 2) for at in place)]
        assert np.count_nonzero(window) == 2 or not _by_labeling(window)


@pytest.mark.parametrize("shape", [(6, 6, 60), (60, 4, 4), (2, 40, 2), (2, 2, 2), (5, 5, 50), (1, 1, 1)])
def test_rods_of_even_and_odd_width_become_lines(shape):
    mask = np.ones(shape, bool)
    thinned = thin(mask, depth_map(mask))
    assert euler_number(thinned, 3) == 1
    assert max(shape) - 2 <= np.count_nonzero(thinned) <= max(shape) + 12
    assert np.ptp(np.argwhere(thinned), axis=0).max() >= max(shape) - 2


@pytest.mark.parametrize("voxel_size", [(8, 8, 8), (30, 8, 8)])
def test_lines_lie_in_the_middle(voxel_size):
    rod, ring = capsule(60, 300, voxel_size, 1), torus(200, 70, voxel_size, 1)
    for mask, radius in ((rod, 60), (ring, 70)):
        depth = depth_map(mask, voxel_size)
        middle = np.median(depth[thin(mask, depth)])
        assert middle > 0.75 * radius


def test_the_order_in_memory_does_not_matter():
    mask = capsule(4, 20, (1, 1, 1), 0)
    depth = depth_map(mask)
    np.testing.assert_array_equal(thin(np.asfortranarray(mask), depth), thin(mask, depth))


def test_the_mask_is_not_changed():
    mask = np.ones((4, 5, 6), bool)
    thin(mask, depth_map(mask))
    assert mask.all()
