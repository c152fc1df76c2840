import io

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image

from voxel_ext.errors import InvalidInputError
from voxel_ext.targets import read_targets
from voxel_ext.visualize.slice_walk import gif_bytes, walk_frames, walk_slices, write_walk
from voxel_ext.visualize.target_fields import ShownTarget, central_box, shown_prediction, shown_truth
from voxel_ext.visualize.vectors import vector_colors

TARGETS = read_targets(
    {
        "sheet": {"channels": 1, "activation": "sigmoid"},
        "parts": {"channels": 3, "activation": "sigmoid"},
        "classes": {"channels": 4, "activation": "softmax"},
        "normals": {"channels": 3, "activation": "unit_norm", "oriented": False},
        "depth": {"channels": 1, "loss": "mse"},
    }
)
HEADER, GAP = 20, 4
RNG = np.random.default_rng(0)
IMAGE = RNG.random((5, 8, 12)).astype(np.float32)


def shown(name, truth=True):
    target = TARGETS[name]
    given = RNG.normal(size=(1 if target.kind == "classes" else target.channels, *IMAGE.shape))
    if target.kind == "classes":
        given = np.floor(np.abs(given)).clip(0, 3)
    return ShownTarget(
        target,
        shown_truth(target, given) if truth else None,
        shown_prediction(target, RNG.normal(size=(target.channels, *IMAGE.shape))),
    )


def panels(frames, count, width):
    assert frames.shape[2] == count * width + (count - 1) * GAP
    return [frames[:, HEADER:, i * (width + GAP) : i * (width + GAP) + width] / 255 for i in range(count)]


@pytest.mark.parametrize("name", TARGETS)
def test_frames_have_input_truth_and_prediction(name):
    frames = walk_frames(IMAGE, shown(name), min_side=24)
    assert frames.dtype == np.uint8
    assert frames.shape == (5, 16 + HEADER, 3 * 24 + 2 * GAP, 3)
    gray, *others = panels(frames, 3, 24)
    assert (gray[..., 0] == gray[..., 1]).all()
    assert (gray[..., 0] == gray[..., 2]).all()
    for other in others:
        assert (other != gray).any()
    assert panels(walk_frames(IMAGE, shown(name, truth=False), min_side=24), 2, 24)
    # the names above the panels
    assert (frames[:, :HEADER].max(axis=(0, 1, 3))[[2, 30, 58]] <= 255).all()
    for left in (0, 28, 56):
        assert frames[0, :HEADER, left : left + 24].max() > 150


def test_vectors_are_colors_where_they_are_known():
    normals = shown("normals")
    where = RNG.random(IMAGE.shape) > 0.5
    _, truth, prediction = panels(walk_frames(IMAGE, normals, where, min_side=1), 3, 12)
    for panel, field in ((truth, normals.truth), (prediction, normals.prediction)):
        expected = vector_colors(field, oriented=False) * where[..., None]
        np.testing.assert_allclose(panel, expected, atol=0.51 / 255)


def test_values_share_a_range():
    target = TARGETS["depth"]
    truth = np.linspace(0, 10, IMAGE.size).reshape(1, *IMAGE.shape)
    low, high = np.percentile(truth, (0.5, 99.8))
    field = ShownTarget(target, shown_truth(target, truth), shown_prediction(target, truth / 2))
    _, first, second = panels(walk_frames(IMAGE, field, min_side=1), 3, 12)
    np.testing.assert_allclose(first[..., 0], np.clip((truth[0] - low) / (high - low), 0, 1), atol=0.51 / 255)
    np.testing.assert_allclose(second[..., 0], np.clip((truth[0] / 2 - low) / (high - low), 0, 1), atol=0.51 / 255)


def test_masks_tint_only_their_voxels():
    mask = np.zeros((1, *IMAGE.shape))
    mask[0, 2, 3:6, 4:9] = 1
    target = TARGETS["sheet"]
    field = ShownTarget(target, shown_truth(target, mask), shown_prediction(target, 0.6 * mask))
    gray, truth, prediction = panels(walk_frames(IMAGE, field, min_side=1), 3, 12)
    for panel in (truth, prediction):
        np.testing.assert_array_equal((panel != gray).any(-1), mask[0] > 0)
    assert (truth[2, 3:6, 4:9, 1] > truth[2, 3:6, 4:9, 0]).all()
    assert (prediction[2, 3, 4:9, 0] > prediction[2, 3, 4:9, 1]).all()


