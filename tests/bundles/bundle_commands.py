"""Running a bundle's commands on tiny data."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from forked_commands import ROOT, Command, together
from monai.bundle import ConfigParser, ConfigWorkflow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.distributed import TCPStore

from voxel_ext.errors import VoxelExtError
from voxel_ext.workflow import root_cause


def configs(bundle: str, *names: str) -> list[str]:
    """Paths of config files of a bundle, e.g. ``configs("x", "train", "variants/unet")``."""
    return [str(ROOT / "bundles" / bundle / "configs" / f"{name}.json") for name in names]


def run_command(run_id: str, files: list[str], **override: Any) -> None:
    """What ``python -m monai.bundle run`` does, in this process and without changing its logging."""
    workflow = ConfigWorkflow(config_file=files, run_id=run_id, logging_file=False, **override)
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def unmet_properties(bundle: str, training_data: Path, inference_data: Path, **settings: Any) -> dict[str, list[str]]:
    """What MONAI requires of the workflows of a bundle and does not find, by config."""
    unmet = {}
    for name, kind, folder in (("train", "train", training_data), ("inference", "infer", inference_data)):
        workflow = ConfigWorkflow(
            configs(bundle, name), workflow_type=kind, logging_file=False, dataset_dir=str(folder), **settings
        )
        workflow.initialize()
        unmet[name] = workflow.check_properties()
    return unmet


def options(settings: Mapping[str, Any]) -> list[str]:
    """Settings as options of a command: ``--epochs 1``."""
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


def shell(command: list[str], folder: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run ``python -m ...`` in ``folder`` as a user would, in a process forked from one that has imported MONAI."""
    return Command(command, folder).wait(timeout)


def python(command: list[str], folder: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run ``python -m ...`` in ``folder``; seconds slower than :func:`shell`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout
    )


TRAINING = ("run", "training", "--config_file")


def distributed_training(*overlays: str | Path, **settings: Any) -> list[str]:
    """What follows ``-m`` in the command that trains with several processes."""
    files = ["configs/train.json", "configs/multi_gpu_train.json", *map(str, overlays)]
    return ["monai.bundle", *TRAINING, str(files), *options(settings)]


def train_on_two_processes(bundle: str, *overlays: str | Path, **settings: Any) -> None:
    """Train as ``torchrun --nproc_per_node=2`` does; both processes must succeed."""
    for done in on_two_processes(distributed_training(*overlays, **settings), ROOT / "bundles" / bundle):
        assert done.returncode == 0, done.stdout + done.stderr


def on_two_processes(command: list[str], folder: Path) -> list[subprocess.CompletedProcess[str]]:
    """Do what ``torchrun --nproc_per_node=2 -m command`` does, with the processes that it would start."""
    # as torchrun does: the processes are clients of the store of the one that starts them
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    common |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    running = [Command(command, folder, common | {"RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")]
    return together(running, timeout=300)


def network_settings(bundle: str, config: str, *left_out: str) -> dict[str, Any]:
    """What a config of a bundle builds the network with, without some settings."""
    parser = ConfigParser()
    parser.read_config(configs(bundle, config))
    names = [name for name in parser["network_def"] if name not in left_out]
    return {name: parser.get_parsed_content(f"network_def#{name}") for name in names}


def scalars(log_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """What a training logged to TensorBoard: step and value by name."""
    events = EventAccumulator(str(log_dir))
    events.Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def kill_training(bundle: str, settings: Mapping[str, Any], checkpoint: Path) -> None:
    """Train from the shell in the bundle's folder, and kill the process as soon as there is a checkpoint."""
    command = ["monai.bundle", *TRAINING, "configs/train.json", *options(settings)]
    process = Command(command, ROOT / "bundles" / bundle)
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and process.running() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()


def reason(command: Callable[..., object], *arguments: Any, **override: Any) -> str:
    """Run a command that must fail; return the message of the voxel_ext error behind the failure."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the config parser decides the outermost type
        command(*arguments, **override)
    cause = root_cause(caught.value)
    assert isinstance(cause, VoxelExtError), f"{type(cause).__name__}: {cause}"
    return str(cause)
