import errno
import functools
import multiprocessing
import os
import resource
import signal

import h5py
import numpy as np
import pytest
import torch
import zarr
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImage, LoadImaged, SaveImage

from voxel_ext.data import HDF5Writer, SaveVolume, SaveVolumed, ZarrWriter, volume_name
from voxel_ext.errors import InvalidInputError

SUFFIXES = [".h5", ".hdf5", ".zarr"]
AFFINE = np.array([[0.5, 0, 0, 3], [0, 0.25, 0, 4], [0, 0, 0.125, 5], [0, 0, 0, 1]])


def image_of(shape, dtype=torch.int32, highest=200, affine=None):
    data = torch.randint(0, highest, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    meta = {"filename_or_obj": "in/vol.h5/raw", "spatial_shape": shape[1:]}
    if affine is not None:
        meta["unit"] = "micrometer"
    return MetaTensor(data, affine=np.eye(len(shape)) if affine is None else affine, meta=meta)


def saver(folder, suffix, **options):
    options = {"output_dtype": np.uint8, "print_log": False, "separate_folder": False, **options}
    return SaveVolume(folder, "seg", suffix, output_name_formatter=volume_name, **options)


def writer_of(suffix):
    return ZarrWriter if suffix == ".zarr" else HDF5Writer


def stored(path, key="segmentation"):
    if path.suffix == ".zarr":
        return zarr.open_group(path, mode="r")[key][()]
    with h5py.File(path) as root:
        return root[key][()]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "shape", [(1, 5, 6, 7), (3, 5, 6, 7), (1, 6, 7), (3, 6, 7), (1, 5, 6, 1), (1, 1, 6, 1), (1, 1, 1)]
)
def test_round_trip_keeps_axes_and_values(tmp_path, suffix, shape):
    image = image_of(shape)
    saver(tmp_path, suffix)(image)
    expected = image.numpy()[0] if shape[0] == 1 else image.numpy()
    array = stored(tmp_path / f"vol_seg{suffix}")
    assert array.dtype == np.uint8
    assert np.array_equal(array, expected)
    again = LoadImage(ensure_channel_first=True, channel_dim=0 if shape[0] > 1 else None)(tmp_path / f"vol_seg{suffix}")
    assert np.array_equal(again.numpy(), image.numpy())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("channels", [1, 2])
def test_voxel_size(tmp_path, suffix, channels):
    saver(tmp_path, suffix)(image_of((channels, 5, 6, 7), affine=AFFINE))
    again = LoadImage(channel_dim=0 if channels > 1 else None)(tmp_path / f"vol_seg{suffix}")
    assert again.pixdim.tolist() == [0.5, 0.25, 0.125]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("given", [True, False])
def test_only_a_voxel_size_of_the_source_is_written(tmp_path, suffix, given):
    with h5py.File(tmp_path / "vol.h5", "w") as root:
        root["raw"] = np.ones((5, 6, 7), np.uint8)
        if given:
            root["raw"].attrs["element_size_um"] = (0.5, 0.25, 0.125)
    image = LoadImage(ensure_channel_first=True)(tmp_path / "vol.h5")
    assert image.meta["unit"] == ("micrometer" if given else "")
    saver(tmp_path, suffix)(image)
    if suffix == ".zarr":
        assert ("ome" in zarr.open_group(tmp_path / "vol_seg.zarr", mode="r").attrs) == given
    else:
        with h5py.File(tmp_path / f"vol_seg{suffix}") as root:
            assert ("element_size_um" in root["segmentation"].attrs) == given


def test_layout_of_hdf5(tmp_path):
    saver(tmp_path, ".h5")(image_of((2, 70, 6, 80), affine=AFFINE))
    with h5py.File(tmp_path / "vol_seg.h5") as root:
        assert list(root) == ["segmentation"]
        dataset = root["segmentation"]
        assert dataset.chunks == (1, 64, 6, 64)
        assert (dataset.compression, dataset.compression_opts) == ("gzip", 1)
        assert dataset.attrs["element_size_um"].tolist() == [0.5, 0.25, 0.125]


