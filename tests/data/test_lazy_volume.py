import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr

from voxel_ext.data.lazy_volume import open_volume
from voxel_ext.data.zarr_io import multiscale_attributes
from voxel_ext.errors import InvalidInputError, MissingDataError

BOX = (slice(1, 6), slice(2, 9), slice(3, 4))
SIZE = (2.0, 1.0, 0.5)


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 60000, (7, 9, 11)).astype(np.uint16)


def write_zarr(path, array, chunks=4, voxel_size=None, key="0"):
    group = zarr.open_group(str(path), mode="a")
    stored = group.create_array(key, shape=array.shape, dtype=array.dtype, chunks=(chunks,) * array.ndim)
    stored[...] = array
    if voxel_size:
        group.attrs.update(multiscale_attributes(key, voxel_size, array.ndim == 4))
    return stored


def write(folder, kind, array):
    """Write an array (z, y, x) as another kind of file; returns its address."""
    path = folder / f"a{kind.partition('-')[0]}"
    if kind == ".zarr":
        write_zarr(path, array, voxel_size=SIZE)
    elif kind.startswith(".h5"):
        with h5py.File(path, "w") as file:
            chunks = (2, 3, 4) if kind.endswith("chunked") else None
            file.create_dataset("raw", data=array, chunks=chunks).attrs["element_size_um"] = SIZE
        return f"{path}/raw"
    elif kind == ".npy":
        np.save(path, array)
    elif kind == ".tif-imagej":
        meta = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
        tifffile.imwrite(path, array, imagej=True, metadata=meta, resolution=(2.0, 1.0))
    elif kind.startswith(".tif"):
        tifffile.imwrite(path, array, compression="zlib" if kind.endswith("compressed") else None)
    else:
        image = nibabel.Nifti1Image(array.T.copy(), np.diag([0.5, 1, 2, 1]))
        image.header.set_xyzt_units("micron")
        nibabel.save(image, path)
    return str(path)


KINDS = (".zarr", ".h5", ".h5-chunked", ".npy", ".tif", ".tif-compressed", ".tif-imagej", ".nii", ".nii.gz")


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_reads_the_box_also_after_pickling(kind, array, tmp_path):
    volume = open_volume(write(tmp_path, kind, array))
    assert volume.shape == (1, 7, 9, 11)
    assert volume.spatial_shape == (7, 9, 11)
    assert volume.dtype == np.uint16
    for copy in (volume, pickle.loads(pickle.dumps(volume))):
        read = copy.read(BOX)
        assert read.dtype == np.uint16
        assert read.flags.writeable
        np.testing.assert_array_equal(read, array[None, 1:6, 2:9, 3:4])
    np.testing.assert_array_equal(volume.read((slice(None),) * 3), array[None])
    if kind not in (".npy", ".tif", ".tif-compressed"):
        assert volume.voxel_size == pytest.approx(SIZE)
    json.dumps(volume.fingerprint())


def test_objects_read_like_their_files(array, tmp_path):
    stored = write_zarr(tmp_path / "a.zarr", array, voxel_size=SIZE)
    address = write(tmp_path, ".h5", array)
    with h5py.File(tmp_path / "a.h5") as file:
        for source, name in (
            (stored, f"{tmp_path}/a.zarr/0"),
            (file["raw"], address),
            (array, "volume"),
            (zarr.array(array, chunks=(3, 3, 3)), "volume"),
            (array.tolist(), "volume"),
        ):
            volume = pickle.loads(pickle.dumps(open_volume(source)))
            assert volume.address == name
            np.testing.assert_array_equal(volume.read(BOX), array[None, 1:6, 2:9, 3:4])
    assert open_volume(stored).voxel_size == SIZE
    assert open_volume(array, name="mine").address == "mine"


def test_a_zarr_object_in_a_folder_of_another_name(array, tmp_path):
    stored = write_zarr(tmp_path / "store", array)
    volume = pickle.loads(pickle.dumps(open_volume(stored)))
    np.testing.assert_array_equal(volume.read(BOX), array[None, 1:6, 2:9, 3:4])
    assert volume.fingerprint()["chunk_files"] == 2 * 3 * 3


def test_the_byte_order_is_that_of_the_machine(array, tmp_path):
    np.save(tmp_path / "a.npy", array.astype(">u2"))
    volume = open_volume(tmp_path / "a.npy")
    assert volume.dtype == volume.read(BOX).dtype == np.dtype("=u2")
    np.testing.assert_array_equal(volume.read(BOX), array[None, 1:6, 2:9, 3:4])


def test_a_scaled_nifti_image_is_float32(tmp_path):
    stored = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nibabel.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "a.nii")
    volume = open_volume(tmp_path / "a.nii")
    assert volume.dtype == np.float32
    np.testing.assert_allclose(volume.read((slice(None),) * 3)[0], stored.T * 0.5 + 10)


