"""pytorch-3dunet, imported from checkouts of its releases."""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from voxel_ext.errors import MissingDataError

_UNUSED = (
    "h5py",
    "hdbscan",
    "imageio",
    "matplotlib.pyplot",
    "nrrd",
    "PIL",
    "scipy.ndimage.filters",
    "SimpleITK",
    "skimage.color",
    "sklearn.cluster",
    "sklearn.decomposition",
    "tensorboard",
    "torchvision.transforms",
)
"""What the originals import beside what is measured; it is stood in for where it is not installed, or is gone."""


@contextmanager
def original_package(folder: str) -> Iterator[None]:
    """Make ``pytorch3dunet`` importable from a checkout; its modules are forgotten at the end.

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
            _stand_in(name)
        yield


def _stand_in(name: str) -> None:
    """Put a mock in the place of what cannot be imported of ``a.b.c``, and of nothing else."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        part = ".".join(parts[:count])
        try:
            importlib.import_module(part)
        except ImportError:
            sys.modules[part] = mock.MagicMock()


@contextmanager
def original_models(folder: str) -> Iterator[types.ModuleType]:
    """Import ``pytorch3dunet.unet3d.model`` of a checkout, see :func:`original_package`."""
    with original_package(folder):
        yield importlib.import_module("pytorch3dunet.unet3d.model")
