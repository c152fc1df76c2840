"""``python -m benchmarks [name ...]``: run benchmarks and print one table."""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.harness import table

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


def whole_numbers(text: str) -> tuple[int, ...]:
    """Read ``16,48,64``."""
    return tuple(int(part) for part in text.split(","))


def _add_3dunet_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--original-3dunet",
        metavar="DIR",
        help="a checkout of flavell-lab/pytorch-3dunet; unet3d_parity, bending and labeling are then set beside it",
    )
    parser.add_argument(
        "--upstream-3dunet", metavar="DIR", help="a checkout of wolny/pytorch-3dunet, for unet3d_parity"
    )
    parser.add_argument(
        "--original-labeler",
        metavar="DIR",
        help="a checkout of flavell-lab/AutoCellLabeler, whose averages over ROIs labeling then times too",
    )
    size = parser.add_argument_group("size of labeling", "the defaults are those of AutoCellLabeler")
    size.add_argument(
        "--shape", type=whole_numbers, default=(64, 120, 284), metavar="Z,Y,X", help="volume (default 64,120,284)"
    )
    size.add_argument("--classes", type=int, default=185, help="classes, with the background (default 185)")
    size.add_argument("--f-maps", type=int, default=64, help="channels of the first level (default 64)")
    size.add_argument(
        "--slab", type=whole_numbers, default=(8,), metavar="N,...", help="slices at a time, each measured (default 8)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure voxel_ext beside other code.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"which to run: {', '.join(NAMES)}; default: all")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each (default 5)")
    parser.add_argument(
        "--original",
        metavar="DIR",
        help="a checkout of the original 3dsegmentation repository with its requirements installed; "
        "the generator is then raced against it",
    )
    parser.add_argument(
        "--original-worm",
        metavar="DIR",
        help="a checkout of the original MA_FeatureLearning repository; group_convolution is then raced against it",
    )
    parser.add_argument(
        "--original-emanalysis",
        metavar="DIR",
        help="a checkout of frommwonderland/EManalysis; emanalysis is the race against it",
    )
    _add_3dunet_options(parser)
    parser.add_argument(
        "--label-sizes",
        type=whole_numbers,
        default=(512, 1024),
        metavar="N,...",
        help="edges of the labels of patch_index in voxels (default 512,1024)",
    )
    parser.add_argument(
        "--statistics-zarr",
        type=int,
        default=0,
        metavar="N",
        help="object_statistics then also measures a zarr label of N³ voxels, such as 1024 (3 GB of temporary space)",
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(NAMES))
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    rows = []
    for name in arguments.names or NAMES:
        sys.stderr.write(f"{name} ...\n")
        rows += importlib.import_module(f"benchmarks.{name}").run(arguments)
    print(table(rows))


if __name__ == "__main__":
    main()
