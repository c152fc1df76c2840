"""Accuracy of nearest neighbors among features of labeled objects, while a network learns without labels."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.networks.utils import eval_mode
from monai.utils import convert_to_tensor
from torch.nn import functional as F

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.tensorboard_log import TensorBoardLog

logger = logging.getLogger(__name__)

# queries at a time: the similarities with a bank of 100 000 objects then take 0.4 GB
CHUNK = 1024


def knn_predict(
    queries: torch.Tensor,
    bank: torch.Tensor,
    classes: torch.Tensor,
    k: int = 5,
    temperature: float | None = 0.1,
    query_ids: torch.Tensor | None = None,
    bank_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Predict a class by the k most similar vectors of a bank, by the cosine.

        votes(c) = sum over the k neighbors i of class c of exp(cos_i / T),   or their number;   argmax over c

    Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", section 3.4. Of classes
    with equal votes the least is predicted.

    Args:
        queries: (N, d).
        bank: (M, d).
        classes: of the bank, (M,), integers of at least 0.
        k: number of neighbors.
        temperature: T; None for one vote each.
        query_ids: objects of the queries, (N,); a vector of the bank of the same object is not a neighbor.
        bank_ids: objects of the bank, (M,).

    Returns:
        (N,), int64.

    Raises:
        InvalidInputError: k or T is not valid, shapes do not fit, or a query has fewer than k possible neighbors.
    """
    _check_settings(k, temperature)
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1] or classes.shape != bank.shape[:1]:
        raise InvalidInputError(
            f"queries {tuple(queries.shape)}, bank {tuple(bank.shape)} and classes {tuple(classes.shape)} do not fit; "
            "expected (N, d), (M, d) and (M,)"
        )
    queries, bank = F.normalize(queries.float(), dim=1), F.normalize(bank.float(), dim=1)
    classes, predicted = classes.long(), []
    for start in range(0, len(queries), CHUNK):
        similarity = queries[start : start + CHUNK] @ bank.T
        if query_ids is not None and bank_ids is not None:
            same = query_ids[start : start + CHUNK, None] == bank_ids
            similarity = similarity.masked_fill(same, -torch.inf)
        possible = int(similarity.isfinite().sum(dim=1).min())
        if possible < k:
            raise InvalidInputError(
                f"k={k} neighbors are asked for, but a query has only {possible} labeled objects to choose from "
                f"among {len(bank)} vectors with finite values; give more labeled objects or a smaller k"
            )
        nearest = similarity.topk(k, dim=1)
        votes = torch.ones_like(nearest.values, dtype=torch.float64)
        if temperature is not None:  # relative to the nearest, so that a low temperature does not overflow
            votes = ((nearest.values - nearest.values[:, :1]).double() / temperature).exp()
        totals = votes.new_zeros(len(votes), int(classes.max()) + 1)
        predicted.append(totals.scatter_add_(1, classes[nearest.indices], votes).argmax(dim=1))
    return torch.cat(predicted) if predicted else classes.new_zeros(0)


