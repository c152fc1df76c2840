import pytest
import torch
from ignite.engine import Engine
from monai.metrics import SSIMMetric

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import shape_metrics
from voxel_ext.losses import VAELoss, gaussian_kl


def measure(contents, channels, loss=None, **options):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.rand(*shape, generator=generator)

    def batch(count):
        image = draw(count, channels, 8, 8, 8)
        pred = {"reconstruction": (image + 0.3 * draw(*image.shape)).clamp(0, 1)}
        return {"label": image, "pred": pred | {"mean": draw(count, 3), "log_variance": draw(count, 3)}}

    data = [batch(3), batch(2)]
    engine = Engine(lambda _engine, item: item)
    for name, metric in shape_metrics(contents, loss, **options).items():
        metric.attach(engine, name)
    engine.run(data)
    whole = {key: torch.cat([item["pred"][key] for item in data]) for key in data[0]["pred"]}
    return engine.state.metrics, whole, torch.cat([item["label"] for item in data])


def test_means_over_all_cubes():
    metrics, pred, image = measure("both", 2, VAELoss("bce", 0.01, "constant"))
    restored = pred["reconstruction"]
    assert metrics["val_l1"] == pytest.approx((restored - image).abs().mean().item(), rel=1e-5)
    assert metrics["val_ssim"] == pytest.approx(SSIMMetric(3, win_size=7)(restored, image).mean().item(), rel=1e-4)
    divergence = gaussian_kl(pred["mean"], pred["log_variance"]).mean().item()
    assert metrics["val_kl_loss"] == pytest.approx(divergence, rel=1e-5)
    true, found = image[:, 0] > 0.5, restored[:, 0] > 0.5
    dice = 2 * (true & found).sum((1, 2, 3)) / (true.sum((1, 2, 3)) + found.sum((1, 2, 3)))
    assert metrics["val_dice"] == pytest.approx(dice.mean().item(), rel=1e-5)
    bce = torch.nn.functional.binary_cross_entropy(restored, image).item()
    assert metrics["val_loss"] == pytest.approx(bce + 0.01 * divergence, rel=1e-4)


def test_no_dice_without_a_mask_and_no_loss_unless_given():
    metrics, _, _ = measure("masked_image", 1, prefix="")
    assert set(metrics) == {"ssim", "l1", "kl_loss"}
    with pytest.raises(InvalidInputError, match="contents='masks'"):
        shape_metrics("masks")
