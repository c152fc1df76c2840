"""Artificial worms, prepared as real ones are, with training and validation worms that are never the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.jobs import do_missing
from voxel_ext.data.preparation_plan import SEEDS_PER_SET
from voxel_ext.data.prepared_folder import check_foreign
from voxel_ext.data.vaa3d import write_vaa3d
from voxel_ext.data.worm_cubes import CubeSettings, WormCutter
from voxel_ext.data.worm_file import write_worm
from voxel_ext.data.worm_jobs import worm_difference, write_summary
from voxel_ext.data.worm_table import WormTable, read_worm_table, write_worm_table
from voxel_ext.errors import InvalidInputError, MissingDataError, check_counts
from voxel_ext.files import explain_write_errors, locked_folder


@dataclass(frozen=True)
class SyntheticWorm:
    """An artificial worm to be made; a job of ``do_jobs``.

    Args:
        path: the file to write.
        seed: of ``voxel_ext.synthetic.Worm``.
        table: a coordinate file whose positions are rendered; None to draw them.
        options: the other arguments of ``voxel_ext.synthetic.Worm``.
        cubes: size and content of the cubes; ``cells`` does not matter.
        volumes: folder for the volumes and the coordinates as well, in ``images``, ``labels``, ``coordinates``.
    """

    path: Path
    seed: int
    table: Path | None
    options: Mapping[str, Any]
    cubes: CubeSettings
    volumes: Path | None

    @property
    def name(self) -> str:
        """The worm's name."""
        return self.path.stem

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the file depends on."""
        options = {name: value for name, value in self.options.items() if name != "threads"}
        cubes = {name: value for name, value in asdict(self.cubes).items() if name != "cells"}
        table = self.table.name if self.table else None
        return {**cubes, "generator": "Worm", **options, "seed": self.seed, "positions_of": table}

    def _kept(self) -> list[Path]:
        if self.volumes is None:
            return []
        parts = (("images", ".raw"), ("labels", ".raw"), ("coordinates", ".txt"))
        return [self.volumes / folder / f"{self.name}{suffix}" for folder, suffix in parts]

    def is_complete(self) -> bool:
        """Whether the file, and the volumes that are to be kept, are there."""
        return self.path.exists() and all(path.exists() for path in self._kept())

    def make(self) -> None:
        """Make the worm, cut its cells and write them.

        Raises:
            InvalidInputError: an option is out of range, or the coordinate file is wrong.
        """
        from voxel_ext.synthetic.worm import Worm

        worm = Worm(self.seed, **self.options, **_given(self.table)).generate()
        table = annotated_cells(worm, self.name)
        if self.volumes is not None:
            self._keep(worm["image"], worm["label"], table)
        cubes = CubeSettings(**{**asdict(self.cubes), "cells": len(worm["valid"])})
        cutter = WormCutter(worm["image"], worm["label"], table, cubes, self.name, self.record)
        write_worm(self.path, cutter.header, cutter.cubes())

    def _keep(self, image: NDArray, label: NDArray, table: WormTable) -> None:
        images, labels, coordinates = self._kept()
        write_vaa3d(images, np.clip(np.rint(image), 0, 255).astype(np.uint8))
        write_vaa3d(labels, label.astype(np.uint16))
        write_worm_table(coordinates, table)


def annotated_cells(worm: Mapping[str, Any], name: str = "") -> WormTable:
    """Return the table of the cells of an artificial worm that are not missing.

    Args:
        worm: what ``voxel_ext.synthetic.Worm`` generates.
        name: of the worm, for messages.
    """
    valid = np.flatnonzero(worm["valid"])
    names = tuple(worm["names"][i] for i in valid)
    return WormTable(names, worm["positions"][valid], valid + 1, worm["label_numbers"][valid], name)


def _given(path: Path | None) -> dict[str, Any]:
    """Positions and names of a coordinate file, in the order of the numbers, for the generator."""
    if path is None:
        return {}
    table = read_worm_table(path)
    order = np.argsort(table.numbers)
    if not np.array_equal(table.numbers[order], np.arange(1, len(table) + 1)):
        raise InvalidInputError(
            f"{path} has {len(table)} cells, but their Aligned_No are not 1 to {len(table)}; a worm is rendered from a "
            "complete coordinate file"
        )
    return {"positions": table.positions[order], "names": [table.names[i] for i in order]}


def prepare_synthetic_worms(
    output_dir: str | os.PathLike[str],
    training: int = 24,
    validation: int = 6,
    seed: int = 0,
    cells: int | None = None,
    appearance_strength: float = 1.0,
    missing: float = 0.0,
    position_noise: float = 0.0,
    coordinate_dir: str | os.PathLike[str] | None = None,
    size: int = 32,
    channels: str = "raw",
    alpha: float = 0.6,
    exact_soft_mask: bool = False,
    num_workers: int = 0,
    keep_volumes: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Make artificial worms and prepare them: ``train/<worm>.h5`` and ``val/<worm>.h5``.

    See ``prepare_worms`` for the other files; the statistics are those of the training worms. The result depends on the
    settings and the seed, not on the number of workers. A run that is repeated makes only what is not yet there; with
    more worms asked for it adds to those there.

    Args:
        output_dir: the folder to write to.
        training: number of worms for training.
        validation: number of worms for validation.
        seed: each has its own worms, none shared with another's.
        cells: how many cells a worm has, the first by ``Aligned_No``; None for all.
        appearance_strength: how much of a nucleus' looks depends on which cell it is; 0 for nothing.
        missing: share of the cells that are not annotated.
        position_noise: standard deviation of the annotation, voxels per axis.
        coordinate_dir: folder of coordinate files of real worms, ``<worm>.txt``, whose positions are rendered, not
            drawn ones: in the order of ``numpy.random.default_rng(seed).permutation`` of the sorted files, the first
            ``validation`` are for validation, the next ``training`` for training, and the worms keep their names.
        size: the cubes' side in voxels.
        channels: "raw", "raw+mask+soft" or "soft"; see ``CubeSettings``.
        alpha: steepness of the soft mask.
        exact_soft_mask: whether the soft mask is 0.6457 inside instead of 1.
        num_workers: processes; 0 for this one. They are spawned, so a script needs ``if __name__ == "__main__":``.
        keep_volumes: also write ``images/<worm>.raw``, ``labels/<worm>.raw``, ``coordinates/<worm>.txt``, a set that
            ``prepare_worms`` reads.
        overwrite: replace worms that were made with other settings.
        progress: show a bar.

    Returns:
        the folder.

    Raises:
        MissingDataError: ``coordinate_dir`` does not exist, or has fewer worms than are asked for.
        InvalidInputError: an option is out of range; a worm was made with other settings; a coordinate file is wrong.
        VoxelExtError: a worker process ended unexpectedly.
        OSError: the folder is not writable, or the disk is full; what was finished is kept.
    """
    from voxel_ext.synthetic.worm import Worm

    check_counts({"training": 1, "validation": 1}, training=training, validation=validation, seed=seed)
    check_counts({}, num_workers=num_workers)
    options: dict[str, Any] = {
        "cells": cells,
        "appearance_strength": appearance_strength,
        "missing": missing,
        "position_noise": position_noise,
        "threads": 1 if num_workers else None,
    }
    Worm(0, **options)  # refuses options that are out of range
    cubes = CubeSettings(size, channels, alpha, exact_soft_mask)
    root = Path(output_dir)
    jobs = [
        SyntheticWorm(path, number, table, options, cubes, root if keep_volumes else None)
        for path, number, table in _plan(root, training, validation, seed, coordinate_dir)
    ]
    with locked_folder(root, ".prepare.lock"), explain_write_errors(root):
        planned = [job.path for job in jobs]
        check_foreign(root, planned, "worms")
        do_missing(root, jobs, worm_difference, "worm", "synthetic worms", num_workers, overwrite, progress)
        write_summary(root, planned, [path for path in planned if path.parent.name == "train"])
    return root


def _plan(
    root: Path, training: int, validation: int, seed: int, coordinate_dir: str | os.PathLike[str] | None
) -> list[tuple[Path, int, Path | None]]:
    """File, generator's seed and coordinate file of every worm; those for validation do not depend on ``training``."""
    first = {"train": seed * SEEDS_PER_SET, "val": seed * SEEDS_PER_SET + SEEDS_PER_SET // 2}
    if coordinate_dir is None:
        counts = {"train": training, "val": validation}
        return [
            (root / part / f"{part}_{i + 1:04d}.h5", first[part] + i, None)
            for part, count in counts.items()
            for i in range(count)
        ]
    files = sorted(Path(coordinate_dir).glob("*.txt"))
    if len(files) < training + validation:
        raise MissingDataError(
            f"{coordinate_dir} has {len(files)} coordinate files (.txt); {training} + {validation} are asked for"
        )
    order = [files[i] for i in np.random.default_rng(seed).permutation(len(files))]
    chosen = {"val": order[:validation], "train": order[validation : validation + training]}
    return [
        (root / part / f"{table.stem}.h5", first[part] + i, table)
        for part, tables in chosen.items()
        for i, table in enumerate(tables)
    ]
