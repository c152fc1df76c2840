"""A raw data set of artificial NeuroPAL animals, laid out as an annotated one of real animals is."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.jobs import do_missing
from voxel_ext.data.neuropal_annotation import AnnotatedRoi, Annotator, annotate, split_rois
from voxel_ext.data.preparation_plan import SEEDS_PER_SET
from voxel_ext.data.prepared_file import read_record
from voxel_ext.data.prepared_folder import check_foreign, describe_difference, write_marker, write_text_if_changed
from voxel_ext.errors import InvalidInputError, check_counts
from voxel_ext.files import atomic_path, explain_write_errors, locked_folder
from voxel_ext.hdf5 import write_hdf5

NAMES = "neuron_names.txt"
LABEL_COLUMNS = ("Neuron Class", "Coordinates", "ROI ID", "Confidence", "Comments")
TRUTH_COLUMNS = ("ROI ID", "Neuron Class")
PARTS = ("train", "val")


@dataclass(frozen=True)
class SyntheticAnimal:
    """An artificial animal to be made; a job of ``do_jobs``.

    Args:
        folder: the part of the set that it belongs to, ``train`` or ``val``.
        name: of its files, without suffix.
        options: arguments of ``voxel_ext.synthetic.neuropal.NeuroPAL``, with the seed.
        annotator: how it is labeled.
    """

    folder: Path
    name: str
    options: Mapping[str, Any]
    annotator: Annotator

    @property
    def path(self) -> Path:
        """The image, which is written last."""
        return self.folder / "images" / f"{self.name}.h5"

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the files depend on."""
        from voxel_ext.synthetic.neuropal import NeuroPAL

        return {"generator": "NeuroPAL", **NeuroPAL(**self.options).settings(), **asdict(self.annotator)}

    def _others(self) -> tuple[Path, Path, Path]:
        rois, labels, truth = (self.folder / kind for kind in ("rois", "labels", "truth"))
        return rois / f"{self.name}.h5", labels / f"{self.name}.csv", truth / f"{self.name}.csv"

    def is_complete(self) -> bool:
        """Whether all its files are there."""
        return self.path.exists() and all(path.exists() for path in self._others())

    def make(self) -> None:
        """Make the animal, annotate it and write its files.

        Raises:
            InvalidInputError: an option is out of range.
        """
        from voxel_ext.synthetic.neuropal import CHANNELS, NeuroPAL

        animal = NeuroPAL(**self.options).generate()
        rng = np.random.default_rng([self.options["seed"], len(animal["names"])])
        roi, parts = split_rois(rng, animal["label"], self.annotator.split_share)
        lines = annotate(rng, animal, self.annotator, parts)
        truth = dict(enumerate(animal["names"], 1))
        truth |= {second: truth[first] for first, second in parts.values()}
        rois, labels, true_names = self._others()
        _write_volume(rois, "roi", roi, {})
        _write_rows(labels, LABEL_COLUMNS, map(_row, lines))
        _write_rows(true_names, TRUTH_COLUMNS, truth.items())
        attributes = {"channels": list(CHANNELS), "settings": self.record}
        _write_volume(self.path, "raw", animal["image"].astype(np.uint16), attributes)

    def difference(self) -> str:
        """In what the image there was made otherwise; "" if in nothing."""
        try:
            there = read_record(self.path)
        except InvalidInputError as error:
            return f"{self.path} is damaged, or was not made by prepare_synthetic_neuropal ({error})"
        return describe_difference(self.path, there, self.record)


