"""Siamese network on two views of an object, for self-supervised features."""

from __future__ import annotations

import torch
from monai.networks.nets import resnet
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.networks.sizes import check_input_shape, check_network_arguments

ENCODERS = ("resnet10", "resnet18", "resnet34", "resnet50")
"""MONAI's 3D residual networks."""

VARIANTS = ("simsiam", "simclr")
"""With a predictor after the projector, or without."""


class SimSiam(nn.Module):
    """Encoder, projector and predictor for two views of the same objects.

        z = projector(encoder(x)),   p = predictor(z)

    Chen and He 2021, "Exploring Simple Siamese Representation Learning" (``"simsiam"``, trained with
    :class:`~voxel_ext.losses.self_supervised.NegativeCosineLoss`); Chen et al. 2020, "A Simple Framework for
    Contrastive Learning of Visual Representations" (``"simclr"``, no predictor, trained with
    :class:`~voxel_ext.losses.self_supervised.InfoNCELoss`).

    The projector has three linear layers, each with batch norm (the last without scale and shift), ReLU after the first
    two; the predictor a linear layer with batch norm and ReLU, and a plain one. They need batches of at least 2 in
    training mode.

    Args:
        in_channels: channels of the image.
        encoder: one of :data:`ENCODERS`.
        width: factor of the encoder's channels 64, 128, 256 and 512.
        stem_size: kernel of the encoder's first convolution.
        stem_stride: its stride; 2 as in He et al. 2016.
        stem_pool: max-pooling after it, which halves the size.
        projector_size: hidden and output values of the projector; 2048 as in the paper.
        predictor_size: hidden values of the predictor; 512 as in the paper.
        variant: one of :data:`VARIANTS`.

    Attributes:
        feature_size: length of the encoder's output.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    def __init__(
        self,
        in_channels: int = 1,
        encoder: str = "resnet18",
        width: float = 1.0,
        stem_size: int = 7,
        stem_stride: int = 2,
        stem_pool: bool = True,
        projector_size: int = 2048,
        predictor_size: int = 512,
        variant: str = "simsiam",
    ) -> None:
        super().__init__()
        check_option("encoder", encoder, ENCODERS)
        check_option("variant", variant, VARIANTS)
        counts = {"projector_size": projector_size, "predictor_size": predictor_size, "stem_stride": stem_stride}
        check_network_arguments(3, 3, in_channels=in_channels, stem_size=stem_size, **counts)
        if stem_size % 2 == 0:
            raise InvalidInputError(f"stem_size={stem_size} is not valid; expected an odd number")
        if isinstance(width, bool) or not isinstance(width, int | float) or not 1 / 64 <= width < float("inf"):
            raise InvalidInputError(f"width={width!r} is not valid; expected a factor of at least 1/64")
        self.in_channels = in_channels
        self.encoder = getattr(resnet, encoder)(
            n_input_channels=in_channels,
            conv1_t_size=stem_size,
            conv1_t_stride=stem_stride,
            no_max_pool=not stem_pool,
            widen_factor=width,
            feed_forward=False,
        )
        self.feature_size = int(self.encoder.in_planes)
        self.projector = nn.Sequential(
            *_linear(self.feature_size, projector_size),
            *_linear(projector_size, projector_size),
            nn.Linear(projector_size, projector_size, bias=False),
            nn.BatchNorm1d(projector_size, affine=False),
        )
        self.predictor: nn.Module | None = None
        if variant == "simsiam":
            predictor = nn.Sequential(*_linear(projector_size, predictor_size))
            self.predictor = predictor.append(nn.Linear(predictor_size, projector_size))

    @torch.jit.export
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, in_channels, D, H, W) to their features (B, feature_size).

        Raises:
            InvalidInputError: the images have another number of axes or channels.
        """
        if not torch.jit.is_tracing():  # a trace cannot record the check, and warns
            check_input_shape(list(x.shape), self.in_channels)
        return self.encoder(x)

    @torch.jit.export
    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, in_channels, D, H, W) to the projector's output z (B, projector_size).

        Raises:
            InvalidInputError: as for :meth:`encode`, or one image alone in training mode.
        """
        if self.training and len(x) < 2:
            raise InvalidInputError(
                "a batch of one object has no batch statistics; expected at least 2 in training mode "
                "(leave out a last, smaller batch: drop_last=True)"
            )
        return self.projector(self.encode(x))

    def forward(self, x1: torch.Tensor, x2: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map two views (B, in_channels, D, H, W) of the same objects to vectors (B, projector_size).

        Each view has its own batch statistics.

        Returns:
            ``z1`` and ``z2`` of the projector, with gradients, and ``p1`` and ``p2`` of the predictor if there is one.

        Raises:
            InvalidInputError: the views have different shapes, or as for :meth:`project`.
        """
        if not torch.jit.is_tracing() and x1.shape != x2.shape:
            raise InvalidInputError(f"two views of shapes {list(x1.shape)} and {list(x2.shape)}; expected the same")
        out = {"z1": self.project(x1), "z2": self.project(x2)}
        if self.predictor is not None:
            out["p1"], out["p2"] = self.predictor(out["z1"]), self.predictor(out["z2"])
        return out


def _linear(before: int, after: int) -> list[nn.Module]:
    return [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
