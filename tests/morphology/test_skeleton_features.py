import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from solids import arms, capsule, ellipsoid, torus

from voxel_ext.errors import InvalidInputError, MissingDependencyError
from voxel_ext.morphology.skeleton_features import skeleton_features

STAR = [(np.cos(angle), np.sin(angle), 0) for angle in (0.0, 2.1, 4.2)]
CROSS = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)]


def _counts(found):
    return tuple(int(found[f"skeleton_{name}"]) for name in ("branch_points", "end_points", "loops"))


@pytest.mark.parametrize(("voxel_size", "tolerance"), [((8, 8, 8), 0.03), ((16, 8, 8), 0.06), ((30, 8, 8), 0.11)])
def test_rods_at_many_angles_have_their_length(voxel_size, tolerance):
    for seed in range(8):
        found = skeleton_features(capsule(60, 500, voxel_size, seed), voxel_size)
        assert found["skeleton_length_nm"] == pytest.approx(620, rel=tolerance), seed
        assert found["skeleton_longest_path_nm"] == pytest.approx(found["skeleton_length_nm"]), seed
        assert _counts(found) == (0, 2, 0), seed


@pytest.mark.parametrize("seed", range(6))
def test_lines_of_voxels_are_not_longer_than_they_are(seed):
    """Steps from voxel to voxel are up to 13 % longer than the straight line; corners at the ends may go."""
    end = Rotation.random(random_state=seed).apply([60.0, 0, 0])
    line = np.round(np.linspace(0, end, 400)).astype(int)
    line -= line.min(axis=0)
    mask = np.zeros(line.max(axis=0) + 1, bool)
    mask[tuple(line.T)] = True
    assert skeleton_features(mask)["skeleton_length_nm"] == pytest.approx(61, abs=2)


@pytest.mark.parametrize("voxel_size", [(8, 8, 8), (16, 8, 8), (30, 8, 8)])
def test_rings_are_loops_of_their_circumference(voxel_size):
    for seed in range(3):
        found = skeleton_features(torus(220, 70, voxel_size, seed), voxel_size)
        assert found["skeleton_length_nm"] == pytest.approx(2 * np.pi * 220, rel=0.03), seed
        assert found["skeleton_longest_path_nm"] == pytest.approx(np.pi * 220, rel=0.03), seed
        assert _counts(found) == (0, 0, 1), seed


@pytest.mark.parametrize(("voxel_size", "tolerance"), [((8, 8, 8), 0.03), ((16, 8, 8), 0.05)])
@pytest.mark.parametrize("seed", range(3))
def test_stars_and_crosses_have_one_branch_point(voxel_size, tolerance, seed):
    star = skeleton_features(arms(STAR, 300, 50, voxel_size, seed), voxel_size)
    assert _counts(star) == (1, 3, 0)
    assert star["skeleton_length_nm"] == pytest.approx(3 * 350, rel=tolerance)
    assert star["skeleton_longest_path_nm"] == pytest.approx(2 * 350, rel=tolerance)
    cross = skeleton_features(arms(CROSS, 300, 50, voxel_size, seed), voxel_size)
    assert _counts(cross) == (1, 4, 0)
    assert cross["skeleton_length_nm"] == pytest.approx(4 * 350, rel=tolerance)


def test_junctions_of_voxels_add_neither_length_nor_loops():
    cross = np.zeros((1, 41, 41), bool)
    cross[0, 20, :] = cross[0, :, 20] = True
    found = skeleton_features(cross)
    assert found["skeleton_length_nm"] == pytest.approx(82, rel=0.02)
    assert _counts(found) == (1, 4, 0)
    diagonal = np.zeros((1, 41, 41), bool)
    steps = np.arange(41)
    diagonal[0, steps, steps] = diagonal[0, steps, 40 - steps] = True
    found = skeleton_features(diagonal)
    assert found["skeleton_length_nm"] == pytest.approx(80 * np.sqrt(2) + 2, rel=0.02)
    assert _counts(found) == (1, 4, 0)


