"""From images with masks or meshes of surfaces to the training data of a network that predicts sheets and normals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from voxel_ext.data.jobs import PreparedFiles, do_missing
from voxel_ext.data.lazy_volume import open_volume
from voxel_ext.data.prepared_file import prepared_difference
from voxel_ext.data.prepared_folder import check_foreign, write_marker
from voxel_ext.data.surface_settings import SurfaceSettings
from voxel_ext.data.surface_sources import SurfaceInput, find_surface_volumes, list_surface_volumes
from voxel_ext.data.surface_store import write_surface_volume
from voxel_ext.errors import InvalidInputError, MissingDataError, check_counts, check_option
from voxel_ext.files import explain_write_errors, locked_folder


class SurfaceReport(PreparedFiles):
    """What :func:`prepare_surfaces` did: the stores ``made`` and ``kept``, relative to the output folder."""


def prepare_surfaces(
    input_dir: str | os.PathLike[str] | None = None,
    output_dir: str | os.PathLike[str] = "",
    volumes: Sequence[Mapping[str, Any]] | None = None,
    source: str = "mask",
    method: str | None = None,
    num_workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
    **options: Any,
) -> SurfaceReport:
    """Write ``<output_dir>/train/<name>.zarr`` and ``val/<name>.zarr`` with ``image``, ``sheet`` and ``normals``.

    Each is an OME-Zarr 0.5 image with one level ``0``: ``image`` (D, H, W) as stored, (C, D, H, W) if it has several
    channels; ``sheet`` uint8 (D, H, W), 1 on the surface; ``normals`` (3, D, H, W), unit vectors zyx of physical space
    as ``encode_vectors`` stores them, zero where unknown. The attribute ``settings`` tells how they were made. All is
    done block by block, and equal to what the whole volume at once would give. Last, ``dataset.json`` tells that all is
    complete. A run that is repeated makes only what is not yet there. A volume with an error does not stop the others.

    Args:
        input_dir: folder of the volumes, see ``find_surface_volumes``. Either this or ``volumes``.
        output_dir: the folder to write to.
        volumes: the volumes one by one: mappings with ``name``, ``image``, ``mask`` or ``mesh``, and ``part``, see
            ``list_surface_volumes``. For the formats of images and masks see ``open_volume``; meshes are OBJ or PLY.
        source: "mask" or "mesh".
        method: of masks "distance" (default) or "structure_tensor", see ``normals_from_mask``; of meshes "interpolate"
            (default) or "splat", see ``normals_from_mesh``.
        num_workers: processes, each for one volume; 0 for this one. They are spawned, so a script needs
            ``if __name__ == "__main__":``.
        overwrite: replace stores that were made with other settings or from other files, or are damaged.
        progress: show a bar.
        options: more of ``SurfaceSettings``. Lengths are in units of the shortest voxel edge:

            * of masks: ``sigma`` (2), ``band`` (0), ``ignore_value`` (None), see ``normals_from_mask``;
            * ``max_distance``: of masks the depth to which the distance to the faces is followed (8), of meshes the
              distance from the surface to which voxels belong to the sheet (2);
            * ``reference`` (None): decides the sign of normals, see ``orient_normals``;
            * of meshes: ``component_order`` of the files ("xyz" or "zyx"), ``mesh_unit`` of their coordinates ("voxel"
              or "micrometer"), ``scale`` (1; a number or (z, y, x) that coordinates are multiplied with besides) and
              ``offset`` ((z, y, x) in voxels, added afterwards);
            * ``voxel_size`` (z, y, x) in micrometers where the image does not tell or is wrong;
            * ``crop`` ((z0, z1), (y0, y1), (x0, x1)) in voxels;
            * ``normals_dtype`` ("uint16", "uint8", "float16", "float32") and ``chunks`` ((64, 64, 64)).

    Raises:
        MissingDataError: no folder, no volumes, a file without its partner.
        InvalidInputError: neither or both of ``input_dir`` and ``volumes``; an option is unknown or out of range; a
            store was made with other settings, or does not belong to the set; or, after all others are done, volumes
            that cannot be prepared (lists them with the reasons).
        MissingDependencyError: ``source="mesh"`` without trimesh.
        VoxelExtError: a worker process ended unexpectedly.
        OSError: the folder is not writable, or the disk is full; what was finished is kept.
    """
    settings = _settings(source, method, options)
    check_counts({}, num_workers=num_workers)
    if not os.fspath(output_dir):
        raise InvalidInputError("output_dir is empty; expected the folder to write to")
    if (volumes is None) == (not input_dir):
        raise InvalidInputError(f"input_dir={input_dir!r}, volumes={volumes!r}; expected exactly one of them")
    listed = find_surface_volumes(str(input_dir), source) if volumes is None else list_surface_volumes(volumes, source)
    root, shown = Path(output_dir), progress and not num_workers
    jobs = [PreparedSurface(one, root / one.part / f"{one.name}.zarr", settings, shown) for one in listed]
    with locked_folder(root, ".prepare.lock"), explain_write_errors(root):
        check_foreign(root, [job.path for job in jobs], "volumes", (".zarr",))
        missing = do_missing(root, jobs, prepared_difference, "volume", "surfaces", num_workers, overwrite, progress)
        write_marker(root, [job.path for job in jobs])
    return SurfaceReport.of(root, jobs, missing)


def _settings(source: str, method: str | None, options: Mapping[str, Any]) -> SurfaceSettings:
    known = sorted({one.name for one in fields(SurfaceSettings)} - {"source", "method"})
    for name in options:
        check_option("option", name, known)
    given = dict(options)
    for name in ("voxel_size", "chunks", "offset", "crop"):
        if given.get(name) is not None:
            given[name] = tuple(tuple(one) if isinstance(one, Sequence) else one for one in given[name])
    for name in ("reference", "scale"):
        if given.get(name) is not None:
            given[name] = np.asarray(given[name]).tolist()
    return SurfaceSettings(source, method, **given)


@dataclass(frozen=True)
class PreparedSurface:
    """A volume to be prepared; a job of ``do_jobs``.

    Args:
        volume: where its image and surfaces are.
        path: the store to write.
        settings: how to prepare it.
        progress: show a bar of its blocks.
    """

    volume: SurfaceInput
    path: Path
    settings: SurfaceSettings
    progress: bool = False

    @property
    def name(self) -> str:
        """The volume's, with its part of the data set."""
        return f"{self.volume.part}/{self.volume.name}"

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the store depends on."""
        resolved = {"method": self.settings.method_name, "max_distance": self.settings.distance}
        describe = _describe_volume if self.settings.source == "mask" else _describe_mesh
        surfaces = [describe(path) for path in self.volume.surfaces]
        sources = {"image": _describe_volume(self.volume.image), "surfaces": surfaces}
        return {**asdict(self.settings), **resolved, "sources": sources}

    def is_complete(self) -> bool:
        """Whether the store is there."""
        return self.path.exists()

    def make(self) -> None:
        """Read, compute and write.

        Raises:
            MissingDataError: a file does not exist.
            InvalidInputError: a file is damaged, or cannot be prepared.
        """
        write_surface_volume(self.volume, self.path, self.settings, self.record, self.progress)


def _describe_volume(path: str) -> dict[str, Any]:
    """The name of a volume and what is stored in it, to notice that it changed; it may be moved with its folder."""
    return {**open_volume(path).fingerprint(), "address": Path(path).name}


def _describe_mesh(path: str) -> dict[str, Any]:
    file = Path(path)
    if not file.is_file():
        raise MissingDataError(f"{path} does not exist or is no file (current folder: {os.getcwd()})")
    return {"address": file.name, "bytes": file.stat().st_size, "modified": file.stat().st_mtime_ns}
