"""``python -m benchmarks.nuclei``: instances of real nuclei in a part of a volume that training has not seen.

A volume with instance ids (HDF5, ``raw`` and ``label``) is divided along one axis. Networks are trained on the first
part by the commands of the bundle ``neuron_segmentation`` with ``variants/nuclei.json``, those that are in the work
folder already not again, and segment the last part. Beside them stands Otsu's threshold of the smoothed image with the
same watershed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.bundles import cpu_seconds, run_bundle
from benchmarks.harness import Row, machine, versions
from voxel_ext.metrics import InstanceScores, adapted_rand_error, instance_scores
from voxel_ext.transforms import probability_to_instances

BUNDLE = "neuron_segmentation"
ARCHITECTURES = ("unet3d", "residual_unet3d")
WATERSHED = {"method": "distance", "sigma": 2.0, "min_distance": 5, "min_size": 100}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nuclei", description=__doc__)
    parser.add_argument("--volume", required=True, metavar="FILE", help="HDF5 file with raw and label (D, H, W)")
    parser.add_argument("--work", required=True, metavar="DIR", help="folder for data, networks and results")
    parser.add_argument("--axis", type=int, default=0, choices=(0, 1, 2), help="axis to divide: z, y or x")
    parser.add_argument("--kept", type=float, default=0.3, help="share at the end of the axis that is kept aside")
    parser.add_argument("--epochs", type=int, default=None, help="other than those of the overlay")
    parser.add_argument("--architectures", nargs="+", default=ARCHITECTURES, help="networks to train")
    arguments = parser.parse_args()
    work = Path(arguments.work).resolve() / f"axis_{arguments.axis}"
    volume = Path(arguments.volume).resolve()
    prepare(volume, work, arguments.axis, arguments.kept)
    truth = _read(next((work / "data" / "val").glob("*.h5")), "instances")
    lines = [("Otsu + watershed", otsu(work), 0.0, 0.0)]
    for architecture in arguments.architectures:
        wall, cpu = train(work, architecture, arguments.epochs)
        lines.append((architecture, segment(work, architecture), wall, cpu))
    print("| | AP@0.5 | F1@0.5 | mean AP 0.5-0.95 | adapted Rand error | found | training, minutes | CPU minutes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, pred, wall, cpu in lines:
        print(line(name, pred, truth, wall, cpu))
    print(f"\nKept aside: axis {arguments.axis}, last {arguments.kept:.0%}, {len(np.unique(truth)) - 1} nuclei")
    print(f"Machine: {machine()}\nVersions: {versions()}")


def run(arguments: argparse.Namespace) -> list[Row]:
    """The U-Net beside Otsu's threshold, as rows of the common table."""
    work = arguments.work / "nuclei" / "axis_0"
    prepare(arguments.volume, work, 0, 0.3)
    truth = _read(next((work / "data" / "val").glob("*.h5")), "instances")
    _, cpu = train(work, "unet3d", None)
    ours, other = (_scores(pred, truth) for pred in (segment(work, "unet3d"), otsu(work)))
    precision, plain = (float(scores.average_precision[0]) for scores, _ in (ours, other))
    return [
        Row("nuclei", "training of unet3d, CPU minutes", cpu / 60, unit="min"),
        Row(
            "nuclei", "AP@0.5 of unseen nuclei, unet3d / Otsu + watershed", precision, plain, precision / plain, unit=""
        ),
        Row("nuclei", "adapted Rand error / Otsu + watershed", ours[1], other[1], ours[1] / other[1], unit=""),
    ]


def _scores(pred: NDArray, truth: NDArray) -> tuple[InstanceScores, float]:
    pair = [torch.from_numpy(array.astype(np.int64)) for array in (pred, truth)]
    return instance_scores(*pair), float(adapted_rand_error(*pair))


def line(name: str, pred: NDArray, truth: NDArray, wall: float, cpu: float) -> str:
    """One row of the table."""
    scores, rand_error = _scores(pred, truth)
    found = f"{int(scores.true_positives[0])} of {len(np.unique(truth)) - 1}, {int(scores.false_positives[0])} false"
    return (
        f"| {name} | {scores.average_precision[0]:.3f} | {scores.f1[0]:.3f} | {scores.average_precision.mean():.3f} | "
        f"{rand_error:.3f} | {found} | {wall / 60:.1f} | {cpu / 60:.1f} |"
    )


def prepare(volume: Path, work: Path, axis: int, kept: float) -> None:
    """Cut the two parts and make targets and weights."""
    with h5py.File(volume) as file:
        shape = file["raw"].shape
    middle = shape[axis] - round(shape[axis] * kept)
    for part, bounds in (("train", (0, middle)), ("val", (middle, shape[axis]))):
        crop = [[0, length] for length in shape]
        crop[axis] = list(bounds)
        raw = work / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        link = raw / volume.name
        if not link.exists():
            link.symlink_to(volume)
        options = {"source": "volumes", "raw_dir": raw, "label_kind": "instances", "crop": crop}
        run_bundle(BUNDLE, "prepare", ["prepare.json"], dataset_dir=work / "data" / part, **options)


def train(work: Path, architecture: str, epochs: int | None) -> tuple[float, float]:
    """Train a network that is not trained yet; wall and CPU seconds of its training."""
    done = work / architecture / "seconds.json"
    if not done.is_file():
        start, cpu = time.perf_counter(), cpu_seconds()
        folders = {"ckpt_dir": work / architecture / "models", "log_path": work / architecture / "runs"}
        options = {"architecture": architecture, **({} if epochs is None else {"epochs": epochs})}
        configs = ["train.json", "variants/nuclei.json"]
        run_bundle(BUNDLE, "training", configs, dataset_dir=work / "data", **folders, **options)
        used = {"wall": time.perf_counter() - start, "cpu": cpu_seconds() - cpu}
        done.write_text(json.dumps(used))
    used = json.loads(done.read_text())
    return used["wall"], used["cpu"]


def segment(work: Path, architecture: str) -> NDArray:
    """The instances that the trained network finds in the part kept aside."""
    folder = work / architecture
    places = {"ckpt_dir": folder / "models", "output_dir": folder / "instances"}
    configs = ["inference.json", "variants/nuclei.json"]
    options = {"architecture": architecture, "dataset_dir": work / "data" / "val"}
    run_bundle(BUNDLE, "inference", configs, **places, **options)
    return _read(next((folder / "instances").glob("*_instances.h5")), None)


def otsu(work: Path) -> NDArray:
    """Instances by Otsu's threshold of the smoothed part kept aside, and the same watershed."""
    from scipy.ndimage import gaussian_filter
    from skimage.filters import threshold_otsu

    raw = _read(next((work / "data" / "val").glob("*.h5")), "raw").astype(np.float32)
    smooth = gaussian_filter(raw, 1.0)
    mask = (smooth > threshold_otsu(smooth)).astype(np.float32)
    return probability_to_instances(mask, **WATERSHED)


def _read(path: Path, key: str | None) -> NDArray:
    with h5py.File(path) as file:
        return np.squeeze(file[key or next(iter(file))][()])


if __name__ == "__main__":
    main()
