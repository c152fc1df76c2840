import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.surface import mask_normals_halo, normals_from_mask, orient_normals, signed_distance

VOXELS = {"isotropic": (1.0, 1.0, 1.0), "anisotropic": (2.0, 1.0, 1.0)}
DIRECTION = np.array([0.5, 0.62, 0.6]) / np.linalg.norm([0.5, 0.62, 0.6])


def coordinates(voxel_size, extent=46):
    """Physical coordinates (3, D, H, W) around the middle of a cube."""
    axes = [(np.arange(int(extent / size)) - int(extent / size) / 2 + 0.6) * size for size in voxel_size]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def unit(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=0), 1e-9)


def shape_of(name, places):
    """A level function, zero on the surface and with about unit slope, and its analytic outward normals."""
    z, y, x = places
    if name == "sphere":
        return np.linalg.norm(places, axis=0) - 15, unit(places)
    if name == "ellipsoid":
        axes = np.array([18.0, 14.0, 12.0]).reshape(3, 1, 1, 1)
        slope = places / axes**2
        return (((places / axes) ** 2).sum(0) - 1) / 2 / np.linalg.norm(slope, axis=0).clip(0.02), unit(slope)
    if name == "plane":
        return np.tensordot(DIRECTION, places, 1), np.broadcast_to(DIRECTION.reshape(3, 1, 1, 1), places.shape)
    radius = np.hypot(y, x)
    if name == "cylinder":
        return radius - 13, unit(np.stack([0 * z, y, x]))
    ring = radius - 13
    return np.hypot(ring, z) - 7, unit(np.stack([z, ring * y / radius, ring * x / radius]))


def angles(normals, truth, where, oriented=True):
    known = normals.any(axis=0) & where
    assert known.sum() > 0.9 * where.sum()
    cosine = (normals * truth).sum(axis=0)[known]
    return np.degrees(np.arccos(np.clip(cosine if oriented else abs(cosine), -1, 1)))


def interior(places, margin=9):
    return (abs(places) < abs(places).max(axis=(1, 2, 3), keepdims=True) - margin).all(axis=0)


@pytest.mark.parametrize("voxels", VOXELS)
@pytest.mark.parametrize("name", ["sphere", "ellipsoid", "plane", "cylinder", "torus"])
def test_distance_gives_outward_normals_near_the_faces(name, voxels):
    places = coordinates(VOXELS[voxels])
    level, truth = shape_of(name, places)
    normals = normals_from_mask(level < 0, voxel_size=VOXELS[voxels])
    where = (level < 0) & (level > -3) & (interior(places) if name in ("plane", "cylinder") else True)
    error = angles(normals, truth, where)
    assert np.median(error) < 3
    assert np.percentile(error, 95) < 10


@pytest.mark.parametrize("voxels", VOXELS)
@pytest.mark.parametrize("name", ["sphere", "ellipsoid", "plane", "cylinder"])
def test_structure_tensor_gives_the_normals_of_thin_sheets(name, voxels):
    places = coordinates(VOXELS[voxels])
    level, truth = shape_of(name, places)
    sheet = abs(level) < 1.5
    normals = normals_from_mask(sheet, method="structure_tensor", voxel_size=VOXELS[voxels])
    where = sheet & (interior(places) if name in ("plane", "cylinder") else True)
    error = angles(normals, truth, where, oriented=False)
    assert np.median(error) < 2
    assert np.percentile(error, 95) < 6


def test_normals_are_unit_vectors_or_zero_and_only_in_the_mask():
    level, _ = shape_of("sphere", coordinates((1, 1, 1)))
    for method in ("distance", "structure_tensor"):
        normals = normals_from_mask(level < 0, method=method)
        assert normals.dtype == np.float32
        length = np.linalg.norm(normals, axis=0)
        assert np.allclose(length[length > 0], 1, atol=1e-5)
        assert not length[level >= 0].any()


def test_band_reaches_as_far_as_asked():
    mask = np.zeros((20, 20, 20), bool)
    mask[8:12] = True
    for method in ("distance", "structure_tensor"):
        known = normals_from_mask(mask, method=method, band=2).any(axis=0)[:, 10, 10]
        assert known[[6, 7, 12, 13]].all()
        assert not known[:6].any()
        assert not known[14:].any()


def test_a_sheet_has_opposite_normals_at_its_faces_and_none_at_the_mid_plane():
    mask = np.zeros((21, 12, 12), bool)
    mask[7:14] = True
    normals = normals_from_mask(mask, sigma=1.0)
    assert np.allclose(normals[:, 7, 6, 6], (-1, 0, 0), atol=1e-5)
    assert np.allclose(normals[:, 13, 6, 6], (1, 0, 0), atol=1e-5)
    assert not normals[:, 10].any()


def test_normals_are_those_of_physical_space():
    places = coordinates((2.0, 1.0, 1.0))
    normal = np.array([1.0, 1.0, 0.0]) / np.sqrt(2)
    level = np.tensordot(normal, places, 1)
    sheet = abs(level) < 2
    found = normals_from_mask(sheet, method="structure_tensor", voxel_size=(2, 1, 1))[:, sheet & interior(places)]
    assert np.median(np.degrees(np.arccos(np.clip(abs(normal @ found), -1, 1)))) < 2


def test_a_point_as_reference_orients_a_closed_sheet_outward():
    places = coordinates((1, 1, 1))
    level, truth = shape_of("sphere", places)
    sheet = abs(level) < 1.5
    center = np.argwhere(np.linalg.norm(places, axis=0) < 0.9).mean(axis=0)
    for method in ("distance", "structure_tensor"):
        normals = normals_from_mask(sheet, method=method, reference=[center])
        known = normals.any(axis=0)
        assert ((normals * truth).sum(axis=0)[known] > 0).all()


