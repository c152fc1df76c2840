"""The generator of artificial scans of sheets: blocks, defects, image, settings."""

import json
import pickle

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic.sheets import Sheets
from voxel_ext.synthetic.sheets.cells import TILE, white_noise

SMALL = {"size": (40, 44, 48)}
ARRAYS = ("image", "label", "sheet", "normals")


def touching_voxels(label):
    """Number of voxels that share a face with one of another sheet."""
    count = 0
    for axis in range(3):
        first, second = np.delete(label, -1, axis), np.delete(label, 0, axis)
        count += ((first > 0) & (second > 0) & (first != second)).sum()
    return count


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.mark.parametrize("size", [(8, 9, 10), (33, 17, 40), 24])
def test_types_and_shapes(size):
    volume = Sheets(1, size=size).generate()
    shape = (size,) * 3 if isinstance(size, int) else size
    expected = {"image": (np.float32, shape), "label": (np.int32, shape), "sheet": (np.uint8, shape),
                "normals": (np.float32, (3, *shape))}  # fmt: skip
    assert {name: (volume[name].dtype.type, volume[name].shape) for name in ARRAYS} == expected
    np.testing.assert_array_equal(volume["sheet"], volume["label"] > 0)
    assert volume["label"].min() == 0
    assert np.isfinite(volume["image"]).all()
    assert json.loads(json.dumps(volume["parameters"])) == volume["parameters"]


@pytest.mark.parametrize("kind", ["waves", "spiral"])
def test_same_seed_same_bytes_and_other_seed_other_volume(kind):
    first, again, other = (Sheets(seed, kind=kind, **SMALL).generate() for seed in (4, 4, 5))
    for name in ARRAYS:
        assert first[name].tobytes() == again[name].tobytes()
        assert not np.array_equal(first[name], other[name])


def test_mixed_draws_both_kinds():
    kinds = [Sheets(seed, size=8).generate()["parameters"]["drawn_kind"] for seed in range(12)]
    assert set(kinds) == {"waves", "spiral"}
    mixed = Sheets(0, size=16).generate()
    np.testing.assert_array_equal(Sheets(0, size=16, kind=kinds[0]).generate()["image"], mixed["image"])


