"""The commands that the documents show, and the files they take, in copies of the bundles whose defaults are tiny."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cell_labeling_commands
import em_clustering_commands
import em_contrastive_commands
import em_points_commands
import em_vae_commands
import neuron_commands
import numpy as np
import optic_lobe_commands
import surface_commands
import torch
import worm_commands
from bundle_commands import ROOT, configs, run_command

from voxel_ext.networks.nets.unet3d_factory import unet3d_network
from voxel_ext.synthetic import WormShapeModel

WORMS = {"cells": 12, "training_worms": 2, "validation_worms": 1}
PREPARED: dict[str, dict[str, Any]] = {
    "optic_lobe_segmentation": {"volume_size": 32, "volumes_per_file": 2, "validation_volumes": 1, "train_files": 1},
    "worm_autoencoder": WORMS,
    "worm_matching": WORMS | {"cube_size": 16, "validation_worms": 2},
    "neuron_segmentation": neuron_commands.VOLUMES | {"training_volumes": 1, "validation_volumes": 1},
    "cell_labeling": cell_labeling_commands.TINY_ANIMALS | {"training_animals": 2, "validation_animals": 1},
    "surface_multitask": surface_commands.VOLUMES | {"training_volumes": 1},
    "em_shape_vae": em_vae_commands.OBJECTS,
    "em_point_cloud_autoencoder": em_points_commands.VOLUME,
    "em_contrastive": em_contrastive_commands.VOLUME,
    "em_clustering": em_contrastive_commands.VOLUME,
}
"""Settings of ``prepare``, small; those of the four em_ bundles are made equal below."""
USED: dict[str, dict[str, Any]] = {
    "optic_lobe_segmentation": optic_lobe_commands.TINY | {"patches_per_volume": 2, "roi_size": [16, 16, 16]},
    "worm_autoencoder": {"features": [2, 3], "cells_per_epoch": 8, "batch_size": 4, "val_cells": 8},
    "worm_matching": worm_commands.TINY,
    "neuron_segmentation": neuron_commands.TINY,
    "cell_labeling": cell_labeling_commands.TINY,
    "surface_multitask": surface_commands.TINY | {"chunks": [16, 16, 16]},
    "em_shape_vae": em_vae_commands.TINY,
    "em_point_cloud_autoencoder": em_points_commands.TINY,
    "em_contrastive": em_contrastive_commands.TINY,
    "em_clustering": {"n_clusters": 2, "max_thumbnails": 4},
}
"""Settings of the other commands, small."""
_SAME_OBJECTS = {key: em_contrastive_commands.VOLUME[key] for key in ("synthetic_size", "synthetic_objects")}
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(python -m voxel_ext \w+ [^`]+)`")


@dataclass(frozen=True)
class Shown:
    """A line of a document that a user may type."""

    folder: Path
    words: tuple[str, ...]


def blocks(document: Path) -> list[tuple[str, str]]:
    """Language and text of the blocks of code of a document."""
    return _BLOCK.findall(document.read_text(encoding="utf-8"))


def shown_commands(document: Path) -> Iterator[Shown]:
    """Commands of a document in their order, with the folder they are typed in, as a path below the checkout."""
    text = document.read_text(encoding="utf-8")
    start = document.parent.parent if document.parent.name == "docs" else ROOT
    for language, block in blocks(document):
        if language not in ("", "bash", "sh"):
            continue
        folder = start
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["cd"]:
                # the em_ bundles show how to go on in a bundle beside them
                beside = folder.parent / words[1]
                folder = (folder / words[1]).resolve() if (folder / words[1]).is_dir() else beside.resolve()
                assert folder.is_dir(), f"{document}: {line}"
            elif words:
                yield Shown(folder.relative_to(ROOT), tuple(words))
    for line in _INLINE.findall(_BLOCK.sub("", text)):
        yield Shown(start.relative_to(ROOT), tuple(shlex.split(line)))


def copy_bundles(target: Path) -> None:
    """Copy the configs and docs of all bundles, and make the defaults tiny."""
    for source in sorted((ROOT / "bundles").glob("*/configs")):
        bundle = source.parent.name
        copied = target / "bundles" / bundle / "configs"
        shutil.copytree(source, copied)
        for path in copied.rglob("*.json"):
            config = json.loads(path.read_text(encoding="utf-8"))
            small = _small(bundle, path.stem == "prepare" or "source" in config)
            config |= {key: value for key, value in small.items() if key in config}
            path.write_text(json.dumps(config), encoding="utf-8")


def _small(bundle: str, prepare: bool) -> dict[str, Any]:
    small = PREPARED[bundle] if prepare else {"epochs": 2} | USED[bundle]
    return small | _SAME_OBJECTS if prepare and bundle.startswith("em_") else small


class Inputs:
    """The files and folders that a document calls LABELS, ``/path/to/volumes`` and so on; made when first asked for.

    Args:
        document: name of the bundle, or of the file in the root folder.
        folder: where they are made.
    """

    def __init__(self, document: str, folder: Path) -> None:
        self.folder = folder
        self._makers = STANDS_FOR.get(document, {})
        self._made: dict[Callable[[Path], Path | str], str] = {}

    def place(self, word: str) -> str:
        """Put the paths of files in place of what stands for them in a word of a command."""
        longest_first = sorted(self._makers, key=len, reverse=True)
        pattern = "|".join(re.escape(placeholder) for placeholder in longest_first)
        if not pattern:
            return word
        return re.sub(rf"(?<![\w-])(?:{pattern})(?!\w)", lambda found: self._path(found.group()), word)

    def _path(self, placeholder: str) -> str:
        maker = self._makers[placeholder]
        return maker if isinstance(maker, str) else self.made(maker)

    def made(self, maker: Callable[[Path], Path | str]) -> str:
        """The file or folder that a function makes, made once."""
        if maker not in self._made:
            self._made[maker] = str(maker(self.folder / maker.__name__))
        return self._made[maker]


def mitochondria(folder: Path) -> Path:
    """Labels, image and classes of objects."""
    em_clustering_commands.prepare(folder, **(em_contrastive_commands.VOLUME | {"seed": 1}))
    return folder / "volume"


def em_labels(folder: Path) -> Path:
    return mitochondria(folder) / "labels.zarr"


def em_image(folder: Path) -> Path:
    return mitochondria(folder.with_name("em_labels")) / "image.zarr"


def animals(folder: Path) -> Path:
    """Images, ROIs and labels of animals."""
    return cell_labeling_commands.prepare(folder, **PREPARED["cell_labeling"]) / "raw"


def names(folder: Path) -> Path:
    """Names of the classes of the checkpoint below."""
    folder.mkdir(parents=True)
    (folder / "names.txt").write_text("AVAL\nAVAR\n")
    return folder / "names.txt"


def lobes(folder: Path) -> Path:
    """Optic lobes, as ``prepare`` writes them."""
    settings = {"dataset_dir": str(folder)} | PREPARED["optic_lobe_segmentation"]
    run_command("run", configs("optic_lobe_segmentation", "prepare"), **settings)
    return folder


def lobe(folder: Path) -> Path:
    return next((lobes(folder) / "val").iterdir())


def scan(folder: Path) -> Path:
    """A volume as an OME-Zarr image."""
    store = next((surface_commands.prepare(folder / "prepared") / "train").glob("*.zarr"))
    return Path(shutil.copytree(store / "image", folder / "scroll.zarr"))


def masked(folder: Path) -> Path:
    """Images with masks and with meshes of sheets."""
    for part in ("train", "val"):
        (folder / part).mkdir(parents=True)
        made = surface_commands.planes(seed=len(part))
        corners = [(x, y, 12) for y in (-1, 40) for x in (-1, 40)]
        lines = [*(f"v {x} {y} {z}" for x, y, z in corners), "f 1 2 4", "f 1 4 3"]
        np.save(folder / part / "scan.npy", made["image"])
        np.save(folder / part / "scan_mask.npy", made["sheet"])
        (folder / part / "scan_mesh.obj").write_text("\n".join(lines) + "\n")
    return folder


def volume_list(folder: Path) -> Path:
    """A list of prepared volumes."""
    (folder / "volumes.json").write_text(
        json.dumps(surface_commands.entries(surface_commands.prepare(folder) / "train"))
    )
    return folder / "volumes.json"


def validation_list(folder: Path) -> Path:
    """A list of other prepared volumes."""
    return volume_list(folder)


def nuclei(folder: Path) -> Path:
    """Images with instance ids."""
    for part, seed in (("train", 0), ("val", 1)):
        image, ids = neuron_commands.blobs(seed)
        neuron_commands.write_hdf5(folder / part / f"{part}.h5", raw=image, label=ids)
    return folder


def images(folder: Path) -> Path:
    """Images alone."""
    return neuron_commands.write_hdf5(folder / "a.h5", raw=neuron_commands.blobs(2)[0])


def sparse(folder: Path) -> Path:
    """Images with sparse labels."""
    for part, seed in (("train", 0), ("val", 1)):
        image, ids = neuron_commands.blobs(seed)
        neuron_commands.write_image(folder / part / f"{part}_img.nii.gz", image)
        neuron_commands.write_image(folder / part / f"{part}_label.nii.gz", neuron_commands.sparse_labels(ids))
    return folder


def checkpoint(folder: Path, channels: int = 1, classes: int = 2) -> Path:
    """A checkpoint of pytorch-3dunet."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    network = unet3d_network("unet3d", channels, classes, f_maps=[16, 32], num_groups=16)
    torch.save({"model_state_dict": network.state_dict()}, folder / "best_checkpoint.pytorch")
    return folder / "best_checkpoint.pytorch"


