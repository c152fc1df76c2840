import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from matplotlib.colors import to_rgba
from matplotlib.quiver import Quiver

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import colors
from voxel_ext.visualize.angle_histogram import AngleHistogram, angle_figure, angle_section
from voxel_ext.visualize.figures import figure_png
from voxel_ext.visualize.vectors import fullest_slice, key_text, vector_colors, vector_figure, vector_key


def unit(seed, *shape):
    field = np.random.default_rng(seed).normal(size=(3, *shape))
    return field / np.linalg.norm(field, axis=0)


def quivers(figure):
    """Per row of the figure, name -> the arrows."""
    return [
        {one.get_label(): one for one in axes.collections if isinstance(one, Quiver)}
        for axes in figure.axes
        if any(isinstance(one, Quiver) for one in axes.collections)
    ]


def test_colors_by_formula():
    z, y, x = field = unit(0, 3, 4, 5)
    unoriented = vector_colors(2.5 * field)
    np.testing.assert_allclose(unoriented, np.abs(np.stack([x, y, z], -1)), atol=1e-6)
    np.testing.assert_array_equal(unoriented, vector_colors(-2.5 * field))
    np.testing.assert_allclose(vector_colors(field, True), (np.stack([x, y, z], -1) + 1) / 2, atol=1e-6)


@pytest.mark.parametrize("oriented", [False, True])
def test_unknown_and_not_finite_are_black(oriented):
    field = unit(1, 2, 2, 2)
    field[:, 0, 0, 0], field[1, 0, 0, 1], field[2, 0, 1, 0] = 0, np.nan, np.inf
    black = (vector_colors(field, oriented) == 0).all(-1)
    expected = np.zeros((2, 2, 2), bool)
    expected[0, 0, 0] = expected[0, 0, 1] = expected[0, 1, 0] = True
    np.testing.assert_array_equal(black, expected)


def test_colors_need_three_components():
    with pytest.raises(InvalidInputError, match=r"\(2, 4, 4, 4\), expected \(3"):
        vector_colors(np.zeros((2, 4, 4, 4)))


@pytest.mark.parametrize("oriented", [False, True])
def test_key_shows_the_axes_in_their_colors(oriented):
    front, *back = (axes.images[0].get_array() for axes in vector_key(oriented).axes)
    center, right, bottom = front[80, 80], front[80, 159], front[159, 80]
    if oriented:
        np.testing.assert_allclose(center, [0.5, 0.5, 0, 1], atol=1e-3)
        np.testing.assert_allclose(back[0][80, 80], [0.5, 0.5, 1, 1], atol=1e-3)
        assert right[0] > 0.99
        assert bottom[1] > 0.99
    else:
        assert not back
        np.testing.assert_allclose(center, [0, 0, 1, 1], atol=1e-3)
        assert right[0] > 0.98
        assert bottom[1] > 0.98
    assert front[0, 0, 3] == 0
    assert ("v and -v" in key_text(oriented)) is not oriented


def test_arrows_are_the_components_in_the_plane():
    shape, sizes = (5, 7, 9), (2.0, 1.0, 0.5)
    truth, prediction = unit(2, *shape), unit(3, *shape)
    where = np.random.default_rng(4).random(shape) > 0.4
    fields = {"truth": truth, "prediction": prediction}
    rows = quivers(vector_figure(np.zeros(shape), fields, where, True, sizes, every=1))
    assert len(rows) == 3
    for axis, index in enumerate((2, 3, 4)):
        down, across = (i for i in range(3) if i != axis)
        places = np.argwhere(where.take(index, axis))
        for name, field in fields.items():
            arrows = rows[axis][name]
            expected = field.take(index, axis + 1)[:, places[:, 0], places[:, 1]]
            np.testing.assert_allclose(arrows.U, expected[across], atol=1e-6)
            np.testing.assert_allclose(arrows.V, expected[down], atol=1e-6)
            np.testing.assert_allclose(arrows.X, (places[:, 1] + 0.5) * sizes[across])
            np.testing.assert_allclose(arrows.Y, (places[:, 0] + 0.5) * sizes[down])
            # components along the axes as they are drawn: x to the right, rows downwards
            assert arrows.angles == "xy"
            assert arrows.headlength > 0
            assert arrows.pivot == "tail"
        assert rows[axis]["truth"].axes.yaxis_inverted()
        assert tuple(rows[axis]["truth"].get_facecolor()[0]) == to_rgba(colors.TRUTH)
        assert tuple(rows[axis]["prediction"].get_facecolor()[0]) == to_rgba(colors.PREDICTION)


