import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import colors, slice_figure, volume_scene, write_report
from voxel_ext.visualize.instances import instance_section, instance_sizes, size_histogram
from voxel_ext.visualize.scene import instance_mesh
from voxel_ext.visualize.slices import _legend, _panels
from voxel_ext.visualize.viewer import viewer_frames


def decode(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))


def volume_inside(vertices, faces):
    corners = vertices.astype(np.float64)[faces.astype(int)]
    return abs(np.linalg.det(corners).sum() / 6)


def test_the_palette_has_as_many_different_colors_as_it_says():
    palette = (colors.instance_palette() * 255).round().astype(int)
    assert palette.shape == (colors.INSTANCE_COLORS, 3)
    assert len(np.unique(palette, axis=0)) == colors.INSTANCE_COLORS
    # ids that follow each other, as those of touching cells often do, look different
    assert np.abs(np.diff(palette, axis=0)).sum(axis=1).min() > 60


def test_slots_repeat_after_the_palette_and_spare_the_background():
    n = colors.INSTANCE_COLORS
    assert colors.instance_slots(np.array([-3, 0, 1, 2, n, n + 1, 2 * n])).tolist() == [0, 0, 1, 2, n, 1, n]


def test_overlay_tints_inside_and_outlines_borders():
    labels = np.zeros((6, 9), int)
    labels[1:5, 1:4], labels[1:5, 4:8] = 1, 2
    result = colors.overlay_instances(np.zeros((6, 9, 3), np.float32), labels)
    palette = colors.instance_palette()
    np.testing.assert_allclose(result[2, 2], 0.5 * palette[0], atol=1e-6)
    np.testing.assert_allclose(result[2, 3], 0.95 * palette[0], atol=1e-6)
    np.testing.assert_allclose(result[2, 6], 0.5 * palette[1], atol=1e-6)
    assert not result[labels == 0].any()


def test_frames_color_predictions_by_id_and_outline_the_truth(ball):
    image, truth, _ = ball
    prediction = truth + 4 * (truth > 0)
    frames = viewer_frames(image, {"truth": truth, "prediction": prediction}, (1, 1, 1), instances=True)
    layer, outlines = decode(frames["prediction"][5]), decode(frames["truth"][5])
    palette = (colors.instance_palette() * 255).round()
    for number in (5, 6):
        pixels = layer[prediction[5] == number]
        assert (pixels[:, :3] == palette[number - 1]).all()
        assert len(np.unique(pixels[:, 3])) == 2
    np.testing.assert_array_equal(layer[..., 3] > 0, prediction[5] > 0)
    np.testing.assert_array_equal(outlines[..., 3] > 0, colors.outline(truth[5]))
    assert (outlines[colors.outline(truth[5])][:, :3] == 255).all()


def test_surfaces_of_instances_stay_apart_and_in_place():
    labels = np.zeros((20, 20, 40), np.int64)
    z, y, x = np.indices(labels.shape)
    big = 3_000_000_000
    labels[(z - 10) ** 2 + (y - 10) ** 2 + (x - 11) ** 2 < 64] = big
    labels[4:16, 4:16, 20:32] = 7
    vertices, faces, ids = instance_mesh(np.where(labels == big, 2_000_000_000, labels), (2, 1, 1), 50_000)
    assert set(ids.tolist()) == {7, 2_000_000_000}
    # no triangle joins two objects
    assert (ids[faces.astype(int)] == ids[faces.astype(int)][:, :1]).all()
    for number, mask in ((7, labels == 7), (2_000_000_000, labels == big)):
        mine = faces[ids[faces[:, 0]] == number]
        assert volume_inside(vertices, mine) == pytest.approx(2 * mask.sum(), rel=0.15)
        middle = (np.argwhere(mask).mean(axis=0) + 0.5) * (2, 1, 1)
        np.testing.assert_allclose(vertices[ids == number].mean(axis=0), middle, atol=0.4)


