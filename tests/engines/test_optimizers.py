import pytest
import torch

from voxel_ext.engines import build_optimizer
from voxel_ext.errors import InvalidInputError


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("rmsprop", torch.optim.RMSprop),
        ("sgd", torch.optim.SGD),
    ],
)
def test_kind_and_settings(name, kind):
    network = torch.nn.Linear(2, 2)
    network.bias.requires_grad = False
    optimizer = build_optimizer(name, network, learning_rate=0.5, weight_decay=0.25)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    assert group["params"] == [network.weight]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "Adam"}, r"optimizer_name='Adam' is not known; expected one of 'adam', 'adamw', 'rmsprop', 'sgd'"),
        ({"name": "adam", "learning_rate": 0}, "learning_rate=0 must be a positive number"),
        ({"name": "adam", "learning_rate": float("nan")}, "learning_rate=nan"),
        ({"name": "adam", "weight_decay": -1}, "weight_decay=-1"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        build_optimizer(network=torch.nn.Linear(1, 1), **arguments)


def test_other_parameters_are_trained_without_decay():
    net, loss = torch.nn.Linear(2, 1), torch.nn.ParameterList([torch.ones(2)])
    groups = build_optimizer("adamw", net, 1e-2, 0.5, undecayed=loss).param_groups
    assert [(len(group["params"]), group["lr"], group["weight_decay"]) for group in groups] == [
        (2, 1e-2, 0.5),
        (1, 1e-2, 0.0),
    ]
    assert len(build_optimizer("adamw", net, 1e-2, 0.5, undecayed=torch.nn.ReLU()).param_groups) == 1


def test_nesterov_momentum():
    optimizer = build_optimizer("nesterov", torch.nn.Linear(2, 1), 1e-2)
    assert isinstance(optimizer, torch.optim.SGD)
    assert (optimizer.defaults["momentum"], optimizer.defaults["nesterov"]) == (0.99, True)
