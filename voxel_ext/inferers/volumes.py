"""Block-wise inference on the volumes of a list, one after the other."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ignite.engine import Engine

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


class BlockwiseVolumes:
    """Predicts the volumes of a list, each into a zarr store of its own, none of them ever whole in memory.

    Repeated after an interruption, finished volumes and finished blocks of the others are kept. It can be the
    ``iteration_update`` of a MONAI evaluator whose data set is the list.

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

    Attributes:
        results: of the volumes predicted so far.

    Raises:
        MissingDataError: there are no volumes, or one does not exist.
        InvalidInputError: two volumes of one name, a plain image that is refused, other channels.
    """

    def __init__(
        self,
        volumes: Sequence[Mapping[str, str]],
        network: Callable[..., Any],
        inferer: BlockwiseInferer,
        output_dir: str | os.PathLike[str],
        scaling: Callable[[LazyVolume], Callable[[Any], Any]] | None = None,
        in_channels: int | None = 1,
        image_key: str = "image",
        plain_images: bool = True,
    ) -> None:
        addresses = [entry[image_key] for entry in volumes]
        if not addresses:
            raise MissingDataError("there are no volumes to predict; expected at least one in dataset_dir")
        plain = [address for address in addresses if comes_as_xyz(address)]
        if plain and not plain_images:
            raise InvalidInputError(
                f"{plain[0]} is an image whose axes are (x, y, z) in this bundle; block by block it reads HDF5 and "
                "zarr only, whose axes stay as they are. Convert it, or leave blockwise out"
            )
        self.network, self.inferer, self.output_dir, self.scaling = network, inferer, Path(output_dir), scaling
        self.image_key = image_key
        self.results: list[BlockwiseResult] = []
        self._volumes = {address: open_volume(address, channels=in_channels) for address in addresses}
        names = [_name(address, image_key) for address in addresses]
        self._names = dict(zip(addresses, names, strict=True))
        for address, name in self._names.items():
            if names.count(name) > 1:
                raise InvalidInputError(
                    f"several volumes are called {name!r}, one of them {address}; their results would be one file. "
                    "Rename them, or give them one by one"
                )

    def predict(self, address: str) -> BlockwiseResult:
        """Predict one of the volumes.

        Raises:
            VoxelExtError: as :class:`BlockwiseInferer`.
        """
        volume, name = self._volumes[address], self._names[address]
        store = self.output_dir / f"{name}.zarr"
        logger.info("%s %s -> %s", volume.address, volume.spatial_shape, store)
        inferer = copy.copy(self.inferer)
        if self.scaling is not None:
            inferer.transform = self.scaling(volume)
        result = BlockwiseResult(name, volume, Path(inferer(volume, self.network, store)))
        self.results.append(result)
        return result

    def __call__(self, engine: Engine, batch: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Predict the volumes of a batch of the list, in an engine.

        Args:
            engine: the evaluator.
            batch: addresses under ``image_key``.

        Returns:
            names and stores.
        """
        results = [self.predict(address) for address in batch[self.image_key]]
        return {"name": [one.name for one in results], "store": [str(one.store) for one in results]}


def infer_volumes(volumes: Sequence[Mapping[str, str]], *arguments: Any, **options: Any) -> list[BlockwiseResult]:
    """Predict the volumes of a list; see :class:`BlockwiseVolumes` for the arguments and errors.

    Returns:
        name, volume and store of each, in the same order.
    """
    work = BlockwiseVolumes(volumes, *arguments, **options)
    return [work.predict(entry[work.image_key]) for entry in volumes]


def _name(path: str, image_key: str) -> str:
    """Name of a volume; the key of an image in a prepared store says nothing."""
    address = parse_address(path)
    if address.key.strip("/") == image_key:
        address = VolumeAddress(address.file, "", address.selection)
    return subject_name(address)
