"""What an electron microscope shows: dark membranes, cristae, a grainy cytoplasm, sections of unequal brightness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxel_ext.synthetic.mitochondria.solids import Array
from voxel_ext.synthetic.sheets.ripples import Ripples, draw_texture, grid

CYTOPLASM, MATRIX, DARK = 0.64, 0.48, 0.2
"""Intensities of the cytoplasm, of the inside of mitochondria and of membranes."""

MATRIX_SPREAD = 0.03  # standard deviation between mitochondria
GRAIN = 18.0  # size in nm of the granules of the cytoplasm
OTHER_MEMBRANES, MEMBRANE_WAVELENGTH, MEMBRANE_LEVEL = 6, (300.0, 1200.0), 0.06  # waves; nm; |w| below which it is dark
OTHER_SHADE = 0.6  # contrast of other membranes over that of those of mitochondria
CRISTA_SPACING, CRISTA_BEND = (70.0, 120.0), 0.25  # nm; of a period
CRISTA_EDGE = (0.3, 0.7)  # cosine of the phase at which a crista begins and is full


@dataclass(frozen=True)
class Microscope:
    """How mitochondria and what is around them are shown.

    Args:
        voxel_size: (z, y, x) in nm.
        membrane: thickness of the outer membrane in nm.
        cristae: contrast of the cristae over that of the membrane.
        cytoplasm: contrast of granules and of other membranes.
        section_jitter: standard deviation of the brightness, and of the relative contrast, of a section.
        blur: standard deviation in voxels of the point spread function along y and x.
        noise: standard deviation of the noise.
    """

    voxel_size: tuple[float, ...]
    membrane: float
    cristae: float
    cytoplasm: float
    section_jitter: float
    blur: float
    noise: float

    def background(self, rng: np.random.Generator, size: Sequence[int]) -> Array:
        """Return the cytoplasm (Z, Y, X)."""
        from scipy.ndimage import gaussian_filter

        image = np.full(tuple(size), CYTOPLASM, dtype=np.float32)
        waves = draw_texture(rng, OTHER_MEMBRANES, MEMBRANE_WAVELENGTH)
        grains = rng.standard_normal(tuple(size), dtype=np.float32)
        if not self.cytoplasm:
            return image
        grains = gaussian_filter(grains, [min(GRAIN / edge, 4.0) for edge in self.voxel_size], truncate=2.5)
        image += grains * np.float32(0.05 * self.cytoplasm / max(float(grains.std()), 1e-6))
        waves = Ripples(waves.amplitudes, waves.vectors * self.voxel_size, waves.phases)
        for z in range(len(image)):
            level = np.abs(waves.value(grid((slice(z, z + 1), *(slice(0, n) for n in size[1:]))))[0])
            shade = np.clip(2 - level.astype(np.float32) / np.float32(MEMBRANE_LEVEL), 0, 1)
            image[z] -= shade * np.float32((CYTOPLASM - DARK) * OTHER_SHADE * min(self.cytoplasm, 1.0))
        return image

    def paint(self, rng: np.random.Generator, canvas: Array, distance: Array) -> None:
        """Paint a mitochondrion over a part of a volume, in place.

        Args:
            rng: source of randomness of the mitochondrion.
            canvas: (D, H, W) what is there.
            distance: (D, H, W) from its surface in nm, negative inside.
        """
        matrix = np.float32(MATRIX + MATRIX_SPREAD * rng.standard_normal())
        phase = self._crista_phase(rng, distance.shape)
        low, high = CRISTA_EDGE
        lamella = np.clip((np.cos(phase) - np.float32(low)) / np.float32(high - low), 0, 1)
        thickness = np.float32(max(self.membrane, min(self.voxel_size)))
        depth = -distance
        lamella *= np.clip(depth / thickness - np.float32(0.5), 0, 1) * np.float32(self.cristae)
        inner = matrix - (matrix - np.float32(DARK)) * lamella
        if self.membrane:
            shade = np.exp(-np.square(2 * depth / thickness - 1))
            inner += (np.float32(DARK) - inner) * shade
        covered = np.clip(depth / np.float32(min(self.voxel_size)) + np.float32(0.5), 0, 1)
        canvas += covered * (inner - canvas)

    def _crista_phase(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Phase of parallel lamellae in a random direction, gently bent across it."""
        directions = rng.standard_normal((2, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        spacing, offsets = rng.uniform(*CRISTA_SPACING), rng.uniform(0, 2 * np.pi, 2)
        waves = directions * [[2 * np.pi / spacing], [2 * np.pi / (6 * spacing)]] * self.voxel_size
        z, y, x = (np.arange(length, dtype=np.float32) for length in shape)
        main, across = (
            (np.float32(w[0]) * z)[:, None, None] + (np.float32(w[1]) * y)[:, None] + np.float32(w[2]) * x
            for w in waves.astype(np.float32)
        )
        bend = np.float32(2 * np.pi * CRISTA_BEND) * np.sin(across + np.float32(offsets[1]))
        return main + bend + np.float32(offsets[0])

    def expose(self, rng: np.random.Generator, canvas: Array) -> Array:
        """Return the image (Z, Y, X), from 0 to 1, of a volume: blurred, with uneven sections and noise."""
        from scipy.ndimage import gaussian_filter

        image = gaussian_filter(canvas, (0, self.blur, self.blur), truncate=3.0) if self.blur else canvas.copy()
        jitter = (rng.standard_normal((2, len(image), 1, 1)) * self.section_jitter).astype(np.float32)
        noise: NDArray[np.float32] = rng.standard_normal(image.shape, dtype=np.float32)
        middle = np.float32((CYTOPLASM + DARK) / 2)
        image = (image - middle) * (1 + jitter[0]) + middle + jitter[1]
        image += noise * np.float32(self.noise)
        return np.clip(image, 0, 1, out=image)
