"""From an image with a mask or meshes to a prepared store with the sheet and its normals, block by block."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from voxel_ext.data.lazy_volume import LazyVolume, open_volume
from voxel_ext.data.surface_settings import Size, SurfaceSettings
from voxel_ext.data.surface_sources import SurfaceInput, read_mesh, three_numbers
from voxel_ext.data.vector_codes import encode_vectors
from voxel_ext.data.zarr_io import multiscale_attributes
from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path
from voxel_ext.transforms.surface.normals_from_mask import mask_normals_halo, normals_from_mask
from voxel_ext.transforms.surface.normals_from_mesh import SurfaceMesh
from voxel_ext.transforms.surface.orientation import orient_normals

logger = logging.getLogger(__name__)

BLOCK = 128
"""Least edge of a block in voxels; a multiple of the chunk."""

Box = tuple[slice, slice, slice]


def write_surface_volume(
    volume: SurfaceInput, path: Path, settings: SurfaceSettings, record: dict[str, Any], progress: bool = False
) -> None:
    """Write the store ``path`` with ``image``, ``sheet`` and ``normals``, replacing what is there.

    The memory needed does not depend on the size of the volume, but for meshes, which are loaded.

    Args:
        volume: where the image and its surfaces are.
        path: the zarr store.
        settings: how.
        record: what the store depends on, for its attribute ``settings``.
        progress: show a bar of blocks.

    Raises:
        MissingDataError: a file does not exist.
        InvalidInputError: a file is damaged, the mask has another shape than the image, there is no surface in the
            volume, or the crop lies outside of it.
        OSError: it cannot be written.
    """
    import zarr

    image = open_volume(volume.image)
    box = _crop_box(image, settings)
    size = _voxel_size(image, settings)
    maker: Callable[[Box], tuple[NDArray[np.float32], NDArray[np.uint8]]]
    if settings.source == "mask":
        maker = _MaskBlocks(volume, image, settings, size)
    else:
        maker = _MeshBlocks(volume, image, settings, size, box)
    shape = tuple(part.stop - part.start for part in box)
    with atomic_path(path, directory=True) as temporary:
        root = zarr.open_group(str(temporary), mode="w", zarr_format=3, attributes={"settings": json.dumps(record)})
        channels = image.shape[:1] if image.shape[0] > 1 else ()
        stored = {
            "image": _create(root, "image", (*channels, *shape), image.dtype, settings.chunks, size),
            "sheet": _create(root, "sheet", shape, np.dtype(np.uint8), settings.chunks, size),
            "normals": _create(root, "normals", (3, *shape), np.dtype(settings.normals_dtype), settings.chunks, size),
        }
        found = False
        blocks = list(_blocks(shape, settings.chunks))
        for block in tqdm(blocks, desc=volume.name, unit="block", disable=not progress, leave=False):
            z, y, x = (slice(b.start + p.start, b.stop + p.start) for b, p in zip(block, box, strict=True))
            place = (z, y, x)
            values = image.read(place)
            stored["image"][(..., *block)] = values if channels else values[0]
            normals, sheet = maker(place)
            if sheet.any() or normals.any():
                stored["sheet"][block] = sheet
                stored["normals"][(slice(None), *block)] = encode_vectors(normals, settings.normals_dtype)
                found = found or bool((sheet == 1).any())
        if not found:
            raise InvalidInputError(
                f"{', '.join(volume.surfaces)}: no voxel of {volume.image} (z, y, x) {_text(box)} is on a surface; "
                "check the file, crop and, of meshes, component_order, mesh_unit, scale and offset"
            )


def _create(root: Any, name: str, shape: tuple[int, ...], dtype: np.dtype, chunks: Sequence[int], size: Size) -> Any:
    """Make an OME-Zarr image with one level; return that."""
    extra = shape[:-3]
    group = root.create_group(name, attributes=multiscale_attributes("0", size, bool(extra)))
    chunk = (*extra, *(min(length, edge) for length, edge in zip(shape[-3:], chunks, strict=True)))
    return group.create_array("0", shape=shape, dtype=dtype, chunks=chunk, fill_value=0)


def _blocks(shape: Sequence[int], chunks: Sequence[int]) -> Iterator[Box]:
    """Cut a volume into blocks of whole chunks."""
    edges = [chunk * max(1, BLOCK // chunk) for chunk in chunks]
    for corner in itertools.product(*map(range, [0] * 3, shape, edges)):
        z, y, x = (
            slice(start, min(start + edge, length)) for start, edge, length in zip(corner, edges, shape, strict=True)
        )
        yield z, y, x


def _crop_box(image: LazyVolume, settings: SurfaceSettings) -> Box:
    crop = settings.crop or [(0, length) for length in image.spatial_shape]
    if any(stop > length for (_, stop), length in zip(crop, image.spatial_shape, strict=True)):
        raise InvalidInputError(f"crop={settings.crop} reaches out of {image.address} with shape {image.spatial_shape}")
    z, y, x = (slice(*pair) for pair in crop)
    return z, y, x


def _voxel_size(image: LazyVolume, settings: SurfaceSettings) -> Size:
    size = settings.voxel_size or image.voxel_size
    if size is None:
        logger.warning("%s tells no voxel size; taking (1, 1, 1). Set voxel_size to change that", image.address)
    z, y, x = size or (1.0, 1.0, 1.0)
    return float(z), float(y), float(x)


def _text(box: Box) -> str:
    return ", ".join(f"{part.start}:{part.stop}" for part in box)


class _MaskBlocks:
    """Normals and sheet of a block from a mask that is read with as much around the block as they depend on."""

    def __init__(self, volume: SurfaceInput, image: LazyVolume, settings: SurfaceSettings, size: Size) -> None:
        self.mask, self.settings, self.size = open_volume(volume.surfaces[0], channels=1), settings, size
        if self.mask.spatial_shape != image.spatial_shape:
            raise InvalidInputError(
                f"{self.mask.address} has shape {self.mask.spatial_shape}, but its image {image.address} "
                f"{image.spatial_shape}; expected the same (z, y, x)"
            )
        self.halo = mask_normals_halo(settings.sigma, settings.method_name, size, settings.distance)

    def __call__(self, place: Box) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        chosen, ignore = self.settings, self.settings.ignore_value
        around = tuple(
            slice(max(part.start - halo, 0), min(part.stop + halo, length))
            for part, halo, length in zip(place, self.halo, self.mask.spatial_shape, strict=True)
        )
        mask = self.mask.read(around)[0]
        inner = tuple(slice(p.start - a.start, p.stop - a.start) for p, a in zip(place, around, strict=True))
        if mask.dtype.kind == "f" and not np.isfinite(mask).all():
            raise InvalidInputError(f"{self.mask.address} has values that are not finite; expected a mask")
        normals = normals_from_mask(
            mask,
            sigma=chosen.sigma,
            method=chosen.method_name,
            voxel_size=self.size,
            band=chosen.band,
            max_distance=chosen.distance,
            reference=chosen.reference,
            origin=[part.start for part in around],
            ignore_value=ignore,
        )
        sheet = (mask[inner] != 0).astype(np.uint8)
        if ignore is not None:
            sheet[mask[inner] == ignore] = ignore
        return normals[(slice(None), *inner)], sheet


class _MeshBlocks:
    """Normals and sheet of a block from meshes."""

    def __init__(
        self, volume: SurfaceInput, image: LazyVolume, settings: SurfaceSettings, size: Size, box: Box
    ) -> None:
        self.settings, self.size = settings, size
        unit = np.ones(3) if settings.mesh_unit == "voxel" else 1 / np.asarray(size)
        scale = tuple(three_numbers("scale", settings.scale) * unit)
        points, faces, count = [], [], 0
        for path in volume.surfaces:
            vertices, triangles = read_mesh(path, settings.component_order, scale, settings.offset)
            points.append(vertices)
            faces.append(triangles + count)
            count += len(vertices)
        self.mesh = SurfaceMesh(np.concatenate(points), np.concatenate(faces), size)
        if self.mesh.degenerate:
            logger.warning("%s: %d faces without area are left out", ", ".join(volume.surfaces), self.mesh.degenerate)
        low, high = self.mesh.bounds
        start, stop = (np.array([getattr(part, end) for part in box]) for end in ("start", "stop"))
        reach = settings.distance * max(1, max(size) / min(size))
        if (low > stop + reach).any() or (high < start - reach).any():
            raise InvalidInputError(
                f"{', '.join(volume.surfaces)} is outside of {image.address}: the mesh has (z, y, x) "
                f"{low.round(1).tolist()} to {high.round(1).tolist()} in voxels, the volume {_text(box)}; check "
                "component_order, mesh_unit, scale and offset"
            )

    def __call__(self, place: Box) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        shape, origin = [part.stop - part.start for part in place], [part.start for part in place]
        normals, sheet = self.mesh.field(shape, origin, self.settings.distance, self.settings.method_name)
        if self.settings.reference is not None:
            normals = orient_normals(normals, self.settings.reference, self.size, origin)
        return normals, sheet
