import json

import h5py
import numpy as np
import pytest
from scipy.spatial import cKDTree

from voxel_ext.data import object_batches
from voxel_ext.data.point_cloud_preparation import prepare_point_clouds
from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.point_clouds import object_surface

SIZE = (30.0, 8.0, 10.0)
OPTIONS = {"points": 200, "voxel_size": SIZE, "progress": False}


@pytest.fixture
def labels():
    labels = np.zeros((12, 30, 40), np.int64)
    labels[1:4, 2:20, 3:38] = 2**40
    labels[5:8, 22:30, 5:9] = 3
    labels[6:8, 3:6, 3:6] = labels[6:8, 9:11, 3:6] = 12
    labels[9, 20, 30] = 4
    return labels


def read(path):
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file}, {name: json.loads(file.attrs[name]) for name in file.attrs}


def test_points_lie_on_the_surface_of_each_object(tmp_path, labels):
    report = prepare_point_clouds(labels, tmp_path / "p.h5", classes={3: "rod", 4: "dot"}, **OPTIONS)
    data, attributes = read(report.path)
    assert (report.objects, report.rows) == (4, 4)
    assert data["id"].tolist() == [3, 4, 12, 2**40]
    assert data["class"].tolist() == [1, 0, -1, -1]
    assert attributes["class_names"] == ["dot", "rod"]
    assert data["points"].shape == (4, 200, 3)
    assert data["points"].dtype == np.float32
    for row, one in enumerate(data["id"]):
        points = data["points"][row]
        np.testing.assert_allclose(points.mean(0), 0, atol=1e-5)
        assert np.linalg.norm(points, axis=1).max() == pytest.approx(1, abs=1e-5)
        placed = points * data["scale"][row] + data["center"][row]
        surface = object_surface(labels == one, SIZE)
        distance, _ = cKDTree(surface.vertices).query(placed)
        assert distance.max() < max(SIZE)  # faces reach over one voxel
        box = np.argwhere(labels == one)
        assert (placed >= (box.min(0) - 0.5) * SIZE - 1e-3).all()
        assert (placed <= (box.max(0) + 0.5) * SIZE + 1e-3).all()


def test_result_does_not_depend_on_batches_and_where_an_object_lies(tmp_path, labels, monkeypatch):
    expected, _ = read(prepare_point_clouds(labels, tmp_path / "a.h5", **OPTIONS).path)
    monkeypatch.setattr(object_batches, "BATCH", 1)
    moved = np.pad(labels, ((3, 0), (2, 0), (1, 0)))
    found, _ = read(prepare_point_clouds(moved, tmp_path / "b.h5", **OPTIONS).path)
    np.testing.assert_array_equal(found["points"], expected["points"])
    np.testing.assert_array_equal(found["scale"], expected["scale"])
    np.testing.assert_allclose(found["center"] - expected["center"], np.tile(np.multiply((3, 2, 1), SIZE), (4, 1)))


def test_methods_seeds_and_bounds(tmp_path, labels):
    first, _ = read(prepare_point_clouds(labels, tmp_path / "a.h5", **OPTIONS).path)
    other, _ = read(prepare_point_clouds(labels, tmp_path / "b.h5", seed=1, **OPTIONS).path)
    assert (first["points"] != other["points"]).any()
    blue, _ = read(prepare_point_clouds(labels, tmp_path / "c.h5", method="blue_noise", **OPTIONS).path)

    def nearest(points):
        return cKDTree(points).query(points, k=2)[0][:, 1].min()

    assert nearest(blue["points"][3]) > 3 * nearest(first["points"][3])
    some, _ = read(
        prepare_point_clouds(labels, tmp_path / "d.h5", bounds=(2, 100), exclude_border=True, **OPTIONS).path
    )
    assert some["id"].tolist() == [12]


def test_other_settings_are_refused_and_a_finished_file_is_kept(tmp_path, labels):
    path = tmp_path / "p.h5"
    prepare_point_clouds(labels, path, **OPTIONS)
    assert prepare_point_clouds(labels, path, **OPTIONS).kept
    with pytest.raises(InvalidInputError, match="method is uniform there, farthest now"):
        prepare_point_clouds(labels, path, method="farthest", **OPTIONS)
    assert not prepare_point_clouds(labels, path, method="farthest", overwrite=True, **OPTIONS).kept


def test_bad_input(tmp_path, labels):
    path = tmp_path / "p.h5"
    with pytest.raises(InvalidInputError, match="method='blue' is not known"):
        prepare_point_clouds(labels, path, method="blue", **OPTIONS)
    with pytest.raises(InvalidInputError, match="points=1"):
        prepare_point_clouds(labels, path, **{**OPTIONS, "points": 1})
    with pytest.raises(InvalidInputError, match="float64"):
        prepare_point_clouds(labels.astype(float), path, **OPTIONS)
    with pytest.raises(InvalidInputError, match=f"object {2**40}"):
        prepare_point_clouds(labels, path, memory_limit_gib=1e-5, **OPTIONS)
