"""One prepared animal for labeling cells: an HDF5 file with its image, its ROIs, and the class of each ROI."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.container import READ_ERRORS
from voxel_ext.data.neuron_names import BACKGROUND
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.files import atomic_path
from voxel_ext.hdf5 import read_hdf5, write_hdf5
from voxel_ext.hdf5_checks import check_file, check_stored, read_text, read_whole
from voxel_ext.transforms.label.roi_targets import check_weights

DEFAULT_CHANNELS = ("mTagBFP2", "CyOFP1", "mNeptune2.5", "TagRFP")
"""Channels of a NeuroPAL image."""

_VECTORS = {
    "roi_ids": np.int64,
    "roi_class": np.int64,
    "roi_weight": np.float32,
    "roi_other_weight": np.float32,
    "roi_confidence": np.int64,
}


@dataclass(frozen=True, eq=False, kw_only=True)
class CellHeader:
    """What is known of an animal besides its voxels: N ROIs, K classes, C channels.

    Args:
        shape: (C, D, H, W) of the image.
        roi_ids: (N,) int64, positive, ascending: every id in the ROI volume.
        roi_class: (N,) int64, index into ``class_names``; 0 where the ROI is not labeled.
        roi_weight: (N,) float32, weight in the channel of its own class; 1 where it is not labeled.
        roi_other_weight: (N,) float32, weight in all other channels; 1 where it is not labeled.
        roi_confidence: (N,) int64, 1 to 5 as the annotator said; 0 where it is not labeled.
        class_names: of the K classes, "background" first.
        true_class: (N,) int64, the truth where it is known, else 0; None without any.
        channels: names of the C channels.
        settings: what the file was made with.

    Raises:
        InvalidInputError: lengths, types or ranges that are not these.
    """

    shape: tuple[int, ...]
    roi_ids: NDArray[np.int64]
    roi_class: NDArray[np.int64]
    roi_weight: NDArray[np.float32]
    roi_other_weight: NDArray[np.float32]
    roi_confidence: NDArray[np.int64]
    class_names: tuple[str, ...]
    true_class: NDArray[np.int64] | None = None
    channels: tuple[str, ...] = DEFAULT_CHANNELS
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "channels", tuple(self.channels))
        for name, dtype in _VECTORS.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
        if self.true_class is not None:
            object.__setattr__(self, "true_class", np.asarray(self.true_class, np.int64))
        _check_header(self)

    def __len__(self) -> int:
        return len(self.roi_ids)


@dataclass(frozen=True, eq=False, kw_only=True)
class CellVolume(CellHeader):
    """An animal's image and ROIs; the other fields are those of :class:`CellHeader`, ``shape`` follows from the image.

    Args:
        raw: (C, D, H, W) float32 or uint16.
        roi: (D, H, W) uint16 or int32 ids of the ROIs, 0 for background.

    Raises:
        InvalidInputError: as :class:`CellHeader`; ids in ``roi`` that are not those of ``roi_ids``.
    """

    raw: NDArray[Any]
    roi: NDArray[Any]
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.raw.shape))
        super().__post_init__()
        if self.raw.dtype not in (np.float32, np.uint16):
            raise InvalidInputError(f"raw has dtype {self.raw.dtype}; expected float32 or uint16")
        if self.roi.dtype not in (np.uint16, np.int32) or self.roi.shape != self.shape[1:]:
            raise InvalidInputError(
                f"roi has shape {self.roi.shape} and dtype {self.roi.dtype}; expected {self.shape[1:]} uint16 or int32"
            )
        there = np.unique(self.roi)
        there = there[there != 0]
        if not np.array_equal(there, self.roi_ids):
            differing = np.setxor1d(there, self.roi_ids)
            raise InvalidInputError(
                f"roi has {len(there)} ids and roi_ids {len(self)}; {differing[:10].tolist()} are in one of them only"
            )


def _check_header(header: CellHeader) -> None:
    if len(header.shape) != 4 or min(header.shape) < 1:
        raise InvalidInputError(f"the image has shape {tuple(header.shape)}; expected (C, D, H, W)")
    if len(header.channels) != header.shape[0] or len(set(header.channels)) != len(header.channels):
        raise InvalidInputError(
            f"the image has {header.shape[0]} channels but the names {', '.join(header.channels)}; "
            "expected a different name for each"
        )
    names = header.class_names
    if not names or names[0] != BACKGROUND or len(set(names)) != len(names):
        raise InvalidInputError(f"class_names are {list(names[:3])} …; expected different names, {BACKGROUND!r} first")
    count = len(header.roi_ids)
    if not count:
        raise InvalidInputError("there are no ROIs; expected at least one")
    vectors = {name: getattr(header, name) for name in (*_VECTORS, "true_class")}
    for name, values in vectors.items():
        if values is not None and values.shape != (count,):
            raise InvalidInputError(f"{name} has shape {values.shape}; expected ({count},), an entry per ROI")
    if header.roi_ids[0] < 1 or (np.diff(header.roi_ids) < 1).any():
        raise InvalidInputError(f"roi_ids {header.roi_ids[:10].tolist()} …; expected positive ids in ascending order")
    for name, high in (("roi_class", len(names) - 1), ("true_class", len(names) - 1), ("roi_confidence", 5)):
        values = vectors[name]
        if values is not None and ((values < 0) | (values > high)).any():
            raise InvalidInputError(f"{name} has values from {values.min()} to {values.max()}; expected 0 to {high}")
    check_weights(header.roi_weight, "roi_weight")
    check_weights(header.roi_other_weight, "roi_other_weight")


def write_cell_volume(path: str | os.PathLike[str], volume: CellVolume) -> Path:
    """Write a prepared animal; an existing file is replaced at the end, so no half-written one is ever seen.

    Args:
        path: the file, ``….h5``.
        volume: what to write.

    Returns:
        the file.

    Raises:
        OSError: the file cannot be written.
    """
    import h5py

    with atomic_path(path) as temporary, write_hdf5(temporary) as (file, guard):
        block = (min(16, volume.shape[1]), *volume.shape[2:])
        options: dict[str, Any] = {"shuffle": True, "compression": "lzf"}
        file.create_dataset("raw", data=volume.raw, chunks=(1, *block), **options)
        file.create_dataset("roi", data=volume.roi, chunks=block, **options)
        guard.check()
        for name in _VECTORS:
            file.create_dataset(name, data=getattr(volume, name))
        if volume.true_class is not None:
            file.create_dataset("true_class", data=volume.true_class)
        names = np.array(volume.class_names, dtype=object)
        file.create_dataset("class_names", data=names, dtype=h5py.string_dtype())
        file.attrs["channels"] = json.dumps(volume.channels)
        file.attrs["settings"] = json.dumps(volume.settings, sort_keys=True)
    return Path(path)


def read_cell_header(path: str | os.PathLike[str]) -> CellHeader:
    """Read what a prepared animal's file says besides the voxels.

    Args:
        path: a file that :func:`write_cell_volume` wrote.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: it is damaged, or not a prepared animal; names the file and what is missing or wrong.
    """
    return _read(path, None, False)[0]


def read_cell_volume(path: str | os.PathLike[str]) -> CellVolume:
    """Read a prepared animal.

    Args:
        path: a file that :func:`write_cell_volume` wrote.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: it is damaged, or not a prepared animal; names the file and what is missing or wrong.
    """
    header, raw, roi = _read(path, None)
    try:
        return CellVolume(**vars(header) | {"raw": raw, "roi": roi})
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error


def read_cell_channels(
    path: str | os.PathLike[str], channels: Sequence[str | int] | str | int | None = None
) -> tuple[CellHeader, NDArray[Any], NDArray[Any]]:
    """Read some channels of a prepared animal, and its ROIs.

    Args:
        path: a file that :func:`write_cell_volume` wrote.
        channels: names or numbers (from 0) of the channels, in the order wanted; all if None.

    Returns:
        the header of the whole file, the image (C', D, H, W), and the ROIs (D, H, W), as stored.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: it has no such channel (lists those it has); it is damaged, or not a prepared animal.
    """
    return _read(path, channels)


def channel_indices(
    there: Sequence[str], channels: Sequence[str | int] | str | int | None, source: str = "the image"
) -> list[int]:
    """Return the numbers of the channels that are asked for.

    Args:
        there: names of the channels that there are.
        channels: names or numbers (from 0), in the order wanted; all if None.
        source: of the image, for the message.

    Raises:
        InvalidInputError: there is no such channel, or none is asked for.
    """
    if channels is None:
        return list(range(len(there)))
    wanted = [channels] if isinstance(channels, str | int) else list(channels)
    lacking = [c for c in wanted if c not in there and (isinstance(c, str) or not 0 <= c < len(there))]
    if lacking or not wanted:
        raise InvalidInputError(
            f"{source} has {len(there)} channels ({', '.join(there)}), but the channels {wanted} are wanted: "
            f"{lacking or 'at least one'} cannot be had. Choose others by the option channels, or another variant"
        )
    return [there.index(c) if isinstance(c, str) else int(c) for c in wanted]


def file_identity(path: str | os.PathLike[str]) -> tuple[int, int]:
    """What is equal for two paths of the same file, also by symbolic or hard links: its device and its number there."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def list_cell_volumes(folder: str | os.PathLike[str]) -> list[Path]:
    """List the prepared animals (``.h5``) in a folder (not in its subfolders), sorted, or the one file.

    Raises:
        MissingDataError: the folder does not exist, or has no such files.
    """
    root = Path(folder)
    files = [root] if root.is_file() else sorted(path for path in root.glob("*.h5") if not path.name.startswith("."))
    if not files:
        state = "has no prepared animals (files .h5)" if root.exists() else "does not exist"
        raise MissingDataError(f"{str(root)!r} {state} (current folder: {os.getcwd()})")
    return files


def _read(path: str | os.PathLike[str], channels: Any, volumes: bool = True) -> tuple[CellHeader, Any, Any]:
    with read_hdf5(path) as file:
        try:
            check_file(file)
            header = _header(file)
            if not volumes:
                return header, None, None
            chosen = channel_indices(header.channels, channels, str(path))
            for name in ("raw", "roi"):
                check_stored(file[name])
            raw = np.empty((len(chosen), *header.shape[1:]), file["raw"].dtype)
            for row, index in enumerate(chosen):
                file["raw"].read_direct(raw, np.s_[index], np.s_[row])
            return header, raw, file["roi"][:]
        except InvalidInputError as error:
            known = str(error).startswith(str(path))
            raise (error if known else InvalidInputError(f"{path} is no prepared animal: {error}")) from error
        except READ_ERRORS as error:
            if isinstance(error, PermissionError):
                raise
            raise InvalidInputError(f"{path} cannot be read: the file is damaged ({error})") from error


def _header(file: Any) -> CellHeader:
    import h5py

    wanted = {"raw": 4, "roi": 3, **dict.fromkeys(_VECTORS, 1), "class_names": 1}
    lacking = [name for name in wanted if not isinstance(file.get(name), h5py.Dataset)]
    lacking += [f"attribute {name}" for name in ("channels", "settings") if name not in file.attrs]
    if lacking:
        raise InvalidInputError(f"it has no {', '.join(lacking)}")
    for name, rank in wanted.items():
        if file[name].ndim != rank:
            raise InvalidInputError(f"{name} has shape {file[name].shape}; expected {rank} axes")
    if file["roi"].shape != file["raw"].shape[1:]:
        raise InvalidInputError(f"raw has shape {file['raw'].shape}, but roi {file['roi'].shape}")
    return CellHeader(
        shape=file["raw"].shape,
        **{name: read_whole(file[name]) for name in _VECTORS},
        class_names=read_text(file["class_names"]),
        true_class=read_whole(file["true_class"]) if "true_class" in file else None,
        channels=tuple(json.loads(file.attrs["channels"])),
        settings=json.loads(file.attrs["settings"]),
    )
