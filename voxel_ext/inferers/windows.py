"""The grid of overlapping windows over a volume, as MONAI's sliding window inference lays it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from voxel_ext.errors import InvalidInputError, check_option, check_sizes

MODES = ("constant", "gaussian")
"""How overlapping windows are blended."""

PADDING_MODES = ("constant", "reflect", "replicate", "circular")
"""How a volume smaller than a window is padded."""


@dataclass(frozen=True)
class WindowGrid:
    """Windows over a volume, all of one size; identical to those of ``monai.inferers.SlidingWindowInferer``.

    A volume that is smaller than a window along an axis is padded on both sides along it, the odd voxel after it. The
    positions of windows are those in the padded volume.

    Args:
        size: (D, H, W) of the volume.
        roi_size: (d, h, w) of a window.
        overlap: of neighboring windows along each axis, in [0, 1).
    """

    size: tuple[int, int, int]
    roi_size: tuple[int, int, int]
    overlap: tuple[float, float, float]

    @property
    def before(self) -> tuple[int, ...]:
        """Padding before the volume along z, y, x."""
        return tuple(max(roi - size, 0) // 2 for roi, size in zip(self.roi_size, self.size, strict=True))

    @property
    def after(self) -> tuple[int, ...]:
        """Padding after the volume along z, y, x."""
        sizes = zip(self.roi_size, self.size, self.before, strict=True)
        return tuple(max(roi - size, 0) - before for roi, size, before in sizes)

    def starts(self, axis: int) -> list[int]:
        """First voxels of the windows along an axis of the padded volume, ascending."""
        roi = self.roi_size[axis]
        size = (max(self.size[axis], roi),)
        step = _get_scan_interval(size, (roi,), 1, (self.overlap[axis],))
        return [int(window[0].start) for window in dense_patch_slices(size, (roi,), step)]


def importance_map(
    roi_size: Sequence[int], mode: str, sigma_scale: float | Sequence[float], device: torch.device
) -> torch.Tensor | None:
    """Weights of the voxels of a window.

    Args:
        roi_size: (d, h, w).
        mode: "constant" or "gaussian".
        sigma_scale: standard deviation of the Gaussian as a fraction of the window, for each axis or for all.
        device: where it is to be.

    Returns:
        (d, h, w) float32; None where all are 1.
    """
    if mode == "constant":
        return None
    return compute_importance_map(tuple(roi_size), mode=mode, sigma_scale=sigma_scale, device=device)


def check_window_settings(roi_size: Any, overlap: Any, mode: str, padding_mode: str) -> tuple[Any, Any]:
    """Check what describes windows.

    Args:
        roi_size: (d, h, w), or one number for all axes.
        overlap: one number for all axes, or three.
        mode: one of ``MODES``.
        padding_mode: one of ``PADDING_MODES``.

    Returns:
        ``roi_size`` and ``overlap`` as tuples of three.

    Raises:
        InvalidInputError: any of them is wrong; says which.
    """
    check_option("mode", mode, MODES)
    check_option("padding_mode", padding_mode, PADDING_MODES)
    sizes = check_sizes("roi_size", roi_size)
    overlaps = (overlap,) * 3 if isinstance(overlap, Real) else tuple(overlap)
    if len(overlaps) != 3 or not all(isinstance(one, int | float) and 0 <= one < 1 for one in overlaps):
        raise InvalidInputError(f"overlap={overlap!r}; expected a number from 0 to below 1, or three of them (z, y, x)")
    return sizes, tuple(float(one) for one in overlaps)


def check_padding(grid: WindowGrid, padding_mode: str, address: str) -> None:
    """Refuse a volume that cannot be padded to the size of a window.

    Args:
        grid: the windows over it.
        padding_mode: see ``PADDING_MODES``.
        address: of the volume, for the message.

    Raises:
        InvalidInputError: mirrored or repeated voxels would be farther away than the volume is large.
    """
    allowed = {"reflect": -1, "circular": 0}
    if padding_mode not in allowed:
        return
    for name, size, after in zip("zyx", grid.size, grid.after, strict=True):
        if after > size + allowed[padding_mode]:
            raise InvalidInputError(
                f"{address} has {size} voxels along {name}, too few to pad {after} with padding_mode={padding_mode!r} "
                f"for windows of {grid.roi_size}; choose 'constant' or 'replicate', or a smaller roi_size"
            )