def four_channel_checkpoint(folder: Path) -> Path:
    return checkpoint(folder, 4, 3)


def coordinates(folder: Path) -> Path:
    """Tables of the positions of the cells of worms."""
    folder.mkdir(parents=True)
    model = WormShapeModel.load()
    for number in range(1, 5):
        positions = model.draw(np.random.default_rng(number)) + np.array([70, 70, 600])
        rows = (
            f"{label}\t{name}\t{x:.6f}\t{y:.6f}\t{z:.6f}\t{label}"
            for label, (name, (z, y, x)) in enumerate(zip(model.names, positions, strict=True), 1)
        )
        header = "label_number\tlabel_name\tx\ty\tz\tAligned_No"
        (folder / f"worm_{number:03}.txt").write_text("\n".join((header, *rows)) + "\n")
    return folder


def one_run(folder: Path) -> Path:
    """What a training leaves."""
    folder.mkdir(parents=True)
    (folder / "history.jsonl").write_text('{"epoch": 1, "train_loss": 0.5}\n')
    return folder


def another_run(folder: Path) -> Path:
    return one_run(folder)


def worms(folder: Path) -> Path:
    """Prepared worms."""
    run_command("run", configs("worm_autoencoder", "prepare"), dataset_dir=str(folder), **WORMS)
    return folder


