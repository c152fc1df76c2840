import importlib

import numpy as np
import pandas as pd
import pytest

from voxel_ext.data.object_sources import open_objects
from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import object_thumbnails
from voxel_ext.visualize.object_thumbnails import place_objects, read_shape, slice_picture
from voxel_ext.visualize.object_views import colored_view, object_shape, shaded_view


def ellipsoid(shape, radii, voxel_size):
    """Radii (z, y, x) in nm around the middle of the array."""
    grid = np.indices(shape).reshape(3, -1).T
    offsets = (grid - (np.array(shape) - 1) / 2) * voxel_size
    return (((offsets / radii) ** 2).sum(axis=1) <= 1).reshape(shape)


def extent(seen):
    """Height and width in pixels of what is seen."""
    return np.array([np.ptp(np.flatnonzero(seen.any(axis=1 - axis))) + 1 for axis in (0, 1)])


def table(labels):
    rows = []
    for one in np.unique(labels[labels > 0]).tolist():
        inside = np.argwhere(labels == one)
        rows.append([one, *inside.min(axis=0), *(inside.max(axis=0) + 1)])
    corners = [f"{end}_{axis}" for end in ("lower", "upper") for axis in "zyx"]
    return pd.DataFrame(rows, columns=["id", *corners])


@pytest.mark.parametrize("voxel_size", [(10, 10, 10), (30, 10, 10), (40, 8, 16)])
def test_view_shows_long_and_middle_axis_to_scale(voxel_size):
    mask = ellipsoid([int(2 * 450 / size) for size in voxel_size], (80, 200, 400), voxel_size)
    view = shaded_view(object_shape(mask, voxel_size), 64)
    height, width = extent(~np.isnan(view.shade)) * view.pixel_size
    assert width == pytest.approx(800, rel=0.08)
    assert height == pytest.approx(400, rel=0.12)


def test_view_along_another_axis_shows_the_short_one():
    mask = ellipsoid((60, 60, 90), (80, 200, 400), (10, 10, 10))
    view = shaded_view(object_shape(mask, (10, 10, 10)), 64, [[1, 0, 0], [0, 0, 1], [0, -1, 0]], pixel_size=15)
    height, width = extent(~np.isnan(view.shade)) * 15
    assert (height, width) == (pytest.approx(160, abs=30), pytest.approx(800, abs=30))
    assert view.pixel_size == 15


def test_view_does_not_depend_on_the_pose():
    mask = ellipsoid((40, 60, 90), (80, 200, 400), (10, 10, 10))
    mask[20:, 30:, 60:] = False  # not symmetric
    first = shaded_view(object_shape(mask, (10, 10, 10)), 48).shade
    turned = np.rot90(mask, axes=(0, 2)).copy()
    second = shaded_view(object_shape(turned, (10, 10, 10)), 48).shade
    assert (np.isnan(first) == np.isnan(second)).mean() > 0.98
    np.testing.assert_allclose(np.nan_to_num(first), np.nan_to_num(second), atol=0.2)


def test_hole_of_a_torus_is_seen():
    z, y, x = (np.indices((30, 90, 90)) - np.array([14.5, 44.5, 44.5])[:, None, None, None]) * 10.0
    torus = (np.hypot(y, x) - 300) ** 2 + z**2 < 100**2
    shade = shaded_view(object_shape(torus, (10, 10, 10)), 48).shade
    assert np.isnan(shade[22:26, 22:26]).all()
    share = np.pi * (400**2 - 200**2) / 800**2  # of the square around it
    assert (~np.isnan(shade)).sum() / extent(~np.isnan(shade)).prod() == pytest.approx(share, abs=0.08)


def test_single_voxel_is_seen():
    view = shaded_view(object_shape(np.ones((1, 1, 1), bool), (30, 8, 8)), 16)
    assert (~np.isnan(view.shade)).sum() > 16
    picture = colored_view(view, "#ff0000")
    assert picture[8, 8, 0] > 80
    assert picture[8, 8, 1] < 40


@pytest.fixture
def labels():
    array = np.zeros((12, 40, 300), np.uint64)
    array[2:10, 10:30, 20:60] = 2**62 + 1
    array[3:9, 12:20, 150:160] = 7
    array[1:3, 1:8, 280:290] = 3
    return array


