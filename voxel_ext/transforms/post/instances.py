"""From the probability of the foreground to instance ids, by a watershed from seeds."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type, convert_to_dst_type
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, check_option

METHODS = ("distance", "probability")


def probability_to_instances(
    probability: NDArray,
    threshold: float = 0.5,
    method: str = "distance",
    min_size: int = 0,
    min_distance: int = 3,
    sigma: float = 1.0,
    spacing: Sequence[float] | None = None,
) -> NDArray:
    """Divide the foreground of a probability map into objects.

    The foreground is where the probability is above ``threshold``. Its height map, either the Euclidean distance to the
    background or the probability itself, is smoothed by a Gaussian. The local maxima of the height (scikit-image's
    ``peak_local_max``; one for a plateau) are seeds, and the watershed of the negative height from the seeds gives the
    objects. Every connected component (by faces) of the foreground has at least one seed. Small objects are removed.

    Args:
        probability: (D, H, W) or (H, W), 0 to 1.
        threshold: the foreground is above it.
        method: "distance" divides by shape, "probability" by brightness of the map.
        min_size: objects of fewer voxels are removed.
        min_distance: no two seeds of a component are nearer than this, in voxels along every axis.
        sigma: standard deviation of the smoothing, in voxels, or in units of ``spacing``; 0 for none.
        spacing: size of a voxel (z, y, x), for the distance and the smoothing; all 1 if None.

    Returns:
        int32 of the same shape, ids from 1 on without gaps, 0 for background.

    Raises:
        InvalidInputError: another number of axes, values that are not from 0 to 1, or an argument that is out of range.
    """
    from skimage.segmentation import watershed

    _check_options(threshold, method, min_size, min_distance, sigma, spacing)
    _check_probability(probability)
    steps = _steps(spacing, probability.ndim)
    foreground = probability > threshold
    if not foreground.any():
        return np.zeros(probability.shape, np.int32)
    height = _height(probability, foreground, method, sigma, steps)
    seeds = _seeds(height, foreground, min_distance)
    objects = watershed(-height, seeds, mask=foreground)
    return _remove_small(objects, min_size)


def _height(probability: NDArray, foreground: NDArray, method: str, sigma: float, steps: tuple[float, ...]) -> NDArray:
    """The smoothed map whose maxima are the objects' middles."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    if method == "probability":
        height = probability.astype(np.float32)
    else:
        # the border of the volume is none of the object's, unless nothing else bounds it
        width = int(foreground.all())
        inner = tuple(slice(width, width + length) for length in foreground.shape)
        height = distance_transform_edt(np.pad(foreground, width), sampling=steps)[inner].astype(np.float32)
    return gaussian_filter(height, [sigma / step for step in steps]) if sigma else height


def _seeds(height: NDArray, foreground: NDArray, min_distance: int) -> NDArray:
    """Numbered local maxima: one on every plateau, and at least one in every component."""
    from scipy.ndimage import label, maximum_position
    from skimage.feature import peak_local_max
    from skimage.measure import label as label_plateaus
    from skimage.morphology import local_maxima

    components, count = label(foreground)
    peaks = tuple(peak_local_max(height, min_distance=min_distance, labels=components, exclude_border=False).T)
    # a ridge of equal height, as of a straight rod, has many peaks but is one regional maximum
    steps = np.rint(height / max(float(height.max()) * 1e-4, np.finfo(np.float32).tiny)).astype(np.int32)
    plateaus = label_plateaus(local_maxima(steps), connectivity=height.ndim)[peaks].astype(np.int64)
    alone = -1 - np.arange(len(plateaus))
    seeds = np.zeros(height.shape, np.int32)
    seeds[peaks] = np.unique(np.where(plateaus > 0, plateaus, alone), return_inverse=True)[1] + 1
    without = np.setdiff1d(np.arange(1, count + 1), components[peaks])
    if without.size:
        places = np.array(maximum_position(height, components, without), dtype=np.intp)
        seeds[tuple(places.T)] = seeds.max() + np.arange(1, len(places) + 1)
    return seeds


def _remove_small(objects: NDArray, min_size: int) -> NDArray:
    sizes = np.bincount(objects.ravel())
    kept = sizes >= max(min_size, 1)
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[objects]


