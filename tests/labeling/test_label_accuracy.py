"""Accuracy counted by hand, and the list of doubtful ROIs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.labeling import (
    CellLabel,
    ClassAccuracy,
    ConfidenceAccuracy,
    RoiProbabilities,
    doubtful,
    labeling_accuracy,
    pooled_accuracy,
)
from voxel_ext.labeling.accuracy import is_known_name, is_lenient_match


def label(roi_id, name, confidence=3, probability=0.9, **more):
    return CellLabel(name, roi_id, (0.0, 0.0, 0.0), confidence, probability, 0 if name == "UNKNOWN" else 1, **more)


@pytest.fixture
def labels():
    return [
        label(1, "AVAL", 5),
        label(2, "AVA?", 3),
        label(3, "AVAR-alt", 2, is_alternative=True),
        label(4, "UNKNOWN", 0),
        label(5, "DVA", 5),
        label(6, "RIML", 3),
        label(7, "ASEL", 5),
    ]


TRUTH = {1: "AVAL", 2: "AVAR", 3: "AVAR", 4: "AVAR", 5: "RIMR", 6: "RIML", 7: "AS?L", 99: "AVBL"}


def test_counts_by_hand(labels):
    result = labeling_accuracy(labels, TRUTH)
    assert (result.rois, result.labeled, result.known, result.counted) == (7, 6, 6, 5)
    assert (result.strict, result.lenient, result.found) == (2 / 5, 4 / 5, 2 / 6)
    assert result.by_confidence[5] == ConfidenceAccuracy(5, 2, 0.5, 0.5, 2, 0.5, 0.5)
    assert result.by_confidence[3] == ConfidenceAccuracy(3, 2, 0.5, 1.0, 4, 0.5, 0.75)
    assert result.by_confidence[2] == ConfidenceAccuracy(2, 1, 0.0, 1.0, 5, 0.4, 0.8)
    assert result.by_confidence[0].count == 0
    assert math.isnan(result.by_confidence[0].strict)
    assert result.by_class == (
        ClassAccuracy("AVAL", 1, 1, 1, 1, "", 0),
        ClassAccuracy("AVAR", 3, 2, 0, 2, "UNKNOWN", 1),
        ClassAccuracy("RIML", 1, 1, 1, 1, "", 0),
        ClassAccuracy("RIMR", 1, 1, 0, 0, "DVA", 1),
    )
    assert result.confusion[("AVAR", "AVA?")] == 1
    assert sum(result.confusion.values()) == result.known


def test_sums_fit_together():
    rng = np.random.default_rng(0)
    names = ["AVAL", "AVAR", "AVA?", "DVA", "DVA-alt", "UNKNOWN"]
    labels = [label(i, str(rng.choice(names)), int(rng.integers(0, 6))) for i in range(300)]
    truth = {i: str(rng.choice(["AVAL", "AVAR", "DVA", ""])) for i in range(300)}
    result = labeling_accuracy(labels, truth)
    assert sum(c.count for c in result.by_confidence) == result.counted == result.by_confidence[0].count_from
    strict = sum(c.count * c.strict for c in result.by_confidence)
    assert strict / result.counted == pytest.approx(result.strict) == result.by_confidence[0].strict_from
    assert sum(c.strict for c in result.by_class) == pytest.approx(result.found * result.known)
    assert sum(c.count for c in result.by_class) == result.known
    assert sum(c.lenient for c in result.by_class) == pytest.approx(result.lenient * result.counted)
    assert result.strict < result.lenient


def test_volumes_are_pooled(labels):
    once, twice = labeling_accuracy(labels, TRUTH, (3,)), pooled_accuracy([(labels, TRUTH)] * 2, (3,))
    assert (twice.strict, twice.counted) == (once.strict, 2 * once.counted)
    assert [c.confidence for c in twice.by_confidence] == [3]
    # the same id is another ROI in another volume
    other = pooled_accuracy([(labels, TRUTH), ([label(1, "DVA")], {1: "DVA"})])
    assert other.counted == 6
    assert other.strict == 3 / 6


def test_without_any_truth(labels):
    result = labeling_accuracy(labels, {})
    assert math.isnan(result.strict)
    assert math.isnan(result.found)
    assert (result.counted, result.labeled, result.by_class, result.confusion) == (0, 6, (), {})


def test_names():
    assert all(map(is_known_name, ("AVAL", "glia", "DVA")))
    assert not any(map(is_known_name, ("", "UNKNOWN", "background", "AVA?", "?", "AVAL-alt")))
    for written, truth, expected in (
        ("AVA?", "AVAL", True),
        ("AVA?-alt", "AVAR", True),
        ("AVA?", "AVB", False),
        ("AVA?", "AVBL", False),
        ("DV?", "DVA", False),
        ("AVAL-alt", "AVAL", True),
        ("AVAL", "AVAR", False),
    ):
        assert is_lenient_match(written, truth) == expected, (written, truth)


def rois(n, rows=()):
    p = np.tile([0.0, 1.0, 0.0], (n, 1))
    for row, values in rows:
        p[row] = values
    return RoiProbabilities(np.arange(n) + 1, p, np.full(n, 9), np.zeros((n, 3)), np.zeros((n, 3), np.int64))


def test_doubtful_are_ordered_with_reasons(labels):
    labels = [
        label(1, "AVAL", probability=0.99),
        label(2, "AVA?", probability=0.95),
        label(3, "DVA-alt", 2, 0.5, is_alternative=True, is_contaminated=True),
        label(4, "RIML", 1, 0.41),
        label(5, "RIMR", 1, 0.40, merged_with=(4,)),
        label(6, "ASEL", 1, math.nan),
        label(7, "ASER"),
    ]
    table = rois(7, [(3, [0.2, 0.41, 0.39])])
    found = doubtful(labels, table)
    assert [d.label.roi_id for d in found] == [3, 5, 4, 2, 6]
    assert [round(d.score, 6) for d in found] == [2.5, 1.6, 1.59, 1.05, 1.0]
    assert found[0].reason == "probability 0.50; contaminated by another cell; another ROI has the same name"
    assert found[1].reason == "probability 0.40; likely part of one cell with ROI 4"
    assert found[2].reason == "probability 0.41; two classes nearly as probable (0.41 and 0.39)"
    assert found[3].reason == "left and right not told apart"
    assert [d.label.roi_id for d in doubtful(labels, table, limit=2)] == [3, 5]
    other = [label(7, "DVA"), label(1, "AVAL")]
    with_other = doubtful(labels, table, None, other)
    assert [d.label.roi_id for d in with_other] == [3, 5, 4, 7, 2, 6]
    assert with_other[3].reason == "the other assignment says DVA"


def test_doubtful_refuses(labels):
    with pytest.raises(InvalidInputError, match=r"ROI 7 .* has no probabilities"):
        doubtful(labels, rois(6))
    with pytest.raises(InvalidInputError, match="limit=-1"):
        doubtful(labels, rois(7), limit=-1)
