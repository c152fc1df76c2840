"""The report about inference on volumes that do not fit into memory."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.lazy_volume import LazyVolume, open_volume
from voxel_ext.data.vector_codes import decode_vectors
from voxel_ext.errors import InvalidInputError, MissingDataError, check_counts, check_option
from voxel_ext.handlers.history import read_history
from voxel_ext.handlers.report import _compact_image
from voxel_ext.handlers.report_writer import check_report
from voxel_ext.inferers.block_output import SINGLE
from voxel_ext.inferers.block_store import SETTINGS_ATTRIBUTE
from voxel_ext.targets import Target, read_targets
from voxel_ext.visualize.surface_report import write_surface_report
from voxel_ext.visualize.target_fields import (
    ShownTarget,
    central_box,
    shown_channels,
    shown_prediction,
)

logger = logging.getLogger(__name__)

_SAMPLED, _SAMPLE_SIZE = 4, 64

Result = tuple[str, Any, str | os.PathLike[str]]
"""Name of a volume, its input (path, array or opened volume), and the folder that BlockwiseInferer made."""


def report_blockwise(
    results: Sequence[Result],
    targets: Mapping[str, Mapping[str, Any] | Target],
    path: str | os.PathLike[str],
    title: str = "Surfaces",
    settings: Mapping[str, Any] | None = None,
    history_file: str | os.PathLike[str] | None = None,
    max_volumes: int = 2,
    max_size: int = 160,
    voxel_size: Sequence[float] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write a page about results of :class:`~voxel_ext.inferers.BlockwiseInferer`.

    Of each volume one box is read and shown. It is centered where there is most of the first mask that is stored: in
    the fullest of at most 4 × 4 × 4 evenly spaced blocks of at most 64³ voxels, or in the middle of the volume if there
    is no mask or these blocks have none of it. So memory and time do not depend on the size of the volumes.

    Args:
        results: the volumes, each its name, its input, and the store of its results.
        targets: the network's, as :func:`~voxel_ext.targets.read_targets` takes them. Those that a store lacks are not
            shown; there must be one that it has. A network that gives one tensor has one target, of any name.
        path: the file to write, replaced whole.
        title: heading of the page.
        settings: what to list as settings, may be nested.
        history_file: JSON lines written during training, for the learning curves.
        max_volumes: how many volumes to show.
        max_size: edge of the box in voxels.
        voxel_size: µm along D, H, W; None for that of the store.
        notes: sentences to put on top of the page.

    Returns:
        the path.

    Raises:
        InvalidInputError: a store that the inferer did not make, or without any of the targets; an input of another
            size; a number out of range.
        MissingDataError: an input or a store does not exist.
        MissingDependencyError: a library that draws is not installed.
        OSError: the page cannot be written.
    """
    check_counts({"max_size": 1}, max_volumes=max_volumes, max_size=max_size)
    known = read_targets(targets)
    check_report(Path(path), "matplotlib", "plotly", "PIL")
    volumes = [_volume(*result, known, max_size, voxel_size) for result in results[:max_volumes]]
    if len(results) > max_volumes:
        notes = [*notes, f"{len(results)} volumes were computed; {max_volumes} of them are shown."]
    written = write_surface_report(
        path,
        volumes,
        title,
        settings=settings,
        history=read_history(history_file) if history_file is not None else (),
        metrics={"volumes": len(results)},
        notes=notes,
    )
    logger.info("report: %s", written)
    return written


