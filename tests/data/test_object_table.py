"""Object tables of files, block by block, beside the whole array."""

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr

from voxel_ext.data import object_table
from voxel_ext.data.lazy_volume import open_volume
from voxel_ext.data.object_table import object_statistics
from voxel_ext.data.scheduling import SerialScheduler
from voxel_ext.data.zarr_io import multiscale_attributes
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.morphology.object_columns import statistics_table
from voxel_ext.morphology.spatial_density import SpatialGrid, count_labeled, spatial_density
from voxel_ext.morphology.statistics import measure_objects

SIZE = (30.0, 8.0, 8.0)


@pytest.fixture(scope="module")
def labels():
    """Boxes that overlap each other, with ids that are not consecutive."""
    generator = np.random.default_rng(0)
    volume = np.zeros((11, 14, 13), np.int64)
    for number in range(1, 15):
        low = generator.integers(0, 9, 3)
        high = low + generator.integers(1, 7, 3)
        volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = number**3 + (2**62 if number > 11 else 0)
    return volume


@pytest.fixture(scope="module")
def image(labels):
    return np.random.default_rng(1).normal(10, 3, labels.shape).astype(np.float32)


@pytest.fixture(scope="module")
def expected(labels, image):
    return statistics_table(measure_objects(labels, image), labels.shape, SIZE)


def measure(*arguments, **options):
    return object_statistics(*arguments, **{"progress": False, **options})


def write_zarr(path, array, chunks=5, voxel_size_um=None):
    group = zarr.open_group(str(path), mode="a")
    group.create_array("0", shape=array.shape, dtype=array.dtype, chunks=(chunks,) * 3)[...] = array
    if voxel_size_um:
        group.attrs.update(multiscale_attributes("0", voxel_size_um, False))
    return path


def assert_same(found, expected):
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("block_size", [None, 1, 3, (4, 5, 6), (11, 14, 13), 100])
def test_blocks_give_the_table_of_the_whole(labels, image, expected, block_size):
    if block_size == 1:  # few voxels: each is a block
        labels, image = labels[:5, 2:8, 3:8], image[:5, 2:8, 3:8]
        expected = statistics_table(measure_objects(labels, image), labels.shape, SIZE)
    assert_same(measure(labels, image, SIZE, block_size=block_size), expected)


def test_random_labels_with_rows_merged_now_and_then(monkeypatch):
    labels = np.random.default_rng(2).integers(0, 9, (9, 8, 7))
    monkeypatch.setattr(object_table, "_ROWS_AT_ONCE", 10)
    expected = statistics_table(measure_objects(labels), labels.shape, SIZE)
    assert_same(measure(labels, voxel_size=SIZE, block_size=3), expected)
    without = measure(labels, voxel_size=SIZE, block_size=3, euler=False)
    assert_same(without, expected.drop(columns="euler_number"))


def test_results_in_any_order_are_added_in_the_same_order(monkeypatch, labels, image):
    class Backwards:
        def run(self, function, tasks, common):
            for index in reversed(range(len(tasks))):
                yield index, function(tasks[index], common)

    forwards = measure(labels, image, SIZE, block_size=4)
    monkeypatch.setattr(object_table, "block_scheduler", lambda *_: Backwards())
    pd.testing.assert_frame_equal(measure(labels, image, SIZE, block_size=4), forwards, check_exact=True)


def test_worker_processes_give_the_same_to_the_bit(tmp_path, labels, image):
    files = write_zarr(tmp_path / "l.zarr", labels), write_zarr(tmp_path / "i.zarr", image)
    serial = measure(*files, SIZE, block_size=8)
    pd.testing.assert_frame_equal(measure(*files, SIZE, block_size=8, num_workers=1), serial, check_exact=True)


@pytest.mark.parametrize(("blocks", "workers"), [(64, 0), (8, 3)])
def test_workers_are_started_for_several_blocks_only(monkeypatch, labels, blocks, workers):
    asked = []
    monkeypatch.setattr(
        object_table, "block_scheduler", lambda name, number: asked.append((name, number)) or SerialScheduler()
    )
    object_statistics(labels, voxel_size=(1, 1, 1), block_size=blocks, num_workers=3, progress=False)
    object_statistics(labels, voxel_size=(1, 1, 1), scheduler="dask", block_size=blocks, num_workers=3, progress=False)
    assert asked == [(None, workers), ("dask", 3)]


def test_voxel_sizes_of_files(tmp_path, labels, image, expected):
    with_size = write_zarr(tmp_path / "with.zarr", labels, voxel_size_um=(0.03, 0.008, 0.008))
    picture = write_zarr(tmp_path / "image.zarr", image, 4, voxel_size_um=(0.03, 0.008, 0.008))
    without = write_zarr(tmp_path / "without.zarr", labels)
    assert_same(measure(with_size, image), expected)
    assert_same(measure(without, picture), expected)
    assert measure(with_size, voxel_size=(1, 1, 1))["volume_um3"].tolist() == (expected["voxels"] * 1e-9).tolist()
    with pytest.raises(InvalidInputError, match=r"without\.zarr.* does not tell its voxel size; give voxel_size"):
        measure(without)
    other = write_zarr(tmp_path / "other.zarr", image, voxel_size_um=(0.04, 0.008, 0.008))
    with pytest.raises(InvalidInputError, match=r"has a voxel size of \(0\.03.* and .*other\.zarr.* of \(0\.04"):
        measure(with_size, other)


