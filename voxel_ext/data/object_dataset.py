"""Prepared objects as data sets of torch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from voxel_ext.data.container import READ_ERRORS, arrays, describe, is_numeric
from voxel_ext.data.object_classes import UNKNOWN
from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.hdf5 import read_hdf5
from voxel_ext.hdf5_checks import check_file, read_whole

PARTS = ("all", "train", "val")

Item = dict[str, Any]


class _PreparedObjects(Dataset[Item]):
    """What data sets over prepared objects have in common.

    Attributes:
        item_shape: of the stored values of one item.
        class_names: of the classes 0, 1, ..., or None.
        settings: what the file was made with.
    """

    _rows: NDArray[np.int64]
    _columns: dict[str, NDArray]
    _opened: Any
    _process: int

    def __init__(
        self,
        path: str | os.PathLike[str],
        values: str,
        rank: int,
        part: str,
        train_fraction: float,
        seed: int,
        transform: Callable[[Item], Item] | None,
    ) -> None:
        check_option("part", part, PARTS)
        if isinstance(train_fraction, bool) or not isinstance(train_fraction, Real) or not 0 < train_fraction < 1:
            raise InvalidInputError(f"train_fraction={train_fraction!r}; expected a number between 0 and 1")
        self.path: str = os.fspath(path)
        self.transform: Callable[[Item], Item] | None = transform
        self._values: str = values
        self._opened, self._process = None, 0
        with read_hdf5(path) as file:
            check_file(file)
            found = arrays(file)
            lacking = {"id", "scale", *(["chunk"] if rank == 5 else []), values}.difference(found)
            vectors = [found[name] for name in ("id", "scale", "chunk", "class") if name in found]
            if (
                lacking
                or len(found[values].shape) != rank
                or not is_numeric(found[values])
                or any(one.shape != found[values].shape[:1] or not is_numeric(one) for one in vectors)
            ):
                raise InvalidInputError(
                    f"{path} is no file of prepared objects with {values!r}; it has: {describe(file)}"
                )
            self.item_shape: tuple[int, ...] = tuple(file[values].shape[1:])
            ids = read_whole(file["id"])
            self._columns = {
                name: read_whole(file[name]) for name in ("id", "scale", "chunk", "class") if name in found
            }
            self.class_names: list[str] | None = _attribute(file, "class_names", "null", list | None)
            self.settings: dict[str, Any] = _attribute(file, "settings", "{}", dict)
        self._rows = np.flatnonzero(_in_part(ids, part, train_fraction, seed))
        if not len(self._rows):
            raise InvalidInputError(
                f"{path} has {len(np.unique(ids))} objects, none of them for part={part!r} with "
                f"train_fraction={train_fraction}"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Item:
        row = int(self._rows[index])
        item = self._load(row)
        item["id"] = int(self._columns["id"][row])
        item["scale"] = float(self._columns["scale"][row])
        if "chunk" in self._columns:
            item["chunk"] = int(self._columns["chunk"][row])
        if "class" in self._columns:
            item["class"] = int(self._columns["class"][row])
        return item if self.transform is None else self.transform(item)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None, "_process": 0}

    @property
    def ids(self) -> NDArray:
        """(N,) int64, the object of each item."""
        return self._columns["id"][self._rows]

    @property
    def scales(self) -> NDArray:
        """(N,) float64, in nm: the length of a voxel, or what is distance 1."""
        return self._columns["scale"][self._rows]

    @property
    def classes(self) -> NDArray | None:
        """(N,) int64, -1 where unknown; None if the file has none."""
        return self._columns["class"][self._rows] if "class" in self._columns else None

    def _load(self, row: int) -> Item:
        raise NotImplementedError

    def _read(self, row: int) -> NDArray:
        try:
            return self._file()[self._values][row].astype(np.float32)
        except READ_ERRORS as error:
            raise InvalidInputError(f"{self.path}: row {row} cannot be read; the file is damaged ({error})") from error

    def _file(self) -> Any:
        if self._process != os.getpid():  # file handles of another process must not be used after a fork
            import h5py

            self._opened, self._process = h5py.File(self.path, "r"), os.getpid()
        return self._opened


def _attribute(file: Any, name: str, default: str, kind: Any) -> Any:
    """An attribute with JSON."""
    try:
        value = json.loads(file.attrs.get(name, default))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInputError(f"{file.filename}: the attribute {name!r} is not JSON ({error})") from error
    if not isinstance(value, kind):
        raise InvalidInputError(f"{file.filename}: the attribute {name!r} is {value!r}; expected a {kind}")
    return value


class ObjectDataset(_PreparedObjects):
    """Objects as cubes, from a file of ``prepare_objects``.

    Items are ``{"image": float32 tensor (C, S, S, S), "id": int, "scale": float, "chunk": int}``, and ``"class": int``
    if the file has classes. The file is opened in each worker process.

    Args:
        path: the file.
        part: "all"; or "train" or "val", which never have the same object.
        train_fraction: of the objects; 0.7 as in EManalysis.
        seed: of the split.
        whole_only: only the cubes of whole objects (``chunk`` 0), one per object.
        classes_only: only objects whose class is known.
        transform: of an item, e.g. of MONAI for the key "image"; None for none.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: it is another kind of file, or damaged; no object is left; an argument is out of range.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        part: str = "all",
        train_fraction: float = 0.7,
        seed: int = 0,
        whole_only: bool = False,
        classes_only: bool = False,
        transform: Callable[[Item], Item] | None = None,
    ) -> None:
        super().__init__(path, "volumes", 5, part, train_fraction, seed, transform)
        if whole_only:
            self._rows = self._rows[self._columns["chunk"][self._rows] == 0]
        if classes_only:
            self._rows = _with_class(self._columns.get("class"), self._rows, self.path)

    def _load(self, row: int) -> Item:
        return {"image": torch.from_numpy(self._read(row))}


