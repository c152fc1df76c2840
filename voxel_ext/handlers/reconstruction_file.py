"""Write what an autoencoder makes of each object, batch by batch."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from voxel_ext.data.address import HDF5_SUFFIXES
from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.files import atomic_path
from voxel_ext.handlers.object_features import batch_column, check_alone, predicted
from voxel_ext.hdf5 import write_hdf5

logger = logging.getLogger(__name__)

DATASETS: dict[str, type[np.floating]] = {"volumes": np.float16, "points": np.float32}
"""What reconstructions are called, and their data type."""

COLUMNS = ("chunk", "scale", "class")
"""Keys of a batch that are written where it has them."""


class ReconstructionFileHandler:
    """Write the reconstructions of the objects that an evaluator goes through to an HDF5 file.

    It has the datasets ``id`` (N,) int64; ``chunk``, ``scale`` and ``class`` (N,) where the batches have them; and
    ``volumes`` (N, C, D, H, W) float16 or ``points`` (N, P, 3) float32, compressed and chunked by rows, in the order of
    the batches. With ``chunk`` (volumes) and ``scale``, :class:`~voxel_ext.data.ObjectDataset` or
    :class:`~voxel_ext.data.PointCloudDataset` read it. The file takes its place when all is written; memory: one batch.

    Args:
        path: that ends with ``.h5``, ``.hdf5`` or ``.hdf``; a file that exists is replaced.
        dataset: "volumes" or "points".
        key: of the network's output (``engine.state.output["pred"]``), the reconstruction.
        threshold: write volumes as uint8, 1 where the reconstruction is above this; None for the values.

    Raises:
        InvalidInputError: another suffix or dataset, or a threshold that is no number or is for points.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        dataset: str = "volumes",
        key: str = "reconstruction",
        threshold: float | None = None,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in HDF5_SUFFIXES:
            raise InvalidInputError(f"path={str(path)!r}; expected a name that ends with {', '.join(HDF5_SUFFIXES)}")
        self.dataset = check_option("dataset", dataset, DATASETS)
        number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        if threshold is not None and (not number or dataset != "volumes"):
            raise InvalidInputError(f"threshold={threshold!r} of {dataset}; expected a number for volumes, or none")
        self.key = key
        self.threshold = threshold
        self._stack = contextlib.ExitStack()
        self._file: Any = None
        self._guard: Any = None
        self._columns: dict[str, list[NDArray[Any]]] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI evaluator that does not decollate.

        Raises:
            InvalidInputError: the evaluator is one of several processes, each of which would write its own part.
        """
        check_alone(type(self).__name__)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, _engine: Engine) -> None:
        self._columns = {}
        temporary = self._stack.enter_context(atomic_path(self.path))
        self._file, self._guard = self._stack.enter_context(write_hdf5(temporary))

    def _add(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        columns = {"id": batch_column(batch, "id").astype(np.int64)}
        columns |= {name: batch_column(batch, name) for name in COLUMNS if name in batch}
        values = self._values(predicted(engine, self.key).detach().float().cpu().numpy())
        count = len(columns["id"])
        if values.ndim < 2 or len(values) != count:
            raise InvalidInputError(
                f"{self.key!r} has shape {values.shape} for {count} objects; expected one reconstruction each"
            )
        if self.dataset not in self._file:
            shape = values.shape[1:]
            self._file.create_dataset(
                self.dataset, (0, *shape), values.dtype, maxshape=(None, *shape), chunks=(1, *shape),
                compression="lzf", shuffle=True,
            )  # fmt: skip
        stored = self._file[self.dataset]
        if stored.shape[1:] != values.shape[1:]:
            raise InvalidInputError(
                f"{self.key!r} has shape {values.shape[1:]}, in the batches before {stored.shape[1:]}; expected the "
                "same for all objects"
            )
        stored.resize(len(stored) + count, axis=0)
        stored[-count:] = values
        self._guard.check()
        for name, column in columns.items():
            self._columns.setdefault(name, []).append(column)

    def _values(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """What is stored."""
        if self.threshold is not None:
            return (values > self.threshold).astype(np.uint8)
        dtype = DATASETS[self.dataset]
        if not np.abs(values).max(initial=0) <= np.finfo(dtype).max:  # also where they are NaN
            raise InvalidInputError(
                f"{self.key!r} has values that are not finite, or too large for {dtype.__name__}; the network diverged"
            )
        return values.astype(dtype)

    def _finish(self, _engine: Engine) -> None:
        if not self._columns:
            raise InvalidInputError(f"there are no objects to write the reconstructions of to {self.path}")
        for name, parts in self._columns.items():
            self._file.create_dataset(name, data=np.concatenate(parts))
        self._stack.close()
        logger.info("reconstructions: %s (%d rows)", self.path, sum(map(len, self._columns["id"])))

    def _fail(self, _engine: Engine, error: BaseException) -> None:
        # leaves the blocks with the error, so that the temporary file is removed
        self._stack.__exit__(type(error), error, error.__traceback__)
        raise error
