"""A progress bar on the terminal for any MONAI engine."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from ignite.handlers import ProgressBar


class ProgressBarHandler:
    """Show a tqdm bar per epoch with the current loss, on the first process only.

    Ignite's ``ProgressBar`` with the loss found in the output of a MONAI trainer, whether decollated or not.

    Args:
        desc: what is being done, e.g. ``"training"``.
        loss_key: key of the loss in ``engine.state.output``; without such a key no value is shown.
    """

    def __init__(self, desc: str, loss_key: str = "loss") -> None:
        self.desc = desc
        self.loss_key = loss_key

    def attach(self, engine: Engine) -> None:
        """Attach to ``engine``; does nothing on other processes than the first of a distributed run."""
        if idist.get_rank() != 0:
            return
        bar = ProgressBar(persist=True, desc=self.desc)
        bar.attach(engine, output_transform=self._loss)

    def _loss(self, output: Any) -> dict[str, float]:
        first = output[0] if isinstance(output, list) else output
        return {"loss": float(torch.as_tensor(first[self.loss_key]).detach())} if self.loss_key in first else {}
