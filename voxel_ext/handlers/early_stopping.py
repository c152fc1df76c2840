"""Early stopping whose patience survives a resume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ignite.engine import Engine
from monai.handlers import EarlyStopHandler


class ResumableEarlyStopHandler(EarlyStopHandler):
    """MONAI's ``EarlyStopHandler`` with ``state_dict`` and ``load_state_dict`` for checkpoints.

    With a ``validator`` it is a handler of the trainer, which it will stop; nothing is left to be set afterwards.
    Without one it is a handler of the engine that computes the score, and ``set_trainer`` must be called before a state
    is taken or loaded.

    Args:
        patience: validations without improvement after which the training stops.
        score_function: gives the score from the validation engine, the higher the better.
        validator: the validation engine.
        options: more of :class:`monai.handlers.EarlyStopHandler`.
    """

    def __init__(
        self, patience: int, score_function: Callable, validator: Engine | None = None, **options: Any
    ) -> None:
        super().__init__(patience, score_function, **options)
        self.validator = validator

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer, or without a ``validator`` to the engine that computes the score."""
        if self.validator is None:
            super().attach(engine)
        else:
            self.set_trainer(engine)
            super().attach(self.validator)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and the number of epochs without improvement."""
        return dict(self._stopper().state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state returned by ``state_dict``."""
        self._stopper().load_state_dict(state)

    def _stopper(self) -> Any:
        if self._handler is None:
            raise RuntimeError("set the trainer by ResumableEarlyStopHandler(trainer=...) or set_trainer() first")
        return self._handler
