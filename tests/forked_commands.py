"""Processes like ``python -m module ...`` without the seconds that importing MONAI takes.

They are forked from a process that has imported it (:mod:`multiprocessing`'s fork server, one per test process). Each
has its own folder, arguments, environment and session, and ends as Python does.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PRELOADED = (
    *("monai.bundle", "ignite.engine", "ignite.handlers", "ignite.metrics", "torch.utils.tensorboard", "h5py", "zarr"),
    *("matplotlib.pyplot", "pandas", "scipy.ndimage", "scipy.optimize", "skimage.measure", "skimage.segmentation"),
    *("voxel_ext.data", "voxel_ext.engines", "voxel_ext.handlers", "voxel_ext.inferers", "voxel_ext.losses"),
    *("voxel_ext.metrics", "voxel_ext.networks.nets", "voxel_ext.transforms", "voxel_ext.workflow"),
)

_context = multiprocessing.get_context("forkserver")


def start_server() -> None:
    """Start the process that others are forked from, unless it runs."""
    _context.set_forkserver_preload(list(PRELOADED))
    with _one_thread():
        forkserver.ensure_running()


def start(target: Callable[..., object], *arguments: Any) -> Any:
    """Call a function of a module in a process of its own; return the process."""
    start_server()
    process = _context.Process(target=target, args=arguments)
    process.start()
    return process


@contextmanager
def _one_thread():
    """The environment of the server, which must not start threads."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


class Command:
    """A running ``python -m module arguments``.

    Args:
        command: the module and its arguments.
        folder: where it runs.
        environment: variables besides those of this process.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self._folder = tempfile.TemporaryDirectory(prefix="command-")
        self._streams = [f"{self._folder.name}/{name}" for name in ("stdout", "stderr")]
        variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | dict(environment or {})
        self.process = start(_as_main, self.command, str(folder), variables, self._streams)

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    def wait(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait for the end of the command; what it started and left behind is killed."""
        self.process.join(timeout)
        late = self.running()
        self.kill()
        output, errors = (Path(stream).read_text() if Path(stream).exists() else "" for stream in self._streams)
        if late:
            raise subprocess.TimeoutExpired(self.command, timeout, output, errors)
        return subprocess.CompletedProcess(self.command, self.process.exitcode, output, errors)

    def kill(self) -> None:
        """Kill the command with its own processes, as ``kill -9`` does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):  # it may not lead its own group yet
            if self.running():
                os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()


def together(commands: Sequence[Command], timeout: float) -> list[subprocess.CompletedProcess[str]]:
    """Wait for commands that need each other: once one has failed, the others are killed."""
    deadline = time.monotonic() + timeout
    while any(one.running() for one in commands) and time.monotonic() < deadline:
        if any(one.process.exitcode for one in commands):
            break
        time.sleep(0.02)
    failed = any(one.process.exitcode for one in commands)
    return [one.wait(0 if failed else max(deadline - time.monotonic(), 0)) for one in commands]


def _as_main(command: list[str], folder: str, environment: dict[str, str], streams: list[str]) -> None:
    """Become ``python -m command`` (in the forked process)."""
    os.setsid()
    for number, name in enumerate(streams, 1):
        stream = os.open(name, os.O_WRONLY | os.O_CREAT)
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tests = str(ROOT / "tests")
    sys.path[:] = [folder, str(ROOT), *(path for path in sys.path if not path.startswith(tests))]
    sys.argv[:] = ["", *command[1:]]
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except Exception:  # as the interpreter does at the end, whatever it was
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
