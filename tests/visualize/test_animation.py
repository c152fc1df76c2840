import sys

import imageio.v3 as iio
import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError, MissingDependencyError
from voxel_ext.visualize import write_animation


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gif_has_a_frame_per_slice(tmp_path, ball, axis):
    image, _, prediction = ball
    path = write_animation(tmp_path / "a.gif", image, prediction, axis=axis, fps=20)
    frames = iio.imread(path)
    rest = [side for i, side in enumerate(image.shape) if i != axis]
    zoom = frames.shape[1] // rest[0]
    assert len(frames) == image.shape[axis]
    assert frames.shape[1:3] == (zoom * rest[0], zoom * rest[1])
    assert max(frames.shape[1:3]) >= 256
    assert iio.immeta(path, index=0)["duration"] == 50


def test_mask_is_red_and_truth_green_where_they_are(tmp_path):
    image = np.random.default_rng(0).random((3, 32, 32)) * 0.2
    mask, truth = np.zeros_like(image), np.zeros_like(image)
    mask[1, :16], truth[1, 20:28, 20:28] = 1, 1
    frame = iio.imread(write_animation(tmp_path / "a.gif", image, mask, truth))[1].astype(int)
    red, green = frame[..., 0] - frame[..., 1], frame[..., 1] - frame[..., 0]
    zoom = len(frame) // 32
    assert (red[: 16 * zoom] > 30).all()
    assert (np.abs(red[17 * zoom : 19 * zoom]) < 20).all()
    assert green[20 * zoom, 24 * zoom] > 80
    assert abs(green[24 * zoom, 24 * zoom]) < 20


@pytest.mark.parametrize(("axis", "pixels"), [(0, (64, 256)), (1, (80, 256)), (2, (260, 208))])
def test_voxel_size_stretches_the_frames(tmp_path, axis, pixels):
    image = np.random.default_rng(0).random((4, 8, 64)) * 0.2
    mask = np.zeros_like(image)
    mask[:2] = 1
    frames = iio.imread(write_animation(tmp_path / "a.gif", image, mask, axis=axis, voxel_size=(5, 2, 1))).astype(int)
    # D, H, W extend over 20, 16 and 64 µm; the longer side has at least 256 pixels
    assert frames.shape[1:3] == pixels
    red = frames[1, ..., 0] - frames[1, ..., 1] > 30
    border = pixels[0] if axis == 0 else pixels[0] // 2
    assert red[: border - 2].all()
    assert not red[border + 2 :].any()


def test_bad_input_leaves_nothing(tmp_path, ball):
    image, truth, _ = ball
    with pytest.raises(InvalidInputError, match=r"'\.avi' is not known; expected one of '\.gif', '\.mp4'"):
        write_animation(tmp_path / "a.avi", image)
    with pytest.raises(InvalidInputError, match="axis=3"):
        write_animation(tmp_path / "a.gif", image, axis=3)
    with pytest.raises(InvalidInputError, match="3 positive numbers"):
        write_animation(tmp_path / "a.gif", image, voxel_size=(1, 1))
    with pytest.raises(InvalidInputError, match="fps=0"):
        write_animation(tmp_path / "a.gif", image, fps=0)
    with pytest.raises(InvalidInputError, match=r"mask has shape \(11, 20, 28\) but the image has shape"):
        write_animation(tmp_path / "a.gif", image, truth[1:])
    with pytest.raises(InvalidInputError, match=r"\(D, H, W\)"):
        write_animation(tmp_path / "a.gif", image[0])
    assert not list(tmp_path.iterdir())


def test_mp4_without_its_library_says_what_to_install(tmp_path, ball, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(
        MissingDependencyError, match=r"imageio_ffmpeg is needed here .* pip install 'voxel_ext\[viz\]'"
    ):
        write_animation(tmp_path / "a.mp4", ball[0])
    assert not list(tmp_path.iterdir())


def test_mp4(tmp_path, ball):
    frames = iio.imread(write_animation(tmp_path / "a.mp4", ball[0], ball[2]))
    assert len(frames) == len(ball[0])
    assert all(side % 2 == 0 for side in frames.shape[1:3])
