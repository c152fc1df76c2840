"""Pictures of the bundles about worms."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
from gallery_pictures.labeled_animal import names_picture
from gallery_pictures.networks_worms import match_panel
from gallery_pictures.panels import figure_of, gray_panel

from voxel_ext.data.cell_labeling_file import read_cell_volume
from voxel_ext.labeling import read_labels
from voxel_ext.visualize import LabeledAnimal

_CUBES = 6


def autoencoder(folder: Path) -> bytes:
    """The cubes of some cells of a worm that was not trained on, and what the autoencoder restores."""
    with h5py.File(folder / "data" / "val" / "val_0001.h5") as file:
        cubes, names = file["cubes"][:, 0], file["names"].asstr()[...]
    with h5py.File(folder / "eval" / "val_0001_reconstruction.h5") as file:
        restored = file["reconstruction"][:, 0]
    middle = cubes.shape[1] // 2
    chosen = np.linspace(0, len(cubes) - 1, _CUBES).astype(int)
    first = [gray_panel(f"{names[k]}, input", cubes[k, middle], cubes[chosen, middle]) for k in chosen]
    like = restored[chosen, middle]
    second = [gray_panel(f"{names[k]}, restored", restored[k, middle], like) for k in chosen]
    return figure_of([first, second], 1.65, 100)


def matching(folder: Path) -> bytes:
    """Two worms that were not trained on and their matches."""
    with open(folder / "eval" / "pairs" / "val_0001__val_0002.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    worms = []
    for name in ("val_0001", "val_0002"):
        with h5py.File(folder / "data" / "val" / f"{name}.h5") as stored:
            worms.append(stored["positions"][...])
    found = np.full(len(worms[0]), -1)
    for row in rows:
        if row["slot_a"] and row["slot_b"]:
            found[int(row["slot_a"])] = int(row["slot_b"])
    right = int((found == np.arange(len(found))).sum())
    title = f"two worms: {right} of {len(found)} cells matched with the same cell (gray), the others red"
    return figure_of([[match_panel(title, worms[0], worms[1], found)]], 9.8, 100)


def labeling(folder: Path) -> bytes:
    """An animal that was not trained on, with the names that its neurons got."""
    path = folder / "data" / "val" / "val_0001.h5"
    animal = read_cell_volume(path)
    classes = animal.true_class if animal.true_class is not None else animal.roi_class
    truth = {
        int(number): animal.class_names[kind] for number, kind in zip(animal.roi_ids, classes, strict=True) if kind > 0
    }
    labels = read_labels(folder / "eval" / "val_0001.csv", animal.class_names)
    shown = LabeledAnimal("val_0001", animal.raw.astype(np.float32), animal.channels, animal.roi, labels, truth=truth)
    return names_picture(shown)