def test_surfaces_keep_to_the_limit_of_vertices():
    labels = np.zeros((40, 40, 40), np.int32)
    labels[3:18, 3:37, 3:37], labels[22:37, 3:37, 3:37] = 1, 2
    assert len(instance_mesh(labels, (1, 1, 1), 1000)[0]) <= 1000 < len(instance_mesh(labels, (1, 1, 1))[0])
    assert [len(part) for part in instance_mesh(labels * 0, (1, 1, 1))] == [0, 0, 0]


def test_scene_has_one_trace_with_an_id_per_vertex(ball):
    image, truth, _ = ball
    fragment = volume_scene(image, truth, truth, instances=True)
    traces = json.loads(re.search(r"const figure = (\{.*\});\n", fragment).group(1))["data"]
    assert [trace["name"] for trace in traces] == ["signal", "prediction", "truth"]
    assert [trace["visible"] for trace in traces] == ["legendonly", True, "legendonly"]
    mesh = traces[1]
    owners = np.frombuffer(base64.b64decode(mesh["customdata"]["bdata"]), mesh["customdata"]["dtype"])
    slots = np.frombuffer(base64.b64decode(mesh["intensity"]["bdata"]), mesh["intensity"]["dtype"])
    assert set(owners.tolist()) == {1, 2}
    np.testing.assert_array_equal(slots, owners)
    assert "%{customdata}" in mesh["hovertemplate"]
    assert (mesh["cmin"], mesh["cmax"], len(mesh["colorscale"])) == (1, 120, 120)


def test_slices_of_instances_have_their_colors(ball):
    image, truth, _ = ball
    masks = {"truth": truth, "prediction": truth}
    panels = _panels(np.zeros_like(image), masks, instances=True)
    np.testing.assert_allclose(panels["prediction"](5), colors.overlay_instances(np.zeros((20, 28, 3)), truth[5]))
    assert list(_legend(masks, instances=True)) == ["both", "false positive", "false negative"]
    assert slice_figure(image, truth, truth, [5], instances=True) != slice_figure(image, truth, truth, [5])


def test_page_of_instances(tmp_path, ball):
    image, truth, _ = ball
    volume = {"name": "v", "image": image, "truth": truth, "prediction": truth, "instances": True}
    page = write_report(tmp_path / "r.html", "t", volumes=[volume]).read_text(encoding="utf-8")
    assert "predicted instances" in page
    # the outlines lie above the tints
    assert page.index('data-layer="prediction"') < page.index('data-layer="truth"')
    assert page.count('<input type="checkbox" value="prediction" checked') == 1
    assert page.count('<input type="checkbox" value="truth" checked') == 1


def test_sizes_are_counted_by_id():
    assert instance_sizes(np.array([[0, 5, 5], [-1, 2, 5]])).tolist() == [1, 3]
    assert instance_sizes(np.zeros((2, 2), int)).tolist() == []
    with pytest.raises(InvalidInputError, match="float64, expected integers"):
        instance_sizes(np.zeros(3))


def test_section_describes_each_volume():
    rows = [
        {"name": "<a>", "prediction": [1, 2, 3, 4, 100], "truth": [10, 10]},
        {"name": "b", "prediction": []},
    ]
    section = instance_section(rows)
    cells = [re.sub("<[^>]+>", " ", row).split() for row in re.findall(r"<tr>.*?</tr>", section)[1:]]
    assert cells[0] == ["&lt;a&gt;", "predicted", "5", "3", "1", "81", "1", "100"]
    assert cells[1][1:] == ["true", "2", "10", "10", "10", "10", "10"]
    assert cells[2] == ["b", "predicted", "0"]
    assert section.count("data:image/png") == 1
    assert "predicted, true" in section
    assert instance_section([]) == ""


def test_histogram_without_instances_and_with_bad_sizes():
    assert size_histogram({"predicted": []}) == ""
    assert "img" in size_histogram({"predicted": [7, 7, 7]})
    with pytest.raises(InvalidInputError, match="sizes of 'predicted' contain 0"):
        size_histogram({"predicted": [3, 0]})
