"""What a CT scan shows of the sheets: papyrus with texture, blur, shading, ring artefacts and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxel_ext.synthetic.sheets.cells import white_noise
from voxel_ext.synthetic.sheets.ripples import Ripples, draw_texture, grid
from voxel_ext.synthetic.sheets.stack import Nearest

AIR, CONTRAST = 0.4, 0.15
"""Intensity between the sheets, and by how much sheets are brighter."""

TEXTURE_WAVES, TEXTURE_WAVELENGTH = 8, (8.0, 32.0)  # voxels
SHADING_WAVES, SHADING_WAVELENGTH = 4, (90.0, 300.0)  # voxels
BLUR_REACH = 3.0  # standard deviations after which the point spread function is cut


@dataclass(frozen=True)
class Scan:
    """An artificial scan; intensities but the blur are given over the contrast of a sheet.

    Args:
        texture: standard deviation of the brightness in a sheet, over its mean.
        shading: standard deviation of a slow change of the intensity.
        rings: standard deviation of rings about the z axis through ``center``.
        blur: standard deviation of the point spread function in voxels.
        noise: standard deviation of the noise that is the same everywhere.
        shot_noise: that of the photons at the brightness of a sheet; its variance goes with the intensity.
        thickness: of the sheets in voxels.
        center: (y, x) of the rings in voxels.
        key: of the noise.
        patterns: the texture and the shading, of variance 1.
        profile: of the rings by their radius in voxels, of variance 1.
    """

    texture: float
    shading: float
    rings: float
    blur: float
    noise: float
    shot_noise: float
    thickness: float
    center: tuple[float, float]
    key: int
    patterns: tuple[Ripples, Ripples]
    profile: NDArray[np.float64]

    @property
    def halo(self) -> int:
        """Voxels around a box that its image depends on."""
        return int(BLUR_REACH * self.blur + 0.5)

    def image(self, nearest: Nearest, box: tuple[slice, ...]) -> NDArray[np.float32]:
        """Return the image of a box.

        Args:
            nearest: the sheets in the box and a halo around it.
            box: of voxels.

        Returns:
            (D, H, W), about `AIR` between the sheets and `AIR` + `CONTRAST` in them; not clipped.
        """
        from scipy.ndimage import gaussian_filter

        halo = self.halo
        wide = tuple(slice(part.start - halo, part.stop + halo) for part in box)
        # a voxel that the border of a sheet crosses is partly covered
        light: NDArray[np.float32] = np.clip(self.thickness / 2 + 0.5 - np.abs(nearest.distance), 0, 1)
        light *= nearest.present
        if self.texture:
            light *= np.float32(1) + np.float32(self.texture) * _by_planes(self.patterns[0], wide)
        if halo:
            light = gaussian_filter(light, self.blur, truncate=BLUR_REACH)
            light = np.ascontiguousarray(light[tuple(slice(halo, size - halo) for size in light.shape)])
        light += np.float32(self.shading) * _by_planes(self.patterns[1], box)
        if self.rings:
            light += self._ring_artefact(box)
        photons = np.maximum(light * CONTRAST + np.float32(AIR), 0) / np.float32(AIR + CONTRAST)
        deviation = np.sqrt(np.float32(self.noise**2) + np.float32(self.shot_noise**2) * photons)
        light += deviation * white_noise(self.key, box)
        light *= np.float32(CONTRAST)
        light += np.float32(AIR)
        return light

    def _ring_artefact(self, box: tuple[slice, ...]) -> NDArray[np.float32]:
        y, x = (np.arange(part.start, part.stop) - c for part, c in zip(box[1:], self.center, strict=True))
        radius = np.sqrt(y[:, None] ** 2 + x**2)
        inner = np.floor(radius).astype(int)
        weight = radius - inner
        values = self.profile[inner] * (1 - weight) + self.profile[inner + 1] * weight
        return (self.rings * values).astype(np.float32)


def _by_planes(pattern: Ripples, box: tuple[slice, ...]) -> NDArray[np.float32]:
    """Values of a pattern in a box, a few planes at a time to keep the arrays in the cache."""
    values = np.empty([part.stop - part.start for part in box], dtype=np.float32)
    for first in range(0, len(values), 4):
        stop = min(first + 4, len(values))
        planes = slice(box[0].start + first, box[0].start + stop)
        values[first:stop] = pattern.value(grid((planes, *box[1:])))
    return values


def draw_patterns(rng: np.random.Generator) -> tuple[Ripples, Ripples]:
    """Draw the texture and the shading of a scan."""
    texture = draw_texture(rng, TEXTURE_WAVES, TEXTURE_WAVELENGTH)
    return texture, draw_texture(rng, SHADING_WAVES, SHADING_WAVELENGTH)


def draw_rings(rng: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw the profile of the rings, as far as the corners of a volume (Z, Y, X) are from any point in it."""
    return rng.standard_normal(int(np.hypot(size[1], size[2])) + 3)
