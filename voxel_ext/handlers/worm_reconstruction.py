"""Write what an autoencoder makes of the cells of each worm, and their codes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys
from numpy.typing import NDArray

from voxel_ext.data.worm_store import WormStore
from voxel_ext.errors import InvalidInputError
from voxel_ext.files import atomic_path
from voxel_ext.hdf5 import write_hdf5

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Worm:
    """The cells of one worm that have come so far."""

    cubes: NDArray[np.float32]
    codes: NDArray[np.float32]
    error: NDArray[np.float32]
    valid: NDArray[np.bool_]


class WormReconstructionHandler:
    """Write ``<worm>_reconstruction.h5`` for each worm that an evaluator has gone through, cell by cell.

    The datasets of a file, by slot, 0 (``error``: NaN) where the cell is missing: ``reconstruction`` (N, C, S, S, S)
    float32, in the normalized units of the network; ``codes`` (N, F) float32, the encoder's lowest map averaged over
    space (and over the group, so that a turn of the cell by an element of the group leaves the code as it is);
    ``error`` (N,), mean absolute difference from the target; ``valid`` (N,); ``names`` (N,). Attributes: ``worm``,
    ``source`` (the prepared file), ``normalization``, ``mean``, ``std``.

    Args:
        store: the worms that the evaluator's :class:`~voxel_ext.data.WormCellDataset` reads, one worm after the other.
        network: with a submodule ``trunk``, e.g. :class:`~voxel_ext.networks.nets.GroupAutoEncoder`.
        output_dir: where to write.
    """

    def __init__(self, store: WormStore, network: torch.nn.Module, output_dir: str | os.PathLike[str]) -> None:
        self.store = store
        self.network = network
        self.output_dir = Path(output_dir)
        self._worms: dict[int, _Worm] = {}
        self._code: torch.Tensor | None = None
        self._hook: Any = None

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI evaluator that does not decollate.

        Raises:
            InvalidInputError: the network has no trunk.
        """
        if not isinstance(getattr(self.network, "trunk", None), torch.nn.Module):
            raise InvalidInputError(f"{type(self.network).__name__} has no trunk; expected an autoencoder")
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, _engine: Engine) -> None:
        self._worms = {}
        self._release()
        # the code is taken on its way to the decoder, so that the encoder runs once
        trunk: Any = self.network.trunk
        self._hook = trunk.register_forward_hook(self._keep)

    def _keep(self, _module: torch.nn.Module, _inputs: Any, maps: list[torch.Tensor]) -> None:
        self._code = maps[-1].detach().float().flatten(2).mean(2)

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        if not isinstance(output, Mapping):
            raise InvalidInputError("the evaluator decollates its output; set decollate to false")
        predicted = output[CommonKeys.PRED].detach().float()
        error = (predicted - output[CommonKeys.LABEL]).abs().flatten(1).mean(1)
        if self._code is None or len(self._code) != len(predicted):
            raise InvalidInputError("the trunk was not called once per batch; use SimpleInferer")
        batch: Any = engine.state.batch
        numbers, slots = batch["worm"].tolist(), batch["cell"].tolist()
        rows = zip(numbers, slots, predicted.cpu().numpy(), self._code.cpu().numpy(), error.cpu().numpy(), strict=True)
        for number, slot, cube, code, difference in rows:
            worm = self._worm(number, len(code))
            worm.cubes[slot], worm.codes[slot], worm.error[slot] = cube, code, difference
            worm.valid[slot] = True
        for number in [known for known in self._worms if known != numbers[-1]]:
            self._write(number)

    def _worm(self, number: int, width: int) -> _Worm:
        if number not in self._worms:
            header = self.store.headers[number]
            self._worms[number] = _Worm(
                np.zeros(header.shape, np.float32),
                np.zeros((len(header), width), np.float32),
                np.full(len(header), np.nan, np.float32),
                np.zeros(len(header), bool),
            )
        return self._worms[number]

    def _write(self, number: int) -> None:
        import h5py

        worm, header = self._worms.pop(number), self.store.headers[number]
        path = self.output_dir / f"{self.store.files[number].stem}_reconstruction.h5"
        with atomic_path(path) as temporary, write_hdf5(temporary) as (file, guard):
            file.create_dataset(
                "reconstruction", data=worm.cubes, chunks=(1, *header.shape[1:]), shuffle=True, compression="lzf"
            )
            guard.check()
            for name in ("codes", "error", "valid"):
                file.create_dataset(name, data=getattr(worm, name))
            file.create_dataset("names", data=np.array(header.names, dtype=object), dtype=h5py.string_dtype())
            file.attrs["worm"] = header.worm
            file.attrs["source"] = str(self.store.files[number])
            for name in ("normalization", "mean", "std"):
                file.attrs[name] = getattr(self.store, name)
        logger.info("reconstruction: %s (%d cells)", path, worm.valid.sum())

    def _finish(self, _engine: Engine) -> None:
        for number in list(self._worms):
            self._write(number)
        self._release()

    def _fail(self, _engine: Engine, error: BaseException) -> None:
        self._release()
        raise error

    def _release(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._hook = None
