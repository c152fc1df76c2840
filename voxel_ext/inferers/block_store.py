"""The zarr store of a block-wise result: one OME-Zarr image, or one for each target."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxel_ext.data.zarr_io import multiscale_attributes
from voxel_ext.errors import InvalidInputError
from voxel_ext.inferers.block_output import SINGLE, BlockOutput

SETTINGS_ATTRIBUTE = "settings"
"""Attribute of the store with all settings of the run, as JSON."""

LEVEL = "0"


def create_store(
    path: Path,
    outputs: Sequence[BlockOutput],
    single: bool,
    size: Sequence[int],
    chunks: Sequence[int],
    voxel_size: Sequence[float] | None,
    settings: Mapping[str, Any],
) -> None:
    """Make the metadata of an empty result.

    Args:
        path: its folder.
        outputs: what is stored.
        single: one image, not one for each target in a group of its name.
        size: (D, H, W).
        chunks: (d, h, w).
        voxel_size: (z, y, x) in micrometers; None: not known, the image then has a scale of 1 and no unit.
        settings: of the run.
    """
    import zarr

    root = zarr.open_group(str(path), mode="w")
    root.attrs[SETTINGS_ATTRIBUTE] = json.dumps(settings, sort_keys=True)
    for output in outputs:
        group = root if single else root.create_group(output.name)
        channel = output.stored_channels > 1
        shape = (output.stored_channels, *size) if channel else tuple(size)
        group.create_array(
            LEVEL,
            shape=shape,
            dtype=output.stored_dtype,
            chunks=(1, *chunks) if channel else tuple(chunks),
            fill_value=0,
            dimension_names=list("czyx"[-len(shape) :]),
        )
        attributes = multiscale_attributes(LEVEL, voxel_size or (1.0, 1.0, 1.0), channel)
        if voxel_size is None:
            for axis in attributes["ome"]["multiscales"][0]["axes"]:
                axis.pop("unit", None)
        group.attrs.update(attributes)


class BlockStore:
    """Writes whole slabs of a result that :func:`create_store` made.

    Args:
        path: its folder.
        outputs: what is stored.
        single: as for :func:`create_store`.
    """

    def __init__(self, path: Path, outputs: Sequence[BlockOutput], single: bool) -> None:
        import zarr

        root: Any = zarr.open_group(str(path), mode="r+")
        self._arrays = {one.name: root[LEVEL if single else f"{one.name}/{LEVEL}"] for one in outputs}

    def write(self, slabs: Mapping[str, np.ndarray], box: tuple[slice, slice, slice]) -> None:
        """Write a block.

        Args:
            slabs: by target, (C, d, h, w).
            box: where, aligned with the chunks.

        Raises:
            OSError: the disk is full.
        """
        for name, values in slabs.items():
            array = self._arrays[name]
            if array.ndim == 4:
                array[(slice(None), *box)] = values
            else:
                array[box] = values[0]


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings of a finished result.

    Raises:
        InvalidInputError: there is something else; says how to go on.
    """
    import zarr

    remedy = "choose another store, remove it, or give overwrite=True"
    if not path.is_dir():
        raise InvalidInputError(f"{path} exists and is no folder; {remedy}")
    try:
        text = dict(zarr.open_group(str(path), mode="r").attrs)[SETTINGS_ATTRIBUTE]
        return dict(json.loads(str(text)))
    except PermissionError:
        raise
    except Exception as error:  # zarr checks metadata as it uses them, and raises what comes of it
        raise InvalidInputError(
            f"{path} exists and is no result of block-wise inference ({error}); {remedy}"
        ) from error


def remove_strays(path: Path) -> None:
    """Remove what killed writes left: temporary files of zarr."""
    for stray in path.rglob("*.partial"):
        stray.unlink(missing_ok=True)


def is_single(names: Sequence[str] | Mapping[str, Any]) -> bool:
    """Whether outputs are those of a network that gives one tensor."""
    return list(names) == [SINGLE]
