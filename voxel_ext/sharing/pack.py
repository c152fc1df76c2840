"""A bundle as one file that a stranger can run."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

import voxel_ext
from voxel_ext.errors import CheckpointError, InvalidInputError, MissingDataError, check_option
from voxel_ext.files import atomic_path, explain_write_errors
from voxel_ext.sharing.archive import TOTAL_LIMIT, check_free_space, write_zip
from voxel_ext.sharing.bundle import METADATA, Bundle, read_config
from voxel_ext.sharing.commands import SAMPLE, install_command, run_command
from voxel_ext.sharing.contents import bundle_files, differing_settings, read_settings, sample_files
from voxel_ext.sharing.entries import check_entries, check_name
from voxel_ext.sharing.manifest import MANIFEST, Manifest, PackedExport, PackedFile
from voxel_ext.sharing.requirements import (
    PACKAGE,
    check_requirements,
    installed_version,
    pinned,
    required_packages,
)
from voxel_ext.sharing.wheel import build_wheel

if TYPE_CHECKING:
    from voxel_ext.sharing.export import Export

logger = logging.getLogger(__name__)

FORMATS = ("torchscript", "onnx")
PACKED_OVERLAY = "configs/packed.json"
"""Overlay with the settings of the training that differ from the configs' defaults."""


def pack_bundle(
    bundle: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    sample: str | os.PathLike[str] | None = None,
    variants: Sequence[str] = (),
    export: bool = True,
    run_configs: bool | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Pack a bundle, its weights and voxel_ext itself into one zip file, which runs elsewhere with two commands.

    The zip has one folder of the bundle's name: configs, docs, license; ``models`` with ``model.pt``, what training
    noted about it, and the network as TorchScript and ONNX where it can be exported; ``wheels`` with voxel_ext;
    ``requirements.txt``; ``sample``; ``START.md`` with the two commands; ``manifest.json``. Data, results, checkpoints
    to resume from, hidden files and links are not packed. The same content gives the same bytes, as far as the
    exporters do. Settings of the training that differ from the configs go into ``configs/packed.json``.

    Args:
        bundle: the bundle's folder.
        target: the file to write, named ``….zip``.
        weights: the weight file. Default ``models/model.pt`` of the bundle. What training left beside it is used.
        sample: a file or folder for the command that runs the bundle.
        variants: overlays of the bundle, by name, that the weights were trained with and that the command shall have.
        export: also pack the network in other formats.
        run_configs: whether the bundle's configs may be executed, which exports and the check that the weights fit
            need. Default: only those of the bundles in this checkout.
        overwrite: replace an existing file.

    Returns:
        the manifest.

    Raises:
        MissingDataError: there is no such bundle, sample or weight file, or the bundle has no weights yet.
        CheckpointError: the weights are unreadable, or of another architecture than the settings say.
        InvalidInputError: ``target`` exists or is no ``.zip``, a variant is unknown, or a file of the bundle is wrong.
        MissingDependencyError: the bundle needs a newer voxel_ext, or no wheel can be made of this one.
        OSError: ``target`` cannot be written.
    """
    opened, target = Bundle.open(bundle), Path(target)
    _check_target(target, overwrite)
    check_name(opened.name, str(opened.root))
    for variant in variants:
        check_option("variants", variant, opened.variants)
    run = opened.is_ours if run_configs is None else run_configs
    entries: dict[str, Path | bytes] = {**bundle_files(opened), **sample_files(sample)}
    packed_sample = [name for name in entries if name.startswith(f"{SAMPLE}/")]
    with tempfile.TemporaryDirectory(prefix="voxel_ext_pack_") as work:
        found = _add_weights(opened, weights, variants, entries, Path(work))
        exports = _add_exports(opened, found, entries, Path(work), _why_not(opened, export, run))
        wheel = _add_requirements(opened, entries, Path(work))
        overlays = [opened.variants[name].relative_to(opened.root).as_posix() for name in variants]
        overlays += [PACKED_OVERLAY] if found and found.differing else []
        commands = install_command(wheel), run_command(opened, packed_sample, overlays)
        entries["START.md"] = _start_text(opened, *commands, bool(packed_sample)).encode()
        manifest = Manifest(opened.name, opened.version, _made_with(), *commands, exports, ())
        manifest = _write(target, entries, manifest)
    size = target.stat().st_size / 2**20
    logger.info("%s: %s %s, %d files, %.1f MiB", target, opened.name, opened.version, len(manifest.files), size)
    return manifest


def _check_target(target: Path, overwrite: bool) -> None:
    """Check what would fail only after long work."""
    if target.suffix != ".zip":
        raise InvalidInputError(f"{target} must be named ….zip")
    if target.is_dir() or (os.path.lexists(target) and not overwrite):
        raise InvalidInputError(f"{target} exists; remove it, choose another name, or set the option overwrite")
    folder = next(path for path in target.absolute().parents if path.exists())
    with explain_write_errors(target), tempfile.TemporaryFile(dir=folder):
        pass


@dataclass(frozen=True)
class _Weights:
    """Weights, and how the configs have to be called to fit them."""

    source: Path
    variants: Sequence[str]
    differing: Mapping[str, Any]


def _add_weights(
    bundle: Bundle,
    weights: str | os.PathLike[str] | None,
    variants: Sequence[str],
    entries: dict[str, Path | bytes],
    work: Path,
) -> _Weights | None:
    """Add the weights, what training left beside them, and the overlay they need; None for a bundle without network."""
    if bundle.network_id is None:
        if weights is not None:
            raise InvalidInputError(f"weights={weights}: the bundle {bundle.name} has no network; leave weights out")
        return None
    source = bundle.root / "models" / "model.pt" if weights is None else Path(weights)
    if not source.is_file():
        raise MissingDataError(
            f"no weights at {source}; train the bundle first (run training), or name the file by the option weights"
        )
    entries["models/model.pt"] = _plain_weights(source, work)
    settings = read_settings(source)
    if settings is None:
        return _Weights(source, variants, {})
    config = read_config(bundle.configs["inference"])
    for name in variants:
        config |= read_config(bundle.variants[name])
    entries["models/settings.json"] = _json(settings)
    differing = differing_settings(settings, config)
    if differing:
        entries[PACKED_OVERLAY] = _json(differing)
        logger.info("%s: settings of the training that differ from the configs: %s", PACKED_OVERLAY, differing)
    return _Weights(source, variants, differing)


def _plain_weights(source: Path, work: Path) -> Path:
    """The file itself if it holds nothing but the network's state, else a file that does."""
    import torch

    from voxel_ext.handlers.weights import read_checkpoint, read_weights

    content, weights = read_checkpoint(source), read_weights(source)
    if content.keys() == weights.keys():
        return source
    plain = work / "model.pt"
    torch.save(weights, plain)
    return plain


def _why_not(bundle: Bundle, export: bool, run: bool) -> str:
    """Why the network is not exported; empty if it is to be."""
    if not export:
        return "exports were left out (export is false)"
    if bundle.network_id is None:
        return "the bundle has no network"
    return "" if run else "the configs of a bundle from elsewhere were not executed (run_configs is not true)"


def _add_exports(
    bundle: Bundle, weights: _Weights | None, entries: dict[str, Path | bytes], work: Path, why_not: str
) -> tuple[PackedExport, ...]:
    """Add the network in other formats; this also checks that the weights fit."""
    if weights is None or why_not:
        logger.info("no TorchScript and ONNX: %s", why_not)
        return tuple(PackedExport(name, None, None, why_not) for name in FORMATS)
    found = []
    for name in tqdm(FORMATS, desc="export"):
        one = _export(bundle, weights, name, work / "exported")
        if one.path is not None:
            entries[f"models/{one.path.name}"] = one.path
        difference = one.difference if one.difference is not None and math.isfinite(one.difference) else None
        path = None if one.path is None else f"models/{one.path.name}"
        found.append(PackedExport(name, path, difference, one.reason))
    return tuple(found)


def _export(bundle: Bundle, weights: _Weights, name: str, folder: Path) -> Export:
    """Export the network to one format."""
    from voxel_ext.sharing.export import export_network

    try:
        (one,) = export_network(
            bundle.root,
            folder,
            checkpoint=weights.source,
            formats=(name,),
            variants=weights.variants,
            overrides=weights.differing,
        )
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}: name the overlays it was trained with by variants, or keep beside it the settings.json that "
            "training wrote"
        ) from error
    return one


