import json
import pickle

import numpy as np
import pytest
import torch
import zarr
from monai.data import DataLoader
from monai.transforms import RandFlipd
from scipy.ndimage import binary_dilation

from voxel_ext.data.surface_patches import SurfacePatchDataset, read_surface_volumes
from voxel_ext.data.vector_codes import decode_vectors, encode_vectors
from voxel_ext.data.zarr_io import multiscale_attributes
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.targets import read_targets
from voxel_ext.transforms.intensity.normalization import IntensityNormalization

SHAPE = (9, 11, 13)
SIZE = (4, 6, 5)
TARGETS = read_targets(
    {
        "sheet": {"channels": 1, "activation": "sigmoid"},
        "normals": {"channels": 3, "activation": "unit_norm"},
        "kind": {"channels": 4, "activation": "softmax"},
        "depth": {"channels": 2},
    }
)
NORMALIZATION = IntensityNormalization("zscore", 100, 20)
INSIDE, OVER = [(0, (2, 3, 4)), (0, (5, 5, 8))], [(0, (-2, -3, 9)), (0, (7, 8, -4)), (0, (-3, 10, 12))]


def make_arrays(seed=0):
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((3, *SHAPE))
    vectors /= np.linalg.norm(vectors, axis=0)
    vectors[:, random.random(SHAPE) < 0.5] = 0
    return {
        "input": random.integers(0, 255, SHAPE).astype(np.uint8),
        "sheet": random.choice([0, 1, 200, 255], SHAPE, p=[0.8, 0.05, 0.05, 0.1]).astype(np.uint8),
        "normals": encode_vectors(vectors, np.uint8),
        "kind": random.integers(0, 4, SHAPE).astype(np.uint8),
        "depth": random.random((2, *SHAPE)).astype(np.float16),
    }


def write_store(path, arrays):
    for name, array in arrays.items():
        group = zarr.open_group(str(path), mode="a").create_group("image" if name == "input" else name)
        chunks = (1,) * (array.ndim - 3) + (4, 4, 4)
        group.create_array("0", shape=array.shape, dtype=array.dtype, chunks=chunks)[...] = array
        group.attrs.update(multiscale_attributes("0", (1.0, 1.0, 1.0), array.ndim == 4))


@pytest.fixture
def arrays():
    return make_arrays()


def make_dataset(arrays, patches, targets=TARGETS, **options):
    volumes = read_surface_volumes([arrays], targets)
    return SurfacePatchDataset(patches, volumes, targets, SIZE, [NORMALIZATION], **options)


def cut(array, start, **pad):
    """A patch of an array (C, D, H, W), which is padded all around first."""
    array = np.pad(array, [(0, 0), *[(n - 1, n - 1) for n in SIZE]], **pad)
    box = tuple(slice(first + n - 1, first + 2 * n - 1) for first, n in zip(start, SIZE, strict=True))
    return array[(slice(None), *box)]


@pytest.mark.parametrize("ignore", [None, 255])
@pytest.mark.parametrize("patch", INSIDE + OVER)
def test_an_item_is_a_slice_of_the_arrays(patch, ignore, arrays):
    if ignore:
        arrays["kind"][2:6, 3:7, 5:9] = ignore
    item = make_dataset(arrays, [patch], ignore_label=ignore)[0]
    outside = ignore or 0
    sheet = np.where(arrays["sheet"] == ignore, ignore or 1, arrays["sheet"] != 0)
    expected = {
        "image": cut((arrays["input"][None].astype(float) - 100) / 20, patch[1], mode="reflect"),
        "sheet": cut(sheet[None], patch[1], constant_values=outside),
        "normals": cut(decode_vectors(arrays["normals"]), patch[1]),
        "kind": cut(arrays["kind"][None], patch[1], constant_values=outside),
        "depth": cut(arrays["depth"].astype(float), patch[1], constant_values=outside),
    }
    assert set(item) == {*expected, "name", "position"}
    for name, values in expected.items():
        assert item[name].dtype == torch.float32
        np.testing.assert_allclose(item[name].numpy(), values, atol=1e-6, err_msg=name)
    assert item["name"] == "volume0"
    assert item["position"].tolist() == list(patch[1])


