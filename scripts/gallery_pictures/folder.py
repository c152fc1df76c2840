"""The folder of a gallery: pictures, a record of how each was made, and an index page."""

from __future__ import annotations

import html
import io
import json
import re
from pathlib import Path
from typing import Any

from gallery_pictures.entries import SECTIONS, Drawn, Entry

from voxel_ext.errors import InvalidInputError, require
from voxel_ext.files import atomic_path

RECORD = "gallery.json"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1320px; padding: 1.5rem; }
nav a { margin-right: 1rem; }
section > div { display: grid; grid-template-columns: repeat(auto-fill, minmax(400px, 1fr)); gap: 1.2rem; }
figure { border: 1px solid #7c879655; border-radius: 8px; margin: 0; overflow: hidden; }
figure a { background: #fff; display: flex; height: 260px; align-items: center; justify-content: center; }
figure img { max-width: 100%; max-height: 260px; }
figcaption { padding: 0.7rem 0.9rem; overflow-wrap: anywhere; }
figcaption h3 { margin: 0; font-size: 1rem; }
figcaption p { margin: 0.3rem 0; font-size: 0.88rem; }
code { display: block; font-size: 0.78rem; white-space: pre-wrap; opacity: 0.85; max-height: 7rem; overflow: auto; }
.note { opacity: 0.75; }
@media (max-width: 480px) { section > div { grid-template-columns: 1fr; } }
"""


class Gallery:
    """A folder with pictures.

    Args:
        folder: where it is.
        records: by name, what is known of each picture.
    """

    def __init__(self, folder: Path, records: dict[str, dict[str, str]]) -> None:
        self.folder = folder
        self.records = records

    @classmethod
    def open(cls, folder: Path) -> Gallery:
        """Open a gallery, or begin one in a folder that is missing or empty.

        Args:
            folder: of the gallery.

        Raises:
            InvalidInputError: the folder has other content, or its record cannot be read.
        """
        record = folder / RECORD
        if record.is_file():
            try:
                return cls(folder, dict(json.loads(record.read_text(encoding="utf-8"))["pictures"]))
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidInputError(
                    f"{record} is not the record of a gallery ({error}); remove the folder"
                ) from error
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InvalidInputError(
                f"{folder} is not a gallery and not empty; expected a folder that an earlier run has made, or a new one"
            )
        gallery = cls(folder, {})
        gallery._save()
        return gallery

    def has(self, name: str) -> bool:
        """Whether a picture has been made."""
        return name in self.records and self.file(name).is_file()

    def file(self, name: str) -> Path:
        """The PNG file of a picture."""
        return self.folder / f"{re.sub(r'[^A-Za-z0-9_]', '_', name)}.png"

    def add(self, entry: Entry, drawn: Drawn) -> None:
        """Write a picture and how it was made."""
        with atomic_path(self.file(entry.name)) as temporary:
            temporary.write_bytes(smaller(drawn.png))
        record = {"section": entry.section, "shows": entry.shows, "call": drawn.call, "note": drawn.note}
        self.records[entry.name] = record
        self._save()

    def _save(self) -> None:
        with atomic_path(self.folder / RECORD) as temporary:
            temporary.write_text(json.dumps({"pictures": self.records}, indent=1), encoding="utf-8")

    def of_section(self, section: str) -> dict[str, dict[str, str]]:
        """The records of the pictures of a section that are there."""
        return {name: one for name, one in self.records.items() if one["section"] == section and self.has(name)}

    def write_index(self) -> Path:
        """Write ``index.html``, which shows all pictures."""
        parts = {section: self.of_section(section) for section in SECTIONS}
        links = "".join(f'<a href="#{_anchor(name)}">{name} ({len(one)})</a>' for name, one in parts.items() if one)
        body = "".join(
            f'<section id="{_anchor(name)}"><h2>{name}</h2><div>{"".join(map(self._card, one))}</div></section>'
            for name, one in parts.items()
            if one
        )
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>voxel_ext: gallery</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{_STYLE}</style></head><body><h1>Gallery of voxel_ext</h1><nav>{links}</nav>{body}</body></html>"
        )
        with atomic_path(self.folder / "index.html") as temporary:
            temporary.write_text(page, encoding="utf-8")
        return self.folder / "index.html"

    def _card(self, name: str) -> str:
        one, file = self.records[name], self.file(name).name
        note = f'<p class="note">{html.escape(one["note"])}</p>' if one["note"] else ""
        alternative = html.escape(f"{name}: {one['shows']}", quote=True)
        return (
            f'<figure id="{_anchor(name)}"><a href="{file}"><img src="{file}" alt="{alternative}" loading="lazy"></a>'
            f"<figcaption><h3>{html.escape(name)}</h3><p>{html.escape(one['shows'])}</p>{note}"
            f"<code>{html.escape(one['call'])}</code></figcaption></figure>"
        )


def smaller(png: bytes, limit: int = 200_000, widest: int = 1020) -> bytes:
    """Make a PNG file small; what is transparent becomes white.

    Args:
        png: the file.
        limit: bytes; where they do not do, the picture gets a palette of 256 colors.
        widest: width in pixels to which a wider picture is reduced.
    """
    pil: Any = require("PIL.Image", extra="viz")
    picture = pil.open(io.BytesIO(png)).convert("RGBA")
    opaque = pil.alpha_composite(pil.new("RGBA", picture.size, "white"), picture).convert("RGB")
    opaque.thumbnail((widest, 10 * widest), pil.Resampling.LANCZOS)
    plain = _encoded(opaque)
    # a palette loses the colors of thin lines and small text
    return plain if len(plain) <= limit else _encoded(opaque.quantize(256))


def _encoded(picture: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())
