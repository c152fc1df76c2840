"""Random low resolution in a part of a volume."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.intensity.contrast import check_range
from voxel_ext.transforms.spatial.affine import check_probability

Box = tuple[slice, slice, slice]


def cut_blur(img: NdarrayOrTensor, box: Box, factor: float) -> NdarrayOrTensor:
    """Replace a box of an image by what it would be at a lower resolution.

    The whole image is reduced by means over blocks and brought back by linear interpolation; the box is taken from
    that. Yoo, Ahn and Sohn 2020, "Rethinking Data Augmentation for Image Super-resolution".

    Args:
        img: (C, D, H, W).
        box: slices along D, H and W.
        factor: by how much the resolution is lower, at least 1; sizes are rounded up.

    Returns:
        float32 of the kind and shape of ``img``.

    Raises:
        InvalidInputError: not four axes, or a factor below 1.
    """
    if not 1 <= factor < math.inf:
        raise InvalidInputError(f"factor={factor!r}; expected a number of at least 1")
    tensor = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
    if tensor.dim() != 4:
        raise InvalidInputError(f"an image of shape {tuple(tensor.shape)} cannot be blurred; expected (C, D, H, W)")
    sizes = [int(size) for size in tensor.shape[1:]]
    z, y, x = (math.ceil(size / factor) for size in sizes)
    small = torch.nn.functional.adaptive_avg_pool3d(tensor[None], (z, y, x))
    low = torch.nn.functional.interpolate(small, sizes, mode="trilinear", align_corners=False)[0]
    result = tensor.clone()
    result[:, *box] = low[:, *box]
    dtype: Any = torch.float32 if isinstance(img, torch.Tensor) else np.float32
    return convert_to_dst_type(result, img, dtype=dtype)[0]


class RandCutBlurd(RandomizableTransform, MapTransform):
    """Lower the resolution in a random box, the same for all keys; see :func:`cut_blur`.

    Args:
        keys: items that are images (C, D, H, W).
        prob: probability of doing so.
        share: of the image's size along each axis that the box takes up; a quarter as in EManalysis.
        factor: lowest and highest factor of resolution, uniform; 2 to 8 as in EManalysis.
        allow_missing_keys: do not complain about a key of ``keys`` that is not there.

    Raises:
        InvalidInputError: a probability outside [0, 1], a share outside (0, 1], or a range that is not two ascending
            numbers of at least 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        share: float = 0.25,
        factor: Sequence[float] = (2.0, 8.0),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, check_probability("prob", prob))
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise InvalidInputError(f"share={share!r}; expected a number above 0, at most 1")
        self.share = float(share)
        self.factor = check_range("factor", factor)
        if self.factor[0] < 1:
            raise InvalidInputError(f"factor={factor!r}; expected numbers of at least 1")
        self.box: Box | None = None
        self.drawn_factor = 1.0

    def randomize(self, data: Sequence[int]) -> None:
        """Draw ``box``, None with probability 1 - ``prob``, and ``drawn_factor``.

        Args:
            data: (D, H, W).
        """
        super().randomize(None)
        self.box = None
        if not self._do_transform:
            return
        edges = [max(1, round(self.share * int(size))) for size in data]
        starts = [int(self.R.randint(int(size) - edge + 1)) for size, edge in zip(data, edges, strict=True)]
        z, y, x = (slice(start, start + edge) for start, edge in zip(starts, edges, strict=True))
        self.box = (z, y, x)
        self.drawn_factor = float(self.R.uniform(*self.factor))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the box blurred in the items at the keys, which have the same (D, H, W).

        Raises:
            InvalidInputError: as :func:`cut_blur`.
        """
        result = dict(data)
        keys = list(self.key_iterator(result))
        if keys:
            self.randomize(result[keys[0]].shape[1:])
        for key in keys if self.box is not None else ():
            result[key] = cut_blur(result[key], self.box, self.drawn_factor)  # type: ignore[arg-type]
        return result


RandCutBlurD = RandCutBlurDict = RandCutBlurd
