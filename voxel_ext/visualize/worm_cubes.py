"""A picture of some cells of a prepared worm."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from voxel_ext.data.worm_checks import list_prepared
from voxel_ext.data.worm_file import WormCubes, read_worm, read_worm_header
from voxel_ext.errors import InvalidInputError, require
from voxel_ext.files import atomic_path

_PLANES = (("XY", "z", 0), ("XZ", "y", 1), ("YZ", "x", 2))


def view_cells(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    cells: int = 3,
    seed: int | None = None,
    colormap: str = "viridis",
    channel: int = 0,
) -> Path:
    """Draw the middle slices XY, XZ and YZ of some random cells of a random worm, one row per cell.

    Args:
        source: a prepared worm, or a folder with some, also in subfolders.
        output: the PNG file to write.
        cells: how many cells, of those that are not missing; fewer if there are fewer.
        seed: which worm and cells; None for others each time.
        colormap: name of a colormap of matplotlib.
        channel: of the cubes.

    Returns:
        the file.

    Raises:
        MissingDataError: there is no prepared worm.
        InvalidInputError: a damaged file; a worm without cells; ``cells`` below 1; no such channel or colormap.
        MissingDependencyError: matplotlib is not installed.
    """
    colormaps: Any = require("matplotlib", extra="viz").colormaps
    if colormap not in colormaps:
        raise InvalidInputError(f"colormap={colormap!r} is not one of matplotlib's; for example viridis, gray, magma")
    if isinstance(cells, bool) or not isinstance(cells, int | np.integer) or cells < 1:
        raise InvalidInputError(f"cells={cells!r}; expected an integer of at least 1")
    rng = np.random.default_rng(seed)
    files = list_prepared(source)
    path = files[int(rng.integers(len(files)))]
    header = read_worm_header(path)
    valid = np.flatnonzero(header.valid)
    if not len(valid):
        raise InvalidInputError(f"{path} has no cells to show, all {len(header)} are missing")
    if not 0 <= channel < header.shape[1]:
        raise InvalidInputError(f"{path} has {header.shape[1]} channels ({header.channels}); asked for {channel}")
    slots = np.sort(rng.choice(valid, min(cells, len(valid)), replace=False)).tolist()
    picture = _draw(read_worm(path, slots), slots, channel, colormap)
    with atomic_path(output) as temporary:
        temporary.write_bytes(picture)
    return Path(output)


def _draw(worm: WormCubes, slots: list[int], channel: int, colormap: str) -> bytes:
    figure_type: Any = require("matplotlib.figure", extra="viz").Figure
    agg: Any = require("matplotlib.backends.backend_agg", extra="viz").FigureCanvasAgg
    figure = figure_type(figsize=(7.5, 2.6 * len(slots) + 0.5), dpi=100, layout="constrained")
    agg(figure)
    axes = figure.subplots(len(slots), len(_PLANES), squeeze=False)
    middle = worm.size // 2
    for row, slot in enumerate(slots):
        cube = worm.cubes[row, channel]
        for column, (plane, across, axis) in enumerate(_PLANES):
            panel = axes[row, column]
            drawn = panel.imshow(
                cube.take(middle, axis), cmap=colormap, origin="upper", vmin=cube.min(), vmax=cube.max()
            )
            panel.set_title(f"{plane} ({across} = {middle})", fontsize=9)
            panel.set(xticks=[], yticks=[], xlabel=plane[0].lower(), ylabel=plane[1].lower())
        figure.colorbar(drawn, ax=axes[row].tolist(), shrink=0.8)
        axes[row, 0].set_ylabel(f"{slot + 1} {worm.names[row]}\ny", fontsize=9)
    figure.suptitle(f"worm {worm.worm}, {worm.channels}, channel {channel}", fontsize=11, parse_math=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
