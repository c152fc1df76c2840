"""The loss of an autoencoder of point clouds."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from monai.utils import convert_to_tensor

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.chamfer import ChamferLoss
from voxel_ext.losses.earth_mover import EarthMoverLoss
from voxel_ext.losses.variational import VariationalLoss, check_number, gaussian_kl

DISTANCES = ("chamfer", "earth_mover", "sinkhorn")
"""The squared Chamfer distance; the earth mover's distance, exact; or by Sinkhorn, for clouds of different sizes."""


class PointCloudLoss(VariationalLoss):
    """Distance of the reconstruction from the target + beta KL + w ‖I - A Aᵀ‖², each a mean over the batch.

    The two last terms count where the network's output has what they need: KL, see
    :func:`~voxel_ext.losses.variational.gaussian_kl`, that of a variational network, and the orthogonality that of an
    input transform A (Qi et al. 2017, "PointNet"). The warm-up of beta is that of
    :class:`~voxel_ext.losses.variational.VariationalLoss`.

    Args:
        distance: one of :data:`DISTANCES`.
        beta: the full weight of KL, which is summed over the code, in units of the distance.
        orthogonality_weight: w; 0.001 as in Qi et al.
        search: of the Chamfer distance, see :class:`~voxel_ext.losses.chamfer.ChamferLoss`.
        warmup: "constant", "linear" or "cyclic".
        warmup_length: length of the rise, or of a cycle.
        ramp: the share of a cycle in which beta rises.

    Attributes:
        last_parts: ``distance``, and where they count ``kl`` and ``orthogonality`` (without their weights) of the last
            call, detached scalars.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    def __init__(
        self,
        distance: str = "chamfer",
        beta: float = 1e-4,
        orthogonality_weight: float = 1e-3,
        search: str = "chunked",
        warmup: str = "linear",
        warmup_length: float = 5,
        ramp: float = 0.5,
    ) -> None:
        super().__init__(beta, warmup, warmup_length, ramp)
        self.distance: ChamferLoss | EarthMoverLoss
        if check_option("distance", distance, DISTANCES) == "chamfer":
            self.distance = ChamferLoss(search=search)
        else:
            self.distance = EarthMoverLoss("exact" if distance == "earth_mover" else "sinkhorn")
        self.orthogonality_weight = check_number(
            "orthogonality_weight", orthogonality_weight, 0, math.inf, "a number of at least 0"
        )

    def forward(self, pred: Mapping[str, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """Compute the loss, in float32.

        Args:
            pred: ``reconstruction`` (B, R, 3); where there are, ``mean`` and ``log_variance`` (B, L), and
                ``orthogonality`` (B,); as of
                :class:`~voxel_ext.networks.nets.point_cloud_autoencoder.PointCloudAutoEncoder`.
            target: the clouds (B, P, 3).

        Returns:
            a scalar.

        Raises:
            InvalidInputError: there is no reconstruction, or a shape does not fit, see the distances.
        """
        if not isinstance(pred, Mapping) or "reconstruction" not in pred:
            found = sorted(map(str, pred)) if isinstance(pred, Mapping) else type(pred).__name__
            raise InvalidInputError(f"the network's output has no 'reconstruction'; found {found}")
        values = {name: convert_to_tensor(value, track_meta=False).float() for name, value in pred.items()}
        image = values["reconstruction"]
        with torch.autocast(image.device.type, enabled=False):
            parts = {"distance": self.distance(image, target)}
            if "mean" in values and "log_variance" in values:
                parts["kl"] = gaussian_kl(values["mean"], values["log_variance"]).mean()
            if "orthogonality" in values:
                parts["orthogonality"] = values["orthogonality"].mean()
            weights = {"distance": 1.0, "kl": self.current_beta, "orthogonality": self.orthogonality_weight}
            total = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        self.last_parts = {name: part.detach() for name, part in parts.items()}
        return total