def cluster(folder: Path) -> str:
    """The address of a Dask scheduler with a worker, both in this process; nothing is written."""
    from distributed import LocalCluster

    started = LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        dashboard_address=None,
        local_directory=str(folder),
    )
    return started.scheduler_address


_EM = {"LABELS": em_labels, "EM": em_image}
STANDS_FOR: dict[str, dict[str, Callable[[Path], Path | str] | str]] = {
    "README.md": {
        "COMMAND": "pack",
        "runs/a": one_run,
        "runs/b": another_run,
        "/path/to/folder": lobes,
        "/path/to/file.h5": lobe,
        "/path/to/scroll.zarr": scan,
        "/path/to/labels.zarr": em_labels,
        "/path/to/em.zarr": em_image,
        "best_checkpoint.pytorch": checkpoint,
        "'cuda:0','cuda:1'": "'cpu','cpu'",
    },
    "bundles/README.md": {"/path/to/volume.h5": lobe, "sample": lobe, "NETWORK_ID": "network_def"},
    "cell_labeling": {
        "/path/to/animals": animals,
        "names.txt": names,
        "best_checkpoint.pytorch": four_channel_checkpoint,
        "[64,120,284]": "[12,24,40]",
    },
    "neuron_segmentation": {
        "/path/to/volumes": sparse,
        "/path/to/nuclei": nuclei,
        "/path/to/other/nuclei": images,
        "/path/to/images": images,
        "/path/to/large.zarr": scan,
        "best_checkpoint.pytorch": checkpoint,
        "[51,96,210]": "[16,32,32]",
    },
    "optic_lobe_segmentation": {"/path/to/large.zarr": scan, "128": "32"},
    "surface_multitask": {
        "/path/to/volumes": masked,
        "/data/scroll.zarr": scan,
        "/data/result": "result",
        "tcp://host:8786": cluster,
        "validation.json": validation_list,
        "volumes.json": volume_list,
    },
    "worm_matching": {"FOLDER": coordinates, "32": "2", "8": "2"},
    "worm_autoencoder": {"DATA": worms, "2000": "8"},
    **dict.fromkeys(("em_shape_vae", "em_point_cloud_autoencoder", "em_contrastive", "em_clustering"), _EM),
}
"""What stands for the user's own files in a document, and what is too large for a test."""
