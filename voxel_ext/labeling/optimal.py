"""Labels by the most probable assignment of all names together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.labeling.label import CellLabel, LabelRules, RoiProbabilities


def label_optimal(
    rois: RoiProbabilities,
    class_names: Sequence[str],
    **rules: Any,
) -> list[CellLabel]:
    """Label the ROIs of a volume so that the product of the probabilities of their classes is the greatest.

    Maximizes the sum over the ROIs of log p(roi, class), where each class is given at most once, except that any number
    of ROIs may have a repeatable class or be ``UNKNOWN``. ``UNKNOWN`` counts as log max(p(roi, background),
    ``min_probability``), and classes below ``min_probability`` are never given. It is a linear assignment problem.

    Two ROIs that are parts of one cell, which :func:`~voxel_ext.labeling.greedy.label_greedy` gives the same name,
    cannot be told from two cells here, and there is no ``-alt``: one ROI has the name, the other its next best one or
    ``UNKNOWN``, with a note which ROI has the name it would rather have. All else is written by the same rules
    (:class:`~voxel_ext.labeling.label.LabelRules`; Atanas et al. 2024).

    Args:
        rois: probabilities of the ROIs.
        class_names: (K,) names; class 0 is the background and is written ``UNKNOWN``.
        rules: any of :class:`~voxel_ext.labeling.label.LabelRules`, by name.

    Returns:
        One label per ROI, the most probable first.

    Raises:
        InvalidInputError: names, ids or limits that do not fit, see ``LabelRules``.
    """
    limits = LabelRules(**rules)
    names = limits.names_of(rois, class_names)
    rows, single = limits.rows_of(rois), limits.single(names)
    classes = optimal_classes(rois.probabilities[rows], single, limits.min_probability)
    holder = {k: int(rois.roi_ids[row]) for row, k in zip(rows, classes.tolist(), strict=True) if single[k]}
    labels = []
    for row, k in zip(rows, classes.tolist(), strict=True):
        best = int(rois.probabilities[row].argmax())
        taken = best != k and holder.get(best) is not None
        note = f"{names[best]}({rois.probabilities[row, best]:.2f}) is ROI {holder[best]}." if taken else ""
        labels.append(limits.describe(rois, names, row, k, note=note))
    return sorted(labels, key=lambda label: (-label.probability, label.roi_id))


def optimal_classes(
    probabilities: NDArray[np.float64], single: NDArray[np.bool_], min_probability: float = 0.01
) -> NDArray[np.int64]:
    """Choose the classes of the greatest total log-probability, see :func:`label_optimal`.

    Args:
        probabilities: (N, K); class 0 is the background.
        single: (K,) bool, classes that only one ROI may have.
        min_probability: classes below it are never given, and class 0 counts as at least so probable.

    Returns:
        (N,) classes. An ROI with equally good choices gets one that is not single.
    """
    from voxel_ext.matching.assignment import assign

    p = np.where(probabilities >= min_probability, probabilities, 0.0)
    p[:, 0] = np.maximum(probabilities[:, 0], max(min_probability, np.finfo(float).tiny))
    with np.errstate(divide="ignore"):
        cost = -np.log(p)
    shared = np.where(single, np.inf, cost)
    fallback = shared.argmin(axis=1)
    classes = fallback.astype(np.int64)
    columns = np.flatnonzero(single)
    if len(p) and len(columns):
        # the classes that may be repeated are one private column per ROI: what a single class costs beyond it
        dearer = cost[:, columns] - np.take_along_axis(shared, fallback[:, None], axis=1)
        chosen_rows, chosen = assign(dearer, dummy_cost=0.0)
        classes[chosen_rows] = columns[chosen]
    return classes
