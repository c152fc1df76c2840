"""Statistics of objects beside scikit-image, closed forms, and blocks beside the whole."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation
from skimage.measure import euler_number, regionprops

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology import statistics
from voxel_ext.morphology.euler import euler_numbers
from voxel_ext.morphology.object_columns import principal_axes, statistics_table
from voxel_ext.morphology.statistics import measure_objects, merge_statistics

SMALL = arrays(np.int32, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 3))


def assert_equal(found, expected):
    """The same objects; integers exactly, sums up to rounding."""
    assert np.array_equal(found.id, expected.id)
    for name in ("voxels", "lower", "upper"):
        assert np.array_equal(getattr(found.geometry, name), getattr(expected.geometry, name)), name
    np.testing.assert_allclose(found.geometry.centroid, expected.geometry.centroid, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.geometry.scatter, expected.geometry.scatter, rtol=1e-10, atol=1e-9)
    assert (found.euler_number is None) == (expected.euler_number is None)
    if found.euler_number is not None:
        assert np.array_equal(found.euler_number, expected.euler_number)
    if expected.intensity is not None:
        for name in ("mean", "scatter", "low", "high"):
            np.testing.assert_allclose(getattr(found.intensity, name), getattr(expected.intensity, name), rtol=1e-10)


def in_blocks(labels, image, block, euler=True):
    """Measure block by block, each with a voxel more before it."""
    parts = []
    for corner in itertools.product(*(range(0, n, b) for n, b in zip(labels.shape, block, strict=True))):
        box = [slice(c, min(c + b, n)) for c, b, n in zip(corner, block, labels.shape, strict=True)]
        overlap = tuple(int(c > 0) for c in corner)
        wider = tuple(slice(part.start - more, part.stop) for part, more in zip(box, overlap, strict=True))
        values = None if image is None else image[tuple(box)]
        place = {"origin": corner, "overlap": overlap, "volume_shape": labels.shape}
        parts.append(measure_objects(labels[wider], values, euler=euler, **place))
    return merge_statistics(parts)


@settings(max_examples=60, deadline=None)
@given(SMALL, st.integers(0, 2**32 - 1))
def test_like_regionprops(labels, seed):
    image = np.random.default_rng(seed).normal(3, 2, labels.shape)
    found = measure_objects(labels, image)
    expected = regionprops(labels, intensity_image=image)
    assert found.id.tolist() == [region.label for region in expected]
    for row, region in enumerate(expected):
        values = image[labels == region.label]
        assert found.voxels[row] == region.area
        assert (*found.geometry.lower[row], *found.geometry.upper[row]) == region.bbox
        np.testing.assert_allclose(found.geometry.centroid[row], region.centroid)
        np.testing.assert_allclose(found.extent[row], region.extent)
        # the tensor of inertia is trace(C) I - C
        inertia = np.trace(found.covariance[row]) * np.eye(3) - found.covariance[row]
        np.testing.assert_allclose(inertia, region.inertia_tensor, atol=1e-10)
        assert found.euler_number[row] == euler_number(labels == region.label, connectivity=3)
        intensity = [getattr(found.intensity, name)[row] for name in ("mean", "scatter", "low", "high")]
        expected_values = [values.mean(), values.var() * values.size, values.min(), values.max()]
        np.testing.assert_allclose(intensity, expected_values, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(SMALL, st.tuples(*[st.integers(1, 7)] * 3))
def test_blocks_add_up_to_the_whole(labels, block):
    image = np.random.default_rng(0).normal(size=labels.shape)
    assert_equal(in_blocks(labels, image, block), measure_objects(labels, image))
    assert_equal(in_blocks(labels, None, block, euler=False), measure_objects(labels, euler=False))


def test_every_block_size():
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 3)) * np.array([2**40])
    whole = measure_objects(labels)
    for block in itertools.product(range(1, 5), range(1, 6), range(1, 4)):
        assert_equal(in_blocks(labels, None, block), whole)


@pytest.mark.parametrize("voxels", [1, 30, 61, 1000])
def test_slabs_add_up_to_the_whole(monkeypatch, voxels):
    generator = np.random.default_rng(0)
    labels, image = generator.integers(0, 4, (9, 5, 6)), generator.normal(size=(9, 5, 6))
    whole, blocks = measure_objects(labels, image), in_blocks(labels, image, (4, 3, 6))
    monkeypatch.setattr(statistics, "_VOXELS_AT_ONCE", voxels)
    assert_equal(measure_objects(labels, image), whole)
    assert_equal(in_blocks(labels, image, (4, 3, 6)), blocks)


def test_merging_does_not_depend_on_grouping():
    generator = np.random.default_rng(1)
    parts = [
        measure_objects(generator.integers(0, 4, (2, 3, 3)), euler=False, origin=(start, 0, 0), volume_shape=(10, 3, 3))
        for start in range(0, 10, 2)
    ]
    assert_equal(merge_statistics([merge_statistics(parts[3:]), merge_statistics(parts[:3])]), merge_statistics(parts))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_large_ids(dtype):
    ids = [1, 2**32 + 1, 2**53 + 1, 2**63 - 2, 2**63 - 1]
    labels = np.zeros((3, 4, 12), dtype)
    for index, number in enumerate(ids):
        labels[1, : index % 3 + 1, 2 * index : 2 * index + 2] = number
    found = measure_objects(labels)
    assert found.id.dtype == np.int64
    assert found.id.tolist() == ids
    assert found.voxels.tolist() == [2, 4, 6, 2, 4]
    assert found.euler_number.tolist() == [1] * 5
    assert_equal(in_blocks(labels, None, (2, 3, 5)), found)
    assert statistics_table(found, labels.shape)["id"].tolist() == ids


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, ">i4"])
def test_other_integers_and_memory_orders(dtype):
    labels = np.random.default_rng(0).integers(0, 100, (4, 5, 6))
    expected = measure_objects(labels)
    assert_equal(measure_objects(np.asfortranarray(labels.astype(dtype))), expected)


@pytest.mark.parametrize("shape", [(3, 4, 5), (0, 4, 5), (3, 0, 5), (3, 4, 0)])
def test_no_objects(shape):
    labels = np.zeros(shape, np.int64)
    found = measure_objects(labels, np.zeros(shape))
    assert len(found) == 0
    table = statistics_table(found, shape)
    assert len(table) == 0
    assert "intensity_mean" in table
    whole = measure_objects(np.ones((2, 2, 2), int), np.zeros((2, 2, 2)))
    assert_equal(merge_statistics([found, whole, found]), whole)


def ring(shape=(5, 9, 9)):
    labels = np.zeros(shape, int)
    labels[2, 2:7, 2:7] = 1
    labels[2, 3:6, 3:6] = 0
    return labels


def test_euler_numbers_of_known_shapes():
    assert measure_objects(ring()).euler_number.tolist() == [0]
    shell = np.zeros((5, 5, 5), int)
    shell[1:4, 1:4, 1:4] = 7
    assert measure_objects(shell).euler_number.tolist() == [1]
    shell[2, 2, 2] = 3  # another object fills the cavity
    assert measure_objects(shell).euler_number.tolist() == [1, 2]
    diagonal = np.zeros((4, 4, 4), int)
    diagonal[1, 1, 1] = diagonal[2, 2, 2] = 1  # connected by a corner
    assert measure_objects(diagonal).euler_number.tolist() == [1]
    diagonal[1, 1, 1], diagonal[0, 0, 0] = 0, 1
    assert measure_objects(diagonal).euler_number.tolist() == [2]


def test_euler_numbers_do_not_depend_on_how_many_windows_are_counted_at_once(monkeypatch):
    volume = np.pad(np.random.default_rng(0).integers(0, 4, (8, 7, 6)), 1)
    expected = euler_numbers(volume, 3)
    monkeypatch.setattr("voxel_ext.morphology.euler._WINDOWS_AT_ONCE", 5)
    assert np.array_equal(euler_numbers(volume, 3), expected)
    assert expected.tolist() == [euler_number(volume == number, connectivity=3) for number in (1, 2, 3)]


def grid_of(extent, voxel_size):
    """Positions (D, H, W, 3) in nm of voxels that cover a cube around the origin."""
    axes = [np.arange(-np.ceil(extent / s), np.ceil(extent / s) + 1) * s for s in voxel_size]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (2, 1, 1), (30 / 8, 1, 1)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ellipsoids_in_any_pose(voxel_size, seed):
    radii = np.array([24.0, 16.0, 11.0])
    turn = Rotation.random(rng=seed).as_matrix()
    inside = (((grid_of(25, voxel_size) @ turn) / radii) ** 2).sum(-1) <= 1
    found = measure_objects(inside.astype(np.uint8))
    table = statistics_table(found, inside.shape, voxel_size)
    volume = 4 / 3 * np.pi * radii.prod()
    assert table["volume_um3"][0] == pytest.approx(volume * 1e-9, rel=0.015)
    assert table["equivalent_diameter_nm"][0] == pytest.approx(2 * np.cbrt(radii.prod()), rel=0.005)
    # solid voxels add s^2/12 to a variance of a^2/5
    lengths, vectors = principal_axes(found, voxel_size)
    np.testing.assert_allclose(lengths[0], 2 * radii, rtol=0.01 + 5 / 24 * (max(voxel_size) / radii.min()) ** 2)
    np.testing.assert_allclose(np.abs(np.diag(vectors[0] @ turn)), 1, atol=1e-3)
    assert table["elongation"][0] == pytest.approx(24 / 16, rel=0.03)
    assert table["flatness"][0] == pytest.approx(16 / 11, rel=0.03)


@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (2, 1, 1)])
def test_spheres_and_cylinders(voxel_size):
    places = grid_of(21, voxel_size)
    ball = (places**2).sum(-1) <= 20**2
    table = statistics_table(measure_objects(ball.astype(int)), ball.shape, voxel_size)
    assert table["volume_um3"][0] == pytest.approx(4 / 3 * np.pi * 20**3 * 1e-9, rel=0.01)
    box = np.prod([40 + s for s in voxel_size])  # the voxels at its poles are cut in half by the ball
    assert table["extent"][0] == pytest.approx(4 / 3 * np.pi * 20**3 / box, rel=0.01)
    for name in ("elongation", "flatness"):
        assert table[name][0] == pytest.approx(1, abs=0.01)
    # a cylinder of radius r and length L has the variances r^2/4 (twice) and L^2/12
    for seed in range(2):
        turned = places @ Rotation.random(rng=seed).as_matrix()
        cylinder = (np.hypot(turned[..., 0], turned[..., 1]) <= 7) & (np.abs(turned[..., 2]) <= 17)
        lengths, _ = principal_axes(measure_objects(cylinder.astype(int)), voxel_size)
        expected = 2 * np.sqrt(5 * np.array([34**2 / 12, 49 / 4, 49 / 4]))
        np.testing.assert_allclose(lengths[0], expected, rtol=0.03)


def test_boxes_have_exact_axes():
    labels = np.zeros((6, 7, 20), int)
    labels[1:2, 2:6, 3:13] = 5
    size = (30.0, 8.0, 8.0)
    table = statistics_table(measure_objects(labels), labels.shape, size)
    # a solid box of edge L has the variance L^2/12
    edges = sorted(np.array([1, 4, 10]) * size, reverse=True)
    found = table[["major_axis_nm", "middle_axis_nm", "minor_axis_nm"]].to_numpy()[0]
    np.testing.assert_allclose(found, 2 * np.sqrt(5 / 12) * np.array(edges))
    assert table[["direction_z", "direction_y", "direction_x"]].to_numpy()[0] == pytest.approx([0, 0, 1])
    assert table[["lower_z", "lower_y", "lower_x"]].to_numpy()[0].tolist() == [1, 2, 3]
    assert table[["upper_z", "upper_y", "upper_x"]].to_numpy()[0].tolist() == [2, 6, 13]
    assert table[["centroid_z_nm", "centroid_y_nm", "centroid_x_nm"]].to_numpy()[0].tolist() == [30, 28, 60]
    assert table["extent"][0] == 1


def test_far_away_objects_keep_their_moments():
    labels = np.random.default_rng(0).integers(0, 2, (4, 5, 6))
    origin = (10**8, 10**8, 10**8)
    near = measure_objects(labels, euler=False)
    shape = tuple(o + n for o, n in zip(origin, labels.shape, strict=True))
    parts = [
        measure_objects(labels[:2], euler=False, origin=origin, volume_shape=shape),
        measure_objects(labels[2:], euler=False, origin=(origin[0] + 2, *origin[1:]), volume_shape=shape),
    ]
    far = merge_statistics(parts)
    assert np.array_equal(far.geometry.lower - near.geometry.lower, [origin])
    np.testing.assert_allclose(far.covariance, near.covariance, rtol=1e-6)


def test_intensities_far_from_zero_keep_their_deviation():
    generator = np.random.default_rng(0)
    labels, noise = generator.integers(0, 3, (6, 6, 6)), generator.normal(size=(6, 6, 6))
    found, expected = in_blocks(labels, noise + 1e7, (4, 2, 3)), measure_objects(labels, noise)
    np.testing.assert_allclose(found.intensity.scatter, expected.intensity.scatter, rtol=1e-6)


def test_touching_the_border():
    labels = np.zeros((5, 5, 5), int)
    labels[2, 2, 2], labels[0, 2, 2], labels[2, 4, 2], labels[2, 2, 0] = 1, 2, 3, 4
    found = measure_objects(labels)
    assert found.touches_border(labels.shape).tolist() == [False, True, True, True]
    flat = measure_objects(labels[2:3])
    assert flat.id.tolist() == [1, 3, 4]
    assert flat.touches_border((1, 5, 5)).tolist() == [False, True, True]


def test_selected_objects():
    labels = np.random.default_rng(0).integers(0, 5, (4, 5, 6))
    found = measure_objects(labels, labels * 2.0).select(np.array([True, False, True, False]))
    assert found.id.tolist() == [1, 3]
    assert found.intensity.mean.tolist() == [2, 6]
    assert found.voxels.tolist() == [(labels == 1).sum(), (labels == 3).sum()]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((3, 4), int), r"shape \(3, 4\); expected three axes"),
        (np.ones((3, 4, 5), np.float32), r"float32; expected integers.*astype\('int64'\)"),
        (np.ones((3, 4, 5), bool), "a mask; expected integer ids.*connected_components"),
        (np.ones((3, 4, 5), complex), "complex128; expected integers"),
        (np.full((3, 4, 5), -2), "the id -2; expected ids from 0"),
        (np.full((3, 4, 5), 2**63, np.uint64), "the id 9223372036854775808; expected"),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises(InvalidInputError, match=message):
        measure_objects(labels)


def test_bad_images():
    labels = np.ones((3, 4, 5), int)
    with pytest.raises(InvalidInputError, match=r"shape \(3, 4, 4\), but labels has \(3, 4, 5\)"):
        measure_objects(labels, np.zeros((3, 4, 4)))
    with pytest.raises(InvalidInputError, match="complex64; expected real numbers"):
        measure_objects(labels, np.zeros((3, 4, 5), np.complex64))
    image = np.zeros((3, 4, 5))
    image[1, 2, 3] = np.nan
    with pytest.raises(InvalidInputError, match="NaN or infinite values inside the object 1"):
        measure_objects(labels, image)
    labels[1, 2, 3] = 0  # in the background they do not matter
    assert measure_objects(labels, image).intensity.mean.tolist() == [0]


def test_bad_places_and_parts():
    labels = np.ones((3, 4, 5), int)
    with pytest.raises(InvalidInputError, match="begins at 2 along y without an overlap"):
        measure_objects(labels, origin=(0, 2, 0), volume_shape=(9, 9, 9))
    with pytest.raises(InvalidInputError, match="from 7 to 10 along z"):
        measure_objects(labels, origin=(7, 0, 0), volume_shape=(9, 9, 9), euler=False)
    with pytest.raises(InvalidInputError, match="overlap of 1, does not lie"):
        measure_objects(labels, overlap=(0, 0, 1))
    with pytest.raises(InvalidInputError, match="at least one part"):
        merge_statistics([])
    with pytest.raises(InvalidInputError, match="cannot be merged"):
        merge_statistics([measure_objects(labels), measure_objects(labels, euler=False)])


@pytest.mark.parametrize("size", [(1, 1), (1, 1, 0), (1, 1, -3), (1, 1, np.inf), (1, 1, np.nan), "abc", None])
def test_bad_voxel_sizes(size):
    with pytest.raises(InvalidInputError, match=r"voxel_size=.*three positive numbers"):
        statistics_table(measure_objects(np.ones((2, 2, 2), int)), (2, 2, 2), size)
