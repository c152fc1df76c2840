import h5py
import numpy as np
import pytest

from voxel_ext.data import datalists
from voxel_ext.data.neuron_synthetic import label_part, prepare_synthetic_neurons
from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.label.instance_gaps import instances_to_sparse_labels
from voxel_ext.transforms.label.sparse_labels import sparse_label_weights


class Heads:
    """Two channels, boxes of neurons on a grid."""

    def __init__(self, seed=0, size=(8, 16, 24)):
        self.seed, self.size = seed, size

    def generate(self):
        label = np.zeros(self.size, np.uint16)
        for number, place in enumerate(np.ndindex(2, 4, 6)):
            z, y, x = np.multiply(place, 4)
            label[z : z + 3, y : y + 3, x : x + 4] = number + 1
        image = np.random.default_rng(self.seed).random((2, *self.size))
        return {"image": image, "label": label}


def prepare(folder, **options):
    options = {"volumes": 2, "validation_volumes": 1, "size": (8, 16, 24), "channel": 1, "margin": 1, **options}
    return prepare_synthetic_neurons(folder, generator=Heads, progress=False, **options)


def test_files(tmp_path):
    prepare(tmp_path, labeled_share=0.4)
    lists = datalists(tmp_path, weight_key="weight", extra_keys={"instances": "instances"})
    assert (len(lists["train"]), len(lists["val"])) == (2, 1)
    assert sorted(lists["val"][0]) == ["image", "instances", "label", "weight"]
    seen = []
    for path, dense in (("train/train_000", False), ("train/train_001", False), ("val/val_000", True)):
        with h5py.File(tmp_path / f"{path}.h5") as file:
            raw, label, weight, instances = (file[key][:] for key in ("raw", "label", "weight", "instances"))
        truth, truth_weight = sparse_label_weights(instances_to_sparse_labels(instances))
        labeled = weight > 0
        assert labeled.all() == dense
        np.testing.assert_array_equal(label[labeled], truth[labeled])
        assert (label[~labeled] == 0).all()
        if dense:
            np.testing.assert_array_equal(weight, truth_weight)
        else:
            assert 0.4 <= labeled.mean() < 0.6
        assert raw.dtype == np.float32
        seen.append(raw)
    assert not np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])


def test_repeated_run(tmp_path):
    prepare(tmp_path)
    before = (tmp_path / "val" / "val_000.h5").stat().st_mtime_ns
    (tmp_path / "train" / "train_001.h5").unlink()
    prepare(tmp_path)
    assert (tmp_path / "train" / "train_001.h5").exists()
    assert (tmp_path / "val" / "val_000.h5").stat().st_mtime_ns == before
    with pytest.raises(InvalidInputError, match=r"labeled_share is 0\.3 there, 0\.5 now"):
        prepare(tmp_path, labeled_share=0.5)
    prepare(tmp_path, labeled_share=0.5, overwrite=True)


def test_label_part():
    instances = Heads().generate()["label"]
    sparse = instances_to_sparse_labels(instances)
    np.testing.assert_array_equal(label_part(sparse, instances, 1, 0, np.random.default_rng(0)), sparse)
    for seed in range(4):
        part = label_part(sparse, instances, 1e-6, 1, np.random.default_rng(seed))
        (chosen,) = [n for n in np.unique(instances) if n and (part[instances == n] > 0).all()]
        places = np.argwhere(instances == chosen)
        inside = np.zeros(sparse.shape, bool)
        inside[tuple(slice(max(a - 1, 0), b + 2) for a, b in zip(places.min(0), places.max(0), strict=True))] = True
        np.testing.assert_array_equal(part, np.where(inside, sparse, 0))


def test_bad_options(tmp_path):
    for options, message in (
        ({"labeled_share": 0}, "labeled_share=0"),
        ({"volumes": 0}, "volumes=0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"channel": 2}, r"channel=2 of an image of shape \(2, 8"),
        ({"generator_options": {"cels": 3}}, "cels"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            prepare(tmp_path, **options)
    with pytest.raises(InvalidInputError, match="expected 0 < share"):
        label_part(np.ones((1, 1, 1)), np.ones((1, 1, 1), int), 2, 0, np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match="cannot be sent to worker processes"):
        prepare_synthetic_neurons(tmp_path, generator=lambda seed, size: Heads(seed, size), num_workers=1)
