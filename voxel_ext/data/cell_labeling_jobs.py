"""Writing prepared animals for labeling cells, continued where it was interrupted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.cell_labeling_crop import CropReport, crop_or_pad, turn_about_x
from voxel_ext.data.cell_labeling_file import CellVolume, read_cell_header, write_cell_volume
from voxel_ext.data.cell_labeling_sources import CellSource, load_cell_image, load_roi_volume
from voxel_ext.data.cell_labeling_targets import RoiClasses
from voxel_ext.data.jobs import do_missing
from voxel_ext.data.prepared_folder import check_foreign, describe_difference, write_marker
from voxel_ext.errors import InvalidInputError
from voxel_ext.files import explain_write_errors, locked_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellPreparationReport:
    """What :func:`prepare_cell_labeling` did.

    Args:
        made: files written in this run.
        kept: files that were finished before.
        class_counts: labels of each class in the training animals, those that occur.
        lost: ids of the ROIs wholly outside of the window, by file, where there are some.
        cut: ids of the ROIs partly outside of it, likewise.
        skipped: ids of the ROIs that stay unlabeled though they are in the table, by file and reason.
    """

    made: list[Path]
    kept: list[Path]
    class_counts: dict[str, int]
    lost: dict[Path, list[int]] = field(default_factory=dict)
    cut: dict[Path, list[int]] = field(default_factory=dict)
    skipped: dict[Path, dict[str, list[int]]] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparedAnimal:
    """An animal to be prepared; a job of ``do_jobs``.

    Args:
        source: its files.
        path: the file to write.
        class_names: of all classes, "background" first.
        labels: the classes of its ROIs, as annotated.
        truth: likewise, as they are; None if that is not known.
        weights: (own, others) by ROI id.
        options: ``size``, ``center``, ``channels``, ``turned``.
        settings: all else that the file depends on.
    """

    source: CellSource
    path: Path
    class_names: tuple[str, ...]
    labels: RoiClasses
    truth: dict[int, int] | None
    weights: dict[int, tuple[float, float]]
    options: dict[str, Any]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """The animal's, with its part of the data set."""
        return f"{self.path.parent.name}/{self.source.name}"

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the file depends on."""
        return {**self.options, **self.settings, "sources": self.source.describe()}

    def is_complete(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def make(self) -> None:
        """Load the volumes, crop them and write the file.

        Raises:
            MissingDataError: a file does not exist.
            InvalidInputError: a file is damaged, or does not fit the others.
        """
        image, channels = load_cell_image(self.source.image, self.options["channels"])
        roi = load_roi_volume(self.source.roi)
        if image.shape[1:] != roi.shape:
            raise InvalidInputError(
                f"{self.source.image} has shape {image.shape} (C, D, H, W), but {self.source.roi} {roi.shape} (D, H, W)"
            )
        image, roi, crop = crop_or_pad(image, roi, self.options["size"], self.options["center"])
        if self.options["turned"]:
            image, roi = turn_about_x(image), turn_about_x(roi)
        _log_crop(self.name, crop)
        volume = self._volume(image, roi, channels, crop)
        write_cell_volume(self.path, volume)

    def _volume(self, image: NDArray, roi: NDArray, channels: tuple[str, ...], crop: CropReport) -> CellVolume:
        ids = np.unique(roi).astype(np.int64)
        ids = ids[ids > 0]

        def look_up(values: Mapping[int, Any], default: Any) -> NDArray:
            return np.array([values.get(roi_id, default) for roi_id in ids.tolist()])

        weights = look_up(self.weights, (1.0, 1.0)).reshape(-1, 2).astype(np.float32)
        return CellVolume(
            raw=image,
            roi=roi,
            roi_ids=ids,
            roi_class=look_up(self.labels.classes, 0),
            roi_weight=weights[:, 0],
            roi_other_weight=weights[:, 1],
            roi_confidence=look_up(self.labels.confidences, 0),
            class_names=self.class_names,
            true_class=None if self.truth is None else look_up(self.truth, 0),
            channels=channels,
            settings={
                "made_with": self.record,
                "window_start": list(crop.start),
                "rois_lost": crop.lost,
                "rois_cut": crop.cut,
                "rois_skipped": self.labels.skipped,
            },
        )


def _log_crop(name: str, crop: CropReport) -> None:
    for rois, what in ((crop.lost, "wholly cropped away"), (crop.cut, "partly cropped away")):
        if rois:
            logger.warning("%s: %d ROIs are %s: %s", name, len(rois), what, ", ".join(map(str, rois)))


def make_animals(
    root: Path,
    jobs: Sequence[PreparedAnimal],
    counts: dict[str, int],
    num_workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> CellPreparationReport:
    """Make the files that are still to be made, and last the marker that all is complete.

    Args:
        root: the folder to write to.
        jobs: all animals.
        counts: labels of each class in the training animals.
        num_workers: processes; 0 for this one.
        overwrite: replace files that were made with other settings, or are damaged.
        progress: show a bar.

    Raises:
        InvalidInputError: a file was made with other settings, or does not belong; or, after all others are done,
            animals whose volumes are wrong (lists them with the reasons).
        OSError: the folder is not writable, or the disk is full; what was finished is kept.
    """
    with locked_folder(root, ".prepare.lock"), explain_write_errors(root):
        check_foreign(root, [job.path for job in jobs], "animals")
        missing = do_missing(root, jobs, _difference, "animal", "animals", num_workers, overwrite, progress)
        write_marker(root, [job.path for job in jobs], class_counts=counts)
    # the files say it, also those that an earlier run made
    settings = {job.path: read_cell_header(job.path).settings for job in jobs}
    lost, cut, skipped = (
        {path: known[key] for path, known in settings.items() if known[key]}
        for key in ("rois_lost", "rois_cut", "rois_skipped")
    )
    made = [job.path for job in missing]
    return CellPreparationReport(made, [job.path for job in jobs if job.path not in made], counts, lost, cut, skipped)


def _difference(job: PreparedAnimal) -> str:
    try:
        there = read_cell_header(job.path)
    except InvalidInputError as error:
        return str(error)
    counts = f"the {len(there.class_names)} class names there are not the {len(job.class_names)} now"
    more = [] if there.class_names == job.class_names else [counts]
    return describe_difference(job.path, there.settings.get("made_with"), job.record, *more)
