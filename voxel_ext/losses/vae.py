"""The loss of a variational autoencoder, with warm-up of its weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from monai.losses import DiceLoss
from monai.utils import convert_to_tensor
from torch.nn import functional as F

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.losses.variational import VariationalLoss, gaussian_kl

RECONSTRUCTIONS = ("l1", "bce", "dice")
"""Mean absolute difference, mean binary cross entropy, or MONAI's ``DiceLoss``."""


class VAELoss(VariationalLoss):
    """Reconstruction loss + beta x KL, in float32.

    The reconstruction is averaged over voxels, channels and batch; KL, see :func:`gaussian_kl`, is summed over the code
    and averaged over the batch. For ``"bce"``, beta = 1 / (C D H W) gives the evidence lower bound per voxel (Kingma
    and Welling 2014), 3.8e-6 for one channel of 64 x 64 x 64; a greater beta asks for simpler codes (Higgins et al.
    2017, "beta-VAE").

    The warm-up of beta is that of :class:`~voxel_ext.losses.variational.VariationalLoss`.

    Args:
        reconstruction: ``"l1"``, ``"bce"`` or ``"dice"``; the last two for values in [0, 1].
        beta: the full weight of KL.
        warmup: "constant", "linear" or "cyclic".
        warmup_length: length of the rise, or of a cycle.
        ramp: the share of a cycle in which beta rises.
        logits: the reconstruction is one before the sigmoid; needed for a network without output activation.

    Attributes:
        last_parts: ``reconstruction`` and ``kl`` (without beta) of the last call, detached scalars; reading them by
            ``float`` waits for the device, having them does not.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    def __init__(
        self,
        reconstruction: str = "l1",
        beta: float = 1e-4,
        warmup: str = "linear",
        warmup_length: float = 5,
        ramp: float = 0.5,
        logits: bool = False,
    ) -> None:
        super().__init__(beta, warmup, warmup_length, ramp)
        self.reconstruction = check_option("reconstruction", reconstruction, RECONSTRUCTIONS)
        self.logits = logits
        self.dice = DiceLoss()

    def forward(self, pred: Mapping[str, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """Compute the loss.

        Args:
            pred: ``reconstruction`` (B, C, ...), ``mean`` and ``log_variance`` (B, L), as of
                :class:`~voxel_ext.networks.nets.shape_vae.ShapeVAE`.
            target: the images (B, C, ...).

        Returns:
            a scalar.

        Raises:
            InvalidInputError: a key is missing, a shape does not fit, or values are outside [0, 1] for "bce" or "dice".
        """
        image, mean, log_variance = (_tensor(pred, name) for name in ("reconstruction", "mean", "log_variance"))
        target = convert_to_tensor(target, track_meta=False).to(image.device, torch.float32)
        if image.shape != target.shape:
            raise InvalidInputError(
                f"the reconstruction has shape {tuple(image.shape)} and the target {tuple(target.shape)}; expected "
                "the same (batch, channel, spatial axes)"
            )
        if mean.ndim != 2 or mean.shape != log_variance.shape or len(mean) != len(image):
            raise InvalidInputError(
                f"mean has shape {tuple(mean.shape)} and log_variance {tuple(log_variance.shape)}; expected "
                f"({len(image)}, L), one row an image"
            )
        with torch.autocast(image.device.type, enabled=False):
            parts = {"reconstruction": self._compare(image, target), "kl": gaussian_kl(mean, log_variance).mean()}
            total = parts["reconstruction"] + self.current_beta * parts["kl"]
        self.last_parts = {name: part.detach() for name, part in parts.items()}
        return total

    def _compare(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if self.reconstruction != "l1":
            _check_range("target", target, "bring the images to that range")
            if not self.logits:
                _check_range("reconstruction", image, "let the network end with a sigmoid, or set logits=True")
        if self.reconstruction == "bce":
            function = F.binary_cross_entropy_with_logits if self.logits else F.binary_cross_entropy
            return function(image, target)
        if self.logits:
            image = torch.sigmoid(image)
        return self.dice(image, target) if self.reconstruction == "dice" else F.l1_loss(image, target)


def _tensor(pred: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    if not isinstance(pred, Mapping) or name not in pred:
        found = sorted(map(str, pred)) if isinstance(pred, Mapping) else type(pred).__name__
        raise InvalidInputError(f"the network's output has no {name!r}; found {found}")
    return convert_to_tensor(pred[name], track_meta=False).float()


def _check_range(name: str, values: torch.Tensor, advice: str) -> None:
    low, high = torch.stack(torch.aminmax(values.detach())).tolist()
    if not (low >= 0 and high <= 1):
        raise InvalidInputError(f"the {name} has values from {low:g} to {high:g}; expected [0, 1]: {advice}")