def test_orientation_by_direction_and_by_a_line():
    random = np.random.default_rng(0)
    normals = random.normal(size=(3, 4, 5, 6)).astype(np.float32)
    normals[:, 0, 0, 0] = 0
    along = orient_normals(normals, (0.3, -1, 2))
    assert (np.tensordot((0.3, -1, 2), along, 1) >= 0).all()
    assert np.array_equal(abs(along), abs(normals))
    line = np.array([[2.0, 1, 1], [2.0, 1, 9], [2.0, 9, 9]])
    away = orient_normals(normals, line, voxel_size=(2, 1, 1), origin=(3, 0, 1))
    dense = np.concatenate([line[0] + t * (line[1] - line[0]) for t in np.linspace(0, 1, 4001)[:, None, None]])
    dense = np.concatenate(
        [dense] + [line[1] + t * (line[2] - line[1]) for t in np.linspace(0, 1, 4001)[:, None, None]]
    )
    for index in np.ndindex(4, 5, 6):
        offsets = (np.add(index, (3, 0, 1)) - dense.reshape(-1, 3)) * (2, 1, 1)
        nearest = offsets[(offsets**2).sum(axis=1).argmin()]
        assert away[(slice(None), *index)] @ nearest > -1e-2


def test_without_reference_the_first_component_is_positive():
    normals = np.array([[-1.0, 0, 0], [0, -1, 2], [0, 0, -3], [0, 0, 0]], np.float32).T.reshape(3, 4, 1, 1)
    expected = np.array([[1.0, 0, 0], [0, 1, -2], [0, 0, 3], [0, 0, 0]], np.float32).T.reshape(3, 4, 1, 1)
    assert np.array_equal(orient_normals(normals), expected)


def test_signed_distance_of_a_half_space_and_of_nothing():
    mask = np.zeros((8, 3, 3), bool)
    mask[:4] = True
    edges = np.array([2.0, 1.0, 1.0])
    assert np.allclose(signed_distance(mask, edges)[:, 1, 1], 2 * (np.arange(8) - 3.5))
    assert np.allclose(signed_distance(mask, edges, 3.0)[:, 1, 1], np.clip(2 * (np.arange(8) - 3.5), -3, 3))
    assert (signed_distance(np.zeros((2, 2, 2), bool), edges, 5) == 5).all()
    assert (signed_distance(np.ones((2, 2, 2), bool), edges, 5) == -5).all()


def test_masks_without_faces_and_flat_volumes():
    for method in ("distance", "structure_tensor"):
        assert not normals_from_mask(np.zeros((5, 6, 7)), method=method).any()
        assert not normals_from_mask(np.ones((5, 6, 7)), method=method).any()
    flat = np.zeros((1, 12, 12))
    flat[:, :6] = 1
    assert np.allclose(normals_from_mask(flat, sigma=1.0)[:, 0, 5, 6], (0, 1, 0), atol=1e-5)


def test_ignored_voxels_give_no_false_faces():
    mask = np.zeros((24, 24, 24), np.uint8)
    mask[:12] = 1
    mask[:, :, 12:] = 2
    normals = normals_from_mask(mask, sigma=1.0, ignore_value=2)
    known = normals.any(axis=0)
    assert not known[:, :, 12:].any()
    assert not known[:6, :, 11].any()  # nearest to what is unknown
    assert known[11, :, :9].all()
    assert np.allclose(normals[:, known], np.array([[1], [0], [0]]), atol=0.06)


@pytest.mark.parametrize("method", ["distance", "structure_tensor"])
@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (1.7, 1, 1.3), (2.5, 1, 1)])
def test_blocks_with_the_halo_equal_the_whole(method, voxel_size):
    shape, edge = (30, 34, 28), 13
    mask = gaussian_filter(np.random.default_rng(1).normal(size=shape), 1.5) > 0.02
    options = {"sigma": 0.8, "method": method, "voxel_size": voxel_size, "band": 1, "max_distance": 3.0}
    whole = normals_from_mask(mask, **options)
    halo = mask_normals_halo(0.8, method, voxel_size, 3.0)
    assert max(halo) < 15
    for corner in itertools.product(*(range(0, length, edge) for length in shape)):
        low = [max(start - margin, 0) for start, margin in zip(corner, halo, strict=True)]
        high = [start + edge + margin for start, margin in zip(corner, halo, strict=True)]
        part = normals_from_mask(mask[tuple(map(slice, low, high))], **options)
        inner = tuple(slice(start - first, start - first + edge) for start, first in zip(corner, low, strict=True))
        there = tuple(slice(start, start + edge) for start in corner)
        assert np.allclose(part[(slice(None), *inner)], whole[(slice(None), *there)], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "gradient"}, "method='gradient'"),
        ({"sigma": 0}, "sigma=0"),
        ({"band": -1}, "band=-1"),
        ({"band": 4, "max_distance": 4}, "max_distance=4"),
        ({"voxel_size": (1, 1)}, "voxel_size"),
        ({"voxel_size": (1, 0, 1)}, "voxel_size"),
        ({"reference": (0, 0, 0)}, "zero vector"),
        ({"reference": [[1, 2]]}, "reference"),
    ],
)
def test_wrong_options(options, message):
    mask = np.zeros((6, 6, 6))
    mask[:3] = 1
    with pytest.raises(InvalidInputError, match=message):
        normals_from_mask(mask, **options)


def test_wrong_masks():
    with pytest.raises(InvalidInputError, match=r"\(6, 6\)"):
        normals_from_mask(np.zeros((6, 6)))
    with pytest.raises(InvalidInputError, match="finite"):
        normals_from_mask(np.full((3, 3, 3), np.nan))
