import json
import os
import shutil

import h5py
import nibabel
import numpy as np
import pytest
import zarr

from voxel_ext.data.moments import Moments
from voxel_ext.data.vaa3d import write_vaa3d
from voxel_ext.data.worm_checks import validate_worms, worm_statistics
from voxel_ext.data.worm_cubes import crop, cut_worm, pick_label
from voxel_ext.data.worm_file import read_worm, read_worm_header, write_worm
from voxel_ext.data.worm_preparation import prepare_worms
from voxel_ext.data.worm_synthetic import prepare_synthetic_worms
from voxel_ext.data.worm_table import WormTable, read_worm_table, write_worm_table
from voxel_ext.data.worm_volumes import load_labels, load_volume
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.transforms.intensity.soft_mask import mask_distance, soft_mask_weight
from voxel_ext.visualize.worm_cubes import view_cells

SHAPE = (20, 22, 40)
CENTERS = np.array([[10.0, 10.4, 8.6], [0.2, 21.0, 39.4], [9.5, 9.0, 20.0], [10.0, 12.0, 30.0]])


def table(numbers=(1, 2, 4, 6), centers=CENTERS):
    names = tuple(f"N{number}" for number in numbers)
    return WormTable(names, centers, np.array(numbers), np.arange(len(numbers)) + 11)


def volumes(seed=0):
    """Image of one channel, and labels of 3 x 3 x 3 voxels around the centers."""
    image = np.random.default_rng(seed).integers(0, 256, SHAPE).astype(np.uint8)
    label = np.zeros(SHAPE, np.uint16)
    for number, center in enumerate(table().centers, 300):
        label[tuple(slice(max(c - 1, 0), c + 2) for c in center)] = number
    return image, label


