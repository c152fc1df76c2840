"""Files that a clustering leaves: tables, scores, surfaces of the clusters' representatives, and a page."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from voxel_ext.data.address import HDF5_SUFFIXES, ZARR_SUFFIXES
from voxel_ext.data.lazy_images import NIFTI_SUFFIXES, TIFF_SUFFIXES
from voxel_ext.data.relabel import Relabeled, relabel_volume
from voxel_ext.data.scheduling import block_scheduler
from voxel_ext.engines.clustering_results import DescribedClusters
from voxel_ext.errors import check_option, require
from voxel_ext.files import atomic_path
from voxel_ext.morphology.clustering import Representatives, write_clusters
from voxel_ext.morphology.clustering.label_values import NOISE_RULES
from voxel_ext.morphology.mesh_features import smooth_surface
from voxel_ext.workflow import switch

MESH_FORMATS = ("stl", "ply", "obj")
SLICES = "slices"
MASK_FORMATS = (*ZARR_SUFFIXES, *HDF5_SUFFIXES, *TIFF_SUFFIXES, *NIFTI_SUFFIXES, SLICES)
"""How the name of the label volume of clusters ends; "slices" for a folder of PNG files."""


def check_cluster_files(masks: object = ".zarr", mesh_format: str = "stl", noise: str = "background") -> str | None:
    """Check, before any work, how results are to be written.

    Args:
        masks: how the name of the label volume of clusters ends, one of :data:`MASK_FORMATS`; True for ".zarr"; False
            for none.
        mesh_format: one of :data:`MESH_FORMATS`.
        noise: "background" or "own".

    Returns:
        the name of the label volume, or None.

    Raises:
        InvalidInputError: one of them is not known.
    """
    check_option("mesh_format", mesh_format, MESH_FORMATS)
    check_option("noise", noise, NOISE_RULES)
    if isinstance(masks, bool) or str(masks).lower() in ("true", "false"):
        return "clusters.zarr" if switch("masks", masks) else None
    suffix = check_option("masks", masks, MASK_FORMATS)
    return "clusters_slices" if suffix == SLICES else f"clusters{suffix}"


def write_cluster_masks(
    described: DescribedClusters,
    output_dir: str | os.PathLike[str],
    masks: object = ".zarr",
    *,
    noise: str = "background",
    num_workers: int = 0,
    progress: bool = True,
) -> Relabeled | None:
    """Write the label volume ``clusters.zarr``, or of another format, by :func:`~voxel_ext.data.relabel_volume`.

    Args:
        described: the clusters.
        output_dir: folder to write; a label volume of this name there is replaced.
        masks: how the name ends, see :func:`check_cluster_files`; a folder of slices is called ``clusters_slices``.
        noise: "background", or "own" for a value of its own of objects in no cluster.
        num_workers: processes; 0 for this one.
        progress: show a bar.

    Returns:
        counts of voxels, or None where there is nothing to write.

    Raises:
        InvalidInputError: wrong ``masks`` or ``noise``, or it is where the labels are.
        OSError: it cannot be written.
    """
    name = check_cluster_files(masks, noise=noise)
    if name is None:
        return None
    result = described.clustering.result
    return relabel_volume(
        described.clustering.objects.volumes.labels,
        result.ids,
        result.labels,
        Path(output_dir) / name,
        noise=noise,
        scheduler=block_scheduler(None, num_workers),
        overwrite=True,
        progress=progress,
    )


def write_clustering(
    described: DescribedClusters,
    output_dir: str | os.PathLike[str],
    *,
    mesh_format: str = "stl",
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write tables, scores and surfaces of a clustering.

    Files, each replaced as a whole where it exists: ``clusters.csv``, ``embedding.csv``, ``scores.json`` and the folder
    ``representatives``, see :func:`write_representatives`.

    Args:
        described: the clusters.
        output_dir: folder to write.
        mesh_format: one of :data:`MESH_FORMATS`.
        settings: of the command, for ``scores.json``.

    Returns:
        what is in ``scores.json``.

    Raises:
        InvalidInputError: an unknown format.
        MissingDependencyError: trimesh or pandas is not installed.
        OSError: the folder cannot be written.
    """
    folder, summary = Path(output_dir), described.summary(settings)
    write_representatives(described, folder / "representatives", mesh_format)
    write_clusters(described.table(), folder / "clusters.csv")
    write_clusters(described.embedding_table(), folder / "embedding.csv")
    write_json(summary, folder / "scores.json")
    return summary


