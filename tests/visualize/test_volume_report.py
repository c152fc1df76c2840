"""The page about one volume and its segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from monai.data import NibabelWriter
from skimage.metrics import adapted_rand_error

from voxel_ext.cli import main
from voxel_ext.commands import report_volume as reading
from voxel_ext.commands.report_volume import segmentation_scores
from voxel_ext.data import write_vaa3d
from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize.volume_report import LISTED, write_volume_report


@pytest.fixture
def file(ball: Any, tmp_path: Path) -> Path:
    """An HDF5 file of an image, a segmentation and the truth, (12, 20, 28)."""
    image, labels, _ = ball
    with h5py.File(tmp_path / "a.h5", "w") as opened:
        opened["raw"], opened["label"], opened["moved <b>"] = image, labels, np.roll(labels, 1, axis=2)
        opened["raw"].attrs["element_size_um"] = (0.5, 0.2, 0.1)
    return tmp_path / "a.h5"


def page_of(*words: object) -> str:
    words = tuple(map(str, words))
    assert main(["report", *words]) == 0
    return Path(words[words.index("--output") + 1]).read_text(encoding="utf-8")


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["report", *map(str, words)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_page_with_labels_and_reference(file: Path, ball: Any, tmp_path: Path) -> None:
    labels = ball[1]
    out = tmp_path / "page.html"
    text = page_of(f"{file}/raw", "--labels", f"{file}/moved <b>", "--reference", f"{file}/label", "--output", out)
    moved = np.roll(labels, 1, axis=2)
    overlap = (moved & labels > 0).sum()
    assert f"{2 * overlap / ((moved > 0).sum() + (labels > 0).sum()):.3f}" in text
    assert "Voxel size z 0.5, y 0.2, x 0.1 µm." in text
    assert f"{(labels == 1).sum() * 0.5 * 0.2 * 0.1:.3f}" in text
    assert "<b>" not in text
    for part in ("adapted Rand error", "average precision (mean)", 'class="volume-scene"', 'class="viewer"'):
        assert part in text


def test_scores_are_those_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    truth, found = (rng.integers(0, 4, (6, 8, 10)) for _ in range(2))
    scores = segmentation_scores(found, truth)
    assert scores["adapted Rand error"] == pytest.approx(adapted_rand_error(truth, found)[0])
    both, either = ((found > 0) & (truth > 0)).sum(), ((found > 0) | (truth > 0)).sum()
    assert scores["IoU"] == pytest.approx(both / either)
    assert segmentation_scores(truth, truth)["average precision (mean)"] == 1


def test_masks_and_probabilities_have_no_scores_of_instances() -> None:
    truth = np.zeros((4, 4), np.uint8)
    truth[:2] = 1
    assert segmentation_scores(np.where(truth > 0, 0.7, 0.2), truth) == {"Dice": 1.0, "IoU": 1.0}


def test_part_of_a_volume(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    out = tmp_path / "page.html"
    text = page_of(f"{file}/raw", "--labels", f"{file}/label", "--box", "2:8,,4:20", "--output", out)
    assert "6 × 20 × 16" in text
    assert "Of 12 × 20 × 28 voxels, the part z 2:8, y 0:20, x 4:20." in text
    monkeypatch.setattr(reading, "MAX_VOXELS", 1000)
    line = refused(capsys, f"{file}/raw", "--output", tmp_path / "large.html")
    assert "choose a part, for example --box " in line
    box = line.split("--box ")[1]
    assert page_of(f"{file}/raw", "--box", box, "--output", tmp_path / "large.html")


@pytest.mark.parametrize("kind", ["a.nii.gz", "a.raw", "a.npy", "slices"])
def test_formats(kind: str, ball: Any, tmp_path: Path) -> None:
    image, labels, _ = ball
    target = tmp_path / kind
    if kind == "slices":
        target.mkdir()
        for i, plane in enumerate(image):
            tifffile.imwrite(target / f"s{i}.tif", plane)
    elif kind == "a.raw":
        write_vaa3d(target, image)
    elif kind == "a.npy":
        np.save(target, image)
    else:
        writer = NibabelWriter()
        writer.set_data_array(image.T[None], channel_dim=0)
        writer.write(target)
    np.save(tmp_path / "labels.npy", labels)
    text = page_of(target, "--labels", tmp_path / "labels.npy", "--output", tmp_path / "page.html")
    assert "12 × 20 × 28" in text


@pytest.mark.parametrize("name", ["plane.png", "plane.h5"])
def test_planes(name: str, tmp_path: Path) -> None:
    from PIL import Image

    plane = np.arange(20 * 24, dtype=np.uint16).reshape(20, 24) // 2
    target = tmp_path / name
    if name.endswith(".h5"):
        with h5py.File(target, "w") as opened:
            opened["raw"] = plane
    else:
        Image.fromarray(plane.astype(np.uint8)).save(target)
    text = page_of(target, "--box", "0:16,", "--voxel_size", "0.5,0.5", "--output", tmp_path / "page.html")
    assert "16 × 24" in text
    assert 'class="volume-scene"' not in text


def test_many_labels_are_not_all_listed(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(80), 4).reshape(16, 20)
    page = write_volume_report(tmp_path / "p.html", "many", np.ones((16, 20)), labels)
    assert f"The {LISTED} largest of 79 labels." in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "{}/raw_small"], "expected labels of that shape"),
        (["--labels", "{}/huge"], "make them consecutive"),
        (["--labels", "{}/not_exact"], "up to 16777216: make them consecutive"),
        (["--labels", "{}/nothing"], "nothing"),
        (["--box", "0:4"], "expected z0:z1,y0:y1,x0:x1"),
        (["--box", "0:4,0:4,5:3"], "is not a part of"),
        (["--box", "0:400,,"], "is not a part of"),
        (["--channel", "1"], "channels 0 to 0"),
        (["--voxel_size", "a,b,c"], "must be numbers"),
        (["--voxel_size", "1,2"], "3 positive numbers"),
    ],
)
def test_what_does_not_fit(
    words: list[str], message: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(file, "a") as opened:
        opened["raw_small"] = np.ones((4, 4, 4), np.uint8)
        opened["huge"] = np.full((12, 20, 28), 2**40)
        opened["not_exact"] = np.full((12, 20, 28), 2.0**24 + 1)
    out = tmp_path / "page.html"
    assert message in refused(capsys, f"{file}/raw", *[word.format(file) for word in words], "--output", out)
    assert not out.exists()


def test_damaged_image_is_named_by_its_reader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0broken")
    assert "a.tif" in refused(capsys, tmp_path / "a.tif", "--output", tmp_path / "p.html")


def test_image_of_another_shape_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"prediction of a"):
        write_volume_report(tmp_path / "p.html", "a", np.ones((4, 4)), np.ones((4, 5), int))
