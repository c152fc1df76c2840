"""One synthetic volume in the form in which it is stored."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from voxel_ext.errors import InvalidInputError

STORED_NAMES = {"image": "data", "label": "labels"}
RESERVED_NAMES = {*STORED_NAMES.values(), "checksum", "settings"}


@dataclass
class VolumeRecord:
    """The arrays of a volume, ready to be written.

    Args:
        dense: arrays over the voxels, by dataset name: ``data``, ``labels`` and others whose last axes are those of the
            image.
        tables: arrays (n,) or (n, k) with a number of rows of their own in each volume, such as ``seeds`` (n, 3).
        parameters: JSON text.
    """

    dense: dict[str, np.ndarray]
    tables: dict[str, np.ndarray] = field(default_factory=dict)
    parameters: str = "{}"

    def checksum(self) -> int:
        """CRC-32 of everything."""
        value = zlib.crc32(self.parameters.encode())
        for name, array in sorted({**self.dense, **self.tables}.items()):
            value = zlib.crc32(np.ascontiguousarray(array).tobytes(), zlib.crc32(name.encode(), value))
        return value


def encode_volume(volume: Mapping[str, Any], dtype: str) -> VolumeRecord:
    """Check what a generator made and convert it to the stored data types.

    Args:
        volume: ``image`` (spatial axes only), and as far as known ``label``, ``parameters`` and other arrays.
        dtype: for real numbers over the voxels; labels become uint16, real numbers in tables float32.

    Returns:
        the record.

    Raises:
        InvalidInputError: no image; NaN or infinity; values too large for ``dtype`` or uint16; a label of another
            shape; parameters that JSON cannot express; something that is neither of these; a name that the file needs.
    """
    if "image" not in volume:
        raise InvalidInputError(f"the generator gave no 'image' but {sorted(volume)}")
    shape = np.shape(volume["image"])
    record = VolumeRecord({})
    for key, value in volume.items():
        if key in RESERVED_NAMES:
            raise InvalidInputError(f"the generator gave {key!r}, a name that the file needs itself; use another")
        name = STORED_NAMES.get(key, key)
        if key == "parameters":
            record.parameters = _to_json(value)
            continue
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise InvalidInputError(f"the generator's {key!r} is not an array of numbers but {type(value).__name__}")
        if array.shape[-len(shape) :] == shape:
            record.dense[name] = _cast(array, np.dtype("uint16" if key == "label" else dtype), key)
        elif key == "label" or array.ndim not in (1, 2):
            raise InvalidInputError(f"the generator's {key!r} has shape {array.shape}, its image {shape}")
        else:
            record.tables[name] = _cast(array, np.dtype("float32"), key)
    return record


def _cast(array: np.ndarray, dtype: np.dtype, key: str) -> np.ndarray:
    """Convert reals to ``dtype``, and integers, too, if ``dtype`` is one; other integers stay."""
    if array.dtype.kind != "f" and dtype.kind == "f":
        return array
    if array.size:
        lowest, highest = array.min(), array.max()
        limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        if not (limits.min <= lowest and highest <= limits.max):  # also where they are NaN
            raise InvalidInputError(f"the generator's {key!r} has values from {lowest} to {highest}: not for {dtype}")
    return array.astype(dtype, copy=False)


def _to_json(parameters: Any) -> str:
    try:
        return json.dumps(parameters, default=plain, sort_keys=True)
    except TypeError as error:
        raise InvalidInputError(f"the generator's 'parameters' cannot be written as JSON: {error}") from error


def plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's, for ``json.dumps(..., default=plain)``.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__}")
