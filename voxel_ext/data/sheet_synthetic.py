"""Artificial training data of surfaces: CT scans of sheets with masks and normals, as OME-Zarr."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from voxel_ext.data.jobs import do_missing
from voxel_ext.data.preparation_plan import SEEDS_PER_SET
from voxel_ext.data.prepared_file import prepared_difference
from voxel_ext.data.prepared_folder import check_foreign, write_marker
from voxel_ext.data.vector_codes import VECTOR_DTYPES, encode_vectors
from voxel_ext.data.zarr_io import multiscale_attributes
from voxel_ext.errors import InvalidInputError, check_counts, check_option
from voxel_ext.files import atomic_path, explain_write_errors, locked_folder
from voxel_ext.synthetic.sheets import Sheets

IMAGE_DTYPES = ("uint8", "uint16", "float32")
"""Data types that images are written in."""

VOXEL_SIZE = 7.91
"""Micrometers, of the published scans of the Herculaneum scrolls (https://scrollprize.org/data)."""

SMALLEST_BLOCK = 128  # edge in voxels of what is made at once, rounded up to chunks
_LEVEL = "0"


def encode_image(image: NDArray, dtype: str = "uint8") -> NDArray:
    """Turn intensities into what is stored: as integers, [0, 1] is clipped and mapped linearly onto the full range.

    Args:
        image: floats.
        dtype: one of `IMAGE_DTYPES`; float32 is stored as it is, not clipped.

    Raises:
        InvalidInputError: another data type.
    """
    check_option("image_dtype", dtype, IMAGE_DTYPES)
    if dtype == "float32":
        return image.astype(np.float32)
    return np.rint(np.clip(image, 0, 1) * float(np.iinfo(dtype).max)).astype(dtype)


def write_sheets(
    path: str | os.PathLike[str],
    generator: Sheets,
    chunks: int | Sequence[int] = 64,
    image_dtype: str = "uint8",
    normals_dtype: str = "uint16",
    voxel_size: float | Sequence[float] = VOXEL_SIZE,
    progress: bool = False,
) -> Path:
    """Write an artificial volume block by block, so that it may be larger than memory.

    The store holds the OME-Zarr 0.5 images ``image`` (D, H, W), ``sheet`` (D, H, W) uint8 and ``normals``
    (3, D, H, W), components (z, y, x), each of one level ``0``; see ``encode_image`` and ``encode_vectors`` for the
    values. The attribute ``settings`` tells how they were made. It takes its place when it is complete.

    Args:
        path: the store to write, ``*.zarr``; one that is there is replaced.
        generator: of the volume.
        chunks: edge of a chunk, or (D, H, W), in voxels.
        image_dtype: one of `IMAGE_DTYPES`.
        normals_dtype: "uint8", "uint16", "float16" or "float32".
        voxel_size: in micrometers, one or (z, y, x).
        progress: show a bar.

    Returns:
        the store's path.

    Raises:
        InvalidInputError: a data type is not known, or chunks or voxel size are not positive.
        OSError: the folder is not writable, or the disk is full.
    """
    import zarr

    record = sheet_record(generator, chunks, image_dtype, normals_dtype, voxel_size)
    edges, size = tuple(record["chunks"]), generator.volume_size
    layout = {"image": ((), image_dtype), "sheet": ((), "uint8"), "normals": ((3,), normals_dtype)}
    with atomic_path(path, directory=True) as temporary:
        root = zarr.open_group(str(temporary), mode="w", attributes={"settings": json.dumps(record)})
        arrays = {}
        for name, (channels, dtype) in layout.items():
            attributes = multiscale_attributes(_LEVEL, record["voxel_size"], bool(channels))
            group = root.create_group(name, attributes=attributes)
            stored = tuple(min(edge, length) for edge, length in zip(edges, size, strict=True))
            shape, pieces = (*channels, *size), (*channels, *stored)
            arrays[name] = group.create_array(_LEVEL, shape=shape, dtype=dtype, chunks=pieces)
        for box in tqdm(_blocks(size, edges), desc=Path(path).name, unit="block", disable=not progress):
            block = generator.block(box)
            arrays["image"][box] = encode_image(block["image"], image_dtype)
            arrays["sheet"][box] = block["sheet"]
            arrays["normals"][(slice(None), *box)] = encode_vectors(block["normals"], normals_dtype)
    return Path(path)


def sheet_record(
    generator: Sheets,
    chunks: int | Sequence[int],
    image_dtype: str,
    normals_dtype: str,
    voxel_size: float | Sequence[float],
) -> dict[str, Any]:
    """Return what a volume depends on; see :func:`write_sheets` for the arguments and errors."""
    check_option("image_dtype", image_dtype, IMAGE_DTYPES)
    check_option("normals_dtype", normals_dtype, VECTOR_DTYPES)
    edges, lengths = _three(chunks), _three(voxel_size)
    if not edges or not all(isinstance(edge, Integral) for edge in edges):
        raise InvalidInputError(f"chunks={chunks!r}; expected a positive integer, or three (D, H, W)")
    if not lengths:
        raise InvalidInputError(f"voxel_size={voxel_size!r}; expected a positive number, or three (z, y, x)")
    return {
        "generator": {"name": "Sheets", **generator.settings()},
        "chunks": [int(edge) for edge in edges],
        "image_dtype": image_dtype,
        "normals_dtype": normals_dtype,
        "voxel_size": [float(length) for length in lengths],
    }


def _three(value: Any) -> list[Any]:
    """One positive number or three, as three; none if it is anything else."""
    values = [value] * 3 if isinstance(value, Real) else value
    valid = isinstance(values, Sequence) and not isinstance(values, str) and len(values) == 3
    valid = valid and all(isinstance(v, Real) and not isinstance(v, bool) and 0 < float(v) < np.inf for v in values)
    return list(values) if valid else []


def _blocks(size: Sequence[int], chunks: Sequence[int]) -> list[tuple[slice, ...]]:
    """Boxes of whole chunks that fill a volume."""
    edges = [edge * -(-SMALLEST_BLOCK // edge) for edge in chunks]
    parts = [
        [slice(start, min(start + edge, length)) for start in range(0, length, edge)]
        for edge, length in zip(edges, size, strict=True)
    ]
    return list(itertools.product(*parts))


@dataclass(frozen=True)
class SyntheticSheets:
    """An artificial volume to be made; a job of ``do_jobs``.

    Args:
        path: the store to write.
        options: arguments of ``Sheets``, with the seed.
        storage: arguments of :func:`write_sheets`.
    """

    path: Path
    options: Mapping[str, Any]
    storage: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The volume's, with its part of the data set."""
        return f"{self.path.parent.name}/{self.path.stem}"

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the store depends on."""
        return sheet_record(Sheets(**self.options), **self.storage)

    def is_complete(self) -> bool:
        """Whether the store is there."""
        return self.path.exists()

    def make(self) -> None:
        """Make the volume and write the store.

        Raises:
            InvalidInputError: an option is out of range.
        """
        write_sheets(self.path, Sheets(**self.options), **self.storage)


def prepare_synthetic_sheets(
    output_dir: str | os.PathLike[str],
    volumes: int = 6,
    validation_volumes: int = 2,
    size: int | Sequence[int] = (96, 96, 96),
    generator_options: Mapping[str, Any] | None = None,
    normals_dtype: str = "uint16",
    image_dtype: str = "uint8",
    voxel_size: float | Sequence[float] = VOXEL_SIZE,
    chunks: int | Sequence[int] = 64,
    seed: int = 0,
    num_workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write ``train/sheets_000.zarr`` … and ``val/sheets_000.zarr`` …; see :func:`write_sheets` for what is in them.

    The result depends on the settings alone. A run that is repeated makes only what is not yet there; with more volumes
    asked for it adds to those there. Last, ``dataset.json`` tells that all is complete.

    Args:
        output_dir: the folder.
        volumes: number of volumes for training.
        validation_volumes: number of volumes for validation, none of them among those for training.
        size: (D, H, W) of the volumes in voxels, or one number.
        generator_options: further arguments of ``voxel_ext.synthetic.Sheets``, e.g. ``{"kind": "waves"}``.
        normals_dtype: "uint8", "uint16", "float16" or "float32".
        image_dtype: "uint8" or "uint16" for intensities [0, 1] on the full range, or "float32".
        voxel_size: in micrometers, one or (z, y, x).
        chunks: edge of a chunk, or (D, H, W), in voxels.
        seed: each has its own volumes, none shared with another's.
        num_workers: processes; 0 for this one. They are spawned, so a script needs ``if __name__ == "__main__":``.
        overwrite: replace volumes that were made with other settings.
        progress: show a bar.

    Returns:
        the folder.

    Raises:
        InvalidInputError: an option is not known or out of range; a volume was made with other settings; volumes that
            do not belong to the set.
        VoxelExtError: a worker process ended unexpectedly.
        OSError: the folder is not writable, or the disk is full; what was finished is kept.
    """
    counts = {"train": volumes, "val": validation_volumes}
    check_counts({"volumes": 1}, volumes=volumes, validation_volumes=validation_volumes, seed=seed,
                 num_workers=num_workers)  # fmt: skip
    if max(counts.values()) > SEEDS_PER_SET // 2:
        raise InvalidInputError(
            f"volumes={volumes}, validation_volumes={validation_volumes}; expected at most {SEEDS_PER_SET // 2}"
        )
    options = {**_known(generator_options or {}), "size": size}
    storage = {"chunks": chunks, "image_dtype": image_dtype, "normals_dtype": normals_dtype, "voxel_size": voxel_size}
    starts = {"train": int(seed) * SEEDS_PER_SET, "val": int(seed) * SEEDS_PER_SET + SEEDS_PER_SET // 2}
    root = Path(output_dir)
    jobs = [
        SyntheticSheets(root / part / f"sheets_{i:03d}.zarr", {**options, "seed": starts[part] + i}, storage)
        for part, count in counts.items()
        for i in range(count)
    ]
    _ = jobs[0].record  # refuses options before anything is written
    with locked_folder(root, ".prepare.lock"), explain_write_errors(root):
        planned = [job.path for job in jobs]
        check_foreign(root, planned, "volumes", (".zarr",))
        do_missing(root, jobs, prepared_difference, "volume", "synthetic sheets", num_workers, overwrite, progress)
        write_marker(root, planned)
    return root


def _known(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the generator that are not arguments here."""
    known = [f.name for f in fields(Sheets) if f.init and f.name not in ("seed", "size")]
    strange = sorted(set(options) - set(known))
    if strange:
        raise InvalidInputError(f"generator_options has {strange}; expected some of {', '.join(known)}.")
    return dict(options)
