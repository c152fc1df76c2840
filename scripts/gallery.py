"""Make a gallery of pictures of the transforms, the synthetic data, the networks and the bundles.

    python scripts/gallery.py OUT

OUT gets one PNG file per picture and ``index.html``, which needs no network, and ``bundles.png``, the pictures of the
bundles' docs side by side (``bundles/gallery.png`` is a copy). Pictures that are there are kept, so that
an interrupted run goes on. Networks and bundles are trained for it, on synthetic data: one to twenty minutes of one
core each for the bundles, seconds to a minute for the networks; ``--quick`` takes a handful of steps, whose results
show no more than that everything runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

FORMS = argparse.RawDescriptionHelpFormatter


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=FORMS)
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the gallery; made if need be")
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", help="make these pictures only, or those of these sections"
    )
    parser.add_argument("--quick", action="store_true", help="tiny data and a handful of training steps")
    parser.add_argument("--overwrite", action="store_true", help="make pictures anew that are there already")
    parser.add_argument("--seed", type=int, default=0, help="of the data and the networks (default: 0)")
    parser.add_argument(
        "--work",
        type=Path,
        help="folder for data and checkpoints of the bundles, to go on with (default: a temporary one)",
    )
    return parser.parse_args(words)


def make(options: argparse.Namespace) -> Path:
    """Make the gallery.

    Args:
        options: of :func:`arguments`.

    Returns:
        the index page.

    Raises:
        InvalidInputError: OUT is no gallery, or a name is not known.
    """
    import torch
    from gallery_pictures.all_entries import all_entries, chosen
    from gallery_pictures.entries import Context
    from gallery_pictures.folder import Gallery
    from gallery_pictures.montage import docs_pictures, write_montage
    from tqdm.auto import tqdm

    wanted = chosen(all_entries(), options.only)
    gallery = Gallery.open(options.out)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    with tempfile.TemporaryDirectory() as temporary:
        context = Context(options.quick, options.work or Path(temporary), options.seed)
        left = [entry for entry in wanted if options.overwrite or not gallery.has(entry.name)]
        with tqdm(left, desc="gallery", unit="picture") as bar:
            for entry in bar:
                bar.set_postfix_str(entry.name)
                gallery.add(entry, entry.draw(context))
    page = gallery.write_index()
    write_montage(docs_pictures(), options.out / "bundles.png")
    return page


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = arguments(words)
    from voxel_ext.errors import VoxelExtError

    try:
        page = make(options)
    except VoxelExtError as error:
        sys.stderr.write(f"gallery.py: {error}\n")
        return 2
    sys.stdout.write(f"{page}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
