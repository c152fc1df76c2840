"""What a bundle's configs call at their start: clear errors, checks of the settings, data for a first run."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from voxel_ext.errors import InvalidInputError, VoxelExtError

logger = logging.getLogger(__name__)


def end_with_the_reason() -> None:
    """Let a failing command end with the line that says what is wrong.

    MONAI reports an error inside a config as a chain of exceptions that ends with the config item. After this call the
    last line on the terminal is the first voxel_ext error of that chain, or else its first cause.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.__excepthook__(kind, error, trace)
        reason = root_cause(error)
        if reason is not error:
            sys.stderr.write(f"\n{type(reason).__name__}: {reason}\n")

    sys.excepthook = hook


def root_cause(error: BaseException) -> BaseException:
    """Return the first :class:`VoxelExtError` in the chain of causes of ``error``, or else the innermost cause."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    own = [item for item in chain if isinstance(item, VoxelExtError)]
    return own[0] if own else chain[-1]


def check_writable(*folders: str | os.PathLike[str]) -> None:
    """Make the output folders and write a test file into each, before any long work starts.

    Raises:
        InvalidInputError: a folder cannot be made or written to; names it and says why.
    """
    for folder in map(Path, folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b"\0" * 4096)
        except OSError as error:
            raise InvalidInputError(f"cannot write to the output folder {folder}: {error.strerror or error}") from error


def check_patch_size(patch_size: Sequence[int], spatial_dims: int, stride: int) -> None:
    """Check that patches have one size per axis, each divisible by the network's stride.

    Args:
        patch_size: voxels per axis.
        spatial_dims: 2 or 3.
        stride: by how much the network reduces the size at its coarsest level.

    Raises:
        InvalidInputError: otherwise; gives the nearest sizes that fit.
    """
    sizes = list(patch_size)
    if len(sizes) != spatial_dims or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise InvalidInputError(f"patch_size={sizes} must be {spatial_dims} positive whole numbers")
    if any(size % stride for size in sizes):
        below = [max(size // stride, 1) * stride for size in sizes]
        above = [-(-size // stride) * stride for size in sizes]
        raise InvalidInputError(
            f"patch_size={sizes} is not divisible by the network's stride of {stride} along every axis; "
            f"the nearest that fit are {below} and {above}"
        )


def prepared_dataset(
    dataset_dir: str | os.PathLike[str],
    prepared_dir: str | os.PathLike[str],
    prepare_config: str | Sequence[str],
    bundle_root: str | os.PathLike[str],
) -> str:
    """Return the data set to use: the given one, or else the bundle's synthetic one, made first if need be.

    Args:
        dataset_dir: the user's folder or file; empty for the synthetic data.
        prepared_dir: where the bundle's ``run prepare`` puts its data.
        prepare_config: the config file (or files) of ``run prepare``.
        bundle_root: passed on to it.

    Raises:
        MissingDataError: ``dataset_dir`` was given and does not exist or is empty.
    """
    from voxel_ext.data import ensure_dataset

    def prepare(output_dir: str) -> None:
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config(prepare_config if isinstance(prepare_config, str) else list(prepare_config))
        parser.update({"bundle_root": str(bundle_root), "dataset_dir": output_dir})
        parser.get_parsed_content("prepare")

    return ensure_dataset(dataset_dir, prepared_dir, prepare)
