"""The commands of ``python -m voxel_ext``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

import fire

from voxel_ext.errors import InvalidInputError, VoxelExtError


class _Job:
    """Work that starts only after the whole command line has been understood."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work


def convert_checkpoint(
    source: str,
    target: str,
    *,
    layer_order: str | None = None,
    num_groups: int | None = None,
    pool_size: int | tuple[int, int, int] | None = None,
    flavor: str | None = None,
) -> _Job:
    """Convert a .pytorch checkpoint of pytorch-3dunet into a bundle's weight file.

    Writes TARGET, and beside it a file with the suffix .json: a config overlay with the network's settings. Reads
    checkpoints of wolny/pytorch-3dunet and flavell-lab/pytorch-3dunet: UNet3D, ResidualUNet3D, ResidualUNetSE3D, UNet2D
    and ResidualUNet2D. No code in the file is executed.

    Architecture, channels, levels and kernel are seen in the file. What is not seen are the options below: give what
    the network was trained with (model section of its training config), or it will give other results.

    Example: python -m voxel_ext convert_checkpoint best_checkpoint.pytorch models/model.pt --num_groups 16

    Args:
        source: the .pytorch file.
        target: the weight file to write, for example models/model.pt.
        layer_order: layers of each convolution: c convolution, g group norm, b batch norm, r ReLU, l LeakyReLU, e ELU;
            the activation is not seen in the file. Default gcr; must be given where the norm does not come first.
        num_groups: groups of the group norms. Default 8.
        pool_size: pooling, one number or z,y,x. Default 2, of networks with flat kernels 1,2,2.
        flavor: flavell (LeakyReLU with slope 0.1, default) or wolny (0.01), of a plain U-Net with the letter l. Of
            residual networks it is seen in the file.
    """

    def work() -> None:
        from voxel_ext.convert import convert_checkpoint as convert

        for name, value in (("num_groups", num_groups), ("flavor", flavor), ("layer_order", layer_order)):
            if isinstance(value, bool):
                raise InvalidInputError(f"--{name} needs a value")
        convert(str(source), str(target), layer_order, num_groups, pool_size, flavor)

    return _Job(work)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the words behind the program's name; default: those of this process.

    Returns:
        0, or 1 after an error, which is one line on the standard error stream.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
    commands = {"convert_checkpoint": convert_checkpoint}
    words = None if arguments is None else list(arguments)
    job = fire.Fire(commands, command=words, name="python -m voxel_ext", serialize=_nothing)
    if not isinstance(job, _Job):
        return 0
    try:
        job._work()
    except (VoxelExtError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())}\n")
        return 1
    return 0


def _nothing(result: object) -> object:
    """Keep fire from printing a job."""
    return None if isinstance(result, _Job) else result