def test_what_is_drawn_of_masks_and_classes():
    parts = np.zeros((3, 1, 1, 4))
    parts[:, 0, 0] = [[0.1, 0.6, 0.2, 0.7], [0.2, 0.9, 0.1, 0.1], [0.3, 0.1, 0.6, 0.7]]
    np.testing.assert_array_equal(shown_prediction(TARGETS["parts"], parts)[0, 0], [0, 2, 3, 1])
    logits = np.zeros((4, 1, 1, 2))
    logits[3, ..., 0] = logits[0, ..., 1] = 1
    np.testing.assert_array_equal(shown_prediction(TARGETS["classes"], logits)[0, 0], [3, 0])
    truth = np.array([2.0, 255, 0]).reshape(1, 1, 1, 3)
    np.testing.assert_array_equal(shown_truth(TARGETS["classes"], truth, ignore_label=255)[0, 0], [2, 0, 0])
    np.testing.assert_array_equal(shown_truth(TARGETS["sheet"], truth, ignore_label=2)[0, 0], [0, 1, 0])


def test_not_finite_predictions_are_drawn_as_nothing():
    for name in ("sheet", "normals", "depth"):
        target = TARGETS[name]
        field = shown_prediction(target, np.full((target.channels, *IMAGE.shape), np.nan))
        gray, prediction = panels(walk_frames(IMAGE, ShownTarget(target, None, field), min_side=1), 2, 12)
        np.testing.assert_array_equal(prediction, gray if name == "sheet" else 0 * gray)


def test_aspect_and_thin_volumes():
    frames = walk_frames(IMAGE, shown("sheet"), voxel_size=(1, 3, 1), min_side=48)
    assert frames.shape[1:3] == (48 + HEADER, 3 * 24 + 2 * GAP)
    thin = ShownTarget(TARGETS["sheet"], None, np.ones((1, 1, 3), np.uint8))
    assert walk_frames(np.zeros((1, 1, 3)), thin, min_side=9).shape == (1, 3 + HEADER, 9 * 2 + GAP, 3)


def test_slices_are_spread():
    assert walk_slices(4, 10) == [0, 1, 2, 3]
    assert walk_slices(100, 4) == [12, 37, 62, 87]
    frames = walk_frames(IMAGE, shown("sheet"), max_frames=2, min_side=1)
    everything = walk_frames(IMAGE, shown("sheet"), min_side=1)
    np.testing.assert_array_equal(frames[:, :, :12], everything[[1, 3], :, :12])


def test_gif_has_a_frame_per_slice(tmp_path):
    frames = walk_frames(IMAGE, shown("normals"), min_side=24)
    path = write_walk(tmp_path / "a.gif", frames, fps=5)
    assert path.read_bytes() == gif_bytes(frames, fps=5)
    with Image.open(io.BytesIO(gif_bytes(frames, fps=5))) as picture:
        assert (picture.format, picture.n_frames, picture.size) == ("GIF", 5, frames.shape[2:0:-1])
        assert picture.info["duration"] == 200
        assert picture.info["loop"] == 0
        picture.seek(3)
        found = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(found - frames[3].astype(int)).mean() < 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: walk_frames(IMAGE[:4], shown("sheet")), r"'sheet' has shape \(5, 8, 12\).*\(4, 8, 12\)"),
        (lambda: walk_frames(IMAGE, shown("normals"), np.ones((5, 8, 11), bool)), r"\(5, 8, 11\).*\(5, 8, 12\)"),
        (lambda: walk_frames(IMAGE * np.nan, shown("sheet")), "NaN"),
        (lambda: walk_frames(IMAGE, shown("sheet"), max_frames=0), "max_frames=0"),
        (lambda: walk_frames(IMAGE, shown("sheet"), min_side=0), "min_side=0"),
        (lambda: gif_bytes(np.zeros((0, 4, 4, 3), np.uint8)), r"\(0, 4, 4, 3\)"),
        (lambda: gif_bytes(np.zeros((1, 4, 4, 3), np.uint8), fps=0), "fps=0"),
        (lambda: ShownTarget(TARGETS["sheet"]), "neither"),
        (lambda: ShownTarget(TARGETS["normals"], np.zeros((2, 4, 4, 4))), r"expected \(3, D, H, W\)"),
        (lambda: ShownTarget(TARGETS["sheet"], np.zeros((4, 4, 4)), np.zeros((4, 4, 5))), "same shape"),
        (lambda: shown_prediction(TARGETS["sheet"], np.zeros((2, 4, 4, 4))), r"\(2, 4, 4, 4\); expected \(1,"),
        (lambda: shown_truth(TARGETS["classes"], np.zeros((4, 4, 4, 4))), r"expected \(1,"),
        (lambda: central_box((4, 4, 4), 0), "max_size=0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call()


def test_central_box():
    assert central_box((10, 4, 9), 4) == (slice(3, 7), slice(0, 4), slice(2, 6))
    assert central_box((10, 10, 10), 4, (0, 9, 5)) == (slice(0, 4), slice(6, 10), slice(3, 7))
