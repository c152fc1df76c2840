"""Batches of two views, the features of objects, and the checks before a training."""

import itertools
import logging

import h5py
import numpy as np
import pytest
import torch

from voxel_ext.data import ObjectDataset
from voxel_ext.engines import (
    check_batch_size,
    check_key_metric,
    classes_known,
    prepare_two_views,
    scaled_learning_rate,
)
from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.nets import FeatureNetwork, SimSiam


def tiny_network() -> SimSiam:
    torch.manual_seed(0)
    return SimSiam(1, "resnet10", 1 / 64, stem_size=3, stem_pool=False, projector_size=6, predictor_size=4).eval()


def objects(tmp_path, count=10, channels=1, classes=None, **options) -> ObjectDataset:
    path = tmp_path / "objects.h5"
    with h5py.File(path, "w") as file:
        file["volumes"] = np.zeros((count, channels, 8, 8, 8), np.float16)
        file["id"] = np.arange(1, count + 1)
        file["chunk"] = np.zeros(count, np.int64)
        file["scale"] = np.ones(count)
        if classes is not None:
            file["class"] = np.asarray(classes, np.int64)
    return ObjectDataset(path, **options)


def test_batches_of_two_views():
    batch = {"view1": torch.rand(2, 1, 4, 4, 4), "view2": torch.rand(2, 1, 4, 4, 4), "id": torch.tensor([1, 2])}
    first, label, args, kwargs = prepare_two_views(batch, torch.device("cpu"))
    assert torch.equal(first, batch["view1"])
    assert label is None
    assert torch.equal(args[0], batch["view2"])
    assert kwargs == {}
    with pytest.raises(InvalidInputError, match="no 'view2'"):
        prepare_two_views({"view1": batch["view1"]})


def test_layers():
    network, image = tiny_network(), torch.rand(3, 1, 12, 12, 12)
    with torch.no_grad():
        assert torch.equal(FeatureNetwork(network)(image), network.encode(image))
        assert torch.equal(FeatureNetwork(network, "projector")(image), network.project(image))
    with pytest.raises(InvalidInputError, match="feature_layer='predictor'"):
        FeatureNetwork(network, "predictor")


def test_the_mean_over_turns_is_invariant():
    network, image = tiny_network(), torch.rand(2, 1, 10, 10, 10)
    turned = image.transpose(2, 3).flip(2)
    averaged, plain = FeatureNetwork(network, turns=True), FeatureNetwork(network)
    with torch.no_grad():
        torch.testing.assert_close(averaged(turned), averaged(image))
        assert (plain(turned) - plain(image)).abs().max() > 1e-4
        every = []
        for axes in itertools.permutations((2, 3, 4)):
            for flips in itertools.product((False, True), repeat=3):
                parity = sum(a > b for a, b in itertools.combinations(axes, 2)) + sum(flips)
                if parity % 2 == 0:
                    moved = image.permute(0, 1, *axes).flip([axis + 2 for axis in range(3) if flips[axis]])
                    every.append(network.encode(moved))
        assert len(every) == 24
        torch.testing.assert_close(averaged(image), torch.stack(every).mean(0))


def test_learning_rate():
    assert scaled_learning_rate(0.05, 512, True) == pytest.approx(0.1)
    assert scaled_learning_rate(0.05, 512, False) == 0.05


def test_refused_batch_sizes(tmp_path):
    data = objects(tmp_path)
    check_batch_size(data, 10)
    check_batch_size(data, 64, "val_batch_size", drop_last=False)
    check_batch_size(data, 5, processes=2)
    for size in (0, 1, 2.0, True):
        with pytest.raises(InvalidInputError, match="at least 2"):
            check_batch_size(data, size)
    with pytest.raises(InvalidInputError, match=r"10 cubes .* batch_size=11 .* a smaller batch_size"):
        check_batch_size(data, 11)
    with pytest.raises(InvalidInputError, match="2 processes needs at least 12"):
        check_batch_size(data, 6, processes=2)
    single = objects(tmp_path, count=1)
    with pytest.raises(InvalidInputError, match=r"1 cubes .* needs at least 2; give more objects"):
        check_batch_size(single, 64, "val_batch_size", drop_last=False)


def test_key_metrics():
    for name, known in (("val_agreement", False), ("val_agreement", True), ("knn_accuracy", True)):
        check_key_metric(name, known)
    with pytest.raises(InvalidInputError, match=r"key_metric_name='knn_accuracy', but too few .* 'val_agreement'"):
        check_key_metric("knn_accuracy", False)
    with pytest.raises(InvalidInputError, match=r"key_metric_name='val_loss'.*'knn_accuracy'"):
        check_key_metric("val_loss", True)


def test_known_classes(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    data = objects(tmp_path, classes=[0, 1] * 5)
    assert classes_known(data, data, 5)
    assert not caplog.records
    assert not classes_known(data, data, 11)
    assert "without the accuracy" in caplog.text
    assert not classes_known(objects(tmp_path, classes=[-1] * 10), data, 5)
    assert not classes_known(objects(tmp_path), data, 5)
