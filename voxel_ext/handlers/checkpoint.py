"""Checkpoints of a training run: which to keep, and how to go on after an interruption."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from voxel_ext.errors import CheckpointError, InvalidInputError, check_option
from voxel_ext.files import atomic_path
from voxel_ext.handlers.resume_state import restore_state
from voxel_ext.handlers.weights import load_state, load_weights, read_checkpoint, read_state, save_checkpoint, unwrap

logger = logging.getLogger(__name__)

POLICIES = ("last", "best", "all")
LAST = "checkpoint_last.pt"
TRAINED = "trained_network"
"""State with the network under training where "network" is an average of its weights over time."""


class CheckpointHandler:
    """Save the weights by a policy, and the whole state of the run for a resume.

    Attach it to the trainer after the ``ValidationHandler`` and the ``HistoryHandler``. It writes, each atomically:

    - ``model.pt``: the weights (a plain state dict, as the MONAI model zoo has it): of the best epoch by
      ``key_metric`` (policies ``best`` and ``all``) or of the last (``last``);
    - ``model_epoch_0001.pt`` ...: the weights of every epoch (``all`` only);
    - ``checkpoint_last.pt``: every state in ``states``, the epoch and the best metric, after every epoch;
    - ``settings.json``: the settings of the run.

    A new run (``resume=False``) moves the files of an earlier one to ``previous/1``, ``previous/2``, ... first. Running
    the same trainer again, as every round of federated learning does, goes on: nothing is moved or resumed then.
    Randomness is a function of the seed and the epoch (:class:`~voxel_ext.handlers.EpochSeedHandler`), so epoch and
    seed restore it.

    Args:
        ckpt_dir: folder of the checkpoints.
        states: what has ``state_dict`` and ``load_state_dict``, by name; ``"network"`` is required, ``"optimizer"``,
            ``"lr_scheduler"``, ``"early_stopping"`` and ``"history"`` are usual. Where ``"network"`` is an average of
            the weights over time, ``"trained_network"`` is the one under training.
        policy: ``"last"``, ``"best"`` or ``"all"``.
        validator: the validation engine that computes ``key_metric``.
        key_metric: name of a metric of the validator, the higher the better.
        resume: False starts anew; True continues from ``checkpoint_last.pt`` (or starts anew, with a warning, where
            there is none yet); a path continues from that file.
        load_weights_only: take only the network's weights from the file named by ``resume``, and start at epoch 0.
        settings: the settings of the run, JSON-serialisable; differences on a resume are logged.

    Raises:
        InvalidInputError: unknown policy, a policy other than ``last`` without a validator, no ``"network"``, or
            ``load_weights_only`` without a path in ``resume``.
        CheckpointError: on start, when the checkpoint to resume is unreadable or does not fit.
    """

    def __init__(
        self,
        ckpt_dir: str | os.PathLike[str],
        states: Mapping[str, Any],
        policy: str = "best",
        validator: Engine | None = None,
        key_metric: str = "val_iou",
        resume: bool | str = False,
        load_weights_only: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        check_option("checkpoint_policy", policy, POLICIES)
        if "network" not in states:
            raise InvalidInputError(f"states={list(states)} has no 'network'")
        if validator is None and policy != "last":
            raise InvalidInputError(
                f"checkpoint_policy={policy!r} needs a validator to tell the best epoch; use 'last'"
            )
        if load_weights_only and not isinstance(resume, str):
            raise InvalidInputError(
                f"load_weights_only=True needs the path of a checkpoint in resume; found resume={resume!r}"
            )
        self.ckpt_dir = Path(ckpt_dir)
        self.states = dict(states)
        self.policy = policy
        self.validator = validator
        self.key_metric = key_metric
        self.resume = resume
        self.load_weights_only = load_weights_only
        # as they come back from a checkpoint: lists for tuples, texts for what JSON cannot hold
        self.settings: dict[str, Any] = json.loads(json.dumps(dict(settings or {}), default=str))
        self.best_metric: float | None = None
        self._validated = False
        self._started = False

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        if self.validator is not None:
            self.validator.add_event_handler(Events.COMPLETED, self._note_validation)

    def _start(self, engine: Engine) -> None:
        if self._started:
            return
        self._started = True
        source = self._source()
        content = None
        if self.load_weights_only:
            for name in ("network", TRAINED):
                if name in self.states:
                    load_weights(str(self.resume), self.states[name])
        elif source is not None:
            content = read_checkpoint(source)
            self._restore(content, source, engine)
        idist.barrier()
        if idist.get_rank() == 0:
            if content is None:
                self._set_aside()
            with atomic_path(self.ckpt_dir / "settings.json") as temporary:
                temporary.write_text(json.dumps(self.settings, indent=2) + "\n", encoding="utf-8")
        idist.barrier()

    def _source(self) -> Path | None:
        if isinstance(self.resume, str):
            return Path(self.resume)
        last = self.ckpt_dir / LAST
        if self.resume and not last.is_file():
            logger.warning("resume: no %s yet, so the training starts from the beginning", last)
        return last if self.resume and last.is_file() else None

    def _restore(self, content: dict[str, Any], source: Path, engine: Engine) -> None:
        names = ["epoch", *self.states]
        lacking = [name for name in names if name not in content]
        if lacking:
            raise CheckpointError(
                f"{source} cannot be resumed: it has no {', '.join(lacking)}. To start a new training from its weights "
                "set load_weights_only to true"
            )
        _check_record(content, source)
        for name, kind in self._kinds().items():
            if (earlier := (content.get("kinds") or {}).get(name, kind)) != kind:
                raise CheckpointError(
                    f"{source} cannot be resumed: its {name} was a {earlier}, now it is a {kind}. To start a new "
                    "training from its weights set load_weights_only to true"
                )
        load_state(read_state(content["network"], source), self.states["network"], source=str(source))
        for name, state in self.states.items():
            if name != "network":
                restore_state(name, state, content[name], source)
        scaler = getattr(engine, "scaler", None)
        if scaler is not None and content.get("scaler"):
            restore_state("scaler", scaler, content["scaler"], source)
        engine.state.epoch = int(content["epoch"])
        engine.state.iteration = engine.state.epoch * int(engine.state.epoch_length or 0)
        self.best_metric = content.get("best_metric")
        self._report_resume(content, source, engine)

    def _kinds(self) -> dict[str, str]:
        return {name: type(state).__name__ for name, state in self.states.items() if name != "network"}

    def _report_resume(self, content: dict[str, Any], source: Path, engine: Engine) -> None:
        logger.info("resumed %s after epoch %d", source, engine.state.epoch)
        if engine.state.epoch >= (engine.state.max_epochs or 0):
            logger.warning(
                "the run is complete: %d of %d epochs; raise epochs to go on",
                engine.state.epoch,
                engine.state.max_epochs,
            )
        earlier = content.get("settings") or {}
        for name in sorted(set(earlier) | set(self.settings)):
            if earlier.get(name) != self.settings.get(name):
                logger.warning("%s was %r, is now %r", name, earlier.get(name), self.settings.get(name))
        logger.info("%s go on as the checkpoint has them", ", ".join(n for n in self.states if n != "network"))

    def _set_aside(self) -> None:
        own = [*self.ckpt_dir.glob("model*.pt"), *self.ckpt_dir.glob("checkpoint_last.pt")]
        if not own:
            return
        own += [path for name in ("history.jsonl", "settings.json") if (path := self.ckpt_dir / name).is_file()]
        number = 1
        while (folder := self.ckpt_dir / "previous" / str(number)).exists():
            number += 1
        folder.mkdir(parents=True)
        for path in own:
            os.replace(path, folder / path.name)
        logger.warning("%s holds an earlier run; its files were moved to %s", self.ckpt_dir, folder)

    def _start_epoch(self, engine: Engine) -> None:
        self._validated = False

    def _note_validation(self, engine: Engine) -> None:
        self._validated = True

    def _improved(self) -> bool:
        """Tell whether this epoch's validation is the best so far, and remember it."""
        if self.validator is None or not self._validated:
            return False
        metrics = self.validator.state.metrics
        if self.key_metric not in metrics:
            raise InvalidInputError(f"key_metric={self.key_metric!r} is not a metric of the validator: {list(metrics)}")
        metric = float(metrics[self.key_metric])
        if self.best_metric is not None and not metric > self.best_metric:
            return False
        # NaN compares with nothing, so the first number after it counts as better
        self.best_metric = None if metric != metric else metric
        return True

    def _save(self, engine: Engine) -> None:
        improved = self._improved()
        if idist.get_rank() != 0:
            return
        states = {name: state.state_dict() for name, state in self.states.items() if name != "network"}
        weights = {name: value.detach().cpu() for name, value in unwrap(self.states["network"]).state_dict().items()}
        if self.policy == "last" or improved:
            save_checkpoint(self.ckpt_dir / "model.pt", weights)
        if self.policy == "all":
            save_checkpoint(self.ckpt_dir / f"model_epoch_{engine.state.epoch:04d}.pt", weights)
        scaler = getattr(engine, "scaler", None)
        content = {
            "network": weights,
            **states,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "epoch": engine.state.epoch,
            "best_metric": self.best_metric,
            "settings": self.settings,
            "kinds": self._kinds(),
        }
        save_checkpoint(self.ckpt_dir / LAST, content)


def _check_record(content: Mapping[str, Any], source: Path) -> None:
    """Refuse a checkpoint whose figures about the run are none."""
    expected: dict[str, Any] = {"epoch": int, "best_metric": float | int | None}
    expected |= {"settings": Mapping | None, "kinds": Mapping | None}
    for name, kind in expected.items():
        if not isinstance(content.get(name), kind) or (name == "epoch" and not 0 <= content[name] < 2**31):
            raise CheckpointError(
                f"{source} cannot be resumed, it is damaged: {name} is {str(content.get(name))[:60]!r}. To start a new "
                "training from its weights set load_weights_only to true"
            )
