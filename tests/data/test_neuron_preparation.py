import json

import h5py
import itk
import nibabel
import numpy as np
import pytest
import zarr
from monai.transforms import LoadImaged
from skimage.io import imsave

from voxel_ext.data import list_volumes
from voxel_ext.data.neuron_preparation import prepare_neurons
from voxel_ext.data.neuron_sources import Volume, list_pairs, load_zyx
from voxel_ext.data.neuron_volume import NeuronSettings, label_arrays, prepare_volume, reduce_signal_to_noise, resample
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.transforms.label.instance_gaps import instances_to_sparse_labels
from voxel_ext.transforms.label.sparse_labels import sparse_label_weights

SHAPE = (5, 6, 8)


def volumes(seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(100, 200, SHAPE).astype(np.uint16)
    labels = rng.integers(0, 4, SHAPE).astype(np.uint8)
    return image, labels


def write(path, array, spacing=(1.0, 2.0, 3.0)):
    """Write (z, y, x) in the format of the suffix; spacing (x, y, z)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = str(path)
    if name.endswith((".nii", ".nii.gz")):
        image = nibabel.Nifti1Image(array.T, np.diag([*spacing, 1.0]))
        image.header.set_xyzt_units("micron")
        nibabel.save(image, name)
    elif name.endswith(".tif"):
        imsave(name, array, check_contrast=False)
    elif name.endswith(".h5"):
        with h5py.File(name, "w") as file:
            file["raw"] = array
            file["raw"].attrs["element_size_um"] = spacing[::-1]
    elif name.endswith(".zarr"):
        made = zarr.open_group(name, mode="w").create_array("raw", data=array)
        made.attrs["element_size_um"] = spacing[::-1]
    else:
        image = itk.image_from_array(array)
        image.SetSpacing(spacing)
        itk.imwrite(image, name)


def write_pair(folder, name="a", seed=0, suffix=".nrrd"):
    image, labels = volumes(seed)
    write(folder / f"{name}_img.mhd", image)
    write(folder / f"{name}_label{suffix}", labels)
    return image, labels


@pytest.mark.parametrize("suffix", [".mhd", ".mha", ".nrrd", ".nii", ".nii.gz", ".tif", ".h5", ".zarr"])
def test_every_format_is_loaded_as_zyx(tmp_path, suffix):
    image, _ = volumes()
    write(tmp_path / f"a{suffix}", image)
    volume = load_zyx(tmp_path / f"a{suffix}", ("raw",))
    np.testing.assert_array_equal(volume.array, image)
    if suffix != ".tif":
        np.testing.assert_allclose(volume.voxel_size, (3, 2, 1), rtol=1e-5)


def test_zarr_stores_have_the_same_content(tmp_path):
    write_pair(tmp_path / "in")
    prepare_neurons(tmp_path / "in", tmp_path / "hdf5", progress=False)
    report = prepare_neurons(tmp_path / "in", tmp_path / "zarr", file_format="zarr", progress=False)
    assert report.made == ["a.zarr"]
    store = zarr.open_group(tmp_path / "zarr" / "a.zarr", mode="r")
    with h5py.File(tmp_path / "hdf5" / "a.h5") as file:
        assert sorted(store) == sorted(file)
        assert store.attrs["settings"] == file.attrs["settings"]
        for name in file:
            np.testing.assert_array_equal(store[name][...], file[name])
            assert store[name].attrs["element_size_um"] == [3, 2, 1]
    (entry,) = list_volumes(tmp_path / "zarr", weight_key="weight")
    assert LoadImaged(["image", "label", "weight"])(entry)["weight"].shape == SHAPE
    again = prepare_neurons(tmp_path / "in", tmp_path / "zarr", file_format="zarr", progress=False)
    assert (again.made, again.kept) == ([], ["a.zarr"])
    with pytest.raises(InvalidInputError, match=r"another format than file_format='h5': .*a\.zarr"):
        prepare_neurons(tmp_path / "in", tmp_path / "zarr", progress=False)
    with pytest.raises(InvalidInputError, match=r"made with other settings: .*weight_gap"):
        prepare_neurons(tmp_path / "in", tmp_path / "zarr", file_format="zarr", weight_gap=3.0, progress=False)
    with pytest.raises(InvalidInputError, match="file_format"):
        prepare_neurons(tmp_path / "in", tmp_path / "zarr", file_format="n5", progress=False)


def test_arrays_are_those_of_the_definition(tmp_path):
    image, labels = write_pair(tmp_path / "in")
    report = prepare_neurons(tmp_path / "in", tmp_path / "out", progress=False)
    assert report.made == ["a.h5"]
    target, weight = sparse_label_weights(labels)
    with h5py.File(tmp_path / "out" / "a.h5") as file:
        assert sorted(file) == ["label", "raw", "weight"]
        for name, expected in (("raw", image), ("label", target), ("weight", weight)):
            np.testing.assert_array_equal(file[name], expected)
            assert file[name].dtype == expected.dtype
            assert file[name].attrs["element_size_um"].tolist() == [3, 2, 1]
        assert json.loads(file.attrs["settings"])["sources"]["image"][0] == "a_img.mhd"
    assert json.loads((tmp_path / "out" / "dataset.json").read_text()) == {"complete": True, "files": ["a.h5"]}


def test_prepared_files_are_listed_and_load(tmp_path):
    image, _ = write_pair(tmp_path / "in")
    prepare_neurons(tmp_path / "in", tmp_path / "out", progress=False)
    (entry,) = list_volumes(tmp_path / "out", weight_key="weight")
    loaded = LoadImaged(["image", "label", "weight"], ensure_channel_first=True)(entry)
    np.testing.assert_array_equal(loaded["image"][0], image)
    assert loaded["weight"].shape == loaded["label"].shape == (1, *SHAPE)


def test_instances(tmp_path):
    image, _ = volumes()
    ids = np.zeros(SHAPE, np.uint8)
    ids[:, :, 1:4], ids[:, :, 4:6] = 3, 9
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"], file["labels"] = image, ids
    prepare_neurons(
        tmp_path, tmp_path / "out", "instances", gap_width=1, background_distance=1, scale_gap=False, progress=False
    )
    sparse = instances_to_sparse_labels(ids, 1, 1)
    with h5py.File(tmp_path / "out" / "b.h5") as file:
        np.testing.assert_array_equal(file["instances"], ids)
        np.testing.assert_array_equal(file["weight"], sparse_label_weights(sparse, scale_gap=False)[1])
        assert (file["weight"][:, :, 7] == 0).all()
        assert (file["weight"][:, :, 3:5] == 20).all()


def test_crop_then_transpose_then_resample():
    image, labels = volumes()
    settings = NeuronSettings(
        crop=((1, 5), (0, 4), (2, 8)), transpose_xy=True, voxel_size=(1.0, 1.0, 2.0), channel=None
    )
    made, size = prepare_volume(Volume(image, (1, 2, 1), "i"), Volume(labels, None, "l"), settings)
    assert size == (1, 1, 2)
    cropped = labels[1:5, :4, 2:8].transpose(0, 2, 1)
    assert made["raw"].shape == made["label"].shape == (4, 6, 4)
    np.testing.assert_array_equal(made["label"], cropped == 1)
    np.testing.assert_array_equal(made["raw"], image[1:5, :4, 2:8].transpose(0, 2, 1))


def test_resampling():
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32), (3, 4, 8))
    finer = resample(ramp, (1, 1, 1), (1, 1, 0.5), 1)
    assert finer.shape == (3, 4, 16)
    np.testing.assert_allclose(finer[0, 0, 1:-1], np.arange(14) / 2 + 0.25, atol=1e-5)
    coarse = resample(ramp, (1, 1, 1), (1, 2, 2), 1)
    np.testing.assert_allclose(coarse[0, 0], [0.5, 2.5, 4.5, 6.5], atol=1e-5)
    ids = np.arange(4, dtype=np.uint16).reshape(1, 1, 4) * 1000
    np.testing.assert_array_equal(resample(ids, (1, 1, 1), (1, 1, 0.5), 0).ravel(), np.repeat(ids, 2))
    assert resample(ids, (1, 1, 1), (9, 9, 1), 1).shape == (1, 1, 4)


def test_signal_to_noise():
    rng = np.random.default_rng(0)
    image = (200 + 10 * rng.standard_normal((20, 40, 40))).astype(np.uint16)
    image[8:10, :9, :9] = 1200
    reduced = reduce_signal_to_noise(image, 5, 10, np.random.default_rng(1))
    assert reduced.dtype == np.uint16
    assert abs(np.median(reduced) - 200) <= 1
    assert abs(reduced[8:10, :9, :9].mean() - 400) < 5
    assert abs(reduced[10:].std() - np.hypot(10, 2)) < 0.5
    dark = reduce_signal_to_noise(np.zeros((9, 9), np.uint8), 2, 5, np.random.default_rng(1))
    assert dark.max() < 30  # clipped, not wrapped round


def test_noise_depends_on_seed_and_name(tmp_path):
    for name in ("a", "b"):
        write_pair(tmp_path / "in", name)
    made = {}
    for seed, folder in ((0, "x"), (0, "y"), (1, "z")):
        prepare_neurons(tmp_path / "in", tmp_path / folder, signal_to_noise_reduction=3, seed=seed, progress=False)
        for name in ("a", "b"):
            with h5py.File(tmp_path / folder / f"{name}.h5") as file:
                made[folder, name] = file["raw"][:]
    np.testing.assert_array_equal(made["x", "a"], made["y", "a"])
    assert (made["x", "a"] != made["x", "b"]).any()
    assert (made["x", "a"] != made["z", "a"]).any()


def test_a_run_is_continued_and_other_settings_are_refused(tmp_path):
    for name in ("a", "b"):
        write_pair(tmp_path / "in", name)
    prepare_neurons(tmp_path / "in", tmp_path / "out", progress=False)
    (tmp_path / "out" / "a.h5").unlink()
    before = (tmp_path / "out" / "b.h5").stat().st_mtime_ns
    report = prepare_neurons(tmp_path / "in", tmp_path / "out", progress=False)
    assert (report.made, report.kept) == (["a.h5"], ["b.h5"])
    assert (tmp_path / "out" / "b.h5").stat().st_mtime_ns == before
    with pytest.raises(
        InvalidInputError, match=r"a\.h5 was made with other settings: weight_gap is 20\.0 there, 9 now"
    ):
        prepare_neurons(tmp_path / "in", tmp_path / "out", weight_gap=9, progress=False)
    assert len(prepare_neurons(tmp_path / "in", tmp_path / "out", weight_gap=9, overwrite=True).made) == 2
    (tmp_path / "out" / "a.h5").write_bytes(b"no")
    with pytest.raises(InvalidInputError, match="not made by prepare, or is damaged"):
        prepare_neurons(tmp_path / "in", tmp_path / "out", weight_gap=9, progress=False)


def test_worker_processes_make_the_same_files(tmp_path):
    for name in ("a", "b"):
        write_pair(tmp_path / "in", name)
    prepare_neurons(tmp_path / "in", tmp_path / "here", signal_to_noise_reduction=2, progress=False)
    image, labels = volumes()
    write(tmp_path / "in" / "c_img.mhd", image)
    write(tmp_path / "in" / "c_label.nrrd", labels[1:])
    options = {"signal_to_noise_reduction": 2, "num_workers": 2, "progress": False}
    with pytest.raises(
        InvalidInputError, match=r"1 of 3 volumes cannot be prepared, the others are:\nc: .*\(4, 6, 8\)"
    ):
        prepare_neurons(tmp_path / "in", tmp_path / "workers", **options)
    for name in ("a.h5", "b.h5"):
        with h5py.File(tmp_path / "here" / name) as one, h5py.File(tmp_path / "workers" / name) as other:
            assert one.attrs["settings"] == other.attrs["settings"]
            for key in ("raw", "label", "weight"):
                np.testing.assert_array_equal(one[key][:], other[key][:])


def test_folders(tmp_path):
    for part in ("train", "val"):
        image, labels = volumes()
        write(tmp_path / "in" / part / "images" / "a.mhd", image)
        write(tmp_path / "in" / part / "labels" / "a.nii.gz", labels)
    assert prepare_neurons(tmp_path / "in", tmp_path / "out", progress=False).made == ["train/a.h5", "val/a.h5"]
    assert [pair.name for pair in list_pairs(tmp_path / "in" / "val")] == ["a"]


def test_missing_partners(tmp_path):
    write_pair(tmp_path)
    write(tmp_path / "b_img.mhd", volumes()[0])
    with pytest.raises(MissingDataError, match=r"1 volumes in .* have no partner: .*b_img\.mhd"):
        list_pairs(tmp_path)
    (tmp_path / "b_img.mhd").unlink()
    write(tmp_path / "a.tif", volumes()[0])
    with pytest.raises(InvalidInputError, match="are both the volume 'a'"):
        list_pairs(tmp_path)
    with pytest.raises(MissingDataError, match="does not exist"):
        list_pairs(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="has no volumes; expected files that end with"):
        list_pairs(tmp_path / "empty")


def test_bad_files_do_not_stop_the_others(tmp_path):
    image, labels = write_pair(tmp_path / "in", "good")
    write(tmp_path / "in" / "ids_img.mhd", image)
    write(tmp_path / "in" / "ids_label.nrrd", labels + 3)
    write(tmp_path / "in" / "shape_img.mhd", image)
    write(tmp_path / "in" / "shape_label.nrrd", labels[1:])
    write(tmp_path / "in" / "nan_img.mhd", np.where(image > 190, np.nan, image).astype(np.float32))
    write(tmp_path / "in" / "nan_label.nrrd", labels)
    with pytest.raises(InvalidInputError) as caught:
        prepare_neurons(tmp_path / "in", tmp_path / "out", progress=False)
    text = str(caught.value)
    for message in (
        "3 of 4 volumes",
        "ids_label.nrrd: sparse labels have the values 4, 5, 6",
        "shape_label.nrrd has (4, 6, 8)",
        "nan_img.mhd has NaN",
    ):
        assert message in text
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*")) == [".prepare.lock", "good.h5"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": ((0, 9), (0, 2), (0, 2))}, r"crop=.* is outside of .*a_img\.mhd with shape \(5, 6, 8\)"),
        ({"crop": ((2, 2), (0, 2), (0, 2))}, "0 <= start < stop"),
        ({"voxel_size": (1, 1)}, r"voxel_size=\(1, 1\)"),
        ({"label_kind": "dense"}, "label_kind='dense'"),
        ({"weight_gab": 3}, "Did you mean 'weight_gap'"),
        ({"signal_to_noise_reduction": 0.5}, "at least 1"),
        ({"weight_foreground": -1}, "weight_foreground=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"num_workers": -1}, "num_workers=-1"),
    ],
)
def test_bad_options(tmp_path, options, message):
    write_pair(tmp_path / "in")
    with pytest.raises(InvalidInputError, match=message):
        prepare_neurons(tmp_path / "in", tmp_path / "out", progress=False, **options)


def test_bad_containers(tmp_path):
    image, labels = volumes()
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["raw"], file["label"], file["flat"] = np.stack([image, image]), labels, image[0]
    with pytest.raises(InvalidInputError, match=r"raw has 2 channels .*choose one by the option channel"):
        prepare_neurons(tmp_path, tmp_path / "out", progress=False)
    prepare_neurons(tmp_path, tmp_path / "out", channel=1, progress=False)
    with pytest.raises(InvalidInputError, match="channel=2"):
        prepare_neurons(tmp_path, tmp_path / "other", channel=2, progress=False)
    with pytest.raises(InvalidInputError, match="does not tell its voxel size"):
        prepare_neurons(tmp_path, tmp_path / "other", channel=1, voxel_size=(1, 1, 1), progress=False)
    with pytest.raises(InvalidInputError, match=r"none of the datasets \['mask'\]; it has: flat"):
        prepare_neurons(tmp_path, tmp_path / "other", label_key="mask", channel=1, progress=False)
    with pytest.raises(InvalidInputError, match=r"flat has shape \(6, 8\)"):
        load_zyx(tmp_path / "c.h5", ("flat",))
    (tmp_path / "d.nrrd").write_text("nonsense")
    with pytest.raises(InvalidInputError, match=r"d\.nrrd cannot be read"):
        load_zyx(tmp_path / "d.nrrd", ())


@pytest.mark.parametrize("shift", [0, 2**16, 2**40])
def test_instance_ids_of_any_size_are_kept(shift):
    ids = np.zeros((4, 5, 6), np.int64)
    ids[1:3, 1:3, 1:3], ids[1:3, 1:3, 4:] = 1 + shift, 2 + shift
    arrays = label_arrays(ids, NeuronSettings(label_kind="instances"))
    np.testing.assert_array_equal(arrays["instances"], ids)
