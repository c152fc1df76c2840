"""Whether a bundle's configs have the ids that MONAI and the model zoo work with."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from voxel_ext.sharing.bundle import Bundle, read_config
from voxel_ext.sharing.checks_commands import items, shown
from voxel_ext.sharing.checks_outcome import DOES_NOT_APPLY, Check, outcome

_INFERENCE = ("bundle_root", "device", "network_def", "inferer", "output_dir")
_TRAINING = ("bundle_root", "device", "dataset_dir")
_OF_TRAIN = ("trainer", "trainer::max_epochs", "dataset", "handlers")
_OF_VALIDATE = ("evaluator", "handlers", "dataset")


def check_properties(bundle: Bundle) -> Check:
    """Check that training and inference have the properties that MONAI's workflows require.

    MONAI's own check is run on the ids alone: nothing is evaluated, so that no data are prepared.
    """
    kinds = {name: kind for name, kind in (("training", "train"), ("inference", "infer")) if name in bundle.configs}
    if not kinds:
        return Check("properties", DOES_NOT_APPLY, "the bundle has neither training nor inference")
    problems = []
    for name, kind in kinds.items():
        file = bundle.configs[name]
        problems += [f"{file.relative_to(bundle.root)}: {problem}" for problem in _property_problems(file, kind)]
    return outcome("properties", problems, f"of {' and '.join(kinds)}")


def _property_problems(file: Path, kind: str) -> list[str]:
    """Properties that MONAI requires of a config and does not find."""
    from monai.bundle import ConfigParser, ConfigWorkflow
    from monai.utils import BundlePropertyConfig

    class Declared(ConfigWorkflow):
        """A workflow whose properties are the ids they stand under."""

        def _get_property(self, name: str, property: Mapping[str, Any]) -> str:
            config_id = str(property[BundlePropertyConfig.ID])
            if config_id not in self.parser:
                raise AttributeError(name)
            return config_id

    with _silent("monai.bundle.workflows"):
        workflow = Declared(str(file), workflow_type=kind, logging_file=False)
        texts = [item for item in workflow.parser.get("train::handlers", []) if not isinstance(item, dict)]
        if texts and kind == "train":
            return [f"train#handlers has {texts}; MONAI's check_properties takes components only, no references"]
        for config_id, value in list(items(workflow.parser.get())):
            if isinstance(value, str):
                workflow.parser[config_id] = ConfigParser.resolve_relative_ids(config_id, value)
        missing = workflow.check_properties() or []
    ids = {name: shown(workflow.properties[name][BundlePropertyConfig.ID]) for name in missing}
    return [
        f"the property {name!r}, id {one}, is missing or is not what its user refers to" for name, one in ids.items()
    ]


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Keep a logger from repeating what the check will say."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def check_ids(bundle: Bundle) -> Check:
    """Check that training and inference have the ids that the model zoo's rules name.

    Of these ``dataset#data`` may be missing: MONAI's properties leave it to datasets that have such an argument.
    """
    from monai.bundle import ConfigParser

    problems = []
    checked = []
    for name in ("training", "inference"):
        if name not in bundle.configs:
            continue
        file = bundle.configs[name]
        content = read_config(file)
        parser = ConfigParser(config=content)
        expected = list(_INFERENCE if name == "inference" else _TRAINING)
        for group, ids in (("train", _OF_TRAIN), ("validate", _OF_VALIDATE)):
            if name == "training" and group in content:
                expected += [f"{group}::{one}" for one in ids]
        checked.append(f"{len(expected)} of {name}")
        problems += [
            f"{file.relative_to(bundle.root)}: {shown(config_id)} is missing; the model zoo asks for it"
            for config_id in expected
            if config_id not in parser
        ]
    if not checked:
        return Check("ids", DOES_NOT_APPLY, "the bundle has neither training nor inference")
    return outcome("ids", problems, ", ".join(checked))
