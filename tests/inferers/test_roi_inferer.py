"""ROIs of a whole volume by a network, in slabs and as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator

from voxel_ext.engines import prepare_roi_batch
from voxel_ext.errors import InvalidInputError
from voxel_ext.inferers import RoiInferer, roi_inferer, roi_probabilities
from voxel_ext.networks.nets.unet3d import ResidualUNet3D, UNet3D

FIELDS = ("roi_ids", "probabilities", "sizes", "centers", "confident_counts")
SETTINGS = {"in_channels": 2, "out_channels": 5, "f_maps": 4, "num_levels": 2, "num_groups": 2}


def example(size: tuple[int, int, int] = (6, 5, 4)) -> tuple[UNet3D, torch.Tensor, torch.Tensor]:
    """A network that is sure of some voxels, an image, and ROIs that reach over several slices."""
    torch.manual_seed(0)
    network = UNet3D(**SETTINGS).eval()
    with torch.no_grad():
        network.final_conv.weight.mul_(8)
    roi = torch.zeros(1, 1, *size, dtype=torch.int32)
    roi[..., 1:5, 1:4, 0:3], roi[..., 0:3, 0, 0:2], roi[..., 4:, 4, 1:] = 3, 70_000, 8
    return network, torch.randn(1, 2, *size), roi


def assert_same(found: dict[str, torch.Tensor], logits: torch.Tensor, roi: torch.Tensor, **settings: Any) -> None:
    expected = roi_probabilities(logits[0], roi[0, 0], **settings)
    for field in FIELDS:
        assert found[field].shape[0] == 1
        np.testing.assert_allclose(found[field][0], getattr(expected, field), rtol=1e-5, atol=1e-6, err_msg=field)


@pytest.mark.parametrize("slab", [1, 4, 6, 50])
@pytest.mark.parametrize("settings", [{}, {"edge_weight": 0.5, "confident": 0.3}])
def test_slabs_give_the_probabilities_of_the_dense_logits(slab: int, settings: dict[str, float]) -> None:
    network, image, roi = example()
    logits = network(image).detach()
    found = RoiInferer(slab=slab, class_map=True, **settings)(image, network, roi)
    assert_same(found, logits, roi, **settings)
    assert found["confident_counts"].any()
    assert found["roi_ids"].tolist() == [[3, 8, 70_000]]
    assert found["class_map"].shape == roi.shape
    assert found["class_map"].dtype == torch.int64
    assert len(found["class_map"].unique()) > 2
    assert torch.equal(found["class_map"], logits.argmax(1, keepdim=True))


def test_the_class_map_is_made_on_demand_and_nothing_has_a_gradient() -> None:
    network, image, roi = example()
    found = RoiInferer()(image.requires_grad_(), network, roi)
    assert set(found) == set(FIELDS)
    assert found["probabilities"].dtype == torch.float64
    assert not any(value.requires_grad for value in found.values())


@pytest.mark.parametrize("class_map", [False, True])
def test_the_dense_logits_are_never_made(class_map: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    network, image, roi = example()
    voxels: list[int] = []
    plain = roi_inferer.final_logits
    monkeypatch.setattr(roi_inferer, "final_logits", lambda net, rows: voxels.append(len(rows)) or plain(net, rows))
    RoiInferer(slab=2, class_map=class_map)(image, network, roi)
    assert len(voxels) == 3
    assert sum(voxels) == (roi.numel() if class_map else int((roi > 0).sum()))


@pytest.mark.parametrize("kind", ["residual", "function", "arguments"])
def test_other_networks_run_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, image, roi = example()
    monkeypatch.setattr(roi_inferer, "stream_features", lambda *_: pytest.fail("not to be computed in slabs"))
    if kind == "residual":
        residual = ResidualUNet3D(**SETTINGS).eval()
        assert_same(RoiInferer()(image, residual, roi), residual(image).detach(), roi)
    elif kind == "function":
        assert_same(RoiInferer()(image, lambda x: 2 * network(x), roi), 2 * network(image).detach(), roi)
    else:
        found = RoiInferer()(image, lambda x, factor, *, shift: factor * network(x) + shift, roi, 3, shift=image[:, :1])
        assert_same(found, 3 * network(image).detach() + image[:, :1], roi)


def test_in_an_evaluator() -> None:
    network, image, roi = example()
    batch = {"image": MetaTensor(image), "roi": MetaTensor(roi)}
    evaluator = SupervisedEvaluator(
        torch.device("cpu"), [batch], network, prepare_batch=prepare_roi_batch, inferer=RoiInferer(2), decollate=False
    )
    evaluator.run()
    assert isinstance(evaluator.state.output, dict)
    assert_same(evaluator.state.output["pred"], network(image).detach(), roi)


def test_bad_input() -> None:
    network, image, roi = example()
    with pytest.raises(InvalidInputError, match="slab=0: expected at least one slice"):
        RoiInferer(slab=0)
    for wrong in (
        (image.repeat(2, 1, 1, 1, 1), network, roi.repeat(2, 1, 1, 1, 1)),
        (image, network, roi[..., 1:]),
        (image, network, roi[0]),
    ):
        with pytest.raises(InvalidInputError, match=r"one volume at a time"):
            RoiInferer()(*wrong)
    with pytest.raises(InvalidInputError, match="in training mode"):
        RoiInferer()(image, network.train(), roi)
    with pytest.raises(InvalidInputError, match="has no ROI"):
        RoiInferer()(image, network.eval(), roi * 0)
