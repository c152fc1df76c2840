"""``report``: a page about a volume, or one that compares runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fire.decorators import SetParseFn

from voxel_ext.commands.line import PROGRAM, Job
from voxel_ext.errors import InvalidInputError

logger = logging.getLogger(__name__)

_PAGES = (".html", ".htm")


@SetParseFn(str, "inputs", "labels", "reference", "output", "box", "metric", "title")
def report(
    *inputs: str,
    labels: str | None = None,
    reference: str | None = None,
    box: str | None = None,
    channel: int = 0,
    voxel_size: Sequence[float] | None = None,
    metric: str | None = None,
    title: str | None = None,
    output: str | None = None,
) -> Job:
    """Write a self-contained HTML page about a volume, or one that compares runs of bundles.

    report IMAGE --labels SEGMENTATION [--reference TRUTH] shows a volume: slices to walk through, a 3D
    view, the size of each label, and with a reference Dice and IoU of the foreground and, of instances,
    adapted Rand error and average precision. A file is .h5, .zarr (also an array in one: file.h5/raw),
    NIfTI, NRRD, MetaImage, TIFF, .npy, Vaa3D .raw or a folder of slices. Up to 64 million voxels are
    shown; of larger volumes choose a part with --box.

    report FOLDER [FOLDER ...] compares runs by what they left in their folders (report.html,
    settings.json, history.jsonl, metrics.csv; also one level deeper, as in models/ and evaluation/): a row
    per run, the settings that differ, learning curves over each other, links to the runs' own pages.
    The first argument decides: with such files in it, it is the folder of a run.

    Example: python -m voxel_ext report em.h5/raw --labels em.h5/label --output em.html
    Example: python -m voxel_ext report runs/a runs/b --output runs/index.html

    Args:
        inputs: the image, or folders of runs.
        labels: the segmentation, a mask or ids.
        reference: the true one.
        box: part of a volume to show, z0:z1,y0:y1,x0:x1; an empty range is all of it, as in 10:20,,
        channel: of the image.
        voxel_size: z,y,x in micrometers. Default as the file says.
        metric: quantity of the history to compare runs by. Default the key metric.
        title: heading of the page. Default the name of the image.
        output: the .html file to write, replaced if it is there. Default report.html, or index.html for runs.
    """
    if not inputs:
        raise InvalidInputError(f"report needs an image or a folder; see {PROGRAM} report --help")
    of_runs = _is_about_runs(inputs, labels)
    target = Path(output or ("index.html" if of_runs else "report.html"))
    if target.suffix.lower() not in _PAGES:
        raise InvalidInputError(f"--output={target} must be a file that ends with {' or '.join(_PAGES)}")
    for_volumes = {"labels": labels, "reference": reference, "box": box, "voxel_size": voxel_size, "channel": channel}
    unused = [name for name, value in (for_volumes if of_runs else {"metric": metric}).items() if value]
    if unused:
        raise InvalidInputError(f"--{unused[0]} is not for a page about {'runs' if of_runs else 'a volume'}")

    if reference and not labels:
        raise InvalidInputError("--reference needs --labels, which it is compared with")

    def runs() -> None:
        from voxel_ext.commands.run_folder import read_runs
        from voxel_ext.visualize.overview_report import write_overview

        logger.info("report: %s", write_overview(target, read_runs(inputs), title or "Runs", metric))

    def volume() -> None:
        from voxel_ext.commands.report_volume import report_volume

        report_volume(inputs[0], labels, reference, box, channel, voxel_size, title, target)
        logger.info("report: %s", target)

    return Job(runs if of_runs else volume)


def _is_about_runs(inputs: Sequence[str], labels: str | None) -> bool:
    """Whether the arguments are folders of runs, and not one image."""
    from voxel_ext.commands.run_folder import has_run_files

    if len(inputs) == 1:
        return labels is None and has_run_files(inputs[0])
    first = Path(inputs[0])
    if first.suffix and not has_run_files(first):
        raise InvalidInputError(f"report shows one image, but there are {len(inputs)} arguments: {', '.join(inputs)}")
    return True