@pytest.mark.parametrize("kind", ["waves", "spiral"])
@pytest.mark.parametrize("seed", [0, 1])
def test_blocks_are_parts_of_the_whole(kind, seed):
    sheets = Sheets(seed, kind=kind, size=(50, 70, 90), touching=1.0, gaps=1.0, normal_band=1.0)
    whole = sheets.generate()
    assert min(whole["parameters"][name] for name in ("contacts", "holes")) > 0
    copy = pickle.loads(pickle.dumps(sheets))
    for box in (
        (slice(0, 32), slice(32, 64), slice(64, 90)),
        (slice(49, 50), slice(0, 1), slice(31, 33)),
        (slice(7, 41), slice(13, 70), slice(5, 60)),
        (slice(None), slice(0, 9), slice(80, None)),
    ):
        block = copy.block(box)
        for name in ARRAYS:
            np.testing.assert_array_equal(block[name], whole[name][(..., *box)], err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_neighboring_sheets_touch_where_asked_for(seed):
    options = {"kind": "waves", "size": 64, "gaps": 0.0, "waviness": 0.4, "spacing": 12.0}
    apart, pressed = (Sheets(seed, touching=share, **options).generate() for share in (0.0, 1.0))
    assert touching_voxels(apart["label"]) == 0
    assert touching_voxels(pressed["label"]) > 100
    z, y, x = np.nonzero(
        (pressed["label"][:-1] != pressed["label"][1:]) & (pressed["label"][:-1] * pressed["label"][1:] > 0)
    )
    assert (np.abs(pressed["label"][z + 1, y, x] - pressed["label"][z, y, x]) == 1).all()


@pytest.mark.parametrize("kind", ["waves", "spiral"])
def test_gaps_leave_mask_normals_and_image_empty(kind):
    options = {"kind": kind, "size": 64, "noise": 0.0, "shot_noise": 0.0, "shading": 0.0, "rings": 0.0, "texture": 0.0}
    torn, whole = (Sheets(1, gaps=share, normal_band=1.0, **options).generate() for share in (1.0, 0.0))
    gone = (whole["label"] > 0) & (torn["label"] == 0)
    assert 0.01 < gone.sum() / (whole["label"] > 0).sum() < 0.5
    np.testing.assert_array_equal(torn["label"][~gone], whole["label"][~gone])
    assert not torn["normals"][:, gone].any()
    assert torn["image"][gone].mean() < whole["image"][gone].mean() - 0.05
    kept = torn["label"] > 0
    np.testing.assert_array_equal(torn["normals"][:, kept], whole["normals"][:, kept])


def test_image_without_defects_is_brighter_in_the_sheets():
    clean = {"noise": 0.0, "shot_noise": 0.0, "shading": 0.0, "rings": 0.0, "texture": 0.0, "blur": 0.0}
    volume = Sheets(2, size=48, **clean).generate()
    away = volume["sheet"] == 0
    assert volume["image"].min() == np.float32(0.4)
    np.testing.assert_allclose(volume["image"].max(), 0.55, atol=1e-6)
    assert volume["image"][~away].min() >= 0.4 + 0.15 / 2 - 1e-5
    assert volume["image"][away].max() <= 0.4 + 0.15 / 2 + 1e-5
    for name in ("noise", "shot_noise", "shading", "rings", "texture", "blur"):
        changed = Sheets(2, size=48, **{**clean, name: 1.0}).generate()
        np.testing.assert_array_equal(changed["label"], volume["label"])
        assert np.abs(changed["image"] - volume["image"]).mean() > 1e-3, name


def test_noise_has_the_deviation_asked_for():
    flat = {"shading": 0.0, "rings": 0.0, "texture": 0.0}
    quiet = Sheets(2, size=48, noise=0.0, shot_noise=0.0, **flat).generate()
    gaussian = Sheets(2, size=48, noise=0.5, shot_noise=0.0, **flat).generate()
    np.testing.assert_allclose((gaussian["image"] - quiet["image"]).std(), 0.5 * 0.15, rtol=0.02)
    photons = Sheets(2, size=48, noise=0.0, shot_noise=0.5, **flat).generate()
    relative = (photons["image"] - quiet["image"]) / np.sqrt(quiet["image"] / 0.55)
    np.testing.assert_allclose(relative.std(), 0.5 * 0.15, rtol=0.02)


def test_threshold_does_not_find_the_sheets():
    for seed in range(2):
        volume = Sheets(seed, size=64).generate()
        found = volume["image"] > threshold_otsu(volume["image"])
        assert 0.5 < dice(found, volume["sheet"] > 0) < 0.75


def test_white_noise_of_a_part_and_its_moments():
    box = (slice(-5, 40), slice(20, 70), slice(0, 64))
    noise = white_noise(7, box)
    part = white_noise(7, (slice(-1, TILE), slice(33, 34), slice(10, 60)))
    np.testing.assert_array_equal(part, noise[4 : 5 + TILE, 13:14, 10:60])
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    for axis in range(3):  # no tile repeats another, no two neighbors are alike
        assert abs((np.delete(noise, -1, axis) * np.delete(noise, 0, axis)).mean()) < 0.01
    assert abs((noise[:, :, :TILE] * noise[:, :, TILE:]).mean()) < 0.01
    assert not np.array_equal(white_noise(8, box), noise)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed=-1"),
        ({"kind": "wave"}, "Did you mean 'waves'"),
        ({"size": (4, 40, 40)}, "axis 0"),
        ({"spacing": 2}, "spacing=2"),
        ({"thickness": 13.0}, "thickness=13.0: expected at most the spacing"),
        ({"waviness": 1.0}, "waviness=1.0"),
        ({"wavelength": (100, 50)}, "wavelength"),
        ({"gaps": 1.5}, "gaps=1.5"),
        ({"touching": "often"}, "touching='often'"),
        ({"noise": float("nan")}, "noise=nan"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(InvalidInputError, match=message):
        Sheets(**options)


@pytest.mark.parametrize(
    "box",
    [
        (slice(0, 8), slice(0, 8)),
        (slice(0, 8), slice(0, 8), slice(8, 8)),
        (slice(0, 8), slice(-1, 8), slice(0, 8)),
        (slice(0, 8), slice(0, 49), slice(0, 8)),
        (slice(0, 8, 2), slice(0, 8), slice(0, 8)),
        (0, slice(0, 8), slice(0, 8)),
    ],
)
def test_bad_boxes(box):
    with pytest.raises(InvalidInputError, match="box="):
        Sheets(size=48).block(box)