def test_thumbnails_are_of_the_ids_asked_for(labels):
    volumes = open_objects(labels, None, (30, 8, 8))
    every = object_thumbnails(volumes, table(labels), [3, 7, 2**62 + 1], size=32, progress=False)
    some = object_thumbnails(volumes, table(labels).iloc[::-1], np.array([2**62 + 1, 3]), size=32, progress=False)
    assert every.shape == (3, 32, 32, 3)
    assert every.dtype == np.uint8
    np.testing.assert_array_equal(some, every[[2, 0]])
    assert (every != every[:, :1, :1]).any(axis=(1, 2, 3)).all()


def test_thumbnails_do_not_depend_on_how_the_volume_is_read(labels, monkeypatch):
    volumes = open_objects(labels, labels.astype(np.uint8), (30, 8, 8))
    whole = object_thumbnails(volumes, table(labels), [3, 7, 2**62 + 1], size=24, progress=False)
    # the package's attribute of this name is the function
    module = importlib.import_module("voxel_ext.visualize.object_thumbnails")
    monkeypatch.setattr(module, "_REGION", 0)
    monkeypatch.setattr(module, "_SLAB", 1)
    np.testing.assert_array_equal(
        object_thumbnails(volumes, table(labels), [3, 7, 2**62 + 1], size=24, progress=False), whole
    )


def test_slice_is_to_scale_with_an_outline(labels):
    image = np.where(labels > 0, 200, 50).astype(np.uint8)
    labels = labels[:, :, :100]
    volumes = open_objects(labels, image[:, :, :100], (30, 8, 16))
    placed = place_objects(table(labels), [2**62 + 1])[0]
    picture = slice_picture(volumes, placed, 80)
    red = (picture[..., 0] > 200) & (picture[..., 1] < 100)
    # 20 voxels of 8 nm high, 40 of 16 nm wide, and 15 % more on both sides of 640 nm
    assert extent(red)[1] == pytest.approx(80 / 1.3, abs=3)
    assert extent(red)[0] == pytest.approx(20 / 1.3, abs=3)
    both = object_thumbnails(volumes, table(labels), [2**62 + 1], size=80, progress=False)
    np.testing.assert_array_equal(both[0, :, 80:], picture)


def test_slice_goes_through_the_object_where_the_middle_one_does_not():
    labels = np.zeros((9, 20, 20), np.int32)
    labels[[0, 8], 5:15, 5:15] = 1
    labels[8, 10:, :] = 0
    picture = slice_picture(
        open_objects(labels, labels.astype(float), (8, 8, 8)), place_objects(table(labels), [1])[0], 32
    )
    assert ((picture[..., 0] > 200) & (picture[..., 1] < 100)).sum() > 20


def test_large_object_is_averaged_down():
    mask = ellipsoid((101, 41, 75), (1000, 400, 740), (20, 20, 20))
    shape = read_shape(open_objects(mask.astype(np.int32), None, (20, 20, 20)), place_objects(table(mask), [1])[0], 32)
    assert max(shape.coverage.shape) <= 32
    assert shape.voxel_size == (80, 40, 60)
    volume = shape.coverage.sum() * np.prod(shape.voxel_size)
    assert volume == pytest.approx(mask.sum() * 20**3)


def test_bad_input(labels):
    volumes, objects = open_objects(labels, None, (30, 8, 8)), table(labels)
    with pytest.raises(InvalidInputError, match="lacks the ids 4, 5 "):
        object_thumbnails(volumes, objects, [3, 4, 5], progress=False)
    with pytest.raises(InvalidInputError, match="lacks upper_x"):
        object_thumbnails(volumes, objects.drop(columns="upper_x"), [3], progress=False)
    with pytest.raises(InvalidInputError, match="no voxel of object 3"):
        object_thumbnails(volumes, objects.assign(lower_z=8, upper_z=9), [3], progress=False)
    with pytest.raises(InvalidInputError, match="size=4"):
        object_thumbnails(volumes, objects, [3], size=4, progress=False)
    with pytest.raises(InvalidInputError, match="no image"):
        slice_picture(volumes, place_objects(objects, [3])[0], 32)
    with pytest.raises(InvalidInputError, match="empty"):
        object_shape(np.zeros((3, 3, 3), bool), (1, 1, 1))
