import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from voxel_ext.data.object_sources import open_objects
from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology import cluster, cluster_table, representatives
from voxel_ext.morphology.clustering import ClusterResult, FeatureMatrix
from voxel_ext.visualize import write_cluster_report
from voxel_ext.visualize.cluster_distributions import feature_distributions, group_colors, separation, short_name
from voxel_ext.visualize.cluster_members import round_length
from voxel_ext.visualize.cluster_scatter import ObjectGroups, scatter_element
from voxel_ext.visualize.cluster_tables import cluster_composition, key_scores, score_table


def scatter_data(text):
    """What the script of the plot gets."""
    return json.loads(re.search(r'<script type="application/json">(.*?)</script></div>', text, re.S).group(1))


def unpack(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def pictures(urls):
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))) for url in urls]


@pytest.fixture
def parts():
    """Twelve boxes, flat ones and tall ones, two clusters."""
    labels = np.zeros((8, 30, 60), np.uint64)
    ids = [*range(1, 12), 2**62 + 1]
    for number, one in enumerate(ids):
        row, column = divmod(number, 6)
        height = 2 if row else 6
        labels[1 : 1 + height, 4 + 14 * row : 10 + 14 * row, 10 * column + 1 : 10 * column + 8] = one
    values = np.random.default_rng(0).normal(size=(12, 3)) + np.repeat([[0, 0, 0], [9, 0, 0]], 6, axis=0)
    matrix = FeatureMatrix(np.array(ids), values, ("a.height", "a.noise", "b.other"), {"a": slice(0, 2)})
    result = cluster(matrix, "kmeans", 2)
    corners = [[np.argwhere(labels == one).min(0), np.argwhere(labels == one).max(0) + 1] for one in ids]
    names = [f"{end}_{axis}" for end in ("lower", "upper") for axis in "zyx"]
    return {
        "title": "Clusters",
        "matrix": matrix,
        "result": result,
        "table": cluster_table(matrix, result),
        "features": pd.DataFrame({"id": ids[::-1], "b.other": values[::-1, 2], "a.height": values[::-1, 0], "t": "x"}),
        "representatives": representatives(matrix, result, 1),
        "scores": {"internal": {"silhouette": 0.5, "clusters": 2.0}, "external": {"ari": 1.0}},
        "embedding": values[:, :2],
        "embedding_name": "PCA",
        "volumes": open_objects(labels, (labels > 0).astype(np.float32), (30, 16, 16)),
        "objects": pd.DataFrame(
            [[one, *np.ravel(box)] for one, box in zip(ids, corners, strict=True)], columns=["id", *names]
        ),
        "classes": {one: "flat <b>" if one > 6 else "tall" for one in ids[:-1]},
        "settings": {"algorithm": "kmeans", "scaling": {"method": "standard"}},
        "progress": False,
    }


def test_page_needs_no_network_and_has_all_parts(parts, tmp_path):
    path = write_cluster_report(tmp_path / "new" / "report.html", **parts)
    text = path.read_text(encoding="utf-8")
    page = re.sub(r"<script>/\*\*.*?</script>", "", text, flags=re.S)  # plotly's own script names its home
    page = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r'(src|href)="(?!data:)', page)
    for heading in ("Objects", "Clusters", "Features by cluster", "Members", "Scores"):
        assert f"<h2>{heading}</h2>" in page
    assert "scaling::method" in page
    assert "flat &lt;b&gt;" in page
    assert "flat <b>" not in text
    assert page.count('alt="object') == 4


def test_scatter_has_every_object_in_order(parts, tmp_path):
    data = scatter_data(write_cluster_report(tmp_path / "report.html", **parts).read_text(encoding="utf-8"))
    assert data["ids"] == [str(one) for one in parts["matrix"].ids.tolist()]
    assert data["ids"][-1] == str(2**62 + 1)
    np.testing.assert_allclose(unpack(data["x"], "<f4"), parts["embedding"][:, 0], rtol=1e-6)
    clusters, classes = data["groups"]
    np.testing.assert_array_equal(unpack(clusters["members"], "<i4"), parts["result"].labels)
    assert classes["labels"] == ["flat <b>", "tall", "unknown"]
    assert classes["sizes"] == [5, 6, 1]
    # the feature that separates comes first, and rows are put in order by id
    assert [one["name"] for one in data["features"]] == ["a.height", "b.other", "silhouette"]
    np.testing.assert_allclose(unpack(data["features"][0]["values"], "<f4"), parts["matrix"].values[:, 0], rtol=1e-6)
    assert data["thumbnails"]["rows"] == list(range(12))
    assert [sheet.shape for sheet in pictures(data["thumbnails"]["sheets"])] == [(64, 16 * 128, 3)]


