"""Artificial training data of neuron segmentation: volumes of which only a part is labeled."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.jobs import do_missing
from voxel_ext.data.prepared_file import prepared_difference, write_prepared
from voxel_ext.data.prepared_folder import write_marker
from voxel_ext.data.synthetic_volumes import SyntheticVolumes, describe_generator
from voxel_ext.data.workers import check_picklable
from voxel_ext.errors import InvalidInputError, check_counts
from voxel_ext.files import explain_write_errors, locked_folder
from voxel_ext.transforms.label.instance_gaps import NEURON, UNLABELED, instances_to_sparse_labels
from voxel_ext.transforms.label.sparse_labels import sparse_label_weights

SEEDS_PER_SET = 100_000
"""Set s has the generator's seeds from s * SEEDS_PER_SET on; those for validation start half-way."""


def label_part(sparse: NDArray, instances: NDArray, share: float, margin: int, random: np.random.Generator) -> NDArray:
    """Keep the labels around randomly chosen neurons, as a person would who labels a part of a volume.

    Boxes around the neurons, in random order, are kept until the share is reached; at least one is.

    Args:
        sparse: (D, H, W) sparse labels of the whole volume.
        instances: (D, H, W) the neurons' ids, 0 for background.
        share: of the voxels to be labeled; 1 for all.
        margin: voxels around a neuron that its box includes.
        random: source of the choice.

    Returns:
        a copy of ``sparse``, 0 (not labeled) outside of the boxes.

    Raises:
        InvalidInputError: the share is not above 0 and at most 1, the margin is negative.
    """
    from scipy.ndimage import find_objects

    if not 0 < share <= 1 or margin < 0:
        raise InvalidInputError(
            f"share={share!r}, margin={margin!r}; expected 0 < share <= 1 and a margin of at least 0"
        )
    if share == 1:
        return sparse.copy()
    boxes = [box for box in find_objects(instances) if box is not None]
    kept = np.zeros(sparse.shape, bool)
    for index in random.permutation(len(boxes)):
        kept[tuple(slice(max(part.start - margin, 0), part.stop + margin) for part in boxes[index])] = True
        if kept.mean() >= share and (sparse[kept] == NEURON).any():
            break
    return np.where(kept, sparse, UNLABELED).astype(np.uint8)


