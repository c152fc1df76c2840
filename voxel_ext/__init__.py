"""Feature learning and segmentation in 3D voxel microscopy, built on MONAI.

Importing the package loads nothing but this file; a sub-package is imported when it is first used, so that after
``import voxel_ext`` a config can name ``voxel_ext.data`` and the others.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_LAZY = (
    "data",
    "engines",
    "errors",
    "files",
    "handlers",
    "inferers",
    "labeling",
    "losses",
    "matching",
    "metrics",
    "networks",
    "synthetic",
    "transforms",
    "visualize",
    "workflow",
)


def __getattr__(name: str) -> ModuleType:
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
