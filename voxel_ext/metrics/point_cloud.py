"""How well a point cloud covers another."""

from __future__ import annotations

import math

import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.chamfer import nearest_points, pair_distance, paired_clouds


def point_cloud_f_score(
    prediction: torch.Tensor, target: torch.Tensor, threshold: float = 0.05, search: str = "chunked"
) -> torch.Tensor:
    """Compute the F-score of point clouds (Tatarchenko et al. 2019, "What Do Single-view 3D Reconstruction Networks
    Learn?").

    F = 2 p r / (p + r), with p the share of predicted points that are nearer than the threshold to a point of the
    target, and r the share of the target's points that are so near to a predicted one; 0 where both are 0.

    Args:
        prediction: (B, N, 3).
        target: (B, M, 3).
        threshold: distance, in units of the coordinates; 0.05 is a twentieth of the radius of the unit sphere.
        search: see :class:`~voxel_ext.losses.chamfer.ChamferLoss`.

    Returns:
        (B,) in [0, 1].

    Raises:
        InvalidInputError: a shape does not fit, or a setting is not valid.
    """
    number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if not number or not 0 < threshold < math.inf:
        raise InvalidInputError(f"threshold={threshold!r} is not valid; expected a distance above 0")
    prediction, target = paired_clouds(prediction.detach(), target.detach())
    precision = _share_near(prediction, target, threshold, search)
    recall = _share_near(target, prediction, threshold, search)
    return 2 * precision * recall / (precision + recall).clamp_min(torch.finfo(precision.dtype).tiny)


def _share_near(points: torch.Tensor, others: torch.Tensor, threshold: float, search: str) -> torch.Tensor:
    index = nearest_points(points, others, search=search)
    distance = pair_distance(points, others.gather(1, index[..., None].expand(-1, -1, 3)), squared=False)
    return (distance < threshold).to(points.dtype).mean(1)
