import hashlib
import json
import logging

import numpy as np
import pandas as pd
import pytest
from clustered_objects import (
    IDS,
    IS_ROD,
    cluster_tables,
    clustered,
    described,
    kind_table,
    label_volume,
    number_table,
    volumes,
    write_tables,
)
from sklearn.metrics import silhouette_samples

from voxel_ext.data import read_features, write_features
from voxel_ext.data.object_sources import ObjectVolumes
from voxel_ext.engines import find_objects, read_feature_tables
from voxel_ext.engines.labeled_objects import known_classes
from voxel_ext.errors import InvalidInputError, MissingDataError

CLASSES = {int(one): "rod" if rod else "cube" for one, rod in zip(IDS, IS_ROD, strict=True)}


# tables


def test_tables_come_from_several_folders_in_the_order_asked_for(tmp_path):
    first = write_tables(tmp_path / "a", shape=kind_table())
    second = write_tables(tmp_path / "b", mine=number_table("x", IDS * 2.0))
    found = read_feature_tables([first, second], ["mine", "shape"])
    assert list(found.tables) == ["mine", "shape"]
    assert found.paths == {"mine": second / "mine.parquet", "shape": first / "shape.parquet"}
    rows = found.tables["mine"]
    np.testing.assert_array_equal(rows["x"], 2.0 * rows["id"])
    told = found.describe()[0]
    assert told["sha256"] == hashlib.sha256((second / "mine.parquet").read_bytes()).hexdigest()
    assert (told["objects"], told["columns"]) == (9, 1)


@pytest.mark.parametrize(("file", "asked"), [("size", "sizef"), ("sizef", "size"), ("sizef", "sizef")])
def test_a_group_and_its_synonym_are_the_same_table(tmp_path, file, asked):
    write_tables(tmp_path, **{file: number_table("voxels", IDS)})
    found = read_feature_tables(tmp_path, asked)
    assert list(found.tables) == [asked]
    assert found.paths[asked].name == f"{file}.parquet"


def test_hdf5_is_read_where_there_is_no_parquet(tmp_path):
    write_features(kind_table(), tmp_path / "shape.h5")
    found = read_feature_tables(tmp_path, ["shape"])
    pd.testing.assert_frame_equal(found.tables["shape"], read_features(tmp_path / "shape.h5"))


def test_a_table_in_two_folders_is_refused(tmp_path):
    folders = [write_tables(tmp_path / name, shape=kind_table()) for name in "ab"]
    with pytest.raises(InvalidInputError, match=r"'shape' is in several folders: .*a.shape.parquet and .*b.shape"):
        read_feature_tables(folders, ["shape"])
    # the same folder twice, or by another name, is one folder
    assert read_feature_tables([folders[0], folders[0] / ".." / "a"], ["shape"]).paths


def test_features_without_a_table_say_what_writes_them(tmp_path):
    write_tables(tmp_path, shape=kind_table())
    with pytest.raises(MissingDataError, match="has no features skeleton, circf; it has: shape") as caught:
        read_feature_tables(tmp_path, ["skeleton", "shape", "circf"])
    assert "run features --config_file configs/features.json" in str(caught.value)
    assert "inference" not in str(caught.value)
    with pytest.raises(MissingDataError, match="run inference` of the bundle em_contrastive") as caught:
        read_feature_tables(tmp_path, ["clf", "texturef"])
    assert "em_shape_vae with --contents masked_image" in str(caught.value)
    assert "run features" not in str(caught.value)


def test_unknown_features_and_folders(tmp_path):
    write_tables(tmp_path, shape=kind_table(), mine=kind_table())
    with pytest.raises(InvalidInputError, match=r"feature='shpae' is not known; .*'mine'.*Did you mean 'shape'"):
        read_feature_tables(tmp_path, ["shpae"])
    with pytest.raises(MissingDataError, match=r"nowhere is not a folder .*run features"):
        read_feature_tables([tmp_path, tmp_path / "nowhere"], ["shape"])
    with pytest.raises(InvalidInputError, match=r"features=\['shape', 'shape'\]; expected at least one, each once"):
        read_feature_tables(tmp_path, ["shape", "shape"])
    with pytest.raises(InvalidInputError, match="feature_dirs is empty"):
        read_feature_tables([], ["shape"])


# clusters


