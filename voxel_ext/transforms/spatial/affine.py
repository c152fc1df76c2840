"""Random affine maps of a volume: shear, scale, turns in each plane and shift, each with a probability of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, check_option

PIVOTS = ("center", "corner")
# name of a plane, and the axes (z, y, x) = (0, 1, 2) from the first to the second of which a positive angle turns
PLANES = {"xy": (2, 1), "xz": (2, 0), "yz": (1, 0)}


@dataclass(frozen=True)
class AffineRanges:
    """What is drawn for a random affine map; the defaults are those of AutoCellLabeler.

    Args:
        rotate_xy_prob: probability of a turn in the plane of x and y.
        rotate_xy_sigma: standard deviation of its angle, in degrees.
        rotate_yz_prob: likewise in the plane of y and z, about the body.
        rotate_yz_sigma: likewise.
        rotate_xz_prob: likewise in the plane of x and z.
        rotate_xz_sigma: likewise.
        translate_prob: probability of a shift.
        translate_range: largest shift along z, y and x in voxels; uniform.
        scale_prob: probability of scaling.
        scale_xy_sigma: standard deviation of the factors of y and x, each drawn on its own around 1.
        scale_z_sigma: likewise of z.
        shear_prob: probability of shear.
        shear_xy_sigma: standard deviation of x per y and of y per x.
        shear_stack_sigma: of x per z and of y per z: slices shifted over each other.
        shear_warp_sigma: of z per x and of z per y.
        pivot: what scale and shear leave in place: "center" of the volume, or its first voxel's, the "corner", as the
            networks published with AutoCellLabeler were trained, which shifts the volume as well. Turns are about
            the center.

    Raises:
        InvalidInputError: a probability outside [0, 1], a negative size, or an unknown pivot.
    """

    rotate_xy_prob: float = 0.8
    rotate_xy_sigma: float = 15.0
    rotate_yz_prob: float = 0.8
    rotate_yz_sigma: float = 15.0
    rotate_xz_prob: float = 0.2
    rotate_xz_sigma: float = 1.0
    translate_prob: float = 0.6
    translate_range: Sequence[float] = (7.0, 25.0, 40.0)
    scale_prob: float = 0.4
    scale_xy_sigma: float = 0.1
    scale_z_sigma: float = 0.1
    shear_prob: float = 0.4
    shear_xy_sigma: float = 0.1
    shear_stack_sigma: float = 0.1
    shear_warp_sigma: float = 0.1
    pivot: str = "center"

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name == "pivot":
                check_option(name, value, PIVOTS)
            elif name == "translate_range":
                if len(value) != 3 or not all(0 <= one < math.inf for one in value):
                    raise InvalidInputError(f"{name}={value!r}; expected three voxel numbers (z, y, x), not negative")
            elif name.endswith("_prob"):
                check_probability(name, value)
            elif not 0 <= value < math.inf:
                raise InvalidInputError(f"{name}={value!r}; expected a number that is not negative")

    def draw(self, state: np.random.RandomState, shape: Sequence[int]) -> NDArray[np.float64] | None:
        """Draw a map of output points to input points, p ↦ R S H (p - center) + center + t: shear, scale, turns, shift.

        Args:
            state: what to draw from.
            shape: (D, H, W).

        Returns:
            (3, 4), [A | t] on positions (z, y, x) in voxels; None where every part was left out.
        """
        shear = self._shear(state) if state.uniform() < self.shear_prob else None
        scale = self._scale(state) if state.uniform() < self.scale_prob else None
        turns = [self._turn(state, name) for name in PLANES if state.uniform() < getattr(self, f"rotate_{name}_prob")]
        shift = None
        if state.uniform() < self.translate_prob:
            shift = state.uniform(-1, 1, 3) * np.asarray(self.translate_range, dtype=np.float64)
        if shear is None and scale is None and not turns and shift is None:
            return None
        stretch = (np.eye(3) if scale is None else scale) @ (np.eye(3) if shear is None else shear)
        rotation = np.eye(3)
        for turn in turns:
            rotation = turn @ rotation
        center = (np.asarray(shape, dtype=np.float64) - 1) / 2
        linear = rotation @ stretch
        offset = center - (linear if self.pivot == "center" else rotation) @ center
        return np.column_stack([linear, offset + (0 if shift is None else shift)])

    def _shear(self, state: np.random.RandomState) -> NDArray[np.float64]:
        xy, stack, warp = self.shear_xy_sigma, self.shear_stack_sigma, self.shear_warp_sigma
        return np.eye(3) + state.normal(size=(3, 3)) * [[0, warp, warp], [stack, 0, xy], [stack, xy, 0]]

    def _scale(self, state: np.random.RandomState) -> NDArray[np.float64]:
        return np.diag(1 + state.normal(size=3) * [self.scale_z_sigma, self.scale_xy_sigma, self.scale_xy_sigma])

    def _turn(self, state: np.random.RandomState, plane: str) -> NDArray[np.float64]:
        first, second = PLANES[plane]
        angle = math.radians(state.normal(0, 1) * getattr(self, f"rotate_{plane}_sigma"))
        matrix = np.eye(3)
        matrix[first, first] = matrix[second, second] = math.cos(angle)
        matrix[second, first], matrix[first, second] = math.sin(angle), -math.sin(angle)
        return matrix


def check_probability(name: str, value: float) -> float:
    """Return a probability.

    Raises:
        InvalidInputError: it is not a number in [0, 1].
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidInputError(f"{name}={value!r}; expected a probability from 0 to 1")
    return float(value)
