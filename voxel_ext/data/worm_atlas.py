"""The classical atlas: made from worms whose cells are known, then worms are named by it and laid over it."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from voxel_ext.data.worm_checks import list_prepared
from voxel_ext.data.worm_file import read_worm_header
from voxel_ext.data.worm_store import worm_lists
from voxel_ext.data.worm_table import read_worm_table
from voxel_ext.data.worm_tables import FoundCells, Row, file_names, known_names, per_cell_rows, write_rows, write_tables
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.matching import WormAtlas, match_positions

logger = logging.getLogger(__name__)

ALIGNED_COLUMNS = ("slot", "cell", "z", "y", "x")
"""Columns of ``aligned/<worm>.csv``: positions in voxels of the atlas."""

Paths = Sequence[str | os.PathLike[str]] | str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class WormPositions:
    """Where the cells of a worm are.

    Attributes:
        worm: its name.
        positions: (N, 3) zyx voxels, by slot (``Aligned_No`` - 1); NaN where missing.
        names: of the N cells, "" where not known.
    """

    worm: str
    positions: NDArray[np.float64]
    names: tuple[str, ...]


def atlas_worms(
    folder: str | os.PathLike[str], validation_fraction: float = 0.2, seed: int = 0
) -> dict[str, list[Path]]:
    """Return the worms to make an atlas from and those to try it on.

    Args:
        folder: prepared worms, see :func:`~voxel_ext.data.worm_lists`; or a raw data set or folder with coordinate
            files ``.txt`` (a subfolder ``coordinates`` comes first), which are split at random.
        validation_fraction: share of the worms to try it on, if they are not in ``train/`` and ``val/`` already.
        seed: of the split.

    Returns:
        files under ``"train"`` and ``"val"``.

    Raises:
        MissingDataError: neither kind of worms is there.
        InvalidInputError: too few worms to split, or a fraction outside (0, 1).
    """
    root = Path(folder)
    if any(root.rglob("*.h5")):
        return worm_lists(root, validation_fraction, seed)
    files = _files(root)
    if not 0 < validation_fraction < 1 or len(files) < 3:
        raise InvalidInputError(
            f"{root}: an atlas needs 3 worms or more, one to try it on, and a validation_fraction between 0 and 1; "
            f"got {len(files)} worms and validation_fraction={validation_fraction!r}"
        )
    count = min(max(round(validation_fraction * len(files)), 1), len(files) - 2)
    chosen = set(np.random.default_rng(seed).permutation(len(files))[:count].tolist())
    return {
        "train": [file for i, file in enumerate(files) if i not in chosen],
        "val": [file for i, file in enumerate(files) if i in chosen],
    }


def read_positions(worms: Paths) -> list[WormPositions]:
    """Read where the cells of worms are.

    Args:
        worms: a folder, or files: prepared worms ``.h5`` or coordinate files ``.txt``.

    Returns:
        the worms, all with as many slots as the largest has.

    Raises:
        MissingDataError: a file does not exist, or the folder has no worms.
        InvalidInputError: a file is damaged, or of another kind.
    """
    files = _files(Path(worms)) if isinstance(worms, str | os.PathLike) else [Path(worm) for worm in worms]
    if not files:
        raise InvalidInputError("there are no worms; expected prepared worms .h5 or coordinate files .txt")
    found = [_read(file) for file in files]
    count = max(len(worm.names) for worm in found)
    return [_padded(worm, count) for worm in found]


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    if any(root.rglob("*.h5")):
        return list_prepared(root)
    folder = root / "coordinates" if (root / "coordinates").is_dir() else root
    files = sorted(folder.rglob("*.txt"))
    if not files:
        state = "has neither prepared worms .h5 nor coordinate files .txt" if root.exists() else "does not exist"
        raise MissingDataError(f"{str(root)!r} {state} (current folder: {os.getcwd()})")
    return files


def _read(file: Path) -> WormPositions:
    if file.suffix == ".txt":
        table = read_worm_table(file)
        positions = np.full((int(table.numbers.max()), 3), np.nan)
        names = [""] * len(positions)
        for name, number, position in zip(table.names, table.numbers.tolist(), table.positions, strict=True):
            names[number - 1], positions[number - 1] = name, position
        return WormPositions(file.stem, positions, tuple(names))
    if file.suffix != ".h5":
        raise InvalidInputError(f"{file}: expected a prepared worm .h5 or a coordinate file .txt")
    header = read_worm_header(file)
    whole = np.isfinite(header.positions).all(axis=1, keepdims=True)
    return WormPositions(header.worm, np.where(whole, header.positions, np.nan).astype(np.float64), header.names)


def _padded(worm: WormPositions, count: int) -> WormPositions:
    more = count - len(worm.names)
    positions = np.concatenate([worm.positions, np.full((more, 3), np.nan)])
    return WormPositions(worm.worm, positions, worm.names + ("",) * more)


def build_atlas(worms: Paths, output: str | os.PathLike[str] | None = None, iterations: int = 6) -> WormAtlas:
    """Make an atlas from worms whose cells have names.

    Args:
        worms: a folder or files, see :func:`read_positions`.
        output: the ``.npz`` file to save it to; None to save nothing.
        iterations: see :meth:`voxel_ext.matching.WormAtlas.fit`.

    Returns:
        the atlas of all cells that have a name and are there in at least one of the worms.

    Raises:
        InvalidInputError: fewer than two worms, names that differ between worms or occur twice, or too few names.
    """
    found = read_positions(worms)
    names = _common_names(found)
    present = np.isfinite([worm.positions for worm in found]).all(axis=2).any(axis=0)
    kept = np.flatnonzero(known_names(names) & present)
    if len(kept) < len(names):
        logger.warning(
            "the atlas leaves out %d of %d cells: no name, or in no worm", len(names) - len(kept), len(names)
        )
    if len(kept) < 10:
        raise InvalidInputError(f"only {len(kept)} cells of {found[0].worm} and the other worms have a name; 10 needed")
    atlas = WormAtlas.fit([worm.positions[kept] for worm in found], [names[i] for i in kept], iterations)
    if output is not None:
        atlas.save(output)
        logger.info("atlas of %d worms: %s", len(found), output)
    return atlas


def _common_names(worms: Sequence[WormPositions]) -> list[str]:
    """The name of each slot, which all worms must agree about."""
    names = list(worms[0].names)
    for worm in worms:
        for slot in np.flatnonzero(known_names(worm.names)):
            if names[slot] and not names[slot].startswith("?") and names[slot] != worm.names[slot]:
                raise InvalidInputError(
                    f"worm {worm.worm} calls the cell of Aligned_No {slot + 1} {worm.names[slot]!r}, another one "
                    f"calls it {names[slot]!r}; give all worms the same names"
                )
            names[slot] = worm.names[slot]
    known = [name for name in names if name and not name.startswith("?")]
    twice = {name for name in known if known.count(name) > 1}
    if twice:
        raise InvalidInputError(f"the cell name {min(twice)!r} belongs to two Aligned_No; expected every name once")
    return names


def aligned_positions(atlas: WormAtlas, positions: ArrayLike, method: str = "drift") -> NDArray[np.float64]:
    """Lay a worm over an atlas without knowing its names, e.g. as positions for a matcher that learns.

    Args:
        atlas: see :func:`build_atlas`.
        positions: (N, 3) zyx voxels; NaN where missing.
        method: "drift" or "quadratic", see :meth:`voxel_ext.matching.WormAtlas.align`.

    Returns:
        (N, 3) zyx in voxels of the atlas, which is centered; NaN where missing.

    Raises:
        InvalidInputError: bad shapes, fewer than 10 cells, or another method.
    """
    return np.asarray(atlas.align(positions, method).positions, dtype=np.float64)


def name_by_atlas(
    atlas: WormAtlas,
    worms: Paths,
    output_dir: str | os.PathLike[str] | None = None,
    truth: bool = True,
    dummy_cost: float | None = None,
) -> list[FoundCells]:
    """Name the cells of worms by an atlas.

    Args:
        atlas: see :func:`build_atlas`.
        worms: a folder or files, see :func:`read_positions`.
        output_dir: where to write ``names/<worm>.csv``, ``names.csv`` and ``per_cell.csv``, as
            :class:`~voxel_ext.handlers.WormReportHandler` does; None to write nothing.
        truth: whether the names in the files are true, so that accuracies can be told.
        dummy_cost: leave a cell without a name rather than pay this; None names as many as can be.

    Returns:
        one entry per worm, whose columns are cells of the atlas.

    Raises:
        InvalidInputError: a worm with fewer than 10 cells.
        OSError: a file cannot be written.
    """
    result = []
    for worm in tqdm(read_positions(worms), desc="naming", unit="worm"):
        named = atlas.name(worm.positions, dummy_cost)
        rows = np.flatnonzero(named.index >= 0)
        present = np.ones(len(atlas.names), dtype=bool)
        columns, cost, margin = named.index[rows], named.cost[rows], named.margin[rows]
        result.append(
            FoundCells(
                worm.worm, "the atlas", rows, columns, cost, margin, worm.positions, worm.names, tuple(atlas.names),
                present, truth,
            )
        )  # fmt: skip
    if output_dir is not None:
        write_tables(output_dir, [], result, per_cell_rows(atlas.names, [], result))
    return result


def align_by_atlas(
    atlas: WormAtlas, worms: Paths, output_dir: str | os.PathLike[str], method: str = "drift"
) -> list[Path]:
    """Write the positions of worms laid over an atlas.

    Args:
        atlas: see :func:`build_atlas`.
        worms: a folder or files, see :func:`read_positions`.
        output_dir: where to write ``aligned/<worm>.csv``, with the columns :data:`ALIGNED_COLUMNS`.
        method: see :func:`aligned_positions`.

    Returns:
        the files.

    Raises:
        InvalidInputError: a worm with fewer than 10 cells, or another method.
        OSError: a file cannot be written.
    """
    found = read_positions(worms)
    files = []
    titles = file_names([worm.worm for worm in found])
    for title, worm in zip(titles, tqdm(found, desc="aligning", unit="worm"), strict=True):
        moved = aligned_positions(atlas, worm.positions, method)
        rows = [
            {"slot": int(i), "cell": worm.names[i], **dict(zip("zyx", moved[i].tolist(), strict=True))}
            for i in np.flatnonzero(np.isfinite(moved[:, 0]))
        ]
        files.append(write_rows(Path(output_dir) / "aligned" / f"{title}.csv", rows, ALIGNED_COLUMNS))
    return files


def compare_pairs(
    worms: Paths, methods: Sequence[str] = ("roll", "drift"), max_pairs: int = 30, seed: int = 0
) -> list[Row]:
    """Measure how well worms are matched in pairs on positions alone.

    Args:
        worms: a folder or files, see :func:`read_positions`, whose cells are known by slot.
        methods: of :func:`voxel_ext.matching.match_positions`.
        max_pairs: match no more pairs than this, chosen at random.
        seed: of the choice.

    Returns:
        for each method ``method``, ``pairs``, ``accuracy`` (mean over pairs of the share of the cells present in both
        that were matched with each other) and ``worst``. Empty with fewer than two worms or ``max_pairs`` 0.

    Raises:
        InvalidInputError: an unknown method, or a worm with fewer than 10 cells.
    """
    found = read_positions(worms)
    pairs = list(itertools.combinations(range(len(found)), 2))
    if len(pairs) > max_pairs:
        chosen = np.random.default_rng(seed).choice(len(pairs), max_pairs, replace=False)
        pairs = [pairs[i] for i in sorted(chosen)]
    if not pairs:
        return []
    accuracies: dict[str, list[float]] = {method: [] for method in methods}
    for i, j in tqdm(pairs, desc="matching pairs", unit="pair"):
        a, b = found[i].positions, found[j].positions
        shared = int((np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)).sum())
        for method in methods:
            match = match_positions(a, b, method)
            accuracies[method].append(float((match.rows == match.columns).sum()) / max(shared, 1))
    return [
        {"method": f"pairs, {method}", "pairs": len(pairs), "accuracy": float(np.mean(values)), "worst": min(values)}
        for method, values in accuracies.items()
    ]