def test_sample_of_thumbnails_is_said_and_has_the_members(parts, tmp_path):
    texts = [
        write_cluster_report(tmp_path / f"{number}.html", **parts, max_thumbnails=6).read_text(encoding="utf-8")
        for number in range(2)
    ]
    assert "6 of 12 objects have a thumbnail" in texts[0]
    rows = [scatter_data(text)["thumbnails"]["rows"] for text in texts]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 6
    members = {one for each in parts["representatives"] for one in (each.medoid, *each.farthest)}
    assert members <= set(parts["matrix"].ids[rows[0]].tolist())


def test_noise_and_no_classes(parts, tmp_path):
    found = parts["result"]
    labels = np.where(np.arange(12) % 5 == 0, -1, found.labels)
    noisy = ClusterResult(found.ids, labels, found.centers, found.distances, "hdbscan", {})
    parts |= {"result": noisy, "table": cluster_table(parts["matrix"], noisy), "classes": None}
    parts["representatives"] = representatives(parts["matrix"], noisy, 0)
    data = scatter_data(write_cluster_report(tmp_path / "report.html", **parts).read_text(encoding="utf-8"))
    assert data["groups"][0]["labels"] == ["0", "1", "noise"]
    assert data["groups"][0]["colors"][2] == "#7c8796"
    assert unpack(data["groups"][0]["members"], "<i4")[0] == 2
    assert len(data["groups"]) == 1


def test_all_noise(parts, tmp_path):
    found = parts["result"]
    noisy = ClusterResult(found.ids, np.full(12, -1), found.centers[:0], np.full(12, np.nan), "dbscan", {})
    parts |= {"result": noisy, "table": cluster_table(parts["matrix"], noisy), "representatives": []}
    text = write_cluster_report(tmp_path / "report.html", **parts).read_text(encoding="utf-8")
    assert "<h2>Members</h2>" not in text


def test_report_refuses_parts_of_different_objects(parts, tmp_path):
    def write(**changes):
        write_cluster_report(tmp_path / "report.html", **(parts | changes))

    with pytest.raises(InvalidInputError, match="features lacks 1 of 12 objects"):
        write(features=parts["features"].iloc[1:])
    with pytest.raises(InvalidInputError, match="no column of numbers"):
        write(features=parts["features"][["id", "t"]])
    with pytest.raises(InvalidInputError, match=r"embedding has shape \(11, 2\)"):
        write(embedding=parts["embedding"][1:])
    with pytest.raises(InvalidInputError, match="table has 11 objects"):
        write(table=parts["table"].iloc[1:])
    with pytest.raises(InvalidInputError, match="1 representatives"):
        write(representatives=parts["representatives"][:1])
    with pytest.raises(InvalidInputError, match="max_thumbnails=-1"):
        write(max_thumbnails=-1)
    assert not list(tmp_path.iterdir())


def test_separation_is_eta_squared():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2, -1], [5, 9, 7, 4])
    values = rng.normal(size=(25, 3)) + labels[:, None] * [0, 1, 100]
    values[3, 0] = np.nan
    for column, found in enumerate(separation(values, labels)):
        known = (labels >= 0) & np.isfinite(values[:, column])
        x, k = values[known, column], labels[known]
        between = sum((k == one).sum() * (x[k == one].mean() - x.mean()) ** 2 for one in range(3))
        assert found == pytest.approx(between / ((x - x.mean()) ** 2).sum())
    extremes = separation(np.column_stack([labels, np.ones(25), np.full(25, np.nan)]), labels)
    np.testing.assert_allclose(extremes, [1, 0, 0])
    np.testing.assert_allclose(separation(values * 1e-200, labels), separation(values, labels))
    with pytest.raises(InvalidInputError, match=r"labels of shape \(24,\)"):
        separation(values, labels[1:])


