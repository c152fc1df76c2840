"""Results of (z, y, x) images in files of all formats."""

import h5py
import itk
import nibabel
import numpy as np
import pytest
import torch
import zarr
from monai.data import MetaTensor

from voxel_ext.data import LoadZyxd, SaveVolume, SaveVolumed, volume_name
from voxel_ext.data.neuron_sources import load_zyx
from voxel_ext.errors import InvalidInputError

SHAPE = (4, 5, 6)
SIZE = (2.0, 0.7, 0.5)


def voxels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 100, SHAPE).astype(np.int16)


def rotation(angle: float = 0.3) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def write(path, array):
    """Write (z, y, x) voxels, anisotropic, turned and shifted."""
    if path.name.endswith((".nii", ".nii.gz")):
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = rotation() @ np.diag(SIZE[::-1]), (3, -4, 5)
        image = nibabel.Nifti1Image(array.T, affine)
        image.header.set_xyzt_units("micron")
        nibabel.save(image, path)
    else:
        image = itk.image_from_array(array)
        image.SetSpacing(SIZE[::-1])
        image.SetOrigin((3, -4, 5))
        image.SetDirection(itk.matrix_from_array(rotation()))
        itk.imwrite(image, str(path))


def geometry(path) -> np.ndarray:
    """The matrix from (x, y, z) indices to the world, as ITK (and so ITK-SNAP) has it."""
    image = itk.imread(str(path))
    matrix = np.eye(4)
    matrix[:3, :3] = itk.array_from_matrix(image.GetDirection()) @ np.diag(list(image.GetSpacing()))
    matrix[:3, 3] = list(image.GetOrigin())
    return matrix


def array_of(path) -> np.ndarray:
    """The voxels (z, y, x)."""
    return np.array(itk.array_from_image(itk.imread(str(path))))


def save(folder, image, suffix, **options):
    options = {"output_dtype": np.int32, "output_postfix": "out"} | options
    SaveVolumed(
        "pred", output_dir=folder, output_ext=suffix, zyx=True, print_log=False, separate_folder=False,
        output_name_formatter=volume_name, **options,
    )({"pred": image})  # fmt: skip


