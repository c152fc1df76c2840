"""Prepared worms in memory: their tables at once, their cubes when they are needed, normalized."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.worm_checks import list_prepared
from voxel_ext.data.worm_file import WormCubes, WormHeader, read_worm, read_worm_header
from voxel_ext.errors import InvalidInputError, MissingDataError, check_option
from voxel_ext.files import read_json

logger = logging.getLogger(__name__)

NORMALIZATION = ("global", "cube", "none")


def worm_lists(
    folder: str | os.PathLike[str], validation_fraction: float = 0.2, seed: int = 0
) -> dict[str, list[Path]]:
    """Return the worms to train with and those to validate with, never the same.

    Args:
        folder: one with ``train/`` and ``val/``, or one with all worms, which are then split by worm at random.
        validation_fraction: share of the worms for validation, rounded; at least two worms on either side, which make a
            pair, or one where there are fewer than four.
        seed: of the split.

    Returns:
        files under ``"train"`` and ``"val"``.

    Raises:
        MissingDataError: no worms there.
        InvalidInputError: fewer than two worms to split, or a fraction outside (0, 1).
    """
    folder = Path(folder)
    if (folder / "train").is_dir() and (folder / "val").is_dir():
        return {name: list_prepared(folder / name) for name in ("train", "val")}
    worms = list_prepared(folder)
    if not 0 < validation_fraction < 1:
        raise InvalidInputError(f"validation_fraction={validation_fraction!r}: expected a number between 0 and 1")
    if len(worms) < 2:
        raise InvalidInputError(f"{folder} has one prepared worm; training needs at least two, one of them to validate")
    least = 2 if len(worms) >= 4 else 1
    count = min(max(round(validation_fraction * len(worms)), least), len(worms) - least)
    order = np.random.default_rng(seed).permutation(len(worms))
    chosen = set(order[:count].tolist())
    return {
        "train": [worm for i, worm in enumerate(worms) if i not in chosen],
        "val": [worm for i, worm in enumerate(worms) if i in chosen],
    }


def intensity_statistics(
    folder: str | os.PathLike[str],
    mean: float | None = None,
    std: float | None = None,
    settings: str | os.PathLike[str] | None = None,
) -> dict[str, float]:
    """Return the mean and the standard deviation of the intensities to normalize with.

    Args:
        folder: of prepared worms; the ``statistics.json`` that preparing them leaves is there or one folder above.
        mean: the value to use instead of the first channel's there.
        std: the same.
        settings: ``settings.json`` of a training, whose ``intensity_mean`` and ``intensity_std`` go before
            ``statistics.json``, if the file exists: a network must see images as in its training.

    Returns:
        ``mean`` and ``std``.

    Raises:
        MissingDataError: a value is not given and there is no such file.
        InvalidInputError: the file cannot be read.
    """
    if mean is not None and std is not None:
        return {"mean": float(mean), "std": float(std)}
    places = [(Path(place) / "statistics.json", "mean", "std") for place in (folder, Path(folder).parent)]
    if settings is not None:
        places.insert(0, (Path(settings), "intensity_mean", "intensity_std"))
    found = next((place for place in places if place[0].is_file()), None)
    if found is None:
        raise MissingDataError(
            f"{places[-2][0]} does not exist; run prepare makes it, or give intensity_mean and intensity_std"
        )
    file, *keys = found
    try:
        content = read_json(file, dict, "a record of intensities")
        values = [float(content[key]) for key in keys]
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InvalidInputError(f"{file} has no {' and '.join(keys)} of the intensities ({error!r})") from error
    logger.info("intensities are normalized by mean %.4g and standard deviation %.4g of %s", *values, file)
    return {"mean": values[0] if mean is None else float(mean), "std": values[1] if std is None else float(std)}


class WormStore:
    """Prepared worms that belong together.

    Args:
        worms: files of prepared worms, all with the same number of cells, channels and size.
        normalization: "cube" for mean 0 and standard deviation 1 of each cube and channel, "global" for
            (x - mean) / std of the intensities (a mask stays 0 and 1), "none".
        mean: for "global", see ``statistics.json`` of the prepared data.
        std: for "global".
        cache_num: worms whose cubes are kept in memory (73 MB each for 558 cubes of 32³ voxels).

    Raises:
        InvalidInputError: no worms, worms that differ (names the first that does), an option out of range.
    """

    def __init__(
        self,
        worms: Sequence[str | os.PathLike[str]],
        normalization: str = "global",
        mean: float = 0.0,
        std: float = 1.0,
        cache_num: int = 64,
    ) -> None:
        check_option("normalization", normalization, NORMALIZATION)
        if not std > 0:
            raise InvalidInputError(f"std={std!r}: the standard deviation of the intensities must be positive")
        if cache_num < 0:
            raise InvalidInputError(f"cache_num={cache_num}: expected the number of worms to keep in memory, 0 or more")
        if not worms:
            raise InvalidInputError("there are no worms; expected files of prepared worms")
        self.files = [Path(worm) for worm in worms]
        self.headers = [read_worm_header(worm) for worm in self.files]
        _check_alike(self.files, self.headers)
        self.normalization = normalization
        self.mean, self.std = float(mean), float(std)
        self._cache: OrderedDict[int, WormCubes] = OrderedDict()
        self._cache_num = cache_num

    @property
    def num_cells(self) -> int:
        """Number of identities of every worm."""
        return len(self.headers[0])

    @property
    def names(self) -> list[str]:
        """Names of the cells by identity, "" where no worm tells."""
        rows = zip(*(header.names for header in self.headers), strict=True)
        return [next((name for name in row if name), "") for row in rows]

    def __len__(self) -> int:
        return len(self.files)

    def known(self, number: int) -> NDArray[np.bool_]:
        """Return which cells (N,) of a worm have a cube and a position."""
        header = self.headers[number]
        return header.valid & np.isfinite(header.positions).all(1)

    def cubes(self, number: int, cells: NDArray[np.int64], valid: NDArray[np.bool_], turned: bool = False) -> NDArray:
        """Return normalized cubes.

        Args:
            number: of the worm.
            cells: (K,) identities.
            valid: (K,) bool; the cubes of the others are 0.
            turned: turn each cube by 180° about x.

        Returns:
            (K, C, S, S, S) float32.
        """
        cubes = self._read(number).cubes[cells]
        if turned:
            cubes = cubes[:, :, ::-1, ::-1]
        mean, std = self._moments(cubes)
        cubes = (cubes - mean) / std
        cubes[~valid] = 0
        return cubes

    def _moments(self, cubes: NDArray[np.float32]) -> tuple[Any, Any]:
        """Mean and standard deviation to normalize cubes (K, C, S, S, S) with."""
        if self.normalization == "cube":
            mean = cubes.mean((2, 3, 4), keepdims=True)
            std = cubes.std((2, 3, 4), keepdims=True)
            return mean, np.where(std > 1e-6 * np.abs(mean), std, 1)  # a constant cube stays at 0 but for rounding
        if self.normalization == "none":
            return np.float32(0), np.float32(1)
        mean, std = (np.full((cubes.shape[1], 1, 1, 1), value, np.float32) for value in (self.mean, self.std))
        if self.headers[0].channels == "raw+mask+soft":
            mean[1], std[1] = 0, 1
        return mean, std

    def _read(self, number: int) -> WormCubes:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        worm = read_worm(self.files[number])
        if self._cache_num:
            self._cache[number] = worm
            while len(self._cache) > self._cache_num:
                self._cache.popitem(last=False)
        return worm


def _check_alike(files: Sequence[Path], headers: Sequence[WormHeader]) -> None:
    named: dict[int, tuple[str, Path]] = {}
    for file, header in zip(files, headers, strict=True):
        if header.shape != headers[0].shape or header.channels != headers[0].channels:
            raise InvalidInputError(
                f"{file} has cubes of shape {header.shape} ({header.channels}), {files[0]} has {headers[0].shape} "
                f"({headers[0].channels}); prepare all worms with the same settings and number of cells"
            )
        for slot, name in enumerate(header.names):
            earlier, source = named.setdefault(slot, (name, file)) if name else ("", file)
            if name != earlier and name:
                raise InvalidInputError(
                    f"{file} and {source} give different names to the same Aligned_No, {slot + 1}: "
                    f"{name!r} and {earlier!r}"
                )
