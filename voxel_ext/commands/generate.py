"""``generate``: artificial volumes with their exact ground truth, as files."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fire.decorators import SetParseFn

from voxel_ext.commands.line import PROGRAM, Job, option_lines
from voxel_ext.errors import InvalidInputError, check_option

if TYPE_CHECKING:
    from voxel_ext.commands.generated_files import PlannedVolume

logger = logging.getLogger(__name__)

CLASSES = {
    "optic_lobe": "OpticLobe",
    "optic_lobe_2d": "OpticLobe2D",
    "worm": "Worm",
    "mitochondria": "Mitochondria",
    "sheets": "Sheets",
}
"""What can be made, and by which class of ``voxel_ext.synthetic``."""


@SetParseFn(str, "what", "out", "preview")
def generate(
    what: str,
    out: str,
    *,
    seed: int = 0,
    number: int = 1,
    preview: str | None = None,
    overwrite: bool = False,
    **parameters: Any,
) -> Job:
    """Make artificial volumes with exact ground truth.

    WHAT is one of
      optic_lobe     fluorescence of the visual columns of a fly      read by optic_lobe_segmentation
      optic_lobe_2d  a plane across such columns                      read by optic_lobe_segmentation
      worm           nuclei of a C. elegans larva, with their names   read by worm_matching (prepare)
      mitochondria   electron microscopy of six shapes                read by the em_ bundles
      sheets         CT scan of thin sheets, with their normals       read by surface_multitask

    OUT is a file or a folder:
      .h5, .zarr                  datasets raw (of sheets: image), label, and of sheets: sheet, normals
      .nii.gz, .nii, .nrrd, .tif  the image, and beside it NAME_label and the others
      a folder                    a file per volume; of worms images/, labels/ and coordinates/
    Beside each volume lies NAME.json with all parameters, and NAME_objects.csv with a row per object (of
    worms in a folder their coordinate file; of sheets none).

    Example: python -m voxel_ext generate mitochondria em.h5 --size 48,128,128 --objects 6 --preview em.png
    python -m voxel_ext generate WHAT --help lists the parameters of one.

    Args:
        what: which kind.
        out: where to write.
        seed: of the first volume; the same seed and parameters give the same volume.
        number: how many volumes, with the seeds from SEED on; a file gets the seed in its name.
        preview: a .png file for a picture of the first volume. Needs the extra viz.
        overwrite: replace files that are there.
        parameters: the kind's own parameters, as --size 64.
    """
    check_option("WHAT", what, CLASSES)
    options = _options(what, parameters)
    _check_whole("seed", seed, 0)
    _check_whole("number", number, 1)
    if preview is not None and Path(preview).suffix.lower() != ".png":
        raise InvalidInputError(f"--preview={preview} must be a file that ends with .png")

    def work() -> None:
        from voxel_ext.commands.generated_files import plan_volumes

        volumes = plan_volumes(what, CLASSES[what], out, range(seed, seed + number), options)
        _check_absent([path for one in volumes for path in one.files] + ([Path(preview)] if preview else []), overwrite)
        _make(volumes, preview)

    return Job(work)


def help_on_generator(words: Sequence[str]) -> str:
    """Return the help about one kind of volume, "" if the words begin with none.

    Args:
        words: what stands behind ``generate``.
    """
    if not words or words[0] not in CLASSES:
        return ""
    known, text = _parameters(words[0]), inspect.getdoc(_generator(words[0])) or ""
    _, _, arguments = text.partition("\nArgs:\n")
    described = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", arguments.partition("\n\n")[0], re.MULTILINE)
    listed = {name: (known[name], meaning) for name, meaning in described if name in known}
    return "\n".join(
        [
            f"Usage: {PROGRAM} generate {words[0]} OUT [--OPTION VALUE ...]",
            "",
            text.partition("\n")[0],
            "",
            option_lines(listed),
            "",
            f"Several numbers are written 1,2,3. {PROGRAM} generate --help tells the other options.",
            "",
        ]
    )


def _generator(what: str) -> Any:
    import voxel_ext.synthetic

    return getattr(voxel_ext.synthetic, CLASSES[what])


def _parameters(what: str) -> dict[str, Any]:
    """Arguments of the generator and their defaults, without the seed."""
    found = inspect.signature(_generator(what)).parameters
    return {name: one.default for name, one in found.items() if name != "seed"}


def _options(what: str, given: dict[str, Any]) -> dict[str, Any]:
    """Check the names of a generator's parameters, and read its switches."""
    from voxel_ext.workflow import switch

    known = _parameters(what)
    options = {}
    for name, value in given.items():
        check_option(f"option of {what}", name, [*known, "seed", "number", "preview", "overwrite"])
        if isinstance(known[name], bool):
            value = switch(f"--{name}", value)
        elif isinstance(value, bool):
            raise InvalidInputError(f"--{name} needs a value")
        options[name] = value
    return options


def _check_whole(name: str, value: object, lowest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
        raise InvalidInputError(f"--{name}={value} must be a whole number of at least {lowest}")


def _check_absent(files: Sequence[Path], overwrite: bool) -> None:
    there = [path for path in files if path.exists()]
    if there and not overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise InvalidInputError(f"{there[0]}{more} exists; choose another OUT, or give --overwrite to replace it")


def _make(volumes: Sequence[PlannedVolume], preview: str | None) -> None:
    from tqdm import tqdm

    from voxel_ext.commands.generated_files import write_preview
    from voxel_ext.errors import require

    if preview:  # before the long work
        require("PIL.Image", extra="viz")
        require("matplotlib", extra="viz")
    for position, planned in enumerate(tqdm(volumes, unit="volume", disable=len(volumes) < 2)):
        volume = planned.make()
        if preview and not position:
            write_preview(preview, volume)
        logger.info("written: %s", planned.files[0])
