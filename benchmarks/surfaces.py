"""``python -m benchmarks.surfaces``: sheets and their normals in synthetic scans that were not seen in training.

The commands of the bundle ``surface_multitask`` prepare data, train a network (unless the work folder has it) and
predict volumes of another seed block by block. Beside the network stands what needs no training, with the best of the
scales tried: Otsu's threshold of the image between two Gaussian scales, and normals by the image's structure tensor.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.bundles import cpu_seconds, run_bundle
from benchmarks.harness import Row, machine, versions
from voxel_ext.data import decode_vectors, open_volume
from voxel_ext.metrics import angles

BUNDLE = "surface_multitask"
UNSEEN = 4
WHOLE = (slice(None),) * 3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.surfaces", description=__doc__)
    parser.add_argument("--work", required=True, metavar="DIR", help="folder for data, network and results")
    parser.add_argument("--variants", nargs="*", default=[], help="overlays of training and inference")
    parser.add_argument("--epochs", type=int, default=None, help="other than those of the config")
    parser.add_argument("--unseen", type=int, default=UNSEEN, help=f"volumes to predict (default {UNSEEN})")
    arguments = parser.parse_args()
    work = Path(arguments.work).resolve()
    prepare(work, arguments.unseen)
    wall, cpu = train(work, arguments.variants, arguments.epochs)
    predict(work, arguments.variants)
    rows = unseen_scores(work)
    print("| | Dice, mean | Dice, worst | median angle, mean | median angle, worst | under 10° |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, index in (("network", 0), ("band-pass + Otsu, structure tensor", 1)):
        dice, angle, below = np.array([row[index] for row in rows]).T
        print(
            f"| {name} | {dice.mean():.3f} | {dice.min():.3f} | {angle.mean():.2f}° | {angle.max():.2f}° | "
            f"{below.mean():.3f} |"
        )
    print(f"\n{len(rows)} unseen volumes; training {wall / 60:.1f} minutes, {cpu / 60:.1f} minutes of one core")
    print(f"Machine: {machine()}\nVersions: {versions()}")


def run(arguments: argparse.Namespace) -> list[Row]:
    """The default network beside what needs no training, as rows of the common table."""
    work = arguments.work / "surfaces"
    prepare(work, UNSEEN)
    _, cpu = train(work, [], None)
    predict(work, [])
    ours, other = np.array(unseen_scores(work)).mean(axis=0)
    return [
        Row("surfaces", "training, CPU minutes", cpu / 60, unit="min"),
        Row(
            "surfaces",
            "Dice of sheets in unseen scans / band-pass + Otsu",
            ours[0],
            other[0],
            ours[0] / other[0],
            unit="",
        ),
        Row("surfaces", "median angle of the normals / structure tensor", ours[1], other[1], ours[1] / other[1], "°"),
    ]


def prepare(work: Path, unseen: int) -> None:
    """Draw the scans that are not there yet: those to train with, and others of another seed."""
    run_bundle(BUNDLE, "prepare", ["prepare.json"], dataset_dir=work / "data")
    counts = {"training_volumes": unseen, "validation_volumes": 0}
    run_bundle(BUNDLE, "prepare", ["prepare.json"], dataset_dir=work / "unseen", seed=1, **counts)


def unseen_scores(work: Path) -> list[tuple[tuple[float, float, float], tuple[float, float, float]]]:
    """What :func:`scores` gives for every unseen scan."""
    stores = sorted((work / "unseen" / "train").glob("*.zarr"))
    return [scores(store, work / "predicted" / store.name) for store in stores]


def train(work: Path, variants: Sequence[str], epochs: int | None) -> tuple[float, float]:
    """Train a network that is not trained yet; wall and CPU seconds of its training."""
    done = work / "seconds.json"
    if not done.is_file():
        start, cpu = time.perf_counter(), cpu_seconds()
        options = {} if epochs is None else {"epochs": epochs}
        places = {"dataset_dir": work / "data", "ckpt_dir": work / "models", "log_path": work / "runs"}
        run_bundle(BUNDLE, "training", configs("train.json", variants), **places, **options)
        done.write_text(json.dumps({"wall": time.perf_counter() - start, "cpu": cpu_seconds() - cpu}))
    used = json.loads(done.read_text())
    return used["wall"], used["cpu"]


def predict(work: Path, variants: Sequence[str]) -> None:
    """Predict the unseen volumes."""
    places = {"dataset_dir": work / "unseen" / "train", "ckpt_dir": work / "models", "output_dir": work / "predicted"}
    run_bundle(BUNDLE, "inference", configs("inference.json", variants), overwrite=True, **places)


def configs(first: str, variants: Sequence[str]) -> list[str]:
    """Names of the config files."""
    return [first, *(f"variants/{name}.json" for name in variants)]


def scores(truth: Path, predicted: Path) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Dice, median angle and share under 10 degrees of the network and of what needs no training."""
    sheet = open_volume(truth / "sheet").read(WHOLE)[0] > 0
    normals = decode_vectors(open_volume(truth / "normals").read(WHOLE))
    found = open_volume(predicted / "sheet").read(WHOLE)[0] > 127
    found_normals = decode_vectors(open_volume(predicted / "normals").read(WHOLE))
    plain, plain_normals = without_training(open_volume(truth / "image").read(WHOLE)[0].astype(np.float32))
    return _row(found, found_normals, sheet, normals), _row(plain, plain_normals, sheet, normals)


def _row(mask: NDArray, vectors: NDArray, sheet: NDArray, normals: NDArray) -> tuple[float, float, float]:
    errors = angles(torch.from_numpy(vectors), torch.from_numpy(normals), oriented=False).numpy()
    known = errors[~np.isnan(errors)]
    dice = 2 * (mask & sheet).sum() / (mask.sum() + sheet.sum())
    return float(dice), float(np.median(known)), float((known < 10).mean())


def without_training(image: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
    """Otsu's threshold of the image between two scales, and the main direction of its structure tensor."""
    from scipy.ndimage import gaussian_filter
    from skimage.feature import structure_tensor
    from skimage.filters import threshold_otsu

    smooth = gaussian_filter(image, 1.0)
    zz, zy, zx, yy, yx, xx = structure_tensor(smooth, sigma=3.0)
    tensor = np.stack([zz, zy, zx, zy, yy, yx, zx, yx, xx], axis=-1).reshape(*image.shape, 3, 3)
    main_direction = np.linalg.eigh(tensor)[1][..., -1]
    band = smooth - gaussian_filter(image, 12.0)
    return band > threshold_otsu(band), np.moveaxis(main_direction, -1, 0).astype(np.float32)


if __name__ == "__main__":
    main()
