import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.label.affinities import LabelToAffinities, LabelToAffinitiesd, label_affinities

OFFSETS = [(-1, 0, 0), (0, 2, 0), (1, -1, 3), (0, 0, 9)]


def labels(dtype=np.int32, seed=0):
    return np.random.default_rng(seed).integers(0, 3, (4, 5, 6)).astype(dtype)


@pytest.mark.parametrize("ignore_index", [None, 2])
def test_brute_force(ignore_index):
    label = labels()
    found = label_affinities(label, OFFSETS, ignore_index)
    for channel, offset in zip(found, OFFSETS, strict=True):
        for p in itertools.product(*map(range, label.shape)):
            q = tuple(np.add(p, offset))
            there = label[q] if all(0 <= a < b for a, b in zip(q, label.shape, strict=True)) else None
            if ignore_index is not None and ignore_index in (label[p], there):
                expected = ignore_index
            else:
                expected = int(there == label[p] and label[p] != 0)
            assert channel[p] == expected


def test_opposite_offsets_say_the_same_of_a_pair():
    label = labels()
    forth, back = label_affinities(label, [(1, 0, 2), (-1, 0, -2)])
    np.testing.assert_array_equal(forth[:-1, :, :-2], back[1:, :, 2:])


def test_one_object_has_no_boundary_but_the_volume():
    found = label_affinities(np.ones((3, 4, 5), np.uint8))
    assert found.dtype == np.uint8
    assert found.shape == (3, 3, 4, 5)
    assert found.sum() == 2 * 4 * 5 + 3 * 3 * 5 + 3 * 4 * 4
    assert label_affinities(np.zeros((3, 4, 5), np.uint8)).sum() == 0


def test_transform_keeps_types_and_appends_the_label():
    label = torch.from_numpy(labels(np.int64) * 1000)[None]
    result = LabelToAffinitiesd("label", OFFSETS, append_label=True)(
        {"label": MetaTensor(label, meta={"name": "worm"})}
    )
    assert result["label"].meta["name"] == "worm"
    assert result["label"].dtype == torch.int64
    assert torch.equal(result["label"].as_tensor()[-1:], label)
    np.testing.assert_array_equal(result["label"][:-1].numpy(), label_affinities(label[0].numpy(), OFFSETS))
    flat = LabelToAffinities([(0, 1)])(label[:, 0].numpy().astype(np.float32))
    assert isinstance(flat, np.ndarray)
    assert flat.shape == (1, 5, 6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: label_affinities(labels(), [(0, 1)]), "each of 3 integers"),
        (lambda: label_affinities(labels(), [(0, 0, 0)]), "not all 0"),
        (lambda: label_affinities(labels(), []), "at least one"),
        (lambda: LabelToAffinities()(labels()[None].repeat(2, 0)), r"\(2, 4, 5, 6\)"),
        (lambda: LabelToAffinities()(labels()[None] + 0.5), "not integers"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InvalidInputError, match=words):
        call()
