"""What a measurement of a volume in files refuses, and how it says so."""

import os

import numpy as np
import pytest
from PIL import Image

from voxel_ext.data.measurement_parts import CropMeasurer
from voxel_ext.data.object_measurement import measure_volume
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.morphology.feature_names import LEARNED

SIZE = (30.0, 8.0, 8.0)


@pytest.fixture
def volumes():
    labels = np.zeros((10, 20, 30), np.uint16)
    labels[1:4, 2:16, 3:28], labels[6:8, 5:9, 5:9] = 700, 3
    return labels, np.random.default_rng(0).integers(1, 256, labels.shape).astype(np.uint8)


def write_folder(folder, array):
    folder.mkdir()
    for number, values in enumerate(array):
        Image.fromarray(values).save(folder / f"s{number}.png")
    return folder


@pytest.fixture
def refused(tmp_path, volumes):
    """Measure with something wrong; nothing is left but the lock."""

    def measure(kind, message, *, labels=None, image=None, features="size", voxel_size=SIZE, **options):
        labels = volumes[0] if labels is None else labels
        output = tmp_path / "out"
        with pytest.raises(kind, match=message):
            measure_volume(labels, image, output, features, voxel_size=voxel_size, progress=False, **options)
        left = [name for _, _, names in os.walk(output) for name in names]
        assert set(left) <= {".objects.lock"}

    return measure


def test_volumes_that_do_not_fit(refused, volumes, tmp_path):
    labels, image = volumes
    refused(InvalidInputError, r"image.*shape \(9, 20, 30\).*\(10, 20, 30\): 9 slices, but 10", image=image[:9])
    refused(InvalidInputError, r"\(10, 20, 29\).*\(10, 20, 30\)", image=image[..., :29])
    folder = write_folder(tmp_path / "em", image)
    (folder / "s9.png").unlink()
    refused(InvalidInputError, r"em .*9 slices, but 10", image=folder)
    (folder / "s6.png").unlink()
    refused(MissingDataError, "em.*missing: 6", image=folder)
    slices = write_folder(tmp_path / "labels", labels)
    (slices / "s2.png").unlink()
    refused(MissingDataError, "labels.*missing: 2", labels=slices)
    refused(MissingDataError, "nowhere.zarr", labels=tmp_path / "nowhere.zarr")


def test_labels_that_are_no_ids(refused, volumes):
    labels, _ = volumes
    refused(InvalidInputError, "labels.*float32", labels=labels.astype(np.float32))
    refused(InvalidInputError, "labels.*-1", labels=np.where(labels == 3, -1, labels.astype(np.int64)))
    refused(InvalidInputError, "all voxels are 0", labels=np.zeros_like(labels))


def test_an_image_that_is_not_finite(refused, volumes):
    image = volumes[1].astype(np.float32)
    image[7, 6, 6] = np.nan
    refused(InvalidInputError, "object 3|NaN|finite", image=image, features="intensity")


def test_no_object_is_left(refused):
    refused(InvalidInputError, r"0 of 2 objects have at least 9000 voxels.*32, .*1050", bounds=(9000, None))
    labels = np.ones((3, 3, 3), np.uint8)
    refused(InvalidInputError, "all of them at the border.*exclude_border", labels=labels, exclude_border=True)


def test_objects_that_need_more_memory(refused):
    message = r"the object 700 has a bounding box of \[3, 14, 25\] voxels.*more than memory_limit_gib=0.002;.*bounds"
    refused(InvalidInputError, message, features="thickness", memory_limit_gib=0.002)
    refused(InvalidInputError, r"object 700 .*\(and 1 more do, too\)", features="skeleton", memory_limit_gib=1e-5)


def test_statistics_need_no_memory_for_an_object(tmp_path, volumes):
    found = measure_volume(volumes[0], None, tmp_path, "size", voxel_size=SIZE, memory_limit_gib=1e-5, progress=False)
    assert found["id"].tolist() == [3, 700]


def test_names_of_features(refused):
    refused(InvalidInputError, r"'skelton' is not known.*Did you mean 'skeleton'", features=["size", "skelton"])
    refused(InvalidInputError, r"'slen' is not known.*Did you mean 'slenf'", features="slen")
    refused(InvalidInputError, "'intensity', but there is no image", features=["size", "intensity"])
    refused(InvalidInputError, "is empty", features=[])
    for name, bundle in LEARNED.items():
        refused(
            InvalidInputError, rf"'{name}', which a network computes.*{bundle}.*run inference", features=["size", name]
        )


def test_no_voxel_size(refused):
    refused(InvalidInputError, "does not tell its voxel size.*nanometers", voxel_size=None)
    refused(InvalidInputError, r"voxel_size=\(1, 0, 1\)", voxel_size=(1, 0, 1))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("bounds", (5, 2)),
        ("bounds", 7),
        ("neighbors", 0),
        ("radius_nm", 0.0),
        ("radius_nm", "wide"),
        ("density_blocks", 0),
        ("memory_limit_gib", float("nan")),
        ("num_workers", -1),
        ("max_distance_objects", 1.5),
        ("scheduler", 3),
    ],
)
def test_settings_out_of_range(refused, option, value):
    refused(InvalidInputError, option, **{option: value})


def test_classes_of_another_shape(refused, volumes, tmp_path):
    refused(InvalidInputError, r"\(classes\) has shape", classes=volumes[0][1:])
    refused(MissingDataError, "classes.csv", classes=tmp_path / "classes.csv")


def test_an_object_that_is_not_where_the_list_says(tmp_path, volumes, monkeypatch):
    labels = volumes[0].copy()

    def vanish(measurer, placed, mask, image, call=CropMeasurer.__call__):
        return call(measurer, placed, np.zeros_like(mask), image)

    monkeypatch.setattr(CropMeasurer, "__call__", vanish)
    with pytest.raises(InvalidInputError, match=r"object (3|700): .*empty|object (3|700): "):
        measure_volume(labels, None, tmp_path, "thickness", voxel_size=SIZE, progress=False)


def test_an_output_folder_that_cannot_be_written(tmp_path, volumes):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*file"):
        measure_volume(volumes[0], None, tmp_path / "file", "size", voxel_size=SIZE, progress=False)
