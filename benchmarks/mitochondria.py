"""``python -m benchmarks.mitochondria``: do features of artificial mitochondria tell their six classes of shape apart?

The commands of the bundles draw one volume, measure its objects (``em_clustering``), and prepare, train and apply a
network each (``em_shape_vae``, ``em_point_cloud_autoencoder``, ``em_contrastive``), without being told the classes.
Every set of features is clustered by every algorithm, and the clusters are compared with the classes. Steps that are
done are not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bundles import cpu_seconds, run_bundle
from benchmarks.harness import Row, machine, versions
from benchmarks.mitochondria_figures import draw_heat_map, scores_table, sets_table
from benchmarks.mitochondria_scores import LEARNED, best, score_all

CLUSTERING = "em_clustering"
BUNDLES = dict(zip(LEARNED, ("em_shape_vae", "em_point_cloud_autoencoder", "em_contrastive"), strict=True))
"""The bundle of each learned feature."""
SCALINGS = ("minmax", "standard", "pca_whiten")
OBJECTS = 600
SIZE = (256, 256, 256)


@dataclass(frozen=True)
class Experiment:
    """Where everything lies, and how large it is."""

    work: Path
    synthetic: dict[str, Any]

    @property
    def volume(self) -> dict[str, Path]:
        """Image, labels and classes of the objects, as options of the commands."""
        folder = self.work / "volume" / "volume"
        return {"image": folder / "image.zarr", "labels": folder / "labels.zarr", "classes": folder / "classes.csv"}

    def once(self, step: str, action: Callable[[], None]) -> None:
        """Take a step that was not taken yet, and note its seconds; end the program where it fails."""
        done = self.work / "steps" / f"{step}.json"
        if done.is_file():
            return
        start, cpu = time.perf_counter(), cpu_seconds()
        try:
            action()
        except subprocess.CalledProcessError as error:
            sys.exit(
                f"{step} failed (exit status {error.returncode}); its messages are above. Steps before it are kept"
            )
        done.parent.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps({"wall": time.perf_counter() - start, "cpu": cpu_seconds() - cpu}))

    def seconds(self) -> dict[str, dict[str, float]]:
        """Wall and CPU seconds of all steps."""
        return {file.stem: json.loads(file.read_text()) for file in sorted((self.work / "steps").glob("*.json"))}

    def features_dir(self, bundle: str) -> Path:
        """Where a bundle's tables of features are."""
        return self.work / bundle / "features"

    def measure(self) -> None:
        """Draw the volume and measure its objects."""
        folder = self.work / "volume"
        self.once(
            "volume",
            lambda: run_bundle(CLUSTERING, "prepare", ["prepare.json"], dataset_dir=folder, **self.synthetic),
        )
        options = {**self.volume, "output_dir": self.work / CLUSTERING}
        self.once("classical.features", lambda: run_bundle(CLUSTERING, "run", ["features.json"], **options))

    def learn(self, feature: str, options: dict[str, Any]) -> None:
        """Prepare, train and apply the network of a feature."""
        bundle = BUNDLES[feature]
        data, models = self.work / bundle / "data", self.work / bundle / "models"
        inputs = ("labels",) if feature == "ptcf" else ("labels", "image")  # not the classes, which could be learned
        source = {"source": "volumes", **{name: self.volume[name] for name in inputs}}
        steps: dict[str, Callable[[], None]] = {
            "prepare": lambda: run_bundle(bundle, "prepare", ["prepare.json"], dataset_dir=data, **source),
            "training": lambda: run_bundle(
                bundle,
                "training",
                ["train.json"],
                dataset_dir=data,
                ckpt_dir=models,
                log_path=self.work / bundle / "runs",
                output_dir=self.work / bundle / "eval",
                **options,
            ),
            "inference": lambda: run_bundle(
                bundle,
                "inference",
                ["inference.json"],
                dataset_dir=data,
                ckpt_dir=models,
                output_dir=self.work / bundle,
            ),
        }
        for step, action in steps.items():
            self.once(f"{feature}.{step}", action)


