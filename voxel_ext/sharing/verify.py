"""Checking a bundle before it is shared, or before one of somebody else is used."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from voxel_ext.errors import VoxelExtError
from voxel_ext.sharing import checks_commands
from voxel_ext.sharing.bundle import METADATA, Bundle
from voxel_ext.sharing.checks_components import check_components
from voxel_ext.sharing.checks_docs import check_defaults, check_sections, check_settings
from voxel_ext.sharing.checks_docs_commands import check_commands
from voxel_ext.sharing.checks_expressions import check_expressions
from voxel_ext.sharing.checks_files import check_files, check_logging, check_names, check_weights
from voxel_ext.sharing.checks_metadata import check_changelog, check_metadata
from voxel_ext.sharing.checks_network import check_net_in_out, check_torchscript
from voxel_ext.sharing.checks_outcome import FAILED, SKIPPED, Check, format_checks
from voxel_ext.sharing.checks_packages import check_packages
from voxel_ext.sharing.checks_properties import check_ids, check_properties
from voxel_ext.sharing.checks_references import check_overlays, check_references
from voxel_ext.workflow import switch

__all__ = ["Check", "format_checks", "verify_bundle"]

STATIC: dict[str, Callable[[Bundle], Check]] = {
    "files": check_files,
    "weights": check_weights,
    "names": check_names,
    "logging": check_logging,
    "metadata": check_metadata,
    "changelog": check_changelog,
    "packages": check_packages,
    "ids": check_ids,
    "properties": check_properties,
    "overlays": check_overlays,
    "references": check_references,
    "components": check_components,
    "expressions": check_expressions,
    "sections": check_sections,
    "settings": check_settings,
    "defaults": check_defaults,
    "commands": check_commands,
}
"""Checks that read files and execute nothing of the bundle, by name."""

EXECUTING: dict[str, Callable[[Bundle], Check]] = {"network": check_net_in_out, "TorchScript": check_torchscript}
"""Checks that run the bundle's configs, by name."""


def verify_bundle(bundle: str | os.PathLike[str], *, run_configs: bool | None = None) -> list[Check]:
    """Check a bundle: the model zoo's checks that need no network, and that its configs and docs agree.

    A config can run any code. Those of others are therefore only read: the checks that would execute them are skipped,
    and no package is imported to look into it but those that voxel_ext itself needs.

    Args:
        bundle: folder of a bundle, or a zip file made by ``pack``, which is unpacked into a temporary folder.
        run_configs: whether to run the checks that execute the bundle's configs. Default: only for the bundles that
            came with this checkout.

    Raises:
        MissingDataError: there is no such folder or file, or it holds no bundle.
        InvalidInputError: the zip file is not safe or not whole, or ``run_configs`` is neither true nor false.
    """
    allowed = None if run_configs is None else switch("run_configs", run_configs)
    if Path(bundle).is_file():
        from voxel_ext.sharing.archive import unpack_bundle

        with tempfile.TemporaryDirectory() as folder:
            return verify_bundle(unpack_bundle(Path(bundle), Path(folder)), run_configs=bool(allowed))
    root = Path(bundle).resolve()
    checks_commands.commands.cache_clear()
    try:
        opened = Bundle.open(root)
        checks_commands.commands(root)
    except VoxelExtError as error:
        if not (root / METADATA).is_file():
            raise
        return [Check("bundle", FAILED, str(error))]
    checks = [_run(name, check, opened) for name, check in STATIC.items()]
    if opened.is_ours if allowed is None else allowed:
        return checks + [_run(name, check, opened) for name, check in EXECUTING.items()]
    return checks + [Check(name, SKIPPED, "give --run_configs true if you trust this bundle") for name in EXECUTING]


def _run(name: str, check: Callable[[Bundle], Check], bundle: Bundle) -> Check:
    """Run a check; a file that it cannot read is a failure."""
    try:
        return check(bundle)
    except (VoxelExtError, OSError, UnicodeDecodeError) as error:
        return Check(name, FAILED, str(error))
    except Exception as error:  # whatever else the files of another's bundle lead to is a failure of that bundle
        return Check(name, FAILED, f"the check could not be finished: {type(error).__name__}: {error}")
