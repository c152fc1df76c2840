"""What the losses of variational networks have in common: the divergence of the code, and its weight that rises."""

from __future__ import annotations

import math

import torch
from torch.nn.modules.loss import _Loss

from voxel_ext.errors import InvalidInputError, check_option

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


class VariationalLoss(_Loss):
    """Base of losses with a term beta x KL, see :func:`gaussian_kl`, whose weight may rise during training.

    With t the epochs or iterations done and n = ``warmup_length``, the weight is, for ``"linear"``, beta min(1, t / n)
    (Bowman et al. 2016); for ``"cyclic"``, beta min(1, (t mod n) / (R n)) (Fu et al. 2019, "Cyclical Annealing
    Schedule"); for ``"constant"``, beta. The caller sets t by :meth:`set_epoch`, or counts it by :meth:`step`.

    Args:
        beta: the full weight of KL.
        warmup: one of :data:`WARMUPS`.
        warmup_length: n, the length of the rise ("linear") or of a cycle ("cyclic").
        ramp: R in (0, 1], the share of a cycle in which beta rises; 0.5 as in Fu et al.

    Attributes:
        last_parts: the parts of the last call without their weights, detached scalars; reading them by ``float`` waits
            for the device, having them does not.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    def __init__(self, beta: float = 1e-4, warmup: str = "linear", warmup_length: float = 5, ramp: float = 0.5) -> None:
        super().__init__()
        self.beta = check_number("beta", beta, 0, math.inf, "a number of at least 0")
        self.warmup = check_option("warmup", warmup, WARMUPS)
        self.warmup_length = check_number("warmup_length", warmup_length, 0, math.inf, "a number above 0", above=True)
        self.ramp = check_number("ramp", ramp, 0, 1, "a share above 0 and up to 1", above=True)
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
        self.progress = check_number("epoch", epoch, 0, math.inf, "a number of at least 0")

    def step(self) -> None:
        """Count one more iteration (or epoch) as done."""
        self.progress += 1


def check_number(name: str, value: float, low: float, high: float, expected: str, above: bool = False) -> float:
    """Return a finite number of a range.

    Args:
        name: what it sets, for the message.
        value: the number.
        low: the least that is valid.
        high: the greatest that is valid.
        expected: the range in words.
        above: the least is not valid itself.

    Raises:
        InvalidInputError: it is not a number, or not one of the range.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or math.isinf(value) or (above and value == low):
        raise InvalidInputError(f"{name}={value!r} is not valid; expected {expected}")
    return float(value)
