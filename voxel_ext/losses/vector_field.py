"""Losses of fields of directions, such as surface normals, over the voxels where the true direction is known."""

from __future__ import annotations

import torch
from monai.utils import convert_to_tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.masked_functions import masked_mean

# predictions shorter than this are not stretched to length 1, which bounds the gradient by its inverse
LEAST_LENGTH = 1e-4


def angle_between(first: torch.Tensor, second: torch.Tensor, oriented: bool = True, dim: int = 1) -> torch.Tensor:
    """Compute the angle between vectors of length 1, in radians.

    2 atan2(|u - v|, |u + v|) (Kahan 2006, "How futile are mindless assessments of roundoff in floating-point
    computation?"), which is accurate for small and for large angles and whose gradient is finite everywhere, unlike
    that of arccos(u · v). It is pi / 2 where one vector is 0.

    Args:
        first: vectors along ``dim``, of length 1, or 0.
        second: of the same shape.
        oriented: angles in [0, pi]; if not, v and -v are the same and angles are in [0, pi / 2].
        dim: the axis of the components.
    """
    apart = torch.linalg.vector_norm(first - second, dim=dim)
    together = torch.linalg.vector_norm(first + second, dim=dim)
    if not oriented:
        apart, together = torch.minimum(apart, together), torch.maximum(apart, together)
    return 2 * torch.atan2(apart, together)


class _DirectionLoss(_Loss):
    """Mean over the known voxels of a function of predicted and true unit vectors."""

    def __init__(self, oriented: bool = True) -> None:
        super().__init__()
        self.oriented = oriented

    def forward(self, prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the loss, in float32.

        Args:
            prediction: (B, 3, D, H, W), of any length.
            target: (B, 3, D, H, W), of any length; a zero vector means unknown.
            mask: (B, 1, D, H, W), voxels that count where not 0; None for all.

        Returns:
            the mean over the voxels that are known and counted; 0, with a gradient of 0, if there are none.

        Raises:
            InvalidInputError: a shape does not fit.
        """
        prediction, target = (convert_to_tensor(x, track_meta=False).float() for x in (prediction, target))
        _check_vectors(prediction, target)
        target = target.to(prediction.device)
        with torch.autocast(prediction.device.type, enabled=False):
            length = torch.linalg.vector_norm(target, dim=1, keepdim=True)
            known = length > 0
            if mask is not None:
                known = known & _voxel_mask(mask, prediction)
            # what does not count may be anything, NaN included
            target = torch.where(known, target / torch.where(known, length, 1), 0)
            prediction = F.normalize(torch.where(known, prediction, 0), dim=1, eps=LEAST_LENGTH)
            return masked_mean(self._deviation(prediction, target)[:, None], known)

    def _deviation(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the deviation (B, ...) of unit vectors (B, 3, ...)."""
        raise NotImplementedError


class MaskedCosineLoss(_DirectionLoss):
    """Mean of 1 - cos of the angle between predicted and true vectors over the voxels where the true one is known.

    cos(p, t) = p · t / (|p| |t|). Unoriented: 1 - \\|cos\\|, for which v and -v are the same. A prediction shorter than
    1e-4 is divided by 1e-4 instead of its length, so that its gradient stays bounded.

    Args:
        oriented: whether the sign of a vector counts.
    """

    def _deviation(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        cosine = (prediction * target).sum(1)
        return 1 - (cosine if self.oriented else cosine.abs())


class AngularLoss(_DirectionLoss):
    """Mean angle between predicted and true vectors over the voxels where the true one is known.

    By :func:`angle_between`; its gradient is finite for equal and for opposite vectors.

    Args:
        oriented: angles from 0 to pi; if not, v and -v are the same and angles are from 0 to pi / 2.
        degrees: the loss in degrees instead of radians, in which it has the scale of the other losses.
    """

    def __init__(self, oriented: bool = True, degrees: bool = False) -> None:
        super().__init__(oriented)
        self.degrees = degrees

    def _deviation(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        angle = angle_between(prediction, target, self.oriented)
        return torch.rad2deg(angle) if self.degrees else angle


def _check_vectors(prediction: torch.Tensor, target: torch.Tensor) -> None:
    if prediction.shape != target.shape or prediction.ndim < 3 or prediction.shape[1] != 3:
        raise InvalidInputError(
            f"the predicted vectors have shape {tuple(prediction.shape)} and the true ones {tuple(target.shape)}; "
            "expected the same, (B, 3, D, H, W)"
        )


def _voxel_mask(mask: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    """Return the mask as boolean (B, 1, ...)."""
    expected = (len(prediction), 1, *prediction.shape[2:])
    if tuple(mask.shape) != expected:
        raise InvalidInputError(f"the mask has shape {tuple(mask.shape)}; expected {expected}, one value per voxel")
    return convert_to_tensor(mask, track_meta=False).to(prediction.device) != 0
