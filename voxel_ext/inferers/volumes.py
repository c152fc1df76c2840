"""Block-wise inference on the volumes of a list, one after the other."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from voxel_ext.data.address import VolumeAddress, parse_address
from voxel_ext.data.lazy_volume import LazyVolume, open_volume
from voxel_ext.data.naming import subject_name
from voxel_ext.data.zyx import comes_as_xyz
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.inferers.blockwise import BlockwiseInferer

logger = logging.getLogger(__name__)


class BlockwiseResult(NamedTuple):
    """A volume and where its result is.

    Attributes:
        name: of the volume.
        source: the volume.
        store: zarr store of the result.
    """

    name: str
    source: LazyVolume
    store: Path


def infer_volumes(
    volumes: Sequence[Mapping[str, str]],
    network: Callable[..., Any],
    inferer: BlockwiseInferer,
    output_dir: str | os.PathLike[str],
    scaling: Callable[[LazyVolume], Callable[[Any], Any]] | None = None,
    in_channels: int | None = 1,
    image_key: str = "image",
    plain_images: bool = True,
) -> list[BlockwiseResult]:
    """Predict each volume into a zarr store of its own, none of them ever whole in memory.

    Repeated after an interruption, finished volumes and finished blocks of the others are kept.

    Args:
        volumes: mappings with the address of a volume, as ``list_volumes`` gives them.
        network: as for :class:`BlockwiseInferer`.
        inferer: how to; its ``transform`` is replaced where ``scaling`` is given.
        output_dir: folder of the stores ``<name>.zarr``.
        scaling: makes the transform of a volume's intensities, e.g. :class:`PercentileScaling`.
        in_channels: expected channels; None for any.
        image_key: key of the address.
        plain_images: take NIfTI and TIFF files, too, whose axes are then (z, y, x). False refuses them, for a network
            that was trained on them as (x, y, z).

    Returns:
        name, volume and store of each, in the same order.

    Raises:
        MissingDataError: there are no volumes, or one does not exist.
        InvalidInputError: two volumes of one name, a plain image that is refused; and as :class:`BlockwiseInferer`.
        VoxelExtError: as :class:`BlockwiseInferer`.
    """
    if not volumes:
        raise MissingDataError("there are no volumes to predict; expected at least one in dataset_dir")
    plain = [entry[image_key] for entry in volumes if comes_as_xyz(entry[image_key])]
    if plain and not plain_images:
        raise InvalidInputError(
            f"{plain[0]} is an image whose axes are (x, y, z) in this bundle; block by block it reads HDF5 and zarr "
            "only, whose axes stay as they are. Convert it, or leave blockwise out"
        )
    opened = [open_volume(entry[image_key], channels=in_channels) for entry in volumes]
    names = [_name(volume.address, image_key) for volume in opened]
    for name, volume in zip(names, opened, strict=True):
        if names.count(name) > 1:
            raise InvalidInputError(
                f"several volumes are called {name!r}, one of them {volume.address}; their results would be one file. "
                "Rename them, or give them one by one"
            )
    results = []
    for number, (name, volume) in enumerate(zip(names, opened, strict=True), 1):
        store = Path(output_dir) / f"{name}.zarr"
        logger.info("volume %d of %d: %s %s -> %s", number, len(opened), volume.address, volume.spatial_shape, store)
        one = copy.copy(inferer)
        if scaling is not None:
            one.transform = scaling(volume)
        results.append(BlockwiseResult(name, volume, Path(one(volume, network, store))))
    return results


def _name(path: str, image_key: str) -> str:
    """Name of a volume; the key of an image in a prepared store says nothing."""
    address = parse_address(path)
    if address.key.strip("/") == image_key:
        address = VolumeAddress(address.file, "", address.selection)
    return subject_name(address)
