"""Right-angle turns and flips against the exact normals of the moved surface."""

import itertools

import numpy as np
import pytest
import torch
from vector_surfaces import SURFACES, field_of, positions, quadric

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.groups import rotation_group
from voxel_ext.transforms.vector import (
    RandCubeRotationVectord,
    RandFlipVectord,
    RandRotate90Vectord,
    flip_vectors,
    rotate90_vectors,
    turn_vectors,
    turn_volume,
)

ELEMENTS = rotation_group("Oh").matrices.numpy()
SHAPE = (12, 15, 10)


def random_field(shape=(4, 4, 4), seed=0):
    field = torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed))
    return field * (torch.rand(shape, generator=torch.Generator().manual_seed(seed + 1)) < 0.7)


@pytest.mark.parametrize("order", ["zyx", "xyz"])
@pytest.mark.parametrize("name", SURFACES)
def test_all_48_give_the_normals_of_the_moved_surface(name, order):
    surface = quadric(name, size=4.0)
    field, known = field_of(surface, SHAPE, width=1.5)
    given = field.flip(0) if order == "xyz" else field
    for matrix in ELEMENTS:
        turned = turn_vectors(given, matrix, order)
        turned = turned.flip(0) if order == "xyz" else turned
        moved = surface.moved(matrix)
        mask = turn_volume(known[None], matrix)[0]
        assert torch.equal((turned != 0).any(0), mask)
        expected = moved.normals(positions(turned.shape[1:])) * mask
        assert (turned - expected).abs().max() < 1e-5
        # no voxel of the moved band is missing, but for rounding at its rim
        distance = moved.distance(positions(turned.shape[1:])).abs()
        assert torch.equal(mask | ((distance - 1.5).abs() < 1e-9), (distance < 1.5) | ((distance - 1.5).abs() < 1e-9))


@pytest.mark.parametrize("axes", [(), (0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_flips_are_torch_flips_with_the_component_negated(axes):
    field = random_field((3, 4, 5))
    expected = torch.flip(field, [axis + 1 for axis in axes]).clone()
    expected[list(axes)] *= -1
    assert torch.equal(flip_vectors(field, axes), expected)
    swapped = flip_vectors(field.flip(0), axes, "xyz").flip(0)
    assert torch.equal(swapped, expected)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3), 2)))
@pytest.mark.parametrize("k", [-1, 0, 1, 2, 3, 4])
def test_rotate90_moves_voxels_as_torch_rot90(axes, k):
    """One turn takes the first axis to the second, and the second to minus the first."""
    field = random_field((3, 4, 5))
    expected = torch.rot90(field, k, [axis + 1 for axis in axes])
    first, second = axes
    for _ in range(k % 4):
        before, expected = expected, expected.clone()
        expected[second], expected[first] = before[first], -before[second]
    assert torch.equal(rotate90_vectors(field, k, axes), expected)


def test_one_turn_after_another_is_their_product_for_all_pairs():
    field = random_field((2, 3, 4))
    for first in ELEMENTS:
        once = turn_vectors(field, first)
        for second in ELEMENTS:
            assert torch.equal(turn_vectors(once, second), turn_vectors(field, second @ first))


@pytest.mark.parametrize("order", ["zyx", "xyz"])
def test_the_inverse_restores_exactly(order):
    field = random_field((3, 5, 4))
    for matrix in ELEMENTS:
        assert torch.equal(turn_vectors(turn_vectors(field, matrix, order), matrix.T, order), field)


def test_types_are_kept():
    matrix = ELEMENTS[17]
    for dtype in (np.uint8, np.uint16, np.int64, np.float16, np.float64, bool):
        img = np.arange(24).reshape(1, 2, 3, 4).astype(dtype)
        turned = turn_volume(img, matrix)
        assert isinstance(turned, np.ndarray)
        assert turned.dtype == dtype
        np.testing.assert_array_equal(turn_volume(turned, matrix.T), img)
    half = random_field().half()
    assert turn_vectors(half, matrix).dtype == torch.float16


def seen(transform, shape=(4, 4, 4), draws=200):
    """The matrices that were drawn, and how often each."""
    data = {"image": torch.zeros(1, *shape), "normals": torch.zeros(3, *shape)}
    counts = {}
    for _ in range(draws):
        transform(data)
        counts[transform.matrix.tobytes()] = counts.get(transform.matrix.tobytes(), 0) + 1
    return counts


