"""`run clustering` of the em_clustering bundle on features of a tiny volume."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from bundle_commands import shell
from em_clustering_commands import FOLDER, volumes
from em_clustering_tables import TINY, cluster, learned_tables, measured, object_ids

from voxel_ext.data import open_volume
from voxel_ext.morphology import FEATURE_GROUPS

FILES = ["clusters.csv", "clusters.zarr", "embedding.csv", "report.html", "representatives", "scores.json"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    return measured(tmp_path_factory.mktemp("measured"))


@pytest.fixture(scope="module")
def clusters(tables, tmp_path_factory) -> Path:
    return cluster(tables, tmp_path_factory.mktemp("clusters"))


def test_files(clusters):
    assert sorted(path.name for path in clusters.iterdir()) == FILES
    assert len(list((clusters / "representatives").glob("cluster_*_medoid_*.stl"))) == 3
    page = (clusters / "report.html").read_text()
    assert "em_clustering: clustering" in page


def test_label_volume_has_the_clusters_of_the_table(tables, clusters):
    labels = open_volume(volumes(tables / "data")["labels"]).read((slice(None),) * 3)[0]
    stored = zarr.open_group(clusters / "clusters.zarr", mode="r")["0"][:]
    table = pd.read_csv(clusters / "clusters.csv")
    assert table["id"].tolist() == object_ids(tables).tolist()
    for one, number in zip(table["id"], table["cluster"], strict=True):
        assert np.unique(stored[labels == one]).tolist() == [number + 1]
    assert not stored[labels == 0].any()


def test_scores_and_settings_are_recorded(tables, clusters):
    found = json.loads((clusters / "scores.json").read_text())
    assert set(found["scores"]) >= {"silhouette", "davies_bouldin", "ari", "nmi", "purity", "stability"}
    assert found["settings"]["features"] == [one["feature"] for one in found["features"]]
    assert found["settings"]["labels"] == volumes(tables / "data")["labels"]
    assert sum(row["objects"] for row in found["clusters"]) == len(object_ids(tables))
    known = pd.read_csv(volumes(tables / "data")["classes"]).set_index("id")["class"]
    table = pd.read_csv(clusters / "clusters.csv").set_index("id")
    assert table["class"].to_dict() == known.to_dict()


def test_the_same_seed_gives_the_same_clusters(tables, clusters, tmp_path):
    again = cluster(tables, tmp_path, show_report=False, masks=False)
    assert (again / "clusters.csv").read_bytes() == (clusters / "clusters.csv").read_bytes()
    assert sorted(path.name for path in again.iterdir()) == [
        "clusters.csv", "embedding.csv", "representatives", "scores.json"
    ]  # fmt: skip


def test_results_are_replaced(tables, tmp_path):
    quick = {"show_report": False, "stability_repeats": 0}
    cluster(tables, tmp_path, **quick)
    cluster(tables, tmp_path, n_clusters=2, algorithm="aggloCl", mesh_format="ply", **quick)
    assert set(pd.read_csv(tmp_path / "clusters.csv")["cluster"]) == {0, 1}
    assert {path.suffix for path in (tmp_path / "representatives").iterdir()} == {".ply"}
    assert int(zarr.open_group(tmp_path / "clusters.zarr", mode="r")["0"][:].max()) == 2


def test_without_labels_the_synthetic_volume_is_taken(tables, tmp_path):
    (tables / "data" / "dataset.json").write_text('{"complete": true}')
    none = {"labels": "", "image": "", "classes": "", "prepared_dir": str(tables / "data")}
    cluster(tables, tmp_path, show_report=False, masks=False, **none)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["settings"]["labels"] == volumes(tables / "data")["labels"]
    assert "ari" in scores["scores"]


def test_without_image_and_classes(tables, tmp_path):
    cluster(tables, tmp_path, image="", classes="")
    assert "class" not in pd.read_csv(tmp_path / "clusters.csv").columns
    assert "ari" not in json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    ("overlay", "learned", "algorithm"),
    [
        ("emanalysis", ["shapef", "texturef", "ptcf"], "kmeans"),
        ("learned", ["shapef", "ptcf", "clf"], "kmeans"),
        ("hdbscan", [], "hdbscan"),
    ],
)
def test_variants(tables, tmp_path, overlay, learned, algorithm):
    folders = [str(tables / "eval" / "features")]
    if learned:
        folders.append(str(learned_tables(tables, tmp_path / "learned", *learned)))
    quick = {"show_report": False, "masks": False, "feature_dirs": folders}
    if overlay == "hdbscan":
        quick |= {"algorithm_options": {"min_cluster_size": 2}, "n_clusters": None}
    cluster(tables, tmp_path / "out", f"variants/{overlay}", **quick)
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert found["algorithm"] == algorithm
    assert set(learned) <= set(found["settings"]["features"])
    assert len(pd.read_csv(tmp_path / "out" / "clusters.csv")) == len(object_ids(tables))


def options(tables: Path, output: Path) -> list[str]:
    given = {**volumes(tables / "data"), "feature_dirs": f"['{tables}/eval/features']", "output_dir": str(output)}
    given |= {"features": "['sizef','shape']", "weights": "[0.5,1]", "show_report": "false", "masks": ".tif"}
    return [word for name, value in (TINY | given).items() for word in (f"--{name}", str(value))]


@pytest.mark.parametrize("place", ["bundle", "elsewhere"])
def test_from_the_shell(tables, tmp_path, place):
    config = "configs/clustering.json" if place == "bundle" else str(FOLDER / "configs" / "clustering.json")
    command = ["monai.bundle", "run", "clustering", "--config_file", config, *options(tables, tmp_path / "out")]
    if place == "elsewhere":
        command += ["--bundle_root", str(FOLDER)]
    done = shell(command, FOLDER if place == "bundle" else tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out" / "clusters.tif").is_file()
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert found["settings"]["weights"] == [0.5, 1]


def test_defaults_are_measured_by_run_features():
    config = json.loads((FOLDER / "configs" / "clustering.json").read_text())
    features = json.loads((FOLDER / "configs" / "features.json").read_text())
    assert config["feature_dirs"] == ["$@bundle_root + '/eval/features'"]
    assert features["output_dir"] == "$@bundle_root + '/eval'"
    assert set(config["features"]) <= set(FEATURE_GROUPS)
    assert config["prepared_dir"] == features["prepared_dir"]
