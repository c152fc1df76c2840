"""The networks of pytorch-3dunet, imported from checkouts of its releases."""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from voxel_ext.errors import MissingDataError

_UNUSED = ("h5py", "matplotlib.pyplot", "PIL", "sklearn.decomposition", "skimage.color", "tensorboard")
"""Libraries that the originals import beside their networks; they are stood in for where they are not installed."""


@contextmanager
def original_models(folder: str) -> Iterator[types.ModuleType]:
    """Import ``pytorch3dunet.unet3d.model`` of a checkout; its modules are forgotten at the end.

    Args:
        folder: a checkout of wolny/pytorch-3dunet or flavell-lab/pytorch-3dunet.

    Raises:
        MissingDataError: the folder holds no such package.
    """
    if not os.path.isfile(os.path.join(folder, "pytorch3dunet", "unet3d", "model.py")):
        raise MissingDataError(f"{folder} has no pytorch3dunet/unet3d/model.py; expected a checkout of pytorch-3dunet")
    with mock.patch.dict(sys.modules), mock.patch.object(sys, "path", [folder, *sys.path]):
        for name in [name for name in sys.modules if name.split(".")[0] == "pytorch3dunet"]:
            del sys.modules[name]
        for name in _UNUSED:
            try:
                importlib.import_module(name)
            except ImportError:
                parts = name.split(".")
                for count in range(1, len(parts) + 1):
                    sys.modules[".".join(parts[:count])] = mock.MagicMock()
        yield importlib.import_module("pytorch3dunet.unet3d.model")
