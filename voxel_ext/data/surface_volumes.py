"""Volumes with the targets of a multi-task network, opened and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxel_ext.data.address import ZARR_SUFFIXES, VolumeAddress, parse_address
from voxel_ext.data.lazy_volume import LazyVolume, open_volume
from voxel_ext.data.naming import subject_name
from voxel_ext.errors import InvalidInputError, MissingDataError, check_option
from voxel_ext.files import read_json
from voxel_ext.targets import Target

INPUT_KEY = "input"
"""Key of the image in a mapping that describes a volume."""

IMAGE_KEY = "image"
"""Name of the image in the store of a prepared volume."""

_OPTIONS = ("ref_label", "name", "level", "channel_axis")


@dataclass(frozen=True)
class SurfaceVolume:
    """An image and its targets, all of one spatial shape; picklable.

    Args:
        name: unlike that of all others.
        input: the image.
        targets: by name, in the order of the network's targets.
        ref_label: the target whose labels decide where patches are.
        component_orders: "zyx" or "xyz" as stored, of the targets that are vectors.
    """

    name: str
    input: LazyVolume
    targets: Mapping[str, LazyVolume]
    ref_label: str
    component_orders: Mapping[str, str]

    @property
    def label(self) -> LazyVolume:
        """The target that ``ref_label`` names."""
        return self.targets[self.ref_label]


def read_surface_volumes(
    source: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
    targets: Mapping[str, Target],
    in_channels: int | None = 1,
    ref_label: str | None = None,
) -> list[SurfaceVolume]:
    """Open volumes with their targets, and check that they fit together; no voxels are read.

    A volume is described by a mapping with ``input`` and the name of every target, each a path (or an array) as
    ``open_volume`` takes it; and perhaps ``ref_label``; ``name``, by default after the input; ``level`` of OME-Zarr
    images, a number for all or a mapping from the keys; ``channel_axis`` ("first" or "last") of arrays that do not tell
    their axes.

    Targets with softmax are stored as class indices, (D, H, W), or as one channel per class.

    Args:
        source: such mappings; a JSON file with a list of them, whose relative paths start at its folder; or a folder of
            stores ``*.zarr``, which have the input under ``image`` and the targets under their names.
        targets: the network's targets, as ``read_targets`` gives them.
        in_channels: channels of the input; None for any.
        ref_label: of volumes that do not say it; None for the first target that is no vector field, or else the first.

    Returns:
        the volumes, in the order of the list or sorted by the name of the store.

    Raises:
        MissingDataError: no volumes, no path for the input or a target, no such file or array.
        InvalidInputError: names volume and key: an unknown key, a ``ref_label`` that is no target, two volumes of one
            name, other channels or spatial shape than expected; and as ``open_volume``.
    """
    entries, place = _entries(source, targets)
    if not entries:
        raise MissingDataError(f"{place} has no volumes; expected at least one with input and {list(targets)}")
    default = next((name for name, target in targets.items() if not target.is_vector), next(iter(targets)))
    volumes: list[SurfaceVolume] = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise InvalidInputError(f"{place}#{number} is {entry!r}; expected a mapping with input and {list(targets)}")
        name = _name(entry, number)
        if name in [volume.name for volume in volumes]:
            raise InvalidInputError(f"{place}: two volumes are called {name!r}; give them different values of name")
        volumes.append(_open(name, entry, targets, in_channels, ref_label or default))
    return volumes


def _entries(source: Any, targets: Mapping[str, Target]) -> tuple[Sequence[Any], str]:
    """Descriptions of the volumes, and what to call where they come from."""
    if not isinstance(source, str | os.PathLike):
        if not isinstance(source, Sequence):
            raise InvalidInputError(f"volumes={source!r}; expected a list of mappings, a JSON file, or a folder")
        return source, "volumes"
    path = Path(source)
    if not path.exists():
        raise MissingDataError(f"{path} does not exist (current folder: {os.getcwd()})")
    if path.is_dir():
        stores = [p for p in sorted(path.iterdir()) if p.suffix.lower() in ZARR_SUFFIXES and p.name[0] != "."]
        keys = {INPUT_KEY: IMAGE_KEY, **{name: name for name in targets}}
        return [{"name": p.stem, **{key: f"{p}/{inside}" for key, inside in keys.items()}} for p in stores], str(path)
    entries = read_json(path, list, "a JSON file with a list of volumes")
    paths = {INPUT_KEY, *targets}
    return [
        {k: str(path.parent / v) if k in paths and isinstance(v, str) else v for k, v in entry.items()}
        if isinstance(entry, dict)
        else entry
        for entry in entries
    ], str(path)


def _name(entry: Mapping[str, Any], number: int) -> str:
    if entry.get("name"):
        return str(entry["name"])
    given = entry.get(INPUT_KEY)
    if not isinstance(given, str | os.PathLike):
        return f"volume{number}"
    address = parse_address(given)
    return subject_name(VolumeAddress(address.file, "", address.selection) if address.key == IMAGE_KEY else address)


def _open(
    name: str, entry: Mapping[str, Any], targets: Mapping[str, Target], in_channels: int | None, ref_label: str
) -> SurfaceVolume:
    for key in entry:
        check_option(f"key of volume {name!r}", key, [INPUT_KEY, *targets, *_OPTIONS])
    label = check_option(f"ref_label of volume {name!r}", entry.get("ref_label", ref_label), targets)
    image = _open_part(name, entry, INPUT_KEY, in_channels)
    opened = {}
    for key, target in targets.items():
        part = opened[key] = _open_target(name, entry, target)
        if part.spatial_shape != image.spatial_shape:
            raise InvalidInputError(
                f"volume {name!r}: {key} ({part.address}) has the spatial shape {part.spatial_shape} (z, y, x), but "
                f"the input ({image.address}) has {image.spatial_shape}; expected the same"
            )
    orders = {key: target.component_order for key, target in targets.items() if target.is_vector}
    return SurfaceVolume(name, image, opened, label, orders)


def _open_target(name: str, entry: Mapping[str, Any], target: Target) -> LazyVolume:
    if target.activation == "softmax":
        part = _open_part(name, entry, target.name, None)
        if part.shape[0] == 1:
            return part
    return _open_part(name, entry, target.name, target.channels)


def _open_part(name: str, entry: Mapping[str, Any], key: str, channels: int | None) -> LazyVolume:
    """Open the input or a target."""
    if entry.get(key) is None:
        raise MissingDataError(f"volume {name!r} has no {key!r}; expected its path. It has: {sorted(entry)}")
    level = entry.get("level", 0)
    try:
        return open_volume(
            entry[key],
            channels=channels,
            channel_axis=entry.get("channel_axis"),
            level=level.get(key, 0) if isinstance(level, Mapping) else level,
            name=f"{name}/{key}",
        )
    except (InvalidInputError, MissingDataError) as error:
        raise type(error)(f"volume {name!r}, {key}: {error}") from error
