"""Every bundle's network exports by MONAI's commands to files that compute the same."""

import json
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, verify_net_in_out

from voxel_ext.errors import CheckpointError, InvalidInputError, MissingDataError
from voxel_ext.sharing import export
from voxel_ext.sharing.bundle import METADATA, Bundle
from voxel_ext.sharing.export import export_network

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
SMALL = {
    "cell_labeling": ({"f_maps": 4, "num_levels": 2, "num_groups": 2}, [4, 8, 8]),
    "em_contrastive": ({"average_turns": False, "width": 1 / 64, "projector_size": 8, "predictor_size": 4}, [8, 8, 8]),
    "em_point_cloud_autoencoder": ({"channels": [8, 8], "decoder_channels": [8], "num_points": 20}, [3]),
    "em_shape_vae": ({"filters": [4, 8], "size": 8}, [8, 8, 8]),
    "neuron_segmentation": ({"f_maps": 4, "num_levels": 2, "num_groups": 2}, [4, 8, 8]),
    "optic_lobe_segmentation": ({"depth": 2, "start_channels": 2}, ["2*n", "2*n", "2*n"]),
    "surface_multitask": ({"f_maps": [4, 8], "num_groups": 2}, [4, 8, 8]),
    "worm_autoencoder": ({"features": [2, 3]}, [8, 8, 8]),
    "worm_matching": ({"features": [2, 3], "hidden": 8, "grid": 2}, [16, 16, 16]),
}
"""Settings that make the networks small, and a spatial shape to go with them."""


def build(bundle, **overrides):
    """The network of a bundle's inference, with random weights and batch statistics."""
    opened = Bundle.open(bundle)
    parser = ConfigParser()
    parser.read_config(str(opened.configs["inference"]))
    parser.read_meta(str(opened.root / METADATA))
    parser.update({"bundle_root": str(bundle), **overrides})
    torch.manual_seed(0)
    network = parser.get_parsed_content(opened.network_id).eval()
    for module in network.modules():
        if getattr(module, "running_var", None) is not None:
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return network


def small_bundle(name, folder):
    """A copy of a bundle's configs with a small input in the metadata, and weights of its small network."""
    settings, shape = SMALL[name]
    shutil.copytree(BUNDLES / name / "configs", folder / "configs")
    metadata = json.loads((folder / METADATA).read_text())
    metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] = shape
    (folder / METADATA).write_text(json.dumps(metadata))
    (folder / "models").mkdir()
    network = build(folder, **settings)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return network, settings


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae") / "bundle"
    return folder, *small_bundle("em_shape_vae", folder)


@pytest.mark.parametrize("name", SMALL)
def test_exported_files_compute_the_same(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network, settings = small_bundle(name, tmp_path / "bundle")
    script, graph = export_network(tmp_path / "bundle", tmp_path / "out", overrides=settings)
    assert (script.format, script.reason) == ("torchscript", "scripted")
    assert graph.reason.startswith("free sizes: batch")
    assert script.path == tmp_path / "out" / "model.ts"
    for path in (sysconfig.get_path("purelib"), f"{BUNDLES.parent}/", f"{tmp_path}/"):
        assert path.encode() not in graph.path.read_bytes()
    assert graph.path == tmp_path / "out" / "model.onnx"
    stored, session = torch.jit.load(script.path), onnxruntime.InferenceSession(graph.path)
    assert [value.name for value in (*session.get_inputs(), *session.get_outputs())] == ["image", "pred"]
    channels, *shape = session.get_inputs()[0].shape[1:]
    for batch, free in ((1, 8), (4, 12)):
        image = torch.rand(batch, channels, *(free if isinstance(size, str) else size for size in shape))
        with torch.no_grad():
            expected = network(image)
            torch.testing.assert_close(stored(image), expected, rtol=1e-5, atol=1e-5)
        output = torch.from_numpy(session.run(["pred"], {"image": image.numpy()})[0])
        torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-4)
    assert script.difference < 1e-6
    assert graph.difference < 1e-4


@pytest.mark.parametrize("name", SMALL)
def test_network_in_and_out_agree_with_the_metadata(name):
    opened = Bundle.open(BUNDLES / name)
    check = {"meta_file": str(opened.root / METADATA), "config_file": str(opened.configs["inference"]), "device": "cpu"}
    shape = {"_meta_#network_data_format#inputs#image#spatial_shape": [32, 32, 32]}
    shape = shape if len(opened.metadata["network_data_format"]["inputs"]["image"]["spatial_shape"]) == 3 else {}
    verify_net_in_out(opened.network_id, **check, **shape, bundle_root=str(opened.root))
    wrong = {"_meta_#network_data_format#outputs#pred#num_channels": 7}
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out(opened.network_id, **check, **shape, **wrong, bundle_root=str(opened.root))


def test_a_bundle_without_a_network(tmp_path):
    for result in export_network(BUNDLES / "em_clustering", tmp_path):
        assert result.path is None
        assert result.reason == "the bundle has no network"


