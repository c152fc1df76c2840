"""Pictures of the bundles that segment volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from gallery_pictures.panels import direction_panel, figure_of, gray_panel, ids_panel, mask_panel
from numpy.typing import NDArray

from voxel_ext.data import decode_vectors

_CELL, _DPI = 3.2, 102  # three panels are about 1000 pixels wide


def optic_lobe(folder: Path) -> bytes:
    """A slice of a validation volume, the true columns, and those found."""
    with h5py.File(folder / "data" / "val" / "val.h5") as file:
        image, label = np.sqrt(np.asarray(file["data"][0], np.float32)), file["labels"][0]
    with h5py.File(folder / "eval" / "val_0000_segmentation.h5") as file:
        found = file["segmentation"][...]
    middle = int((label > 0).sum((1, 2)).argmax())
    row = [
        gray_panel("image", image[middle], axes="yz"),
        ids_panel("true columns", label[middle], image[middle], axes="yz"),
        mask_panel("found (red), truth outlined", found[middle], image[middle], truth=label[middle], axes="yz"),
    ]
    return figure_of([row], _CELL, _DPI)


def neurons(folder: Path) -> bytes:
    """A slice of a validation volume, the true nuclei, and the instances found."""
    with h5py.File(folder / "data" / "val" / "val_000.h5") as file:
        image, truth = file["raw"][...], file["instances"][...]
    with h5py.File(folder / "eval" / "val_000_instances.h5") as file:
        found = file["segmentation"][...]
    middle = int((truth > 0).sum((1, 2)).argmax())
    row = [
        gray_panel(f"image, z = {middle}", image[middle]),
        ids_panel("true nuclei", truth[middle], image[middle]),
        ids_panel("found instances", found[middle], image[middle]),
    ]
    return figure_of([row], _CELL, _DPI)


def surfaces(folder: Path) -> bytes:
    """A slice of a validation volume: image, sheets and normals, true and found."""
    truth, found = next((folder / "data" / "val").glob("*.zarr")), next((folder / "eval").glob("*.zarr"))
    image, sheet = _scalar(truth, "image"), _scalar(truth, "sheet")
    normals, directions = (decode_vectors(_stored(store, "normals")) for store in (truth, found))
    middle = len(image) // 2
    inside = _scalar(found, "sheet")[middle] > 127
    rows = [
        [
            gray_panel(f"image, z = {middle}", image[middle]),
            mask_panel("sheets found, truth outlined", inside, image[middle], truth=sheet[middle]),
        ],
        [
            direction_panel("true normals", normals[:, middle], sheet[middle]),
            direction_panel("normals found", directions[:, middle], inside),
        ],
    ]
    return figure_of([rows[0] + rows[1]], _CELL * 0.76, _DPI)


def _stored(store: Path, name: str) -> NDArray[Any]:
    """An image of a zarr store at full resolution."""
    group: Any = zarr.open_group(str(store), mode="r")
    return np.asarray(group[f"{name}/0"][...])


def _scalar(store: Path, name: str) -> NDArray[Any]:
    """An image of one channel without the axis of channels."""
    array = _stored(store, name)
    return array.reshape(array.shape[-3:])
