"""Match the worms that an evaluator has seen, all with all, when it has seen them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys

from voxel_ext.data.worm_pairs import opposite_roll
from voxel_ext.data.worm_store import WormStore
from voxel_ext.engines.worm_matching import CellMatches, WormFeatures, match_worms, name_worm
from voxel_ext.errors import InvalidInputError
from voxel_ext.losses.matching_loss import MatchingLoss
from voxel_ext.metrics.matching import MatchingAccuracy

logger = logging.getLogger(__name__)


class WormMatchingHandler:
    """Keep the features of every worm of an evaluator, then match the worms and add the metrics.

    Metrics, with the prefix: ``accuracy`` (mean over pairs of worms), ``accuracy_equal_roll``,
    ``accuracy_opposite_roll``, ``top_3``, ``top_5``, ``left_right``, ``pairs``, ``loss``; with references
    ``naming_accuracy`` and ``naming_worst``. They are NaN, with a warning, where no worm has a cell in common with
    another, so that its true match is known. Attach it before the handlers that use the metrics.

    Args:
        store: the worms that the evaluator iterates over; those from ``references`` on are reference worms, which are
            not matched but used to name the others.
        loss: the matching loss, whose cost is used, too.
        max_pairs: match no more pairs than this, chosen at random but always the same; 0 matches none.
        references: how many worms at the end of ``store`` are references.
        naming: how to combine the references, see :func:`~voxel_ext.engines.name_worm`.
        dummy_cost: see :func:`~voxel_ext.engines.match_worms`.
        prefix: of the metrics' names.
        details: also give the numbers of pairs and the standard errors, which say little in a learning curve.

    Raises:
        InvalidInputError: too many references, or neither two worms to match nor references to name one by.

    Attributes:
        worms: :class:`~voxel_ext.engines.WormFeatures` after the run, by place in ``store``.
        matches: :class:`~voxel_ext.engines.CellMatches` of the pairs; in a distributed run those that this process has
            matched.
        namings: of the worms that are not references.
        accuracy: :class:`~voxel_ext.metrics.MatchingAccuracy` of the pairs.
        naming_accuracy: that of the namings.
    """

    def __init__(
        self,
        store: WormStore,
        loss: MatchingLoss,
        max_pairs: int = 200,
        references: int = 0,
        naming: str = "mean_features",
        dummy_cost: float | None = None,
        prefix: str = "val_",
        details: bool = False,
    ) -> None:
        if not 0 <= references < len(store):
            raise InvalidInputError(f"references={references}: expected fewer than the {len(store)} worms")
        if max_pairs < 0:
            raise InvalidInputError(f"max_pairs={max_pairs}: expected a number of pairs, 0 for none")
        if not references and (max_pairs == 0 or len(store) < 2):
            raise InvalidInputError(
                f"there is nothing to match among {len(store)} worms ({store.files[0]}, ...) with "
                f"max_pairs={max_pairs} and no references; expected two worms (more to validate with?), or references"
            )
        self.store = store
        self.loss = loss
        self.max_pairs = max_pairs
        self.references = references
        self.naming = naming
        self.dummy_cost = dummy_cost
        self.prefix = prefix
        self.details = details
        self.worms: dict[int, WormFeatures] = {}
        self.matches: list[CellMatches] = []
        self.namings: list[CellMatches] = []
        names = store.names
        unique = len(set(names)) == len(names)
        self.accuracy = MatchingAccuracy(names if unique else None, None if unique else len(names))
        self.naming_accuracy = MatchingAccuracy(names if unique else None, None if unique else len(names))

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI evaluator over a :class:`~voxel_ext.data.WormDataset`."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._match)

    def pairs(self) -> list[tuple[int, int]]:
        """Return the pairs of worms to match, by place in the store."""
        pairs = list(itertools.combinations(range(len(self.store) - self.references), 2))
        if len(pairs) > self.max_pairs:
            chosen = np.random.default_rng(0).choice(len(pairs), self.max_pairs, replace=False)
            pairs = [pairs[i] for i in sorted(chosen)]
        return pairs

    def _start(self, _engine: Engine) -> None:
        self.worms = {}

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        predicted, batch = output[CommonKeys.PRED], output[CommonKeys.LABEL]
        layers = predicted if isinstance(predicted, list) else [predicted]
        for i, number in enumerate(batch["worm"].tolist()):
            order = torch.argsort(batch["cells"][i])
            header = self.store.headers[number]
            self.worms[number] = WormFeatures(
                header.worm,
                [layer[i][order].detach().float().cpu() for layer in layers],
                batch["valid"][i][order].cpu(),
                batch["positions"][i][order].cpu(),
                tuple(header.names),
            )

    def _match(self, engine: Engine) -> None:
        if idist.get_world_size() > 1:
            gathered: list[dict[int, WormFeatures]] = [{} for _ in range(idist.get_world_size())]
            torch.distributed.all_gather_object(gathered, self.worms)
            self.worms = {number: worm for part in gathered for number, worm in part.items()}
        self.accuracy.reset()
        self.naming_accuracy.reset()
        with torch.no_grad():
            metrics = {**self._match_pairs(), **self._name()}
        shown = (name for name in metrics if self.details or not name.startswith(("pairs", "accuracy_se")))
        engine.state.metrics.update({self.prefix + name: metrics[name] for name in shown})

    def _match_pairs(self) -> dict[str, float]:
        self.matches = []
        losses = []
        processes, pairs = idist.get_world_size(), self.pairs()
        comparable = [pair for pair in pairs if (self.worms[pair[0]].valid & self.worms[pair[1]].valid).any()]
        shared = len(comparable) >= processes  # so that each process has some; else every one matches all pairs
        if shared and processes > 1:
            others = [pair for pair in pairs if pair not in comparable]
            pairs = [*comparable[idist.get_rank() :: processes], *others[idist.get_rank() :: processes]]
        for i, j in pairs:
            first, second = self.worms[i], self.worms[j]
            found = match_worms(first, second, self.loss, self.dummy_cost)
            self.matches.append(found)
            if (found.target >= 0).any():
                roll = opposite_roll(*(self.store.headers[k].positions for k in (i, j)))
                _add(self.accuracy, found, int(roll))
                pair = list(zip(first.layers(), second.layers(), strict=True))
                losses.append(float(self.loss(pair, found.target)))
        count = idist.all_reduce(len(losses))
        if count:
            metrics = self.accuracy.aggregate()
            repeated = 1 if shared else processes
            metrics |= {name: value / repeated for name, value in metrics.items() if name.startswith("pairs")}
            return {**metrics, "loss": float(idist.all_reduce(sum(losses)) / count)}
        if not self.matches:
            return {}
        _warn("pair", self.matches)
        names = ["accuracy", "accuracy_se", *(f"top_{k}" for k in self.accuracy.top_k), "loss"]
        names += ["left_right"] if self.accuracy.names is not None else []
        return {**dict.fromkeys(names, float("nan")), "pairs": 0.0}

    def _name(self) -> dict[str, float]:
        self.namings = []
        if not self.references:
            return {}
        first = len(self.store) - self.references
        references = [self.worms[i] for i in range(first, len(self.store))]
        for i in range(first):
            found = name_worm(self.worms[i], references, self.loss, self.naming, self.dummy_cost)
            self.namings.append(found)
            if (found.target >= 0).any():
                _add(self.naming_accuracy, found, -1)
        accuracies = [found.accuracy for found in self.namings if (found.target >= 0).any()]
        if not accuracies:
            _warn("worm and references", self.namings)
            accuracies = [float("nan")]
        return {"naming_accuracy": float(np.mean(accuracies)), "naming_worst": float(np.min(accuracies))}


def _warn(what: str, matches: Sequence[CellMatches]) -> None:
    logger.warning(
        "no %s of %d has a cell in common, so no accuracy is known; the first: %s and %s",
        what,
        len(matches),
        matches[0].first,
        matches[0].second,
    )


def _add(metric: MatchingAccuracy, found: CellMatches, group: int) -> None:
    metric(
        found.matrix.cpu(),
        found.target,
        cells=torch.from_numpy(found.row_slots),
        column_cells=torch.from_numpy(found.column_slots),
        group=group,
        matches=found.assigned,
    )
