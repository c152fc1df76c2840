import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import trimesh
from clustered_objects import (
    IDS,
    IS_ROD,
    SHAPES,
    VOXEL_SIZE,
    cluster_tables,
    clustered,
    described,
    label_volume,
    number_table,
    write_tables,
)

from voxel_ext.data import open_volume
from voxel_ext.engines import check_cluster_files, write_cluster_masks, write_clustering
from voxel_ext.engines.clustering_outputs import plain_values, write_json, write_representatives
from voxel_ext.errors import InvalidInputError


def test_tables_and_scores(tmp_path):
    found = described(tmp_path, classes={int(one): str(rod) for one, rod in zip(IDS, IS_ROD, strict=True)}, farthest=1)
    write_clustering(found, tmp_path / "out", settings={"seed": 0, "path": tmp_path})
    table = pd.read_csv(tmp_path / "out" / "clusters.csv")
    assert list(table.columns) == ["id", "cluster", "silhouette", "distance_to_center", "class"]
    assert table["id"].tolist() == sorted(IDS.tolist())
    np.testing.assert_array_equal(table["cluster"], found.clustering.result.labels)
    np.testing.assert_allclose(table["distance_to_center"], found.clustering.result.distances, rtol=1e-15)
    plane = pd.read_csv(tmp_path / "out" / "embedding.csv")
    np.testing.assert_allclose(plane[["x", "y"]], found.plane, rtol=1e-15)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["scores"]["ari"] == 1.0
    assert scores["scores"]["silhouette"] == pytest.approx(table["silhouette"].mean(), rel=1e-12)
    assert [row["objects"] for row in scores["clusters"]] == [5, 4]
    assert scores["settings"] == {"seed": 0, "path": str(tmp_path)}
    assert [one["feature"] for one in scores["features"]] == ["shape"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "clusters.csv",
        "embedding.csv",
        "representatives",
        "scores.json",
    ]


def test_an_undefined_score_is_null(tmp_path):
    found = described(tmp_path, clustered(tmp_path, n_clusters=1))
    scores = write_clustering(found, tmp_path / "out")
    assert np.isnan(scores["scores"]["silhouette"])
    text = (tmp_path / "out" / "scores.json").read_text()
    assert json.loads(text)["scores"]["silhouette"] is None
    assert "NaN" not in text
    assert pd.read_csv(tmp_path / "out" / "clusters.csv")["silhouette"].isna().all()


def test_values_of_json():
    value = {1: np.float32(0.5), "a": (np.int64(2**60), np.nan), "b": np.array([[1.0, np.inf]]), "c": True, "d": None}
    assert plain_values(value) == {"1": 0.5, "a": [2**60, None], "b": [[1.0, None]], "c": True, "d": None}


