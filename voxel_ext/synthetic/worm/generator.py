"""The generator of artificial worms."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic import _checks as checks
from voxel_ext.synthetic.optic_lobe.parallel import Workers
from voxel_ext.synthetic.worm.alignment import turn_about_x
from voxel_ext.synthetic.worm.imaging import image_worm
from voxel_ext.synthetic.worm.nuclei import Nuclei, draw_nuclei, label_volume
from voxel_ext.synthetic.worm.shape_model import WormShapeModel

WHOLE_BORDER = (36, 31, 76)  # half of the mean size of the real volumes less the median extent of their cells
PART_BORDER = (20, 20, 20)
HIGHEST_STRENGTH = 3.0  # at which brightness differs by a factor of ten between common identities


@dataclass(frozen=True, eq=False)
class Worm:
    """Artificial worm: an intensity volume and a label volume of nuclei whose names are known.

    The result depends on the settings and the seed alone, not on the number of threads nor on NumPy's global random
    state. Lengths are in voxels, the axis order is (z, y, x), x is the body axis.

    Args:
        seed: at least 0.
        positions: (N, 3) centers of the nuclei to render; ``None`` draws them from the shape model.
        names: N names of the cells of ``positions``; ``None`` for those of the shape model.
        cells: number of cells to keep, the first by Aligned_No; ``None`` for all.
        cube_border: voxels between the outermost centers and the faces of the volume, one number or (z, y, x), at
            least 20; ``None`` for (36, 31, 76), as around the real worms, or for 20 when ``cells`` is given.
        shape_model: a `WormShapeModel`, the path of one, or ``None`` for the packaged one; used unless both
            ``positions`` and ``names`` are given.
        appearance_strength: factor on what of the appearance depends on the identity; with 0 the nuclei differ at
            random only. At most 3.
        missing: share of the cells, from 0 to below 1, that are absent from the labels and from ``positions`` of the
            result. They are still seen in the image.
        roll: 0 or 180 degrees about x, applied to the positions. ``None`` draws one of them for drawn worms and leaves
            given positions as they are.
        position_noise: standard deviation of the noise of the annotated positions, per axis. The image and the labels
            have the true ones.
        threads: ``None`` for every core that the process may use, or one thread in a worker process.

    Raises:
        InvalidInputError: a setting is of the wrong type, outside its limits, or does not fit another.
        MissingDataError: there is no shape model at the path.
    """

    seed: int = 0
    _: KW_ONLY
    positions: ArrayLike | None = None
    names: Sequence[str] | None = None
    cells: int | None = None
    cube_border: int | Sequence[int] | None = None
    shape_model: WormShapeModel | str | os.PathLike[str] | None = None
    appearance_strength: float = 1.0
    missing: float = 0.0
    roll: int | None = None
    position_noise: float = 0.0
    threads: int | None = None

    _model: WormShapeModel | None = field(init=False, repr=False)
    _positions: NDArray[np.float64] | None = field(init=False, repr=False)
    _names: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checks.check_integer("seed", self.seed, 0)
        checks.check_number("appearance_strength", self.appearance_strength, 0, HIGHEST_STRENGTH)
        checks.check_number("position_noise", self.position_noise, 0)
        if checks.check_number("missing", self.missing, 0, 1) == 1:
            raise InvalidInputError(f"missing={self.missing!r}: expected a share below 1, so that cells are left.")
        if isinstance(self.roll, bool) or self.roll not in (None, 0, 180):
            raise InvalidInputError(f"roll={self.roll!r}: expected 0, 180 or None.")
        checks.check_threads(self.threads)
        if self.cube_border is not None:
            checks.check_size(self.cube_border, 3, min(PART_BORDER))
        if self.positions is None and self.names is not None:
            raise InvalidInputError("names is given without positions; give both, or neither to draw a worm.")
        model = None
        if self.names is None:
            given = self.shape_model
            model = given if isinstance(given, WormShapeModel) else WormShapeModel.load(given)
        names = self.names if model is None else model.names
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "_names", _check_names(names))
        positions = None if self.positions is None else _check_positions(self.positions, len(self._names))
        object.__setattr__(self, "_positions", positions)
        if self.cells is not None:
            checks.check_integer("cells", self.cells, 1, len(self._names))

    def generate(self) -> dict[str, Any]:
        """Generate the worm of this seed.

        Returns:
            A dictionary, with N the number of cells and n that of those not missing, of

            - ``image``: (Z, Y, X) float32 counts, whole numbers from 0 to 255;
            - ``label``: (Z, Y, X) uint16 instance ids, a random permutation of 1 … n; 0 is background;
            - ``positions``: (N, 3) float32 annotated centers (z, y, x), NaN where missing; voxel i has its center at
              the coordinate i;
            - ``valid``: (N,) bool, False where missing;
            - ``names``: list of N names;
            - ``label_numbers``: (N,) int64 id in ``label``, 0 where missing;
            - ``parameters``: settings and drawn values as Python scalars and lists. ``offset`` is what was added to
              the given positions (after the roll) so that they lie in the volume.

            Row i is the cell with Aligned_No i + 1.
        """
        streams = np.random.SeedSequence(self.seed).spawn(6)
        rngs = [np.random.default_rng(stream) for stream in streams[:5]]
        drawn, roll = self._draw_positions(rngs[0])
        border = self._border()
        offset = border - np.floor(drawn.min(axis=0))
        centers = drawn + offset
        z, y, x = (np.ceil(centers.max(axis=0)).astype(int) + border + 1).tolist()
        names = list(self._names[: len(centers)])
        nuclei = draw_nuclei(rngs[1], centers, names, self.appearance_strength)
        valid, numbers = _number(rngs[2], len(centers), self.missing)
        noise = rngs[3].standard_normal(centers.shape) * self.position_noise
        annotated = np.where(valid[:, None], centers + noise, np.nan)
        with Workers(checks.check_threads(self.threads)) as workers:
            image, imaged = image_worm(streams[5], nuclei, (z, y, x), workers)
        parameters = {"roll": roll, "offset": offset.tolist(), **imaged, **_described(nuclei)}
        return {
            "image": image,
            "label": label_volume(nuclei, numbers, (z, y, x)),
            "positions": annotated.astype(np.float32),
            "valid": valid,
            "names": names,
            "label_numbers": numbers,
            "parameters": {**self.settings(), **parameters},
        }

    def _draw_positions(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], int]:
        """Centers (N, 3) of the cells to render and the roll that was applied to them."""
        chosen = int(rng.integers(2)) * 180
        if self._positions is not None:
            positions, roll = self._positions, self.roll or 0
        else:
            assert self._model is not None  # as __post_init__ checks
            positions, roll = self._model.draw(rng), chosen if self.roll is None else self.roll
        if roll == 180:
            positions = turn_about_x(positions)
        return positions[: self.cells], roll

    def _border(self) -> NDArray[np.int64]:
        if self.cube_border is None:
            return np.array(WHOLE_BORDER if self.cells is None else PART_BORDER)
        return np.array(checks.check_size(self.cube_border, 3, 20))

    def settings(self) -> dict[str, Any]:
        """The settings that the result depends on as Python scalars and lists.

        Given positions and a given shape model are named by their kind only: ``positions`` is ``"drawn"`` or
        ``"given"``, ``shape_model`` is ``"packaged"``, a path, or ``"given"``, and ``None`` when it is not used.
        """
        model = "packaged" if self.shape_model is None else "given"
        if isinstance(self.shape_model, str | os.PathLike):
            model = os.fspath(self.shape_model)
        return {
            "seed": int(self.seed),
            "positions": "drawn" if self._positions is None else "given",
            "shape_model": None if self._model is None else model,
            "cells": None if self.cells is None else int(self.cells),
            "cube_border": self._border().tolist(),
            "appearance_strength": float(self.appearance_strength),
            "missing": float(self.missing),
            "roll": None if self.roll is None else int(self.roll),
            "position_noise": float(self.position_noise),
        }


def _check_names(names: Sequence[str] | None) -> tuple[str, ...]:
    """The names, each of which must be there once."""
    checked = tuple(str(name) for name in names or ())
    if len(set(checked)) < len(checked) or not checked:
        twice = sorted({name for name in checked if checked.count(name) > 1})
        raise InvalidInputError(
            f"names has {len(checked)} names, of which {twice} are there twice; expected each once."
        )
    return checked


def _check_positions(positions: ArrayLike, count: int) -> NDArray[np.float64]:
    """The given positions as an array (count, 3) of finite numbers."""
    array = np.array(positions, dtype=float)
    if array.shape != (count, 3):
        raise InvalidInputError(f"positions has the shape {array.shape}; expected ({count}, 3), a row for every name.")
    if not np.isfinite(array).all():
        cell = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise InvalidInputError(f"positions[{cell}]={array[cell].tolist()} is not finite; leave that cell out.")
    return array


def _number(rng: np.random.Generator, count: int, missing: float) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which cells are annotated, and their ids in the label volume, 0 for the others."""
    valid = np.ones(count, dtype=bool)
    valid[rng.permutation(count)[: min(round(missing * count), count - 1)]] = False
    numbers = np.zeros(count, dtype=np.int64)
    numbers[valid] = rng.permutation(int(valid.sum())) + 1
    return valid, numbers


def _described(nuclei: Nuclei) -> dict[str, list[float]]:
    """Drawn values of every nucleus as lists."""
    names = ("radii", "brightness", "contrast", "grain")
    return {name: np.round(getattr(nuclei, name), 4).tolist() for name in names}
