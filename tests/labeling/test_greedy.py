"""Greedy labels against a plain transcript of the rules, and what must hold for any input."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxel_ext.errors import InvalidInputError
from voxel_ext.labeling import RoiProbabilities, label_greedy, rare_classes
from voxel_ext.labeling.label import confidence_of

NAMES = ["background", "AVAL", "AVAR", "ASEL", "ASER", "AVL", "DVA", "glia", "granule"]


def make(rows, centers=None, sizes=None, counts=None, ids=None):
    """ROIs of which the probabilities of some names are given; the background has the rest."""
    p = np.zeros((len(rows), len(NAMES)))
    for row, given_p in enumerate(rows):
        for name, value in given_p.items():
            p[row, NAMES.index(name)] = value
        p[row, 0] += 1 - p[row].sum()
    confident = np.zeros(p.shape, np.int64)
    for row, given_counts in enumerate(counts or []):
        for name, value in given_counts.items():
            confident[row, NAMES.index(name)] = value
    return RoiProbabilities(
        roi_ids=np.array(ids if ids is not None else range(1, len(rows) + 1), np.int64),
        probabilities=p,
        sizes=np.array(sizes or [100] * len(rows), np.int64),
        centers=np.array(centers if centers is not None else [(0, 0, 20 * i) for i in range(len(rows))], float),
        confident_counts=confident,
    )


def random_rois(seed, n=14, crowded=True):
    """Distinct probabilities; some ROIs resemble others, some are near to each other."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, rng.choice([1.0, 2.0, 4.0]), (n, len(NAMES)))
    for i in range(n):
        if rng.random() < 0.4:
            logits[i] = logits[rng.integers(n)] + rng.normal(0, 0.3, len(NAMES))
    p = np.exp(logits)
    ids = rng.choice(np.arange(1, 500), n, replace=False)
    return RoiProbabilities(
        roi_ids=ids.astype(np.int64),
        probabilities=p / p.sum(1, keepdims=True),
        sizes=rng.integers(10, 100, n),
        centers=rng.uniform(0, 20 if crowded else 2000, (n, 3)),
        confident_counts=rng.integers(0, 4, (n, len(NAMES))) * rng.integers(0, 3, (n, 1)),
    )


def transcript(rois, max_distance=8.0, max_decrease=0.3, minimum=0.01):
    """ROI id to (name, confidence, merged, contaminated): the rules, with lists sorted anew at every step."""
    free = {"glia", "granule", "UNKNOWN"}
    names = ["UNKNOWN", *NAMES[1:]]
    waiting = []
    for i, roi_id in enumerate(rois.roi_ids.tolist()):
        order = sorted(range(len(names)), key=lambda k, i=i: -rois.probabilities[i, k])
        waiting.append({"id": roi_id, "i": i, "left": order, "best": order[0]})
    taken, out = [], {}
    while waiting:
        waiting.sort(key=lambda w: -rois.probabilities[w["i"], w["left"][0]])
        w = waiting[0]
        p, k = rois.probabilities[w["i"]], w["left"][0]
        name, merged, alt = names[k], [], False
        if p[k] < minimum:
            k, name = 0, "UNKNOWN"
        holders = [t for t in taken if t["name"] == name and name not in free]
        close = [
            t for t in holders if np.sqrt(((rois.centers[t["i"]] - rois.centers[w["i"]]) ** 2).sum()) < max_distance
        ]
        if close:
            merged = [close[0]["id"]]
            out[close[0]["id"]][2].append(w["id"])
        elif holders and p[k] - p[w["left"][1]] > max_decrease:
            k, alt = w["best"], True
            name = names[k]
        elif holders:
            w["left"].pop(0)
            continue
        waiting.pop(0)
        if not alt:
            taken.append({"name": name, "i": w["i"], "id": w["id"]})
        total, written, family = p[k], name, [k]
        if name[-1] in "LR":
            side = name[:-1] + ("R" if name[-1] == "L" else "L")
            if side in names and p[names.index(side)] >= 0.1:
                total, written, family = total + p[names.index(side)], name[:-1] + "?", [k, names.index(side)]
        counts = list(rois.confident_counts[w["i"]])
        counts[0] = 0
        main = counts.index(max(counts))
        foreign = sum(c for j, c in enumerate(counts) if j != main and not (len(family) == 2 and j in family))
        dirty = foreign >= 10 or foreign / rois.sizes[w["i"]] >= 0.2
        level = 0 if k == 0 else sum(total >= t for t in (0.1, 0.5, 0.75, 0.95, 0.99))
        if alt or dirty:
            level = min(level, 2)
        out[w["id"]] = [written + "-alt" * alt, level, merged, dirty]
    return {key: (a, b, sorted(c), bool(d)) for key, (a, b, c, d) in out.items()}


