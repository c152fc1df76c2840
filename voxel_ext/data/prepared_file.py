"""Prepared HDF5 files and zarr stores: writing them, and telling whether one was made with the same settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from voxel_ext.data.container import VOXEL_SIZE_ATTRIBUTE
from voxel_ext.data.jobs import Job
from voxel_ext.data.prepared_folder import describe_difference
from voxel_ext.data.zarr_io import read_zarr
from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path
from voxel_ext.hdf5 import read_hdf5, write_hdf5
from voxel_ext.hdf5_checks import check_file


def write_prepared(
    path: Path, datasets: Mapping[str, NDArray], record: dict[str, Any], size: Sequence[float] | None = None
) -> None:
    """Write a prepared file, or a zarr store where the name ends with ``.zarr``, replacing what is there.

    Args:
        path: the file.
        datasets: (D, H, W) arrays by name.
        record: what the file depends on; stored as JSON in the attribute ``settings``.
        size: voxel size (z, y, x) in micrometers, or None.

    Raises:
        OSError: it cannot be written.
    """
    chunks = {name: tuple(min(length, 32) for length in array.shape) for name, array in datasets.items()}
    if path.suffix == ".zarr":
        import zarr

        with atomic_path(path, directory=True) as temporary:
            group = zarr.open_group(str(temporary), mode="w", attributes={"settings": json.dumps(record)})
            for name, array in datasets.items():
                stored = group.create_array(name, data=array, chunks=chunks[name])
                if size is not None:
                    stored.attrs[VOXEL_SIZE_ATTRIBUTE] = [float(one) for one in size]
        return
    with atomic_path(path) as temporary, write_hdf5(temporary) as (file, _):
        file.attrs["settings"] = json.dumps(record)
        for name, array in datasets.items():
            dataset = file.create_dataset(name, data=array, chunks=chunks[name], compression="gzip", compression_opts=1)
            if size is not None:
                dataset.attrs[VOXEL_SIZE_ATTRIBUTE] = size


def read_record(path: Path) -> Any:
    """Return what a prepared file tells that it depends on.

    Args:
        path: the file.

    Raises:
        MissingDataError: it does not exist.
        InvalidInputError: it does not tell, or is damaged.
    """
    with read_zarr(path) if path.suffix == ".zarr" else read_hdf5(path) as file:
        if path.suffix != ".zarr":
            check_file(file)
        try:
            return json.loads(file.attrs["settings"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise InvalidInputError(f"{path} has no attribute 'settings' that is JSON ({error})") from error


def prepared_difference(job: Job) -> str:
    """Say in what a file that is there was made otherwise than the job makes it; "" if in nothing.

    Args:
        job: makes a file by :func:`write_prepared`.
    """
    try:
        there = read_record(job.path)
    except InvalidInputError as error:
        return f"{job.path} was not made by prepare, or is damaged ({error})"
    return describe_difference(job.path, there, job.record)
