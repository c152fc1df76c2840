"""Settings, volumes and networks that do not fit: what is said about them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from blockwise_networks import Identity, TwoConvolutions, TwoTargets, inferer, volume

from voxel_ext.errors import InvalidInputError, MissingDataError, VoxelExtError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overlap": 1}, r"overlap=1; expected a number from 0 to below 1"),
        ({"overlap": -0.1}, r"overlap=-0.1"),
        ({"overlap": (0.5, 0.5)}, r"overlap=\(0.5, 0.5\)"),
        ({"overlap": "half"}, "overlap='half'"),
        ({"roi_size": (8, 8)}, r"roi_size=\(8, 8\); expected 3 whole numbers of at least 1"),
        ({"roi_size": (8, 0, 8)}, "roi_size"),
        ({"roi_size": (8, 8.5, 8)}, "roi_size"),
        ({"roi_size": "888"}, "roi_size"),
        ({"mode": "gausian"}, "mode='gausian'.*Did you mean 'gaussian'"),
        ({"padding_mode": "mirror"}, "padding_mode='mirror'.*reflect"),
        ({"sw_batch_size": 0}, "sw_batch_size=0"),
        ({"chunks": (8, 8)}, "chunks"),
        ({"tile": (8, 8, 8)}, "tile"),
        ({"prefetch": -1}, "prefetch=-1"),
        ({"num_workers": 1.5}, "num_workers=1.5"),
        ({"activations": "sigmod"}, "activations='sigmod'.*Did you mean 'sigmoid'"),
        ({"activations": {"sheet": "relu"}}, "activations#sheet='relu'"),
        ({"reductions": "mean"}, "reductions='mean'; expected None, 'argmax'"),
        ({"reductions": {"sheet": "threshold:x"}}, "reductions#sheet='threshold:x': 'x' is not a number"),
        ({"reductions": True}, "reductions=True"),
        ({"output_dtype": "int16"}, "output_dtype='int16'.*float16"),
        ({"component_order": "yzx"}, "component_order='yzx'"),
        ({"targets": []}, r"targets=\[\]"),
        ({"targets": "sheet"}, "targets='sheet'; expected a list"),
    ],
)
def test_settings(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        inferer(**settings)


@pytest.mark.parametrize(
    ("settings", "network", "message"),
    [
        ({"targets": ["sheets"]}, TwoTargets(), "target in targets='sheets'.*'normals', 'sheet'.*Did you mean 'sheet'"),
        ({"activations": {"shet": "sigmoid"}}, TwoTargets(), "target in activations='shet'"),
        ({"reductions": {"sheet": "argmax"}}, TwoTargets(), "'sheet' has 1 channel, of which argmax is always 0"),
        ({"output_dtype": "uint8"}, TwoTargets(), "cannot be stored as uint8: its activation is 'none'"),
        ({"activations": "unit_norm", "output_dtype": "uint8"}, TwoTargets(), "'sheet' has 1 channels; as uint8"),
        ({"component_order": "xyz"}, TwoTargets(), "component_order='xyz' of 'sheet', which has 1 channels"),
        ({"tile": (12, 8)}, TwoTargets(), r"tile=\(12, 8\) is along y no multiple of chunks=\(8, 8, 8\)"),
        ({"mask": np.ones((20, 20, 23))}, TwoTargets(), r"mask.*\(20, 20, 23\).*\(20, 20, 24\).*expected the same"),
        ({"transform": lambda x: x[:, 1:]}, TwoTargets(), r"reading source for tile 0.*the transform made \(1, 7"),
        ({}, torch.nn.Conv3d(1, 2, 3), r"'output' of the network is \(1, 2, 6, 8, 10\).*expected a tensor \(1, C, 8"),
        ({}, lambda x: [x, x], "'output' of the network is list"),
        ({}, lambda x: {"a": x[:, 0]}, r"'a' of the network is \(1, 8, 10, 12\)"),
        ({"num_workers": 1}, lambda x: x, "cannot be sent to other processes"),
        ({"scheduler": 3}, Identity(), "scheduler=3"),
    ],
)
def test_what_does_not_fit(tmp_path, settings, network, message):
    with pytest.raises(InvalidInputError, match=message):
        inferer(**settings)(volume(20, 20, 24), network, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_sources(tmp_path):
    with pytest.raises(MissingDataError, match=r"none\.zarr"):
        inferer()(tmp_path / "none.zarr", Identity(), tmp_path / "a.zarr")
    with pytest.raises(InvalidInputError, match=r"source has shape \(2, 1, 8, 8, 8\)"):
        inferer()(volume(2, 1, 8, 8, 8), Identity(), tmp_path / "a.zarr")
    with pytest.raises(InvalidInputError, match=r"a batch of shape \(1, 1, 8, 8, 8\) cannot be stored"):
        inferer()(torch.zeros(1, 1, 8, 8, 8), Identity(), tmp_path / "a.zarr")
    for source in (volume(1, 1, 8, 8, 8), torch.zeros(1, 8, 8, 8)):
        with pytest.raises(InvalidInputError, match=r"without a store, expected a tensor \(B, C, D, H, W\)"):
            inferer()(source, Identity())
    for padding_mode, size in (("reflect", 4), ("circular", 3)):
        with pytest.raises(InvalidInputError, match=f"{size} voxels along z, too few to pad . with padding_mode"):
            inferer(padding_mode=padding_mode, roi_size=(13, 8, 8))(volume(size, 8, 8), Identity(), tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


def test_targets_in_memory():
    with pytest.raises(InvalidInputError, match="target in targets='sheets'"):
        inferer(targets=["sheets"])(torch.zeros(1, 1, 8, 8, 8), TwoTargets())
    with pytest.raises(InvalidInputError, match="target in targets='sheet'"):
        inferer(targets=["sheet"])(torch.zeros(1, 1, 8, 8, 8), Identity())


def test_failing_network_names_the_block(tmp_path):
    def fail(x):
        if x.max() > 100:
            raise ValueError("too bright")
        return x

    image = volume(20, 20, 24)
    image[18, 19, 23] = 200
    with pytest.raises(
        VoxelExtError,
        match=r"the network on tile 0 \(y 0:20, x 0:16\), planes 12:20, windows that begin at \[\(12, 10, 12\)\] "
        r"failed: ValueError: too bright",
    ):
        inferer(tile=(64, 16))(image, fail, tmp_path / "a.zarr")


def test_network_of_other_channels(tmp_path):
    with pytest.raises(VoxelExtError, match=r"the network on an empty window \(1, 1, 8, 10, 12\).*2 channels.*got 1"):
        inferer()(volume(20, 20, 24), torch.nn.Conv3d(2, 2, 1), tmp_path / "a.zarr")


def test_changing_network_is_refused(tmp_path):
    counts = iter((2, 2, 1))
    with pytest.raises(InvalidInputError, match=r"'output' of the network is \(1, 1, .*it had 2 channels before"):
        inferer()(volume(20, 20, 24), lambda x: x.expand(-1, next(counts), -1, -1, -1), tmp_path / "a.zarr")


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*a\.zarr\.partial"):
        inferer()(volume(8, 8, 8), TwoConvolutions(), tmp_path / "file" / "a.zarr")
