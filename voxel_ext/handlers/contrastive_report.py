"""Write a report on the features that contrastive learning gives to objects."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine
from monai.networks.utils import eval_mode
from numpy.typing import NDArray

from voxel_ext.data.object_classes import UNKNOWN, class_label
from voxel_ext.data.object_dataset import ObjectDataset
from voxel_ext.errors import check_counts
from voxel_ext.handlers.object_features import batch_column, batch_value, predicted
from voxel_ext.handlers.report_writer import ReportWriter
from voxel_ext.handlers.reservoir import Reservoir
from voxel_ext.transforms.two_views import VIEWS
from voxel_ext.visualize.contrastive_report import feature_map, nearest_objects, neighbor_gallery, view_pairs

NEIGHBORS = 5
PAIRS = 8
_CURVES = {"knn_accuracy": "val_knn_accuracy", "output_spread": "val_output_spread"}  # beside each other, from 0 to 1
_NO_CURVES = ("val_agreement", "output_std", "seconds")  # the loss turned over, the spread in other units, the time


class ContrastiveReportHandler(ReportWriter):
    """Keep the features of some objects of an evaluator, drawn at random, and write ``report.html`` at its end.

    The page has the learning curves, the metrics, a map of the features (principal components, colored by class where
    it is known), some objects beside those with the most similar features, pairs of views where the batches have them,
    and the settings. The evaluator must not decollate.

    Args:
        path: the file to write; replaced whole at the end of every run of the engine, by the process of rank 0.
        dataset: the objects of the evaluator's batches, for pictures and the names of classes.
        encode: from images (B, C, S, S, S) to features (B, L); None where the network's output has them.
        title: heading of the page.
        settings: what to list as settings, may be nested.
        history_file: that of the training; no curves if None or if there is no such file.
        max_objects: of how many objects to show the neighbors; 0 for none.
        max_map_objects: how many objects the map has and neighbors are sought among, at least 2.
        key: of the features in the network's output, if ``encode`` is None.
        notes: sentences to put on top of the page.

    Raises:
        InvalidInputError: ``max_objects`` is negative, or ``max_map_objects`` below 2.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        dataset: ObjectDataset,
        encode: Callable[[torch.Tensor], torch.Tensor] | None = None,
        title: str = "Report",
        settings: Mapping[str, Any] | None = None,
        history_file: str | os.PathLike[str] | None = None,
        max_objects: int = 12,
        max_map_objects: int = 2000,
        key: str = "features",
        notes: Sequence[str] = (),
    ) -> None:
        check_counts({"max_map_objects": 2}, max_report_objects=max_objects, max_map_objects=max_map_objects)
        super().__init__(path, title, settings, history_file, notes)
        self.dataset = dataset
        self.encode = encode
        self.max_objects = max_objects
        self.max_map_objects = max_map_objects
        self.key = key
        self._start()

    def _libraries(self) -> tuple[str, ...]:
        return ("matplotlib", "PIL")

    def _start(self, _engine: Engine | None = None) -> None:
        self._kept: Reservoir[tuple[int, int, NDArray[np.float32]]] = Reservoir(self.max_map_objects)
        self._views: list[tuple[int, NDArray[np.float32], NDArray[np.float32]]] = []

    def _collect(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        ids, chunks = batch_column(batch, "id").tolist(), batch_column(batch, "chunk").tolist()
        classes = batch_column(batch, "class").tolist() if "class" in batch else [UNKNOWN] * len(ids)
        features = self._features(engine)

        def take(row: int) -> tuple[int, int, NDArray[np.float32]]:
            return ids[row], classes[row], features[row]

        for i, chunk in enumerate(chunks):
            if chunk:
                continue
            self._kept.offer(partial(take, i))
            if len(self._views) < PAIRS and VIEWS[0] in batch:
                first, second = (np.asarray(batch[key][i].float().cpu()) for key in VIEWS)
                self._views.append((ids[i], first, second))

    def _features(self, engine: Engine) -> NDArray[np.float32]:
        if self.encode is None:
            return predicted(engine, self.key).detach().float().cpu().numpy()
        images = batch_value(engine.state.batch, "image").to(engine.state.device)  # type: ignore[attr-defined]
        owner = getattr(self.encode, "__self__", self.encode)
        with torch.no_grad(), eval_mode(*([owner] if isinstance(owner, torch.nn.Module) else [])):
            return self.encode(images).float().cpu().numpy()

    def _write(self, engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        self._publish(engine, self._sections())

    def _listed(self) -> dict[str, Any]:
        """Arguments of every page, with the curves that tell something new."""
        listed = super()._listed()
        rows = [
            {_CURVES.get(name, name): value for name, value in row.items() if name not in _NO_CURVES}
            for row in listed["history"]
        ]
        return {**listed, "history": rows}

    def _sections(self) -> list[tuple[str, str]]:
        sections = []
        if self._kept:
            features = np.stack([row for _, _, row in self._kept])
            sections.append(("Map of the features", feature_map(features, [self._name(c) for _, c, _ in self._kept])))
            if len(self._kept) > 1 and self.max_objects:
                sections.append(("Nearest neighbors", self._gallery(features)))
        if self._views:
            ids, first, second = zip(*self._views, strict=True)
            sections.append(("Views", view_pairs(np.stack(first), np.stack(second), [f"object {one}" for one in ids])))
        return sections

    def _gallery(self, features: NDArray[np.float32]) -> str:
        chosen = sorted(random.Random(0).sample(range(len(features)), min(self.max_objects, len(features))))
        near = nearest_objects(features, chosen, NEIGHBORS)
        rows = [[query, *found] for query, found in zip(chosen, near.tolist(), strict=True)]
        places = {int(one): row for row, one in reversed(list(enumerate(self.dataset.ids)))}
        cubes, names, agreeing = [], [], []
        for row in rows:
            kept = [self._kept[number] for number in row]
            own = kept[0][1]
            cubes.append([self._mask(places[one]) for one, _, _ in kept])
            names.append([f"{one} {self._name(known)}".strip() for one, known, _ in kept])
            agreeing.append([known == own != UNKNOWN for _, known, _ in kept])
        return neighbor_gallery(cubes, names, agreeing)

    def _mask(self, row: int) -> NDArray[np.float32]:
        image = self.dataset[row]["image"]
        return (np.asarray(image[0]) > 0).astype(np.float32)

    def _name(self, known: int) -> str:
        return class_label(known, self.dataset.class_names)
