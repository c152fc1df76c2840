"""The features command of the em_clustering bundle."""

import json
import shutil

import h5py
import numpy as np
import pytest
from bundle_commands import reason, shell
from em_clustering_commands import FEATURES, FOLDER, TINY_VOLUME, features, prepare, volumes
from PIL import Image

from voxel_ext.data import open_volume, read_features
from voxel_ext.morphology import object_features


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("em_features"))


@pytest.fixture(scope="module")
def arrays(dataset):
    files = volumes(dataset)
    return tuple(open_volume(files[name]).read([slice(None)] * 3)[0] for name in ("labels", "image"))


def test_tables_of_the_synthetic_volume(tmp_path, dataset, arrays):
    folder = features(tmp_path, dataset)
    expected = object_features(*arrays, (30, 16, 16), ["size", "sphericity", "intensity"], progress=False)
    for name in FEATURES:
        for suffix in (".parquet", ".h5"):
            found = read_features(folder / f"{name}{suffix}")
            np.testing.assert_allclose(found, expected[found.columns], rtol=1e-9)
    assert read_features(folder / "objects.parquet")["class"].nunique() == 6
    assert json.loads((folder / "measurement.json").read_text())["settings"]["voxel_size"] == [30, 16, 16]
    # the same again without a run id: all is there
    before = (folder / "sizef.h5").stat().st_mtime_ns
    features(tmp_path, dataset, "run")
    assert (folder / "sizef.h5").stat().st_mtime_ns == before


def test_settings_reach_the_measurement(tmp_path, dataset, arrays):
    settings = {"voxel_size": [40, 8, 8], "bounds": [2650, None], "neighbors": 1, "density_blocks": 2}
    more = {"exclude_border": "true", "distance_matrix": "true", "num_workers": 2}
    folder = features(tmp_path, dataset, features=["distf", "density"], radius_nm=400.0, **settings, **more)
    options = settings | {"bounds": (2650, None), "exclude_border": True, "radius_nm": 400.0}
    expected = object_features(arrays[0], features=["distance", "density"], **options)
    assert 1 < len(expected) < 7
    for name in ("distf", "density"):
        found = read_features(folder / f"{name}.h5")
        np.testing.assert_allclose(found, expected[found.columns], rtol=1e-9)
    with h5py.File(folder / "distance_matrix.h5") as file:
        assert file["values"].shape == (len(expected),) * 2


def test_labels_alone_have_no_intensity(tmp_path, dataset):
    labels = volumes(dataset)["labels"]
    folder = features(tmp_path, dataset, labels=labels, image="", classes="", features="size")
    assert list(read_features(folder / "objects.parquet").columns)[-1] == "touches_border"
    message = reason(features, tmp_path / "b", dataset, image="", features="intensity")
    assert "'intensity', but there is no image" in message


def test_from_the_shell_with_a_volume_made_first(tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("data", "eval", "__pycache__"))
    config = json.loads((copy / "configs" / "prepare.json").read_text())
    (copy / "configs" / "prepare.json").write_text(json.dumps(config | TINY_VOLUME))
    command = ["monai.bundle", "run", "features", "--config_file", "configs/features.json", "--features", "sizef"]
    done = shell(command, copy, timeout=900)
    assert done.returncode == 0, done.stderr
    first = (copy / "eval" / "features" / "sizef.parquet").read_bytes()
    config_file = str(copy / "configs" / "features.json")
    command = ["monai.bundle", "run", "features", "--config_file", config_file, "--features", "['sizef','size']"]
    done = shell([*command, "--bundle_root", str(copy)], tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    assert (copy / "eval" / "features" / "size.parquet").read_bytes() == first
    done = shell([*command, "--bundle_root", str(copy), "--radius_nm", "5"], tmp_path, timeout=900)
    assert done.returncode == 1
    assert "radius_nm is 2000.0 there, 5 now" in done.stderr.strip().splitlines()[-1]


def test_bad_input_ends_with_the_reason(tmp_path, dataset):
    assert "Did you mean 'skeleton'" in reason(features, tmp_path, dataset, features="skelton")
    assert "bundle em_shape_vae" in reason(features, tmp_path, dataset, features=["size", "shapef"])
    assert "0 of 7 objects" in reason(features, tmp_path, dataset, bounds=[10**6, None])
    message = reason(features, tmp_path, dataset, features="skeleton", memory_limit_gib=1e-4)
    assert "the object" in message
    assert "memory_limit_gib=0.0001" in message
    slices = tmp_path / "em"
    slices.mkdir()
    for number in (0, 1, 3):
        Image.fromarray(np.zeros((72, 72), np.uint8)).save(slices / f"{number}.png")
    assert "missing: 2" in reason(features, tmp_path, dataset, image=str(slices))
    (slices / "3.png").unlink()
    assert "2 slices, but 40" in reason(features, tmp_path, dataset, image=str(slices))
    assert "has data type float32" in reason(features, tmp_path, dataset, labels=float_labels(tmp_path))
    assert "overwrite='yes'" in reason(features, tmp_path, dataset, overwrite="yes")


def float_labels(folder):
    path = folder / "labels.npy"
    np.save(path, np.ones((40, 72, 72), np.float32))
    return str(path)
