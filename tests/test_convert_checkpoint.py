"""Converting checkpoints of pytorch-3dunet: what is inferred, what is refused, and that no code is executed."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from voxel_ext.cli import main
from voxel_ext.convert import convert_checkpoint, read_state_dict
from voxel_ext.errors import CheckpointError, InvalidInputError, MissingDataError
from voxel_ext.handlers.weights import load_weights
from voxel_ext.networks.nets.unet3d_factory import unet3d_network

FLAT = {"kernel_size": [1, 3, 3], "pool_size": [1, 2, 2]}


def network_of(architecture: str = "unet3d", **settings: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    chosen = {"in_channels": 2, "out_channels": 3, "f_maps": [8, 16, 24], "num_groups": 4, **settings}
    return unet3d_network(architecture, **chosen).eval()


def save(path: Path, weights: Any, **others: Any) -> Path:
    torch.save({"num_iterations": 7, "model_state_dict": weights, **others}, path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "best_checkpoint.pytorch", network_of().state_dict())


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("unet3d", {"layer_order": "gcr", "flavor": "flavell"}),
        ("unet3d", {"layer_order": "cl", "flavor": "wolny", "f_maps": [6, 6]}),
        ("unet3d", {"layer_order": "bcr", "in_channels": 8, "f_maps": [8, 8], **FLAT}),
        ("residual_unet3d", {"layer_order": "cge", "flavor": "flavell"}),
        ("residual_unet3d", {"layer_order": "gce", "flavor": "wolny"}),
        ("residual_unet3d", {"layer_order": "cgbr", "flavor": "wolny", "in_channels": 8}),
        ("residual_unet3d", {"layer_order": "crg", "flavor": "wolny-1.4", **FLAT}),
        ("residual_unet_se3d", {"layer_order": "gcr", "flavor": "wolny", "kernel_size": 5}),
    ],
)
def test_settings_and_outputs_are_those_of_the_network(
    architecture: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    network = network_of(architecture, **settings)
    source = save(tmp_path / "a.pytorch", network.state_dict())
    wanted = {name: settings.get(name) for name in ("layer_order", "flavor")}
    found = asdict(convert_checkpoint(source, tmp_path / "models" / "model.pt", num_groups=4, **wanted))
    assert found == json.loads((tmp_path / "models" / "model.json").read_text(encoding="utf-8"))
    kernel = settings.get("kernel_size", 3)
    expected = {"in_channels": 2, "out_channels": 3, "f_maps": [8, 16, 24], "num_groups": 4, **settings}
    expected |= {"architecture": architecture, "kernel_size": [kernel] * 3 if isinstance(kernel, int) else kernel}
    assert {name: found[name] for name in expected} == expected
    x = torch.randn(1, found["in_channels"], 4, 8, 8)
    loaded = load_weights(tmp_path / "models" / "model.pt", unet3d_network(**found)).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), network(x), rtol=0, atol=0)


def test_bare_state_dict_with_module_prefix(tmp_path: Path) -> None:
    network = network_of()
    weights = OrderedDict((f"module.{name}", value) for name, value in network.state_dict().items())
    torch.save(weights, tmp_path / "a.pytorch")
    read = read_state_dict(tmp_path / "a.pytorch")
    assert list(read) == list(network.state_dict())
    assert convert_checkpoint(tmp_path / "a.pytorch", tmp_path / "a.pt").f_maps == [8, 16, 24]


@pytest.mark.parametrize("architecture", ["unet3d", "residual_unet3d"])
def test_two_dimensional_networks_become_flat(architecture: str, tmp_path: Path) -> None:
    network = network_of(architecture, flavor="wolny", **FLAT)
    weights = {name: value.squeeze(2) if value.ndim == 5 else value for name, value in network.state_dict().items()}
    found = convert_checkpoint(save(tmp_path / "a.pytorch", weights), tmp_path / "a.pt", num_groups=4)
    assert (found.kernel_size, found.pool_size) == ([1, 3, 3], [1, 2, 2])
    loaded = load_weights(tmp_path / "a.pt", unet3d_network(**asdict(found))).eval()
    x = torch.randn(1, 2, 1, 8, 12)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), network(x), rtol=0, atol=0)


def test_transposed_convolutions_without_bias_get_the_bias_zero(tmp_path: Path) -> None:
    network = network_of("residual_unet3d", flavor="wolny-1.4")
    weights = network.state_dict()
    biases = [name for name in weights if name.endswith("upsample.bias")]
    assert len(biases) == 2
    source = save(tmp_path / "a.pytorch", {name: value for name, value in weights.items() if name not in biases})
    found = convert_checkpoint(source, tmp_path / "a.pt")
    assert found.flavor == "wolny-1.4"
    written = torch.load(tmp_path / "a.pt", weights_only=True)
    assert all(written[name].abs().sum() == 0 for name in biases)


def test_place_of_the_norm_does_not_depend_on_the_order_of_the_names(tmp_path: Path) -> None:
    weights = dict(sorted(network_of(layer_order="gce").state_dict().items()))
    source = save(tmp_path / "a.pytorch", weights)
    assert convert_checkpoint(source, tmp_path / "a.pt", layer_order="gce").layer_order == "gce"
    with pytest.raises(InvalidInputError, match=r"contradicts.*'gc'"):
        convert_checkpoint(source, tmp_path / "a.pt", layer_order="cge")


def test_what_the_file_does_not_show_is_said(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = convert_checkpoint(source, source.with_suffix(".pt"))
    assert (found.layer_order, found.num_groups) == ("gcr", 8)
    assert "num_groups; took 8" in caplog.text
    assert "layer_order='gcr'" in caplog.text


def numpy_1(path: Path) -> None:
    """Give the NumPy numbers in a file the module name that NumPy 1 wrote."""
    with zipfile.ZipFile(path) as archive:
        content = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in content.items():
            archive.writestr(info, data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert b"numpy.core.multiarray" in path.read_bytes()


@pytest.mark.parametrize("number", [np.float64(0.5), np.float32(0.25), np.int64(3), np.bool_(True)])
@pytest.mark.parametrize("old", [False, True])
def test_numpy_numbers_beside_the_weights(number: Any, old: bool, tmp_path: Path) -> None:
    source = save(tmp_path / "a.pytorch", network_of().state_dict(), best_eval_score=number)
    if old:
        numpy_1(source)
    assert convert_checkpoint(source, tmp_path / "a.pt").num_levels == 3


class Malicious:
    """Creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("plain", [False, True])
