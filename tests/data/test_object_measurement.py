"""Tables of features of volumes in files, block by block, beside those of the whole array."""

import json
import time

import forked_commands
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy.spatial.distance import cdist

from voxel_ext.data import label_scan, measurement_tables, object_batches, object_measurement, object_table
from voxel_ext.data.feature_files import read_features
from voxel_ext.data.object_measurement import measure_volume
from voxel_ext.data.zarr_io import multiscale_attributes
from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.feature_names import ALIASES, FEATURE_GROUPS
from voxel_ext.morphology.object_features import object_features
from voxel_ext.synthetic.mitochondria import Mitochondria

SIZE = (30.0, 16.0, 16.0)
ANISOTROPIC = (40.0, 9.0, 13.0)
BIG = 2**62


def measure(labels, image, folder, *arguments, **options):
    return measure_volume(labels, image, folder, *arguments, **{"voxel_size": SIZE, "progress": False} | options)


def write_zarr(path, array, chunks):
    group = zarr.open_group(str(path), mode="w", attributes=multiscale_attributes("0", [0.03, 0.016, 0.016], False))
    group.create_array("0", data=array, chunks=chunks)
    return path


def assert_same(found, expected):
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def mitochondria():
    volume = Mitochondria(0, size=(40, 72, 72), objects=7, volume=(0.02, 0.022)).generate()
    return volume["label"], volume["image"], volume["classes"]


@pytest.fixture(scope="module")
def whole(mitochondria):
    labels, image, _ = mitochondria
    return object_features(labels, image, SIZE, progress=False)


@pytest.fixture(scope="module")
def noise():
    """Random labels: every object lies in all blocks and in many pieces."""
    generator = np.random.default_rng(0)
    labels = generator.choice(np.array([0, 2, 3, 70000, BIG]), (9, 11, 10), p=[0.6, 0.15, 0.1, 0.1, 0.05])
    return labels, generator.normal(10, 3, labels.shape).astype(np.float32)


@pytest.fixture
def blocks(monkeypatch):
    """Blocks of few chunks; their numbers."""
    planned, plan = [], object_table._blocks

    def count(*arguments):
        boxes = plan(*arguments)
        planned.append(len(boxes))
        return boxes

    monkeypatch.setattr(label_scan, "BLOCK_VOXELS", 30)
    monkeypatch.setattr(object_table, "_blocks", count)
    return planned


@pytest.mark.parametrize(("chunks", "number"), [((9, 20, 33), 12), ((40, 72, 72), 1)])
def test_blocks_of_mitochondria_give_the_table_of_the_whole(tmp_path, mitochondria, whole, blocks, chunks, number):
    labels, image, _ = mitochondria
    files = [write_zarr(tmp_path / f"{name}.zarr", a, chunks) for name, a in (("labels", labels), ("image", image))]
    assert_same(measure(*files, tmp_path, voxel_size=None), whole)
    assert blocks == [number]


@pytest.mark.parametrize(("chunks", "number"), [((2, 3, 4), 12), ((9, 11, 3), 2)])
@pytest.mark.parametrize("exclude_border", [False, True])
def test_blocks_of_random_labels_give_the_table_of_the_whole(tmp_path, noise, blocks, chunks, number, exclude_border):
    labels, image = noise
    labels = labels.copy()
    labels[4:6, 4:6, 4:6], labels[7, 7, 7] = 5, 6  # the only objects that touch no border
    path = write_zarr(tmp_path / "labels.zarr", labels, chunks)
    options = {
        "voxel_size": ANISOTROPIC,
        "bounds": (2, 140),
        "exclude_border": exclude_border,
        "neighbors": 2,
        "radius_nm": 60.0,
        "density_blocks": 3,
        "progress": False,
    }
    expected = object_features(labels, image, **options)
    assert set(expected["id"]) == ({5} if exclude_border else {3, 5, 70000, BIG})
    assert_same(measure_volume(path, image, tmp_path, **options), expected)
    assert blocks[0] >= number


def test_more_blocks_of_density_than_voxels_along_an_axis(tmp_path, noise):
    labels, _ = noise
    expected = object_features(labels[:3], None, SIZE, "density", density_blocks=7)
    assert_same(measure(labels[:3], None, tmp_path, "density", density_blocks=7), expected)


@pytest.mark.parametrize("options", [{"num_workers": 2}, {"scheduler": "dask", "num_workers": 1}])
def test_workers_make_the_same_files(tmp_path, mitochondria, options, blocks, monkeypatch, request):
    if "scheduler" in options:
        request.getfixturevalue("dask")
    monkeypatch.setattr(object_batches, "BATCH", 3)
    labels, image, _ = mitochondria
    names = ["size", "intensity", "distance", "sphericity", "skeleton"]
    path = write_zarr(tmp_path / "labels.zarr", labels, (16, 32, 72))
    expected = measure(path, image, tmp_path / "here", names)
    found = measure(path, image, tmp_path / "there", names, **options)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    for name in [f"{one}{suffix}" for one in names for suffix in (".parquet", ".h5")]:
        here, there = ((tmp_path / place / "features" / name).read_bytes() for place in ("here", "there"))
        assert here == there
    assert min(blocks) > 3


