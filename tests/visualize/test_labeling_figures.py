import dataclasses
import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from voxel_ext.errors import InvalidInputError
from voxel_ext.labeling.accuracy import DoubtfulRoi, pooled_accuracy
from voxel_ext.labeling.label import CellLabel, RoiProbabilities
from voxel_ext.visualize.labeled_projection import (
    CHANNEL_COLORS,
    LabeledAnimal,
    composite,
    labeled_projection,
    labeled_scatter,
    place_texts,
    verdict_color,
    verdicts,
)
from voxel_ext.visualize.labeling import (
    accuracy_table,
    class_table,
    confidence_figure,
    confidence_table,
    confused_pairs,
    confusion_heat_map,
    confusion_table,
    doubtful_table,
)
from voxel_ext.visualize.labeling_report import accuracy_figures, labeling_accuracies, labeling_report


def label(name, roi_id, confidence=5, probability=0.99, **more):
    center = (4.0, 5.0, 6.0 * roi_id)
    return CellLabel(name, roi_id, center, confidence, probability, 0 if name == "UNKNOWN" else 1, **more)


def cells(table):
    return [re.findall("<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>.*?</tr>", table)[1:]]


GREEDY = (
    label("AVAL", 1),
    label("AVA?", 2, 4, 0.9, alternatives="AVAR(0.50), AVAL(0.40)"),
    label("RIML", 3, 2, 0.4, alternatives="RIML(0.40), <i>(0.35)", notes="a <b>note</b>"),
    label("UNKNOWN", 4, 0, 0.95),
    label("URXL-alt", 5, 2, 0.6, is_alternative=True),
)
OPTIMAL = (*GREEDY[:2], label("RIMR", 3, 1, 0.35), *GREEDY[3:])
TRUTH = {1: "AVAL", 2: "AVAR", 3: "RIMR", 4: "AIBL"}


@pytest.fixture
def animal():
    rng = np.random.default_rng(0)
    roi = np.zeros((8, 12, 36), np.uint16)
    for number in range(1, 6):
        roi[2:6, 3:8, 6 * number - 2 : 6 * number + 2] = number
    image = rng.random((4, 8, 12, 36)) + 5 * (roi > 0)
    probabilities = np.full((5, 3), 0.1) + 0.7 * np.eye(3)[[1, 2, 1, 0, 2]]
    rois = RoiProbabilities(
        np.arange(1, 6), probabilities, np.full(5, 80), np.array([x.center for x in GREEDY]), np.zeros((5, 3), int)
    )
    return LabeledAnimal("<worm>", image, tuple(CHANNEL_COLORS), roi, GREEDY, OPTIMAL, TRUTH, rois)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_composite_mixes_the_maxima_by_color(axis):
    image = np.zeros((2, 6, 20, 30))
    image[0, 2:4, 5:8, 10:14], image[1, 2:4, 12:15, 20:24] = 100, 7
    picture = composite(image, ["mTagBFP2", "mNeptune2.5"], axis)
    expected = np.stack([volume.max(axis=axis) > 0 for volume in image])
    assert picture.shape == (*expected.shape[1:], 3)
    blue, red = (0.85 * np.array(CHANNEL_COLORS[name]) for name in ("mTagBFP2", "mNeptune2.5"))
    wanted = (expected[0][..., None] * blue + expected[1][..., None] * red).clip(0, 1)
    np.testing.assert_allclose(picture, wanted, atol=1e-6)


def test_a_single_channel_is_gray_and_other_channels_have_their_own_colors():
    image = np.random.default_rng(0).random((1, 3, 5, 7))
    gray = composite(image, ["mTagBFP2"], 0)
    assert np.ptp(gray, axis=-1).max() == 0
    first, second = (
        composite(np.repeat(image, 2, 0) * [[[[1]]], [[[0]]]], ["a", "b"], 0),
        composite(np.repeat(image, 2, 0) * [[[[0]]], [[[1]]]], ["a", "b"], 0),
    )
    assert np.abs(first - second).max() > 0.3


def overlaps(centers, sizes):
    gap = np.abs(centers[:, None] - centers[None]) - (sizes[:, None] + sizes[None]) / 2
    area = np.prod(np.maximum(-gap, 0), axis=2)
    return area[np.triu_indices(len(centers), 1)]