def test_json_is_written_whole_or_not_at_all(tmp_path):
    write_json({"a": 1}, tmp_path / "x.json")
    nested: dict = {}
    nested["self"] = nested
    with pytest.raises(RecursionError):
        write_json(nested, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


# surfaces


@pytest.mark.parametrize("mesh_format", ["stl", "ply", "obj"])
def test_surfaces_have_the_place_and_volume_of_the_objects(tmp_path, mesh_format):
    found = described(tmp_path, farthest=2)
    files = write_representatives(found, tmp_path / "meshes", mesh_format)
    chosen = found.representatives
    assert [file.name for file in files] == [
        f"cluster_{k}_{kind}_{one}.{mesh_format}"
        for k, each in enumerate(chosen)
        for kind, one in (
            ("medoid", each.medoid),
            ("farthest_1", each.farthest[0]),
            ("farthest_2", each.farthest[1]),
        )
    ]
    assert sorted(files) == sorted((tmp_path / "meshes").iterdir())
    labels = label_volume()
    for file in files:
        one = int(file.stem.rsplit("_", 1)[1])
        mesh = trimesh.load(file)
        assert mesh.is_watertight
        # positive: the faces look outwards; the surface encloses the volume of the voxels
        assert mesh.volume == pytest.approx((labels == one).sum() * np.prod(VOXEL_SIZE), rel=0.01)
        center = np.argwhere(labels == one).mean(0) * VOXEL_SIZE
        np.testing.assert_allclose(mesh.center_mass, center[::-1], atol=1e-2)


def test_surfaces_replace_those_of_an_earlier_run(tmp_path):
    found = described(tmp_path)
    write_representatives(found, tmp_path / "meshes", "obj")
    files = write_representatives(replace(found, representatives=found.representatives[:1]), tmp_path / "meshes")
    assert sorted((tmp_path / "meshes").iterdir()) == sorted(files)
    assert {file.suffix for file in files} == {".stl"}


# the label volume


@pytest.mark.parametrize("masks", [".zarr", ".h5", ".tif", ".nii.gz", "slices"])
def test_masks_have_the_clusters_of_the_objects(tmp_path, masks):
    found = described(tmp_path)
    written = write_cluster_masks(found, tmp_path / "out", masks, progress=False)
    assert written is not None
    assert [written.path] == list((tmp_path / "out").iterdir())
    stored = open_volume(written.path).read((slice(None),) * 3)[0]
    wanted = np.zeros(label_volume().shape, np.uint8)
    for one, cluster in zip(found.clustering.result.ids, found.clustering.result.labels, strict=True):
        wanted[label_volume() == one] = cluster + 1
    np.testing.assert_array_equal(stored, wanted)
    counts = {0: 5 * np.prod(SHAPES[False]), 1: 4 * np.prod(SHAPES[True])}
    assert {value: written.voxels[value + 1] for value in (0, 1)} == counts
    # again: replaced
    assert write_cluster_masks(found, tmp_path / "out", masks, progress=False) is not None


def test_noise_has_a_value_of_its_own_if_wanted(tmp_path, caplog):
    lonely = np.where(IDS == 11, 2.0, np.where(IS_ROD, 1.0, 0.0))
    write_tables(tmp_path, size=number_table("x", lonely))
    options = {"eps": 0.1, "min_samples": 2}
    clusters = cluster_tables(tmp_path, "size", algorithm="dbscan", n_clusters=None, algorithm_options=options)
    assert "1 of 9 objects are in no cluster: 11" in caplog.text
    found = described(tmp_path, clusters)
    for noise, value in (("background", 0), ("own", 3)):
        written = write_cluster_masks(found, tmp_path, ".zarr", noise=noise, progress=False)
        assert written is not None
        stored = open_volume(written.path).read((slice(None),) * 3)[0]
        assert np.unique(stored[label_volume() == 11]).tolist() == [value]
    table = found.table().set_index("id")
    assert table.loc[11, "cluster"] == -1
    assert table.loc[[11], ["silhouette", "distance_to_center"]].isna().all(axis=None)


def test_no_cluster_at_all(tmp_path):
    write_tables(tmp_path, size=number_table("x", np.arange(9.0)))
    options = {"eps": 1e-6, "min_samples": 2}
    clusters = cluster_tables(tmp_path, "size", algorithm="dbscan", n_clusters=None, algorithm_options=options)
    summary = write_clustering(described(tmp_path, clusters), tmp_path / "out")
    assert (summary["noise"], summary["clusters"]) == (9, [])
    assert not list((tmp_path / "out" / "representatives").iterdir())


@pytest.mark.parametrize(
    ("masks", "name"), [(False, None), ("false", None), (True, "clusters.zarr"), (".tif", "clusters.tif")]
)
def test_names_of_the_label_volume(tmp_path, masks, name):
    assert check_cluster_files(masks) == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masks": ".png"}, "masks='.png' is not known; .*'slices'"),
        ({"masks": 1}, "masks=1 is not known"),
        ({"mesh_format": "step"}, "mesh_format='step' is not known; .*'stl', 'ply', 'obj'"),
        ({"noise": "last"}, "noise='last' is not known"),
    ],
)
def test_wrong_formats(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        check_cluster_files(**settings)


def test_nothing_is_written_over_the_labels(tmp_path):
    found = described(tmp_path)
    write_cluster_masks(found, tmp_path, ".zarr", progress=False)
    store = tmp_path / "clusters.zarr"
    before = open_volume(store).read((slice(None),) * 3)
    volumes = replace(found.clustering.objects.volumes, labels=open_volume(store, channels=1))
    objects = replace(found.clustering.objects, volumes=volumes)
    other = replace(found, clustering=replace(found.clustering, objects=objects))
    with pytest.raises(InvalidInputError, match="is where the labels"):
        write_cluster_masks(other, tmp_path, ".zarr", progress=False)
    np.testing.assert_array_equal(open_volume(store).read((slice(None),) * 3), before)
