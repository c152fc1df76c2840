"""Class probabilities of regions of interest (ROIs) from class probabilities of voxels."""

from __future__ import annotations

import numpy as np
import torch
from monai.utils import convert_to_tensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.labeling.label import RoiProbabilities

__all__ = ["RoiAccumulator", "RoiProbabilities", "edge_voxels", "roi_probabilities"]

CHUNK_ELEMENTS = 1 << 21
"""Probabilities (voxels times classes) that are worked on at a time, 8 to 16 MiB."""


def edge_voxels(roi: torch.Tensor) -> torch.Tensor:
    """Mark the voxels that have a face neighbor of another id.

    The border of the volume is no edge: there is nothing beyond it. A voxel of an ROI that is one voxel thick is an
    edge voxel, which a central difference (0 where both neighbors along an axis are outside) would miss.

    Args:
        roi: (D, H, W) ids.

    Returns:
        (D, H, W) bool. Background voxels beside an ROI are marked too.
    """
    edge = torch.zeros(roi.shape, dtype=torch.bool, device=roi.device)
    for axis, size in enumerate(roi.shape):
        differs = roi.narrow(axis, 1, size - 1) != roi.narrow(axis, 0, size - 1)
        edge.narrow(axis, 1, size - 1).logical_or_(differs)
        edge.narrow(axis, 0, size - 1).logical_or_(differs)
    return edge


