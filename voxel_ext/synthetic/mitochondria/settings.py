"""Checks of the settings of artificial mitochondria."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.synthetic import _checks as checks
from voxel_ext.synthetic.mitochondria.classes import CLASSES


def check_voxel_size(value: Any) -> tuple[float, ...]:
    """Return the voxel size as three positive numbers.

    Raises:
        InvalidInputError: it is something else.
    """
    items = checks.check_sequence("voxel_size", value, 3)
    return tuple(checks.check_number(f"voxel_size[{axis}]", item, 1e-3) for axis, item in enumerate(items))


def check_objects(objects: Any, classes: Any) -> int | dict[str, int]:
    """Return the number of objects, or the numbers by class, checked with the names of the classes.

    Raises:
        InvalidInputError: a name is not known or there twice, a number is none, or there is no object.
    """
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not len(classes):
        raise InvalidInputError(f"classes={classes!r}: expected a sequence of names out of {', '.join(CLASSES)}.")
    for name in classes:
        check_option("classes", name, CLASSES)
    if len(set(classes)) < len(classes):
        raise InvalidInputError(f"classes={classes!r}: expected each name once.")
    if not isinstance(objects, Mapping):
        return checks.check_integer("objects", objects, 1)
    counts = {check_option("objects", name, classes): number for name, number in objects.items()}
    counts = {name: checks.check_integer(f"objects[{name!r}]", number, 0) for name, number in counts.items()}
    if not sum(counts.values()):
        raise InvalidInputError(f"objects={objects!r}: expected at least one object.")
    return counts


def check_resolution(voxel_size: Sequence[float], thinnest: float, volume: float) -> None:
    """Refuse voxels that the thinnest part of an object would fall between.

    Args:
        voxel_size: (z, y, x) in nm.
        thinnest: radius of that part in nm.
        volume: of the object in um^3.

    Raises:
        InvalidInputError: a voxel is longer than that radius.
    """
    if max(voxel_size) > thinnest:
        edges = ", ".join(f"{edge:.4g}" for edge in voxel_size)
        raise InvalidInputError(
            f"voxel_size=({edges}) nm: expected at most {thinnest:.3g} nm for an object of {volume:.3g} um^3, whose "
            "thinnest parts would be lost; give smaller voxels (for a single object: a larger size) or a larger volume."
        )