@pytest.mark.parametrize(
    ("shape", "keep_shape", "voxel_size", "rotations"),
    [
        ((4, 4, 4), True, None, 24),
        ((3, 4, 4), True, None, 8),
        ((3, 4, 5), True, None, 4),
        ((3, 4, 5), False, None, 24),
        ((4, 4, 4), True, (2.0, 1.0, 1.0), 8),
        ((3, 4, 5), False, (2.0, 1.0, 1.0), 8),
    ],
)
def test_every_valid_element_of_the_cube_is_drawn_alike(shape, keep_shape, voxel_size, rotations):
    for reflections in (False, True):
        transform = RandCubeRotationVectord(
            "image", "normals", reflections=reflections, keep_shape=keep_shape, voxel_size=voxel_size
        ).set_random_state(0)
        expected = rotations * (2 if reflections else 1)
        counts = seen(transform, shape, draws=20 * expected)
        assert len(counts) == expected
        assert min(counts.values()) >= 6
        assert max(counts.values()) <= 45
        determinants = {round(np.linalg.det(np.frombuffer(one, dtype=np.int64).reshape(3, 3))) for one in counts}
        assert determinants == ({-1, 1} if reflections else {1})


def test_all_planes_and_turns_are_drawn():
    assert len(seen(RandRotate90Vectord("image", "normals", prob=1.0).set_random_state(0))) == 9
    assert len(seen(RandRotate90Vectord("image", "normals", prob=1.0, max_k=1).set_random_state(0))) == 3
    one = RandRotate90Vectord("image", "normals", prob=1.0, spatial_axes=(0, 2)).set_random_state(0)
    assert len(seen(one)) == 3
    kept = seen(RandRotate90Vectord("image", "normals", prob=1.0).set_random_state(0), (3, 4, 5))
    assert {tuple(np.frombuffer(m, dtype=np.int64).reshape(3, 3).diagonal().tolist()) for m in kept} == {
        (-1, -1, 1),
        (-1, 1, -1),
        (1, -1, -1),
    }


def test_a_quarter_turn_in_an_unequal_plane():
    field = random_field((3, 4, 4))
    data = {"normals": field}
    kept = RandRotate90Vectord((), "normals", prob=1.0, max_k=1, spatial_axes=(0, 1))
    assert torch.equal(kept(data)["normals"], field)
    free = RandRotate90Vectord((), "normals", prob=1.0, max_k=1, spatial_axes=(0, 1), keep_shape=False)
    assert free(data)["normals"].shape == (3, 4, 3, 4)
    assert torch.equal(free(data)["normals"], rotate90_vectors(field, 1, (0, 1)))


def test_flips_of_every_axis_are_independent():
    counts = seen(RandFlipVectord("image", "normals").set_random_state(0), draws=240)
    assert len(counts) == 8
    assert min(counts.values()) > 15
    always = RandFlipVectord("image", "normals", prob=1.0, spatial_axis=1)
    field, img = random_field(), torch.rand(1, 4, 4, 4)
    result = always({"image": img, "normals": field})
    assert torch.equal(result["image"], img.flip(2))
    assert torch.equal(result["normals"], flip_vectors(field, 1))


@pytest.mark.parametrize(
    "matrix", [np.eye(2), np.zeros((3, 3)), 2 * np.eye(3), [[1, 1, 0], [0, 1, 0], [0, 0, 1]], [[0.5, 0, 0]] * 3]
)
def test_other_matrices_are_refused(matrix):
    with pytest.raises(InvalidInputError, match="cubic grid"):
        turn_vectors(random_field(), matrix)


def test_bad_axes_are_refused():
    field = random_field()
    with pytest.raises(InvalidInputError, match="axes=3"):
        flip_vectors(field, 3)
    with pytest.raises(InvalidInputError, match=r"axes=\(1, 1\)"):
        flip_vectors(field, (1, 1))
    with pytest.raises(InvalidInputError, match=r"axes=\(0, 0\)"):
        rotate90_vectors(field, 1, (0, 0))
    with pytest.raises(InvalidInputError, match=r"axes=\(0, 3\)"):
        RandRotate90Vectord("image", "normals", spatial_axes=(0, 3))
    with pytest.raises(InvalidInputError, match="every plane once"):
        RandRotate90Vectord("image", "normals", spatial_axes=((0, 1), (1, 0)))
    with pytest.raises(InvalidInputError, match="max_k=4"):
        RandRotate90Vectord("image", "normals", max_k=4)
    with pytest.raises(InvalidInputError, match="axes="):
        RandFlipVectord("image", "normals", spatial_axis=(0, 5))