def test_tables_of_every_name(tmp_path, noise):
    labels, image = noise
    names = [*ALIASES, "intensity", "size"]
    found = measure(labels, image, tmp_path, names)
    folder = tmp_path / "features"
    written = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    tables = {f"{name}{suffix}" for name in names for suffix in (".parquet", ".h5")}
    assert written == tables | {"objects.parquet", "measurement.json"}
    for name in names:
        columns = ["id", *FEATURE_GROUPS[ALIASES.get(name, name)]]
        for suffix in (".parquet", ".h5"):
            assert_same(read_features(folder / f"{name}{suffix}"), found[columns])
    assert found.columns.is_unique
    assert found["id"].tolist() == [2, 3, 70000, BIG]


def test_the_table_of_objects(tmp_path, mitochondria):
    labels, _, classes = mitochondria
    measure(labels, None, tmp_path, "size", classes={one: name for one, name in classes.items() if one != 3})
    objects = read_features(tmp_path / "features" / "objects.parquet")
    for row in objects.itertuples():
        z, y, x = np.nonzero(labels == row.id)
        assert (row.lower_z, row.lower_y, row.lower_x) == (z.min(), y.min(), x.min())
        assert (row.upper_z, row.upper_y, row.upper_x) == (z.max() + 1, y.max() + 1, x.max() + 1)
        assert row.voxels == len(z)
        assert row.centroid_y_nm == pytest.approx(y.mean() * SIZE[1])
        assert (row.id == 3 and pd.isna(row[-1])) or row[-1] == classes[row.id]
    assert "class" in objects


def test_classes_of_a_volume_and_as_numbers(tmp_path, noise):
    labels, _ = noise
    volume = np.where(labels == 2, 4, np.where(labels == 3, 9, 0)).astype(np.uint8)
    measure(labels, None, tmp_path / "a", "size", classes=volume)
    assert read_features(tmp_path / "a" / "features" / "objects.parquet")["class"].tolist() == [4, 9, -1, -1]
    measure(labels, None, tmp_path / "b", "size", classes={2: 4, 3: 9})
    assert read_features(tmp_path / "b" / "features" / "objects.parquet")["class"].tolist() == [4, 9, -1, -1]


def test_the_distance_matrix(tmp_path, noise, monkeypatch):
    monkeypatch.setattr(measurement_tables, "_ROWS", 3)
    labels, _ = noise
    measure(labels, None, tmp_path, "size", distance_matrix=True)
    centers = np.array([np.argwhere(labels == one).mean(axis=0) * SIZE for one in (2, 3, 70000, BIG)])
    with h5py.File(tmp_path / "features" / "distance_matrix.h5") as file:
        assert file["id"][:].tolist() == [2, 3, 70000, BIG]
        assert file["values"].dtype == np.float32
        np.testing.assert_allclose(file["values"], cdist(centers, centers), rtol=1e-6)
    with pytest.raises(InvalidInputError, match=r"distance matrix of 4 objects .* max_distance_objects=3"):
        measure(labels, None, tmp_path / "b", "size", distance_matrix=True, max_distance_objects=3)


def test_finished_tables_are_kept_and_others_added(tmp_path, noise, monkeypatch):
    labels, image = noise
    first = measure(labels, image, tmp_path, ["size", "thickness"])
    table = tmp_path / "features" / "size.parquet"
    before = table.stat().st_mtime_ns
    both = measure(labels, image, tmp_path, ["intensity", "size"])
    assert table.stat().st_mtime_ns == before
    assert list(both.columns) == ["id", *FEATURE_GROUPS["intensity"], *FEATURE_GROUPS["size"]]
    record = json.loads((tmp_path / "features" / "measurement.json").read_text())
    assert record["tables"] == ["size", "thickness", "intensity"]
    assert record["settings"]["voxel_size"] == list(SIZE)
    monkeypatch.setattr(object_measurement, "object_statistics", None)
    assert_same(measure(labels, image, tmp_path, ["size", "thickness"]), first)
    monkeypatch.undo()
    table.unlink()
    assert_same(measure(labels, image, tmp_path, ["size", "thickness"]), first)


