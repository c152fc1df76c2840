import json
import re

import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import scene, volume_scene
from voxel_ext.visualize.scene import mask_mesh


def figure_of(fragment):
    return json.loads(re.search(r"const figure = (\{.*\});\n", fragment).group(1))


def names(fragment):
    return [trace.get("name") for trace in figure_of(fragment)["data"]]


def volume_inside(vertices, faces):
    """Volume of a closed mesh, by the divergence theorem."""
    corners = vertices.astype(np.float64)[faces.astype(int)]
    return abs(np.linalg.det(corners).sum() / 6)


def test_mesh_of_a_ball_has_its_volume_and_place():
    index = np.indices((40, 44, 48))
    center = np.array([20, 18, 25])
    mask = sum((axis - c) ** 2 for axis, c in zip(index, center, strict=True)) < 12**2
    vertices, faces = mask_mesh(mask, (1, 1, 1))
    assert volume_inside(vertices, faces) == pytest.approx(mask.sum(), rel=0.06)
    # the middle of voxel i lies at i + 1/2
    np.testing.assert_allclose((vertices.max(0) + vertices.min(0)) / 2, center + 0.5, atol=0.2)


def test_mesh_follows_the_voxel_size_and_the_limit_of_vertices(monkeypatch):
    mask = sum((axis - 24) ** 2 for axis in np.indices((48, 48, 48))) < 18**2
    fine, _ = mask_mesh(mask, (2, 1, 0.5))
    monkeypatch.setattr(scene, "_MAX_VERTICES", 900)
    coarse, faces = mask_mesh(mask, (2, 1, 0.5))
    assert len(coarse) <= 900 < len(fine)
    np.testing.assert_allclose(np.ptp(fine, axis=0), 36 * np.array([2, 1, 0.5]), rtol=0.06)
    np.testing.assert_allclose(np.ptp(coarse, axis=0), 36 * np.array([2, 1, 0.5]), rtol=0.15)
    assert faces.max() < len(coarse)


def test_one_voxel_and_a_full_mask_have_a_surface():
    mask = np.zeros((120, 120, 120), bool)
    assert mask_mesh(mask, (1, 1, 1)) is None
    mask[60, 60, 60] = True
    assert mask_mesh(mask, (1, 1, 1)) is not None
    vertices, _ = mask_mesh(~mask[:10, :10, :10], (1, 1, 1))
    assert vertices.min() > -1
    assert vertices.max() < 11


def test_scene_has_signal_prediction_and_truth(ball):
    image, truth, prediction = ball
    fragment = volume_scene(image, prediction, truth, div_id="here")
    assert names(fragment) == ["signal", "strong signal", "prediction", "truth"]
    assert '<div id="here"' in fragment
    assert "http" not in fragment
    assert '"showSendToCloud": false' in fragment
    layout = figure_of(fragment)["layout"]
    assert layout["scene"]["zaxis"]["range"] == [0, 12]
    assert layout["scene"]["xaxis"]["range"] == [0, 28]
    assert "voxels" in layout["scene"]["xaxis"]["title"]["text"]
    scaled = figure_of(volume_scene(image, voxel_size=(2, 1, 1)))["layout"]
    assert scaled["scene"]["zaxis"]["range"] == [0, 24]
    assert "µm" in scaled["scene"]["zaxis"]["title"]["text"]


def test_plotly_is_embedded_on_request_only(ball):
    assert len(volume_scene(ball[0])) < 1_000_000
    assert "plotly.js v" in volume_scene(ball[0], include_plotlyjs=True)[:200]


def test_empty_mask_and_constant_volume_are_said():
    volume = np.ones((6, 6, 6))
    fragment = volume_scene(volume, volume * 0, volume * 0)
    texts = [note["text"] for note in figure_of(fragment)["layout"]["annotations"]]
    assert texts == ["the signal is constant: no surface to show", "the prediction is empty", "the truth is empty"]
    assert names(fragment) == [None]


@pytest.mark.parametrize("shape", [(1, 8, 8), (30, 4, 9), (1, 1, 2)])
def test_thin_volumes(shape):
    image = np.random.default_rng(0).random(shape)
    assert "prediction" in names(volume_scene(image, image > 0.01))


def test_stays_small_for_a_rough_volume():
    image = np.random.default_rng(0).random((128, 128, 128)).astype(np.float32)
    assert len(volume_scene(image, image > 0.5, image > 0.6)) < 3_000_000


def test_bad_input(ball):
    image, truth, _ = ball
    with pytest.raises(InvalidInputError, match=r"prediction has shape \(20, 28\) but the image has shape"):
        volume_scene(image, truth[0])
    with pytest.raises(InvalidInputError, match="div_id"):
        volume_scene(image, div_id='"><script>')
    with pytest.raises(InvalidInputError, match="NaN"):
        volume_scene(image * np.nan)
