"""Rotation, anisotropic scaling and shear against the exact normals of the moved surface."""

import math

import numpy as np
import pytest
import torch
from vector_surfaces import (
    SURFACES,
    band,
    check_normals,
    degrees,
    field_of,
    figures,
    inner,
    positions,
    quadric,
    random_signs,
)

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.vector import (
    RandAffineVectord,
    affine_source,
    affine_vectors,
    move_scalars,
    rotate90_vectors,
    rotation_matrix,
)

SHAPE = (40, 46, 43)
MAPS = {
    "rotation": rotation_matrix((0.5, -0.7, 0.3)),
    "scaling": np.diag([1.2, 0.8, 1.05]),
    "shear": np.array([[1, 0.3, 0], [0, 1, -0.25], [0.2, 0, 1]]),
    "all": rotation_matrix((0.2, 0.4, -0.9)) @ np.array([[0.85, 0.2, 0], [0, 1.15, 0], [0, 0, 1]]),
}
SHIFT = (1.5, -2.25, 0.75)


def check(field, surface, matrix, shift=SHIFT, voxel_size=(1.0, 1.0, 1.0), oriented=True):
    """The moved field against the exact normals of the moved surface."""
    known, shape = (field != 0).any(0), field.shape[1:]
    found = affine_vectors(field, matrix, shift, oriented=oriented, voxel_size=voxel_size)
    expected = surface.moved(matrix, np.multiply(shift, voxel_size)).normals(positions(shape, voxel_size))
    check_normals(found, expected, known, affine_source(shape, matrix, shift, voxel_size).points, oriented)


@pytest.mark.parametrize("name", SURFACES)
@pytest.mark.parametrize("kind", MAPS)
def test_normals_are_those_of_the_moved_surface(name, kind):
    surface, matrix = quadric(name), MAPS[kind]
    field, _ = field_of(surface, SHAPE)
    check(field, surface, matrix)
    check(random_signs(field), surface, matrix, oriented=False)


@pytest.mark.parametrize("oriented", [True, False])
def test_component_order(oriented):
    field, _ = field_of(quadric("ellipsoid"), SHAPE)
    field = field if oriented else random_signs(field)
    expected = affine_vectors(field, MAPS["all"], SHIFT, oriented=oriented)
    swapped = affine_vectors(field.flip(0), MAPS["all"], SHIFT, oriented=oriented, component_order="xyz")
    assert torch.equal(swapped.flip(0), expected)


@pytest.mark.parametrize("kind", ["rotation", "all"])
def test_voxels_of_unequal_size(kind):
    """Turns are turns in physical space, and components are physical."""
    voxel_size, shape = (2.0, 1.0, 0.8), (22, 46, 54)
    surface, matrix = quadric("ellipsoid"), MAPS[kind]
    field, _ = field_of(surface, shape, voxel_size)
    check(field, surface, matrix, voxel_size=voxel_size)
    check(random_signs(field), surface, matrix, voxel_size=voxel_size, oriented=False)


@pytest.mark.parametrize("kind", MAPS)
def test_directions_go_by_the_map_itself(kind):
    """Circles of latitude: v(p) = w x p becomes M v(M⁻¹ p), and stays in the moved surface."""
    matrix = torch.tensor(MAPS[kind])
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)

    def circle(p):
        flow = torch.linalg.cross(axis.view(3, 1, 1, 1).expand_as(p), p, dim=0)
        return torch.nn.functional.normalize(flow, dim=0)

    p = positions(SHAPE)
    away = torch.linalg.cross(axis.view(3, 1, 1, 1).expand_as(p), p, dim=0).norm(dim=0) > 8
    field = (circle(p) * away).float()
    found = affine_vectors(field, matrix, kind="direction")
    expected = torch.einsum("ij,jzyx->izyx", matrix, circle(torch.einsum("ij,jzyx->izyx", torch.linalg.inv(matrix), p)))
    known = (found != 0).any(0) & inner(SHAPE)
    assert figures(degrees(found[:, known], expected[:, known]))[1] < 2
    if kind != "rotation":
        as_normals = affine_vectors(field, matrix)
        assert figures(degrees(as_normals[:, known], expected[:, known]))[1] > 5


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("size", [12, 13])
def test_right_angles_are_rotate90(axes, size):
    field, _ = field_of(quadric("ellipsoid", 4.0), (size,) * 3, width=1.5)
    angles = [0.0, 0.0, 0.0]
    angles[3 - sum(axes)] = math.pi / 2
    for k in range(4):
        matrix = np.linalg.matrix_power(rotation_matrix(angles), k)
        assert torch.allclose(affine_vectors(field, matrix), rotate90_vectors(field, k, axes), atol=1e-4)


def test_a_reflection_keeps_outward_normals_outward():
    surface, matrix = quadric("sphere"), np.diag([1.0, -1.0, 1.0]) @ MAPS["rotation"]
    field, _ = field_of(surface, SHAPE)
    check(field, surface, matrix)


def test_there_and_back():
    field, _ = field_of(quadric("sphere"), SHAPE, width=8.0)
    back = affine_vectors(affine_vectors(field, MAPS["all"]), np.linalg.inv(MAPS["all"]))
    known = (back != 0).any(0) & (field != 0).any(0) & inner(SHAPE)
    assert known.sum() > 10000
    assert figures(degrees(back[:, known], field[:, known]))[1] < 2


