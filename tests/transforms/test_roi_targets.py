import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, RandFlipd, RandRotated

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.label.roi_targets import LARGEST_TABLE, RoiTargetsd, check_weights, roi_slots

SHAPE = (1, 6, 7, 8)


def item(ids=(2, 5, 40), seed=0, dtype=torch.int32):
    rng = np.random.default_rng(seed)
    roi = torch.from_numpy(rng.choice([0, *ids], SHAPE)).to(dtype)
    roi.view(-1)[: len(ids)] = torch.tensor(ids).to(dtype)
    return {
        "image": torch.from_numpy(rng.normal(size=(2, *SHAPE[1:]))).float(),
        "roi": roi,
        "roi_ids": torch.tensor(ids),
        "roi_class": torch.tensor([7, 0, 3]),
        "roi_weight": torch.tensor([600.0, 1.0, 20.0]),
        "roi_other_weight": torch.tensor([180.0, 1.0, 3.0]),
        "roi_confidence": torch.tensor([3, 0, 1]),
        "true_class": torch.tensor([7, 2, 3]),
        "name": "a",
    }


def brute(data, unlabeled=1.0):
    """Target and weights voxel by voxel."""
    roi = np.asarray(data["roi"])
    label, weight, other = np.zeros(roi.shape, int), np.ones(roi.shape), np.ones(roi.shape)
    for place in np.ndindex(roi.shape):
        for i, roi_id in enumerate(data["roi_ids"].tolist()):
            if roi[place] == roi_id:
                labeled = int(data["roi_class"][i]) > 0
                label[place] = data["roi_class"][i]
                weight[place] = data["roi_weight"][i] if labeled else unlabeled
                other[place] = data["roi_other_weight"][i] if labeled else unlabeled
    return label, weight, other


LARGE = (2, 5, LARGEST_TABLE + 3)


@pytest.mark.parametrize("ids", [(2, 5, 40), (1, 2, 3), LARGE])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32])
@pytest.mark.parametrize("unlabeled", [1.0, 0.0, 2.5])
def test_targets_are_those_of_each_voxel(ids, dtype, unlabeled):
    data = item(ids, dtype=dtype)
    result = RoiTargetsd(unlabeled_weight=unlabeled)(data)
    label, weight, other = brute(data, unlabeled)
    np.testing.assert_array_equal(result["label"], label)
    np.testing.assert_array_equal(result["weight"], weight)
    np.testing.assert_array_equal(result["other_weight"], other)
    assert (result["label"].dtype, result["weight"].dtype) == (torch.int64, torch.float32)
    assert result["other_weight"].dtype == torch.float32
    assert set(result) == {"image", "roi", "name", "label", "weight", "other_weight"}
    assert "roi_ids" in data


def test_int32_volume_as_stored():
    roi = np.array([0, 65535, 70000], np.int32)
    slots = roi_slots(torch.from_numpy(roi), torch.tensor([65535, 70000]))
    assert slots.tolist() == [0, 1, 2]


def test_targets_follow_the_rois_through_spatial_transforms():
    spatial = Compose([
        RandFlipd(["image", "roi"], prob=1, spatial_axis=2),
        RandRotated(["image", "roi"], range_x=0.5, prob=1, mode=["bilinear", "nearest"], padding_mode="zeros"),
    ]).set_random_state(1)  # fmt: skip
    data = {key: MetaTensor(value) if key in ("image", "roi") else value for key, value in item().items()}
    moved = spatial(data)
    assert not torch.equal(moved["roi"], data["roi"].to(moved["roi"].dtype))
    result = RoiTargetsd()(moved)
    for key, expected in zip(("label", "weight", "other_weight"), brute(moved), strict=True):
        np.testing.assert_array_equal(result[key], expected)
        assert isinstance(result[key], MetaTensor)


def test_linear_interpolation_of_ids_is_refused():
    data = item()
    data["roi"] = data["roi"] * 0.5
    with pytest.raises(InvalidInputError, match="no whole numbers; resample it with mode='nearest'"):
        RoiTargetsd()(data)


@pytest.mark.parametrize("ids", [(2, 5, 40), LARGE])
def test_ids_without_an_entry(ids):
    for wrong in (3, ids[-1] + 1, -1):
        data = item(ids)
        data["roi"][0, 0, 0, 4] = wrong
        with pytest.raises(InvalidInputError, match=rf"1 ids of the ROI volume are not in roi_ids: \[{wrong}\]"):
            RoiTargetsd()(data)