def choose_center(mask: LazyVolume, target: Target, output: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the center (z, y, x) of the fullest of evenly spaced blocks of a mask, None if they are all empty.

    Args:
        mask: as stored. At most 4 × 4 × 4 blocks of at most 64³ voxels are read; of equally full ones that nearest to
            the middle of the volume counts.
        target: what it is.
        output: how it was stored, see :func:`decode_stored`.
    """
    sizes = np.minimum(mask.spatial_shape, _SAMPLE_SIZE)
    starts = [
        np.unique(np.linspace(0, length - size, min(_SAMPLED, -(-length // size))).round().astype(int))
        for length, size in zip(mask.spatial_shape, sizes.tolist(), strict=True)
    ]
    middle = (np.array(mask.spatial_shape) - sizes) / 2
    found = []
    for start in itertools.product(*starts):
        part = mask.read([slice(int(first), int(first + size)) for first, size in zip(start, sizes, strict=True)])
        filled = int((decode_stored(target, part, output) > 0).sum())
        found.append((filled, -float(((np.array(start) - middle) ** 2).sum()), start))
    filled, _, start = max(found)
    return tuple((np.array(start) + sizes // 2).tolist()) if filled else None


def _volume(
    name: str,
    source: Any,
    store: str | os.PathLike[str],
    targets: Mapping[str, Target],
    max_size: int,
    voxel_size: Sequence[float] | None,
) -> dict[str, Any]:
    """Read the box of one volume that is shown."""
    outputs = _stored_outputs(store)
    stored = _open_targets(store, outputs, targets)
    image = source if isinstance(source, LazyVolume) else open_volume(source, name=name)
    for key, volume in stored.items():
        if volume.spatial_shape != image.spatial_shape:
            raise InvalidInputError(
                f"{volume.address} (target {key!r}) is {volume.spatial_shape}, but the input {image.address} is "
                f"{image.spatial_shape} (z, y, x); expected the same"
            )
    if list(outputs) == [SINGLE]:
        outputs = {next(iter(stored)): outputs[SINGLE]}
    masks = [key for key in stored if targets[key].kind == "mask"][:1]
    center = choose_center(stored[masks[0]], targets[masks[0]], outputs[masks[0]]) if masks else None
    box = central_box(image.spatial_shape, max_size, center)
    shown = {
        key: ShownTarget(targets[key], None, decode_stored(targets[key], volume.read(box), outputs[key]))
        for key, volume in stored.items()
    }
    place = ", ".join(f"{axis} {part.start}:{part.stop}" for axis, part in zip("zyx", box, strict=True))
    size = " × ".join(map(str, image.spatial_shape))
    return {
        "name": name,
        "image": _compact_image(image.read(box), f"the image of {name!r}"),
        "targets": shown,
        "voxel_size": voxel_size or next(iter(stored.values())).voxel_size,
        "extent": f"of {size}, the box {place}",
    }


def decode_stored(target: Target, array: NDArray, output: Mapping[str, Any]) -> NDArray:
    """Turn a part of a stored result into what is drawn.

    Args:
        target: what it is.
        array: (C, D, H, W) as stored.
        output: how it was stored: the settings of ``BlockOutput``.

    Returns:
        see :class:`~voxel_ext.visualize.target_fields.ShownTarget`.

    Raises:
        InvalidInputError: the number of channels does not fit the target.
    """
    reduction = output["reduction"]
    if reduction == "argmax":
        return array[0]
    if reduction is not None:
        return shown_channels(array)
    if target.is_vector and (array.dtype.kind == "f" or output["activation"] == "unit_norm"):
        return shown_prediction(target, decode_vectors(array, output["component_order"]))
    if array.dtype.kind == "f":
        return shown_prediction(target, array.astype(np.float32))
    return shown_prediction(target, array.astype(np.float32) / 255)


def _stored_outputs(store: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """How each output in a store was made, by name."""
    import zarr

    if not Path(store).is_dir():
        raise MissingDataError(f"{store} does not exist; expected a result of BlockwiseInferer")
    try:
        settings = json.loads(str(dict(zarr.open_group(str(store), mode="r").attrs)[SETTINGS_ATTRIBUTE]))
        return dict(settings["outputs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"{store} is no result of BlockwiseInferer: its settings cannot be read ({type(error).__name__}: {error})"
        ) from error


def _open_targets(
    store: str | os.PathLike[str], outputs: Mapping[str, Any], targets: Mapping[str, Target]
) -> dict[str, LazyVolume]:
    """The arrays of the targets that are stored."""
    if list(outputs) == [SINGLE]:
        if len(targets) != 1:
            raise InvalidInputError(
                f"{store} has the output of a network that gives one tensor; expected one target, not {list(targets)}"
            )
        return {next(iter(targets)): open_volume(store)}
    for name in targets if not set(targets) & set(outputs) else ():
        check_option(f"target to show of {store}", name, outputs)
    return {name: open_volume(Path(store) / name) for name in targets if name in outputs}
