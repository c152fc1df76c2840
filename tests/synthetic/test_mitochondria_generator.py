"""The generator of artificial mitochondria: ids, classes, gaps, borders, image, single objects, settings."""

import json
from collections import Counter

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, label
from scipy.spatial import cKDTree

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic.mitochondria import CLASSES, Mitochondria

SMALL = {"size": (40, 96, 96), "objects": 9, "volume": (0.02, 0.03), "voxel_size": (30.0, 20.0, 20.0)}
CLEAN = {"cristae": 0.0, "cytoplasm": 0.0, "section_jitter": 0.0, "blur": 0.0, "noise": 0.0, "membrane": 0.0}


@pytest.fixture(scope="module")
def volume():
    return Mitochondria(3, **SMALL).generate()


def test_types_and_shapes(volume):
    assert (volume["image"].dtype, volume["image"].shape) == (np.float32, (40, 96, 96))
    assert (volume["label"].dtype, volume["label"].shape) == (np.int32, (40, 96, 96))
    assert volume["image"].min() >= 0
    assert volume["image"].max() <= 1
    assert json.loads(json.dumps(volume["parameters"])) == volume["parameters"]


def test_ids_classes_and_voxels(volume):
    ids, counts = np.unique(volume["label"], return_counts=True)
    np.testing.assert_array_equal(ids, np.arange(10))
    drawn = volume["parameters"]["objects_drawn"]
    assert [record["id"] for record in drawn] == list(range(1, 10))
    assert [record["voxels"] for record in drawn] == counts[1:].tolist()
    assert volume["classes"] == {record["id"]: record["class"] for record in drawn}
    numbers = Counter(volume["classes"].values())
    assert set(numbers) == set(CLASSES)
    assert set(numbers.values()) == {1, 2}  # nine objects of six classes


def test_volumes_of_the_voxels_are_those_of_the_bodies(volume):
    edge = np.prod(SMALL["voxel_size"]) * 1e-9
    known = [record for record in volume["parameters"]["objects_drawn"] if record["volume_um3"] is not None]
    assert {record["class"] for record in known} == {"spheroid", "rod", "donut", "sheet"}
    for record in known:
        assert 0.02 <= record["volume_um3"] <= 0.03
        np.testing.assert_allclose(record["voxels"] * edge, record["volume_um3"], rtol=0.03)


def test_every_object_is_one_part_within_the_border(volume):
    for number in range(1, 10):
        assert label(volume["label"] == number)[1] == 1
    inner = np.zeros_like(volume["label"], dtype=bool)
    inner[1:-1, 1:-1, 1:-1] = True
    assert not volume["label"][~inner].any()
    assert not any(record["touches_border"] for record in volume["parameters"]["objects_drawn"])


@pytest.mark.parametrize("gap", [0.0, 32.0, 90.0])
def test_no_two_objects_are_nearer_than_the_gap(gap):
    result = Mitochondria(1, **{**SMALL, "gap": gap, "objects": 6})
    ids = result.generate()["label"]
    assert len(np.unique(ids)) == 7
    places = {n: cKDTree(np.argwhere(ids == n) * SMALL["voxel_size"]) for n in range(1, 7)}
    nearest = min(
        places[a].query(places[b].data, distance_upper_bound=1000)[0].min()
        for a in range(1, 7) for b in range(1, a)
    )  # fmt: skip
    assert nearest >= max(gap, 20.0)


def test_centers_are_those_of_round_bodies():
    result = Mitochondria(2, **{**SMALL, "objects": {"spheroid": 3, "donut": 2}, "irregularity": 0.0}).generate()
    for record in result["parameters"]["objects_drawn"]:
        center = np.argwhere(result["label"] == record["id"]).mean(axis=0)
        np.testing.assert_allclose(center, record["center"], atol=0.15)


def test_rods_point_where_their_rotation_says():
    result = Mitochondria(2, **{**SMALL, "objects": {"rod": 3}, "irregularity": 0.0}).generate()
    for record in result["parameters"]["objects_drawn"]:
        places = np.argwhere(result["label"] == record["id"]) * SMALL["voxel_size"]
        axis = np.linalg.eigh(np.cov(places.T))[1][:, -1]
        assert abs(axis @ np.array(record["rotation"])[:, 2]) > 0.995


