"""Lists of prepared animals for training and validation, and their loading as items of a MONAI dataset."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from voxel_ext.data.cell_labeling_file import file_identity, list_cell_volumes, read_cell_channels, read_cell_header
from voxel_ext.data.splitting import split_volumes
from voxel_ext.errors import InvalidInputError, MissingDataError

logger = logging.getLogger(__name__)

Entry = dict[str, str]


def cell_labeling_lists(
    dataset_dir: str | os.PathLike[str], validation_fraction: float = 0.2, seed: int = 0
) -> dict[str, list[Entry]]:
    """List the animals to train with and those to validate with, never the same.

    Args:
        dataset_dir: a folder with ``train/`` and ``val/``, or one with all animals, which are then split at random.
        validation_fraction: share of the animals for validation; at least one is on either side.
        seed: of the split.

    Returns:
        entries ``{"path": file}`` under ``"train"`` and ``"val"``.

    Raises:
        MissingDataError: no animals there, or ``train/`` without ``val/``, or the other way round.
        InvalidInputError: the same file in both; fewer than two animals to split; files of different classes or
            channels (names two of them and the first difference); no label in either list; a damaged file.
    """
    root = Path(dataset_dir)
    folders = [root / part for part in ("train", "val")]
    if any(folder.is_dir() for folder in folders):
        absent = [str(folder) for folder in folders if not folder.is_dir()]
        if absent:
            raise MissingDataError(f"{absent[0]} does not exist; expected folders train and val in {root}")
        train, val = (_entries(list_cell_volumes(folder)) for folder in folders)
    else:
        entries = _entries(list_cell_volumes(root))
        if len(entries) < 2:
            raise InvalidInputError(f"{root} has one animal; training needs at least two, one of them to validate")
        train, val = split_volumes(entries, validation_fraction, seed)
    check_disjoint(train, val)
    check_same_classes([entry["path"] for entry in train + val])
    check_labeled(train, val)
    logger.info("%s: %d animals for training, %d for validation", root, len(train), len(val))
    return {"train": train, "val": val}


def _entries(files: Sequence[Path]) -> list[Entry]:
    return [{"path": str(file)} for file in files]


def check_disjoint(train: Sequence[Entry], val: Sequence[Entry]) -> None:
    """Refuse a file that is in both lists, also under another name (a link).

    Args:
        train: entries with ``path``.
        val: likewise.

    Raises:
        InvalidInputError: lists all such files.
    """
    used = {file_identity(entry["path"]): entry["path"] for entry in train}
    twice = [entry["path"] for entry in val if file_identity(entry["path"]) in used]
    if twice:
        pairs = "; ".join(f"{used[file_identity(path)]} and {path}" for path in twice)
        raise InvalidInputError(f"{len(twice)} animals are both for training and for validation: {pairs}")


def check_labeled(train: Sequence[Entry], val: Sequence[Entry]) -> None:
    """Refuse animals of which nothing can be learned, or with which nothing can be measured.

    Args:
        train: entries with ``path``.
        val: likewise.

    Raises:
        InvalidInputError: no ROI of a list is labeled; for validation, the true class is as good as a label.
    """
    for entries, use in ((train, "training"), (val, "validation")):
        headers = [read_cell_header(entry["path"]) for entry in entries]
        known = [header.roi_class for header in headers]
        if use == "validation":
            known += [header.true_class for header in headers if header.true_class is not None]
        if not any(classes.any() for classes in known):
            raise InvalidInputError(
                f"none of the {len(entries)} animals for {use} has a labeled ROI ({entries[0]['path']} …); prepare "
                "them again with their tables, or with a lower min_confidence"
            )


def check_same_classes(files: Sequence[str | os.PathLike[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Refuse prepared animals whose classes or channels differ.

    Args:
        files: of prepared animals.

    Returns:
        the class names and the channels that all have.

    Raises:
        InvalidInputError: no files; names the two files and the first difference.
    """
    if not files:
        raise InvalidInputError("there are no prepared animals; expected at least one file")
    first = read_cell_header(files[0])
    for file in files[1:]:
        other = read_cell_header(file)
        for what in ("class_names", "channels"):
            a, b = getattr(first, what), getattr(other, what)
            if a != b:
                differing = (i for i, (one, two) in enumerate(zip(a, b, strict=False)) if one != two)
                at = next(differing, min(len(a), len(b)))
                names = [repr(x[at]) if at < len(x) else "nothing" for x in (a, b)]
                raise InvalidInputError(
                    f"{files[0]} and {file} have different {what} ({len(a)} and {len(b)}): number {at} is {names[0]} "
                    f"and {names[1]}; prepare them together"
                )
    return first.class_names, first.channels


