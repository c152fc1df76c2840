import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.label.relabel import RelabelConsecutive, RelabelConsecutived, relabel_consecutive


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_ids_become_consecutive_in_their_order(dtype):
    label = np.random.default_rng(0).choice([0, 3, 7, 100, 250], (4, 5, 6)).astype(dtype)
    found = relabel_consecutive(label)
    assert found.dtype == np.int32
    for new, old in enumerate([0, 3, 7, 100, 250]):
        np.testing.assert_array_equal(found == new, label == old)
    np.testing.assert_array_equal(relabel_consecutive(found), found)


def test_without_background_ids_begin_at_one():
    np.testing.assert_array_equal(relabel_consecutive(np.array([10, 10, 6])), [2, 2, 1])
    np.testing.assert_array_equal(relabel_consecutive(np.array([10**12, 0, 6])), [2, 0, 1])
    np.testing.assert_array_equal(relabel_consecutive(np.zeros(3, int)), [0, 0, 0])


@pytest.mark.parametrize("ignore_index", [-1, 9])
def test_ignored_voxels_stay(ignore_index):
    label = np.array([4, ignore_index, 0, 20])
    np.testing.assert_array_equal(relabel_consecutive(label, ignore_index), [1, ignore_index, 0, 2])


def test_transform_keeps_type_and_metadata():
    label = MetaTensor(torch.tensor([[[[5.0, 0, 9]]]]), meta={"name": "worm"})
    result = RelabelConsecutived("label")({"label": label, "other": 1})
    assert result["label"].meta["name"] == "worm"
    assert result["label"].dtype == torch.int32
    assert result["label"].flatten().tolist() == [1, 0, 2]
    assert isinstance(RelabelConsecutive()(np.ones((1, 2, 2, 2), np.uint8)), np.ndarray)
    assert RelabelConsecutived("none", allow_missing_keys=True)({"other": 1}) == {"other": 1}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: relabel_consecutive(np.array([1, -3])), "negative id -3"),
        (lambda: relabel_consecutive(np.array([1, 5, 7, 2]), ignore_index=2), "ignore_index=2 is among the new ids"),
        (lambda: RelabelConsecutive()(np.ones((2, 3, 3), int)), r"\(2, 3, 3\)"),
        (lambda: RelabelConsecutive()(np.full((1, 3, 3), 0.5)), "not integers"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InvalidInputError, match=words):
        call()
