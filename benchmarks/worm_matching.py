"""``python -m benchmarks.worm_matching``: accuracy of matching and naming on worms never trained on.

Real coordinates (32 worms to train with, 8 to test) are rendered with nuclei that all look alike but for noise
(appearance strength 0) and with the default appearance (1). Networks are trained by the commands of the bundle
``worm_matching``; those that are in the work folder already are not trained again. Beside them stand classical methods
on positions alone. All 28 pairs of the test worms are matched, and each of them is named by the 32 others.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from benchmarks.bundles import FOLDER, cpu_seconds, run_bundle
from benchmarks.harness import Row, machine, versions
from voxel_ext.data import list_prepared, opposite_roll, read_worm_header
from voxel_ext.engines import WormFeatures, match_worms
from voxel_ext.matching import WormAtlas, assign, match_positions
from voxel_ext.matching.naming import gaussian_cost
from voxel_ext.networks.groups import rotation_group

BUNDLE = "worm_matching"
STRENGTHS = (0, 1)


@dataclass
class Line:
    """One line of the table; accuracies as shares."""

    method: str
    strength: str
    equal: float
    opposite: float
    mean: float
    naming: float | None = None
    worst: float | None = None
    worst_pair: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worm_matching", description=__doc__)
    parser.add_argument("--coordinates", required=True, metavar="DIR", help="folder of 40 coordinate files (.txt)")
    parser.add_argument("--work", required=True, metavar="DIR", help="folder for data, networks and results")
    parser.add_argument("--no-train", action="store_true", help="leave out what has not been trained, do not train it")
    arguments = parser.parse_args()
    work = Path(arguments.work).resolve()
    prepare(Path(arguments.coordinates).resolve(), work)
    if not arguments.no_train:
        train(work)
    lines = [*classical(work), *learned(work)]
    print(table(lines))
    for text in turned(work):
        print(text)
    print(f"Machine: {machine()}\nVersions: {versions()}")


def run(arguments: argparse.Namespace) -> Iterator[Row]:
    """The accuracies as rows of the common table."""
    work = arguments.work / "worm_matching"
    prepare(arguments.coordinates, work)
    train(work)
    for line in (*classical(work), *learned(work)):
        method = f"{line.method}, strength {line.strength}" if line.strength else line.method
        yield Row("worm_matching", f"share of cells matched right in pairs: {method}", line.mean, unit="")
        if line.naming is not None:
            yield Row("worm_matching", f"share of cells named right: {method}", line.naming, unit="")


def prepare(coordinates: Path, work: Path) -> None:
    """Render and cut the worms, those that are not there yet."""
    for strength in STRENGTHS:
        run_bundle(
            BUNDLE,
            "run",
            ["prepare.json"],
            dataset_dir=work / f"data_{strength}",
            coordinate_dir=coordinates,
            training_worms=32,
            validation_worms=8,
            appearance_strength=float(strength),
        )


def trainings(work: Path) -> dict[str, tuple[int, list[str], dict[str, Any]]]:
    """Trained networks by name: strength of the appearance, overlays, options."""

    def start(name: str) -> dict[str, Any]:
        return {"resume": work / name / "models" / "model.pt", "load_weights_only": "true"}

    second, last = "variants/cubes_second.json", "variants/balance_last.json"
    return {
        "positions": (0, ["variants/positions_first.json"], {}),
        **{f"both_{s}": (s, [second], start("positions")) for s in STRENGTHS},
        **{f"balanced_{s}": (s, [second, last], start(f"both_{s}")) for s in STRENGTHS},
        "s4": (1, ["variants/s4.json", "variants/short_cosine.json"], {}),
        "cnn": (1, ["variants/cnn.json", "variants/short_cosine.json"], {}),
    }


def train(work: Path) -> None:
    """Train what is not trained, and write down how many CPU seconds it took."""
    for name, (strength, overlays, options) in trainings(work).items():
        done = work / name / "seconds.json"
        if done.is_file():
            continue
        start = cpu_seconds()
        folders = {"ckpt_dir": work / name / "models", "log_path": work / name / "runs"}
        run_bundle(
            BUNDLE, "training", ["train.json", *overlays], dataset_dir=work / f"data_{strength}", **folders, **options
        )
        done.write_text(json.dumps({"CPU seconds": round(cpu_seconds() - start)}))


def classical(work: Path) -> Iterator[Line]:
    """Methods on positions alone."""
    train_worms, test_worms = (
        [read_worm_header(path) for path in list_prepared(work / "data_0" / part)] for part in ("train", "val")
    )
    positions = [worm.positions.astype(float) for worm in test_worms]
    spread = (2.0, 3.0, 8.0)
    methods: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
        "linear assignment, better of two rolls": lambda a, b: match_positions(a, b, "roll", scale=(1, 1, 1)),
        "coherent point drift in voxels, better of two rolls": lambda a, b: match_positions(
            a, b, "drift", scale=(1, 1, 1)
        ),
        "coherent point drift, axes scaled by their variation": lambda a, b: match_positions(
            a, b, "drift", scale=spread
        ),
    }
    for title, method in methods.items():
        found = {}
        for i, j in _pairs(len(positions)):
            match = method(positions[i], positions[j])
            found[i, j] = float((match.rows == match.columns).sum()) / len(positions[i])
        yield _line(title, "", found, positions)
    atlas = WormAtlas.fit([worm.positions for worm in train_worms], list(train_worms[0].names))
    drifted, named = [], []
    for worm in positions:
        moved = atlas.align(worm, "drift").positions
        rows, columns = assign(gaussian_cost(moved, atlas.mean, atlas.covariance))
        drifted.append(_names(rows, columns, len(worm)))
        index = atlas.name(worm).index
        named.append(index)
    for title, found in (
        ("atlas of the training worms, coherent point drift, Mahalanobis", drifted),
        ("atlas of the training worms, joint covariance (run atlas)", named),
    ):
        shares = [float((index == np.arange(len(index))).mean()) for index in found]
        # cells of two worms are matched when they got the same name
        pairs = {(i, j): float(((found[i] == found[j]) & (found[i] >= 0)).mean()) for i, j in _pairs(len(found))}
        line = _line(title, "", pairs, positions)
        line.naming, line.worst = float(np.mean(shares)), min(shares)
        yield line


def _names(rows: np.ndarray, columns: np.ndarray, count: int) -> np.ndarray:
    index = np.full(count, -1)
    index[rows] = columns
    return index


def _pairs(count: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


def _line(title: str, strength: str, found: dict[tuple[int, int], float], positions: list[np.ndarray]) -> Line:
    turned = {pair: opposite_roll(positions[pair[0]], positions[pair[1]]) for pair in found}
    equal = [share for pair, share in found.items() if not turned[pair]]
    opposite = [share for pair, share in found.items() if turned[pair]]
    every = list(found.values())
    return Line(
        title, strength, float(np.mean(equal)), float(np.mean(opposite)), float(np.mean(every)), worst_pair=min(every)
    )


def learned(work: Path) -> Iterator[Line]:
    """The trained networks, by the bundle's evaluating."""
    runs = [("positions", 0, "positions", "-")]
    runs += [(f"both_{s}", s, inputs, str(s)) for inputs in ("cubes", "both") for s in STRENGTHS]
    runs += [(f"balanced_{s}", s, "both", str(s)) for s in STRENGTHS]
    runs += [("s4", 1, "cubes", "1"), ("cnn", 1, "cubes", "1")]
    titles = {"positions": "network of positions", "s4": "S4 network, no attention", "cnn": "CNN, no attention"}
    titles |= {f"balanced_{s}": "network of both, balanced afterwards" for s in STRENGTHS}
    for name, strength, inputs, shown in runs:
        models = work / name / "models"
        if not (models / "model.pt").is_file():
            continue
        output = work / name / f"evaluation_{inputs}"
        _, overlays, _ = trainings(work)[name]
        run_bundle(
            BUNDLE,
            "evaluating",
            ["train.json", *overlays, "evaluate.json"],
            dataset_dir=work / f"data_{strength}",
            ckpt_dir=models,
            log_path=work / name / "runs",
            output_dir=output,
            eval_inputs=inputs,
        )
        metrics = _metrics(output / "metrics.csv")
        yield Line(
            f"{titles.get(name, 'network of both')}, given {inputs}",
            shown,
            metrics["val_accuracy_equal_roll"],
            metrics["val_accuracy_opposite_roll"],
            metrics["val_accuracy"],
            metrics["val_naming_accuracy"],
            metrics["val_naming_worst"],
        )


