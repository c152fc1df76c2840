"""From images, ROI volumes and annotators' tables to prepared animals for labeling cells."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from voxel_ext.data.cell_labeling_file import file_identity
from voxel_ext.data.cell_labeling_jobs import CellPreparationReport, PreparedAnimal, make_animals
from voxel_ext.data.cell_labeling_sources import CellSource, list_cell_sources, load_roi_volume
from voxel_ext.data.cell_labeling_targets import (
    CONFIDENCE_WEIGHTS,
    LabelRules,
    RoiClasses,
    balance_factors,
    count_labels,
    label_weights,
    resolve_labels,
)
from voxel_ext.data.neuron_names import BACKGROUND, read_class_names
from voxel_ext.data.roi_table import read_roi_table
from voxel_ext.errors import InvalidInputError, MissingDataError, check_counts, check_option

CLASS_NAMES_FILE = "neuron_names.txt"
SIZE = (64, 120, 284)
"""(D, H, W) of AutoCellLabeler's input."""


def prepare_cell_labeling(
    input_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    size: Sequence[int] = SIZE,
    class_names_file: str | os.PathLike[str] | None = None,
    channels: Sequence[str] | None = None,
    min_confidence: int = 2,
    confidence_weights: Sequence[float] = CONFIDENCE_WEIGHTS,
    other_weight: float = 0.3,
    weighting: str = "confidence",
    uncertain: str = "skip",
    on_conflict: str = "skip",
    center: str = "bounding_box",
    turned: Sequence[str] = (),
    num_workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> CellPreparationReport:
    """Write ``<output_dir>/train/<animal>.h5`` and ``val/<animal>.h5``, or ``<output_dir>/<animal>.h5``.

    All tables are read and checked first, and the labels of the training animals are counted, for the weights. A run
    that is repeated does only what is not yet done. See ``list_cell_sources`` for the input's files, ``resolve_labels``
    and ``label_weights`` for what becomes of the tables, ``write_cell_volume`` for the files. Last comes
    ``dataset.json``, which says that all is complete.

    Args:
        input_dir: a folder with ``train/`` and ``val/``, each with ``images/``, ``rois/``, ``labels/``, ``truth/``; or
            with these themselves, whose animals then all count for the weights. Without ``labels/`` the ROIs are
            unlabeled.
        output_dir: the folder to write to.
        size: (D, H, W) to crop or pad to; (64, 120, 284) as in AutoCellLabeler.
        class_names_file: the list of classes, see ``read_class_names``; ``neuron_names.txt`` in ``input_dir`` if None.
            May be missing if there are no tables.
        channels: names of the images' channels; if None, those that an HDF5 file has as an attribute, or else the four
            of NeuroPAL.
        min_confidence: labels of less are passed over; 2 as in AutoCellLabeler.
        confidence_weights: for the confidences 1 to 5; as in AutoCellLabeler.
        other_weight: share of that weight in the channels of other classes; 0.3 as in AutoCellLabeler.
        weighting: "confidence", or "equal" for weights of 1.
        uncertain: "skip" names with ``?``, or "expand" those that only one class fits.
        on_conflict: "skip" ROIs with two different names with a warning, or "error".
        center: of the window, "bounding_box" or "mass" of the ROIs.
        turned: animals (file names without suffix) to turn by 180° about the x axis, so that all lie alike.
        num_workers: processes; 0 for this one. They are spawned, so a script needs ``if __name__ == "__main__":``.
        overwrite: replace files that were made with other settings or from other files, or that are damaged.
        progress: show a bar.

    Returns:
        what was done, and which ROIs were cropped away or are unlabeled.

    Raises:
        MissingDataError: a folder or file does not exist (names those missing).
        InvalidInputError: an option is out of range; tables that are wrong (lists all lines of all files); the same
            image for training and validation; a file was made with other settings, or does not belong; or, after all
            others are done, animals whose volumes are wrong (lists them with the reasons).
        OSError: the folder is not writable, or the disk is full; what was finished is kept.
    """
    rules = LabelRules(min_confidence, confidence_weights, other_weight, weighting, uncertain, on_conflict)
    options = _options(size, center, channels)
    check_counts({}, num_workers=num_workers)
    sources = _list_parts(Path(input_dir))
    _check_turned(turned, sources)
    class_names = _class_names(Path(input_dir), class_names_file, sources)
    labels, truths = _read_tables(sources, class_names, rules, progress)
    training = [labels[part][source.name] for part in sources if part != "val" for source in sources[part]]
    counts = count_labels(training, len(class_names))
    factors = balance_factors(counts, class_names)
    named = {name: int(count) for name, count in zip(class_names, counts, strict=True) if count}
    settings = {**asdict(rules), "confidence_weights": list(map(float, confidence_weights)), "class_counts": named}
    del settings["on_conflict"]  # says whether to go on, not what comes of it
    jobs = []
    for part, animals in sources.items():
        for source in animals:
            own = labels[part][source.name]
            jobs.append(
                PreparedAnimal(
                    source,
                    Path(output_dir) / part / f"{source.name}.h5",
                    class_names,
                    own,
                    truths[part].get(source.name),
                    label_weights(own, factors, rules),
                    {**options, "turned": source.name in turned},
                    settings,
                )
            )
    return make_animals(Path(output_dir), jobs, named, num_workers, overwrite, progress)


def _options(size: Sequence[int], center: str, channels: Sequence[str] | None) -> dict[str, Any]:
    check_option("center", center, ("bounding_box", "mass"))
    if len(size) != 3:
        raise InvalidInputError(f"size={tuple(size)}; expected (D, H, W)")
    axes = dict(zip(("size[0]", "size[1]", "size[2]"), size, strict=True))
    check_counts(dict.fromkeys(axes, 1), **axes)
    if isinstance(channels, str):
        raise InvalidInputError(f"channels={channels!r}; expected a list of names")
    return {
        "size": [int(n) for n in size],
        "center": center,
        "channels": None if channels is None else list(map(str, channels)),
    }


def _list_parts(root: Path) -> dict[str, list[CellSource]]:
    """The animals of ``train`` and ``val``, or of ``""``."""
    if not root.is_dir():
        raise MissingDataError(f"input_dir {str(root)!r} does not exist (current folder: {os.getcwd()})")
    parts = [part for part in ("train", "val") if (root / part).is_dir()]
    if parts == ["val"]:
        raise MissingDataError(f"{root} has a folder 'val' but no folder 'train'")
    if parts and (root / "images").is_dir():
        raise InvalidInputError(f"{root} has both {' and '.join(parts)} and images; expected one kind")
    sources = {part: list_cell_sources(root / part) for part in parts or [""]}
    used: dict[tuple[int, int], Path] = {}
    for animals in sources.values():
        for source in animals:
            identity = file_identity(source.image)
            if identity in used:
                raise InvalidInputError(
                    f"{used[identity]} and {source.image} are the same image; use it once, for training or validation"
                )
            used[identity] = source.image
    return sources


def _check_turned(turned: Sequence[str], sources: Mapping[str, Sequence[CellSource]]) -> None:
    if isinstance(turned, str):
        raise InvalidInputError(f"turned={turned!r}; expected a list of names of animals")
    there = sorted({source.name for animals in sources.values() for source in animals})
    unknown = sorted(set(turned) - set(there))
    if unknown:
        raise InvalidInputError(f"turned has animals that are not there: {unknown}; there are: {', '.join(there[:10])}")


def _class_names(
    root: Path, file: str | os.PathLike[str] | None, sources: Mapping[str, Sequence[CellSource]]
) -> tuple[str, ...]:
    tables = any(source.labels or source.truth for animals in sources.values() for source in animals)
    if file is None and not tables and not (root / CLASS_NAMES_FILE).is_file():
        return (BACKGROUND,)
    return read_class_names(root / CLASS_NAMES_FILE if file is None else file)


def _read_tables(
    sources: Mapping[str, Sequence[CellSource]],
    class_names: Sequence[str],
    rules: LabelRules,
    progress: bool,
) -> tuple[dict[str, dict[str, RoiClasses]], dict[str, dict[str, dict[int, int]]]]:
    """The labels and the truth of each animal of each part; what is wrong with any table is told at once."""
    labels: dict[str, dict[str, RoiClasses]] = {part: {} for part in sources}
    truths: dict[str, dict[str, dict[int, int]]] = {part: {} for part in sources}
    strict = LabelRules(min_confidence=1, on_conflict="error")
    problems = []
    todo = [(part, source) for part, animals in sources.items() for source in animals]
    for part, source in tqdm(todo, desc="tables", unit="animal", disable=not progress):
        try:
            ids = np.unique(load_roi_volume(source.roi)).tolist() if source.labels or source.truth else []
            labels[part][source.name] = RoiClasses()
            if source.labels is not None:
                table = read_roi_table(source.labels)
                table.check_ids(set(ids) - {0}, str(source.roi))
                labels[part][source.name] = resolve_labels(table, class_names, rules)
            if source.truth is not None:
                table = read_roi_table(source.truth, confidence=False)
                table.check_ids(set(ids) - {0}, str(source.roi))
                truths[part][source.name] = resolve_labels(table, class_names, strict).classes
        except (InvalidInputError, MissingDataError) as error:
            problems.append(str(error))
    if problems:
        many = f"{len(problems)} animals cannot be prepared:\n" if len(problems) > 1 else ""
        raise InvalidInputError(many + "\n".join(problems))
    return labels, truths