def prepare_synthetic_neuropal(
    output_dir: str | os.PathLike[str],
    volumes: int = 24,
    validation_volumes: int = 6,
    size: int | Sequence[int] = (64, 120, 284),
    cells: int = 184,
    seed: int = 0,
    labeled_share: float = 0.7,
    question_share: float = 0.05,
    wrong_share: float = 0.02,
    split_share: float = 0.0,
    generator: Mapping[str, Any] | None = None,
    num_workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Make artificial NeuroPAL animals, with the tables that an annotator would have written.

    The folder is one that ``prepare_cell_labeling`` reads: ``neuron_names.txt``, with a class a line and without the
    background, and in ``train/`` and in ``val/``, per animal,

    - ``images/<animal>.h5``: ``raw`` (4, Z, Y, X) uint16, with the attribute ``channels``;
    - ``rois/<animal>.h5``: ``roi`` (Z, Y, X) uint16 ROI ids, 0 is background;
    - ``labels/<animal>.csv``: Neuron Class, Coordinates (z, y, x in voxels, from 0), ROI ID, Confidence (1 to 5),
      Comments, of the ROIs that are labeled;
    - ``truth/<animal>.csv``: ROI ID and Neuron Class of every ROI.

    The result depends on the settings and the seed, not on the number of workers. A run that is repeated makes only
    what is not yet there; with more animals asked for it adds to those there.

    Args:
        output_dir: the folder to write to.
        volumes: number of animals for training.
        validation_volumes: number of animals for validation, none of them among those for training.
        size: (Z, Y, X) in voxels.
        cells: number of cells.
        seed: each has its own animals, none shared with another's.
        labeled_share: share of the ROIs that are labeled, distinct ones first.
        question_share: share of the names of left-right pairs that end with ``?``.
        wrong_share: share of the labeled ROIs whose name was exchanged with that of the ROI most like it.
        split_share: share of the ROIs that are cut in two; the tables say ``12/15``.
        generator: further arguments of ``voxel_ext.synthetic.neuropal.NeuroPAL``, e.g. ``appearance_strength``.
        num_workers: processes; 0 for this one. They are spawned, so a script needs ``if __name__ == "__main__":``.
        overwrite: replace animals that were made with other settings.
        progress: show a bar.

    Returns:
        the folder.

    Raises:
        InvalidInputError: an option is not known or out of range; an animal was made with other settings; animals that
            do not belong to the set.
        VoxelExtError: a worker process ended unexpectedly.
        OSError: the folder is not writable, or the disk is full; what was finished is kept.
    """
    check_counts({"volumes": 1, "validation_volumes": 1}, volumes=volumes, validation_volumes=validation_volumes)
    check_counts({}, seed=seed, num_workers=num_workers)
    options = {**_known(generator or {}), "size": size, "cells": cells}
    if num_workers:
        options["threads"] = 1
    class_names = _class_names(options)
    annotator = Annotator(labeled_share, question_share, wrong_share, split_share)
    root = Path(output_dir)
    starts = dict(zip(PARTS, (seed * SEEDS_PER_SET, seed * SEEDS_PER_SET + SEEDS_PER_SET // 2), strict=True))
    counts = dict(zip(PARTS, (volumes, validation_volumes), strict=True))
    jobs = [
        SyntheticAnimal(root / part, f"{part}_{i + 1:04d}", {**options, "seed": starts[part] + i}, annotator)
        for part in PARTS
        for i in range(counts[part])
    ]
    with locked_folder(root, ".prepare.lock"), explain_write_errors(root):
        planned = [job.path for job in jobs]
        check_foreign(root, planned, "animals", ("",))
        difference = SyntheticAnimal.difference
        do_missing(root, jobs, difference, "animal", "synthetic animals", num_workers, overwrite, progress)
        write_text_if_changed(root / NAMES, "".join(f"{name}\n" for name in class_names[1:]))
        write_marker(root, planned)
    return root


def _known(generator: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the generator that are not arguments here."""
    from dataclasses import fields

    from voxel_ext.synthetic.neuropal import NeuroPAL

    known = [f.name for f in fields(NeuroPAL) if f.init and f.name not in ("seed", "size", "cells")]
    strange = sorted(set(generator) - set(known))
    if strange:
        raise InvalidInputError(f"generator={dict(generator)!r} has {strange}; expected some of {', '.join(known)}.")
    return dict(generator)


def _class_names(options: Mapping[str, Any]) -> list[str]:
    """Names of the classes; refuses options that are out of range."""
    from voxel_ext.synthetic.neuropal import NeuroPAL

    return NeuroPAL(0, **options).class_names


def _row(line: AnnotatedRoi) -> tuple[Any, ...]:
    return line.name, str(line.position), "/".join(map(str, line.roi_ids)), line.confidence, line.comment


def _write_volume(path: Path, key: str, volume: NDArray[Any], attributes: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary, write_hdf5(temporary) as (file, _):
        file.create_dataset(key, data=volume, chunks=True, compression="gzip", compression_opts=1, shuffle=True)
        for name, value in attributes.items():
            file.attrs[name] = json.dumps(value)


def _write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
