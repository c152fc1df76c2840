"""The objects of a label volume that are clustered, and their classes where they are known."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.lazy_volume import LazyVolume
from voxel_ext.data.object_classes import UNKNOWN, open_classes
from voxel_ext.data.object_sources import ObjectVolumes, PlacedObject, Source, list_objects
from voxel_ext.engines.clustering_inputs import FeatureTables
from voxel_ext.errors import InvalidInputError
from voxel_ext.files import read_json
from voxel_ext.morphology.clustering.feature_table import FeatureMatrix, list_some

logger = logging.getLogger(__name__)

MEASUREMENT = "measurement.json"
"""What ``run features`` leaves beside its tables."""


@dataclass(frozen=True)
class LabeledObjects:
    """The objects of a label volume, made by :func:`find_objects`.

    Attributes:
        volumes: the labels, and an image or None.
        placed: by id, the objects.
    """

    volumes: ObjectVolumes
    placed: Mapping[int, PlacedObject]

    def choose(self, matrix: FeatureMatrix) -> FeatureMatrix:
        """Return the features of the objects that are in the labels; a warning lists the others.

        Args:
            matrix: of the objects of the tables.

        Raises:
            InvalidInputError: none of them is in the labels.
        """
        present, address = np.array(sorted(self.placed), dtype=np.int64), self.volumes.labels.address
        rows = np.isin(matrix.ids, present)
        if not rows.any():
            raise InvalidInputError(
                f"the features are of other labels: none of their {len(matrix)} objects (ids {list_some(matrix.ids)}) "
                f"is in {address}, which has {len(present)} (ids {list_some(present)}); give the labels that they were "
                "computed of"
            )
        absent, more = matrix.ids[~rows], np.setdiff1d(present, matrix.ids)
        if more.size:
            logger.warning(
                "%d of %d objects of %s have no features and become background: %s",
                len(more),
                len(present),
                address,
                list_some(more),
            )
        if not absent.size:
            return matrix
        logger.warning(
            "%d of %d objects of the features are not in %s and are left out: %s",
            len(absent),
            len(matrix),
            address,
            list_some(absent),
        )
        return FeatureMatrix(matrix.ids[rows], matrix.values[rows], matrix.columns, matrix.blocks)


def find_objects(
    volumes: ObjectVolumes, sources: FeatureTables, num_workers: int = 0, progress: bool = True
) -> LabeledObjects:
    """Find all objects of a label volume, in one pass over its blocks.

    Args:
        volumes: the labels, and an image or None, as ``open_objects`` opens them.
        sources: the tables of features of these objects; ``measurement.json`` beside them, if there is one, tells the
            shape of the labels that they were measured of.
        num_workers: processes; 0 for this one.
        progress: show a bar.

    Raises:
        InvalidInputError: the tables were measured of labels of another shape; or there are no objects.
    """
    _check_measured_of(sources, volumes.labels)
    found = list_objects(volumes, (None, None), False, num_workers, progress)
    return LabeledObjects(volumes, {one.id: one for one in found})


def _check_measured_of(sources: FeatureTables, labels: LazyVolume) -> None:
    for folder in sorted({path.parent for path in sources.paths.values()}):
        record = folder / MEASUREMENT
        if not record.is_file():
            continue
        try:
            source = read_json(record, dict, "the record of a measurement")["settings"]["sources"]["labels"]
            shape = tuple(source["shape"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(f"{record} is damaged ({error!r}); run features again") from error
        if shape != labels.shape:
            raise InvalidInputError(
                f"the features in {folder} were measured of {source.get('address')} of shape {shape[1:]}, but "
                f"{labels.address} has {labels.spatial_shape}; give the labels that they were measured of, or run "
                "features of these"
            )


def known_classes(
    classes: Source | Mapping[int, Any] | None,
    objects: LabeledObjects,
    ids: NDArray[np.int64],
) -> dict[int, str] | None:
    """Return the classes of the objects that are clustered.

    Args:
        classes: a CSV file with the columns ``id`` and ``class``, a mapping, or a volume of classes of the shape of the
            labels, where an object has the most frequent class inside it; None for none.
        objects: those of the label volume.
        ids: (N,) of the objects that are clustered.

    Returns:
        class by id, of those that have one; None where no classes are given.

    Raises:
        MissingDataError: the file does not exist.
        InvalidInputError: the table or volume is wrong, or has the class of none of the objects.
    """
    if classes is None:
        return None
    where = str(classes) if isinstance(classes, str | os.PathLike) else "what was given as classes"
    wanted = ids.tolist()
    table = _class_table(classes, objects, wanted)
    found = {one: table[one] for one in wanted if one in table}
    if not found:
        raise InvalidInputError(
            f"{where} has the classes of {len(table)} objects (ids {list_some(sorted(table))}), but of none of the "
            f"{len(wanted)} that are clustered (ids {list_some(ids)}); expected those of the same labels"
        )
    unknown = [one for one in wanted if one not in table]
    if unknown:
        logger.warning(
            "%s lacks the classes of %d of %d objects: %s", where, len(unknown), len(wanted), list_some(unknown)
        )
    return found


def _class_table(classes: Any, objects: LabeledObjects, wanted: Sequence[int]) -> dict[int, str]:
    """Class by id; of a volume of classes those of the wanted objects only, others may be too large to read."""
    opened = open_classes(classes, objects.volumes.labels)
    assert opened is not None
    numbers = opened.table
    if opened.volume is not None:
        labels = replace(objects.volumes, image=None)
        placed = {number: objects.placed[number] for number in wanted}
        numbers = {number: opened.of(one, labels.read(one)[0]) for number, one in placed.items()}
    names = opened.names
    return {one: names[k] if names else str(k) for one, k in numbers.items() if k != UNKNOWN}