def test_distributions_say_what_is_left_out():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 30
    text = feature_distributions({f"f{k}": rng.lognormal(size=120) * 10**k for k in range(5)}, labels, max_panels=3)
    assert "the 3 of 5 features" in text
    assert "the 24 largest of 30 clusters" in text
    assert feature_distributions({}, labels) == ""


def test_composition_counts_classes():
    clusters = ObjectGroups("cluster", ["0", "noise"], ["#111111", "#222222"], np.array([0, 0, 0, 1]))
    classes = ObjectGroups("class", ["a", "b"], ["#333333", "#444444"], np.array([0, 1, 1, 1]))
    table = pd.DataFrame({"silhouette": [0.2, 0.4, 0.6, np.nan]})
    text = re.sub(r"<span.*?</span>", "", cluster_composition(clusters, classes, table, []))
    rows = [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in text.split("<tr>")[1:]]
    assert rows[0] == ["cluster", "objects", "share", "silhouette", "medoid", "a", "b"]
    assert rows[1] == ["0", "3", "75.0 %", "0.400", "", "1", "2"]
    assert rows[2] == ["noise", "1", "25.0 %", "", "", "", "1"]
    assert "#444444 47%" in text


def test_scores():
    scores = {"internal": {"silhouette": 0.25, "noise": 3.0}, "stability": {"mean": 0.9, "method": "seeds"}}
    assert key_scores(10, 2, 3, scores) == {"objects": 10, "clusters": 2, "noise": 3, "silhouette": 0.25}
    text = score_table(scores)
    assert "stability::mean" in text
    assert "seeds" not in text
    assert '<td class="number">3</td>' in text
    assert score_table({}) == ""


def test_scatter_packs_thumbnails_in_sheets():
    count = 300
    thumbnails = np.zeros((count, 8, 8, 3), np.uint8)
    thumbnails[:] = (np.arange(count) % 200)[:, None, None, None]
    groups = [ObjectGroups("cluster", ["0"], ["#111111"], np.zeros(count, int))]
    ids = np.arange(count) + 1
    data = scatter_data(scatter_element(ids, np.zeros((count, 2)), groups, {}, thumbnails, ids[::-1], "PCA"))
    packed = data["thumbnails"]
    sheets = pictures(packed["sheets"])
    assert [sheet.shape for sheet in sheets] == [(128, 128, 3), (24, 128, 3)]
    for place in (0, 17, 255, 256, 299):
        sheet, inside = divmod(place, packed["each"])
        row, column = divmod(inside, packed["columns"])
        assert abs(int(sheets[sheet][row * 8 + 4, column * 8 + 4, 0]) - place % 200) <= 4
        assert packed["rows"][place] == count - 1 - place


def test_scatter_refuses_wrong_rows():
    groups = [ObjectGroups("cluster", ["0"], ["#111111"], np.zeros(3, int))]
    empty, places = np.zeros((0, 8, 8, 3), np.uint8), np.zeros((3, 2))
    with pytest.raises(InvalidInputError, match="'f': 2"):
        scatter_element([1, 2, 3], places, groups, {"f": [1, 2]}, empty, [], "PCA")
    with pytest.raises(InvalidInputError, match="positions"):
        scatter_element([1, 2, 3], places * np.nan, groups, {}, empty, [], "PCA")
    with pytest.raises(InvalidInputError, match=r"\[9\] are of no object"):
        scatter_element([1, 2, 3], places, groups, {}, np.zeros((1, 8, 8, 3), np.uint8), [9], "PCA")
    text = scatter_element([1, 2, 3], places, groups, {"</script>": [1, 2, 3]}, empty, [], "</canvas>")
    assert scatter_data(text)["features"][0]["name"] == "</script>"
    assert "</canvas>&" not in text


@pytest.mark.parametrize(("limit", "length"), [(9.9, 5), (10, 10), (499, 200), (0.03, 0.02), (1, 1)])
def test_round_length(limit, length):
    assert round_length(limit) == pytest.approx(length)


def test_names_and_colors():
    assert short_name("a" * 30) == "a" * 30
    assert short_name("a" * 20 + "b" * 20) == "a" * 14 + "…" + "b" * 14
    palette = group_colors(60)
    assert len(set(palette)) == 60
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in palette)
