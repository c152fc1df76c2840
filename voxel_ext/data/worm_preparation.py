"""From a worm's volumes and coordinate file to a cube per cell, for a folder of worms."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from voxel_ext.data.jobs import do_missing
from voxel_ext.data.worm_checks import list_prepared
from voxel_ext.data.worm_cubes import CubeSettings, WormCutter
from voxel_ext.data.worm_file import read_worm_header, write_worm
from voxel_ext.data.worm_jobs import worm_difference, write_summary
from voxel_ext.data.worm_table import read_worm_table
from voxel_ext.data.worm_volumes import WormSource, list_worms, load_labels, load_volume
from voxel_ext.errors import InvalidInputError, check_counts
from voxel_ext.files import explain_write_errors, locked_folder


@dataclass(frozen=True)
class PreparationReport:
    """What :func:`prepare_worms` did.

    Args:
        made: names of the worms prepared in this run.
        kept: names of those that were finished before.
        passed_over: names of those that lack an image or a coordinate file.
        processed: cells prepared, in all worms.
        skipped: cells missing, in all worms.
    """

    made: list[str]
    kept: list[str]
    passed_over: list[str]
    processed: int
    skipped: int


@dataclass(frozen=True)
class PreparedWorm:
    """A worm to be prepared; a job of ``do_jobs``.

    Args:
        source: its files.
        path: the file to write.
        cubes: how to cut.
        channel: which channel of the image; None for the third of three or more, else the first.
    """

    source: WormSource
    path: Path
    cubes: CubeSettings
    channel: int | None

    @property
    def name(self) -> str:
        """The worm's name."""
        return self.source.name

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the file depends on."""
        return {**asdict(self.cubes), "channel": self.channel, "sources": self.source.describe()}

    def is_complete(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def make(self) -> None:
        """Cut the cells and write them, one after the other.

        Raises:
            MissingDataError: a file does not exist.
            InvalidInputError: a file is damaged, or does not fit the others.
        """
        table = read_worm_table(self.source.table)
        image = load_volume(self.source.image, self.channel)
        label = None if self.source.label is None else load_labels(self.source.label)
        cutter = WormCutter(image, label, table, self.cubes, self.name, self.record)
        write_worm(self.path, cutter.header, cutter.cubes())


def prepare_worms(
    image_dir: str | os.PathLike[str],
    label_dir: str | os.PathLike[str] | None,
    coordinate_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    size: int = 32,
    channels: str = "raw",
    channel: int | None = None,
    alpha: float = 0.6,
    exact_soft_mask: bool = False,
    voxel_size: tuple[float, float, float] | None = None,
    cells: int = 558,
    num_workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> PreparationReport:
    """Cut a cube around every cell of every worm: ``<output_dir>/<worm>.h5``.

    See ``cut_worm`` for what a file holds. Slot i is the cell with ``Aligned_No`` i + 1, whether or not others are
    missing. Beside the worms stand ``processed_cells.tsv`` (with the rule by which each cell was found),
    ``skipped_cells.tsv`` (with the reason), ``statistics.json``, and last ``dataset.json``, which says that all is
    complete. A run that is repeated does only what is not yet done. A worm with an error does not stop the others.

    Args:
        image_dir: folder of the intensity volumes ``<worm>.raw`` (Vaa3D; see ``load_volume`` for other formats).
        label_dir: folder of the label volumes, likewise; None for ``channels="raw"`` without looking for the cells.
        coordinate_dir: folder of the coordinate files ``<worm>.txt``; see ``read_worm_table``.
        output_dir: the folder to write to.
        size: the cubes' side in voxels; 32 as in MA_FeatureLearning.
        channels: "raw", "raw+mask+soft" or "soft"; see ``CubeSettings``.
        channel: which channel of the images; by default the third if there are three or more, else the first.
        alpha: steepness of the soft mask; 0.6 as in MA_FeatureLearning.
        exact_soft_mask: False for a soft mask that is 1 inside, True for MA_FeatureLearning's, 0.6457 inside.
        voxel_size: (z, y, x) sizes for the soft mask's distance; voxels if None.
        cells: how many identities there are; 558 in an L1 larva.
        num_workers: processes; 0 for this one. They are spawned, so a script needs ``if __name__ == "__main__":``.
        overwrite: replace worms that were made with other settings or from other files, or that are damaged.
        progress: show a bar.

    Raises:
        MissingDataError: a folder does not exist, or no worm has all files.
        InvalidInputError: an option is out of range; a worm was made with other settings; ``output_dir`` has worms of
            another shape; or, after all others are done, worms whose files are wrong (lists them with the reasons).
        VoxelExtError: a worker process ended unexpectedly.
        OSError: the folder is not writable, or the disk is full; what was finished is kept.
    """
    voxel_size = None if voxel_size is None else (float(voxel_size[0]), float(voxel_size[1]), float(voxel_size[2]))
    settings = CubeSettings(size, channels, alpha, exact_soft_mask, voxel_size, cells)
    check_counts({}, num_workers=num_workers)
    if label_dir is None and channels != "raw":
        raise InvalidInputError(f"channels={channels!r} needs label volumes; give label_dir, or use channels='raw'")
    root = Path(output_dir)
    sources, alone = list_worms(image_dir, label_dir, coordinate_dir)
    jobs = [PreparedWorm(source, root / f"{source.name}.h5", settings, channel) for source in sources]
    with locked_folder(root, ".prepare.lock"), explain_write_errors(root):
        missing = do_missing(root, jobs, worm_difference, "worm", "worms", num_workers, overwrite, progress)
        files = list_prepared(root)
        _check_alike(files)
        counts = write_summary(root, files, files)
    made = [job.name for job in missing]
    kept = [job.name for job in jobs if job.name not in made]
    return PreparationReport(made, kept, alone, counts["processed"], counts["skipped"])


def _check_alike(files: list[Path]) -> None:
    """Refuse worms that cannot be used together."""
    first = read_worm_header(files[0])
    for path in files[1:]:
        other = read_worm_header(path)
        if (other.shape, other.channels) != (first.shape, first.channels):
            raise InvalidInputError(
                f"{path} holds {other.shape} {other.channels}, but {files[0]} {first.shape} {first.channels}; worms of "
                "one folder must be alike. Choose another output_dir, or move those of another run away"
            )