def test_texts_do_not_overlap_and_stay_near_and_inside():
    rng = np.random.default_rng(1)
    points = rng.uniform((0, 0), (300, 120), (60, 2))
    sizes = np.stack([rng.uniform(8, 16, 60), np.full(60, 4.0)], axis=1)
    centers = place_texts(points, sizes, (300, 120))
    assert overlaps(centers, sizes).max() == 0
    assert overlaps(points, sizes).max() > 0
    assert (centers - sizes / 2 >= -1e-9).all()
    assert (centers + sizes / 2 <= np.array([300, 120]) + 1e-9).all()
    assert np.linalg.norm(centers - points, axis=1).max() < 40


def test_texts_of_crowded_points_are_spread_but_stay():
    points = np.full((80, 2), 50.0)
    sizes = np.full((80, 2), (14.0, 4.0))
    centers = place_texts(points, sizes, (100, 100))
    assert overlaps(centers, sizes).sum() < 0.05 * overlaps(points, sizes).sum()
    assert ((centers >= 0) & (centers <= 100)).all()
    assert place_texts(np.zeros((0, 2)), np.zeros((0, 2)), (1, 1)).shape == (0, 2)


def test_verdicts_follow_the_truth_or_the_confidence(animal):
    expected = ["right", "right but for ? or -alt", "wrong", "no name", "truth not known"]
    assert verdicts(animal) == expected
    bare = dataclasses.replace(animal, truth=None)
    assert verdicts(bare) == ["confidence 5", "confidence 4", "confidence 2", "no name", "confidence 2"]
    shown = [verdict_color(verdict) for verdict in (*expected, *(f"confidence {i}" for i in range(6)))]
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in shown)
    assert len(set(shown[:5])) == 5


def test_projection_is_a_picture_with_the_aspect_of_the_voxels(animal):
    heights = []
    for voxel_size in (None, (2, 1, 1)):
        picture = Image.open(io.BytesIO(labeled_projection(dataclasses.replace(animal, voxel_size=voxel_size))))
        heights.append(picture.size[1])
        # green of a right name
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert (np.abs(pixels - (0x4A, 0xDE, 0x80)).max(axis=-1) < 12).any()
    # 8 more rows of 11 inches / 36 at 140 pixels per inch
    assert heights[1] - heights[0] == pytest.approx(8 * 11 / 36 * 140, abs=3)


def test_scatter_tells_all_at_the_pointer(animal):
    figure = json.loads(re.search(r"const figure = (\{.*\});\n", labeled_scatter(animal)).group(1))
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert set(traces) == {
        "right (1)", "right but for ? or -alt (1)", "wrong (1)", "no name (1)", "truth not known (1)"
    }  # fmt: skip
    wrong = traces["wrong (1)"]
    assert (wrong["x"], wrong["y"], wrong["text"]) == ([18.5], [5.5], ["RIML"])
    text = wrong["hovertext"][0]
    for part in ("<b>RIML</b> (ROI 3)", "probability 0.400, confidence 2", "truth: RIMR", "optimal assignment: RIMR",
                 "RIML(0.40), &lt;i&gt;(0.35)", "a &lt;b&gt;note&lt;/b&gt;", "z 4.0, y 5.0, x 18.0"):  # fmt: skip
        assert part in text
    assert "optimal" not in traces["right (1)"]["hovertext"][0]
    assert "truth: not known" in traces["truth not known (1)"]["hovertext"][0]
    assert figure["layout"]["yaxis"]["range"] == [12, 0]
    assert figure["layout"]["images"][0]["source"].startswith("data:image/jpeg;base64,")


@pytest.fixture
def accuracy():
    many = [label("AVAL", i) for i in range(1, 5)] + [label("AVAR-alt", 5, 2), label("RIML", 6, 2), label("UNKNOWN", 7)]
    truth = dict.fromkeys(range(1, 4), "AVAL") | {4: "RIML", 5: "RIML", 6: "RIML", 7: "RIML"}
    return pooled_accuracy([(many, truth), ([label("AVAL", 1)], {1: "RIML"})])


def test_confused_pairs_are_counted_and_sorted(accuracy):
    assert confused_pairs(accuracy) == [("RIML", "AVAL", 2), ("RIML", "AVAR", 1)]
    assert cells(confusion_table(accuracy)) == [["RIML", "AVAL", "2"], ["RIML", "AVAR", "1"]]


