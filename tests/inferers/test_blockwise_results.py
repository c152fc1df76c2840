"""What is stored: skipped windows, activations, reductions, data types, metadata."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import zarr
from blockwise_networks import Identity, TwoConvolutions, TwoTargets, inferer, read, volume

from voxel_ext.data.lazy_volume import open_volume
from voxel_ext.data.vector_codes import decode_vectors, encode_vectors
from voxel_ext.data.zarr_io import multiscale_attributes
from voxel_ext.inferers.reductions import read_reduction

APART = {"overlap": 0, "roi_size": (8, 8, 8)}


def logits(image, name=None):
    """Blended logits of the two targets, or of a single one, as float32 results have them."""
    with torch.no_grad():
        found = inferer()(torch.from_numpy(image)[None, None], TwoTargets() if name else TwoConvolutions(channels=5))
    return found[name][0] if name else found[0]


def test_empty_windows_are_not_computed(tmp_path):
    image, mask = np.zeros((24, 16, 16), np.float32), np.zeros((24, 16, 16), bool)
    image[3, 2, 5], image[17:, 9:, :3] = 5, 0.5
    mask[20, 12, 12] = True
    for settings, windows in (
        ({"minimum_intensity": 0}, 2),
        ({"minimum_intensity": 0.5}, 1),
        ({"mask": mask}, 1),
        ({"mask": mask, "minimum_intensity": 0}, 0),
        ({"mask": mask[None].astype(np.uint8), "minimum_intensity": -1}, 1),
        ({}, 12),
    ):
        network = Identity()
        store = inferer(**APART, **settings, overwrite=True, transform=_shift)(image, network, tmp_path / "a.zarr")
        assert network.windows == 1 + windows
        found = read(store)[0]
        computed = found != 0
        assert computed.sum() == windows * 8**3
        np.testing.assert_allclose(found[computed], (image + 100)[computed], rtol=1e-6)


def _shift(region):
    return region + 100


def test_skipped_windows_do_not_change_others(tmp_path):
    """A voxel that no window covers is 0 after the activation too; the others are means of the windows there are."""
    image = volume(16, 20, 24)
    mask = np.zeros(image.shape)
    mask[:2, :5, :6] = 1
    settings = {"overlap": 0.5, "mask": mask, "activations": "sigmoid", "sw_batch_size": 3, "mode": "constant"}
    found = read(inferer(**settings)(image, TwoConvolutions(), tmp_path / "a.zarr"))
    assert not found[:, 8:].any()
    assert not found[:, :, 10:].any()
    with torch.no_grad():
        alone = TwoConvolutions()(torch.from_numpy(image[None, None, :8, :10, :12])).sigmoid()[0].numpy()
    np.testing.assert_allclose(found[:, :8, :10, :12], alone, atol=1e-5)


def test_layers_without_mask_are_not_read(tmp_path):
    image = zarr.create_array(str(tmp_path / "image.zarr"), data=volume(32, 8, 8), chunks=(8, 8, 8))
    for chunk in ("1", "2"):  # damaged; an error if read
        (tmp_path / "image.zarr" / "c" / chunk / "0" / "0").write_bytes(b"no chunk")
    mask = np.ones((32, 8, 8), np.uint8)
    mask[8:24] = 0
    found = read(inferer(**APART, mask=mask)(image, Identity(), tmp_path / "a.zarr"))
    np.testing.assert_allclose(found[0, :8], image[:8], rtol=1e-6)
    assert not found[0, 8:24].any()


def test_activations_come_after_blending(tmp_path):
    image = volume(16, 20, 24)
    settings = {"activations": {"sheet": "sigmoid", "normals": "unit_norm"}}
    store = inferer(**settings)(image, TwoTargets(), tmp_path / "a.zarr")
    sheet, normals = logits(image, "sheet").sigmoid(), torch.nn.functional.normalize(logits(image, "normals"), dim=0)
    np.testing.assert_allclose(read(store / "sheet"), sheet.numpy(), atol=1e-5)
    np.testing.assert_allclose(read(store / "normals"), normals.numpy(), atol=1e-5)
    store = inferer(activations="softmax")(image, TwoConvolutions(channels=5), tmp_path / "b.zarr")
    np.testing.assert_allclose(read(store), logits(image).softmax(0).numpy(), atol=1e-5)


def test_data_types(tmp_path):
    image = volume(16, 20, 24)
    settings = {"activations": {"sheet": "sigmoid", "normals": "unit_norm"}, "output_dtype": "uint8"}
    store = inferer(**settings, component_order={"normals": "xyz"})(image, TwoTargets(), tmp_path / "a.zarr")
    sheet, normals = read(store / "sheet"), read(store / "normals")
    assert sheet.dtype == normals.dtype == np.uint8
    np.testing.assert_allclose(sheet / 255, logits(image, "sheet").sigmoid().numpy(), atol=0.5 / 255 + 1e-5)
    wanted = torch.nn.functional.normalize(logits(image, "normals"), dim=0).numpy()
    assert np.abs(normals.astype(int) - encode_vectors(wanted, "uint8", "xyz")).max() <= 1
    assert np.abs(decode_vectors(normals, "xyz") - wanted).max() < 2 / 255
    store = inferer(output_dtype={"sheet": "float16"})(image, TwoTargets(), tmp_path / "b.zarr")
    assert (read(store / "sheet").dtype, read(store / "normals").dtype) == (np.float16, np.float32)
    np.testing.assert_allclose(read(store / "sheet"), logits(image, "sheet").numpy(), rtol=1e-3, atol=1e-4)


def test_vectors_without_length_are_unknown(tmp_path):
    image = np.zeros((3, 8, 8, 8), np.float32)
    image[:, 4] = np.array([0, 3, -4.0])[:, None, None]
    settings = {**APART, "activations": "unit_norm", "output_dtype": "uint8", "mode": "constant"}
    found = read(inferer(**settings)(image, Identity(), tmp_path / "a.zarr"))
    assert not found[:, :4].any()
    assert found[:, 4, 0, 0].tolist() == [128, 204, 25]


def test_reductions(tmp_path):
    image = volume(16, 20, 24)
    store = inferer(reductions="argmax")(image, TwoConvolutions(channels=5), tmp_path / "a.zarr")
    found = read(store)
    assert found.dtype == np.uint8
    assert zarr.open(store)["0"].shape == image.shape
    values = logits(image)
    sure = values.topk(2, 0).values.diff(dim=0)[0].abs().numpy() > 1e-5
    np.testing.assert_array_equal(found[0][sure], values.argmax(0).numpy()[sure])
    settings = {"activations": {"sheet": "sigmoid"}, "reductions": {"sheet": "threshold:0.4", "normals": 0.1}}
    store = inferer(**settings)(image, TwoTargets(), tmp_path / "b.zarr")
    assert (read(store / "sheet") != (logits(image, "sheet").sigmoid() > 0.4).numpy()).mean() < 1e-3
    assert (read(store / "normals") != (logits(image, "normals") > 0.1).numpy()).mean() < 1e-3
    assert read(store / "normals").shape == (3, *image.shape)


def test_reductions_of_many_classes(tmp_path):
    image = np.zeros((300, 4, 4, 4), np.float32)
    image[299, :2] = 1
    store = inferer(**APART, reductions="argmax")(image, Identity(), tmp_path / "a.zarr")
    assert read(store).dtype == np.uint16
    assert (read(store)[0, :2] == 299).all()
    assert not read(store)[0, 2:].any()


def test_reduction_settings():
    values = torch.tensor([[0.2, 0.7], [0.3, 0.7]])
    assert read_reduction(None) is None
    assert read_reduction("none") is None
    assert read_reduction("argmax")(values).tolist() == [[1, 0]]
    assert read_reduction("threshold")(values).tolist() == [[False, True], [False, True]]
    assert read_reduction("threshold:0.25")(values).tolist() == read_reduction(0.25)(values).tolist()
    assert str(read_reduction(0.25)) == "threshold:0.25"


def test_metadata(tmp_path):
    image, size = volume(16, 20, 24), [0.5, 0.25, 0.125]
    group = zarr.open_group(str(tmp_path / "image.zarr"), mode="w")
    group.create_array("0", data=image)
    group.attrs.update(multiscale_attributes("0", size, False))
    store = inferer()(tmp_path / "image.zarr", TwoTargets(), tmp_path / "a.zarr")
    for name, channels in (("sheet", 1), ("normals", 3)):
        opened = open_volume(store / name)
        assert opened.shape == (channels, *image.shape)
        assert list(opened.voxel_size) == size
        assert opened.chunks == (8, 8, 8)
        stored = zarr.open(store)[name]
        assert stored["0"].ndim == (3 if channels == 1 else 4)
        axes = stored.attrs["ome"]["multiscales"][0]["axes"]
        assert [axis["name"] for axis in axes] == list("zyx" if channels == 1 else "czyx")
        assert stored["0"].metadata.zarr_format == 3
    settings = json.loads(zarr.open(store).attrs["settings"])
    assert (settings["roi_size"], settings["outputs"]["normals"]["channels"]) == ([8, 10, 12], 3)
    assert settings["source"]["address"] == str(tmp_path / "image.zarr")
    other = inferer(voxel_size=(3, 2, 1))(image, Identity(), tmp_path / "b.zarr")
    assert list(open_volume(other).voxel_size) == [3, 2, 1]
    unknown = inferer()(image, Identity(), tmp_path / "c.zarr")
    assert "unit" not in zarr.open(unknown).attrs["ome"]["multiscales"][0]["axes"][0]


def test_network_is_in_eval_mode_meanwhile_only(tmp_path):
    network = torch.nn.Sequential(TwoConvolutions(), torch.nn.Dropout(0.5)).train()
    first = read(inferer()(volume(9, 9, 9), network, tmp_path / "a.zarr"))
    assert network.training
    assert network[1].training
    np.testing.assert_array_equal(first, read(inferer()(volume(9, 9, 9), network, tmp_path / "b.zarr")))


@pytest.mark.parametrize("shown", [True, False])
def test_progress(tmp_path, capsys, shown):
    inferer(progress=shown)(volume(20, 9, 9), Identity(), tmp_path / "result.zarr")
    text = capsys.readouterr().err
    assert ("result.zarr: 100%" in text and "3/3" in text) is shown
