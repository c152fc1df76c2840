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
from benchmarks.harness import machine, versions
from voxel_ext.data import list_cell_volumes, read_cell_header
from voxel_ext.labeling import labeling_accuracy, pooled_accuracy, read_labels

BUNDLE = "cell_labeling"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cell_labeling", description=__doc__)
    parser.add_argument("--work", required=True, metavar="DIR", help="folder for data, networks and results")
    parser.add_argument("--variants", nargs="+", default=["all"], help="which of the seven to train")
    parser.add_argument("--epochs", type=int, default=None, help="other than those of half_hour.json")
    arguments = parser.parse_args()
    work = Path(arguments.work).resolve()
    run_bundle(BUNDLE, "prepare", ["prepare.json"], dataset_dir=work / "data")
    print("| variant | assignment | right name | with ? and -alt | named | worst | minutes | CPU minutes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for variant in arguments.variants:
        wall, cpu = train(work, variant, arguments.epochs)
        for assignment in ("greedy", "optimal"):
            print(
                f"| {variant} | {assignment} | {score(work, variant, assignment)} | {wall / 60:.1f} | {cpu / 60:.1f} |"
            )
    print(f"\nMachine: {machine()}\nVersions: {versions()}")


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


def score(work: Path, variant: str, assignment: str) -> str:
    """Name the animals of ``val`` and compare with the truth: cells of a row of the table."""
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
    pooled = pooled_accuracy(pairs)
    worst = min(labeling_accuracy(labels, truth).found for labels, truth in pairs)
    named = pooled.labeled / pooled.rois
    return f"{pooled.found:.3f} | {pooled.lenient:.3f} | {named:.3f} | {worst:.3f}"


if __name__ == "__main__":
    main()
