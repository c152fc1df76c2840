"""Tables of features and files of reconstructions of the objects that an evaluator goes through."""

from __future__ import annotations

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from torch import nn

from voxel_ext.data import ObjectDataset, PointCloudDataset, read_features
from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import FeatureTableHandler, ReconstructionFileHandler
from voxel_ext.hdf5 import read_hdf5

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

# objects of several rows, apart from each other; one id that float64 does not hold
IDS = [7, 3, 7, 2**62 + 1, 3, 7, 5]
CHUNKS = [0, 0, 2, 0, 1, 1, 0]


class Net(nn.Module):
    """Doubles images; the code is the sum and the greatest value of each, different in training."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def encode(self, image):
        assert not torch.is_grad_enabled()
        flat = image.flatten(1) * self.weight + (1000 if self.training else 0)
        return torch.stack([flat.sum(1), flat.amax(1)], 1)

    def forward(self, image):
        return {"reconstruction": image * self.weight, "latent": self.encode(image)}


def rows(shape=(1, 2, 3, 2), ids=IDS, seed=0):
    images = torch.rand((len(ids), *shape), generator=torch.Generator().manual_seed(seed))
    columns = zip(images, ids, CHUNKS, strict=False)
    return [{"image": image, "id": one, "chunk": chunk, "scale": one % 97 / 8} for image, one, chunk in columns]


def evaluate(items, *handlers, net=None, decollate=False):
    net = (Net() if net is None else net).train()
    loader = DataLoader(items, batch_size=3)
    SupervisedEvaluator("cpu", loader, net, val_handlers=list(handlers), decollate=decollate).run()
    assert net.training  # as it was


@pytest.mark.parametrize("way", ["encode", "key"])
def test_rows_of_an_object_are_averaged(tmp_path, way):
    net, items = Net(), rows()
    options = {"encode": net.encode} if way == "encode" else {"key": "latent"}
    evaluate(items, FeatureTableHandler(tmp_path, "shapef", **options), net=net)
    images = {one: [2 * item["image"].numpy().ravel() for item in items if item["id"] == one] for one in IDS}
    expected = {one: np.mean([(v.sum(), v.max()) for v in values], 0) for one, values in images.items()}
    for suffix in (".parquet", ".h5"):
        table = read_features(tmp_path / "features" / f"shapef{suffix}")
        assert list(table.columns) == ["id", "shapef_000", "shapef_001"]
        assert table["id"].tolist() == sorted(set(IDS))
        assert [str(kind) for kind in table.dtypes] == ["int64", "float32", "float32"]
        assert np.allclose(table.iloc[:, 1:], [expected[one] for one in table["id"]], rtol=1e-6)


def test_a_second_run_starts_anew(tmp_path):
    handler = FeatureTableHandler(tmp_path, "shapef", key="latent")
    evaluate(rows(), handler)
    evaluate(rows(ids=[1, 2]), handler)
    assert read_features(tmp_path / "features" / "shapef.h5")["id"].tolist() == [1, 2]


def test_other_keys_and_callables_without_a_network(tmp_path):
    items = [{"points": item["image"][0, 0], "number": item["id"], "image": item["image"]} for item in rows()]
    handler = FeatureTableHandler(tmp_path, "p", lambda points: points[:, 0], image_key="points", id_key="number")
    evaluate(items, handler)
    table = read_features(tmp_path / "features" / "p.parquet")
    assert table.loc[table["id"] == 5, ["p_000", "p_001"]].to_numpy().tolist() == [items[6]["points"][0].tolist()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "f"}, r"encode=None, key=None; expected one of the two"),
        ({"name": "f", "key": "latent", "encode": abs}, r"key='latent'; expected one of the two"),
        ({"name": "a/b", "key": "latent"}, r"name='a/b'; expected letters"),
        ({"name": "", "key": "latent"}, r"name=''; expected letters"),
    ],
)
def test_bad_settings_of_a_table(tmp_path, options, message):
    with pytest.raises(InvalidInputError, match=message):
        FeatureTableHandler(tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "code"}, r"output has no 'code'; found \['latent', 'reconstruction'\]"),
        ({"key": "reconstruction"}, r"have shape \(3, 1, 2, 3, 2\) for 3 objects; expected \(3, L\)"),
        ({"key": "latent", "id_key": "name"}, r"a batch has no 'name'; found \['chunk', 'id', 'image', 'scale'\]"),
        ({"encode": abs, "image_key": "raw"}, r"a batch has no 'raw'"),
        ({"encode": lambda image: image[:1, 0, 0, 0]}, r"have shape \(1, 2\) for 3 objects"),
        ({"encode": lambda image: image[:, 0, 0, 0, : len(image)]}, r"have 1 values, those of the batches before 2"),
        ({"encode": lambda image: image[:, 0, 0, 0] / 0}, r"'f' of 4 of 4 objects are not finite \(ids 3, 5, 7, 46"),
    ],
)
def test_bad_batches(tmp_path, options, message):
    with pytest.raises(InvalidInputError, match=message):
        evaluate(rows(), FeatureTableHandler(tmp_path, "f", **options))
    assert list(tmp_path.rglob("*.*")) == []


def test_reconstructions_are_read_as_objects(tmp_path):
    items = rows()
    evaluate(items, ReconstructionFileHandler(tmp_path / "out" / "r.h5"))
    with read_hdf5(tmp_path / "out" / "r.h5") as file:
        assert file["volumes"].dtype == np.float16
        assert file["volumes"].chunks == (1, 1, 2, 3, 2)
        assert file["id"][:].tolist() == IDS
        assert file["chunk"][:].tolist() == CHUNKS
    dataset = ObjectDataset(tmp_path / "out" / "r.h5")
    assert len(dataset) == len(items)
    for found, item in zip(dataset, items, strict=False):
        assert torch.equal(found["image"], (2 * item["image"]).half().float())
        assert (found["id"], found["chunk"], found["scale"]) == (item["id"], item["chunk"], item["scale"])


def test_masks_above_a_threshold(tmp_path):
    evaluate(rows(), ReconstructionFileHandler(tmp_path / "r.h5", threshold=1))
    with read_hdf5(tmp_path / "r.h5") as file:
        assert file["volumes"].dtype == np.uint8
        assert np.array_equal(file["volumes"], [(2 * item["image"] > 1).numpy() for item in rows()])


def test_points_and_batches_without_chunks(tmp_path):
    items = [{"image": item["image"], "id": item["id"], "scale": item["scale"]} for item in rows((4, 3))]
    evaluate(items, ReconstructionFileHandler(tmp_path / "r.hdf5", "points"))
    with read_hdf5(tmp_path / "r.hdf5") as file:
        assert sorted(file) == ["id", "points", "scale"]
    dataset = PointCloudDataset(tmp_path / "r.hdf5")
    assert all(torch.equal(found["points"], 2 * item["image"]) for found, item in zip(dataset, items, strict=False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "r.npy"}, r"path='r.npy'; expected a name that ends with .h5"),
        ({"path": "r.h5", "dataset": "volume"}, r"dataset='volume' is not known.* Did you mean 'volumes'"),
        ({"path": "r.h5", "dataset": "points", "threshold": 0.5}, r"threshold=0.5 of points"),
        ({"path": "r.h5", "threshold": "0.5"}, r"threshold='0.5' of volumes; expected a number"),
    ],
)
def test_bad_settings_of_a_file(options, message):
    with pytest.raises(InvalidInputError, match=message):
        ReconstructionFileHandler(**options)


def changed(index, **values):
    items = rows()
    items[index] = {**items[index], **values}
    return items


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        (changed(5, image=torch.full((1, 2, 3, 2), torch.nan)), {}, r"not finite, or too large for float16"),
        (changed(5, image=torch.full((1, 2, 3, 2), 4e4)), {}, r"not finite, or too large for float16"),
        (
            changed(6, image=torch.ones(1, 2, 3, 3)),
            {},
            r"has shape \(1, 2, 3, 3\), in the batches before \(1, 2, 3, 2\)",
        ),
        (rows(), {"key": "mask"}, r"output has no 'mask'"),
        ([{"image": torch.ones(1, 2)}], {}, r"a batch has no 'id'; found \['image'\]"),
    ],
)
def test_a_failure_keeps_what_was_there(tmp_path, items, options, message):
    (tmp_path / "r.h5").write_text("before")
    handler = ReconstructionFileHandler(tmp_path / "r.h5", **options)
    with pytest.raises(InvalidInputError, match=message):
        evaluate(items, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["r.h5"]
    assert (tmp_path / "r.h5").read_text() == "before"
    if not options:
        evaluate(rows(), handler)  # and it can be used again
        assert len(ObjectDataset(tmp_path / "r.h5")) == len(IDS)


@pytest.mark.parametrize("kind", ["table", "file"])
def test_evaluators_that_do_not_fit(tmp_path, kind, monkeypatch):
    def make():
        if kind == "table":
            return FeatureTableHandler(tmp_path, "f", key="latent")
        return ReconstructionFileHandler(tmp_path / "r.h5")

    with pytest.raises(InvalidInputError, match=r"decollates its output; set decollate to false|a batch has no 'id'"):
        evaluate(rows(), make(), decollate=True)
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    with pytest.raises(
        InvalidInputError, match="writes one file, but 2 processes run; start the command without torchrun"
    ):
        evaluate(rows(), make())
    assert list(tmp_path.iterdir()) == []
