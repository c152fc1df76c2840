"""Pairs of prepared worms, whose cells are to be matched."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable
from numpy.typing import NDArray
from torch.utils.data import Dataset

from voxel_ext.data.worm_store import WormStore
from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.networks.groups import rotation_group

PAIRS = ("random", "all", "chain")


def opposite_roll(a: NDArray, b: NDArray) -> bool:
    """Tell whether two worms lie on opposite sides, turned by 180° about the body axis against each other.

    Args:
        a: (N, 3) positions (z, y, x) of named cells.
        b: (N, 3) of the same cells; NaN in either for cells that are missing.

    Returns:
        whether turning ``b`` about x brings it nearer to ``a``, both centered; False without a cell in both.
    """
    known = np.isfinite(a).all(1) & np.isfinite(b).all(1)
    if not known.any():
        return False
    first, second = (worm[known, :2] - worm[known, :2].mean(0) for worm in (a, b))
    return float((first * second).sum()) < 0


class WormPairDataset(Dataset, Randomizable):
    """Pairs of worms with N cells each, in an order drawn anew for each worm and each time.

    An item is a dictionary of ``cubes`` (2, N, C, S, S, S) float32, ``positions`` (2, N, 3) float32 (z, y, x) voxels,
    ``valid`` (2, N) bool (missing cells are zero), ``cells`` (2, N) int64 (slot, which is Aligned_No - 1), ``target``
    (N,) int64 (where in the second worm the cell of that row of the first is; -1 if it is missing in either),
    ``opposite`` (bool) and ``worms`` (the two names, joined by a tab).

    Args:
        worms: files of prepared worms, see :class:`~voxel_ext.data.WormStore`.
        num_cells: N, from 2 to the number of cells; fewer than all are drawn at random for each item.
        pairs: "random" pairs drawn anew each epoch, "all" unordered pairs, "chain" (worm i with worm i + 1), or a list
            of pairs of positions in ``worms``.
        length: number of items for "random" pairs, the others have their own; default: number of worms.
        cubes: whether to read the cubes at all (a matcher of positions alone does without).
        normalization: "global", "cube" or "none", see :class:`~voxel_ext.data.WormStore`.
        mean: for "global".
        std: for "global".
        augment: turn each worm by 0° or 180° about its body axis at random (exactly, cubes and positions), mix its
            positions with those of other worms, bend and stretch them smoothly, and shift them by ``position_noise``.
        mixing: share of the worms whose positions are replaced by a mixture of those of three worms of the data set,
            itself among them: the mean worm plus the three deviations from it, weighted at random such that the squares
            of the weights sum to 1, which keeps the covariance of the worms' shapes. With ``augment``, as the next two.
        deformation: strength of the smooth deformation, in standard deviations of the positions along each axis.
        position_noise: largest standard deviation of the noise on positions, in voxels; each worm of an item draws
            from 0 to this.
        missing: largest share of the cells of a worm that is left out at random, also without ``augment``; each worm of
            an item draws from 0 to this.
        seed: of all draws; ``set_random_state`` changes it (MONAI's loaders and ``EpochSeedHandler`` do every epoch).
        cache_num: worms that are kept in memory.

    Raises:
        InvalidInputError: worms that differ, fewer cells than ``num_cells``, options out of range, or not two worms.
    """

    def __init__(
        self,
        worms: Sequence[str | os.PathLike[str]],
        num_cells: int = 558,
        pairs: str | Sequence[Sequence[int]] = "random",
        length: int | None = None,
        cubes: bool = True,
        normalization: str = "global",
        mean: float = 0.0,
        std: float = 1.0,
        augment: bool = False,
        mixing: float = 0.75,
        deformation: float = 0.05,
        position_noise: float = 2.0,
        missing: float = 0.0,
        seed: int = 0,
        cache_num: int = 64,
    ) -> None:
        if not (0 <= missing < 1 and 0 <= mixing <= 1 and deformation >= 0 and position_noise >= 0):
            raise InvalidInputError(
                f"missing={missing!r} (0 to below 1), mixing={mixing!r} (0 to 1), deformation={deformation!r}, "
                f"position_noise={position_noise!r} (0 or more): out of range"
            )
        if length is not None and length < 1:
            raise InvalidInputError(f"length={length}: expected a number of pairs of at least 1, or null")
        self.store = WormStore(worms, normalization, mean, std, cache_num)
        if not 2 <= num_cells <= self.store.num_cells:
            raise InvalidInputError(
                f"num_cells={num_cells}: expected 2 to {self.store.num_cells}, the cells of {self.store.files[0]}"
            )
        self.num_cells = num_cells
        self.pairs = _fixed_pairs(pairs, len(self.store))
        self.length = len(self.pairs) if self.pairs is not None else length or len(self.store)
        self.cubes = cubes
        self.augment = augment
        self.mixing = mixing
        self.shapes = _Shapes([header.positions for header in self.store.headers]) if augment and mixing else None
        self.deformation = deformation
        self.position_noise = position_noise
        self.missing = missing
        self.seed = seed

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> WormPairDataset:
        """Draw from another seed from now on, or one from ``state``; fixed pairs without augmentation keep theirs."""
        if seed is None and state is not None:
            seed = int(state.randint(2**31))
        if seed is not None and (self.pairs is None or self.augment):
            self.seed = int(seed)
        return self

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, index])
        if self.pairs is None:
            chosen = rng.choice(len(self.store), 2, replace=False).tolist()
        else:
            chosen = list(self.pairs[index])
        cells = np.sort(rng.choice(self.store.num_cells, self.num_cells, replace=False))
        first, second = (self._worm(worm, rng.permutation(cells), rng) for worm in chosen)
        item: dict[str, Any] = {name: np.stack([first[name], second[name]]) for name in first}
        item["target"] = _targets(item["cells"], item["valid"])
        item["opposite"] = opposite_roll(*(self.store.headers[worm].positions for worm in chosen)) ^ (
            bool(first["turned"]) != bool(second["turned"])
        )
        item["worms"] = "\t".join(self.store.headers[worm].worm for worm in chosen)
        del item["turned"]
        return item

    def _worm(self, number: int, cells: NDArray[np.int64], rng: np.random.Generator) -> dict[str, Any]:
        header = self.store.headers[number]
        valid = self.store.known(number)[cells]
        if self.missing:
            valid &= rng.random(len(cells)) >= rng.uniform(0, self.missing)
        positions = np.where(valid[:, None], header.positions[cells], 0).astype(np.float32)
        turned = self.augment and rng.random() < 0.5
        worm: dict[str, Any] = {"cells": cells, "valid": valid, "turned": turned}
        if self.augment and valid.any():
            if self.shapes is not None and rng.random() < self.mixing:
                positions[valid] = self.shapes.mixture(number, rng)[cells][valid]
            positions[valid] = self._deform(positions[valid], turned, rng)
        worm["positions"] = positions
        if self.cubes:
            worm["cubes"] = self.store.cubes(number, cells, valid, turned)
        return worm

    def _deform(self, positions: NDArray[np.float32], turned: bool, rng: np.random.Generator) -> NDArray[np.float32]:
        """Turn, bend, stretch and jitter the positions of a worm."""
        center, spread = positions.mean(0), positions.std(0) + 1e-6
        relative = (positions - center) / spread
        if turned:
            relative = relative * np.array([-1, -1, 1])
        amount = self.deformation
        relative = relative @ (np.eye(3) + amount * rng.standard_normal((3, 3)))
        along = relative[:, 2:]
        bend = amount * rng.standard_normal(3) * along**2 / 2
        for _ in range(3):
            wave, phase = rng.uniform(0, 6), rng.uniform(0, 2 * np.pi, 3)
            bend = bend + amount * rng.standard_normal(3) * np.sin(wave * along + phase)
        jitter = rng.uniform(0, self.position_noise) * rng.standard_normal(positions.shape)
        return ((relative + bend) * spread + center + jitter).astype(np.float32)


class _Shapes:
    """The worms' positions with equal center, spread and roll, to be mixed with each other."""

    def __init__(self, worms: Sequence[NDArray[np.float32]]) -> None:
        # a worm without any position has no shape to give, and no cell to be given one
        found = [worm if np.isfinite(worm).any() else np.zeros_like(worm) for worm in worms]
        self.centers = [np.nanmean(worm, 0) for worm in found]
        self.spreads = [np.nanstd(worm, 0) + 1e-6 for worm in found]
        signs = [np.array([-1, -1, 1]) if opposite_roll(worms[0], worm) else np.ones(3) for worm in worms]
        self.spreads = [spread * sign for spread, sign in zip(self.spreads, signs, strict=True)]
        shapes = [(w - c) / s for w, c, s in zip(worms, self.centers, self.spreads, strict=True)]
        known = np.isfinite(shapes)
        count = known.sum(0)
        self.mean = np.where(known, shapes, 0).sum(0) / np.maximum(count, 1)
        self.deviations = [np.where(np.isfinite(shape), shape - self.mean, 0) for shape in shapes]

    def mixture(self, number: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Positions (N, 3) with the center, spread and roll of worm ``number``, and the shape of three mixed."""
        others = rng.choice(len(self.deviations) - 1, min(2, len(self.deviations) - 1), replace=False)
        others += others >= number  # not the worm itself
        weights = rng.dirichlet(np.full(1 + len(others), 0.7))
        weights /= np.linalg.norm(weights)
        shape = self.mean.copy()
        for weight, worm in zip(weights, [number, *others], strict=True):
            shape += weight * self.deviations[worm]
        return (shape * self.spreads[number] + self.centers[number]).astype(np.float32)


def _targets(cells: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each cell of the first worm the place of the same cell in the second, -1 where it is missing in either."""
    place = np.full(int(cells.max()) + 1, -1, np.int64)
    place[cells[1][valid[1]]] = np.flatnonzero(valid[1])
    return np.where(valid[0], place[cells[0]], -1)


def _fixed_pairs(pairs: str | Sequence[Sequence[int]], worms: int) -> list[tuple[int, int]] | None:
    if worms < 2:
        raise InvalidInputError(f"pairs need at least two worms; there is {worms}")
    if isinstance(pairs, str):
        check_option("pairs", pairs, PAIRS)
        if pairs == "random":
            return None
        if pairs == "chain":
            return [(i, i + 1) for i in range(worms - 1)]
        return list(itertools.combinations(range(worms), 2))
    if not len(pairs):
        raise InvalidInputError(f"pairs is empty; expected pairs of worms, or one of {', '.join(map(repr, PAIRS))}")
    result = []
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(i, int) and 0 <= i < worms for i in pair):
            raise InvalidInputError(f"pairs: {list(pair)} is not a pair of numbers from 0 to {worms - 1}")
        result.append((int(pair[0]), int(pair[1])))
    return result


class WormDataset(Dataset):
    """Single worms, with all their cells in an order drawn from the seed, as in use, where it tells nothing.

    An item is a dictionary of ``cubes`` (N, C, S, S, S) float32, ``positions`` (N, 3) float32 (z, y, x) in voxels,
    ``valid`` (N,) bool, ``cells`` (N,) int64 (slot, which is Aligned_No - 1) and ``worm`` (int, place in the list).

    Args:
        store: the worms.
        cubes: whether to read the cubes at all.
        seed: of the order of the cells.
        element: turn every cube by this element of S4, see ``rotation_group("S4")``; 0 leaves them as they are. To see
            how features change with the orientation.
    """

    def __init__(self, store: WormStore, cubes: bool = True, seed: int = 0, element: int = 0) -> None:
        self.store = store
        self.cubes = cubes
        self.seed = seed
        self.element = element

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        cells = np.random.default_rng([self.seed, index]).permutation(self.store.num_cells)
        valid = self.store.known(index)[cells]
        positions = self.store.headers[index].positions[cells]
        item: dict[str, Any] = {"cells": cells, "valid": valid, "worm": index}
        item["positions"] = np.where(valid[:, None], positions, 0).astype(np.float32)
        if self.cubes:
            cubes = torch.from_numpy(self.store.cubes(index, cells, valid))
            item["cubes"] = rotation_group("S4").act(cubes, self.element) if self.element else cubes
        return item
