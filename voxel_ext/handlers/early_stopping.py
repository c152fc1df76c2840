"""Early stopping whose patience survives a resume."""

from __future__ import annotations

from typing import Any

from monai.handlers import EarlyStopHandler


class ResumableEarlyStopHandler(EarlyStopHandler):
    """MONAI's ``EarlyStopHandler`` with ``state_dict`` and ``load_state_dict`` for checkpoints.

    The arguments are those of :class:`monai.handlers.EarlyStopHandler`; ``trainer`` must have been set, there or by
    ``set_trainer``, before a state is taken or loaded.
    """

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
