import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.label.instance_gaps import instances_to_sparse_labels
from voxel_ext.transforms.label.neighbors import count_neighbors, taxicab_distance
from voxel_ext.transforms.label.sparse_labels import SparseLabelWeights, SparseLabelWeightsd, sparse_label_weights

SIX = [step for step in itertools.product((-1, 0, 1), repeat=3) if np.abs(step).sum() == 1]


def random_labels(seed, shape=(4, 5, 6)):
    return np.random.default_rng(seed).choice(4, shape, p=[0.4, 0.1, 0.4, 0.1]).astype(np.uint8)


def brute_distance(mask, steps):
    points = np.argwhere(mask)
    grid = np.stack(np.indices(mask.shape), -1)[..., None, :]
    return (np.abs(grid - points) * steps).sum(-1).min(-1)


@pytest.mark.parametrize("seed", range(5))
def test_distance_is_that_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((4, 7, 5)) < 0.05
    mask[tuple(rng.integers((4, 7, 5)))] = True
    steps = rng.random(3) * [1, 2, 0]
    np.testing.assert_allclose(taxicab_distance(mask, steps), brute_distance(mask, steps), atol=1e-12)


def test_distance_to_nothing_and_bad_steps():
    assert np.isinf(taxicab_distance(np.zeros((2, 3), bool), (1, 1))).all()
    with pytest.raises(InvalidInputError, match=r"steps=\(1, -1\); expected 2"):
        taxicab_distance(np.zeros((2, 3), bool), (1, -1))
    with pytest.raises(InvalidInputError, match="expected 2 finite numbers"):
        taxicab_distance(np.zeros((2, 3), bool), (1, 1, 1))


def slow_weight(labels, place, options):
    """The definition, voxel by voxel."""
    label = labels[place]
    if label == 1:
        return options["weight_foreground"]
    if label == 2:
        steps = (options["scale_z"], options["scale_xy"], options["scale_xy"])
        distance = (np.abs(np.argwhere(labels == 1) - place) * steps).sum(1).min()
        return max(1.0, options["weight_foreground"] * 2**-distance)
    if label == 3:
        around = [tuple(np.add(place, step)) for step in SIX]
        inside = [p for p in around if min(p) >= 0 and all(np.less(p, labels.shape))]
        touched = sum(labels[p] == 1 for p in inside)
        return options["weight_gap"] * (1 + touched * options["scale_gap"])
    return 0.0


@pytest.mark.parametrize("scale_gap", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_weights_are_those_of_the_definition(seed, scale_gap):
    labels = random_labels(seed)
    options = {"weight_foreground": 6.0, "weight_gap": 15.0, "scale_xy": 0.3, "scale_z": 0.7, "scale_gap": scale_gap}
    target, weight = sparse_label_weights(labels, **options)
    expected = [slow_weight(labels, place, options) for place in np.ndindex(labels.shape)]
    np.testing.assert_allclose(weight.ravel(), expected, rtol=1e-6)
    np.testing.assert_array_equal(target, labels == 1)
    assert (target.dtype, weight.dtype) == (np.uint8, np.float32)


def test_background_weight_halves_and_ends_at_one():
    labels = np.full((9, 1, 20), 2, np.uint8)
    labels[0, 0, 0] = 1
    _, weight = sparse_label_weights(labels)
    np.testing.assert_allclose(weight[:4, 0, 0], [5, 2.5, 1.25, 1])
    np.testing.assert_allclose(weight[0, 0, 1:], np.maximum(5 * 2 ** (-0.36 * np.arange(1, 20)), 1), rtol=1e-6)


def test_only_gaps_have_the_weight_of_gaps():
    labels = np.array([0, 2, 1, 3, 1, 2, 2], np.uint8).reshape(1, 1, 7)
    for scale_gap, gap in ((False, 20), (True, 60)):
        _, weight = sparse_label_weights(labels, scale_gap=scale_gap)
        near, far = 5 * 2**-0.36, 5 * 2**-0.72
        np.testing.assert_allclose(weight.ravel(), [0, near, 5, gap, 5, near, far], rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1, 4, 9]), "values 4, 9; expected 0"),
        (np.array([0.5, 1, 2]), r"values 0\.5; expected 0"),
        (np.array([-1, 1]), "values -1;"),
        (np.arange(60), "values 4, 5, .*13, …"),
        (np.zeros(3), "no voxel is labeled, all weights would be 0"),
        (np.array([0, 2, 3]), "no neuron: the sparse labels have the values"),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises(InvalidInputError, match=message):
        sparse_label_weights(labels.reshape(1, 1, -1))


