"""Write a report that shows what a variational autoencoder of objects makes of them, and what is in its code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine
from monai.networks.utils import eval_mode
from numpy.typing import NDArray

from voxel_ext.data.object_classes import class_label
from voxel_ext.data.object_contents import object_channels
from voxel_ext.errors import check_counts
from voxel_ext.handlers.object_features import batch_value, predicted
from voxel_ext.handlers.report_writer import ReportWriter
from voxel_ext.losses import gaussian_kl
from voxel_ext.networks.nets import ShapeVAE
from voxel_ext.visualize import colors
from voxel_ext.visualize.shape_report import class_table, code_picture, difference_tile, mosaic, object_tile

_STEPS = 7
_PAIRS = 5
_TRAVERSED = 6
_REACH = 2.5  # standard deviations
_ROW = 6  # objects beside each other
_BATCH = 16
_UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class _Shown:
    """An object of the report."""

    id: int
    name: str
    image: NDArray[np.float32]
    reconstruction: NDArray[np.float32]
    code: torch.Tensor

    @property
    def label(self) -> str:
        return f"{self.name if self.name != _UNKNOWN else 'object'} {self.id}"


class VAEReportHandler(ReportWriter):
    """Write ``report.html`` of a variational autoencoder of objects when an evaluator has completed.

    The page has the learning curves, the metrics, the settings; some objects beside their reconstructions; figures by
    class; what the decoder gives on the line between the codes of two objects, and along the dimensions of the code
    with the largest divergence; and how many dimensions are used. Objects are drawn by class, those of the lowest ids
    first, whole ones only. The evaluator must not decollate.

    Args:
        path: the file to write; replaced whole at the end of every run of the engine, by the process of rank 0.
        network: the evaluator's, whose decoder is asked.
        contents: of the cubes, see ``prepare_objects``.
        title: heading of the page.
        settings: what to list as settings, may be nested.
        history_file: that of the training; no curves if None or if there is no such file.
        class_names: of the classes 0, 1, ...; None where they have no names, or are not known.
        max_objects: how many objects to show; 0 for none.
        notes: sentences to put on top of the page.

    Raises:
        InvalidInputError: ``max_objects`` is negative, or the contents are not known.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        network: ShapeVAE,
        contents: str = "mask",
        title: str = "Report",
        settings: Mapping[str, Any] | None = None,
        history_file: str | os.PathLike[str] | None = None,
        class_names: Sequence[str] | None = None,
        max_objects: int = 12,
        notes: Sequence[str] = (),
    ) -> None:
        check_counts({}, max_report_objects=max_objects)
        super().__init__(path, title, settings, history_file, notes)
        self.network = network
        self.channels = object_channels(contents)
        self.class_names = class_names
        self.max_objects = max_objects
        self._start()

    def _libraries(self) -> tuple[str, ...]:
        return ("matplotlib", "PIL")

    def _start(self, _engine: Engine | None = None) -> None:
        self._shown: dict[str, list[_Shown]] = {}
        self._divergence: list[torch.Tensor] = []
        self._codes: list[torch.Tensor] = []
        self._figures: dict[str, list[dict[str, float]]] = {}

    def _collect(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        mean, spread = predicted(engine, "mean").float(), predicted(engine, "log_variance").float()
        image = batch_value(batch, "image").to(mean.device).float()
        restored = predicted(engine, "reconstruction").float()
        # each dimension as a code of its own
        flat = gaussian_kl(mean.reshape(-1, 1), spread.reshape(-1, 1))
        self._divergence.append(flat.reshape(mean.shape).sum(dim=0).double().cpu())
        self._codes.append(mean.cpu())
        names = self._names(batch, len(mean))
        for row, figures in enumerate(self._measure(image, restored)):
            self._figures.setdefault(names[row], []).append(figures)
        for row in range(len(mean)):
            kept = self._shown.setdefault(names[row], [])
            if len(kept) < self.max_objects and ("chunk" not in batch or int(batch["chunk"][row]) == 0):
                cubes = [values[row].cpu().numpy() for values in (image, restored)]
                kept.append(_Shown(int(batch["id"][row]), names[row], cubes[0], cubes[1], mean[row].cpu()))

    def _names(self, batch: Mapping[str, Any], count: int) -> list[str]:
        """The class of each object of a batch."""
        if "class" not in batch:
            return [_UNKNOWN] * count
        return [class_label(number, self.class_names) or _UNKNOWN for number in batch["class"].tolist()]

    def _measure(self, image: torch.Tensor, restored: torch.Tensor) -> list[dict[str, float]]:
        """L1 of each object, and of the reconstruction of another object of the batch; Dice of masks."""
        axes = (1, 2, 3, 4)
        rows = {"L1": (restored - image).abs().mean(axes)}
        if len(image) > 1:
            rows["L1 with the code of another object"] = (restored.roll(1, 0) - image).abs().mean(axes)
        if "mask" in self.channels:
            true, found = image[:, 0] > 0.5, restored[:, 0] > 0.5
            both = (true & found).sum((1, 2, 3))
            rows["Dice"] = 2 * both / (true.sum((1, 2, 3)) + found.sum((1, 2, 3))).clamp_min(1)
        values = {name: column.tolist() for name, column in rows.items()}
        return [{name: column[row] for name, column in values.items()} for row in range(len(image))]

    def _write(self, engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        shown = self._choose()
        codes = torch.cat(self._codes)
        divergence = torch.stack(self._divergence).sum(dim=0).numpy() / len(codes)
        sections = [("Reconstructions by class", self._table())]
        if shown:
            sections += [("Objects and their reconstructions", self._compare(shown))]
            sections += [("Between two codes", between)] if (between := self._interpolate(shown)) else []
            sections += [("Along the code", self._traverse(codes, divergence))]
        sections += [("The code", code_picture(divergence))]
        self._publish(engine, sections)

    def _choose(self) -> list[_Shown]:
        """Take one object of each class after the other, until there are enough."""
        groups = [sorted(group, key=lambda one: one.id) for _, group in sorted(self._shown.items())]
        longest = max(map(len, groups), default=0)
        return [group[turn] for turn in range(longest) for group in groups if turn < len(group)][: self.max_objects]

    def _table(self) -> str:
        rows = {}
        for name, figures in sorted(self._figures.items()):
            columns = dict.fromkeys(key for row in figures for key in row)
            means = {key: float(np.mean([row[key] for row in figures if key in row])) for key in columns}
            rows[name] = {"cubes": len(figures), **means}
        return class_table(rows)

    def _compare(self, shown: Sequence[_Shown]) -> str:
        pictures = []
        lines = ("original", "reconstruction", *(f"{channel}, difference" for channel in self.channels))
        for start in range(0, len(shown), _ROW):
            some = shown[start : start + _ROW]
            tiles = [[object_tile(one.image, self.channels) for one in some]]
            tiles += [[object_tile(one.reconstruction, self.channels, colors.PREDICTION) for one in some]]
            for channel in range(len(self.channels)):
                changes = [difference_tile(one.image[channel], one.reconstruction[channel]) for one in some]
                tiles += [[_widened(tile, tiles[0][0].shape[1]) for tile in changes]]
            names = [one.label for one in some]
            note = "" if start + _ROW < len(shown) else (
                "Surfaces at 0.5, in the frame of the cube. Differences in the middle slice; red: the reconstruction "
                "has more, blue: less."
            )  # fmt: skip
            pictures.append(mosaic(tiles, lines, names, f"Objects {', '.join(names)}", note))
        return "".join(pictures)

    def _interpolate(self, shown: Sequence[_Shown]) -> str:
        pairs = _far_pairs(shown)
        if not pairs:
            return ""
        shares = torch.linspace(0, 1, _STEPS)[:, None]
        tiles = []
        for first, second in pairs:
            decoded = self._decode(torch.lerp(first.code[None], second.code[None], shares))
            ends = [object_tile(one.image, self.channels) for one in (first, second)]
            middle = [object_tile(image, self.channels, colors.PREDICTION) for image in decoded]
            tiles.append([ends[0], *middle, ends[1]])
        columns = ["original", *(f"{share:.2f}" for share in shares[:, 0].tolist()), "original"]
        rows = [f"{first.label}\nto {second.label}" for first, second in pairs]
        note = "What the decoder gives on the straight line between the codes of two objects."
        return mosaic(tiles, rows, columns, "Interpolation between codes", note)

    def _traverse(self, codes: torch.Tensor, divergence: NDArray[np.float64]) -> str:
        strongest = np.argsort(-divergence, kind="stable")[:_TRAVERSED]
        center, spread = codes.mean(dim=0), codes.std(dim=0, correction=0)
        shares = torch.linspace(-_REACH, _REACH, _STEPS)
        tiles = []
        for dimension in strongest.tolist():
            line = center.repeat(_STEPS, 1)
            line[:, dimension] += shares * spread[dimension]
            tiles.append([object_tile(one, self.channels, colors.PREDICTION) for one in self._decode(line)])
        rows = [f"dimension {one}\n{divergence[one]:.2f} nats" for one in strongest]
        columns = [f"{share:+.1f} sd" for share in shares.tolist()]
        note = (
            "From the mean of all codes, along the dimensions of the largest divergence, in standard deviations of the "
            "codes."
        )
        return mosaic(tiles, rows, columns, "Traversal of the code", note)

    def _decode(self, codes: torch.Tensor) -> NDArray[np.float32]:
        device = next(self.network.parameters()).device
        with torch.no_grad(), eval_mode(self.network):
            parts = [self.network.decode(part.to(device)).float().cpu() for part in codes.split(_BATCH)]
        return torch.cat(parts).numpy()


def _far_pairs(shown: Sequence[_Shown]) -> list[tuple[_Shown, _Shown]]:
    """Pairs of objects of different classes (of any, where there is only one), the farthest first, none twice."""
    several = len({one.name for one in shown}) > 1
    pairs = [(a, b) for a, b in combinations(shown, 2) if not several or a.name != b.name]
    pairs.sort(key=lambda pair: -float((pair[0].code - pair[1].code).square().sum()))
    chosen: list[tuple[_Shown, _Shown]] = []
    for a, b in pairs:
        if all(a is not other and b is not other for pair in chosen for other in pair):
            chosen.append((a, b))
    return chosen[:_PAIRS]


def _widened(tile: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Center a tile in a wider white one."""
    before = (width - tile.shape[1]) // 2
    return np.pad(tile, ((0, 0), (before, width - tile.shape[1] - before), (0, 0)), constant_values=255)
