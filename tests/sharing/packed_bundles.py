"""Bundles that are quick to pack: a made-up one, and one of the project with a tiny random network."""

import io
import json
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import em_vae_commands
import h5py
import numpy as np
import optic_lobe_commands
import torch
from bundle_commands import ROOT
from monai.bundle import ConfigParser

from voxel_ext.sharing.bundle import Bundle

SHAPE = {"type": "image", "num_channels": 1, "spatial_shape": ["4*n", "4*n", "4*n"], "dtype": "float32"}
METADATA = {
    "version": "0.1.2",
    "changelog": {"0.1.2": "first"},
    "monai_version": "1.6.0",
    "pytorch_version": "2.13.0",
    "numpy_version": "2.4.0",
    "required_packages_version": {"voxel_ext": "0.1.0", "scipy": "1.17.0"},
    "name": "Little bundle",
    "network_data_format": {"inputs": {"image": SHAPE}, "outputs": {"pred": SHAPE}},
}
INFERENCE = {
    "bundle_root": ".",
    "dataset_dir": "",
    "kernel_size": 1,
    "network_def": {
        "_target_": "torch.nn.Conv3d",
        "in_channels": 1,
        "out_channels": 1,
        "kernel_size": "@kernel_size",
        "padding": "same",
    },
    "run": ["$None"],
    "inference": "@run",
}


def contents(archive: bytes, name: str = "") -> Iterator[tuple[str, bytes]]:
    """Every file of a zip file with its name, also of those inside of it: the wheel, weights, TorchScript."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        for inner in opened.namelist():
            content = opened.read(inner)
            yield f"{name}/{inner}", content
            if zipfile.is_zipfile(io.BytesIO(content)):
                yield from contents(content, f"{name}/{inner}")


def of_this_machine(archive: Path) -> list[tuple[str, str]]:
    """Files of a packed bundle that name the checkout, the environment or a temporary folder, with the path."""
    temporary = f"{tempfile.gettempdir()}/"
    paths = (f"{ROOT}/", sysconfig.get_path("purelib"), f"{temporary}voxel_ext", f"{archive.parent}/")
    return [(name, path) for name, text in contents(archive.read_bytes()) for path in paths if path.encode() in text]


def write(file: Path, content: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def little_bundle(root: Path, weights: bool = True, **metadata: Any) -> Path:
    """A bundle whose network is one convolution, in ``root / "little"``."""
    folder = root / "little"
    write(folder / "configs" / "metadata.json", METADATA | metadata)
    write(folder / "configs" / "inference.json", INFERENCE)
    write(folder / "configs" / "variants" / "wide.json", {"kernel_size": 3})
    write(folder / "docs" / "README.md", "# Little bundle\n")
    write(folder / "LICENSE", "free\n")
    if weights:
        random_weights(folder, folder / "models", {})
    return folder


def random_weights(bundle: Path, folder: Path, settings: Mapping[str, Any]) -> Path:
    """What training with ``settings`` leaves: weights, and the settings beside them."""
    parser = ConfigParser()
    parser.read_config(str(Bundle.open(bundle).configs["inference"]))
    parser.update(dict(settings) | {"bundle_root": str(bundle)})
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "model.pt")
    if settings:
        write(folder / "settings.json", dict(settings) | {"dataset_dir": "/home/somebody/data", "seed": 1})
    return folder / "model.pt"


def optic_lobe(folder: Path) -> tuple[Path, Path, Path]:
    """Bundle, weights of a tiny U-Net, and a volume."""
    bundle = ROOT / "bundles" / optic_lobe_commands.BUNDLE
    weights = random_weights(bundle, folder / "models", {"depth": 2, "start_channels": 2, "patch_size": [16, 16, 16]})
    with h5py.File(folder / "volume.h5", "w") as file:
        file["raw"] = np.random.default_rng(0).uniform(0, 100, (16, 16, 16)).astype(np.float32)
    return bundle, weights, folder / "volume.h5"


def shape_vae(folder: Path) -> tuple[Path, Path, Path]:
    """Bundle, weights of a tiny autoencoder, and objects."""
    bundle = ROOT / "bundles" / em_vae_commands.BUNDLE
    network = em_vae_commands.NETWORK | {"contents": "mask", "size": 32}
    weights = random_weights(bundle, folder / "models", network)
    objects = em_vae_commands.prepare(folder / "objects", size=32)
    return bundle, weights, objects
