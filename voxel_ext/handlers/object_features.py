"""Write what a network makes of each object as a table of features."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.networks.utils import eval_mode
from monai.utils import CommonKeys, convert_to_tensor
from numpy.typing import NDArray

from voxel_ext.data.feature_files import write_features
from voxel_ext.errors import InvalidInputError, require

logger = logging.getLogger(__name__)

Encode = Callable[[torch.Tensor], torch.Tensor]


class FeatureTableHandler:
    """Write ``<output_dir>/features/<name>.parquet`` and ``<name>.h5`` of the objects that an evaluator goes through.

    The columns are ``id`` and ``<name>_000``, ``<name>_001``, ... (float32); see
    :func:`~voxel_ext.data.write_features`. Rows of the same object (cubes of parts of a large one) are averaged.

    Args:
        output_dir: the folder ``features`` is made in it.
        name: of the features: letters, digits, ``_`` and ``-``.
        encode: from images (B, C, D, H, W), or points (B, P, 3), to features (B, L), e.g. ``network.encode``. It gets
            the batch on the evaluator's device, without gradients and with the network in evaluation mode.
        key: of the network's output (``engine.state.output["pred"]``) instead, where that has the features (B, L)
            already. Either this or ``encode``.
        image_key: of a batch, what ``encode`` gets.
        id_key: of a batch, the ids of the objects (B,).

    Raises:
        InvalidInputError: both or neither of ``encode`` and ``key`` are given, or the name cannot be that of a file.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        name: str,
        encode: Encode | None = None,
        key: str | None = None,
        image_key: str = CommonKeys.IMAGE,
        id_key: str = "id",
    ) -> None:
        if (encode is None) == (key is None):
            raise InvalidInputError(f"encode={encode!r}, key={key!r}; expected one of the two")
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w-]*", name):
            raise InvalidInputError(f"name={name!r}; expected letters, digits, _ and -, e.g. 'shapef'")
        self.folder = Path(output_dir) / "features"
        self.name = name
        self.encode = encode
        self.key = key
        self.image_key = image_key
        self.id_key = id_key
        self._ids: list[NDArray[np.int64]] = []
        self._rows: list[NDArray[np.float32]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI evaluator that does not decollate.

        Raises:
            InvalidInputError: the evaluator is one of several processes, each of which would write its own part.
            MissingDependencyError: pandas or pyarrow is not installed.
        """
        check_alone(type(self).__name__)
        require("pandas", extra="em")
        require("pyarrow", extra="em")
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, _engine: Engine) -> None:
        self._ids, self._rows = [], []

    def _add(self, engine: Engine) -> None:
        ids = batch_column(engine.state.batch, self.id_key).astype(np.int64)
        features = predicted(engine, self.key) if self.key is not None else self._encode(engine)
        if features.ndim != 2 or len(features) != len(ids):
            raise InvalidInputError(
                f"the features {self.name!r} have shape {tuple(features.shape)} for {len(ids)} objects; expected "
                f"({len(ids)}, L), one row each"
            )
        if self._rows and features.shape[1] != self._rows[0].shape[1]:
            raise InvalidInputError(
                f"the features {self.name!r} have {features.shape[1]} values, those of the batches before "
                f"{self._rows[0].shape[1]}; expected the same number for all objects"
            )
        self._ids.append(ids)
        self._rows.append(features.detach().float().cpu().numpy())

    def _encode(self, engine: Engine) -> torch.Tensor:
        assert self.encode is not None
        state: Any = engine.state
        images = convert_to_tensor(batch_value(state.batch, self.image_key), track_meta=False)
        # the evaluator puts the network back into its former mode after each iteration
        owners = (getattr(engine, "network", None), getattr(self.encode, "__self__", self.encode))
        with torch.no_grad(), eval_mode(*(one for one in owners if isinstance(one, torch.nn.Module))):
            return self.encode(images.to(state.device))

    def _write(self, _engine: Engine) -> None:
        if not self._ids:
            raise InvalidInputError(f"there are no objects to write the features {self.name!r} of")
        ids, values = average_rows(np.concatenate(self._ids), np.concatenate(self._rows))
        bad = ids[~np.isfinite(values).all(axis=1)]
        if len(bad):
            raise InvalidInputError(
                f"the features {self.name!r} of {len(bad)} of {len(ids)} objects are not finite (ids "
                f"{', '.join(map(str, bad[:10]))}{', ...' if len(bad) > 10 else ''}); the network diverged, or was "
                "given values that are not finite"
            )
        pandas = require("pandas", extra="em")
        table = pandas.DataFrame(values, columns=[f"{self.name}_{index:03d}" for index in range(values.shape[1])])
        table.insert(0, "id", ids)
        for suffix in (".parquet", ".h5"):
            write_features(table, self.folder / f"{self.name}{suffix}")
        logger.info("features: %s (%d objects, %d values each)", self.folder / self.name, *values.shape)


def average_rows(ids: NDArray[np.int64], rows: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Average the rows of each object.

    Args:
        ids: (N,) the object of each row.
        rows: (N, L).

    Returns:
        (M,) ids, ascending, and (M, L) means, summed in float64.
    """
    objects, places, counts = np.unique(ids, return_inverse=True, return_counts=True)
    sums = np.zeros((len(objects), rows.shape[1]))
    np.add.at(sums, places, rows)
    return objects, (sums / counts[:, None]).astype(np.float32)


def check_alone(what: str) -> None:
    """Refuse to be one of several processes that run the evaluator together.

    Args:
        what: would write its file, for the message.

    Raises:
        InvalidInputError: there are several.
    """
    if idist.get_world_size() > 1:
        raise InvalidInputError(
            f"{what} writes one file, but {idist.get_world_size()} processes run; start the command without torchrun"
        )


def batch_value(batch: Any, key: str) -> Any:
    """Return what a collated batch has under a key.

    Args:
        batch: of an engine.
        key: whose value is wanted.

    Raises:
        InvalidInputError: the batch is decollated, or has no such key (lists those it has).
    """
    if not isinstance(batch, Mapping) or key not in batch:
        found = sorted(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
        raise InvalidInputError(f"a batch has no {key!r}; found {found}")
    return batch[key]


def batch_column(batch: Any, key: str) -> NDArray[Any]:
    """Return one number per item of a collated batch, (B,); raises as :func:`batch_value`."""
    return convert_to_tensor(batch_value(batch, key), track_meta=False).cpu().numpy().reshape(-1)


def predicted(engine: Engine, key: str) -> torch.Tensor:
    """Return one of the network's outputs of the iteration, for the whole batch.

    Args:
        engine: an evaluator.
        key: of ``engine.state.output["pred"]``.

    Raises:
        InvalidInputError: the evaluator decollates its output, or the network has no such output (lists those it has).
    """
    output: Any = engine.state.output
    if not isinstance(output, Mapping):
        raise InvalidInputError("the evaluator decollates its output; set decollate to false")
    found = output.get(CommonKeys.PRED)
    if not isinstance(found, Mapping) or key not in found:
        names = sorted(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise InvalidInputError(f"the network's output has no {key!r}; found {names}")
    return convert_to_tensor(found[key], track_meta=False)
