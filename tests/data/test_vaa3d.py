import contextlib
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import LoadImage

from voxel_ext.data.vaa3d import Vaa3DRawReader, open_vaa3d, read_vaa3d, read_vaa3d_header, write_vaa3d
from voxel_ext.data.vaa3d import register_vaa3d_reader as register
from voxel_ext.errors import InvalidInputError, MissingDataError

MAGIC = b"raw_image_stack_by_hpeng"
DTYPES = [np.uint8, np.uint16, np.float32]


def volume(dtype=np.uint16, shape=(3, 4, 5, 6)):
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype) * (1 if dtype == np.uint8 else 3)


def by_hand(array, order="<", sizes="4i", code=None):
    """The bytes of a file, written from the format's description alone."""
    header = MAGIC + (b"L" if order == "<" else b"B")
    header += struct.pack(f"{order}h", code or {"u1": 1, "u2": 2, "f4": 4}[array.dtype.str[1:]])
    header += struct.pack(f"{order}{sizes}", *array.shape[::-1])
    return header + array.astype(array.dtype.newbyteorder(order)).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("byte_order", "order"), [("little", "<"), ("big", ">")])
@pytest.mark.parametrize(("size_bytes", "sizes", "offset"), [(4, "4i", 43), (2, "4h", 35)])
def test_round_trip_and_bytes(tmp_path, dtype, byte_order, order, size_bytes, sizes, offset):
    array = volume(dtype)
    path = write_vaa3d(tmp_path / "a.raw", array, byte_order, size_bytes)
    assert path.read_bytes() == by_hand(array, order, sizes)
    assert read_vaa3d_header(path).offset == offset
    read = read_vaa3d(path)
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    assert np.array_equal(read, array)
    assert np.array_equal(read_vaa3d(path, channel=1), array[1:2])


def test_size_of_a_real_file(tmp_path):
    # a volume of the original data: three channels of uint8 in 92,175,019 bytes
    header = MAGIC + b"L" + struct.pack("<h4i", 1, 1611, 149, 128, 3)
    path = tmp_path / "a.raw"
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(92_175_019)
    assert open_vaa3d(path).shape == (3, 128, 149, 1611)


def test_volume_without_channels(tmp_path):
    array = volume()[0]
    assert np.array_equal(read_vaa3d(write_vaa3d(tmp_path / "a.raw", array)), array[None])


def test_mapping_is_lazy_and_read_only(tmp_path):
    mapped = open_vaa3d(write_vaa3d(tmp_path / "a.raw", volume()))
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable


@pytest.mark.parametrize(("channel", "index"), [(None, np.s_[:]), (2, np.s_[2:3])])
def test_load_image(tmp_path, channel, index):
    register()
    array = volume(np.uint8)
    path = write_vaa3d(tmp_path / "a.v3draw", array, "big")
    reader = None if channel is None else Vaa3DRawReader(channel)
    image = LoadImage(reader=reader, ensure_channel_first=True)(path)
    assert image.dtype == torch.float32
    assert np.array_equal(image.numpy(), array[index])
    assert np.array_equal(image.affine, np.eye(4))
    assert list(image.meta["spatial_shape"]) == [4, 5, 6]


def test_several_files_become_channels(tmp_path):
    register()
    array = volume()
    paths = [write_vaa3d(tmp_path / f"{i}.raw", part) for i, part in enumerate(array)]
    assert np.array_equal(LoadImage(ensure_channel_first=True)(paths).numpy(), array)
    write_vaa3d(paths[1], array[0, :2])
    with pytest.raises(InvalidInputError, match=r"\(4, 5, 6\) and .*1\.raw with \(2, 5, 6\)"):
        LoadImage()(paths)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a Vaa3D raw file: it begins with b''"),
        (b"not_an_image_at_all_no_no" * 3, "begins with b'not_an_image"),
        (MAGIC[:10], "truncated: 10 bytes"),
        (by_hand(volume())[:30], "truncated: 30 bytes"),
        (by_hand(volume())[:-1], r"truncated: .*\(3, 4, 5, 6\) of uint16, so 763 bytes, but the file has 762"),
        (by_hand(volume())[:40], "truncated: .*763 bytes, but the file has 40|expected sizes above 0"),
        (by_hand(volume(), sizes="4h")[:-1], "truncated: .*35 bytes.*so 755 bytes, but the file has 754"),
        (by_hand(volume()) + b"x", "too long: .*763 bytes, but the file has 764"),
        (by_hand(volume()).replace(b"hpengL", b"hpengX"), "byte order is b'X'"),
        (by_hand(volume(), code=3), "data type is 3; expected 1"),
        (by_hand(volume(), order=">", code=8), "data type is 8"),
        (MAGIC + b"L" + struct.pack("<h4i", 1, 5, 0, 5, 1), "expected sizes above 0"),
        (MAGIC + b"L" + struct.pack("<h4i", 1, -5, 5, 5, 1), "expected sizes above 0"),
    ],
)
def test_bad_files(tmp_path, content, match):
    path = tmp_path / "bad.raw"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=rf"bad\.raw.*({match})"):
        read_vaa3d(path)


def test_bad_paths_and_channels(tmp_path):
    register()
    with pytest.raises(MissingDataError, match=r"none\.raw does not exist"):
        LoadImage()(tmp_path / "none.raw")
    with pytest.raises(InvalidInputError, match="is a folder"):
        read_vaa3d(tmp_path)
    path = write_vaa3d(tmp_path / "a.raw", volume())
    for channel in (3, -1, True, 1.0):
        with pytest.raises(InvalidInputError, match="channels 0 to 2; asked for channel="):
            read_vaa3d(path, channel)
    with pytest.raises(InvalidInputError, match="no options, got"):
        Vaa3DRawReader().read(path, mode="r")


@pytest.mark.parametrize(
    ("array", "options", "match"),
    [
        (np.zeros((2, 2), np.uint8), {}, r"shape \(2, 2\)"),
        (np.zeros((0, 2, 2), np.uint8), {}, "no axis empty"),
        (np.zeros((2, 2, 2)), {}, "dtype float64"),
        (np.zeros((2, 2, 2), np.int16), {}, "dtype int16"),
        (np.zeros((2, 2, 2), np.uint8), {"byte_order": "middle"}, "byte_order='middle'"),
        (np.zeros((2, 2, 2), np.uint8), {"size_bytes": 8}, "size_bytes=8"),
        (np.zeros((1, 1, 40000), np.uint8), {"size_bytes": 2}, "40000 does not fit in 2 bytes"),
    ],
)
def test_bad_writes_leave_the_old_file(tmp_path, array, options, match):
    path = write_vaa3d(tmp_path / "a.raw", volume())
    with pytest.raises(InvalidInputError, match=match):
        write_vaa3d(path, array, **options)
    assert np.array_equal(read_vaa3d(path), volume())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(position=st.integers(0, 42), value=st.integers(0, 255), cut=st.integers(0, 60), garbage=st.binary(max_size=60))
def test_damaged_headers_are_refused_or_read(tmp_path_factory, position, value, cut, garbage):
    path = tmp_path_factory.getbasetemp() / "fuzz.raw"
    content = bytearray(by_hand(volume(np.uint8, (1, 2, 2, 3))))
    content[position] = value
    for data in (bytes(content), bytes(content[:cut]), MAGIC + garbage):
        path.write_bytes(data)
        with contextlib.suppress(InvalidInputError):
            assert read_vaa3d(path).nbytes in (len(data) - 43, len(data) - 35)