def test_clusters_are_those_of_the_values_by_id(tmp_path):
    found = clustered(tmp_path, stability_repeats=2)
    assert found.result.ids.tolist() == sorted(IDS.tolist())
    wanted = [int(CLASSES[one] == "rod") for one in found.result.ids.tolist()]  # the five cubes are cluster 0
    assert found.result.labels.tolist() == wanted
    np.testing.assert_allclose(found.table["silhouette"], silhouette_samples(found.matrix.values, wanted))
    assert found.scores["clusters"] == 2
    assert found.stability is not None
    assert found.stability.mean == 1.0
    features = found.feature_table()
    assert list(features.columns) == ["id", "shape.length", "shape.width"]
    table = kind_table().sort_values("id")
    np.testing.assert_array_equal(features["shape.length"], table["length"])


def test_weights_decide_which_feature_rules(tmp_path):
    other = np.arange(len(IDS)) % 2  # parts the objects in another way
    write_tables(tmp_path, shape=kind_table(), other=number_table("x", other.astype(float)))
    by_shape = cluster_tables(tmp_path, "shape", "other", weights=[1, 0.01])
    by_other = cluster_tables(tmp_path, "shape", "other", weights={"shape": 0.01})
    order = np.argsort(IDS)
    assert len(set(zip(by_shape.result.labels.tolist(), IS_ROD[order].tolist(), strict=True))) == 2
    assert len(set(zip(by_other.result.labels.tolist(), other[order].tolist(), strict=True))) == 2


def test_options_reach_the_algorithm(tmp_path):
    found = clustered(tmp_path, algorithm="dbscan", n_clusters=None, algorithm_options={"eps": 0.5, "min_samples": 2})
    assert found.result.parameters == {"eps": 0.5, "min_samples": 2}
    assert found.result.n_clusters == 2
    assert found.stability is None


