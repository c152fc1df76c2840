"""Labels by giving the surest ROI its name first."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from voxel_ext.errors import InvalidInputError
from voxel_ext.labeling.label import CellLabel, LabelRules, RoiProbabilities


@dataclass
class _Decision:
    """The class of one ROI, and the near ROIs that have the same one."""

    row: int
    class_index: int
    alternative: bool = False
    merged_with: list[int] = field(default_factory=list)


def label_greedy(
    rois: RoiProbabilities,
    class_names: Sequence[str],
    max_distance: float = 8.0,
    max_probability_decrease: float = 0.3,
    **rules: Any,
) -> list[CellLabel]:
    """Label the ROIs of a volume one after the other, the most probable first (Atanas et al. 2024).

    The ROI whose candidate class is the most probable takes it if the class is free or repeatable. If another ROI has
    it, there are three cases:

    - their centers are closer than ``max_distance``: both keep the name and are noted as likely merged;
    - the next class of the ROI is less probable by more than ``max_probability_decrease``: it is labeled with its
      best name and ``-alt``, which takes no name from anyone;
    - otherwise the next class becomes its candidate, and it waits for its new turn.

    Background, and a candidate below ``min_probability``, make it ``UNKNOWN``. Ties go to the ROI that tried fewer
    classes, then to the lower id, so the result does not depend on the order of the ROIs. Ambiguity of left and right,
    contamination and confidence: :class:`~voxel_ext.labeling.label.LabelRules`.

    Args:
        rois: probabilities of the ROIs.
        class_names: (K,) names; class 0 is the background and is written ``UNKNOWN``.
        max_distance: between the centers of two parts of one cell, voxels (8).
        max_probability_decrease: the most that the next class may cost (0.3).
        rules: any of :class:`~voxel_ext.labeling.label.LabelRules`, by name.

    Returns:
        One label per ROI, in the order in which they were decided.

    Raises:
        InvalidInputError: names, ids or limits that do not fit, see ``LabelRules``.
    """
    if not max_distance >= 0 or not 0 <= max_probability_decrease <= 1:
        raise InvalidInputError(
            f"max_distance={max_distance!r} must be at least 0 and "
            f"max_probability_decrease={max_probability_decrease!r} from 0 to 1"
        )
    limits = LabelRules(**rules)
    names = limits.names_of(rois, class_names)
    decisions = _decide(rois, names, limits, max_distance, max_probability_decrease)
    return [
        limits.describe(rois, names, d.row, d.class_index, alternative=d.alternative, merged_with=d.merged_with)
        for d in decisions
    ]


def _decide(
    rois: RoiProbabilities, names: Sequence[str], rules: LabelRules, max_distance: float, max_decrease: float
) -> list[_Decision]:
    """Choose the class of each ROI; in the order of decision."""
    single = rules.single(names)
    p, ids = rois.probabilities, rois.roi_ids
    ranking = np.argsort(-p, axis=1, kind="stable")
    waiting = [(-p[row, ranking[row, 0]], 0, int(ids[row]), row) for row in rules.rows_of(rois)]
    heapq.heapify(waiting)
    decisions: list[_Decision] = []
    holders: dict[int, list[_Decision]] = {}
    while waiting:
        _, rank, roi_id, row = heapq.heappop(waiting)
        k = int(ranking[row, rank])
        decision = _Decision(row, k if p[row, k] >= rules.min_probability else 0)
        if single[decision.class_index] and k in holders:
            near = next((h for h in holders[k] if _distance(rois, row, h.row) < max_distance), None)
            # there always is a next class: the background is one of them, and whoever comes to it stops there
            following = None if near else int(ranking[row, rank + 1])
            if near is not None:
                near.merged_with.append(roi_id)
                decision.merged_with.append(int(ids[near.row]))
            elif p[row, k] - p[row, following] > max_decrease:
                decision.class_index, decision.alternative = int(ranking[row, 0]), True
            else:
                heapq.heappush(waiting, (-p[row, following], rank + 1, roi_id, row))
                continue
        if not decision.alternative:
            holders.setdefault(decision.class_index, []).append(decision)
        decisions.append(decision)
    return decisions


def _distance(rois: RoiProbabilities, a: int, b: int) -> float:
    """Distance of the centers of two ROIs, voxels."""
    return float(np.linalg.norm(rois.centers[a] - rois.centers[b]))
