"""Starting a matching network from the trunk of an autoencoder."""

from __future__ import annotations

import copy

import pytest
import torch

from voxel_ext.errors import CheckpointError, MissingDataError
from voxel_ext.handlers import load_trunk, save_checkpoint
from voxel_ext.networks.nets import GroupAutoEncoder, GroupUNet, matching_network

TRUNK = {"group": "C2:x", "features": (2, 3), "dilated": False}


def autoencoder(cls=GroupAutoEncoder, **settings):
    torch.manual_seed(1)
    return cls(**{**TRUNK, **settings})


def matcher(inputs="both", **settings):
    torch.manual_seed(2)
    small = {"hidden": 5, "grid": 2, "out_features": 4, "attention_layers": 1, "attention_width": 24}
    return matching_network(inputs, feature_mode="oriented", **{**small, **TRUNK, **settings})


def trunk_of(network):
    state = getattr(network, "encoder", network).trunk.state_dict()
    assert state
    return state


def same(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.parametrize("key", [None, "network", "model", "state_dict"])
@pytest.mark.parametrize("cls", [GroupAutoEncoder, GroupUNet])
def test_the_trunk_is_loaded_and_the_rest_kept(tmp_path, cls, key):
    source, target = autoencoder(cls), matcher()
    before = copy.deepcopy(target)
    assert not same(trunk_of(target), trunk_of(source))
    state = source.state_dict()
    save_checkpoint(tmp_path / "a.pt", state if key is None else {key: state, "epoch": 3})
    assert load_trunk(tmp_path / "a.pt", target) is target
    assert same(trunk_of(target), trunk_of(source))
    for name, value in before.state_dict().items():
        if ".trunk." not in name:
            assert torch.equal(target.state_dict()[name], value), name


def test_the_maps_of_the_encoder_are_those_of_the_autoencoder(tmp_path):
    source, target = autoencoder().eval(), matcher().eval()
    save_checkpoint(tmp_path / "a.pt", source.state_dict())
    load_trunk(tmp_path / "a.pt", target)
    x = torch.randn(2, 1, 8, 8, 8)
    with torch.no_grad():
        for a, b in zip(target.encoder.trunk(x), source.trunk(x), strict=True):
            assert torch.equal(a, b)


def test_other_sources_and_targets(tmp_path):
    source = matcher()
    save_checkpoint(tmp_path / "matcher.pt", source.state_dict())
    levels = matcher("cubes", attention_layers=0, feature_levels=[0])
    wrapped = torch.nn.DataParallel(matcher())
    encoder = matcher().encoder
    for target, inside in ((levels, levels), (wrapped, wrapped.module), (encoder, encoder), (autoencoder(), None)):
        load_trunk(tmp_path / "matcher.pt", target)
        assert same(trunk_of(inside or target), trunk_of(source))


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path):
    target = matcher()
    before = copy.deepcopy(target.state_dict())
    save_checkpoint(tmp_path / "wide.pt", autoencoder(features=(2, 4)).state_dict())
    with pytest.raises(CheckpointError, match=r"wide\.pt is a checkpoint of another architecture .*of another shape"):
        load_trunk(tmp_path / "wide.pt", target)
    save_checkpoint(tmp_path / "deep.pt", autoencoder(features=(2, 3, 3)).state_dict())
    with pytest.raises(CheckpointError, match=r"deep\.pt .*unexpected"):
        load_trunk(tmp_path / "deep.pt", target)
    save_checkpoint(tmp_path / "other.pt", torch.nn.Linear(2, 2).state_dict())
    with pytest.raises(CheckpointError, match=r"other\.pt has no parameters named trunk"):
        load_trunk(tmp_path / "other.pt", target)
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(CheckpointError, match=r"text\.pt cannot be read"):
        load_trunk(tmp_path / "text.pt", target)
    with pytest.raises(MissingDataError, match=r"nothing\.pt"):
        load_trunk(tmp_path / "nothing.pt", target)
    assert same(target.state_dict(), before)


def test_a_network_without_an_encoder_of_cubes_is_refused(tmp_path):
    save_checkpoint(tmp_path / "a.pt", autoencoder().state_dict())
    with pytest.raises(CheckpointError, match="the network MatchingNet has no part named trunk"):
        load_trunk(tmp_path / "a.pt", matcher("positions"))
