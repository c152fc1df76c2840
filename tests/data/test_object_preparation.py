import csv
import json
import os

import h5py
import numpy as np
import pytest
import zarr
from PIL import Image

from voxel_ext.data import object_batches, object_preparation
from voxel_ext.data.object_crops import cut_object
from voxel_ext.data.object_dataset import ObjectDataset
from voxel_ext.data.object_preparation import prepare_objects
from voxel_ext.data.object_sources import list_objects
from voxel_ext.errors import InvalidInputError, MissingDataError

BIG = 2**62 + 3
SIZE = (30.0, 8.0, 8.0)
OPTIONS = {"size": 8, "voxel_size": SIZE, "progress": False}


@pytest.fixture
def volumes():
    """Five objects: one large, one at the border, one in two pieces, one with a great id, one of a voxel."""
    labels = np.zeros((10, 30, 40), np.int64)
    labels[1:4, 2:20, 3:38] = 70000
    labels[5:8, 22:30, 5:9] = 3
    labels[6:8, 3:6, 3:6] = labels[6:8, 9:11, 3:6] = 12
    labels[5:9, 10:15, 20:26] = BIG
    labels[8, 20, 30] = 4
    image = np.random.default_rng(0).integers(1, 256, labels.shape).astype(np.uint8)
    return labels, image


def read(path):
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file}, {name: json.loads(file.attrs[name]) for name in file.attrs}


def write_folder(folder, array):
    folder.mkdir()
    for number, values in enumerate(array):
        Image.fromarray(values).save(folder / f"s{number}.png")
    return folder


def test_every_object_is_cut_out_and_scaled(tmp_path, volumes):
    labels, image = volumes
    report = prepare_objects(labels, image, tmp_path / "o.h5", large_object_samples=2, **OPTIONS)
    data, attributes = read(report.path)
    assert (report.objects, report.rows, report.kept) == (5, 5 + 2 * 3, False)
    np.testing.assert_array_equal(data["id"], np.repeat([3, 4, 12, 70000, BIG], [3, 1, 1, 3, 3]))
    np.testing.assert_array_equal(data["chunk"], [0, 1, 2, 0, 0, 0, 1, 2, 0, 1, 2])
    assert attributes["channels"] == ["mask", "masked_image"]
    assert "class" not in data
    for one in (3, 4, 12, 70000, BIG):
        row = np.flatnonzero((data["id"] == one) & (data["chunk"] == 0))[0]
        volume, scale = cut_object(labels == one, image / np.float32(255), 8, "both", SIZE)
        np.testing.assert_allclose(data["volumes"][row], volume, atol=1e-3)
        assert data["scale"][row] == scale
    assert (data["scale"][data["chunk"] > 0] == 8).all()
    assert data["volumes"][:, 0].any((1, 2, 3)).all()
    assert sorted(os.listdir(tmp_path)) == [".o.h5.lock", "o.h5"]


def test_result_does_not_depend_on_format_batches_and_order(tmp_path, volumes, monkeypatch):
    labels, image = volumes
    labels = np.where(labels == BIG, 999, labels).astype(np.uint32)
    labels[labels == 70000] = 7
    expected, _ = read(prepare_objects(labels, image, tmp_path / "a.h5", **OPTIONS).path)
    group = zarr.open_group(str(tmp_path / "v.zarr"), mode="w")
    group.create_array("labels", data=labels, chunks=(4, 8, 16))
    slices = write_folder(tmp_path / "em", image)
    monkeypatch.setattr(object_batches, "BATCH", 2)
    files = tmp_path / "v.zarr" / "labels", slices
    found, _ = read(prepare_objects(*files, tmp_path / "b.h5", **OPTIONS).path)
    folder = write_folder(tmp_path / "labels", labels.astype(np.uint16))
    more, _ = read(prepare_objects(folder, slices, tmp_path / "c.h5", **OPTIONS).path)
    for other in (found, more):
        assert set(other) == set(expected)
        for name, values in expected.items():
            np.testing.assert_array_equal(other[name], values)


