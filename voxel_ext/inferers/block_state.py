"""The folder in which a block-wise result is made, by one run at a time: what is finished, with which settings."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from voxel_ext.data.prepared_folder import describe_difference, write_text_if_changed
from voxel_ext.errors import InvalidInputError, VoxelExtError
from voxel_ext.files import explain_write_errors, read_json
from voxel_ext.inferers.block_store import read_settings, remove_strays

logger = logging.getLogger(__name__)

REMEDY = "choose another store, or give overwrite=True to replace it"


class BlockState:
    """The folder ``<store>.partial`` beside a store: the result so far, its settings, a mark for each finished block.

    Args:
        store: where the result is to be at the end.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.folder = store.with_name(f"{store.name}.partial")
        self.result = self.folder / "result"
        self.settings_file = self.folder / "settings.json"
        self._finished = self.folder / "finished"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Work in the folder alone; it is removed at the end if there is no result in it.

        Raises:
            VoxelExtError: another run works in it.
            OSError: it cannot be made.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / "lock")
        with explain_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise VoxelExtError(
                    f"another run is writing {self.store} (it holds {self.folder / 'lock'}); wait for it, or choose "
                    "another store"
                ) from error
        try:
            yield
        finally:
            if not self.settings_file.exists():
                shutil.rmtree(self.folder, ignore_errors=True)
            lock.release()

    def is_complete(self, settings: Mapping[str, Any], resume: bool, overwrite: bool) -> bool:
        """Whether the store holds the result of the same settings already.

        Args:
            settings: of this run.
            resume: whether such a result is wanted; otherwise it is an obstacle.
            overwrite: whether anything else may be replaced.

        Raises:
            InvalidInputError: there is something else, which may not be replaced; says what differs.
        """
        if not self.store.exists():
            return False
        if overwrite and not resume:
            return False
        try:
            there = read_settings(self.store)
        except InvalidInputError:
            if overwrite:
                return False
            raise
        difference = describe_difference(self.store, there, settings)
        if not difference and resume:
            return True
        if not overwrite:
            raise InvalidInputError(f"{difference or f'{self.store} exists, and resume=False'}; {REMEDY}")
        return False

    def can_continue(self, settings: Mapping[str, Any], resume: bool, overwrite: bool) -> bool:
        """Whether there are finished blocks of the same settings; anything that may not stay is removed.

        Args:
            settings: of this run.
            resume: whether to go on from them.
            overwrite: whether blocks of other settings may be removed.

        Raises:
            InvalidInputError: there are blocks of other settings; says what differs.
        """
        if resume and self.settings_file.exists() and self.result.exists():
            difference = self._difference(settings)
            if not difference:
                return True
            if not overwrite:
                raise InvalidInputError(f"{difference}; {REMEDY}, or remove that folder")
        # the settings first: without them the rest does not count
        for path in (self.settings_file, self.result, self._finished):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return False

    def _difference(self, settings: Mapping[str, Any]) -> str:
        """In what the blocks that are there were made otherwise; "" if in nothing."""
        try:
            there = read_json(self.settings_file, dict, "the settings of a block-wise result")
            self.finished()
        except InvalidInputError as error:
            return str(error)
        return describe_difference(self.folder, there, settings)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Record the settings of a new run, whose empty result was made before."""
        self._finished.mkdir()
        write_text_if_changed(self.settings_file, json.dumps(settings, indent=2) + "\n")

    def mark(self, tile: int, slab: int) -> None:
        """Record that a block is finished."""
        (self._finished / f"{tile}.{slab}").touch()

    def check_alive(self) -> None:
        """Refuse to go on where the folder is gone: this worker was lost, and others have finished without it.

        Raises:
            VoxelExtError: it is gone.
        """
        if not self.settings_file.exists():
            raise VoxelExtError(f"{self.folder} is gone: another run has finished or removed it")

    def finished(self) -> set[tuple[int, int]]:
        """Pairs of a tile and a slab that are finished.

        Raises:
            InvalidInputError: there is something else than marks of finished blocks.
        """
        try:
            parts = [path.name.split(".") for path in self._finished.iterdir()]
            return {(int(tile), int(slab)) for tile, slab in parts}
        except FileNotFoundError:
            return set()
        except (ValueError, NotADirectoryError) as error:
            raise InvalidInputError(
                f"{self._finished} has other files than marks of finished blocks ({error})"
            ) from error

    def publish(self) -> None:
        """Give the result its name, in the place of what may be there, and remove the rest.

        Raises:
            OSError: it cannot be renamed.
        """
        remove_strays(self.result)
        with explain_write_errors(self.store):
            if self.store.exists():
                os.replace(self.store, self.folder / "previous")
            os.replace(self.result, self.store)
        self.clear()

    def clear(self) -> None:
        """Let the folder be removed: what is in it is not needed any more."""
        self.settings_file.unlink(missing_ok=True)
