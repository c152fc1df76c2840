"""Reading the volume that a report is about, and scoring its segmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.address import parse_address
from voxel_ext.data.lazy_images import NIFTI_SUFFIXES, TIFF_SUFFIXES
from voxel_ext.data.lazy_itk import ITK_SUFFIXES
from voxel_ext.data.lazy_volume import LazyVolume, open_volume
from voxel_ext.data.vaa3d import SUFFIXES as VAA3D_SUFFIXES
from voxel_ext.data.vaa3d import open_vaa3d
from voxel_ext.data.zyx import LoadZyxd
from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.report_writer import check_report
from voxel_ext.visualize.arrays import check_voxel_size
from voxel_ext.visualize.volume_report import write_volume_report

MAX_VOXELS = 64 * 2**20
"""Voxels that a page is made of; with image, labels and reference, about 2 GB of memory."""

_PLANE_BYTES = 2**28
_PLANE_SUFFIXES = (*NIFTI_SUFFIXES, *TIFF_SUFFIXES, *ITK_SUFFIXES, ".png", ".jpg", ".jpeg", ".bmp")


def report_volume(
    image: str,
    labels: str | None,
    reference: str | None,
    box: str | None,
    channel: int,
    voxel_size: Sequence[float] | None,
    title: str | None,
    output: Path,
) -> Path:
    """Write the page about a volume; see ``python -m voxel_ext report --help`` for the arguments.

    Returns:
        the page.

    Raises:
        MissingDataError: a file does not exist.
        InvalidInputError: a file is damaged or of another shape than the image, the part is larger than
            :data:`MAX_VOXELS` or not inside, or an option does not fit.
        MissingDependencyError: a library that draws is not installed.
        OSError: the page cannot be written.
    """
    check_report(output, "matplotlib", "plotly", "PIL")
    shown = _open(image)
    part = _parse_box(box, shown)
    if math.prod(one.stop - one.start for one in part) > MAX_VOXELS:
        raise InvalidInputError(
            f"{image} has {' x '.join(map(str, shown.spatial_shape))} voxels; a report shows up to {MAX_VOXELS} of "
            f"them: choose a part, for example --box {_example(shown.spatial_shape)}"
        )
    if isinstance(channel, bool) or not isinstance(channel, int) or not 0 <= channel < shown.shape[0]:
        raise InvalidInputError(f"--channel={channel}: {image} has the channels 0 to {shown.shape[0] - 1}")
    others = {path: _open(path) for path in (labels, reference) if path}
    for path, one in others.items():
        _check_labels(path, one, shown)
    flat = shown.spatial_shape[0] == 1
    arrays = {path: one.read(part)[0, 0] if flat else one.read(part)[0] for path, one in others.items()}
    for path, array in arrays.items():
        _check_ids(path, array)
    gray = shown.read(part)[channel]
    size = _voxel_size(voxel_size, [shown, *others.values()], flat)
    predicted, true = (arrays[path] if path else None for path in (labels, reference))
    scores = segmentation_scores(predicted, true) if predicted is not None and true is not None else {}
    return write_volume_report(
        output, title or image, gray[0] if flat else gray, predicted, true, size, scores, _notes(shown, part, size)
    )


def segmentation_scores(labels: NDArray, reference: NDArray) -> dict[str, float]:
    """Compare a segmentation with the true one.

    Args:
        labels: mask or ids.
        reference: of the same shape.

    Returns:
        Dice and IoU of the foreground; and where one of both has more than one id: adapted Rand error, and the average
        precision at an IoU of 0.5 and in the mean from 0.5 to 0.95.
    """
    import torch
    from monai.metrics import compute_dice, compute_iou

    from voxel_ext.metrics import adapted_rand_error, instance_scores

    pred, true = (torch.from_numpy(_ids(one)) for one in (labels, reference))
    found, wanted = ((one > 0)[None, None] for one in (pred, true))
    scores = {"Dice": float(compute_dice(found, wanted)), "IoU": float(compute_iou(found, wanted))}
    if max(int(pred.max()), int(true.max())) > 1:
        precision = instance_scores(pred, true).average_precision
        scores["adapted Rand error"] = adapted_rand_error(pred, true)
        scores["average precision (IoU 0.5)"] = float(precision[0])
        scores["average precision (mean)"] = float(precision.mean())
    return scores


def _ids(labels: NDArray) -> NDArray[np.int64]:
    """Ids; probabilities become a mask, as on the page."""
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels)):
        labels = labels > 0.5
    return np.maximum(labels.astype(np.int64), 0)


def _open(path: str) -> LazyVolume:
    """Open what may be larger than memory; a plane (y, x) as a volume of one slice."""
    if parse_address(path).file.lower().endswith(VAA3D_SUFFIXES):
        return open_volume(open_vaa3d(path), name=path)
    try:
        return open_volume(path)
    except InvalidInputError:
        plane = _read_plane(path)
        if plane is None:
            raise
        return plane


def _read_plane(path: str) -> LazyVolume | None:
    """A plane of a format that MONAI reads, None if it is none."""
    address = parse_address(path)
    if not address.is_container:
        file = Path(address.file)
        if not path.lower().endswith(_PLANE_SUFFIXES) or not file.is_file() or file.stat().st_size > _PLANE_BYTES:
            return None
    try:
        loaded = LoadZyxd("image", dtype=None)({"image": path})["image"]
    except (InvalidInputError, RuntimeError, OSError):
        return None
    if loaded.ndim != 3:
        return None
    return open_volume(np.asarray(loaded)[:, None], channel_axis="first", name=path)


def _parse_box(text: str | None, volume: LazyVolume) -> list[slice]:
    """The part of a volume that is shown."""
    lengths = list(volume.spatial_shape)
    flat = lengths[0] == 1
    ranges = [""] * len(lengths) if text is None else text.split(",")
    if flat and len(ranges) == 2:
        ranges = ["", *ranges]
    try:
        if len(ranges) != len(lengths):
            raise ValueError
        part = []
        for one, length in zip(ranges, lengths, strict=True):
            start, _, stop = one.partition(":") if one.strip() else ("", ":", "")
            found = slice(int(start) if start.strip() else 0, int(stop) if stop.strip() else length)
            if not 0 <= found.start < found.stop <= length:
                raise ValueError
            part.append(found)
    except ValueError:
        raise InvalidInputError(
            f"--box={text} is not a part of {volume.address}, which is {tuple(lengths)} (z, y, x); expected "
            "z0:z1,y0:y1,x0:x1"
        ) from None
    return part


def _example(shape: Sequence[int]) -> str:
    """A central part that is small enough, as --box takes it."""
    edge = round(MAX_VOXELS ** (1 / 3)) // 2
    ranges = [(max(length // 2 - edge // 2, 0), min(length // 2 + edge // 2, length)) for length in shape]
    return ",".join(f"{start}:{max(stop, start + 1)}" for start, stop in ranges)


def _check_labels(path: str, labels: LazyVolume, image: LazyVolume) -> None:
    if labels.spatial_shape != image.spatial_shape or labels.shape[0] != 1:
        raise InvalidInputError(
            f"{path} has {labels.shape[0]} channel(s) of the shape {labels.spatial_shape} (z, y, x), the image "
            f"{image.address} the shape {image.spatial_shape}; expected labels of that shape in one channel"
        )


def _check_ids(path: str, labels: NDArray) -> None:
    highest = np.iinfo(np.int32).max if labels.dtype.kind in "iu" else 2**24  # float32 has no more whole numbers
    if labels.dtype.kind in "iuf" and highest < labels.max() < np.inf:
        raise InvalidInputError(
            f"{path} has ids up to {int(labels.max())}; a report shows ids of {labels.dtype} up to {highest}: make "
            "them consecutive with voxel_ext.data.relabel_volume"
        )


def _voxel_size(given: Sequence[float] | None, volumes: Sequence[LazyVolume], flat: bool) -> tuple[float, ...] | None:
    if given is not None:
        sizes = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in sizes):
            raise InvalidInputError(f"--voxel_size={given} must be numbers, z,y,x in micrometers")
        return check_voxel_size(sizes, 2 if flat else 3)
    size = next((one.voxel_size for one in volumes if one.voxel_size), None)
    return size[-2:] if size and flat else size


def _notes(volume: LazyVolume, part: Sequence[slice], size: Sequence[float] | None) -> list[str]:
    axes = "zyx"[-len(size) :] if size else ""
    notes = [f"Voxel size {', '.join(f'{a} {s:g}' for a, s in zip(axes, size, strict=True))} µm." if size else
             "The file tells no voxel size."]  # fmt: skip
    if [one.stop - one.start for one in part] != list(volume.spatial_shape):
        place = ", ".join(f"{axis} {one.start}:{one.stop}" for axis, one in zip("zyx", part, strict=True))
        notes.append(f"Of {' × '.join(map(str, volume.spatial_shape))} voxels, the part {place}.")
    return notes
