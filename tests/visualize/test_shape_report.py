import numpy as np
import pytest

pytest.importorskip("matplotlib")

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import colors
from voxel_ext.visualize.shape_report import (
    TILE,
    class_table,
    code_picture,
    difference_tile,
    mosaic,
    object_tile,
)


def rod(axis):
    cube = np.zeros((16, 16, 16), np.float32)
    part = [slice(6, 10)] * 3
    part[axis] = slice(1, 15)
    cube[tuple(part)] = 1
    return cube


def lit(tile):
    """Extent (down, right) of what is not background."""
    seen = np.abs(tile.astype(int) - (colors.rgb(colors.DARK) * 255).astype(int)).sum(-1) > 12
    return [np.ptp(np.flatnonzero(seen.any(axis=axis))) for axis in (1, 0)]


def test_the_first_axis_goes_to_the_right_and_the_second_down():
    down, right = lit(object_tile(rod(0)[None], ["mask"]))
    assert right > 1.3 * down
    down, right = lit(object_tile(rod(1)[None], ["mask"]))
    assert down > 1.3 * right


def test_sizes_compare():
    large, small = (np.zeros((1, 16, 16, 16), np.float32) for _ in range(2))
    large[:, 2:14, 2:14, 2:14] = 1
    small[:, 5:11, 5:11, 5:11] = 1
    assert lit(object_tile(large, ["mask"]))[0] == pytest.approx(2 * lit(object_tile(small, ["mask"]))[0], rel=0.15)


def test_nothing_above_a_half_is_an_empty_picture():
    tile = object_tile(np.full((1, 8, 8, 8), 0.4, np.float32), ["mask"])
    assert tile.shape == (TILE, TILE, 3)
    assert (tile == tile[0, 0]).all()


def test_intensities_are_the_middle_slice():
    cube = np.random.default_rng(0).random((6, 6, 6)).astype(np.float32)
    tile = object_tile(np.stack([rod(0)[:6, :6, :6], cube]), ["mask", "masked_image"])
    assert tile.shape == (TILE, 2 * TILE, 3)
    step = TILE // 6
    slice_ = tile[step // 2 :: step, TILE + step // 2 :: step, 0]
    np.testing.assert_allclose(slice_, cube[:, :, 3].T * 255, atol=0.51)


def test_differences_are_red_where_there_is_more():
    image, restored = np.zeros((4, 4, 4)), np.zeros((4, 4, 4))
    restored[0, 0], image[3, 3] = 1, 1
    tile = difference_tile(image, restored).astype(int)
    assert tile[0, 0, 0] > tile[0, 0, 2]
    assert tile[-1, -1, 2] > tile[-1, -1, 0]
    assert (tile[TILE // 2, TILE // 2] == 255).all()


def test_used_dimensions_are_counted():
    page = code_picture(np.array([0.01, 2.0, 0.5, 0.0]))
    assert "2 of 4 dimensions are used" in page
    assert "2.5 nats in all" in page


def test_table_and_mosaic():
    table = class_table({"a <b>": {"cubes": 3, "L1": 0.12345}, "c": {"cubes": 4}})
    assert "a &lt;b&gt;" in table
    assert '<td class="number">3</td><td class="number">0.1235</td>' in table or "0.1234" in table
    assert table.count("<tr>") == 3
    tiles = [[np.zeros((8, 8, 3), np.uint8)] * 2]
    assert "data:image/png" in mosaic(tiles, ["row"], ["x", "y"], "what", "text")
    with pytest.raises(InvalidInputError, match="expected 1 in each of 1"):
        mosaic(tiles, ["row"], ["x"], "what", "text")
    with pytest.raises(InvalidInputError, match=r"shape \(1, 8, 8\)"):
        object_tile(np.zeros((1, 8, 8)), ["mask"])
