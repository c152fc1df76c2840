import json
import pickle

import numpy as np
import pytest
import zarr

from voxel_ext.data.sheet_synthetic import SyntheticSheets, encode_image, prepare_synthetic_sheets, write_sheets
from voxel_ext.data.vector_codes import decode_vectors
from voxel_ext.data.zarr_io import multiscale, multiscale_voxel_size
from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic.sheets import Sheets

SIZE = (16, 20, 24)


def prepare(folder, **options):
    options = {"volumes": 2, "validation_volumes": 1, "size": SIZE, "chunks": 16, **options}
    return prepare_synthetic_sheets(folder, progress=False, **options)


def read(path, name):
    return zarr.open_group(str(path), mode="r")[name]["0"][:]


def test_layout_and_values(tmp_path):
    prepare(tmp_path, seed=2, voxel_size=(3.24, 2, 2))
    stores = ["train/sheets_000.zarr", "train/sheets_001.zarr", "val/sheets_000.zarr"]
    assert json.loads((tmp_path / "dataset.json").read_text()) == {"complete": True, "files": stores}
    for name, seed in zip(stores, (2_000_000, 2_000_001, 2_500_000), strict=True):
        volume = Sheets(seed, size=SIZE).generate()
        root = zarr.open_group(str(tmp_path / name), mode="r")
        assert sorted(root) == ["image", "normals", "sheet"]
        assert json.loads(root.attrs["settings"])["generator"] == {
            "name": "Sheets",
            **Sheets(seed, size=SIZE).settings(),
        }
        for key, axes in (("image", "zyx"), ("sheet", "zyx"), ("normals", "czyx")):
            image = multiscale(root[key])
            assert "".join(axis["name"] for axis in image["axes"]) == axes
            assert multiscale_voxel_size(image, "0")[-3:] == [3.24, 2, 2]
            assert root[key]["0"].chunks == (3,) * (len(axes) - 3) + (16, 16, 16)
        np.testing.assert_array_equal(root["sheet"]["0"][:], volume["sheet"])
        image = root["image"]["0"][:]
        assert image.dtype == np.uint8
        np.testing.assert_allclose(image / 255, np.clip(volume["image"], 0, 1), atol=0.5 / 255 + 1e-6)
        codes = root["normals"]["0"][:]
        assert codes.dtype == np.uint16
        np.testing.assert_array_equal(codes.any(axis=0), volume["sheet"])
        np.testing.assert_allclose(decode_vectors(codes), volume["normals"], atol=2.1 / 65535)


@pytest.mark.parametrize(
    ("image_dtype", "normals_dtype"), [("uint16", "uint8"), ("float32", "float32"), ("uint8", "float16")]
)
def test_data_types(tmp_path, image_dtype, normals_dtype):
    generator = Sheets(1, size=SIZE)
    path = write_sheets(tmp_path / "a.zarr", generator, image_dtype=image_dtype, normals_dtype=normals_dtype)
    volume = generator.generate()
    image, normals = read(path, "image"), read(path, "normals")
    assert (image.dtype, normals.dtype) == (image_dtype, normals_dtype)
    np.testing.assert_array_equal(image, encode_image(volume["image"], image_dtype))
    np.testing.assert_allclose(decode_vectors(normals), volume["normals"], atol=2.1 / 255)
    if image_dtype == "float32":
        np.testing.assert_array_equal(image, volume["image"])
    if normals_dtype == "float32":
        np.testing.assert_array_equal(normals, volume["normals"])


def test_volume_written_in_blocks_is_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("voxel_ext.data.sheet_synthetic.SMALLEST_BLOCK", 10)
    sizes = []
    make = Sheets.block
    monkeypatch.setattr(
        Sheets, "block", lambda self, box: sizes.append([p.stop - p.start for p in box]) or make(self, box)
    )
    path = write_sheets(tmp_path / "a.zarr", Sheets(3, size=(17, 24, 30)), chunks=(8, 5, 10), image_dtype="float32")
    assert np.prod(sizes, axis=1).sum() == 17 * 24 * 30
    assert np.max(sizes, axis=0).tolist() == [16, 10, 10]
    monkeypatch.undo()
    volume = Sheets(3, size=(17, 24, 30)).generate()
    np.testing.assert_array_equal(read(path, "image"), volume["image"])
    np.testing.assert_array_equal(read(path, "sheet"), volume["sheet"])
    np.testing.assert_allclose(decode_vectors(read(path, "normals")), volume["normals"], atol=2.1 / 65535)


