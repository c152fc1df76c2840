from itertools import product

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.transforms import Lambdad, RandFlipd

from voxel_ext.data import GridPatches
from voxel_ext.errors import InvalidInputError

SIZE = (4, 5, 6)


def volume(seed: int = 0, shape: tuple[int, ...] = (9, 10, 15)) -> dict:
    """Every voxel of the image has its own value; the left half is labeled; eight instances of one voxel."""
    random = np.random.default_rng(seed)
    weight = np.zeros((1, *shape), np.float32)
    weight[..., : shape[2] // 2] = random.uniform(1, 2, (1, *shape[:2], shape[2] // 2))
    ids = np.zeros(shape, np.int32)
    ids.flat[random.choice(ids.size, 8, replace=False)] = np.arange(1, 9)
    values = torch.arange(float(ids.size)).reshape(1, *shape) + 10_000 * seed
    return {"image": MetaTensor(values), "weight": torch.from_numpy(weight), "ids": ids[None], "name": "v"}


def grid(shape: tuple[int, ...], size: tuple[int, ...], stride: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """By definition: multiples of the stride as long as the patch fits, and the place flush with the border."""
    starts = [
        sorted({*range(0, length - width + 1, step), length - width})
        for length, width, step in zip(shape, size, stride, strict=True)
    ]
    return [tuple(slice(a, a + n) for a, n in zip(start, size, strict=True)) for start in product(*starts)]


@pytest.mark.parametrize("stride", [None, SIZE, (1, 5, 4), 3])
def test_all_patches_of_all_volumes(stride):
    volumes = [volume(0), volume(1, (4, 7, 6))]
    patches = GridPatches(volumes, ("image", "weight"), SIZE, stride, progress=False)
    steps = {None: (2, 2, 3), 3: (3, 3, 3)}.get(stride, stride)
    places = [grid(v["image"].shape[1:], SIZE, steps) for v in volumes]
    assert patches.patches == [(i, window) for i in (0, 1) for window in places[i]]
    assert len(patches) == len(places[0]) + len(places[1])
    for (index, window), patch in zip(patches.patches, patches, strict=True):
        assert set(patch) == {"image", "weight"}
        for key, value in patch.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(volumes[index][key][(slice(None), *window)]))
    seen = torch.cat([patch["image"].flatten() for patch in patches]).unique()
    assert torch.equal(seen, torch.cat([v["image"].flatten() for v in volumes]).unique())  # every voxel of both


def test_an_axis_of_one_voxel_has_a_step_of_one():
    assert len(GridPatches([volume()], "image", (1, 10, 15), progress=False)) == 9


@pytest.mark.parametrize(("min_labeled", "least"), [(0.6, 0), (0.0, 0), (0.3, 2), (0.0, 3)])
def test_patches_are_those_labeled_enough_with_enough_instances(min_labeled, least):
    data = volume(3)
    ids = "ids" if least else None
    options = {"min_labeled": min_labeled, "slack": 0, "instance_key": ids, "min_instances": least}
    patches = GridPatches([data], "image", SIZE, (1, 1, 1), labeled_key="weight", progress=False, **options)
    every = grid((9, 10, 15), SIZE, (1, 1, 1))
    expected = [
        window
        for window in every
        if (data["weight"][0][window] != 0).sum() > min_labeled * 120
        and len(set(data["ids"][0][window].ravel()) - {0}) >= least
    ]
    assert [window for _, window in patches.patches] == expected
    assert 0 < len(expected) < len(every)


def test_the_labels_own_value_tells_what_is_not_labeled():
    label = torch.full((1, 4, 4, 8), -1.0)
    label[..., 4:] = 0
    patches = GridPatches(
        [{"label": label}], "label", (4, 4, 4), 4, labeled_key="label", ignore_value=-1, slack=0, progress=False
    )
    assert [window[2].start for _, window in patches.patches] == [4]


def test_slack_takes_its_share_of_the_others_and_repeats():
    data = volume(shape=(14, 15, 16))

    def chosen(slack: float, seed: int = 0) -> list:
        options = {"labeled_key": "weight", "min_labeled": 0.99, "slack": slack, "seed": seed, "progress": False}
        return GridPatches([data], "image", SIZE, 1, **options).patches

    strict, every = chosen(0), grid((14, 15, 16), SIZE, (1, 1, 1))
    some = chosen(0.2)
    assert {str(place) for place in strict} < {str(place) for place in some}
    others = len(every) - len(strict)
    share = (len(some) - len(strict)) / others
    assert abs(share - 0.2) < 4 * (0.2 * 0.8 / others) ** 0.5  # four standard deviations of a binomial share
    assert chosen(0.2) == some
    assert chosen(0.2, seed=1) != some
    assert len(chosen(1)) == len(every)


def test_transforms_get_copies_and_loaders_can_shuffle():
    def spoil(image):
        image += 1000
        return image

    volumes = CacheDataset([volume(0), volume(1)], transform=Lambdad("image", lambda x: x), progress=False)
    patches = GridPatches(
        volumes, "image", SIZE, SIZE, [Lambdad("image", spoil), RandFlipd("image", prob=0.5)], progress=False
    )
    before = len(volumes[1]["image"].applied_operations)
    loader = DataLoader(patches, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(0))
    assert len(loader) == -(-len(patches) // 4) > 5
    for _ in range(2):
        batches = [batch["image"] for batch in loader]
        assert sum(map(len, batches)) == len(patches)
        seen = torch.cat([batch.flatten() for batch in batches]).unique()
        expected = torch.cat([volume(i)["image"].flatten() for i in (0, 1)]).unique() + 1000
        assert torch.equal(torch.as_tensor(seen), torch.as_tensor(expected))
    assert torch.equal(volumes[1]["image"], volume(1)["image"])
    assert len(volumes[1]["image"].applied_operations) == before
    parts = [batch["image"][:, 0, 0, 0, 0] for batch in loader]
    assert torch.cat(parts).tolist() != sorted(torch.cat(parts).tolist())


def test_bad_input():
    data = volume()
    none = volume(1)
    none["weight"][:] = 0
    none["weight"][0, 0, 0, :3] = 1  # 3 of the 120 voxels of a patch
    none["image"].meta["filename_or_obj"] = "b.h5"
    cases = [
        (
            [data, none],
            {},
            r"none of the \d+ patches \(4, 5, 6\) of b\.h5 with shape \(9, 10, 15\), \(2, 2, 3\) apart, has",
        ),
        ([data, none], {}, r"has more than 0\.6 of it labeled; the best has a labeled share of 0\.025\. Lower"),
        ([data], {"instance_key": "ids", "min_instances": 9}, "and 9 instances; .* share of .* and [2-8] instances"),
        ([], {}, "there are no volumes"),
        ([data], {"stride": (5, 5, 5)}, r"stride=\(5, 5, 5\) is larger than patch_size"),
        ([data], {"patch_size": (10, 5, 6)}, "pad the volume by ReflectPadd"),
        ([data], {"keys": "mask"}, "no item 'mask'"),
        ([{**data, "weight": data["weight"][:, 1:]}], {}, "different spatial shapes"),
        ([data], {"min_labeled": 1.5}, "min_labeled=1.5"),
        ([data], {"min_instances": 2}, "needs instance_key"),
    ]
    for volumes, options, message in cases:
        settings = {"keys": "image", "patch_size": SIZE, "labeled_key": "weight", "slack": 0, "progress": False}
        with pytest.raises(InvalidInputError, match=message):
            GridPatches(volumes, **(settings | options))
