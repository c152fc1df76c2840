import numpy as np
import pytest

from voxel_ext.data import check_prepared_objects, object_channels, object_feature_name
from voxel_ext.data.object_dataset import ObjectDataset
from voxel_ext.data.object_preparation import prepare_objects
from voxel_ext.errors import InvalidInputError


def test_names():
    assert object_channels("both") == ("mask", "masked_image")
    assert [object_feature_name(one) for one in ("mask", "masked_image", "both")] == [
        "shapef",
        "texturef",
        "shape_texturef",
    ]
    for function in (object_channels, object_feature_name):
        with pytest.raises(InvalidInputError, match=r"contents='masks'.*'masked_image'"):
            function("masks")


def test_objects_of_another_network_are_refused(tmp_path):
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:5, 2:6, 2:6] = 1
    options = {"voxel_size": (1, 1, 1), "progress": False}
    prepare_objects(labels, labels / 1.0, tmp_path / "objects.h5", "masked_image", 8, **options)
    dataset = ObjectDataset(tmp_path / "objects.h5")
    check_prepared_objects(dataset, "masked_image", 8)
    # as many channels, but others
    with pytest.raises(InvalidInputError, match=r"contents='mask', but .*objects.h5 .*contents='masked_image'"):
        check_prepared_objects(dataset, "mask", 8)
    with pytest.raises(InvalidInputError, match=r"size=16, but .*size=8"):
        check_prepared_objects(dataset, "masked_image", 16)
    with pytest.raises(InvalidInputError, match="contents='text'"):
        check_prepared_objects(dataset, "text", 8)