def _metrics(path: Path) -> dict[str, float]:
    with open(path, encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.reader(stream) if len(row) == 2]
    return {name: float(value) for name, value in rows}


def turned(work: Path) -> Iterator[str]:
    """Accuracy of pairs when the cubes of the second worm are turned by each rotation of the cube."""
    group = rotation_group("S4")
    for name in ("s4", "cnn"):
        if not (work / name / "models" / "model.pt").is_file():
            continue
        network, loss, store = _load(work, name)
        upright = _features(network, store, 0)
        shares = []
        for element in range(group.order):
            worms = _features(network, store, element)
            pairs = [match_worms(upright[i], worms[j], loss).accuracy for i, j in _pairs(len(worms))]
            shares.append(float(np.mean(pairs)))
        moved = max(abs(share - shares[0]) for share in shares)
        yield (
            f"{name}: accuracy {shares[0]:.3f} upright, {min(shares[1:]):.3f} to {max(shares[1:]):.3f} with one worm "
            f"turned by the other {group.order - 1} elements of S4; largest change {100 * moved:.2f} points"
        )


def _load(work: Path, name: str) -> tuple[torch.nn.Module, Any, Any]:
    strength, overlays, _ = trainings(work)[name]
    parser = ConfigParser()
    parser.read_config([str(FOLDER / BUNDLE / "configs" / file) for file in ("train.json", *overlays, "evaluate.json")])
    folders = {"dataset_dir": str(work / f"data_{strength}"), "ckpt_dir": str(work / name / "models")}
    parser.update({"bundle_root": str(FOLDER / BUNDLE), "use_references": False, **folders})
    parser.get_parsed_content("imports")
    network = parser.get_parsed_content("network")
    network.load_state_dict(torch.load(work / name / "models" / "model.pt", weights_only=True))
    return network.eval(), parser.get_parsed_content("cell_loss"), parser.get_parsed_content("validate#store")


def _features(network: torch.nn.Module, store: Any, element: int) -> list[WormFeatures]:
    group = rotation_group("S4")
    cells = np.arange(store.num_cells)
    worms = []
    for number, header in enumerate(store.headers):
        valid = store.known(number)
        cubes = torch.from_numpy(store.cubes(number, cells, valid))
        with torch.no_grad():
            features = network(group.act(cubes, element))
        known, positions = torch.from_numpy(valid), torch.from_numpy(header.positions)
        worms.append(WormFeatures(header.worm, [features], known, positions, tuple(header.names)))
    return worms


def table(lines: Sequence[Line]) -> str:
    """Render the lines as a Markdown table."""

    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    head = "| method | strength | pairs, equal roll | pairs, opposite roll | pairs | naming, mean | naming, worst |"
    rows = [head, "| --- | --- | --- | --- | --- | --- | --- |"]
    for line in lines:
        values = (line.equal, line.opposite, line.mean, line.naming, line.worst)
        rows.append(f"| {line.method} | {line.strength} | {' | '.join(map(share, values))} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
