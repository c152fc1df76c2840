"""Settings of the 3D U-Nets whose checkpoints are those of pytorch-3dunet, and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from voxel_ext.errors import InvalidInputError, check_option, check_sizes
from voxel_ext.networks.sizes import check_network_arguments

LETTERS = {
    "c": "convolution",
    "g": "group norm",
    "b": "batch norm",
    "r": "ReLU",
    "l": "LeakyReLU",
    "e": "ELU",
    "d": "dropout",
    "D": "dropout of whole channels",
}
"""The letters of ``layer_order``."""


@dataclass(frozen=True)
class Flavor:
    """What differs between the releases of pytorch-3dunet.

    Attributes:
        pointwise: a residual block starts with a 1 x 1 x 1 convolution, or with nothing where the channels stay;
            without, with a whole ``SingleConv``.
        interpolated: a transposed convolution has no bias, its output n * stride - stride + 1 is interpolated to the
            size of the skip; without, it has a bias and an output of n * stride.
        slope: of LeakyReLU below 0, except in the last activation of a residual block, where it is 0.1.
    """

    pointwise: bool
    interpolated: bool
    slope: float


FLAVORS = {
    "flavell": Flavor(pointwise=False, interpolated=False, slope=0.1),
    "wolny-1.4": Flavor(pointwise=True, interpolated=False, slope=0.01),
    "wolny": Flavor(pointwise=True, interpolated=True, slope=0.01),
}
"""``flavell``: flavell-lab/pytorch-3dunet, and wolny/pytorch-3dunet before 1.4; ``wolny-1.4``: wolny/pytorch-3dunet 1.4
to 1.8.0; ``wolny``: since 1.8.1."""


@dataclass(frozen=True)
class LevelSettings:
    """What all convolutions of a network have in common.

    Attributes:
        order: letters of :data:`LETTERS`, e.g. ``"gcr"``.
        num_groups: groups of the group norms; one where a map has fewer channels.
        kernel_size: odd, along (z, y, x).
        stride: pooling along (z, y, x).
        dropout: rate of the letters d and D.
        flavor: key of :data:`FLAVORS`.
    """

    order: str = "gcr"
    num_groups: int = 8
    kernel_size: tuple[int, int, int] = (3, 3, 3)
    stride: tuple[int, int, int] = (2, 2, 2)
    dropout: float = 0.1
    flavor: str = "flavell"

    def __post_init__(self) -> None:
        check_option("flavor", self.flavor, FLAVORS)
        check_layer_order(self.order)

    @property
    def padding(self) -> tuple[int, int, int]:
        """Zeros added on each side, so that a convolution keeps the size."""
        depth, height, width = (size // 2 for size in self.kernel_size)
        return depth, height, width


def check_layer_order(order: object) -> str:
    """Return the order of the layers of a convolution if it is valid.

    Raises:
        InvalidInputError: it has an unknown or repeated letter, no ``c``, starts with an activation, or has more than
            one activation.
    """
    valid = ", ".join(f"{letter} {name}" for letter, name in LETTERS.items())
    if not isinstance(order, str) or not order or set(order) - set(LETTERS):
        raise InvalidInputError(f"layer_order={order!r} is not valid; expected a text such as 'gcr' of: {valid}")
    if order.count("c") != 1 or len(set(order)) < len(order):
        raise InvalidInputError(
            f"layer_order={order!r} is not valid; expected one c and every other letter at most once"
        )
    if order[0] in "rle" or sum(letter in "rle" for letter in order) > 1:
        raise InvalidInputError(
            f"layer_order={order!r} is not valid; expected at most one activation (r, l, e), and not as the first"
        )
    return order


def level_channels(f_maps: int | Sequence[int], num_levels: int) -> list[int]:
    """Return the channels of each level: ``f_maps`` itself, or f_maps * 2 ** k for level k.

    Raises:
        InvalidInputError: there are fewer than two levels, or an entry is not a positive whole number.
    """
    if _is_whole(f_maps):
        if not _is_whole(num_levels) or num_levels < 2:
            raise InvalidInputError(f"num_levels={num_levels!r} is not valid; expected a whole number of at least 2")
        f_maps = [f_maps * 2**level for level in range(num_levels)]
    if not isinstance(f_maps, Sequence) or isinstance(f_maps, str) or len(f_maps) < 2:
        raise InvalidInputError(
            f"f_maps={f_maps!r} is not valid; expected a number, or a list of at least 2, one a level"
        )
    if not all(_is_whole(count) and count > 0 for count in f_maps):
        raise InvalidInputError(f"f_maps={list(f_maps)} is not valid; expected positive whole numbers")
    return [int(count) for count in f_maps]


def level_settings(
    layer_order: str,
    num_groups: int,
    kernel_size: int | Sequence[int],
    pool_size: int | Sequence[int],
    dropout: float,
    flavor: str,
) -> LevelSettings:
    """Check the arguments of a network and put them together.

    Raises:
        InvalidInputError: one is not valid.
    """
    check_network_arguments(3, 3, num_groups=num_groups)
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise InvalidInputError(f"dropout={dropout!r} is not valid; expected a rate in [0, 1)")
    kernel, pool = check_sizes("kernel_size", kernel_size), check_sizes("pool_size", pool_size)
    if any(size % 2 == 0 for size in kernel):
        raise InvalidInputError(
            f"kernel_size={kernel_size!r} is not valid; expected odd numbers, so that sizes are kept"
        )
    return LevelSettings(layer_order, num_groups, kernel, pool, float(dropout), flavor)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
