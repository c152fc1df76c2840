import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import h5py
import numcodecs
import numpy as np
import pytest
import torch
import zarr
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, LoadImage, LoadImaged

from voxel_ext.data import HDF5Reader, ZarrReader, container
from voxel_ext.errors import InvalidInputError, MissingDataError

NUCLEI = Path(__file__).parents[2].parent / "shared" / "data" / "nuclei" / "1135_mini.h5"
SIZE = (0.5, 0.25, 0.125)


@pytest.fixture
def stack():
    return np.random.default_rng(0).integers(0, 1000, (4, 5, 6, 7)).astype(np.uint16)


@pytest.fixture(params=["h5", "zarr"])
def store(request, tmp_path, stack):
    """A file with a volume, a stack, an image, a table and text."""
    path = tmp_path / f"vols.{request.param}"
    if request.param == "h5":
        with h5py.File(path, "w") as root:
            root.create_dataset("group/raw", data=stack[0]).attrs["element_size_um"] = SIZE
            root.create_dataset("data", data=stack, chunks=(1, 5, 6, 7)).attrs["element_size_um"] = SIZE
            root["image"] = stack[0, 0]
            root["table"] = stack[0, 0, 0]
            root["text"] = "hello"
            root["words"] = np.array(["a", "b"], dtype=object)
            root["empty"] = np.zeros((0, 3, 3))
            root["big_endian"] = stack[0].astype(">u2")
    else:
        root = zarr.open_group(path, mode="w")
        root.create_array("group/raw", data=stack[0]).attrs["element_size_um"] = SIZE
        root.create_array("data", data=stack, chunks=(1, 5, 6, 7)).attrs["element_size_um"] = SIZE
        root.create_array("image", data=stack[0, 0])
        root.create_array("table", data=stack[0, 0, 0])
        root.create_array("words", shape=(2,), dtype=str)[:] = np.array(["a", "b"])
        root.create_array("empty", shape=(0, 3, 3), dtype=float)
        root.create_array("big_endian", data=stack[0].astype(">u2"))
    return path


def reader_of(path):
    return (HDF5Reader if path.suffix == ".h5" else ZarrReader)()


def load(path, address="", **options):
    return LoadImage(ensure_channel_first=True, **options)(f"{path}{address}")


@pytest.mark.parametrize(
    ("address", "index", "shift"),
    [("/data[3]", np.s_[3], 0), ("/group/raw", np.s_[0], 0), ("/group/raw[2:4]", np.s_[0, 2:4], 1.0)],
)
def test_volume(store, stack, address, index, shift):
    image = load(store, address)
    expected = stack[index][None]
    assert image.shape == expected.shape
    assert image.dtype == torch.float32
    assert np.array_equal(image.numpy(), expected)
    assert np.allclose(image.affine, [[0.5, 0, 0, shift], [0, 0.25, 0, 0], [0, 0, 0.125, 0], [0, 0, 0, 1]])
    assert image.meta["filename_or_obj"] == f"{store}{address}"
    assert list(image.meta["spatial_shape"]) == list(expected.shape[1:])


def test_image_in_two_dimensions(store, stack):
    image = load(store, "/image")
    assert np.array_equal(image.numpy(), stack[0, 0][None])
    assert np.allclose(image.affine, np.eye(3))


def test_slices_of_a_volume_keep_their_own_voxel_size(store, stack):
    image = load(store, "/group/raw[3]")
    assert np.array_equal(image.numpy(), stack[0, 3][None])
    assert image.pixdim.tolist() == [0.25, 0.125]


@pytest.mark.parametrize("channel_dim", [0, -1])
def test_channels(store, stack, channel_dim):
    image = load(store, "/data", channel_dim=channel_dim)
    expected = np.moveaxis(stack, channel_dim, 0)
    assert np.array_equal(image.numpy(), expected)
    assert list(image.meta["spatial_shape"]) == list(expected.shape[1:])
    assert np.allclose(image.affine, np.diag([*SIZE, 1]))


def test_several_addresses_become_channels(store, stack):
    image = LoadImage(ensure_channel_first=True)([f"{store}/data[{i}]" for i in (2, 0)])
    assert np.array_equal(image.numpy(), stack[[2, 0]])
    with pytest.raises(InvalidInputError, match=r"data\[0\] with shape \(5, 6, 7\) and .*image with shape \(6, 7\)"):
        LoadImage()([f"{store}/data[0]", f"{store}/image"])


