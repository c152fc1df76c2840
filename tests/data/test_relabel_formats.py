"""Label volumes by cluster in formats other than zarr, against the whole at once."""

from __future__ import annotations

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr

from voxel_ext.data import open_volume, relabel_formats
from voxel_ext.data.relabel import relabel_volume
from voxel_ext.data.relabel_formats import choose_format, slab_ranges, write_nifti_labels
from voxel_ext.data.scheduling import block_scheduler
from voxel_ext.data.zarr_io import multiscale_attributes
from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.clustering import cluster_values, map_labels

SHAPE = (11, 13, 7)
SIZE = (0.03, 0.008, 0.004)
IDS = np.r_[np.arange(1, 20), 2**63 - 1]
PATHS = ("a.h5", "a.hdf5", "a.tif", "a.TIFF", "a.nii", "a.nii.gz", "slices")
WHOLE = (slice(None),) * 3


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr("voxel_ext.data.label_scan.BLOCK_VOXELS", 300)
    monkeypatch.setattr(relabel_formats, "SLAB_BYTES", 5 * 13 * 7)


def labels():
    rng = np.random.default_rng(0)
    return np.where(rng.random(SHAPE) < 0.4, 0, rng.choice(IDS, SHAPE))


def source(folder, size=SIZE):
    root = zarr.open_group(str(folder / "in.zarr"), mode="w", attributes=multiscale_attributes("0", size, False))
    root.create_array("0", data=labels(), chunks=(4, 4, 4))
    return folder / "in.zarr"


def clusters(count):
    """Clusters of the ids, of which the last has the highest number."""
    return np.r_[np.arange(len(IDS) - 1) - 1, count - 1]


@pytest.mark.parametrize("count", [25, 300, 70_000])
@pytest.mark.parametrize("path", PATHS)
def test_every_format_is_the_whole_at_once(tmp_path, path, count):
    suffix = ".png" if count < 65535 else ".tif"
    found = relabel_volume(
        source(tmp_path), IDS, clusters(count), tmp_path / "out" / path, slice_suffix=suffix, progress=False
    )
    values = cluster_values(clusters(count))
    expected = map_labels(labels(), IDS, values)
    assert expected.max() == count
    result = open_volume(found.path)
    assert (result.shape, result.dtype) == ((1, *SHAPE), values.dtype)
    assert np.array_equal(result.read(WHOLE)[0], expected)
    assert found.voxels == dict(zip(*(part.tolist() for part in np.unique(expected, return_counts=True)), strict=True))
    assert [one.name for one in (tmp_path / "out").iterdir()] == [path]


@pytest.mark.parametrize("path", ["a.h5", "a.tif", "a.nii", "a.nii.gz"])
def test_voxel_size_is_kept(tmp_path, path):
    relabel_volume(source(tmp_path), IDS, clusters(25), tmp_path / path, progress=False)
    assert open_volume(tmp_path / path).voxel_size == pytest.approx(SIZE)
    # an array in memory tells none
    relabel_volume(labels(), IDS, clusters(25), tmp_path / path, overwrite=True, progress=False)
    assert open_volume(tmp_path / path).voxel_size in (None, (1, 1, 1))


def test_other_programs_see_the_same_axes(tmp_path):
    expected = map_labels(labels(), IDS, cluster_values(clusters(25)))
    for path in ("a.h5", "a.nii.gz", "a.tif"):
        relabel_volume(source(tmp_path), IDS, clusters(25), tmp_path / path, progress=False)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["labels"].chunks == (4, 4, 4)
        assert np.array_equal(file["labels"], expected)
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), expected.T)
    assert np.allclose(image.affine, np.diag([0.004, 0.008, 0.03, 1]))
    assert image.header.get_xyzt_units()[0] == "micron"
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), expected)


def test_large_stacks_are_bigtiff_with_the_voxel_size(tmp_path, monkeypatch):
    monkeypatch.setattr(relabel_formats, "CLASSIC_TIFF_BYTES", np.prod(SHAPE) - 1)
    relabel_volume(source(tmp_path), IDS, clusters(25), tmp_path / "a.tif", progress=False)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
        assert file.series[0].axes == "ZYX"
        for axis, length in zip("ZYX", SIZE, strict=True):
            assert f'PhysicalSize{axis}="{length}"' in file.ome_metadata
    expected = map_labels(labels(), IDS, cluster_values(clusters(25)))
    assert np.array_equal(open_volume(tmp_path / "a.tif").read(WHOLE)[0], expected)


def test_long_axes_are_nifti_2(tmp_path):
    values = zarr.create_array({}, data=np.arange(33_000, dtype=np.uint16).reshape(1, 1, -1))
    write_nifti_labels(values, tmp_path / "a.nii", None, False)
    image = nibabel.load(tmp_path / "a.nii")
    assert isinstance(image, nibabel.Nifti2Image)
    assert np.array_equal(np.asarray(image.dataobj)[:, 0, 0], np.arange(33_000))


