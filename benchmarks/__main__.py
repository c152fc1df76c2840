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