def test_the_unused_number_of_clusters_is_told_once(tmp_path, caplog):
    clustered(tmp_path, algorithm="dbscan", algorithm_options={"eps": 0.5}, stability_repeats=3)
    assert [record.message for record in caplog.records if "n_clusters" in record.message] == [
        "dbscan finds the number of clusters itself; n_clusters=2 is not used"
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": [1, 2]}, r"weights has 2 numbers for 1 features \(shape\)"),
        ({"weights": {"shap": 1}}, "feature in weights='shap' is not known"),
        ({"n_clusters": 10}, "n_clusters=10, but there are 9 objects"),
        ({"algorithm": "kmean"}, "algorithm='kmean' is not known; .*'kmeans'"),
        ({"algorithm_options": {"n_inits": 3}}, "option of kmeans='n_inits' is not known.*Did you mean 'n_init'"),
        ({"algorithm_options": [1]}, r"algorithm_options=\[1\]; expected a mapping"),
        ({"scaling": "log"}, "scaling='log' is not known"),
        ({"missing": "skip"}, "missing='skip' is not known"),
        ({"stability_repeats": 1}, "repeats=1; expected a whole number of at least 2"),
        ({"stability_method": "bootstrap", "stability_repeats": 2}, "method='bootstrap' is not known"),
    ],
)
def test_wrong_settings(tmp_path, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        clustered(tmp_path, **settings)


def test_tables_of_different_objects_are_listed(tmp_path):
    write_tables(tmp_path, shape=kind_table(IDS[:-2]), size=number_table("voxels", IDS[1:], IDS[1:]))
    with pytest.raises(InvalidInputError, match="'shape' lacks 2: 8, 90; 'size' lacks 1: 3"):
        cluster_tables(tmp_path, "shape", "size")
    found = cluster_tables(tmp_path, "shape", "size", missing="drop")
    assert found.result.ids.tolist() == sorted(IDS[1:-2].tolist())
    assert len(cluster_tables(tmp_path, "shape", "size", missing="impute").result.ids) == len(IDS)


def test_missing_values_are_named(tmp_path):
    table = kind_table()
    table.loc[table["id"] == 70000, "width"] = np.nan
    write_tables(tmp_path, shape=table)
    with pytest.raises(InvalidInputError, match=r"missing values \(NaN\): shape.width of object 70000"):
        cluster_tables(tmp_path, "shape")


# in the label volume


def test_objects_are_found_in_the_labels(tmp_path):
    found = described(tmp_path, clustered(tmp_path, stability_repeats=2), classes=CLASSES)
    scores = found.scores()
    assert (scores["ari"], scores["known"], scores["stability"]) == (1.0, 9.0, 1.0)
    assert [row["classes"] for row in found.cluster_rows()] == [{"cube": 5}, {"rod": 4}]
    boxes = found.box_table().set_index("id")
    labels = label_volume()
    for one in IDS.tolist():
        corners = np.argwhere(labels == one)
        assert boxes.loc[one].tolist() == [*corners.min(0), *(corners.max(0) + 1)]
    assert found.table().set_index("id")["class"].to_dict() == CLASSES
    assert "class" not in described(tmp_path).table()


def test_classes_may_be_a_table_or_a_volume(tmp_path):
    file = tmp_path / "classes.csv"
    file.write_text("id,class\n" + "".join(f"{one},{name}\n" for one, name in CLASSES.items()))
    volume = np.where(np.isin(label_volume(), IDS[IS_ROD]), 7, 4) * (label_volume() > 0)
    by_table, by_volume = described(tmp_path, classes=file), described(tmp_path, classes=volume)
    assert by_table.classes == CLASSES
    assert by_volume.classes == {one: {"rod": "7", "cube": "4"}[name] for one, name in CLASSES.items()}
    assert by_volume.scores()["ari"] == 1.0


def test_of_a_volume_of_classes_only_clustered_objects_are_read(tmp_path, monkeypatch):
    labels = label_volume()
    labels[-1, -1, -1] = 99  # without features; others like it may be too large to read
    tables = read_feature_tables(write_tables(tmp_path, kind=kind_table()), "kind")
    objects = find_objects(volumes(labels=labels), tables, progress=False)
    read, ids = ObjectVolumes.read, []
    monkeypatch.setattr(ObjectVolumes, "read", lambda self, one: ids.append(one.id) or read(self, one))
    found = known_classes((labels > 0).astype(np.uint8), objects, IDS)
    assert sorted(ids) == sorted(IDS.tolist())
    assert found == dict.fromkeys(IDS.tolist(), "1")


def test_surfaces_of_what_is_shown_fit_into_the_memory(tmp_path):
    # the voxels of an object take 4 kB here, the mesh of its surface some 400 kB
    with pytest.raises(InvalidInputError, match=r"memory_limit_gib=5e-05"):
        described(tmp_path, memory_limit_gib=5e-5)


def test_classes_of_other_objects(tmp_path, caplog):
    with pytest.raises(InvalidInputError, match=r"of 2 objects \(ids 1, 2\), but of none of the 9"):
        described(tmp_path, classes={1: "a", 2: "b"})
    with caplog.at_level(logging.WARNING):
        found = described(tmp_path, classes={one: CLASSES[one] for one in IDS[2:].tolist()} | {1: "a"})
    assert "lacks the classes of 2 of 9 objects: 3, 70000" in caplog.text
    assert found.scores()["known"] == 7
    with pytest.raises(MissingDataError, match=r"none\.csv does not exist"):
        described(tmp_path, classes=tmp_path / "none.csv")


def test_labels_with_other_objects(tmp_path, caplog):
    labels = label_volume()
    labels[labels == 400] = 401
    found = clustered(tmp_path, labels=labels)
    assert "1 of 9 objects of the features are not in labels and are left out: 400" in caplog.text
    assert "1 of 9 objects of labels have no features and become background: 401" in caplog.text
    assert found.result.ids.tolist() == sorted(set(IDS.tolist()) - {400})
    assert described(tmp_path, found).summary()["without_features"].tolist() == [401]
    with pytest.raises(InvalidInputError, match=r"other labels: none of their 9 objects .* which has 9 \(ids 1000003,"):
        clustered(tmp_path, labels=np.where(labels > 0, labels + 10**6, 0))


def test_tables_measured_of_labels_of_another_shape(tmp_path):
    record = {"settings": {"sources": {"labels": {"address": "big.zarr", "shape": [1, 64, 64, 64]}}}}
    file = tmp_path / "measurement.json"
    file.write_text(json.dumps(record))
    with pytest.raises(InvalidInputError, match=r"were measured of big.zarr of shape \(64, 64, 64\), but labels has"):
        clustered(tmp_path)
    record["settings"]["sources"]["labels"]["shape"] = [1, *label_volume().shape]
    file.write_text(json.dumps(record))
    assert clustered(tmp_path).result.n_clusters == 2
    file.write_text("{}")
    with pytest.raises(InvalidInputError, match=r"measurement\.json is damaged"):
        clustered(tmp_path)


def test_other_wrong_settings_of_the_description(tmp_path):
    with pytest.raises(InvalidInputError, match="embedding='tsne' is not known"):
        described(tmp_path, embedding="tsne")
    with pytest.raises(InvalidInputError, match="farthest=-1"):
        described(tmp_path, farthest=-1)
    with pytest.raises(InvalidInputError, match="memory_limit_gib=1e-09"):
        described(tmp_path, memory_limit_gib=1e-9)
