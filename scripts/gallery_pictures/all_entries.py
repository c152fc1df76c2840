"""All pictures of the gallery."""

from __future__ import annotations

from collections.abc import Sequence

from gallery_pictures import (
    bundle_pictures,
    networks_codes,
    networks_segmentation,
    networks_worms,
    synthetic_data,
    transforms_intensity,
    transforms_label,
    transforms_spatial,
    transforms_vector,
)
from gallery_pictures.entries import SECTIONS, Entry, summary
from gallery_pictures.transform_examples import entries as transform_entries

import voxel_ext.networks.nets
from voxel_ext.errors import check_option


def all_entries() -> list[Entry]:
    """Return every entry, by section."""
    result = []
    for module in (transforms_spatial, transforms_intensity, transforms_label, transforms_vector):
        result += transform_entries(module.EXAMPLES)
    result += synthetic_data.entries()
    nets = voxel_ext.networks.nets
    for drawers in (networks_segmentation.DRAWERS, networks_codes.DRAWERS, networks_worms.DRAWERS):
        result += [Entry("Networks", name, summary(getattr(nets, name), nets), draw) for name, draw in drawers.items()]
    return result + bundle_pictures.entries()


def chosen(entries: Sequence[Entry], names: Sequence[str] | None) -> list[Entry]:
    """Return the entries of some names or sections.

    Args:
        entries: all there are.
        names: of entries or sections; all if None.

    Raises:
        InvalidInputError: a name is not known; tells the nearest.
    """
    if names is None:
        return list(entries)
    for name in names:
        check_option("--only", name, [*SECTIONS, *(entry.name for entry in entries)])
    return [entry for entry in entries if entry.name in names or entry.section in names]
