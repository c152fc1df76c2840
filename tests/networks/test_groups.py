"""The rotation groups: axioms, their action, and what kernels they keep."""

import itertools

import numpy as np
import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.groups import GROUP_NAMES, rotation_group

ORDERS = {"V": 4, "T4": 12, "S4": 24, "Oh": 48, "C2": 2, "C4": 4, "D4": 8}
NAMES = [name for name in GROUP_NAMES if ":" in name or name not in ("C2", "C4", "D4")]


@pytest.mark.parametrize("name", GROUP_NAMES)
def test_order_and_determinants(name):
    group = rotation_group(name)
    determinants = torch.linalg.det(group.matrices.double()).round()
    assert group.order == len(group.matrices) == ORDERS[name.partition(":")[0]]
    assert len({tuple(matrix.flatten().tolist()) for matrix in group.matrices}) == group.order
    assert determinants.sum() == (0 if name == "Oh" else group.order)
    assert not group.matrices.is_floating_point()


@pytest.mark.parametrize("name", NAMES)
def test_cayley_table_is_the_product_of_matrices(name):
    group = rotation_group(name)
    for g, h in itertools.product(range(group.order), repeat=2):
        assert torch.equal(group.matrices[group.cayley[g, h]], group.matrices[g] @ group.matrices[h])


@pytest.mark.parametrize("name", NAMES)
def test_group_axioms(name):
    group = rotation_group(name)
    elements = torch.arange(group.order)
    assert torch.equal(group.cayley[0], elements)
    assert torch.equal(group.cayley[:, 0], elements)
    assert torch.equal(group.cayley[elements, group.inverse], torch.zeros_like(elements))
    assert torch.equal(group.cayley.sort(dim=1).values, elements.expand(group.order, -1))
    left = group.cayley[group.cayley]
    right = group.cayley[elements[:, None, None], group.cayley[None]]
    assert torch.equal(left, right)


@pytest.mark.parametrize(("small", "large"), [("V", "T4"), ("T4", "S4"), ("S4", "Oh"), ("C2:x", "V"), ("D4:y", "S4")])
def test_subgroups(small, large):
    contained = {tuple(matrix.flatten().tolist()) for matrix in rotation_group(large).matrices}
    assert all(tuple(matrix.flatten().tolist()) in contained for matrix in rotation_group(small).matrices)


def spelled(group):
    """Each matrix as the signed axis in each of its rows."""
    return [
        "".join("+-"[int(row.sum() < 0)] + "zyx"[int(row.abs().argmax())] for row in matrix)
        for matrix in group.matrices
    ]


def test_order_of_elements_is_fixed():
    """Weights are stored by element: another order would change what a checkpoint computes."""
    assert rotation_group("V").cayley.tolist() == [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]]
    assert spelled(rotation_group("C2:x")) == ["+z+y+x", "-z-y+x"]
    assert spelled(rotation_group("C4:z")) == ["+z+y+x", "+z-y-x", "+z+x-y", "+z-x+y"]
    assert " ".join(spelled(rotation_group("S4"))) == (
        "+z+y+x +z-y-x -z+y-x -z-y+x +z+x-y +z-x+y -z+x+y -z-x-y +y+z-x +y-z+x -y+z+x -y-z-x "
        "+y+x+z +y-x-z -y+x-z -y-x+z +x+z+y +x-z-y -x+z-y -x-z+y +x+y-z +x-y+z -x+y+z -x-y-z"
    )


def test_default_axis_is_z_and_groups_are_cached():
    assert rotation_group("C4") is rotation_group("C4:z")
    assert rotation_group(rotation_group("S4")) is rotation_group("S4")


@pytest.mark.parametrize("name", NAMES)
def test_act_moves_points_by_the_matrix(name):
    group = rotation_group(name)
    size = np.array([3, 4, 5])
    volume = torch.arange(60).reshape(3, 4, 5)
    for element, matrix in enumerate(group.matrices.numpy()):
        turned = group.act(volume, element)
        new_size = np.abs(matrix) @ size
        assert turned.shape == tuple(new_size)
        for point in itertools.product(range(3), range(4), range(5)):
            centered = matrix @ (2 * np.array(point) - (size - 1))
            moved = (centered + new_size - 1) // 2
            assert turned[tuple(moved)] == volume[point]