def raw_set(root, worms=("worm_001", "worm_002"), numbers=(1, 2, 4, 6)):
    for seed, name in enumerate(worms):
        image, label = volumes(seed)
        write_vaa3d(root / "images" / f"{name}.raw", np.stack([image // 2, image // 3, image]))
        write_vaa3d(root / "labels" / f"{name}.raw", label)
        write_worm_table(root / "coordinates" / f"{name}.txt", table(numbers))
    return root / "images", root / "labels", root / "coordinates"


def prepare(folders, output, **options):
    return prepare_worms(*folders, output, **{"size": 8, "cells": 6, "progress": False, **options})


@pytest.mark.parametrize("size", [1, 4, 7, 8, 50])
@pytest.mark.parametrize("center", [(10, 10, 8), (0, 21, 39), (19, 0, 0)])
def test_crop_is_that_of_the_padded_volume(size, center):
    image = volumes()[0].astype(">u2")
    padded = np.pad(image, size)
    start = [c + size - size // 2 for c in center]
    expected = padded[tuple(slice(s, s + size) for s in start)]
    found = crop(np.stack([image, image + 1]), center, size)
    assert np.array_equal(found[0], expected)
    assert found.dtype == np.uint16
    assert found[0][(size // 2,) * 3] == image[center]


def test_pick_label():
    cube = np.zeros((9, 9, 9), np.uint16)
    assert pick_label(cube) == (0, "no label in the cube")
    cube[0] = 7
    cube[8, :, :5] = 500
    assert pick_label(cube) == (7, "cube")
    cube[2, 2, 2] = 500  # the corner of the core
    assert pick_label(cube) == (500, "center")
    cube[6, 6, 5:7] = 9
    assert pick_label(cube) == (9, "center")
    cube[6, 2, 2] = 500  # a tie: the lower one
    assert pick_label(cube) == (9, "center")
    outside = np.zeros((9, 9, 9), np.uint16)
    outside[1, 4, 4] = outside[7, 4, 4] = 3  # just beside the core
    assert pick_label(outside) == (3, "cube")


def test_soft_channels():
    image, label = volumes()
    worm = cut_worm(image, label, table(), 8, "raw+mask+soft", cells=6)
    assert worm.cubes.shape == (6, 3, 8, 8, 8)
    for slot, number, center in zip((0, 1, 3, 5), range(300, 304), table().centers, strict=True):
        raw, mask = crop(image, center, 8), crop(label, center, 8) == number
        weight = soft_mask_weight(mask_distance(mask))
        assert np.array_equal(worm.cubes[slot, 0], raw)
        assert np.array_equal(worm.cubes[slot, 1], mask)
        assert np.allclose(worm.cubes[slot, 2], raw * weight)
        assert np.array_equal(worm.cubes[slot, 2][mask], raw[mask])
    soft = cut_worm(image, label, table(), 8, "soft", cells=6)
    assert np.array_equal(soft.cubes[:, 0], worm.cubes[:, 2])
    exact = cut_worm(image, label, table(), 8, "soft", exact_soft_mask=True, cells=6)
    assert np.allclose(exact.cubes[:, 0] * (1 + np.exp(-0.6)), soft.cubes[:, 0], rtol=1e-4)


@pytest.mark.parametrize("absent", [0, 1, 2, 3])
def test_a_missing_cell_keeps_the_others_in_place(absent):
    image, label = volumes()
    whole = cut_worm(image, label, table(), 8, cells=6)
    assert whole.valid.tolist() == [True, True, False, True, False, True]
    assert whole.names == ("N1", "N2", "", "N4", "", "N6")
    assert np.isnan(whole.positions[2]).all()
    assert np.allclose(whole.positions[5], CENTERS[3])
    kept = [i for i in range(4) if i != absent]
    numbers = np.array([1, 2, 4, 6])
    part = cut_worm(image, label, table(numbers[kept], CENTERS[kept]), 8, cells=6)
    slot = numbers[absent] - 1
    assert not part.valid[slot]
    assert not part.cubes[slot].any()
    others = np.arange(6) != slot
    assert np.array_equal(part.cubes[others], whole.cubes[others])
    assert [part.names[i] for i in np.flatnonzero(others)] == [whole.names[i] for i in np.flatnonzero(others)]


def test_order_of_the_table_does_not_matter():
    image, label = volumes()
    order = [2, 0, 3, 1]
    numbers = np.array([1, 2, 4, 6])
    shuffled = cut_worm(image, label, table(numbers[order], CENTERS[order]), 8, cells=6)
    assert np.array_equal(shuffled.cubes, cut_worm(image, label, table(), 8, cells=6).cubes)


def test_cell_without_label_is_missing():
    image, label = volumes()
    label[label == 302] = 0
    worm = cut_worm(image, label, table(), 8, cells=6)
    assert worm.valid.tolist() == [True, True, False, False, False, True]
    assert worm.rules == ("center", "center", "not in the table", "no label in the cube", "not in the table", "center")
    assert worm.names[3] == "N4"
    assert cut_worm(image, None, table(), 8, cells=6).valid.sum() == 4


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"label": np.zeros((20, 22, 41), np.uint16)}, r"\(20, 22, 40\) but the label volume \(20, 22, 41\)"),
        ({"label": np.zeros(SHAPE)}, "label volume has dtype float64"),
        ({"label": None, "channels": "soft"}, "needs a label volume"),
        ({"channels": "mask"}, "channels='mask'.*expected one of 'raw'"),
        ({"size": 0}, "size=0"),
        ({"cells": 5}, "Aligned_No 6 is above cells=5"),
        ({"cells": 2.5}, "cells=2.5"),
        ({"alpha": 0}, "alpha=0"),
        ({"voxel_size": (1, 1)}, "voxel_size"),
        ({"channel": 1}, "channels 0 to 0; asked for channel=1"),
        ({"image": np.zeros((2, *SHAPE)), "channel": -1}, "channels 0 to 1; asked for channel=-1"),
        ({"image": np.zeros(SHAPE[1:])}, r"shape \(22, 40\); expected \(Z, Y, X\)"),
        ({"image": np.full(SHAPE, np.nan)}, r"NaN or infinite values around cell 1 \(N1\)"),
        ({"table": table(centers=CENTERS + np.array([0, 0, 1]))}, "1 of 4 cells are outside .*: N2 at"),
    ],
)
def test_bad_arguments(change, match):
    image, label = volumes()
    arguments = {"image": image, "label": label, "table": table(), "size": 8, "cells": 6}
    with pytest.raises(InvalidInputError, match=match):
        cut_worm(**{**arguments, **change})


def test_default_channel_is_the_third():
    image, _ = volumes()
    stack = np.stack([image * 0, image * 0, image, image * 0])
    expected = cut_worm(image, None, table(), 8, cells=6).cubes
    assert np.array_equal(cut_worm(stack, None, table(), 8, cells=6).cubes, expected)
    assert np.array_equal(cut_worm(stack[1:3][::-1], None, table(), 8, cells=6).cubes, expected)
    assert not cut_worm(stack, None, table(), 8, cells=6, channel=3).cubes.any()


def test_file_round_trip(tmp_path):
    image, label = volumes()
    worm = cut_worm(image, label, table(), 8, "raw+mask+soft", cells=6, worm="w")
    path = write_worm(tmp_path / "w.h5", worm)
    for slots in (None, [3, 0, 0], []):
        read = read_worm(path, slots)
        rows = list(range(6)) if slots is None else slots
        assert np.array_equal(read.cubes, worm.cubes[rows])
        assert np.array_equal(read.positions, worm.positions[rows], equal_nan=True)
        assert (read.names, read.rules) == tuple(tuple(all_[i] for i in rows) for all_ in (worm.names, worm.rules))
        assert np.array_equal(read.valid, worm.valid[rows])
        assert (read.worm, read.volume_shape, read.channels, read.size) == ("w", SHAPE, "raw+mask+soft", 8)
    assert read.settings == {**worm.settings}
    with h5py.File(path) as file:
        assert file["cubes"].chunks == (1, 3, 8, 8, 8)
        assert (file["cubes"].compression, file["cubes"].shuffle) == ("lzf", True)
    with pytest.raises(InvalidInputError, match=r"slots 0 to 5; asked for \[6\]"):
        read_worm(path, [1, 6])
    with pytest.raises(InvalidInputError, match="a header alone"):
        write_worm(path, read_worm_header(path))


def test_prepare(tmp_path):
    folders = raw_set(tmp_path)
    report = prepare(folders, tmp_path / "out", channels="raw+mask+soft")
    assert report.made == ["worm_001", "worm_002"]
    assert (report.kept, report.passed_over, report.processed, report.skipped) == ([], [], 8, 4)
    for seed, name in enumerate(report.made):
        expected = cut_worm(*volumes(seed), table(), 8, "raw+mask+soft", cells=6)
        assert np.array_equal(read_worm(tmp_path / "out" / f"{name}.h5").cubes, expected.cubes)
    lines = (tmp_path / "out" / "processed_cells.tsv").read_text().splitlines()
    assert lines[0] == "worm\tnumber\tname\trule"
    assert lines[2] == "worm_001\t2\tN2\tcenter"
    assert len(lines) == 9
    skipped = (tmp_path / "out" / "skipped_cells.tsv").read_text().splitlines()
    assert skipped[1] == "worm_001\t3\t\tnot in the table"
    files = json.loads((tmp_path / "out" / "dataset.json").read_text())["files"]
    assert files == ["worm_001.h5", "worm_002.h5"]


def test_statistics_are_those_of_numpy(tmp_path):
    prepare(raw_set(tmp_path), tmp_path / "out", channels="raw+mask+soft")
    worms = [read_worm(tmp_path / "out" / f"worm_00{i}.h5") for i in (1, 2)]
    valid = np.concatenate([worm.cubes[worm.valid] for worm in worms]).astype(float)
    for found in (worm_statistics(tmp_path / "out"), json.loads((tmp_path / "out" / "statistics.json").read_text())):
        for channel, row in enumerate(found["channels"]):
            values = valid[:, channel]
            expected = {"mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max()}
            assert row == pytest.approx(expected, rel=1e-12)
        assert found["mean"] == found["channels"][0]["mean"]
        assert found["voxels"] == 8 * 8**3
        assert found["worms"] == 2


def test_moments_do_not_lose_precision():
    values = 1e8 + np.random.default_rng(0).standard_normal((50, 40))
    total = sum((Moments.of(row) for row in values), Moments())
    assert total.std == pytest.approx(values.std(), rel=1e-9)
    assert total.mean == pytest.approx(values.mean(), rel=1e-15)
    assert (total.count, total.low, total.high) == (2000, values.min(), values.max())
    assert Moments.of(np.zeros(0)) + total == total == total + Moments()


def test_finished_worms_are_not_redone(tmp_path):
    folders = raw_set(tmp_path)
    prepare(folders, tmp_path / "out")
    first, second = tmp_path / "out" / "worm_001.h5", tmp_path / "out" / "worm_002.h5"
    os.utime(first, ns=(1, 1))
    second.unlink()
    report = prepare(folders, tmp_path / "out")
    assert (report.made, report.kept) == (["worm_002"], ["worm_001"])
    assert first.stat().st_mtime_ns == 1
    with pytest.raises(InvalidInputError, match=r"worm_001\.h5 was made with other settings: size is 8 there, 6 now"):
        prepare(folders, tmp_path / "out", size=6)
    moved = table(centers=CENTERS + 0.7)
    write_worm_table(
        folders[2] / "worm_001.txt", WormTable(moved.names, CENTERS, moved.numbers, moved.label_numbers * 2)
    )
    with pytest.raises(InvalidInputError, match=r"other settings: sources\.coordinates is"):
        prepare(folders, tmp_path / "out")
    assert first.stat().st_mtime_ns == 1
    assert prepare(folders, tmp_path / "out", overwrite=True).made == ["worm_001"]
    first.write_bytes(first.read_bytes()[:500])
    with pytest.raises(InvalidInputError, match=r"worm_001\.h5 cannot be opened.*set overwrite=True"):
        prepare(folders, tmp_path / "out")
    assert prepare(folders, tmp_path / "out", overwrite=True).made == ["worm_001"]
    assert prepare(folders, tmp_path / "out").made == []


def test_one_bad_worm_does_not_stop_the_others(tmp_path):
    folders = raw_set(tmp_path, ("a", "b", "c", "d"))
    (folders[0] / "b.raw").write_bytes((folders[0] / "b.raw").read_bytes()[:-5])
    write_vaa3d(folders[1] / "c.raw", np.zeros((20, 22, 41), np.uint16))
    with pytest.raises(
        InvalidInputError, match=r"(?s)2 of 4 worms .*b: .*b\.raw is truncated.*c: worm c: .*\(20, 22, 41\)"
    ):
        prepare(folders, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.h5")) == ["a.h5", "d.h5"]
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_workers_make_the_same(tmp_path):
    folders = raw_set(tmp_path)
    prepare(folders, tmp_path / "one")
    prepare(folders, tmp_path / "two", num_workers=1)
    for path in sorted((tmp_path / "one").iterdir()):
        if path.suffix in (".h5", ".json", ".tsv"):
            assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


def test_files_without_partner_are_passed_over(tmp_path, caplog):
    folders = raw_set(tmp_path, ("a", "b", "c"))
    (folders[2] / "a.txt").unlink()
    (folders[0] / "c.raw").unlink()
    assert prepare(folders, tmp_path / "out").passed_over == ["a", "c"]
    assert "2 worms lack an image or a coordinate file" in caplog.text
    (folders[1] / "b.raw").unlink()
    with pytest.raises(MissingDataError, match=r"1 worms have no label volume in .*labels: b"):
        prepare(folders, tmp_path / "out")
    assert prepare((folders[0], None, folders[2]), tmp_path / "raw").processed == 4
    with pytest.raises(InvalidInputError, match="give label_dir"):
        prepare((folders[0], None, folders[2]), tmp_path / "soft", channels="soft")
    (folders[2] / "b.txt").unlink()
    with pytest.raises(MissingDataError, match="no worm has both"):
        prepare(folders, tmp_path / "out")
    with pytest.raises(MissingDataError, match="does not exist"):
        prepare((tmp_path / "none", None, folders[2]), tmp_path / "out")
    with pytest.raises(InvalidInputError, match="num_workers=-1"):
        prepare(folders, tmp_path / "out", num_workers=-1)


def test_folder_of_another_run_is_refused(tmp_path):
    prepare(raw_set(tmp_path, ("a",)), tmp_path / "out")
    with pytest.raises(InvalidInputError, match="worms of one folder must be alike"):
        prepare(raw_set(tmp_path / "new", ("b",)), tmp_path / "out", size=6)


def test_two_files_of_one_worm_are_refused(tmp_path):
    folders = raw_set(tmp_path, ("a",))
    shutil.copy(folders[0] / "a.raw", folders[0] / "a.v3draw")
    with pytest.raises(InvalidInputError, match="both belong to worm 'a'"):
        prepare(folders, tmp_path / "out")


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "tif", "h5", "zarr"])
def test_other_formats(tmp_path, suffix):
    itk = pytest.importorskip("itk")
    image, label = volumes()
    for name, array in (("i", image), ("l", label)):
        path = str(tmp_path / f"{name}.{suffix}")
        if suffix == "nii.gz":
            nibabel.save(nibabel.Nifti1Image(array.T, np.eye(4)), path)
        elif suffix == "h5":
            with h5py.File(path, "w") as file:
                file["raw" if name == "i" else "label"] = np.stack([array] * 3)
        elif suffix == "zarr":
            zarr.open_group(path, mode="w").create_array("volume", data=array)
        else:
            itk.imwrite(itk.image_from_array(array), path)
    assert np.array_equal(load_volume(tmp_path / f"i.{suffix}"), image)
    labels = load_labels(tmp_path / f"l.{suffix}")
    assert np.array_equal(labels, label)
    assert labels.dtype.kind in "iu"


def test_channels_of_other_formats(tmp_path):
    image, _ = volumes()
    stack = np.stack([image // 2, image // 3, image])
    nibabel.save(nibabel.Nifti1Image(stack.T, np.eye(4)), tmp_path / "a.nii")
    assert np.array_equal(load_volume(tmp_path / "a.nii"), image)
    assert np.array_equal(load_volume(tmp_path / "a.nii", 1), image // 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = stack
    assert np.array_equal(load_volume(tmp_path / "a.h5", 0), image // 2)
    with pytest.raises(InvalidInputError, match="channels 0 to 2; asked for channel=3"):
        load_volume(tmp_path / "a.h5", 3)


def test_bad_volumes(tmp_path):
    for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.tif"):
        (tmp_path / name).write_bytes(b"no image at all" * 30)
        with pytest.raises(InvalidInputError, match=f"{name} cannot be read"):
            load_volume(tmp_path / name)
    with pytest.raises(MissingDataError, match=r"b\.tif does not exist"):
        load_volume(tmp_path / "b.tif")
    for values in (np.full((2, 2, 2), 0.5, np.float32), np.full((2, 2, 2), -1, np.float32), np.full((2, 2, 2), np.nan)):
        write_vaa3d(tmp_path / "l.raw", values.astype(np.float32))
        with pytest.raises(InvalidInputError, match="expected whole instance labels"):
            load_labels(tmp_path / "l.raw")
    write_vaa3d(tmp_path / "l.raw", np.full((2, 2, 2), 70000, np.float32))
    assert load_labels(tmp_path / "l.raw").tolist() == np.full((2, 2, 2), 70000).tolist()


def damage(path, **datasets):
    with h5py.File(path, "r+") as file:
        for name, data in datasets.items():
            del file[name]
            if data is not None:
                file[name] = data


def test_validate(tmp_path):
    folders = raw_set(tmp_path, tuple("abcdefgh"), (1, 2, 3, 4))
    out = tmp_path / "out"
    prepare(folders, out, cells=4)
    assert validate_worms(out) == []
    cubes = read_worm(out / "b.h5").cubes
    cubes[1, 0, 3, 3, 3] = np.nan
    cubes[2] = 5
    damage(out / "b.h5", cubes=cubes)
    damage(out / "c.h5", cubes=cubes.astype(np.float64))
    damage(out / "d.h5", names=None)
    damage(out / "e.h5", valid=np.array([True, False, True, True]))
    (out / "f.h5").write_bytes((out / "f.h5").read_bytes()[:3000])
    write_worm(out / "g.h5", cut_worm(*volumes(), table((1, 2, 3, 4)), 6, cells=4, worm="g"))
    damage(out / "h.h5", names=np.array(["N1", "N3", "N2", "N4"], dtype=object))
    problems = [problem.replace(f"{out}{os.sep}", "") for problem in validate_worms(out)]
    assert [problem[0] for problem in problems] == list("bbcdeefgh")
    expected = [
        "1 cubes have NaN or infinite values: cells 2",
        "1 cubes are valid but constant: cells 3",
        "cubes has shape (4, 1, 8, 8, 8) and dtype float64; expected (4, 1, 8, 8, 8) float32",
        "not a prepared worm: it has no names",
        "1 of 4 cells are missing: 2 N2",
        "1 cubes are missing but not zero: cells 2",
        "cannot be opened",
        "shape (4, 1, 6, 6, 6), channels raw; most others have (4, 1, 8, 8, 8), raw",
        "cell 2 is named N3, but N2 in another file",
    ]
    for problem, text in zip(problems, expected, strict=True):
        assert text in problem
    with pytest.raises(MissingDataError, match="has no prepared worms"):
        validate_worms(folders[0])


def test_every_truncation_is_noticed(tmp_path):
    path = write_worm(tmp_path / "w.h5", cut_worm(*volumes(), table(), 8, cells=6, worm="w"))
    content = path.read_bytes()
    for length in range(0, len(content), 1501):
        path.write_bytes(content[:length])
        with pytest.raises(InvalidInputError, match=r"w\.h5"):
            read_worm(path)


def test_damaged_bytes_are_refused_or_read(tmp_path):
    path = write_worm(tmp_path / "w.h5", cut_worm(*volumes(), table(), 8, cells=6, worm="w"))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        damaged = bytearray(content)
        start = int(rng.integers(len(content) - 50))
        damaged[start : start + 50] = rng.bytes(50)
        path.write_bytes(damaged)
        try:
            assert read_worm(path).cubes.shape == (6, 1, 8, 8, 8)
        except InvalidInputError:
            refused += 1
    assert refused > 5


def test_view(tmp_path):
    pytest.importorskip("matplotlib")
    prepare(raw_set(tmp_path), tmp_path / "out")
    first = view_cells(tmp_path / "out", tmp_path / "a.png", seed=1)
    assert first.read_bytes().startswith(b"\x89PNG")
    assert view_cells(tmp_path / "out", tmp_path / "b.png", seed=1).read_bytes() == first.read_bytes()
    other = view_cells(tmp_path / "out", tmp_path / "b.png", seed=1, colormap="gray")
    assert other.read_bytes() != first.read_bytes()
    for options, match in (
        ({"cells": 0}, "cells=0"),
        ({"colormap": "nope"}, "colormap='nope'"),
        ({"channel": 1}, "has 1 channels"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            view_cells(tmp_path / "out", tmp_path / "c.png", **options)
    assert not (tmp_path / "c.png").exists()


SYNTHETIC = {"training": 2, "validation": 1, "cells": 4, "size": 16, "progress": False}


def test_synthetic_worms_are_those_of_their_volumes(tmp_path):
    root = prepare_synthetic_worms(tmp_path / "out", **SYNTHETIC, missing=0.25, keep_volumes=True)
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.h5"))
    assert files == ["train/train_0001.h5", "train/train_0002.h5", "val/val_0001.h5"]
    assert json.loads((root / "dataset.json").read_text())["files"] == files
    folders = (root / "images", root / "labels", root / "coordinates")
    prepare(folders, tmp_path / "again", size=16, cells=4)
    cubes = [read_worm(root / file).cubes for file in files]
    for file, cube in zip(files, cubes, strict=True):
        again = read_worm(tmp_path / "again" / os.path.basename(file))
        assert again.valid.sum() == 3
        assert np.array_equal(again.cubes, cube)
        assert np.allclose(again.positions, read_worm(root / file).positions, equal_nan=True, atol=1e-4)
    assert not np.array_equal(cubes[0], cubes[1])
    statistics = json.loads((root / "statistics.json").read_text())
    assert statistics.pop("channels")[0] == pytest.approx(worm_statistics(root / "train").pop("channels")[0])
    assert (statistics["voxels"], statistics["worms"]) == (2 * 3 * 16**3, 2)


def test_synthetic_set_is_continued(tmp_path):
    root = prepare_synthetic_worms(tmp_path, **SYNTHETIC)
    kept, gone = root / "train" / "train_0001.h5", root / "val" / "val_0001.h5"
    content = gone.read_bytes()
    os.utime(kept, ns=(1, 1))
    gone.unlink()
    prepare_synthetic_worms(tmp_path, **SYNTHETIC)
    assert kept.stat().st_mtime_ns == 1
    assert gone.read_bytes() == content
    with pytest.raises(InvalidInputError, match=r"appearance_strength is 1\.0 there, 0\.0 now"):
        prepare_synthetic_worms(tmp_path, **SYNTHETIC, appearance_strength=0.0)
    with pytest.raises(InvalidInputError, match=r"1 worms in .* do not belong"):
        prepare_synthetic_worms(tmp_path, **{**SYNTHETIC, "training": 1})
    for change in ({"training": 0}, {"cells": 0}, {"missing": 1}, {"seed": -1}, {"num_workers": 1.5}):
        with pytest.raises(InvalidInputError, match=f"{next(iter(change))}="):
            prepare_synthetic_worms(tmp_path, **{**SYNTHETIC, **change})


def test_real_positions_are_rendered(tmp_path):
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid([25, 45], [25, 45], [30, 60], indexing="ij"), axis=-1).reshape(-1, 3)
    for i in range(3):
        positions = grid[:4] + rng.uniform(-1, 1, (4, 3))
        numbers = [2, 1, 3, 4]
        tables = WormTable(tuple(f"N{n}" for n in numbers), positions, np.array(numbers), np.arange(4))
        write_worm_table(tmp_path / "coordinates" / f"worm_{i}.txt", tables)
    options = {**SYNTHETIC, "cells": None, "coordinate_dir": tmp_path / "coordinates"}
    root = prepare_synthetic_worms(tmp_path / "out", **options)
    order = np.random.default_rng(0).permutation(3)
    assert (root / "val" / f"worm_{order[0]}.h5").exists()
    worm = read_worm(root / "train" / f"worm_{order[1]}.h5")
    source = read_worm_table(tmp_path / "coordinates" / f"worm_{order[1]}.txt")
    assert worm.names == ("N1", "N2", "N3", "N4")
    shift = worm.positions - source.positions[[1, 0, 2, 3]]
    assert np.abs(shift - shift[0]).max() < 1e-3
    with pytest.raises(MissingDataError, match="has 3 coordinate files"):
        prepare_synthetic_worms(tmp_path / "more", **{**options, "training": 3})
