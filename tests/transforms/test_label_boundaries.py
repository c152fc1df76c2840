import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.label.boundaries import (
    BlobsToMask,
    BlobsToMaskd,
    LabelToBoundary,
    LabelToBoundaryd,
    label_boundaries,
)


def labels(dtype=np.int32, seed=0):
    """Blocks of ids with background between some of them."""
    blocks = np.random.default_rng(seed).integers(0, 4, (3, 3, 3))
    return np.kron(blocks, np.ones((3, 3, 3))).astype(dtype)[:7, :8, :]


@pytest.mark.parametrize("connectivity", [1, 2, 3])
@pytest.mark.parametrize("mode", ["thick", "inner"])
def test_brute_force(mode, connectivity):
    """A voxel with a neighbor of another id; inside an object only for "inner"."""
    label = labels()
    steps = [s for s in itertools.product((-1, 0, 1), repeat=3) if 0 < np.abs(s).sum() <= connectivity]
    found = label_boundaries(label, mode, connectivity)
    assert 0 < found.sum() < found.size
    for p in itertools.product(*map(range, label.shape)):
        others = [tuple(np.add(p, s)) for s in steps]
        inside = [q for q in others if all(0 <= a < b for a, b in zip(q, label.shape, strict=True))]
        expected = any(label[q] != label[p] for q in inside) and (mode == "thick" or label[p] != 0)
        assert found[p] == expected


def test_outer_lies_outside_a_lone_object():
    label = np.zeros((5, 5, 5), np.uint8)
    label[2, 2, 2] = 7
    outer = label_boundaries(label, "outer", connectivity=1)
    assert outer.sum() == 6
    assert outer[2, 2, 2] == 0


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.uint8, np.float32])
def test_ignored_voxels_stay_ignored(dtype):
    label = labels(dtype)
    label[0] = 255 if dtype == np.uint8 else -1
    ignore = int(label[0, 0, 0])
    result = LabelToBoundary(ignore_index=ignore)(label[None])
    assert (result[0, 0] == ignore).all()
    plain = label_boundaries(label.astype(np.int64), "thick")
    np.testing.assert_array_equal(result[0, 1:], plain[1:])


def test_label_is_appended_and_metadata_kept():
    label = MetaTensor(torch.from_numpy(labels())[None], meta={"name": "worm"})
    result = LabelToBoundaryd("label", append_label=True)({"label": label})["label"]
    assert result.meta["name"] == "worm"
    assert result.dtype == torch.int32
    assert torch.equal(result[1:].as_tensor(), label.as_tensor())
    plain = LabelToBoundary("inner")(label)
    assert plain.dtype == torch.uint8
    np.testing.assert_array_equal(plain[0].numpy(), label_boundaries(labels(), "inner"))


def test_blobs_to_mask():
    label = labels()
    mask = BlobsToMask()(label[None])
    np.testing.assert_array_equal(mask[0], label > 0)
    both = BlobsToMask("outer")(label[None])
    edges = label_boundaries(label, "outer")
    np.testing.assert_array_equal(both, np.stack([label > 0, edges]))
    classes = BlobsToMaskd("label", "thick", as_classes=True)({"label": torch.from_numpy(label)[None]})["label"]
    expected = np.where(label_boundaries(label) > 0, 2, label > 0)
    np.testing.assert_array_equal(classes.numpy(), expected[None])
    assert set(classes.unique().tolist()) <= {0, 1, 2}
    kept = BlobsToMask("inner", ignore_index=3, append_label=True)(label[None])
    assert kept.shape == (3, *label.shape)
    assert (kept[:, label == 3] == 3).all()
    np.testing.assert_array_equal(kept[0] != 0, label > 0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: LabelToBoundary("thik"), "Did you mean 'thick'"),
        (lambda: BlobsToMask("subpixel"), "boundary='subpixel'"),
        (lambda: BlobsToMask(as_classes=True), "needs a boundary"),
        (lambda: LabelToBoundary(connectivity=4)(labels()[None]), "connectivity=4"),
        (lambda: LabelToBoundary()(labels()), r"\(7, 8, 9\)"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InvalidInputError, match=words):
        call()