def test_workers_make_the_same(tmp_path, volumes, monkeypatch):
    labels, image = volumes
    monkeypatch.setattr(object_batches, "BATCH", 3)
    expected, _ = read(prepare_objects(labels, image, tmp_path / "a.h5", **OPTIONS).path)
    monkeypatch.setattr(object_preparation, "list_objects", lambda *args: list_objects(*args[:3], 0, False))
    found, _ = read(prepare_objects(labels, image, tmp_path / "b.h5", num_workers=2, **OPTIONS).path)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_masks_need_no_image_and_bounds_and_border_choose(tmp_path, volumes):
    labels, _ = volumes
    path = tmp_path / "o.h5"
    prepare_objects(labels, None, path, "mask", bounds=(2, 1000), exclude_border=True, **OPTIONS)
    data, attributes = read(path)
    assert set(data["id"].tolist()) == {12, BIG}
    assert data["volumes"].shape[1:] == (1, 8, 8, 8)
    assert attributes["channels"] == ["mask"]


def test_intensity_range(tmp_path, volumes):
    labels, image = volumes
    real = image.astype(np.float32) * 4 - 100
    path = tmp_path / "o.h5"
    with pytest.raises(InvalidInputError, match=r"object \d+: the image has values from .* intensity_range"):
        prepare_objects(labels, real, path, "masked_image", bounds=(2, None), **OPTIONS)
    prepare_objects(labels, real, path, "masked_image", intensity_range=(-100, 920), overwrite=True, **OPTIONS)
    expected, _ = read(prepare_objects(labels, image, tmp_path / "i.h5", "masked_image", **OPTIONS).path)
    np.testing.assert_allclose(read(path)[0]["volumes"], expected["volumes"], atol=2e-3)


def test_classes_of_tables_and_volumes(tmp_path, volumes):
    labels, image = volumes
    table = tmp_path / "classes.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["class", "id"], ["rod", 3], ["ball", BIG], ["rod", 12], ["donut", 555]])
    one = {"large_object_samples": 0, **OPTIONS}
    data, attributes = read(prepare_objects(labels, image, tmp_path / "a.h5", classes=table, **one).path)
    assert attributes["class_names"] == ["ball", "donut", "rod"]
    assert dict(zip(data["id"].tolist(), data["class"].tolist(), strict=True)) == {
        3: 2,
        4: -1,
        12: 2,
        70000: -1,
        BIG: 0,
    }
    volume = np.zeros(labels.shape, np.uint8)
    volume[labels == 3] = 9
    volume[5] = 4  # a part of two objects
    volume[labels == 70000] = 1
    data, attributes = read(prepare_objects(labels, image, tmp_path / "b.h5", classes=volume, **one).path)
    assert attributes["class_names"] is None
    assert dict(zip(data["id"].tolist(), data["class"].tolist(), strict=True)) == {
        3: 9,
        4: -1,
        12: -1,
        70000: 1,
        BIG: 4,
    }
    data, _ = read(prepare_objects(labels, image, tmp_path / "c.h5", classes={3: 5, 4: 0}, **one).path)
    assert data["class"].tolist() == [5, 0, -1, -1, -1]
    _, attributes = read(prepare_objects(labels, image, tmp_path / "d.h5", classes={3: 2**63, 4: 0}, **one).path)
    assert attributes["class_names"] == ["0", str(2**63)]
    large = np.where(labels > 0, np.uint64(2**63), np.uint64(0))
    with pytest.raises(InvalidInputError, match=r"class 9223372036854775808 of the object 70000; expected at most"):
        prepare_objects(labels, image, tmp_path / "e.h5", classes=large, **one)


class Killed(BaseException):
    pass


def test_an_interrupted_run_is_continued(tmp_path, volumes, monkeypatch):
    labels, image = volumes
    expected, _ = read(prepare_objects(labels, image, tmp_path / "a.h5", **OPTIONS).path)
    monkeypatch.setattr(object_batches, "BATCH", 1)
    path, make, done = tmp_path / "b.h5", object_batches.ObjectBatch.make, []

    def stopping(job):
        if len(done) == 2:
            raise Killed
        done.append(job.name)
        make(job)

    monkeypatch.setattr(object_batches.ObjectBatch, "make", stopping)
    with pytest.raises(Killed):
        prepare_objects(labels, image, path, **OPTIONS)
    assert not path.exists()
    with pytest.raises(InvalidInputError, match=r"interrupted preparation is there.*seed is 0 there, 1 now"):
        prepare_objects(labels, image, path, seed=1, **OPTIONS)
    monkeypatch.setattr(object_batches.ObjectBatch, "make", lambda job: (done.append(job.name), make(job)))
    monkeypatch.setattr(object_preparation, "list_objects", None)  # the list is kept, too
    prepare_objects(labels, image, path, **OPTIONS)
    assert sorted(done) == [f"batch_{number:06d}" for number in range(5)]
    data, _ = read(path)
    for name, values in expected.items():
        np.testing.assert_array_equal(data[name], values)