def main() -> None:
    arguments = _arguments()
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    synthetic = {"seed": arguments.seed, "synthetic_objects": arguments.objects, "synthetic_size": arguments.size}
    experiment = Experiment(Path(arguments.work).resolve(), synthetic)
    learned = () if arguments.only == "classical" else tuple(arguments.features)
    options = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    report(experiment, scores_of(experiment, learned, arguments.scalings, options))


def run(arguments: argparse.Namespace) -> list[Row]:
    """The best clusters of every set of features of 600 objects, as rows of the common table."""
    synthetic = {"seed": 0, "synthetic_objects": OBJECTS, "synthetic_size": list(SIZE)}
    scores = scores_of(Experiment(arguments.work / "mitochondria", synthetic), LEARNED, SCALINGS, {})
    rows = []
    for name in dict.fromkeys(row["set"] for row in scores):
        row = best([one for one in scores if one["set"] == name])
        what = f"adjusted Rand index of the best clusters by {name} ({row['algorithm']}, {row['scaling']})"
        rows.append(Row("mitochondria", what, row.get("ari"), unit=""))
    return rows


def scores_of(
    experiment: Experiment, learned: Sequence[str], scalings: Sequence[str], options: dict[str, Any]
) -> list[dict[str, Any]]:
    """Take every step that was not taken yet, and score the clusters of every set of features."""
    experiment.work.mkdir(parents=True, exist_ok=True)
    _keep_settings(experiment)
    experiment.measure()
    for feature in learned:
        experiment.learn(feature, options)
    folders = {CLUSTERING: None, **{BUNDLES[feature]: feature for feature in learned}}
    places = {name: experiment.features_dir(bundle) for bundle, name in folders.items()}
    return score_all(places, experiment.volume["classes"], scalings)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mitochondria", description=__doc__)
    parser.add_argument("--work", required=True, metavar="DIR", help="folder for data, networks and results")
    parser.add_argument("--only", choices=("classical",), default=None, help="leave out the networks")
    parser.add_argument("--features", nargs="+", choices=LEARNED, default=LEARNED, help="learned features (all)")
    parser.add_argument("--scalings", nargs="+", choices=SCALINGS, default=SCALINGS, help="of the features (all)")
    parser.add_argument("--epochs", type=int, default=None, help="of every network, other than those of its config")
    parser.add_argument("--objects", type=int, default=OBJECTS, help=f"objects in the volume (default {OBJECTS})")
    parser.add_argument("--size", type=int, nargs=3, default=list(SIZE), help="of the volume (default 256 256 256)")
    parser.add_argument("--seed", type=int, default=0, help="of the volume (default 0)")
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="threads of each command")
    return parser.parse_args()


def _keep_settings(experiment: Experiment) -> None:
    """Note the settings of the volume, or end the program where the folder has another one."""
    file = experiment.work / "volume.json"
    if not file.is_file():
        file.write_text(json.dumps(experiment.synthetic))
    made = json.loads(file.read_text())
    if made != experiment.synthetic:
        sys.exit(f"{experiment.work} has a volume of {made}, not of {experiment.synthetic}; give another --work")


def report(experiment: Experiment, scores: list[dict[str, Any]]) -> None:
    """Print the tables, and write them and a picture."""
    seconds = experiment.seconds()
    print(scores_table(scores), sets_table(scores), sep="\n\n")
    print("\n| step | minutes | CPU minutes |\n| --- | --- | --- |")
    for step, used in seconds.items():
        print(f"| {step} | {used['wall'] / 60:.2f} | {used['cpu'] / 60:.2f} |")
    print(f"\nMachine: {machine()}\nVersions: {versions()}")
    found = {"volume": experiment.synthetic, "seconds": seconds, "machine": machine(), "versions": versions()}
    (experiment.work / "results.json").write_text(json.dumps({**found, "scores": scores}, indent=1))
    draw_heat_map(scores, experiment.work / "ari.png")


if __name__ == "__main__":
    main()
