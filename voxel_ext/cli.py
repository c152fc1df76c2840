"""The commands of ``python -m voxel_ext``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import voxel_ext
from voxel_ext.commands import COMMANDS
from voxel_ext.commands.line import asks_for_help, do, overview, understand
from voxel_ext.errors import VoxelExtError, check_option


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the words behind the program's name; default: those of this process.

    Returns:
        0; 1 if the command failed; 2 if the words are not understood, and nothing was done. An error is one line on
        the standard error stream.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("--help", "-h"):
        sys.stdout.write(overview(COMMANDS, voxel_ext.__version__))
        return 0
    if words == ["--version"]:
        sys.stdout.write(f"voxel_ext {voxel_ext.__version__}\n")
        return 0
    code = 2
    try:
        command = COMMANDS[check_option("command", words[0], COMMANDS)]
        if asks_for_help(words):
            sys.stdout.write(command.help(words[1:]))
            return 0
        job = understand(command, words[1:])
        code = 1
        return do(job)
    except (VoxelExtError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())}\n")
    except MemoryError as error:
        sys.stderr.write(f"MemoryError: {error or 'there is not enough memory'}; choose a smaller size or part\n")
    return code