def test_layout_of_zarr_is_ome(tmp_path):
    saver(tmp_path, ".zarr")(image_of((2, 70, 6, 80), affine=AFFINE))
    group = zarr.open_group(tmp_path / "vol_seg.zarr", mode="r")
    assert group["segmentation"].chunks == (1, 64, 6, 64)
    image = group.attrs["ome"]["multiscales"][0]
    assert [axis["name"] for axis in image["axes"]] == ["c", "z", "y", "x"]
    assert image["datasets"] == [
        {"path": "segmentation", "coordinateTransformations": [{"type": "scale", "scale": [1, 0.5, 0.25, 0.125]}]}
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_dataset_name_and_writer_by_name(tmp_path, suffix):
    writer = functools.partial(writer_of(suffix), key="deep/probabilities")
    saver(tmp_path, suffix, writer=writer)(image_of((1, 5, 6, 7)))
    assert stored(tmp_path / f"vol_seg{suffix}", "deep/probabilities").shape == (5, 6, 7)
    saver(tmp_path, suffix, writer=f"voxel_ext.data.{writer_of(suffix).__name__}")(image_of((1, 5, 6, 7)))
    assert stored(tmp_path / f"vol_seg{suffix}").shape == (5, 6, 7)


@pytest.mark.parametrize("dtype", [np.uint8, "uint16", torch.int32, np.float16, None])
def test_data_types(tmp_path, dtype):
    image = image_of((1, 5, 6, 7), torch.float32)
    saver(tmp_path, ".h5", output_dtype=dtype)(image)
    expected = np.dtype(
        "float32" if dtype is None else str(dtype).removeprefix("torch.") if dtype is torch.int32 else dtype
    )
    array = stored(tmp_path / "vol_seg.h5")
    assert array.dtype == expected
    assert np.array_equal(array, image.numpy()[0])


@pytest.mark.parametrize("value", [256.0, -1.0, float("nan"), float("inf")])
def test_values_that_do_not_fit(tmp_path, value):
    image = image_of((1, 5, 6, 7), torch.float32)
    image[0, 1, 2, 3] = value
    with pytest.raises(InvalidInputError, match="do not fit into output_dtype uint8"):
        saver(tmp_path, ".h5")(image)
    assert os.listdir(tmp_path) == []


def test_scale(tmp_path):
    image = MetaTensor(torch.tensor([[[-1.0, 0.0], [0.5, 2.0]]]))
    for scale, dtype in ((255, np.uint8), (65535, np.uint16)):
        writer = HDF5Writer(dtype, scale)
        writer.set_data_array(image)
        writer.set_metadata(image.meta)
        writer.write(tmp_path / "a.h5")
        assert stored(tmp_path / "a.h5").tolist() == [[0, 0], [round(scale / 2), scale]]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("spatial", [(4, 6, 8), (6, 8)])
def test_resample_to_the_original_grid(tmp_path, suffix, channels, spatial):
    rank = len(spatial)
    image = image_of((channels, *spatial))
    doubled = image.clone()
    for axis in range(1, rank + 1):
        doubled = doubled.repeat_interleave(2, axis)
    fine = np.diag([0.5] * rank + [1.0])
    fine[:rank, -1] = -0.25  # centers of the halves of a voxel
    meta = {"filename_or_obj": "vol.h5", "original_affine": np.eye(rank + 1), "spatial_shape": spatial}
    saver(tmp_path, suffix, resample=True)(MetaTensor(doubled.as_tensor(), affine=fine, meta=dict(meta)))
    assert np.array_equal(stored(tmp_path / f"vol_seg{suffix}").reshape(image.shape), image.numpy())
    saver(tmp_path, suffix, resample=False)(MetaTensor(doubled.as_tensor(), affine=fine, meta=dict(meta)))
    assert np.array_equal(stored(tmp_path / f"vol_seg{suffix}").reshape(doubled.shape), doubled.numpy())


def test_load_then_save_dictionary(tmp_path):
    with h5py.File(tmp_path / "vols.h5", "w") as root:
        root["data"] = np.random.default_rng(0).integers(0, 9, (3, 4, 5, 6))
    item = LoadImaged("image", ensure_channel_first=True)({"image": f"{tmp_path}/vols.h5/data[2]"})
    SaveVolumed(
        "image", output_dir=tmp_path / "out", output_ext=".h5", output_postfix="seg", output_dtype=np.uint8,
        output_name_formatter=volume_name, print_log=False,
    )(item)  # fmt: skip
    assert np.array_equal(stored(tmp_path / "out" / "vols_0002" / "vols_0002_seg.h5")[None], item["image"].numpy())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk_keeps_the_previous_file(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a{suffix}"
    writer = writer_of(suffix)()
    writer.set_data_array(np.ones((1, 4, 4, 4), np.uint8))
    writer.write(path)

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr.Group, "create_array", full)
    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    writer.set_data_array(np.zeros((1, 4, 4, 4), np.uint8))
    with pytest.raises(OSError, match=rf"cannot write .*a{suffix}: the disk is full"):
        writer.write(path)
    assert stored(path).all()
    assert os.listdir(tmp_path) == [path.name]


def write_under_a_limit(path, report):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    writer = writer_of(path.suffix)()
    writer.set_data_array(np.random.default_rng(0).integers(0, 255, (1, 90, 90, 90), np.uint8))
    try:
        writer.write(path)
    except OSError as error:
        report.put(str(error))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_write_that_the_system_refuses_in_the_middle(tmp_path, suffix):
    """A real failing write, as on a full disk: HDF5 alone would bring the interpreter down here."""
    path = tmp_path / f"a{suffix}"
    writer = writer_of(suffix)()
    writer.set_data_array(np.ones((1, 4, 4, 4), np.uint8))
    writer.write(path)
    fork = multiprocessing.get_context("fork")
    report = fork.SimpleQueue()
    process = fork.Process(target=write_under_a_limit, args=(path, report))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert f"cannot write {path}: the file became larger than the system allows" in report.get()
    assert stored(path).shape == (4, 4, 4)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_not_writable(tmp_path, suffix):
    (tmp_path / "file").write_text("x")
    writer = writer_of(suffix)()
    writer.set_data_array(np.ones((1, 4, 4, 4)))
    with pytest.raises(OSError, match=r"cannot write .*: a part of the path is a file"):
        writer.write(tmp_path / "file" / f"a{suffix}")
    with pytest.raises(OSError, match=r"Not a directory: .*file"):
        saver(tmp_path / "file" / "sub", suffix)(image_of((1, 4, 4, 4)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk_while_saving(tmp_path, suffix, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    item = {"pred": image_of((1, 4, 4, 4))}
    save = SaveVolumed(
        "pred", output_dir=tmp_path, output_ext=suffix, output_postfix="seg", print_log=False,
        output_name_formatter=volume_name, separate_folder=False,
    )  # fmt: skip
    save(item)
    with monkeypatch.context() as patched:
        patched.setattr(zarr.Group, "create_array", full)
        patched.setattr(h5py.Group, "create_dataset", full)
        with pytest.raises(
            OSError, match=rf"^\[Errno 28\] cannot write .*vol_seg\{suffix}: the disk is full"
        ) as caught:
            save(item)
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(RuntimeError, match="SaveVolumed") as caught:
            Compose([save])(item)
        assert str(caught.value.__cause__).startswith("[Errno 28] cannot write")
    save(item)
    assert np.array_equal(stored(tmp_path / f"vol_seg{suffix}")[None], item["pred"].numpy())


def test_saving_reports_other_errors_as_monai_does(tmp_path):
    class Broken(HDF5Writer):
        def write(self, *_args, **_options):
            raise KeyError("inside")

    with pytest.raises(RuntimeError, match=r"(?s)SaveVolume cannot find a suitable writer .*inside"):
        saver(tmp_path, ".h5", writer=Broken)(image_of((1, 4, 4, 4)))
    for missing in ({}, {"other": 1}):
        with pytest.raises(KeyError, match="pred"):
            SaveVolumed("pred", output_dir=tmp_path)(missing)
        assert SaveVolumed("pred", output_dir=tmp_path, allow_missing_keys=True)(missing) == missing


def test_saving_in_monai_works_too(tmp_path):
    SaveImage(tmp_path, "seg", ".h5", output_name_formatter=volume_name, separate_folder=False, print_log=False)(
        image_of((1, 4, 4, 4))
    )
    assert np.array_equal(stored(tmp_path / "vol_seg.h5")[None], image_of((1, 4, 4, 4)).numpy())


@pytest.mark.parametrize(
    ("data", "channel_dim"), [(np.ones(4), None), (np.ones((2, 3, 4, 5, 6)), 0), (np.ones((1, 0, 4, 4)), 0)]
)
def test_not_a_volume(data, channel_dim):
    with pytest.raises(InvalidInputError, match="is not a volume; expected"):
        HDF5Writer().set_data_array(data, channel_dim)


def test_wrong_options(tmp_path):
    with pytest.raises(InvalidInputError, match="scale=7; expected None, 255 or 65535"):
        HDF5Writer(scale=7)
    with pytest.raises(InvalidInputError, match="key is empty"):
        ZarrWriter(key="/")
    writer = HDF5Writer()
    writer.set_data_array(np.ones((1, 4, 4)))
    with pytest.raises(InvalidInputError, match=r"a\.zarr: HDF5Writer writes \.h5"):
        writer.write(tmp_path / "a.zarr")


def test_formats_of_monai_still_work(tmp_path):
    saver(tmp_path, ".nii.gz")(image_of((1, 4, 5, 6)))
    assert np.array_equal(
        LoadImage(ensure_channel_first=True)(tmp_path / "vol_seg.nii.gz").numpy(), image_of((1, 4, 5, 6))
    )
