"""Images, objects and their clusters in neuroglancer, an interactive viewer in the browser."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.lazy_volume import LazyVolume
from voxel_ext.data.object_sources import ObjectVolumes, Source, open_like, open_objects
from voxel_ext.errors import InvalidInputError, MissingDependencyError
from voxel_ext.visualize.cluster_distributions import NOISE_COLOR, group_colors

logger = logging.getLogger(__name__)

_SAMPLE = 64  # side in voxels of the box that tells how bright the image is


def view_in_neuroglancer(
    image: Source | None,
    labels: Source,
    clusters: Source | None = None,
    voxel_size: Sequence[float] | None = None,
    *,
    n_clusters: int | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    meshes: bool = False,
) -> Any:
    """Serve volumes to neuroglancer, which is then open at the URL of the viewer; chunks are read when it asks.

    The server runs in a thread of this process and ends with it. Neuroglancer's own page comes from it, too, so that no
    network is needed. All who can reach ``host`` and know the URL, which has a random token, can see the data.

    Args:
        image: intensities (D, H, W), a path, an array (NumPy, zarr, HDF5) or a ``LazyVolume``; None for none.
        labels: ids of the objects, likewise.
        clusters: number of the cluster of each voxel's object, 0 for background, likewise; as ``relabel_volume`` writes
            it. None for none.
        voxel_size: (z, y, x) in nm; None for that of the files.
        n_clusters: how many clusters there are: the values 1 to ``n_clusters`` are clusters 0 and on and have the
            colors of the report, a greater one is noise and gray. None for neuroglancer's own colors.
        host: address that the server listens on; "0.0.0.0" for all of this machine.
        port: of the server; 0 for any that is free.
        meshes: also make surfaces of selected objects for the 3D view; the labels are then read whole into memory
            when the first object is shown.

    Returns:
        the ``neuroglancer.Viewer``: ``str(viewer)`` is the URL; keep it, since the layers vanish with it.

    Raises:
        MissingDependencyError: neuroglancer is not installed.
        MissingDataError: a file does not exist.
        InvalidInputError: the shapes differ, the labels are not integers, there is no voxel size, or the port is taken.
    """
    neuroglancer = _require_neuroglancer()
    volumes = open_objects(labels, image, voxel_size)
    grouped = None if clusters is None else open_like(clusters, "clusters", volumes.labels)
    if grouped is not None and grouped.dtype.kind not in "iu":
        raise InvalidInputError(f"{grouped.address} (clusters) has data type {grouped.dtype}; expected integers")
    try:
        neuroglancer.set_server_bind_address(host, bind_port=port)
        viewer = neuroglancer.Viewer()
    except OSError as error:
        raise InvalidInputError(f"host={host!r}, port={port}: {error}; choose another port, or 0 for any") from error
    with viewer.txn() as state:
        _add_layers(neuroglancer, state, volumes, grouped, n_clusters, meshes)
    logger.info("open %s in a browser", viewer)
    return viewer


def _require_neuroglancer() -> ModuleType:
    try:
        return importlib.import_module("neuroglancer")
    except ImportError as error:
        raise MissingDependencyError(
            f"the view needs neuroglancer, which could not be imported ({error}); install it with: pip install "
            "neuroglancer"
        ) from error


class _ChunkedArray:
    """A volume as neuroglancer's server reads it: sliced by three slices, in a data type that it knows."""

    def __init__(self, volume: LazyVolume, dtype: np.dtype) -> None:
        self._volume = volume
        self.shape, self.dtype = volume.spatial_shape, dtype

    def __getitem__(self, box: tuple[slice, ...]) -> NDArray:
        return self._volume.read(box)[0].astype(self.dtype, copy=False)

    def transpose(self) -> NDArray:
        """Read all of it; asked for by neuroglancer to make meshes."""
        return self[(slice(None), slice(None), slice(None))].transpose()


def _add_layers(
    neuroglancer: ModuleType,
    state: Any,
    volumes: ObjectVolumes,
    clusters: LazyVolume | None,
    n_clusters: int | None,
    meshes: bool,
) -> None:
    space = neuroglancer.CoordinateSpace(names=["z", "y", "x"], units="nm", scales=list(volumes.voxel_size))
    state.dimensions = space
    # the first panel shows the plane of the first two
    state.display_dimensions = ["x", "y", "z"]
    state.position = [side / 2 for side in volumes.labels.spatial_shape]
    if volumes.image is not None:
        low, high = _brightness(volumes.image)
        state.layers["image"] = neuroglancer.ImageLayer(
            source=neuroglancer.LocalVolume(
                _ChunkedArray(volumes.image, _image_type(volumes.image)), space, volume_type="image"
            ),
            shader="#uicontrol invlerp normalized\nvoid main() { emitGrayscale(normalized()); }",
            shader_controls={"normalized": {"range": [low, high]}},
        )
    state.layers["labels"] = _segments(neuroglancer, volumes.labels, space, meshes)
    if clusters is not None:
        layer = _segments(neuroglancer, clusters, space, False)
        if n_clusters is not None:
            palette = [*group_colors(n_clusters), NOISE_COLOR]
            layer.segment_colors = dict(enumerate(palette, start=1))
        state.layers["clusters"] = layer
        state.layers["labels"].visible = False


def _segments(neuroglancer: ModuleType, volume: LazyVolume, space: Any, meshes: bool) -> Any:
    # ids up to 2^63 - 1
    data = neuroglancer.LocalVolume(_ChunkedArray(volume, np.dtype(np.uint64)), space, volume_type="segmentation")
    return neuroglancer.SegmentationLayer(
        source=neuroglancer.LayerDataSource(url=data, subsources={"mesh": meshes}), selected_alpha=0.35
    )


def _image_type(volume: LazyVolume) -> np.dtype:
    """Data types that neuroglancer does not show become float32."""
    known = volume.dtype.kind in "iu" and volume.dtype.itemsize <= 4
    return volume.dtype if known else np.dtype(np.float32)


def _brightness(image: LazyVolume) -> tuple[float, float]:
    """Black and white: the 1st and 99th percentile of a box in the middle of the volume."""
    middle = tuple(
        slice(max(side // 2 - _SAMPLE // 2, 0), min(side // 2 + _SAMPLE // 2, side) or 1)
        for side in image.spatial_shape
    )
    low, high = np.percentile(image.read(middle)[0].astype(np.float64), (1, 99)).tolist()
    return low, high if high > low else low + 1.0