def test_ids_that_floats_cannot_hold():
    with pytest.raises(InvalidInputError, match=r"not exact as torch\.float32"):
        roi_slots(torch.zeros(3), torch.tensor([2**24 + 1]))
    with pytest.raises(InvalidInputError, match=r"not exact as torch\.float16"):
        roi_slots(torch.zeros(3, dtype=torch.float16), torch.tensor([3000]))


def test_kept_items_are_padded():
    kept = RoiTargetsd(keep=True)(item())
    assert kept["roi_ids"].tolist() == [2, 5, 40]
    padded = RoiTargetsd(keep=True, pad_rois=5)(item())
    assert padded["roi_ids"].tolist() == [2, 5, 40, 0, 0]
    assert padded["true_class"].tolist() == [7, 2, 3, 0, 0]
    assert padded["roi_weight"].shape == (5,)
    np.testing.assert_array_equal(padded["label"], kept["label"])
    with pytest.raises(InvalidInputError, match="3 entries, more than pad_rois=2"):
        RoiTargetsd(keep=True, pad_rois=2)(item())


def test_other_weight_can_be_left_out():
    result = RoiTargetsd(other_weight_key=None, label_key="t", weight_key="w")(item())
    assert set(result) == {"image", "roi", "name", "t", "w"}


@pytest.mark.parametrize("unlabeled", [1.0, 0.0, 2.5])
def test_equal_weights(unlabeled):
    """Every labeled ROI weighs 1 as the background does, whatever its confidence."""
    data = item()
    equal = {**data, "roi_weight": torch.ones(3), "roi_other_weight": torch.ones(3)}
    result = RoiTargetsd(weighting="equal", unlabeled_weight=unlabeled)(data)
    for key, expected in zip(("label", "weight", "other_weight"), brute(equal, unlabeled), strict=True):
        np.testing.assert_array_equal(result[key], expected)
    assert result["weight"].dtype == torch.float32
    assert not torch.equal(result["weight"], RoiTargetsd(unlabeled_weight=unlabeled)(data)["weight"])
    with pytest.raises(InvalidInputError, match="Did you mean 'equal'"):
        RoiTargetsd(weighting="equals")


def test_no_labels_at_all():
    data = item()
    data["roi_class"] = torch.zeros(3, dtype=torch.int64)
    result = RoiTargetsd(unlabeled_weight=0)(data)
    np.testing.assert_array_equal(result["weight"], (data["roi"] == 0).float())
    assert not result["label"].any()


def test_wrong_items():
    data = item()
    del data["roi_class"]
    with pytest.raises(InvalidInputError, match=r"\['roi_class'\] are missing"):
        RoiTargetsd()(data)
    data = item()
    data["roi"] = data["roi"][0]
    with pytest.raises(InvalidInputError, match=r"expected \(1, D, H, W\)"):
        RoiTargetsd()(data)
    data = item()
    data["roi_weight"][0] = -5
    with pytest.raises(InvalidInputError, match="roi_weight: 1 weights are negative, the least is -5"):
        RoiTargetsd()(data)
    with pytest.raises(InvalidInputError, match="unlabeled_weight=-1"):
        RoiTargetsd(unlabeled_weight=-1)
    with pytest.raises(InvalidInputError, match="no effect without keep=True"):
        RoiTargetsd(pad_rois=3)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_check_weights(kind):
    check_weights(kind([0.0, 2.0]), "w")
    check_weights(kind([0, 3]), "w")
    for wrong, match in (
        ([1.0, float("nan")], "w: 1 weights are NaN or infinite"),
        ([float("inf"), 1.0], "NaN or infinite"),
        ([-0.5, -2.0, 1.0], "w: 2 weights are negative, the least is -2"),
        ([0.0, 0.0], "all 2 weights are zero"),
        ([], "all 0 weights are zero"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            check_weights(kind(wrong), "w")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("ids", [(2, 5, 40), LARGE])
def test_on_the_gpu(ids):
    data = item(ids)
    expected = RoiTargetsd()(data)
    result = RoiTargetsd()({**data, "roi": data["roi"].cuda()})
    for key in ("label", "weight", "other_weight"):
        assert result[key].is_cuda
        torch.testing.assert_close(result[key].cpu(), expected[key])