@pytest.mark.parametrize("name", SURFACES)
def test_scalars_go_where_the_normals_go(name):
    surface, matrix = quadric(name), MAPS["all"]
    field, known = field_of(surface, SHAPE)
    transform = RandAffineVectord(
        ("image", "mask"),
        "normals",
        prob=1.0,
        rotate_range=0.6,
        scale_range=(0.2, 0.1, 0.2),
        shear_range=0.2,
        translate_range=2.0,
        mode=("bilinear", "nearest"),
    ).set_random_state(1)
    value = surface.value(positions(SHAPE))[None].float()
    result = transform({"image": value, "mask": known[None], "normals": field})
    matrix, shift = transform.matrix, transform.translation
    moved = surface.moved(matrix, shift)
    mask, normals = result["mask"][0], result["normals"]
    assert mask.dtype == torch.bool
    assert torch.equal(mask, (normals != 0).any(0))
    check_normals(normals, moved.normals(positions(SHAPE)), known, affine_source(SHAPE, matrix, shift.tolist()).points)
    # the moved mask is the moved band, but for voxels whose nearest neighbor lies on the other side of its rim
    back = torch.linalg.inv(torch.tensor(matrix))
    source = torch.einsum("ij,jzyx->izyx", back, positions(SHAPE) - torch.tensor(shift).view(3, 1, 1, 1))
    inside = affine_source(SHAPE, matrix, shift.tolist()).inside & inner(SHAPE)
    rim = (surface.distance(source).abs() - 3).abs() < 0.9
    assert torch.equal(mask[inside & ~rim], band(surface, source)[inside & ~rim])
    assert (inside & ~rim & mask).sum() > 1000
    center = (source.abs() <= (torch.tensor(SHAPE).view(3, 1, 1, 1) - 1) / 2).all(0)
    assert center.sum() > 40000
    assert (result["image"][0][center] - moved.value(positions(SHAPE))[center]).abs().max() < 1


def test_draws_fill_the_ranges_and_make_up_the_matrix():
    transform = RandAffineVectord(
        (), "normals", prob=1.0, rotate_range=(0.3, 0, 0), scale_range=(0, 0.2, 0), translate_range=(0, 0, 4)
    ).set_random_state(0)
    angles, scales, shifts = [], [], []
    for _ in range(200):
        transform.randomize((5, 6, 7))
        matrix = transform.matrix
        angles.append(math.atan2(matrix[2, 1], matrix[1, 1]))
        scales.append(np.linalg.det(matrix))
        shifts.append(transform.translation)
        turn = rotation_matrix((angles[-1], 0, 0))
        np.testing.assert_allclose(turn.T @ matrix, np.diag([1, scales[-1], 1]), atol=1e-12)
    for values, limit in ((angles, 0.3), (np.array(scales) - 1, 0.2), (np.array(shifts)[:, 2], 4)):
        assert 0.9 * limit < max(values) <= limit
        assert -0.9 * limit > min(values) >= -limit
    assert not np.any(np.array(shifts)[:, :2])


def test_shear_numbers_are_row_by_row():
    transform = RandAffineVectord((), "normals", prob=1.0, shear_range=(0.1, 0, 0, 0, 0, 0.3)).set_random_state(0)
    transform.randomize((5, 6, 7))
    rows, columns = np.nonzero(transform.matrix - np.eye(3))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (2, 1)]
    assert abs(transform.matrix[2, 1]) <= 0.3


def test_padding_of_scalars_against_numpy():
    """A shift by whole voxels is a padded crop."""
    img = torch.rand(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    source = affine_source((5, 6, 7), np.eye(3), (2, 0, -3))
    for padding, numpy_mode in (("zeros", "constant"), ("border", "edge"), ("reflection", "symmetric")):
        padded = np.pad(img.numpy(), ((0, 0), (2, 0), (0, 0), (0, 3)), mode=numpy_mode)
        expected = padded[:, :5, :, 3:]
        for mode in ("nearest", "bilinear"):
            np.testing.assert_allclose(move_scalars(img, source, mode, padding).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"rotate_range": -0.1}, "rotate_range=-0.1"),
        ({"rotate_range": (0.1, 0.2)}, "rotate_range"),
        ({"scale_range": 1.0}, "scale_range=1.0"),
        ({"scale_range": (0.1, -0.1, 0)}, "scale_range"),
        ({"shear_range": -0.2}, "shear_range=-0.2"),
        ({"shear_range": 0.5}, "adds up to 1"),
        ({"shear_range": (0.1, 0.1, 0.1)}, "shear_range"),
        ({"translate_range": -1}, "translate_range=-1"),
        ({"translate_range": math.inf}, "translate_range"),
        ({"padding_mode": "background"}, "padding_mode"),
        ({"mode": "cubic"}, "mode='cubic'"),
        ({"vector_mode": "trilinear"}, "vector_mode='trilinear'"),
        ({"kind": "tangent"}, "kind='tangent'"),
        ({"voxel_size": (1, 0, 1)}, "voxel_size"),
        ({"voxel_size": (1, 1)}, "voxel_size"),
        ({"prob": 1.5}, "prob=1.5"),
    ],
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(InvalidInputError, match=match):
        RandAffineVectord("image", "normals", **settings)


def test_bad_arguments_are_refused():
    field = torch.zeros(3, 4, 4, 4)
    with pytest.raises(InvalidInputError, match="invertible"):
        affine_vectors(field, np.zeros((3, 3)))
    with pytest.raises(InvalidInputError, match="invertible"):
        affine_vectors(field, np.eye(4))
    with pytest.raises(InvalidInputError, match="translation"):
        affine_vectors(field, np.eye(3), (1, 2))
    with pytest.raises(InvalidInputError, match="kind"):
        affine_vectors(field, np.eye(3), kind="covector")
    with pytest.raises(InvalidInputError, match="mode"):
        affine_vectors(field, np.eye(3), mode="linear")