def test_channels_of_several_addresses_are_joined(store, stack):
    image = LoadImage(ensure_channel_first=True, channel_dim=0)([f"{store}/data[0:1]", f"{store}/data[0:1]"])
    assert np.array_equal(image.numpy(), stack[[0, 0]])


def test_key_candidates(store, stack):
    assert np.array_equal(load(store, "", key=["nope", "group/raw"]).numpy(), stack[0][None])
    assert np.array_equal(load(store, "[1]", key="data").numpy(), stack[1][None])
    assert np.array_equal(load(store, "/group", key="raw").numpy(), stack[0][None])
    with pytest.raises(
        MissingDataError, match=r"none of the datasets \['nope'\]; it has: .*data \(4, 5, 6, 7\) uint16"
    ):
        load(store, key="nope")


def test_sole_suitable_dataset(store, stack):
    assert np.array_equal(load(store, "/group").numpy(), stack[0][None])
    with pytest.raises(InvalidInputError, match=r"4 datasets could be meant.*key.*group/raw \(5, 6, 7\) uint16"):
        load(store)


def test_byte_order_and_original_data_type(store, stack):
    array, _ = reader_of(store).get_data(reader_of(store).read(f"{store}/big_endian"))
    assert array.dtype == np.dtype("=u2")
    assert np.array_equal(array, stack[0])
    assert np.array_equal(load(store, "/big_endian").numpy(), stack[0][None])


def test_only_the_selected_part_is_read(store, stack, monkeypatch):
    asked = []

    class Watched:
        def __init__(self, array):
            self.array = array

        def __getattr__(self, name):
            return getattr(self.array, name)

        def __getitem__(self, index):
            asked.append(index)
            return self.array[index]

    original = container.find_array
    monkeypatch.setattr("voxel_ext.data.readers.find_array", lambda *args: Watched(original(*args)))
    load(store, "/data[3]")
    load(store, "/group/raw[1:3]")
    assert asked == [3, slice(1, 3)]


@pytest.mark.parametrize("reader", [None, "given"])
@pytest.mark.parametrize(
    ("address", "error", "match"),
    [
        ("/nope", MissingDataError, r"no dataset 'nope'; it has: .*image \(6, 7\) uint16"),
        ("/image/x", MissingDataError, r"no dataset 'image/x'"),
        ("/data[4]", InvalidInputError, r"data\[4\].*outside.*length 4 "),
        ("/data[2:5]", InvalidInputError, r"data\[2:5\].*outside.*length 4 "),
        ("/data", InvalidInputError, r"shape \(4, 5, 6, 7\); expected 2 or 3 spatial axes.*channel_dim"),
        ("/table", InvalidInputError, r"shape \(7,\); expected 2 or 3"),
        ("/words", InvalidInputError, r"words has data type .*; expected integers"),
        ("/empty", InvalidInputError, r"is empty: its shape is \(0, 3, 3\)"),
    ],
)
def test_wrong_address(store, address, error, match, reader):
    if reader:
        reader = "HDF5Reader" if store.suffix == ".h5" else "ZarrReader"
    with pytest.raises(error, match=match):
        load(store, address, reader=reader)


@pytest.mark.parametrize("reader", [None, "given"])
@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
def test_missing_file(tmp_path, suffix, reader):
    if reader:
        reader = "HDF5Reader" if suffix == ".h5" else "ZarrReader"
    with pytest.raises(MissingDataError, match=rf"no{suffix} does not exist"):
        LoadImage(reader=reader)(tmp_path / f"no{suffix}" / "raw")


@pytest.mark.parametrize("keep", [0, 10, 600, -1])
def test_truncated_hdf5(tmp_path, stack, keep):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as root:
        root["raw"] = stack
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InvalidInputError, match=r"a\.h5 cannot be opened: truncated, or not an HDF5 file"):
        LoadImage()(f"{path}/raw[0]")


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89PNG\r\n\x1a\n" * 100])
def test_foreign_hdf5(tmp_path, content):
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(InvalidInputError, match="not an HDF5 file"):
        LoadImage()(tmp_path / "a.h5")
    (tmp_path / "b.h5").mkdir()
    with pytest.raises(InvalidInputError, match=r"b\.h5 is a folder"):
        LoadImage()(tmp_path / "b.h5")


def test_damaged_chunk(tmp_path, stack):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as root:
        chunk = root.create_dataset("raw", data=stack[0], chunks=True, compression="gzip").id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"a\.h5/raw cannot be read, the file is damaged"):
        LoadImage()(f"{path}/raw")


