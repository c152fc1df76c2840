"""Clipping and logging of gradients."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import GradientHandler


def network(*gradients):
    net = torch.nn.ParameterList([torch.zeros(len(g)) for g in gradients])
    for parameter, gradient in zip(net, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    net.append(torch.zeros(2))  # without a gradient
    return net


def engine(iteration=1, **settings):
    return SimpleNamespace(state=SimpleNamespace(iteration=iteration), **settings)


@pytest.mark.parametrize(("max_norm", "factor"), [(1.0, 0.2), (10.0, 1.0), (None, 1.0)])
def test_the_norm_over_all_parameters_is_clipped(max_norm, factor):
    net = network([3.0, 0.0], [4.0])  # norm 5
    GradientHandler(net, max_norm)(engine())
    torch.testing.assert_close(net[0].grad, factor * torch.tensor([3.0, 0.0]))
    torch.testing.assert_close(net[1].grad, factor * torch.tensor([4.0]))
    assert net[2].grad is None


def test_without_clipping_infinite_gradients_stay_as_they_are():
    net = network([float("inf"), 1.0])
    GradientHandler(net, None)(engine())
    assert net[0].grad.tolist() == [float("inf"), 1.0]


def test_scaled_gradients_are_unscaled_first():
    net = network([30.0, 40.0])

    def unscale(optimizer):
        assert optimizer == "optimizer"
        net[0].grad /= 10

    GradientHandler(net, 1.0)(engine(scaler=SimpleNamespace(unscale_=unscale), optimizer="optimizer"))
    torch.testing.assert_close(net[0].grad, torch.tensor([0.6, 0.8]))


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(folder), {"histograms": 0})
    log.Reload()
    return log


def train(log_dir, **settings):
    torch.manual_seed(0)
    net = torch.nn.Linear(2, 1)
    data = [{"image": torch.full((2,), float(i)), "label": torch.full((1,), 9.0)} for i in range(4)]
    norms = []
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=torch.utils.data.DataLoader(data, batch_size=1),
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), 0.01),
        loss_function=torch.nn.MSELoss(),
        decollate=False,
        train_handlers=[GradientHandler(net, 0.5, log_dir=log_dir, **settings)],
    )

    def note(_engine):
        norms.append(torch.cat([p.grad.flatten() for p in net.parameters()]).norm().item())

    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    return norms


def test_a_trainer_steps_with_clipped_gradients_and_logs_the_norm_before(tmp_path):
    norms = train(tmp_path, loss=SimpleNamespace(last_gradient_share=0.25), histograms=2)
    assert norms == pytest.approx([0.5] * 4, rel=1e-4)
    log = read(tmp_path)  # complete when the training ends
    assert [event.step for event in log.Scalars("gradient_norm")] == [1, 2, 3, 4]
    assert min(event.value for event in log.Scalars("gradient_norm")) > 1
    assert [event.value for event in log.Scalars("gradient_share")] == [0.25] * 4
    assert [event.step for event in log.Histograms("gradient/weight")] == [2, 4]


def test_nothing_is_logged_without_a_folder_or_of_a_loss_that_has_no_share(tmp_path):
    train(tmp_path / "log", loss=torch.nn.MSELoss())
    assert read(tmp_path / "log").Tags()["scalars"] == ["gradient_norm"]
    before = sorted(tmp_path.rglob("*"))
    train(None)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_limit_that_is_not_positive_is_refused(value):
    with pytest.raises(InvalidInputError, match="gradient_clip="):
        GradientHandler(torch.nn.Linear(1, 1), value)
