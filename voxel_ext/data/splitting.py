"""Training and validation parts of a data set."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from voxel_ext.data.address import CONTAINER_SUFFIXES, VolumeAddress, parse_address
from voxel_ext.data.container import find_array, open_container
from voxel_ext.data.datalist import Entry, list_volumes
from voxel_ext.errors import InvalidInputError, MissingDataError

logger = logging.getLogger(__name__)

_PREFIX = re.compile(r"^(train|val)(ing|idation)?([_\-. \d]|$)", re.IGNORECASE)


def datalists(
    dataset_dir: str | os.PathLike[str],
    image_key: str | Sequence[str] = ("raw", "data"),
    label_key: str | Sequence[str] = ("label", "labels"),
    spatial_dims: int = 3,
    require_label: bool = True,
    validation_fraction: float = 0.2,
    seed: int = 0,
    weight_key: str | Sequence[str] | None = None,
    extra_keys: Mapping[str, str | Sequence[str]] | None = None,
    channels: bool = False,
    optional_keys: Mapping[str, str | Sequence[str]] | None = None,
) -> dict[str, list[Entry]]:
    """List the volumes for training and for validation.

    Subfolders ``train`` and ``val``, or else files whose names start with ``train`` and ``val``, are taken as they are;
    anything else is split by ``split_volumes``.

    Args:
        dataset_dir: folder or file, see ``list_volumes``, also for the next four.
        image_key: name(s) of the image dataset.
        label_key: name(s) of the label dataset.
        spatial_dims: 2 or 3.
        require_label: False to list volumes without a label as well.
        validation_fraction: part of the volumes (or of the only volume) that is kept for validation.
        seed: of the random choice.
        weight_key: name(s) of a dataset with a weight per voxel, see ``list_volumes``, also for the next two.
        extra_keys: further items.
        channels: images are (C, D, H, W).
        optional_keys: items that a volume may have, see ``list_volumes``.

    Returns:
        ``{"train": [...], "val": [...]}`` with the entries of ``list_volumes``.

    Raises:
        MissingDataError: as ``list_volumes``; or a folder ``val`` without ``train``.
        InvalidInputError: as ``list_volumes`` and ``split_volumes``; the same volume in both.
    """
    root = Path(dataset_dir)
    options = (image_key, label_key, spatial_dims, require_label, weight_key, extra_keys, channels, optional_keys)
    is_folder = root.is_dir() and not root.name.lower().endswith(CONTAINER_SUFFIXES)
    folders = {part: (root / part).is_dir() for part in ("train", "val")} if is_folder else {}
    if folders.get("val") and not folders["train"]:
        raise MissingDataError(f"{root} has a folder 'val' but no folder 'train'")
    if folders.get("train") and folders["val"]:
        train, val = (list_volumes(root / part, *options) for part in ("train", "val"))
    else:
        entries = list_volumes(root / "train" if folders.get("train") else root, *options)
        train, val = _by_file_name(entries)
        if not train or not val:
            train, val = split_volumes(entries, validation_fraction, seed, channels)
    _check_disjoint(train, val)
    logger.info("%s: %d volumes for training, %d for validation", root, len(train), len(val))
    return {"train": train, "val": val}


def split_volumes(
    entries: Sequence[Entry], validation_fraction: float = 0.2, seed: int = 0, channels: bool = False
) -> tuple[list[Entry], list[Entry]]:
    """Split a data list at random, or the only volume of it along its first axis.

    Of a single volume the last part of the first axis is kept for validation, by addresses like ``a.h5/raw[80:100]``.

    Args:
        entries: as ``list_volumes`` gives them.
        validation_fraction: part for validation, between 0 and 1; at least one volume (one slice of the only volume)
            stays on either side.
        seed: of the random choice.
        channels: the first axis of images may hold channels; the only volume cannot be divided then.

    Returns:
        the entries for training and for validation, in the order they had.

    Raises:
        InvalidInputError: no entries; a fraction outside of (0, 1); the only volume cannot be divided, being one item
            of a stack, a plain image, one with channels, or too short.
    """
    if not entries:
        raise InvalidInputError("there are no volumes to split")
    if not 0 < validation_fraction < 1:
        raise InvalidInputError(f"validation_fraction={validation_fraction}; expected a number between 0 and 1")
    count = len(entries)
    if count == 1:
        return _split_single(entries[0], validation_fraction, channels)
    kept = min(max(round(count * validation_fraction), 1), count - 1)
    chosen = set(np.random.default_rng(seed).permutation(count)[:kept].tolist())
    train = [entry for i, entry in enumerate(entries) if i not in chosen]
    return train, [entry for i, entry in enumerate(entries) if i in chosen]


def _split_single(entry: Entry, fraction: float, channels: bool) -> tuple[list[Entry], list[Entry]]:
    address = parse_address(entry["image"])
    advice = "give a folder with subfolders train and val, or more volumes"
    if channels or not address.is_container or isinstance(address.selection, int):
        raise InvalidInputError(f"{address} is the only volume and cannot be divided by its address; {advice}")
    start, stop = address.selection or (0, _length(address))
    middle = stop - max(round((stop - start) * fraction), 1)
    if middle <= start:
        raise InvalidInputError(
            f"{address} is the only volume; none of its {stop - start} slices would be left for training; {advice}"
        )
    logger.info("only one volume, %s: [%d:%d] is for training, [%d:%d] for validation",
                address, start, middle, middle, stop)  # fmt: skip
    return [_part(entry, start, middle)], [_part(entry, middle, stop)]


def _part(entry: Entry, start: int, stop: int) -> Entry:
    addresses = {key: parse_address(value) for key, value in entry.items()}
    return {key: str(VolumeAddress(old.file, old.key, (start, stop))) for key, old in addresses.items()}


def _length(address: VolumeAddress) -> int:
    """Length of the first axis of the array at an address without a selection."""
    with open_container(address.file) as root:
        return find_array(root, address, (), False).shape[0]


def _by_file_name(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Entries of files named train… and val…; both empty unless there are both kinds."""
    parts: dict[str, list[Entry]] = {"train": [], "val": [], "": []}
    for entry in entries:
        match = _PREFIX.match(os.path.basename(parse_address(entry["image"]).file))
        parts[match[1].lower() if match else ""].append(entry)
    if not parts["train"] or not parts["val"]:
        return [], []
    for entry in parts[""]:
        logger.warning("left out, its file is named neither train… nor val…: %s", entry["image"])
    return parts["train"], parts["val"]


def _check_disjoint(train: Sequence[Entry], val: Sequence[Entry]) -> None:
    used: dict[tuple[str, str], list[VolumeAddress]] = {}
    for entry in train:
        address = parse_address(entry["image"])
        used.setdefault((os.path.realpath(address.file), address.key), []).append(address)
    for entry in val:
        address = parse_address(entry["image"])
        for other in used.get((os.path.realpath(address.file), address.key), []):
            if _overlap(address, other):
                raise InvalidInputError(f"the same volume is in training ({other}) and in validation ({address})")


def _overlap(a: VolumeAddress, b: VolumeAddress) -> bool:
    ranges = [(s, s + 1) if isinstance(s, int) else s for s in (a.selection, b.selection)]
    if ranges[0] is None or ranges[1] is None:
        return True
    return max(ranges[0][0], ranges[1][0]) < min(ranges[0][1], ranges[1][1])
