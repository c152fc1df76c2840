"""One order of axes, (z, y, x), for images of all formats."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImaged, MapTransform
from monai.utils import ImageMetaKey, MetaKeys, ensure_tuple

from voxel_ext.data.address import parse_address
from voxel_ext.data.vaa3d import SUFFIXES as VAA3D_SUFFIXES
from voxel_ext.errors import InvalidInputError

ARRAY_SUFFIXES = (".npy", ".npz", ".pkl")
"""Formats of arrays without geometry; MONAI reads them as they are stored."""


def comes_as_xyz(address: str | os.PathLike[str]) -> bool:
    """Whether MONAI's ``LoadImage`` gives a volume as (x, y, z), by the suffix of its file.

    It does for images such as NIfTI, NRRD, MetaImage, TIFF, PNG and DICOM; not for HDF5, zarr, Vaa3D raw and NumPy
    files, whose axes it leaves as they are stored.

    Args:
        address: the file, or a volume in it as ``parse_address`` takes it.
    """
    parsed = parse_address(address)
    return not (parsed.is_container or parsed.file.lower().endswith(VAA3D_SUFFIXES + ARRAY_SUFFIXES))


def reverse_axes(img: MetaTensor, world: bool = False) -> MetaTensor:
    """Turn (C, x, y, z) into (C, z, y, x), or back; its own inverse.

    For the index i and the reversed index P i, the affine A becomes A P: every voxel keeps its place in the world, and
    voxel sizes follow the axes. ``original_affine`` and ``spatial_shape`` in the metadata are treated alike, as if the
    file had been stored in the new order.

    Args:
        img: (C, a, b, c) or (C, a, b), with an affine of at least as many axes.
        world: reverse the axes of the world as well, P A P, for images whose world has the order of their array.

    Returns:
        (C, c, b, a) or (C, b, a), a view of the same voxels.

    Raises:
        InvalidInputError: another number of axes, or an affine that has fewer.
    """
    rank = img.ndim - 1
    if rank not in (2, 3):
        raise InvalidInputError(
            f"an image of shape {tuple(img.shape)}; expected (C, a, b, c) or (C, a, b), channels first"
        )
    reversed_img: MetaTensor = img.permute(0, *range(rank, 0, -1))  # type: ignore[assignment]
    reversed_img.affine = _reverse_affine(img.affine, rank, world)
    original, shape = (img.meta.get(key) for key in (MetaKeys.ORIGINAL_AFFINE, MetaKeys.SPATIAL_SHAPE))
    if original is not None:
        reversed_img.meta[MetaKeys.ORIGINAL_AFFINE] = _reverse_affine(torch.as_tensor(original), rank, world)
    if shape is not None:
        sizes = np.asarray(shape)
        reversed_img.meta[MetaKeys.SPATIAL_SHAPE] = np.concatenate([sizes[:rank][::-1], sizes[rank:]])
    return reversed_img


def _reverse_affine(affine: torch.Tensor, rank: int, world: bool) -> torch.Tensor:
    """Permute the columns, and the rows, of the image's axes; a plane may carry the affine of space."""
    if len(affine) <= rank:
        raise InvalidInputError(f"the image has {rank} spatial axes, but its affine has shape {tuple(affine.shape)}")
    order = [*range(rank - 1, -1, -1), *range(rank, len(affine))]
    return affine[order][:, order] if world else affine[:, order]


def as_image_file(img: MetaTensor) -> MetaTensor:
    """Turn an image (C, z, y, x) into (C, x, y, z), as NIfTI, NRRD, MetaImage and TIFF files have it.

    An image that was read from such a file gets that file's affine back. In others, such as HDF5, the axes of the
    world are those of the array, (z, y, x), so that they are reversed as well: the affine stays diagonal.

    Args:
        img: (C, z, y, x) or (C, y, x); ``filename_or_obj`` in its metadata tells where it comes from.

    Returns:
        (C, x, y, z) or (C, x, y).

    Raises:
        InvalidInputError: another number of axes.
    """
    source = img.meta.get(ImageMetaKey.FILENAME_OR_OBJ)
    return reverse_axes(img, world=not source or not comes_as_xyz(str(source)))


class AsImageFiled(MapTransform):
    """Dictionary version of :func:`as_image_file`, for programs that write a result themselves, such as MONAI Label.

    Args:
        keys: of images (C, z, y, x) or (C, y, x).
        allow_missing_keys: do not raise if a key is missing.
    """

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the data with images (C, x, y, z) or (C, x, y) under the keys.

        Raises:
            InvalidInputError: see :func:`as_image_file`.
        """
        turned = dict(data)
        for key in self.key_iterator(turned):
            turned[key] = as_image_file(turned[key])
        return turned


class LoadZyxd(LoadImaged):
    """MONAI's ``LoadImaged``, channels first; but every image comes as (C, z, y, x), whatever the format.

    HDF5, zarr, Vaa3D raw and NumPy files are taken to be stored in this order. Other images, which MONAI gives as
    (x, y, z), are reversed, with their affine: x runs fastest in their file. So this gives the same arrays as
    ``load_zyx``, which prepares training data. Planes come as (C, y, x).

    Args:
        keys: of the files.
        reader: as in ``LoadImaged``.
        dtype: of the arrays; None for that of the file.
        allow_missing_keys: do not raise if a key is missing.
        options: more of ``LoadImaged``, but ``ensure_channel_first`` and ``image_only``, which are True.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reader: Any = None,
        dtype: DtypeLike = np.float32,
        allow_missing_keys: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            keys, reader, dtype, allow_missing_keys=allow_missing_keys, ensure_channel_first=True, **options
        )

    def __call__(self, data: Mapping[Any, Any], reader: Any = None) -> dict[Any, Any]:
        """Load the images.

        Args:
            data: has the files under the keys; several files of one key become channels.
            reader: as in ``LoadImaged``.

        Returns:
            the data with MetaTensors (C, z, y, x) or (C, y, x) under the keys.

        Raises:
            InvalidInputError: an image file that has neither 2 nor 3 spatial axes; and what the readers raise.
            RuntimeError: no reader can read the file.
        """
        loaded = super().__call__(data, reader)
        for key in self.key_iterator(loaded):
            source = ensure_tuple(data[key])[0]
            if comes_as_xyz(source):
                loaded[key] = _named(source, loaded[key])
        return loaded


def _named(source: Any, img: MetaTensor) -> MetaTensor:
    try:
        return reverse_axes(img)
    except InvalidInputError as error:
        raise InvalidInputError(f"{source}: {error}") from error
