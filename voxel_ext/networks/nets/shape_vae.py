"""Variational autoencoder of single objects; its code is the object's feature."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option, check_sizes
from voxel_ext.networks.blocks.shape_blocks import ShapeDecoder, ShapeEncoder, ShapeSettings
from voxel_ext.networks.sizes import check_input_shape

OUTPUT_ACTIVATIONS = ("sigmoid", "none")
"""Of the reconstruction: values in [0, 1], or logits."""


class ShapeVAE(nn.Module):
    """Variational autoencoder of objects brought to one size: (B, in_channels, D, H, W) to the same and a code.

        mean, log_variance = linear(encoder(x)),   z = mean + exp(log_variance / 2) * noise,   y = decoder(z)

    Kingma and Welling 2014, "Auto-Encoding Variational Bayes". The decoder sees nothing but z, so that the code must
    carry the object. Mean and log-variance are linear, in float32. In evaluation mode z is the mean.

    Args:
        in_channels: channels of the image: the mask, the image in the mask, or both.
        out_channels: channels of the reconstruction; None for ``in_channels``.
        size: voxels of the image, a number or (z, y, x).
        latent_size: length of the code.
        filters: channels of each level, the full size first.
        anisotropic_levels: steps down that halve y and x only and have kernels (1, 3, 3); 0 for an isotropic network.
        squeeze_excitation: ``"none"``, ``"cse"`` (channels, Hu et al. 2018), ``"sse"`` (voxels) or ``"scse"`` (both,
            Roy et al. 2018), at the end of each residual block.
        se_reduction: of the channels in the gate of the channels.
        norm: ``"batch"``, or ``"group"`` with 4 groups for small batches.
        output_activation: ``"sigmoid"`` for a reconstruction in [0, 1], or ``"none"``.

    Attributes:
        size: (D, H, W) of images.
        latent_size: length of the code.

    Raises:
        InvalidInputError: an argument is not valid, or the size is not a multiple of the total stride.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int | None = None,
        size: int | Sequence[int] = 64,
        latent_size: int = 100,
        filters: Sequence[int] = (28, 36, 48, 64, 80),
        anisotropic_levels: int = 2,
        squeeze_excitation: str = "none",
        se_reduction: int = 4,
        norm: str = "batch",
        output_activation: str = "sigmoid",
    ) -> None:
        super().__init__()
        settings = ShapeSettings(filters, anisotropic_levels, squeeze_excitation, se_reduction, norm)
        lowest = settings.lowest_size(size)
        outputs = in_channels if out_channels is None else out_channels
        self.size = check_sizes("size", size)
        self.in_channels = in_channels
        self.latent_size = latent_size
        self.sigmoid = check_option("output_activation", output_activation, OUTPUT_ACTIVATIONS) == "sigmoid"
        self.encoder = ShapeEncoder(in_channels, settings)
        self.decoder = ShapeDecoder(latent_size, outputs, lowest, settings)
        inputs = settings.filters[-1] * lowest[0] * lowest[1] * lowest[2]
        self.mean = nn.Linear(inputs, latent_size)
        self.log_variance = nn.Linear(inputs, latent_size)

    @torch.jit.export
    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map images (B, in_channels, D, H, W) to mean and log-variance of their codes, each (B, latent_size).

        Raises:
            InvalidInputError: the images have another shape. A scripted network raises ``torch.jit.Error``.
        """
        if not torch.jit.is_tracing():  # a trace cannot record the checks, and warns
            self._check(x)
        features = self.encoder(x).flatten(1)
        return self.mean(features).float(), self.log_variance(features).float()

    @torch.jit.export
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, in_channels, D, H, W) to their features, the means (B, latent_size), never a sample.

        Raises:
            InvalidInputError: as for :meth:`posterior`.
        """
        return self.posterior(x)[0]

    @torch.jit.export
    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Map codes (B, latent_size) to images (B, out_channels, D, H, W), with the output activation, in float32.

        Raises:
            InvalidInputError: the codes have another shape.
        """
        if not torch.jit.is_tracing() and (latent.ndim != 2 or latent.shape[1] != self.latent_size):
            raise InvalidInputError(
                f"codes of shape {list(latent.shape)} do not fit; expected (B, {self.latent_size}), one row an object"
            )
        image = self.decoder(latent).float()  # a sigmoid in half precision is 1 above 8, without gradient
        return torch.sigmoid(image) if self.sigmoid else image

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images (B, in_channels, D, H, W) to their reconstructions and codes.

        Returns:
            ``reconstruction`` (B, out_channels, D, H, W), and ``mean``, ``log_variance`` and ``latent``, each
            (B, latent_size); ``latent`` is a sample in training mode and the mean in evaluation mode.

        Raises:
            InvalidInputError: as for :meth:`posterior`.
        """
        mean, log_variance = self.posterior(x)
        latent = mean
        if self.training:
            latent = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        return {
            "reconstruction": self.decode(latent),
            "mean": mean,
            "log_variance": log_variance,
            "latent": latent,
        }

    def _check(self, x: torch.Tensor) -> None:
        check_input_shape(list(x.shape), self.in_channels)
        depth, height, width = self.size
        if x.shape[2] != depth or x.shape[3] != height or x.shape[4] != width:
            raise InvalidInputError(
                f"an image of shape {list(x.shape)} does not fit; expected the size {[depth, height, width]} that the "
                "network was built for; bring the objects to that size, or build the network with another size"
            )