def test_a_finished_file_is_kept_or_replaced(tmp_path, volumes):
    labels, image = volumes
    path = tmp_path / "o.h5"
    prepare_objects(labels, image, path, **OPTIONS)
    before = path.stat().st_mtime_ns
    assert prepare_objects(labels, image, path, **OPTIONS).kept
    assert path.stat().st_mtime_ns == before
    with pytest.raises(InvalidInputError, match="contents is both there, mask now"):
        prepare_objects(labels, image, path, "mask", **OPTIONS)
    changed = image.copy()
    changed[2, 3, 4] ^= 1
    with pytest.raises(InvalidInputError, match=r"made with other settings: sources\.image"):
        prepare_objects(labels, changed, path, **OPTIONS)
    assert not prepare_objects(labels, image, path, "mask", overwrite=True, **OPTIONS).kept
    assert ObjectDataset(path)[0]["image"].shape == (1, 8, 8, 8)
    path.write_bytes(b"no file")
    with pytest.raises(InvalidInputError, match="damaged"):
        prepare_objects(labels, image, path, **OPTIONS)


def test_bad_volumes(tmp_path, volumes):
    labels, image = volumes
    path = tmp_path / "o.h5"
    with pytest.raises(InvalidInputError, match=r"image.*has shape \(9, 30, 40\).*9 slices, but 10"):
        prepare_objects(labels, image[:9], path, **OPTIONS)
    with pytest.raises(InvalidInputError, match=r"\(10, 30, 39\).*\(10, 30, 40\)"):
        prepare_objects(labels, image[..., :39], path, **OPTIONS)
    with pytest.raises(InvalidInputError, match="float32"):
        prepare_objects(labels.astype(np.float32), image, path, **OPTIONS)
    with pytest.raises(InvalidInputError, match="at least 5000 voxels"):
        prepare_objects(labels, image, path, bounds=(5000, None), **OPTIONS)
    with pytest.raises(InvalidInputError, match=r"1 objects need more memory.*object 70000: \(3, 18, 35\)"):
        prepare_objects(labels, image, path, memory_limit_gib=3e-5, **OPTIONS)
    with pytest.raises(InvalidInputError, match="does not tell its voxel size"):
        prepare_objects(labels, image, path, progress=False)
    folder = write_folder(tmp_path / "em", image)
    (folder / "s6.png").unlink()
    with pytest.raises(MissingDataError, match="missing: 6"):
        prepare_objects(labels, folder, path, **OPTIONS)
    assert sorted(os.listdir(tmp_path)) == [".o.h5.lock", "em"]


def test_bad_arguments(tmp_path, volumes):
    path = tmp_path / "o.h5"
    for options, message in (
        ({"contents": "texture"}, "contents='texture' is not known"),
        ({"large_object_samples": -1}, "large_object_samples=-1"),
        ({"intensity_range": (3, 3)}, r"intensity_range=\(3, 3\)"),
        ({"bounds": (5, 2)}, "bounds"),
        ({"memory_limit_gib": 0}, "memory_limit_gib=0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"seed": -1}, "seed=-1"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            prepare_objects(*volumes, path, **OPTIONS, **options)
    with pytest.raises(InvalidInputError, match="needs an image"):
        prepare_objects(volumes[0], None, path, **OPTIONS)
    with pytest.raises(InvalidInputError, match=r"expected a name that ends with \.h5"):
        prepare_objects(*volumes, tmp_path / "o.zarr", **OPTIONS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,kind\n1,a\n", "no column"),
        ("id,class\n", "no rows"),
        ("id,class\n1,a\n1,b\n", r"line 3: object 1 has the classes 'a' and 'b'"),
        ("id,class\n-1,a\n", "line 2: id '-1'"),
        ("id,class\n1,\n", "line 2"),
    ],
)
def test_bad_class_tables(tmp_path, volumes, text, message):
    table = tmp_path / "c.csv"
    table.write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        prepare_objects(*volumes, tmp_path / "o.h5", classes=table, **OPTIONS)
    with pytest.raises(MissingDataError, match="does not exist"):
        prepare_objects(*volumes, tmp_path / "o.h5", classes=tmp_path / "nowhere.csv", **OPTIONS)
    table.write_bytes("id,class\n1,größer\n".encode("latin-1"))
    with pytest.raises(InvalidInputError, match=r"is no CSV file in UTF-8"):
        prepare_objects(*volumes, tmp_path / "o.h5", classes=table, **OPTIONS)
