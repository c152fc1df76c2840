"""What an engine gives to its network, loss and inferer."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer

from voxel_ext.engines import TargetBatch, prepare_roi_batch, prepare_weighted_batch
from voxel_ext.errors import InvalidInputError
from voxel_ext.losses import neuron_loss


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": MetaTensor(torch.randn(2, 1, 3, 4, 5, generator=generator)),
        "label": torch.randint(0, 2, (2, 1, 3, 4, 5), generator=generator),
        "weight": torch.rand(2, 1, 3, 4, 5, generator=generator),
        "roi": torch.randint(0, 9, (2, 1, 3, 4, 5), generator=generator),
    }


def test_weighted_batch() -> None:
    items = batch()
    image, (label, weight) = prepare_weighted_batch(items)
    for given, name in ((image, "image"), (label, "label"), (weight, "weight")):
        assert torch.equal(given, items[name])
        assert given.dtype == items[name].dtype


def test_roi_batch() -> None:
    items = batch()
    image, label, args, kwargs = prepare_roi_batch(items)
    assert label is not None
    assert torch.equal(image, items["image"])
    assert torch.equal(label, items["label"])
    assert args == ()
    assert list(kwargs) == ["roi"]
    assert torch.equal(kwargs["roi"], items["roi"])
    del items["label"]
    assert prepare_roi_batch(items)[1] is None


def test_all_go_to_the_device() -> None:
    items = batch()
    image, (label, weight) = prepare_weighted_batch(items, torch.device("meta"), non_blocking=True)
    moved, other, _, kwargs = prepare_roi_batch(items, "meta")
    assert other is not None
    assert {tensor.device.type for tensor in (image, label, weight, moved, other, kwargs["roi"])} == {"meta"}


def test_arguments_of_the_image_leave_the_roi_ids_as_they_are() -> None:
    image, _, _, kwargs = prepare_roi_batch(batch(), dtype=torch.float16)
    assert image.dtype == torch.float16
    assert kwargs["roi"].dtype == torch.int64


@pytest.mark.parametrize("key", ["image", "label", "weight", "roi"])
def test_a_missing_item_is_named(key: str) -> None:
    items = batch()
    del items[key]
    prepare = prepare_roi_batch if key == "roi" else prepare_weighted_batch
    with pytest.raises(InvalidInputError, match=rf"the batch has no '{key}'; its keys are \['"):
        prepare(items)


def test_a_trainer_weighs_its_voxels() -> None:
    """Where the weight is 0, the label has no influence on the step."""
    items = batch()
    items["weight"][:, :, 0] = 0
    other = {**items, "label": items["label"].clone()}
    other["label"][:, :, 0] = 1 - other["label"][:, :, 0]
    moved = {**items, "label": 1 - items["label"]}
    steps = []
    for one in (items, other, moved):
        torch.manual_seed(0)
        network = torch.nn.Conv3d(1, 2, 1)
        SupervisedTrainer(
            torch.device("cpu"),
            1,
            [one],
            network,
            torch.optim.SGD(network.parameters(), 1.0),
            neuron_loss("pixel_wise_cross_entropy"),
            prepare_batch=prepare_weighted_batch,
            decollate=False,
        ).run()
        steps.append(network.weight.detach().clone())
    assert torch.equal(steps[0], steps[1])
    assert not torch.allclose(steps[0], steps[2])


def test_targets_by_name():
    batch = {"image": torch.zeros(1, 1, 2, 2, 2), "sheet": torch.ones(1, 1, 2, 2, 2), "name": ["a"]}
    image, targets = TargetBatch(["sheet"])(batch, torch.device("cpu"))
    assert image is batch["image"]
    assert list(targets) == ["sheet"]
    assert torch.equal(targets["sheet"], batch["sheet"])
    with pytest.raises(InvalidInputError, match="no 'normals'"):
        TargetBatch(["sheet", "normals"])(batch)
