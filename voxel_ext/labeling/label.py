"""What is known of each ROI, and how the label of an ROI is written once its class is chosen.

The rules are those of AutoCellLabeler (Atanas et al. 2024, bioRxiv 2024.07.18.601886).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError

UNKNOWN = "UNKNOWN"
"""Name of an ROI without a label, and of class 0 (background)."""
REPEATABLE = ("granule", "glia", UNKNOWN)
"""Names that any number of ROIs may have."""
CONFIDENCE_THRESHOLDS = (0.1, 0.5, 0.75, 0.95, 0.99)
"""Probabilities from which the confidence is 1, 2, 3, 4 and 5."""
MIN_LISTED = 0.01
"""Least probability of a class that is listed among the alternatives."""


@dataclass(frozen=True, eq=False)
class RoiProbabilities:
    """Class probabilities of the ROIs of one volume.

    Attributes:
        roi_ids: (N,) int64, unique, above 0.
        probabilities: (N, K) float64, rows sum to 1; class 0 is the background.
        sizes: (N,) int64, voxels.
        centers: (N, 3) float64, mean zyx voxel position.
        confident_counts: (N, K) int64, voxels of the ROI whose most probable class is k with a probability above the
            limit of the aggregation (0.75).

    Raises:
        InvalidInputError: the shapes do not fit together, an id is repeated or below 1, or the probabilities are
            negative, not finite or do not sum to 1.
    """

    roi_ids: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    sizes: NDArray[np.int64]
    centers: NDArray[np.float64]
    confident_counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        n, shape = len(self.roi_ids), self.probabilities.shape
        expected = {"roi_ids": (n,), "probabilities": (n, *shape[1:2]), "sizes": (n,), "centers": (n, 3)}
        for name, wanted in (expected | {"confident_counts": shape}).items():
            if getattr(self, name).shape != wanted or len(shape) != 2:
                raise InvalidInputError(
                    f"{name} of {n} ROIs has shape {getattr(self, name).shape}; expected {wanted} beside "
                    f"probabilities (N, K) of shape {shape}"
                )
        if len(np.unique(self.roi_ids)) != n or (n and self.roi_ids.min() < 1):
            raise InvalidInputError("the ROI ids are repeated or below 1; expected each once, above 0")
        wrong = ~np.isclose(self.probabilities.sum(axis=1), 1, atol=1e-3) | (self.probabilities < 0).any(axis=1)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InvalidInputError(
                f"the probabilities of ROI {self.roi_ids[row]} sum to {self.probabilities[row].sum():.4g}, the least "
                f"is {self.probabilities[row].min():.4g}; expected numbers of at least 0 that sum to 1"
            )


@dataclass(frozen=True)
class CellLabel:
    """The label of one ROI, a row of the table.

    Attributes:
        neuron_class: as written: a class name, ``UNKNOWN``, with ``?`` in place of the last letter where left and
            right are not told apart, with ``-alt`` where another ROI has the name already.
        roi_id: id of the ROI.
        center: zyx voxel position, counted from 0.
        confidence: 0 to 5, see :func:`confidence_of`.
        probability: of the class; of both sides for a ``?``; of the background for ``UNKNOWN``.
        class_index: of the class, 0 for ``UNKNOWN``, -1 where it is not known (read from a table without the names).
        alternatives: classes of probability 0.01 and above, e.g. ``"AVAL(0.93), AVAR(0.05)"``.
        notes: text on contamination, merging and displacement.
        is_alternative: ``-alt``.
        is_contaminated: confident voxels of several classes.
        merged_with: ids of near ROIs of the same name, likely parts of the same cell.
    """

    neuron_class: str
    roi_id: int
    center: tuple[float, float, float]
    confidence: int
    probability: float
    class_index: int
    alternatives: str = ""
    notes: str = ""
    is_alternative: bool = False
    is_contaminated: bool = False
    merged_with: tuple[int, ...] = ()

    @property
    def is_ambiguous(self) -> bool:
        """Whether left and right are not told apart (``?``)."""
        return self.neuron_class.removesuffix("-alt").endswith("?")

    @property
    def is_unknown(self) -> bool:
        """Whether the ROI got no name."""
        return self.neuron_class == UNKNOWN


@dataclass(frozen=True)
class LabelRules:
    """The rules that turn the class of an ROI into its row of the table, shared by greedy and optimal assignment.

    Args:
        min_probability: classes below it are never given; ``UNKNOWN`` instead (0.01).
        ambiguity_threshold: probability of the other side from which the last letter becomes ``?`` (0.1).
        repeatable: names that any number of ROIs may have; ``UNKNOWN`` always is one.
        contamination_voxels: confident voxels of other classes than the most frequent one, from which an ROI counts
            as contaminated (10).
        contamination_fraction: the same as a fraction of the ROI (0.2).
        demoted_confidence: the most confidence of an alternative, contaminated or rarely seen label (2).
        rare_classes: names with too few training examples to be trusted, see :func:`rare_classes`.
        excluded_rois: ids of ROIs that get no row.

    Raises:
        InvalidInputError: a probability or fraction outside 0..1, or a negative count.
    """

    min_probability: float = 0.01
    ambiguity_threshold: float = 0.1
    repeatable: Collection[str] = REPEATABLE
    contamination_voxels: int = 10
    contamination_fraction: float = 0.2
    demoted_confidence: int = 2
    rare_classes: Collection[str] = ()
    excluded_rois: Collection[int] = ()

    def __post_init__(self) -> None:
        for name in ("min_probability", "ambiguity_threshold", "contamination_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInputError(f"{name}={getattr(self, name)!r} is not valid; expected a number from 0 to 1")
        if self.contamination_voxels < 1 or not 0 <= self.demoted_confidence <= 5:
            raise InvalidInputError(
                f"contamination_voxels={self.contamination_voxels!r} must be at least 1 and "
                f"demoted_confidence={self.demoted_confidence!r} from 0 to 5"
            )
        for name in ("repeatable", "rare_classes"):
            if isinstance(getattr(self, name), str):
                raise InvalidInputError(f"{name}={getattr(self, name)!r} is one text; expected a list of class names")

    def names_of(self, rois: RoiProbabilities, class_names: Sequence[str]) -> list[str]:
        """Return the class names with ``UNKNOWN`` for class 0, after checking them and the ROIs to exclude.

        Raises:
            InvalidInputError: not one name per class, repeated names, a rare class or an excluded ROI that does not
                exist.
        """
        k = rois.probabilities.shape[1]
        if len(class_names) != k:
            raise InvalidInputError(f"there are {len(class_names)} class names for {k} classes of the probabilities")
        names = [UNKNOWN, *map(str, class_names[1:])]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidInputError(f"class names are repeated: {', '.join(repeated)}; class 0 is {UNKNOWN} here")
        if strange := sorted(set(self.rare_classes) - set(names)):
            raise InvalidInputError(f"rare_classes has names that are no classes: {', '.join(strange)}")
        if missing := sorted(set(self.excluded_rois) - set(rois.roi_ids.tolist())):
            raise InvalidInputError(f"excluded_rois has ids that are not in the volume: {missing}")
        return names

    def rows_of(self, rois: RoiProbabilities) -> list[int]:
        """Return the rows of the ROIs that are not excluded."""
        excluded = set(self.excluded_rois)
        return [row for row, roi_id in enumerate(rois.roi_ids.tolist()) if roi_id not in excluded]

    def single(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Return for each class whether only one ROI may have it: (K,), False for class 0."""
        return np.array([k > 0 and name not in self.repeatable for k, name in enumerate(names)], bool)

    def describe(
        self,
        rois: RoiProbabilities,
        names: Sequence[str],
        row: int,
        class_index: int,
        *,
        alternative: bool = False,
        merged_with: Sequence[int] = (),
        note: str = "",
    ) -> CellLabel:
        """Write the label of an ROI whose class is chosen.

        Args:
            rois: the ROIs.
            names: (K,) class names, ``UNKNOWN`` for class 0.
            row: of the ROI.
            class_index: its class.
            alternative: whether another ROI has the class already (``-alt``).
            merged_with: ids of the near ROIs that have the same class.
            note: anything else to note.
        """
        p = rois.probabilities[row]
        probability, written, sides = float(p[class_index]), names[class_index], {class_index}
        partner = partner_index(names, class_index)
        if partner is not None and p[partner] >= self.ambiguity_threshold:
            probability, written, sides = probability + float(p[partner]), written[:-1] + "?", {class_index, partner}
        contamination = self._contamination(rois, names, row, sides)
        notes = [note, *(f"Likely merged with ROI {other}." for other in merged_with), contamination]
        demoted = alternative or bool(contamination) or names[class_index] in self.rare_classes
        return CellLabel(
            neuron_class=written + ("-alt" if alternative else ""),
            roi_id=int(rois.roi_ids[row]),
            center=(float(rois.centers[row, 0]), float(rois.centers[row, 1]), float(rois.centers[row, 2])),
            confidence=confidence_of(probability, class_index, self.demoted_confidence if demoted else 5),
            probability=probability,
            class_index=int(class_index),
            alternatives=list_alternatives(p, names),
            notes=" ".join(filter(None, notes)),
            is_alternative=alternative,
            is_contaminated=bool(contamination),
            merged_with=tuple(int(other) for other in merged_with),
        )

    def _contamination(self, rois: RoiProbabilities, names: Sequence[str], row: int, sides: set[int]) -> str:
        """Return a note if confident voxels of other classes than the most frequent one are many, else ""."""
        counts = rois.confident_counts[row].copy()
        counts[0] = 0
        others = counts.copy()
        others[counts.argmax()] = 0
        if len(sides) == 2:
            others[list(sides)] = 0
        foreign = int(others.sum())
        fraction = foreign / max(int(rois.sizes[row]), 1)
        if foreign == 0 or (foreign < self.contamination_voxels and fraction < self.contamination_fraction):
            return ""
        found = sorted(np.flatnonzero(counts).tolist(), key=lambda k: (-counts[k], k))
        return f"Possibly contaminated: {', '.join(f'{names[k]} {counts[k]} voxels' for k in found)}."


