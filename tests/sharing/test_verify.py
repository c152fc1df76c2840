"""Every bundle passes every check; a bundle broken in one way fails the check for it and no other."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from broken_bundles import BUNDLES, NAMES, copy_bundle, edit, replace

from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.sharing.bundle import Bundle
from voxel_ext.sharing.checks_network import check_net_in_out, check_torchscript
from voxel_ext.sharing.checks_outcome import Check, format_checks
from voxel_ext.sharing.verify import EXECUTING, STATIC, verify_bundle

BROKEN = "worm_autoencoder"


def failures(root: Path, run_configs: bool | None = None) -> dict[str, str]:
    return {one.name: one.message for one in verify_bundle(root, run_configs=run_configs) if one.status == "failed"}


@pytest.mark.parametrize("name", NAMES)
def test_every_bundle_passes(name):
    checks = verify_bundle(BUNDLES / name, run_configs=False)
    assert [check.name for check in checks] == [*STATIC, *EXECUTING]
    assert not [check for check in checks if check.status == "failed"]
    open_questions = {check.name for check in checks if check.status != "passed"} - {"weights", *EXECUTING}
    assert open_questions == ({"ids", "properties"} if name == "em_clustering" else set())


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_what_the_metadata_say_and_can_be_exported(name):
    bundle = Bundle.open(BUNDLES / name)
    checks = [check_net_in_out(bundle), check_torchscript(bundle)]
    expected = "does not apply" if name == "em_clustering" else "passed"
    assert [check.status for check in checks] == [expected] * 2, checks


def remove(file: str) -> Callable[[Path], object]:
    return lambda root: (root / file).unlink()


def metadata(**values: object) -> Callable[[Path], object]:
    return lambda root: edit(root / "configs/metadata.json", lambda content: content.update(values))


def train(**values: object) -> Callable[[Path], object]:
    return lambda root: edit(root / "configs/train.json", lambda content: content.update(values))


def docs(old: str, new: str) -> Callable[[Path], object]:
    return lambda root: replace(root / "docs/README.md", old, new)


def config(file: str, change: Callable[[dict], object]) -> Callable[[Path], object]:
    return lambda root: edit(root / "configs" / file, change)


def rename_output_dir(root: Path) -> None:
    file = root / "configs/inference.json"
    file.write_text(file.read_text().replace("@output_dir", "@folder").replace('"output_dir": "$', '"folder": "$'))


WAYS = {
    "no licence": ("files", remove("LICENSE"), "LICENSE is missing"),
    "no docs of the data": ("sections", docs("\n## Data\n", "\n### Data\n"), "Model, Commands.*expected Model, Data"),
    "space in a name": ("names", lambda root: (root / "docs/a b.png").touch(), "'docs/a b.png'"),
    "version of two numbers": (
        "names",
        metadata(version="0.2", changelog={"0.2": "second", "0.1.0": "first"}),
        "version='0.2' must be three numbers",
    ),
    "path of one machine": ("names", config("inference.json", lambda c: c.update(output_dir="/home/me")), "/home/me"),
    "logging of nothing": (
        "logging",
        lambda root: replace(root / "configs/logging.conf", "keys=consoleHandler", "keys=file"),
        r"\[handlers\] names file",
    ),
    "logging that runs code": (
        "logging",
        lambda root: replace(root / "configs/logging.conf", "class=StreamHandler", "class=eval"),
        "class='eval'",
    ),
    "shape that is no list": (
        "metadata",
        config("metadata.json", lambda c: c["network_data_format"]["inputs"]["image"].update(spatial_shape=32)),
        "network_data_format#inputs#image#spatial_shape: 32 is not of type 'array'",
    ),
    "no authors": ("metadata", config("metadata.json", lambda c: c.pop("authors")), "'authors' is a required"),
    "version not in the changelog": ("changelog", metadata(version="0.2.0"), "'0.2.0' is not in the changelog"),
    "oldest first": (
        "changelog",
        metadata(version="0.2.0", changelog={"0.1.0": "first", "0.2.0": "second"}),
        "0.1.0, 0.2.0; expected the newest version first",
    ),
    "not the newest": ("changelog", metadata(changelog={"0.3.0": "x", "0.1.0": "y"}), "older than 0.3.0"),
    "package not listed": (
        "packages",
        config("metadata.json", lambda c: c["required_packages_version"].pop("pytorch-ignite")),
        "lacks pytorch-ignite",
    ),
    "voxel_ext not listed": (
        "packages",
        config("metadata.json", lambda c: c["required_packages_version"].pop("voxel_ext")),
        "lacks voxel_ext",
    ),
    "voxel_ext too old": (
        "packages",
        config("metadata.json", lambda c: c["required_packages_version"].update(voxel_ext="99.0.0")),
        "99.0.0",
    ),
    "two lists of packages": ("packages", metadata(optional_packages_version={"dask": "2026.8.0"}), "is lost"),
    "output folder of another name": ("ids", rename_output_dir, "inference.json: output_dir is missing"),
    "inferer not by its id": (
        "properties",
        config("train.json", lambda c: c["validate"]["evaluator"].update(inferer="@train#inferer")),
        "'val_inferer'",
    ),
    "handlers that MONAI cannot read": (
        "properties",
        config("train.json", lambda c: c["train"]["handlers"].append("@validate#handlers#0")),
        r"\['@validate#handlers#0'\]",
    ),
    "overlay of a misspelled id": (
        "overlays",
        config("variants/cnn.json", lambda c: c.update(grup="x")),
        "variants/cnn.json: grup is no id of .*did you mean group",
    ),
    "overlay of a missing handler": (
        "overlays",
        config("multi_gpu_train.json", lambda c: c.update({"train#handlers#99#_disabled_": True})),
        "multi_gpu_train.json: train#handlers#99#_disabled_",
    ),
    "overlay of nothing": (
        "overlays",
        lambda root: (root / "configs/variants/other.json").write_text('{"nothing": 1}'),
        "other.json: none of its ids",
    ),
    "overlay that is no config": (
        "bundle",
        lambda root: (root / "configs/variants/cnn.json").write_text("{"),
        "cnn.json is not a config file",
    ),
    "list in place of ids": (
        "bundle",
        lambda root: (root / "configs/train.json").write_text("[]"),
        "train.json .* list",
    ),
    "reference to a missing id": (
        "references",
        config("inference.json", lambda c: c["evaluator"].update(device="@devise")),
        "inference.json: evaluator#device: @devise is no id; did you mean device",
    ),
    "reference in an expression": (
        "references",
        config("evaluate.json", lambda c: c["run"].append("$print(@nothing_like_it)")),
        "@nothing_like_it is no id",
    ),
    "reference to itself": ("references", train(seed="$@epochs", epochs="$@seed"), "@seed needs @epochs needs @seed"),
    "macro of a missing file": (
        "references",
        config("inference.json", lambda c: c["evaluator"].update(device="%configs/other.json#device")),
        "other.json, which is not in the bundle",
    ),
    "misspelled argument": (
        "components",
        config("inference.json", lambda c: c["evaluator"].update(val_handler=[])),
        "inference.json: evaluator: .*SupervisedEvaluator: .*'val_handler'",
    ),
    "missing target": (
        "components",
        config("inference.json", lambda c: c["evaluator"].update(_target_="SupervisedEvaluatr")),
        "evaluator: _target_='SupervisedEvaluatr'",
    ),
    "target missing in a package": (
        "components",
        config("inference.json", lambda c: c["network_def"].update(_target_="voxel_ext.networks.nets.Unet")),
        "there is no 'Unet' in voxel_ext.networks.nets",
    ),
    "unknown name": (
        "expressions",
        config("inference.json", lambda c: c["run"].append("$pathlib.Path('x')")),
        "run#.*'pathlib' is neither imported nor an id",
    ),
    "undocumented setting": ("settings", train(new_setting=3, settings={"x": "@new_setting"}), "`new_setting`.* is 3"),
    "wrong default": (
        "defaults",
        docs("| `epochs` | 50 |", "| `epochs` | 60 |"),
        "`epochs` is given as 60; .* 50",
    ),
    "setting that is gone": (
        "defaults",
        docs("| `epochs` |", "| `epoches` | 1 | |\n| `epochs` |"),
        "`epoches` is in no",
    ),
    "option that is gone": ("commands", docs("--cells_per_epoch 2000", "--cells 2000"), "option='cells' is not known"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_bundle_broken_in_one_way_fails_one_check(way, tmp_path):
    name, break_it, message = WAYS[way]
    root = copy_bundle(BROKEN, tmp_path)
    break_it(root)
    found = failures(root)
    assert list(found) == [name], found
    assert re.search(message, found[name]), found[name]


def test_an_unbroken_copy_fails_nothing_and_is_not_run(tmp_path):
    root = copy_bundle(BROKEN, tmp_path)
    checks = verify_bundle(root)
    assert {check.name for check in checks if check.status == "skipped"} == {"weights", *EXECUTING}
    assert checks[-1].message == "give --run_configs true if you trust this bundle"
    assert not failures(root)


def test_a_bundle_with_a_network_needs_its_inference(tmp_path):
    root = copy_bundle(BROKEN, tmp_path)
    (root / "configs/inference.json").unlink()
    assert "configs/inference.json is missing" in failures(root)["files"]


def test_weights_are_named(tmp_path):
    root = copy_bundle(BROKEN, tmp_path)
    (root / "models").mkdir()
    (root / "models/model.pt").touch()
    assert Check("weights", "passed", "models/model.pt") in verify_bundle(root)


def test_no_code_of_a_foreign_bundle_runs_unless_asked(tmp_path, monkeypatch):
    root = copy_bundle(BROKEN, tmp_path)
    trace = tmp_path / "trace"
    write = f"open({str(trace)!r}, 'w').close()"
    (root / "hostile.py").write_text(write)
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(root))

    def poison(content: dict) -> None:
        content["imports"] += ["$import hostile", "$from hostile import name"]
        content["bundle_root"] = f"$[{write}, '.'][1]"
        content["network_def"] = {"_target_": "hostile.Network", "size": f"${write}"}
        content["initialize"] = [f"${write}", "$hostile.run()", f"$exec({write!r})", *content["initialize"]]

    edit(root / "configs/inference.json", poison)
    edit(root / "configs/variants/cnn.json", lambda content: content.update(group=f"${write}"))
    verify_bundle(root)
    verify_bundle(root, run_configs="false")  # as the command line gives it
    with pytest.raises(InvalidInputError, match="run_configs"):
        verify_bundle(root, run_configs="maybe")
    assert not trace.exists()
    failed = failures(root, run_configs=True)
    assert trace.exists()
    assert "network" in failed


def test_a_packed_bundle_is_verified_and_not_run(tmp_path):
    from voxel_ext.sharing.pack import pack_bundle

    root = copy_bundle("em_clustering", tmp_path)
    pack_bundle(root, tmp_path / "packed.zip", export=False)
    checks = verify_bundle(tmp_path / "packed.zip")
    assert not [check for check in checks if check.status == "failed"]
    assert [check.status for check in checks if check.name in EXECUTING] == ["skipped"] * 2


STRANGE = {
    "+ on a text": ("configs/variants/strange.json", {"+device": ["cpu"]}, "'+device' does not fit configs/"),
    "optional packages": ("configs/metadata.json", {"optional_packages_version": 5}, "version=5 must be an object"),
    "handlers": ("configs/train.json", {"train": {"handlers": 5}}, "properties: the check could not be finished"),
    "levels": ("configs/train.json", {"x": json.loads("[" * 200 + "]" * 200)}, "more than 100 levels"),
}


@pytest.mark.parametrize("way", STRANGE)
def test_strange_configs_are_failures(way, tmp_path):
    file, change, message = STRANGE[way]
    root = copy_bundle(BROKEN, tmp_path)
    if not (root / file).exists():
        (root / file).write_text("{}")
    edit(root / file, lambda content: content.update(change))
    assert message in "\n".join(f"{name}: {text}" for name, text in failures(root).items())


def test_a_pipe_in_the_place_of_a_config_is_not_read(tmp_path):
    root = copy_bundle("em_clustering", tmp_path)
    os.mkfifo(root / "configs" / "pipe.yaml")
    assert "pipe.yaml does not exist or is no file" in failures(root)["bundle"]


def test_a_truncated_archive_is_named_so(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(InvalidInputError, match=r"a\.zip cannot be read as a zip file"):
        verify_bundle(tmp_path / "a.zip")


def test_what_controls_a_terminal_is_not_printed():
    table = format_checks([Check("ids", "failed", "\x1b[2Jpassed \u202e \ud800")])
    assert table.splitlines()[0] == r"failed  ids  \x1b[2Jpassed \u202e \ud800"


@pytest.mark.parametrize("path", ["nowhere", "empty"])
def test_what_is_no_bundle_is_an_error(path, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match=path):
        verify_bundle(tmp_path / path)


def test_the_table_counts_what_it_lists():
    checks = [
        Check("files", "passed", "all"),
        Check("names", "failed", "1\n2"),
        Check("weights", "skipped", "none"),
    ]
    assert format_checks(checks).splitlines() == [
        "passed   files    all",
        "failed   names    1",
        "                  2",
        "skipped  weights  none",
        "",
        "1 passed, 1 failed, 1 skipped",
    ]
