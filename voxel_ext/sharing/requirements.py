"""The packages that a bundle needs, compared with those that are installed."""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import voxel_ext
from voxel_ext.errors import InvalidInputError, MissingDependencyError
from voxel_ext.files import read_json

if TYPE_CHECKING:
    from packaging.version import Version

PACKAGE = "voxel_ext"
_NAMED_APART = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}


def required_packages(metadata: Mapping[str, Any], source: str) -> dict[str, str]:
    """Return the version of each package that a bundle was tested with.

    Args:
        metadata: the bundle's; ``monai_version``, ``pytorch_version``, ``numpy_version`` and
            ``required_packages_version`` are read, all of which may be left out.
        source: the metadata's file, for messages.

    Raises:
        InvalidInputError: ``required_packages_version`` is no mapping, or a name or version is none.
    """
    from packaging.utils import InvalidName, canonicalize_name
    from packaging.version import InvalidVersion, Version

    named = metadata.get("required_packages_version", {})
    if not isinstance(named, Mapping):
        raise InvalidInputError(
            f"{source}: required_packages_version is {named!r}; expected an object of package and version"
        )
    apart = {package: metadata[key] for key, package in _NAMED_APART.items() if key in metadata}
    needed = apart | dict(named)
    for package, version in needed.items():
        try:
            canonicalize_name(package, validate=True)
            Version(version)
        except InvalidName as error:
            raise InvalidInputError(f"{source}: {package!r} in required_packages_version is no package name") from error
        except (InvalidVersion, TypeError) as error:
            raise InvalidInputError(
                f"{source}: {package} has the version {version!r}; expected a version such as '1.2.0'"
            ) from error
    return needed


def check_requirements(metadata: Mapping[str, Any], source: str) -> None:
    """Check that the packages a bundle needs are installed and new enough.

    A package must have at least the named major and minor release; its third number and all newer releases are
    accepted. ``voxel_ext`` itself must be the named version or newer. Packages under ``optional_packages_version`` are
    not looked at. Nothing is imported, only what is noted about installed packages is read.

    Args:
        metadata: see :func:`required_packages`.
        source: the metadata's file, for messages; wheels are looked for in ``wheels`` of its bundle.

    Raises:
        MissingDependencyError: packages are missing or too old; names all of them and the command that installs them.
        InvalidInputError: see :func:`required_packages`.
    """
    needed = required_packages(metadata, source)
    problems = {}
    for package, version in needed.items():
        found = installed_version(package)
        if found is None:
            problems[package] = f"{package} is not installed (needed: {version})"
        elif _older(package, found, version):
            problems[package] = f"{package} is {found} (needed: {version} or newer)"
    if problems:
        raise MissingDependencyError(
            f"the bundle of {source} needs other packages than are installed: {'; '.join(problems.values())}. "
            f"Install them with: {_pip_command({name: needed[name] for name in problems}, source)}"
        )


def check_requirements_of(config_files: Sequence[str | Path]) -> None:
    """Check the requirements of the bundle that config files belong to; see :func:`check_requirements`.

    Args:
        config_files: of one command; ``metadata.json`` is looked for beside the first, and nothing is checked where
            there is none.

    Raises:
        MissingDependencyError: see :func:`check_requirements`.
        InvalidInputError: the metadata cannot be read.
    """
    metadata = Path(config_files[0]).parent / "metadata.json" if config_files else None
    if metadata is None or not metadata.is_file():
        return
    check_requirements(read_json(metadata, dict, "the metadata of a bundle"), str(metadata))


def pinned(packages: Mapping[str, str], without: Iterable[str] = (PACKAGE,)) -> list[str]:
    """Return lines of a requirements file that name exact versions, sorted.

    Args:
        packages: version by name.
        without: packages to leave out.
    """
    left_out = set(without)
    return sorted((f"{name}=={version}" for name, version in packages.items() if name not in left_out), key=str.lower)


def installed_version(package: str) -> str | None:
    """Return the installed version of a package, of voxel_ext that of the code that runs; None if it is missing."""
    if package.replace("-", "_") == PACKAGE:
        return voxel_ext.__version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _older(package: str, found: str, needed: str) -> bool:
    """Whether an installed version does not do; see :func:`check_requirements`. One that cannot be read does not."""
    from packaging.version import InvalidVersion, Version

    try:
        Version(found)
    except InvalidVersion:
        return True
    if package.replace("-", "_") == PACKAGE:
        return Version(found) < Version(needed)
    return _major_minor(Version(found)) < _major_minor(Version(needed))


def _major_minor(version: Version) -> tuple[int, int, int]:
    """What is compared of a version."""
    return version.epoch, version.major, version.minor


def _pip_command(packages: Mapping[str, str], source: str) -> str:
    """The command that installs the packages; torch exactly, since an open range may bring another build."""
    words = []
    for name, version in packages.items():
        if name.replace("-", "_") == PACKAGE:
            wheels = sorted((Path(source).absolute().parent.parent / "wheels").glob("voxel_ext-*.whl"))
            words.append(str(wheels[-1]) if wheels else f"{PACKAGE}=={version}")
        else:
            words.append(f"{name}=={version}" if name == "torch" else f"{name}>={version}")
    return shlex.join([Path(sys.executable).name or "python", "-m", "pip", "install", *words])