class LoadCellVolumed(Transform):
    """Load a prepared animal: the first transform of a pipeline, on entries of :func:`cell_labeling_lists`.

    It adds, besides what the entry has: ``image`` (C, D, H, W) float32, ``roi`` (1, D, H, W) int32 ids (both
    ``MetaTensor``), ``name`` (of the file, without suffix), and tensors with an entry per ROI, ``roi_ids``,
    ``roi_class``, ``roi_confidence``, ``true_class`` (0 where unknown) int64, ``roi_weight``, ``roi_other_weight``
    float32; see ``CellHeader``. ``RoiTargetsd`` makes the target of the latter, and takes them out again, so that
    animals with different numbers of ROIs can be in one batch.

    Args:
        channels: names or numbers (from 0) of the channels to load, in this order; all if None.
        path_key: item with the file.
        image_key: item to write.
        roi_key: item to write.
    """

    def __init__(
        self,
        channels: Sequence[str | int] | str | int | None = None,
        path_key: str = "path",
        image_key: str = "image",
        roi_key: str = "roi",
    ) -> None:
        self.channels = channels
        self.path_key, self.image_key, self.roi_key = path_key, image_key, roi_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the animal's items.

        Raises:
            MissingDataError: there is no such file.
            InvalidInputError: it has not the channels (lists those it has); it is damaged, or not a prepared animal.
        """
        path = os.fspath(data[self.path_key])
        header, raw, roi = read_cell_channels(path, self.channels)
        meta = {"filename_or_obj": path}
        true_class = np.zeros_like(header.roi_class) if header.true_class is None else header.true_class
        return {
            **data,
            self.image_key: MetaTensor(torch.from_numpy(raw.astype(np.float32, copy=False)), meta=dict(meta)),
            self.roi_key: MetaTensor(torch.from_numpy(roi.astype(np.int32, copy=False))[None], meta=dict(meta)),
            "roi_ids": torch.from_numpy(header.roi_ids),
            "roi_class": torch.from_numpy(header.roi_class),
            "roi_weight": torch.from_numpy(header.roi_weight),
            "roi_other_weight": torch.from_numpy(header.roi_other_weight),
            "roi_confidence": torch.from_numpy(header.roi_confidence),
            "true_class": torch.from_numpy(true_class),
            "name": Path(path).stem,
        }


def cell_volume_addresses(files: Sequence[str | os.PathLike[str]], channels: Sequence[str]) -> list[Entry]:
    """Return the addresses of the images of prepared animals, for inference without loading them.

    Args:
        files: the animals.
        channels: names of the network's channels.

    Returns:
        entries ``{"image": address}``.

    Raises:
        InvalidInputError: a file has other channels, or in another order; or is damaged.
        MissingDataError: there is no such file.
    """
    entries = []
    for file in files:
        there = read_cell_header(file).channels
        if list(there) != list(channels):
            raise InvalidInputError(
                f"{file} has the channels {', '.join(there)}; the network was trained with {', '.join(channels)}, and "
                "block by block they are not chosen or put in order. Prepare the animals with these channels"
            )
        entries.append({"image": f"{file}/raw"})
    return entries
