"""A packed bundle runs where there is nothing but its archive and the packages it needs."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from packed_bundles import of_this_machine, optic_lobe, shape_vae

from voxel_ext.sharing import pack
from voxel_ext.sharing.pack import pack_bundle


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """A new environment that sees the packages of this one, but neither the checkout nor what leads to it."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    places = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    # .pth files in the added folder, such as that of an editable installation, are not followed
    Path(places["purelib"], "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"PATH": f"{places['scripts']}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def shell(command: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def unzip(archive: Path, folder: Path) -> Path:
    """What the program ``unzip`` does."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
        return folder / opened.namelist()[0].split("/")[0]


@pytest.mark.parametrize("make", [optic_lobe, shape_vae])
def test_a_packed_bundle_runs_by_two_commands(make, environment, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "FORMATS", ["torchscript"])
    bundle, weights, sample = make(tmp_path / "source")
    manifest = pack_bundle(bundle, tmp_path / "packed.zip", weights=weights, sample=sample)
    assert [export.path for export in manifest.exports] == ["models/model.ts"]
    assert of_this_machine(tmp_path / "packed.zip") == []
    folder = unzip(tmp_path / "packed.zip", tmp_path / "there")
    assert manifest.install in (folder / "START.md").read_text()
    assert manifest.run in (folder / "START.md").read_text()
    assert json.loads((folder / "manifest.json").read_text())["name"] == bundle.name

    # the packages of requirements.txt are those that the new environment sees
    assert manifest.install.startswith("python -m pip install -r requirements.txt wheels/voxel_ext-")
    options = "install --no-index --no-deps --ignore-installed --quiet --disable-pip-version-check"
    install = manifest.install.replace("install -r requirements.txt", options)
    shell(install, folder, environment)
    used = shell(
        'python -c "import sys, voxel_ext; print(sys.prefix, voxel_ext.__file__)"', folder, environment
    ).split()
    assert Path(used[1]).is_relative_to(used[0])
    assert "fresh" in used[0]

    shell(manifest.run, folder, environment)
    assert (folder / "eval" / "report.html").is_file()
    if make is shape_vae:
        assert (folder / "eval" / "features" / "shapef.parquet").is_file()
        return
    (file,) = (folder / "eval").glob("*_segmentation.h5")
    with h5py.File(file) as opened:
        (values,) = (np.asarray(item) for item in opened.values())
    assert values.shape == (16, 16, 16)
    assert set(np.unique(values)) <= {0, 1}
