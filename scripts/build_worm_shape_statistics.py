#!/usr/bin/env python
"""Build the shape statistics of the synthetic worm from coordinate files.

Each file is the table of one worm: tab-separated columns label_number, label_name, x, y, z and Aligned_No. All worms
must have the same cells. The packaged statistics were built with the defaults from every fifth (001, 006, ... 200) of
the 196 worms of https://github.com/ChengYuChuan/MA_FeatureLearning (MIT licence).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from voxel_ext.data.worm_table import read_worm_table
from voxel_ext.errors import InvalidInputError, MissingDataError, VoxelExtError
from voxel_ext.synthetic.worm.shape_model import COMPONENTS, PACKAGED, WormShapeModel

CREDIT = (
    "Statistics of the positions of 558 nuclei in {count} L1 C. elegans worms, annotated in "
    "https://github.com/ChengYuChuan/MA_FeatureLearning, MIT licence."
)


def read_worms(folder: Path, pattern: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read the worms of a folder, cells in the order of Aligned_No.

    Args:
        folder: where the files are.
        pattern: glob pattern of their names.

    Returns:
        Positions (M, N, 3) (z, y, x) in voxels, and N names.

    Raises:
        MissingDataError: no file fits the pattern.
        InvalidInputError: a worm has other cells than the first one.
    """
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise MissingDataError(f"no file in {folder} fits {pattern}.")
    positions, names = [], ()
    for path in paths:
        table = read_worm_table(path)
        order = np.argsort(table.numbers)
        own = tuple(table.names[i] for i in order)
        names = names or own
        if own != names:
            raise InvalidInputError(f"{path} has not the same cells in the same order as {paths[0]}; expected that.")
        positions.append(table.positions[order])
    return np.stack(positions), names


def main() -> None:
    """Fit the shape model and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of coordinate files")
    parser.add_argument("--pattern", default="worm_*.txt", help="names of the files (default: %(default)s)")
    parser.add_argument(
        "--components", type=int, default=COMPONENTS, help="principal components (default: %(default)s)"
    )
    parser.add_argument("--credit", default=CREDIT, help="source of the positions; {count} is the number of worms")
    parser.add_argument("--output", type=Path, default=PACKAGED, help="file to write (default: the packaged one)")
    arguments = parser.parse_args()
    try:
        positions, names = read_worms(arguments.folder, arguments.pattern)
        credit = arguments.credit.replace("{count}", str(len(positions)))
        WormShapeModel.fit(positions, names, arguments.components, credit).save(arguments.output)
    except VoxelExtError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(
        f"{arguments.output}: {len(positions)} worms, {len(names)} cells, {arguments.components} components, "
        f"{arguments.output.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main()
