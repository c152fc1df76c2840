"""The loss of an autoencoder of point clouds."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from monai.utils import convert_to_tensor
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.chamfer import ChamferLoss
from voxel_ext.losses.earth_mover import EarthMoverLoss
from voxel_ext.losses.vae import gaussian_kl

DISTANCES = ("chamfer", "earth_mover", "sinkhorn")
"""The squared Chamfer distance; the earth mover's distance, exact; or by Sinkhorn, for clouds of different sizes."""


class PointCloudLoss(_Loss):
    """Distance of the reconstruction from the target + beta KL + w ‖I - A Aᵀ‖², each a mean over the batch.

    The two last terms count where the network's output has what they need: KL, see
    :func:`~voxel_ext.losses.vae.gaussian_kl`, that of a variational network, and the orthogonality that of an input
    transform A (Qi et al. 2017, "PointNet").

    Args:
        distance: one of :data:`DISTANCES`.
        beta: weight of KL, which is summed over the code, in units of the distance.
        orthogonality_weight: w; 0.001 as in Qi et al.
        search: of the Chamfer distance, see :class:`~voxel_ext.losses.chamfer.ChamferLoss`.

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
    ) -> None:
        super().__init__()
        self.distance: ChamferLoss | EarthMoverLoss
        if check_option("distance", distance, DISTANCES) == "chamfer":
            self.distance = ChamferLoss(search=search)
        else:
            self.distance = EarthMoverLoss("exact" if distance == "earth_mover" else "sinkhorn")
        self.weights = {
            "kl": _checked_weight("beta", beta),
            "orthogonality": _checked_weight("orthogonality_weight", orthogonality_weight),
        }
        self.last_parts: dict[str, torch.Tensor] = {}

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
            total = sum((self.weights[name] * part for name, part in parts.items() if name != "distance"), start=0)
        self.last_parts = {name: part.detach() for name, part in parts.items()}
        return parts["distance"] + total


def _checked_weight(name: str, value: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise InvalidInputError(f"{name}={value!r} is not valid; expected a number of at least 0")
    return float(value)
