import imageio.v3 as iio
import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import slice_figure
from voxel_ext.visualize.colors import FALSE_NEGATIVE, FALSE_POSITIVE, PREDICTION, TRUTH, rgb
from voxel_ext.visualize.slices import _panels


def near(picture, color, tolerance=40):
    """Pixels close to a color."""
    return np.abs(picture[..., :3].astype(int) - (rgb(color) * 255).astype(int)).max(axis=-1) < tolerance


def test_is_a_png_with_a_column_per_mask(ball):
    image, truth, prediction = ball
    alone, both = slice_figure(image), slice_figure(image, truth, prediction, slices=3, title="$a_1 <b>")
    assert alone.startswith(b"\x89PNG\r\n\x1a\n")
    one, four = iio.imread(alone), iio.imread(both)
    # columns are equally wide, rows equally high
    assert one.shape[1] == pytest.approx(260 + 30, abs=2)
    assert four.shape[1] == pytest.approx(4 * 260 + 30, abs=2)
    assert not near(one, TRUTH).any()
    assert not near(one, PREDICTION).any()


def test_masks_are_where_they_should_be():
    image = np.random.default_rng(0).random((1, 40, 40))
    truth, prediction = np.zeros((1, 40, 40), bool), np.zeros((1, 40, 40), bool)
    truth[0, :20, :20] = True
    prediction[0, 20:, 20:] = True
    picture = iio.imread(slice_figure(image, truth, prediction))
    # above the legend, in each quarter of each of the four columns
    body = picture[30:290, 30:]
    column = body.shape[1] / 4

    def share(number, right, below, color):
        x, y = int(number * column + right * 130), below * 130
        return near(body[y + 25 : y + 105, x + 25 : x + 105], color, 60).mean()

    assert share(3, 0, 0, FALSE_NEGATIVE) > 0.9
    assert share(3, 1, 1, FALSE_POSITIVE) > 0.9
    assert share(3, 1, 0, FALSE_NEGATIVE) == share(3, 0, 1, FALSE_POSITIVE) == 0


def test_difference_panel_by_pixel(ball):
    image, truth, prediction = ball
    prediction = prediction.astype(np.int32)
    panel = _panels(np.zeros_like(image), {"truth": truth, "prediction": prediction})["difference"](5)
    missed, extra = (truth[5] > 0) & (prediction[5] == 0), (truth[5] == 0) & (prediction[5] > 0)
    np.testing.assert_allclose(panel[missed], np.broadcast_to(0.85 * rgb(FALSE_NEGATIVE), (missed.sum(), 3)), rtol=1e-6)
    np.testing.assert_allclose(panel[extra], np.broadcast_to(0.85 * rgb(FALSE_POSITIVE), (extra.sum(), 3)), rtol=1e-6)
    assert (panel[(truth[5] == 0) & (prediction[5] == 0)] == 0).all()


@pytest.mark.parametrize("shape", [(30, 50), (3, 10, 90), (3, 90, 10), (1, 1, 1)])
def test_any_shape_and_a_constant_volume(shape):
    image = np.full(shape, 3.0)
    picture = iio.imread(slice_figure(image, np.zeros(shape), np.zeros(shape), slices=2))
    assert picture.shape[1] == pytest.approx(4 * 260 + 30, abs=2)


def test_voxel_size_sets_the_aspect():
    image = np.random.default_rng(0).random((2, 20, 20))
    square = iio.imread(slice_figure(image, slices=1)).shape[0]
    flat = iio.imread(slice_figure(image, slices=1, voxel_size=(1, 0.5, 1))).shape[0]
    assert square - flat == pytest.approx(130, abs=3)


def test_transparent_background(ball):
    opaque, clear = iio.imread(slice_figure(ball[0])), iio.imread(slice_figure(ball[0], transparent=True))
    assert (opaque[0, 0] == 255).all()
    assert clear[0, 0, 3] == 0


def test_bad_input(ball):
    image, truth, _ = ball
    with pytest.raises(InvalidInputError, match=r"truth has shape \(20, 28\) but the image has shape \(12, 20, 28\)"):
        slice_figure(image, truth[0])
    with pytest.raises(InvalidInputError, match="NaN"):
        slice_figure(np.where(truth > 0, np.nan, image))
    with pytest.raises(InvalidInputError, match="indices from 0 to 11"):
        slice_figure(image, slices=[12])
