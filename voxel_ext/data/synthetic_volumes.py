"""Synthetic volumes by seed: a generator for worker processes, and a dataset that makes them on the fly."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import apply_transform
from torch.utils.data import Dataset

from voxel_ext.errors import InvalidInputError

Generator = Callable[[int], Mapping[str, Any]]
"""Makes the volume of a seed: a dictionary with ``image``, usually ``label``, and whatever else is known."""


class SyntheticVolumes:
    """Call ``generator(seed=seed, **options).generate()`` for a seed; can be sent to worker processes.

    For example ``SyntheticVolumes("voxel_ext.synthetic.OpticLobe", size=(64, 64, 64))``.

    Args:
        generator: a class with such a constructor and method, or its dotted name.
        options: for the constructor.

    Raises:
        InvalidInputError: there is no such name, or the constructor does not take the options.
    """

    def __init__(self, generator: str | Callable[..., Any], **options: Any) -> None:
        self.generator = _locate(generator) if isinstance(generator, str) else generator
        self.options = options
        try:
            inspect.signature(self.generator).bind(seed=0, **options)
        except TypeError as error:
            raise InvalidInputError(
                f"{generator} cannot be made with seed and the options {options}: {error}; "
                f"it is {getattr(self.generator, '__name__', generator)}{inspect.signature(self.generator)}"
            ) from error

    def __call__(self, seed: int) -> Mapping[str, Any]:
        """Make the volume of a seed."""
        return self.generator(seed=seed, **self.options).generate()

    def settings(self) -> dict[str, Any]:
        """What the volumes depend on but the seed: the generator's ``settings()`` if it has that, or the options.

        Raises:
            InvalidInputError: as the generator says of its options.
        """
        if not callable(getattr(self.generator, "settings", None)):
            return self.options
        settings = self.generator(seed=0, **self.options).settings()
        return {name: value for name, value in settings.items() if name != "seed"}


def _locate(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module or name), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidInputError(
            f"there is no generator {name!r} ({error}); expected a dotted name such as 'voxel_ext.synthetic.OpticLobe'"
        ) from error


def describe_generator(generator: Generator) -> dict[str, Any]:
    """Name and settings of a generator, to tell later whether data were made with the same one."""
    if isinstance(generator, SyntheticVolumes):
        return {"name": _name(generator.generator), "options": generator.settings()}
    if isinstance(generator, functools.partial):
        inner = describe_generator(generator.func)
        arguments = {str(i): value for i, value in enumerate(generator.args)}
        return {"name": inner["name"], "options": {**inner["options"], **arguments, **generator.keywords}}
    return {"name": _name(generator), "options": {}}


def _name(thing: Any) -> str:
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"


class SyntheticDataset(Dataset):
    """Synthetic volumes made when they are asked for; item i is the volume of seed ``seed + i``, always the same.

    Args:
        generator: ``seed -> dict`` with ``image`` and, if there is one, ``label``, each (X, Y, Z) or (X, Y).
        length: number of volumes.
        seed: of the first one.
        transform: applied to each item.

    Raises:
        InvalidInputError: length below 1 or a negative seed.
    """

    def __init__(
        self, generator: Generator, length: int, seed: int = 0, transform: Callable[..., Any] | None = None
    ) -> None:
        if length < 1 or seed < 0:
            raise InvalidInputError(
                f"length={length}, seed={seed}; expected a length of 1 or more and a seed of 0 or more"
            )
        self.generator, self.length, self.seed, self.transform = generator, length, seed, transform

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        """Make a volume.

        Returns:
            ``image`` and ``label`` as float32 MetaTensors (1, X, Y, Z), like ``LoadImaged`` gives them, after the
            transform if there is one.

        Raises:
            IndexError: no such item.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"item {index} of {self.length} synthetic volumes")
        seed = self.seed + index
        volume = self.generator(seed)
        item = {key: _as_metatensor(volume[key], seed) for key in ("image", "label") if key in volume}
        if "image" not in item:
            raise InvalidInputError(f"{_name(self.generator)} gave no 'image' but {sorted(volume)}")
        return item if self.transform is None else apply_transform(self.transform, item)


def _as_metatensor(array: Any, seed: int) -> MetaTensor:
    data = torch.as_tensor(np.asarray(array, dtype=np.float32))[None]
    shape = np.asarray(data.shape[1:])
    meta = {"filename_or_obj": f"synthetic_{seed:06d}", "spatial_shape": shape, "original_channel_dim": 0}
    return MetaTensor(data, affine=torch.eye(data.ndim, dtype=torch.float64), meta=meta)