def test_names_of_slices_are_in_their_order(tmp_path, monkeypatch):
    many = np.ones((11, 1, 2), np.uint8) * np.arange(1, 12)[:, None, None]
    for digits, last in ((4, "slice_0010.png"), (1, "slice_10.png")):
        monkeypatch.setattr(relabel_formats, "DIGITS", digits)
        target = tmp_path / str(digits)
        relabel_volume(many, np.arange(1, 12), np.arange(11), target, progress=False)
        names = sorted(one.name for one in target.iterdir())
        assert (len(names), len(set(map(len, names))), names[-1]) == (11, 1, last)
        assert np.array_equal(open_volume(target).read(WHOLE)[0], many)


def test_workers_write_the_same(tmp_path):
    kept, path = [], "a.h5"
    for name, scheduler in (("one", None), ("two", block_scheduler(num_workers=1))):
        relabel_volume(source(tmp_path), IDS, clusters(25), tmp_path / name / path, scheduler=scheduler, progress=False)
        kept.append([f.read_bytes() for f in sorted((tmp_path / name).rglob("*")) if f.is_file()])
    assert kept[0] == kept[1]


def test_slabs_are_whole_chunks_where_they_can_be(monkeypatch):
    monkeypatch.setattr(relabel_formats, "SLAB_BYTES", 700)
    assert slab_ranges((10, 10, 10), 2, 1) == [(0, 6), (6, 10)]
    assert slab_ranges((4, 10, 10), 64, 2) == [(0, 3), (3, 4)]
    assert slab_ranges((2, 100, 100), 64, 2) == [(0, 1), (1, 2)]


@pytest.mark.parametrize("path", ["a.h5", "slices"])
def test_what_exists_is_replaced_only_if_asked(tmp_path, path):
    target = tmp_path / path
    relabel_volume(labels(), IDS, clusters(25), target, progress=False)
    with pytest.raises(InvalidInputError, match="exists; choose another store, remove it, or give overwrite=True"):
        relabel_volume(labels(), IDS, clusters(30), target, progress=False)
    relabel_volume(labels(), IDS, clusters(30), target, overwrite=True, progress=False)
    assert open_volume(target).read(WHOLE).max() == 30


def test_a_folder_with_other_things_is_never_replaced(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    for path, message in (
        ("home", "holds other things than slices, such as thesis.txt"),
        ("home/thesis.txt", "expected"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            relabel_volume(labels(), IDS, clusters(25), tmp_path / path, overwrite=True, progress=False)
    (tmp_path / "a.h5").mkdir()
    (tmp_path / "plain").write_text("a file")
    for path, kind in (("a.h5", "folder"), ("plain", "file")):
        with pytest.raises(InvalidInputError, match=f"{path} is a {kind}; choose another name"):
            relabel_volume(labels(), IDS, clusters(25), tmp_path / path, overwrite=True, progress=False)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("path", ["a.h5", "a.tif", "a.nii.gz", "slices"])
def test_a_failure_leaves_nothing(tmp_path, path):
    wrong = labels().astype(np.uint64)
    wrong[-1, -1, -1] = 2**63
    with pytest.raises(InvalidInputError, match="the labels have the id 9223372036854775808"):
        relabel_volume(wrong, IDS, clusters(25), tmp_path / path, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["a.h5", "a.tif", "a.nii", "slices"])
def test_a_failed_write_keeps_what_was_there(tmp_path, monkeypatch, path):
    relabel_volume(labels(), IDS, clusters(25), tmp_path / path, progress=False)
    before = open_volume(tmp_path / path).read(WHOLE)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(relabel_formats, "_planes", fail)
    monkeypatch.setattr(relabel_formats, "scan_blocks", fail)
    with pytest.raises(OSError, match=f"cannot write .*{path}: the disk is full"):
        relabel_volume(labels(), IDS, clusters(30), tmp_path / path, overwrite=True, progress=False)
    assert np.array_equal(open_volume(tmp_path / path).read(WHOLE), before)
    assert [one.name for one in tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    ("path", "suffix", "dtype", "message"),
    [
        ("a.mrc", ".png", "uint8", r"expected a zarr store \(.zarr\), a file \(.h5, .hdf5, .hdf, .tif, .tiff, .nii"),
        ("a.h5/labels", ".png", "uint8", "is inside of a.h5; expected the name of a file"),
        ("a.zarr/labels", ".png", "uint8", "is inside of a.zarr"),
        ("slices", ".jpg", "uint8", "slice_suffix='.jpg' is not known; expected one of '.png', '.tif', '.tiff'"),
        ("slices", ".png", "uint32", "PNG holds values up to 65535, but there are more clusters"),
    ],
)
def test_bad_names(path, suffix, dtype, message):
    with pytest.raises(InvalidInputError, match=message):
        choose_format(path, np.dtype(dtype), suffix)
