"""Tables of labeled ROIs (CSV) and of their class probabilities (npz or HDF5)."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from voxel_ext.errors import InvalidInputError, MissingDataError, check_option
from voxel_ext.files import atomic_path
from voxel_ext.hdf5 import read_hdf5
from voxel_ext.hdf5_checks import read_text, read_whole
from voxel_ext.labeling.label import UNKNOWN, CellLabel, RoiProbabilities
from voxel_ext.npz import read_arrays

COLUMNS = ("Neuron Class", "Coordinates", "ROI ID", "Confidence", "Alternatives", "Notes")
"""The columns of a table of labels."""
_ARRAYS = ("roi_ids", "probabilities", "sizes", "centers", "confident_counts")


def write_labels(path: str | os.PathLike[str], labels: Iterable[CellLabel], first_voxel: int = 1) -> None:
    """Write labels as a CSV file with the columns of AutoCellLabeler (Atanas et al. 2024).

    ``Coordinates`` are the center as ``"x,y,z"``, rounded to voxels.

    Args:
        path: the file to write.
        labels: one row each, in this order.
        first_voxel: number of the first voxel of an axis: 1 (default, as AutoCellLabeler and ITK-SNAP count) or 0.

    Raises:
        InvalidInputError: ``first_voxel`` is neither.
        OSError: the file cannot be written.
    """
    _check_first_voxel(first_voxel)
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for label in labels:
            coordinates = ",".join(str(round(c) + first_voxel) for c in reversed(label.center))
            writer.writerow(
                [label.neuron_class, coordinates, label.roi_id, label.confidence, label.alternatives, label.notes]
            )


def read_labels(
    path: str | os.PathLike[str], class_names: Sequence[str] | None = None, first_voxel: int = 1
) -> list[CellLabel]:
    """Read a table of labels.

    Args:
        path: a file written by :func:`write_labels`.
        class_names: (K,) names, class 0 the background, to find the class of each label.
        first_voxel: number of the first voxel of an axis in the file (1), see :func:`write_labels`.

    Returns:
        The labels, with what the table holds of them: centers in whole voxels, probabilities with two digits and NaN
        where the class is not among the alternatives; ``class_index`` is -1 (0 for ``UNKNOWN``) without
        ``class_names`` or where a ``?`` leaves it open.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: other columns, repeated ROI ids, or values that cannot be read; names file and line.
    """
    _check_first_voxel(first_voxel)
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"there is no table of labels {path}")
    names = [UNKNOWN, *class_names[1:]] if class_names is not None else []
    labels: list[CellLabel] = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            for line, row in _rows(csv.DictReader(file), path):
                try:
                    labels.append(_label(row, names, first_voxel))
                except (ValueError, TypeError, AttributeError) as error:
                    raise InvalidInputError(f"line {line} of {path} cannot be read: {error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{path} is no CSV file in UTF-8 ({error}); save it as one") from error
    ids = [label.roi_id for label in labels]
    if len(set(ids)) < len(ids):
        raise InvalidInputError(f"{path} has repeated ROI ids: {sorted({i for i in ids if ids.count(i) > 1})}")
    return labels


def _rows(reader: csv.DictReader[str], path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and content of each line, after the columns are checked."""
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise InvalidInputError(f"{path} has the columns {reader.fieldnames}; expected {', '.join(COLUMNS)}")
    for row in reader:
        yield reader.line_num, row


