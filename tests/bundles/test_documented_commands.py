"""Every command that the documents show runs as it stands there, in the order of the document."""

import importlib.util
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from bundle_commands import ROOT, on_two_processes
from documented_commands import Inputs, Shown, blocks, copy_bundles, shown_commands
from forked_commands import Command

DOCUMENTS = ["README.md", "bundles/README.md"]
DOCUMENTS += sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("bundles/*/docs/README.md"))
BEFORE = {
    "README.md": ["bundles/surface_multitask: training --config_file configs/train.json"],
    "bundles/README.md": ["bundles/optic_lobe_segmentation: training --config_file configs/train.json"],
    "bundles/em_point_cloud_autoencoder/docs/README.md": [
        "bundles/em_shape_vae: training --config_file configs/train.json",
        "bundles/em_shape_vae: inference --config_file configs/inference.json",
    ],
}
"""What a document takes for granted: networks that are trained."""
ELSEWHERE = {
    "bash": "the scripts, of which one calls this test; the other's commands are those of the bundle it runs",
    "pip": "installing",
    "unzip": "tests/sharing",
    "python -m voxel_ext verify": "tests/sharing, of every bundle with its own defaults",
    "dask": "the scheduler and workers of a cluster: tests of voxel_ext.data.scheduling",
    "git": "clones of other repositories",
    "python -m benchmarks": "hours; benchmarks/README.md has what they print",
    "sbatch": "a cluster",
}
"""Commands that are not run here, by their first words, and where they are."""


NEEDS = {"configs/view.json": "neuroglancer"}
"""Commands that need a library which the scripts do not install; without it they must say so."""


def is_run_here(shown: Shown) -> bool:
    line = " ".join(shown.words)
    variables_left_out = line.split(" ", 1)[1] if "=" in shown.words[0] else line
    return not variables_left_out.startswith(tuple(ELSEWHERE))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_of_a_document_runs(document: str, tmp_path: Path) -> None:
    copy_bundles(tmp_path)
    path = Path(document)
    name = path.parent.parent.name if path.parent.name == "docs" else document
    inputs = Inputs(name, tmp_path / "inputs")
    before = []
    for line in BEFORE.get(document, ()):
        folder, words = line.split(": ")
        before.append(Shown(Path(folder), ("python", "-m", "monai.bundle", "run", *words.split())))
    commands = [*before, *(shown for shown in shown_commands(ROOT / document) if is_run_here(shown))]
    assert commands
    for shown in commands:
        words = [inputs.place(word) for word in shown.words]
        run(words, tmp_path / folder_of(shown), tmp_path)


@pytest.mark.parametrize("document", ["README.md", "bundles/surface_multitask/docs/README.md"])
def test_python_of_a_document_runs(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = zarr.open_group(tmp_path / "scroll.zarr", mode="w")
    images = {"0": (64, 64, 64), "sheet": (1, 64, 64, 64), "normals": (3, 64, 64, 64)}
    for name, shape in images.items():
        stored.create_array(name, data=np.ones(shape, np.uint8))
    monkeypatch.chdir(tmp_path)
    snippets = [text for language, text in blocks(ROOT / document) if language == "python"]
    assert snippets
    names = {"network": torch.nn.Conv3d(1, 1, 3, padding=1), "__name__": "snippet"}
    for text in snippets:
        exec(compile(text, document, "exec"), names)
    if document == "README.md":
        assert zarr.open_group(tmp_path / "predicted.zarr", mode="r")["0"].shape[-3:] == (64, 64, 64)
        assert names["png"].startswith(b"\x89PNG")
    else:
        assert names["normals"].shape == (3, 64, 64, 64)


def folder_of(shown: Shown) -> Path:
    """Commands of the README that name no folder are those of any bundle."""
    bundle = "configs/" in " ".join(shown.words) and not shown.folder.parts
    return Path("bundles/optic_lobe_segmentation") if bundle else shown.folder


def run(words: list[str], folder: Path, root: Path) -> None:
    """Run a command; it must succeed."""
    shown = f"{shlex.join(words)}  (in {folder.relative_to(root)})"
    if words[0] == "torchrun":
        assert words[1:3] == ["--nproc_per_node=2", "-m"], shown
        done = on_two_processes(words[3:], folder)
    else:
        assert words[:2] == ["python", "-m"], shown
        done = [Command(words[2:], folder).wait(300)]
    for one in done:
        library = next((NEEDS[word] for word in words if word in NEEDS), None)
        if library and importlib.util.find_spec(library) is None:
            assert f"pip install {library}" in one.stderr.splitlines()[-1], shown
            continue
        assert one.returncode == 0, f"{shown}\n{one.stdout[-2000:]}{one.stderr[-4000:]}"
