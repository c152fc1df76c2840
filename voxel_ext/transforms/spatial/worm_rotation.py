"""Random turns of a cube around a worm's cell: any angle about the body axis, then a right-angle turn."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.networks.groups import rotation_group

PADDINGS = ("background", "border", "reflection")


def rotate_about_x(img: torch.Tensor, angle: float, padding: str = "background") -> torch.Tensor:
    """Turn an image about the x axis through its center, (g f)(p) = f(R⁻¹ p), by linear interpolation.

    Args:
        img: (C, Z, Y, X).
        angle: in degrees; 90 takes the z axis to the y axis and equals, but for rounding, the element of ``"C4:x"``
            that does so.
        padding: what comes in from outside: "background", the smallest value of the channel; "border", the nearest
            voxel; "reflection".

    Returns:
        float32 of the same shape.

    Raises:
        InvalidInputError: not four axes, or unknown padding.
    """
    check_option("padding", padding, PADDINGS)
    if img.dim() != 4:
        raise InvalidInputError(f"an image of shape {tuple(img.shape)} cannot be turned; expected (C, Z, Y, X)")
    channels, z, y, x = img.shape
    # x is untouched, so that each of its planes is a channel of an image (z, y)
    planes = img.float().permute(0, 3, 1, 2)
    floor = planes.amin((1, 2, 3), keepdim=True) if padding == "background" else 0.0
    rows, columns = torch.arange(z) - (z - 1) / 2, torch.arange(y) - (y - 1) / 2
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    from_z = cosine * rows[:, None] + sine * columns[None]
    from_y = cosine * columns[None] - sine * rows[:, None]
    grid = torch.stack([from_y * 2 / y, from_z * 2 / z], -1)[None].to(img.device)
    turned = torch.nn.functional.grid_sample(
        (planes - floor).reshape(1, channels * x, z, y),
        grid,
        mode="bilinear",
        padding_mode="zeros" if padding == "background" else padding,
        align_corners=False,
    )
    return (turned.reshape(channels, x, z, y) + floor).permute(0, 2, 3, 1)


class RandWormRotation(RandomizableTransform):
    """Turn a cube by a random angle about the x axis, the worm's body, and then by a random element of a group.

    Args:
        group: name of the rotation group of the second turn, each element equally likely: exact, no interpolation.
            "V" are the half turns about the axes, as MA_FeatureLearning has them. None leaves the second turn out.
        max_angle: of the first turn, uniform in [-max_angle, max_angle] degrees; 180 is any angle, 0 none.
        padding: see :func:`rotate_about_x`.
        prob: of turning at all.

    Raises:
        InvalidInputError: unknown group or padding; ``max_angle`` outside [0, 180].
    """

    def __init__(
        self,
        group: str | None = "V",
        max_angle: float = 180.0,
        padding: str = "background",
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        if not 0 <= max_angle <= 180:
            raise InvalidInputError(f"max_angle={max_angle!r}: expected 0 to 180 degrees")
        self.group = None if group is None else rotation_group(group)
        self.max_angle = float(max_angle)
        self.padding = check_option("padding", padding, PADDINGS)
        self.angle = 0.0
        self.element = 0

    def randomize(self, data: Any = None) -> None:
        """Draw ``angle`` (degrees) and ``element`` (index in the group), or neither with probability 1 - ``prob``."""
        super().randomize(None)
        self.angle = float(self.R.uniform(-self.max_angle, self.max_angle)) if self.max_angle else 0.0
        self.element = int(self.R.randint(self.group.order)) if self.group is not None else 0

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Return the turned image, float32, of the type of ``img``.

        Args:
            img: (C, Z, Y, X); equal sizes along axes that the group exchanges.
            randomize: False to turn as the last time.

        Raises:
            InvalidInputError: another number of axes, or sizes that the group does not keep.
        """
        if randomize:
            self.randomize()
        tensor = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
        if self.group is not None:
            self.group.check_axes("size of the cube", [int(size) for size in tensor.shape[1:]])
        if self._do_transform:
            if self.angle:
                tensor = rotate_about_x(tensor, self.angle, self.padding)
            if self.group is not None:
                tensor = self.group.act(tensor, self.element)
        dtype: Any = torch.float32 if isinstance(img, torch.Tensor) else np.float32
        return convert_to_dst_type(tensor.contiguous(), img, dtype=dtype)[0]


class RandWormRotationd(RandomizableTransform, MapTransform):
    """Dictionary version of :class:`RandWormRotation`: all keys are turned alike.

    Args:
        keys: items that are images (C, Z, Y, X).
        group: see :class:`RandWormRotation`.
        max_angle: see :class:`RandWormRotation`.
        padding: see :class:`RandWormRotation`.
        prob: see :class:`RandWormRotation`.
        allow_missing_keys: do not complain about a key of ``keys`` that is not there.

    Raises:
        InvalidInputError: as :class:`RandWormRotation`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        group: str | None = "V",
        max_angle: float = 180.0,
        padding: str = "background",
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.rotation = RandWormRotation(group, max_angle, padding, prob)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandWormRotationd:
        """Draw from another seed from now on."""
        super().set_random_state(seed, state)
        self.rotation.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the items at ``keys`` turned.

        Raises:
            InvalidInputError: as :class:`RandWormRotation`.
        """
        result = dict(data)
        self.rotation.randomize()
        for key in self.key_iterator(result):
            result[key] = self.rotation(result[key], randomize=False)
        return result
