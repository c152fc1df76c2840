"""``python -m benchmarks [name ...]``, ``python -m benchmarks --all``: run benchmarks and print one table."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from pathlib import Path

from benchmarks.harness import Row, table
from voxel_ext.files import atomic_path

NAMES = (
    "generator",
    "generator_statistics",
    "training_step",
    "startup",
    "group_convolution",
    "assignment",
    "worm_preparation",
    "unet3d_parity",
    "bending",
    "labeling",
    "patch_index",
    "blockwise",
    "object_statistics",
    "object_features",
    "emanalysis",
    "chamfer",
)
STUDIES = {"worm_matching": "coordinates", "nuclei": "volume", "cell_labeling": "", "surfaces": "", "mitochondria": ""}
"""Trainings from the start, by the bundles' own commands, and the option that names the real data they need."""


def whole_numbers(text: str) -> tuple[int, ...]:
    """Read ``16,48,64``."""
    return tuple(int(part) for part in text.split(","))


def _add_originals(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("checkouts of the originals", "what is then set beside ours")
    for name, text in (
        ("", "michi-d/3dsegmentation with its requirements installed: generator, generator_statistics"),
        ("worm", "ChengYuChuan/MA_FeatureLearning: group_convolution"),
        ("3dunet", "flavell-lab/pytorch-3dunet: unet3d_parity, bending, labeling"),
        ("labeler", "flavell-lab/AutoCellLabeler: its averages over ROIs in labeling"),
        ("emanalysis", "frommwonderland/EManalysis: emanalysis"),
    ):
        group.add_argument(f"--original-{name}".rstrip("-"), metavar="DIR", help=text)
    group.add_argument("--upstream-3dunet", metavar="DIR", help="wolny/pytorch-3dunet: unet3d_parity")


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    size = parser.add_argument_group("size of labeling", "the defaults are those of AutoCellLabeler")
    size.add_argument(
        "--shape", type=whole_numbers, default=(64, 120, 284), metavar="Z,Y,X", help="volume (default 64,120,284)"
    )
    size.add_argument("--classes", type=int, default=185, help="classes, with the background (default 185)")
    size.add_argument("--f-maps", type=int, default=64, help="channels of the first level (default 64)")
    size.add_argument(
        "--slab", type=whole_numbers, default=(8,), metavar="N,...", help="slices at a time, each measured (default 8)"
    )
    size = parser.add_argument_group("sizes of others")
    size.add_argument(
        "--label-sizes",
        type=whole_numbers,
        default=(512, 1024),
        metavar="N,...",
        help="edges of the labels of patch_index in voxels (default 512,1024)",
    )
    size.add_argument(
        "--statistics-zarr",
        type=int,
        default=0,
        metavar="N",
        help="object_statistics then also measures a zarr label of N³ voxels, such as 1024 (3 GB of temporary space)",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure voxel_ext beside other code.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"which to run: {', '.join(NAMES)} (default: these), and with --work also {', '.join(STUDIES)}",
    )
    parser.add_argument("--all", action="store_true", help="run all of these; hours, needs --work")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each (default 5)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there too, after each benchmark")
    study = parser.add_argument_group("trainings")
    study.add_argument(
        "--work", type=Path, metavar="DIR", help="folder for their data and networks; what is there is not done again"
    )
    study.add_argument("--coordinates", type=Path, metavar="DIR", help="40 coordinate tables, for worm_matching")
    study.add_argument("--volume", type=Path, metavar="FILE", help="HDF5 file with raw and label, for nuclei")
    _add_originals(parser)
    _add_sizes(parser)
    return parser


def _arguments() -> argparse.Namespace:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.all:
        arguments.names = [*NAMES, *STUDIES]
    arguments.names = arguments.names or list(NAMES)
    unknown = sorted(set(arguments.names) - {*NAMES, *STUDIES})
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; there are: {', '.join((*NAMES, *STUDIES))}")
    if arguments.work is None and set(arguments.names) & set(STUDIES):
        parser.error(f"{', '.join(STUDIES)} need --work DIR")
    for name in ("work", "coordinates", "volume", "output"):
        if getattr(arguments, name) is not None:
            setattr(arguments, name, getattr(arguments, name).resolve())
    return arguments


def _rows(name: str, arguments: argparse.Namespace) -> list[Row]:
    """The rows of one benchmark; one row that says so where it lacks something or fails."""
    needed = STUDIES.get(name)
    if needed and getattr(arguments, needed) is None:
        return [Row(name, f"not run: needs --{needed}", None)]
    try:
        return list(importlib.import_module(f"benchmarks.{name}").run(arguments))
    # whatever fails, hours of other benchmarks are to be kept
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return [Row(name, f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", None)]


def main() -> int:
    arguments = _arguments()
    rows: list[Row] = []
    for number, name in enumerate(arguments.names, start=1):
        sys.stderr.write(f"{name} ({number} of {len(arguments.names)}) ...\n")
        rows += _rows(name, arguments)
        if arguments.output is not None:
            with atomic_path(arguments.output) as temporary:
                temporary.write_text(table(rows) + "\n", encoding="utf-8")
    print(table(rows))
    return int(any(row.what.startswith("failed: ") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