def test_a_ring_with_a_tail():
    mask = np.zeros((1, 60, 100), bool)
    y, x = np.indices((60, 100))
    mask[0] = np.abs(np.hypot(y - 30, x - 30) - 20) <= 1.5
    mask[0, 29:32, 50:98] = True
    found = skeleton_features(mask)
    assert _counts(found) == (1, 1, 1)
    assert found["skeleton_length_nm"] == pytest.approx(2 * np.pi * 20 + 48, rel=0.04)
    assert found["skeleton_longest_path_nm"] == pytest.approx(np.pi * 20 + 48, rel=0.05)


def test_a_ball_has_its_diameter_without_branches():
    found = skeleton_features(ellipsoid((80,) * 3, (8, 8, 8), 0), (8, 8, 8))
    assert found["skeleton_length_nm"] == pytest.approx(160, rel=0.06)
    assert found["skeleton_branch_points"] == found["skeleton_loops"] == 0


def test_components_are_added_up():
    rod = capsule(3, 30, (1, 1, 1), 0, pose=False)
    one = skeleton_features(rod)
    two = skeleton_features(np.concatenate([rod, rod], axis=1))
    assert two["skeleton_length_nm"] == pytest.approx(2 * one["skeleton_length_nm"])
    assert two["skeleton_longest_path_nm"] == pytest.approx(one["skeleton_longest_path_nm"])
    assert _counts(two) == (0, 4, 0)


def test_turns_and_permutations_change_little():
    mask, size = arms(STAR, 30, 5, (1.5, 1, 1), 1), (1.5, 1, 1)
    expected = skeleton_features(mask, size)
    for other in (
        skeleton_features(np.rot90(mask, axes=(1, 2)), size),
        skeleton_features(mask.transpose(2, 0, 1), (1, 1.5, 1)),
        skeleton_features(mask[::-1, :, ::-1], size),
    ):
        assert _counts(other) == _counts(expected)
        assert other["skeleton_length_nm"] == pytest.approx(expected["skeleton_length_nm"], rel=0.04)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 9, 9), (9, 1, 9), (2, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (40, 4, 4)])
def test_flat_objects_have_finite_features(shape, voxel_size):
    found = skeleton_features(np.ones(shape, bool), voxel_size)
    assert all(np.isfinite(value) for value in found.values())
    assert found["skeleton_length_nm"] >= min(voxel_size)
    assert found["skeleton_loops"] == 0


def test_a_single_voxel_and_a_line_of_voxels():
    assert list(skeleton_features(np.ones((1, 1, 1)).astype(bool), (40, 8, 8)).values()) == [8, 8, 0, 0, 0]
    assert skeleton_features(np.ones((1, 1, 20), bool), (8, 8, 8))["skeleton_length_nm"] == pytest.approx(160)


def test_refuses_unknown_methods_and_names_what_is_missing(monkeypatch):
    mask = np.ones((3, 3, 9), bool)
    with pytest.raises(InvalidInputError, match=r"'tease'.*'teasar'"):
        skeleton_features(mask, method="tease")
    with pytest.raises(InvalidInputError, match="empty"):
        skeleton_features(~mask)
    monkeypatch.setitem(sys.modules, "kimimaro", None)
    with pytest.raises(MissingDependencyError, match="pip install kimimaro"):
        skeleton_features(mask, method="teasar")


def test_teasar_gives_rods_their_length():
    pytest.importorskip("kimimaro")
    rod = np.ones((100, 6, 6), bool)
    for mask in (rod, rod.transpose(1, 0, 2), rod.transpose(1, 2, 0)):
        found = skeleton_features(mask, (8, 8, 8), "teasar")
        assert found["skeleton_length_nm"] == pytest.approx(800, rel=0.05)
        assert found["skeleton_longest_path_nm"] == pytest.approx(found["skeleton_length_nm"])
        assert _counts(found) == (0, 2, 0)
