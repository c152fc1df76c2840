"""Distances between two partitions of a volume: adapted Rand error and variation of information."""

from __future__ import annotations

import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.metrics.instance_scores import kept_voxels


def contingency(
    pred: torch.Tensor, truth: torch.Tensor, ignore_background: bool = False, ignore_label: int | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Count the voxels of each pair of labels, and of each label, by what occurs only.

    Args:
        pred: integer labels, any shape; 0 is a label like any other.
        truth: integer labels of the same shape.
        ignore_background: leave out the voxels with true label 0.
        ignore_label: leave out the voxels with this true label, too; None for none.

    Returns:
        Three tensors of counts, float64: of each pair, of each true label, of each predicted label.

    Raises:
        InvalidInputError: the shapes differ, or a label is not an integer.
    """
    pred, truth = kept_voxels(pred, truth, ignore_label)
    if ignore_background:
        pred, truth = pred[truth != 0], truth[truth != 0]
    for name, labels in (("predicted", pred), ("true", truth)):
        if labels.is_floating_point() and not torch.equal(labels.to(torch.int64).to(labels.dtype), labels):
            raise InvalidInputError(f"the {name} labels have values that are not integers; expected instance ids")
    true_index, true_sizes = torch.unique(truth, return_inverse=True, return_counts=True)[1:]
    pred_index, pred_sizes = torch.unique(pred, return_inverse=True, return_counts=True)[1:]
    pairs = torch.unique(true_index * len(pred_sizes) + pred_index, return_counts=True)[1]
    return pairs.double(), true_sizes.double(), pred_sizes.double()


def adapted_rand_error(
    pred: torch.Tensor, truth: torch.Tensor, ignore_background: bool = True, ignore_label: int | None = None
) -> float:
    """Compute the adapted Rand error (Arganda-Carreras et al. 2015), as scikit-image does.

    With n_ij voxels in true segment i and predicted segment j, and n_i, n_j their sums, it is
    1 - 2 sum n_ij (n_ij - 1) / (sum n_i (n_i - 1) + sum n_j (n_j - 1)): one minus the F-score of pairs of voxels that
    are together. Counted from the labels that occur, so that ids may be large.

    Args:
        pred: predicted instance ids, any shape; predicted background is a segment.
        truth: true instance ids of the same shape.
        ignore_background: leave out the voxels of true background, 0 (scikit-image's default).
        ignore_label: leave out the voxels with this true id, too; None for none.

    Returns:
        0 (equal) to 1; NaN if no voxel is left. Where no two voxels are together in either segmentation, 0.

    Raises:
        InvalidInputError: as :func:`contingency`.
    """
    pairs, true_sizes, pred_sizes = (n * (n - 1) for n in contingency(pred, truth, ignore_background, ignore_label))
    if not len(pairs):
        return float("nan")
    together = float(true_sizes.sum() + pred_sizes.sum())
    return 1 - 2 * float(pairs.sum()) / together if together else 0.0


def variation_of_information(
    pred: torch.Tensor, truth: torch.Tensor, ignore_background: bool = False, ignore_label: int | None = None
) -> tuple[float, float]:
    """Compute the two terms of the variation of information (Meilă 2007), in bits, as scikit-image does.

    H(pred | truth), which grows with false splits, and H(truth | pred), which grows with false merges, of the labels of
    a random voxel.

    Args:
        pred: predicted instance ids, any shape; background is a segment.
        truth: true instance ids of the same shape.
        ignore_background: leave out the voxels of true background, 0.
        ignore_label: leave out the voxels with this true id, too; None for none.

    Returns:
        Split and merge term; NaN if no voxel is left.

    Raises:
        InvalidInputError: as :func:`contingency`.
    """
    tables = contingency(pred, truth, ignore_background, ignore_label)
    if not len(tables[0]):
        return float("nan"), float("nan")
    joint, of_truth, of_pred = (_entropy(n / n.sum()) for n in tables)
    # rounding may leave equal entropies a little apart
    return max(joint - of_truth, 0.0), max(joint - of_pred, 0.0)


def _entropy(p: torch.Tensor) -> float:
    return -float((p * p.log2()).sum())
