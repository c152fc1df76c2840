"""Block-wise results against MONAI's sliding windows in memory."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
import zarr
from blockwise_networks import TwoConvolutions, TwoTargets, contents, inferer, read, volume
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SlidingWindowInferer

from voxel_ext.data.lazy_volume import open_volume


def expected(image, network, **settings):
    """MONAI's result with the same settings as ``inferer``; (C, D, H, W), or a dict of these."""
    defaults = {"roi_size": (8, 10, 12), "overlap": 0.5, "mode": "gaussian"}
    with torch.no_grad():
        found = SlidingWindowInferer(**{**defaults, **settings})(torch.from_numpy(image)[None], network)
    return {key: one[0].numpy() for key, one in found.items()} if isinstance(found, dict) else found[0].numpy()


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, (0.6, 0.3, 0)])
@pytest.mark.parametrize(("size", "batch"), [((16, 20, 24), 1), ((21, 17, 13), 3)])
def test_result_equals_monai(tmp_path, mode, overlap, batch, size):
    image, network = volume(1, *size), TwoConvolutions()
    settings = {"mode": mode, "overlap": overlap, "sw_batch_size": batch}
    found = read(inferer(**settings)(image, network, tmp_path / "a.zarr"))
    np.testing.assert_allclose(found, expected(image, network, **settings), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "padding"),
    [
        ((3, 20, 24), {}),
        ((21, 7, 5), {"cval": -2.0}),
        ((5, 5, 5), {"padding_mode": "replicate"}),
        ((1, 1, 1), {"padding_mode": "replicate"}),
        ((8, 10, 12), {}),
    ],
)
def test_volumes_smaller_than_a_window(tmp_path, size, padding):
    image, network = volume(1, *size), TwoConvolutions()
    found = read(inferer(**padding)(image, network, tmp_path / "a.zarr"))
    np.testing.assert_allclose(found, expected(image, network, **padding), atol=1e-5)


@pytest.mark.parametrize("padding_mode", ["reflect", "circular"])
def test_mirrored_and_repeated_padding(tmp_path, padding_mode):
    image, network = volume(1, 7, 9, 30), TwoConvolutions()
    found = read(inferer(padding_mode=padding_mode)(image, network, tmp_path / "a.zarr"))
    np.testing.assert_allclose(found, expected(image, network, padding_mode=padding_mode), atol=1e-5)


@pytest.mark.parametrize(
    ("tile", "chunks"), [((8, 8), (8, 8, 8)), ((16, 8), (3, 8, 8)), ((64, 64), (64, 10, 7)), ((8, 64), (1, 8, 19))]
)
def test_tiles_and_chunks_do_not_matter(tmp_path, tile, chunks):
    image, network = volume(1, 21, 26, 19), TwoConvolutions()
    found = read(inferer(tile=tile, chunks=chunks)(image, network, tmp_path / "a.zarr"))
    np.testing.assert_allclose(found, expected(image, network), atol=1e-5)


def test_narrow_gaussian_keeps_monais_clamped_weights(tmp_path):
    image, network = volume(1, 21, 17, 13), TwoConvolutions()
    found = read(inferer(sigma_scale=0.03)(image, network, tmp_path / "a.zarr"))
    np.testing.assert_allclose(found, expected(image, network, sigma_scale=0.03), atol=1e-5)


def test_several_targets_and_channels(tmp_path):
    image, network = volume(1, 12, 20, 24), TwoTargets()
    store, wanted = inferer()(image, network, tmp_path / "a.zarr"), expected(image, network)
    assert sorted(path.name for path in store.iterdir()) == ["normals", "sheet", "zarr.json"]
    for name, values in wanted.items():
        np.testing.assert_allclose(read(f"{store}/{name}"), values, atol=1e-5)
    only = inferer(targets=["normals"])(image, network, tmp_path / "b.zarr")
    assert contents(only / "normals" / "0") == contents(store / "normals" / "0")
    assert not (only / "sheet").exists()
    colors, network = volume(2, 12, 11, 13), TwoConvolutions(2)
    found = read(inferer()(colors, network, tmp_path / "c.zarr"))
    np.testing.assert_allclose(found, expected(colors, network), atol=1e-5)


def test_every_source_gives_the_same_bytes(tmp_path):
    image, network = volume(12, 20, 24), TwoConvolutions()
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file["raw"] = image
    stored = zarr.create_array(str(tmp_path / "image.zarr"), data=image, chunks=(5, 7, 9))
    sources = [image, torch.from_numpy(image)[None], f"{tmp_path}/image.h5/raw", f"{tmp_path}/image.zarr", stored]
    stores = [
        inferer(prefetch=i % 3)(source, network, tmp_path / f"{i}.zarr")
        for i, source in enumerate([*sources, open_volume(image)])
    ]
    first = contents(stores[0] / "0")
    assert len(first) == 2 * 3 * 3 * 2 + 1
    assert all(contents(store / "0") == first for store in stores)


def test_transform_and_the_network_s_arguments(tmp_path):
    class Scaled(TwoConvolutions):
        def forward(self, x, factor, *, shift=0.0):
            return super().forward(x) * factor + shift

    image, network = volume(1, 6, 14, 13), Scaled()
    store = inferer(transform=lambda region: region * 2 + 1)(image, network, tmp_path / "a.zarr", 3, shift=1)
    # padding is added after the transform: it stays 0
    wanted = expected(image * 2 + 1, lambda x: network(x, 3, shift=1))
    np.testing.assert_allclose(read(store), wanted, atol=1e-5)


def test_tensors_in_memory_are_as_monai_has_them():
    image, network = torch.from_numpy(volume(2, 1, 12, 20, 24)), TwoTargets()
    with torch.no_grad():
        found = inferer()(image, network)
        wanted = SlidingWindowInferer((8, 10, 12), overlap=0.5, mode="gaussian")(image, network)
        reduced = inferer(activations={"sheet": "sigmoid"}, reductions={"sheet": 0.5}, targets=["sheet"])(
            image, network
        )
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert list(reduced) == ["sheet"]
    assert torch.equal(reduced["sheet"], (wanted["sheet"] > 0).float())


def test_stands_in_an_evaluator():
    batch = {"image": MetaTensor(volume(1, 1, 12, 20, 24)), "label": torch.zeros(1)}
    network = TwoConvolutions()
    evaluator = SupervisedEvaluator(torch.device("cpu"), [batch], network, inferer=inferer(), decollate=False)
    evaluator.run()
    wanted = expected(batch["image"].numpy()[0], network.eval())
    np.testing.assert_allclose(evaluator.state.output["pred"][0].detach().numpy(), wanted, atol=1e-5)
