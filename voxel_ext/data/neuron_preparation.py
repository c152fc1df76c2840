"""From images and label volumes to the training data of neuron segmentation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from voxel_ext.data.jobs import PreparedFiles, do_missing
from voxel_ext.data.neuron_sources import VolumePair, list_pairs, load_zyx
from voxel_ext.data.neuron_volume import NeuronSettings, prepare_volume
from voxel_ext.data.prepared_file import prepared_difference, write_prepared
from voxel_ext.data.prepared_folder import write_marker
from voxel_ext.errors import InvalidInputError, check_counts, check_option
from voxel_ext.files import explain_write_errors, locked_folder

FORMATS = ("h5", "zarr")


class NeuronReport(PreparedFiles):
    """What :func:`prepare_neurons` did: the files ``made`` and ``kept``, relative to the output folder."""


def prepare_neurons(
    input_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    label_kind: str = "sparse",
    image_key: str | Sequence[str] = ("raw", "data"),
    label_key: str | Sequence[str] = ("label", "labels"),
    crop: Sequence[Sequence[int]] | None = None,
    voxel_size: Sequence[float] | None = None,
    source_voxel_size: Sequence[float] | None = None,
    file_format: str = "h5",
    num_workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
    **options: Any,
) -> NeuronReport:
    """Write ``<output_dir>/<name>.h5`` (or ``.zarr``) with ``raw``, ``label``, ``weight`` for every pair of volumes.

    Datasets are (D, H, W) = (z, y, x): ``raw`` in the image's data type (float32 after resampling of a float image),
    ``label`` uint8 (1 neuron, 0 all else), ``weight`` float32 (0 where nothing is labeled), and for
    ``label_kind="instances"`` also ``instances``; the attribute ``settings`` tells how they were made. In this order:
    crop, transposition, resampling, noise, weights. See ``list_pairs`` for the names of the files, ``load_zyx`` for the
    formats; subfolders ``train`` and ``val`` of the input are kept apart. Last, ``dataset.json`` tells that all is
    complete. A run that is repeated makes only what is not yet there. A file with an error does not stop the others.

    Args:
        input_dir: folder of the volumes, or with subfolders ``train`` and ``val``.
        output_dir: the folder to write to.
        label_kind: "sparse" for labels 0 to 3, see ``sparse_label_weights``; "instances" for instance ids of every
            neuron, see ``instances_to_sparse_labels``.
        image_key: dataset of the image in HDF5 files and zarr stores, or several to try.
        label_key: dataset of the labels, likewise.
        crop: ((z0, z1), (y0, y1), (x0, x1)) in voxels of the files.
        voxel_size: (z, y, x) in micrometers to resample to: images linearly, labels to the nearest. None for as it is.
        source_voxel_size: that of the files, after the transposition, where their headers do not tell or are wrong.
        file_format: "h5" or "zarr".
        num_workers: processes; 0 for this one. They are spawned, so a script needs ``if __name__ == "__main__":``.
        overwrite: replace files that were made with other settings or from other files, or are damaged.
        progress: show a bar.
        options: more of ``NeuronSettings``: ``transpose_xy`` (exchange y and x), ``signal_to_noise_reduction`` (see
            ``reduce_signal_to_noise``; 1 for none), ``seed`` (of its noise), ``channel`` (of (C, D, H, W) images),
            ``weight_foreground``, ``weight_gap``, ``scale_xy``, ``scale_z``, ``scale_gap`` (see
            ``sparse_label_weights``), ``gap_width``, ``background_distance`` (see ``instances_to_sparse_labels``).

    Raises:
        MissingDataError: no folder, no volumes, a volume without its partner.
        InvalidInputError: an option is unknown or out of range; a file was made with other settings; or, after all
            others are done, files that cannot be prepared (lists them with the reasons): image and label differ in
            shape, labels out of range, values that are not finite, a crop outside of the volume, no voxel size.
        VoxelExtError: a worker process ended unexpectedly.
        OSError: the folder is not writable, or the disk is full; what was finished is kept.
    """
    settings = _settings(label_kind, crop, voxel_size, source_voxel_size, options)
    check_counts({}, num_workers=num_workers)
    keys = tuple((key,) if isinstance(key, str) else tuple(key) for key in (image_key, label_key))
    root = Path(output_dir)
    check_option("file_format", file_format, FORMATS)
    jobs = []
    for part, pair in _list(Path(input_dir)):
        name = PurePath(part, pair.name).as_posix()
        jobs.append(PreparedNeurons(pair, name, root / f"{name}.{file_format}", settings, *keys))
    _check_formats(root, [job.name for job in jobs], file_format)
    with locked_folder(root, ".prepare.lock"), explain_write_errors(root):
        missing = do_missing(
            root, jobs, prepared_difference, "volume", "neuron volumes", num_workers, overwrite, progress
        )
        write_marker(root, [job.path for job in jobs])
    return NeuronReport.of(root, jobs, missing)


def _check_formats(root: Path, names: Sequence[str], file_format: str) -> None:
    """Refuse volumes that are there in another format, since they would be read twice."""
    others = [root / f"{name}.{other}" for name in names for other in FORMATS if other != file_format]
    there = [str(path) for path in others if path.exists()]
    if there:
        raise InvalidInputError(
            f"{len(there)} volumes are there in another format than file_format={file_format!r}: "
            f"{', '.join(there[:5])}; remove them, or choose another output_dir"
        )


def _settings(label_kind: str, crop: Any, voxel_size: Any, source_voxel_size: Any, options: dict) -> NeuronSettings:
    known = set(NeuronSettings.__dataclass_fields__) - {"label_kind", "crop", "voxel_size", "source_voxel_size"}
    for name in options:
        check_option("option", name, sorted(known))
    box = None if crop is None else tuple((pair[0], pair[1]) for pair in crop)
    sizes: list[Any] = [None if size is None else tuple(size) for size in (voxel_size, source_voxel_size)]
    return NeuronSettings(label_kind, box, sizes[0], sizes[1], **options)


def _list(input_dir: Path) -> list[tuple[str, VolumePair]]:
    """The pairs with the subfolder that they belong to."""
    parts = [part for part in ("train", "val") if (input_dir / part).is_dir()] or [""]
    return [(part, pair) for part in parts for pair in list_pairs(input_dir / part)]


@dataclass(frozen=True)
class PreparedNeurons:
    """A volume to be prepared; a job of ``do_jobs``.

    Args:
        pair: its image and its labels.
        name: its name, with its part of the data set.
        path: the file to write.
        settings: how to prepare it.
        image_keys: datasets of the image to try.
        label_keys: datasets of the labels to try.
    """

    pair: VolumePair
    name: str
    path: Path
    settings: NeuronSettings
    image_keys: tuple[str, ...]
    label_keys: tuple[str, ...]

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the file depends on."""
        keys = {"image_key": list(self.image_keys), "label_key": list(self.label_keys)}
        return {**asdict(self.settings), **keys, "sources": self.pair.describe()}

    def is_complete(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def make(self) -> None:
        """Read, prepare and write.

        Raises:
            MissingDataError: a file does not exist.
            InvalidInputError: a file is damaged, or cannot be prepared.
        """
        image = load_zyx(self.pair.image, self.image_keys, self.settings.channel)
        label = load_zyx(self.pair.label, self.label_keys, 0)
        datasets, size = prepare_volume(image, label, self.settings, self.pair.name)
        write_prepared(self.path, datasets, self.record, size)
