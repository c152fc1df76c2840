"""A bundle's network as TorchScript and ONNX files that compute the same."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from voxel_ext.errors import MissingDependencyError, VoxelExtError, check_option, require
from voxel_ext.files import atomic_path
from voxel_ext.sharing.bundle import Bundle
from voxel_ext.sharing.clean import clean_onnx, clean_torchscript
from voxel_ext.sharing.export_source import INPUT, Source, build_source, run

logger = logging.getLogger(__name__)

FILES = {"torchscript": "model.ts", "onnx": "model.onnx"}
"""The formats, and the names of their files."""

OUTPUT = "pred"
"""Name of the network's output in the ONNX file; the input is called as in the metadata."""


@dataclass(frozen=True)
class Export:
    """What came of exporting a network to a format.

    Attributes:
        format: ``"torchscript"`` or ``"onnx"``.
        path: the file; None if the network cannot be exported so.
        reason: how it was exported and with what limits, or why it cannot be.
        difference: largest difference from the network's own output, relative to its greatest value where that is above
            1; None where nothing was computed.
    """

    format: str
    path: Path | None
    reason: str
    difference: float | None


def export_network(
    bundle: Path,
    output_dir: Path,
    *,
    checkpoint: Path | None = None,
    formats: Sequence[str] = tuple(FILES),
    tolerance: float = 1e-3,
    variants: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> list[Export]:
    """Export a bundle's network with MONAI's ``ckpt_export`` and ``onnx_export``, and compare the outputs.

    The network is that of ``configs/inference.json`` whose output the metadata describe (see :class:`Bundle`). Each
    file is run on random inputs of the metadata's shape in two batch sizes, and in two sizes along the axes that the
    metadata leave free (``"8*n"``); one whose output differs is not kept. The configs of the bundle are executed.

    Args:
        bundle: the bundle's folder.
        output_dir: where ``model.ts`` and ``model.onnx`` go; existing ones are replaced, and removed where the network
            cannot be exported. The files hold no paths of this machine.
        checkpoint: the weights; default ``models/model.pt`` of the bundle. What training left beside it belongs to it.
        formats: of :data:`FILES`.
        tolerance: largest difference allowed, see :class:`Export`. TorchScript differs by 0, ONNX by up to 3e-4 where
            there are group norms: onnxruntime computes them as instance norms, with less exact sums than PyTorch.
        variants: names of overlays in ``configs/variants``, as in training.
        overrides: further config values by id, e.g. ``{"feature_layer": "projector"}``; also of the metadata, where a
            variant takes another input: ``{"_meta_#network_data_format#inputs#image#spatial_shape": [64, 64]}``.

    Returns:
        for each format what came of it; that a network cannot be exported is no error.

    Raises:
        MissingDataError: ``bundle`` is no bundle, or there are no weights.
        CheckpointError: the weights cannot be read, or are of another network.
        InvalidInputError: an unknown format or variant, or the config cannot be used.
        OSError: ``output_dir`` cannot be written to.
    """
    opened = Bundle.open(bundle)
    for name in formats:
        check_option("format", name, FILES)
    for name in variants:
        check_option("variant", name, opened.variants)
    weights = (opened.root / "models" / "model.pt" if checkpoint is None else Path(checkpoint)).resolve()
    results = _exports(opened, Path(output_dir), weights, formats, tolerance, variants, overrides or {})
    for result in results:
        if result.path is None:  # a file from before would be taken for this network's
            (Path(output_dir) / FILES[result.format]).unlink(missing_ok=True)
            logger.warning("no %s: %s", FILES[result.format], result.reason)
        else:
            logger.info("%s: %s, largest difference %.1e", result.path.name, result.reason, result.difference)
    return results


def _exports(
    bundle: Bundle,
    folder: Path,
    weights: Path,
    formats: Sequence[str],
    tolerance: float,
    variants: Sequence[str],
    overrides: Mapping[str, Any],
) -> list[Export]:
    """Build the network and export it to every format, if the metadata describe what it takes and gives."""
    if bundle.network_id is None:
        return [Export(name, None, "the bundle has no network", None) for name in formats]
    with tempfile.TemporaryDirectory() as scratch:
        source = build_source(bundle, weights, variants, overrides, Path(scratch) / "model.pt")
        try:
            expected = [run(source.network, image) for image in source.inputs]
        except (VoxelExtError, RuntimeError) as error:  # torch's own errors about shapes are RuntimeError
            reason = f"the network does not take the metadata's {INPUT} alone: {_first_line(error)}"
            return [Export(name, None, reason, None) for name in formats]
        if not all(isinstance(output, torch.Tensor) for output in expected):
            reason = f"the network's output is a {type(expected[0]).__name__}; expected a tensor, as in the metadata"
            return [Export(name, None, reason, None) for name in formats]
        with _quiet():
            return [_export(name, source, expected, folder, tolerance) for name in formats]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporters say on the way: it names temporary files, and what comes of it is tested."""
    loggers = [logging.getLogger(name) for name in ("monai.bundle.scripts", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def _export(name: str, source: Source, expected: list[torch.Tensor], folder: Path, tolerance: float) -> Export:
    """Export to one format; what goes wrong becomes the reason."""
    target = folder / FILES[name]
    with contextlib.suppress(_NotKept), atomic_path(target) as file:
        result = (_export_torchscript if name == "torchscript" else _export_onnx)(source, expected, file)
        if result.difference is not None and not result.difference <= tolerance:
            reason = f"the output differs from the network's by {result.difference:.1e}, more than {tolerance:.0e}"
            result = Export(name, None, reason, result.difference)
        if result.path is None:
            raise _NotKept  # so that nothing is written
        result = Export(name, target, result.reason, result.difference)
    return result


class _NotKept(Exception):
    """The file that is being written is not wanted."""


def _export_torchscript(source: Source, expected: list[torch.Tensor], file: Path) -> Export:
    """Compile the network's code, or else record what it does with an input."""
    from monai.bundle import ckpt_export

    problems = []
    for how in ("scripted", "traced"):
        shape: dict[str, Any] = (
            {"use_trace": True, "input_shape": list(source.inputs[0].shape)} if how == "traced" else {}
        )
        try:
            ckpt_export(filepath=str(file), **source.arguments, **shape)
            clean_torchscript(file)
            network = torch.jit.load(file, map_location="cpu")
            outputs = [run(network, image) for image in source.inputs]
        except Exception as error:  # whatever the compiler has to say about a network
            problems.append(f"cannot be {how}: {_first_line(error)}")
            continue
        return Export("torchscript", file, "; ".join([how, *problems]), _difference(outputs, expected))
    return Export("torchscript", None, "; ".join(problems), None)


def _export_onnx(source: Source, expected: list[torch.Tensor], file: Path) -> Export:
    """Record the network's graph with free sizes, and run it with onnxruntime."""
    from monai.bundle import onnx_export

    try:
        for module in ("onnx", "onnxscript"):
            require(module, "export")
        runtime = require("onnxruntime", "export")
    except MissingDependencyError as error:
        return Export("onnx", None, str(error), None)
    options = {
        "input_names": [INPUT],
        "output_names": [OUTPUT],
        "dynamic_axes": {INPUT: source.axes},
        "external_data": False,
        "verbose": False,
    }
    shape = list(source.inputs[0].shape)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the exporter prints its progress
            # use_trace hands the options to torch.onnx.export
            onnx_export(
                filepath=str(file), use_trace=True, input_shape=shape, converter_kwargs=options, **source.arguments
            )
        clean_onnx(file)
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        outputs = [torch.from_numpy(session.run([OUTPUT], {INPUT: image.numpy()})[0]) for image in source.inputs]
    except Exception as error:  # whatever the exporter has to say about a network
        return Export("onnx", None, f"cannot be exported: {_first_line(error)}", None)
    return Export("onnx", file, f"free sizes: {', '.join(source.axes.values())}", _difference(outputs, expected))


def _difference(outputs: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """See :class:`Export`; infinite where shapes differ or values are not numbers."""
    largest = 0.0
    for output, wanted in zip(outputs, expected, strict=True):
        if output.shape != wanted.shape or not torch.isfinite(output).all():
            return float("inf")
        largest = max(largest, float((output - wanted).abs().max() / wanted.abs().max().clamp(min=1)))
    return largest


def _first_line(error: BaseException) -> str:
    """The first line of the error that caused all others."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