def test_selections_of_the_first_axis(array, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.stack([array, array + 1])
        file["one"] = array
    np.testing.assert_array_equal(open_volume(f"{tmp_path}/a.h5/raw[1]").read(BOX)[0], array[BOX] + 1)
    part = open_volume(f"{tmp_path}/a.h5/one[2:6]")
    assert part.spatial_shape == (4, 9, 11)
    np.testing.assert_array_equal(part.read((slice(1, 4), *BOX[1:]))[0], array[(slice(3, 6), *BOX[1:])])


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((3, 7, 9, 11), {}, "czyx"),
        ((7, 9, 11, 3), {"channels": 3}, "zyxc"),
        ((3, 7, 9, 11), {"channels": 3}, "czyx"),
        ((3, 7, 9, 3), {"channels": 3, "channel_axis": "last"}, "zyxc"),
        ((3, 7, 9, 3), {"channels": 3, "channel_axis": "first"}, "czyx"),
        ((7, 9, 11, 2), {"channel_axis": "last"}, "zyxc"),
    ],
)
def test_the_channel_axis(shape, options, axes):
    values = np.random.default_rng(0).random(shape)
    first = values if axes == "czyx" else np.moveaxis(values, -1, 0)
    volume = open_volume(values, **options)
    assert volume.shape == first.shape
    np.testing.assert_array_equal(volume.read((slice(1, 3), slice(0, 2), slice(1, 3))), first[:, 1:3, 0:2, 1:3])


def test_axes_by_the_metadata_come_first(tmp_path):
    values = np.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2)
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    stored = group.create_array("s", shape=(1, *values.shape), dtype="i4", chunks=(1, 2, 3, 2, 1))
    stored[0] = values
    scale = {"type": "scale", "scale": [1, 4, 3, 2, 1]}
    axes = [{"name": name} for name in "tzyxc"]
    image = {"axes": axes, "datasets": [{"path": "s", "coordinateTransformations": [scale]}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    volume = open_volume(tmp_path / "a.zarr", channels=2)
    assert volume.shape == (2, 2, 3, 4)
    assert volume.chunks == (2, 3, 2)
    assert volume.voxel_size == (4, 3, 2)
    np.testing.assert_array_equal(
        volume.read((slice(None), slice(1, 3), slice(0, 3))), values[:, 1:3, :3].transpose(3, 0, 1, 2)
    )


def test_levels(array, tmp_path):
    path = tmp_path / "a.zarr"
    group = zarr.open_group(str(path), mode="w")
    for number, step in enumerate((1, 2)):
        stored = group.create_array(
            str(number), shape=array[::step, ::step, ::step].shape, dtype="u2", chunks=(4, 4, 4)
        )
        stored[...] = array[::step, ::step, ::step]
    for _ in range(2):  # without metadata, the arrays called 0, 1, ... are the levels
        np.testing.assert_array_equal(open_volume(path, level=1).read((slice(None),) * 3)[0], array[::2, ::2, ::2])
        with pytest.raises(MissingDataError, match=r"no level 2; its levels are 0: 0 \(7, 9, 11\); 1: 1 \(4, 5, 6\)"):
            open_volume(path, level=2)
        levels = [
            {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [2.0**i] * 3}]} for i in range(2)
        ]
        axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    assert open_volume(path, level=1).voxel_size == (2, 2, 2)
    with pytest.raises(MissingDataError, match="only level 0"):
        open_volume(path / "0", level=1)
    with pytest.raises(InvalidInputError, match="level=1"):
        open_volume(array, level=1)
    with pytest.raises(InvalidInputError, match="level=-1"):
        open_volume(path, level=-1)


def test_only_the_chunks_of_the_box_are_read(array, tmp_path):
    write_zarr(tmp_path / "a.zarr", array)
    kept = tmp_path / "a.zarr" / "0" / "c" / "1" / "1" / "1"
    for folder, _, files in os.walk(tmp_path / "a.zarr" / "0" / "c"):
        for file in files:
            if os.path.join(folder, file) != str(kept):
                with open(os.path.join(folder, file), "wb") as damaged:
                    damaged.write(b"no chunk")
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.chunks == (4, 4, 4)
    np.testing.assert_array_equal(volume.read((slice(4, 7), slice(4, 8), slice(4, 8)))[0], array[4:7, 4:8, 4:8])
    with pytest.raises(InvalidInputError, match=r"a\.zarr: the box z 3:7, y 4:8, x 4:8 .* damaged, or being written"):
        volume.read((slice(3, 7), slice(4, 8), slice(4, 8)))


@pytest.mark.parametrize("kind", [".zarr", ".h5-chunked", ".tif-compressed"])
def test_threads_read_at_once(kind, array, tmp_path):
    volume = open_volume(write(tmp_path, kind, array))
    copy = pickle.loads(pickle.dumps(volume))  # not yet open
    boxes = [(slice(z, z + 2), slice(y, y + 3), slice(0, 11)) for z in range(5) for y in range(6)]
    with ThreadPoolExecutor(8) as pool:
        for box, read in zip(boxes, pool.map(copy.read, boxes), strict=True):
            np.testing.assert_array_equal(read[0], array[box])


