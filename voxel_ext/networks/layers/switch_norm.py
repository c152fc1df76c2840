"""Switchable normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError


class SwitchNorm3d(nn.Module):
    """Normalize with a learned mixture of instance, layer and batch statistics.

    With the softmax weights λ of ``mean_logits`` and λ' of ``var_logits``, over k = instance (each sample and channel),
    layer (each sample), batch (each channel):

        y = γ (x - Σ_k λ_k μ_k) / sqrt(Σ_k λ'_k σ²_k + eps) + β.

    All means and variances follow from those per sample and channel; variances are the biased ones. Evaluation takes
    moving averages for the batch statistics. Luo et al., Differentiable Learning-to-Normalize via Switchable
    Normalization, ICLR 2019, equations 3 to 5.

    Args:
        num_features: channels C of the input (B, C, D, H, W), or (B, C, ...) with any axes after C.
        eps: added to the variance; 1e-5 as in torch.
        momentum: weight of the new batch in the moving averages, torch's convention and default. The customary moving
            average of 0.997 is ``momentum=0.003`` here.
        affine: whether to learn γ and β (initially 1 and 0).

    Raises:
        InvalidInputError: for settings out of range, and at the call for another number of channels.
    """

    if TYPE_CHECKING:  # TorchScript cannot read annotations that are kept as text
        running_mean: torch.Tensor
        running_var: torch.Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__()
        if num_features < 1 or eps < 0 or not 0 <= momentum <= 1:
            raise InvalidInputError(
                f"num_features={num_features}, eps={eps}, momentum={momentum}: expected at least 1, at least 0, "
                "and 0 to 1."
            )
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.mean_logits = nn.Parameter(torch.ones(3))
        self.var_logits = nn.Parameter(torch.ones(3))
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize (B, C, ...); statistics are taken in float32 at least."""
        if not torch.jit.is_scripting() and (x.dim() < 3 or x.shape[1] != self.num_features):
            raise InvalidInputError(f"SwitchNorm3d expects (B, {self.num_features}, D, H, W), got {tuple(x.shape)}.")
        values = x.flatten(2)
        if x.dtype == torch.float16 or x.dtype == torch.bfloat16:
            values = values.float()
        mean = values.mean(dim=2)
        var = (values - mean.unsqueeze(2)).square().mean(dim=2)
        mean, var = self._mix(mean, var)
        scale = torch.rsqrt(var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        return torch.addcmul(shift.unsqueeze(2), values, scale.unsqueeze(2)).to(x.dtype).reshape(x.shape)

    def _mix(self, mean: torch.Tensor, var: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance per sample and channel, (B, C), to the mixed ones."""
        layer_mean = mean.mean(dim=1, keepdim=True)
        layer_var = (var + (mean - layer_mean).square()).mean(dim=1, keepdim=True)
        if self.training:
            batch_mean = mean.mean(dim=0)
            batch_var = (var + (mean - batch_mean).square()).mean(dim=0)
            with torch.no_grad():
                self.running_mean.lerp_(batch_mean.detach().to(self.running_mean.dtype), self.momentum)
                self.running_var.lerp_(batch_var.detach().to(self.running_var.dtype), self.momentum)
        else:
            batch_mean, batch_var = self.running_mean, self.running_var
        of_mean, of_var = self.mean_logits.softmax(0), self.var_logits.softmax(0)
        return (
            of_mean[0] * mean + of_mean[1] * layer_mean + of_mean[2] * batch_mean,
            of_var[0] * var + of_var[1] * layer_var + of_var[2] * batch_var,
        )
