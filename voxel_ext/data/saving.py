"""MONAI's transforms that save images, with the errors of the writers as they are."""

from __future__ import annotations

import functools
from typing import Any

from monai.config import KeysCollection
from monai.transforms import SaveImage, SaveImaged
from monai.utils.enums import PostFix

from voxel_ext.errors import VoxelExtError


class SaveVolume(SaveImage):
    """MONAI's ``SaveImage``; but where that only says that it found no suitable writer, raise the writer's own error.

    Args:
        args: those of ``SaveImage``.
        options: those of ``SaveImage``.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._errors: list[VoxelExtError | OSError] = []
        self.writers = tuple(functools.partial(_Remembering, self._errors, writer) for writer in self.writers)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Save an image.

        Args:
            args: those of ``SaveImage``.
            options: those of ``SaveImage``.

        Returns:
            the image.

        Raises:
            VoxelExtError: the data cannot be written, e.g. they do not fit into ``output_dtype``.
            OSError: the folder is not writable, or the disk is full.
            RuntimeError: no writer can do it for another reason.
        """
        self._errors.clear()
        try:
            return super().__call__(*args, **options)
        except RuntimeError:
            if not self._errors:
                raise
        raise self._errors[0]


class SaveVolumed(SaveImaged):
    """Dictionary version of ``SaveVolume``.

    Args:
        keys: of the images.
        meta_keys: as in ``SaveImaged``.
        meta_key_postfix: as in ``SaveImaged``.
        allow_missing_keys: do not raise if a key is missing.
        options: those of ``SaveImage``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        meta_keys: KeysCollection | None = None,
        meta_key_postfix: str = PostFix.meta(),
        allow_missing_keys: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(keys, meta_keys, meta_key_postfix, allow_missing_keys=allow_missing_keys, **options)
        self.saver = SaveVolume(**options)


class _Remembering:
    """A writer that adds its errors to a list."""

    def __init__(self, errors: list[VoxelExtError | OSError], writer: Any, **options: Any) -> None:
        self._errors = errors
        self._writer = self._call(writer, **options)

    def _call(self, function: Any, *args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except (VoxelExtError, OSError) as error:
            self._errors.append(error)
            raise

    def set_data_array(self, *args: Any, **options: Any) -> None:
        self._call(self._writer.set_data_array, *args, **options)

    def set_metadata(self, *args: Any, **options: Any) -> None:
        self._call(self._writer.set_metadata, *args, **options)

    def write(self, *args: Any, **options: Any) -> None:
        self._call(self._writer.write, *args, **options)
