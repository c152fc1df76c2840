"""Cutting a cube of voxels around each cell of a worm, and finding the cell in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.data.worm_file import CHANNELS, WormCubes, WormHeader
from voxel_ext.data.worm_table import WormTable, check_inside
from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.transforms.intensity.soft_mask import mask_distance, soft_mask_weight

CORE = 5
"""Side of the block around the center voxel whose labels decide which cell is meant."""

CENTER, CUBE, RAW = "center", "cube", "raw"
"""How a cell was found: by the labels in its core, by those in its cube, or by its position alone."""

UNLABELED, ABSENT = "no label in the cube", "not in the table"
"""Why a cell is missing."""


def crop(volume: NDArray, center: Sequence[int], size: int) -> NDArray:
    """Cut the cube [c - h, c - h + size), h = size // 2, out of a volume; zero beyond its borders.

    Args:
        volume: (Z, Y, X), or with leading axes that are kept. It may be memory-mapped.
        center: c, the voxel (z, y, x) that comes to index h of each axis.
        size: the cube's side.

    Returns:
        (size, size, size) with the leading axes, a copy, in the machine's byte order.
    """
    shape = volume.shape[-3:]
    cube = np.zeros((*volume.shape[:-3], size, size, size), volume.dtype.newbyteorder("="))
    inner: list[Any] = [...]
    outer: list[Any] = [...]
    for middle, side in zip(center, shape, strict=True):
        start = int(middle) - size // 2
        first, last = max(start, 0), max(min(start + size, side), 0)
        inner.append(slice(first, last))
        outer.append(slice(first - start, last - start))
    cube[tuple(outer)] = volume[tuple(inner)]
    return cube


def pick_label(labels: NDArray, core: int = CORE) -> tuple[int, str]:
    """Say which instance of a cube of labels is the cell at its center.

    Args:
        labels: (S, S, S) instance labels, 0 for background.
        core: side of the block around the center voxel (index S // 2) that is looked at first.

    Returns:
        the most frequent non-zero label of the core and :data:`CENTER`; if there is none, that of the whole cube and
        :data:`CUBE`; if there is none, 0 and :data:`UNLABELED`. Of equally frequent ones the lowest.
    """
    start = [side // 2 - core // 2 for side in labels.shape]
    block = labels[tuple(slice(max(first, 0), first + core) for first in start)]
    for part, rule in ((block, CENTER), (labels, CUBE)):
        values, counts = np.unique(part[part != 0], return_counts=True)
        if len(values):
            return int(values[counts.argmax()]), rule
    return 0, UNLABELED


@dataclass(frozen=True)
class CubeSettings:
    """How cubes are cut.

    Args:
        size: the cubes' side in voxels; 32 is that of MA_FeatureLearning.
        channels: "raw" for the intensities alone; "raw+mask+soft" for them, the cell's binary mask, and the intensities
            times the soft mask; "soft" for the last alone.
        alpha: steepness of the soft mask; see ``soft_mask_weight``.
        exact_soft_mask: True for the curve that is 0.6457 inside instead of 1; see ``soft_mask_weight``.
        voxel_size: (z, y, x) sizes for the soft mask's distance; voxels if None.
        cells: N, how many identities there are.

    Raises:
        InvalidInputError: an option is out of range.
    """

    size: int = 32
    channels: str = "raw"
    alpha: float = 0.6
    exact_soft_mask: bool = False
    voxel_size: tuple[float, float, float] | None = None
    cells: int = 558

    def __post_init__(self) -> None:
        check_option("channels", self.channels, CHANNELS)
        for name, value in (("size", self.size), ("cells", self.cells)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise InvalidInputError(f"{name}={value!r}; expected an integer of at least 1")
        soft_mask_weight(0, self.alpha)
        if self.voxel_size is not None:
            mask_distance(np.ones((1, 1, 1)), self.voxel_size)


class WormCutter:
    """The cubes of one worm, cut one by one when they are asked for, so that memory stays small.

    Args:
        image: (Z, Y, X) intensities; it may be memory-mapped.
        label: (Z, Y, X) instance labels, 0 for background; None for ``channels="raw"`` without looking for the cells.
        table: the cells.
        settings: how to cut.
        worm: its name.
        record: what to store as the file's ``settings``.

    Raises:
        InvalidInputError: image and label differ in shape (names both); no label although the channels need one;
            labels that are not integers; a cell outside of the volume, or with a number above ``settings.cells``.
    """

    def __init__(
        self,
        image: NDArray,
        label: NDArray | None,
        table: WormTable,
        settings: CubeSettings,
        worm: str = "",
        record: dict[str, Any] | None = None,
    ) -> None:
        _check_volumes(image, label, settings, worm)
        check_inside(table, image.shape, f"the volume of worm {worm}" if worm else "the volume")
        if len(table) and table.numbers.max() > settings.cells:
            raise InvalidInputError(
                f"{table.source}: Aligned_No {table.numbers.max()} is above cells={settings.cells}; raise cells, or "
                "leave that cell out"
            )
        self.image, self.label, self.settings = image, label, settings
        self.centers = dict(zip((table.numbers - 1).tolist(), table.centers, strict=True))
        self.picked: dict[int, int] = {}
        self.header = self._find(table, worm, record or {})

    def _find(self, table: WormTable, worm: str, record: dict[str, Any]) -> WormHeader:
        """Decide for every cell which label it has, and describe the outcome."""
        count = self.settings.cells
        positions = np.full((count, 3), np.nan, np.float32)
        names, rules = [""] * count, [ABSENT] * count
        valid = np.zeros(count, bool)
        for name, position, slot in zip(table.names, table.positions, (table.numbers - 1).tolist(), strict=True):
            self.picked[slot], rules[slot] = self._pick(slot)
            names[slot] = name
            positions[slot] = position
            valid[slot] = rules[slot] != UNLABELED
        shape = tuple(int(side) for side in self.image.shape)
        return WormHeader(
            worm,
            valid,
            positions,
            tuple(names),
            shape,
            self.settings.channels,
            self.settings.size,
            record,
            tuple(rules),
        )

    def _pick(self, slot: int) -> tuple[int, str]:
        if self.label is None:
            return 0, RAW
        # nearly always the core decides, and the whole cube need not be read
        picked, rule = pick_label(crop(self.label, self.centers[slot], min(CORE, self.settings.size)))
        return (picked, CENTER) if rule == CENTER else pick_label(self._crop(self.label, slot))

    def _crop(self, volume: NDArray, slot: int) -> NDArray:
        return crop(volume, self.centers[slot], self.settings.size)

    def cube(self, slot: int) -> NDArray[np.float32]:
        """Cut the cube (C, S, S, S) of a valid cell.

        Raises:
            InvalidInputError: the intensities have NaN or infinite values.
        """
        options = self.settings
        raw = self._crop(self.image, slot).astype(np.float32)
        if not np.isfinite(raw).all():
            raise InvalidInputError(
                f"worm {self.header.worm}: the image has NaN or infinite values around cell {slot + 1} "
                f"({self.header.names[slot]})"
            )
        if options.channels == "raw":
            return raw[None]
        assert self.label is not None
        mask = self._crop(self.label, slot) == self.picked[slot]
        weight = soft_mask_weight(mask_distance(mask, options.voxel_size), options.alpha, options.exact_soft_mask)
        soft = raw * weight
        return soft[None] if options.channels == "soft" else np.stack([raw, mask.astype(np.float32), soft])

    def cubes(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Cut the cubes of all valid cells, in the order of their slots; see :meth:`cube`."""
        for slot in np.flatnonzero(self.header.valid).tolist():
            yield slot, self.cube(slot)


def cut_worm(
    image: ArrayLike,
    label: ArrayLike | None,
    table: WormTable,
    size: int = 32,
    channels: str = "raw",
    alpha: float = 0.6,
    exact_soft_mask: bool = False,
    voxel_size: tuple[float, float, float] | None = None,
    cells: int = 558,
    channel: int | None = None,
    worm: str = "",
) -> WormCubes:
    """Cut a cube around every cell of a worm and sort the cubes by identity.

    Slot i of the result is the cell with ``Aligned_No`` i + 1, whether or not others are missing. A cell is missing if
    it is not in the table, or, where a label volume is given, if its cube holds no label (see :func:`pick_label`).

    Args:
        image: (Z, Y, X) or (C, Z, Y, X) intensities.
        label: (Z, Y, X) instance labels of the same shape, 0 for background. It may be None for ``channels="raw"``.
        table: the cells and their positions; the cube's center is the position rounded, halves up.
        size: see :class:`CubeSettings`, as are ``channels``, ``alpha``, ``exact_soft_mask``, ``voxel_size``, ``cells``.
        channels: what the cubes hold.
        alpha: steepness of the soft mask.
        exact_soft_mask: whether the soft mask is 0.6457 inside.
        voxel_size: units of the soft mask's distance.
        cells: N, how many identities there are.
        channel: which channel of ``image``; by default the third if there are three or more, else the first.
        worm: its name.

    Returns:
        the cubes (N, C, S, S, S) float32 with what belongs to them.

    Raises:
        InvalidInputError: shapes that differ (names both), a cell outside of the volume or with a number above
            ``cells``, labels that are not integers, NaN in a cube, or an option out of range.
    """
    settings = CubeSettings(size, channels, alpha, exact_soft_mask, voxel_size, cells)
    chosen = select_channel(np.asarray(image), channel, worm or "the image")
    record = {**vars(settings), "channel": channel}
    cutter = WormCutter(chosen, None if label is None else np.asarray(label), table, settings, worm, record)
    header = cutter.header
    cubes = np.zeros(header.shape, np.float32)
    for slot, cube in cutter.cubes():
        cubes[slot] = cube
    return WormCubes(**vars(header), cubes=cubes)


def select_channel(image: NDArray, channel: int | None, source: str) -> NDArray:
    """Return one channel of a volume.

    Args:
        image: (Z, Y, X), or (C, Z, Y, X).
        channel: which; None for the third if there are three or more, else the first. A volume without a channel axis
            has channel 0 only.
        source: what the message calls it.

    Raises:
        InvalidInputError: another number of axes, or no such channel.
    """
    if image.ndim not in (3, 4) or 0 in image.shape:
        raise InvalidInputError(f"{source} has shape {image.shape}; expected (Z, Y, X) or (C, Z, Y, X), none empty")
    stacked = image if image.ndim == 4 else image[None]
    return stacked[channel_index(len(stacked), channel, f"{source} of shape {image.shape}")]


def channel_index(count: int, channel: int | None, source: str) -> int:
    """Return the channel to use of ``count``: ``channel``, or if that is None the third, or the first of fewer.

    Raises:
        InvalidInputError: there is no such channel; the message calls the volume ``source``.
    """
    index = (2 if count >= 3 else 0) if channel is None else channel
    if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < count:
        raise InvalidInputError(f"{source} has the channels 0 to {count - 1}; asked for channel={index!r}")
    return int(index)


def _check_volumes(image: NDArray, label: NDArray | None, settings: CubeSettings, worm: str) -> None:
    name = f"worm {worm}: " if worm else ""
    if image.ndim != 3 or image.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"{name}the image has shape {image.shape}, dtype {image.dtype}; expected (Z, Y, X) numbers"
        )
    if label is None:
        if settings.channels != "raw":
            raise InvalidInputError(f"{name}channels={settings.channels!r} needs a label volume, which is not given")
        return
    if label.shape != image.shape:
        raise InvalidInputError(
            f"{name}the image has shape {image.shape} but the label volume {label.shape}; expected the same"
        )
    if label.dtype.kind not in "biu":
        raise InvalidInputError(f"{name}the label volume has dtype {label.dtype}; expected integer instance labels")