def test_code_in_the_file_is_not_executed(plain: bool, tmp_path: Path) -> None:
    trap, source = tmp_path / "trap", tmp_path / "a.pytorch"
    content = {"model_state_dict": network_of().state_dict(), "best_eval_score": Malicious(trap)}
    if plain:
        source.write_bytes(pickle.dumps(content["best_eval_score"], protocol=2))
    else:
        torch.save(content, source)
    with pytest.raises(CheckpointError, match="would execute code"):
        convert_checkpoint(source, tmp_path / "a.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pytorch"]
    if plain:
        pickle.loads(source.read_bytes()).close()  # the trap works
        assert trap.exists()


def test_objects_inside_numpy_numbers_are_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pytorch", network_of().state_dict(), best_eval_score=np.array([None]))
    with pytest.raises(CheckpointError, match="would execute code"):
        convert_checkpoint(source, tmp_path / "a.pt")


def test_the_numpy_globals_are_allowed_only_while_reading(source: Path) -> None:
    read_state_dict(source)
    assert "numpy" not in str(torch.serialization.get_safe_globals())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {name: value for name, value in w.items() if not name.startswith("final")}, "not a network of"),
        (lambda w: {"layer.weight": torch.zeros(2)}, "found layer.weight"),
        (lambda w: {name: value for name, value in w.items() if "decoders.1." not in name}, "missing: decoders.1"),
        (lambda w: {**w, "extra.weight": torch.zeros(2)}, "1 unexpected: extra.weight"),
        (lambda w: {}, "holds no network weights"),
        (lambda w: {"final_conv.weight": 3}, "holds no network weights"),
        (lambda w: [1, 2], "holds no network weights"),
    ],
)
def test_foreign_weights(change: Any, message: str, tmp_path: Path) -> None:
    source = save(tmp_path / "a.pytorch", change(dict(network_of().state_dict())))
    with pytest.raises(CheckpointError, match=message):
        convert_checkpoint(source, tmp_path / "a.pt")
    assert not (tmp_path / "a.pt").exists()
    assert not (tmp_path / "a.json").exists()