def test_tables_of_other_settings_are_refused_or_replaced(tmp_path, noise):
    labels, image = noise
    measure(labels, image, tmp_path, ["size", "sizef"])
    changed = labels.copy()
    changed[0, 0, 0] = BIG
    with pytest.raises(InvalidInputError, match=r"made with other settings: sources\.labels.*overwrite=True"):
        measure(changed, image, tmp_path, "size")
    with pytest.raises(
        InvalidInputError, match=r"voxel_size is \[30\.0, 16\.0, 16\.0\] there, \[4\.0, 4\.0, 4\.0\] now"
    ):
        measure(labels, image, tmp_path, "size", voxel_size=(4, 4, 4))
    with pytest.raises(InvalidInputError, match=r"neighbors is 5 there, 6 now"):
        measure(labels, image, tmp_path, "distance", neighbors=6)
    found = measure(labels, image, tmp_path, "size", voxel_size=(4, 4, 4), overwrite=True)
    assert_same(found, object_features(labels, None, (4, 4, 4), "size"))
    folder = tmp_path / "features"
    assert (folder / "size.h5").exists()
    assert not (folder / "sizef.h5").exists()  # of the other voxel size
    (folder / "measurement.json").unlink()
    with pytest.raises(InvalidInputError, match=r"has objects\.parquet, size\.parquet, size\.h5 without measurement"):
        measure(labels, image, tmp_path, "size")
    (folder / "measurement.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"measurement\.json is damaged"):
        measure(labels, image, tmp_path, "size")


class Killed(BaseException):
    pass


def test_an_interrupted_measurement_is_continued(tmp_path, mitochondria, monkeypatch):
    labels, _, _ = mitochondria
    names = ["thickness", "size"]
    expected = measure(labels, None, tmp_path / "a", names)
    monkeypatch.setattr(object_batches, "BATCH", 2)
    make, done = object_batches.ObjectBatch.make, []

    def stopping(job):
        if len(done) == 2:
            raise Killed
        done.append(job.name)
        make(job)

    monkeypatch.setattr(object_batches.ObjectBatch, "make", stopping)
    with pytest.raises(Killed):
        measure(labels, None, tmp_path / "b", names)
    assert not (tmp_path / "b" / "features" / "size.parquet").exists()
    for other in ({"features": "thickness"}, {"features": names, "bounds": (3, None)}):
        with pytest.raises(InvalidInputError, match=r"interrupted measurement is there.*is .* there, .* now"):
            measure(labels, None, tmp_path / "b", **other)
    monkeypatch.setattr(object_batches.ObjectBatch, "make", lambda job: (done.append(job.name), make(job)))
    monkeypatch.setattr(object_measurement, "object_statistics", None)  # the statistics are kept, too
    pd.testing.assert_frame_equal(measure(labels, None, tmp_path / "b", names), expected, check_exact=True)
    assert sorted(done) == [f"batch_{number:06d}" for number in range(4)]
    assert not (tmp_path / "b" / "features" / ".objects.parts").exists()


def test_a_run_that_ends_between_the_tables_is_continued(tmp_path, noise, monkeypatch):
    labels, _ = noise
    expected = measure(labels, None, tmp_path / "a", ["size", "density"])
    write = measurement_tables.write_features

    def stopping(table, path):
        if path.name == "density.parquet":
            raise Killed
        write(table, path)

    monkeypatch.setattr(measurement_tables, "write_features", stopping)
    with pytest.raises(Killed):
        measure(labels, None, tmp_path / "b", ["size", "density"])
    monkeypatch.undo()
    assert (tmp_path / "b" / "features" / "size.parquet").exists()
    pd.testing.assert_frame_equal(measure(labels, None, tmp_path / "b", ["size", "density"]), expected)


def test_tables_of_a_run_that_ended_are_not_left_beside_those_of_other_settings(tmp_path, noise, monkeypatch):
    labels, _ = noise
    write = measurement_tables.write_features

    def stopping(table, path):
        if path.name == "size.h5":
            raise Killed
        write(table, path)

    monkeypatch.setattr(measurement_tables, "write_features", stopping)
    with pytest.raises(Killed):
        measure(labels, None, tmp_path, ["size"])
    monkeypatch.undo()
    assert (tmp_path / "features" / "size.parquet").exists()
    measure(labels, None, tmp_path, ["distance"], bounds=(2, None))  # of other objects
    assert not (tmp_path / "features" / "size.parquet").exists()


def measure_one_by_one(labels: str, folder: str) -> None:
    object_batches.BATCH = 1
    measure_volume(labels, None, folder, ["skeleton", "sphericity"], progress=False)


def test_a_killed_process_leaves_what_the_next_one_continues(tmp_path, mitochondria, monkeypatch):
    labels, _, _ = mitochondria
    path = write_zarr(tmp_path / "labels.zarr", labels, (16, 32, 72))
    names = ["skeleton", "sphericity"]
    measure(path, None, tmp_path / "a", names, voxel_size=None)
    parts = tmp_path / "b" / "features" / ".objects.parts"
    process = forked_commands.start(measure_one_by_one, str(path), str(tmp_path / "b"))
    while len(list(parts.glob("batch_*.h5"))) < 2 and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    assert 2 <= len(list(parts.glob("batch_*.h5"))) < 7
    monkeypatch.setattr(object_batches, "BATCH", 1)
    measure(path, None, tmp_path / "b", names, voxel_size=None)
    for name in ("objects.parquet", "skeleton.parquet", "skeleton.h5", "sphericity.parquet", "measurement.json"):
        first, second = ((tmp_path / place / "features" / name).read_bytes() for place in "ab")
        assert first == second
