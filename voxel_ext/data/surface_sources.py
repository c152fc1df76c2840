"""Finding images with masks or meshes of surfaces, and reading meshes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.address import CONTAINER_SUFFIXES
from voxel_ext.data.container import READ_ERRORS
from voxel_ext.data.lazy_images import NIFTI_SUFFIXES, TIFF_SUFFIXES
from voxel_ext.data.naming import files_by_stem
from voxel_ext.errors import InvalidInputError, MissingDataError, check_option, require
from voxel_ext.targets import COMPONENT_ORDERS

SOURCES = ("mask", "mesh")
"""What the normals are made from."""

VOLUME_SUFFIXES = (*CONTAINER_SUFFIXES, ".npy", *NIFTI_SUFFIXES, *TIFF_SUFFIXES)
"""Formats of images and masks."""

MESH_SUFFIXES = (".obj", ".ply")

PARTS = ("train", "val")

MESH_ERRORS = (*READ_ERRORS, NameError, ImportError)
"""What trimesh raises when it reads damaged files (it looks for another library where text is not UTF-8)."""


@dataclass(frozen=True)
class SurfaceInput:
    """An image and what tells where its surfaces are.

    Args:
        name: of the volume.
        part: "train" or "val".
        image: its file, or the address of an array in a file.
        surfaces: the mask, likewise, or the meshes.
    """

    name: str
    part: str
    image: str
    surfaces: tuple[str, ...]


def find_surface_volumes(folder: str | os.PathLike[str], source: str) -> list[SurfaceInput]:
    """Find the volumes of a folder by the names of the files.

    The mask of the image ``<name>.<suffix>`` is ``<name>_mask.<suffix>``, of any suffixes of ``VOLUME_SUFFIXES``; its
    mesh is ``<name>_mesh.obj`` or ``<name>_mesh.ply``.

    Args:
        folder: has the files, in subfolders ``train`` and ``val``, or flat for training only. Hidden files are passed
            over.
        source: "mask" or "mesh".

    Returns:
        the volumes by part and name.

    Raises:
        MissingDataError: no such folder, no volumes, or a file without its partner (lists them).
        InvalidInputError: two files of one name.
    """
    root = Path(folder)
    parts = [part for part in PARTS if (root / part).is_dir()]
    if not parts:
        return _find(root, "train", source)
    return [volume for part in parts for volume in _find(root / part, part, source)]


def _find(folder: Path, part: str, source: str) -> list[SurfaceInput]:
    suffixes = VOLUME_SUFFIXES if source == "mask" else MESH_SUFFIXES
    surfaces = files_by_stem(folder, [f"_{source}{suffix}" for suffix in suffixes], "volume")
    named = files_by_stem(folder, VOLUME_SUFFIXES, "volume")
    images = {stem: path for stem, path in named.items() if not stem.lower().endswith("_mask")}
    alone = sorted(images.keys() ^ surfaces.keys())
    if alone:
        listed = ", ".join(str(images.get(name) or surfaces.get(name)) for name in alone[:10])
        raise MissingDataError(
            f"{len(alone)} files in {folder} have no partner: {listed}; expected images <name>.<suffix> with "
            f"<name>_{source}{' or '.join(suffixes)}"
        )
    if not images:
        raise MissingDataError(f"{folder} has no volumes; expected images that end with {', '.join(VOLUME_SUFFIXES)}")
    return [SurfaceInput(name, part, str(images[name]), (str(surfaces[name]),)) for name in sorted(images)]


def list_surface_volumes(volumes: Sequence[Mapping[str, Any]], source: str) -> list[SurfaceInput]:
    """Read a list of volumes of a config.

    Args:
        volumes: each with ``name``, ``image`` (address), ``mask`` (address) or ``mesh`` (a file or several), and
            perhaps ``part`` ("train", the default, or "val").
        source: "mask" or "mesh": which key each must have.

    Raises:
        InvalidInputError: an unknown or missing key, a name that is no file name, or the same name twice in a part.
    """
    found: dict[tuple[str, str], SurfaceInput] = {}
    for index, given in enumerate(volumes):
        place = f"volumes[{index}]"
        if not isinstance(given, Mapping):
            raise InvalidInputError(f"{place}={given!r}; expected a mapping with name, image and {source}")
        for key in given:
            check_option(f"key of {place}", key, ("name", "image", "part", *SOURCES))
        missing = [key for key in ("name", "image", source) if not given.get(key)]
        if missing:
            raise InvalidInputError(f"{place} has no {' and no '.join(missing)} (source={source!r}): {dict(given)}")
        name, part = str(given["name"]), check_option(f"{place}#part", given.get("part", "train"), PARTS)
        if Path(name).name != name or name.startswith("."):
            raise InvalidInputError(f"{place}#name={name!r}; expected a name without slashes or a leading dot")
        if (part, name) in found:
            raise InvalidInputError(f"{place}#name={name!r} is there twice in part {part!r}")
        paths = given[source]
        surfaces = (paths,) if isinstance(paths, str | os.PathLike) else tuple(paths)
        if source == "mask" and len(surfaces) != 1:
            raise InvalidInputError(f"{place}#mask={paths!r}; expected one mask")
        found[part, name] = SurfaceInput(name, part, os.fspath(given["image"]), tuple(map(os.fspath, surfaces)))
    if not found:
        raise InvalidInputError(f"volumes is empty; expected a list of mappings with name, image and {source}")
    return list(found.values())


def read_mesh(
    path: str | os.PathLike[str],
    component_order: str = "xyz",
    scale: float | Sequence[float] = 1.0,
    offset: Sequence[float] = (0.0, 0.0, 0.0),
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read a triangle mesh from an OBJ or PLY file (ASCII or binary) by trimesh.

    Polygons are cut into triangles; vertices at the same place become one. The faces are returned such that normals by
    (b - a) x (c - a) on the vertices zyx point to the side they point to in the file.

    Args:
        path: the file.
        component_order: of the file's coordinates, "xyz" or "zyx".
        scale: what to multiply coordinates with to have voxels, a number or (z, y, x). Negative numbers mirror.
        offset: (z, y, x) in voxels, added afterwards.

    Returns:
        vertices (N, 3) zyx in voxels and faces (M, 3).

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: another suffix, damaged, no faces, or options out of range.
        MissingDependencyError: trimesh is not installed.
    """
    name = os.fspath(path)
    check_option("component_order", component_order, COMPONENT_ORDERS)
    factors, shift = three_numbers("scale", scale), three_numbers("offset", offset)
    if not factors.all():
        raise InvalidInputError(f"scale={scale!r}; expected numbers other than zero")
    if not name.lower().endswith(MESH_SUFFIXES):
        raise InvalidInputError(f"{name} is no mesh by its name; expected one of {', '.join(MESH_SUFFIXES)}")
    if not os.path.isfile(name):
        raise MissingDataError(f"{name} does not exist or is no file (current folder: {os.getcwd()})")
    vertices, faces = _load(name)
    if component_order == "xyz":
        vertices = vertices[:, ::-1]
    mirrored = (component_order == "xyz") != (np.prod(np.sign(factors)) < 0)
    return vertices * factors + shift, faces[:, ::-1] if mirrored else faces