def test_stored_labels_of_any_value_are_1(arrays):
    item = make_dataset(arrays, INSIDE)[0]
    assert set(item["sheet"].unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("ignore", [None, 255])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("patch", INSIDE + OVER)
def test_dilation_is_that_of_the_whole_volume(patch, steps, ignore, arrays):
    stored = arrays["sheet"]
    grown = binary_dilation((stored != 0) & (stored != ignore), iterations=steps)
    whole = np.where(stored == ignore, ignore or 1, grown)
    item = make_dataset(arrays, [patch], ignore_label=ignore, dilate_label=steps)[0]
    inside = cut(np.ones((1, *SHAPE)), patch[1]) > 0
    np.testing.assert_array_equal(item["sheet"].numpy()[inside], cut(whole[None], patch[1])[inside])
    if ignore:
        assert (item["sheet"].numpy()[~inside] == ignore).all()


@pytest.mark.parametrize("axis", [0, 3])
def test_one_hot_classes(axis, arrays):
    index = arrays["kind"].copy()
    one_hot = np.moveaxis(np.eye(4, dtype=np.uint8)[index], 3, axis)
    ignored = np.zeros(SHAPE, bool)
    ignored[2:5, 3:6, 4:9] = True
    np.moveaxis(one_hot, axis, 0)[:, ignored] = 255
    item = make_dataset({**arrays, "kind": one_hot}, INSIDE, ignore_label=255)[0]
    np.testing.assert_array_equal(item["kind"], cut(np.where(ignored, 255, index)[None], INSIDE[0][1]))


def test_component_order(arrays):
    targets = read_targets({"normals": {"channels": 3, "activation": "unit_norm", "component_order": "xyz"}})
    dataset = make_dataset({key: arrays[key] for key in ("input", "normals")}, INSIDE, targets)
    expected = decode_vectors(arrays["normals"])[::-1]
    np.testing.assert_array_equal(dataset[0]["normals"], cut(expected, INSIDE[0][1]))


def test_wrong_classes_are_refused(arrays):
    arrays["kind"][4, 5, 6] = 9
    with pytest.raises(InvalidInputError, match=r"'volume0', kind .* has the class index 9; expected 0 to 3"):
        make_dataset(arrays, INSIDE)[0]


def test_folder_list_and_json_give_the_same(tmp_path):
    for name in ("b", "a"):
        write_store(tmp_path / f"{name}.zarr", make_arrays(ord(name)))
    (tmp_path / ".c.zarr").mkdir()
    entries = [
        {"input": f"{name}.zarr/image", **{key: f"{name}.zarr/{key}" for key in TARGETS}, "ref_label": "kind"}
        for name in "ab"
    ]
    (tmp_path / "volumes.json").write_text(json.dumps(entries))
    folder = read_surface_volumes(tmp_path, TARGETS, ref_label="kind")
    listed = read_surface_volumes(tmp_path / "volumes.json", TARGETS)
    for one, other in zip(folder, listed, strict=True):
        assert (one.name, one.ref_label) == (other.name, other.ref_label)
        assert one.label is one.targets["kind"]
        assert one.component_orders == {"normals": "zyx"}
        for key in TARGETS:
            assert one.targets[key].fingerprint() == other.targets[key].fingerprint()
    assert [volume.name for volume in folder] == ["a", "b"]
    assert read_surface_volumes(tmp_path, TARGETS)[0].ref_label == "sheet"


def test_levels_and_names(tmp_path, arrays):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w").create_group("image")
    for level, step in enumerate((1, 2)):
        values = np.repeat(np.repeat(np.repeat(arrays["input"], 2, 0), 2, 1), 2, 2)[::step, ::step, ::step]
        group.create_array(str(level), shape=values.shape, dtype="u1")[...] = values
    entry = {**arrays, "input": tmp_path / "a.zarr" / "image", "level": {"input": 1}}
    volume = read_surface_volumes([entry], TARGETS)[0]
    assert volume.name == "a"
    assert volume.input.spatial_shape == SHAPE
    assert read_surface_volumes([{**entry, "name": "mine"}], TARGETS)[0].name == "mine"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"normals": None}, MissingDataError, "volume 'volume0' has no 'normals'; expected its path"),
        ({"sheet": np.zeros((9, 11, 12))}, InvalidInputError, r"sheet .* \(9, 11, 12\) .* input .* has \(9, 11, 13\)"),
        ({"normals": np.zeros((2, *SHAPE))}, InvalidInputError, r"normals: .*\(2, 9, 11, 13\).* expected channels=3"),
        ({"kind": np.zeros((2, *SHAPE))}, InvalidInputError, "kind: .* expected channels=4"),
        ({"input": np.zeros((2, *SHAPE))}, InvalidInputError, "input: .* expected channels=1"),
        ({"ref_label": "sheets"}, InvalidInputError, "ref_label of volume 'volume0'='sheets'.*mean 'sheet'"),
        ({"shet": "x"}, InvalidInputError, "key of volume 'volume0'='shet'.*mean 'sheet'"),
        ({"sheet": "no.zarr"}, MissingDataError, r"volume 'volume0', sheet: no\.zarr does not exist"),
    ],
)
def test_volumes_that_are_refused(change, error, message, arrays):
    with pytest.raises(error, match=message):
        read_surface_volumes([{**arrays, **change}], TARGETS)


