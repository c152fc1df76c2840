"""Pictures of the transforms of intensities and of those that check."""

from __future__ import annotations

from gallery_pictures import samples
from gallery_pictures.transform_examples import Example, both, ids, slices

EXAMPLES = {
    "RandContrastd": Example(
        samples.mitochondria, {"keys": "image", "prob": 1.0, "alpha": (0.35, 0.4), "clip": None}, slices("image")
    ),
    "RandCutBlurd": Example(
        samples.mitochondria, {"keys": "image", "prob": 1.0, "share": 0.6, "factor": (6.0, 8.0)}, slices("image")
    ),
    "RandGradualGaussianBlurd": Example(
        samples.mitochondria,
        {"keys": "image", "prob": 1.0, "max_sigma_start": 0.1, "max_sigma_end": 6.0},
        slices("image", axis=1),
    ),
    "RandPoissonNoised": Example(samples.worm, {"keys": "image", "prob": 1.0, "lam": (0.05, 0.1)}, slices("image")),
    "SoftMaskd": Example(
        samples.one_mitochondrion,
        {"keys": "image", "mask_key": "mask", "alpha": 0.6},
        both(slices("image"), ids("mask")),
        slices("image"),
    ),
    "ValidateImaged": Example(samples.damaged, {"keys": "image"}, slices("image")),
    "CheckTargetsd": Example(samples.wrong_classes, {"num_classes": 3}, ids("label", under="image")),
}
"""By name of the transform."""
