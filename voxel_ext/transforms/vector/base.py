"""What the random transforms of vector fields share: their keys, the checks, and one draw for all of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import ensure_tuple, ensure_tuple_rep

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.transforms.spatial.affine import check_probability
from voxel_ext.transforms.vector.components import COMPONENT_ORDERS, check_field, check_volume


class RandVectorTransform(RandomizableTransform, MapTransform):
    """Base of the transforms that move scalar images and vector fields together, by one draw per call.

    A subclass draws in :meth:`draw` and moves one item in :meth:`move_scalars` and :meth:`move_vectors`. A MetaTensor
    keeps its meta data, the affine included: the result is another object on the same grid, as an augmentation is.

    Args:
        keys: scalar images and labels (C, D, H, W); may be empty.
        vector_keys: vector fields (3, D, H, W), float. A key listed in both is a vector field.
        component_order: "zyx" or "xyz", for all vector keys or one per key.
        oriented: whether n and -n differ, for all vector keys or one per key.
        prob: probability of doing anything.
        allow_missing_keys: do not complain about a key that is not there.

    Raises:
        InvalidInputError: no key at all, an unknown order, or a probability outside [0, 1].
    """

    def __init__(
        self,
        keys: KeysCollection,
        vector_keys: KeysCollection,
        component_order: str | Sequence[str],
        oriented: bool | Sequence[bool],
        prob: float,
        allow_missing_keys: bool,
    ) -> None:
        self.scalar_keys = ensure_tuple(keys)
        self.vector_keys = ensure_tuple(vector_keys)
        every = tuple(dict.fromkeys(self.scalar_keys + self.vector_keys))
        if not every:
            raise InvalidInputError("keys and vector_keys are both empty; name at least one item to move")
        MapTransform.__init__(self, every, allow_missing_keys)
        RandomizableTransform.__init__(self, check_probability("prob", prob))
        self.component_order = self.per_vector_key("component_order", component_order, COMPONENT_ORDERS)
        self.oriented = self.per_vector_key("oriented", oriented)

    def per_vector_key(self, name: str, value: Any, options: Sequence[str] = ()) -> dict[Hashable, Any]:
        """Spread a setting over the vector keys, one value for all or one each.

        Raises:
            InvalidInputError: another number of values, or one not among ``options``.
        """
        return _spread(name, value, self.vector_keys, options)

    def per_scalar_key(self, name: str, value: Any, options: Sequence[str] = ()) -> dict[Hashable, Any]:
        """Likewise over ``keys``."""
        return _spread(name, value, self.scalar_keys, options)

    def draw(self, shape: tuple[int, int, int]) -> None:
        """Draw what the next items are moved by, for volumes of the shape (D, H, W), from ``self.R``."""
        raise NotImplementedError

    def move_scalars(self, img: NdarrayOrTensor, key: Hashable) -> NdarrayOrTensor:
        """Return a scalar image (C, D, H, W) moved by what was drawn."""
        raise NotImplementedError

    def move_vectors(self, field: NdarrayOrTensor, key: Hashable) -> NdarrayOrTensor:
        """Return a vector field (3, D, H, W) moved by what was drawn."""
        raise NotImplementedError

    def randomize(self, data: Sequence[int]) -> None:
        """Draw whether to do anything, and if so what.

        Args:
            data: (D, H, W).
        """
        super().randomize(None)
        if self._do_transform:
            self.draw((int(data[0]), int(data[1]), int(data[2])))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the items at the keys moved alike.

        Raises:
            InvalidInputError: an item of another shape or type than described, or (D, H, W) that differ between keys.
            KeyError: a key is missing and that is not allowed.
        """
        result = dict(data)
        present = list(self.key_iterator(result))
        if not present:
            return result
        self._check(result, present)
        self.randomize(result[present[0]].shape[1:])
        if not self._do_transform:
            return result
        for key in present:
            move = self.move_vectors if key in self.vector_keys else self.move_scalars
            result[key] = move(result[key], key)
        return result

    def _check(self, data: Mapping[Hashable, Any], present: Sequence[Hashable]) -> None:
        first = present[0]
        for key in present:
            (check_field if key in self.vector_keys else check_volume)(data[key], repr(key))
            if data[key].shape[1:] != data[first].shape[1:]:
                raise InvalidInputError(
                    f"{key!r} has the shape {tuple(data[key].shape)}, but {first!r} {tuple(data[first].shape)}; "
                    "expected the same (D, H, W)"
                )


def _spread(name: str, value: Any, keys: tuple[Hashable, ...], options: Sequence[str]) -> dict[Hashable, Any]:
    try:
        values = ensure_tuple_rep(value, len(keys))
    except ValueError as error:
        raise InvalidInputError(f"{name}={value!r}; expected one value, or one for each of {keys}") from error
    if options:
        for one in (value,) if not keys else values:
            check_option(name, one, options)
    return dict(zip(keys, values, strict=True))