def test_sources_that_are_refused(tmp_path, arrays):
    with pytest.raises(MissingDataError, match="has no volumes"):
        read_surface_volumes(tmp_path, TARGETS)
    with pytest.raises(MissingDataError, match="does not exist"):
        read_surface_volumes(tmp_path / "no.json", TARGETS)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"a\.json is not a JSON file"):
        read_surface_volumes(tmp_path / "a.json", TARGETS)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InvalidInputError, match=r"a\.json .* holds a dict, not a list"):
        read_surface_volumes(tmp_path / "a.json", TARGETS)
    with pytest.raises(InvalidInputError, match="volumes#0 is 'a'"):
        read_surface_volumes(["a"], TARGETS)
    with pytest.raises(InvalidInputError, match="two volumes are called 'a'"):
        read_surface_volumes([{**arrays, "name": "a"}] * 2, TARGETS)


@pytest.mark.parametrize(
    ("patches", "options", "message"),
    [
        ([(1, (0, 0, 0))], {}, "a patch of volume 1; there are 1"),
        ([(0, (9, 0, 0))], {}, r"\[9, 0, 0\] .* lies outside of volume 'volume0'"),
        ([(0, (0, -6, 0))], {}, "lies outside"),
        (INSIDE, {"dilate_label": -1}, "dilate_label=-1"),
    ],
)
def test_patches_that_are_refused(patches, options, message, arrays):
    with pytest.raises(InvalidInputError, match=message):
        make_dataset(arrays, patches, **options)


def test_what_does_not_fit_the_volumes(arrays):
    volumes = read_surface_volumes([arrays], TARGETS)
    with pytest.raises(InvalidInputError, match="0 normalizations for 1 volumes"):
        SurfacePatchDataset(INSIDE, volumes, TARGETS, SIZE, [])
    with pytest.raises(InvalidInputError, match="patch_size"):
        SurfacePatchDataset(INSIDE, volumes, TARGETS, (4, 0, 4), [NORMALIZATION])
    more = {**TARGETS, **read_targets({"other": {"channels": 1}})}
    with pytest.raises(InvalidInputError, match=r"'volume0' lacks the targets \['other'\]"):
        SurfacePatchDataset(INSIDE, volumes, more, SIZE, [NORMALIZATION])


def test_pickling_and_workers(tmp_path):
    write_store(tmp_path / "a.zarr", make_arrays(1))
    volumes = read_surface_volumes(tmp_path, TARGETS)
    patches = INSIDE + OVER
    dataset = SurfacePatchDataset(patches, volumes, TARGETS, SIZE, [NORMALIZATION])
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 10_000  # without the voxels
    copy = pickle.loads(pickled)
    loader = DataLoader(dataset, batch_size=1, num_workers=1)
    for index, batch in enumerate(loader):
        for key in ("image", *TARGETS, "position"):
            torch.testing.assert_close(batch[key][0], dataset[index][key], rtol=0, atol=0)
            torch.testing.assert_close(copy[index][key], dataset[index][key], rtol=0, atol=0)
        assert batch["name"] == ["a"]
    assert index == len(patches) - 1


def test_the_transform_gets_the_item(arrays):
    flip = RandFlipd(["image", "sheet"], prob=1, spatial_axis=2)
    item, plain = make_dataset(arrays, INSIDE, transform=flip)[0], make_dataset(arrays, INSIDE)[0]
    np.testing.assert_array_equal(item["sheet"], plain["sheet"].flip(3))
    np.testing.assert_array_equal(item["image"], plain["image"].flip(3))
    np.testing.assert_array_equal(item["depth"], plain["depth"])