def test_bad_shape_and_options():
    with pytest.raises(InvalidInputError, match=r"shape \(3, 4\); expected \(D, H, W\)"):
        sparse_label_weights(np.ones((3, 4)))
    labels = np.ones((1, 1, 1))
    for name, value in (("weight_foreground", 0.5), ("weight_gap", -1), ("scale_xy", np.nan), ("scale_z", "1")):
        with pytest.raises(InvalidInputError, match=f"{name}={value!r}"):
            sparse_label_weights(labels, **{name: value})
        with pytest.raises(InvalidInputError, match=f"{name}={value!r}"):
            SparseLabelWeights(**{name: value})


def test_transform_keeps_type_and_affine():
    labels = random_labels(0)[None]
    expected = sparse_label_weights(labels[0], scale_xy=0.5)
    image = MetaTensor(torch.as_tensor(labels).float(), affine=torch.diag(torch.tensor([2.0, 3, 4, 1])))
    result = SparseLabelWeightsd("label", "w", scale_xy=0.5)({"label": image, "other": 1})
    assert sorted(result) == ["label", "other", "w"]
    for found, wanted, dtype in zip(
        (result["label"], result["w"]), expected, (torch.uint8, torch.float32), strict=True
    ):
        assert isinstance(found, MetaTensor)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.numpy()[0], wanted)
        np.testing.assert_array_equal(found.affine, image.affine)
    target, weight = SparseLabelWeights(scale_xy=0.5)(labels)
    assert isinstance(target, np.ndarray)
    np.testing.assert_array_equal(weight[0], expected[1])
    with pytest.raises(InvalidInputError, match="expected one key"):
        SparseLabelWeightsd(["a", "b"])
    with pytest.raises(InvalidInputError, match=r"expected \(1, D, H, W\)"):
        SparseLabelWeights()(labels[0])


def test_count_neighbors():
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = True
    assert count_neighbors(mask).sum() == 6
    assert count_neighbors(np.ones((3, 3, 3), bool))[1, 1, 1] == 6
    assert count_neighbors(np.ones((3, 3, 3), bool))[0, 0, 0] == 3


@pytest.mark.parametrize("width", [0, 1, 2])
def test_gaps_are_those_of_brute_force(width):
    instances = np.random.default_rng(4).choice([0, 1, 2, 7], (4, 5, 6), p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)
    labels = instances_to_sparse_labels(instances, width)
    for place in np.ndindex(instances.shape):
        near = np.abs(np.stack(np.indices(instances.shape), -1) - place).sum(-1) <= width
        ids = set(instances[near].tolist()) - {0}
        expected = 3 if len(ids) > 1 else 1 if instances[place] else 2
        assert labels[place] == expected


def test_largest_id_and_far_background():
    instances = np.zeros((1, 1, 9), np.uint8)
    instances[0, 0, :3] = 255
    instances[0, 0, 3:5] = 1
    labels = instances_to_sparse_labels(instances, 1, background_distance=2)
    assert labels.ravel().tolist() == [1, 1, 3, 3, 1, 2, 2, 0, 0]


def test_bad_instances():
    good = np.ones((2, 2, 2), np.int32)
    for array, message in (
        (good.astype(float), "data type float64"),
        (good[0], r"shape \(2, 2\)"),
        (-good, "from -1 to -1"),
        (0 * good, "at least one id"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            instances_to_sparse_labels(array)
    with pytest.raises(InvalidInputError, match="gap_width=-1"):
        instances_to_sparse_labels(good, -1)
    with pytest.raises(InvalidInputError, match="background_distance=0"):
        instances_to_sparse_labels(good, 1, 0)