def test_other_sources(tmp_path, labels, image, expected):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["labels"] = labels.astype(np.uint64)
    assert_same(measure(open_volume(tmp_path / "a.h5/labels"), image, SIZE), expected)
    np.save(tmp_path / "labels.npy", labels)
    assert_same(measure(tmp_path / "labels.npy", image, SIZE), expected)


def test_blocks_are_whole_chunks(tmp_path):
    volume = open_volume(write_zarr(tmp_path / "a.zarr", np.zeros((300, 200, 260), np.uint8), chunks=50))
    for euler in (True, False):
        boxes = object_table._blocks(volume, None, euler)
        assert len(boxes) > 1
        covered = np.zeros(volume.spatial_shape, np.uint8)
        for box in boxes:
            covered[box] += 1
            assert all(part.start % 50 == 0 for part in box)
            assert covered[box].size <= (object_table._BLOCK_VOXELS if euler else 128**3)
        assert (covered == 1).all()


def test_bounds_and_border(labels, expected):
    sizes = expected["voxels"]
    lower, upper = int(sizes.quantile(0.3)), int(sizes.quantile(0.8))
    found = measure(labels, voxel_size=SIZE, bounds=(lower, upper))
    inside = expected[(sizes >= lower) & (sizes <= upper)]
    assert 0 < len(inside) < len(expected)
    assert found["id"].tolist() == inside["id"].tolist()
    assert found.index.tolist() == list(range(len(found)))
    assert measure(labels, voxel_size=SIZE, bounds=(84, 84))["voxels"].tolist() == [84]
    assert sizes.max() == 84
    inner = measure(labels, voxel_size=SIZE, exclude_border=True)
    border = np.unique(np.concatenate([np.moveaxis(labels, axis, 0)[[0, -1]].ravel() for axis in range(3)]))
    assert inner["id"].tolist() == sorted(set(np.unique(labels)) - set(border))
    assert 0 < len(inner) < len(expected)


@pytest.mark.parametrize("block_size", [None, 4])
def test_density_of_the_objects_blocks(labels, block_size):
    found = measure(labels, voxel_size=SIZE, density_blocks=3, block_size=block_size, bounds=(20, None))
    grid = SpatialGrid(labels.shape, 3)
    statistics = measure_objects(labels)
    density = spatial_density(count_labeled(labels, grid), statistics.geometry.centroid, grid)
    for row in found.itertuples():
        place = tuple(grid.locate([[row.centroid_z, row.centroid_y, row.centroid_x]])[0])
        assert row.block_objects == density.count[place]
        assert row.block_volume_fraction == density.volume_fraction[place]


def test_no_objects(labels, expected):
    with pytest.raises(InvalidInputError, match="labels has no objects: all voxels are 0"):
        measure(np.zeros((4, 4, 4), int), voxel_size=SIZE)
    total, most = len(expected), expected["voxels"].max()
    message = rf"0 of {total} objects have at least 5000 voxels, so that none is kept.*, {most} voxels \(least"
    with pytest.raises(InvalidInputError, match=message):
        measure(labels, voxel_size=SIZE, bounds=(5000, None))
    with pytest.raises(InvalidInputError, match="1 of 1 objects have 1 to 9 voxels, all of them at the border"):
        measure(np.eye(3, dtype=int)[None], voxel_size=SIZE, bounds=(1, 9), exclude_border=True)


@pytest.mark.parametrize("bounds", [(1,), 5, (1, 2, 3), (-1, None), (5, 4), (1.5, None), ("1", 2), (True, 3)])
def test_bad_bounds(labels, bounds):
    with pytest.raises(InvalidInputError, match=r"bounds=.*expected the least and the greatest"):
        measure(labels, voxel_size=SIZE, bounds=bounds)


def test_bad_input(tmp_path, labels, image):
    with pytest.raises(InvalidInputError, match=r"image has shape \(10, 14, 13\), but labels has \(11, 14, 13\)"):
        measure(labels, image[1:], SIZE)
    path = write_zarr(tmp_path / "float.zarr", labels.astype(np.float32))
    with pytest.raises(InvalidInputError, match=r"float\.zarr.*float32; expected integers.*astype\('int64'\)"):
        measure(path, voxel_size=SIZE)
    with pytest.raises(InvalidInputError, match="labels has 2 channels"):
        measure(np.stack([labels, labels]), voxel_size=SIZE)
    with pytest.raises(InvalidInputError, match="the id -1"):
        measure(-(labels > 0).astype(np.int8), voxel_size=SIZE)
    with pytest.raises(InvalidInputError, match="NaN or infinite values inside the object"):
        measure(labels, np.full(labels.shape, np.nan), SIZE)
    with pytest.raises(InvalidInputError, match="voxel_size="):
        measure(labels, voxel_size=(1, 0, 1))
    with pytest.raises(InvalidInputError, match="12 blocks per axis; expected at most 11"):
        measure(labels, voxel_size=SIZE, density_blocks=12)
    with pytest.raises(MissingDataError):
        measure(tmp_path / "none.zarr", voxel_size=SIZE)
