"""What is interpolated how: unknown voxels, unknown signs, the outside."""

import itertools

import numpy as np
import pytest
import torch
from vector_surfaces import degrees, inner, random_signs

from voxel_ext.transforms.vector import SourceMap, affine_source, affine_vectors, elastic_vectors, move_vectors

SHIFT = (0.3, -0.4, 0.2)


def random_units(shape, seed=0, known=0.5):
    generator = torch.Generator().manual_seed(seed)
    field = torch.nn.functional.normalize(torch.randn(3, *shape, generator=generator), dim=0)
    return field * (torch.rand(shape, generator=generator) < known)


def brute_force(field, points, oriented):
    """Weighted mean of the known of the eight neighbors of every point, voxel by voxel."""
    shape = field.shape[1:]
    result = torch.zeros_like(field)
    for voxel in itertools.product(*map(range, shape)):
        point = points[(slice(None), *voxel)].tolist()
        nearest = [int(np.floor(one + 0.5)) for one in point]
        if any(not 0 <= one < size for one, size in zip(nearest, shape, strict=True)):
            continue
        middle = field[(slice(None), *nearest)]
        total = torch.zeros(3)
        for corner in itertools.product((0, 1), repeat=3):
            lower = [int(np.floor(one)) for one in point]
            weight = np.prod([abs(1 - bit - (p - low)) for bit, p, low in zip(corner, point, lower, strict=True)])
            index = [min(max(low + bit, 0), n - 1) for low, bit, n in zip(lower, corner, shape, strict=True)]
            value = field[(slice(None), *index)]
            total += float(weight) * value * (-1 if not oriented and value @ middle < 0 else 1)
        if middle.any() and total.norm() > 1e-3:
            result[(slice(None), *voxel)] = total / total.norm()
    return result


@pytest.mark.parametrize("oriented", [True, False])
def test_the_mean_over_known_neighbors_equals_brute_force(oriented):
    shape = (5, 6, 4)
    field = random_units(shape)
    generator = torch.Generator().manual_seed(5)
    grid = torch.stack(torch.meshgrid(*[torch.arange(size) for size in shape], indexing="ij")).float()
    points = grid + torch.randn(grid.shape, generator=generator)
    sizes = torch.tensor(shape).view(3, 1, 1, 1)
    inside = ((points >= -0.5) & (points < sizes - 0.5)).all(0)
    found = move_vectors(field, SourceMap(points, inside, torch.eye(3)), oriented=oriented)
    assert torch.allclose(found, brute_force(field, points, oriented), atol=1e-4)


@pytest.mark.parametrize("oriented", [True, False])
def test_unknown_voxels_do_not_bias(oriented):
    """A constant field with holes stays that constant wherever it is known."""
    constant = torch.tensor([0.48, -0.6, 0.64]).view(3, 1, 1, 1)
    known = torch.rand(10, 11, 12, generator=torch.Generator().manual_seed(0)) < 0.4
    field = constant * known
    field = field if oriented else random_signs(field)
    found = affine_vectors(field, np.eye(3), SHIFT, oriented=oriented)
    there = (found != 0).any(0)
    assert there.sum() > 200
    assert degrees(found[:, there], constant.view(3, 1), oriented).max() < 0.05


def test_known_is_where_the_nearest_voxel_is_known():
    field = random_units((6, 7, 8))
    known = (field != 0).any(0)
    assert torch.equal((affine_vectors(field, np.eye(3), SHIFT) != 0).any(0), known)
    moved = affine_vectors(field, np.eye(3), (0, 0, 0.7))
    assert torch.equal((moved != 0).any(0)[..., 1:], known[..., :-1])
    assert not moved[..., 0].any()


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("oriented", [True, False])
@pytest.mark.parametrize("kind", ["normal", "direction"])
def test_a_field_of_zeros_stays_zero(mode, oriented, kind):
    zeros = torch.zeros(3, 6, 7, 8)
    matrix = np.array([[1, 0.3, 0], [0, 0.8, 0.1], [0.2, 0, 1]])
    assert not affine_vectors(zeros, matrix, SHIFT, kind, oriented, mode).any()
    displacement = torch.randn(3, 6, 7, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    assert not elastic_vectors(zeros, displacement, kind, oriented, mode).any()


@pytest.mark.parametrize("oriented", [True, False])
def test_what_comes_from_outside_is_zero(oriented):
    field = random_units((8, 8, 8), known=2.0)
    shrunk = affine_vectors(field, np.eye(3) * 0.5, oriented=oriented)
    assert torch.equal((shrunk != 0).any(0), inner((8, 8, 8), 2))
    assert not affine_vectors(field, np.eye(3), (20, 0, 0), oriented=oriented).any()


def test_opposite_vectors_cancel_only_if_oriented():
    field = torch.zeros(3, 4, 4, 4)
    field[0], field[0, ..., ::2] = 1.0, -1.0
    half = (0, 0, 0.5)
    assert not affine_vectors(field, np.eye(3), half)[..., 1:].any()
    unoriented = affine_vectors(field, np.eye(3), half, oriented=False)
    assert torch.allclose(unoriented[0, ..., 1:].abs(), torch.ones(()), atol=1e-5)


def test_signs_of_an_unoriented_field_make_no_difference():
    field = random_units((9, 9, 9))
    matrix = np.array([[1, 0.3, 0], [0, 0.8, 0.1], [0.2, 0, 1]])
    one = affine_vectors(field, matrix, SHIFT, oriented=False)
    other = affine_vectors(random_signs(field), matrix, SHIFT, oriented=False)
    outer, again = (torch.einsum("izyx,jzyx->ijzyx", a, a) for a in (one, other))
    assert torch.allclose(outer, again, atol=1e-4)


def test_nearest_takes_whole_vectors():
    field = random_units((6, 7, 8))
    assert torch.allclose(affine_vectors(field, np.eye(3), SHIFT, mode="nearest"), field, atol=1e-6)
    matrix = np.diag([1.1, 0.9, 1.0])
    found = affine_vectors(field, matrix, mode="nearest")
    points = affine_source((6, 7, 8), matrix).points
    index = (points + 0.5).floor().long()
    sizes = torch.tensor([5, 6, 7]).view(3, 1, 1, 1)
    picked = field[(slice(None), *index.clamp(min=torch.zeros_like(sizes), max=sizes))]
    expected = torch.nn.functional.normalize(picked / torch.tensor([1.1, 0.9, 1.0]).view(3, 1, 1, 1), dim=0)
    there = (found != 0).any(0)
    assert torch.allclose(found[:, there], expected[:, there], atol=1e-5)


def test_lengths_do_not_weigh():
    field = random_units((6, 7, 8))
    scale = torch.rand(6, 7, 8, generator=torch.Generator().manual_seed(3)) + 0.1
    expected = affine_vectors(field, np.eye(3), SHIFT)
    assert torch.allclose(affine_vectors(field * scale, np.eye(3), SHIFT), expected, atol=1e-4)
