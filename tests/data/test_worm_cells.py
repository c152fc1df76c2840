import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, Lambdad

from voxel_ext.data import WormCellDataset, WormCubes, WormStore, write_worm
from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms import RandWormRotationd


def write(path, name, valid, seed=0, constant=()):
    rng = np.random.default_rng(seed)
    cubes = rng.random((len(valid), 1, 8, 8, 8), dtype=np.float32) * 5 + 10
    cubes[list(constant)] = 3
    cubes[~np.asarray(valid)] = 0
    positions = np.where(np.asarray(valid)[:, None], rng.random((len(valid), 3)) * 50, np.nan).astype(np.float32)
    names = tuple(f"N{i}" for i in range(len(valid)))
    worm = WormCubes(name, np.asarray(valid), positions, names, (50, 50, 50), "raw", 8, cubes=cubes)
    return write_worm(path / f"{name}.h5", worm)


@pytest.fixture
def files(tmp_path):
    return [
        write(tmp_path, "a", [True, False, True, True], seed=1, constant=[3]),
        write(tmp_path, "b", [True, True, False, True], seed=2),
    ]


def test_all_cells_in_order_without_the_missing(files):
    dataset = WormCellDataset(WormStore(files, "none"))
    found = [(item["worm"], item["cell"]) for item in (dataset[i] for i in range(len(dataset)))]
    assert found == [(0, 0), (0, 2), (0, 3), (1, 0), (1, 1), (1, 3)]
    with pytest.raises(IndexError):
        dataset[6]


def test_items_are_the_normalized_cubes(files):
    store = WormStore(files, "global", mean=12, std=2)
    item = WormCellDataset(store)[4]
    expected = store.cubes(1, np.array([1]), np.array([True]))[0]
    np.testing.assert_array_equal(item["image"].numpy(), expected)
    assert torch.equal(item["image"], item["label"])
    assert item["image"].data_ptr() != item["label"].data_ptr()


def test_a_constant_cube_is_zero_by_cube(files):
    dataset = WormCellDataset(WormStore(files, "cube"))
    assert torch.equal(dataset[2]["image"], torch.zeros(1, 8, 8, 8))
    assert dataset[1]["image"].std(correction=0) == pytest.approx(1, abs=1e-5)


def test_each_cell_comes_once_before_any_comes_again(files):
    dataset = WormCellDataset(WormStore(files), length=15, seed=3)
    cells = [(dataset[i]["worm"], dataset[i]["cell"]) for i in range(15)]
    assert len(set(cells[:6])) == len(set(cells[6:12])) == 6
    other = WormCellDataset(WormStore(files), length=15, seed=4)
    assert cells != [(other[i]["worm"], other[i]["cell"]) for i in range(15)]


def images(dataset):
    return torch.stack([dataset[i]["image"] for i in range(len(dataset))])


def test_turned_afresh_in_training_and_always_alike_in_validation(files):
    training = WormCellDataset(WormStore(files), 4, RandWormRotationd("image"))
    validation = WormCellDataset(WormStore(files), None, RandWormRotationd("image"), fresh=False)
    before = images(training), images(validation)
    assert not torch.equal(before[1][0], validation[0]["label"])
    for dataset in (training, validation):
        dataset.set_random_state(seed=11)
    assert not torch.equal(images(training), before[0])
    assert torch.equal(images(validation), before[1])


def test_an_item_does_not_depend_on_those_before_it(files):
    dataset = WormCellDataset(WormStore(files), 6, RandWormRotationd("image"), seed=1)
    forward = images(dataset)
    backward = torch.stack([dataset[i]["image"] for i in reversed(range(6))]).flip(0)
    assert torch.equal(forward, backward)


def test_upright_and_turned_targets(files):
    store = WormStore(files)
    upright = WormCellDataset(store, None, RandWormRotationd("image"))[0]
    turned = WormCellDataset(store, None, RandWormRotationd(["image", "label"]))[0]
    assert torch.equal(upright["label"], WormCellDataset(store)[0]["image"])
    assert torch.equal(turned["image"], turned["label"])
    assert torch.equal(turned["image"], upright["image"])


def test_a_fixed_set_has_no_cell_twice(files):
    assert len(WormCellDataset(WormStore(files), 100, fresh=False)) == 6
    assert len(WormCellDataset(WormStore(files), 100)) == 100


def test_workers_see_the_same_fixed_cells(files):
    dataset = WormCellDataset(WormStore(files), None, RandWormRotationd("image"), fresh=False)
    batches = [next(iter(DataLoader(dataset, batch_size=6, num_workers=n)))["image"] for n in (0, 1)]
    assert torch.equal(*batches)


def test_transforms_that_are_not_random(files):
    transform = Compose([Lambdad("image", lambda image: image * 2)])
    item = WormCellDataset(WormStore(files), None, transform)[0]
    assert torch.allclose(item["image"], 2 * item["label"])


@pytest.mark.parametrize("length", [0, -1, 1.5, True])
def test_bad_length(files, length):
    with pytest.raises(InvalidInputError, match="length"):
        WormCellDataset(WormStore(files), length)


def test_no_cells_at_all(tmp_path):
    file = write(tmp_path, "empty", [False, False])
    with pytest.raises(InvalidInputError, match=r"empty\.h5"):
        WormCellDataset(WormStore([file]))
