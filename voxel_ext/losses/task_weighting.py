"""Weights of the tasks of a multi-task network that balance themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError

# float16 activations under mixed precision: keeps small gradients from becoming 0
GRADIENT_SCALE = 1024.0


class UncertaintyWeighting(nn.Module):
    """Weights from a learned uncertainty of each task (Kendall, Gal, Cipolla 2018, arXiv:1705.07115).

        total = sum over tasks i of w_i (exp(-s_i) L_i + s_i)

    with a parameter s_i = log sigma_i^2 for each task, which starts at 0, and the given weights w_i. For a constant
    loss the optimum is exp(s_i) = L_i, where every task has the effective weight w_i / L_i. The losses must not be
    negative; a loss of exactly 0 (nothing known in this batch) adds nothing and leaves s_i as it is. Give the
    parameters to the optimizer, without weight decay.

    Args:
        names: of the tasks.

    Raises:
        InvalidInputError: there are no names, or one is there twice.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = _check_names(names)
        self.log_variance = nn.Parameter(torch.zeros(len(self.names)))

    def forward(self, parts: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
        """Return the total.

        Args:
            parts: the loss of each task, scalars.
            weights: the given weight of each task, at least 0.
        """
        terms = []
        for name, log_variance in zip(self.names, self.log_variance.unbind(), strict=True):
            part, s = parts[name], log_variance.to(parts[name].device)
            terms.append(weights[name] * torch.where(part == 0, part, torch.exp(-s) * part + s))
        return torch.stack(terms).sum()

    def factors(self, weights: Mapping[str, float]) -> dict[str, torch.Tensor]:
        """Return the effective weight w_i exp(-s_i) of each task, detached scalars."""
        precision = torch.exp(-self.log_variance.detach())
        return {name: weights[name] * factor for name, factor in zip(self.names, precision, strict=True)}


class GradientNormalization(nn.Module):
    """Weights that balance the gradients of the tasks at the parameters that they share.

    GradNorm (Chen et al. 2018, arXiv:1711.02257) asks for weights c_i whose gradients at the shared parameters W have
    norms c_i |dL_i/dW| proportional to r_i^alpha, where r_i = (L_i / L_i at the start) / mean over tasks. It descends
    towards such weights; here they are solved for in every step:

        c_i proportional to w_i r_i^alpha / g_i, with sum c_i = sum w_i

    where w_i are the given weights and g_i is the running mean of |dL_i/dW|. So with alpha = 0 the gradients of the
    tasks have norms in the ratio of the given weights. Running means and first losses are buffers, saved by
    ``state_dict``. They change while gradients are enabled and the module is in training mode; otherwise the last ones
    are used. A task without a gradient in a batch (nothing known there) keeps its mean, and until every task has one
    the given weights hold. In several processes the norms are averaged. Costs a backward pass per task as far as W:
    give the last shared layer. The graph is kept for it, which ``torch.compile`` allows only with
    ``torch._functorch.config.donated_buffer = False``.

    Args:
        names: of the tasks.
        asymmetry: alpha, at least 0: how much more weight tasks get that learn slowly (0; the paper uses 0.12 to 1.5).
        decay: of the running means, in [0, 1) (0.9).

    Raises:
        InvalidInputError: there are no names, one is there twice, or a number is out of range.
    """

    norms: torch.Tensor
    losses: torch.Tensor
    first_losses: torch.Tensor

    def __init__(self, names: Sequence[str], asymmetry: float = 0.0, decay: float = 0.9) -> None:
        super().__init__()
        self.names = _check_names(names)
        if not asymmetry >= 0:
            raise InvalidInputError(f"asymmetry={asymmetry!r} is not valid; expected a number of at least 0")
        if not 0 <= decay < 1:
            raise InvalidInputError(f"decay={decay!r} is not valid; expected a number from 0 to below 1")
        self.asymmetry = float(asymmetry)
        self.decay = float(decay)
        # 0 stands for not measured yet
        for buffer in ("norms", "losses", "first_losses"):
            self.register_buffer(buffer, torch.zeros(len(self.names)))
        self._shared: tuple[torch.Tensor, ...] = ()

    def set_shared(self, parameters: Iterable[torch.Tensor]) -> None:
        """Set the parameters at which gradients are compared, e.g. those of the encoder's last layer.

        Raises:
            InvalidInputError: there are none that need a gradient.
        """
        shared = tuple(parameter for parameter in parameters if parameter.requires_grad)
        if not shared:
            raise InvalidInputError("set_shared got no parameter that needs a gradient; expected those of a layer")
        self._shared = shared

    def forward(self, parts: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
        """Return the total.

        Args:
            parts: the loss of each task, scalars.
            weights: the given weight of each task, at least 0.

        Raises:
            InvalidInputError: gradients are wanted but :meth:`set_shared` was not called.
        """
        if self.training and torch.is_grad_enabled():
            self._measure([parts[name] for name in self.names])
        factors = self.factors(weights)
        return torch.stack([factors[name].to(parts[name].device) * parts[name] for name in self.names]).sum()

    @torch.no_grad()
    def factors(self, weights: Mapping[str, float]) -> dict[str, torch.Tensor]:
        """Return the effective weight c_i of each task, scalars."""
        given = self.norms.new_tensor([weights[name] for name in self.names])
        counted = given > 0
        measured = ((self.norms > 0) | ~counted).all()
        pace = self.losses / torch.where(self.first_losses > 0, self.first_losses, 1)
        pace = pace / (pace * counted).sum().clamp(min=1e-12) * counted.sum()
        raw = given * pace.clamp(min=1e-6) ** self.asymmetry / torch.where(self.norms > 0, self.norms, 1)
        balanced = raw * given.sum() / raw.sum().clamp(min=torch.finfo(raw.dtype).tiny)
        chosen = torch.where(measured, balanced, given)
        return dict(zip(self.names, chosen.unbind(), strict=True))

    def _measure(self, parts: Sequence[torch.Tensor]) -> None:
        """Add the gradient norms and losses of one batch to the running means."""
        if not self._shared:
            raise InvalidInputError(
                "balancing gradients needs the parameters that the tasks share; call set_shared(parameters) of the "
                "loss, e.g. with those of the encoder's last layer"
            )
        norms = torch.stack([self._gradient_norm(part) for part in parts])
        losses = torch.stack([part.detach().float() for part in parts]).to(norms.device)
        norms, losses = _mean_over_processes(norms, losses)
        norms, losses = norms.to(self.norms.device), losses.to(self.norms.device)
        usable = (norms > 0) & norms.isfinite() & losses.isfinite()
        self.norms.copy_(torch.where(usable, self._running(self.norms, norms), self.norms))
        self.losses.copy_(torch.where(usable, self._running(self.losses, losses), self.losses))
        self.first_losses.copy_(torch.where(usable & (self.first_losses == 0), losses, self.first_losses))

    def _running(self, mean: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return torch.where(mean == 0, value, self.decay * mean + (1 - self.decay) * value)

    def _gradient_norm(self, part: torch.Tensor) -> torch.Tensor:
        if not part.requires_grad:
            return torch.zeros((), device=part.device)
        gradients = torch.autograd.grad(part * GRADIENT_SCALE, self._shared, retain_graph=True, allow_unused=True)
        norms = [torch.linalg.vector_norm(one.float()) for one in gradients if one is not None]
        if not norms:
            return torch.zeros((), device=part.device)
        return torch.linalg.vector_norm(torch.stack(norms)) / GRADIENT_SCALE


def _mean_over_processes(norms: torch.Tensor, losses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the means over the processes in which a task has a gradient."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return norms, losses
    there = (norms != 0).float()
    sums = torch.stack([norms, losses * there, there])
    distributed.all_reduce(sums)
    norms, losses, there = sums.unbind()
    return norms / there.clamp(min=1), losses / there.clamp(min=1)


def _check_names(names: Sequence[str]) -> tuple[str, ...]:
    if not names or len(set(names)) != len(names):
        raise InvalidInputError(f"the names of the tasks are {list(names)}; expected at least one, each once")
    return tuple(names)
