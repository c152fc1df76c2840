"""Pictures of the bundles about the objects of electron microscopy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gallery_pictures.bundle_runs import Recipe, run_command, run_once
from gallery_pictures.panels import Panel, cloud_panel, figure_of, rgb_panel, scatter_panel
from numpy.typing import NDArray

from voxel_ext.data import ObjectDataset
from voxel_ext.visualize import colors
from voxel_ext.visualize.object_views import ObjectShape, colored_view, shaded_view

_CLASSES = ("spheroid", "rod", "curved_tube", "branched", "donut", "sheet")
_FINER = 3  # voxels of a surface that is drawn, along each edge of a voxel
_SMOOTHING = 0.8  # standard deviation, in voxels
_PIXELS = 160


def _one_of_each(ids: NDArray, classes: dict[int, str]) -> list[int]:
    """The row of the first object of each class."""
    known = [classes.get(int(number), "") for number in ids]
    return [known.index(name) for name in _CLASSES if name in known]


def _classes(folder: Path) -> dict[int, str]:
    import pandas as pd

    table = pd.read_csv(folder / "data" / "volume" / "classes.csv")
    return {int(number): str(name) for number, name in zip(table["id"], table["class"], strict=True)}


def shape_vae(folder: Path) -> bytes:
    """An object of each class that was not trained on, the one of median Dice, and what is restored from its code."""
    classes = _classes(folder)
    with h5py.File(folder / "data" / "objects.h5") as file, h5py.File(folder / "eval" / "reconstructions.h5") as other:
        ids, cubes, restored = file["id"][...], file["volumes"][...], other["volumes"][...]
    dice = _dice(cubes[:, 0] > 0.5, restored[:, 0] > 0.5)
    unseen = np.flatnonzero(np.isin(ids, _unseen(folder)))
    unseen = unseen[np.argsort(dice[unseen], kind="stable")]
    of_class = [[k for k in unseen if classes[int(ids[k])] == name] for name in _CLASSES]
    chosen = [rows[len(rows) // 2] for rows in of_class if rows]
    first = [_surface(classes[int(ids[k])], cubes[k, 0], colors.SIGNAL) for k in chosen]
    second = [_surface(f"restored, Dice {dice[k]:.2f}", restored[k, 0], colors.PREDICTION) for k in chosen]
    return figure_of([first, second], 1.65, 100)


def _dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N,) of masks (N, D, H, W)."""
    axes = (1, 2, 3)
    return 2 * (first & second).sum(axes) / np.maximum(first.sum(axes) + second.sum(axes), 1)


def _unseen(folder: Path) -> NDArray[np.int64]:
    """The ids of the objects that the training kept for validation."""
    used = json.loads((folder / "models" / "settings.json").read_text())
    share = 1 - used["validation_fraction"]
    return ObjectDataset(folder / "data" / "objects.h5", "val", share, used["seed"], used["whole_only"]).ids


def _surface(title: str, cube: NDArray, color: str) -> Panel:
    """The lit surface in a cube (S, S, S), its first axis to the right, the second down, a little turned."""
    from scipy import ndimage
    from scipy.spatial.transform import Rotation

    smooth = ndimage.gaussian_filter(np.asarray(cube, np.float32), _SMOOTHING)
    if not (smooth > 0.5).any():
        return rgb_panel(title, np.broadcast_to(colors.rgb(colors.DARK), (8, 8, 3)), axes="")
    fine = ndimage.zoom(smooth, _FINER, order=3, grid_mode=True, mode="nearest").clip(0, 1)
    turn: Any = Rotation.from_euler("yx", (25.0, 20.0), degrees=True).as_matrix()
    # in the frame of the cube, so that poses compare; twice as large as it is shown, without jagged edges
    view = shaded_view(ObjectShape(fine, (1.0, 1.0, 1.0), np.eye(3)), 2 * _PIXELS, turn, 0.6 * len(fine) / _PIXELS)
    picture = colored_view(view, color).reshape(_PIXELS, 2, _PIXELS, 2, 3).mean(axis=(1, 3))
    return rgb_panel(title, picture / 255, axes="")


