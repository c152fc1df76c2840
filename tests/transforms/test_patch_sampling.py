import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.spatial.patch_sampling import (
    RandAcceptedCropd,
    WindowSampler,
    draw_uniform_window,
    grid_patches,
)
from voxel_ext.transforms.spatial.reflect_padding import ReflectPadd


@pytest.mark.parametrize(
    ("shape", "size", "stride"),
    [((10, 9, 8), (4, 9, 3), (3, 9, 2)), ((5, 5, 5), (5, 5, 5), 5), ((7, 11), (3, 4), (1, 3)), ((6,), (4,), (4,))],
)
def test_grid_covers_all_and_ends_at_the_border(shape, size, stride):
    patches = grid_patches(shape, size, stride)
    steps = (stride,) * len(shape) if isinstance(stride, int) else stride
    starts = []
    for length, width, step in zip(shape, size, steps, strict=True):
        along = list(range(0, length - width + 1, step))
        starts.append(along if along[-1] + width == length else [*along, length - width])
    expected = np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, len(shape))
    assert [[part.start for part in patch] for patch in patches] == expected.tolist()
    covered = np.zeros(shape, int)
    for patch in patches:
        covered[patch] += 1
        assert covered[patch].shape == tuple(size)
    assert covered.min() >= 1


def test_bad_grid():
    with pytest.raises(InvalidInputError, match=r"patch \(6, 3\) is larger than the volume \(5, 5\)"):
        grid_patches((5, 5), (6, 3), 1)
    with pytest.raises(InvalidInputError, match=r"stride=\(4, 4\) is larger"):
        grid_patches((9, 9), (3, 4), 4)
    with pytest.raises(InvalidInputError, match=r"patch_size=\(3,\); expected 2 positive"):
        grid_patches((5, 5), (3,), 1)
    with pytest.raises(InvalidInputError, match=r"stride=\(0, 1\)"):
        grid_patches((5, 5), (3, 3), (0, 1))


def test_centers_are_drawn_in_proportion_to_the_weight():
    weight = np.zeros((3, 6), np.float32)
    weight[0, 0], weight[1, 2], weight[2, 5] = 1, 2, 5
    sampler = WindowSampler(weight, (1, 1))
    random = np.random.RandomState(0)
    count = np.zeros(weight.shape)
    for _ in range(4000):
        count[sampler.draw(random)] += 1
    assert (count[weight == 0] == 0).all()
    np.testing.assert_allclose(count / 4000, weight / 8, atol=0.03)


