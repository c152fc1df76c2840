"""Label volumes by cluster, block-wise against the whole at once."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from voxel_ext.data import open_volume
from voxel_ext.data.relabel import relabel_volume
from voxel_ext.data.scheduling import block_scheduler
from voxel_ext.data.zarr_io import multiscale_attributes
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.morphology.clustering import cluster_values, map_labels

SHAPE = (19, 23, 17)
IDS = np.r_[np.arange(1, 20), 2**53 + np.arange(3), 2**63 - 1]


def volume(seed=0, kind=np.int64):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(SHAPE) < 0.5, 0, rng.choice(IDS, SHAPE)).astype(kind)


def clusters(seed=0, count=5):
    return np.random.default_rng(seed).integers(-1, count, len(IDS))


def store(path, labels, size=None, chunks=(8, 8, 8)):
    attributes = multiscale_attributes("0", size, False) if size else {}
    root = zarr.open_group(str(path), mode="w", attributes=attributes)
    root.create_array("0", data=labels, chunks=chunks)
    return path


@pytest.mark.parametrize("noise", ["background", "own"])
@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_blocks_are_the_whole_at_once(tmp_path, monkeypatch, noise, kind):
    monkeypatch.setattr("voxel_ext.data.label_scan.BLOCK_VOXELS", 2000)
    labels = volume(kind=kind)
    source = store(tmp_path / "labels.zarr", labels, (0.03, 0.008, 0.004))
    found = relabel_volume(source, IDS, clusters(), tmp_path / "out" / "clusters.zarr", noise=noise, progress=False)
    expected = map_labels(labels, IDS, cluster_values(clusters(), noise))
    result = open_volume(found.path)
    assert (result.dtype, result.chunks, result.shape) == (np.uint8, (8, 8, 8), (1, *SHAPE))
    assert result.voxel_size == pytest.approx((0.03, 0.008, 0.004))
    assert np.array_equal(result.read((slice(None),) * 3)[0], expected)
    values, counts = np.unique(expected, return_counts=True)
    assert found.voxels == dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert (found.unknown.size, found.absent.size) == (0, 0)


def test_ids_of_many_blocks_are_each_told_once(tmp_path, monkeypatch):
    monkeypatch.setattr("voxel_ext.data.label_scan.BLOCK_VOXELS", 500)
    monkeypatch.setattr("voxel_ext.data.relabel._IDS_AT_ONCE", 3)
    found = relabel_volume(
        store(tmp_path / "labels.zarr", volume()), [1, 77], [0, 0], tmp_path / "a.zarr", progress=False
    )
    assert found.unknown.tolist() == IDS[1:].tolist()
    assert found.absent.tolist() == [77]


def test_worker_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("voxel_ext.data.label_scan.BLOCK_VOXELS", 2000)
    source = store(tmp_path / "labels.zarr", volume())
    found = relabel_volume(
        source, IDS, clusters(), tmp_path / "clusters.zarr", scheduler=block_scheduler(num_workers=1), progress=False
    )
    expected = map_labels(volume(), IDS, cluster_values(clusters()))
    assert np.array_equal(open_volume(found.path).read((slice(None),) * 3)[0], expected)


def test_array_in_memory_and_ids_of_one_side(tmp_path):
    labels = volume()
    found = relabel_volume(labels, [1, 2, 77], [0, 300, 5], tmp_path / "a.zarr", progress=False)
    result = open_volume(found.path)
    assert result.dtype == np.uint16
    assert result.voxel_size in (None, (1, 1, 1))
    expected = np.where(labels == 1, 1, np.where(labels == 2, 301, 0))
    assert np.array_equal(result.read((slice(None),) * 3)[0], expected)
    assert found.unknown.tolist() == IDS[2:].tolist()
    assert found.absent.tolist() == [77]


def test_existing_store(tmp_path):
    target = tmp_path / "a.zarr"
    relabel_volume(volume(), IDS, clusters(), target, progress=False)
    with pytest.raises(InvalidInputError, match="exists; choose another store, remove it, or give overwrite=True"):
        relabel_volume(volume(), IDS, clusters(1), target, progress=False)
    relabel_volume(volume(), IDS, clusters(1), target, overwrite=True, progress=False)
    expected = map_labels(volume(), IDS, cluster_values(clusters(1)))
    assert np.array_equal(open_volume(target).read((slice(None),) * 3)[0], expected)


def test_the_labels_are_never_overwritten(tmp_path):
    source = store(tmp_path / "labels.zarr", volume())
    for labels, target in (
        (source, source),
        (f"{source}/0", source),
        (source, source / "inner.zarr"),
    ):
        with pytest.raises(InvalidInputError, match=r"is where the labels .* are; choose another store"):
            relabel_volume(labels, IDS, clusters(), target, overwrite=True, progress=False)
    assert np.array_equal(open_volume(source).read((slice(None),) * 3)[0], volume())


def test_a_failure_leaves_nothing(tmp_path):
    labels = volume(kind=np.uint64)
    labels[-1, -1, -1] = 2**63
    with pytest.raises(InvalidInputError, match="the labels have the id 9223372036854775808"):
        relabel_volume(labels, IDS, clusters(), tmp_path / "a.zarr", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("labels", "ids", "found", "path", "message"),
    [
        (np.zeros((2, 2, 2)), [1], [0], "a.zarr", "labels has data type float64; expected integer ids"),
        (np.zeros((2, 3, 4, 5), int), [1], [0], "a.zarr", "expected channels=1"),
        (np.zeros((2, 2, 2), int), [1, 2], [0], "a.zarr", r"\(1,\) clusters for 2 ids"),
        (np.zeros((2, 2, 2), int), [1, 1], [0, 0], "a.zarr", "more than one row has the id 1"),
        (np.zeros((2, 2, 2), int), [1.0], [0], "a.zarr", "the ids are float64"),
        (np.zeros((2, 2, 2), int), [1], [0.5], "a.zarr", "expected \\(N,\\) integers from -1 on"),
        (np.zeros((2, 2, 2), int), [1], [0], "a.png", "expected a zarr store"),
    ],
)
def test_bad_input(tmp_path, labels, ids, found, path, message):
    with pytest.raises(InvalidInputError, match=message):
        relabel_volume(labels, ids, found, tmp_path / path, progress=False)
    with pytest.raises(MissingDataError, match="does not exist"):
        relabel_volume(tmp_path / "none.zarr", ids, found, tmp_path / path, progress=False)
    assert list(tmp_path.iterdir()) == []