def confidence_of(probability: float, class_index: int, most: int = 5) -> int:
    """Return the confidence 0 to 5 of a label: how many of 0.1, 0.5, 0.75, 0.95 and 0.99 its probability reaches.

    Args:
        probability: of the label.
        class_index: of its class; class 0 (``UNKNOWN``) always has confidence 0.
        most: the highest confidence to give, lower for labels that are to be trusted less.
    """
    if class_index == 0:
        return 0
    return min(sum(probability >= limit for limit in CONFIDENCE_THRESHOLDS), most)


def other_side(name: str) -> str | None:
    """Return the name with its last letter L and R exchanged, or None if it ends with neither."""
    swap = {"L": "R", "R": "L"}
    return name[:-1] + swap[name[-1]] if name[-1:] in swap else None


def partner_index(names: Sequence[str], class_index: int) -> int | None:
    """Return the class of the other side of the body, or None where there is none (AVL is one cell, not a left one)."""
    other = other_side(names[class_index])
    return names.index(other) if other in names else None


def list_alternatives(probabilities: NDArray[np.float64], names: Sequence[str]) -> str:
    """List the classes of probability 0.01 and above, the most probable first: ``"AVAL(0.93), AVAR(0.05)"``."""
    order = np.argsort(-probabilities, kind="stable")
    return ", ".join(f"{names[k]}({probabilities[k]:.2f})" for k in order.tolist() if probabilities[k] >= MIN_LISTED)


def rare_classes(counts: Mapping[str, int], min_count: int) -> tuple[str, ...]:
    """Return the names that were seen fewer than ``min_count`` times in training, sorted.

    Args:
        counts: how often each class is labeled in the training data.
        min_count: examples from which a class is to be trusted.
    """
    return tuple(sorted(name for name, count in counts.items() if count < min_count))
