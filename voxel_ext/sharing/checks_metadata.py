"""Whether a bundle's ``configs/metadata.json`` says what the bundle specification and the model zoo ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

from voxel_ext.sharing.bundle import METADATA, Bundle
from voxel_ext.sharing.checks_outcome import Check, outcome

SOURCE = METADATA.as_posix()


@lru_cache(maxsize=1)
def metadata_schema() -> Mapping[str, Any]:
    """Return the JSON schema of ``configs/metadata.json`` that is kept with this package."""
    return json.loads(files("voxel_ext.sharing").joinpath("metadata_schema.json").read_text(encoding="utf-8"))


def check_metadata(bundle: Bundle) -> Check:
    """Check the metadata against :func:`metadata_schema`."""
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(metadata_schema()).iter_errors(bundle.metadata)
    problems = [
        f"{SOURCE}: {'#'.join(map(str, error.absolute_path)) or 'top level'}: {error.message}" for error in errors
    ]
    return outcome("metadata", problems, f"{len(bundle.metadata)} keys")


def check_changelog(bundle: Bundle) -> Check:
    """Check that the version stands in the changelog, as the newest, and that the newest come first."""
    from packaging.version import InvalidVersion, Version

    changelog = bundle.metadata.get("changelog")
    if not isinstance(changelog, Mapping) or not changelog:
        return outcome("changelog", [f"{SOURCE}: changelog={changelog!r}; expected an object of version and text"], "")
    try:
        versions = [Version(version) for version in changelog]
        current = Version(bundle.version)
    except InvalidVersion as error:
        return outcome("changelog", [f"{SOURCE}: changelog or version: {error}; expected e.g. '0.1.0'"], "")
    problems = []
    if current not in versions:
        problems.append(
            f"{SOURCE}: version={bundle.version!r} is not in the changelog, which has {', '.join(changelog)}"
        )
    if versions != sorted(versions, reverse=True):
        problems.append(f"{SOURCE}: changelog has {', '.join(changelog)}; expected the newest version first")
    if current in versions and max(versions) > current:
        problems.append(f"{SOURCE}: version={bundle.version!r} is older than {max(versions)} of the changelog")
    return outcome("changelog", problems, f"{bundle.version} is the newest of {len(versions)}")
