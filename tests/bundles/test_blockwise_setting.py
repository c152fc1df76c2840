"""The setting ``blockwise`` of the other bundles: the results of their inference in memory, from file to file."""

import json
from pathlib import Path
from typing import Any

import cell_labeling_commands as cells
import h5py
import neuron_commands as neurons
import nibabel
import numpy as np
import optic_lobe_commands as optic_lobes
import pytest
import torch
import zarr
from bundle_commands import configs, reason
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer

from voxel_ext.handlers import load_weights, save_checkpoint
from voxel_ext.networks.nets import segmentation_network, unet3d_network

TINY_OPTIC = {name: optic_lobes.TINY[name] for name in ("depth", "start_channels", "patch_size")}


def stored(path: Path) -> np.ndarray:
    return zarr.open_group(str(path), mode="r")["0"][...]


def untrained(folder: Path, network: torch.nn.Module) -> Path:
    """Keep the network's weights where inference looks for them."""
    save_checkpoint(folder / "models" / "model.pt", network.state_dict())
    return folder


def parsed(bundle: str, folder: Path, dataset: Path, **settings: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(configs(bundle, "inference"))
    parser.update(
        {"ckpt_dir": f"{folder}/models", "dataset_dir": str(dataset), "device": torch.device("cpu")} | settings
    )
    return parser


def logits(parser: ConfigParser, inferer: SlidingWindowInferer | None = None) -> np.ndarray:
    """What the network of a config gives for the first volume, prepared and put together in memory."""
    network = load_weights(parser.get_parsed_content("checkpoint"), parser.get_parsed_content("network")).eval()
    entry = parser.get_parsed_content("datalist")[0]
    image = parser.get_parsed_content("preprocessing")(dict(entry))["image"]
    with torch.no_grad():
        found = (inferer or parser.get_parsed_content("inferer"))(torch.as_tensor(np.asarray(image))[None], network)
    return found[0].numpy()


# optic lobes


@pytest.fixture(scope="module")
def lobes(tmp_path_factory) -> Path:
    """A trained network would not do better here: with these weights the mask has both values."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("lobes")
    network = {name: TINY_OPTIC[name] for name in ("depth", "start_channels")}
    untrained(folder, segmentation_network("unet", 3, 1, 1, **network))
    image = neurons.blobs(shape=(20, 32, 36))[0]
    neurons.write_hdf5(folder / "data" / "lobe.h5", raw=image.astype(np.uint8))
    return folder


def test_optic_lobe_masks(lobes, tmp_path):
    probability = 1 / (1 + np.exp(-logits(parsed(optic_lobes.BUNDLE, lobes, lobes / "data", **TINY_OPTIC))[0]))
    threshold = float(np.median(probability))
    settings = {"output_dir": str(tmp_path), "threshold": threshold}
    optic_lobes.infer(lobes, lobes / "data", **settings)
    optic_lobes.infer(lobes, lobes / "data", blockwise="true", **settings)
    assert {path.name for path in tmp_path.iterdir() if path.suffix == ".zarr"} == {"lobe.zarr"}
    mask = stored(tmp_path / "lobe.zarr")
    with h5py.File(tmp_path / "lobe_segmentation.h5") as file:
        in_memory = file["segmentation"][()]
    assert mask.dtype == in_memory.dtype == np.uint8
    assert mask.shape == in_memory.shape == (20, 32, 36)
    assert 0.2 < mask.mean() < 0.8
    sure = np.abs(probability - threshold) > 1e-6
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(mask[sure], in_memory[sure])


def test_optic_lobe_images_with_x_first_are_refused(lobes, tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.ones((8, 9, 10), np.uint8), np.eye(4)), tmp_path / "lobe.nii.gz")
    message = reason(optic_lobes.infer, lobes, tmp_path, blockwise="true", output_dir=f"{tmp_path}/out")
    for word in ("lobe.nii.gz", "(x, y, z)", "HDF5 and zarr", "blockwise"):
        assert word in message
    assert not list((tmp_path / "out").glob("*.zarr"))


# neurons


@pytest.fixture(scope="module")
def somata(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = untrained(tmp_path_factory.mktemp("somata"), unet3d_network(f_maps=4, num_levels=2, num_groups=2))
    neurons.write_hdf5(folder / "data" / "brain.h5", raw=neurons.blobs(shape=(20, 32, 36))[0])
    return folder


@pytest.mark.parametrize("settings", [{}, {"patch_size": [24, 16, 16], "overlap": 0.5, "upper_percentile": 99.0}])
def test_neuron_probabilities(somata, tmp_path, settings):
    given = {"output_dir": str(tmp_path)} | settings
    if not settings:
        neurons.infer(somata, somata / "data", save_probability="true", show_instances="false", **given)
        with h5py.File(tmp_path / "brain_probability.h5") as file:
            expected = file["segmentation"][()]
    else:  # windows larger than the volume, and other percentiles
        parser = parsed(neurons.BUNDLE, somata, somata / "data", **(neurons.NETWORK | given))
        expected = torch.softmax(torch.from_numpy(logits(parser)), 0)[1].numpy()
    neurons.infer(somata, somata / "data", blockwise="true", **given)
    found = stored(tmp_path / "brain.zarr")
    assert found.shape == (2, 20, 32, 36)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found[1] / 255, expected, atol=0.5 / 255 + 1e-3)
    np.testing.assert_allclose(found.astype(int).sum(axis=0), 255, atol=1)
    assert np.ptp(found[1].astype(int)) > 5


def test_neuron_images_are_read_zyx(somata, tmp_path):
    """Of a NIfTI file, x first, the result is that of the HDF5 file."""
    with h5py.File(somata / "data" / "brain.h5") as file:
        neurons.write_image(tmp_path / "plain" / "brain.nii.gz", file["raw"][()])
    results = []
    for data in (somata / "data", tmp_path / "plain"):
        output = tmp_path / f"of_{data.name}"
        neurons.infer(somata, data, blockwise="true", output_dir=str(output))
        results.append(stored(output / "brain.zarr"))
    np.testing.assert_array_equal(*results)


def test_a_second_run_keeps_the_result_and_other_settings_need_overwrite(somata, tmp_path):
    settings = {"blockwise": "true", "output_dir": str(tmp_path)}
    neurons.infer(somata, somata / "data", **settings)
    before = stored(tmp_path / "brain.zarr")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "brain.zarr").rglob("*")}
    neurons.infer(somata, somata / "data", **settings)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "brain.zarr").rglob("*")} == times
    message = reason(neurons.infer, somata, somata / "data", overlap=0.5, **settings)
    for word in ("brain.zarr", "overlap", "0.25", "0.5", "overwrite"):
        assert word in message
    np.testing.assert_array_equal(stored(tmp_path / "brain.zarr"), before)
    neurons.infer(somata, somata / "data", overlap=0.5, overwrite="true", **settings)
    assert not np.array_equal(stored(tmp_path / "brain.zarr"), before)


def test_blockwise_is_true_or_false(somata, tmp_path):
    message = reason(neurons.infer, somata, somata / "data", blockwise="yes", output_dir=str(tmp_path))
    assert "blockwise='yes' must be true or false" in message
    assert not list(tmp_path.glob("*.zarr"))


# cells


@pytest.fixture(scope="module")
def animals(tmp_path_factory) -> Path:
    return cells.tiny_animals(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return cells.tiny_training(tmp_path_factory.getbasetemp())


def test_cell_classes(trained, animals, tmp_path):
    names = json.loads((trained / "models" / "settings.json").read_text())["class_counts"]
    settings = {"output_dir": str(tmp_path), "roi_size": [12, 16, 24]}
    cells.infer(trained, animals / "val", blockwise="true", **settings)
    assert sorted(path.name for path in tmp_path.glob("*.zarr")) == [f"val_000{i}.zarr" for i in (1, 2, 3)]
    assert not list(tmp_path.glob("*.csv"))
    classes = stored(tmp_path / "val_0001.zarr")
    assert classes.shape == tuple(cells.SIZE)
    assert classes.max() <= len(names)
    inferer = SlidingWindowInferer([12, 16, 24], overlap=0.25, mode="gaussian")
    found = logits(parsed(cells.BUNDLE, trained, animals / "val", **(cells.NETWORK | settings)), inferer)
    best = np.sort(found, axis=0)
    clear = best[-1] - best[-2] > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(classes[clear], found.argmax(axis=0)[clear])


def test_cells_in_other_channels_are_refused(trained, animals, tmp_path):
    settings = {"channels": ["TagRFP", "mNeptune2.5", "CyOFP1", "mTagBFP2"], "output_dir": str(tmp_path)}
    message = reason(cells.infer, trained, animals / "val", blockwise="true", **settings)
    for word in ("val_0001.h5", "TagRFP", "mTagBFP2", "channels"):
        assert word in message, message
    assert not list(tmp_path.glob("*.zarr"))
