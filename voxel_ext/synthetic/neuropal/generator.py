"""The generator of artificial NeuroPAL heads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic import _checks as checks
from voxel_ext.synthetic.neuropal.cells import choose_cells, draw_centers, nucleus_radius
from voxel_ext.synthetic.neuropal.colors import draw_colors, homolog
from voxel_ext.synthetic.neuropal.imaging import BLUR, image_head
from voxel_ext.synthetic.optic_lobe.parallel import Workers
from voxel_ext.synthetic.worm.nuclei import RADIUS, Nuclei, draw_nuclei, label_volume
from voxel_ext.synthetic.worm.shape_model import WormShapeModel

BACKGROUND = "background"


@dataclass(frozen=True, eq=False)
class NeuroPAL:
    """Artificial head of a NeuroPAL worm: four channels, and the ROI of every nucleus, whose name is known.

    Positions come from the statistics of L1 worms, colors from an artificial code that is the same in every animal
    and, with ``appearance_strength`` 1, tells neighbors apart; left-right pairs share their color and differ by place.
    The result depends on the settings and the seed alone, not on the number of threads nor on NumPy's global random
    state. Lengths are in voxels, the axis order is (z, y, x), x is the body axis with the nose at its high end.

    Args:
        seed: at least 0.
        size: (Z, Y, X) of the volume, each at least 8. Nuclei have a median radius of 3.5 at the default size and
            number of cells, and otherwise follow the room per cell, down to 2.2.
        cells: number of cells, those of the head (`HEAD_CLASSES`) that are nearest to the nose.
        appearance_strength: from 0, color, brightness and size say nothing about the identity, to 1.
        missing: share of the cells, from 0 to below 1, that have no ROI. They are still seen in the image.
        shape_noise: factor, 0 to 2, on the deviations from the mean worm; 1 is as in real worms.
        pose_noise: factor, 0 to 3, on small turns, stretches and shifts.
        bend: standard deviation of the bending angle of the body axis in the y-x plane, radians, 0 to 0.6.
        color_noise: standard deviation of the logarithm of brightness per cell and channel, 0 to 2.
        light: counts of a nucleus of brightness 1 before the blur, above 0.
        background: counts of the autofluorescence, at least 0.
        counts_per_photon: of the camera, above 0; a higher one means more Poisson noise.
        roll: 0 or 180 degrees about x; ``None`` draws one of them.
        shape_model: a `WormShapeModel`, the path of one, or ``None`` for the packaged one.
        threads: ``None`` for every core that the process may use, or one thread in a worker process.

    Raises:
        InvalidInputError: a setting is of the wrong type, outside its limits, or does not fit another.
        MissingDataError: there is no shape model at the path.
    """

    seed: int = 0
    _: KW_ONLY
    size: int | Sequence[int] = (64, 120, 284)
    cells: int = 184
    appearance_strength: float = 1.0
    missing: float = 0.0
    shape_noise: float = 1.0
    pose_noise: float = 1.0
    bend: float = 0.1
    color_noise: float = 0.15
    light: float = 600.0
    background: float = 60.0
    counts_per_photon: float = 6.0
    roll: int | None = 0
    shape_model: WormShapeModel | str | os.PathLike[str] | None = None
    threads: int | None = None

    _model: WormShapeModel = field(init=False, repr=False)
    _rows: NDArray[np.int64] = field(init=False, repr=False)
    _size: tuple[int, ...] = field(init=False, repr=False)
    _radius: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checks.check_integer("seed", self.seed, 0)
        checks.check_integer("cells", self.cells, 1)
        checks.check_number("appearance_strength", self.appearance_strength, 0, 1)
        if checks.check_number("missing", self.missing, 0, 1) == 1:
            raise InvalidInputError(f"missing={self.missing!r}: expected a share below 1, so that cells are left.")
        highest = {"shape_noise": 2, "pose_noise": 3, "bend": 0.6, "color_noise": 2, "background": np.inf}
        for name, high in highest.items():
            checks.check_number(name, getattr(self, name), 0, high)
        for name in ("light", "counts_per_photon"):
            checks.check_number(name, getattr(self, name), 1e-3)
        if isinstance(self.roll, bool) or self.roll not in (None, 0, 180):
            raise InvalidInputError(f"roll={self.roll!r}: expected 0, 180 or None.")
        checks.check_threads(self.threads)
        given = self.shape_model
        model = given if isinstance(given, WormShapeModel) else WormShapeModel.load(given)
        size = checks.check_size(self.size, 3)
        for name, value in {
            "_model": model,
            "_rows": choose_cells(model, self.cells),
            "_size": size,
            "_radius": nucleus_radius(size, self.cells),
        }.items():
            object.__setattr__(self, name, value)

    @property
    def class_names(self) -> list[str]:
        """ "background" and the names of all cells, sorted; the same for every seed."""
        return [BACKGROUND, *(self._model.names[row] for row in self._rows)]

    def generate(self) -> dict[str, Any]:
        """Generate the animal of this seed.

        Returns:
            A dictionary, with n the number of cells that have an ROI, of

            - ``image``: (4, Z, Y, X) float32 counts, whole numbers; the channels are `CHANNELS`;
            - ``label``: (Z, Y, X) uint16 ROI ids, a random permutation of 1 … n; 0 is background;
            - ``roi_ids``: (n,) int64, 1 … n;
            - ``names``: list of the n names, ``names[id - 1]``;
            - ``class_names``: list, see `class_names`;
            - ``positions``: (n, 3) float32 centers (z, y, x); voxel i has its center at the coordinate i;
            - ``colors``: (n, 4) float32 brightness, before gain, attenuation and noise of the image;
            - ``parameters``: settings and drawn values as Python scalars and lists.
        """
        streams = np.random.SeedSequence(self.seed).spawn(5)
        rngs = [np.random.default_rng(stream) for stream in streams[:4]]
        roll = int(rngs[0].integers(2)) * 180 if self.roll is None else self.roll
        centers = self._draw_centers(rngs[0], roll)
        names = self.class_names[1:]
        nuclei = self._draw_nuclei(rngs[1], centers, names)
        colors = draw_colors(rngs[2], names, nuclei.brightness, self.appearance_strength, self.color_noise)
        order = rngs[3].permutation(len(names))[round(self.missing * len(names)) :]
        if not len(order):
            order = np.array([0])
        blur = [sigma * self._radius for sigma in BLUR]
        options = (self.light, self.background, self.counts_per_photon)
        with Workers(checks.check_threads(self.threads)) as workers:
            image, drawn = image_head(streams[4], nuclei, colors, self._size, blur, *options, workers)
        return {
            "image": image,
            "label": _rois(nuclei, order, self._size),
            "roi_ids": np.arange(1, len(order) + 1),
            "names": [names[row] for row in order],
            "class_names": self.class_names,
            "positions": centers[order].astype(np.float32),
            "colors": colors[order].astype(np.float32),
            "parameters": {**self.settings(), "drawn_roll": roll, "radius": self._radius, **drawn},
        }

    def _draw_centers(self, rng: np.random.Generator, roll: int) -> NDArray[np.float64]:
        noise = (self.shape_noise, self.pose_noise, self.bend)
        return draw_centers(rng, self._model, self._rows, self._size, self._radius, *noise, roll)

    def _draw_nuclei(self, rng: np.random.Generator, centers: NDArray[np.float64], names: Sequence[str]) -> Nuclei:
        """Nuclei as in a whole worm, where their median radius is 5.4 voxels, made smaller; pairs look alike."""
        scale = self._radius / RADIUS
        alike = [homolog(name) for name in names]
        large = draw_nuclei(rng, centers / scale, alike, self.appearance_strength)
        return Nuclei(
            centers, large.shapes * scale, large.radii * scale, large.brightness, large.contrast, large.grain * scale
        )

    def settings(self) -> dict[str, Any]:
        """The settings that the result depends on as Python scalars and lists.

        ``shape_model`` is ``"packaged"``, a path, or ``"given"``.
        """
        model = "packaged" if self.shape_model is None else "given"
        if isinstance(self.shape_model, str | os.PathLike):
            model = os.fspath(self.shape_model)
        noises = ("appearance_strength", "missing", "shape_noise", "pose_noise", "bend", "color_noise")
        numbers = (*noises, "light", "background", "counts_per_photon")
        return {
            "seed": int(self.seed),
            "size": list(self._size),
            "cells": int(self.cells),
            **{name: float(getattr(self, name)) for name in numbers},
            "roll": None if self.roll is None else int(self.roll),
            "shape_model": model,
        }


def _rois(nuclei: Nuclei, order: NDArray[np.int64], size: Sequence[int]) -> NDArray[np.uint16]:
    """ROI ids 1 … n (Z, Y, X) of the nuclei in ``order``; the voxel at its center always belongs to a nucleus."""
    numbers = np.zeros(len(nuclei.centers), dtype=np.int64)
    numbers[order] = np.arange(1, len(order) + 1)
    label = label_volume(nuclei, numbers, size)
    z, y, x = np.rint(nuclei.centers[order]).astype(int).T
    label[z, y, x] = numbers[order]
    return label
