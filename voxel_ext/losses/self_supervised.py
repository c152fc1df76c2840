"""Losses on two views of the same objects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from monai.utils import convert_to_tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError, check_option


class NegativeCosineLoss(_Loss):
    """Symmetrized negative cosine similarity with stop-gradient, in [-1, 1], in float32.

        L = -(cos(p1, stop(z2)) + cos(p2, stop(z1))) / 2,   averaged over the batch

    Chen and He 2021, "Exploring Simple Siamese Representation Learning", equations 2 and 4. No gradient flows
    through z; without the stop the outputs collapse to a constant.
    """

    def forward(self, pred: Mapping[str, torch.Tensor], target: Any = None) -> torch.Tensor:
        """Compute the loss.

        Args:
            pred: ``p1``, ``p2``, ``z1``, ``z2``, each (B, d), as of :class:`~voxel_ext.networks.nets.simsiam.SimSiam`.
            target: not used; trainers give one.

        Returns:
            a scalar.

        Raises:
            InvalidInputError: a key is missing, or the shapes differ.
        """
        p1, p2, z1, z2 = _vectors(pred, ("p1", "p2", "z1", "z2"))
        with torch.autocast(p1.device.type, enabled=False):
            first = F.cosine_similarity(p1, z2.detach(), dim=1)
            return -(first + F.cosine_similarity(p2, z1.detach(), dim=1)).mean() / 2


class InfoNCELoss(_Loss):
    """Normalized temperature-scaled cross entropy, the loss of SimCLR, in float32.

        L = mean over i of -log(exp(s(i, i') / T) / sum over k != i of exp(s(i, k) / T)),   s = cosine

    over the 2 B vectors of both views; i' is the other view of i. Chen et al. 2020, "A Simple Framework for Contrastive
    Learning of Visual Representations", equation 1. Its values are those of MONAI's ``ContrastiveLoss``, but it needs
    memory for (2 B)^2 numbers instead of (2 B)^2 d, and low temperatures do not overflow.

    Args:
        temperature: T; 0.5 as in MONAI.

    Raises:
        InvalidInputError: the temperature is not a positive number.
    """

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        if isinstance(temperature, bool) or not 0 < temperature < math.inf:
            raise InvalidInputError(f"temperature={temperature!r} is not valid; expected a positive number")
        self.temperature = temperature

    def forward(self, pred: Mapping[str, torch.Tensor], target: Any = None) -> torch.Tensor:
        """Compute the loss.

        Args:
            pred: ``z1`` and ``z2``, each (B, d), as of :class:`~voxel_ext.networks.nets.simsiam.SimSiam`.
            target: not used; trainers give one.

        Returns:
            a scalar.

        Raises:
            InvalidInputError: a key is missing, the shapes differ, or there is one object only.
        """
        z1, z2 = _vectors(pred, ("z1", "z2"))
        count = len(z1)
        if count < 2:
            raise InvalidInputError("a batch of one object has no negatives; expected at least 2 objects")
        with torch.autocast(z1.device.type, enabled=False):
            vectors = F.normalize(torch.cat((z1, z2)), dim=1)
            own = torch.eye(2 * count, dtype=torch.bool, device=vectors.device)
            logits = (vectors @ vectors.T / self.temperature).masked_fill(own, -math.inf)
            other = torch.arange(2 * count, device=vectors.device).roll(count)
            return F.cross_entropy(logits, other)


def self_supervised_loss(variant: str = "simsiam", temperature: float = 0.5) -> _Loss:
    """Return the loss of a variant of :class:`~voxel_ext.networks.nets.simsiam.SimSiam`.

    Args:
        variant: ``"simsiam"`` for :class:`NegativeCosineLoss`, ``"simclr"`` for :class:`InfoNCELoss`.
        temperature: of "simclr".

    Raises:
        InvalidInputError: another variant, or a temperature that is not positive.
    """
    check_option("variant", variant, ("simsiam", "simclr"))
    contrastive = InfoNCELoss(temperature)
    return contrastive if variant == "simclr" else NegativeCosineLoss()


def _vectors(pred: Mapping[str, torch.Tensor], names: tuple[str, ...]) -> list[torch.Tensor]:
    """Return vectors by name in float32, or refuse them."""
    for name in names:
        if not isinstance(pred, Mapping) or name not in pred:
            found = sorted(map(str, pred)) if isinstance(pred, Mapping) else type(pred).__name__
            hint = "; a network of variant 'simclr' has no predictor" if name.startswith("p") else ""
            raise InvalidInputError(f"the network's output has no {name!r}; found {found}{hint}")
    vectors = [convert_to_tensor(pred[name], track_meta=False).float() for name in names]
    shapes = {name: tuple(vector.shape) for name, vector in zip(names, vectors, strict=True)}
    if len(set(shapes.values())) > 1 or vectors[0].ndim != 2:
        raise InvalidInputError(f"the network's outputs have shapes {shapes}; expected (B, d), the same for all")
    return vectors
