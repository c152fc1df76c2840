"""``verify``: whether a bundle is complete and right."""

from __future__ import annotations

import logging
import sys

from fire.decorators import SetParseFn

from voxel_ext.commands.line import Job
from voxel_ext.errors import InvalidInputError, VoxelExtError

logger = logging.getLogger(__name__)


@SetParseFn(str, "bundles")
def verify(*bundles: str, run_configs: bool | None = None) -> Job:
    """Check bundles: those of the MONAI model zoo that need no network, and those of this package.

    Among them are the files, names and versions, metadata by its schema, input and output of the network,
    TorchScript, what MONAI needs of a workflow, and that the docs tell every setting. A line per check goes
    to the standard output. The exit code is 1 if a check has failed.

    Example: python -m voxel_ext verify bundles/optic_lobe_segmentation

    Args:
        bundles: folders of bundles, or .zip files of packed ones, one or more.
        run_configs: whether the configs, which can run any code, may be executed for the checks that need it. Default:
            only those of the bundles that came with this package.
    """
    if not bundles:
        raise InvalidInputError("verify needs the folder of a bundle; see python -m voxel_ext verify --help")

    def work() -> int:
        from voxel_ext.sharing.checks_outcome import FAILED, format_checks
        from voxel_ext.sharing.verify import verify_bundle

        failed = False
        for bundle in bundles:
            try:
                checks = verify_bundle(bundle, run_configs=run_configs)
            except (VoxelExtError, OSError) as error:
                if len(bundles) == 1:
                    raise
                logger.error("%s: %s", bundle, error)
                failed = True
                continue
            sys.stdout.write(f"{bundle}\n{format_checks(checks)}\n")
            failed = failed or any(check.status == FAILED for check in checks)
        return int(failed)

    return Job(work)
