"""From the rows of an animal's table to the class and the weight of each ROI."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.neuron_names import NON_NEURONS, describe_unknown, expand_name, is_uncertain
from voxel_ext.data.roi_table import RoiLabel, RoiTable
from voxel_ext.errors import InvalidInputError, check_option

logger = logging.getLogger(__name__)

CONFIDENCE_WEIGHTS = (10.0, 50.0, 600.0, 900.0, 1000.0)
"""Weight of a label by its confidence, 1 to 5, as in AutoCellLabeler."""

BACKGROUND_WEIGHT = 1.0


@dataclass(frozen=True)
class LabelRules:
    """What becomes of the rows of a table.

    Args:
        min_confidence: rows of less are passed over; 2 as in AutoCellLabeler.
        confidence_weights: weight of a label of confidence 1 to 5; as in AutoCellLabeler.
        other_weight: share of that weight in the channels of other classes; 0.3 as in AutoCellLabeler.
        weighting: "confidence", or "equal" for weights of 1.
        uncertain: what becomes of names with ``?`` or ``-alt``: "skip", or "expand" to take a name with ``?`` that
            only one class fits.
        on_conflict: what becomes of an ROI with two different names: "skip" (with a warning), or "error".

    Raises:
        InvalidInputError: one of them is out of range.
    """

    min_confidence: int = 2
    confidence_weights: Sequence[float] = CONFIDENCE_WEIGHTS
    other_weight: float = 0.3
    weighting: str = "confidence"
    uncertain: str = "skip"
    on_conflict: str = "skip"

    def __post_init__(self) -> None:
        check_option("weighting", self.weighting, ("confidence", "equal"))
        check_option("uncertain", self.uncertain, ("skip", "expand"))
        check_option("on_conflict", self.on_conflict, ("skip", "error"))
        if self.min_confidence not in range(1, 6):
            raise InvalidInputError(f"min_confidence={self.min_confidence!r}; expected an integer from 1 to 5")
        weights = [*self.confidence_weights, self.other_weight]
        if len(weights) != 6 or not all(isinstance(weight, Real) and 0 <= weight < math.inf for weight in weights):
            raise InvalidInputError(
                f"confidence_weights={tuple(self.confidence_weights)}, other_weight={self.other_weight}; expected five "
                "numbers of at least 0, for the confidences 1 to 5, and one"
            )


@dataclass(frozen=True)
class RoiClasses:
    """Which class each labeled ROI of an animal has.

    Args:
        classes: index of the class by ROI id.
        confidences: 1 to 5 by ROI id.
        skipped: ROI ids that stay unlabeled, by the reason: "low confidence", "uncertain", "no class" (a name that is
            no neuron and not in the list of classes), "conflict".
    """

    classes: dict[int, int] = field(default_factory=dict)
    confidences: dict[int, int] = field(default_factory=dict)
    skipped: dict[str, list[int]] = field(default_factory=dict)


def resolve_labels(table: RoiTable, class_names: Sequence[str], rules: LabelRules | None = None) -> RoiClasses:
    """Decide which label each ROI of a table has.

    Args:
        table: the rows.
        class_names: of the classes; the first is the background.
        rules: what becomes of the rows; those of AutoCellLabeler if None.

    Returns:
        the classes of the labeled ROIs. An ROI that has a certain and an uncertain name has the certain one, unless the
        uncertain one is expanded to another.

    Raises:
        InvalidInputError: names that are no class (lists all with those near), or, with ``on_conflict="error"``, ROIs
            with two names.
    """
    rules = rules or LabelRules()
    index = {name: number for number, name in enumerate(class_names) if number}
    _check_known(table, index)
    skipped: dict[str, list[int]] = {}
    given: dict[int, dict[int, RoiLabel]] = {}
    for label in sorted(table.labels, key=lambda row: is_uncertain(row.name)):
        chosen = _class_of(label, index, rules)
        if isinstance(chosen, str):
            skipped.setdefault(chosen, []).append(label.roi_id)
        else:
            given.setdefault(label.roi_id, {}).setdefault(chosen, label)
    conflicts = {roi_id: list(named.values()) for roi_id, named in given.items() if len(named) > 1}
    if conflicts:
        _report_conflicts(table, conflicts, rules.on_conflict)
        skipped["conflict"] = sorted(conflicts)
    single = {roi_id: next(iter(named.items())) for roi_id, named in sorted(given.items()) if len(named) == 1}
    return RoiClasses(
        {roi_id: number for roi_id, (number, _) in single.items()},
        {roi_id: label.confidence for roi_id, (_, label) in single.items()},
        {reason: sorted(set(rois) - single.keys()) for reason, rois in skipped.items() if set(rois) - single.keys()},
    )


def _check_known(table: RoiTable, index: Mapping[str, int]) -> None:
    unknown = [x for x in table.labels if x.name not in index and not is_uncertain(x.name)]
    unknown = [x for x in unknown if x.name not in NON_NEURONS]
    if unknown:
        lines = "\n".join(f"line {x.line}: {describe_unknown(x.name, list(index))}" for x in unknown)
        raise InvalidInputError(
            f"{table.source} has {len(unknown)} names that are not in the list of classes; correct them, or add the "
            f"names to the list:\n{lines}"
        )


def _class_of(label: RoiLabel, index: Mapping[str, int], rules: LabelRules) -> int | str:
    """The class that a row means, or why it means none."""
    if label.confidence < rules.min_confidence:
        return "low confidence"
    if label.name in index:
        return index[label.name]
    if not is_uncertain(label.name):
        return "no class"
    possible = expand_name(label.name, list(index)) if rules.uncertain == "expand" else []
    return index[possible[0]] if len(possible) == 1 else "uncertain"


def _report_conflicts(table: RoiTable, conflicts: Mapping[int, Sequence[RoiLabel]], on_conflict: str) -> None:
    lines = "\n".join(
        f"ROI {roi_id}: " + ", ".join(f"{x.name} (line {x.line})" for x in labels)
        for roi_id, labels in sorted(conflicts.items())
    )
    text = f"{table.source} gives different names to {len(conflicts)} ROIs"
    if on_conflict == "error":
        raise InvalidInputError(f"{text}; keep one row of each, or set on_conflict='skip':\n{lines}")
    logger.warning("%s, which stay unlabeled:\n%s", text, lines)


def count_labels(animals: Iterable[RoiClasses], num_classes: int) -> NDArray[np.int64]:
    """Return how many labels each of K classes has in all of some animals, (K,)."""
    counts = np.zeros(num_classes, np.int64)
    for animal in animals:
        counts += np.bincount(np.array([*animal.classes.values()], np.int64), minlength=num_classes)
    return counts


def balance_factors(counts: NDArray[np.int64], class_names: Sequence[str]) -> NDArray[np.float64]:
    """Return by how much each class is weighted up for being rare: max count / count.

    Args:
        counts: (K,) labels of each class in the training animals.
        class_names: of the K classes. The background and those that are no neurons do not count for the maximum, but
            have a factor, too.

    Returns:
        (K,) factors; a class that was never seen has that of one seen once.
    """
    neurons = [number for number, name in enumerate(class_names) if number and name not in NON_NEURONS]
    largest = max((int(counts[number]) for number in neurons), default=1)
    return max(largest, 1) / np.maximum(counts, 1)


def label_weights(
    labels: RoiClasses, factors: NDArray[np.float64], rules: LabelRules | None = None
) -> dict[int, tuple[float, float]]:
    """Return the weight of each labeled ROI in the channel of its own class, and in all others.

    Own: weight of the confidence times the factor of the class, rounded to a whole number (half to even, as in
    AutoCellLabeler). Others: ``other_weight`` times the weight of the confidence. Neither is less than 1, the
    background's.

    Args:
        labels: of an animal.
        factors: (K,), see :func:`balance_factors`.
        rules: ``confidence_weights``, ``other_weight``, ``weighting``; those of AutoCellLabeler if None.

    Returns:
        (own, others) by ROI id.
    """
    rules = rules or LabelRules()
    if rules.weighting == "equal":
        return dict.fromkeys(labels.classes, (BACKGROUND_WEIGHT, BACKGROUND_WEIGHT))
    weights = {}
    for roi_id, number in labels.classes.items():
        base = float(rules.confidence_weights[labels.confidences[roi_id] - 1])
        own = float(np.round(base * factors[number]))
        weights[roi_id] = (max(own, BACKGROUND_WEIGHT), max(rules.other_weight * base, BACKGROUND_WEIGHT))
    return weights
