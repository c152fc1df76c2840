"""Reading NumPy's archives of arrays (.npz) with clear errors."""

from __future__ import annotations

import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, MissingDataError

DAMAGED = (
    *(ValueError, TypeError, KeyError, OSError, EOFError, MemoryError, OverflowError, NotImplementedError),
    *(RuntimeError, SyntaxError, AttributeError, IndexError, zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What NumPy raises when it reads damaged arrays and archives."""


def read_arrays(path: str | os.PathLike[str], names: Sequence[str]) -> dict[str, NDArray]:
    """Read arrays, none of Python objects, from an ``.npz`` file.

    Args:
        path: the file.
        names: of the arrays.

    Returns:
        the arrays by name.

    Raises:
        MissingDataError: there is no such file, or an array is not in it; names them.
        InvalidInputError: it is damaged, or another kind of file.
    """
    if not Path(path).is_file():
        raise MissingDataError(f"{path} does not exist (current folder: {os.getcwd()})")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in getattr(file, "files", ())]
            arrays = {} if missing else {name: np.asarray(file[name]) for name in names}
    except PermissionError:
        raise
    except DAMAGED as error:
        raise InvalidInputError(
            f"{path} cannot be read as an .npz file: damaged, or of another format ({type(error).__name__}: {error})"
        ) from error
    if missing:
        raise MissingDataError(f"{path} lacks {', '.join(missing)}")
    return arrays
