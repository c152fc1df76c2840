"""The volumes of a surface data set, divided into training and validation, with their patches."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, Dataset

from voxel_ext.data.block_split import split_by_blocks
from voxel_ext.data.patch_index import PatchIndex
from voxel_ext.data.surface_patches import SurfacePatchDataset
from voxel_ext.data.surface_volumes import SurfaceVolume, read_surface_volumes
from voxel_ext.data.volume_statistics import normalization_of
from voxel_ext.errors import InvalidInputError
from voxel_ext.targets import Target, read_targets
from voxel_ext.transforms.intensity.normalization import IntensityNormalization

logger = logging.getLogger(__name__)

VolumeSource = str | os.PathLike[str] | Sequence[Mapping[str, Any]]

Patch = tuple[int, tuple[int, int, int]]
"""Number of a volume, and the first voxel (z, y, x) of a patch."""


@dataclass(frozen=True)
class SurfacePatches:
    """Patches for training and validation, of which none of one overlaps any of the other.

    Args:
        training: for training.
        validation: for validation.
    """

    training: list[Patch]
    validation: list[Patch]

    def some_validation(self, count: int, seed: int = 0) -> list[Patch]:
        """Return at most ``count`` of the validation patches, drawn by ``seed`` and always the same, in their order."""
        if len(self.validation) <= count:
            return self.validation
        chosen = np.random.default_rng(seed).choice(len(self.validation), count, replace=False)
        return [self.validation[index] for index in sorted(chosen)]


@dataclass(frozen=True)
class SurfaceData:
    """Volumes to train on and, where there are such, others to validate on.

    Args:
        training: volumes whose patches are trained on.
        validation: volumes whose patches are validated on; without any, parts of the others are.
    """

    training: list[SurfaceVolume]
    validation: list[SurfaceVolume]

    @property
    def all(self) -> list[SurfaceVolume]:
        """Those for training, then those for validation."""
        return [*self.training, *self.validation]

    def patches(
        self,
        index: PatchIndex,
        cache_dir: str | os.PathLike[str] | None = None,
        validation_fraction: float = 0.2,
        seed: int = 0,
    ) -> SurfacePatches:
        """Find the patches that are labeled enough, and divide them.

        Args:
            index: which patches are.
            cache_dir: folder for the positions of each volume; None keeps none.
            validation_fraction: without volumes for validation, the share of the patches that is kept for it, by blocks
                of space, see ``split_by_blocks``.
            seed: of the choice of blocks.

        Raises:
            InvalidInputError: a volume has no such patch, or the patches cannot be divided.
        """
        found = [self._find(index, number, cache_dir) for number in range(len(self.all))]
        count = len(self.training)
        if self.validation:
            parts = found[:count], found[count:]
        else:
            parts = split_by_blocks(found, index.patch_size, validation_fraction, seed)
        patches = SurfacePatches(_numbered(parts[0], 0), _numbered(parts[1], count if self.validation else 0))
        logger.info("%d patches for training, %d for validation", len(patches.training), len(patches.validation))
        return patches

    def _find(self, index: PatchIndex, number: int, cache_dir: str | os.PathLike[str] | None) -> NDArray[np.int64]:
        volume = self.all[number]
        part = "train" if number < len(self.training) else "val"
        cache = None if cache_dir is None else Path(cache_dir) / f"{part}_{volume.name}.json"
        return index.find(volume.label, cache)

    def normalizations(self, mode: str, bounds: Sequence[float] | None = None) -> list[IntensityNormalization]:
        """Make the normalization of each volume, in the order of :attr:`all`; see ``normalization_of``."""
        return [normalization_of(volume.input, mode, bounds) for volume in self.all]


def surface_volume_dataset(
    volumes: Sequence[SurfaceVolume],
    targets: Mapping[str, Target],
    normalizations: Sequence[Callable[[Any], Any]],
    transform: Callable[[dict[str, Any]], Any] | None = None,
    ignore_label: float | None = None,
    dilate_label: int = 0,
) -> Dataset:
    """Make a dataset whose items are whole volumes; otherwise as ``SurfacePatchDataset``.

    Args:
        volumes: the volumes.
        targets: the targets to load, by name.
        normalizations: one per volume.
        transform: what to do with an item.
        ignore_label: value of voxels without a label; None if there is none.
        dilate_label: see ``SurfacePatchDataset``.

    Raises:
        InvalidInputError: as ``SurfacePatchDataset``.
    """
    whole = [(0, (0, 0, 0))]
    return ConcatDataset(
        SurfacePatchDataset(
            whole, [one], targets, one.input.spatial_shape, [normalization], transform, ignore_label, dilate_label
        )
        for one, normalization in zip(volumes, normalizations, strict=True)
    )


def surface_evaluation_dataset(
    data: SurfaceData,
    targets: Mapping[str, Target],
    index: PatchIndex,
    normalization: str,
    normalization_bounds: Sequence[float] | None = None,
    transform: Callable[[dict[str, Any]], Any] | None = None,
    ignore_label: float | None = None,
    dilate_label: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Make the dataset to evaluate on: whole validation volumes, or else all validation patches of the others.

    Only what is evaluated is read: with validation volumes neither the labels nor the intensities of the others are.

    Args:
        data: the volumes.
        targets: the targets to load, by name.
        index: which patches there are, if there are no validation volumes.
        normalization: see ``normalization_of``.
        normalization_bounds: likewise.
        transform: what to do with an item.
        ignore_label: value of voxels without a label; None if there is none.
        dilate_label: see ``SurfacePatchDataset``.
        cache_dir: see :meth:`SurfaceData.patches`, as are the last two.
        validation_fraction: see there.
        seed: see there.

    Raises:
        InvalidInputError: as :meth:`SurfaceData.patches`, ``normalization_of`` and ``SurfacePatchDataset``.
    """
    loading = (transform, ignore_label, dilate_label)
    if data.validation:
        whole = SurfaceData([], data.validation).normalizations(normalization, normalization_bounds)
        return surface_volume_dataset(data.validation, targets, whole, *loading)
    patches = data.patches(index, cache_dir, validation_fraction, seed).validation
    scalings = data.normalizations(normalization, normalization_bounds)
    return SurfacePatchDataset(patches, data.all, targets, index.patch_size, scalings, *loading)