def test_damaged_and_missing_files(source: Path, tmp_path: Path) -> None:
    whole = source.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        source.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"best_checkpoint.pytorch cannot be read"):
            convert_checkpoint(source, tmp_path / "a.pt")
    with pytest.raises(MissingDataError, match=r"nothing.pytorch"):
        convert_checkpoint(tmp_path / "nothing.pytorch", tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer_order": "gcx"}, "layer_order='gcx'"),
        ({"layer_order": "bcr"}, "contradicts.*'gc'"),
        ({"num_groups": 5}, "num_groups=5 does not divide"),
        ({"pool_size": 2.5}, "pool_size=2.5"),
        ({"flavor": "wolni"}, "Did you mean 'wolny'"),
    ],
)
def test_options_that_are_not_valid(settings: dict[str, Any], message: str, source: Path) -> None:
    with pytest.raises(InvalidInputError, match=message):
        convert_checkpoint(source, source.with_suffix(".pt"), **settings)
    assert not source.with_suffix(".json").exists()


def test_norm_behind_the_convolution_needs_the_order(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pytorch", network_of(layer_order="crg").state_dict())
    with pytest.raises(InvalidInputError, match=r"order 'cg'.*give layer_order"):
        convert_checkpoint(source, tmp_path / "a.pt")
    assert convert_checkpoint(source, tmp_path / "a.pt", layer_order="crg").layer_order == "crg"


def test_weights_are_a_plain_state_dict(source: Path, tmp_path: Path) -> None:
    found = convert_checkpoint(source, tmp_path / "a.pt", num_groups=4)
    unet3d_network(**asdict(found)).load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))


def test_flavor_that_contradicts_a_residual_network(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pytorch", network_of("residual_unet3d", flavor="wolny").state_dict())
    with pytest.raises(InvalidInputError, match=r"'flavell' contradicts.*'wolny'"):
        convert_checkpoint(source, tmp_path / "a.pt", flavor="flavell")


def test_outputs_that_would_overwrite_the_input_or_each_other(source: Path) -> None:
    before = source.read_bytes()
    for target in (source, source.with_suffix(".json")):
        with pytest.raises(InvalidInputError, match="another file than the input"):
            convert_checkpoint(source, target)
    assert source.read_bytes() == before


def test_a_failure_to_write_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("voxel_ext.handlers.weights.torch.save", fail)
    with pytest.raises(OSError, match=r"cannot write .*a.pt"):
        convert_checkpoint(source, tmp_path / "a.pt")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_command(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert_checkpoint", str(source), str(tmp_path / "m.pt"), "--num_groups", "4", "--pool_size=1,2,2"]
    assert main(words) == 0
    assert capsys.readouterr().out == ""
    found = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert (found["num_groups"], found["pool_size"]) == (4, [1, 2, 2])


def test_command_reports_an_error_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert_checkpoint", str(tmp_path / "no.pytorch"), str(tmp_path / "m.pt")]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "no.pytorch" in lines[0]


@pytest.mark.parametrize("surplus", [["--num_grups", "4"], ["another"], ["--num_groups"]])
def test_command_does_nothing_on_words_it_does_not_know(surplus: list[str], source: Path, tmp_path: Path) -> None:
    assert main(["convert_checkpoint", str(source), str(tmp_path / "m.pt"), *surplus]) == 2
    assert not (tmp_path / "m.pt").exists()


def test_help_names_what_the_file_does_not_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert_checkpoint", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--num_groups" in text
    assert "not seen in the file" in text
