"""Pictures of the transforms that turn vectors along with volumes: the normals of a scroll's sheets as arrows."""

from __future__ import annotations

import math

from gallery_pictures import samples
from gallery_pictures.transform_examples import Example, field

_KEYS = {"keys": ("image", "sheet"), "vector_keys": "normals"}
_MODES = {"mode": ("bilinear", "nearest")}

EXAMPLES = {
    "RandFlipVectord": Example(samples.sheets, {**_KEYS, "prob": 1.0, "spatial_axis": 1}, field()),
    "RandRotate90Vectord": Example(samples.sheets, {**_KEYS, "prob": 1.0, "spatial_axes": (1, 2), "max_k": 1}, field()),
    "RandCubeRotationVectord": Example(samples.sheets, {**_KEYS}, field(), seed=3),
    "RandAffineVectord": Example(
        samples.sheets,
        {
            **_KEYS,
            **_MODES,
            "prob": 1.0,
            "rotate_range": (math.pi / 5, 0.0, 0.0),
            "scale_range": 0.3,
            "shear_range": (0.0, 0.0, 0.0, 0.4, 0.0, 0.4),
        },
        field(),
        seed=1,
    ),
    "RandElasticVectord": Example(
        samples.sheets,
        {**_KEYS, **_MODES, "prob": 1.0, "sigma_range": (18.0, 18.0), "magnitude_range": (6.0, 6.0)},
        field(),
    ),
}
"""By name of the transform."""
