"""What MONAI Label 0.8.5 does with a bundle, told apart from its server: for where the package is not installed.

The functions read the same files and ids in the same order as ``BundleInferTask`` and ``BundleTrainTask`` of its bundle
app, and treat what they find as these do. What they leave out is user interface, device choice and the model zoo.
"""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser, run
from monai.data import partition_dataset
from monai.transforms import Compose, LoadImaged, SaveImaged


class InferTask:
    """Image file in, label file out."""

    def __init__(self, bundle: Path) -> None:
        self.model = bundle / "models" / "model.pt"
        self.config = ConfigParser()
        self.config.read_config(bundle / "configs" / "inference.json")
        self.config.config.update({"bundle_root": str(bundle), "use_click": False})
        self.network = self.config.get_parsed_content("network_def", instantiate=True)
        metadata = json.loads((bundle / "configs" / "metadata.json").read_text())["network_data_format"]
        self.key_image = next(iter(metadata["inputs"]))
        self.key_pred, pred = next(iter(metadata["outputs"].items()))
        self.labels = {v.lower(): int(k) for k, v in pred["channel_def"].items() if v.lower() != "background"}

    def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        """What it has after the inferer: the image as the network sees it, and the network's output."""
        data = {**request, "image_path": request["image"], "model_filename": ["model.pt"]}
        self.config.config.update({"device": request["device"]})
        for transform in self._transforms("preprocessing", "pre_transforms"):
            if isinstance(transform, LoadImaged):
                transform._loader.image_only = False
                assert all(isinstance(data[key], str) for key in transform.keys)
            data = transform(data)
        weights = torch.load(self.model, weights_only=True)
        self.network.load_state_dict(weights.get("model", weights), strict=False)
        inferer = self.config.get_parsed_content("inferer", instantiate=True)
        with torch.no_grad():
            data[self.key_pred] = inferer(data[self.key_image][None], self.network.eval())[0]
        return data

    def __call__(self, request: dict[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
        data = self.predict(request)
        for transform in self._transforms("postprocessing", "post_transforms"):
            if not isinstance(transform, SaveImaged):
                data = transform(data)
        return self._write(data[self.key_pred], data[self.key_image].meta, folder), {"label_names": self.labels}

    def _transforms(self, *ids: str) -> list[Any]:
        found: list[Any] = []
        for name in ids:
            if self.config.get(name):
                content = self.config.get_parsed_content(name, instantiate=True)
                found = list(content.transforms) if isinstance(content, Compose) else content
        return found

    def _write(self, label: torch.Tensor, meta: dict[str, Any], folder: Path) -> str:
        """Its ``Restored``, which resizes to the shape of the file, and its writer, which takes the file's affine."""
        assert tuple(meta["spatial_shape"]) == tuple(label.shape[1:]), "the label would be resized"
        array = np.asarray(label[0])
        nibabel.save(nibabel.Nifti1Image(array, np.asarray(meta["original_affine"])), folder / "label.nii.gz")
        return str(folder / "label.nii.gz")


def train(bundle: Path, request: dict[str, Any], datalist: list[dict[str, str]]) -> None:
    """Train the bundle on images and labels, from the weights it has."""
    config = ConfigParser()
    config.read_config(bundle / "configs" / "train.json")
    handlers = config.get("train#handlers", [])
    if not [handler for handler in handlers if handler.get("_target_") == "CheckpointLoader"]:
        path = str(bundle / "models" / "model.pt")
        loader = {
            "_target_": "CheckpointLoader",
            "load_path": path,
            "load_dict": {"model": "$@network"},
            "strict": False,
        }
        handlers.insert(0, loader)
    share = request["val_split"]
    training, validation = partition_dataset(datalist, ratios=[1 - share, share], shuffle=False)
    run(
        run_id="run",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "train.json"),
        **{
            "bundle_root": str(bundle),
            "train#trainer#max_epochs": request["max_epochs"],
            "train#dataset#data": training,
            "device": request["device"],
            "train#handlers": handlers,
            "validate#dataset#data": validation,
        },
    )
