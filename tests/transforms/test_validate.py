"""Images and labels that must be refused, and those that must not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms import ValidateImage, ValidateImaged, check_image


def image(kind=torch.float32, filename=None):
    values = torch.arange(2 * 3 * 4).reshape(1, 2, 3, 4).to(kind)
    return MetaTensor(values, meta={"filename_or_obj": filename} if filename else None)


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.uint8, torch.uint16, torch.int64])
def test_a_good_image_comes_back_as_it_was(kind):
    for img in (image(kind), image(kind).as_tensor(), image(kind).numpy()):
        assert ValidateImage()(img) is img
        label = np.zeros((1, 2, 3, 4))  # a constant label is not an error
        result = ValidateImaged("image", "label")({"image": img, "label": label, "other": 1})
        assert result["image"] is img
        assert result["label"] is label
        assert result["other"] == 1


def test_nan_and_infinite_values_are_counted():
    img = image(filename="fly.h5")
    img[0, 0, 0, :3] = torch.nan
    img[0, 1, 0, 0], img[0, 1, 1, 1] = torch.inf, -torch.inf
    with pytest.raises(InvalidInputError, match=r"'image' from fly.h5 has 3 NaN and 2 infinite of 24 values"):
        ValidateImaged("image")({"image": img})
    with pytest.raises(InvalidInputError, match=r"the image from fly.h5 has 3 NaN"):
        ValidateImage()(img)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_bad_value_is_found_wherever_it_is(value):
    for index in range(24):
        img = np.arange(24.0)
        img[index] = value
        with pytest.raises(InvalidInputError, match=f"{int(np.isnan(value))} NaN and {int(np.isinf(value))} infinite"):
            check_image(img.reshape(1, 2, 3, 4))


def test_a_constant_or_empty_image():
    with pytest.raises(InvalidInputError, match="'image' is constant: every value is 7"):
        ValidateImaged("image")({"image": np.full((1, 4, 4), 7, np.uint16)})
    with pytest.raises(InvalidInputError, match=r"empty: its shape is \(1, 0, 4\)"):
        ValidateImage()(np.zeros((1, 0, 4)))


def test_label_of_another_shape_names_both_files_and_shapes():
    label = MetaTensor(torch.zeros(1, 2, 3, 5), meta={"filename_or_obj": "truth.h5"})
    message = r"'image' from raw.h5 has the spatial shape \(2, 3, 4\), but 'label' from truth.h5 has \(2, 3, 5\)"
    with pytest.raises(InvalidInputError, match=message):
        ValidateImaged("image", "label")({"image": image(filename="raw.h5"), "label": label})


def test_channels_of_image_and_label_may_differ():
    data = {"image": np.random.default_rng(0).random((3, 4, 4)), "label": np.zeros((1, 4, 4))}
    assert ValidateImaged(["image"], ["label"])(data).keys() == data.keys()


def test_missing_keys():
    with pytest.raises(InvalidInputError, match=r"no label 'label' among the keys \['image'\]"):
        ValidateImaged("image", "label")({"image": image()})
    with pytest.raises(KeyError, match="image"):
        ValidateImaged("image")({"label": image()})
    assert ValidateImaged(["image", "raw"], "label", allow_missing_keys=True)({"image": image()})
