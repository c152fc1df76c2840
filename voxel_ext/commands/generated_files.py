"""Artificial volumes as files that the bundles read."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.data.address import CONTAINER_SUFFIXES, HDF5_SUFFIXES
from voxel_ext.data.prepared_file import write_prepared
from voxel_ext.data.saving import SaveVolume
from voxel_ext.data.sheet_synthetic import VOXEL_SIZE, encode_image
from voxel_ext.data.synthetic_volumes import SyntheticVolumes
from voxel_ext.data.vaa3d import write_vaa3d
from voxel_ext.data.volume_record import plain
from voxel_ext.data.worm_synthetic import annotated_cells
from voxel_ext.data.worm_table import write_worm_table
from voxel_ext.data.zarr_io import multiscale_attributes
from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path

Volume = Mapping[str, Any]

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".tif", ".tiff")
"""Formats with a file per array."""

_COLUMN_TYPES = ("empty", "dense", "clustered", "ring")


@dataclass(frozen=True)
class Kind:
    """How the volumes of a generator are stored.

    Args:
        image: name of the image.
        encode: the image as it is stored.
        objects: header and rows of the table of the objects; no rows if there is none.
        voxel_size: (z, y, x) in micrometers, by the parameters; None where they say nothing.
        in_folder: suffix of the files in a folder, "" for the folders of a worm.
        reverse: whether the arrays are (x, y, z).
    """

    image: str
    encode: Callable[[NDArray], NDArray]
    objects: Callable[[Volume], list[Sequence[Any]]]
    voxel_size: Callable[[Mapping[str, Any]], list[float] | None]
    in_folder: str
    reverse: bool = False


@dataclass(frozen=True)
class PlannedVolume:
    """A volume to be made.

    Args:
        kind: how it is stored.
        generator: makes it.
        seed: of it.
        path: the file to write, or the image of a worm in a folder.
        suffix: of the format.
    """

    kind: Kind
    generator: SyntheticVolumes
    seed: int
    path: Path
    suffix: str

    @cached_property
    def stem(self) -> Path:
        """The path without the suffix."""
        return self.path.with_name(self.path.name[: -len(self.suffix)])

    @property
    def _root(self) -> Path:
        """The folder of a worm's folders, else that of the volume."""
        return self.path.parent.parent if self.suffix == ".raw" else self.path.parent

    @property
    def files(self) -> list[Path]:
        """What is written, the image first."""
        if self.suffix == ".raw":
            beside = [self._root / "labels" / self.path.name, self._root / "coordinates" / f"{self.stem.name}.txt"]
        else:
            beside = [self.stem.with_name(f"{self.stem.name}_objects.csv")] if self.kind.image == "raw" else []
            if self.suffix in IMAGE_SUFFIXES:
                beside += [self._beside(name) for name in ("label", *_more_arrays(self.kind))]
        return [self.path, *beside, self._parameters]

    @property
    def _parameters(self) -> Path:
        return self._root / f"{self.stem.name}.json"

    def _beside(self, name: str) -> Path:
        return self.stem.with_name(f"{self.stem.name}_{name}{self.suffix}")

    def make(self) -> Volume:
        """Make the volume and write its files.

        Returns:
            what the generator gave.

        Raises:
            InvalidInputError: the parameters do not allow a volume.
            OSError: a file cannot be written.
        """
        volume = self.generator(self.seed)
        size = self.kind.voxel_size(volume["parameters"])
        arrays = {self.kind.image: self.kind.encode(np.asarray(volume["image"])), "label": _compact(volume["label"])}
        arrays |= {name: np.asarray(volume[name]) for name in _more_arrays(self.kind)}
        if self.suffix == ".raw":
            self._write_worm(volume, arrays)
        elif self.suffix in IMAGE_SUFFIXES:
            for name, array in arrays.items():
                target = self.path if name == self.kind.image else self._beside(name)
                _write_image(target, self.suffix, array.T if self.kind.reverse else array, size)
        else:
            _write_container(self.path, arrays, self._settings(), size)
        rows = self.kind.objects(volume)
        if rows and self.suffix != ".raw":
            _write_table(self.stem.with_name(f"{self.stem.name}_objects.csv"), rows)
        with atomic_path(self._parameters) as temporary:
            text = json.dumps(volume["parameters"], default=plain, indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")
        return volume

    def _settings(self) -> dict[str, Any]:
        return {"generator": self.generator.generator.__name__, **self.generator.settings(), "seed": self.seed}

    def _write_worm(self, volume: Volume, arrays: Mapping[str, NDArray]) -> None:
        _, labels, coordinates, _ = self.files
        write_vaa3d(self.path, arrays["raw"])
        write_vaa3d(labels, arrays["label"])
        write_worm_table(coordinates, annotated_cells(volume, self.stem.name))


MOST_VOXELS = 2**30
"""In a volume: ten gigabytes and more while it is drawn."""


def plan_volumes(
    what: str, class_name: str, out: str, seeds: Sequence[int], options: Mapping[str, Any]
) -> list[PlannedVolume]:
    """Choose the files of volumes.

    Args:
        what: their kind, one of :data:`KINDS`.
        class_name: their generator, in ``voxel_ext.synthetic``.
        out: file or folder.
        seeds: of the volumes.
        options: of the generator.

    Raises:
        InvalidInputError: an option is out of range, the volume is larger than :data:`MOST_VOXELS`, or the file has
            another suffix.
    """
    kind = KINDS[what]
    generator = SyntheticVolumes(f"voxel_ext.synthetic.{class_name}", **options)
    generator.generator(seed=seeds[0], **options)  # refuses options before anything is written
    size = options.get("size")
    if size is not None and math.prod([size] * 3 if isinstance(size, int) else size) > MOST_VOXELS:
        raise InvalidInputError(
            f"size={size} is more than {MOST_VOXELS} voxels, which are drawn in memory; choose a smaller size"
        )
    known = (*CONTAINER_SUFFIXES, *IMAGE_SUFFIXES)
    suffix = next((one for one in known if out.endswith(one)), None)
    target = Path(out)
    if not out or target.name == suffix:
        raise InvalidInputError(f"OUT={out!r} has no name; expected a file such as volume.h5, or a folder")
    if suffix is not None:
        stem = target.name[: -len(suffix)]
        names = [target.name] if len(seeds) == 1 else [f"{stem}_{seed:04d}{suffix}" for seed in seeds]
        paths = [target.with_name(name) for name in names]
        return [PlannedVolume(kind, generator, seed, path, suffix) for seed, path in zip(seeds, paths, strict=True)]
    if target.suffix and not out.endswith("/") and not target.is_dir():
        raise InvalidInputError(
            f"{out}: files {target.suffix} cannot be written; expected one of {', '.join(known)}, or a folder"
        )
    folder, suffix = (target, kind.in_folder) if kind.in_folder != ".raw" else (target / "images", ".raw")
    return [PlannedVolume(kind, generator, seed, folder / f"{what}_{seed:04d}{suffix}", suffix) for seed in seeds]


def write_preview(path: str | Path, volume: Volume) -> None:
    """Draw an image and its labels, in 3D if they are.

    Args:
        path: the PNG file to write.
        volume: ``image`` and ``label``.

    Raises:
        MissingDependencyError: matplotlib or pillow is not installed.
        OSError: the file cannot be written.
    """
    from voxel_ext.visualize import render_volume, slice_figure

    image, label = np.asarray(volume["image"]), np.asarray(volume["label"])
    if image.ndim == 2:
        picture = slice_figure(image, label, instances=True)
    else:
        picture = render_volume(image, label > 0, voxel_size=volume["parameters"].get("voxel_size"))
    with atomic_path(path) as temporary:
        temporary.write_bytes(picture)


def _more_arrays(kind: Kind) -> tuple[str, ...]:
    return ("sheet", "normals") if kind.image == "image" else ()


def _compact(label: NDArray) -> NDArray:
    return np.asarray(label, dtype=np.uint16 if np.max(label, initial=0) < 2**16 else np.int32)


def _write_container(
    path: Path, arrays: Mapping[str, NDArray], settings: dict[str, Any], size: list[float] | None
) -> None:
    if path.name.lower().endswith(HDF5_SUFFIXES):
        write_prepared(path, arrays, settings, size)
        return
    import zarr

    with atomic_path(path, directory=True) as temporary:
        write_prepared(temporary, arrays, settings, size)
        images = []
        for name, array in arrays.items():
            rank = 2 if array.ndim == 2 else 3
            described = multiscale_attributes(name, size or [1.0] * rank, array.ndim > rank)["ome"]["multiscales"][0]
            if size is None:
                for axis in described["axes"]:
                    axis.pop("unit", None)
            images.append(described)
        zarr.open_group(str(temporary), mode="r+").attrs["ome"] = {"version": "0.5", "multiscales": images}


def _write_image(path: Path, suffix: str, array: NDArray, size: list[float] | None) -> None:
    """Write one array, (z, y, x) or (3, z, y, x), as an image file (x, y, z)."""
    import torch
    from monai.data import MetaTensor

    rank = array.ndim if array.ndim < 4 else 3
    affine = torch.diag(torch.tensor([*(size or [1.0] * rank), 1.0], dtype=torch.float64))
    meta = {"unit": "micrometer"} if size else {}
    image = MetaTensor(array if array.ndim > rank else array[None], affine=affine, meta=meta)
    saver = SaveVolume(zyx=True, output_ext=suffix, output_dtype=array.dtype, print_log=False)
    with atomic_path(path) as temporary:
        saver(image, filename=str(temporary)[: -len(suffix)])


def _write_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _no_size(parameters: Mapping[str, Any]) -> None:
    return None


def _em_size(parameters: Mapping[str, Any]) -> list[float]:
    return [float(length) / 1000 for length in parameters["voxel_size"]]


def _sheet_size(parameters: Mapping[str, Any]) -> list[float]:
    return [VOXEL_SIZE] * 3


def _columns(volume: Volume) -> list[Sequence[Any]]:
    rows = zip(volume["seeds"].tolist(), volume["types"], volume["radial"].tolist(), strict=True)
    head = ("id", "x", "y", "z", "type", "axis_x", "axis_y", "axis_z")
    return [head, *((i, *seed, _COLUMN_TYPES[kind], *axis) for i, (seed, kind, axis) in enumerate(rows, 1))]


def _spots(volume: Volume) -> list[Sequence[Any]]:
    rows = zip(volume["seeds"].tolist(), volume["rings"], strict=True)
    return [("id", "x", "y", "ring"), *((i, *seed, int(ring)) for i, (seed, ring) in enumerate(rows, 1))]


def _cells(volume: Volume) -> list[Sequence[Any]]:
    table = annotated_cells(volume)
    rows = zip(table.label_numbers.tolist(), table.names, table.numbers.tolist(), table.positions.tolist(), strict=True)
    return [("id", "name", "Aligned_No", "z", "y", "x"), *((i, name, no, *place) for i, name, no, place in rows)]


def _mitochondria(volume: Volume) -> list[Sequence[Any]]:
    drawn = volume["parameters"]["objects_drawn"]
    head = ("id", "class", "volume_um3", "voxels", "z", "y", "x")
    return [head, *((one["id"], one["class"], one["volume_um3"], one["voxels"], *one["center"]) for one in drawn)]


def _no_objects(volume: Volume) -> list[Sequence[Any]]:
    return []


_as_float = partial(np.asarray, dtype=np.float32)


def _as_counts(image: NDArray) -> NDArray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


KINDS = {
    "optic_lobe": Kind("raw", _as_float, _columns, _no_size, ".h5", reverse=True),
    "optic_lobe_2d": Kind("raw", _as_float, _spots, _no_size, ".h5", reverse=True),
    "worm": Kind("raw", _as_counts, _cells, _no_size, ".raw"),
    "mitochondria": Kind("raw", encode_image, _mitochondria, _em_size, ".h5"),
    "sheets": Kind("image", encode_image, _no_objects, _sheet_size, ".zarr"),
}
"""By the names of the command line."""
