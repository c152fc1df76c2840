"""The pictures of the bundles' docs side by side, with the bundles' names."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gallery_pictures.bundle_runs import BUNDLES
from gallery_pictures.folder import smaller

from voxel_ext.errors import require
from voxel_ext.files import atomic_path

_NAME = 46  # height of a name with the space around it


def docs_pictures() -> dict[str, Path]:
    """Return the first picture of each bundle's docs, by name of the bundle, of those that show one."""
    result = {}
    for page in sorted(BUNDLES.glob("*/docs/README.md")):
        shown = re.search(r"!\[[^\]]*\]\(([^)]+\.png)\)", page.read_text(encoding="utf-8"))
        if shown is not None and (page.parent / shown[1]).is_file():
            result[page.parents[1].name] = page.parent / shown[1]
    return result


def write_montage(
    pictures: Mapping[str, Path], target: Path, columns: int = 4, width: int = 360, height: int = 180
) -> None:
    """Write pictures as a grid, each below its name, the last row in the middle.

    Args:
        pictures: PNG files by name.
        target: the PNG file to write.
        columns: pictures side by side.
        width: of each in pixels.
        height: of each, without its name.
    """
    pil: Any = require("PIL.Image", extra="viz")
    draw: Any = require("PIL.ImageDraw", extra="viz")
    font = require("PIL.ImageFont", extra="viz").load_default(20)
    rows = -(-len(pictures) // columns)
    line = height + _NAME
    stage = pil.new("RGB", (columns * (width + 20), rows * line), "white")
    pen = draw.Draw(stage)
    for number, (name, file) in enumerate(pictures.items()):
        row, column = divmod(number, columns)
        missing = columns - min(columns, len(pictures) - row * columns)
        left, top = round((column + missing / 2) * (width + 20)) + 10, row * line + 8
        pen.text((left + width / 2, top), name, fill="#1f2937", font=font, anchor="ma")
        with pil.open(file) as picture:
            small = picture.convert("RGB")
        scale = min(width / small.width, height / small.height)
        small = small.resize((round(small.width * scale), round(small.height * scale)), pil.Resampling.LANCZOS)
        stage.paste(small, (left + (width - small.width) // 2, top + _NAME - 14 + (height - small.height) // 2))
    stream = io.BytesIO()
    stage.save(stream, "PNG")
    with atomic_path(target) as temporary:
        temporary.write_bytes(smaller(stream.getvalue(), 500_000, stage.width))
