"""Expressions are judged without being evaluated."""

from pathlib import Path

import pytest

from voxel_ext.sharing.checks_components import full_name, locate
from voxel_ext.sharing.checks_expressions import import_of, imported, problems_of
from voxel_ext.sharing.checks_modules import UNKNOWN, binding_problem, find_module, follow

IMPORTS = ["$import os", "$import voxel_ext", "$import voxel_ext.data", "$from monai.data import Dataset as Set"]


def problems(text: str) -> list[str]:
    return problems_of(text, imported(IMPORTS), Path("/nowhere"))


@pytest.mark.parametrize(
    "text",
    [
        "$@a + '/b'",
        "$[64] * @spatial_dims",
        "$lambda engine: -engine.state.metrics['val_loss']",
        "$sum(v['label'].mean() for v in @volumes if v)",
        "$[w for v in @a for w in v] + [y := 1, y]",
        "$os.path.join(@a, 'b')",
        "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "$np.uint8",
        "$Set(@a, transform=None)",
        "$voxel_ext.workflow.switch('a', @a)",
        "$voxel_ext.data.volume_name",
        "$@network_def.to(device=@device)",
        "$print(*@a, **@b)",
        "$import os.path",
        "$from monai.data import Dataset",
    ],
)
def test_good_expressions(text):
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$@a +", "is not an expression"),
        ("$a = 1", "is not an expression"),
        ("$(" * 300 + ")" * 300, "is not an expression"),
        ("$x\0", "is not an expression"),
        ("$json.loads(@a)", "'json' is neither imported nor an id"),
        ("$[v for v in w]", "'w' is neither"),
        ("$lambda v: v + w", "'w' is neither"),
        ("$torch.devise('cpu')", "no 'devise' in torch.devise"),
        ("$voxel_ext.data.nothing", "no 'nothing' in voxel_ext.data.nothing"),
        ("$voxel_ext.workflow.swich('a', @a)", "no 'swich'"),
        ("$voxel_ext.workflow.switch('a')", "missing a required argument: 'value'"),
        ("$voxel_ext.workflow.switch('a', valeu=@a)", "missing a required argument: 'value'.*takes name, value"),
        ("$voxel_ext.workflow.switch('a', @a, @b)", "too many positional"),
        ("$Set(data=@a, transfrom=None)", "unexpected keyword argument 'transfrom'"),
        ("$import no_such_package", "no package 'no_such_package'"),
        ("$import monai.no_such_module", "no module 'monai.no_such_module'"),
        ("$from monai.data import Nothing", "no 'Nothing' in monai.data"),
    ],
)
def test_bad_expressions(text, message):
    import re

    assert re.search(message, "\n".join(problems(text)))


def test_imports_are_known_by_the_name_that_monai_gives_them():
    assert import_of("$import a.b") == ("a.b", "", "a.b")
    assert import_of("$import a.b as c, d") == ("a.b", "", "c")
    assert import_of("$from a import b") == ("a", "b", "b")
    assert import_of("$a.b") is None
    assert imported(["$import os.path"]).keys() == {"monai", "torch", "np", "numpy", "os.path"}
    assert problems_of("$os.path.join('a')", imported(["$import os.path"]), Path("/nowhere"))


def test_only_packages_that_are_needed_anyway_are_imported(tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_module("stranger") is None
    assert find_module("antigravity") is None
    assert find_module("voxel_ext.__main__") is None
    assert problems_of("$import stranger", {}, Path("/nowhere")) == []
    assert locate("stranger.Network", Path("/nowhere")) == (UNKNOWN, "")


def test_components_are_found_by_short_and_long_names(tmp_path):
    import torch
    from monai.data import Dataset

    assert full_name("Dataset") == "monai.data.dataset.Dataset"
    assert locate("Dataset", tmp_path) == (Dataset, "")
    assert locate("torch.nn.Linear", tmp_path) == (torch.nn.Linear, "")
    assert locate("torch.nn.Nothing", tmp_path)[1] == "there is no 'Nothing' in torch.nn"
    assert "there is no Nothing in MONAI" in locate("Nothing", tmp_path)[1]
    assert full_name("$@model.forward") == ""
    (tmp_path / "scripts").mkdir()
    assert locate("scripts.network.Mine", tmp_path) == (UNKNOWN, "")


def test_arguments_are_bound_where_they_are_known():
    import torch

    assert binding_problem(torch.nn.Linear, 0, ["in_features", "out_features"]) == ""
    assert "out_features" in binding_problem(torch.nn.Linear, 0, ["in_features"])
    assert binding_problem(torch.nn.Linear, 0, ["in_features"], partial=True) == ""
    assert "unexpected" in binding_problem(torch.nn.Linear, 0, ["width"], partial=True)
    assert binding_problem(torch.float32, 0, ["a"]) == ""
    assert follow(torch, ["nn", "Linear", "forward"]) == (torch.nn.Linear.forward, "")
    assert follow(torch, ["float32", "anything"]) == (UNKNOWN, "")