class PointCloudDataset(_PreparedObjects):
    """Objects as point clouds, from a file of ``prepare_point_clouds``.

    Items are ``{"points": float32 tensor (P, 3), "id": int, "scale": float}``, and ``"class": int`` if the file has
    classes.

    Args:
        path: the file.
        points: a random subset of this many points, another one each time an item is taken, by torch's random numbers;
            None for all, as they are stored.
        part: see :class:`ObjectDataset`, as the others.
        train_fraction: likewise.
        seed: likewise.
        classes_only: likewise.
        transform: likewise, for the key "points".

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: as :class:`ObjectDataset`; more points than there are.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        points: int | None = None,
        part: str = "all",
        train_fraction: float = 0.7,
        seed: int = 0,
        classes_only: bool = False,
        transform: Callable[[Item], Item] | None = None,
    ) -> None:
        super().__init__(path, "points", 3, part, train_fraction, seed, transform)
        there = self.item_shape[0]
        if points is not None and (
            not isinstance(points, Integral) or isinstance(points, bool) or not 1 <= points <= there
        ):
            raise InvalidInputError(f"points={points!r}; expected None or a number from 1 to {there}, those in {path}")
        self.points = points
        if classes_only:
            self._rows = _with_class(self._columns.get("class"), self._rows, self.path)

    def _load(self, row: int) -> Item:
        points = torch.from_numpy(self._read(row))
        if self.points is not None:
            points = points[torch.randperm(len(points))[: self.points]]
        return {"points": points}


def _in_part(ids: NDArray, part: str, train_fraction: float, seed: int) -> NDArray:
    """Which rows belong to a part; all rows of an object do, or none."""
    if part == "all":
        return np.ones(len(ids), bool)
    objects = np.unique(ids)
    chosen = np.random.default_rng(seed).permutation(objects)[: math.ceil(train_fraction * len(objects))]
    training = np.isin(ids, chosen)
    return training if part == "train" else ~training


def _with_class(classes: Sequence[int] | NDArray | None, rows: NDArray, path: str) -> NDArray:
    kept = rows[:0] if classes is None else rows[np.asarray(classes)[rows] != UNKNOWN]
    if not len(kept):
        raise InvalidInputError(
            f"{path} has no object with a class; prepare it with classes, or set classes_only=False"
        )
    return kept
