"""``unpack``: a packed bundle as a folder again."""

from __future__ import annotations

import logging

from fire.decorators import SetParseFn

from voxel_ext.commands.line import Job

logger = logging.getLogger(__name__)


@SetParseFn(str, "archive", "folder")
def unpack(archive: str, folder: str) -> Job:
    """Unpack a bundle that pack has made, and verify its checksums.

    Nothing is written outside of FOLDER, and nothing is left there if the archive is damaged or was
    changed. Then install the wheel that lies in the folder, and run the bundle.

    Example: python -m voxel_ext unpack optic_lobe.zip somewhere

    Args:
        archive: the .zip file.
        folder: where to unpack it.
    """

    def work() -> None:
        from voxel_ext.sharing.archive import unpack_bundle

        root = unpack_bundle(archive, folder)
        logger.info("unpacked: %s; the commands that install and run it are in %s", root, root / "START.md")

    return Job(work)
