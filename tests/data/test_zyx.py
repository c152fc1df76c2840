"""One order of axes for all formats: loading, reversing, writing back."""

import h5py
import itk
import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, ITKReader, MetaTensor, decollate_batch
from monai.transforms import LoadImaged

from voxel_ext.data import LoadZyxd, reverse_axes, write_vaa3d
from voxel_ext.data.neuron_sources import load_zyx
from voxel_ext.data.zyx import comes_as_xyz
from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.report import _spacing

SHAPE = (4, 5, 6)
SIZE = (2.0, 0.7, 0.5)
PLAIN = (".nii", ".nii.gz", ".nrrd", ".mhd", ".tif")


def turn(angle: float = 0.3) -> np.ndarray:
    """A rotation about the x and then the z axis."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def affine_of() -> np.ndarray:
    """Of (x, y, z) with voxels of 0.5 x 0.7 x 2, turned and shifted."""
    affine = np.eye(4)
    affine[:3, :3] = turn() @ np.diag(SIZE[::-1])
    affine[:3, 3] = (3, -4, 5)
    return affine


def voxels(dtype=np.int16, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def write(path, array, components=False):
    """Write (z, y, x) or, with components, (z, y, x, c) voxels."""
    if path.name.endswith((".nii", ".nii.gz")):
        stored = np.moveaxis(array.transpose(*range(array.ndim)[::-1]), 0, -1) if components else array.T
        nibabel.save(nibabel.Nifti1Image(stored, affine_of()), path)
    else:
        image = itk.image_from_array(array, is_vector=components)
        image.SetSpacing(SIZE[: array.ndim - components][::-1])
        itk.imwrite(image, str(path))
    return path


def image_of(shape, rank=None, seed=0) -> MetaTensor:
    generator = torch.Generator().manual_seed(seed)
    rank = rank or len(shape) - 1
    affine = torch.eye(rank + 1, dtype=torch.float64)
    affine[:-1] = torch.rand((rank, rank + 1), generator=generator, dtype=torch.float64)
    meta = {"original_affine": affine * 2, "spatial_shape": np.array(shape[1:]), "filename_or_obj": "a.nrrd"}
    return MetaTensor(torch.rand(shape, generator=generator), affine=affine.clone(), meta=meta)


@pytest.mark.parametrize("world", [False, True])
@pytest.mark.parametrize(("shape", "rank"), [((2, 3, 4, 5), 3), ((1, 3, 4), 2), ((1, 3, 4), 3)])
def test_reversing_twice_gives_the_same_image(shape, rank, world):
    image = image_of(shape, rank)
    before = image.affine.clone()
    once = reverse_axes(image, world)
    twice = reverse_axes(once, world)
    assert once.shape == (shape[0], *shape[:0:-1])
    assert once.meta["spatial_shape"].tolist() == list(once.shape[1:])
    assert torch.equal(image.affine, before)
    assert not torch.equal(once.affine, before)
    assert torch.equal(twice.as_tensor(), image.as_tensor())
    assert torch.equal(twice.affine, before)
    assert torch.equal(torch.as_tensor(twice.meta["original_affine"]), image.meta["original_affine"])
    assert twice.meta["spatial_shape"].tolist() == list(shape[1:])


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 4)])
def test_every_voxel_keeps_its_place_in_the_world(shape):
    image = image_of(shape)
    turned = reverse_axes(image)
    for index in np.ndindex(*shape[1:]):
        place = image.affine @ torch.tensor([*index, 1.0], dtype=torch.float64)
        assert torch.allclose(turned.affine @ torch.tensor([*index[::-1], 1.0], dtype=torch.float64), place)
        assert torch.equal(turned[(slice(None), *index[::-1])], image[(slice(None), *index)])
    assert turned.pixdim.tolist() == pytest.approx(image.pixdim.tolist()[::-1])


def test_reversing_the_world_too_keeps_a_diagonal_affine():
    image = MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.diag(torch.tensor([2.0, 0.7, 0.5, 1])))
    assert torch.equal(reverse_axes(image, True).affine, torch.diag(torch.tensor([0.5, 0.7, 2, 1])).double())


def test_images_that_cannot_be_reversed():
    with pytest.raises(InvalidInputError, match=r"shape \(3, 4\); expected \(C, a, b, c\)"):
        reverse_axes(MetaTensor(torch.zeros(3, 4)))
    with pytest.raises(InvalidInputError, match="shape"):
        reverse_axes(MetaTensor(torch.zeros(1, 1, 2, 3, 4)))
    with pytest.raises(InvalidInputError, match=r"3 spatial axes, but its affine has shape \(3, 3\)"):
        reverse_axes(MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.eye(3)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((f"a/b{suffix}", True) for suffix in (*PLAIN, ".NII.GZ", ".mha", ".png", "")),
        *((f"a/b{suffix}", False) for suffix in (".h5", ".HDF5", ".h5/raw[3]", ".zarr", ".zarr/0", ".v3draw", ".npy")),
    ],
)
def test_which_formats_are_reversed(name, expected):
    assert comes_as_xyz(name) is expected


@pytest.mark.parametrize("suffix", PLAIN)
def test_the_same_array_as_in_preparation(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", voxels())
    image = LoadZyxd("image", dtype=None)({"image": str(path)})["image"]
    prepared = load_zyx(path, ["raw"])
    assert image.shape == (1, *SHAPE)
    assert np.array_equal(image[0].numpy(), voxels())
    assert np.array_equal(image[0].numpy(), prepared.array)
    assert image.numpy().dtype == prepared.array.dtype
    assert image.pixdim.tolist() == pytest.approx(prepared.voxel_size, rel=1e-5)
    # the report draws with the same voxel size
    assert _spacing(image, 3) == pytest.approx(prepared.voxel_size, rel=1e-5)


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mhd"])
def test_channels(tmp_path, suffix):
    array = voxels(np.float32, (*SHAPE, 2))
    path = write(tmp_path / f"a{suffix}", array, components=True)
    image = LoadZyxd("image")({"image": path})["image"]
    assert image.shape == (2, *SHAPE)
    assert np.array_equal(image.numpy(), np.moveaxis(array, -1, 0))
    if suffix != ".nii":  # ITK takes the channels of NIfTI for a fourth axis
        reader = ITKReader(reverse_indexing=True)
        assert np.array_equal(np.moveaxis(image.numpy(), 0, -1), reader.get_data(reader.read(str(path)))[0])


def test_several_files_become_channels(tmp_path):
    files = [str(write(tmp_path / f"{i}.nii", voxels(np.float32) + i)) for i in range(3)]
    image = LoadZyxd("image")({"image": files})["image"]
    assert np.array_equal(image.numpy(), np.stack([voxels(np.float32) + i for i in range(3)]))


@pytest.mark.parametrize("suffix", [".nrrd", ".tif", ".png"])
def test_planes(tmp_path, suffix):
    plane = voxels(np.uint8, (5, 6))
    itk.imwrite(itk.image_from_array(plane), str(tmp_path / f"a{suffix}"))
    image = LoadZyxd("image")({"image": tmp_path / f"a{suffix}"})["image"]
    assert np.array_equal(image.numpy(), plane[None])


def test_stored_arrays_are_left_as_they_are(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as root:
        root["raw"] = np.stack([voxels(), voxels() + 1])
        root["raw"].attrs["element_size_um"] = (1.0, *SIZE)
    np.save(tmp_path / "a.npy", voxels())
    write_vaa3d(tmp_path / "a.v3draw", voxels(np.uint16, (2, *SHAPE)))
    names = {"h5": f"{tmp_path}/a.h5/raw[1]", "npy": tmp_path / "a.npy", "vaa3d": tmp_path / "a.v3draw"}
    loaded = LoadZyxd(list(names), dtype=None)(names)
    expected = LoadImaged(list(names), dtype=None, ensure_channel_first=True)(names)
    for key in names:
        assert np.array_equal(loaded[key].numpy(), expected[key].numpy())
        assert torch.equal(loaded[key].affine, expected[key].affine)
    assert loaded["h5"].shape == (1, *SHAPE)
    assert _spacing(loaded["h5"], 3) == pytest.approx(SIZE)


def test_missing_keys_and_workers(tmp_path):
    path = str(write(tmp_path / "a.nii", voxels()))
    item = {"image": path}
    with pytest.raises(KeyError, match="label"):
        LoadZyxd(["image", "label"])(item)
    loader = DataLoader(Dataset([item], LoadZyxd(["image", "label"], allow_missing_keys=True)), num_workers=1)
    image = decollate_batch(next(iter(loader)))[0]["image"]
    assert np.array_equal(image[0].numpy(), voxels())
    assert image.pixdim.tolist() == pytest.approx(SIZE, rel=1e-5)


def test_an_image_without_two_or_three_axes_is_named(tmp_path):
    nibabel.save(nibabel.Nifti1Image(voxels(shape=(2, 3, 4, 5, 6)), np.eye(4)), tmp_path / "five.nii")
    with pytest.raises(InvalidInputError, match=r"five\.nii.* expected \(C, a, b, c\)"):
        LoadZyxd("image")({"image": tmp_path / "five.nii"})