@pytest.mark.parametrize("name", NAMES)
def test_act_is_a_homomorphism(name):
    group = rotation_group(name)
    volume = torch.arange(24.0).reshape(2, 3, 4)
    features = torch.arange(float(group.order * 24)).reshape(1, 1, group.order, 2, 3, 4)
    assert torch.equal(group.act(volume, 0), volume)
    for g, h in itertools.product(range(0, group.order, 3), range(group.order)):
        product = int(group.cayley[g, h])
        assert torch.equal(group.act(group.act(volume, h), g), group.act(volume, product))
        twice = group.act_features(group.act_features(features, h), g)
        assert torch.equal(twice, group.act_features(features, product))


@pytest.mark.parametrize(("axis", "plane"), [("z", (1, 2)), ("y", (0, 2)), ("x", (0, 1))])
def test_act_agrees_with_rot90(axis, plane):
    """np.rot90 turns the first axis of its plane to the second: (a, b) comes to (-b, a)."""
    volume = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    group = rotation_group(f"C4:{axis}")
    quarter = np.eye(3, dtype=int)
    first, second = plane
    quarter[[first, first, second, second], [first, second, first, second]] = 0, -1, 1, 0
    for turns in range(4):
        matrix = torch.from_numpy(np.linalg.matrix_power(quarter, turns))
        element = [torch.equal(matrix, candidate) for candidate in group.matrices].index(True)
        expected = np.rot90(volume, turns, axes=(1 + plane[0], 1 + plane[1]))
        assert np.array_equal(group.act(torch.from_numpy(volume), element).numpy(), expected)


def test_roll_of_a_worm():
    volume = torch.arange(24).reshape(2, 3, 4)
    assert torch.equal(rotation_group("C2:x").act(volume, 1), volume.flip(0, 1))


@pytest.mark.parametrize(
    ("name", "size"), [("S4", (3, 3, 3)), ("Oh", (2, 2, 2)), ("C4:z", (3, 5, 5)), ("V", (2, 3, 4))]
)
def test_grid_permutation(name, size):
    group = rotation_group(name)
    kernel = torch.randn(size, generator=torch.Generator().manual_seed(0))
    permutation = group.grid_permutation(size)
    assert permutation.shape == (group.order, kernel.numel())
    for element in range(group.order):
        assert torch.equal(kernel.flatten()[permutation[element]], group.act(kernel, element).flatten())


def test_act_features_permutes_the_group_axis():
    group = rotation_group("S4")
    features = torch.arange(24.0).reshape(1, 1, 24, 1, 1, 1)
    for g, r in itertools.product(range(24), repeat=2):
        turned = group.act_features(features, g)
        assert turned[0, 0, r].item() == int(group.cayley[group.inverse[g], r])


def test_flipped_axes():
    assert rotation_group("C4:z").flipped_axes == (False, True, True)
    assert rotation_group("C2:x").flipped_axes == (True, True, False)
    assert rotation_group("T4").flipped_axes == (True, True, True)


@pytest.mark.parametrize("name", ["s4", "C3", "V:x", "C4:w", "", None])
def test_unknown_group(name):
    with pytest.raises(InvalidInputError, match=r"group=.*'V'.*'D4:x'"):
        rotation_group(name)


def test_bad_arguments():
    group = rotation_group("C4:z")
    with pytest.raises(InvalidInputError, match=r"kernel_size=\(3, 5, 3\) differs along y and x.*C4:z"):
        group.grid_permutation((3, 5, 3))
    with pytest.raises(InvalidInputError, match="spatial_dims=2"):
        group.act(torch.zeros(4, 4), 0, spatial_dims=2)
    with pytest.raises(InvalidInputError, match="element=4: the group C4:z has the elements 0 to 3"):
        group.act(torch.zeros(3, 3, 3), 4)
    with pytest.raises(InvalidInputError, match=r"element=-1"):
        group.act(torch.zeros(3, 3, 3), -1)
    with pytest.raises(InvalidInputError, match=r"\(4, 4\)"):
        group.act(torch.zeros(4, 4), 0)
    with pytest.raises(InvalidInputError, match=r"\(B, C, 4, D, H, W\), got \(1, 1, 3, 2, 2, 2\)"):
        group.act_features(torch.zeros(1, 1, 3, 2, 2, 2), 0)
    with pytest.raises(InvalidInputError, match="three"):
        group.check_axes("stride", (1, 2))