@pytest.mark.parametrize("kind", [".zarr", ".h5", ".npy"])
def test_the_fingerprint_changes_with_the_content(kind, array, tmp_path):
    address = write(tmp_path, kind, array)
    before = open_volume(address).fingerprint()
    assert open_volume(address).fingerprint() == before
    array[3, 3, 3] += 1
    if kind == ".zarr":
        zarr.open_array(f"{address}/0", mode="r+")[3, 3, 3] = array[3, 3, 3]
    else:
        write(tmp_path, kind, array)
    os.utime(tmp_path / "a.npy" if kind == ".npy" else tmp_path / f"a{kind}")
    assert open_volume(address).fingerprint() != before


def test_the_fingerprint_of_metadata_and_memory(array, tmp_path):
    write_zarr(tmp_path / "a.zarr", array, voxel_size=SIZE)
    before = open_volume(tmp_path / "a.zarr").fingerprint()
    attributes = multiscale_attributes("0", (3.0, 1.0, 0.5), False)
    zarr.open_group(str(tmp_path / "a.zarr"), mode="r+").attrs.update(attributes)
    after = open_volume(tmp_path / "a.zarr").fingerprint()
    assert after["metadata"] != before["metadata"]
    assert {**after, "metadata": 0} == {**before, "metadata": 0}
    other = array.copy()
    assert open_volume(array).fingerprint() == open_volume(other).fingerprint()
    other[6, 8, 10] ^= 1
    assert open_volume(array).fingerprint() != open_volume(other).fingerprint()


@pytest.mark.parametrize(
    "box",
    [
        (slice(0, 8), slice(0, 1), slice(0, 1)),
        (slice(-1, 2), slice(0, 1), slice(0, 1)),
        (slice(2, 2), slice(0, 1), slice(0, 1)),
        (slice(0, 4, 2), slice(0, 1), slice(0, 1)),
        (slice(0, 1), slice(0, 1)),
        (0, slice(0, 1), slice(0, 1)),
    ],
)
def test_boxes_that_are_refused(box, array):
    with pytest.raises(InvalidInputError, match="box"):
        open_volume(array).read(box)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((2, 2, 2), complex), {}, "data type complex128"),
        (np.full((2, 2, 2), "a"), {}, "data type <U1"),
        (np.zeros((2, 2, 2), object), {}, "data type object"),
        (np.zeros((2, 0, 2)), {}, r"mine is empty: its shape is \(2, 0, 2\)"),
        (np.zeros((2, 2)), {}, r"mine has shape \(2, 2\); expected \(Z, Y, X\)"),
        (np.zeros((1, 2, 2, 2, 2)), {}, "expected"),
        (np.zeros((4, 5, 6, 7)), {"channels": 3}, r"mine has shape \(4, 5, 6, 7\).*expected channels=3"),
        (np.zeros((4, 5, 6)), {"channels": 3}, r"1 channel\(s\); expected channels=3"),
        (np.zeros((3, 5, 6, 3)), {"channels": 3}, "give channel_axis"),
        (np.zeros((4, 5, 6)), {"channel_axis": "middle"}, "channel_axis='middle'"),
    ],
)
def test_arrays_that_are_refused(values, options, message):
    with pytest.raises(InvalidInputError, match=message):
        open_volume(values, name="mine", **options)


def test_missing_and_damaged_files(array, tmp_path):
    for name in ("a.zarr", "a.h5", "a.npy", "a.tif", "a.nii.gz"):
        with pytest.raises(MissingDataError, match="does not exist"):
            open_volume(tmp_path / name)
    for name in ("b.h5", "b.npy", "b.tif", "b.nii"):
        (tmp_path / name).write_bytes(b"not what it says")
        with pytest.raises(InvalidInputError, match=f"{name}.*(damaged|truncated)"):
            open_volume(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"")
    with pytest.raises(InvalidInputError, match=r"c\.png cannot be read box by box; .*\.zarr, \.npy"):
        open_volume(tmp_path / "c.png")
    write_zarr(tmp_path / "d.zarr", array, key="image")
    write_zarr(tmp_path / "d.zarr", array, key="sheet")
    with pytest.raises(MissingDataError, match=r"no dataset 'raw'; it has: image \(7, 9, 11\)"):
        open_volume(tmp_path / "d.zarr" / "raw")
    with pytest.raises(InvalidInputError, match="2 datasets could be meant"):
        open_volume(tmp_path / "d.zarr")


def test_stores_that_are_being_written_are_refused(array, tmp_path):
    write_zarr(tmp_path / ".x.partial" / "a.zarr", array)
    write_zarr(tmp_path / "a.zarr.partial", array)
    for path in (tmp_path / ".x.partial" / "a.zarr", tmp_path / "a.zarr.partial" / "0"):
        with pytest.raises(InvalidInputError, match="being written by a running job, or was left"):
            open_volume(path)
