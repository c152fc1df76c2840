"""Optimal labels against all combinations of classes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.labeling import RoiProbabilities, label_greedy, label_optimal
from voxel_ext.labeling.optimal import optimal_classes

NAMES = ["background", "AVAL", "AVAR", "DVA", "glia"]
SINGLE = np.array([False, True, True, True, False])


def random_probabilities(seed, n, k=5):
    rng = np.random.default_rng(seed)
    p = np.exp(rng.normal(0, rng.choice([1.0, 3.0]), (n, k)))
    return p / p.sum(1, keepdims=True)


def as_rois(p, centers=None):
    n = len(p)
    return RoiProbabilities(
        roi_ids=np.arange(n) + 10,
        probabilities=np.asarray(p, float),
        sizes=np.full(n, 50),
        centers=np.zeros((n, 3)) if centers is None else centers,
        confident_counts=np.zeros(np.shape(p), np.int64),
    )


def total(p, classes, floor):
    """Sum of log-probabilities, or -inf for what is not allowed."""
    used = [k for k in classes if SINGLE[k]]
    if len(used) > len(set(used)) or any(k and p[i, k] < floor for i, k in enumerate(classes)):
        return -np.inf
    return sum(np.log(max(p[i, k], floor) if k == 0 else p[i, k]) for i, k in enumerate(classes))


@pytest.mark.parametrize("floor", [0.01, 0.2])
@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_no_other_combination_is_better(seed, n, floor):
    p = random_probabilities(seed, n)
    best = max(itertools.product(range(5), repeat=n), key=lambda classes: total(p, classes, floor))
    found = optimal_classes(p, SINGLE, floor)
    assert total(p, found.tolist(), floor) == pytest.approx(total(p, best, floor))
    assert found.tolist() == list(best)


@pytest.mark.parametrize("seed", range(10))
def test_greedy_is_never_more_probable(seed):
    p = random_probabilities(seed, 8)
    rois = as_rois(p, centers=np.arange(24.0).reshape(8, 3) * 100)
    # without -alt and merging, the greedy labels are one of the assignments that are compared
    greedy = {x.roi_id - 10: x.class_index for x in label_greedy(rois, NAMES, max_probability_decrease=1.0)}
    optimal = {x.roi_id - 10: x.class_index for x in label_optimal(rois, NAMES)}
    values = [total(p, [labels[i] for i in range(8)], 0.01) for labels in (greedy, optimal)]
    assert np.isfinite(values).all()
    assert values[1] >= values[0] - 1e-9


def test_two_rois_share_better_than_greedy():
    # greedy gives AVAL to the first, which leaves the second with next to nothing
    p = [[0.01, 0.66, 0.31, 0.01, 0.01], [0.3, 0.65, 0.02, 0.02, 0.01]]
    rois = as_rois(p, centers=np.array([[0.0, 0, 0], [0, 0, 50]]))
    assert [x.neuron_class for x in label_greedy(rois, NAMES, max_probability_decrease=1.0)] == ["AVA?", "UNKNOWN"]
    labels = {x.roi_id: x for x in label_optimal(rois, NAMES, ambiguity_threshold=0.9)}
    assert [labels[i].neuron_class for i in (10, 11)] == ["AVAR", "AVAL"]
    assert labels[10].notes == "AVAL(0.66) is ROI 11."
    assert labels[11].notes == ""


def test_written_as_by_greedy_where_nobody_competes():
    p = np.full((3, 5), 0.01)
    p[0, 1], p[1, 3], p[2, 0] = 0.96, 0.96, 0.96
    rois = as_rois(p)
    greedy, optimal = label_greedy(rois, NAMES, rare_classes=["DVA"]), label_optimal(rois, NAMES, rare_classes=["DVA"])
    assert greedy == optimal
    assert [x.confidence for x in optimal] == [4, 2, 0]


def test_repeatable_classes_and_unknown_are_unlimited():
    p = np.full((6, 5), 0.01)
    p[:3, 4], p[3:, 0] = 0.96, 0.96
    labels = label_optimal(as_rois(p), NAMES)
    assert [x.neuron_class for x in labels] == ["glia"] * 3 + ["UNKNOWN"] * 3
    once = label_optimal(as_rois(p), NAMES, repeatable=())
    assert sum(x.neuron_class == "glia" for x in once) == 1


def test_zero_probabilities_and_exclusion():
    p = np.zeros((4, 5))
    p[:, 1] = 1.0
    labels = label_optimal(as_rois(p), NAMES, min_probability=0.0, excluded_rois=[12])
    assert sorted(x.roi_id for x in labels) == [10, 11, 13]
    assert sorted(x.neuron_class for x in labels) == ["AVAL", "UNKNOWN", "UNKNOWN"]
    assert all(x.notes.startswith("AVAL(1.00) is ROI") for x in labels if x.is_unknown)
    assert label_optimal(as_rois(p), NAMES, excluded_rois=[10, 11, 12, 13]) == []


def test_bad_input():
    rois = as_rois(random_probabilities(0, 2))
    with pytest.raises(InvalidInputError, match="4 class names for 5 classes"):
        label_optimal(rois, NAMES[:-1])
    with pytest.raises(InvalidInputError, match="min_probability=2"):
        label_optimal(rois, NAMES, min_probability=2)