def _load(name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    trimesh = require("trimesh", extra="mesh")
    try:
        mesh = trimesh.load_mesh(name, process=False)
        count, announced = len(mesh.faces), _announced_faces(name)
        if count < announced:
            raise InvalidInputError(f"its header says {announced} faces, {count} are there")
        if count and np.isfinite(mesh.vertices).all():
            mesh.merge_vertices(merge_tex=True, merge_norm=True)
        vertices, faces = np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.int64)
    except MESH_ERRORS as error:
        if isinstance(error, PermissionError):
            raise
        raise InvalidInputError(
            f"{name} cannot be read as a mesh: damaged ({type(error).__name__}: {error})"
        ) from error
    if not len(faces):
        raise InvalidInputError(f"{name} has {len(vertices)} vertices but no faces; expected a triangle mesh")
    if vertices.shape[1:] != (3,) or faces.shape[1:] != (3,):
        raise InvalidInputError(
            f"{name} is damaged: vertices of shape {vertices.shape} and faces of shape {faces.shape}; expected (N, 3)"
        )
    if faces.min() < 0 or faces.max() >= len(vertices) or not np.isfinite(vertices).all():
        raise InvalidInputError(f"{name} is damaged: faces of vertices that it lacks, or coordinates not finite")
    return vertices, faces


def _announced_faces(name: str) -> int:
    """Number of faces that the header of a PLY file tells, which trimesh does not compare; 0 for other files."""
    if name.lower().endswith(".ply"):
        with open(name, "rb") as file:
            for line in file:
                words = line.split()
                if words[:2] == [b"element", b"face"]:
                    return int(words[2])
                if words == [b"end_header"]:
                    break
    return 0


def three_numbers(name: str, value: float | Sequence[float]) -> NDArray[np.float64]:
    """Return a number, or three (z, y, x), as three.

    Args:
        name: what it sets, for the message.
        value: the user's.

    Raises:
        InvalidInputError: not one or three finite numbers.
    """
    array = np.asarray(value, np.float64)
    if array.shape not in ((), (3,)) or not np.isfinite(array).all():
        raise InvalidInputError(f"{name}={value!r}; expected a number or three (z, y, x)")
    return np.broadcast_to(array, (3,)).astype(np.float64)
