"""One prepared worm on disk: an HDF5 file with a cube of voxels per cell, in the order of the cells' identities."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.moments import Moments
from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.files import atomic_path
from voxel_ext.hdf5 import read_hdf5, write_hdf5
from voxel_ext.hdf5_checks import check_file, read_text, read_whole

CHANNELS = {"raw": 1, "raw+mask+soft": 3, "soft": 1}
"""What a cube may hold, and in how many channels."""

_DATASETS = {"cubes": 5, "valid": 1, "positions": 2, "names": 1}
_ATTRIBUTES = ("worm", "volume_shape", "channels", "settings")


@dataclass(frozen=True, eq=False)
class WormHeader:
    """What is known of a worm's N cells besides their voxels; slot i is the cell with ``Aligned_No`` i + 1.

    Args:
        worm: its name.
        valid: (N,) bool, False where the cell is missing.
        positions: (N, 3) float32 (z, y, x) in voxels, NaN where the position is not known.
        names: of the N cells, "" where not known.
        volume_shape: (Z, Y, X) of the volume that the cubes were cut from.
        channels: one of :data:`CHANNELS`.
        size: S, the cubes' side in voxels.
        settings: what the file was made with.
        rules: how each cell was found, or why it is missing; "" where nothing is recorded.

    Raises:
        InvalidInputError: lengths that differ, or unknown ``channels``.
    """

    worm: str
    valid: NDArray[np.bool_]
    positions: NDArray[np.float32]
    names: tuple[str, ...]
    volume_shape: tuple[int, ...]
    channels: str
    size: int
    settings: dict[str, Any] = field(default_factory=dict)
    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_option("channels", self.channels, CHANNELS)
        object.__setattr__(self, "rules", tuple(self.rules) or ("",) * len(self.valid))
        count = len(self.valid)
        found = (self.valid.shape, self.positions.shape, len(self.names), len(self.rules))
        if found != ((count,), (count, 3), count, count):
            raise InvalidInputError(
                f"worm {self.worm}: valid, positions, names, rules have the sizes {found}; "
                f"expected {((count,), (count, 3), count, count)}"
            )

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(N, C, S, S, S) of the worm's cubes."""
        return (len(self.valid), CHANNELS[self.channels], self.size, self.size, self.size)

    def __len__(self) -> int:
        return len(self.valid)


@dataclass(frozen=True, eq=False)
class WormCubes(WormHeader):
    """A worm's cells with their voxels.

    Args:
        cubes: (N, C, S, S, S) float32, axes (z, y, x), zero where the cell is missing. The other fields are those of
            :class:`WormHeader`.

    Raises:
        InvalidInputError: ``cubes`` has another shape or dtype.
    """

    cubes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 1, 0, 0, 0), np.float32))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cubes.shape != self.shape or self.cubes.dtype != np.float32:
            raise InvalidInputError(
                f"worm {self.worm}: cubes have shape {self.cubes.shape} and dtype {self.cubes.dtype}; "
                f"expected {self.shape} float32"
            )


def write_worm(
    path: str | os.PathLike[str],
    worm: WormHeader,
    cubes: Iterable[tuple[int, NDArray[np.float32]]] | None = None,
) -> Path:
    """Write a prepared worm; an existing file is replaced at the end, so no half-written one is ever seen.

    Args:
        path: the file, ``….h5``.
        worm: a :class:`WormCubes`, or a header with ``cubes`` given apart.
        cubes: slots and their cubes (C, S, S, S), taken one after the other so that they need not be in memory
            together. Slots that do not come stay zero.

    Returns:
        the file.

    Raises:
        InvalidInputError: a cube of another shape, or neither kind of cubes is given.
        OSError: the file cannot be written.
    """
    if cubes is None:
        if not isinstance(worm, WormCubes):
            raise InvalidInputError(f"worm {worm.worm}: a header alone cannot be written; give cubes, too")
        cubes = ((int(slot), worm.cubes[slot]) for slot in np.flatnonzero(worm.valid))
    with atomic_path(path) as temporary, write_hdf5(temporary) as (file, guard):
        _write_header(file, worm)
        store = file.create_dataset(
            "cubes", worm.shape, np.float32, chunks=(1, *worm.shape[1:]), shuffle=True, compression="lzf"
        )
        moments = [Moments()] * worm.shape[1]
        for slot, cube in cubes:
            if cube.shape != worm.shape[1:]:
                raise InvalidInputError(f"worm {worm.worm}: a cube of shape {cube.shape}, expected {worm.shape[1:]}")
            store[slot] = cube
            guard.check()
            moments = [before + Moments.of(channel) for before, channel in zip(moments, cube, strict=True)]
        file.attrs["statistics"] = json.dumps([channel.as_dict() for channel in moments])
    return Path(path)


