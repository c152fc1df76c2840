"""``python -m benchmarks.cell_labeling``: names of the cells of artificial animals never trained on.

Animals are made and a network is trained by the commands of the bundle ``cell_labeling`` with
``variants/half_hour.json`` and its default, reduced size; what is in the work folder already is not made again. The
animals of ``val`` are then named in both ways, by the image's four channels or by fewer.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from benchmarks.bundles import cpu_seconds, run_bundle
from benchmarks.harness import Row, machine, versions
from voxel_ext.data import list_cell_volumes, read_cell_header
from voxel_ext.labeling import LabelingAccuracy, labeling_accuracy, pooled_accuracy, read_labels

BUNDLE = "cell_labeling"
ASSIGNMENTS = ("greedy", "optimal")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cell_labeling", description=__doc__)
    parser.add_argument("--work", required=True, metavar="DIR", help="folder for data, networks and results")
    parser.add_argument("--variants", nargs="+", default=["all"], help="which of the seven to train")
    parser.add_argument("--epochs", type=int, default=None, help="other than those of half_hour.json")
    arguments = parser.parse_args()
    work = Path(arguments.work).resolve()
    prepare(work)
    print("| variant | assignment | right name | with ? and -alt | named | worst | minutes | CPU minutes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for variant in arguments.variants:
        wall, cpu = train(work, variant, arguments.epochs)
        for assignment in ASSIGNMENTS:
            pooled, worst = score(work, variant, assignment)
            shares = (pooled.found, pooled.lenient, pooled.labeled / pooled.rois, worst)
            cells = " | ".join(f"{share:.3f}" for share in shares)
            print(f"| {variant} | {assignment} | {cells} | {wall / 60:.1f} | {cpu / 60:.1f} |")
    print(f"\nMachine: {machine()}\nVersions: {versions()}")


def run(arguments: argparse.Namespace) -> list[Row]:
    """The network of all four channels, as rows of the common table."""
    work = arguments.work / "cell_labeling"
    prepare(work)
    _, cpu = train(work, "all", None)
    rows = [Row("cell_labeling", "training, CPU minutes", cpu / 60, unit="min")]
    for assignment in ASSIGNMENTS:
        pooled, _ = score(work, "all", assignment)
        rows.append(Row("cell_labeling", f"cells of unseen animals named right, {assignment}", pooled.found, unit=""))
    return rows


def prepare(work: Path) -> None:
    """Draw the animals that are not there yet."""
    run_bundle(BUNDLE, "prepare", ["prepare.json"], dataset_dir=work / "data")


def train(work: Path, variant: str, epochs: int | None) -> tuple[float, float]:
    """Train a network that is not trained yet; wall and CPU seconds of its training."""
    done = work / variant / "seconds.json"
    if not done.is_file():
        start, cpu = time.perf_counter(), cpu_seconds()
        folders = {"ckpt_dir": work / variant / "models", "log_path": work / variant / "runs"}
        configs = ["train.json", "variants/half_hour.json", f"variants/{variant}.json"]
        options = {} if epochs is None else {"epochs": epochs}
        run_bundle(BUNDLE, "training", configs, dataset_dir=work / "data", **folders, **options)
        done.write_text(json.dumps({"wall": time.perf_counter() - start, "cpu": cpu_seconds() - cpu}))
    used = json.loads(done.read_text())
    return used["wall"], used["cpu"]


def score(work: Path, variant: str, assignment: str) -> tuple[LabelingAccuracy, float]:
    """Name the animals of ``val`` and compare with the truth: all together, and share found of the worst one."""
    folder = work / variant / assignment
    configs = ["inference.json", f"variants/{variant}.json"]
    places = {"ckpt_dir": work / variant / "models", "output_dir": folder}
    run_bundle(BUNDLE, "inference", configs, dataset_dir=work / "data" / "val", assignment=assignment, **places)
    pairs = []
    for path in list_cell_volumes(work / "data" / "val"):
        header = read_cell_header(path)
        assert header.true_class is not None  # as the animals are artificial
        names = [header.class_names[number] for number in header.true_class.tolist()]
        truth = dict(zip(header.roi_ids.tolist(), names, strict=True))
        pairs.append((read_labels(folder / f"{path.stem}.csv"), truth))
    return pooled_accuracy(pairs), min(labeling_accuracy(labels, truth).found for labels, truth in pairs)


if __name__ == "__main__":
    main()
