"""What objects are clustered by: tables of features by name."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxel_ext.data.feature_files import HDF5_SUFFIXES, PARQUET_SUFFIXES, read_features
from voxel_ext.errors import InvalidInputError, MissingDataError, check_option
from voxel_ext.morphology.feature_names import ALIASES, FEATURE_GROUPS, LEARNED

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_RUN_FEATURES = "python -m monai.bundle run features --config_file configs/features.json"


@dataclass(frozen=True)
class FeatureTables:
    """Tables of features.

    Attributes:
        tables: by name of the feature, with ``id``.
        paths: by name, the file.
    """

    tables: Mapping[str, pd.DataFrame]
    paths: Mapping[str, Path]

    def describe(self) -> list[dict[str, Any]]:
        """Tell, for JSON, what was read: a file's SHA-256 changes whenever its values do."""
        return [
            {
                "feature": name,
                "file": str(path),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "objects": len(self.tables[name]),
                "columns": len(self.tables[name].columns) - 1,
            }
            for name, path in self.paths.items()
        ]


def read_feature_tables(feature_dirs: Folders, features: str | Sequence[str]) -> FeatureTables:
    """Read the tables of features that lie in several folders.

    The table of a feature is ``<feature>.parquet``, or where a folder has none ``<feature>.h5``. A name of EManalysis
    stands for a group of classical features, whose file may have either name.

    Args:
        feature_dirs: one or several folders.
        features: names: classical groups, learned features, or those of the user's own files.

    Returns:
        the tables in the order of ``features``.

    Raises:
        MissingDataError: no such folder; or features without a file: names them, and the command that writes each.
        InvalidInputError: no folder or feature given, a feature given twice or found in two folders, a name that is not
            known and has no file; or as ``read_features``.
    """
    folders = _folders(feature_dirs)
    names = [features] if isinstance(features, str) else list(features)
    if not names or len(set(names)) < len(names):
        raise InvalidInputError(f"features={names}; expected at least one, each once")
    found = {name: _find(folders, name) for name in names}
    absent = [name for name, path in found.items() if path is None]
    if absent:
        raise _not_found(absent, folders)
    paths = {name: path for name, path in found.items() if path is not None}
    return FeatureTables({name: read_features(path) for name, path in paths.items()}, paths)


def _folders(feature_dirs: Folders) -> list[Path]:
    given = [feature_dirs] if isinstance(feature_dirs, str | os.PathLike) else list(feature_dirs)
    folders = [Path(folder) for folder in given]
    if not folders:
        raise InvalidInputError("feature_dirs is empty; expected the folders where the tables of features are")
    absent = [str(folder) for folder in folders if not folder.is_dir()]
    if absent:
        raise MissingDataError(
            f"feature_dirs: {', '.join(absent)} is not a folder (current folder: {os.getcwd()}); expected folders with "
            f"tables of features. Classical ones are written by: {_RUN_FEATURES}; learned ones by `run inference` of "
            "the bundles of the networks"
        )
    return folders


def _find(folders: Sequence[Path], feature: str) -> Path | None:
    """The file of a feature; of a folder Parquet before HDF5, and the name as given before its synonym."""
    names = [feature, *([ALIASES[feature]] if feature in ALIASES else _aliases_of(feature))]
    places = []
    for folder in folders:
        files = [folder / f"{name}{suffix}" for name in names for suffix in (*PARQUET_SUFFIXES, *HDF5_SUFFIXES)]
        places += [file for file in files if file.is_file()][:1]
    if len({place.resolve() for place in places}) > 1:
        listed = " and ".join(map(str, places))
        raise InvalidInputError(f"the feature {feature!r} is in several folders: {listed}; leave one of them out")
    return places[0] if places else None


def _aliases_of(group: str) -> list[str]:
    return [alias for alias, name in ALIASES.items() if name == group]


def _not_found(absent: Sequence[str], folders: Sequence[Path]) -> Exception:
    """Say of each feature without a file what writes it."""
    suffixes = (*PARQUET_SUFFIXES, *HDF5_SUFFIXES)
    present = sorted({path.stem for folder in folders for path in folder.iterdir() if path.suffix in suffixes})
    classical = [name for name in absent if name in FEATURE_GROUPS or name in ALIASES]
    advice = []
    if classical:
        advice.append(f"{', '.join(classical)}: {_RUN_FEATURES}, with these names in features")
    advice += [f"{name}: `run inference` of the bundle {LEARNED[name]}" for name in absent if name in LEARNED]
    for name in absent:
        if name not in classical and name not in LEARNED:
            check_option("feature", name, dict.fromkeys([*present, *FEATURE_GROUPS, *ALIASES, *LEARNED]))
    return MissingDataError(
        f"{', '.join(map(str, folders))} has no features {', '.join(absent)}; it has: {', '.join(present) or 'none'}. "
        f"What writes them: {'; '.join(advice)}. Give the folder as one of feature_dirs"
    )
