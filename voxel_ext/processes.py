"""How worker processes are started."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.context import BaseContext

_PROCESS = os.getpid()


def worker_context() -> BaseContext:
    """Return the :mod:`multiprocessing` context for worker processes, which share nothing with this process.

    They must not inherit its locks, open files or the locks of its threads, so they are not forked from it. On Linux
    they are forked from a server that has imported, once, what this process has of voxel_ext; elsewhere, and in a
    process that was forked itself and cannot use the server of its parent, each is spawned and imports for seconds.
    """
    if sys.platform != "linux" or os.getpid() != _PROCESS:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([name for name in list(sys.modules) if name.partition(".")[0] == "voxel_ext"])
    return context
