import functools
import json
import pickle

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import Flipd
from tiny_volumes import TinyVolumes, tiny

from voxel_ext.data import SyntheticDataset, SyntheticVolumes
from voxel_ext.data.synthetic_volumes import describe_generator
from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic import OpticLobe, OpticLobe2D


@pytest.mark.parametrize("generator", [TinyVolumes, "tiny_volumes.TinyVolumes"])
def test_wrapper_calls_the_class(generator):
    wrapped = pickle.loads(pickle.dumps(SyntheticVolumes(generator=generator, brightness=3.0)))
    assert np.array_equal(wrapped(5)["image"], TinyVolumes(5, brightness=3.0).generate()["image"])


def test_wrapper_refuses_early():
    with pytest.raises(InvalidInputError, match=r"no generator 'tiny_volumes\.Nothing'"):
        SyntheticVolumes("tiny_volumes.Nothing")
    with pytest.raises(InvalidInputError, match=r"no generator 'nowhere'.*expected a dotted name such as"):
        SyntheticVolumes("nowhere")
    with pytest.raises(InvalidInputError, match=r"'sise'; it is TinyVolumes\(seed=0, size=\(5, 6, 7\)"):
        SyntheticVolumes(TinyVolumes, sise=3)


def test_descriptions_tell_generators_apart():
    wrapped = SyntheticVolumes(TinyVolumes, size=(3, 4, 5))
    assert describe_generator(wrapped) == {"name": "tiny_volumes.TinyVolumes", "options": {"size": (3, 4, 5)}}
    assert describe_generator(tiny) == {"name": "tiny_volumes.tiny", "options": {}}
    partial = functools.partial(functools.partial(tiny, 1), brightness=2)
    assert describe_generator(partial) == {"name": "tiny_volumes.tiny", "options": {"0": 1, "brightness": 2}}


@pytest.mark.parametrize(("kind", "rank"), [(OpticLobe, 3), (OpticLobe2D, 2)])
def test_description_has_what_the_volumes_depend_on(kind, rank):
    described = describe_generator(SyntheticVolumes(kind, size=96))
    assert described == describe_generator(SyntheticVolumes(kind, size=[96] * rank))
    assert described["options"]["size"] == [96] * rank
    assert "scale_range" in described["options"]
    assert not {"seed", "threads"} & set(described["options"])
    assert json.loads(json.dumps(described)) == described
    assert described != describe_generator(SyntheticVolumes(kind, size=97))
    with pytest.raises(InvalidInputError, match="size=3"):
        describe_generator(SyntheticVolumes(kind, size=3))


def test_number_of_threads_is_no_setting():
    described = [describe_generator(SyntheticVolumes(OpticLobe, threads=threads)) for threads in (1, 2)]
    assert described[0] == described[1]


def test_items_are_volumes_of_consecutive_seeds():
    data = SyntheticDataset(tiny, length=3, seed=10)
    assert len(data) == 3
    for i, item in enumerate(data):
        expected = tiny(10 + i)
        assert set(item) == {"image", "label"}
        for key in item:
            assert isinstance(item[key], MetaTensor)
            assert item[key].dtype == torch.float32
            assert np.array_equal(item[key].numpy(), expected[key][None])
    assert item["image"].meta["filename_or_obj"] == "synthetic_000012"
    with pytest.raises(IndexError, match="item 3 of 3"):
        data[3]


def test_transform_and_worker_processes():
    data = SyntheticDataset(tiny, 4, transform=Flipd("image", 0))
    assert np.array_equal(data[1]["image"].numpy(), tiny(1)["image"][None, ::-1])
    batches = [[b["image"] for b in DataLoader(data, batch_size=2, num_workers=n)] for n in (0, 2)]
    assert torch.equal(torch.cat(batches[0]), torch.cat(batches[1]))
    assert torch.cat(batches[0]).shape == (4, 1, 5, 6, 7)


def test_two_dimensions_without_label():
    item = SyntheticDataset(lambda seed: {"image": np.full((4, 5), seed)}, 1, seed=7)[0]
    assert list(item) == ["image"]
    assert item["image"].shape == (1, 4, 5)
    assert (item["image"] == 7).all()


def test_bad_input():
    with pytest.raises(InvalidInputError, match="length=0"):
        SyntheticDataset(tiny, 0)
    with pytest.raises(InvalidInputError, match="seed=-1"):
        SyntheticDataset(tiny, 1, -1)
    with pytest.raises(InvalidInputError, match=r"gave no 'image' but \['picture'\]"):
        SyntheticDataset(lambda _: {"picture": 1}, 1)[0]
