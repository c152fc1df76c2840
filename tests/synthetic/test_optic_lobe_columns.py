"""Ground truth of the optic lobe against brute force over all voxels and columns."""

import numpy as np
import pytest

from voxel_ext.synthetic.optic_lobe.columns import Cones, column_labels, consecutive, mean_spacing
from voxel_ext.synthetic.optic_lobe.parallel import Workers


def brute_force(cones, size):
    """Ids by the definition: inside the cone, smallest distance over local radius, first column in a tie."""
    axes = [(np.arange(length) + 0.5) / length for length in size]
    voxels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    best, ids = np.full(size, np.inf), np.zeros(size, dtype=int)
    for number, (point, axis) in enumerate(zip(cones.points, cones.axes, strict=True), start=1):
        t = (voxels - point) @ axis
        distance = np.linalg.norm(voxels - point - t[..., None] * axis, axis=-1)
        relative = distance / (cones.radius + (cones.end_radius - cones.radius) * t / cones.depth)
        wins = (t >= 0) & (t <= cones.depth) & (relative <= 1) & (relative < best)
        best[wins], ids[wins] = relative[wins], number
    return ids


def random_cones(seed, count, radius, end_radius, depth):
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(count, 3))
    return Cones(rng.uniform(-0.2, 1.2, (count, 3)), axes / np.linalg.norm(axes, axis=1)[:, None], radius, end_radius,
                 depth)  # fmt: skip


@pytest.mark.parametrize("size", [(24, 24, 24), (17, 30, 23)])
@pytest.mark.parametrize(("radius", "end_radius"), [(0.08, 0.08), (0.05, 0.12), (0.1, 0.04)])
def test_labels_equal_brute_force_also_where_many_columns_overlap(size, radius, end_radius):
    cones = random_cones(1, 60, radius, end_radius, 0.3)
    labels = column_labels(cones, size)
    expected = brute_force(cones, size)
    assert len(np.unique(expected)) > 30
    np.testing.assert_array_equal(labels, expected)


def test_columns_along_the_axes_of_the_volume():
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    cones = Cones(np.full((6, 3), 0.5), axes, 0.12, 0.15, 0.4)
    np.testing.assert_array_equal(column_labels(cones, (21, 21, 21)), brute_force(cones, (21, 21, 21)))


def test_the_number_of_threads_does_not_matter():
    cones = random_cones(2, 80, 0.06, 0.1, 0.3)
    with Workers(3) as workers:
        labels = column_labels(cones, (20, 22, 24), workers)
    np.testing.assert_array_equal(labels, column_labels(cones, (20, 22, 24)))


def test_columns_outside_the_volume_leave_it_empty():
    cones = Cones(np.array([[2.0, 2.0, 2.0]]), np.array([[0.0, 0.0, 1.0]]), 0.1, 0.1, 0.3)
    assert not column_labels(cones, (10, 10, 10)).any()


def test_volume_of_a_cone():
    cones = Cones(np.array([[0.5, 0.4, 0.2]]), np.array([[0.0, 0.6, 0.8]]), 0.15, 0.25, 0.4)
    expected = np.pi * 0.4 / 3 * (0.15**2 + 0.15 * 0.25 + 0.25**2)
    assert (column_labels(cones, (64, 64, 64)) > 0).mean() == pytest.approx(expected, rel=0.01)


def test_mean_spacing_is_that_of_the_nearest_neighbors():
    points = np.random.default_rng(0).uniform(size=(50, 3))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.diag(np.full(50, np.inf))
    assert mean_spacing(points) == pytest.approx(distances.min(axis=1).mean())


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)])
def test_consecutive_ids_keep_order_and_regions(shape):
    label = np.random.default_rng(0).choice([0, 2, 5, 9], size=shape).astype(np.int32)
    renumbered, former = consecutive(label, 12)
    assert renumbered.dtype == np.uint16
    np.testing.assert_array_equal(former, [1, 4, 8])
    np.testing.assert_array_equal(np.concatenate([[0], former + 1])[renumbered], label)


def test_more_ids_than_uint16_holds():
    label = np.arange(1, 70_001, dtype=np.int32).reshape(70, 1000)
    renumbered, former = consecutive(label, 70_000)
    assert renumbered.dtype == np.int32
    np.testing.assert_array_equal(renumbered, label)
    assert len(former) == 70_000
