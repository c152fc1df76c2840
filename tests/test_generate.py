"""``python -m voxel_ext generate``: what it writes is what the generators make, and the bundles read it."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.transforms import LoadImage

from voxel_ext.cli import main
from voxel_ext.commands import COMMANDS
from voxel_ext.data import (
    LoadZyxd,
    datalists,
    decode_vectors,
    list_volumes,
    open_volume,
    read_surface_volumes,
    read_vaa3d,
    read_worm_table,
)
from voxel_ext.data.object_classes import read_class_table
from voxel_ext.data.worm_volumes import list_worms
from voxel_ext.synthetic import Mitochondria, OpticLobe, OpticLobe2D, Sheets, Worm
from voxel_ext.targets import read_targets

LOBE = {"size": 16, "subdivisions": (3, 3), "min_points": 4}
EM = {"size": (24, 40, 48), "objects": 2, "touch_border": True}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def generate(what: str, out: str, *words: str, **options: Any) -> None:
    given = [f"--{name}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for name, v in options.items()]
    assert main(["generate", what, out, *given, *words]) == 0


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["generate", *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def rows_of(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("out", ["a.h5", "a.zarr", "a.nii.gz", "a.tif", "folder"])
@pytest.mark.parametrize("dims", [2, 3])
def test_optic_lobe_is_read_by_its_bundle(out: str, dims: int) -> None:
    options = LOBE if dims == 3 else {"size": (20, 24)}
    generate("optic_lobe" if dims == 3 else "optic_lobe_2d", out, **options)
    expected = (OpticLobe if dims == 3 else OpticLobe2D)(0, **options).generate()
    (entry,) = list_volumes(out if out == "folder" else f"{out}", spatial_dims=dims)
    for key in ("image", "label"):
        loaded = LoadImage(image_only=True, dtype=None)(entry[key])
        np.testing.assert_array_equal(np.asarray(loaded).squeeze(), expected[key])
    stem = "folder/optic_lobe" + "_2d" * (dims == 2) + "_0000" if out == "folder" else "a"
    rows = rows_of(f"{stem}_objects.csv")
    places = [[float(row[axis]) for axis in "xyz"[:dims]] for row in rows]
    np.testing.assert_allclose(places, expected["seeds"], rtol=1e-6)
    assert [int(row["id"]) for row in rows] == list(range(1, len(rows) + 1))
    assert json.loads(Path(f"{stem}.json").read_text(encoding="utf-8"))["seed"] == 0


def test_several_volumes_have_the_seeds_from_the_first_on() -> None:
    generate("optic_lobe_2d", "some/lobe.h5", size=16, seed=3, number=2)
    generate("optic_lobe_2d", "folder", size=16, seed=3, number=2)
    for seed, entry in zip((3, 4), list_volumes("some", spatial_dims=2), strict=True):
        assert entry["image"] == f"some/lobe_{seed:04d}.h5/raw"
        read = LoadImage(image_only=True)(entry["image"])
        np.testing.assert_array_equal(np.asarray(read), OpticLobe2D(seed, size=16).generate()["image"])
    parts = datalists("folder", spatial_dims=2, validation_fraction=0.5)
    assert [len(parts["train"]), len(parts["val"])] == [1, 1]


@pytest.mark.parametrize("out", ["em.h5", "em.zarr", "em.nii.gz", "em.nrrd"])
def test_mitochondria_are_read_by_the_em_bundles(out: str) -> None:
    generate("mitochondria", out, **EM)
    expected = Mitochondria(0, **EM).generate()
    inside = out in ("em.h5", "em.zarr")
    image = open_volume(f"{out}/raw" if inside else out)
    labels = open_volume(f"{out}/label" if inside else out.replace(".", "_label.", 1))
    np.testing.assert_array_equal(labels.read([slice(None)] * 3)[0], expected["label"])
    np.testing.assert_allclose(image.read([slice(None)] * 3)[0] / 255, np.clip(expected["image"], 0, 1), atol=0.002)
    if out != "em.nrrd":  # NRRD tells no unit
        np.testing.assert_allclose(image.voxel_size, (0.03, 0.016, 0.016), rtol=1e-6)
        np.testing.assert_allclose(labels.voxel_size, (0.03, 0.016, 0.016), rtol=1e-6)
    assert read_class_table("em_objects.csv") == expected["classes"]


def test_zarr_store_is_an_ome_zarr_image() -> None:
    import zarr

    generate("mitochondria", "em.zarr", **EM)
    first, second = zarr.open_group("em.zarr", mode="r").attrs["ome"]["multiscales"]
    assert [first["name"], second["name"]] == ["raw", "label"]
    assert first["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [0.03, 0.016, 0.016]}]
    assert {axis["unit"] for axis in first["axes"]} == {"micrometer"}
    assert open_volume("em.zarr").dtype == np.uint8


def test_sheets_are_read_by_their_bundle() -> None:
    generate("sheets", "stores", size=16, number=2, kind="waves")
    targets = read_targets(
        {
            "sheet": {"channels": 1, "activation": "sigmoid"},
            "normals": {"channels": 3, "activation": "none"},
        }
    )
    volumes = read_surface_volumes("stores", targets, ref_label="sheet")
    assert [one.name for one in volumes] == ["sheets_0000", "sheets_0001"]
    box = [slice(None)] * 3
    for seed, volume in enumerate(volumes):
        expected = Sheets(seed, size=16, kind="waves").generate()
        np.testing.assert_array_equal(volume.targets["sheet"].read(box)[0], expected["sheet"])
        np.testing.assert_array_equal(decode_vectors(volume.targets["normals"].read(box)), expected["normals"])
        np.testing.assert_array_equal(
            open_volume(f"stores/sheets_{seed:04d}.zarr/label").read(box)[0], expected["label"]
        )


def test_normals_beside_an_image_file() -> None:
    generate("sheets", "s.nii.gz", size=(8, 12, 16))
    expected = Sheets(0, size=(8, 12, 16)).generate()
    names = {"image": "s.nii.gz", "normals": "s_normals.nii.gz", "sheet": "s_sheet.nii.gz"}
    loaded = LoadZyxd(tuple(names))(names)
    np.testing.assert_array_equal(loaded["sheet"][0], expected["sheet"])
    np.testing.assert_allclose(loaded["normals"], expected["normals"], atol=1e-6)


def test_worms_are_read_by_their_bundle() -> None:
    generate("worm", "worms", cells=3, number=2, missing=0.3)
    sources, alone = list_worms("worms/images", "worms/labels", "worms/coordinates")
    assert [one.name for one in sources] == ["worm_0000", "worm_0001"]
    assert alone == []
    for seed, name in enumerate(one.name for one in sources):
        expected = Worm(seed, cells=3, missing=0.3).generate()
        np.testing.assert_array_equal(read_vaa3d(f"worms/images/{name}.raw")[0], expected["image"])
        np.testing.assert_array_equal(read_vaa3d(f"worms/labels/{name}.raw")[0], expected["label"])
        table = read_worm_table(f"worms/coordinates/{name}.txt")
        valid = expected["valid"]
        assert list(table.names) == [one for one, kept in zip(expected["names"], valid, strict=True) if kept]
        np.testing.assert_allclose(table.positions, expected["positions"][valid], atol=1e-3)


def test_table_of_a_worm_in_one_file() -> None:
    generate("worm", "w.h5", cells=3)
    expected = Worm(0, cells=3).generate()
    rows = rows_of("w_objects.csv")
    assert [row["name"] for row in rows] == expected["names"]
    assert [int(row["id"]) for row in rows] == expected["label_numbers"].tolist()


def test_preview() -> None:
    from PIL import Image

    generate("sheets", "s.h5", "--preview", "s.png", size=16)
    generate("optic_lobe_2d", "d.h5", "--preview", "d.png", size=16)
    for name in ("s.png", "d.png"):
        with Image.open(name) as picture:
            assert min(picture.size) > 100


def test_files_that_are_there_are_kept_unless_told_otherwise(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    Path("s_label.nii.gz").write_bytes(b"mine")
    assert "s_label.nii.gz exists" in refused(capsys, "sheets", "s.nii.gz", "--size", "8")
    Path("p.png").write_bytes(b"mine")
    assert "p.png exists" in refused(capsys, "sheets", "t.h5", "--size", "8", "--preview", "p.png")
    assert sorted(path.name for path in here.iterdir()) == ["p.png", "s_label.nii.gz"]
    generate("sheets", "s.nii.gz", "--overwrite", size=8)
    assert Path("s_label.nii.gz").read_bytes() != b"mine"
    generate("sheets", "s.zarr", "--overwrite", size=8)
    generate("sheets", "s.zarr", "--overwrite", "true", size=16)
    assert open_volume("s.zarr/label").spatial_shape == (16, 16, 16)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sheets", "a.xyz"], "files .xyz cannot be written; expected one of .h5"),
        (["sheets", ".h5"], "OUT='.h5' has no name"),
        (["sheets", ""], "OUT='' has no name"),
        (["sheets", "a.h5", "--size", "1000000"], "choose a smaller size"),
        (["sheets", "a.h5", "--size", "4"], "size=4"),
        (["sheets", "a.h5", "--kind", "wave"], "Did you mean 'waves'"),
        (["sheets", "a.h5", "--noise", "loud"], "noise='loud'"),
        (["mitochondria", "a.h5", "--classes", "rods"], "classes"),
        (["worm", "a.h5", "--cells", "0"], "cells=0"),
        (["optic_lobe", "a.h5", "--scale_range", "2"], "scale_range=2"),
    ],
)
def test_values_that_are_not_valid(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    assert message in refused(capsys, *words)
    assert list(here.iterdir()) == []


def test_examples_of_the_help_and_the_readme_run() -> None:
    """In their order, so that reports are made of what was generated; each line once."""
    readme = Path(__file__).resolve().parents[1] / "README.md"
    texts = [COMMANDS["generate"].help(), COMMANDS["report"].help(), readme.read_text(encoding="utf-8")]
    found = re.findall(r"python -m voxel_ext ((?:generate|report) [^\n`A-Z]+)$", "\n".join(texts), re.MULTILINE)
    for name in ("a", "b"):
        (Path("runs") / name).mkdir(parents=True)
        (Path("runs") / name / "history.jsonl").write_text('{"epoch": 1, "train_loss": 0.5}\n', encoding="utf-8")
    lines = dict.fromkeys(line.strip() for line in found)
    assert len(lines) >= 3
    for line in lines:
        assert main(shlex.split(line)) == 0, line
    assert Path("em.html").is_file()
    assert Path("runs/index.html").is_file()


def test_a_file_in_the_way_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_bytes(b"")
    assert "cannot write file" in refused(capsys, "sheets", "file/a.h5", "--size", "8")


def test_volumes_that_no_memory_holds_are_refused_before_they_are_drawn(tmp_path, capsys):
    assert main(["generate", "sheets", str(tmp_path / "a.h5"), "--size", "4096"]) == 1
    assert "size=4096 is more than 1073741824 voxels" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
