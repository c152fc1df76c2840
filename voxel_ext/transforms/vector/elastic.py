"""Smooth random deformation of a vector field with its vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.vector.components import check_field, check_volume, device_of, voxel_sizes
from voxel_ext.transforms.vector.resample import SourceMap, within
from voxel_ext.transforms.vector.resampled import RandResampledTransform, resample_field

# smoothness below which central differences of the displacement are not its Jacobian any more
SMALLEST_SIGMA = 2.0


def smooth_displacement(
    shape: Sequence[int], sigma: float, magnitude: float, state: np.random.RandomState
) -> NDArray[np.float32]:
    """Draw a displacement: white noise under a Gaussian, periodic in the volume, scaled to a largest component.

    Args:
        shape: (D, H, W).
        sigma: standard deviation of the Gaussian, in voxels.
        magnitude: largest absolute value of the components, in voxels.
        state: what to draw from.

    Returns:
        (3, D, H, W), components (z, y, x) in voxels.
    """
    noise = np.fft.rfftn(state.normal(size=(3, *shape)), axes=(1, 2, 3))
    lines = [np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2])]
    for axis, line in enumerate(lines):
        gain = np.exp(-2 * (np.pi * sigma * line) ** 2)
        noise *= gain.reshape([-1 if axis == one else 1 for one in range(3)])
    smooth = np.fft.irfftn(noise, s=tuple(shape), axes=(1, 2, 3))
    return (smooth * (magnitude / np.abs(smooth).max())).astype(np.float32)


def elastic_source(displacement: torch.Tensor) -> SourceMap:
    """Return the map that takes every voxel y from y + u(y).

    Args:
        displacement: u, (3, D, H, W) float, (z, y, x) in voxels.
    """
    device = displacement.device
    lines = [torch.arange(size, device=device, dtype=displacement.dtype) for size in displacement.shape[1:]]
    points = torch.stack(torch.meshgrid(*lines, indexing="ij")) + displacement
    return SourceMap(points, within(points), torch.eye(3, device=device), displacement)


def elastic_vectors(
    field: NdarrayOrTensor,
    displacement: NdarrayOrTensor,
    kind: str = "normal",
    oriented: bool = True,
    mode: str = "bilinear",
    component_order: str = "zyx",
    voxel_size: float | Sequence[float] | None = None,
) -> NdarrayOrTensor:
    """Take a vector field through a deformation, what is at y coming from y + u(y), and its vectors with it.

    The Jacobian comes from central differences of u. See
    :func:`voxel_ext.transforms.vector.resample.move_vectors` for the equation and for what is interpolated how.

    Args:
        field: (3, D, H, W) float, tensor, MetaTensor or NumPy array; components in physical space.
        displacement: u, (3, D, H, W), components z, y, x in voxels; smooth, and not folding: det(1 + ∂u/∂y) > 0.
        kind: "normal" or "direction".
        oriented: whether n and -n differ; if not, the result's sign is arbitrary.
        mode: "bilinear" or "nearest".
        component_order: "zyx" or "xyz", of ``field``.
        voxel_size: (z, y, x) in any unit; None for equal.

    Returns:
        float32 of the kind and shape of ``field``; zero where unknown or from outside.

    Raises:
        InvalidInputError: another shape or type, shapes that differ, an unknown option, or a bad voxel size.
    """
    check_field(field)
    check_volume(displacement, "the displacement")
    if displacement.shape != field.shape:
        raise InvalidInputError(
            f"a displacement of shape {tuple(displacement.shape)} for a field of {tuple(field.shape)}; expected equal"
        )
    moved = torch.as_tensor(displacement, dtype=torch.float32, device=device_of(field))
    source = elastic_source(moved.as_subclass(torch.Tensor))
    return resample_field(field, source, kind, oriented, mode, component_order, voxel_sizes(voxel_size))


class RandElasticVectord(RandResampledTransform):
    """Deform volumes and vector fields smoothly at random, see :func:`smooth_displacement`.

    Args:
        keys: scalar images and labels (C, D, H, W).
        vector_keys: vector fields (3, D, H, W), float, components in physical space, zero where unknown.
        component_order: "zyx" or "xyz", one for all vector keys or one each.
        oriented: whether n and -n differ, one for all vector keys or one each; if not, the result's sign is arbitrary.
        prob: probability of deforming.
        sigma_range: lowest and highest smoothness in voxels, of which one is drawn; at least 2.
        magnitude_range: lowest and highest of the largest displacement along an axis, in voxels, of which one is
            drawn; at most a third of the lowest sigma, so that the volume is not folded.
        **options: by keyword, defaults first: ``mode`` of scalars ("bilinear" or, for labels, "nearest"),
            ``padding_mode`` of scalars ("zeros", "border" or "reflection"; vectors from outside are zero),
            ``vector_mode`` ("bilinear" or "nearest"), ``kind`` ("normal" or "direction"), ``voxel_size`` (None for
            equal, or (z, y, x)), ``allow_missing_keys`` (False); see
            :class:`~voxel_ext.transforms.vector.resampled.RandResampledTransform`.

    Raises:
        InvalidInputError: an unknown option, a probability outside [0, 1], or ranges other than described.
    """

    def __init__(
        self,
        keys: KeysCollection,
        vector_keys: KeysCollection,
        component_order: str | Sequence[str] = "zyx",
        oriented: bool | Sequence[bool] = True,
        prob: float = 0.5,
        sigma_range: Sequence[float] = (9.0, 12.0),
        magnitude_range: Sequence[float] = (0.0, 3.0),
        **options: Any,
    ) -> None:
        super().__init__(keys, vector_keys, component_order, oriented, prob, **options)
        self.sigma_range = _range("sigma_range", sigma_range, SMALLEST_SIGMA)
        self.magnitude_range = _range("magnitude_range", magnitude_range, 0.0)
        if self.magnitude_range[1] > self.sigma_range[0] / 3:
            raise InvalidInputError(
                f"magnitude_range={magnitude_range!r} with sigma_range={sigma_range!r} could fold the volume; expected "
                f"at most {self.sigma_range[0] / 3:g} voxels, a third of the lowest sigma"
            )
        self.displacement = np.zeros((3, 1, 1, 1), dtype=np.float32)

    def draw(self, shape: tuple[int, int, int]) -> None:
        """Draw ``displacement``, (3, D, H, W) in voxels."""
        sigma, magnitude = self.R.uniform(*self.sigma_range), self.R.uniform(*self.magnitude_range)
        self.displacement = smooth_displacement(shape, sigma, magnitude, self.R)

    def source(self, device: torch.device) -> SourceMap:
        """Return the map drawn last, on a device."""
        return elastic_source(torch.from_numpy(self.displacement).to(device))


def _range(name: str, value: Sequence[float], lowest: float) -> tuple[float, float]:
    if len(value) != 2 or not lowest <= value[0] <= value[1] < np.inf:
        raise InvalidInputError(f"{name}={value!r}; expected (lowest, highest), finite and at least {lowest:g}")
    return float(value[0]), float(value[1])


RandElasticVectorD = RandElasticVectorDict = RandElasticVectord
