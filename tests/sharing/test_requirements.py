"""Packages that a bundle needs."""

import importlib.metadata
import json

import pytest

import voxel_ext
from voxel_ext.errors import InvalidInputError, MissingDependencyError
from voxel_ext.sharing.requirements import check_requirements, pinned, required_packages
from voxel_ext.workflow import check_packages

INSTALLED = {"scipy": "1.17.1", "h5py": "3.16.0", "torch": "2.13.0+cpu", "monai": "1.6.1", "numpy": "2.4.6"}


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    def version(name):
        if name not in INSTALLED:
            raise importlib.metadata.PackageNotFoundError(name)
        return INSTALLED[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(voxel_ext, "__version__", "0.3.1")


def problem(source: str = "metadata.json", /, **packages: str) -> str:
    with pytest.raises(MissingDependencyError) as caught:
        check_requirements({"required_packages_version": packages}, source)
    return str(caught.value)


@pytest.mark.parametrize("version", ["1.17.1", "1.17.0", "1.17.9", "1.16", "0.9"])
def test_the_same_minor_release_or_an_older_one_is_enough(version):
    check_requirements({"required_packages_version": {"scipy": version, "voxel_ext": "0.3.1"}}, "metadata.json")


@pytest.mark.parametrize("version", ["1.18.0", "2.0"])
def test_a_newer_minor_release_is_needed(version):
    assert f"scipy is 1.17.1 (needed: {version} or newer)" in problem(scipy=version)


@pytest.mark.parametrize(("found", "enough"), [("2.13.0+cpu", True), ("2.13.0.dev1", True), ("unknown", False)])
def test_local_and_odd_versions_that_are_installed(monkeypatch, found, enough):
    monkeypatch.setitem(INSTALLED, "scipy", found)
    if enough:
        check_requirements({"required_packages_version": {"scipy": "2.13.0"}}, "metadata.json")
    else:
        assert "scipy is unknown (needed: 2.13.0 or newer)" in problem(scipy="2.13.0")


def test_voxel_ext_is_compared_in_full():
    assert "voxel_ext is 0.3.1 (needed: 0.3.2 or newer)" in problem(voxel_ext="0.3.2")


def test_all_problems_and_the_command_are_in_one_message():
    metadata = {
        "monai_version": "1.6.1",
        "pytorch_version": "2.14.0",
        "numpy_version": "3.0",
        "required_packages_version": {"scipy": "1.17.1", "nothing": "1.0"},
    }
    with pytest.raises(MissingDependencyError) as caught:
        check_requirements(metadata, "configs/metadata.json")
    message = str(caught.value)
    assert "torch is 2.13.0+cpu" in message
    assert "numpy is 2.4.6" in message
    assert "nothing is not installed (needed: 1.0)" in message
    assert "scipy" not in message
    assert message.endswith("-m pip install torch==2.14.0 'numpy>=3.0' 'nothing>=1.0'")


def test_the_wheel_in_the_bundle_is_named(tmp_path):
    wheel = tmp_path / "wheels" / "voxel_ext-0.4.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.touch()
    assert problem(str(tmp_path / "configs" / "metadata.json"), voxel_ext="0.4.0").endswith(f"pip install {wheel}")


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        ({"scipy": "new"}, "scipy has the version 'new'"),
        ({"scipy": 1}, "has the version 1"),
        ({"": "1.0"}, "'' in required_packages_version is no package name"),
        ({"scipy\n--index-url x": "1.0"}, "is no package name"),
        (["scipy"], "expected an"),
    ],
)
def test_versions_that_are_none(packages, message):
    with pytest.raises(InvalidInputError, match=message):
        required_packages({"required_packages_version": packages}, "metadata.json")


def test_exact_versions_for_a_requirements_file():
    assert pinned({"zarr": "3.1", "h5py": "3.16.0", "voxel_ext": "0.3.1"}) == ["h5py==3.16.0", "zarr==3.1"]


def test_the_command_line_leads_to_the_metadata(tmp_path):
    metadata = tmp_path / "metadata.json"
    arguments = ["run", "--config_file", f"['{tmp_path}/train.json','other.json']"]
    check_packages(arguments)
    metadata.write_text(json.dumps({"required_packages_version": {"nothing": "1.0"}}))
    with pytest.raises(MissingDependencyError, match="nothing is not installed"):
        check_packages(arguments)
    metadata.write_text("{")
    with pytest.raises(InvalidInputError, match="is not the metadata of a bundle"):
        check_packages(arguments)
    metadata.write_text("[]")
    with pytest.raises(InvalidInputError, match="holds a list"):
        check_packages(arguments)
    check_packages()
