"""The table of clusters against classes, on features that are known to tell them apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn")
pytest.importorskip("pyarrow")

from benchmarks.mitochondria_figures import draw_heat_map, scores_table, sets_table  # noqa: E402
from benchmarks.mitochondria_scores import confused, feature_sets, score_all  # noqa: E402
from voxel_ext.data import write_features  # noqa: E402
from voxel_ext.morphology import FEATURE_GROUPS  # noqa: E402

OBJECTS, CLASSES = 60, ("ball", "rod", "sheet")


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Of "shape" and a learned feature, which tell the classes, and of others, which are noise."""
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    ids, which = rng.permutation(OBJECTS) + 1, np.arange(OBJECTS) % len(CLASSES)
    for name in (*FEATURE_GROUPS, "shapef"):
        place = 10 * which if name in ("shape", "shapef") else 0
        values = rng.random((OBJECTS, 2)) + np.reshape(place, (-1, 1))
        write_features(pandas.DataFrame({"id": ids, "a": values[:, 0], "b": values[:, 1]}), folder / f"{name}.parquet")
    names = [CLASSES[one] for one in which]
    pandas.DataFrame({"id": ids, "class": names}).to_csv(folder / "classes.csv", index=False)
    return score_all({None: folder, "shapef": folder}, folder / "classes.csv", ("minmax",))


def test_features_that_tell_the_classes_find_them(scores: list[dict]) -> None:
    found = {row["set"]: row for row in scores if row["algorithm"] == "kmeans"}
    assert set(found) == set(feature_sets(["shapef"]))
    for name in ("shape", "shapef"):
        assert found[name]["ari"] == found[name]["accuracy"] == 1
        assert found[name]["confused"] == {}
    assert abs(found["size"]["ari"]) < 0.2
    assert found["size"]["confused"]


def test_tables_have_a_row_for_each_set_and_bold_the_best(scores: list[dict]) -> None:
    rows = scores_table(scores).splitlines()
    assert len(rows) == 2 + len(feature_sets(["shapef"]))
    assert "**1.00**" in next(row for row in rows if row.startswith("| shape |"))
    line = next(row for row in sets_table(scores).splitlines() if row.startswith("| shapef |"))
    assert "**1.000**" in line
    assert line.endswith("none |")


def test_the_picture_is_written(scores: list[dict], tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    draw_heat_map(scores, tmp_path / "ari.png")
    assert image.imread(tmp_path / "ari.png")[..., :3].std() > 0.1


def test_confused_counts_both_ways_and_ignores_the_numbers_of_clusters() -> None:
    truth = np.array(["a"] * 4 + ["b"] * 4 + ["c"] * 4)
    labels = np.array([2, 2, 2, 0, 0, 0, 2, 2, 1, 1, 1, 0])
    # the clusters 2, 0, 1 stand for a, b, c
    assert confused(labels, truth) == {"a/b": 3, "b/c": 1}
