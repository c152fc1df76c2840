"""Random states that depend on the seed and the epoch alone, so that a resumed training equals an unbroken one."""

from __future__ import annotations

import random

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd


class EpochSeedHandler:
    """At the start of every epoch, seed all generators from (seed, epoch, rank) and draw the data anew.

    Python's, NumPy's and torch's global generators are seeded (dropout, shuffling, the workers' base seed), and so are
    the random transforms of the data set, which with ``num_workers=0`` keep their own state. What an epoch draws then
    depends on its number alone: not on the epochs before it, on validation, or on whether the run was resumed.

    Args:
        seed: the run's seed, zero or positive.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed for the epoch that starts, and restart the data loader."""
        sequence = np.random.SeedSequence([self.seed, engine.state.epoch, idist.get_rank()])
        seed = int(sequence.generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - libraries below us draw from the global generator
        torch.manual_seed(seed)
        loader = engine.state.dataloader
        if loader is None:
            raise RuntimeError("the engine has no data loader; attach this handler to a trainer")
        if hasattr(loader, "dataset"):
            set_rnd(loader.dataset, seed)
        engine.set_data(loader)
