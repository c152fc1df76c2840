"""Packing a bundle."""

import errno
import json
import logging
import os
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packed_bundles import INFERENCE, ROOT, little_bundle, of_this_machine, random_weights, write

from voxel_ext.errors import CheckpointError, InvalidInputError, MissingDataError, MissingDependencyError
from voxel_ext.sharing import archive, pack
from voxel_ext.sharing.archive import unpack_bundle
from voxel_ext.sharing.manifest import Manifest
from voxel_ext.sharing.pack import pack_bundle

WHEEL = "voxel_ext-0.1.0-py3-none-any.whl"


@pytest.fixture(autouse=True)
def wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the place of the wheel, which takes seconds to build and has its own tests."""
    monkeypatch.setattr(pack, "build_wheel", lambda folder: write(folder / WHEEL, "wheel"))


def paths(manifest: Manifest) -> list[str]:
    return [file.path for file in manifest.files]


def text(archive: Path, name: str) -> str:
    with zipfile.ZipFile(archive) as opened:
        return opened.read(f"little/{name}").decode()


def test_what_is_packed(tmp_path):
    sample = write(tmp_path / "volumes" / "a.h5", "volume").parent
    manifest = pack_bundle(little_bundle(tmp_path), tmp_path / "out.zip", sample=sample)
    assert paths(manifest) == [
        "LICENSE",
        "START.md",
        "configs/inference.json",
        "configs/metadata.json",
        "configs/variants/wide.json",
        "docs/README.md",
        "models/model.pt",
        "requirements.txt",
        "sample/a.h5",
        f"wheels/{WHEEL}",
    ]
    assert text(tmp_path / "out.zip", "requirements.txt").split() == [
        "monai==1.6.0",
        "numpy==2.4.0",
        "scipy==1.17.0",
        "torch==2.13.0",
    ]
    assert manifest.install == f"python -m pip install -r requirements.txt wheels/{WHEEL}"
    expected = "python -m monai.bundle run inference --config_file configs/inference.json --dataset_dir sample"
    assert manifest.run == expected
    assert f"```\n{manifest.install}\n{manifest.run}\n```" in text(tmp_path / "out.zip", "START.md")
    assert Manifest.from_json(text(tmp_path / "out.zip", "manifest.json"), "out.zip") == manifest
    assert (manifest.name, manifest.version, manifest.made_with["torch"]) == ("little", "0.1.2", torch.__version__)


def test_what_is_left_out(tmp_path, caplog):
    bundle = little_bundle(tmp_path)
    for name in ("data/a.h5", "runs/b", "eval/c.h5", "models/checkpoint_last.pt", "docs/.hidden", ".git/d"):
        write(bundle / name, "not packed")
    write(bundle / "configs" / "__pycache__" / "a.pyc", "not packed")
    os.symlink("/etc/passwd", bundle / "docs" / "link.md")
    os.symlink("/etc", bundle / "docs" / "folder")
    manifest = pack_bundle(bundle, tmp_path / "out.zip")
    assert [path for path in paths(manifest) if path.startswith(("docs", "models", "data", "runs", "eval", "."))] == [
        "docs/README.md",
        "models/model.pt",
    ]
    assert {"link.md", "folder"} <= {Path(record.args[0]).name for record in caplog.records if record.args}


def test_the_same_content_gives_the_same_bytes(tmp_path):
    bundle = little_bundle(tmp_path)
    pack_bundle(bundle, tmp_path / "1.zip")
    for file in bundle.rglob("*"):
        os.utime(file, (1, 1))
    os.chmod(bundle / "LICENSE", 0o600)
    pack_bundle(bundle, tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_unpacked_it_is_what_was_packed(tmp_path):
    bundle = little_bundle(tmp_path)
    manifest = pack_bundle(bundle, tmp_path / "out.zip")
    folder = unpack_bundle(tmp_path / "out.zip", tmp_path / "there")
    assert folder == tmp_path / "there" / "little"
    packed = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert packed == {*paths(manifest), "manifest.json"}
    for name in ("models/model.pt", "configs/inference.json"):
        assert (folder / name).read_bytes() == (bundle / name).read_bytes()


def test_configs_from_elsewhere_run_only_where_asked(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    bundle = little_bundle(tmp_path)
    write(bundle / "configs" / "inference.json", INFERENCE | {"network_def": "$open('ran', 'w')"})
    manifest = pack_bundle(bundle, tmp_path / "out.zip")
    assert {export.path for export in manifest.exports} == {None}
    assert "from elsewhere were not executed" in manifest.exports[0].reason
    assert "from elsewhere were not executed" in caplog.text
    assert not Path("ran").exists()


def test_other_formats(tmp_path):
    manifest = pack_bundle(little_bundle(tmp_path), tmp_path / "out.zip", run_configs=True)
    formats = {export.format: export for export in manifest.exports}
    assert formats["torchscript"].path == "models/model.ts"
    assert formats["torchscript"].difference < 1e-4
    assert {export.path for export in manifest.exports if export.path} <= set(paths(manifest))
    assert of_this_machine(tmp_path / "out.zip") == []
    folder = unpack_bundle(tmp_path / "out.zip", tmp_path / "there")
    weights = torch.load(folder / "models" / "model.pt", weights_only=True)
    network = torch.jit.load(folder / "models" / "model.ts")
    image = torch.ones(1, 1, 4, 4, 4)
    torch.testing.assert_close(network(image), weights["weight"].sum() * image + weights["bias"])


def test_exports_can_be_left_out(tmp_path):
    manifest = pack_bundle(little_bundle(tmp_path), tmp_path / "out.zip", run_configs=True, export=False)
    assert [export.reason for export in manifest.exports] == ["exports were left out (export is false)"] * 2


def test_settings_of_the_training_become_an_overlay(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "FORMATS", ["torchscript"])
    bundle = little_bundle(tmp_path, weights=False)
    weights = random_weights(bundle, tmp_path / "trained", {"kernel_size": 3, "epochs": 7})
    manifest = pack_bundle(bundle, tmp_path / "out.zip", weights=weights, run_configs=True)
    assert json.loads(text(tmp_path / "out.zip", "configs/packed.json")) == {"kernel_size": 3}
    assert "\"['configs/inference.json','configs/packed.json']\"" in manifest.run
    settings = json.loads(text(tmp_path / "out.zip", "models/settings.json"))
    assert settings == {"kernel_size": 3, "epochs": 7, "dataset_dir": "data", "seed": 1}


def test_variants_stand_in_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "FORMATS", ["torchscript"])
    bundle = little_bundle(tmp_path, weights=False)
    weights = random_weights(bundle, tmp_path / "trained", {"kernel_size": 3})
    manifest = pack_bundle(bundle, tmp_path / "out.zip", weights=weights, variants=["wide"], run_configs=True)
    assert "\"['configs/inference.json','configs/variants/wide.json']\"" in manifest.run
    assert "configs/packed.json" not in paths(manifest)
    with pytest.raises(InvalidInputError, match=r"variants='wise' is not known.*Did you mean 'wide'"):
        pack_bundle(bundle, tmp_path / "other.zip", weights=weights, variants=["wise"])


def test_weights_of_another_architecture(tmp_path):
    bundle = little_bundle(tmp_path)
    weights = random_weights(bundle, tmp_path / "trained", {"kernel_size": 3})
    (weights.parent / "settings.json").unlink()
    with pytest.raises(CheckpointError, match=r"another architecture.*by variants"):
        pack_bundle(bundle, tmp_path / "out.zip", weights=weights, run_configs=True)
    assert not (tmp_path / "out.zip").exists()


def test_of_a_whole_checkpoint_only_the_weights_are_packed(tmp_path):
    bundle = little_bundle(tmp_path)
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    torch.save({"network": state, "optimizer": {"lr": 1}, "epoch": 3}, tmp_path / "checkpoint.pt")
    pack_bundle(bundle, tmp_path / "out.zip", weights=tmp_path / "checkpoint.pt")
    folder = unpack_bundle(tmp_path / "out.zip", tmp_path / "there")
    packed = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert packed.keys() == state.keys()


def test_no_weights(tmp_path):
    bundle = little_bundle(tmp_path, weights=False)
    with pytest.raises(MissingDataError, match=r"no weights at .*model\.pt; train the bundle first"):
        pack_bundle(bundle, tmp_path / "out.zip")
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        pack_bundle(bundle, tmp_path / "out.zip", weights=write(tmp_path / "model.pt", "nothing"))


def test_a_bundle_without_a_network(tmp_path):
    sample = tmp_path / "volume"
    write(sample / "labels.zarr" / "zarr.json", "{}")
    write(sample / "image.zarr" / ".zarray", "{}")
    bundle = ROOT / "bundles" / "em_clustering"
    manifest = pack_bundle(bundle, tmp_path / "out.zip", sample=sample)
    assert {export.reason for export in manifest.exports} == {"the bundle has no network"}
    inputs = "--labels sample/labels.zarr --image sample/image.zarr"
    assert manifest.run == (
        f"python -m monai.bundle run features --config_file configs/features.json {inputs}"
        f" && python -m monai.bundle run clustering --config_file configs/clustering.json {inputs}"
    )
    with pytest.raises(InvalidInputError, match="has no network"):
        pack_bundle(bundle, tmp_path / "2.zip", weights=write(tmp_path / "model.pt", ""))


@pytest.mark.parametrize(("name", "packed"), [("a.h5", "sample/a.h5"), ("b.zarr", "sample/b.zarr/zarr.json")])
def test_a_sample_of_one_file_or_store(tmp_path, name, packed):
    write(tmp_path / "volumes" / packed.removeprefix("sample/"), "{}")
    manifest = pack_bundle(little_bundle(tmp_path), tmp_path / "out.zip", sample=tmp_path / "volumes" / name)
    assert packed in paths(manifest)


def test_no_sample(tmp_path):
    bundle = little_bundle(tmp_path)
    with pytest.raises(MissingDataError, match="no sample at"):
        pack_bundle(bundle, tmp_path / "out.zip", sample=tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="is an empty folder"):
        pack_bundle(bundle, tmp_path / "out.zip", sample=tmp_path / "empty")


def test_the_target(tmp_path):
    bundle, target = little_bundle(tmp_path), write(tmp_path / "out.zip", "mine")
    with pytest.raises(InvalidInputError, match="exists; remove it"):
        pack_bundle(bundle, target)
    assert target.read_text() == "mine"
    with pytest.raises(InvalidInputError, match=r"must be named ….zip"):
        pack_bundle(bundle, tmp_path / "out.tar")
    with pytest.raises(OSError, match=r"cannot write .*mine\.txt/out\.zip: a part of the path is a file") as caught:
        pack_bundle(bundle, write(tmp_path / "mine.txt", "mine") / "out.zip")
    assert len(str(caught.value).splitlines()) == 1
    pack_bundle(bundle, target, overwrite=True)
    assert zipfile.is_zipfile(target)
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".partial")] == []


def test_a_bundle_that_needs_a_newer_voxel_ext(tmp_path):
    bundle = little_bundle(tmp_path, required_packages_version={"voxel_ext": "99.0"})
    with pytest.raises(MissingDependencyError, match=r"voxel_ext is .* \(needed: 99\.0 or newer\)"):
        pack_bundle(bundle, tmp_path / "out.zip")


def test_a_disk_that_fills_up(tmp_path, monkeypatch):
    bundle, target = little_bundle(tmp_path), tmp_path / "new" / "out.zip"
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    with pytest.raises(InvalidInputError, match=r"new has 0\.0 MiB free and 0\.\d MiB are needed; free some space"):
        pack_bundle(bundle, target)
    monkeypatch.undo()

    def fill(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pack, "build_wheel", lambda folder: write(folder / WHEEL, "wheel"))
    monkeypatch.setattr(archive, "_copy", fill)
    with pytest.raises(OSError, match=r"cannot write .*out\.zip: the disk is full; free some space"):
        pack_bundle(bundle, target)
    assert not target.parent.exists() or list(target.parent.iterdir()) == []


def test_a_bundle_that_does_not_need_voxel_ext(tmp_path):
    manifest = pack_bundle(little_bundle(tmp_path, required_packages_version={}), tmp_path / "out.zip")
    assert manifest.install == "python -m pip install -r requirements.txt"
    assert not [path for path in paths(manifest) if path.startswith("wheels")]


def test_unreadable_settings(tmp_path):
    bundle = little_bundle(tmp_path)
    write(bundle / "models" / "settings.json", "{")
    with pytest.raises(InvalidInputError, match=r"settings\.json is not a settings file"):
        pack_bundle(bundle, tmp_path / "out.zip")
