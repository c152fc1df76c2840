"""The color code of NeuroPAL: what each neuron expresses of the fluorophores.

Real NeuroPAL worms (Yemini et al. 2021, doi:10.1016/j.cell.2020.12.012) have a fixed code of three colors and a
pan-neuronal marker. The code here is an artificial one of the same kind.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CHANNELS = ("mTagBFP2", "CyOFP1", "mNeptune2.5", "TagRFP")
"""The fluorophores, in the order of the channels; the last one is pan-neuronal."""

CODE_SEED = 4  # of the color code; the same in every animal
LEVELS = (0.0, 0.25, 0.55, 1.0)  # none, low, medium and high expression
SHARES = (0.3, 0.2, 0.2, 0.3)  # how often each is
PAN_NEURONAL = 0.6  # level of TagRFP
NEUTRAL = 0.5  # level of the colors where they do not depend on the identity


def homolog(name: str) -> str:
    """The name without its final L or R, the same for the cells of a left-right pair; AVL and others stay distinct."""
    return name[:-1] if len(name) > 2 and name[-1] in "LR" else name


def color_code(names: Sequence[str], strength: float = 1.0) -> NDArray[np.float64]:
    """Mean expression of cells, the same in every animal.

    The three colors have a level of none, low, medium or high (0, 0.25, 0.55, 1) that follows from the name alone; a
    cell has at least one above none. Cells of a left-right pair have the same ones. TagRFP is 0.6 in all.

    Args:
        names: N names of cells.
        strength: from 0, all cells alike at 0.5, to 1; between them, the levels are interpolated.

    Returns:
        (N, 4) relative brightness in the order of `CHANNELS`.
    """
    code = np.empty((len(names), len(CHANNELS)))
    for row, name in enumerate(names):
        rng = np.random.default_rng([CODE_SEED, zlib.crc32(homolog(name).encode())])
        levels = rng.choice(LEVELS, size=3, p=SHARES)
        if not levels.any():
            levels[rng.integers(3)] = LEVELS[-1]
        code[row, :3] = levels
    code[:, :3] = NEUTRAL + strength * (code[:, :3] - NEUTRAL)
    code[:, 3] = PAN_NEURONAL
    return code


def draw_colors(
    rng: np.random.Generator, names: Sequence[str], brightness: NDArray[np.float64], strength: float, noise: float
) -> NDArray[np.float64]:
    """Expression of the cells of one animal.

    Args:
        rng: source of randomness.
        names: N names of cells.
        brightness: (N,) factor on all channels of a cell.
        strength: see `color_code`.
        noise: standard deviation of the logarithm, per cell and channel.

    Returns:
        (N, 4) relative brightness in the order of `CHANNELS`.
    """
    factors = np.exp(rng.standard_normal((len(names), len(CHANNELS))) * noise)
    return color_code(names, strength) * factors * brightness[:, None]