def test_tables_of_classes_and_accuracies(accuracy):
    assert cells(class_table(accuracy)) == [
        ["RIML", "5", "4", "1", "1", "0.200", "AVAL", "2"],
        ["AVAL", "3", "3", "3", "3", "1.000", "", ""],
    ]
    assert cells(accuracy_table({"greedy": accuracy})) == [["greedy", "8", "7", "8", "7", "0.571", "0.571", "0.500"]]
    rows = {row[0]: row[1:] for row in cells(confidence_table({"greedy": accuracy}))}
    assert list(rows) == ["5", "4", "3", "2", "1", "0"]
    assert rows["5"] == ["5", "0.600", "0.600", "5", "0.600"]
    assert rows["2"] == ["2", "0.500", "0.500", "7", "0.571"]


def test_figures_and_what_is_too_large_for_one(accuracy):
    assert "Accuracy by confidence: greedy, optimal" in confidence_figure({"greedy": accuracy, "optimal": accuracy})
    assert "Confusions between 2 classes" in confusion_heat_map(accuracy)
    labels = [label(f"N{i}", i) for i in range(1, 71)]
    truth = {i: f"N{i}" for i in range(1, 71)}
    # of many classes those that were confused
    some = pooled_accuracy([(labels, truth | {3: "N4", 9: "N10"})])
    assert "Confusions between 4 classes" not in confusion_heat_map(some)
    assert "Confusions between 2 classes" in confusion_heat_map(some)
    assert confusion_heat_map(pooled_accuracy([(labels, {i: f"N{i % 70 + 1}" for i in range(1, 71)})])) == ""
    nothing = pooled_accuracy([(labels, {})])
    for part in (confidence_figure, confidence_table, accuracy_table):
        assert part({"greedy": nothing}) == ""
    for part in (confusion_heat_map, confusion_table, class_table):
        assert part(nothing) == ""


def test_the_most_doubtful_come_first():
    found = {
        "a": [DoubtfulRoi(GREEDY[2], 1.6, "because <x>"), DoubtfulRoi(GREEDY[0], 0.2, "little")],
        "b": [DoubtfulRoi(GREEDY[1], 1.1, "left and right not told apart")],
    }
    rows = cells(doubtful_table(found, limit=2))
    assert [row[:5] for row in rows] == [["a", "3", "RIML", "2", "0.400"], ["b", "2", "AVA?", "4", "0.900"]]
    assert rows[0][-1] == "because &lt;x&gt;"
    assert "The 2 of 3 ROIs" in doubtful_table(found, limit=2)
    assert doubtful_table({"a": []}) == ""


def test_accuracies_of_both_assignments(animal):
    found = accuracy_figures(labeling_accuracies([animal]))
    assert found["accuracy, greedy"] == pytest.approx(1 / 3)
    assert found["accuracy, greedy, ? allowed"] == pytest.approx(2 / 3)
    assert found["accuracy, optimal"] == pytest.approx(2 / 3)
    assert (found["ROIs"], found["named"], found["truth known"]) == (5, 4, 4)
    bare = dataclasses.replace(animal, truth=None, optimal=None)
    assert list(labeling_accuracies([animal, bare])) == ["greedy"]
    assert accuracy_figures(labeling_accuracies([bare])) == {"ROIs": 5, "named": 4}


def test_page_with_and_without_truth(tmp_path, animal):
    page = labeling_report(tmp_path / "a.html", [animal, animal], settings={"lr": 0.25}, metrics={"loss": 0.125})
    text = page.read_text(encoding="utf-8")
    for part in ("Accuracy by confidence", "Confusions", "Classes", "ROIs to check first", "labeled-1", "0.125",
                 "&lt;worm&gt;", "the other assignment says RIMR"):  # fmt: skip
        assert part in text
    assert "<worm>" not in text
    assert page.stat().st_size < 10_000_000
    bare = dataclasses.replace(animal, truth=None, rois=None)
    text = labeling_report(tmp_path / "b.html", [bare], max_animals=1).read_text(encoding="utf-8")
    for part in ("<h2>Accuracy", "<h2>Confusions", "<h2>Classes", "<h2>ROIs to check"):
        assert part not in text
    assert "colored by confidence" in text


def test_shapes_that_do_not_fit_are_named(animal):
    with pytest.raises(InvalidInputError, match=r"shape \(4, 8, 12, 36\), its ROIs \(8, 12\)"):
        dataclasses.replace(animal, roi=animal.roi[..., 0])
    with pytest.raises(InvalidInputError, match="there are 1 channel names"):
        dataclasses.replace(animal, channels=["TagRFP"])
    bad = dataclasses.replace(animal, image=np.full(animal.image.shape, math.nan))
    with pytest.raises(InvalidInputError, match="channel 'mTagBFP2' has 432 values that are NaN"):
        labeled_scatter(bad)
