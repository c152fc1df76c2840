import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image

from voxel_ext.data.lazy_volume import open_volume
from voxel_ext.data.slice_folder import list_slices
from voxel_ext.errors import InvalidInputError, MissingDataError


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 60000, (12, 9, 11)).astype(np.uint16)


def write_slices(folder, array, name="slice{}.png", first=0):
    folder.mkdir(exist_ok=True)
    for number, values in enumerate(array, first):
        path = folder / name.format(number)
        if path.suffix == ".png":
            Image.fromarray(values).save(path)
        else:
            tifffile.imwrite(path, values)
    return folder


@pytest.mark.parametrize("name", ["slice{}.png", "s_{:04d}.tif", "2024-05_z{}_ch1.TIFF", "{}.png"])
def test_slices_are_ordered_by_their_number(tmp_path, array, name):
    volume = open_volume(write_slices(tmp_path / "em", array, name, first=3))
    assert volume.shape == (1, 12, 9, 11)
    assert volume.dtype == np.uint16
    assert volume.chunks == (1, 9, 11)
    box = (slice(1, 11), slice(2, 7), slice(3, 4))
    np.testing.assert_array_equal(volume.read(box)[0], array[box])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(volume)).read(box)[0], array[box])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "uint32", "uint64", "float32"])
def test_data_types(tmp_path, array, dtype):
    values = (array % 251).astype(dtype)
    if dtype == "uint64":
        values += np.uint64(2**62)
    kinds = ["s{}.tif"] + ["s{}.png"] * (dtype in ("bool", "uint8", "uint16"))
    for kind in kinds:
        volume = open_volume(write_slices(tmp_path / kind[-3:], values, kind))
        assert volume.dtype == values.dtype
        np.testing.assert_array_equal(volume.read([slice(None)] * 3)[0], values)


def test_colors_are_channels_and_palettes_are_indices(tmp_path, array):
    colors = np.stack([array % 200, array % 100, array % 50], -1).astype(np.uint8)
    volume = open_volume(write_slices(tmp_path / "rgb", colors))
    assert volume.shape == (3, 12, 9, 11)
    np.testing.assert_array_equal(volume.read([slice(None)] * 3), colors.transpose(3, 0, 1, 2))
    indices = (array % 7).astype(np.uint8)
    (tmp_path / "p").mkdir()
    for number, values in enumerate(indices):
        image = Image.fromarray(values, "L")
        image.putpalette(list(range(0, 231, 11)))
        assert image.mode == "P"
        image.save(tmp_path / "p" / f"{number}.png")
    np.testing.assert_array_equal(open_volume(tmp_path / "p").read([slice(None)] * 3)[0], indices)


def test_a_slice_that_is_written_anew_changes_the_fingerprint(tmp_path, array):
    folder = write_slices(tmp_path / "em", array)
    before = open_volume(folder).fingerprint()
    assert open_volume(folder).fingerprint() == before
    Image.fromarray(array[0] * 0).save(folder / "slice5.png")
    assert open_volume(folder).fingerprint() != before


def test_other_files_are_passed_over_and_one_slice_is_enough(tmp_path, array):
    folder = write_slices(tmp_path / "em", array[:1], "a1_z7.png")
    (folder / "notes.txt").write_text("z")
    (folder / ".hidden9.png").write_text("z")
    assert [path.name for path in list_slices(folder)] == ["a1_z7.png"]


def test_missing_slices_are_named(tmp_path, array):
    folder = write_slices(tmp_path / "em", array)
    for number in (4, 7, 8):
        (folder / f"slice{number}.png").unlink()
    with pytest.raises(MissingDataError, match=r"slices 0 to 11, but 3 of them are missing: 4, 7, 8\."):
        open_volume(folder)


def test_wrong_folders(tmp_path, array):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(MissingDataError, match="has no slices"):
        open_volume(empty)
    with pytest.raises(MissingDataError, match="does not exist"):
        list_slices(tmp_path / "nowhere")
    folder = write_slices(tmp_path / "twice", array[:3])
    Image.fromarray(array[0]).save(folder / "slice01.png")
    with pytest.raises(InvalidInputError, match=r"slice01\.png and slice1\.png are both slice 1"):
        open_volume(folder)
    folder = write_slices(tmp_path / "kinds", array[:3])
    write_slices(folder, array[:3], "slice{}.tif", first=3)
    with pytest.raises(InvalidInputError, match="files of two kinds"):
        open_volume(folder)
    folder = write_slices(tmp_path / "vary", array[:1], "a{0}_z1.png", first=5)
    write_slices(folder, array[:1], "a{0}_z2.png", first=6)
    with pytest.raises(InvalidInputError, match="2 numbers vary"):
        open_volume(folder)
    folder = write_slices(tmp_path / "no", array[:1], "one.png")
    with pytest.raises(InvalidInputError, match=r"one\.png has no number"):
        open_volume(folder)


def test_slices_that_differ_are_named(tmp_path, array):
    folder = write_slices(tmp_path / "em", array)
    Image.fromarray(array[3, :, :5]).save(folder / "slice3.png")
    with pytest.raises(InvalidInputError, match=r"slice3\.png has shape \(9, 5\) and data type uint16.*\(9, 11\)"):
        open_volume(folder)
    Image.fromarray(array[3].astype(np.uint8)).save(folder / "slice3.png")
    with pytest.raises(InvalidInputError, match=r"slice3\.png has shape \(9, 11\) and data type uint8"):
        open_volume(folder)
    (folder / "slice3.png").write_bytes(b"no image")
    with pytest.raises(InvalidInputError, match=r"slice3\.png cannot be opened"):
        open_volume(folder)


def test_a_slice_that_is_cut_short_is_named(tmp_path, array):
    folder = write_slices(tmp_path / "em", array)
    path = folder / "slice6.png"
    path.write_bytes(path.read_bytes()[:-60])
    volume = open_volume(folder)
    with pytest.raises(InvalidInputError, match=r"slice6\.png"):
        volume.read([slice(None)] * 3)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_itk_volumes(tmp_path, array, suffix):
    import itk

    path = tmp_path / f"a{suffix}"
    itk.imwrite(itk.image_from_array(array), str(path))
    volume = open_volume(path)
    assert volume.shape == (1, 12, 9, 11)
    box = (slice(1, 11), slice(2, 7), slice(3, 4))
    np.testing.assert_array_equal(volume.read(box)[0], array[box])
    path.write_bytes(b"no image")
    with pytest.raises(InvalidInputError, match="cannot be opened: damaged, or not NRRD"):
        open_volume(path)
