"""Autoencoder of point clouds: PointNet encoder, and a decoder by a perceptron or by folding a plane."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.utils import get_act_layer
from monai.networks.nets import FullyConnectedNet
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option

DECODERS = {"mlp": (1024, 1024), "folding": (512, 512)}
"""The decoders, and the sizes of their hidden layers unless others are given."""

_GOLDEN = (math.sqrt(5) - 1) / 2


class PointCloudAutoEncoder(nn.Module):
    """Autoencoder of point clouds of any number of points: (B, P, 3) to a latent vector and back to (B, R, 3).

    Encoder: PointNet (Qi et al. 2017), the same perceptron for every point with batch norm, and the maximum over the
    points, so that their order does not matter. Decoder: a perceptron (Achlioptas et al. 2018, "Learning
    Representations and Generative Models for 3D Point Clouds"), or FoldingNet (Yang et al. 2018), which folds the
    points of a square twice, each time by a perceptron of latent vector and point. No layer behind the maximum is
    normalized, so that a batch of one cloud can be trained on.

    Args:
        num_points: R, the points of the reconstruction.
        latent_size: L, length of the latent vector.
        channels: sizes of the layers of the encoder. If the last is not L, or the network is variational, a linear
            layer follows the maximum.
        input_transform: multiply the points first by a 3 × 3 matrix, which a small PointNet derives from them (identity
            at first); its distance from an orthogonal one is then returned, for the loss.
        decoder: ``"mlp"`` or ``"folding"``.
        decoder_channels: sizes of the hidden layers of the perceptron, or of each of the two foldings; None for
            (1024, 1024), or (512, 512) for folding.
        variational: mean and log-variance of the latent vector by one linear layer each. In training it is sampled; in
            evaluation it is the mean.
        norm: normalization after the layers of the encoder, as MONAI names it.
        act: activation, as MONAI names it; none follows the last layer of the encoder and of the decoder.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    def __init__(
        self,
        num_points: int = 5000,
        latent_size: int = 512,
        channels: Sequence[int] = (64, 64, 64, 128, 512),
        input_transform: bool = False,
        decoder: str = "mlp",
        decoder_channels: Sequence[int] | None = None,
        variational: bool = False,
        norm: str | tuple = "batch",
        act: str | tuple = "relu",
    ) -> None:
        super().__init__()
        usual = DECODERS[check_option("decoder", decoder, DECODERS)]
        hidden = usual if decoder_channels is None else decoder_channels
        _check_sizes(num_points=[num_points], latent_size=[latent_size], channels=channels, decoder_channels=hidden)
        self.input_transform = _InputTransform(norm, act) if input_transform else None
        self.encoder = _point_layers((3, *channels), norm, act)
        needs_layer = variational or channels[-1] != latent_size
        self.latent = nn.Linear(channels[-1], latent_size) if needs_layer else nn.Identity()
        self.log_variance = nn.Linear(channels[-1], latent_size) if variational else None
        self.decoder = (
            _PerceptronDecoder(latent_size, num_points, hidden, act)
            if decoder == "mlp"
            else _FoldingDecoder(latent_size, num_points, hidden, act)
        )

    def forward(self, points: torch.Tensor) -> dict[str, torch.Tensor]:
        """Encode and reconstruct point clouds.

        Args:
            points: (B, P, 3), centered and scaled to the unit sphere. Clouds of fewer points than others of the batch
                can be filled up by repeating points: in evaluation this changes nothing.

        Returns:
            ``reconstruction`` (B, R, 3) and ``latent`` (B, L); if variational, ``mean`` and ``log_variance`` (B, L);
            with ``input_transform``, ``orthogonality`` (B,), ‖I - A Aᵀ‖² of the matrix A (Qi et al. 2017, weight
            0.001).

        Raises:
            InvalidInputError: the shape is another. A scripted network raises ``torch.jit.Error`` with the same text.
        """
        features, matrix = self._features(points)
        mean = self.latent(features)
        latent = mean
        result: dict[str, torch.Tensor] = {}
        if self.log_variance is not None:
            log_variance = self.log_variance(features)
            if self.training:
                latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            result["mean"] = mean
            result["log_variance"] = log_variance
        if matrix is not None:
            result["orthogonality"] = orthogonality(matrix)
        result["latent"] = latent
        result["reconstruction"] = self.decoder(latent)
        return result

    @torch.jit.export
    def encode(self, points: torch.Tensor) -> torch.Tensor:
        """Map point clouds (B, P, 3) to their latent vectors (B, L); if variational, to their means.

        Raises:
            InvalidInputError: as for ``forward``.
        """
        return self.latent(self._features(points)[0])

    @torch.jit.export
    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Map latent vectors (B, L) to point clouds (B, R, 3)."""
        return self.decoder(latent)

    def _features(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the maxima over the points, (B, channels[-1]), and the matrices of the input transform (B, 3, 3)."""
        # a trace cannot record the check, and warns
        if not torch.jit.is_tracing() and (points.dim() != 3 or points.shape[-1] != 3 or points.shape[1] == 0):
            raise InvalidInputError(
                f"the points have shape {list(points.shape)}; expected (B, P, 3) with at least one point"
            )
        matrix: torch.Tensor | None = None
        if self.input_transform is not None:
            matrix = self.input_transform(points)
            points = points @ matrix
        return self.encoder(points.mT).amax(dim=2), matrix


def orthogonality(matrix: torch.Tensor) -> torch.Tensor:
    """Return how far matrices A (B, N, N) are from orthogonal, ‖I - A Aᵀ‖² (Frobenius), (B,)."""
    matrix = matrix.float()
    identity = torch.eye(matrix.shape[-1], device=matrix.device)
    return (identity - matrix @ matrix.mT).square().sum((1, 2))


class _InputTransform(nn.Module):
    """PointNet's T-Net: point clouds (B, P, 3) to matrices (B, 3, 3) that multiply points from the right."""

    def __init__(self, norm: str | tuple, act: str | tuple) -> None:
        super().__init__()
        self.points = _point_layers((3, 64, 128, 1024), norm, act)
        self.matrix = FullyConnectedNet(1024, 9, (512, 256), act=act, adn_ordering="A")
        for parameter in self.matrix.get_submodule("output").parameters():
            nn.init.zeros_(parameter)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        offset = self.matrix(self.points(points.mT).amax(dim=2))
        return torch.eye(3, device=offset.device, dtype=offset.dtype) + offset.reshape(-1, 3, 3)


class _PerceptronDecoder(nn.Module):
    """Latent vectors (B, L) to point clouds (B, R, 3) by fully connected layers."""

    def __init__(self, latent_size: int, num_points: int, hidden: Sequence[int], act: str | tuple) -> None:
        super().__init__()
        self.layers = FullyConnectedNet(latent_size, 3 * num_points, hidden, act=act, adn_ordering="A")

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.layers(latent).reshape(latent.shape[0], -1, 3)


class _FoldingDecoder(nn.Module):
    """Latent vectors (B, L) to point clouds (B, R, 3), folding a square twice."""

    def __init__(self, latent_size: int, num_points: int, hidden: Sequence[int], act: str | tuple) -> None:
        super().__init__()
        # a Fibonacci lattice covers the square evenly with any number of points
        steps = torch.arange(num_points, dtype=torch.float64)
        square = torch.stack([(steps + 0.5) / num_points, steps * _GOLDEN % 1], dim=1)
        self.square: torch.Tensor
        self.register_buffer("square", (2 * square - 1).float(), persistent=False)
        self.first = _Folding(latent_size, 2, hidden, act)
        self.second = _Folding(latent_size, 3, hidden, act)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.second(latent, self.first(latent, self.square[None]))


class _Folding(nn.Module):
    """Points (B, R, C) moved to (B, R, 3) by a perceptron of latent vector and point.

    Its first layer, on the two joined, is the sum of a layer of each, so the vector need not be repeated R times.
    """

    def __init__(self, latent_size: int, in_channels: int, hidden: Sequence[int], act: str | tuple) -> None:
        super().__init__()
        self.latent = nn.Linear(latent_size, hidden[0])
        self.points = nn.Linear(in_channels, hidden[0], bias=False)
        layers: list[nn.Module] = [get_act_layer(act)]
        for before, after in pairwise(hidden):
            layers += [nn.Linear(before, after), get_act_layer(act)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], 3))

    def forward(self, latent: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return self.layers(self.latent(latent)[:, None] + self.points(points))


def _point_layers(channels: Sequence[int], norm: str | tuple, act: str | tuple) -> nn.Sequential:
    """Return the perceptron that maps each point of (B, channels[0], P) to (B, channels[-1], P)."""
    last = len(channels) - 2
    return nn.Sequential(
        *(
            Convolution(
                1, before, after, kernel_size=1, adn_ordering="N" if index == last else "NA", norm=norm, act=act
            )
            for index, (before, after) in enumerate(pairwise(channels))
        )
    )


def _check_sizes(**sizes: Sequence[int]) -> None:
    for name, values in sizes.items():
        if not len(values) or any(value < 1 for value in values):
            raise InvalidInputError(f"{name}={list(values)} is not valid; expected whole numbers of at least 1")
