import json
import re

import numpy as np
import pytest

pytest.importorskip("plotly")

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize.worm_matches import RIGHT, WRONG, match_scene, naming_scene
from voxel_ext.visualize.worm_tables import body_accuracy, html_table, margin_histogram

FIRST = np.array([[0.0, 0, 0], [1, 2, 100], [2, 1, 200], [np.nan] * 3])
SECOND = np.array([[0.0, 1, 10], [1, 1, 110], [2, 2, 210], [3, 3, 300]])


def figure(page: str) -> dict:
    found = re.search(r"const figure = (.*);\nPlotly", page, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def traces(page: str) -> dict[str, dict]:
    return {trace["name"]: trace for trace in figure(page)["data"]}


def values(column) -> np.ndarray:
    """A column of numbers, which plotly writes as a list or in base64."""
    if isinstance(column, dict):
        import base64

        return np.frombuffer(base64.b64decode(column["bdata"]), column["dtype"])
    return np.array([np.nan if value is None else value for value in column], dtype=float)


def test_wrong_pairs_are_red_and_right_ones_gray_between_their_cells():
    found = traces(match_scene(FIRST, SECOND, [(0, 0), (1, 2)], [True, False], titles=("A", "B")))
    assert found["right (1)"]["line"]["color"] == RIGHT
    assert found["wrong (1)"]["line"]["color"] == WRONG
    assert found["wrong (1)"]["line"]["width"] > found["right (1)"]["line"]["width"]
    x = values(found["wrong (1)"]["x"])
    np.testing.assert_allclose(x[:2], [100 - 100, 210 - 157.5], atol=0.01)
    assert np.isnan(x[2])


def test_worms_are_apart_along_y_and_scale_is_equal_on_all_axes():
    page = match_scene(FIRST, SECOND, [(0, 0), (1, 1), (2, 2)], titles=("A", "B"))
    found, scene = traces(page), figure(page)["layout"]["scene"]
    assert values(found["A (above)"]["y"]).min() > values(found["B (below)"]["y"]).max()
    ratio = [scene["aspectratio"][axis] / np.ptp(scene[f"{axis}axis"]["range"]) for axis in "xyz"]
    np.testing.assert_allclose(ratio, ratio[0])


def test_unmatched_cells_are_hollow_and_missing_ones_not_drawn():
    found = traces(match_scene(FIRST, SECOND, [(0, 0)], [True], titles=("A", "B")))
    assert len(values(found["A (above)"]["x"])) == 1
    assert found["A (above), unmatched (2)"]["marker"]["symbol"] == "circle-open"
    assert len(values(found["B (below), unmatched (3)"]["x"])) == 3


def test_unknown_truth_colors_lines_by_margin():
    found = traces(match_scene(FIRST, SECOND, [(0, 0), (1, 1)], margin=[0.5, np.inf]))
    line = found["matched (2)"]["line"]
    np.testing.assert_allclose(values(line["color"]), 0.5)
    assert "colorscale" in line
    assert not any("right" in name or "wrong" in name for name in found)


def test_text_at_the_pointer_says_everything_and_is_escaped():
    page = match_scene(
        FIRST, SECOND, [(0, 1)], [False], [0.25], [-0.5], ("A", "B"), ["<b>", "q", "r", "s"], ["u", "v", "w", "x"]
    )
    assert traces(page)["A (above)"]["text"] == ["&lt;b&gt; ↔ v (wrong)<br>cost 0.25, margin -0.5"]
    assert "<b>" not in page


def test_buttons_switch_the_lines():
    page = match_scene(FIRST, SECOND, [(0, 0), (1, 2)], [True, False])
    buttons = {button["label"]: button["args"] for button in figure(page)["layout"]["updatemenus"][0]["buttons"]}
    assert buttons["wrong lines only"] == [{"visible": [False, True]}, [0, 1]]
    assert buttons["no lines"] == [{"visible": [False, False]}, [0, 1]]


def test_no_pairs_and_library_on_demand():
    page = match_scene(FIRST, SECOND, np.zeros((0, 2)), [])
    assert figure(page)["layout"].get("updatemenus", []) == []
    assert len(match_scene(FIRST, SECOND, [(0, 0)], include_plotlyjs=True)) > 1_000_000 > len(page)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": np.zeros((3, 2))}, r"first must have the shape \(N, 3\)"),
        ({"second": np.full((2, 3), np.nan)}, "second has 2 rows but no cell"),
        ({"pairs": [(0, 4)]}, "row 4 is not one of the 4 rows of second"),
        ({"pairs": [(3, 0)]}, "row 3 of first is a missing cell"),
        ({"correct": [True, False]}, r"correct has the shape \(2,\); expected \(1,\)"),
        ({"first_names": ["a"]}, "first_names has 1 entries; expected 4"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        match_scene(**{"first": FIRST, "second": SECOND, "pairs": [(0, 0)], **arguments})


def test_naming_scene_tells_right_wrong_and_unnamed():
    page = naming_scene(SECOND, ["a", "b", "", "d"], [True, False, False, True], [3.0, 0.1, 9, np.nan], title="w")
    found = traces(page)
    assert len(values(found["right"]["x"])) == 2
    assert found["wrong"]["marker"]["color"] == WRONG
    assert found["no name"]["marker"]["symbol"] == "circle-open"
    assert found["2 most doubtful"]["text"] == ["b", "a"]


def test_naming_scene_without_truth_colors_by_margin():
    found = traces(naming_scene(SECOND, list("abcd"), margin=[1, 2, 3, 4], true_names=list("abce"), title="w"))
    assert "right" not in found
    assert len(values(found["w"]["marker"]["color"])) == 4
    assert found["w"]["text"][3].startswith("d<br>truth: e")


def test_histogram_counts_every_finite_margin():
    svg = margin_histogram([0.1, 0.2, 0.2, np.inf, -1.0], [True, True, False, True, False], bins=4)
    assert "right (2)" in svg
    assert "wrong (2)" in svg
    counts = [int(n) for n in re.findall(r": (\d+) (?:right|wrong)", svg)]
    assert sum(counts) == 4
    assert margin_histogram([np.inf, np.nan]) == ""
    with pytest.raises(InvalidInputError, match="same length"):
        margin_histogram([1.0], [True, False])


def test_body_accuracy_is_the_share_of_each_stretch():
    svg = body_accuracy([0, 1, 9, 10], [True, False, True, True], bins=2)
    assert re.findall(r": ([\d.]+) right", svg) == ["0.5", "1"]


def test_table_escapes_and_leaves_nan_empty():
    page = html_table([{"a": "<x>", "b": float("nan")}, {"a": "y", "b": 0.5}], {"a": "A", "b": "B"})
    assert "&lt;x&gt;" in page
    assert '<td class="number"></td>' in page
    assert html_table([], {"a": "A"}) == ""
