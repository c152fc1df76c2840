"""Files of artificial mitochondria are what the generator makes, and are made once."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
import zarr

from voxel_ext.data import open_volume, prepare_synthetic_mitochondria
from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic.mitochondria import CLASSES, Mitochondria

OPTIONS = {"size": (48, 80, 80), "objects": 12, "volume": (0.02, 0.03), "progress": False}
WHOLE = (slice(None),) * 3


def snapshot(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return prepare_synthetic_mitochondria(tmp_path_factory.mktemp("mito") / "volume", **OPTIONS)


def test_files_are_the_volume_of_the_generator(made):
    expected = Mitochondria(0, size=(48, 80, 80), objects=12, volume=(0.02, 0.03)).generate()
    image, labels = open_volume(made.image), open_volume(made.labels)
    assert (image.dtype, labels.dtype) == (np.uint8, np.uint32)
    assert np.array_equal(labels.read(WHOLE)[0], expected["label"])
    assert np.abs(image.read(WHOLE)[0] / 255.0 - expected["image"]).max() <= 0.5 / 255 + 1e-6
    for volume in (image, labels):
        assert volume.voxel_size == pytest.approx((0.030, 0.016, 0.016))
    with open(made.classes, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["id"]): row["class"] for row in rows} == expected["classes"]


def test_classes_are_shared_out_equally(made):
    with open(made.classes, newline="") as file:
        names = [row["class"] for row in csv.DictReader(file)]
    assert {name: names.count(name) for name in CLASSES} == dict.fromkeys(CLASSES, 2)


def test_files_of_the_same_settings_are_kept(made):
    folder = made.labels.parent
    before = snapshot(folder)
    assert prepare_synthetic_mitochondria(folder, **OPTIONS) == made
    assert snapshot(folder) == before


def test_what_an_interrupted_run_lacks_is_made_and_other_settings_are_refused(tmp_path):
    options = {**OPTIONS, "objects": {"rod": 1}, "size": (24, 48, 48)}
    made = prepare_synthetic_mitochondria(tmp_path, **options)
    labels = open_volume(made.labels).read(WHOLE)
    made.classes.unlink()
    shutil.rmtree(made.labels)
    with pytest.raises(InvalidInputError, match=r"image\.zarr was made with other settings: seed is 0 there, 1 now"):
        prepare_synthetic_mitochondria(tmp_path, **{**options, "seed": 1})
    assert prepare_synthetic_mitochondria(tmp_path, **options) == made
    assert np.array_equal(open_volume(made.labels).read(WHOLE), labels)
    again = prepare_synthetic_mitochondria(tmp_path, **{**options, "seed": 1}, overwrite=True)
    assert not np.array_equal(open_volume(again.labels).read(WHOLE), labels)
    assert "objects_drawn" not in zarr.open_group(str(again.labels), mode="r").attrs["settings"]


def test_files_of_others_are_not_replaced(tmp_path):
    zarr.open_group(str(tmp_path / "image.zarr"), mode="w")
    with pytest.raises(InvalidInputError, match=r"image\.zarr was not made by prepare, or is damaged"):
        prepare_synthetic_mitochondria(tmp_path, **OPTIONS)
    (tmp_path / "image.zarr" / "zarr.json").unlink()
    (tmp_path / "image.zarr").rmdir()
    (tmp_path / "classes.csv").write_text("name\nx\n")
    with pytest.raises(InvalidInputError, match=r"classes\.csv was not made .* has no column"):
        prepare_synthetic_mitochondria(tmp_path, **OPTIONS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"objects": 0}, "objects=0"),
        ({"objects": {"ring": 3}}, "objects='ring' is not known"),
        ({"size": 4}, "size"),
        ({"voxel_size": (0, 16, 16)}, "voxel_size"),
        ({"seed": -1}, "seed=-1"),
        ({"size": (16, 32, 32), "objects": 60}, "no room was found"),
    ],
)
def test_bad_input(tmp_path, changed, message):
    with pytest.raises(InvalidInputError, match=message):
        prepare_synthetic_mitochondria(tmp_path / "out", **{**OPTIONS, **changed})
    assert not (tmp_path / "out" / "labels.zarr").exists()
