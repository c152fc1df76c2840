"""The wheel of voxel_ext itself, as it runs here: from a checkout or from what pip installed."""

from __future__ import annotations

import base64
import email
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution
from pathlib import Path, PurePosixPath

import voxel_ext
from voxel_ext.errors import InvalidInputError, MissingDependencyError
from voxel_ext.files import atomic_path
from voxel_ext.sharing.archive import write_zip
from voxel_ext.sharing.manifest import PackedFile

logger = logging.getLogger(__name__)

_PACKAGE = "voxel_ext"
_BUILD_FILES = ("pyproject.toml", "README.md", "LICENSE")
_BUILD_BACKEND = "setuptools"
_BACKEND_MAJOR = 77
_NOT_OF_A_WHEEL = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
_EPOCH = "315532800"
"""1980-01-01, the first time that a zip file can hold."""


def build_wheel(folder: str | os.PathLike[str]) -> Path:
    """Write the wheel of the voxel_ext that runs: the same content gives the same bytes.

    A checkout is built by ``pip wheel`` from a copy, so that nothing is left in it; where setuptools is installed, no
    network is needed. An installed package is put together from its files.

    Args:
        folder: where to write it; made if missing.

    Returns:
        the wheel, ``voxel_ext-<version>-py3-none-any.whl``.

    Raises:
        InvalidInputError: ``pip wheel`` failed; ends with what it said.
        MissingDependencyError: pip is missing, or voxel_ext runs neither from a checkout nor from an installed wheel.
    """
    checkout = find_checkout()
    if checkout is not None:
        return build_from_checkout(checkout, folder)
    return repack_installed(_distribution(), folder)


def find_checkout() -> Path | None:
    """Return the folder of the checkout that voxel_ext runs from; None if it was installed from a wheel."""
    root = Path(voxel_ext.__file__).resolve().parents[1]
    return root if all((root / name).is_file() for name in _BUILD_FILES) else None


def build_from_checkout(checkout: Path, folder: str | os.PathLike[str]) -> Path:
    """Build the wheel of a checkout; see :func:`build_wheel`.

    Args:
        checkout: folder with ``pyproject.toml`` and the package.
        folder: where to write it; made if missing.

    Raises:
        InvalidInputError: ``pip wheel`` failed; ends with what it said.
        MissingDependencyError: pip is missing.
    """
    if importlib.util.find_spec("pip") is None:
        raise MissingDependencyError(
            "pip is needed to build the wheel of voxel_ext; install it: python -m ensurepip --upgrade"
        )
    with tempfile.TemporaryDirectory(prefix="voxel_ext_wheel_") as work:
        source, made = Path(work, "source"), Path(work, "made")
        shutil.copytree(checkout / _PACKAGE, source / _PACKAGE, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        for name in _BUILD_FILES:
            shutil.copy(checkout / name, source / name)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        if _backend_is_installed():
            command += ["--no-build-isolation", "--no-index"]
        # without PYTHONPATH a folder beside the caller cannot take the place of the build's own modules
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [*command, "--wheel-dir", str(made), str(source)],
            cwd=work,
            env=environment | {"SOURCE_DATE_EPOCH": _EPOCH},
            capture_output=True,
            text=True,
        )
        wheels = sorted(made.glob("*.whl"))
        if done.returncode or not wheels:
            raise InvalidInputError(
                f"the wheel of {checkout} could not be built: {_errors(done.stderr or done.stdout)}"
            )
        return _keep(wheels[0], folder)


def repack_installed(distribution: Distribution, folder: str | os.PathLike[str]) -> Path:
    """Put a wheel together from what pip installed from it.

    Args:
        distribution: the installed package; its ``RECORD`` says which files it has.
        folder: where to write the wheel; made if missing.

    Raises:
        InvalidInputError: files of the installed package are missing, or were changed after it was installed.
    """
    name, entries = distribution.metadata["Name"].replace("-", "_"), {}
    info = f"{name}-{distribution.version}.dist-info"
    for file in distribution.files or ():
        path = PurePosixPath(file)
        if path.parts[0] in (name, info) and path.suffix != ".pyc" and path.name not in _NOT_OF_A_WHEEL:
            content = Path(str(distribution.locate_file(file)))
            if not content.is_file() or (file.hash and not _has_hash(content, file.hash.mode, file.hash.value)):
                raise InvalidInputError(f"{content} is missing or was changed; install {name} anew to pack it")
            entries[str(path)] = content
    tag = email.message_from_string(distribution.read_text("WHEEL") or "")["Tag"]
    if not tag or f"{name}/__init__.py" not in entries:
        raise InvalidInputError(f"{name} {distribution.version} was not installed from a wheel; install it by pip")
    target = Path(folder) / f"{name}-{distribution.version}-{tag}.whl"
    with atomic_path(target) as temporary:
        write_zip(temporary, entries, lambda written: _record(written, f"{info}/RECORD"))
    return target


def _distribution() -> Distribution:
    """What is noted about the installed voxel_ext that runs."""
    try:
        found = importlib.metadata.distribution(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        found = None
    own = Path(voxel_ext.__file__).resolve()
    if found is None or Path(str(found.locate_file(f"{_PACKAGE}/__init__.py"))).resolve() != own:
        raise MissingDependencyError(
            f"the voxel_ext in {own.parent} is neither a checkout nor installed by pip, so no wheel can be made of it; "
            "install it by pip, or pack from a checkout"
        )
    return found


def _backend_is_installed() -> bool:
    """Whether this environment can build the wheel itself, without a network."""
    try:
        version = importlib.metadata.version(_BUILD_BACKEND)
    except importlib.metadata.PackageNotFoundError:
        return False
    return int(version.split(".")[0]) >= _BACKEND_MAJOR


def _errors(text: str) -> str:
    """What pip says is wrong, without the rest of its output."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = [line for line in lines if re.search(r"[Ee]rror: ", line)]
    return "; ".join((found or lines)[-4:])[:1500]


def _keep(wheel: Path, folder: str | os.PathLike[str]) -> Path:
    """Copy a wheel out of a temporary folder."""
    target = Path(folder) / wheel.name
    with atomic_path(target) as temporary:
        shutil.copy(wheel, temporary)
    return target


def _has_hash(file: Path, mode: str, value: str) -> bool:
    """Whether a file has the checksum that RECORD gives: base64 for URLs, without padding."""
    return _encoded(hashlib.new(mode, file.read_bytes()).digest()) == value


def _encoded(digest: bytes) -> str:
    """A checksum as RECORD has it."""
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def _record(written: list[PackedFile], name: str) -> tuple[str, bytes]:
    """The RECORD of a wheel."""
    lines = [f"{file.path},sha256={_encoded(bytes.fromhex(file.sha256))},{file.size}" for file in written]
    return name, "\n".join([*lines, f"{name},,", ""]).encode()