def test_damaged_zarr(tmp_path, stack):
    path = tmp_path / "a.zarr"
    path.mkdir()
    with pytest.raises(InvalidInputError, match=r"a\.zarr is not a zarr store"):
        LoadImage()(path)
    (path / "zarr.json").write_text('{"zarr_form')
    with pytest.raises(InvalidInputError, match="metadata are damaged"):
        LoadImage()(path)
    (tmp_path / "file.zarr").write_text("x")
    with pytest.raises(InvalidInputError, match=r"file\.zarr is a file"):
        LoadImage()(tmp_path / "file.zarr")
    zarr.open_group(path, mode="w").create_array("raw", data=stack[0], chunks=stack[0].shape)
    (chunk,) = (p for p in path.rglob("*") if p.is_file() and "c" in p.relative_to(path).parts)
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(InvalidInputError, match="raw cannot be read, the file is damaged"):
        LoadImage()(f"{path}/raw")


@pytest.mark.parametrize("codec", [numcodecs.Zlib(), numcodecs.GZip(), numcodecs.BZ2(), numcodecs.Zstd()])
@pytest.mark.parametrize("keep", [0, 2, 60])
def test_truncated_chunk(tmp_path, stack, codec, keep):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    root.create_array("raw", data=stack[0], chunks=stack[0].shape, compressors=codec)
    chunk = tmp_path / "a.zarr" / "raw" / "0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:keep])
    with pytest.raises(InvalidInputError, match="raw cannot be read, the file is damaged"):
        LoadImage()(tmp_path / "a.zarr" / "raw")


def ome(version, scale, unit="micrometer", extra=None):
    axes = [{"name": n, "type": "space", "unit": unit} for n in "zyx"]
    levels = [{"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": scale}]} for i in range(2)]
    levels[1]["coordinateTransformations"][0] = {"type": "scale", "scale": [2 * s for s in scale]}
    image = {"axes": axes, "datasets": levels, "version": version} | (extra or {})
    return {"multiscales": [image]} if version == "0.4" else {"ome": {"version": version, "multiscales": [image]}}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("group", ["", "/image"])
def test_ome_zarr(tmp_path, stack, version, group):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
    holder = root.create_group("image") if group else root
    holder.attrs.update(ome(version, [500, 250, 125], "nanometer"))
    holder.create_array("0", data=stack[0])
    holder.create_array("1", data=stack[0, ::2, ::2, ::2])
    base = load(tmp_path / "a.zarr", group)
    assert np.array_equal(base.numpy(), stack[0][None])
    assert base.pixdim.tolist() == [0.5, 0.25, 0.125]
    coarse = load(tmp_path / "a.zarr", f"{group}/1")
    assert np.array_equal(coarse.numpy(), stack[0, ::2, ::2, ::2][None])
    assert coarse.pixdim.tolist() == [1.0, 0.5, 0.25]


def test_ome_zarr_with_channels_and_common_scale(tmp_path, stack):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    root.create_array("0", data=stack)
    common = {"coordinateTransformations": [{"type": "scale", "scale": [1, 2, 2, 2]}]}
    attributes = ome("0.5", [1, *SIZE], extra=common)
    attributes["ome"]["multiscales"][0]["axes"].insert(0, {"name": "c", "type": "channel"})
    root.attrs.update(attributes)
    assert load(tmp_path / "a.zarr", channel_dim=0).pixdim.tolist() == [1.0, 0.5, 0.25]
    assert load(tmp_path / "a.zarr", "/0[1]").pixdim.tolist() == [1.0, 0.5, 0.25]


def test_store_that_is_one_array(tmp_path, stack):
    zarr.create_array(tmp_path / "a.zarr", data=stack)
    assert np.array_equal(load(tmp_path / "a.zarr", "[2]").numpy(), stack[2][None])
    with pytest.raises(MissingDataError, match=r"no dataset 'raw'; it has: \(the store itself\) \(4, 5, 6, 7\)"):
        load(tmp_path / "a.zarr", "/raw")


@pytest.mark.parametrize("size", [(0, 1, 1), (np.nan, 1, 1), (-1, 1, 1)])
def test_impossible_voxel_size_is_ignored_with_a_warning(tmp_path, stack, size, caplog):
    with h5py.File(tmp_path / "a.h5", "w") as root:
        root.create_dataset("raw", data=stack[0]).attrs["element_size_um"] = size
    assert load(tmp_path / "a.h5").pixdim.tolist() == [1, 1, 1]
    assert "ignoring the voxel size" in caplog.text


