"""What a human annotator would have written about the ROIs of an artificial NeuroPAL animal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic._checks import check_number

CONFIDENCE_SHARES = (0.05, 0.1, 0.15, 0.25, 0.45)
"""Share of the labels with confidence 1 to 5, the least distinct cells first."""

COLOR_SCALE = 0.3  # difference of brightness in a channel that counts
PLACE_SCALE = 4.0  # distance over the radius of a nucleus that counts as much
UNCLEAR = 0.4  # standard deviation of the annotator's judgment, in ranks from 0 to 1
WRONG_CONFIDENCE = 3  # at most, of a wrong name


@dataclass(frozen=True)
class Annotator:
    """How well the artificial annotator works.

    Args:
        labeled_share: of the ROIs that get a name, 0 to 1; distinct ones first.
        question_share: of the names of left-right pairs that end with ``?`` instead of L or R, 0 to 1.
        wrong_share: of the named ROIs whose name is exchanged with that of the ROI most like it, 0 to 1.
        split_share: of the ROIs that the segmentation cut in two, with the table saying ``12/15``, 0 to 1.

    Raises:
        InvalidInputError: a share is no number from 0 to 1, or nothing would be labeled.
    """

    labeled_share: float = 0.7
    question_share: float = 0.05
    wrong_share: float = 0.02
    split_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("labeled_share", "question_share", "wrong_share", "split_share"):
            check_number(name, getattr(self, name), 0, 1)
        if self.labeled_share == 0:
            raise InvalidInputError(
                "labeled_share=0: expected a share above 0, so that there is something to learn from."
            )


@dataclass(frozen=True)
class AnnotatedRoi:
    """A line of the annotator's table.

    Args:
        name: as written.
        position: (z, y, x) in voxels.
        roi_ids: one, or both parts of an ROI cut in two.
        confidence: 1 to 5.
        comment: may be empty.
    """

    name: str
    position: tuple[int, ...]
    roi_ids: tuple[int, ...]
    confidence: int
    comment: str


def annotate(
    rng: np.random.Generator, animal: Mapping[str, Any], annotator: Annotator, parts: Mapping[int, Sequence[int]]
) -> list[AnnotatedRoi]:
    """Name the ROIs of an animal.

    Distinct cells, whose nearest look-alike is far in place or color, are named more often and with more confidence.

    Args:
        rng: source of randomness.
        animal: what ``voxel_ext.synthetic.neuropal.NeuroPAL`` generates.
        annotator: how well.
        parts: ids of both parts, by the id of the ROIs that are cut in two.

    Returns:
        at least one line, sorted by ROI id.
    """
    distance = _likeness(animal)
    judged = _ranks(distance.min(axis=1)) + rng.standard_normal(len(distance)) * UNCLEAR
    count = max(round(annotator.labeled_share * len(judged)), 1)
    labeled = np.argsort(-judged, kind="stable")[:count]
    confidences = np.searchsorted(np.cumsum(CONFIDENCE_SHARES)[:-1], _ranks(judged[labeled]), side="right") + 1
    names, wrong = _exchange_names(rng, animal["names"], labeled, distance, annotator.wrong_share)
    known = set(animal["class_names"])
    lines = []
    for row, confidence in sorted(zip(labeled.tolist(), confidences.tolist(), strict=True)):
        name, comment = names[row], ""
        if rng.random() < annotator.question_share and _opposite(name) in known:
            name, comment = f"{name[:-1]}?", "left or right"
        confidence = min(confidence, WRONG_CONFIDENCE) if row in wrong else confidence
        roi_id = int(animal["roi_ids"][row])
        position = tuple(np.rint(animal["positions"][row]).astype(int).tolist())
        lines.append(AnnotatedRoi(name, position, tuple(parts.get(roi_id, (roi_id,))), confidence, comment))
    return lines


def split_rois(
    rng: np.random.Generator, label: NDArray[np.uint16], share: float
) -> tuple[NDArray[np.uint16], dict[int, tuple[int, int]]]:
    """Cut some ROIs in two across x, as a segmentation that goes wrong does.

    Args:
        rng: source of randomness.
        label: (Z, Y, X) ROI ids 1 … n.
        share: of the ROIs to cut; those in a single plane of x are left whole.

    Returns:
        the ids with new ones from n + 1 on; and the ids of both parts by the old id.
    """
    from scipy.ndimage import find_objects

    label, boxes = label.copy(), find_objects(label)
    parts: dict[int, tuple[int, int]] = {}
    for roi_id in sorted((rng.permutation(len(boxes))[: round(share * len(boxes))] + 1).tolist()):
        window = label[boxes[roi_id - 1]]
        middle = window.shape[2] // 2
        if middle:
            new = len(boxes) + len(parts) + 1
            upper = window[:, :, middle:]
            upper[upper == roi_id] = new
            parts[roi_id] = (roi_id, new)
    return label, parts


def _likeness(animal: Mapping[str, Any]) -> NDArray[np.float64]:
    """Distance (n, n) of ROIs in place and color, infinite to itself."""
    places = animal["positions"] / (PLACE_SCALE * animal["parameters"]["radius"])
    features = np.concatenate([places, animal["colors"] / COLOR_SCALE], axis=1).astype(np.float64)
    distance = np.linalg.norm(features[:, None] - features, axis=2)
    np.fill_diagonal(distance, np.inf)
    return distance


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each value, spread over (0, 1)."""
    return (np.argsort(np.argsort(values, kind="stable"), kind="stable") + 0.5) / len(values)


def _exchange_names(
    rng: np.random.Generator,
    names: Sequence[str],
    labeled: NDArray[np.int64],
    distance: NDArray[np.float64],
    share: float,
) -> tuple[list[str], set[int]]:
    """Names where some labeled rows have changed theirs with the row most like them, and the rows that have."""
    given, wrong, wanted = list(names), set[int](), round(share * len(labeled))
    for row in rng.permutation(labeled).tolist():
        other = int(distance[row].argmin())
        if len(wrong.intersection(labeled.tolist())) >= wanted:
            break
        if other != row and not wrong & {row, other}:
            given[row], given[other] = given[other], given[row]
            wrong |= {row, other}
    return given, wrong


def _opposite(name: str) -> str:
    """The name of the cell on the other side; "" if the name does not end with L or R."""
    return {"L": f"{name[:-1]}R", "R": f"{name[:-1]}L"}.get(name[-1], "")