def _numbered(positions: Sequence[NDArray[np.int64]], first: int) -> list[Patch]:
    return [
        (number, (int(z), int(y), int(x)))
        for number, starts in enumerate(positions, first)
        for z, y, x in starts.tolist()
    ]


def surface_volumes(
    root: str | os.PathLike[str],
    targets: Mapping[str, Mapping[str, Any] | Target],
    volumes: VolumeSource | None = None,
    validation_volumes: VolumeSource | None = None,
    ref_label: str | None = None,
    in_channels: int | None = 1,
) -> SurfaceData:
    """Open the volumes of a data set.

    Args:
        root: a folder with ``train/*.zarr`` and ``val/*.zarr``, or without these subfolders ``*.zarr``, all for
            training; see ``read_surface_volumes``. Not looked at where ``volumes`` is given.
        targets: the network's targets.
        volumes: volumes to train on, as a list of mappings, a JSON file with such a list, or a folder.
        validation_volumes: likewise, to validate on.
        ref_label: target that decides where patches are, of volumes that do not say it.
        in_channels: channels of the images.

    Raises:
        MissingDataError: as ``read_surface_volumes``.
        InvalidInputError: likewise; or ``validation_volumes`` without ``volumes``, or a volume in both.
    """
    wanted = read_targets(targets)
    if volumes is None and validation_volumes is not None:
        raise InvalidInputError("validation_volumes is given without volumes; expected both, or a dataset_dir")
    training: VolumeSource = volumes if volumes is not None else root
    validation = validation_volumes
    if volumes is None and (Path(root) / "train").is_dir():
        training = Path(root) / "train"
        validation = Path(root) / "val" if (Path(root) / "val").is_dir() else None
    data = SurfaceData(
        read_surface_volumes(training, wanted, in_channels, ref_label),
        [] if validation is None else read_surface_volumes(validation, wanted, in_channels, ref_label),
    )
    for volume in data.validation:
        if any(volume.input.address == other.input.address for other in data.training):
            raise InvalidInputError(
                f"volume {volume.name!r} ({volume.input.address}) is both for training and for validation; leave out "
                "validation_volumes to validate on parts of the volumes"
            )
    return data
