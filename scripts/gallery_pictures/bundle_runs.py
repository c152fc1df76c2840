"""The commands of a bundle, run in this process on small synthetic data, for its picture."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
_DONE = "done.json"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How long and on how much data a bundle is trained for its picture.

    Attributes:
        bundle: name of its folder.
        data: settings of ``prepare``.
        network: settings that training and inference share.
        training: further settings of ``training``.
        inference: further settings of ``inference``.
        training_overlays: names of further config files of ``training``, without suffix.
        inferred: the folder in the prepared data that ``inference`` is given.
    """

    bundle: str
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    network: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inference: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training_overlays: Sequence[str] = ()
    inferred: str = "val"

    @property
    def root(self) -> Path:
        """The bundle's folder."""
        return BUNDLES / self.bundle


def run_command(recipe: Recipe, run_id: str, names: Sequence[str], **settings: Any) -> None:
    """Run a command of a bundle as ``python -m monai.bundle run`` does, with no change to this process' logging.

    Args:
        recipe: of the bundle.
        run_id: the command.
        names: of its config files, without suffix.
        settings: values of the configs.
    """
    from monai.bundle import ConfigWorkflow

    # it warns that nothing is logged to a file, as asked for
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    files = [str(recipe.root / "configs" / f"{name}.json") for name in names]
    workflow = ConfigWorkflow(
        config_file=files, run_id=run_id, logging_file=False, bundle_root=str(recipe.root), **settings
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def run_once(folder: Path, step: str, settings: Mapping[str, Any], run: Any) -> None:
    """Run a step of the work in a folder, unless it has ended there before with the same settings.

    Args:
        folder: of the work; what is finished is noted in it.
        step: name of the step.
        settings: of the step.
        run: does the work.
    """
    from voxel_ext.files import atomic_path

    note = folder / _DONE
    done = json.loads(note.read_text()) if note.is_file() else {}
    known = json.loads(json.dumps(settings))
    if done.get(step) == known:
        return
    run()
    with atomic_path(note) as temporary:
        temporary.write_text(json.dumps(done | {step: known}, indent=1))


def train_and_infer(recipe: Recipe, work: Path) -> Path:
    """Prepare data, train and infer in a folder; finished steps are not repeated.

    Args:
        recipe: the settings.
        work: the folder of all bundles' work; the bundle gets one in it, with ``data``, ``models`` and ``eval``.

    Returns:
        the bundle's folder.
    """
    folder = work / recipe.bundle
    folder.mkdir(parents=True, exist_ok=True)
    data = str(folder / "data")
    places = {"ckpt_dir": str(folder / "models"), "output_dir": str(folder / "eval")}
    shared = {**recipe.network, **places}
    training = {**shared, **recipe.training, "log_path": str(folder / "runs"), "dataset_dir": data}
    inference = {**shared, **recipe.inference, "dataset_dir": str(Path(data, recipe.inferred))}
    prepare = {**recipe.data, "dataset_dir": data}
    run_once(folder, "prepare", prepare, lambda: run_command(recipe, "prepare", ["prepare"], overwrite=True, **prepare))
    configs = ["train", *recipe.training_overlays]
    trained = {"configs": configs, **training}
    run_once(folder, "training", trained, lambda: run_command(recipe, "training", configs, **training))
    run_once(folder, "inference", inference, lambda: run_command(recipe, "inference", ["inference"], **inference))
    return folder
