"""The angle between predicted and true directions: mean, median, and how many are below a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import convert_to_tensor

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.vector_field import angle_between

STATISTICS = ("median", "mean", "fraction")
"""What :class:`AngularError` can return."""


def angles(pred: torch.Tensor, target: torch.Tensor, oriented: bool = True) -> torch.Tensor:
    """Compute the angle of every voxel between predicted and true vectors, in degrees.

    Args:
        pred: (..., 3, D, H, W), of any length; a zero vector is 90 degrees from everything.
        target: of the same shape, of any length; a zero vector means unknown.
        oriented: angles from 0 to 180; if not, v and -v are the same and angles are from 0 to 90.

    Returns:
        (..., D, H, W) float32, NaN where the target is unknown.

    Raises:
        InvalidInputError: the shapes differ or have no 3 components.
    """
    if pred.shape != target.shape or pred.ndim < 4 or pred.shape[-4] != 3:
        raise InvalidInputError(
            f"the predicted vectors have shape {tuple(pred.shape)} and the true ones {tuple(target.shape)}; "
            "expected the same, (..., 3, D, H, W)"
        )
    pred, target = (convert_to_tensor(x, track_meta=False).detach().movedim(-4, -1) for x in (pred, target))
    target = target.to(pred.device)
    known = (target != 0).any(-1)
    result = torch.full(known.shape, torch.nan, device=pred.device)
    result[known] = _degrees(pred[known], target[known], oriented).float()
    return result


class AngularError(CumulativeIterationMetric):
    """Angle between predicted and true vectors over all known voxels of all volumes, in degrees.

    Called with (B, 3, D, H, W) twice, or lists of (3, D, H, W), as MONAI's metrics and ``IgniteMetricHandler`` do, e.g.
    with ``from_engine(["normals_pred", "normals"])``; one metric per statistic. Zero vectors of the target are unknown.
    All voxels weigh the same, those of one process and volume as of another: their angles are pooled in a histogram, so
    that memory does not grow with their number; mean and fractions are exact, the median is interpolated within the bin
    that holds it. The buffer has a row for each volume: mean, exact median, and the fraction under
    each threshold; NaN for a volume without a known voxel. A prediction that is not finite makes every statistic NaN.

    Args:
        oriented: whether the sign of a vector counts; if not, angles are at most 90.
        thresholds: degrees, for the fraction of voxels whose angle is below.
        statistic: what :meth:`aggregate` returns, ``"median"``, ``"mean"`` or ``"fraction"`` (under the thresholds).
        bin_width: of the histogram, in degrees (0.01).

    Raises:
        InvalidInputError: the statistic is not known, there is no threshold, or a number is not in (0, 180].
    """

    def __init__(
        self,
        oriented: bool = True,
        thresholds: Sequence[float] | float = (10.0,),
        statistic: str = "median",
        bin_width: float = 0.01,
    ) -> None:
        super().__init__()
        self.oriented = oriented
        self.thresholds = tuple(map(float, thresholds if isinstance(thresholds, Sequence) else [thresholds]))
        if not self.thresholds or not all(0 < limit <= 180 for limit in self.thresholds):
            raise InvalidInputError(f"thresholds={thresholds!r} is not valid; expected degrees above 0, at most 180")
        self.statistic = check_option("statistic", statistic, STATISTICS)
        largest = 180.0 if oriented else 90.0
        if not 0 < bin_width <= largest:
            raise InvalidInputError(f"bin_width={bin_width!r} is not valid; expected degrees above 0, at most 180")
        self.bins = round(largest / bin_width)
        self.largest = largest

    def __call__(self, y_pred: Any, y: Any = None, mask: Any = None) -> Any:  # type: ignore[override]
        """Add volumes.

        Args:
            y_pred: (B, 3, D, H, W), or a list of (3, D, H, W); vectors of any length.
            y: true vectors, likewise; zero means unknown.
            mask: (B, 1, D, H, W), or a list of (1, D, H, W): voxels that count where not 0; None for all.

        Returns:
            mean, median and fraction under each threshold of each volume, (B, 2 + T) float64.

        Raises:
            InvalidInputError: the truth is missing or a shape does not fit.
        """
        if y is None:
            raise InvalidInputError("AngularError needs the true vectors, y, as well as y_pred")
        if len(y_pred) != len(y) or (mask is not None and len(mask) != len(y)):
            raise InvalidInputError(
                f"there are {len(y_pred)} predictions, {len(y)} targets and "
                f"{'no' if mask is None else len(mask)} masks; expected as many of each"
            )
        masks = [None] * len(y) if mask is None else list(mask)
        samples = [self._sample(*volume) for volume in zip(y_pred, y, masks, strict=True)]
        rows, pooled = (torch.stack(part) for part in zip(*samples, strict=True))
        self.extend(rows, pooled)
        return rows

    def extend(self, *data: Any) -> None:
        """Add rows and pooled counts of volumes; the counts are added up at once."""
        super().extend(*data)
        if self._buffers is not None:
            self._buffers[1] = [torch.stack(self._buffers[1]).sum(0)]

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        raise NotImplementedError  # every call goes sample by sample

    def _sample(self, pred: Any, target: Any, mask: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the row and the pooled counts of one volume."""
        degrees = angles(pred, target, self.oriented).double()
        known = (convert_to_tensor(target, track_meta=False).to(degrees.device) != 0).any(-4)
        if mask is not None:
            mask = convert_to_tensor(mask, track_meta=False).to(degrees.device)
            if tuple(mask.shape) != (1, *known.shape):
                raise InvalidInputError(
                    f"the mask of a volume has shape {tuple(mask.shape)}; expected {(1, *known.shape)}"
                )
            known &= mask[0] != 0
        values = degrees[known].sort().values
        limits = values.new_tensor(self.thresholds)
        under = torch.stack([(values < limit).sum() for limit in limits]).double()
        count = values.new_tensor(float(len(values)))
        index = (values * (self.bins / self.largest)).nan_to_num().long().clamp(0, self.bins - 1)
        histogram = torch.bincount(index, minlength=self.bins).double()
        row = torch.stack([values.mean(), _median(values), *(under / count)])
        row = torch.where(values.isfinite().all(), row, torch.nan)
        return row, torch.cat([torch.stack([values.sum(), count]), under, histogram])

    def get_buffer(self) -> torch.Tensor | None:
        """Return mean, median and fraction under each threshold of each volume, (N, 2 + T), or None before any."""
        buffers = super().get_buffer()
        return None if buffers is None else buffers[0]

    def histogram(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the number of voxels in each bin, (bins,), and the edges of the bins in degrees, (bins + 1,).

        Raises:
            InvalidInputError: nothing was measured since the last reset.
        """
        counts = self._pooled()[2 + len(self.thresholds) :]
        return counts, torch.linspace(0, self.largest, self.bins + 1, dtype=counts.dtype, device=counts.device)

    def statistics(self) -> dict[str, torch.Tensor]:
        """Return "median" and "mean" in degrees, scalars, and "fraction" under each threshold (T,), of all voxels.

        Raises:
            InvalidInputError: nothing was measured since the last reset.
        """
        pooled = self._pooled()
        total, count, under = pooled[0], pooled[1], pooled[2 : 2 + len(self.thresholds)]
        # 0 / 0 without a known voxel, NaN after a prediction that is not finite
        valid = torch.where(total.isfinite() & (count > 0), 1.0, torch.nan)
        median = _histogram_median(*self.histogram())
        return {"median": median * valid, "mean": total / count, "fraction": under / count * valid}

    def aggregate(self) -> torch.Tensor:
        """Return the statistic over all known voxels: a scalar; (T,) for the fraction under several thresholds.

        NaN if there was no known voxel.

        Raises:
            InvalidInputError: nothing was measured since the last reset.
        """
        value = self.statistics()[self.statistic]
        return value[0] if value.ndim and len(value) == 1 else value

    def _pooled(self) -> torch.Tensor:
        """Return sum, count, counts under the thresholds and the histogram, of all processes."""
        buffers = super().get_buffer()
        if buffers is None:
            raise InvalidInputError("AngularError has nothing to aggregate; call it with y_pred and y first")
        return buffers[1].sum(0)


def _degrees(pred: torch.Tensor, target: torch.Tensor, oriented: bool) -> torch.Tensor:
    """Return the angles of vectors (n, 3) in degrees, float64."""
    pred, target = (_unit(x.double()) for x in (pred, target))
    return torch.rad2deg(angle_between(pred, target, oriented, dim=-1))


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(length > 0, length, 1)


def _median(values: torch.Tensor) -> torch.Tensor:
    """Return the median of sorted values (n,), the mean of the middle two where n is even; NaN for none."""
    if not len(values):
        return values.new_tensor(torch.nan)
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def _histogram_median(counts: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Return the value below which half of the counts are, linear within its bin."""
    # of integers, since that of floating-point numbers is not deterministic on CUDA
    below = counts.long().cumsum(0).to(counts.dtype)
    half = below[-1] / 2
    index = torch.searchsorted(below, half).clamp(max=len(counts) - 1)
    before = below[index] - counts[index]
    share = (half - before) / counts[index].clamp(min=1)
    return edges[index] + share * (edges[index + 1] - edges[index])