def _add_requirements(bundle: Bundle, entries: dict[str, Path | bytes], work: Path) -> str | None:
    """Add ``requirements.txt`` and, if the bundle needs it, the wheel; return the wheel's name."""
    source = str(bundle.root / METADATA)
    needed = required_packages(bundle.metadata, source)
    entries["requirements.txt"] = "".join(f"{line}\n" for line in pinned(needed)).encode()
    if PACKAGE not in needed:
        return None
    check_requirements({"required_packages_version": {PACKAGE: needed[PACKAGE]}}, source)
    wheel = build_wheel(work / "wheels")
    entries[f"wheels/{wheel.name}"] = wheel
    return wheel.name


def _made_with() -> dict[str, str]:
    """Versions of what the bundle was packed with."""
    packages = {name: installed_version(name) or "not installed" for name in ("monai", "torch", "numpy")}
    return {PACKAGE: voxel_ext.__version__, "python": platform.python_version(), **packages}


def _start_text(bundle: Bundle, install: str, run: str, sample: bool) -> str:
    """The text that a stranger reads first."""
    title = f"{bundle.metadata.get('name', bundle.name)} {bundle.version}"
    run = run or "see docs/README.md"
    data = f"the data in the folder {SAMPLE}" if sample else "synthetic data, which the bundle makes in the folder data"
    return (
        f"# {title}\n\nIn this folder, with Python 3.11 or newer, best in a fresh virtual environment:\n\n"
        f"```\n{install}\n{run}\n```\n\n"
        "The first command installs the tested versions of the packages. Where another build of PyTorch is wanted, for "
        "example that for the CPU alone, install it before, in the version that requirements.txt names.\n\n"
        f"The second runs the bundle on {data}, and leaves its results in the folder eval. Your own data, what the "
        "bundle does with them, and all its settings: docs/README.md. What is in this folder, with checksums: "
        f"{MANIFEST}.\n"
    )


def _write(target: Path, entries: dict[str, Path | bytes], manifest: Manifest) -> Manifest:
    """Write the archive and return the manifest with its files."""
    complete = manifest

    def last(written: list[PackedFile]) -> tuple[str, bytes]:
        nonlocal complete
        files = (replace(file, path=file.path.split("/", 1)[1]) for file in written)
        complete = replace(manifest, files=tuple(files))
        return f"{manifest.name}/{MANIFEST}", complete.to_json().encode()

    total = sum(len(entry) if isinstance(entry, bytes) else entry.stat().st_size for entry in entries.values())
    check_free_space(target.parent, total)
    with atomic_path(target) as temporary:
        write_zip(temporary, {f"{manifest.name}/{name}": entry for name, entry in entries.items()}, last)
        with zipfile.ZipFile(temporary) as archive:
            check_entries(archive.infolist(), str(target), temporary.stat().st_size, TOTAL_LIMIT)
    return complete


def _json(content: dict[str, Any]) -> bytes:
    """A config or settings as the text of a file."""
    return (json.dumps(content, indent=4, ensure_ascii=False) + "\n").encode()