def test_what_cannot_be_is_a_reason_and_leaves_no_file(vae, tmp_path, monkeypatch):
    bundle, _, settings = vae
    (tmp_path / "model.ts").write_text("of another network")
    (wrong,) = export_network(bundle, tmp_path, formats=["torchscript"], tolerance=-1.0, overrides=settings)
    assert not (tmp_path / "model.ts").exists()
    assert wrong.path is None
    assert "differs from the network's by" in wrong.reason

    def fail(*arguments, **options):
        raise RuntimeError("no such operator\nand more")

    script = torch.jit.script
    refuse = lambda code, **options: fail() if isinstance(code, torch.nn.Module) else script(code, **options)  # noqa: E731
    monkeypatch.setattr(torch.jit, "script", refuse)
    (traced,) = export_network(bundle, tmp_path / "traced", formats=["torchscript"], overrides=settings)
    assert traced.reason == "traced; cannot be scripted: RuntimeError: no such operator"
    assert traced.path is not None
    monkeypatch.setattr(torch.jit, "trace", fail)
    monkeypatch.setattr(torch.onnx, "export", fail)
    script, graph = export_network(bundle, tmp_path, overrides=settings)
    assert "scripted: RuntimeError: no such operator; cannot be traced" in script.reason
    assert "cannot be exported: RuntimeError: no such operator" in graph.reason
    assert [path.name for path in tmp_path.iterdir()] == ["traced"]


def test_an_option_that_is_not_installed_is_a_reason(vae, tmp_path, monkeypatch):
    bundle, _, settings = vae
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    (graph,) = export_network(bundle, tmp_path, formats=["onnx"], overrides=settings)
    assert graph.path is None
    assert "voxel_ext[export]" in graph.reason


def test_a_network_that_needs_more_than_the_image(tmp_path):
    bundle, overrides = tmp_path / "bundle", {"inputs": "positions", "attention_layers": 0}
    (tmp_path / "model.onnx").write_text("of another network")
    shutil.copytree(BUNDLES / "worm_matching" / "configs", bundle / "configs")
    torch.save(build(bundle, **overrides).state_dict(), tmp_path / "model.pt")
    for result in export_network(bundle, tmp_path, checkpoint=tmp_path / "model.pt", overrides=overrides):
        assert result.path is None
        assert "it takes:  positions" in result.reason
    assert not (tmp_path / "model.onnx").exists()


def test_a_variant_of_another_shape_and_an_output_that_is_no_tensor(tmp_path):
    bundle, meta = tmp_path / "bundle", "_meta_#network_data_format#inputs#image#spatial_shape"
    settings = small_bundle("optic_lobe_segmentation", bundle)[1]
    flat = settings | {"spatial_dims": 2}
    torch.save(build(bundle, **flat).state_dict(), bundle / "models" / "model.pt")
    (wrong,) = export_network(bundle, tmp_path, formats=["torchscript"], overrides=flat)
    assert "does not take the metadata's image alone: RuntimeError" in wrong.reason
    wanted = {"formats": ["torchscript"], "variants": ["two_dimensional"]}
    (right,) = export_network(bundle, tmp_path, **wanted, overrides=settings | {meta: ["2*n", "2*n"]})
    assert torch.jit.load(right.path)(torch.zeros(1, 1, 4, 6)).shape == (1, 1, 4, 6)
    levels = {"inputs": "cubes", "attention_layers": 0, "feature_levels": [0], "features": [2, 3], "hidden": 4}
    levels |= {"grid": 2, meta: [8, 8, 8]}
    torch.save(build(BUNDLES / "worm_matching", **levels).state_dict(), tmp_path / "model.pt")
    for result in export_network(
        BUNDLES / "worm_matching", tmp_path, checkpoint=tmp_path / "model.pt", overrides=levels
    ):
        assert "the network's output is a list" in result.reason


def test_bad_input(vae, tmp_path):
    bundle, _, settings = vae
    with pytest.raises(MissingDataError, match="no bundle"):
        export_network(tmp_path, tmp_path)
    with pytest.raises(MissingDataError, match=r"nowhere\.pt"):
        export_network(bundle, tmp_path, checkpoint=tmp_path / "nowhere.pt", overrides=settings)
    with pytest.raises(CheckpointError, match="another architecture"):
        export_network(bundle, tmp_path)
    with pytest.raises(InvalidInputError, match=r"format='onxx'.*Did you mean 'onnx'"):
        export_network(bundle, tmp_path, formats=["onxx"])
    with pytest.raises(InvalidInputError, match=r"variant='nothing'.*'published'"):
        export_network(bundle, tmp_path, variants=["nothing"])
    with pytest.raises(InvalidInputError, match="squeeze_excitation='no'"):
        export_network(bundle, tmp_path, overrides={"squeeze_excitation": "no"})
    assert export._difference([torch.tensor([torch.nan])], [torch.zeros(1)]) == float("inf")
