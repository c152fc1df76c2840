import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from voxel_ext.data.object_dataset import ObjectDataset, PointCloudDataset
from voxel_ext.errors import InvalidInputError, MissingDataError


@pytest.fixture
def volumes(tmp_path):
    """Ten objects, those of even ids with a sample, those of less than 4 without a class."""
    path = tmp_path / "o.h5"
    ids = np.sort([*range(1, 11), *range(2, 11, 2)]).astype(np.int64)
    chunk = np.r_[False, ids[1:] == ids[:-1]].astype(np.int64)
    values = np.random.default_rng(0).random((15, 2, 4, 4, 4)).astype(np.float16)
    with h5py.File(path, "w") as file:
        for name, array in (("volumes", values), ("id", ids), ("chunk", chunk), ("scale", ids * 2.0)):
            file[name] = array
        file["class"] = np.where(ids < 4, -1, ids % 3)
        file.attrs["class_names"] = '["a", "b", "c"]'
        file.attrs["settings"] = "{}"
    return path, values


@pytest.fixture
def clouds(tmp_path):
    path = tmp_path / "p.h5"
    points = np.random.default_rng(0).random((10, 50, 3)).astype(np.float32)
    with h5py.File(path, "w") as file:
        for name, array in (("points", points), ("id", np.arange(10)), ("scale", np.arange(10.0))):
            file[name] = array
    return path, points


def test_items(volumes):
    path, values = volumes
    data = ObjectDataset(path)
    assert len(data) == 15
    item = data[2]
    assert {name: value for name, value in item.items() if name != "image"} == {
        "id": 2,
        "scale": 4.0,
        "chunk": 1,
        "class": -1,
    }
    assert item["image"].dtype == torch.float32
    np.testing.assert_array_equal(item["image"], values[2].astype(np.float32))
    assert data.class_names == ["a", "b", "c"]
    np.testing.assert_array_equal(data.classes[-3:], [0, 1, 1])


def test_choices(volumes):
    path, _ = volumes
    assert ObjectDataset(path, whole_only=True).ids.tolist() == list(range(1, 11))
    assert ObjectDataset(path, classes_only=True).ids.min() == 4
    doubled = ObjectDataset(path, transform=lambda item: {**item, "image": item["image"] * 2})
    torch.testing.assert_close(doubled[0]["image"], ObjectDataset(path)[0]["image"] * 2)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.7])
def test_parts_share_no_object_and_are_all(volumes, fraction):
    path, _ = volumes
    training = ObjectDataset(path, "train", fraction, seed=3)
    validation = ObjectDataset(path, "val", fraction, seed=3)
    assert not set(training.ids) & set(validation.ids)
    assert len(training) + len(validation) == 15
    assert len(set(training.ids)) == round(10 * fraction)
    assert ObjectDataset(path, "train", fraction, seed=3).ids.tolist() == training.ids.tolist()
    assert len({tuple(ObjectDataset(path, "train", fraction, seed=s).ids) for s in range(6)}) > 1


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_with_workers(volumes, workers):
    path, values = volumes
    data = ObjectDataset(path)
    data[0]  # opens the file before the workers start
    batches = list(DataLoader(data, batch_size=4, num_workers=workers))
    np.testing.assert_array_equal(torch.cat([batch["image"] for batch in batches]), values.astype(np.float32))
    assert torch.cat([batch["id"] for batch in batches]).tolist() == data.ids.tolist()


def test_points_and_random_subsets(clouds):
    path, points = clouds
    np.testing.assert_array_equal(PointCloudDataset(path)[4]["points"], points[4])
    data = PointCloudDataset(path, points=20)
    torch.manual_seed(0)
    first, second = data[4]["points"], data[4]["points"]
    assert first.shape == (20, 3)
    assert (first != second).any()
    rows = (first[:, None] == torch.from_numpy(points[4])).all(-1)
    assert (rows.sum(1) == 1).all()
    assert rows.sum(0).max() == 1  # no point twice
    torch.manual_seed(0)
    torch.testing.assert_close(data[4]["points"], first)
    assert data.classes is None
    assert "class" not in data[4]


def test_bad_input(volumes, clouds, tmp_path):
    with pytest.raises(MissingDataError, match="does not exist"):
        ObjectDataset(tmp_path / "nowhere.h5")
    with pytest.raises(InvalidInputError, match=r"p\.h5 is no file of prepared objects with 'volumes'.*points \(10,"):
        ObjectDataset(clouds[0])
    with pytest.raises(InvalidInputError, match="with 'points'"):
        PointCloudDataset(volumes[0])
    with pytest.raises(InvalidInputError, match="points=51; expected None or a number from 1 to 50"):
        PointCloudDataset(clouds[0], points=51)
    with pytest.raises(InvalidInputError, match="no object with a class"):
        PointCloudDataset(clouds[0], classes_only=True)
    with pytest.raises(InvalidInputError, match="part='test' is not known"):
        ObjectDataset(volumes[0], "test")
    with pytest.raises(InvalidInputError, match="train_fraction=1"):
        ObjectDataset(volumes[0], "train", 1)
    with pytest.raises(InvalidInputError, match="none of them for part='val'"):
        ObjectDataset(volumes[0], "val", 0.99)
