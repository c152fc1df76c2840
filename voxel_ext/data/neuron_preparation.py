"""From images and label volumes to the training data of neuron segmentation."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from voxel_ext.data.neuron_sources import VolumePair, list_pairs, load_zyx
from voxel_ext.data.neuron_volume import NeuronSettings, prepare_volume
from voxel_ext.data.preparation import MARKER
from voxel_ext.data.prepared_file import is_missing, write_marker, write_prepared
from voxel_ext.errors import InvalidInputError, MissingDataError, check_option
from voxel_ext.files import explain_write_errors, locked_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NeuronReport:
    """What :func:`prepare_neurons` did.

    Args:
        made: files written in this run, relative to the output folder.
        kept: files that were finished before.
    """

    made: list[str]
    kept: list[str]


def prepare_neurons(
    input_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    label_kind: str = "sparse",
    image_key: str | Sequence[str] = ("raw", "data"),
    label_key: str | Sequence[str] = ("label", "labels"),
    crop: Sequence[Sequence[int]] | None = None,
    voxel_size: Sequence[float] | None = None,
    source_voxel_size: Sequence[float] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    **options: Any,
) -> NeuronReport:
    """Write ``<output_dir>/<name>.h5`` with ``raw``, ``label``, ``weight`` for every pair of image and label volume.

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
        OSError: the folder is not writable, or the disk is full; what was finished is kept.
    """
    settings = _settings(label_kind, crop, voxel_size, source_voxel_size, options)
    keys = tuple((key,) if isinstance(key, str) else tuple(key) for key in (image_key, label_key))
    root = Path(output_dir)
    jobs = [_Job(pair, root / folder / f"{pair.name}.h5", settings, *keys) for folder, pair in _list(Path(input_dir))]
    with locked_folder(root, ".prepare.lock"), explain_write_errors(root):
        missing = [job for job in jobs if is_missing(job.path, job.record, overwrite)]
        if missing:
            (root / MARKER).unlink(missing_ok=True)
        errors = {}
        for job in tqdm(missing, desc="neuron volumes", unit="volume", disable=not progress):
            try:
                job.make()
            except (InvalidInputError, MissingDataError) as error:
                logger.error("%s: %s", job.pair.name, error)
                errors[job.pair.name] = error
        if errors:
            lines = "\n".join(f"{name}: {error}" for name, error in sorted(errors.items()))
            raise InvalidInputError(
                f"{len(errors)} of {len(jobs)} volumes cannot be prepared (the others are):\n{lines}"
            )
        names = [job.path.relative_to(root).as_posix() for job in jobs]
        write_marker(root, names)
    made = [job.path.relative_to(root).as_posix() for job in missing]
    return NeuronReport(made, [name for name in names if name not in made])


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
class _Job:
    """A file to be made."""

    pair: VolumePair
    path: Path
    settings: NeuronSettings
    image_keys: tuple[str, ...]
    label_keys: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any]:
        """What the file depends on."""
        keys = {"image_key": list(self.image_keys), "label_key": list(self.label_keys)}
        return {**asdict(self.settings), **keys, "sources": self.pair.describe()}

    def make(self) -> None:
        """Read, prepare and write."""
        image = load_zyx(self.pair.image, self.image_keys, self.settings.channel)
        label = load_zyx(self.pair.label, self.label_keys, 0)
        datasets, size = prepare_volume(image, label, self.settings, self.pair.name)
        write_prepared(self.path, datasets, self.record, size)
