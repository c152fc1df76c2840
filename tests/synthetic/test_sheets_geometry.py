"""The sheets' masks and normals against brute force and closed formulas."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic.sheets import Sheets

SMALL = {"size": (40, 44, 48), "blur": 0.0}
PLAIN = {**SMALL, "waviness": 0.0, "touching": 0.0, "gaps": 0.0}


def voxels(size):
    """Centers of all voxels (N, 3)."""
    return np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1).reshape(-1, 3).astype(float)


def angles(first, second):
    """Angle in radians between vectors (N, 3), exact for small ones."""
    cross = np.linalg.norm(np.cross(first, second), axis=1)
    return np.arctan2(cross, (first * second).sum(axis=1))


@pytest.mark.parametrize("kind", ["waves", "spiral"])
def test_normals_are_the_finite_differences_of_the_surfaces(kind):
    sheets = Sheets(1, kind=kind, touching=1.0, blur=0.0, size=(48, 56, 64))
    volume = sheets.generate()
    assert volume["parameters"]["contacts"] > 0
    rng = np.random.default_rng(0)
    checked, step = 0, 1e-3
    for sheet in np.unique(volume["label"])[1:]:
        points = np.argwhere(volume["label"] == sheet)
        points = points[rng.permutation(len(points))[:400]].astype(float)
        value, gradient = sheets.surface(sheet, points)
        slope = np.empty_like(points)
        for axis in range(3):
            offset = step * np.eye(3)[axis]
            up, down = (sheets.surface(sheet, points + sign * offset)[0] for sign in (1, -1))
            slope[:, axis] = (up - down) / (2 * step)
        np.testing.assert_allclose(slope, gradient, atol=1e-6)
        normals = volume["normals"][(slice(None), *points.astype(int).T)].T.astype(float)
        assert angles(normals, slope).max() < 1e-6
        assert (np.abs(value) / np.linalg.norm(slope, axis=1)).max() < sheets.thickness / 2 + 1e-6
        checked += len(points)
    assert checked > 1500


@pytest.mark.parametrize("kind", ["waves", "spiral"])
def test_normals_have_length_one_in_the_band_and_are_zero_elsewhere(kind):
    sheets = Sheets(5, kind=kind, normal_band=1.0, **SMALL)
    volume, without = sheets.generate(), Sheets(5, kind=kind, **SMALL).generate()
    length = np.linalg.norm(volume["normals"].astype(float), axis=0)
    inside, known = volume["sheet"] > 0, length > 0
    np.testing.assert_allclose(length[known], 1, atol=1e-6)
    np.testing.assert_array_equal(without["normals"].any(axis=0), inside)
    np.testing.assert_array_equal(without["normals"], volume["normals"] * inside)
    assert known[inside].all()
    assert known.sum() > 1.2 * inside.sum()
    far = ~binary_dilation(inside, np.ones((3, 3, 3)), 2)
    assert not (known & far)[3:-3, 3:-3, 3:-3].any()  # near the borders, the sheet may be outside


@pytest.mark.parametrize("seed", range(3))
def test_flat_sheets_are_planes_at_the_spacing(seed):
    sheets = Sheets(seed, kind="waves", spacing=11.0, thickness=4.0, **PLAIN)
    volume = sheets.generate()
    drawn = volume["parameters"]
    axis = np.array(drawn["axis"])
    height = (voxels(SMALL["size"]) - drawn["center"]) @ axis + drawn["shift"]
    number = np.rint(height / 11)
    away = np.abs(height - 11 * number)
    expected = np.where(away < 2, number, -99).reshape(SMALL["size"])
    clear = (np.abs(away - 2) > 1e-6).reshape(SMALL["size"])
    label = volume["label"]
    np.testing.assert_array_equal((label > 0)[clear], (expected > -99)[clear])
    assert len(np.unique((label - expected)[(label > 0) & clear])) == 1  # the ids are the numbers and an offset
    np.testing.assert_allclose(
        volume["normals"][:, label > 0], np.broadcast_to(axis[:, None], (3, (label > 0).sum())), atol=1e-7
    )
    assert abs((label > 0).mean() - 4 / 11) < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_perfect_scroll_is_an_archimedean_spiral(seed):
    sheets = Sheets(seed, kind="spiral", tilt=0.0, **{**PLAIN, "size": (8, 80, 80)})
    volume = sheets.generate()
    drawn = volume["parameters"]
    assert drawn["axis"] == [1.0, 0.0, 0.0]
    first, second = np.array(drawn["directions"])
    points = voxels((1, 80, 80)) - drawn["center"]
    # r = spacing * (k + turn / 2 pi) as one curve, sampled at about 0.01 voxels
    turn = np.linspace(np.pi, 2 * np.pi * 12, 400_000)[:, None]
    curve = 12 * turn / (2 * np.pi) * (np.cos(turn) * first + np.sin(turn) * second)
    away, nearest = cKDTree(curve[:, 1:]).query(points[:, 1:])
    # the distance is of first order; the innermost end of the sheet is cut, not round
    clear = (np.abs(away - sheets.thickness / 2) > 0.05) & (turn[nearest, 0] > 1.5 * np.pi)
    np.testing.assert_array_equal(volume["sheet"][0].ravel()[clear], (away < sheets.thickness / 2)[clear])
    np.testing.assert_array_equal(volume["sheet"], np.broadcast_to(volume["sheet"][:1], volume["sheet"].shape))
    inside = (volume["sheet"][0].ravel() > 0) & clear
    turns = turn[nearest, 0] / (2 * np.pi) + 0.5
    certain = inside & (np.abs(turns - np.rint(turns)) > 0.02)  # away from where the number changes
    np.testing.assert_array_equal(volume["label"][0].ravel()[certain], np.floor(turns)[certain])
    normals = volume["normals"][:, 0].reshape(3, -1).T[inside].astype(float)
    assert (normals * points[inside]).sum(axis=1).min() > 0  # outwards
    across = (points[inside] - curve[nearest[inside]]) * [0, 1, 1]
    far = np.linalg.norm(across, axis=1) > 0.5
    angle = angles(normals[far], across[far])
    assert np.minimum(angle, np.pi - angle).max() < np.deg2rad(2)


@pytest.mark.parametrize("kind", ["waves", "spiral"])
def test_thickness_of_bent_sheets_against_a_dense_evaluation(kind):
    sheets = Sheets(1, kind=kind, gaps=0.0, **SMALL)
    box = (slice(8, 28), slice(8, 30), slice(8, 32))
    block = sheets.block(box)
    corner = np.array([8, 8, 8])
    errors, agree, total = [], 0, 0
    for sheet in np.unique(block["label"])[1:]:
        dense = voxels((56, 60, 64)) * 0.5 + corner - 4
        for reach in (1.0, 0.5, 0.5):  # Newton's method along the gradient
            value, gradient = sheets.surface(sheet, dense)
            square = (gradient**2).sum(axis=1)
            dense = (dense - (value / square)[:, None] * gradient)[np.abs(value) < reach]
        points = voxels(block["label"].shape) + corner
        away = cKDTree(dense).query(points)[0].reshape(block["label"].shape)
        value, gradient = sheets.surface(sheet, points)
        estimate = (np.abs(value) / np.linalg.norm(gradient, axis=1)).reshape(away.shape)
        mine = block["label"] == sheet
        errors.append(np.abs(estimate - away)[mine])
        agree += (mine & (away < sheets.thickness / 2)).sum()
        total += mine.sum()
    assert total > 2000
    assert np.median(np.concatenate(errors)) < 0.1
    assert agree / total > 0.97


def test_normals_of_a_stack_point_along_its_direction():
    for seed in range(3):
        volume = Sheets(seed, kind="waves", tilt=60.0, **SMALL).generate()
        axis = np.array(volume["parameters"]["axis"])
        assert axis[0] >= 0.5
        along = np.tensordot(axis, volume["normals"], 1)
        assert along[volume["sheet"] > 0].min() > 0


def test_surface_wants_points():
    with pytest.raises(InvalidInputError, match=r"points of shape \(3,\)"):
        Sheets(**SMALL).surface(1, np.zeros(3))
