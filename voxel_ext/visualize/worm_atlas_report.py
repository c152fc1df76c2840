"""The report about worms that were named by the classical atlas."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxel_ext.data.worm_tables import FoundCells, per_cell_rows
from voxel_ext.matching import WormAtlas
from voxel_ext.visualize.report import write_report
from voxel_ext.visualize.worm_report import worm_sections
from voxel_ext.visualize.worm_tables import html_table


def atlas_report(
    path: str | os.PathLike[str],
    atlas: WormAtlas,
    namings: Sequence[FoundCells],
    comparison: Sequence[Mapping[str, Any]] = (),
    title: str = "Worm atlas",
    settings: Mapping[str, Any] | None = None,
    max_scenes: int = 2,
) -> Path:
    """Write a page about worms named by an atlas, beside what matching in pairs gives on positions alone.

    Args:
        path: the file, replaced when it is complete.
        atlas: that the worms were named by.
        namings: what :func:`~voxel_ext.data.name_by_atlas` returned.
        comparison: rows of :func:`~voxel_ext.data.compare_pairs`.
        title: heading of the page.
        settings: what to list as settings; may be nested.
        max_scenes: worms to show in 3D: the worst, and from 2 on the best; 0 for none.

    Returns:
        the path.

    Raises:
        MissingDependencyError: a library that draws is not installed.
        OSError: the page cannot be written.
    """
    figures, sections = worm_sections([], namings, per_cell_rows(atlas.names, [], namings), max_scenes)
    known = [item.accuracy for item in namings if len(item.counted)]
    rows = [dict(row) for row in comparison]
    if known:
        row = {"method": "naming by the atlas", "pairs": len(known), "accuracy": float(np.mean(known))}
        rows.append(row | {"worst": min(known)})
    columns = {"method": "method", "pairs": "pairs or worms", "accuracy": "accuracy, mean", "worst": "worst"}
    table = html_table(rows, columns)
    worms, cells = atlas.residuals.shape[:2]
    return write_report(
        path,
        title,
        settings=settings,
        metrics=figures,
        notes=[f"Atlas of {worms} worms and {cells} cells. Positions alone, without the volumes."],
        sections=[*([("Methods on positions alone", table)] if table else []), *sections],
    )