@pytest.mark.parametrize(
    ("source", "result"),
    [
        (".nii.gz", ".nii.gz"), (".nii", ".nii"), (".nrrd", ".nrrd"), (".mhd", ".mhd"), (".tif", ".tif"),
        (".nrrd", ".mhd"), (".mhd", ".nrrd"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("resample", [False, True])
def test_a_result_lies_over_its_input(tmp_path, source, result, resample):
    write(tmp_path / f"a{source}", voxels())
    image = LoadZyxd("image")({"image": str(tmp_path / f"a{source}")})["image"]
    save(tmp_path, image + 1000, result, resample=resample)
    path = tmp_path / f"a_out{result}"
    assert np.array_equal(array_of(path), voxels() + 1000)
    assert geometry(path) == pytest.approx(geometry(tmp_path / f"a{source}"), abs=1e-5)
    again = LoadZyxd("image")({"image": str(path)})["image"]
    assert np.array_equal(again.numpy(), image.numpy() + 1000)
    assert torch.allclose(again.affine, image.affine, atol=1e-5)
    assert load_zyx(path, []).voxel_size == pytest.approx(load_zyx(tmp_path / f"a{source}", []).voxel_size)


def test_nifti_as_nibabel_sees_it(tmp_path):
    write(tmp_path / "a.nii", voxels())
    save(tmp_path, LoadZyxd("image")({"image": str(tmp_path / "a.nii")})["image"], ".nii.gz")
    first, second = nibabel.load(tmp_path / "a.nii"), nibabel.load(tmp_path / "a_out.nii.gz")
    assert second.shape == SHAPE[::-1]
    assert second.get_data_dtype() == np.int32
    assert np.array_equal(first.get_fdata(), second.get_fdata())
    assert second.affine == pytest.approx(first.affine, abs=1e-6)
    assert second.header.get_xyzt_units()[0] == "micron"
    assert second.header.get_zooms() == pytest.approx(SIZE[::-1])


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
def test_containers_stay_as_they_are(tmp_path, suffix):
    write(tmp_path / "a.nrrd", voxels())
    image = LoadZyxd("image")({"image": str(tmp_path / "a.nrrd")})["image"]
    for resample in (False, True):
        save(tmp_path, image, suffix, resample=resample)
        root = h5py.File(tmp_path / "a_out.h5") if suffix == ".h5" else zarr.open_group(tmp_path / "a_out.zarr")
        assert np.array_equal(root["segmentation"][:], voxels())
        root.store.close() if suffix == ".zarr" else root.close()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mhd"])
def test_a_prepared_volume_as_an_image(tmp_path, suffix):
    with h5py.File(tmp_path / "a.h5", "w") as root:
        root["raw"] = voxels()
        root["raw"].attrs["element_size_um"] = SIZE
    image = LoadZyxd("image")({"image": f"{tmp_path}/a.h5/raw"})["image"]
    save(tmp_path, image, suffix)
    path = tmp_path / f"a_out{suffix}"
    assert np.array_equal(array_of(path), voxels())
    assert load_zyx(path, []).voxel_size == pytest.approx(SIZE)
    directions = np.abs(itk.array_from_matrix(itk.imread(str(path)).GetDirection()))
    assert directions == pytest.approx(np.eye(3))
    assert torch.allclose(LoadZyxd("image")({"image": path})["image"].pixdim, torch.tensor(SIZE).double())


def test_several_channels(tmp_path):
    write(tmp_path / "a.nii", voxels())
    image = LoadZyxd("image")({"image": str(tmp_path / "a.nii")})["image"]
    both = torch.cat([image, image + 1])
    save(tmp_path, both, ".nii", output_dtype=np.float32)
    save(tmp_path, both, ".nrrd", output_dtype=np.float32)
    assert nibabel.load(tmp_path / "a_out.nii").shape == (*SHAPE[::-1], 2)
    for suffix in (".nii", ".nrrd"):
        again = LoadZyxd("image")({"image": str(tmp_path / f"a_out{suffix}")})["image"]
        assert np.array_equal(again.numpy(), both.numpy())


def test_without_the_option_axes_are_not_touched(tmp_path):
    image = MetaTensor(torch.as_tensor(voxels())[None], meta={"filename_or_obj": "a.nii"})
    options = {"output_dir": tmp_path, "output_ext": ".nii", "separate_folder": False, "print_log": False}
    SaveVolume(**options)(image)
    assert np.array_equal(nibabel.load(tmp_path / "a_trans.nii").get_fdata(), voxels())


def test_plain_arrays_and_the_noted_path(tmp_path):
    options = {"output_dir": tmp_path, "output_ext": ".nii", "separate_folder": False, "print_log": False}
    saver = SaveVolume(zyx=True, savepath_in_metadict=True, **options)
    affine = np.diag([*SIZE, 1.0])
    meta = {"filename_or_obj": "a.h5", "affine": affine, "unit": "micrometer"}
    array = voxels()[None]
    assert saver(array, meta) is array
    assert meta["saved_to"] == str(tmp_path / "a_trans.nii")
    assert meta["affine"] is affine
    written = nibabel.load(tmp_path / "a_trans.nii")
    assert np.array_equal(written.get_fdata(), voxels().T)
    assert written.affine == pytest.approx(np.diag([*SIZE[::-1], 1]))
    assert written.header.get_xyzt_units()[0] == "micron"
    image = MetaTensor(torch.as_tensor(array), meta={"filename_or_obj": "b.nii"})
    assert saver(image) is image
    assert image.meta["saved_to"] == str(tmp_path / "b_trans.nii")


@pytest.mark.parametrize("channel_dim", [0, -1, float("nan"), None])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (2, 1, 0), (0, 2, 1)])
def test_any_order_of_the_axes_of_the_world(tmp_path, channel_dim, order):
    affine = np.diag([*SIZE[::-1], 1.0])[[*order, 3]]
    meta = {"filename_or_obj": "a.nii"} | ({} if channel_dim is None else {"original_channel_dim": channel_dim})
    image = MetaTensor(torch.as_tensor(voxels())[None], affine=torch.as_tensor(affine[:, [2, 1, 0, 3]]), meta=meta)
    save(tmp_path, image, ".nii")
    written = nibabel.load(tmp_path / "a_out.nii")
    assert written.affine == pytest.approx(affine)
    assert np.array_equal(written.get_fdata(), voxels().T)


def test_a_volume_without_channels_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"shape \(5, 6\)"):
        save(tmp_path, MetaTensor(torch.zeros(5, 6), meta={"filename_or_obj": "a.nii"}), ".nii")