def _steps(spacing: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    if spacing is None:
        return (1.0,) * ndim
    if len(spacing) != ndim:
        raise InvalidInputError(f"spacing={tuple(spacing)} for a map with {ndim} axes; expected one number per axis")
    return tuple(float(step) for step in spacing)


def _check_probability(probability: NDArray) -> None:
    if probability.ndim not in (2, 3) or probability.size == 0:
        raise InvalidInputError(f"a probability map of shape {probability.shape}; expected (D, H, W) or (H, W)")
    low, high = float(probability.min()), float(probability.max())
    if not -1e-4 <= low <= high <= 1 + 1e-4:
        raise InvalidInputError(
            f"the probability map has values from {low:g} to {high:g}; expected 0 to 1. Apply a softmax or a sigmoid "
            "to logits first, for example MONAI's Activationsd"
        )


def _check_options(
    threshold: float, method: str, min_size: int, min_distance: int, sigma: float, spacing: Sequence[float] | None
) -> None:
    check_option("method", method, METHODS)
    for name, value, low, high in (("threshold", threshold, 0, 1), ("sigma", sigma, 0, math.inf)):
        number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not low <= value <= high:
            raise InvalidInputError(f"{name}={value!r}; expected a finite number from {low} to {high}")
    for name, value, least in (("min_size", min_size, 0), ("min_distance", min_distance, 1)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise InvalidInputError(f"{name}={value!r}; expected an integer of at least {least}")
    if spacing is not None and not all(isinstance(s, Real) and math.isfinite(s) and s > 0 for s in spacing):
        raise InvalidInputError(f"spacing={spacing!r}; expected positive numbers, one per axis")


class ProbabilityToInstances(Transform):
    """Turn foreground probabilities into instance ids (1, ...), int32; see :func:`probability_to_instances`.

    Type, device and metadata of the input are kept.

    Args:
        threshold: the foreground is above it.
        method: "distance" divides by shape, "probability" by the map's own maxima.
        min_size: objects of fewer voxels are removed.
        min_distance: no two seeds of a component are nearer than this, in voxels along every axis.
        sigma: standard deviation of the smoothing, in voxels, or in units of ``spacing``; 0 for none.
        spacing: size of a voxel (z, y, x); all 1 if None.

    Raises:
        InvalidInputError: an argument is out of range.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        method: str = "distance",
        min_size: int = 0,
        min_distance: int = 3,
        sigma: float = 1.0,
        spacing: Sequence[float] | None = None,
    ) -> None:
        _check_options(threshold, method, min_size, min_distance, sigma, spacing)
        self.options: dict[str, Any] = {
            "threshold": threshold,
            "method": method,
            "min_size": min_size,
            "min_distance": min_distance,
            "sigma": sigma,
            "spacing": spacing,
        }

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the instance ids (1, D, H, W).

        Args:
            img: (1, D, H, W) probability of the foreground, or (2, D, H, W) of background and foreground; or without D.

        Raises:
            InvalidInputError: another number of channels or axes, or values that are not from 0 to 1.
        """
        probability = convert_data_type(img, np.ndarray)[0]
        if probability.ndim < 3 or probability.shape[0] not in (1, 2):
            raise InvalidInputError(
                f"probabilities of shape {probability.shape}; expected (1, ...), the foreground, or (2, ...), "
                "background and foreground"
            )
        ids = probability_to_instances(probability[-1], **self.options)
        return convert_to_dst_type(ids[None], img, dtype=torch.int32 if isinstance(img, torch.Tensor) else np.int32)[0]


class ProbabilityToInstancesd(MapTransform):
    """Dictionary version of :class:`ProbabilityToInstances`.

    Args:
        keys: items that are probabilities (1, ...) or (2, ...).
        threshold: the foreground is above it.
        method: "distance" divides by shape, "probability" by the map's own maxima.
        min_size: objects of fewer voxels are removed.
        min_distance: no two seeds of a component are nearer than this, in voxels along every axis.
        sigma: standard deviation of the smoothing, in voxels, or in units of ``spacing``; 0 for none.
        spacing: size of a voxel (z, y, x); all 1 if None.
        allow_missing_keys: do not complain about a key that is not there.

    Raises:
        InvalidInputError: an argument is out of range.
    """

    def __init__(
        self,
        keys: KeysCollection,
        threshold: float = 0.5,
        method: str = "distance",
        min_size: int = 0,
        min_distance: int = 3,
        sigma: float = 1.0,
        spacing: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = ProbabilityToInstances(threshold, method, min_size, min_distance, sigma, spacing)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the items at ``keys`` replaced by instance ids.

        Raises:
            InvalidInputError: as :class:`ProbabilityToInstances`.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result