def report_clustering(
    described: DescribedClusters,
    path: str | os.PathLike[str],
    *,
    title: str = "clustering",
    settings: Mapping[str, Any] | None = None,
    max_thumbnails: int = 3000,
    progress: bool = True,
) -> Path:
    """Write the page about a clustering, see :func:`~voxel_ext.visualize.write_cluster_report`.

    Args:
        described: the clusters.
        path: of the page; one that exists is replaced.
        title: of the page.
        settings: of the command.
        max_thumbnails: how many objects to show, at most.
        progress: show a bar.

    Returns:
        the page.

    Raises:
        MissingDependencyError: a library of the extra "viz" is not installed.
        OSError: it cannot be written.
    """
    from voxel_ext.visualize import write_cluster_report

    clustering = described.clustering
    return write_cluster_report(
        path,
        title=title,
        matrix=clustering.matrix,
        result=clustering.result,
        table=clustering.table,
        features=clustering.feature_table(),
        representatives=list(described.representatives),
        scores=described.scores(),
        embedding=described.plane,
        embedding_name=described.embedding,
        volumes=described.clustering.objects.volumes,
        objects=described.box_table(),
        classes=described.classes,
        settings=dict(settings or {}),
        max_thumbnails=max_thumbnails,
        progress=progress,
    )


def write_representatives(
    described: DescribedClusters, folder: str | os.PathLike[str], mesh_format: str = "stl"
) -> list[Path]:
    """Write the surfaces of the medoid and of the farthest members of each cluster.

    Files are ``cluster_0_medoid_<id>.stl``, ``cluster_0_farthest_1_<id>.stl``, ...; coordinates are (x, y, z) in nm
    from the center of the volume's first voxel. Surfaces are those of
    :func:`~voxel_ext.morphology.smooth_surface`, oriented outwards.

    Args:
        described: the clusters.
        folder: a folder to write; one that exists is replaced as a whole.
        mesh_format: one of :data:`MESH_FORMATS`.

    Returns:
        the files.

    Raises:
        InvalidInputError: an unknown format.
        MissingDependencyError: trimesh is not installed.
        OSError: the folder cannot be written.
    """
    check_option("mesh_format", mesh_format, MESH_FORMATS)
    trimesh = require("trimesh", extra="em")
    objects, target = described.clustering.objects.placed, Path(folder)
    labels = replace(described.clustering.objects.volumes, image=None)
    named = {name: objects[one] for name, one in _file_names(described.representatives)}
    with atomic_path(target, directory=True) as temporary:
        for name, placed in named.items():
            surface = smooth_surface(labels.read(placed)[0], labels.voxel_size)
            vertices = surface.vertices + np.multiply(placed.lower, labels.voxel_size)
            # the order of the axes is turned round, and so is that of each face's vertices, to keep it outwards
            mesh = trimesh.Trimesh(vertices[:, ::-1], surface.faces[:, ::-1], process=False)
            mesh.export(temporary / f"{name}.{mesh_format}")
    return [target / f"{name}.{mesh_format}" for name in named]


def _file_names(found: Sequence[Representatives]) -> Iterable[tuple[str, int]]:
    for number, one in enumerate(found):
        yield f"cluster_{number}_medoid_{one.medoid}", one.medoid
        for rank, far in enumerate(one.farthest, start=1):
            yield f"cluster_{number}_farthest_{rank}_{far}", far


def write_json(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write values as JSON, those of NumPy as numbers and lists, NaN as null.

    Args:
        content: what to write; objects of other types are written as text.
        path: of the file; one that exists is replaced.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        text = json.dumps(plain_values(content), indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def plain_values(value: Any) -> Any:
    """Turn values into those of JSON: numbers, texts, lists and mappings; what is not finite becomes None.

    Args:
        value: any, nested as may be.
    """
    if isinstance(value, Mapping):
        return {str(name): plain_values(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain_values(value.tolist())
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
