"""Which objects of a table are kept, by their size and place."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

from voxel_ext.errors import InvalidInputError

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)


def check_bounds(bounds: Sequence[int | None]) -> tuple[int, int | None]:
    """Return the least and the greatest number of voxels of objects.

    Args:
        bounds: two whole numbers or None.

    Raises:
        InvalidInputError: otherwise, or if they descend.
    """
    valid = isinstance(bounds, Sequence | np.ndarray) and len(bounds) == 2
    if valid:
        valid = all(v is None or (isinstance(v, Integral) and not isinstance(v, bool) and v >= 0) for v in bounds)
    if not valid or (None not in bounds and bounds[0] > bounds[1]):  # type: ignore[operator]
        raise InvalidInputError(
            f"bounds={bounds!r}; expected the least and the greatest number of voxels of an object, whole numbers that "
            "do not descend, or None for no bound"
        )
    return int(bounds[0] or 0), None if bounds[1] is None else int(bounds[1])


def keep_objects(
    table: pandas.DataFrame, lower: int, upper: int | None, exclude_border: bool, address: str
) -> pandas.DataFrame:
    """Return the objects within the bounds.

    Args:
        table: one row per object, with ``voxels`` and ``touches_border``.
        lower: least number of voxels.
        upper: greatest number; None for any.
        exclude_border: leave out objects that touch the border of the volume.
        address: of the labels, for messages.

    Returns:
        the rows that are kept, numbered anew.

    Raises:
        InvalidInputError: there are no objects, or none is kept; tells how many of which sizes there are.
    """
    if table.empty:
        raise InvalidInputError(f"{address} has no objects: all voxels are 0 (background)")
    inside = table["voxels"] >= lower
    if upper is not None:
        inside &= table["voxels"] <= upper
    kept = inside & ~table["touches_border"] if exclude_border else inside
    if not kept.any():
        quartiles = ", ".join(f"{value:g}" for value in np.percentile(table["voxels"], (0, 25, 50, 75, 100)))
        border = ", all of them at the border" if inside.any() else ""
        wanted = f"at least {lower}" if upper is None else f"{lower} to {upper}"
        raise InvalidInputError(
            f"{address}: {int(inside.sum())} of {len(table)} objects have {wanted} voxels{border}, so that none is "
            f"kept. The sizes are {quartiles} voxels (least, quartiles, greatest): change bounds or exclude_border"
        )
    logger.info("%s: %d of %d objects are kept", address, int(kept.sum()), len(table))
    return table[kept].reset_index(drop=True)
