"""Earth mover's distance of point clouds, exact or by entropy-regularized transport."""

from __future__ import annotations

import math

import torch
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.chamfer import pair_distance, paired_clouds, reduced
from voxel_ext.losses.linear_assignment import solve_assignment
from voxel_ext.losses.sinkhorn import log_sinkhorn

METHODS = ("exact", "sinkhorn")
"""The best one-to-one assignment, by SciPy on the CPU; or Sinkhorn's transport plan, on any device."""


class EarthMoverLoss(_Loss):
    """Earth mover's distance of point clouds (Fan et al. 2017, "A Point Set Generation Network").

    min over plans P of sum_ij P_ij |p_i - t_j|, with rows of P that sum to 1 / N and columns that sum to 1 / M. Exact,
    for N = M: P is a permutation over N, and the gradient that of the distances of its pairs. Time grows with N³, so
    it is for up to about a thousand points. By Sinkhorn (Cuturi 2013), for any N and M: P is the plan at a temperature,
    and the gradient that of sum P |p - t| with P fixed, which is that of the entropy-regularized problem. Either holds
    the N × M distances of all clouds: for large clouds use :class:`~voxel_ext.losses.chamfer.ChamferLoss`, or subsets.

    Args:
        method: a key of :data:`METHODS`.
        squared: squared distances.
        temperature: of Sinkhorn's plan, in units of the distances; the lower, the nearer to the exact value from
            above, and the more iterations it needs. 0.01 suits clouds in the unit sphere.
        iterations: of Sinkhorn, see :func:`~voxel_ext.losses.sinkhorn.log_sinkhorn`.
        reduction: over the batch, ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        InvalidInputError: a setting is not valid.
    """

    def __init__(
        self,
        method: str = "exact",
        squared: bool = False,
        temperature: float = 0.01,
        iterations: int = 200,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=LossReduction(check_option("reduction", reduction, list(LossReduction))).value)
        self.method = check_option("method", method, METHODS)
        if not 0 < temperature < math.inf:
            raise InvalidInputError(f"temperature={temperature!r} is not valid; expected a number above 0")
        if iterations < 1:
            raise InvalidInputError(f"iterations={iterations} is not valid; expected at least 1")
        self.squared = squared
        self.temperature = temperature
        self.iterations = iterations

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss, in float32 (in float64 where an input is).

        Args:
            prediction: (B, N, 3).
            target: (B, M, 3); M = N for the method ``"exact"``.

        Returns:
            a scalar, or (B,) for the reduction ``"none"``, in units of the coordinates, squared if ``squared``.

        Raises:
            InvalidInputError: a shape does not fit, or, for ``"exact"``, a coordinate is not finite.
        """
        prediction, target = paired_clouds(prediction, target)
        with torch.autocast(prediction.device.type, enabled=False):
            loss = self._exact(prediction, target) if self.method == "exact" else self._sinkhorn(prediction, target)
        return reduced(loss, self.reduction)

    def _exact(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if prediction.shape != target.shape:
            raise InvalidInputError(
                f"the point clouds have shapes {tuple(prediction.shape)} and {tuple(target.shape)}; method='exact' "
                "needs as many points in both: take a subset of the larger, or method='sinkhorn'"
            )
        with torch.no_grad():
            index = solve_assignment(self._distances(prediction, target)).argmax(-1)
        partners = target.gather(1, index[..., None].expand(-1, -1, 3))
        return pair_distance(prediction, partners, self.squared).mean(1)

    def _sinkhorn(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        distances = self._distances(prediction, target)
        with torch.no_grad():
            plan = log_sinkhorn(-distances / self.temperature, self.iterations).exp() / prediction.shape[1]
        return (plan * distances).sum((1, 2))

    def _distances(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return all distances, (B, N, M)."""
        return pair_distance(prediction[:, :, None], target[:, None], self.squared)