def point_clouds(folder: Path) -> bytes:
    """The surface of an object of each class as points, and what the network restores from its code."""
    classes = _classes(folder)
    with h5py.File(folder / "data" / "points.h5") as file, h5py.File(folder / "eval" / "reconstructions.h5") as other:
        ids, clouds, restored = file["id"][...], file["points"][...], other["points"][...]
    chosen = _one_of_each(ids, classes)
    count = restored.shape[1]
    # clouds are stored along their principal axes, the longest first; it goes to the right
    axes = ("long axis", "middle axis")
    first = [cloud_panel(classes[int(ids[k])], clouds[k, :count, ::-1], 2, *axes) for k in chosen]
    second = [cloud_panel("restored", restored[k, :, ::-1], 2, *axes) for k in chosen]
    return figure_of([first, second], 1.65, 100)


def contrastive(folder: Path) -> bytes:
    """The features of all objects in two dimensions, by class."""
    with h5py.File(folder / "eval" / "features" / "clf.h5") as file:
        ids, values = file["id"][...], file["values"][...].astype(np.float64)
    classes = _classes(folder)
    centered = values - values.mean(0)
    _, spread, axes = np.linalg.svd(centered, full_matrices=False)
    shares = 100 * spread[:2] ** 2 / (spread**2).sum()
    names = [f"principal component {k + 1} ({share:.0f} % of the variance)" for k, share in enumerate(shares)]
    title = "learned features, by class (which training did not see)"
    panel = scatter_panel(title, centered @ axes[:2].T, [classes[int(one)] for one in ids], names[0], names[1])
    return figure_of([[panel._replace(ratio=0.55)]], 9.8, 100)


def measure_and_cluster(recipe: Recipe, work: Path, quick: bool) -> Path:
    """Make a volume, measure its objects and cluster them; finished steps are not repeated.

    Args:
        recipe: of em_clustering.
        work: the folder of all bundles' work.
        quick: fewer clusters, repeats and a plainer embedding.

    Returns:
        the bundle's folder in it, with ``data`` and ``eval``.
    """
    folder = work / recipe.bundle
    folder.mkdir(parents=True, exist_ok=True)
    data, output = folder / "data", folder / "eval"
    prepare = {**recipe.data, "dataset_dir": str(data)}
    run_once(folder, "prepare", prepare, lambda: run_command(recipe, "prepare", ["prepare"], overwrite=True, **prepare))
    names = {"labels": "labels.zarr", "image": "image.zarr", "classes": "classes.csv"}
    given: dict[str, Any] = {key: str(data / "volume" / name) for key, name in names.items()}
    measured = {**given, "output_dir": str(output), "features": ["shape", "sphericity", "skeleton", "thickness"]}
    run_once(folder, "features", measured, lambda: run_command(recipe, "features", ["features"], **measured))
    clustered = {**given, "output_dir": str(output / "clustering"), "feature_dirs": [str(output / "features")]}
    clustered |= {"show_report": False, "masks": False, "stability_repeats": 2}
    clustered |= {"n_clusters": 3, "embedding": "pca", "farthest": 1} if quick else {}
    run_once(folder, "clustering", clustered, lambda: run_command(recipe, "clustering", ["clustering"], **clustered))
    return folder


def clustering(folder: Path) -> bytes:
    """The objects in two dimensions by cluster and by class."""
    import pandas as pd

    places = pd.read_csv(folder / "eval" / "clustering" / "embedding.csv")
    classes = _classes(folder)
    points = places[["x", "y"]].to_numpy()
    found = [f"cluster {number}" for number in places["cluster"]]
    known = [classes[int(number)] for number in places["id"]]
    row = [
        scatter_panel("clusters found", points, found, "embedding, x", "embedding, y"),
        scatter_panel("true classes", points, known, "embedding, x", "embedding, y"),
    ]
    return figure_of([[panel._replace(ratio=0.8) for panel in row]], 4.9, 100)