def summary(labels):
    return {x.roi_id: (x.neuron_class, x.confidence, sorted(x.merged_with), x.is_contaminated) for x in labels}


@pytest.mark.parametrize("crowded", [True, False])
def test_random_volumes_follow_the_transcript(crowded):
    seen = Counter()
    for seed in range(60):
        rois = random_rois(seed, crowded=crowded)
        labels = label_greedy(rois, NAMES)
        assert summary(labels) == transcript(rois), seed
        seen.update(
            alt=sum(x.is_alternative for x in labels),
            ambiguous=sum(x.is_ambiguous for x in labels),
            merged=sum(bool(x.merged_with) for x in labels),
            dirty=sum(x.is_contaminated for x in labels),
            unknown=sum(x.is_unknown for x in labels),
        )
    # the inputs reach every rule
    assert min(seen[k] for k in ("alt", "ambiguous", "dirty", "unknown")) > 10
    assert (seen["merged"] > 10) == crowded


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40))
def test_a_name_is_given_once_and_order_does_not_matter(seed, n):
    rois = random_rois(seed, n)
    labels = label_greedy(rois, NAMES)
    assert sorted(x.roi_id for x in labels) == sorted(rois.roi_ids.tolist())
    single = {1, 2, 3, 4, 5, 6}
    once = [x.class_index for x in labels if not x.is_alternative and not x.merged_with and x.class_index in single]
    assert len(once) == len(set(once))
    order = np.random.default_rng(seed + 1).permutation(n)
    shuffled = RoiProbabilities(*(getattr(rois, f)[order] for f in rois.__dataclass_fields__))
    assert label_greedy(shuffled, NAMES) == labels


def test_ties_do_not_depend_on_the_order():
    rows = [{"AVAL": 0.5, "ASEL": 0.3}] * 4
    first = label_greedy(make(rows, ids=[4, 3, 2, 1], centers=[(0, 0, 100.0 * i) for i in (4, 3, 2, 1)]), NAMES)
    second = label_greedy(make(rows, ids=[1, 2, 3, 4], centers=[(0, 0, 100.0 * i) for i in (1, 2, 3, 4)]), NAMES)
    assert first == second
    # all want AVAL, then ASEL, then the background (0.2) is next best
    assert [x.neuron_class for x in first] == ["AVAL", "ASEL", "UNKNOWN", "UNKNOWN"]


def test_next_name_alternative_and_merge():
    near, far = (0, 0, 7.9), (0, 0, 8.0)
    small, large = {"AVAL": 0.7, "ASEL": 0.2}, {"AVAL": 0.5, "ASEL": 0.3}
    merged = label_greedy(make([{"AVAL": 0.9}, small], [(0, 0, 0), near]), NAMES)
    assert [x.neuron_class for x in merged] == ["AVAL", "AVAL"]
    assert [x.merged_with for x in merged] == [(2,), (1,)]
    assert [x.notes for x in merged] == ["Likely merged with ROI 2.", "Likely merged with ROI 1."]
    alternative = label_greedy(make([{"AVAL": 0.9}, small], [(0, 0, 0), far]), NAMES)
    assert [x.neuron_class for x in alternative] == ["AVAL", "AVAL-alt"]
    assert (alternative[1].confidence, alternative[1].probability) == (2, pytest.approx(0.7))
    following = label_greedy(make([{"AVAL": 0.9}, large], [(0, 0, 0), far]), NAMES)
    assert [x.neuron_class for x in following] == ["AVAL", "ASEL"]
    assert following[1].probability == pytest.approx(0.3)
    assert following[1].alternatives == "AVAL(0.50), ASEL(0.30), UNKNOWN(0.20)"


def test_repeatable_and_unknown_names():
    labels = label_greedy(make([{"glia": 0.9}] * 3 + [{}] * 2), NAMES)
    assert [x.neuron_class for x in labels] == ["UNKNOWN"] * 2 + ["glia"] * 3
    assert [x.confidence for x in labels] == [0, 0, 3, 3, 3]
    assert [x.class_index for x in labels] == [0, 0, 7, 7, 7]
    once = label_greedy(make([{"glia": 0.5, "ASEL": 0.4}] * 2), NAMES, repeatable=["granule"])
    assert [x.neuron_class for x in once] == ["glia", "ASEL"]