@pytest.mark.parametrize("size", [(1, 2), (3, 5), (4, 9)])
def test_windows_are_shifted_into_the_volume(size):
    for place in np.ndindex(4, 9):
        weight = np.zeros((4, 9))
        weight[place] = 0.1
        window = WindowSampler(weight, size).draw(np.random.RandomState(1))
        for part, n, length, center in zip(window, size, (4, 9), place, strict=True):
            assert part.stop - part.start == n
            assert part.start == min(max(center - n // 2, 0), length - n)


def test_small_weights_behind_large_ones_count():
    weight = np.full(100_001, 1, np.float32)
    weight[0] = 2**26  # a float32 sum would not grow any more
    sampler = WindowSampler(weight, (1,))
    assert sampler.sums[-1] == 2**26 + 100_000


def test_bad_weights():
    for weight, message in (
        (np.zeros((2, 2)), "0 everywhere"),
        (np.array([[1.0, -1]]), "negative or non-finite"),
        (np.array([[1.0, np.nan]]), "negative or non-finite"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            WindowSampler(weight, (1, 1))
    with pytest.raises(InvalidInputError, match="is larger than the volume"):
        WindowSampler(np.ones((2, 2)), (3, 1))


def test_uniform_windows():
    random = np.random.RandomState(0)
    starts = [draw_uniform_window((6, 3), (4, 3), random)[0].start for _ in range(900)]
    np.testing.assert_allclose(np.bincount(starts) / 900, [1 / 3] * 3, atol=0.06)


def volume(seed=0):
    rng = np.random.default_rng(seed)
    shape = (8, 10, 12)
    weight = np.zeros(shape, np.float32)
    weight[:, :, 6:] = 2
    image = MetaTensor(
        torch.as_tensor(rng.random((2, *shape))).float(), affine=torch.diag(torch.tensor([2.0, 1, 1, 1]))
    )
    ids = np.zeros(shape, np.int32)
    ids[0, 0, 0], ids[5, 5, 9], ids[5, 6, 10] = 1, 2, 3
    return {"image": image, "weight": weight[None], "ids": ids[None], "name": "x"}


def test_crops_agree_and_are_labeled_enough():
    crop = RandAcceptedCropd(("image", "weight", "ids"), (4, 5, 6), labeled_key="weight", slack=0, num_samples=8)
    crop.set_random_state(3)
    data = volume()
    results = crop(data)
    assert len(results) == len(crop.windows) == 8
    for result, window in zip(results, crop.windows, strict=True):
        assert result["image"].shape == (2, 4, 5, 6)
        assert (np.asarray(result["weight"]) > 0).mean() > 0.6
        np.testing.assert_array_equal(result["image"], data["image"][(slice(None), *window)])
        np.testing.assert_array_equal(result["weight"], data["weight"][(slice(None), *window)])
        assert result["image"].affine[0, 3] == 2 * window[0].start
        assert result["name"] == "x"
    assert len({str(window) for window in crop.windows}) > 1
    again = RandAcceptedCropd(("image",), (4, 5, 6), labeled_key="weight", slack=0, num_samples=8).set_random_state(3)
    again.randomize(data)
    assert again.windows == crop.windows


def test_instances_and_centers():
    crop = RandAcceptedCropd("ids", (3, 3, 3), "weight", instance_key="ids", min_instances=2, max_tries=2000)
    for seed in range(5):
        (result,) = crop.set_random_state(seed)(volume())
        assert set(np.unique(np.asarray(result["ids"]))) == {0, 2, 3}
    centered = RandAcceptedCropd("ids", (1, 1, 1), center_key="weight", num_samples=50).set_random_state(0)
    centered(volume())
    assert all(window[2].start >= 6 for window in centered.windows)


def test_slack():
    data = volume()
    data["weight"][:] = 0
    crop = RandAcceptedCropd("ids", (2, 2, 2), labeled_key="weight", slack=1)
    assert len(crop(data)) == 1
    strict = RandAcceptedCropd("ids", (2, 2, 2), labeled_key="weight", slack=0, max_tries=7)
    with pytest.raises(InvalidInputError, match=r"none of 7 windows \(2, 2, 2\) of a volume .* labeled share of 0\."):
        strict(data)


def test_the_best_window_is_named():
    crop = RandAcceptedCropd(
        "image", (8, 10, 12), labeled_key="weight", slack=0, instance_key="ids", min_instances=4, max_tries=2
    )
    with pytest.raises(
        InvalidInputError, match=r"0\.6 of it labeled and 4 instances; .* share of 0\.5 and 3 instances"
    ):
        crop(volume())


def test_bad_crops():
    data = volume()
    with pytest.raises(InvalidInputError, match="pad the volume by ReflectPadd"):
        RandAcceptedCropd("image", (9, 2, 2))(data)
    with pytest.raises(InvalidInputError, match="no item 'w'"):
        RandAcceptedCropd("image", (2, 2, 2), center_key="w")(data)
    with pytest.raises(InvalidInputError, match="different spatial shapes"):
        RandAcceptedCropd(("image", "ids"), (2, 2, 2))({**data, "ids": data["ids"][:, 1:]})
    with pytest.raises(InvalidInputError, match=r"spatial_size=\(2, 2\) for volumes"):
        RandAcceptedCropd("image", (2, 2))(data)
    for options, message in (
        ({"min_labeled": 2}, "min_labeled=2"),
        ({"max_tries": 0}, "max_tries=0"),
        ({"min_instances": 1}, "needs instance_key"),
        ({"spatial_size": (0, 1, 1)}, "spatial_size"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            RandAcceptedCropd(**{"keys": "image", "spatial_size": (2, 2, 2), **options})


@pytest.mark.parametrize("size", [(5, 3, 1), (8, 3, 1), (23, 9, 4), (2, 2, 2)])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_reflection_is_that_of_numpy_for_any_size(size, kind):
    array = np.random.default_rng(0).random((2, 5, 3, 1))
    missing = [max(wanted - length, 0) for wanted, length in zip(size, array.shape[1:], strict=True)]
    expected = np.pad(array, [(0, 0), *((m // 2, m - m // 2) for m in missing)], mode="reflect")
    result = ReflectPadd("image", size)({"image": kind(array)})["image"]
    np.testing.assert_array_equal(result, expected)


def test_reflection_moves_the_affine():
    image = MetaTensor(torch.rand(1, 2, 4, 4), affine=torch.diag(torch.tensor([2.0, 1, 1, 1])))
    affine = image.affine.clone()
    result = ReflectPadd("image", (7, 4, 2))({"image": image})["image"]
    assert result.shape == (1, 7, 4, 4)
    assert result.affine[:3, 3].tolist() == [-4, 0, 0]
    assert torch.equal(image.affine, affine)
    with pytest.raises(InvalidInputError, match="'image' has shape"):
        ReflectPadd("image", (2, 2))({"image": image})
    with pytest.raises(InvalidInputError, match="positive integers"):
        ReflectPadd("image", (2, -1))