@dataclass(frozen=True)
class SyntheticNeurons:
    """An artificial volume to be made; a job of ``do_jobs``.

    Args:
        path: the file to write.
        generator: of the volume.
        described: what the generator is.
        seed: of the volume.
        labeled_share: part of the voxels that is labeled, at least.
        margin: voxels around a neuron that are labeled with it.
        channel: which one of the image is written.
    """

    path: Path
    generator: SyntheticVolumes
    described: Mapping[str, Any]
    seed: int
    labeled_share: float
    margin: int
    channel: int

    @property
    def name(self) -> str:
        """The volume's, with its part of the data set."""
        return f"{self.path.parent.name}/{self.path.stem}"

    @property
    def record(self) -> dict[str, Any]:
        """What the file depends on."""
        names = ("seed", "labeled_share", "margin", "channel")
        return {"generator": self.described, **{name: getattr(self, name) for name in names}}

    def is_complete(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def make(self) -> None:
        """Make the volume, label a part of it and write the file.

        Raises:
            InvalidInputError: an option is out of range, or the generator's output is not as it should be.
        """
        volume = self.generator(self.seed)
        arrays = _arrays(volume, self.seed, self.labeled_share, self.margin, self.channel)
        write_prepared(self.path, arrays, self.record)


def prepare_synthetic_neurons(
    output_dir: str | os.PathLike[str],
    volumes: int = 8,
    validation_volumes: int = 2,
    size: Sequence[int] = (64, 120, 284),
    seed: int = 0,
    labeled_share: float = 0.3,
    margin: int = 6,
    channel: int = 3,
    generator: str | Callable[..., Any] = "voxel_ext.synthetic.neuropal.NeuroPAL",
    generator_options: Mapping[str, Any] | None = None,
    num_workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write ``train/train_000.h5`` … and ``val/val_000.h5`` … in the format of ``prepare_neurons``.

    ``raw`` (D, H, W) is one channel of an artificial animal; ``label`` and ``weight`` are made from sparse labels (see
    ``instances_to_sparse_labels`` and ``sparse_label_weights``), in training volumes of a part of the volume only, in
    validation volumes of all of it; ``instances`` is the dense truth of both. The result depends on the settings alone.
    A run that is repeated makes only what is not yet there; last, ``dataset.json`` tells that all is complete.

    Args:
        output_dir: the folder.
        volumes: number of volumes for training.
        validation_volumes: number of volumes for validation.
        size: (D, H, W) of the volumes.
        seed: each has its own animals, none shared with another's.
        labeled_share: part of the voxels of a training volume that is labeled, at least; see ``label_part``.
        margin: voxels around a neuron that are labeled with it.
        channel: which one of the generator's; 3 is TagRFP, the red marker that the published network segments.
        generator: class, or its dotted name, called as ``generator(seed=…, size=…, **options).generate()``; gives
            ``image`` (C, D, H, W) or (D, H, W) and ``label``, the instance ids (D, H, W).
        generator_options: for the generator.
        num_workers: processes; 0 for this one. They are spawned, so a script needs ``if __name__ == "__main__":``, and
            the generator must be picklable.
        overwrite: replace files that were made with other settings.
        progress: show a bar.

    Returns:
        the folder.

    Raises:
        InvalidInputError: an option is out of range, the generator does not take its options or has no such channel, or
            a file was made with other settings.
        VoxelExtError: a worker process ended unexpectedly.
        OSError: the folder is not writable, or the disk is full; what was finished is kept.
    """
    check_counts({"volumes": 1, "validation_volumes": 1, "seed": 0}, volumes=volumes,
                 validation_volumes=validation_volumes, seed=seed, margin=margin, channel=channel,
                 num_workers=num_workers)  # fmt: skip
    if max(volumes, validation_volumes) > SEEDS_PER_SET // 2 or not 0 < labeled_share <= 1:
        raise InvalidInputError(
            f"volumes={volumes}, validation_volumes={validation_volumes}, labeled_share={labeled_share}; expected at "
            f"most {SEEDS_PER_SET // 2} volumes and a share above 0, at most 1"
        )
    make = SyntheticVolumes(generator, size=tuple(size), **(generator_options or {}))
    if num_workers:
        check_picklable(make)
    root = Path(output_dir)
    first = seed * SEEDS_PER_SET
    plan = [(f"train/train_{i:03d}.h5", first + i, labeled_share) for i in range(volumes)]
    plan += [(f"val/val_{i:03d}.h5", first + SEEDS_PER_SET // 2 + i, 1.0) for i in range(validation_volumes)]
    described = describe_generator(make)
    jobs = [
        SyntheticNeurons(root / name, make, described, volume_seed, share, margin, channel)
        for name, volume_seed, share in plan
    ]
    with locked_folder(root, ".prepare.lock"), explain_write_errors(root):
        do_missing(root, jobs, prepared_difference, "volume", "neurons", num_workers, overwrite, progress)
        write_marker(root, [job.path for job in jobs])
    return root


def _arrays(volume: Mapping[str, Any], seed: int, share: float, margin: int, channel: int) -> dict[str, NDArray]:
    """The datasets of one file."""
    image, instances = np.asarray(volume["image"]), np.asarray(volume["label"])
    if image.ndim == 4 and not 0 <= channel < len(image):
        raise InvalidInputError(f"channel={channel} of an image of shape {image.shape}; expected 0 to {len(image) - 1}")
    raw = image[channel] if image.ndim == 4 else image
    if raw.shape != instances.shape:
        raise InvalidInputError(f"the generator's image has shape {image.shape} but its label {instances.shape}")
    sparse = instances_to_sparse_labels(instances)
    sparse = label_part(sparse, instances, share, margin, np.random.default_rng([seed, 1]))
    target, weight = sparse_label_weights(sparse)
    return {"raw": raw.astype(np.float32), "label": target, "weight": weight, "instances": instances}
