"""One run of ``labeling``: ``python -m benchmarks.labeling_sides FOLDER ours SLAB``, or ``FOLDER original DIR [DIR]``.

Prints a line of JSON: seconds of the ``prediction``, the same ``written``, and the ``whole``, also as CPU time; bytes
of memory, the ``peak`` and the part of it ``above`` what was in use before. Writes the ROIs' probabilities to a file.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import torch
from monai.transforms import Compose
from numpy.typing import NDArray

from benchmarks.unet3d_originals import original_package
from voxel_ext.handlers.weights import load_weights
from voxel_ext.inferers import RoiInferer
from voxel_ext.labeling import RoiProbabilities, label_greedy
from voxel_ext.networks.nets.unet3d_factory import unet3d_network

STRIDE, HALO = (20, 40, 110), (4, 8, 8)


def main() -> None:
    folder, side, *options = sys.argv[1:]
    torch.set_num_threads(1)
    about = json.loads((Path(folder) / "network.json").read_text(encoding="utf-8"))
    found = (ours if side == "ours" else original)(Path(folder), about, *options)
    sys.stdout.write(json.dumps(found) + "\n")


class Meter:
    """Wall seconds, CPU seconds and memory since it was made."""

    def __init__(self) -> None:
        self.base = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the greatest so far
        self.start = clocks()

    def seconds(self, name: str, without: NDArray | float = 0) -> dict[str, float]:
        wall, cpu = clocks() - self.start - without
        return {name: wall, f"{name}_cpu": cpu}

    def memory(self) -> dict[str, float]:
        peak = _memory("VmHWM")
        return {"peak": peak, "above": peak - self.base}


def clocks() -> NDArray:
    """Wall and CPU seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def _memory(name: str) -> int:
    found = re.search(name + r":\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return 1024 * int(found.group(1))


def ours(folder: Path, about: dict[str, Any], slab: str) -> dict[str, float]:
    network = load_weights(folder / "model.pt", unet3d_network(**about["ours"])).eval()
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    inferer = RoiInferer(slab=int(slab))
    meter = Meter()
    with h5py.File(folder / "volume.h5") as file:
        image, roi = torch.from_numpy(file["raw"][...]), torch.from_numpy(file["roi"][...].astype(np.int32))
    with torch.no_grad():
        result = inferer(image[None], network, roi[None, None])
    found = meter.seconds("prediction")
    names = ("roi_ids", "probabilities", "sizes", "centers", "confident_counts")
    rois = RoiProbabilities(**{name: result[name][0].numpy() for name in names})
    label_greedy(rois, about["class_names"])
    found |= meter.seconds("whole") | meter.memory()
    np.save(folder / "ours.npy", rois.probabilities)
    return found


def original(folder: Path, about: dict[str, Any], package: str, labeler: str = "") -> dict[str, float]:
    with original_package(package):
        predict = importlib.import_module("pytorch3dunet.predict")
        utils = importlib.import_module("pytorch3dunet.unet3d.utils")
        importlib.import_module("pytorch3dunet.augment.transforms").Compose = Compose  # type: ignore[attr-defined]
        for name in list(logging.root.manager.loggerDict):
            logging.getLogger(name).setLevel(logging.WARNING)
        average = _averages(labeler) if labeler else None
        config = _config(folder, about)
        model = predict.get_model(config)
        utils.load_checkpoint(str(folder / "original.pytorch"), model)
        predictor = importlib.import_module("pytorch3dunet.unet3d.predictor").StandardPredictor
        output, writing = folder / "predictions.h5", _Writing()
        meter = Meter()
        for loader in predict.get_test_loaders(config):
            with mock.patch.object(h5py.Group, "create_dataset", writing.method()):
                predictor(model, loader, str(output), config, patch_halo=HALO).predict()
            del loader
        found = meter.seconds("written") | meter.seconds("prediction", writing.seconds)
        if average:
            probabilities, _ = average(str(folder / "volume.h5"), str(output))
            found |= meter.seconds("whole")
            np.save(folder / "original.npy", np.stack([probabilities[roi] for roi in sorted(probabilities)]))
        output.unlink()
        return found | meter.memory()


class _Writing:
    """Times ``create_dataset`` of h5py."""

    def __init__(self) -> None:
        self.seconds = np.zeros(2)

    def method(self) -> Any:
        inner = h5py.Group.create_dataset

        def create_dataset(group: h5py.Group, *args: Any, **kwargs: Any) -> h5py.Dataset:
            start = clocks()
            created = inner(group, *args, **kwargs)
            group.file.flush()
            self.seconds += clocks() - start
            return created

        return create_dataset


def _averages(labeler: str) -> Any:
    """The function of AutoCellLabeler that averages over ROIs."""
    sys.path.insert(0, str(Path(labeler) / "autolabel"))
    return importlib.import_module("unet_output").create_probability_dict


def _config(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The configuration that the original gives for this prediction, with the volume as one patch."""
    shape = about["shape"]
    stride = [min(step, side - halo) for step, side, halo in zip(STRIDE, shape, HALO, strict=True)]
    patches = {"name": "SliceBuilder", "patch_shape": shape, "stride_shape": stride, "skip_shape_check": True}
    steps = [{"name": "Normalize"}, {"name": "ToTensor", "expand_dims": True}]
    test = {"file_paths": [str(folder / "volume.h5")], "slice_builder": patches, "transformer": {"raw": steps}}
    return {
        "model": {"name": "UNet3D", **about["original"], "final_sigmoid": False, "is_segmentation": True},
        "loaders": {
            "batch_size": 1,
            "raw_internal_path": "raw",
            "num_workers": 0,
            "label_internal_path": None,
            "test": test,
        },
        "device": torch.device("cpu"),
    }


if __name__ == "__main__":
    main()