def write_probabilities(path: str | os.PathLike[str], rois: RoiProbabilities, class_names: Sequence[str]) -> None:
    """Write the probabilities of every ROI and class, beside a table of labels.

    Args:
        path: ends with ``.npz``, ``.h5`` or ``.hdf5``. The arrays have the names of the attributes of
            ``RoiProbabilities``, and ``class_names``.
        rois: of one volume.
        class_names: (K,) names of the classes.

    Raises:
        InvalidInputError: another ending, or not one name per class.
        OSError: the file cannot be written.
    """
    suffix = check_option("suffix", Path(path).suffix, (".npz", ".h5", ".hdf5"))
    if len(class_names) != rois.probabilities.shape[1]:
        raise InvalidInputError(f"{len(class_names)} class names for {rois.probabilities.shape[1]} classes")
    arrays = {name: getattr(rois, name) for name in _ARRAYS}
    with atomic_path(path) as temporary:
        if suffix == ".npz":
            np.savez_compressed(temporary, class_names=np.array(class_names, dtype=np.str_), **arrays)
            return
        import h5py

        with h5py.File(temporary, "w") as file:
            file.create_dataset("class_names", data=list(class_names), dtype=h5py.string_dtype())
            for name, array in arrays.items():
                file.create_dataset(name, data=array, compression="gzip")


def read_probabilities(path: str | os.PathLike[str]) -> tuple[RoiProbabilities, list[str]]:
    """Read what :func:`write_probabilities` wrote.

    Returns:
        The probabilities, and the (K,) class names.

    Raises:
        MissingDataError: there is no such file, or an array is missing in it.
        InvalidInputError: an ending other than ``.npz``, ``.h5`` and ``.hdf5``, or arrays that do not fit together.
    """
    suffix = check_option("suffix", Path(path).suffix, (".npz", ".h5", ".hdf5"))
    if not Path(path).is_file():
        raise MissingDataError(f"there is no table of probabilities {path}")
    try:
        if suffix == ".npz":
            arrays = read_arrays(path, (*_ARRAYS, "class_names"))
        else:
            with read_hdf5(path) as file:
                missing = [name for name in (*_ARRAYS, "class_names") if not hasattr(file.get(name), "shape")]
                if missing:
                    raise MissingDataError(f"it lacks {', '.join(missing)}")
                arrays = {name: read_whole(file[name]) for name in _ARRAYS}
                arrays["class_names"] = np.array(read_text(file["class_names"]), dtype=object)
        names = [str(name) for name in arrays.pop("class_names").tolist()]
        rois = RoiProbabilities(**arrays)
    except MissingDataError as error:
        raise MissingDataError(f"{path} is no table of probabilities: {error}") from error
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{path} is no table of probabilities: {error}") from error
    if len(names) != rois.probabilities.shape[1]:
        raise InvalidInputError(f"{path} has {len(names)} names for {rois.probabilities.shape[1]} classes")
    return rois, names


def _check_first_voxel(first_voxel: int) -> None:
    """Refuse anything but 0 and 1."""
    if first_voxel not in (0, 1):
        raise InvalidInputError(f"first_voxel={first_voxel!r} is not valid; expected 0 or 1")


def _label(row: dict[str, str], names: Sequence[str], first_voxel: int) -> CellLabel:
    """Make a label of a row of the table."""
    written, notes, alternatives = row["Neuron Class"], row["Notes"], row["Alternatives"]
    x, y, z = (float(c) - first_voxel for c in row["Coordinates"].split(","))
    base = written.removesuffix("-alt")
    listed = {name: float(p) for name, p in re.findall(r"([^,()\s][^,()]*)\(([\d.]+)\)", alternatives)}
    sides = [base[:-1] + side for side in "LR"] if base.endswith("?") else [base]
    found = [listed[side] for side in sides if side in listed]
    index = 0 if base == UNKNOWN else names.index(base) if base in names else -1
    if names and index < 0 and not base.endswith("?"):
        raise ValueError(f"{base!r} is not one of the {len(names)} class names")
    confidence = int(row["Confidence"])
    if not 0 <= confidence <= 5:
        raise ValueError(f"the confidence {confidence} is not 0 to 5")
    return CellLabel(
        neuron_class=written,
        roi_id=int(row["ROI ID"]),
        center=(z, y, x),
        confidence=confidence,
        probability=sum(found) if found else math.nan,
        class_index=index,
        alternatives=alternatives,
        notes=notes,
        is_alternative=written.endswith("-alt"),
        is_contaminated="contaminated" in notes,
        merged_with=tuple(int(i) for i in re.findall(r"merged with ROI (\d+)", notes)),
    )
