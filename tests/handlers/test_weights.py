import pytest
import torch

from voxel_ext.errors import CheckpointError, MissingDataError
from voxel_ext.handlers import load_weights, read_checkpoint, save_checkpoint


def network(width: int = 4) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv2d(1, width, 3), torch.nn.BatchNorm2d(width))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"network": s}, lambda s: {"model": s, "epoch": 3}])
def test_weights_come_back(tmp_path, wrap):
    source, target = network(), network()
    save_checkpoint(tmp_path / "model.pt", wrap(source.state_dict()))
    load_weights(tmp_path / "model.pt", target)
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())


def test_weights_of_a_distributed_wrapper_are_those_of_the_network(tmp_path):
    source = network()
    save_checkpoint(tmp_path / "model.pt", source.state_dict())
    wrapped = torch.nn.DataParallel(network())
    load_weights(tmp_path / "model.pt", wrapped)
    assert torch.equal(wrapped.module[0].weight, source[0].weight)


def test_other_architecture_says_what_differs_and_changes_nothing(tmp_path):
    save_checkpoint(tmp_path / "model.pt", network(8).state_dict())
    target = network()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"of another shape: 0.weight is \(8, 1, 3, 3\), expected \(4, 1, 3, 3\)"):
        load_weights(tmp_path / "model.pt", target)
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())
    save_checkpoint(tmp_path / "model.pt", {"encoder": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"7 missing: 0.weight.*1 unexpected: encoder"):
        load_weights(tmp_path / "model.pt", target)


def test_pickled_code_is_refused(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"network": network()}, path)
    with pytest.raises(CheckpointError, match="would execute code to be read"):
        read_checkpoint(path)


def test_file_without_weights(tmp_path):
    save_checkpoint(tmp_path / "model.pt", {"epoch": 3})
    with pytest.raises(CheckpointError, match=r"holds no network weights \(found 'epoch'\)"):
        load_weights(tmp_path / "model.pt", network())
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        read_checkpoint(tmp_path / "list.pt")
    with pytest.raises(MissingDataError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "none.pt")


def test_every_truncation_is_a_checkpoint_error(tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(path, network().state_dict())
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