@pytest.mark.parametrize(
    "size", [0.5, "0.5, 0.5, 0.5", b"x", (0.5, 0.5), (1, 1, 0.5, 0.5), [[1, 1, 1]], ["a", "b", "c"]]
)
def test_malformed_voxel_size(store, size):
    with h5py.File(store, "r+") if store.suffix == ".h5" else nullcontext(zarr.open_group(store, mode="r+")) as root:
        root["group/raw"].attrs["element_size_um"] = size.decode() if store.suffix == ".zarr" and size == b"x" else size
    with pytest.raises(
        InvalidInputError, match=r"vols\..*/group/raw has (malformed metadata|3 axes, .* the voxel size)"
    ):
        load(store, "/group/raw")


def test_voxel_size_of_all_axes_or_of_the_spatial_ones(tmp_path, stack):
    with h5py.File(tmp_path / "a.h5", "w") as root:
        for name, size in {"all": (9, *SIZE), "spatial": SIZE}.items():
            root.create_dataset(name, data=stack).attrs["element_size_um"] = size
    for name in ("all", "spatial"):
        assert load(tmp_path / "a.h5", f"/{name}[1]").pixdim.tolist() == list(SIZE)
        assert load(tmp_path / "a.h5", f"/{name}", channel_dim=0).pixdim.tolist() == list(SIZE)


@pytest.mark.parametrize(
    "change",
    [
        {"axes": [{"name": "y"}, {"name": "x"}]},
        {"axes": "zyx"[:2]},
        {"axes": [{"name": n, "unit": ["nanometer"]} for n in "zyx"]},
        {"datasets": None},
        {"datasets": {"path": "0"}},
        {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": "x"}]}]},
        {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": ["a", 1, 1]}]}]},
        {"datasets": [{"path": "0", "coordinateTransformations": ["scale"]}]},
        {"coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]},
        {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}], "axes": []},
    ],
)
def test_malformed_ome_zarr(tmp_path, stack, change):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    root.attrs.update(ome("0.5", SIZE, extra=change))
    root.create_array("0", data=stack[0])
    with pytest.raises(InvalidInputError, match=r"a\.zarr/0 has (malformed metadata|3 axes, .* the voxel size)"):
        load(tmp_path / "a.zarr", "/0")


def test_reader_chosen_by_name_and_suffix(store, tmp_path):
    reader = reader_of(store)
    assert reader.verify_suffix(f"{store}/data[3]")
    assert not reader.verify_suffix([f"{store}/data[3]", "a.nii.gz"])
    with pytest.raises(InvalidInputError, match=r"a\.nii: .*Reader reads files that end with"):
        reader.read("a.nii")
    for name in (type(reader).__name__, f"voxel_ext.data.{type(reader).__name__}"):
        assert LoadImage(reader=name)(f"{store}/data[3]").shape == (5, 6, 7)
    np.save(tmp_path / "plain.npy", np.ones((2, 3, 4)))
    assert LoadImage(reader=type(reader).__name__)(tmp_path / "plain.npy").shape == (2, 3, 4)


def test_user_of_a_transform_sees_the_message(store):
    with pytest.raises(RuntimeError, match="LoadImaged") as caught:
        Compose([LoadImaged("image")])({"image": f"{store}/nope"})
    assert "no dataset 'nope'; it has: " in str(caught.value.__cause__)


def test_in_worker_processes(store, stack):
    items = [{"image": f"{store}/data[{i}]"} for i in range(4)]
    loader = DataLoader(Dataset(items, LoadImaged("image", ensure_channel_first=True)), batch_size=2, num_workers=2)
    assert np.array_equal(torch.cat([batch["image"] for batch in loader]).numpy(), stack[:, None])


def test_many_opened_files_are_closed(store):
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    for i in range(8):
        load(store, f"/data[{i % 4}]")
    shutil.move(store, store.with_name("moved" + store.suffix))
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) <= before + 1


@pytest.mark.skipif(not NUCLEI.is_file(), reason="the real data set is not beside this checkout")
def test_real_volume():
    with h5py.File(NUCLEI) as root:
        raw, label = root["raw"][()], root["label"][()]
    item = LoadImaged(["image", "label"], ensure_channel_first=True)(
        {"image": f"{NUCLEI}/raw[0:80]", "label": f"{NUCLEI}/label[0:80]"}
    )
    assert np.array_equal(item["image"].numpy(), raw[None, :80])
    assert np.array_equal(item["label"].numpy(), label[None, :80])
    assert np.allclose(item["image"].pixdim, [0.2837, 0.1268, 0.1268], atol=1e-4)
    with pytest.raises(InvalidInputError, match=r"label \(100, 100, 100\) uint8; raw \(100, 100, 100\) uint8"):
        LoadImage()(NUCLEI)
