"""Dividing patches into training and validation so that none of one overlaps any of the other."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from numbers import Real

import numpy as np

from voxel_ext.errors import InvalidInputError, check_sizes

logger = logging.getLogger(__name__)

# edges of the blocks that are tried, in patches
BLOCK_PATCHES = (4, 3, 2, 1)

Positions = list[np.ndarray]


def split_by_blocks(
    positions: Sequence[np.ndarray],
    patch_size: Sequence[int] | int,
    fraction: float,
    seed: int = 0,
    block_size: Sequence[int] | int | None = None,
) -> tuple[Positions, Positions]:
    """Keep the patches of some blocks of space for validation, and for training those that overlap none of them.

    Each volume is divided into blocks from its first patches on. Blocks of all volumes are drawn until about
    ``fraction`` of the patches start in them: these are the validation patches. Of the others, those that overlap a
    validation patch are left out; the log says how many.

    Args:
        positions: of each volume the starts (N, 3) of its patches (z, y, x), N may be 0.
        patch_size: of the patches (z, y, x), or one number for all axes.
        fraction: of the patches for validation, between 0 and 1, both excluded. Blocks are not divided: with few of
            them, the part differs.
        seed: of the choice of blocks.
        block_size: (z, y, x) in voxels, or one number for all axes. None for cubes of 1, 2, 3 or 4 patches, whichever
            keeps most patches with a validation part within half of ``fraction`` of it.

    Returns:
        training and validation: each a list with an array (N, 3) int64 for each volume, in the order given. Both have
        at least one patch.

    Raises:
        InvalidInputError: a setting is not as described; or there are too few patches or blocks to have both parts.
    """
    patch = np.array(check_sizes("patch_size", patch_size))
    if not isinstance(fraction, Real) or isinstance(fraction, bool) or not 0 < fraction < 1:
        raise InvalidInputError(f"fraction={fraction!r}; expected a number between 0 and 1, both excluded")
    volumes = [_check_positions(index, values) for index, values in enumerate(positions)]
    total = sum(map(len, volumes))
    given = None if block_size is None else np.array(check_sizes("block_size", block_size))
    sizes = [patch * times for times in BLOCK_PATCHES] if given is None else [given]
    best = None
    for size in sizes:
        split = _split(volumes, patch, fraction, seed, size)
        if split is not None and (best is None or _quality(split, fraction * total) > _quality(best, fraction * total)):
            best = split
    if best is None:
        raise InvalidInputError(_impossible(volumes, patch, sizes))
    train, val = ([points[mask] for points, mask in zip(volumes, masks, strict=True)] for masks in best)
    counts = [sum(map(len, part)) for part in (train, val)]
    dropped = total - sum(counts)
    logger.info(
        "%d patches: %d for training, %d for validation, %d left out as they overlap both", total, *counts, dropped
    )
    return train, val


Split = tuple[list[np.ndarray], list[np.ndarray]]


def _quality(split: Split, wanted: float) -> tuple[bool, float]:
    """Larger is better: the validation part within half of what is wanted, then the patches kept or, else, the part."""
    train, val = (sum(int(mask.sum()) for mask in masks) for masks in split)
    off = abs(val - wanted)
    return (True, train + val) if off <= wanted / 2 else (False, -off)


def _split(volumes: Positions, patch: np.ndarray, fraction: float, seed: int, size: np.ndarray) -> Split | None:
    """Masks (N,) of the patches for training and for validation; None if one of both would be empty."""
    blocks, counts = _blocks(volumes, size)
    for chosen in _choices(counts, fraction, seed):
        val = [np.isin(ids, chosen) for ids in blocks]
        train = [~mask & ~_overlapping(points, mask, patch) for points, mask in zip(volumes, val, strict=True)]
        if any(mask.any() for mask in train):
            return train, val
    return None


def _blocks(volumes: Positions, size: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """For each volume the blocks (N,) that its patches start in, numbered over all volumes; patches of each block."""
    numbered, counts = [], [np.empty(0, np.int64)]
    first = 0
    for points in volumes:
        if not len(points):
            numbered.append(np.empty(0, np.int64))
            continue
        cells = (points - points.min(0)) // size
        found, ids, number = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
        numbered.append(first + ids.reshape(-1))
        counts.append(number)
        first += len(found)
    return numbered, np.concatenate(counts)


def _choices(counts: np.ndarray, fraction: float, seed: int) -> Iterator[list[int]]:
    """Sets of blocks for validation, the first that works to be taken: about the fraction, then single blocks."""
    order = np.random.default_rng(seed).permutation(len(counts))
    wanted, have = fraction * counts.sum(), 0
    chosen = []
    for block in order:
        if abs(have + counts[block] - wanted) < abs(have - wanted):
            chosen.append(int(block))
            have += counts[block]
    if chosen:
        yield chosen
    yield from ([int(block)] for block in sorted(order, key=lambda block: counts[block]))


def _overlapping(points: np.ndarray, val: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """Whether patches overlap any of those for validation: whether starts are nearer than a patch along every axis."""
    from scipy.spatial import cKDTree

    if not val.any():
        return np.zeros(len(points), bool)
    nearest, _ = cKDTree(points[val] / patch).query(points / patch, p=math.inf)
    # distances are multiples of 1 / patch size, up to rounding
    return nearest < 1 - 0.5 / patch.max()


def _impossible(volumes: Positions, patch: np.ndarray, sizes: Sequence[np.ndarray]) -> str:
    total = sum(map(len, volumes))
    blocks = ", ".join(f"{len(_blocks(volumes, size)[1])} of {tuple(size.tolist())}" for size in sizes)
    return (
        f"{total} patches of {tuple(patch.tolist())} (z, y, x) in {len(volumes)} volume(s) cannot be divided into "
        f"training and validation without overlap (blocks: {blocks} voxels): every validation block would leave no "
        "training patch. Give further or larger volumes, a smaller patch_size, or a smaller block_size"
    )


def _check_positions(index: int, values: np.ndarray) -> np.ndarray:
    points = np.asarray(values)
    if points.ndim != 2 or points.shape[1] != 3 or (points.dtype.kind not in "iu" and points.size):
        raise InvalidInputError(
            f"positions of volume {index} have the shape {points.shape} and type {points.dtype}; expected integers "
            "(N, 3), in a list with one array for each volume"
        )
    return points.astype(np.int64)