def test_segments_without_heads_and_spacing():
    field = unit(5, 12, 12, 12)
    figure = vector_figure(np.zeros((12, 12, 12)), {"prediction": field}, np.ones((12, 12, 12), bool), every=4)
    for row in quivers(figure):
        (arrows,) = row.values()
        assert arrows.U.size == 9
        assert arrows.headlength == 0
        assert arrows.headaxislength == 0
        assert arrows.pivot == "middle"
        assert len({(x // 4, y // 4) for x, y in zip(arrows.X, arrows.Y, strict=True)}) == 9
    assert figure_png(figure).startswith(b"\x89PNG")


def test_thin_volumes_and_nothing_known():
    where = np.zeros((1, 9, 2), bool)
    field = np.zeros((3, 1, 9, 2))
    figure = vector_figure(np.zeros((1, 9, 2)), {"truth": field, "prediction": field * np.nan}, where)
    assert all(arrows.U.size == 0 for row in quivers(figure) for arrows in row.values())
    assert figure_png(figure).startswith(b"\x89PNG")


def test_the_middle_slice_or_the_fullest():
    where = np.zeros((7, 4, 4), bool)
    assert fullest_slice(where, 0) == 3
    where[1, 0, :2] = where[5, 0, 0] = True
    assert fullest_slice(where, 0) == 1
    where[3, 2, 2] = True
    assert fullest_slice(where, 0) == 3


def test_figure_refuses_other_shapes():
    image, where = np.zeros((4, 5, 6)), np.ones((4, 5, 6), bool)
    with pytest.raises(InvalidInputError, match=r"the truth has shape \(3, 4, 5, 5\).*\(4, 5, 6\)"):
        vector_figure(image, {"truth": np.zeros((3, 4, 5, 5))}, where)
    with pytest.raises(InvalidInputError, match=r"mask of the voxels has shape \(4, 5\)"):
        vector_figure(image, {"truth": np.zeros((3, 4, 5, 6))}, where[..., 0])
    with pytest.raises(InvalidInputError, match="every=0"):
        vector_figure(image, {"truth": np.zeros((3, 4, 5, 6))}, where, every=0)


@pytest.mark.parametrize("oriented", [False, True])
def test_histogram_counts_as_numpy(oriented):
    truth, prediction = unit(6, 6, 7, 8), unit(7, 6, 7, 8)
    truth[:, 2] = 0
    histogram = AngleHistogram(oriented)
    medians = [
        histogram.add_vectors(torch.from_numpy(p).float(), torch.from_numpy(t).float())
        for p, t in ((prediction, truth), (prediction[:, ::-1].copy(), truth))
    ]
    angles = []
    for field in (prediction, prediction[:, ::-1]):
        cosine = (field * truth).sum(0)[(truth != 0).any(0)]
        angles.append(np.degrees(np.arccos(np.clip(cosine if oriented else np.abs(cosine), -1, 1))))
    np.testing.assert_allclose(medians, [np.median(a) for a in angles], atol=1e-3)
    pooled, largest = np.concatenate(angles), 180 if oriented else 90
    np.testing.assert_array_equal(histogram.per_degree(), np.histogram(pooled, largest, (0, largest))[0])
    assert histogram.voxels == pooled.size == 2 * 5 * 7 * 8
    assert histogram.below(10) == (pooled < 10).mean()
    assert abs(histogram.median() - np.median(pooled)) < 0.1 + 1e-3 + 2 * np.diff(np.sort(pooled)).max()
    bars = angle_figure(histogram).axes[0].patches
    heights = 100 * np.histogram(pooled, largest, (0, largest))[0] / pooled.size
    np.testing.assert_allclose([bar.get_height() for bar in bars], heights)


def test_histogram_lines_and_table():
    histogram = AngleHistogram(oriented=False)
    histogram.add(np.concatenate([np.full(3, 4.25), np.full(1, 10.0), np.full(1, 90.0), [np.nan]]))
    lines = {line.get_label(): line.get_xdata()[0] for line in angle_figure(histogram).axes[0].lines}
    assert list(lines) == ["median 4.28°", "60.0 % below 10°"]
    assert list(lines.values()) == pytest.approx([4.2 + 0.1 * 2.5 / 3, 10])
    assert histogram.per_degree()[89] == 1
    assert histogram.not_finite == 1
    section = angle_section({"normals": histogram, "empty": AngleHistogram()})
    for text in (
        "<h3",
        "normals",
        '<td class="number">5</td>',
        '<td class="number">0.600</td>',
        "from 0 to 90 degrees",
    ):
        assert text in section
    assert "empty" not in section
    assert angle_section({"empty": AngleHistogram()}) == ""


def test_histogram_as_a_tensor_and_bad_angles():
    first, both = AngleHistogram(), AngleHistogram()
    first.add([1, 2, np.nan, 170])
    both.take_tensor(first.to_tensor() * 2)
    np.testing.assert_array_equal(both.counts, 2 * first.counts)
    assert (both.voxels, both.not_finite) == (6, 2)
    with pytest.raises(InvalidInputError, match="expected 0 to 90"):
        AngleHistogram(False).add([120.0])
    assert np.isnan(AngleHistogram().median())
    assert np.isnan(AngleHistogram().below(10))
    nothing = torch.zeros(3, 2, 2, 2)
    assert np.isnan(AngleHistogram().add_vectors(nothing, nothing))
