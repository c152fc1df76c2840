"""The generator of artificial scans of sheets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.synthetic import _checks as checks
from voxel_ext.synthetic.sheets.geometry import Field, draw_spiral, draw_waves
from voxel_ext.synthetic.sheets.imaging import Scan, draw_patterns, draw_rings
from voxel_ext.synthetic.sheets.stack import Nearest, Stack

KINDS = ("mixed", "waves", "spiral")
_LIMITS = {
    "spacing": (3, 256),
    "thickness": (1, 128),
    "waviness": (0, 0.9),
    "tilt": (0, 180),
    "touching": (0, 1),
    "gaps": (0, 1),
    "texture": (0, 1),
    "shading": (0, 10),
    "rings": (0, 10),
    "blur": (0, 16),
    "noise": (0, 10),
    "shot_noise": (0, 10),
    "normal_band": (0, 128),
}


@dataclass(frozen=True, eq=False)
class Sheets:
    """Artificial CT scan of a stack or a scroll of thin curved sheets, with their exact normals.

    Sheet k is where a smooth function psi_k(x) = phi(x) - k * spacing - b_k(x) is 0, and voxels with
    |psi_k| / |grad psi_k| < thickness / 2 belong to it (the distance to first order). For ``"waves"``, phi is linear
    along a random direction, plus plane waves; for ``"spiral"``, its level sets are the windings of an Archimedean
    spiral, plus plane waves; b_k brings neighbors together where they touch. **Normals are grad psi_k / |grad psi_k|**:
    they point to where the numbers of the sheets increase, in a scroll outwards, on both faces of a sheet. As the
    direction of a stack is random, an image does not tell their sign; with a ``tilt`` below 90 it does.

    Any box of a volume can be made by itself (`block`) and is the same as that part of the whole. The result depends on
    the settings and the seed alone. Lengths are in voxels, the axis order is (z, y, x), voxel i has its center at the
    coordinate i.

    Args:
        seed: at least 0.
        size: (Z, Y, X) of the volume, each at least 8.
        kind: ``"waves"``, ``"spiral"``, or ``"mixed"`` for one of them at random.
        spacing: mean distance of the sheets, 3 to 256.
        thickness: of the sheets, 1 to 128 and at most the spacing.
        waviness: bound of |grad phi - grad phi_0|, with phi_0 the flat stack or the perfect spiral, 0 to 0.9.
        wavelength: (lowest, highest) of the undulation, at least 8.
        tilt: largest angle in degrees of a stack's direction, or a scroll's axis, to z; 180 for any direction.
        touching: probability, per cube of 48 voxels (4 spacings if that is more), of a place where two neighboring
            sheets touch.
        gaps: probability, per cube of 40 voxels, of a hole in a sheet, 2 to 24 voxels wide. There, the mask and the
            normals are 0.
        texture: standard deviation of the brightness within sheets, over its mean, 0 to 1.
        shading: standard deviation of a slow change of the intensity over the contrast of a sheet, 0 to 10.
        rings: that of rings about the z axis near the middle of the volume, 0 to 10.
        blur: standard deviation of the point spread function, 0 to 16.
        noise: standard deviation of Gaussian noise over the contrast of a sheet, 0 to 10.
        shot_noise: that of the photons' noise in a sheet; its variance goes with the intensity, 0 to 10.
        normal_band: normals are given up to this far from the surfaces of the sheets, too, 0 to 128.

    Raises:
        InvalidInputError: a setting is of the wrong type, outside its limits, or does not fit another.
    """

    seed: int = 0
    _: KW_ONLY
    size: int | Sequence[int] = (96, 96, 96)
    kind: str = "mixed"
    spacing: float = 12.0
    thickness: float = 4.5
    waviness: float = 0.6
    wavelength: Sequence[float] = (48.0, 160.0)
    tilt: float = 180.0
    touching: float = 0.5
    gaps: float = 0.3
    texture: float = 0.25
    shading: float = 0.35
    rings: float = 0.1
    blur: float = 1.0
    noise: float = 0.5
    shot_noise: float = 0.4
    normal_band: float = 0.0

    _size: tuple[int, ...] = field(init=False, repr=False)
    _kind: str = field(init=False, repr=False)
    _stack: Stack = field(init=False, repr=False)
    _scan: Scan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checks.check_integer("seed", self.seed, 0)
        check_option("kind", self.kind, KINDS)
        for name, limits in _LIMITS.items():
            checks.check_number(name, getattr(self, name), *limits)
        checks.check_range("wavelength", self.wavelength, 8)
        if self.thickness > self.spacing:
            raise InvalidInputError(
                f"thickness={self.thickness!r}: expected at most the spacing of the sheets, {self.spacing!r}."
            )
        object.__setattr__(self, "_size", checks.check_size(self.size, 3))
        streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(self.seed).spawn(5)]
        drawn = KINDS[1 + int(streams[0].integers(2))]
        object.__setattr__(self, "_kind", drawn if self.kind == "mixed" else self.kind)
        keys = [int(key) for key in streams[1].integers(2**63, size=3)]
        object.__setattr__(self, "_stack", self._draw_stack(streams[2], (keys[0], keys[1])))
        object.__setattr__(self, "_scan", self._draw_scan(streams[3], streams[4], keys[2]))

    def _draw_stack(self, rng: np.random.Generator, keys: tuple[int, int]) -> Stack:
        draw: Callable[..., Field] = draw_waves if self._kind == "waves" else draw_spiral
        wavelength = (float(self.wavelength[0]), float(self.wavelength[1]))
        tilt = float(np.deg2rad(self.tilt))
        phi = draw(rng, self._size, float(self.spacing), wavelength, float(self.waviness), tilt)
        shares = (float(self.touching), float(self.gaps))
        return Stack(phi, float(self.spacing), float(self.thickness), *shares, keys)

    def _draw_scan(self, rng: np.random.Generator, rings: np.random.Generator, key: int) -> Scan:
        y, x = ((size - 1) * rng.uniform(0.25, 0.75) for size in self._size[1:])
        names = ("texture", "shading", "rings", "blur", "noise", "shot_noise", "thickness")
        numbers = {name: float(getattr(self, name)) for name in names}
        patterns, profile = draw_patterns(rng), draw_rings(rings, self._size)
        return Scan(center=(float(y), float(x)), key=key, patterns=patterns, profile=profile, **numbers)

    @property
    def volume_size(self) -> tuple[int, int, int]:
        """(Z, Y, X) of the whole volume."""
        z, y, x = self._size
        return z, y, x

    def generate(self) -> dict[str, Any]:
        """Generate the volume of this seed.

        Returns:
            A dictionary of

            - ``image``: (Z, Y, X) float32, about 0.4 between the sheets and 0.55 in them, rarely outside of [0, 1];
            - ``label``: (Z, Y, X) int32 ids of the sheets, in the order of the stack but not without gaps; in a scroll,
              the number of the winding from the inside, which counts up across one half plane; 0 is background;
            - ``sheet``: (Z, Y, X) uint8, 1 in the sheets;
            - ``normals``: (3, Z, Y, X) float32 unit vectors (z, y, x) in the sheets and ``normal_band`` around them,
              0 elsewhere;
            - ``parameters``: settings and drawn values as Python scalars and lists.
        """
        box = tuple(slice(0, size) for size in self._size)
        whole = self.block(box)
        counts = {"contacts": len(self._stack.contacts(box)), "holes": len(self._stack.holes(box))}
        drawn = {"drawn_kind": self._kind, **self._stack.field.describe(), **counts}
        return {**whole, "parameters": {**self.settings(), **drawn}}

    def block(self, box: Sequence[slice]) -> dict[str, NDArray[Any]]:
        """Generate a box of the volume, the same as that part of the whole volume.

        Args:
            box: three slices within the volume, without steps.

        Returns:
            ``image``, ``label``, ``sheet`` and ``normals`` as `generate` gives them.

        Raises:
            InvalidInputError: the box is empty or not within the volume.
        """
        parts = _check_box(box, self._size)
        halo = self._scan.halo
        wide = tuple(slice(part.start - halo, part.stop + halo) for part in parts)
        nearest = self._stack.nearest(wide)
        image = self._scan.image(nearest, parts)
        inner = tuple(slice(halo, halo + part.stop - part.start) for part in parts)
        return {"image": image, **self._truth(nearest, inner)}

    def _truth(self, nearest: Nearest, inner: tuple[slice, ...]) -> dict[str, NDArray[Any]]:
        away, present = np.abs(nearest.distance[inner]), nearest.present[inner]
        mask = present & (away < np.float32(self.thickness / 2))
        known = present & (away < np.float32(self.thickness / 2 + self.normal_band))
        number = nearest.sheet[inner] + np.int32(self._first_id)
        return {
            "label": np.where(mask, number, np.int32(0)),
            "sheet": mask.astype(np.uint8),
            "normals": np.where(known, nearest.normals[(slice(None), *inner)], np.float32(0)),
        }

    @property
    def _first_id(self) -> int:
        return 1 - self._stack.field.lowest

    def surface(self, sheet: int, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Evaluate the function psi of which one sheet is the level set 0.

        Args:
            sheet: its id, as in ``label``.
            points: (N, 3) any positions (z, y, x) in voxels.

        Returns:
            (N,) psi; (N, 3) its gradient (z, y, x). The distance to the sheet is psi / |gradient| to first order.

        Raises:
            InvalidInputError: the points are not (N, 3).
        """
        places = np.asarray(points, dtype=np.float64)
        if places.ndim != 2 or places.shape[1] != 3 or not len(places):
            raise InvalidInputError(f"points of shape {places.shape}: expected (N, 3) with at least one point.")
        lowest, highest = np.floor(places.min(axis=0)).astype(int), np.ceil(places.max(axis=0)).astype(int) + 1
        contacts = self._stack.contacts([slice(*ends) for ends in zip(lowest.tolist(), highest.tolist(), strict=True)])
        z, y, x = np.ascontiguousarray(places.T)
        value, gradient = self._stack.evaluate(sheet - self._first_id, (z, y, x), contacts)
        return value, np.stack(gradient, axis=1)

    def settings(self) -> dict[str, Any]:
        """The settings that the result depends on as Python scalars and lists."""
        return {
            "seed": int(self.seed),
            "size": list(self._size),
            "kind": self.kind,
            "wavelength": [float(length) for length in self.wavelength],
            **{name: float(getattr(self, name)) for name in _LIMITS},
        }


def _check_box(box: Sequence[slice], size: Sequence[int]) -> tuple[slice, ...]:
    """The box with its limits filled in; refuses one that is not within the volume."""
    if len(box) != 3 or not all(isinstance(part, slice) and part.step in (None, 1) for part in box):
        raise InvalidInputError(f"box={box!r}: expected three slices (z, y, x) without steps.")
    filled = [
        slice(0 if part.start is None else part.start, length if part.stop is None else part.stop)
        for part, length in zip(box, size, strict=True)
    ]
    for part, length in zip(filled, size, strict=True):
        if not 0 <= part.start < part.stop <= length:
            raise InvalidInputError(f"box={box!r}: expected a box that is not empty, within the volume {tuple(size)}.")
    return tuple(filled)
