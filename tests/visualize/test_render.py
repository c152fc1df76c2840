import imageio.v3 as iio
import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import render_volume
from voxel_ext.visualize.render import _span, _view


def red(picture):
    return picture[..., 0].astype(int) - picture[..., 2].astype(int)


def blue(picture):
    return picture[..., 2].astype(int) - picture[..., 0].astype(int)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (35, 25), (200, -60)])
def test_view_is_a_rotation(azimuth, elevation):
    view = _view(azimuth, elevation)
    np.testing.assert_allclose(view.T @ view, np.eye(3), atol=1e-12)


def test_from_above_the_camera_looks_down_and_up_is_up():
    right, down, forward = _view(35, 25).T
    assert forward[0] < 0
    assert down[0] < 0
    assert right[0] == 0


def test_rays_enter_and_leave_the_box():
    import torch

    near, far = _span(
        torch.tensor([[0.0, 0, 0], [0, 0.9, 0]]), torch.tensor([1.0, 0, 0]), torch.tensor([0.5, 0.6, 0.7])
    )
    assert near[0].item() == pytest.approx(-0.5)
    assert far[0].item() == pytest.approx(0.5)
    assert far[1] < near[1]


def test_mask_appears_in_the_second_panel_where_it_is():
    volume = np.random.default_rng(0).random((24, 24, 24))
    mask = np.zeros(volume.shape, bool)
    # seen along W from the side: high D is up, low H is to the right
    mask[16:22, 2:8] = True
    picture = iio.imread(render_volume(volume * 0 + mask * 0.01, mask, size=192, azimuth=90, elevation=0))
    assert picture.shape[:2] == (192, 384)
    alone, both = picture[:, :192], picture[:, 192:]
    assert (red(alone)[30:] < 10).all()
    y, x = np.nonzero(red(both)[30:] > 60)
    assert len(y) > 50
    assert y.max() + 30 < 96
    assert x.min() > 96


def test_signal_is_blue_and_alone_without_mask():
    volume = np.zeros((20, 20, 20))
    volume[6:14, 6:14, 6:14] = 1
    picture = iio.imread(render_volume(volume, size=64))
    assert picture.shape[:2] == (64, 64)
    assert blue(picture)[32, 32] > 60
    assert blue(picture)[60, 60] < 30


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 20, 4)])
def test_constant_volume_and_empty_mask_say_so(shape):
    volume = np.full(shape, 2.0)
    said = iio.imread(render_volume(volume, np.zeros(shape), size=300))
    unsaid = iio.imread(render_volume(np.random.default_rng(0).random(shape), np.ones(shape), size=300))
    # the message is bright on the dark stage, low on the left
    assert said[275:295, 10:200].max() > 150
    assert unsaid[275:295, 10:60].max() < 150


def test_voxel_size_stretches():
    ball = sum((axis - 9.5) ** 2 for axis in np.indices((20, 20, 20))) < 36

    def width_over_height(voxel_size):
        picture = iio.imread(render_volume(ball * 1.0, ball, 120, 90, 0, voxel_size))[26:, 120:]
        y, x = np.nonzero(red(picture) > 0)
        return np.ptp(x) / np.ptp(y)

    assert width_over_height((1, 1, 1)) == pytest.approx(1, abs=0.12)
    assert width_over_height((1, 2, 1)) == pytest.approx(2, abs=0.25)


def test_bad_input(ball):
    image, truth, _ = ball
    with pytest.raises(InvalidInputError, match=r"mask has shape \(20, 28\) but the image has shape \(12, 20, 28\)"):
        render_volume(image, truth[0])
    with pytest.raises(InvalidInputError, match="size=8"):
        render_volume(image, size=8)
    with pytest.raises(InvalidInputError, match=r"\(D, H, W\)"):
        render_volume(image[0])
    with pytest.raises(InvalidInputError, match="NaN"):
        render_volume(image * np.nan)