def test_objects_may_be_cut_by_the_border():
    records, parts = [], []
    for seed in range(3):
        result = Mitochondria(seed, **{**SMALL, "touch_border": True, "size": (24, 64, 64), "objects": 6}).generate()
        records += result["parameters"]["objects_drawn"]
        parts += [label(result["label"] == number)[1] for number in range(1, 7)]
        for record in result["parameters"]["objects_drawn"]:
            mask = result["label"] == record["id"]
            faces = [np.take(mask, face, axis).any() for axis in range(3) for face in (0, -1)]
            assert record["touches_border"] == any(faces)
    assert set(parts) == {1}
    assert sum(record["touches_border"] for record in records) > 3
    edge = np.prod(SMALL["voxel_size"]) * 1e-9
    shares = [record["voxels"] * edge / record["volume_um3"] for record in records if record["volume_um3"]]
    assert 0.28 < min(shares) < 0.95


def test_counts_by_class_and_chosen_classes():
    mixed = Mitochondria(0, **{**SMALL, "objects": {"rod": 2, "donut": 1, "sheet": 0}}).generate()
    assert Counter(mixed["classes"].values()) == {"rod": 2, "donut": 1}
    chosen = Mitochondria(0, **{**SMALL, "objects": 4, "classes": ("spheroid", "sheet")}).generate()
    assert Counter(chosen["classes"].values()) == {"spheroid": 2, "sheet": 2}


def test_size_does_not_tell_classes_apart():
    options = {"size": 32, "irregularity": 0.0}
    volumes = {
        name: [Mitochondria.single(name, seed, **options) for seed in range(8)] for name in ("spheroid", "donut")
    }
    sizes = {name: [item["parameters"]["volume_um3"] for item in items] for name, items in volumes.items()}
    assert max(sizes["spheroid"]) > np.median(sizes["donut"]) > min(sizes["spheroid"])
    assert max(sizes["donut"]) > np.median(sizes["spheroid"]) > min(sizes["donut"])


def test_same_seed_same_bytes_and_other_seed_other_volume(volume):
    again, other = (Mitochondria(seed, **SMALL).generate() for seed in (3, 4))
    for name in ("image", "label"):
        assert volume[name].tobytes() == again[name].tobytes()
        assert not np.array_equal(volume[name], other[name])
    assert volume["parameters"] == again["parameters"]


def test_what_is_shown_does_not_change_the_objects(volume):
    clean = Mitochondria(3, **SMALL, **CLEAN).generate()
    np.testing.assert_array_equal(clean["label"], volume["label"])
    np.testing.assert_allclose(clean["image"][clean["label"] == 0].max(), 0.64, atol=1e-6)
    for name in CLEAN:
        value = {"membrane": 24.0, "blur": 1.5}.get(name, 0.5)
        changed = Mitochondria(3, **SMALL, **{**CLEAN, name: value}).generate()
        np.testing.assert_array_equal(changed["label"], volume["label"])
        assert np.abs(changed["image"] - clean["image"]).mean() > 1e-3, name


def test_membranes_are_dark_and_cristae_are_within():
    options = {**CLEAN, "membrane": 24.0}
    plain, striped = (Mitochondria.single("spheroid", 1, **{**options, "cristae": c}) for c in (0.0, 1.0))
    depth = distance_transform_edt(plain["mask"], sampling=plain["voxel_size"])
    membrane, matrix = (depth > 6) & (depth < 24), depth > 60
    assert plain["image"][membrane].mean() < plain["image"][matrix].mean() - 0.15
    assert plain["image"][~plain["mask"]].mean() > plain["image"][matrix].mean() + 0.05
    assert plain["image"][matrix].std() < 0.005
    assert striped["image"][matrix].std() > 0.05
    changed = np.abs(striped["image"] - plain["image"]) > 1e-6
    assert not changed[~plain["mask"]].any()


def test_noise_and_jitter_have_the_deviations_asked_for():
    options = {"size": 64, **CLEAN}
    quiet = Mitochondria.single("rod", 0, **options)["image"]
    noisy = Mitochondria.single("rod", 0, **{**options, "noise": 0.05})["image"]
    np.testing.assert_allclose((noisy - quiet).std(), 0.05, rtol=0.02)
    jittered = Mitochondria.single("rod", 0, **{**options, "section_jitter": 0.03})["image"]
    sections = (jittered - quiet).mean(axis=(1, 2))
    assert 0.02 < sections.std() < 0.045
    assert ((jittered - quiet)[:, :, 0].std(axis=1) < 1e-6).all()  # alike within a section


