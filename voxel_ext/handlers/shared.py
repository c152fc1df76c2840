"""Handlers that other parts of a config refer to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine


class SharedHandlers:
    """Attach handlers that have a config id of their own, since a checkpoint or another handler refers to them.

    Every item of ``train#handlers`` can then be a component: MONAI and MONAI Label expect that, and may insert others,
    so that a reference by position would be to another handler.

    Args:
        handlers: what has a method ``attach(engine)``, in the order in which to attach it.
    """

    def __init__(self, handlers: Sequence[Any]) -> None:
        self.handlers = list(handlers)

    def attach(self, engine: Engine) -> None:
        """Attach all of them to ``engine``."""
        for handler in self.handlers:
            handler.attach(engine)
