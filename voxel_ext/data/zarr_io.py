"""Opening zarr stores, and the multiscale metadata of OME-Zarr (https://ngff.openmicroscopy.org/0.5/)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.hdf5 import explain_damage

LEVEL = "0"
"""The array of images that have one resolution."""

# micrometers per unit, by the names that OME-Zarr takes from UDUNITS-2
_MICROMETERS = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}


@contextlib.contextmanager
def read_zarr(file: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a zarr store (format 2 or 3) for reading.

    Args:
        file: its folder.

    Yields:
        a ``zarr.Group``, or a ``zarr.Array`` where the store is a single array.

    Raises:
        MissingDataError: it does not exist.
        InvalidInputError: it is a file, or has no valid zarr metadata; or what is read of it in the block is damaged
            or not there.
    """
    import zarr

    if not os.path.exists(file):
        raise MissingDataError(f"{file} does not exist (current folder: {os.getcwd()})")
    if not os.path.isdir(file):
        raise InvalidInputError(f"{file} is a file; expected a zarr store, which is a folder")
    try:
        root = zarr.open(str(file), mode="r")
    except PermissionError:
        raise
    except Exception as error:  # zarr checks metadata as it uses them, and raises what comes of it
        raise InvalidInputError(f"{file} is not a zarr store, or its metadata are damaged ({error!r})") from error
    with explain_damage(file, "zarr"):
        yield root


def multiscale(group: Any) -> Mapping[str, Any] | None:
    """Return the first multiscale image that a zarr group describes (OME-Zarr 0.4 or 0.5), or None."""
    attributes = dict(group.attrs)
    images = attributes.get("ome", attributes).get("multiscales")
    return images[0] if images else None


def multiscale_voxel_size(image: Mapping[str, Any], path: str) -> list[float] | None:
    """Voxel size of one resolution level.

    Args:
        image: what ``multiscale`` returned.
        path: the level's array, relative to the group.

    Returns:
        one number per axis of the array, in micrometers where the axis has a unit of length; None if the image does not
        list that array or gives no scale for it.
    """
    levels = [level for level in image.get("datasets", []) if level.get("path") == path]
    if not levels:
        return None
    scale: list[float] | None = None
    for holder in (levels[0], image):
        for transformation in holder.get("coordinateTransformations", []):
            if transformation.get("type") == "scale" and "scale" in transformation:
                factors = transformation["scale"]
                scale = [a * b for a, b in zip(scale or [1.0] * len(factors), factors, strict=True)]
    if scale is None:
        return None
    axes = image.get("axes", [])
    units = [axis.get("unit", "") if isinstance(axis, Mapping) else "" for axis in axes] or [""] * len(scale)
    return [factor * _MICROMETERS.get(unit, 1.0) for factor, unit in zip(scale, units, strict=True)]


def multiscale_attributes(path: str, voxel_size: Sequence[float], channel: bool) -> dict[str, Any]:
    """Group attributes that make one array an OME-Zarr 0.5 image.

    Args:
        path: the array, relative to the group.
        voxel_size: of the spatial axes, in micrometers.
        channel: whether the array has a channel axis before them.
    """
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}] if channel else []
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"[-len(voxel_size) :]]
    scale = [1.0] * channel + [float(size) for size in voxel_size]
    level = {"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    return {"ome": {"version": "0.5", "multiscales": [{"name": path, "axes": axes, "datasets": [level]}]}}


def create_image(
    store: str | os.PathLike[str],
    shape: Sequence[int],
    dtype: Any,
    chunks: Sequence[int],
    voxel_size: Sequence[float] | None,
    attributes: Mapping[str, Any] | None = None,
) -> Any:
    """Make an OME-Zarr 0.5 image (Z, Y, X) of one level, :data:`LEVEL`, all 0.

    Args:
        store: its folder; what is there is replaced.
        shape: (Z, Y, X).
        dtype: of the values.
        chunks: (z, y, x); cut to the shape.
        voxel_size: (z, y, x) in micrometers; None for (1, 1, 1) without a unit.
        attributes: more attributes of the group.

    Returns:
        the ``zarr.Array``, open for writing.
    """
    import zarr

    described = multiscale_attributes(LEVEL, voxel_size or (1.0, 1.0, 1.0), False)
    if voxel_size is None:
        for axis in described["ome"]["multiscales"][0]["axes"]:
            del axis["unit"]
    root = zarr.open_group(str(store), mode="w", zarr_format=3, attributes={**described, **(attributes or {})})
    return root.create_array(
        LEVEL,
        shape=tuple(shape),
        dtype=dtype,
        chunks=tuple(min(edge, length) for edge, length in zip(chunks, shape, strict=True)),
        dimension_names=["z", "y", "x"],
    )
