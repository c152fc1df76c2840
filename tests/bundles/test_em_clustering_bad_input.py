"""What goes wrong with `run clustering` is said clearly, and nothing is left behind."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bundle_commands import configs, reason
from em_clustering_commands import volumes
from em_clustering_tables import cluster, learned_tables, measured, object_ids

from voxel_ext.data import open_volume, read_features, write_features
from voxel_ext.errors import InvalidInputError
from voxel_ext.workflow import check_option_names


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    return measured(tmp_path_factory.mktemp("measured"))


def refused(tables: Path, output: Path, *words: str, **settings: Any) -> None:
    message = reason(cluster, tables, output, **settings)
    for word in words:
        assert word in message, message
    assert not output.exists() or not list(output.iterdir())


def folder_with(tables: Path, folder: Path, name: str, table: pd.DataFrame) -> list[str]:
    """A copy of the tables, one of them replaced."""
    shutil.copytree(tables / "eval" / "features", folder)
    (folder / f"{name}.h5").unlink()
    write_features(table, folder / f"{name}.parquet")
    return [str(folder)]


def shape_table(tables: Path) -> pd.DataFrame:
    return read_features(tables / "eval" / "features" / "shape.parquet")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weights": [1, 2]}, ["weights has 2 numbers for 4 features", "skeleton"]),
        ({"weights": [1, 1, -1, 1]}, ["weights=[1, 1, -1, 1]", "at least 0"]),
        ({"n_clusters": 100}, ["n_clusters=100", "7 objects"]),
        ({"n_clusters": None}, ["n_clusters=None", "kmeans"]),
        ({"algorithm": "kmean"}, ["algorithm='kmean'", "'kmeans'", "'specCl'"]),
        ({"algorithm_options": {"n_int": 1}}, ["option of kmeans='n_int'", "'n_init'"]),
        ({"algorithm": "dbscan", "n_clusters": None, "algorithm_options": {"eps": -1}}, ["dbscan", "eps"]),
        ({"scaling": "max"}, ["scaling='max'", "'minmax'"]),
        ({"embedding": "tsne"}, ["embedding='tsne'", "'umap'"]),
        ({"masks": ".png"}, ["masks='.png'", "'slices'"]),
        ({"mesh_format": "step"}, ["mesh_format='step'", "'stl'"]),
        ({"noise": "last"}, ["noise='last'", "'own'"]),
        ({"show_report": "perhaps"}, ["show_report='perhaps'", "true or false"]),
        ({"stability_repeats": 1}, ["repeats=1", "at least 2"]),
        ({"farthest": -1}, ["farthest=-1"]),
        ({"memory_limit_gib": 1e-9}, ["memory_limit_gib=1e-09", "object "]),
        ({"labels": "nowhere.zarr"}, ["nowhere.zarr", "does not exist"]),
        ({"classes": "nowhere.csv"}, ["nowhere.csv", "does not exist"]),
        ({"features": ["shapes"]}, ["feature='shapes'", "Did you mean 'shape'"]),
        ({"features": []}, ["features=[]", "at least one"]),
    ],
)
def test_wrong_settings(tables, tmp_path, settings, words):
    refused(tables, tmp_path / "out", *words, **settings)


def test_missing_features_say_which_command_writes_them(tables, tmp_path):
    refused(
        tables, tmp_path, "no features slices", "run features --config_file configs/features.json", features="slices"
    )
    learned = ["shape", "ptcf", "clf"]
    words = ["no features ptcf, clf", "em_point_cloud_autoencoder", "em_contrastive", "run inference"]
    refused(tables, tmp_path, *words, features=learned)
    refused(tables, tmp_path, "nowhere is not a folder", "run features", feature_dirs=[str(tmp_path / "nowhere")])


def test_a_feature_in_two_folders(tables, tmp_path):
    first = tables / "eval" / "features"
    shutil.copytree(first, tmp_path / "copy")
    words = ["'shape' is in several folders", str(first), str(tmp_path / "copy")]
    refused(tables, tmp_path / "out", *words, feature_dirs=[str(first), str(tmp_path / "copy")])


def test_ids_that_differ_are_listed(tables, tmp_path):
    folders = folder_with(tables, tmp_path / "tables", "shape", shape_table(tables).iloc[2:])
    lost = ", ".join(map(str, object_ids(tables)[:2]))
    refused(tables, tmp_path / "out", f"'shape' lacks 2: {lost}", "missing='impute'", feature_dirs=folders)


def test_missing_values_are_named(tables, tmp_path):
    table = shape_table(tables)
    table.loc[3, "elongation"] = np.nan
    folders = folder_with(tables, tmp_path / "tables", "shape", table)
    words = [f"shape.elongation of object {table['id'][3]}", "(NaN)"]
    refused(tables, tmp_path / "out", *words, feature_dirs=folders)


def test_tables_of_other_labels(tables, tmp_path):
    one = learned_tables(tables, tmp_path / "learned", "clf")
    table = read_features(one / "clf.parquet")
    write_features(table.assign(id=table["id"] + 1000), one / "clf.parquet")
    words = ["the features are of other labels", "labels.zarr"]
    refused(tables, tmp_path / "out", *words, feature_dirs=[str(one)], features=["clf"])


def test_labels_of_another_shape(tables, tmp_path):
    labels = open_volume(volumes(tables / "data")["labels"]).read((slice(None),) * 3)[0]
    np.save(tmp_path / "labels.npy", labels[:-1])
    given = {"labels": str(tmp_path / "labels.npy"), "image": "", "classes": "", "voxel_size": [30, 16, 16]}
    refused(tables, tmp_path / "out", "were measured of labels.zarr of shape (40, 72, 72)", "(39, 72, 72)", **given)


def test_labels_that_lack_objects_or_have_others(tables, tmp_path, caplog):
    labels = open_volume(volumes(tables / "data")["labels"]).read((slice(None),) * 3)[0]
    first, second = object_ids(tables)[:2].tolist()
    labels[labels == first] = 999
    np.save(tmp_path / "labels.npy", labels)
    given = {"labels": str(tmp_path / "labels.npy"), "image": "", "classes": "", "voxel_size": [30, 16, 16]}
    with caplog.at_level(logging.WARNING):
        cluster(tables, tmp_path / "out", **given)
    assert f"1 of 7 objects of the features are not in {tmp_path}/labels.npy and are left out: {first}" in caplog.text
    assert f"1 of 7 objects of {tmp_path}/labels.npy have no features and become background: 999" in caplog.text
    ids = pd.read_csv(tmp_path / "out" / "clusters.csv")["id"].tolist()
    assert first not in ids
    assert second in ids
    assert (tmp_path / "out" / "report.html").is_file()


def test_classes_of_other_objects(tables, tmp_path):
    file = tmp_path / "classes.csv"
    file.write_text("id,class\n100000,rod\n")
    refused(tables, tmp_path / "out", str(file), "ids 100000", "of none of the 7", classes=str(file))
    file.write_text("object,class\n1,rod\n")
    refused(tables, tmp_path / "out", str(file), "no column", "id", classes=str(file))


def test_results_are_not_written_over_the_labels(tables, tmp_path):
    place = tmp_path / "clusters.zarr"
    shutil.copytree(volumes(tables / "data")["labels"], place)
    before = open_volume(place).read((slice(None),) * 3)
    message = reason(cluster, tables, tmp_path, labels=str(place), show_report=False)
    assert "is where the labels" in message
    assert [path.name for path in tmp_path.iterdir()] == ["clusters.zarr"]
    np.testing.assert_array_equal(open_volume(place).read((slice(None),) * 3), before)


def test_options_that_do_not_exist():
    files = configs("em_clustering", "clustering")
    command = ["run", "clustering", "--config_file", files[0], "--cluster_count", "4"]
    with pytest.raises(InvalidInputError, match="option='cluster_count' is not known"):
        check_option_names(command)
