"""How many labels are right, and which ROIs a person should check first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from voxel_ext.errors import InvalidInputError
from voxel_ext.labeling.label import UNKNOWN, CellLabel, RoiProbabilities

LOW_PROBABILITY = 0.75
"""Labels below it are worth a look; from here on the confidence is 3."""
SMALL_MARGIN = 0.1
"""Difference to the next class below which an ROI is worth a look."""


@dataclass(frozen=True)
class ConfidenceAccuracy:
    """Accuracy of the named ROIs of one confidence, and of at least that confidence; NaN where there are none.

    Attributes:
        confidence: 0 to 5.
        count: ROIs with a name and a known truth at this confidence.
        strict: fraction of them whose label is exactly the true name.
        lenient: the same, a ``?`` and ``-alt`` allowed.
        count_from: ROIs at this confidence or above.
        strict_from: fraction of these, exact.
        lenient_from: fraction of these, ``?`` and ``-alt`` allowed.
    """

    confidence: int
    count: int
    strict: float
    lenient: float
    count_from: int
    strict_from: float
    lenient_from: float


@dataclass(frozen=True)
class ClassAccuracy:
    """How the ROIs of one true class are labeled.

    Attributes:
        name: the true class.
        count: its ROIs, also those that got no name.
        labeled: those with a name.
        strict: those with exactly this name.
        lenient: the same, a ``?`` and ``-alt`` allowed.
        wrong_name: what the others are called most often (``UNKNOWN`` included), "" if none is wrong.
        wrong_count: how often.
    """

    name: str
    count: int
    labeled: int
    strict: int
    lenient: int
    wrong_name: str
    wrong_count: int


@dataclass(frozen=True)
class LabelingAccuracy:
    """Accuracy of the labels of one or more volumes. Fractions are NaN where nothing can be counted.

    Strict means that the label is exactly the true name. Lenient means that ``AVA?`` is right for AVAL and AVAR, and
    that ``-alt`` is left out of the comparison.

    Attributes:
        rois: labels.
        labeled: labels that are a name (not ``UNKNOWN``).
        known: ROIs whose true name is known.
        counted: ROIs with a name and a known truth, of which the accuracy is the fraction that is right.
        strict: accuracy, exact.
        lenient: accuracy, ``?`` and ``-alt`` allowed.
        found: fraction of the known ROIs with exactly the right name (``UNKNOWN`` is wrong here).
        by_confidence: accuracy at each confidence.
        by_class: accuracy of each true class, sorted by name.
        confusion: how often (true name, label) occurs, ``UNKNOWN`` included; right ones too.
    """

    rois: int
    labeled: int
    known: int
    counted: int
    strict: float
    lenient: float
    found: float
    by_confidence: tuple[ConfidenceAccuracy, ...]
    by_class: tuple[ClassAccuracy, ...]
    confusion: dict[tuple[str, str], int]


def is_known_name(name: str) -> bool:
    """Whether a true name says which cell it is: not empty, ``UNKNOWN`` or ``background``, no ``?`` and no ``-alt``."""
    return name not in ("", UNKNOWN, "background") and "?" not in name and not name.endswith("-alt")


def is_lenient_match(label: str, truth: str) -> bool:
    """Whether a label is right if ``?`` may stand for L or R, and ``-alt`` does not count."""
    base = label.removesuffix("-alt")
    return base == truth or (base.endswith("?") and base[:-1] == truth[:-1] and truth[-1:] in ("L", "R"))


def labeling_accuracy(
    labels: Iterable[CellLabel], truth: Mapping[int, str], confidences: Sequence[int] = (0, 1, 2, 3, 4, 5)
) -> LabelingAccuracy:
    """Compare the labels of one volume with the true names.

    Args:
        labels: of the volume.
        truth: true name of each ROI id. ROIs that are missing, or whose name does not say which cell it is (empty,
            ``UNKNOWN``, ``background``, with ``?`` or ``-alt``), are not counted.
        confidences: for which to report the accuracy (0 to 5).
    """
    return pooled_accuracy([(labels, truth)], confidences)


def pooled_accuracy(
    volumes: Iterable[tuple[Iterable[CellLabel], Mapping[int, str]]], confidences: Sequence[int] = (0, 1, 2, 3, 4, 5)
) -> LabelingAccuracy:
    """Compare the labels of several volumes with the true names; every ROI counts the same.

    Args:
        volumes: labels and true name of each ROI id for each volume, see :func:`labeling_accuracy`.
        confidences: for which to report the accuracy (0 to 5).
    """
    pairs = [(label, truth.get(label.roi_id, "")) for labels, truth in volumes for label in labels]
    known = [(label, name) for label, name in pairs if is_known_name(name)]
    counted = [(label, name) for label, name in known if not label.is_unknown]
    strict, lenient = _fractions(counted)
    return LabelingAccuracy(
        rois=len(pairs),
        labeled=sum(not label.is_unknown for label, _ in pairs),
        known=len(known),
        counted=len(counted),
        strict=strict,
        lenient=lenient,
        found=_fractions(known)[0],
        by_confidence=tuple(_at_confidence(counted, c) for c in confidences),
        by_class=tuple(_of_class(known, name) for name in sorted({name for _, name in known})),
        confusion=dict(sorted(Counter((name, label.neuron_class) for label, name in known).items())),
    )


def _fractions(pairs: Sequence[tuple[CellLabel, str]]) -> tuple[float, float]:
    """Strict and lenient accuracy, NaN for none."""
    if not pairs:
        return math.nan, math.nan
    strict = sum(label.neuron_class == name for label, name in pairs)
    lenient = sum(is_lenient_match(label.neuron_class, name) for label, name in pairs)
    return strict / len(pairs), lenient / len(pairs)


def _at_confidence(counted: Sequence[tuple[CellLabel, str]], confidence: int) -> ConfidenceAccuracy:
    """Accuracy at one confidence and from it on."""
    at = [pair for pair in counted if pair[0].confidence == confidence]
    above = [pair for pair in counted if pair[0].confidence >= confidence]
    return ConfidenceAccuracy(confidence, len(at), *_fractions(at), len(above), *_fractions(above))


def _of_class(known: Sequence[tuple[CellLabel, str]], name: str) -> ClassAccuracy:
    """How the ROIs of one true class are labeled."""
    labels = [label for label, true in known if true == name]
    wrong = Counter(label.neuron_class for label in labels if not is_lenient_match(label.neuron_class, name))
    # the first of equally frequent names in alphabetical order
    wrong_name, wrong_count = min(wrong.items(), key=lambda item: (-item[1], item[0]), default=("", 0))
    return ClassAccuracy(
        name=name,
        count=len(labels),
        labeled=sum(not label.is_unknown for label in labels),
        strict=sum(label.neuron_class == name for label in labels),
        lenient=sum(is_lenient_match(label.neuron_class, name) for label in labels),
        wrong_name=wrong_name,
        wrong_count=wrong_count,
    )


@dataclass(frozen=True)
class DoubtfulRoi:
    """An ROI that a person should check.

    Attributes:
        label: its label.
        score: how doubtful: 1 - probability, plus 1 for each reason but a low probability.
        reason: why, as a text.
    """

    label: CellLabel
    score: float
    reason: str


def doubtful(
    labels: Iterable[CellLabel],
    rois: RoiProbabilities,
    limit: int | None = 20,
    other_labels: Iterable[CellLabel] | None = None,
) -> list[DoubtfulRoi]:
    """List the ROIs to check first, the most doubtful first.

    Reasons are a probability below 0.75, a margin to the next class below 0.1, left and right not told apart,
    contamination, ``-alt``, a likely merge, and another name by the other way of assignment.

    Args:
        labels: of one volume.
        rois: its probabilities.
        limit: the most to list (20); None for all.
        other_labels: labels of the same volume assigned another way (optimal beside greedy), to list where they differ.

    Returns:
        The ROIs with a reason to be checked. Ties are in the order of the ROI ids.

    Raises:
        InvalidInputError: a label of an ROI that has no probabilities, or a negative limit.
    """
    if limit is not None and limit < 0:
        raise InvalidInputError(f"limit={limit!r} is not valid; expected 0 or more, or None")
    rows = {roi_id: row for row, roi_id in enumerate(rois.roi_ids.tolist())}
    others = {label.roi_id: label.neuron_class for label in other_labels or ()}
    found = []
    for label in labels:
        if label.roi_id not in rows:
            raise InvalidInputError(f"ROI {label.roi_id} ({label.neuron_class}) has no probabilities")
        p = rois.probabilities[rows[label.roi_id]]
        reasons = _reasons(label, p, others.get(label.roi_id, label.neuron_class))
        low = not label.probability >= LOW_PROBABILITY
        if low:
            reasons = [f"probability {label.probability:.2f}", *reasons]
        if reasons:
            score = 1 - np.nan_to_num(label.probability) + len(reasons) - low
            found.append(DoubtfulRoi(label, float(score), "; ".join(reasons)))
    return sorted(found, key=lambda roi: (-roi.score, roi.label.roi_id))[:limit]


def _reasons(label: CellLabel, probabilities: np.ndarray, other_name: str) -> list[str]:
    """Why an ROI should be checked, but for its probability."""
    reasons = []
    best = np.sort(probabilities)[::-1][:2]
    if len(best) == 2 and best[0] - best[1] < SMALL_MARGIN and not label.is_ambiguous:
        reasons.append(f"two classes nearly as probable ({best[0]:.2f} and {best[1]:.2f})")
    if label.is_ambiguous:
        reasons.append("left and right not told apart")
    if label.is_contaminated:
        reasons.append("contaminated by another cell")
    if label.is_alternative:
        reasons.append("another ROI has the same name")
    if label.merged_with:
        reasons.append(f"likely part of one cell with ROI {', '.join(map(str, label.merged_with))}")
    if other_name != label.neuron_class:
        reasons.append(f"the other assignment says {other_name}")
    return reasons