def _write_header(file: Any, worm: WormHeader) -> None:
    import h5py

    text = h5py.string_dtype()
    file.create_dataset("valid", data=np.asarray(worm.valid, bool))
    file.create_dataset("positions", data=np.asarray(worm.positions, np.float32))
    file.create_dataset("names", data=np.array(worm.names, dtype=object), dtype=text)
    file.create_dataset("rules", data=np.array(worm.rules, dtype=object), dtype=text)
    file.attrs["worm"] = worm.worm
    file.attrs["volume_shape"] = np.asarray(worm.volume_shape, np.int64)
    file.attrs["channels"] = worm.channels
    file.attrs["settings"] = json.dumps(worm.settings, sort_keys=True)


def read_worm_header(path: str | os.PathLike[str]) -> WormHeader:
    """Read what a prepared worm's file says besides the voxels.

    Args:
        path: a file that :func:`write_worm` wrote.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: it is damaged, or not a prepared worm; says what is missing or wrong.
    """
    with read_hdf5(path) as file:
        return _guarded(path, lambda: _header(path, file))


def read_worm_moments(path: str | os.PathLike[str]) -> list[Moments]:
    """Read the moments of a prepared worm's valid cubes, one per channel, as recorded when it was written.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: it is damaged, or has no such record.
    """
    with read_hdf5(path) as file:
        check_file(file)
        return _guarded(path, lambda: [Moments(**channel) for channel in json.loads(file.attrs["statistics"])])


def read_worm(path: str | os.PathLike[str], slots: Sequence[int] | None = None, missing_too: bool = False) -> WormCubes:
    """Read a prepared worm, or some of its cells.

    Args:
        path: a file that :func:`write_worm` wrote.
        slots: the cells to read, in this order (repeats allowed); all if None.
        missing_too: read the voxels of missing cells as well, which should be zero, for a check.

    Returns:
        the cells asked for: all fields have ``len(slots)`` entries.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: it is damaged, or not a prepared worm; a slot outside.
    """
    with read_hdf5(path) as file:
        header = _guarded(path, lambda: _header(path, file))
        chosen = range(len(header)) if slots is None else [int(slot) for slot in slots]
        wrong = [slot for slot in chosen if not 0 <= slot < len(header)]
        if wrong:
            raise InvalidInputError(f"{path} has {len(header)} cells, slots 0 to {len(header) - 1}; asked for {wrong}")
        cubes = _guarded(path, lambda: _cubes(file["cubes"], header, chosen, missing_too))
    rows = np.asarray(chosen, dtype=np.int64)
    return WormCubes(
        header.worm,
        header.valid[rows],
        header.positions[rows],
        tuple(header.names[i] for i in rows),
        header.volume_shape,
        header.channels,
        header.size,
        header.settings,
        tuple(header.rules[i] for i in rows),
        cubes,
    )


def _guarded(path: str | os.PathLike[str], read: Any) -> Any:
    """The result of ``read()``, whose errors about the content become errors about the file."""
    try:
        return read()
    except InvalidInputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, PermissionError):
            raise
        raise InvalidInputError(f"{path} cannot be read: the file is damaged ({error})") from error


def _cubes(store: Any, header: WormHeader, slots: Sequence[int], missing_too: bool) -> NDArray[np.float32]:
    result = np.zeros((len(slots), *header.shape[1:]), np.float32)
    for row, slot in enumerate(slots):
        if missing_too or header.valid[slot]:
            store.read_direct(result, np.s_[slot], np.s_[row])
    return result


def _header(path: str | os.PathLike[str], file: Any) -> WormHeader:
    import h5py

    check_file(file)
    lacking = [name for name in _DATASETS if not isinstance(file.get(name), h5py.Dataset)]
    lacking += [f"attribute {name}" for name in _ATTRIBUTES if name not in file.attrs]
    if lacking:
        raise InvalidInputError(f"{path} is not a prepared worm: it has no {', '.join(lacking)}")
    for name, rank in _DATASETS.items():
        if file[name].ndim != rank:
            raise InvalidInputError(f"{path}/{name} has shape {file[name].shape}; expected {rank} axes")
    channels = str(file.attrs["channels"])
    if channels not in CHANNELS:
        raise InvalidInputError(f"{path}: channels {channels!r}; expected one of {', '.join(CHANNELS)}")
    count, size = file["cubes"].shape[0], file["cubes"].shape[-1]
    expected = {
        "cubes": ((count, CHANNELS[channels], size, size, size), "f4"),
        "valid": ((count,), "b1"),
        "positions": ((count, 3), "f4"),
        "names": ((count,), "O"),
    }
    for name, (shape, dtype) in expected.items():
        if file[name].shape != shape or file[name].dtype != np.dtype(dtype):
            raise InvalidInputError(
                f"{path}/{name} has shape {file[name].shape} and dtype {file[name].dtype}; "
                f"expected {shape} {np.dtype(dtype) if dtype != 'O' else 'text'}"
            )
    rules = read_text(file["rules"]) if isinstance(file.get("rules"), h5py.Dataset) else ()
    return WormHeader(
        str(file.attrs["worm"]),
        read_whole(file["valid"]),
        read_whole(file["positions"]),
        read_text(file["names"]),
        tuple(int(side) for side in file.attrs["volume_shape"]),
        channels,
        size,
        json.loads(file.attrs["settings"]),
        rules,
    )