class RoiAccumulator:
    """Weighted mean of the class probabilities of the voxels of each ROI, collected piece by piece.

    p(r, k) = sum over the voxels v of r of w(v) p(v, k) / sum of w(v), where w is 1 inside an ROI and ``edge_weight``
    at its edge, see :func:`edge_voxels` (Atanas et al. 2024, bioRxiv 2024.07.18.601886). Only voxels of ROIs are
    touched, and few at a time, so that neither a softmax nor a copy of the whole (K, D, H, W) is ever made. The sums
    are float64 (float32 on devices that lack it).

    Args:
        roi: (D, H, W) integer ROI ids, 0 for background. The sums are kept on its device.
        num_classes: K.
        edge_weight: weight of edge voxels (0.01), above 0.
        confident: probability above which a voxel is counted for its most probable class (0.75).

    Attributes:
        voxels: (n,) int64, flat indices of all ROI voxels, ascending: what has to be added.

    Raises:
        InvalidInputError: not three axes, ids that are negative or not integers, no ROI at all, or settings out of
            range.
    """

    def __init__(
        self, roi: torch.Tensor | np.ndarray, num_classes: int, edge_weight: float = 0.01, confident: float = 0.75
    ) -> None:
        if num_classes < 1 or not 0 < edge_weight <= 1 or not 0 <= confident <= 1:
            raise InvalidInputError(
                f"num_classes={num_classes!r} must be at least 1, edge_weight={edge_weight!r} above 0 and at most 1, "
                f"confident={confident!r} from 0 to 1"
            )
        ids = _checked_ids(roi)
        self.shape, self.device = tuple(ids.shape), ids.device
        self.num_classes, self.confident = num_classes, confident
        flat = ids.flatten()
        self.voxels = flat.nonzero().squeeze(1)
        self._ids, self._row = torch.unique(flat[self.voxels], return_inverse=True)
        self._float = torch.float32 if self.device.type == "mps" else torch.float64
        edge = edge_voxels(ids).flatten()[self.voxels]
        self._weight = torch.ones(len(edge), dtype=self._float, device=self.device).masked_fill_(edge, edge_weight)
        self._seen = torch.zeros(len(edge), dtype=torch.bool, device=self.device)
        self._sum = torch.zeros((len(self._ids), num_classes), dtype=self._float, device=self.device)
        self._count = torch.zeros(len(self._ids) * num_classes, dtype=torch.int64, device=self.device)

    @torch.no_grad()
    def add(self, values: torch.Tensor, start: int = 0, logits: bool = True) -> None:
        """Add some slices.

        Args:
            values: (K, d, H, W) for the slices ``start`` to ``start + d``, any float type, any device.
            start: first slice (0).
            logits: True if a softmax over K makes them probabilities, False if they are that already.

        Raises:
            InvalidInputError: the shape does not fit the ROI volume, or values that are no probabilities, or voxels
                that were added before.
        """
        _, height, width = self.shape
        wanted = (self.num_classes, "d", height, width)
        if values.ndim != 4 or (values.shape[0], "d", *values.shape[2:]) != wanted:
            raise InvalidInputError(
                f"values have shape {tuple(values.shape)}; expected (K, d, H, W) = {wanted} for ROIs {self.shape}"
            )
        if start < 0 or start + values.shape[1] > self.shape[0]:
            raise InvalidInputError(
                f"slices {start} to {start + values.shape[1]} are not inside the ROI volume of {self.shape[0]} slices"
            )
        values, plane = convert_to_tensor(values, track_meta=False), height * width
        bounds = torch.tensor([start * plane, (start + values.shape[1]) * plane], device=self.device)
        first, last = torch.searchsorted(self.voxels, bounds).tolist()
        for position in torch.arange(first, last, device=self.device).split(self._chunk):
            local = (self.voxels[position] - start * plane).to(values.device)
            z, y, x = torch.unravel_index(local, values.shape[1:])
            self._add(position, values[:, z, y, x].T, logits)

    @torch.no_grad()
    def add_voxels(self, flat_index: torch.Tensor, values: torch.Tensor, logits: bool = False) -> None:
        """Add some voxels, for example those of one block of a volume.

        Args:
            flat_index: (n,) indices z H W + y W + x into the ROI volume, each once. Background voxels are skipped.
            values: (n, K) probabilities, or logits.
            logits: True if a softmax over K makes them probabilities (False).

        Raises:
            InvalidInputError: shapes that do not fit, indices outside the volume or repeated, values that are no
                probabilities, or voxels that were added before.
        """
        if flat_index.ndim != 1 or values.shape != (len(flat_index), self.num_classes):
            raise InvalidInputError(
                f"flat_index has shape {tuple(flat_index.shape)} and values {tuple(values.shape)}; expected (n,) and "
                f"(n, {self.num_classes})"
            )
        index, size = flat_index.to(self.device, torch.int64), int(np.prod(self.shape))
        if len(index) and (index.min() < 0 or index.max() >= size):
            raise InvalidInputError(f"flat_index has values outside 0..{size - 1}, the voxels of {self.shape}")
        if len(torch.unique(index)) < len(index):
            raise InvalidInputError("flat_index has repeated voxels; expected each once")
        position = torch.searchsorted(self.voxels, index).clamp_(max=len(self.voxels) - 1)
        inside = (self.voxels[position] == index).nonzero().squeeze(1)
        for part in inside.split(self._chunk):
            self._add(position[part], values[part.to(values.device)], logits)

    def result(self) -> RoiProbabilities:
        """Return the probabilities of all ROIs, in ascending order of their ids.

        Raises:
            InvalidInputError: some ROI voxels were not added.
        """
        if not bool(self._seen.all()):
            missing = self._ids[self._row[~self._seen]].unique().tolist()
            raise InvalidInputError(
                f"{int((~self._seen).sum())} voxels of {len(missing)} ROIs were not added (ROI ids {missing[:10]}); "
                "add all slices first"
            )
        n = len(self._ids)
        total = torch.zeros(n, dtype=self._float, device=self.device).index_add_(0, self._row, self._weight)
        mean = (self._sum / total[:, None]).double().cpu()
        sizes = torch.bincount(self._row, minlength=n)
        position = torch.stack(torch.unravel_index(self.voxels, self.shape), 1).to(self._float)
        centers = torch.zeros((n, 3), dtype=self._float, device=self.device).index_add_(0, self._row, position)
        return RoiProbabilities(
            roi_ids=self._ids.cpu().numpy(),
            probabilities=(mean / mean.sum(1, keepdim=True)).numpy(),
            sizes=sizes.cpu().numpy(),
            centers=(centers / sizes[:, None]).double().cpu().numpy(),
            confident_counts=self._count.view(n, self.num_classes).cpu().numpy(),
        )

    @property
    def _chunk(self) -> int:
        """Voxels to work on at a time."""
        return max(1, CHUNK_ELEMENTS // self.num_classes)

    def _add(self, position: torch.Tensor, values: torch.Tensor, logits: bool) -> None:
        """Add voxels by their position among the ROI voxels: (n,) and (n, K)."""
        values = values.to(self.device, torch.float32)
        p = values.softmax(1) if logits else values
        rows = self._row[position]
        wrong = ~((p >= 0).all(1) & ((p.sum(1) - 1).abs() < 0.01))
        if wrong.any():
            at = int(wrong.nonzero()[0])
            kind = "logits (NaN or infinite)" if logits else "probabilities (at least 0, sum 1; or give logits=True)"
            raise InvalidInputError(
                f"{int(wrong.sum())} voxels are no {kind}; the first is in ROI {int(self._ids[rows[at]])}: "
                f"{values[at, :4].tolist()}…"
            )
        if self._seen[position].any():
            raise InvalidInputError("voxels were added that had been added before; add every slice once")
        self._seen[position] = True
        self._sum.index_add_(0, rows, p.to(self._float) * self._weight[position, None])
        most, k = p.max(1)
        sure = most > self.confident
        self._count += torch.bincount((rows * self.num_classes + k)[sure], minlength=len(self._count))


def roi_probabilities(
    values: torch.Tensor,
    roi: torch.Tensor | np.ndarray,
    edge_weight: float = 0.01,
    confident: float = 0.75,
    logits: bool = True,
) -> RoiProbabilities:
    """Compute the class probabilities of the ROIs of a whole volume, see :class:`RoiAccumulator`.

    Args:
        values: (K, D, H, W) logits, or probabilities.
        roi: (D, H, W) integer ROI ids, 0 for background.
        edge_weight: weight of edge voxels (0.01).
        confident: probability above which a voxel is counted for its most probable class (0.75).
        logits: whether the values are logits (True).

    Raises:
        InvalidInputError: as :class:`RoiAccumulator`, or the volumes differ in shape.
    """
    accumulator = RoiAccumulator(roi, values.shape[0], edge_weight, confident)
    accumulator.add(values, logits=logits)
    return accumulator.result()


def _checked_ids(roi: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Return ROI ids (D, H, W) as int64, or refuse them."""
    ids = convert_to_tensor(roi, track_meta=False)
    if ids.ndim != 3:
        raise InvalidInputError(f"the ROI volume has shape {tuple(ids.shape)}; expected (D, H, W), without a channel")
    whole = ids.to(torch.int64)
    if ids.is_complex() or (ids.is_floating_point() and not torch.equal(whole.to(ids.dtype), ids)):
        raise InvalidInputError(f"the ROI volume ({ids.dtype}) has values that are not integers; expected ROI ids")
    if whole.numel() == 0 or not bool(whole.any()):
        raise InvalidInputError(f"the ROI volume of shape {tuple(ids.shape)} has no ROI: every voxel is 0")
    if whole.min() < 0:
        raise InvalidInputError(f"the ROI volume has the id {int(whole.min())}; expected 0 for background, or more")
    return whole