@pytest.mark.parametrize("name", CLASSES)
def test_single_objects(name):
    first, again = (Mitochondria.single(name, 7) for _ in range(2))
    assert first["class"] == name
    assert first["image"].shape == first["mask"].shape == (64, 64, 64)
    assert (first["image"].dtype, first["mask"].dtype) == (np.float32, bool)
    np.testing.assert_array_equal(first["image"], again["image"])
    assert label(first["mask"])[1] == 1
    places = np.argwhere(first["mask"])
    low, high = places.min(axis=0), places.max(axis=0)
    assert low.min() >= 2
    assert high.max() <= 61
    assert (high - low).max() >= 32
    measured = first["mask"].sum() * np.prod(first["voxel_size"]) * 1e-9
    if first["parameters"]["volume_um3"] is not None:
        np.testing.assert_allclose(measured, first["parameters"]["volume_um3"], rtol=0.015)
    assert 0.018 < measured < 0.125
    assert not np.array_equal(Mitochondria.single(name, 8)["mask"], first["mask"])


def test_single_object_with_given_voxels():
    fitted = Mitochondria.single("rod", 2, size=48)
    coarse = Mitochondria.single("rod", 2, size=64, voxel_size=(30, 16, 16))
    assert coarse["voxel_size"] == (30.0, 16.0, 16.0)
    assert coarse["parameters"]["volume_um3"] == fitted["parameters"]["volume_um3"]
    np.testing.assert_allclose(
        coarse["mask"].sum() * 30 * 16 * 16 * 1e-9, coarse["parameters"]["volume_um3"], rtol=0.03
    )
    with pytest.raises(InvalidInputError, match=r"larger than \(64, 64, 64\) voxels"):
        Mitochondria.single("rod", 2, voxel_size=(5, 5, 5))
    with pytest.raises(InvalidInputError, match=r"larger than \(64, 64, 64\) voxels"):
        Mitochondria.single("rod", 2, voxel_size=(0.01, 0.01, 0.01))


def test_default_volume_has_all_classes_within_a_share_of_the_volume():
    volume = Mitochondria().generate()
    assert volume["label"].shape == (64, 192, 192)
    numbers = Counter(volume["classes"].values())
    assert sorted(numbers.values()) == [6, 6, 7, 7, 7, 7]
    assert 0.08 < (volume["label"] > 0).mean() < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed=-1"),
        ({"size": (4, 64, 64)}, "axis 0"),
        ({"size": (64, 64)}, "3 values"),
        ({"objects": 0}, "objects=0"),
        ({"objects": {}}, "at least one object"),
        ({"objects": {"rods": 3}}, "Did you mean 'rod'"),
        ({"objects": {"rod": -1}}, "objects\\['rod'\\]=-1"),
        ({"objects": {"rod": 1}, "classes": ("donut",)}, "objects='rod'"),
        ({"classes": ("donuts",)}, "Did you mean 'donut'"),
        ({"classes": ()}, "classes=\\(\\)"),
        ({"classes": ("rod", "rod")}, "each name once"),
        ({"voxel_size": 8}, "voxel_size=8"),
        ({"voxel_size": (30, 0, 8)}, "voxel_size\\[1\\]=0"),
        ({"voxel_size": (100, 16, 16)}, "at most .* nm for an object of 0.025 um"),
        ({"volume": (0.1, 0.02)}, "volume"),
        ({"irregularity": 0.5}, "irregularity=0.5"),
        ({"gap": -1}, "gap=-1"),
        ({"touch_border": 1}, "touch_border=1"),
        ({"cristae": 2}, "cristae=2"),
        ({"noise": float("nan")}, "noise=nan"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(InvalidInputError, match=message):
        Mitochondria(**options)


def test_no_room():
    with pytest.raises(
        InvalidInputError, match=r"no room was found for an object of class 'spheroid' .* after \d others"
    ):
        Mitochondria(0, size=(24, 40, 40), objects={"spheroid": 9}, volume=(0.06, 0.06)).generate()
    with pytest.raises(InvalidInputError, match="after 0 others"):
        Mitochondria(0, size=8, objects={"rod": 1}).generate()
    with pytest.raises(InvalidInputError, match="after 0 others"):
        Mitochondria(0, size=32, objects={"rod": 1}, voxel_size=(0.01, 0.01, 0.01), touch_border=True).generate()


def test_bad_single_objects():
    with pytest.raises(InvalidInputError, match="Did you mean 'donut'"):
        Mitochondria.single("donat")
    with pytest.raises(InvalidInputError, match="gap=3: a single object has no such option"):
        Mitochondria.single("donut", gap=3)
    with pytest.raises(InvalidInputError, match="a larger size"):
        Mitochondria.single("branched", size=16)
    assert Mitochondria.single("rod", volume=(1e-6, 1e-6))["mask"].any()
    with pytest.raises(InvalidInputError, match="size=8"):
        Mitochondria.single("rod", size=8)
