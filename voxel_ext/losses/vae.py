"""The loss of a variational autoencoder, with warm-up of its weight."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from monai.losses import DiceLoss
from monai.utils import convert_to_tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError, check_option

RECONSTRUCTIONS = ("l1", "bce", "dice")
"""Mean absolute difference, mean binary cross entropy, or MONAI's ``DiceLoss``."""

WARMUPS = ("constant", "linear", "cyclic")
"""How the weight of the Kullback-Leibler divergence rises."""


def gaussian_kl(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Return the Kullback-Leibler divergence of normal distributions from the standard one, in nats.

        KL = 1/2 sum over j of (mean_j^2 + exp(log_variance_j) - log_variance_j - 1)

    Kingma and Welling 2014, "Auto-Encoding Variational Bayes", appendix B.

    Args:
        mean: (B, L).
        log_variance: (B, L).

    Returns:
        (B,).
    """
    # expm1 is exact near 0, where exp(v) - 1 - v would be rounding alone
    return (mean.square() + torch.expm1(log_variance) - log_variance).sum(dim=1) / 2


class VAELoss(_Loss):
    """Reconstruction loss + beta x KL, in float32.

    The reconstruction is averaged over voxels, channels and batch; KL, see :func:`gaussian_kl`, is summed over the code
    and averaged over the batch. For ``"bce"``, beta = 1 / (C D H W) gives the evidence lower bound per voxel (Kingma
    and Welling 2014), 3.8e-6 for one channel of 64 x 64 x 64; a greater beta asks for simpler codes (Higgins et al.
    2017, "beta-VAE").

    Warm-up, with t the epochs or iterations done and n = ``warmup_length``: ``"linear"``: beta min(1, t / n) (Bowman et
    al. 2016); ``"cyclic"``: beta min(1, (t mod n) / (R n)) (Fu et al. 2019, "Cyclical Annealing Schedule"). The caller
    sets t by :meth:`set_epoch`, or counts it by :meth:`step`.

    Args:
        reconstruction: ``"l1"``, ``"bce"`` or ``"dice"``; the last two for values in [0, 1].
        beta: the full weight of KL.
        warmup: one of :data:`WARMUPS`.
        warmup_length: n, the length of the rise ("linear") or of a cycle ("cyclic").
        ramp: R in (0, 1], the share of a cycle in which beta rises; 0.5 as in Fu et al.
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
        super().__init__()
        self.reconstruction = check_option("reconstruction", reconstruction, RECONSTRUCTIONS)
        self.warmup = check_option("warmup", warmup, WARMUPS)
        self.beta = _check_number("beta", beta, 0, math.inf, "a number of at least 0")
        self.warmup_length = _check_number("warmup_length", warmup_length, 0, math.inf, "a number above 0", above=True)
        self.ramp = _check_number("ramp", ramp, 0, 1, "a share above 0 and up to 1", above=True)
        self.logits = logits
        self.dice = DiceLoss()
        self.progress = 0.0
        self.last_parts: dict[str, torch.Tensor] = {}

    @property
    def current_beta(self) -> float:
        """The weight of KL now."""
        if self.warmup == "constant":
            return self.beta
        done = self.progress / self.warmup_length
        return self.beta * min(1.0, done if self.warmup == "linear" else done % 1.0 / self.ramp)

    def set_epoch(self, epoch: float) -> None:
        """Set t, the epochs (or iterations) done: 0 before the first.

        Raises:
            InvalidInputError: it is negative.
        """
        self.progress = _check_number("epoch", epoch, 0, math.inf, "a number of at least 0")

    def step(self) -> None:
        """Count one more iteration (or epoch) as done."""
        self.progress += 1

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


def _check_number(name: str, value: float, low: float, high: float, expected: str, above: bool = False) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or math.isinf(value) or (above and value == low):
        raise InvalidInputError(f"{name}={value!r} is not valid; expected {expected}")
    return float(value)
