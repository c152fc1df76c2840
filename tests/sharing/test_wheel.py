"""The wheel of voxel_ext itself."""

import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packed_bundles import ROOT

import voxel_ext
from voxel_ext.errors import InvalidInputError, MissingDependencyError
from voxel_ext.sharing import wheel as module
from voxel_ext.sharing.wheel import build_from_checkout, build_wheel, repack_installed


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def install(wheel: Path, folder: Path) -> importlib.metadata.Distribution:
    options = ["--no-deps", "--no-index", "--no-compile", "--quiet", "--disable-pip-version-check", "--target"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(folder), str(wheel)], check=True)
    return importlib.metadata.Distribution.at(folder / f"voxel_ext-{voxel_ext.__version__}.dist-info")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> importlib.metadata.Distribution:
    return install(wheel, tmp_path_factory.mktemp("installed"))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_every_file_of_the_package_is_in_it(wheel):
    package = ROOT / "voxel_ext"
    files = {file.relative_to(ROOT).as_posix() for file in package.rglob("*") if file.is_file()}
    assert {name for name in files if "__pycache__" not in name} == {
        name for name in contents(wheel) if name.startswith("voxel_ext/")
    }


def test_nothing_is_left_in_the_checkout(wheel):
    assert not (ROOT / "build").exists()


def test_what_is_installed_gives_the_same_wheel(wheel, installed, tmp_path):
    again = repack_installed(installed, tmp_path)
    assert again.name == wheel.name
    assert {n: c for n, c in contents(again).items() if not n.endswith("RECORD")} == {
        n: c for n, c in contents(wheel).items() if not n.endswith("RECORD")
    }
    record = next(name for name in contents(wheel) if name.endswith("RECORD"))
    assert sorted(contents(again)[record].split()) == sorted(contents(wheel)[record].split())
    # pip checks the record
    assert install(again, tmp_path / "again").version == voxel_ext.__version__


def test_a_changed_file_is_not_passed_on(installed, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(installed.locate_file(""), copy)
    (copy / "voxel_ext" / "errors.py").write_text("")
    changed = importlib.metadata.Distribution.at(copy / f"voxel_ext-{voxel_ext.__version__}.dist-info")
    with pytest.raises(InvalidInputError, match=r"errors\.py is missing or was changed"):
        repack_installed(changed, tmp_path)
    assert not list(tmp_path.glob("*.whl"))


def test_a_package_that_pip_does_not_know(installed, monkeypatch, tmp_path):
    monkeypatch.setattr(module.voxel_ext, "__file__", str(tmp_path / "elsewhere" / "voxel_ext" / "__init__.py"))
    with pytest.raises(MissingDependencyError, match="neither a checkout nor installed by pip"):
        build_wheel(tmp_path)


def test_a_checkout_that_does_not_build(tmp_path):
    (tmp_path / "voxel_ext").mkdir()
    for name in ("README.md", "LICENSE"):
        (tmp_path / name).touch()
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 1\n")
    with pytest.raises(InvalidInputError, match=r"could not be built: .*must contain \['version'\]"):
        build_from_checkout(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