def test_repeated_run_makes_only_what_is_missing(tmp_path, monkeypatch):
    prepare(tmp_path)
    made = []
    make = SyntheticSheets.make
    monkeypatch.setattr(SyntheticSheets, "make", lambda self: made.append(self.name) or make(self))
    prepare(tmp_path)
    assert made == []
    before = read(tmp_path / "train" / "sheets_001.zarr", "image")
    (tmp_path / "train" / "sheets_001.zarr").rename(tmp_path / "elsewhere")
    prepare(tmp_path)
    assert made == ["train/sheets_001"]
    np.testing.assert_array_equal(read(tmp_path / "train" / "sheets_001.zarr", "image"), before)
    prepare(tmp_path, volumes=3)
    assert made == ["train/sheets_001", "train/sheets_002"]
    assert len(json.loads((tmp_path / "dataset.json").read_text())["files"]) == 4


def test_other_settings_are_refused_or_replace(tmp_path):
    prepare(tmp_path, generator_options={"kind": "waves"})
    for options, message in (
        ({"generator_options": {"kind": "spiral"}}, "generator.kind is waves there, spiral now"),
        (
            {"generator_options": {"kind": "waves"}, "normals_dtype": "uint8"},
            "normals_dtype is uint16 there, uint8 now",
        ),
        ({"generator_options": {"kind": "waves"}, "seed": 1}, "generator.seed is 0 there, 1000000 now"),
        ({"generator_options": {"kind": "waves"}, "volumes": 1}, "1 volumes in .* do not belong"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            prepare(tmp_path, **options)
    prepare(tmp_path, generator_options={"kind": "spiral"}, overwrite=True)
    path = tmp_path / "val" / "sheets_000.zarr"
    volume = Sheets(500_000, size=SIZE, kind="spiral").generate()
    np.testing.assert_array_equal(read(path, "sheet"), volume["sheet"])
    (path / "zarr.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"sheets_000\.zarr was not made by prepare, or is damaged"):
        prepare(tmp_path, generator_options={"kind": "spiral"})


def test_job_sent_to_another_process_makes_the_same(tmp_path):
    storage = {"chunks": 16, "image_dtype": "uint8", "normals_dtype": "uint8", "voxel_size": 2.0}
    jobs = [SyntheticSheets(tmp_path / f"{i}.zarr", {"seed": 1, "size": SIZE}, storage) for i in range(2)]
    assert jobs[1].record["generator"]["seed"] == 1
    jobs[0].make()
    pickle.loads(pickle.dumps(jobs[1])).make()
    for key in ("image", "sheet", "normals"):
        np.testing.assert_array_equal(read(jobs[0].path, key), read(jobs[1].path, key))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"volumes": 0}, "volumes=0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"size": (4, 20, 20)}, "axis 0"),
        ({"normals_dtype": "int8"}, "normals_dtype='int8'"),
        ({"image_dtype": "float16"}, "image_dtype='float16'"),
        ({"voxel_size": 0}, "voxel_size=0"),
        ({"voxel_size": (1, 2)}, "voxel_size"),
        ({"chunks": 2.5}, "chunks=2.5"),
        ({"generator_options": {"knid": "waves"}}, "knid"),
        ({"generator_options": {"seed": 3}}, "generator_options has"),
        ({"generator_options": {"gaps": 2}}, "gaps=2"),
    ],
)
def test_bad_options_write_nothing(tmp_path, options, message):
    with pytest.raises(InvalidInputError, match=message):
        prepare(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