class KNNMonitorHandler:
    """Classify labeled objects by the nearest neighbors of their features, every few epochs.

    The share of right classes is the metric ``knn_accuracy`` of the engine, also in TensorBoard. The network is in
    evaluation mode meanwhile, and in its own again afterwards.

    With ``bank_loader`` the neighbors are its objects; without, all others of ``data_loader`` (leave one out), where
    with ``id_key`` other crops of the same object do not count. Objects without a class, None, an empty text or a
    negative number, are left out.

    Args:
        network: with a method ``encode`` from images (B, C, D, H, W) to features (B, d).
        data_loader: batches with images and classes of the objects to classify; without augmentation.
        bank_loader: batches of the objects whose classes are known to the classifier.
        k: number of neighbors; 5 as in the original.
        temperature: of the votes, see :func:`knn_predict`; None for one vote each.
        interval: epochs from one computation to the next.
        image_key: of a batch.
        label_key: of a batch, the classes: texts or integers.
        id_key: of a batch, the ids of the objects; None where each has one row.
        encode: from images to features instead of ``network.encode``.
        device: of the computation; None for that of the network's parameters.
        log_dir: TensorBoard folder; None does not log there.

    Raises:
        InvalidInputError: a number is not valid, or the network has no ``encode``.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        data_loader: Iterable[Mapping[str, Any]],
        bank_loader: Iterable[Mapping[str, Any]] | None = None,
        k: int = 5,
        temperature: float | None = 0.1,
        interval: int = 1,
        image_key: str = "image",
        label_key: str = "class",
        id_key: str | None = None,
        encode: Callable[[torch.Tensor], torch.Tensor] | None = None,
        device: str | torch.device | None = None,
        log_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        _check_settings(k, temperature)
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise InvalidInputError(f"interval={interval!r} is not valid; expected a whole number of at least 1")
        if encode is None and not hasattr(network, "encode"):
            raise InvalidInputError(f"{type(network).__name__} has no method encode; expected one, or the argument")
        self.network = network
        self.encode: Callable[[torch.Tensor], torch.Tensor] = encode or network.encode  # type: ignore[assignment]
        self.data_loader = data_loader
        self.bank_loader = bank_loader
        self.k = k
        self.temperature = temperature
        self.interval = interval
        self.keys = (image_key, label_key, id_key)
        self.device = device
        self.log = TensorBoardLog(log_dir)

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI trainer, before handlers that use the metric."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)
        self.log.attach(engine)

    def __call__(self, engine: Engine) -> None:
        """Compute the accuracy and log it."""
        accuracy = self.accuracy()
        engine.state.metrics["knn_accuracy"] = accuracy
        self.log.add({"knn_accuracy": accuracy}, engine.state.epoch)
        if idist.get_rank() == 0:
            logger.info("epoch %d: accuracy of %d nearest neighbors %.4f", engine.state.epoch, self.k, accuracy)

    def accuracy(self) -> float:
        """Return the share of the labeled objects whose class is predicted right.

        Raises:
            InvalidInputError: a batch lacks a key, no object is labeled, or there are fewer than k neighbors.
        """
        with eval_mode(self.network):
            queries = self._features(self.data_loader, "data_loader")
            bank = queries if self.bank_loader is None else self._features(self.bank_loader, "bank_loader")
        names = np.unique(bank.classes)
        codes = torch.as_tensor(np.searchsorted(names, bank.classes))
        # rows may repeat an object; without ids, a row is its own object
        ids = (queries.ids, bank.ids) if self.bank_loader is None or self.keys[2] is not None else (None, None)
        found = knn_predict(queries.features, bank.features, codes, self.k, self.temperature, *ids)
        return float((names[found.numpy()] == queries.classes).mean())

    def _features(self, loader: Iterable[Mapping[str, Any]], place: str) -> _Labeled:
        """Collect features, classes and ids of the labeled objects of a loader."""
        image_key, label_key, id_key = self.keys
        device = self.device or next(self.network.parameters()).device
        features, classes, ids = [], [], []
        for batch in loader:
            for key in (image_key, label_key, *([] if id_key is None else [id_key])):
                if key not in batch:
                    raise InvalidInputError(f"a batch of {place} has no {key!r}; its keys are {sorted(batch)}")
            labels = _as_list(batch[label_key])
            kept = [index for index, label in enumerate(labels) if not _is_missing(label)]
            if kept:
                images = convert_to_tensor(batch[image_key], track_meta=False)[kept].to(device)
                features.append(self.encode(images).detach().float().cpu())
                classes += [labels[index] for index in kept]
                ids += [_as_list(batch[id_key])[index] for index in kept] if id_key else []
        if not features:
            raise InvalidInputError(f"{place} has no object with a class under {label_key!r}; give labeled objects")
        rows = torch.arange(len(classes)) if id_key is None else torch.as_tensor(ids)
        return _Labeled(torch.cat(features), np.asarray(classes), rows)


@dataclass
class _Labeled:
    """Features (N, d), classes (N,) and ids (N,) of labeled objects."""

    features: torch.Tensor
    classes: np.ndarray
    ids: torch.Tensor


def _as_list(values: Any) -> list[Any]:
    return values.flatten().tolist() if isinstance(values, torch.Tensor | np.ndarray) else list(values)


def _is_missing(label: Any) -> bool:
    return label is None or label == "" or (isinstance(label, int | float) and not label >= 0)


def _check_settings(k: int, temperature: float | None) -> None:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InvalidInputError(f"k={k!r} is not valid; expected a whole number of at least 1")
    if temperature is not None and (isinstance(temperature, bool) or not temperature > 0):
        raise InvalidInputError(f"temperature={temperature!r} is not valid; expected a positive number, or none")