def test_below_the_least_probability_is_unknown():
    rois = make([{}])
    rois.probabilities[0] = [0.008, 0.124, 0.124, 0.124, 0.124, 0.124, 0.124, 0.124, 0.124]
    assert label_greedy(rois, NAMES, ambiguity_threshold=1.0)[0].neuron_class == "AVAL"
    unknown = label_greedy(rois, NAMES, min_probability=0.125)[0]
    assert (unknown.neuron_class, unknown.confidence, unknown.class_index) == ("UNKNOWN", 0, 0)
    assert unknown.probability == pytest.approx(0.008)


@pytest.mark.parametrize("other", [0.0999, 0.1])
def test_left_and_right(other):
    label = label_greedy(make([{"AVAL": 0.66, "AVAR": other}]), NAMES)[0]
    ambiguous = other >= 0.1
    assert label.neuron_class == ("AVA?" if ambiguous else "AVAL")
    assert label.is_ambiguous == ambiguous
    assert label.confidence == (3 if ambiguous else 2)
    assert label.class_index == 1
    # AVL ends with L but is a cell of its own
    assert label_greedy(make([{"AVL": 0.6, "AVAR": 0.3}]), NAMES)[0].neuron_class == "AVL"


@pytest.mark.parametrize(
    ("counts", "size", "note"),
    [
        ({"AVAL": 50, "ASER": 9}, 100, ""),
        ({"AVAL": 50, "ASER": 10}, 100, "Possibly contaminated: AVAL 50 voxels, ASER 10 voxels."),
        ({"AVAL": 8, "ASER": 2}, 10, "Possibly contaminated: AVAL 8 voxels, ASER 2 voxels."),
        ({"AVAL": 8, "ASER": 1, "background": 90}, 100, ""),
        ({"ASER": 60}, 100, ""),
    ],
)
def test_contamination(counts, size, note):
    label = label_greedy(make([{"AVAL": 0.999}], sizes=[size], counts=[counts]), NAMES)[0]
    assert (label.notes, label.is_contaminated, label.confidence) == (note, bool(note), 2 if note else 5)


def test_the_other_side_is_no_contamination_of_an_ambiguous_label():
    both = make([{"AVAL": 0.6, "AVAR": 0.4}], counts=[{"AVAL": 40, "AVAR": 30}])
    assert not label_greedy(both, NAMES)[0].is_contaminated
    assert label_greedy(both, NAMES, ambiguity_threshold=0.5)[0].is_contaminated


@pytest.mark.parametrize(
    ("probability", "confidence"),
    [(0.0999, 0), (0.1, 1), (0.4999, 1), (0.5, 2), (0.75, 3), (0.95, 4), (0.99, 5), (1.0, 5)],
)
def test_confidence(probability, confidence):
    assert confidence_of(probability, 3) == confidence
    assert confidence_of(probability, 3, most=2) == min(confidence, 2)
    assert confidence_of(probability, 0) == 0
    if probability >= 0.5:
        label = label_greedy(make([{"DVA": probability, "AVAL": 1 - probability}]), NAMES)[0]
        # at one half each, the tie goes to the class that comes first
        assert (label.neuron_class, label.confidence) == ("AVAL" if probability == 0.5 else "DVA", confidence)


def test_rare_and_excluded():
    rois = make([{"DVA": 0.999}, {"AVAL": 0.999}])
    labels = label_greedy(rois, NAMES, rare_classes=["DVA"], demoted_confidence=1)
    assert {x.neuron_class: x.confidence for x in labels} == {"DVA": 1, "AVAL": 5}
    assert [x.roi_id for x in label_greedy(rois, NAMES, excluded_rois=[1])] == [2]
    assert rare_classes({"AVAL": 3, "DVA": 2, "ASEL": 0}, 3) == ("ASEL", "DVA")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": NAMES[:-1]}, "8 class names for 9 classes"),
        ({"class_names": [*NAMES[:-1], "glia"]}, "repeated: glia"),
        ({"class_names": [*NAMES[:-1], "UNKNOWN"]}, "repeated: UNKNOWN"),
        ({"rare_classes": ["AVAX"]}, "no classes: AVAX"),
        ({"rare_classes": "AVAL"}, "expected a list"),
        ({"excluded_rois": [7]}, r"not in the volume: \[7\]"),
        ({"max_distance": -1}, "max_distance"),
        ({"max_probability_decrease": 3}, "max_probability_decrease"),
        ({"min_probability": -0.1}, "min_probability"),
        ({"contamination_voxels": 0}, "contamination_voxels"),
        ({"demoted_confidence": 6}, "demoted_confidence"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        label_greedy(make([{"AVAL": 0.9}]), **({"class_names": NAMES} | arguments))
